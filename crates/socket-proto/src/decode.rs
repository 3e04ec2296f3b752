//! Reads the text of one packet.
//!
//! ```text
//! 5 2 - /admin , 13 ["hi",{"_placeholder":true,"num":0},…]
//! │ │   │        │  └ payload: validated in one pass, kept as text
//! │ │   │        └ ack id
//! │ │   └ namespace; main when absent
//! │ └ how many binary messages follow
//! └ type
//! ```
//!
//! Source: Socket.IO protocol v5, "Packet encoding".

use std::{borrow::Cow, num::IntErrorKind};

use crate::{
    args::Args,
    event::{self, EventName},
    json,
    msgpack::MsgpackError,
    packet::{MAIN_NAMESPACE, Packet},
    placeholder::{self, PlaceholderError},
};

/// How much one packet may ask of us. The length of a text is bounded by whoever received it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeLimits {
    /// Binary values of one packet; default 10, as in the reference decoder. A packet that declares more is refused.
    pub max_attachments: usize,
    /// Their size together, in bytes; default 1,000,000. They are kept in memory until the last one arrives.
    pub max_attachment_bytes: usize,
}

impl Default for DecodeLimits {
    fn default() -> Self {
        Self { max_attachments: 10, max_attachment_bytes: 1_000_000 }
    }
}

/// Why a message is not a packet. The sender is broken or hostile: its whole connection should close.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The message is empty.
    #[error("empty message")]
    Empty,
    /// The first character is not a digit from 0 to 6.
    #[error("unknown packet type {found:?}")]
    UnknownType {
        /// What stood in its place.
        found: char,
    },
    /// A text message came while attachments of an earlier packet were awaited.
    #[error("text while attachments are awaited")]
    UnexpectedText,
    /// A binary message came and no packet awaits attachments.
    #[error("binary message without a packet that awaits it")]
    UnexpectedBinary,
    /// A binary packet does not say how many attachments it has, or says zero.
    #[error("attachment count is not a positive number followed by a dash")]
    AttachmentCount,
    /// More attachments than [`DecodeLimits::max_attachments`] were declared.
    #[error("more than {max} attachments")]
    TooManyAttachments {
        /// The limit.
        max: usize,
    },
    /// The attachments together exceed [`DecodeLimits::max_attachment_bytes`].
    #[error("attachments of more than {max} bytes together")]
    AttachmentsTooLarge {
        /// The limit, in bytes.
        max: usize,
    },
    /// Placeholders and attachments do not match.
    #[error("placeholders and attachments do not match")]
    Placeholder(#[from] PlaceholderError),
    /// An ack id beyond 2^64 − 1.
    #[error("ack id is too large")]
    AckId,
    /// An ack that does not say which event it answers.
    #[error("ack without id")]
    MissingAckId,
    /// The payload is not JSON, or something follows it.
    #[error("payload is not JSON")]
    Json(#[from] serde_json::Error),
    /// The payload of a CONNECT is not an object, or that of a CONNECT_ERROR neither object nor string.
    #[error("payload is not an object")]
    NotAnObject,
    /// The payload of an event or ack is not an array.
    #[error("payload is not an array")]
    NotAnArray,
    /// A DISCONNECT carries a payload.
    #[error("disconnect with a payload")]
    DisconnectPayload,
    /// An event does not begin with a name, which is a string or a number.
    #[error("event name is neither a string nor a number")]
    EventName,
    /// An event has a name from [`RESERVED_EVENTS`](crate::RESERVED_EVENTS).
    #[error("event name {name:?} is reserved")]
    ReservedEvent {
        /// The name.
        name: &'static str,
    },
    /// A binary message is not a packet in MessagePack.
    #[error("not a packet in MessagePack")]
    Msgpack(#[from] MsgpackError),
}

/// What one text message amounts to.
#[derive(Debug)]
pub(crate) enum Decoded<'a> {
    Complete(Packet<'a>),
    /// An event or ack whose placeholders were checked against `attachments`, at least one, still to come.
    Awaiting {
        packet: Packet<'a>,
        attachments: usize,
    },
}

pub(crate) fn decode_text<'a>(text: &'a str, limits: &DecodeLimits) -> Result<Decoded<'a>, DecodeError> {
    let Head { kind, attachments, namespace, id, payload } = Head::split(text, limits.max_attachments)?;
    let packet = match kind {
        // An id on these is without meaning and, as in the reference decoder, without consequence.
        '0' => Packet::Connect { namespace, auth: object(payload)? },
        '1' if !payload.is_empty() => return Err(DecodeError::DisconnectPayload),
        '1' => Packet::Disconnect { namespace },
        '4' if payload.starts_with('"') => {
            json::check(payload)?;
            Packet::ConnectError { namespace, data: Some(Cow::Borrowed(payload)) }
        }
        '4' => Packet::ConnectError { namespace, data: object(payload)? },
        '2' | '5' => event(namespace, id, payload)?,
        _ => ack(namespace, id, payload)?,
    };
    if attachments == 0 {
        return Ok(Decoded::Complete(packet));
    }
    placeholder::check(payload, attachments)?;
    Ok(Decoded::Awaiting { packet, attachments })
}

