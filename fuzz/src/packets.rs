//! Packets of Socket.IO with their attachments.

use bytes::Bytes;
use posthaste_socket_proto::{
    DecodeError, DecodeLimits, Decoder, Packet, encode_ack, encode_connect_error, encode_connect_request,
    encode_disconnect, encode_event, parse_json,
};
use serde_json::value::RawValue;

use crate::json::is_json;

/// Messages with 0xff between them, which occurs in no text; one that begins with 0xfe is an attachment.
pub(crate) const MESSAGES: &[&[u8]] = &[
    b"0",
    b"0/admin,{\"token\":\"x\"}",
    b"2[\"chat\",\"hi\",{\"n\":1}]\xff2/admin,13[\"e\"]\xff1/admin,\xff3/admin,13[1]",
    b"51-[\"hi\",{\"_placeholder\":true,\"num\":0}]\xff\xfeabc\xff2[\"x\"]",
    b"62-/admin,7[{\"_placeholder\":true,\"num\":1},{\"_placeholder\":true,\"num\":0}]\xff\xfe\xff\xfe12",
    b"4{\"message\":\"no\"}\xff4\"no\"\xff4",
    b"2\xff3\xff2/x?q=1,[7,\"x\"]\xff3/\xff2[\"\\u0063onnect\"]",
    b"2[\"connect_error\"]\xff2[\"newListener\"]\xff2[\"removeListener\"]\xff2[\"connector\"]",
    b"2[\"disconnect\"]\xff5-[]\xff50-[]\xff599999999999999999999-[]",
    b"2[\"\\ud800\"]\xff2[1e3]\xff2[null]\xff299999999999999999999[\"x\"]",
];

pub(crate) const WORDS: &[&[u8]] = &[
    b"{\"_placeholder\":true,\"num\":0}",
    b"{\"_placeholder\":true,\"num\":1}",
    b"_placeholder",
    b"\"num\":",
    b"true",
    b"null",
    b"51-",
    b"/admin,",
    b"[\"x\"",
    b"\\ud800",
    b"\\udbff\\udfff",
    b"\\u005f",
    b"\"connect\"",
    b"\"disconnecting\"",
    b"1e9",
    b"\xff",
    b"\xff\xfe",
    b"{\"a\":",
    b"[[",
    b"]]",
];

/// What happens to a socket, and so must not be said by a peer.
const RESERVED: [&str; 6] =
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

const LIMITS: DecodeLimits = DecodeLimits { max_attachments: 3, max_attachment_bytes: 40 };

/// Laws: a message is taken exactly if the protocol has it, and means the same however it is written; attachments come in when
/// they are awaited and at no other time; a mistake leaves nothing behind.
pub(crate) fn check(data: &[u8]) {
    let mut decoder = Decoder::default();
    // The attachments still awaited, and the bytes that they may have.
    let mut awaited: Option<(usize, usize)> = None;
    for message in data.split(|&byte| byte == 0xff) {
        let decoded = if let [0xfe, attachment @ ..] = message {
            let decoded = decoder.binary(Bytes::copy_from_slice(attachment), &LIMITS);
            awaited = match (awaited, &decoded) {
                (None, Err(DecodeError::UnexpectedBinary)) => None,
                (Some((_, left)), Err(DecodeError::AttachmentsTooLarge { .. })) if attachment.len() > left => None,
                (Some((1, _)), Ok(Some(_))) => None,
                (Some((count, left)), Ok(None)) if count > 1 => Some((count - 1, left - attachment.len())),
                other => panic!("{other:?}"),
            };
            decoded
        } else {
            let Ok(text) = std::str::from_utf8(message) else { return };
            let decoded = decoder.text(text, &LIMITS);
            if awaited.take().is_some() {
                assert!(matches!(decoded, Err(DecodeError::UnexpectedText)), "{decoded:?}");
            } else {
                let model = Model::read(text);
                assert_eq!(decoded.is_ok(), model.is_some(), "{text}: {decoded:?}");
                if let (Some(model), Ok(decoded)) = (model, &decoded) {
                    assert_eq!(decoded.is_none(), model.attachments > 0, "{text}");
                    awaited = decoded.is_none().then_some((model.attachments, LIMITS.max_attachment_bytes));
                    if let Some(packet) = decoded {
                        model.agrees_with(packet);
                    }
                }
            }
            decoded
        };
        let pending = decoder.pending_namespace();
        assert_eq!(pending.is_some(), awaited.is_some());
        if let Ok(Some(packet)) = decoded {
            rewritten(&packet);
        }
    }
}

/// What the protocol says about a text.
#[derive(Debug)]
struct Model<'a> {
    kind: char,
    attachments: usize,
    namespace: &'a str,
    id: Option<u64>,
    payload: &'a str,
}

