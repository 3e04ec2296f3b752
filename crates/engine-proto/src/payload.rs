//! Polling bodies: several packets in one text.
//!
//! Packets are joined with U+001E; a binary message is `b` and standard base64.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use posthaste_websocket_proto::{FrameHeader, Opcode, whole_frame_len};

use crate::packet::{Packet, PacketError, PacketType};

/// The type of a message as a byte, as revision 3 has it before binary.
pub(crate) const MESSAGE_BYTE: u8 = 4;

/// The byte between two packets of a payload.
pub const SEPARATOR: u8 = 0x1e;

/// A body that is no payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PayloadError {
    /// The body is not UTF-8.
    #[error("a payload is UTF-8 text")]
    Utf8,
    /// More packets than the server takes in one body.
    #[error("a payload of more than {limit} packets")]
    TooManyPackets {
        /// The bound that was passed.
        limit: usize,
    },
    /// Revision 3: packet number `index` (from 0) is not as long as the length before it says, or that is no length.
    #[error("the length of packet {index} of the payload")]
    Length {
        /// Its place in the body.
        index: usize,
    },
    /// Packet number `index` (from 0) is none.
    #[error("packet {index} of the payload")]
    Packet {
        /// Its place in the body.
        index: usize,
        /// What is wrong with it.
        #[source]
        source: PacketError,
    },
}

/// Reads the packets of a polling body one after the other, so that those before a broken one still count.
///
/// `body` was bounded by the caller; `max_packets` bounds what a body of separators alone can make the server do. After an error
/// the iterator ends.
///
/// # Errors
/// Each item may be a [`PayloadError`], the last one then.
///
/// Source: Engine.IO protocol v4, "HTTP long-polling".
///
/// ```
/// use posthaste_engine_proto::payload::split_payload;
/// use posthaste_engine_proto::{Packet, PacketType};
/// let packets: Result<Vec<_>, _> = split_payload(b"4hello\x1ebAQID", 16).collect();
/// assert_eq!(packets?, [Packet::Text(PacketType::Message, "hello"), Packet::Binary(vec![1, 2, 3].into())]);
/// # Ok::<(), posthaste_engine_proto::PayloadError>(())
/// ```
#[must_use]
pub fn split_payload(body: &[u8], max_packets: usize) -> PayloadPackets<'_> {
    let (rest, failed) = match std::str::from_utf8(body) {
        Ok(text) => (Some(text), None),
        Err(_) => (None, Some(PayloadError::Utf8)),
    };
    PayloadPackets { rest, failed, index: 0, max_packets }
}

/// As [`split_payload`], for a body that is known to be text, or the rest of one.
#[must_use]
pub const fn split_text(body: &str, max_packets: usize) -> PayloadPackets<'_> {
    PayloadPackets { rest: Some(body), failed: None, index: 0, max_packets }
}

/// The iterator of [`split_payload`].
#[derive(Clone, Debug)]
pub struct PayloadPackets<'a> {
    rest: Option<&'a str>,
    failed: Option<PayloadError>,
    index: usize,
    max_packets: usize,
}

impl<'a> PayloadPackets<'a> {
    /// What is left to read, separators included; `None` at the end.
    #[must_use]
    pub const fn rest(&self) -> Option<&'a str> {
        self.rest
    }
}

impl<'a> Iterator for PayloadPackets<'a> {
    type Item = Result<Packet<'a>, PayloadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(error) = self.failed.take() {
            self.rest = None;
            return Some(Err(error));
        }
        let rest = self.rest?;
        if self.index == self.max_packets {
            self.rest = None;
            return Some(Err(PayloadError::TooManyPackets { limit: self.max_packets }));
        }
        let text = match rest.split_once(char::from(SEPARATOR)) {
            Some((first, others)) => {
                self.rest = Some(others);
                first
            }
            None => {
                self.rest = None;
                rest
            }
        };
        let index = self.index;
        self.index += 1;
        let packet = Packet::decode(text).map_err(|source| PayloadError::Packet { index, source });
        if packet.is_err() {
            self.rest = None;
        }
        Some(packet)
    }
}

/// Appends a run of complete, unmasked WebSocket frames to a polling body, as packets behind those already there.
///
/// # Panics
/// When `frames` is not a run of whole data frames: they are this server's own.
pub fn append_frames(body: &mut Vec<u8>, frames: &[u8]) {
    for (opcode, payload) in Frames(frames) {
        append_separator(body);
        match opcode {
            Opcode::Binary => {
                body.push(b'b');
                let start = body.len();
                body.resize(start + base64::encoded_len(payload.len(), true).unwrap_or(0), 0);
                let written = STANDARD.encode_slice(payload, &mut body[start..]);
                debug_assert!(written.is_ok(), "invariant: the length was computed");
            }
            _ => body.extend_from_slice(payload),
        }
    }
}

/// Appends a packet without data (`1`, `6`) to a polling body.
pub fn append_control(body: &mut Vec<u8>, kind: PacketType) {
    append_separator(body);
    body.push(kind as u8);
}

