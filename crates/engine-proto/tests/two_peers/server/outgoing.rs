//! What leaves: the outbox, its mirror, and what must hold of them at any time.

use std::time::Duration;

use bytes::Bytes;
use posthaste_engine_proto::{CloseReason, Transport};

use super::{Act, Server};
use crate::message::{Message, Way};
use crate::wire::Answer;

impl Server {
    /// Queues `count` messages, in runs of one or a few packets.
    pub(super) fn queue(&mut self, now: Duration, mut count: u64) {
        while count > 0 && self.told.is_none() {
            let Some(live) = &self.live else { return };
            let is_upgrading = live.session.is_upgrading();
            let packets = self.rng.between(1, count.min(3));
            count -= packets;
            let mut run = Vec::new();
            for _ in 0..packets {
                Message::new(self.story.seed, Way::Down, self.sent, &self.story.down).append(&mut run);
                self.sent += 1;
            }
            self.sent_while_upgrading += if is_upgrading { packets } else { 0 };
            self.push(now, &run, usize::try_from(packets).expect("small"));
        }
    }

    pub(super) fn push(&mut self, now: Duration, run: &[u8], packets: usize) {
        let Some(live) = &mut self.live else { return };
        let limits = &self.story.limits;
        let (bytes, held) = (live.outbox.bytes(), live.outbox.packets());
        let pushed = if self.rng.chance(50) {
            live.outbox.push(run, packets, limits)
        } else {
            live.outbox.push_shared(Bytes::copy_from_slice(run), packets, limits)
        };
        let fits = bytes + run.len() <= limits.bytes && held + packets <= limits.packets;
        assert_eq!(pushed.is_ok(), fits || bytes == 0, "refused when, and only when, it would hold too much");
        if pushed.is_err() {
            return self.end(now, CloseReason::Slow);
        }
        live.mirror.push_back(run.len());
        if fits {
            self.most_bytes = self.most_bytes.max(live.outbox.bytes());
        } else {
            self.oversize_runs += 1;
        }
    }

    /// Hands what waits to the transport, as much as it takes.
    pub(super) fn flush(&mut self) {
        let Some(live) = &mut self.live else { return };
        if let Some(stream) = &mut live.stream {
            while !live.outbox.is_empty() && stream.room > 0 {
                let (slices, count) = live.outbox.slices::<3>();
                let mut bytes = slices[..count].concat();
                bytes.truncate(stream.room);
                if self.rng.chance(20) {
                    bytes.truncate(usize::try_from(self.rng.between(1, bytes.len() as u64)).expect("small"));
                }
                stream.room -= bytes.len();
                live.outbox.advance(bytes.len());
                let mut left = bytes.len();
                while let Some(run) = live.mirror.front_mut().filter(|_| left > 0) {
                    let taken = left.min(*run);
                    *run -= taken;
                    left -= taken;
                    if *run == 0 {
                        live.mirror.pop_front();
                    }
                }
                self.acts.push(Act::Write(stream.id, bytes));
            }
        } else if !live.outbox.is_empty() && live.session.has_parked_poll() {
            live.session.poll_answered();
            let body = live.drain();
            let get = live.get.take().expect("a parked poll is a GET that is held");
            self.acts.push(Act::Answer(get, Answer::Body(body)));
        }
    }

    /// What the session, the outbox and the server hold of one another.
    pub(crate) fn check(&self) -> Result<(), String> {
        let Some(live) = &self.live else { return Ok(()) };
        let limits = &self.story.limits;
        let polling = live.session.transport() == Transport::Polling;
        let waiting: usize = live.mirror.iter().sum();
        let within = live.outbox.bytes() <= limits.bytes && live.outbox.packets() <= limits.packets;
        for (law, holds) in [
            ("a parked poll is a GET that is held", live.session.has_parked_poll() == live.get.is_some()),
            ("a polling session has no stream, any other has one", polling == live.stream.is_none()),
            ("only a polling session holds a GET", polling || live.get.is_none()),
            ("nothing waits beside a parked poll", live.get.is_none() || live.outbox.is_empty()),
            ("nothing waits beside a stream that has room", {
                live.stream.as_ref().is_none_or(|stream| stream.room == 0 || live.outbox.is_empty())
            }),
            ("a probe is held while, and only while, the session upgrades", {
                live.session.is_upgrading() == live.probe.is_some()
            }),
            ("the outbox counts its bytes", live.outbox.bytes() == waiting),
            ("an empty outbox counts no packets", !live.outbox.is_empty() || live.outbox.packets() == 0),
            ("the outbox holds no more than its limits, or one run", within || live.mirror.len() == 1),
            ("a closing session was closed", !live.session.is_closing() || self.told.is_some()),
        ] {
            if !holds {
                return Err(law.to_owned());
            }
        }
        Ok(())
    }
}