impl<'a> Model<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let kind = text.chars().next().filter(|kind| ('0'..='6').contains(kind))?;
        let mut rest = &text[1..];
        let mut attachments = 0;
        if kind >= '5' {
            let (count, behind) = rest.split_once('-')?;
            attachments = count.parse().ok().filter(|count| (1..=LIMITS.max_attachments).contains(count))?;
            if count.contains('+') {
                return None;
            }
            rest = behind;
        }
        let mut namespace = "/";
        if rest.starts_with('/') {
            (namespace, rest) = rest.split_once(',').unwrap_or((rest, ""));
        }
        let payload = rest.trim_start_matches(|digit: char| digit.is_ascii_digit());
        let digits = &rest[..rest.len() - payload.len()];
        let id = if digits.is_empty() { None } else { Some(digits.parse().ok()?) };
        let model = Self { kind, attachments, namespace, id, payload };
        model.is_legal().then_some(model)
    }

    fn is_legal(&self) -> bool {
        let starts = |with: &[char]| self.payload.starts_with(with) && is_json(self.payload);
        let legal = match self.kind {
            '0' => self.payload.is_empty() || starts(&['{']),
            '1' => self.payload.is_empty(),
            '4' => self.payload.is_empty() || starts(&['{', '"']),
            '2' | '5' => {
                self.payload.is_empty()
                    || starts(&['[']) && self.name().is_some_and(|name| !RESERVED.contains(&name.as_str()))
            }
            _ => self.payload.is_empty() || self.id.is_some() && starts(&['[']),
        };
        legal && (self.attachments == 0 || self.placeholders_fit())
    }

    /// The event's name: the first element, a string or a number.
    fn name(&self) -> Option<String> {
        let args = posthaste_socket_proto::Args::decode(self.payload, Vec::new()).ok()?;
        let first = args.iter().next()?;
        match first.as_bytes()[0] {
            b'"' => parse_json(first).ok(),
            b'-' | b'0'..=b'9' => Some(first.to_owned()),
            _ => None,
        }
    }

    /// That is for another target to tell: here, whether the arguments' own reader takes as many.
    fn placeholders_fit(&self) -> bool {
        let attachments = vec![Bytes::new(); self.attachments];
        posthaste_socket_proto::Args::decode(self.payload, attachments).is_ok()
    }

    fn agrees_with(&self, packet: &Packet<'_>) {
        assert_eq!(packet.namespace(), self.namespace);
        let raw = |text: &Option<std::borrow::Cow<'_, str>>| text.as_deref().unwrap_or_default().to_owned();
        match (self.kind, packet) {
            ('0', Packet::Connect { auth, .. }) => assert_eq!(raw(auth), self.payload),
            ('4', Packet::ConnectError { data, .. }) => assert_eq!(raw(data), self.payload),
            ('1', Packet::Disconnect { .. }) => {}
            ('2', Packet::Event { id, event, .. }) => {
                assert_eq!((*id, Some(event.to_string())), (self.id, self.name()));
                assert!(!RESERVED.contains(&&**event));
            }
            ('3', Packet::Ack { id, .. }) => assert_eq!(Some(*id), self.id),
            ('2', Packet::Blank { .. }) => assert!(self.payload.is_empty()),
            ('3', Packet::Blank { .. }) => assert!(self.payload.is_empty() && self.id.is_none()),
            other => panic!("{other:?}"),
        }
    }
}

/// A packet as text, with its attachments. Refusals of ours have a message and data: theirs become the data.
pub(crate) fn text_of(packet: &Packet<'_>) -> Option<(String, Vec<Bytes>)> {
    let mut text = Vec::new();
    let raw = |text: &str| RawValue::from_string(text.trim_ascii().to_owned()).expect("it was JSON");
    let attachments = match packet {
        Packet::Connect { namespace, auth } => {
            encode_connect_request(&mut text, namespace, auth.as_deref().map(raw).as_deref());
            Vec::new()
        }
        Packet::Disconnect { namespace } => {
            encode_disconnect(&mut text, namespace);
            Vec::new()
        }
        Packet::Event { namespace, id, event, args } => {
            encode_event(&mut text, namespace, *id, event, args).expect("what came can be sent")
        }
        Packet::Ack { namespace, id, args } => {
            encode_ack(&mut text, namespace, *id, args).expect("what came can be sent")
        }
        Packet::ConnectError { namespace, data } => {
            encode_connect_error(&mut text, namespace, "\u{0}\"\\", data.as_deref().map(raw).as_deref());
            Vec::new()
        }
        Packet::Blank { .. } => return None,
    };
    Some((String::from_utf8(text).expect("text"), attachments))
}

/// Law: a packet written again is read as the same packet; one that says nothing cannot be written.
fn rewritten(packet: &Packet<'_>) {
    let Some((text, attachments)) = text_of(packet) else {
        return assert!(matches!(packet, Packet::Blank { .. }));
    };
    let mut decoder = Decoder::default();
    let mut again = decoder.text(&text, &LIMITS).expect("our own packet").map(Packet::into_owned);
    for attachment in attachments {
        again = decoder.binary(attachment, &LIMITS).expect("an attachment is awaited");
    }
    let mut again = again.unwrap_or_else(|| panic!("all there: {text}"));
    if matches!(packet, Packet::ConnectError { .. }) {
        return assert!(matches!(again, Packet::ConnectError { .. }), "{again:?}");
    }
    if let (Packet::Connect { auth: Some(again), .. }, Packet::Connect { auth: Some(auth), .. }) = (&mut again, packet)
    {
        // Blanks behind the value are not written again.
        assert_eq!(again.as_ref(), auth.trim_ascii());
        *again = auth.clone().into_owned().into();
    }
    assert_eq!(&again, packet);
}
