//! Polling bodies of revision 3: each packet behind its length.
//!
//! ```text
//!   text      <length>:<packet>…                       the length counts UTF-16 code units, in decimal digits
//!   binary    <0 or 1> <length> <255> <packet>…        1 for a binary packet; the length counts bytes, each of its digits is a
//!                                                      byte 0 to 9; a binary packet begins with its type as a byte
//! ```
//!
//! A binary body is what a client that takes binary gets when a packet of the body is binary, and what it may send. In a text body
//! a binary message is `b4` and standard base64.

use posthaste_websocket_proto::Opcode;

use crate::packet::{Packet, PacketError, PacketType};
use crate::payload::{Frames, MESSAGE_BYTE, PayloadError};

/// A length has no more digits than this: no body is so long.
const DIGITS: usize = 12;
/// The byte behind a length in a binary body.
const END_OF_LENGTH: u8 = 255;

/// Reads the packets of a text body one after the other, so that those before a broken one still count.
///
/// `body` was bounded by the caller; `max_packets` bounds what a body of the smallest packets can make the server do. After an error
/// the iterator ends. Time is linear in the body.
///
/// # Errors
/// Each item may be a [`PayloadError`], the last one then.
///
/// Source: Engine.IO protocol v3, "Payload".
///
/// ```
/// use posthaste_engine_proto::payload_v3::split_text;
/// use posthaste_engine_proto::{Packet, PacketType};
/// let packets: Result<Vec<_>, _> = split_text("3:4€x6:b4AQID", 16).collect();
/// assert_eq!(packets?, [Packet::Text(PacketType::Message, "€x"), Packet::Binary(vec![1, 2, 3].into())]);
/// # Ok::<(), posthaste_engine_proto::PayloadError>(())
/// ```
#[must_use]
pub const fn split_text(body: &str, max_packets: usize) -> PacketsV3<'_> {
    PacketsV3 { rest: Some(Rest::Text(body)), index: 0, max_packets }
}

/// As [`split_text`], for a binary body.
///
/// ```
/// use posthaste_engine_proto::payload_v3::split_binary;
/// use posthaste_engine_proto::{Packet, PacketType};
/// let body = [0, 3, 255, b'4', b'h', b'i', 1, 4, 255, 4, 1, 2, 3];
/// let packets: Result<Vec<_>, _> = split_binary(&body, 16).collect();
/// assert_eq!(packets?, [Packet::Text(PacketType::Message, "hi"), Packet::Binary(vec![1, 2, 3].into())]);
/// # Ok::<(), posthaste_engine_proto::PayloadError>(())
/// ```
#[must_use]
pub const fn split_binary(body: &[u8], max_packets: usize) -> PacketsV3<'_> {
    PacketsV3 { rest: Some(Rest::Binary(body)), index: 0, max_packets }
}

/// The iterator of [`split_text`] and [`split_binary`].
#[derive(Clone, Debug)]
pub struct PacketsV3<'a> {
    rest: Option<Rest<'a>>,
    index: usize,
    max_packets: usize,
}

#[derive(Clone, Copy, Debug)]
enum Rest<'a> {
    Text(&'a str),
    Binary(&'a [u8]),
}

/// What is wrong with a packet, or with its length.
enum Broken {
    Length,
    Utf8,
    Packet(PacketError),
}

impl PacketsV3<'_> {
    /// How many bytes are left to read; `None` at the end.
    #[must_use]
    pub const fn rest(&self) -> Option<usize> {
        match self.rest {
            None => None,
            Some(Rest::Text(rest)) => Some(rest.len()),
            Some(Rest::Binary(rest)) => Some(rest.len()),
        }
    }
}

