//! Packets: one type digit and its data.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// What a packet is for; the digit on the wire is its discriminant.
///
/// Source: Engine.IO protocol v4, "Packet types".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PacketType {
    /// `0`: the answer to a handshake.
    Open = b'0',
    /// `1`: the end of the transport.
    Close = b'1',
    /// `2`: asks whether the other side lives (the server asks; a client only to probe an upgrade).
    Ping = b'2',
    /// `3`: it does.
    Pong = b'3',
    /// `4`: application data.
    Message = b'4',
    /// `5`: the probe's transport takes over.
    Upgrade = b'5',
    /// `6`: nothing; it frees a parked poll.
    Noop = b'6',
}

impl PacketType {
    /// The type of a digit byte (`b'0'`…`b'6'`).
    #[must_use]
    pub const fn from_digit(digit: u8) -> Option<Self> {
        Some(match digit {
            b'0' => Self::Open,
            b'1' => Self::Close,
            b'2' => Self::Ping,
            b'3' => Self::Pong,
            b'4' => Self::Message,
            b'5' => Self::Upgrade,
            b'6' => Self::Noop,
            _ => return None,
        })
    }
}

/// A decoded packet, borrowed from what carried it where that is possible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// A text packet: its type and what follows the digit.
    Text(PacketType, &'a str),
    /// A binary message. A binary WebSocket frame carries it without a type byte; in text it is `b` and base64.
    Binary(Cow<'a, [u8]>),
}

/// A text that is no packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PacketError {
    /// No character at all.
    #[error("a packet needs a type digit, this one is empty")]
    Empty,
    /// The first character is none of `0`…`6`.
    #[error("unknown packet type {0:?}")]
    UnknownType(char),
    /// A `b` packet whose base64 is broken.
    #[error("a binary packet's base64 is malformed")]
    Base64,
    /// Revision 3: a binary packet that is no message, by its type: a byte, or a digit before base64.
    #[error("a binary packet of type {0:#04x}")]
    BinaryType(u8),
}

impl<'a> Packet<'a> {
    /// Reads a packet from text, as a WebSocket text frame or a polling body carries it. Clients that cannot send binary
    /// frames send `b` and base64 on a WebSocket too.
    ///
    /// # Errors
    /// [`PacketError`] when the text is empty, its first character is no packet type, or its base64 is broken.
    ///
    /// Source: Engine.IO protocol v4, "Packet encoding".
    ///
    /// ```
    /// use posthaste_engine_proto::{Packet, PacketType};
    /// assert_eq!(Packet::decode("4hello"), Ok(Packet::Text(PacketType::Message, "hello")));
    /// ```
    pub fn decode(text: &'a str) -> Result<Self, PacketError> {
        if let Some(base64) = text.strip_prefix('b') {
            return STANDARD.decode(base64).map(|data| Self::Binary(data.into())).map_err(|_| PacketError::Base64);
        }
        let digit = text.chars().next().ok_or(PacketError::Empty)?;
        let kind = u8::try_from(digit).ok().and_then(PacketType::from_digit).ok_or(PacketError::UnknownType(digit))?;
        Ok(Self::Text(kind, &text[1..]))
    }

    /// As [`Packet::decode`], of a client of revision 3: between `b` and the base64 is the type digit.
    ///
    /// # Errors
    /// As [`Packet::decode`], and [`PacketError::BinaryType`] for binary that is no message.
    ///
    /// Source: Engine.IO protocol v3, "Packet".
    pub fn decode_v3(text: &'a str) -> Result<Self, PacketError> {
        match text.as_bytes() {
            [b'b'] => Err(PacketError::Empty),
            [b'b', b'4', base64 @ ..] => {
                STANDARD.decode(base64).map(|data| Self::Binary(data.into())).map_err(|_| PacketError::Base64)
            }
            [b'b', other, ..] => Err(PacketError::BinaryType(*other)),
            _ => Self::decode(text),
        }
    }

    /// The packet's type; binary packets are messages.
    #[must_use]
    pub const fn packet_type(&self) -> PacketType {
        match self {
            Self::Text(kind, _) => *kind,
            Self::Binary(_) => PacketType::Message,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binary_in_text_is_base64() {
        assert_eq!(Packet::decode("bAQID"), Ok(Packet::Binary(Cow::Borrowed(&[1, 2, 3]))));
        assert_eq!(Packet::decode("b"), Ok(Packet::Binary(Cow::Borrowed(&[]))));
        assert_eq!(Packet::decode("bAQI"), Err(PacketError::Base64));
    }

    #[test]
    fn binary_in_text_of_revision_3_has_its_type() {
        assert_eq!(Packet::decode_v3("b4AQID"), Ok(Packet::Binary(Cow::Borrowed(&[1, 2, 3]))));
        assert_eq!(Packet::decode_v3("b4"), Ok(Packet::Binary(Cow::Borrowed(&[]))));
        assert_eq!(Packet::decode_v3("b"), Err(PacketError::Empty));
        assert_eq!(Packet::decode_v3("bAQID"), Err(PacketError::BinaryType(b'A')));
        assert_eq!(Packet::decode_v3("b2AQID"), Err(PacketError::BinaryType(b'2')));
        assert_eq!(Packet::decode_v3("b4AQI"), Err(PacketError::Base64));
        assert_eq!(Packet::decode_v3("b€"), Err(PacketError::BinaryType(0xe2)));
        assert_eq!(Packet::decode_v3("4€"), Ok(Packet::Text(PacketType::Message, "€")));
        assert_eq!(Packet::decode_v3(""), Err(PacketError::Empty));
    }

    #[test]
    fn packets_decode_as_specified() {
        for (wire, expected) in [
            ("0{}", Ok((PacketType::Open, "{}"))),
            ("1", Ok((PacketType::Close, ""))),
            ("2", Ok((PacketType::Ping, ""))),
            ("2probe", Ok((PacketType::Ping, "probe"))),
            ("3probe", Ok((PacketType::Pong, "probe"))),
            ("4", Ok((PacketType::Message, ""))),
            ("4€", Ok((PacketType::Message, "€"))),
            ("5", Ok((PacketType::Upgrade, ""))),
            ("6", Ok((PacketType::Noop, ""))),
            ("", Err(PacketError::Empty)),
            ("7", Err(PacketError::UnknownType('7'))),
            ("€", Err(PacketError::UnknownType('€'))),
            ("\u{1}", Err(PacketError::UnknownType('\u{1}'))),
        ] {
            let decoded = Packet::decode(wire).map(|packet| match packet {
                Packet::Text(kind, data) => (kind, data),
                Packet::Binary(_) => unreachable!("text never decodes to binary"),
            });
            assert_eq!(decoded, expected, "{wire:?}");
        }
    }
}
