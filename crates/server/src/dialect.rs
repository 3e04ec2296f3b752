//! How a connection's packets are written.
//!
//! Everything above a worker knows one form of a packet: the frames of revision 4 with JSON. A client that speaks otherwise is sent
//! the same packet translated, at the last moment and from that form.

use posthaste_engine::Revision;
use posthaste_socket_proto::{EncodeError, attachments_of, encode_msgpack};
use posthaste_websocket_proto::{FrameHeader, FrameStart, Opcode};
use smallvec::SmallVec;

use crate::parser::Parser;

/// The parser and the revision that a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// JSON over revision 4, in which everything is written at first.
    Json4,
    /// JSON over revision 3: the same, but for offsets, which tell such clients nothing. How binary travels is the engine's.
    Json3,
    /// MessagePack over revision 4: each packet is one binary message.
    MessagePack4,
    /// MessagePack over revision 3, without offsets.
    MessagePack3,
}

impl Dialect {
    /// Those that a packet has to be translated for, in the order of [`Dialect::form`].
    pub(crate) const OTHERS: [Self; 3] = [Self::Json3, Self::MessagePack4, Self::MessagePack3];

    /// What a client of that revision speaks with JSON.
    pub(crate) const fn json(revision: Revision) -> Self {
        match revision {
            Revision::V4 => Self::Json4,
            Revision::V3 => Self::Json3,
        }
    }

    /// The number of the form without offsets, which those for revision 3 are made of.
    pub(crate) const PLAIN: usize = 0;

    /// The number of a translation among the forms of a packet; `None` for the form it has.
    pub(crate) const fn form(self) -> Option<usize> {
        match self {
            Self::Json4 => None,
            Self::Json3 => Some(Self::PLAIN),
            Self::MessagePack4 => Some(1),
            Self::MessagePack3 => Some(2),
        }
    }

    pub(crate) const fn parser(self) -> Parser {
        match self {
            Self::Json4 | Self::Json3 => Parser::Json,
            Self::MessagePack4 | Self::MessagePack3 => Parser::MessagePack,
        }
    }

    /// The same revision with MessagePack.
    pub(crate) const fn packed(self) -> Self {
        match self {
            Self::Json4 | Self::MessagePack4 => Self::MessagePack4,
            Self::Json3 | Self::MessagePack3 => Self::MessagePack3,
        }
    }

    /// Writes packets in this dialect: `frames` is a run of complete frames as [`Dialect::Json4`] has them.
    ///
    /// # Errors
    /// When there is something among them that the dialect cannot say.
    pub(crate) fn translate(self, frames: &[u8]) -> Result<Vec<u8>, EncodeError> {
        let mut out = Vec::with_capacity(frames.len() + 16);
        let mut frames = Frames(frames);
        while let Some(frame) = frames.next() {
            match (self.parser(), frame.opcode) {
                (Parser::MessagePack, Opcode::Text) => {
                    let text = frame.payload.strip_prefix(b"4").and_then(|text| str::from_utf8(text).ok());
                    let text = text.expect("invariant: our own packets are messages");
                    let count = attachments_of(text);
                    let attachments: SmallVec<[&[u8]; 4]> =
                        frames.by_ref().take(count).map(|frame| frame.payload).collect();
                    let start = FrameStart::begin(&mut out, Opcode::Binary);
                    encode_msgpack(&mut out, text, &attachments)?;
                    start.finish(&mut out);
                }
                _ => out.extend_from_slice(frame.whole),
            }
        }
        Ok(out)
    }
}

/// The frames of a run.
struct Frames<'a>(&'a [u8]);

struct Frame<'a> {
    opcode: Opcode,
    payload: &'a [u8],
    whole: &'a [u8],
}

impl<'a> Iterator for Frames<'a> {
    type Item = Frame<'a>;

    fn next(&mut self) -> Option<Frame<'a>> {
        if self.0.is_empty() {
            return None;
        }
        let header = FrameHeader::parse(self.0).ok().flatten().expect("invariant: our packets are complete frames");
        let len = usize::try_from(header.frame_len()).expect("invariant: it is in memory");
        let (whole, rest) = self.0.split_at(len);
        self.0 = rest;
        Some(Frame { opcode: header.opcode, payload: &whole[header.header_len..], whole })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use posthaste_websocket_proto::append_frame;

    fn run(frames: &[(Opcode, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        frames.iter().for_each(|(opcode, payload)| append_frame(&mut out, *opcode, payload));
        out
    }

    #[test]
    fn packets_with_their_attachments_are_one_message_in_messagepack() {
        let frames = run(&[
            (Opcode::Text, br#"451-["hi",{"_placeholder":true,"num":0}]"#),
            (Opcode::Binary, &[0xff]),
            (Opcode::Text, b"41/a,"),
        ]);
        let packets =
            [&b"\x83\xa4type\x02\xa4data\x92\xa2hi\xc4\x01\xff\xa3nsp\xa1/"[..], &b"\x82\xa4type\x01\xa3nsp\xa2/a"[..]];
        assert_eq!(
            Dialect::MessagePack4.translate(&frames).expect("it can be said"),
            run(&packets.map(|packet| (Opcode::Binary, packet)))
        );
        assert_eq!(Dialect::MessagePack3.translate(&frames).ok(), Dialect::MessagePack4.translate(&frames).ok());
        assert_eq!(Dialect::Json3.translate(&frames).ok(), Some(frames));
    }

    #[test]
    fn each_translation_has_a_form_of_its_own() {
        for (number, dialect) in Dialect::OTHERS.into_iter().enumerate() {
            assert_eq!(dialect.form(), Some(number));
        }
        assert_eq!(Dialect::Json4.form(), None);
        assert_eq!(Dialect::OTHERS.len(), posthaste_adapter::Packet::FORMS);
    }
}