impl<'a> Iterator for PacketsV3<'a> {
    type Item = Result<Packet<'a>, PayloadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.rest.take()?;
        if self.index == self.max_packets {
            return Some(Err(PayloadError::TooManyPackets { limit: self.max_packets }));
        }
        let index = self.index;
        self.index += 1;
        let read = match rest {
            Rest::Text(rest) => text_packet(rest).map(|(packet, rest)| (packet, Rest::Text(rest))),
            Rest::Binary(rest) => binary_packet(rest).map(|(packet, rest)| (packet, Rest::Binary(rest))),
        };
        Some(match read {
            Ok((packet, Rest::Text("") | Rest::Binary([]))) => Ok(packet),
            Ok((packet, rest)) => {
                self.rest = Some(rest);
                Ok(packet)
            }
            Err(Broken::Length) => Err(PayloadError::Length { index }),
            Err(Broken::Utf8) => Err(PayloadError::Utf8),
            Err(Broken::Packet(source)) => Err(PayloadError::Packet { index, source }),
        })
    }
}

/// The first packet of a text body, and what is behind it.
fn text_packet(rest: &str) -> Result<(Packet<'_>, &str), Broken> {
    let (units, header) = length(rest.as_bytes(), b'0', b':')?;
    let rest = &rest[header..];
    let end = units_end(rest, units).ok_or(Broken::Length)?;
    let (packet, rest) = rest.split_at(end);
    Ok((Packet::decode_v3(packet).map_err(Broken::Packet)?, rest))
}

/// The first packet of a binary body, and what is behind it.
fn binary_packet(rest: &[u8]) -> Result<(Packet<'_>, &[u8]), Broken> {
    let (kind, rest) = rest.split_first().ok_or(Broken::Packet(PacketError::Empty))?;
    let (bytes, header) = length(rest, 0, END_OF_LENGTH)?;
    let (packet, rest) = rest[header..].split_at_checked(bytes).ok_or(Broken::Length)?;
    let packet = match kind {
        0 => Packet::decode_v3(std::str::from_utf8(packet).map_err(|_| Broken::Utf8)?).map_err(Broken::Packet)?,
        1 => match packet.split_first() {
            Some((&MESSAGE_BYTE, data)) => Packet::Binary(data.into()),
            Some((other, _)) => return Err(Broken::Packet(PacketError::BinaryType(*other))),
            None => return Err(Broken::Packet(PacketError::Empty)),
        },
        _ => return Err(Broken::Length),
    };
    Ok((packet, rest))
}

/// A length in decimal digits, of which `zero` is the first, and how many bytes it takes with the `end` behind it.
fn length(rest: &[u8], zero: u8, end: u8) -> Result<(usize, usize), Broken> {
    let mut value: usize = 0;
    for (index, byte) in rest.iter().take(DIGITS + 1).enumerate() {
        if *byte == end && index > 0 {
            return Ok((value, index + 1));
        }
        let digit = byte.wrapping_sub(zero);
        if digit > 9 {
            return Err(Broken::Length);
        }
        value = value.checked_mul(10).and_then(|value| value.checked_add(digit.into())).ok_or(Broken::Length)?;
    }
    Err(if rest.is_empty() { Broken::Packet(PacketError::Empty) } else { Broken::Length })
}

/// Where the first `units` UTF-16 code units of a text end. `None` when it has fewer, or a character is cut by that.
fn units_end(text: &str, units: usize) -> Option<usize> {
    // No character has more units than bytes.
    let head = text.as_bytes().get(..units)?;
    if head.is_ascii() {
        return Some(units);
    }
    let mut left = units;
    for (at, character) in text.char_indices() {
        if left == 0 {
            return Some(at);
        }
        left = left.checked_sub(character.len_utf16())?;
    }
    (left == 0).then_some(text.len())
}

/// How many UTF-16 code units a text has, which is UTF-8 in `bytes`.
fn count_units(bytes: &[u8]) -> usize {
    // A character begins with every byte that continues none; those of four bytes have two units.
    bytes.iter().map(|byte| usize::from(byte & 0xc0 != 0x80) + usize::from(*byte >= 0xf0)).sum()
}

/// A body for a client of revision 3.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BodyV3 {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Whether it is a binary body.
    pub is_binary: bool,
}