fn append_separator(body: &mut Vec<u8>) {
    if !body.is_empty() {
        body.push(SEPARATOR);
    }
}

/// Counts the frames in a run of complete, unmasked frames, compressed ones among them.
#[must_use]
pub fn count_frames(mut frames: &[u8]) -> usize {
    let mut count = 0;
    while let Some(len) = whole_frame_len(frames) {
        frames = &frames[len..];
        count += 1;
    }
    count
}

/// Walks a run of complete frames made by this server.
pub(crate) struct Frames<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Frames<'a> {
    type Item = (Opcode, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let header = FrameHeader::parse(self.0)
            .ok()
            .flatten()
            .expect("invariant: the outbox holds whole frames that this server encoded");
        let end = header.header_len + usize::try_from(header.payload_len).expect("invariant: the frame is in memory");
        let (frame, rest) = self.0.split_at(end);
        self.0 = rest;
        Some((header.opcode, &frame[header.header_len..]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use posthaste_websocket_proto::append_frame;
    use proptest::prelude::*;

    fn read(body: &[u8]) -> Result<Vec<Packet<'_>>, PayloadError> {
        split_payload(body, 1024).collect()
    }

    #[test]
    fn payloads_decode_as_specified() {
        use Packet::{Binary, Text};
        use PacketType::{Close, Message, Ping};
        let packet = |index, source| Err(PayloadError::Packet { index, source });
        for (body, expected) in [
            (&b"4hello"[..], Ok(vec![Text(Message, "hello")])),
            (b"4hello\x1e2\x1e4world", Ok(vec![Text(Message, "hello"), Text(Ping, ""), Text(Message, "world")])),
            (b"bAQIDBA==", Ok(vec![Binary(vec![1, 2, 3, 4].into())])),
            (b"b\x1e1", Ok(vec![Binary(vec![].into()), Text(Close, "")])),
            ("4€\u{1e}4".as_bytes(), Ok(vec![Text(Message, "€"), Text(Message, "")])),
            (b"", packet(0, PacketError::Empty)),
            (b"4a\x1e", packet(1, PacketError::Empty)),
            (b"\x1e4a", packet(0, PacketError::Empty)),
            (b"abc", packet(0, PacketError::UnknownType('a'))),
            (b"b!!!", packet(0, PacketError::Base64)),
            (b"bAQ", packet(0, PacketError::Base64)),
            (b"4\xff", Err(PayloadError::Utf8)),
        ] {
            assert_eq!(read(body), expected, "{}", String::from_utf8_lossy(body));
        }
    }

    #[test]
    fn packets_before_a_broken_one_are_read() {
        let mut packets = split_payload(b"4a\x1e9\x1e4b", 16);
        assert_eq!(packets.next(), Some(Ok(Packet::Text(PacketType::Message, "a"))));
        assert!(matches!(packets.next(), Some(Err(PayloadError::Packet { index: 1, .. }))));
        assert_eq!(packets.next(), None);
    }

    #[test]
    fn sec_43_a_body_of_separators_ends_at_its_first_packet() {
        let body = vec![SEPARATOR; 1_000_000];
        assert_eq!(split_payload(&body, 1024).count(), 1);
    }

    #[test]
    fn sec_43_a_body_of_tiny_packets_ends_at_the_bound() {
        let body = b"6\x1e".repeat(5_000);
        let mut packets = split_payload(&body, 1024);
        assert_eq!(packets.by_ref().take(1024).filter(Result::is_ok).count(), 1024);
        assert_eq!(packets.next(), Some(Err(PayloadError::TooManyPackets { limit: 1024 })));
        assert_eq!(packets.next(), None);
    }

    proptest! {
        #[test]
        fn frames_leave_a_poll_as_the_messages_they_were(
            messages in proptest::collection::vec(
                prop_oneof![
                    "[^\u{1e}]{0,300}".prop_map(Ok),
                    proptest::collection::vec(any::<u8>(), 0..300).prop_map(Err),
                ],
                1..8,
            )
        ) {
            let mut frames = Vec::new();
            for message in &messages {
                match message {
                    Ok(text) => append_frame(&mut frames, Opcode::Text, format!("4{text}").as_bytes()),
                    Err(bytes) => append_frame(&mut frames, Opcode::Binary, bytes),
                }
            }
            prop_assert_eq!(count_frames(&frames), messages.len());
            let mut body = Vec::new();
            append_frames(&mut body, &frames);
            let read = read(&body).expect("own payload");
            prop_assert_eq!(read.len(), messages.len());
            for (packet, message) in read.into_iter().zip(&messages) {
                match (packet, message) {
                    (Packet::Text(PacketType::Message, data), Ok(text)) => prop_assert_eq!(data, text),
                    (Packet::Binary(data), Err(bytes)) => prop_assert_eq!(&*data, &bytes[..]),
                    (packet, message) => prop_assert!(false, "{:?} for {:?}", packet, message),
                }
            }
        }

        #[test]
        fn no_body_makes_splitting_panic(body: Vec<u8>) {
            let _ = split_payload(&body, 16).count();
        }
    }
}
