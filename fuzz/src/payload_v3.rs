//! Polling bodies of revision 3, both forms of them, and what comes and goes by scripts and forms.

use posthaste_engine_proto::jsonp::{Jsonp, read_form};
use posthaste_engine_proto::payload_v3::{self, BodyV3, split_binary, split_text};
use posthaste_engine_proto::{Packet, PacketError, PacketType, PayloadError, PostBody, PostForm, Wire};
use posthaste_websocket_proto::{Opcode, append_frame};

use crate::base64;

/// How many packets a body may have, then the body.
pub(crate) const BODIES: &[&[u8]] = &[
    b"\x106:4hello1:22:4b",
    b"\x102:4\xe2\x82\xac3:4\xf0\x9f\x98\x801:2",
    b"\x106:4hello10:b4AQIDBA==2:b4",
    b"\x1018446744073709551616:4",
    b"\x10000000000002:4a",
    b"\x027:4hello",
    b"\x104:b2AQ",
    b"\x100:",
    b"\x10\x00\x06\xff4hello\x01\x05\xff\x04\x01\x02\x03\x04",
    b"\x10\x00\x04\xff4\xe2\x82\xac\x01\x01\xff\x04",
    b"\x10\x01\x09\x09\x09\x09\x09\x09\x09\x09\x09\x09\x09\x09\x09\xff\x04",
    b"\x10\x02\x01\xff\x04",
    b"\x10d=4%3A4a%5Cnb%5C%5Cn&x",
    b"\x01d=1:2&d=1:2",
];

/// Laws: a body means what the protocol says, up to its first mistake, in whatever steps it is read; what is written can be read; a
/// script is one call with one string.
pub(crate) fn check(data: &[u8]) {
    let Some((&max, body)) = data.split_first() else { return };
    let max = usize::from(max);
    let mut packets = Vec::new();
    let read: Vec<_> = split_binary(body, max).collect();
    assert_eq!(read, binary_model(body, max));
    in_steps(&PostBody::V3Binary(body.to_vec()), max, &read);
    packets.extend(read.into_iter().flatten());
    if let Ok(text) = std::str::from_utf8(body) {
        let read: Vec<_> = split_text(text, max).collect();
        assert_eq!(read, text_model(text, max));
        in_steps(&PostBody::V3(text.to_owned()), max, &read);
        packets.extend(read.into_iter().flatten());
        script(text);
    }
    written(&packets);
    let form = PostBody::read(Wire::V3Base64, PostForm::Form, body.to_vec());
    assert_eq!(form, read_form(body).map(PostBody::V3));
    if let Some(payload) = read_form(body) {
        assert!(payload.len() <= 3 * body.len(), "a form is no bomb");
    }
}

/// Law: a body that is read packet by packet, each time from where the last one ended, is the same body; each step goes on.
fn in_steps(body: &PostBody, max: usize, whole: &[Result<Packet<'_>, PayloadError>]) {
    let mut offset = 0;
    for (index, expected) in whole.iter().take(64).enumerate() {
        let mut packets = body.packets(offset, max - index.min(max));
        let packet = packets.next();
        match (packet, expected) {
            (Some(Ok(packet)), expected) => assert_eq!(Ok(packet), *expected),
            (Some(Err(_)), Err(_)) => return assert_eq!(packets.rest(), None, "nothing is read behind a mistake"),
            (packet, expected) => panic!("{packet:?} instead of {expected:?}"),
        }
        let Some(rest) = packets.rest() else { return assert_eq!(index + 1, whole.len()) };
        let next = body.len() - rest;
        assert!(next > offset, "every packet takes something");
        offset = next;
    }
}

type Read<'a> = Vec<Result<Packet<'a>, PayloadError>>;

/// One character after the other.
fn text_model(body: &str, max: usize) -> Read<'_> {
    let mut packets = Vec::new();
    let mut rest = body;
    for index in 0.. {
        if index == max {
            packets.push(Err(PayloadError::TooManyPackets { limit: max }));
            break;
        }
        if rest.is_empty() {
            packets.push(Err(PayloadError::Packet { index, source: PacketError::Empty }));
            break;
        }
        let wrong = Err(PayloadError::Length { index });
        let Some((digits, behind)) = rest.split_once(':') else {
            packets.push(wrong);
            break;
        };
        let Some(length) =
            model_length(&digits.chars().map(|one| one.to_digit(10).filter(|_| one.is_ascii())).collect::<Vec<_>>())
        else {
            packets.push(wrong);
            break;
        };
        let mut units = 0;
        let end = behind
            .char_indices()
            .map(|(at, character)| {
                let before = units;
                units += character.len_utf16();
                (at, before)
            })
            .chain([(behind.len(), behind.encode_utf16().count())])
            .find(|(_, before)| *before == length);
        let Some((end, _)) = end else {
            packets.push(wrong);
            break;
        };
        let packet = model_packet(&behind[..end]).map_err(|source| PayloadError::Packet { index, source });
        let is_over = packet.is_err();
        packets.push(packet);
        rest = &behind[end..];
        if is_over || rest.is_empty() {
            break;
        }
    }
    packets
}

