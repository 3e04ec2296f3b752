//! How a connection's packets are written.
//!
//! Everything above a worker knows one form of a packet: the frames of revision 4 with JSON. A client that speaks otherwise is sent
//! the same packet translated, at the last moment and from that form.

use bytes::Bytes;
use posthaste_engine::Revision;
use posthaste_websocket_proto::{FrameHeader, FrameStart, Opcode};

/// What every binary message of revision 3 begins with: the number of the packet type.
///
/// Source: Engine.IO protocol, revision 3, "Packet encoding".
const BINARY_MESSAGE: u8 = 4;

/// The parser and the revision that a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// JSON over revision 4, in which everything is written at first.
    Json4,
    /// JSON over revision 3, where binary messages begin with the type of their packet.
    Json3,
}

impl Dialect {
    /// What a client of that revision speaks.
    pub(crate) const fn of(revision: Revision) -> Self {
        match revision {
            Revision::V3 => Self::Json3,
            Revision::V4 => Self::Json4,
        }
    }

    /// Those that a packet has to be translated for, in the order of [`Dialect::form`].
    pub(crate) const OTHERS: [Self; 1] = [Self::Json3];

    /// The number of a translation among the forms of a packet; `None` for the form it has.
    pub(crate) const fn form(self) -> Option<usize> {
        match self {
            Self::Json4 => None,
            Self::Json3 => Some(0),
        }
    }

    /// Writes packets in this dialect: `frames` is a run of complete frames as [`Dialect::Json4`] has them. `None` if there is
    /// something among them that the dialect cannot say.
    pub(crate) fn translate(self, frames: &[u8]) -> Option<Bytes> {
        let mut out = Vec::with_capacity(frames.len() + 16);
        let mut rest = frames;
        while !rest.is_empty() {
            let header = FrameHeader::parse(rest).ok().flatten().expect("invariant: our packets are complete frames");
            let len = usize::try_from(header.frame_len()).expect("invariant: it is in memory");
            let (frame, behind) = rest.split_at(len);
            rest = behind;
            if header.opcode == Opcode::Binary && self != Self::Json4 {
                let start = FrameStart::begin(&mut out, Opcode::Binary);
                out.push(BINARY_MESSAGE);
                out.extend_from_slice(&frame[header.header_len..]);
                start.finish(&mut out);
            } else {
                out.extend_from_slice(frame);
            }
        }
        Some(out.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use posthaste_websocket_proto::append_frame;

    #[test]
    fn attachments_begin_with_their_type_in_revision_3() {
        let (mut frames, mut expected) = (Vec::new(), Vec::new());
        let text = br#"451-["hi",{"_placeholder":true,"num":0}]"#;
        for out in [&mut frames, &mut expected] {
            append_frame(out, Opcode::Text, text);
        }
        append_frame(&mut frames, Opcode::Binary, &[7; 125]);
        append_frame(&mut expected, Opcode::Binary, &[&[4][..], &[7; 125]].concat());
        append_frame(&mut frames, Opcode::Binary, &[]);
        append_frame(&mut expected, Opcode::Binary, &[4]);
        assert_eq!(Dialect::Json3.translate(&frames).expect("it can be said"), expected);
        assert_eq!(Dialect::Json4.translate(&frames).expect("it is the same"), frames);
    }

    #[test]
    fn each_translation_has_a_form_of_its_own() {
        for (number, dialect) in Dialect::OTHERS.into_iter().enumerate() {
            assert_eq!(dialect.form(), Some(number));
        }
        assert_eq!(Dialect::Json4.form(), None);
    }
}
