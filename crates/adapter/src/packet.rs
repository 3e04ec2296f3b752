//! An encoded event on its way to many sockets.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use posthaste_socket_proto::{EncodeError, encode_ack, encode_event_list};
use posthaste_websocket_proto::{FrameHeader, FrameStart, Opcode, append_frame};

use crate::event::RawEvent;

/// The digit of an Engine.IO message.
const MESSAGE: u8 = b'4';

/// One encoded event on its way to many sockets. Cloning it is a reference count.
///
/// It holds the complete WebSocket frames that local sockets are sent, and nothing else. An adapter that carries it to other
/// nodes finds the event in them again ([`Packet::event`]): nothing is kept for a carriage that may never happen, and nothing is
/// encoded twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    frames: Bytes,
    forms: Forms,
}

/// The same packet as other clients are sent it, each form made once. Absent unless there are such clients.
#[derive(Clone, Default)]
struct Forms(Option<Arc<[OnceLock<Option<Bytes>>; Packet::FORMS]>>);

impl Packet {
    /// A packet that is encoded already: `frames` is a run of complete, unmasked WebSocket frames, the text of one event behind
    /// the Engine.IO message digit and then its attachments.
    #[must_use]
    pub const fn from_frames(frames: Bytes) -> Self {
        Self { frames, forms: Forms(None) }
    }

    /// In how many other forms clients may be sent a packet.
    pub const FORMS: usize = 3;

    /// The packet, whose clones from now on share what [`Packet::form`] makes.
    #[must_use]
    pub fn sharing_forms(&self) -> Self {
        Self { frames: self.frames.clone(), forms: Forms(Some(Arc::default())) }
    }

    /// Whether its clones share what [`Packet::form`] makes.
    #[must_use]
    pub const fn shares_forms(&self) -> bool {
        self.forms.0.is_some()
    }

    /// The packet in another form, the `number`th: as it was made before by [`Packet::sharing_forms`]'s other clones, else as
    /// `make` makes it; `None` when it has no such form.
    pub fn form(&self, number: usize, make: impl FnOnce() -> Option<Bytes>) -> Option<Bytes> {
        match self.forms.0.as_ref().and_then(|forms| forms.get(number)) {
            Some(form) => form.get_or_init(make).clone(),
            None => make(),
        }
    }

    /// The packet of an event that another node told of, for sockets in `namespace`. With `id` they are asked for an answer.
    ///
    /// # Errors
    /// [`EncodeError`] when the arguments look like what they are not (placeholders).
    pub fn encode(namespace: &str, id: Option<u64>, event: &RawEvent) -> Result<Self, EncodeError> {
        let mut out = Vec::with_capacity(32 + namespace.len() + event.all().raw().len());
        let start = FrameStart::begin(&mut out, Opcode::Text);
        out.push(MESSAGE);
        match encode_event_list(&mut out, namespace, id, event.all()) {
            Ok(attachments) => {
                start.finish(&mut out);
                attachments.iter().for_each(|data| append_frame(&mut out, Opcode::Binary, data));
                Ok(Self::from_frames(out.into()))
            }
            Err(error) => {
                start.abandon(&mut out);
                Err(error)
            }
        }
    }

    /// The frames: the packet's text, then its attachments.
    #[must_use]
    pub const fn frames(&self) -> &Bytes {
        &self.frames
    }

    /// The event, found in the frames again. Its text is copied, its attachments are shared.
    #[must_use]
    pub fn event(&self) -> RawEvent {
        let (text, rest) = self.split();
        let array = std::str::from_utf8(&text[id_range(&text).end..]).expect("invariant: our own packets are UTF-8");
        let mut attachments = Vec::new();
        let mut rest = rest;
        while !rest.is_empty() {
            let frame = rest.split_to(frame_len(&rest));
            attachments.push(frame.slice(header_of(&frame).header_len..));
        }
        RawEvent::decode(array, attachments).expect("invariant: our own packets hold an event")
    }

    /// The same event with one more argument at its end, a text: how whoever logs events tells clients their offsets.
    ///
    /// Source: Socket.IO 4.6, connection state recovery: "the offset is added at the end of each packet".
    #[must_use]
    pub fn with_last_argument(&self, argument: &str) -> Self {
        let (text, rest) = self.split();
        let mut last = Vec::new();
        // An answer is an array, and its brackets are what is cut off: what is left is JSON text.
        encode_ack(&mut last, "/", 0, argument).expect("invariant: text is JSON");
        let quoted = &last[3..last.len() - 1];
        let mut out = Vec::with_capacity(self.frames.len() + quoted.len() + 10);
        let start = FrameStart::begin(&mut out, Opcode::Text);
        let open = text.strip_suffix(b"]").expect("invariant: our own packets end with their array");
        out.extend_from_slice(open);
        // There is a name before it, always.
        out.push(b',');
        out.extend_from_slice(quoted);
        out.push(b']');
        start.finish(&mut out);
        out.extend_from_slice(&rest);
        Self::from_frames(out.into())
    }

    /// What [`Packet::with_last_argument`] was called for: the same event without the text at its end.
    ///
    /// # Panics
    /// For an event that does not end with a text behind its name.
    #[must_use]
    pub fn without_last_argument(&self) -> Self {
        let (text, rest) = self.split();
        // Within a text a quote is escaped: one behind a comma is its beginning.
        let end =
            text.windows(2).rposition(|pair| pair == b",\"").expect("invariant: an event with an offset ends with it");
        let mut out = Vec::with_capacity(self.frames.len());
        let start = FrameStart::begin(&mut out, Opcode::Text);
        out.extend_from_slice(&text[..end]);
        out.push(b']');
        start.finish(&mut out);
        out.extend_from_slice(&rest);
        Self::from_frames(out.into())
    }

