//! The answer to a poll, in the making.

use crate::outbox::Outbox;
use crate::packet::PacketType;
use crate::payload;
use crate::payload_v3::{self, BodyV3};
use crate::query::Revision;
use crate::wire::Wire;

/// The body of an answer to a poll, to which packets are added; in the client's revision.
#[derive(Debug)]
pub struct PollBody {
    wire: Wire,
    /// Revision 4: the body so far. Revision 3: the frames for it, since its form depends on all of them.
    bytes: Vec<u8>,
    /// Whether something in it may be compressed.
    compressible: bool,
}

impl PollBody {
    /// An empty one, with room for about `capacity` bytes.
    #[must_use]
    pub fn new(wire: Wire, capacity: usize) -> Self {
        Self { wire, bytes: Vec::with_capacity(capacity), compressible: false }
    }

    /// Adds a run of complete, unmasked frames, as they wait for this client.
    ///
    /// # Panics
    /// When `frames` is not a run of whole data frames: they are this server's own.
    pub fn append(&mut self, frames: &[u8]) {
        match self.wire.revision() {
            Revision::V4 => payload::append_frames(&mut self.bytes, frames),
            Revision::V3 => self.bytes.extend_from_slice(frames),
        }
    }

    /// Moves everything that waits behind it.
    ///
    /// # Panics
    /// As [`Outbox::drain_into_payload`].
    pub fn drain(&mut self, outbox: &mut Outbox) {
        self.compressible |= outbox.is_compressible();
        match self.wire.revision() {
            Revision::V4 => outbox.drain_into_payload(&mut self.bytes),
            Revision::V3 => outbox.drain_into_frames(&mut self.bytes),
        }
    }

    /// Notes that something that was added may be compressed.
    pub fn mark_compressible(&mut self) {
        self.compressible = true;
    }

    /// Whether something in it may be compressed.
    #[must_use]
    pub const fn is_compressible(&self) -> bool {
        self.compressible
    }

    /// Adds a packet without data (`1`, `6`).
    pub fn control(&mut self, kind: PacketType) {
        match self.wire.revision() {
            Revision::V4 => payload::append_control(&mut self.bytes, kind),
            Revision::V3 => self.bytes.extend_from_slice(&payload_v3::control(kind)),
        }
    }

    /// The body, and whether it is binary, which it never is in revision 4.
    #[must_use]
    pub fn finish(self) -> (Vec<u8>, bool) {
        match self.wire.revision() {
            Revision::V4 => (self.bytes, false),
            Revision::V3 => {
                let BodyV3 { bytes, is_binary } = payload_v3::write(&self.bytes);
                (bytes, is_binary)
            }
        }
    }
}

/// The body of a POST, as its client means it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PostBody {
    /// Revision 4.
    V4(String),
    /// Revision 3, text.
    V3(String),
    /// Revision 3, binary.
    V3Binary(Vec<u8>),
}

/// What a POST says about its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PostForm {
    /// Text.
    Text,
    /// Bytes (`application/octet-stream`).
    Binary,
    /// A form with one field (JSONP).
    Form,
}

impl PostBody {
    /// Reads a body of that form. `None` when it is not what it claims to be, or nothing that clients of that revision send.
    #[must_use]
    pub fn read(wire: Wire, form: PostForm, body: Vec<u8>) -> Option<Self> {
        match (wire.revision(), form) {
            (Revision::V4, PostForm::Text) => String::from_utf8(body).ok().map(Self::V4),
            (Revision::V4, PostForm::Binary | PostForm::Form) => None,
            (Revision::V3, PostForm::Text) => String::from_utf8(body).ok().map(Self::V3),
            (Revision::V3, PostForm::Binary) => Some(Self::V3Binary(body)),
            (Revision::V3, PostForm::Form) => crate::jsonp::read_form(&body).map(Self::V3),
        }
    }

