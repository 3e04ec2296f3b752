//! What holds for every input.

use posthaste_websocket_proto::{
    Decoded, Decoder, FrameHeader, FrameStart, Limits, Opcode, ProtocolError, append_frame,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::client::{BINARY, CONTINUATION, FIN, PING, PONG, TEXT, frame_masked_by};
use crate::reader::{Reader, Received};

const LIMITS: Limits = Limits { max_message_bytes: 100_000, max_fragments: 64 };

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => vec(any::<u8>(), 0..200),
        1 => vec(any::<u8>(), 65_530..65_540),
    ]
}

fn message() -> impl Strategy<Value = Received> {
    prop_oneof![
        any::<String>().prop_map(Received::Text),
        ".{0,300}".prop_map(Received::Text),
        payload().prop_map(Received::Binary),
        vec(any::<u8>(), 0..=125).prop_map(Received::Ping),
        vec(any::<u8>(), 0..=125).prop_map(Received::Pong),
    ]
}

/// A message and how a client sends it.
#[derive(Clone, Debug)]
struct Sent {
    message: Received,
    cuts: Vec<Index>,
    ping_before_last: bool,
    key: [u8; 4],
}

fn sent() -> impl Strategy<Value = Sent> {
    (message(), vec(any::<Index>(), 0..6), any::<bool>(), any::<[u8; 4]>())
        .prop_map(|(message, cuts, ping_before_last, key)| Sent { message, cuts, ping_before_last, key })
}

/// `bytes` cut at the given places.
fn cut<'a>(bytes: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = cuts.iter().map(|place| place.index(bytes.len() + 1)).collect();
    places.extend([0, bytes.len()]);
    places.sort_unstable();
    places.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

impl Sent {
    /// Appends the frames to `bytes` and what they are to be decoded as to `expected`.
    fn encode(&self, bytes: &mut Vec<u8>, expected: &mut Vec<Received>) {
        let (opcode, payload) = match &self.message {
            Received::Text(text) => (TEXT, text.as_bytes()),
            Received::Binary(payload) => (BINARY, &payload[..]),
            Received::Ping(payload) => (PING, &payload[..]),
            Received::Pong(payload) => (PONG, &payload[..]),
            other => panic!("not a message to send: {other:?}"),
        };
        let cuts = if opcode & 0x8 == 0 { &self.cuts[..] } else { &[] };
        let fragments = cut(payload, cuts);
        let last = fragments.len() - 1;
        for (i, fragment) in fragments.iter().enumerate() {
            if i == last && i > 0 && self.ping_before_last {
                bytes.extend(frame_masked_by(self.key, FIN | PING, b"between"));
                expected.push(Received::Ping(b"between".into()));
            }
            let opcode = if i == 0 { opcode } else { CONTINUATION };
            let fin = if i == last { FIN } else { 0 };
            bytes.extend(frame_masked_by(self.key, fin | opcode, fragment));
        }
        expected.push(self.message.clone());
    }
}

fn encode_all(sent: &[Sent]) -> (Vec<u8>, Vec<Received>) {
    let (mut bytes, mut expected) = (Vec::new(), Vec::new());
    for one in sent {
        one.encode(&mut bytes, &mut expected);
    }
    (bytes, expected)
}

/// Reads `bytes` in the given chunks and says all that can be observed.
fn read_in_chunks<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Received>, Option<ProtocolError>, Vec<u8>) {
    let mut reader = Reader::with_limits(LIMITS);
    for chunk in chunks {
        reader.read(chunk);
        assert!(reader.decoder.buffered_bytes() <= LIMITS.max_message_bytes + 128);
    }
    (reader.events, reader.error, reader.tail)
}