    /// The payload of the text frame, and the frames behind it.
    fn split(&self) -> (Bytes, Bytes) {
        let mut frames = self.frames.clone();
        let text = frames.split_to(frame_len(&frames));
        (text.slice(header_of(&text).header_len..), frames)
    }

    /// The id under which answers are asked for, if they are.
    #[must_use]
    pub fn ack_id(&self) -> Option<u64> {
        let (text, _) = self.split();
        std::str::from_utf8(&text[id_range(&text)]).ok()?.parse().ok()
    }
}

/// Forms say what the frames say.
impl PartialEq for Forms {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Forms {}

impl fmt::Debug for Forms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Shared" } else { "None" })
    }
}

fn header_of(frame: &[u8]) -> FrameHeader {
    let header = FrameHeader::parse(frame).ok().flatten();
    header.expect("invariant: a packet is a run of complete frames")
}

fn frame_len(frames: &[u8]) -> usize {
    usize::try_from(header_of(frames).frame_len()).expect("invariant: it is in memory")
}

/// Where a packet's id is, empty without one: `451-/namespace,12[…`. The array begins behind it. A namespace may hold anything
/// but a comma, brackets and digits too.
fn id_range(text: &[u8]) -> Range<usize> {
    let digits = |from: usize| text[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut at = 2;
    let count = digits(at);
    if text.get(at + count) == Some(&b'-') {
        at += count + 1;
    }
    if text.get(at) == Some(&b'/') {
        let comma = text[at..].iter().position(|byte| *byte == b',');
        at += comma.expect("invariant: a namespace ends with a comma") + 1;
    }
    at..at + digits(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use posthaste_socket_proto::EmitArgs;

    fn packet(namespace: &str, id: Option<u64>, name: &str, args: impl EmitArgs) -> Packet {
        let event = RawEvent::encode(name, &args).expect("it is JSON");
        Packet::encode(namespace, id, &event).expect("it can be sent")
    }

    fn text(packet: &Packet) -> String {
        String::from_utf8(packet.split().0.to_vec()).expect("text")
    }

    #[test]
    fn a_packet_is_what_a_client_receives() {
        let bytes = Bytes::from_static(b"xyz");
        for (packet, expected) in [
            (packet("/", None, "hi", ()), r#"42["hi"]"#),
            (packet("/chat", Some(12), "hi", (1, "a")), r#"42/chat,12["hi",1,"a"]"#),
            (packet("/", Some(7), "hi", &bytes), r#"451-7["hi",{"_placeholder":true,"num":0}]"#),
            (packet("/a[1]", None, "[", &bytes), r#"451-/a[1],["[",{"_placeholder":true,"num":0}]"#),
        ] {
            assert_eq!(text(&packet), expected);
        }
    }

    #[test]
    fn the_event_and_its_id_are_found_in_the_frames_again() {
        let long = "long ".repeat(30_000);
        let (bytes, more) = (Bytes::from(vec![0x81; 300]), Bytes::new());
        for namespace in ["/", "/chat", "/a[0]", "/5-", "/1", "/-"] {
            for id in [None, Some(0), Some(42), Some(u64::MAX)] {
                for name in ["hi", "[", "", "5-", long.as_str()] {
                    for event in [
                        RawEvent::encode(name, &()).expect("JSON"),
                        RawEvent::encode(name, &(1, "]")).expect("JSON"),
                        RawEvent::encode(name, &(&bytes, &more)).expect("JSON"),
                    ] {
                        let packet = Packet::encode(namespace, id, &event).expect("it can be sent");
                        assert_eq!(packet.event(), event);
                        assert_eq!(packet.ack_id(), id, "{namespace} {id:?} {}", text(&packet));
                    }
                }
            }
        }
    }

    #[test]
    fn clones_share_what_one_of_them_made() {
        let alone = packet("/", None, "hi", ());
        let shared = alone.sharing_forms();
        assert_eq!(alone, shared);
        let other = shared.clone();
        let form = Bytes::from_static(b"another form");
        assert_eq!(shared.form(1, || Some(form.clone())), Some(form.clone()));
        assert_eq!(other.form(1, || unreachable!("it was made")), Some(form.clone()));
        assert_eq!(other.form(2, || None), None);
        assert_eq!(shared.form(2, || unreachable!("there is none")), None);
        assert_eq!(alone.form(1, || None), None, "it shares with nobody");
    }

    #[test]
    fn an_offset_comes_behind_the_arguments_and_leaves_attachments_alone() {
        let bytes = Bytes::from_static(b"xyz");
        assert_eq!(text(&packet("/", None, "hi", ()).with_last_argument("a\"b")), r#"42["hi","a\"b"]"#);
        let long = packet("/", None, "hi", &("x".repeat(116), &bytes));
        let with = long.with_last_argument("offset");
        assert_eq!(with.event().args().deserialize::<(String, Bytes, String)>().expect("three").2, "offset");
        assert_eq!(with.event().attachments(), [bytes]);
        assert_eq!(long.event().args().iter().count(), 2, "the packet itself is as it was");
    }
}
