//! What waits for a transport.

use std::collections::VecDeque;

use bytes::Bytes;
use posthaste_engine_proto::payload::append_frames;
use posthaste_engine_proto::{Outbox, OutboxFull, OutboxLimits};
use posthaste_websocket_proto::{Opcode, append_frame};

use crate::input::Input;

/// Laws: what is refused changes nothing; what is taken comes out once, in order; both counts are those of the content.
pub(crate) fn check(data: &[u8]) {
    let mut input = Input::new(data);
    let limits = OutboxLimits { bytes: input.length() * 2, packets: 1 + input.below(20) };
    let mut outbox = Outbox::default();
    let mut bytes: VecDeque<u8> = VecDeque::new();
    // Where each waiting packet ends, counted from the first byte that was ever queued.
    let mut ends: VecDeque<usize> = VecDeque::new();
    let mut gone = 0;
    // Packets that a stream took but whose neighbours are still there may count.
    let mut may_linger = 0;
    for _ in 0..200 {
        if input.is_empty() {
            break;
        }
        match input.below(6) {
            kind @ 0..3 => {
                let (run, lengths) = frames(&mut input);
                let (held, packets) = (bytes.len(), outbox.packets());
                let fits = held + run.len() <= limits.bytes && packets + lengths.len() <= limits.packets;
                let pushed = if kind == 0 {
                    outbox.push_shared(Bytes::from(run.clone()), lengths.len(), &limits)
                } else {
                    outbox.push(&run, lengths.len(), &limits)
                };
                if run.is_empty() || fits || held == 0 {
                    assert_eq!(pushed, Ok(()));
                    for length in lengths {
                        ends.push_back(ends.back().copied().unwrap_or(gone + held) + length);
                    }
                    bytes.extend(run);
                } else {
                    assert_eq!(pushed, Err(OutboxFull { bytes: held, packets }));
                }
            }
            3 | 4 => {
                let (slices, count) = outbox.slices::<3>();
                let offered = slices[..count].concat();
                assert!(offered.starts_with(outbox.front()));
                assert!(bytes.iter().take(offered.len()).eq(offered.iter()), "what is offered is what waits, in order");
                assert_eq!(offered.is_empty(), bytes.is_empty());
                let take = input.length().min(offered.len());
                outbox.advance(take);
                drop(bytes.drain(..take));
                gone += take;
                while ends.front().is_some_and(|end| *end <= gone) {
                    ends.pop_front();
                    may_linger += 1;
                }
            }
            _ => {
                // Only where no stream took anything since the outbox was last empty.
                if gone == 0 {
                    let mut body = Vec::new();
                    outbox.drain_into_payload(&mut body);
                    let mut expected = Vec::new();
                    append_frames(&mut expected, bytes.make_contiguous());
                    assert_eq!(body, expected);
                    bytes.clear();
                    ends.clear();
                }
            }
        }
        assert_eq!(outbox.bytes(), bytes.len());
        assert_eq!(outbox.is_empty(), bytes.is_empty());
        if bytes.is_empty() {
            assert_eq!(outbox.packets(), 0);
            (gone, may_linger) = (0, 0);
            ends.clear();
        }
        let packets = outbox.packets();
        assert!((ends.len()..=ends.len() + may_linger).contains(&packets), "{packets} of {}", ends.len());
    }
}

/// A run of up to three frames and how long each is.
fn frames(input: &mut Input<'_>) -> (Vec<u8>, Vec<usize>) {
    let mut run = Vec::new();
    let mut lengths = Vec::new();
    for _ in 0..input.below(4) {
        let start = run.len();
        let length = input.length();
        let fill = input.byte();
        let opcode = if fill & 1 == 0 { Opcode::Binary } else { Opcode::Text };
        append_frame(&mut run, opcode, &vec![fill & 0x7f; length]);
        lengths.push(run.len() - start);
    }
    (run, lengths)
}
