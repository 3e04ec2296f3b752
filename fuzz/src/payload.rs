//! Packets and polling bodies.

use posthaste_engine_proto::payload::{append_control, append_frames, count_frames, split_text};
use posthaste_engine_proto::{Packet, PacketError, PacketType, PayloadError, Wire, split_payload};
use posthaste_websocket_proto::{FrameHeader, Opcode, append_frame};

use crate::base64;

/// How many packets a body may have, then the body.
pub(crate) const BODIES: &[&[u8]] = &[
    b"\x104hello\x1e2\x1e4world",
    b"\x10bAQIDBA==\x1eb\x1e1",
    b"\x104\xe2\x82\xac\x1e4",
    b"\x024a\x1e4b\x1e4c",
    b"\x106\x1e\x1e6",
    b"\x10b!!!",
    b"\x10bAQ\x1e7",
    b"\x104\xff",
    b"\x002probe\x1e3probe\x1e5\x1e0{}",
];

/// Laws: a body means what the protocol says, up to its first mistake; messages survive every form they are kept in.
pub(crate) fn check(data: &[u8]) {
    let Some((&max, body)) = data.split_first() else { return };
    let max = usize::from(max);
    let read: Vec<_> = split_payload(body, max).collect();
    assert_eq!(read, model(body, max));
    if let Ok(text) = std::str::from_utf8(body) {
        assert_eq!(split_text(text, max).collect::<Vec<_>>(), read);
        let first = text.split('\x1e').next().unwrap_or_default();
        if max > 0 {
            let alone = Packet::decode(first).map_err(|source| PayloadError::Packet { index: 0, source });
            assert_eq!(Some(alone), read.first().cloned());
        }
    }
    rewritten(&read);
}

fn model(body: &[u8], max: usize) -> Vec<Result<Packet<'_>, PayloadError>> {
    let Ok(text) = std::str::from_utf8(body) else { return vec![Err(PayloadError::Utf8)] };
    let mut packets = Vec::new();
    for (index, packet) in text.split('\x1e').enumerate() {
        if index == max {
            packets.push(Err(PayloadError::TooManyPackets { limit: max }));
            break;
        }
        let decoded = model_packet(packet).map_err(|source| PayloadError::Packet { index, source });
        let broken = decoded.is_err();
        packets.push(decoded);
        if broken {
            break;
        }
    }
    packets
}

fn model_packet(text: &str) -> Result<Packet<'_>, PacketError> {
    const TYPES: [PacketType; 7] = [
        PacketType::Open,
        PacketType::Close,
        PacketType::Ping,
        PacketType::Pong,
        PacketType::Message,
        PacketType::Upgrade,
        PacketType::Noop,
    ];
    let mut characters = text.chars();
    match characters.next() {
        None => Err(PacketError::Empty),
        Some('b') => match base64::decode(characters.as_str()) {
            Some(bytes) => Ok(Packet::Binary(bytes.into())),
            None => Err(PacketError::Base64),
        },
        Some(digit) => match digit.to_digit(7) {
            Some(number) => Ok(Packet::Text(TYPES[number as usize], characters.as_str())),
            None => Err(PacketError::UnknownType(digit)),
        },
    }
}

/// Law: frames, a polling body and frames without binary carry the same packets.
fn rewritten(read: &[Result<Packet<'_>, PayloadError>]) {
    let packets: Vec<_> = read.iter().flatten().cloned().collect();
    let mut frames = Vec::new();
    for packet in &packets {
        match packet {
            Packet::Text(kind, text) => {
                append_frame(&mut frames, Opcode::Text, format!("{}{text}", *kind as u8 as char).as_bytes());
            }
            Packet::Binary(bytes) => append_frame(&mut frames, Opcode::Binary, bytes),
        }
    }
    assert_eq!(count_frames(&frames), packets.len());

    let mut body = Vec::new();
    append_frames(&mut body, &frames);
    append_control(&mut body, PacketType::Noop);
    let again: Result<Vec<_>, _> = split_payload(&body, packets.len() + 1).collect();
    let with_noop = packets.iter().cloned().chain([Packet::Text(PacketType::Noop, "")]);
    assert_eq!(again, Ok(with_noop.collect::<Vec<_>>()));

    let text_only = Wire::V4Base64.frames(&frames);
    assert_eq!(count_frames(&text_only), packets.len());
    let mut rest = &text_only[..];
    for packet in packets {
        let header = FrameHeader::parse(rest).expect("our own frame").expect("a whole header");
        assert_eq!(header.opcode, Opcode::Text);
        let (frame, behind) = rest.split_at(header.frame_len() as usize);
        let text = std::str::from_utf8(&frame[header.header_len..]).expect("text");
        assert_eq!(Packet::decode(text), Ok(packet));
        rest = behind;
    }
}