/// The text of a packet, cut into its parts.
pub(crate) struct Head<'a> {
    /// A digit from 0 to 6.
    pub(crate) kind: char,
    pub(crate) attachments: usize,
    pub(crate) namespace: Cow<'a, str>,
    pub(crate) id: Option<u64>,
    /// What follows, unread; empty when nothing does.
    pub(crate) payload: &'a str,
}

impl<'a> Head<'a> {
    pub(crate) fn split(text: &'a str, max_attachments: usize) -> Result<Self, DecodeError> {
        let kind = text.chars().next().ok_or(DecodeError::Empty)?;
        if !matches!(kind, '0'..='6') {
            return Err(DecodeError::UnknownType { found: kind });
        }
        let mut rest = &text[1..];
        let mut attachments = 0;
        if matches!(kind, '5' | '6') {
            (attachments, rest) = attachment_count(rest, max_attachments)?;
        }
        let (namespace, rest) = namespace(rest);
        let (id, payload) = ack_id(rest)?;
        Ok(Self { kind, attachments, namespace, id, payload })
    }
}

fn attachment_count(text: &str, max: usize) -> Result<(usize, &str), DecodeError> {
    let (digits, rest) = split_digits(text);
    let rest = rest.strip_prefix('-').ok_or(DecodeError::AttachmentCount)?;
    let count = match digits.parse::<usize>() {
        Ok(count) => count,
        Err(error) if *error.kind() == IntErrorKind::PosOverflow => usize::MAX,
        Err(_) => return Err(DecodeError::AttachmentCount),
    };
    match count {
        // A packet that awaits nothing would wait for ever.
        0 => Err(DecodeError::AttachmentCount),
        _ if count > max => Err(DecodeError::TooManyAttachments { max }),
        _ => Ok((count, rest)),
    }
}

fn namespace(text: &str) -> (Cow<'_, str>, &str) {
    if !text.starts_with('/') {
        return (Cow::Borrowed(MAIN_NAMESPACE), text);
    }
    // A `?` is a character of the name: only clients of the second generation put a query behind it.
    let (name, rest) = text.split_once(',').unwrap_or((text, ""));
    (Cow::Borrowed(name), rest)
}

fn ack_id(text: &str) -> Result<(Option<u64>, &str), DecodeError> {
    let (digits, rest) = split_digits(text);
    if digits.is_empty() {
        return Ok((None, rest));
    }
    let id = digits.parse().map_err(|_| DecodeError::AckId)?;
    Ok((Some(id), rest))
}

fn split_digits(text: &str) -> (&str, &str) {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

fn object(payload: &str) -> Result<Option<Cow<'_, str>>, DecodeError> {
    if payload.is_empty() {
        return Ok(None);
    }
    if !payload.starts_with('{') {
        return Err(DecodeError::NotAnObject);
    }
    json::check(payload)?;
    Ok(Some(Cow::Borrowed(payload)))
}

fn event<'a>(namespace: Cow<'a, str>, id: Option<u64>, payload: &'a str) -> Result<Packet<'a>, DecodeError> {
    if payload.is_empty() {
        return Ok(Packet::Blank { namespace });
    }
    let array = array(payload)?;
    let event = event_name(array.first.ok_or(DecodeError::EventName)?)?;
    Ok(Packet::Event { namespace, id, event, args: Args::from_valid(array.rest) })
}

/// The event that a JSON value names, if it may be sent.
pub(crate) fn event_name(value: &str) -> Result<EventName<'_>, DecodeError> {
    let event = match value.as_bytes() {
        [b'"', ..] => json::unescape(value)?,
        [b'-' | b'0'..=b'9', ..] => Cow::Borrowed(value),
        _ => return Err(DecodeError::EventName),
    };
    match event::reserved(&event) {
        Some(name) => Err(DecodeError::ReservedEvent { name }),
        None => Ok(event),
    }
}

fn ack<'a>(namespace: Cow<'a, str>, id: Option<u64>, payload: &'a str) -> Result<Packet<'a>, DecodeError> {
    match (id, payload) {
        (None, "") => Ok(Packet::Blank { namespace }),
        (None, _) => Err(DecodeError::MissingAckId),
        (Some(id), "") => Ok(Packet::Ack { namespace, id, args: Args::default() }),
        (Some(id), _) => Ok(Packet::Ack { namespace, id, args: Args::from_valid(array(payload)?.elements) }),
    }
}

fn array(payload: &str) -> Result<json::ArrayText<'_>, DecodeError> {
    if !payload.starts_with('[') {
        return Err(DecodeError::NotAnArray);
    }
    Ok(json::check_array(payload)?)
}