    /// Its length in bytes.
    #[must_use]
    pub const fn len(&self) -> usize {
        match self {
            Self::V4(text) | Self::V3(text) => text.len(),
            Self::V3Binary(bytes) => bytes.len(),
        }
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads its packets from byte `offset` on, which is where an earlier reading stopped; at most `max_packets` of them.
    #[must_use]
    pub fn packets(&self, offset: usize, max_packets: usize) -> PostPackets<'_> {
        match self {
            Self::V4(text) => PostPackets::V4(payload::split_text(&text[offset..], max_packets)),
            Self::V3(text) => PostPackets::V3(payload_v3::split_text(&text[offset..], max_packets)),
            Self::V3Binary(bytes) => PostPackets::V3(payload_v3::split_binary(&bytes[offset..], max_packets)),
        }
    }
}

/// The iterator of [`PostBody::packets`].
#[derive(Clone, Debug)]
pub enum PostPackets<'a> {
    /// Revision 4.
    V4(payload::PayloadPackets<'a>),
    /// Revision 3.
    V3(payload_v3::PacketsV3<'a>),
}

impl PostPackets<'_> {
    /// How many bytes are left to read; `None` at the end.
    #[must_use]
    pub fn rest(&self) -> Option<usize> {
        match self {
            Self::V4(packets) => packets.rest().map(str::len),
            Self::V3(packets) => packets.rest(),
        }
    }
}

impl<'a> Iterator for PostPackets<'a> {
    type Item = Result<crate::Packet<'a>, crate::PayloadError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::V4(packets) => packets.next(),
            Self::V3(packets) => packets.next(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OutboxLimits;
    use posthaste_websocket_proto::{Opcode, append_frame};

    #[test]
    fn what_waits_leaves_in_the_form_of_the_client() {
        let mut frames = Vec::new();
        append_frame(&mut frames, Opcode::Text, "4€".as_bytes());
        let limits = OutboxLimits { bytes: 100, packets: 9 };
        for (wire, expected) in [(Wire::V4, "4€\u{1e}4€\u{1e}6"), (Wire::V3, "2:4€2:4€1:6")] {
            let mut outbox = Outbox::default();
            outbox.push(&frames, 1, &limits).expect("room");
            let mut body = PollBody::new(wire, 16);
            body.drain(&mut outbox);
            body.append(&frames);
            body.control(PacketType::Noop);
            assert_eq!(body.finish(), (expected.into(), false));
            assert!(outbox.is_empty());
        }
    }

    #[test]
    fn a_post_is_what_its_form_and_revision_make_of_it() {
        use PostForm::{Binary, Form, Text};
        for (wire, form, body, expected) in [
            (Wire::V4, Text, "4a", Some(PostBody::V4("4a".into()))),
            (Wire::V4, Binary, "4a", None),
            (Wire::V4, Form, "d=4a", None),
            (Wire::V3, Text, "2:4a", Some(PostBody::V3("2:4a".into()))),
            (Wire::V3, Binary, "\u{1}", Some(PostBody::V3Binary(vec![1]))),
            (Wire::V3Base64, Form, "d=2%3A4a", Some(PostBody::V3("2:4a".into()))),
            (Wire::V3Base64, Form, "2:4a", None),
        ] {
            assert_eq!(PostBody::read(wire, form, body.into()), expected, "{wire:?} {form:?}");
        }
        assert_eq!(PostBody::read(Wire::V3, Text, vec![0xff]), None);
    }

    #[test]
    fn a_body_may_be_read_in_steps() {
        for body in [
            PostBody::V4("4a\u{1e}4b\u{1e}4c".into()),
            PostBody::V3("2:4a2:4b2:4c".into()),
            PostBody::V3Binary(b"\0\x02\xff4a\0\x02\xff4b\0\x02\xff4c".to_vec()),
        ] {
            let whole: Vec<_> = body.packets(0, 16).collect();
            let mut offset = Some(0);
            let mut steps = Vec::new();
            while let Some(at) = offset {
                let mut packets = body.packets(at, 16);
                steps.extend(packets.next());
                offset = packets.rest().map(|rest| body.len() - rest);
            }
            assert_eq!(steps, whole);
            assert_eq!(steps.len(), 3);
        }
    }
}