/// Writes a run of complete, unmasked frames as a body. They are as [`Wire::frames`](crate::Wire::frames) leaves them for revision 3.
///
/// # Panics
/// When `frames` is not a run of whole data frames: they are this server's own.
#[must_use]
pub fn write(frames: &[u8]) -> BodyV3 {
    let is_binary = Frames(frames).any(|(opcode, _)| opcode == Opcode::Binary);
    let mut bytes = Vec::with_capacity(frames.len() + 16);
    let mut digits = itoa::Buffer::new();
    for (opcode, packet) in Frames(frames) {
        if is_binary {
            bytes.push(u8::from(opcode == Opcode::Binary));
            bytes.extend(digits.format(packet.len()).bytes().map(|digit| digit - b'0'));
            bytes.push(END_OF_LENGTH);
        } else {
            bytes.extend_from_slice(digits.format(count_units(packet)).as_bytes());
            bytes.push(b':');
        }
        bytes.extend_from_slice(packet);
    }
    BodyV3 { bytes, is_binary }
}

/// One text packet as a body.
///
/// ```
/// use posthaste_engine_proto::payload_v3::text_packet_of;
/// assert_eq!(text_packet_of("4€".as_bytes()), "2:4€".as_bytes());
/// ```
#[must_use]
pub fn text_packet_of(packet: &[u8]) -> Vec<u8> {
    let mut body = itoa::Buffer::new().format(count_units(packet)).as_bytes().to_vec();
    body.push(b':');
    body.extend_from_slice(packet);
    body
}

