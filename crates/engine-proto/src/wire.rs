//! How packets are written for a client: by the revision of the protocol it speaks, and by whether it takes binary.
//!
//! Everything that waits is frames of revision 4. Text is the same in both revisions; a binary message is
//!
//! | | takes binary | does not (`b64`) |
//! |---|---|---|
//! | revision 4 | its bytes | text: `b` and base64 |
//! | revision 3 | a type byte, 4, and its bytes | text: `b`, the type digit and base64 |

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use posthaste_websocket_proto::{Opcode, append_frame};

use crate::packet::{Packet, PacketError, PacketType};
use crate::payload::{Frames, MESSAGE_BYTE};
use crate::query::Revision;

/// The form of one client's packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// Revision 4.
    V4,
    /// Revision 4, of a client that takes no binary.
    V4Base64,
    /// Revision 3.
    V3,
    /// Revision 3, of a client that takes no binary.
    V3Base64,
}

impl Wire {
    /// The form for a client of `revision` that takes `base64` only, or binary too.
    #[must_use]
    pub const fn new(revision: Revision, base64: bool) -> Self {
        match (revision, base64) {
            (Revision::V4, false) => Self::V4,
            (Revision::V4, true) => Self::V4Base64,
            (Revision::V3, false) => Self::V3,
            (Revision::V3, true) => Self::V3Base64,
        }
    }

    /// The revision of the protocol.
    #[must_use]
    #[inline]
    pub const fn revision(self) -> Revision {
        match self {
            Self::V4 | Self::V4Base64 => Revision::V4,
            Self::V3 | Self::V3Base64 => Revision::V3,
        }
    }

    /// Whether the client takes binary.
    #[must_use]
    pub const fn takes_binary(self) -> bool {
        matches!(self, Self::V4 | Self::V3)
    }

    /// Reads a packet from text, as a WebSocket text frame or a polling body carries it.
    ///
    /// # Errors
    /// As [`Packet::decode`].
    ///
    /// ```
    /// use posthaste_engine_proto::{Packet, Wire};
    /// assert_eq!(Wire::V3.decode("b4AQID"), Wire::V4.decode("bAQID"));
    /// assert_eq!(Wire::V3.decode("b4AQID"), Ok(Packet::Binary(vec![1, 2, 3].into())));
    /// ```
    #[inline]
    pub fn decode(self, text: &str) -> Result<Packet<'_>, PacketError> {
        match self.revision() {
            Revision::V4 => Packet::decode(text),
            Revision::V3 => Packet::decode_v3(text),
        }
    }

    /// The message of a binary WebSocket frame.
    ///
    /// # Errors
    /// [`PacketError`] when a client of revision 3 sends a frame without a type byte, or with that of anything but a message.
    #[inline]
    pub fn message(self, frame: Cow<'_, [u8]>) -> Result<Cow<'_, [u8]>, PacketError> {
        match self.revision() {
            Revision::V4 => Ok(frame),
            Revision::V3 => Self::message_v3(frame),
        }
    }

    fn message_v3(frame: Cow<'_, [u8]>) -> Result<Cow<'_, [u8]>, PacketError> {
        match frame.first() {
            Some(&MESSAGE_BYTE) => Ok(match frame {
                Cow::Borrowed(frame) => Cow::Borrowed(&frame[1..]),
                Cow::Owned(mut frame) => {
                    frame.remove(0);
                    Cow::Owned(frame)
                }
            }),
            Some(other) => Err(PacketError::BinaryType(*other)),
            None => Err(PacketError::Empty),
        }
    }

    /// Whether [`Wire::frames`] would change a run of frames.
    #[must_use]
    pub fn changes(self, frames: &[u8]) -> bool {
        self != Self::V4 && Frames(frames).any(|(opcode, _)| opcode == Opcode::Binary)
    }

    /// Rewrites a run of complete, unmasked frames of revision 4 for such a client; what needs no change stays as it is.
    #[must_use]
    pub fn frames(self, frames: &[u8]) -> Cow<'_, [u8]> {
        if !self.changes(frames) {
            return Cow::Borrowed(frames);
        }
        let mut rewritten = Vec::with_capacity(frames.len() + 16);
        for (opcode, payload) in Frames(frames) {
            if opcode != Opcode::Binary {
                append_frame(&mut rewritten, opcode, payload);
            } else if self.takes_binary() {
                append_frame(&mut rewritten, opcode, &[&[MESSAGE_BYTE], payload].concat());
            } else {
                let mut packet = String::with_capacity(2 + payload.len().div_ceil(3) * 4);
                packet.push('b');
                if self.revision() == Revision::V3 {
                    packet.push(char::from(PacketType::Message as u8));
                }
                STANDARD.encode_string(payload, &mut packet);
                append_frame(&mut rewritten, Opcode::Text, packet.as_bytes());
            }
        }
        Cow::Owned(rewritten)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(of: &[(Opcode, &[u8])]) -> Vec<u8> {
        let mut frames = Vec::new();
        of.iter().for_each(|(opcode, payload)| append_frame(&mut frames, *opcode, payload));
        frames
    }

    #[test]
    fn binary_is_written_as_each_client_takes_it() {
        let sent = frames(&[(Opcode::Text, b"451-[0]"), (Opcode::Binary, &[1, 2, 3])]);
        for (wire, expected) in [
            (Wire::V4, sent.clone()),
            (Wire::V4Base64, frames(&[(Opcode::Text, b"451-[0]"), (Opcode::Text, b"bAQID")])),
            (Wire::V3, frames(&[(Opcode::Text, b"451-[0]"), (Opcode::Binary, &[4, 1, 2, 3])])),
            (Wire::V3Base64, frames(&[(Opcode::Text, b"451-[0]"), (Opcode::Text, b"b4AQID")])),
        ] {
            assert_eq!(wire.frames(&sent), expected, "{wire:?}");
        }
    }

    #[test]
    fn frames_without_binary_are_the_same_for_everybody_and_not_copied() {
        let sent = frames(&[(Opcode::Text, b"4a"), (Opcode::Text, b"4b"), (Opcode::Pong, b"x")]);
        for wire in [Wire::V4, Wire::V4Base64, Wire::V3, Wire::V3Base64] {
            assert!(matches!(wire.frames(&sent), Cow::Borrowed(same) if same == sent), "{wire:?}");
        }
    }

    #[test]
    fn a_binary_frame_of_revision_3_begins_with_the_type_of_a_message() {
        for frame in [Cow::Borrowed(&[4, 1, 2][..]), Cow::Owned(vec![4, 1, 2])] {
            assert_eq!(Wire::V3.message(frame.clone()).as_deref(), Ok(&[1, 2][..]));
            assert_eq!(Wire::V4.message(frame.clone()).as_deref(), Ok(&frame[..]));
        }
        assert_eq!(Wire::V3.message(Cow::Borrowed(&[4])).as_deref(), Ok(&[][..]));
        assert_eq!(Wire::V3.message(Cow::Borrowed(&[])), Err(PacketError::Empty));
        for kind in [0, 1, 2, 3, 5, 6, 7, b'4', 255] {
            assert_eq!(Wire::V3.message(Cow::Borrowed(&[kind, 1])), Err(PacketError::BinaryType(kind)));
        }
    }
}