proptest! {
    #[test]
    fn messages_survive_any_fragmentation_and_any_chunking(
        sent in vec(sent(), 0..8),
        cuts in vec(any::<Index>(), 0..20),
    ) {
        let (bytes, expected) = encode_all(&sent);
        let mut reader = Reader::with_limits(LIMITS);
        cut(&bytes, &cuts).into_iter().for_each(|chunk| reader.read(chunk));
        prop_assert_eq!(reader.delivered(), expected);
        prop_assert_eq!(reader.error, None);
        prop_assert!(reader.tail.is_empty());
        prop_assert_eq!(reader.decoder.buffered_bytes(), 0);
    }

    #[test]
    fn arbitrary_bytes_mean_the_same_however_they_are_cut(
        bytes in vec(any::<u8>(), 0..300),
        cuts in vec(any::<Index>(), 0..10),
    ) {
        let at_once = read_in_chunks([&bytes[..]]);
        prop_assert_eq!(&at_once.0, &read_in_chunks(cut(&bytes, &cuts)).0);
        prop_assert_eq!(at_once.1, read_in_chunks(bytes.chunks(1)).1);
    }

    #[test]
    fn damaged_frames_mean_the_same_however_they_are_cut(
        sent in vec(sent(), 1..5),
        damage in vec((any::<Index>(), any::<u8>()), 1..6),
        in_headers in any::<bool>(),
        cuts in vec(any::<Index>(), 0..10),
    ) {
        let mut bytes = encode_all(&sent).0;
        // Half of the time near the start, where a header surely is.
        let reach = if in_headers { bytes.len().min(16) } else { bytes.len() };
        for (place, byte) in damage {
            bytes[place.index(reach)] = byte;
        }
        let (events, error, tail) = read_in_chunks([&bytes[..]]);
        let in_chunks = read_in_chunks(cut(&bytes, &cuts));
        prop_assert_eq!(events, in_chunks.0);
        prop_assert_eq!(error, in_chunks.1);
        // Once there is an error, the frame it lies in may be unmasked or not.
        prop_assert_eq!(tail.len(), in_chunks.2.len());
    }

    #[test]
    fn text_is_judged_like_its_whole_and_as_early_as_possible(
        bytes in prop_oneof![
            vec(any::<u8>(), 0..12),
            vec(prop_oneof![Just(b'a'), 0x80..=0xbfu8, 0xc2..=0xf4u8], 0..12),
            (any::<String>(), any::<Index>(), any::<u8>()).prop_map(|(text, place, byte)| {
                let mut bytes = text.into_bytes();
                if !bytes.is_empty() {
                    let place = place.index(bytes.len());
                    bytes[place] = byte;
                }
                bytes
            }),
        ],
        cuts in vec(any::<Index>(), 0..6),
    ) {
        let sent = Sent {
            message: Received::Binary(bytes.clone()),
            cuts: cuts.clone(),
            ping_before_last: false,
            key: [1, 2, 3, 4],
        };
        let mut wire = encode_all(&[sent]).0;
        wire[0] = wire[0] & FIN | TEXT;

        let fragments = cut(&bytes, &cuts);
        let mut expected = Vec::new();
        let mut received = Vec::new();
        for (i, fragment) in fragments.iter().enumerate() {
            received.extend_from_slice(fragment);
            let last = i + 1 == fragments.len();
            match std::str::from_utf8(&received) {
                Ok(text) if last => expected.push(Received::Text(text.into())),
                Ok(_) => expected.push(Received::Fragment),
                Err(error) if error.error_len().is_none() && !last => expected.push(Received::Fragment),
                Err(_) => break,
            }
        }
        let valid = std::str::from_utf8(&bytes).is_ok();
        let (events, error, _) = read_in_chunks([&wire[..]]);
        prop_assert_eq!(events, expected);
        prop_assert_eq!(error, (!valid).then_some(ProtocolError::TextNotUtf8));
    }

    #[test]
    fn bytes_said_to_be_missing_are_never_too_many(
        one in sent(),
        have in any::<Index>(),
    ) {
        let mut bytes = encode_all(&[Sent { cuts: vec![], ..one }]).0;
        let len = bytes.len();
        let have = have.index(len);
        match Decoder::new().decode(&mut bytes[..have], &LIMITS) {
            Ok(Decoded::Incomplete { missing }) => prop_assert!((1..=len - have).contains(&missing)),
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn headers_of_arbitrary_bytes_are_within_bounds(bytes in vec(any::<u8>(), 0..20)) {
        if let Ok(Some(header)) = FrameHeader::parse(&bytes) {
            prop_assert!(header.header_len <= bytes.len().min(14));
            prop_assert!(header.payload_len <= i64::MAX as u64);
            prop_assert_eq!(header.frame_len(), header.payload_len + header.header_len as u64);
            prop_assert_eq!(header.masked.is_some(), bytes[1] & 0x80 != 0);
        }
    }

    #[test]
    fn frames_we_write_touch_each_other_and_can_be_walked(
        frames in vec((any::<bool>(), payload()), 0..8),
    ) {
        let mut out = Vec::new();
        for (in_place, payload) in &frames {
            if *in_place {
                let frame = FrameStart::begin(&mut out, Opcode::Binary);
                out.extend_from_slice(payload);
                frame.finish(&mut out);
            } else {
                append_frame(&mut out, Opcode::Binary, payload);
            }
        }
        let mut rest = &out[..];
        for (_, payload) in &frames {
            let header = FrameHeader::parse(rest).unwrap().unwrap();
            prop_assert_eq!((header.fin, header.opcode, header.masked), (true, Opcode::Binary, None));
            let (frame, next) = rest.split_at(header.frame_len() as usize);
            prop_assert_eq!(&frame[header.header_len..], payload);
            rest = next;
        }
        prop_assert!(rest.is_empty());
    }
}