/// A packet without data as a frame, for [`write()`].
#[must_use]
pub const fn control(kind: PacketType) -> [u8; 3] {
    [0x81, 1, kind as u8]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Wire;
    use posthaste_websocket_proto::append_frame;
    use proptest::prelude::*;

    fn text(body: &str) -> Result<Vec<Packet<'_>>, PayloadError> {
        split_text(body, 1024).collect()
    }

    fn binary(body: &[u8]) -> Result<Vec<Packet<'_>>, PayloadError> {
        split_binary(body, 1024).collect()
    }

    const fn packet<T>(index: usize, source: PacketError) -> Result<T, PayloadError> {
        Err(PayloadError::Packet { index, source })
    }

    #[test]
    fn text_bodies_decode_as_specified() {
        use Packet::{Binary, Text};
        use PacketType::{Close, Message, Ping};
        let wrong = |index| Err(PayloadError::Length { index });
        for (body, expected) in [
            ("6:4hello", Ok(vec![Text(Message, "hello")])),
            ("6:4test16:4test2", Ok(vec![Text(Message, "test1"), Text(Message, "test2")])),
            ("1:2", Ok(vec![Text(Ping, "")])),
            ("1:11:2", Ok(vec![Text(Close, ""), Text(Ping, "")])),
            ("6:4hello10:b4AQIDBA==", Ok(vec![Text(Message, "hello"), Binary(vec![1, 2, 3, 4].into())])),
            ("2:b4", Ok(vec![Binary(vec![].into())])),
            // Lengths count characters as JavaScript does: one for each of these, two for those outside of the first plane.
            ("2:4€1:2", Ok(vec![Text(Message, "€"), Text(Ping, "")])),
            ("3:4😀1:2", Ok(vec![Text(Message, "😀"), Text(Ping, "")])),
            ("6:4a😀é€1:2", Ok(vec![Text(Message, "a😀é€"), Text(Ping, "")])),
            ("2:4\u{1e}", Ok(vec![Text(Message, "\u{1e}")])),
            ("2:4:", Ok(vec![Text(Message, ":")])),
            ("007:4hello!", Ok(vec![Text(Message, "hello!")])),
            ("", packet(0, PacketError::Empty)),
            ("0:", packet(0, PacketError::Empty)),
            ("0:1:2", packet(0, PacketError::Empty)),
            ("1:7", packet(0, PacketError::UnknownType('7'))),
            ("1:b", packet(0, PacketError::Empty)),
            ("4:b4A!", packet(0, PacketError::Base64)),
            ("4:b2AQ", packet(0, PacketError::BinaryType(b'2'))),
            ("abc", wrong(0)),
            (":2", wrong(0)),
            ("1", wrong(0)),
            ("-1:2", wrong(0)),
            ("+1:2", wrong(0)),
            (" 1:2", wrong(0)),
            ("1 :2", wrong(0)),
            ("1e0:2", wrong(0)),
            ("0x1:2", wrong(0)),
            ("1.0:2", wrong(0)),
            // Truncated, or with a length that is not the packet's.
            ("6:4hell", wrong(0)),
            ("7:4hello", wrong(0)),
            ("5:4hello", wrong(1)),
            ("4:4€", wrong(0)),
            ("2:4😀", wrong(0)),
            ("1:21:", wrong(1)),
            ("1:2x", wrong(1)),
        ] {
            assert_eq!(text(body), expected, "{body:?}");
        }
    }

    #[test]
    fn binary_bodies_decode_as_specified() {
        use Packet::{Binary, Text};
        use PacketType::{Message, Ping};
        let wrong = |index| Err(PayloadError::Length { index });
        for (body, expected) in [
            (&[0, 6, 255, 52, 104, 101, 108, 108, 111, 1, 5, 255, 4, 1, 2, 3, 4][..], {
                Ok(vec![Text(Message, "hello"), Binary(vec![1, 2, 3, 4].into())])
            }),
            (&[0, 1, 255, b'2'], Ok(vec![Text(Ping, "")])),
            // Here they count bytes.
            (&[0, 4, 255, b'4', 0xe2, 0x82, 0xac], Ok(vec![Text(Message, "€")])),
            (&[0, 1, 2, 255, b'4', b'0', b'1', b'2', b'3', b'4', b'5', b'6', b'7', b'8', b'9', b'a'], {
                Ok(vec![Text(Message, "0123456789a")])
            }),
            (&[0, 6, 255, b'b', b'4', b'A', b'Q', b'I', b'D'], Ok(vec![Binary(vec![1, 2, 3].into())])),
            (&[1, 1, 255, 4], Ok(vec![Binary(vec![].into())])),
            (&[1, 0, 1, 255, 4], Ok(vec![Binary(vec![].into())])),
            (&[], packet(0, PacketError::Empty)),
            (&[1, 0, 255], packet(0, PacketError::Empty)),
            (&[0, 0, 255], packet(0, PacketError::Empty)),
            (&[1, 1, 255, 2], packet(0, PacketError::BinaryType(2))),
            (&[1, 1, 255, b'4'], packet(0, PacketError::BinaryType(b'4'))),
            (&[0, 2, 255, b'4', 0xff], Err(PayloadError::Utf8)),
            (&[2, 1, 255, 4], wrong(0)),
            (b"6:4hello", wrong(0)),
            (&[0, 10, 255, b'2'], wrong(0)),
            (&[0, 255, b'2'], wrong(0)),
            (&[0, 1, b'2'], wrong(0)),
            (&[0, 1], wrong(0)),
            (&[0, 2, 255, b'2'], wrong(0)),
            (&[0, 1, 255, b'2', 1], packet(1, PacketError::Empty)),
            (&[0, 1, 255, b'2', 1, 9], wrong(1)),
        ] {
            assert_eq!(binary(body), expected, "{body:?}");
        }
    }

    #[test]
    fn sec_45_lengths_of_many_digits_are_refused_at_once() {
        for digits in [DIGITS + 1, 20, 310, 1_000_000] {
            let body = format!("{}:4", "9".repeat(digits));
            assert_eq!(text(&body), Err(PayloadError::Length { index: 0 }));
            let zeros = format!("{}1:2", "0".repeat(digits));
            assert_eq!(text(&zeros), Err(PayloadError::Length { index: 0 }));
            let mut raw = vec![9; digits + 1];
            raw[0] = 1;
            raw.push(255);
            assert_eq!(binary(&raw), Err(PayloadError::Length { index: 0 }));
        }
        // As large as a length can be: nothing is set aside for it.
        assert_eq!(text("999999999999:4"), Err(PayloadError::Length { index: 0 }));
        assert_eq!(binary(&[&[1][..], &[9; DIGITS], &[255, 4]].concat()), Err(PayloadError::Length { index: 0 }));
    }

    #[test]
    fn sec_43_a_body_of_the_smallest_packets_ends_at_the_bound() {
        let body = "1:6".repeat(5_000);
        let raw = [0, 1, 255, b'6'].repeat(5_000);
        for mut packets in [split_text(&body, 1024), split_binary(&raw, 1024)] {
            assert_eq!(packets.by_ref().take(1024).filter(Result::is_ok).count(), 1024);
            assert_eq!(packets.next(), Some(Err(PayloadError::TooManyPackets { limit: 1024 })));
            assert_eq!(packets.next(), None);
        }
        assert_eq!(split_text(&"0:".repeat(500_000), 1024).count(), 1);
        assert_eq!(split_text(&":".repeat(1_000_000), 1024).count(), 1);
    }

    #[test]
    fn packets_before_a_broken_one_are_read_and_none_behind_it() {
        let mut packets = split_text("2:4a9:4b", 16);
        assert_eq!(packets.next(), Some(Ok(Packet::Text(PacketType::Message, "a"))));
        assert_eq!(packets.rest(), Some(4));
        assert_eq!(packets.next(), Some(Err(PayloadError::Length { index: 1 })));
        assert_eq!((packets.next(), packets.rest()), (None, None));
    }

    #[test]
    fn bodies_are_written_as_specified() {
        let frames = |of: &[(Opcode, &[u8])]| {
            let mut frames = Vec::new();
            of.iter().for_each(|(opcode, payload)| append_frame(&mut frames, *opcode, payload));
            frames
        };
        let all_text = frames(&[(Opcode::Text, "4a😀é€".as_bytes()), (Opcode::Text, b"3")]);
        assert_eq!(write(&all_text), BodyV3 { bytes: "6:4a😀é€1:3".into(), is_binary: false });
        let mixed = frames(&[(Opcode::Text, "4€".as_bytes()), (Opcode::Binary, &[4, 1, 2, 3])]);
        let bytes = vec![0, 4, 255, b'4', 0xe2, 0x82, 0xac, 1, 4, 255, 4, 1, 2, 3];
        assert_eq!(write(&mixed), BodyV3 { bytes, is_binary: true });
        let long = frames(&[(Opcode::Binary, &[4; 120])]);
        assert_eq!(write(&long).bytes[..5], [1, 1, 2, 0, 255]);
        assert_eq!(write(&control(PacketType::Noop)).bytes, b"1:6");
        assert_eq!(write(&[]), BodyV3::default());
    }

    proptest! {
        #[test]
        fn messages_leave_in_a_body_as_they_were(
            takes_binary: bool,
            messages in proptest::collection::vec(
                prop_oneof![
                    "\\PC{0,200}".prop_map(Ok),
                    proptest::collection::vec(any::<u8>(), 0..200).prop_map(Err),
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
            let wire = if takes_binary { Wire::V3 } else { Wire::V3Base64 };
            let body = write(&wire.frames(&frames));
            prop_assert_eq!(body.is_binary, takes_binary && messages.iter().any(Result::is_err));
            let read = if body.is_binary {
                binary(&body.bytes)
            } else {
                text(std::str::from_utf8(&body.bytes).expect("text"))
            };
            let expected: Vec<_> = messages
                .iter()
                .map(|message| match message {
                    Ok(text) => Packet::Text(PacketType::Message, text),
                    Err(bytes) => Packet::Binary(bytes.into()),
                })
                .collect();
            prop_assert_eq!(read, Ok(expected));
        }

        #[test]
        fn units_are_counted_as_utf16_has_them(text: String) {
            prop_assert_eq!(count_units(text.as_bytes()), text.encode_utf16().count());
            prop_assert_eq!(units_end(&text, text.encode_utf16().count()), Some(text.len()));
        }

        #[test]
        fn no_body_makes_splitting_panic(body: Vec<u8>, text: String) {
            let _ = split_binary(&body, 16).count();
            let _ = split_text(&text, 16).count();
        }
    }
}