fn binary_model(body: &[u8], max: usize) -> Read<'_> {
    let mut packets = Vec::new();
    let mut rest = body;
    for index in 0.. {
        if index == max {
            packets.push(Err(PayloadError::TooManyPackets { limit: max }));
            break;
        }
        let packet = binary_step(&mut rest, index);
        let is_over = packet.is_err();
        packets.push(packet);
        if is_over || rest.is_empty() {
            break;
        }
    }
    packets
}

fn binary_step<'a>(rest: &mut &'a [u8], index: usize) -> Result<Packet<'a>, PayloadError> {
    let packet = |source| PayloadError::Packet { index, source };
    let [kind, behind @ ..] = *rest else { return Err(packet(PacketError::Empty)) };
    if behind.is_empty() {
        return Err(packet(PacketError::Empty));
    }
    let end = behind.iter().position(|byte| *byte == 255).ok_or(PayloadError::Length { index })?;
    let digits: Vec<_> = behind[..end].iter().map(|byte| (*byte < 10).then_some(u32::from(*byte))).collect();
    let length = model_length(&digits).ok_or(PayloadError::Length { index })?;
    let content = behind[end + 1..].get(..length).ok_or(PayloadError::Length { index })?;
    *rest = &behind[end + 1 + length..];
    match (kind, content) {
        (0, text) => model_packet(std::str::from_utf8(text).map_err(|_| PayloadError::Utf8)?).map_err(packet),
        (1, [4, data @ ..]) => Ok(Packet::Binary(data.into())),
        (1, [other, ..]) => Err(packet(PacketError::BinaryType(*other))),
        (1, []) => Err(packet(PacketError::Empty)),
        _ => Err(PayloadError::Length { index }),
    }
}

/// At most twelve digits, and at least one.
fn model_length(digits: &[Option<u32>]) -> Option<usize> {
    if digits.is_empty() || digits.len() > 12 {
        return None;
    }
    digits.iter().try_fold(0, |all, digit| Some(all * 10 + (*digit)? as usize))
}

fn model_packet(text: &str) -> Result<Packet<'_>, PacketError> {
    let Some(binary) = text.strip_prefix('b') else { return Packet::decode(text) };
    match binary.as_bytes() {
        [] => Err(PacketError::Empty),
        [b'4', ..] => base64::decode(&binary[1..]).map(|data| Packet::Binary(data.into())).ok_or(PacketError::Base64),
        [other, ..] => Err(PacketError::BinaryType(*other)),
    }
}

/// Law: what leaves in a body, and on a WebSocket, is what was sent.
fn written(packets: &[Packet<'_>]) {
    let mut frames = Vec::new();
    for packet in packets {
        match packet {
            Packet::Text(kind, text) => {
                append_frame(&mut frames, Opcode::Text, format!("{}{text}", *kind as u8 as char).as_bytes());
            }
            Packet::Binary(bytes) => append_frame(&mut frames, Opcode::Binary, bytes),
        }
    }
    let has_binary = packets.iter().any(|packet| matches!(packet, Packet::Binary(_)));
    for wire in [Wire::V3, Wire::V3Base64] {
        let BodyV3 { bytes, is_binary } = payload_v3::write(&wire.frames(&frames));
        assert_eq!(is_binary, has_binary && wire.takes_binary());
        if packets.is_empty() {
            assert!(bytes.is_empty());
            continue;
        }
        let again: Result<Vec<_>, _> = if is_binary {
            split_binary(&bytes, packets.len()).collect()
        } else {
            split_text(std::str::from_utf8(&bytes).expect("text"), packets.len()).collect()
        };
        assert_eq!(again.as_deref(), Ok(packets));
    }
    if let [Packet::Binary(data)] = packets {
        let frame = [&[PacketType::Message as u8 - b'0'], &data[..]].concat();
        assert_eq!(Wire::V3.message(frame.into()).as_deref(), Ok(&data[..]));
    }
}

/// Law: whatever the payload and the parameter, the script is one call with the payload as its string.
fn script(text: &str) {
    let script = Jsonp::parse(text).script(text);
    let script = std::str::from_utf8(&script).expect("text");
    let (number, string) = script.strip_prefix("___eio[").and_then(|rest| rest.split_once("](")).expect("a call");
    assert!((1..=9).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit()));
    let string = string.strip_suffix(");").expect("the end of the call");
    assert!(!string.contains(['\u{2028}', '\u{2029}']) && string.chars().all(|character| character >= ' '));
    // The escapes are JSON's.
    assert_eq!(serde_json::from_str::<String>(string).expect("one string"), text);
}
