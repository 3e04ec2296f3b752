//! Writes packets, byte for byte as the reference server does.
//!
//! Everything is appended to a buffer that may already hold the framing of a transport. A packet is written as if it
//! had no attachments; only when it turns out to have some, the count is put in and the type changed:
//!
//! ```text
//! 2/admin,["hi",{"_placeholder":true,"num":0}]  ──►  51-/admin,["hi",{"_placeholder":true,"num":0}]
//! ```
//!
//! Source: Socket.IO protocol v5, "Packet encoding".

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::{
    args::Args,
    emit::{ArgsWriter, EmitArgs},
    event,
    packet::MAIN_NAMESPACE,
    placeholder::{self, PlaceholderError},
};

/// Why a packet could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The event has a name from [`RESERVED_EVENTS`](crate::RESERVED_EVENTS).
    #[error("event name {name:?} is reserved")]
    ReservedEvent {
        /// The name.
        name: &'static str,
    },
    /// An argument cannot be JSON: a map whose keys are not strings, or a type that refuses.
    #[error("arguments could not be written as JSON")]
    Json(#[from] serde_json::Error),
    /// Beside binary values, the arguments hold an object that receivers would take for a placeholder: data that
    /// somebody chose to look like one. Receivers would close their connection over it.
    #[error("arguments hold an object that looks like a placeholder")]
    Placeholder(#[from] PlaceholderError),
    /// Values deeper inside one another than receivers of MessagePack are sent.
    #[error("arguments are nested deeper than {max}")]
    TooDeep {
        /// The limit.
        max: usize,
    },
}

/// Writes the answer to a client that joined: its public id and, for recovery, its private one.
///
/// ```
/// let mut out = Vec::new();
/// posthaste_socket_proto::encode_connect(&mut out, "/admin", "x1", Some("p1"));
/// assert_eq!(out, br#"0/admin,{"sid":"x1","pid":"p1"}"#);
/// ```
pub fn encode_connect(out: &mut Vec<u8>, namespace: &str, sid: &str, pid: Option<&str>) {
    write_head(out, b'0', namespace, None);
    out.extend_from_slice(b"{\"sid\":");
    write_string(out, sid);
    if let Some(pid) = pid {
        out.extend_from_slice(b",\"pid\":");
        write_string(out, pid);
    }
    out.push(b'}');
}

/// Writes a client's wish to join a namespace, with its credentials, a JSON object.
pub fn encode_connect_request(out: &mut Vec<u8>, namespace: &str, auth: Option<&RawValue>) {
    write_head(out, b'0', namespace, None);
    if let Some(auth) = auth {
        out.extend_from_slice(auth.get().as_bytes());
    }
}

/// Writes the answer to a client that may not join.
///
/// ```
/// let mut out = Vec::new();
/// posthaste_socket_proto::encode_connect_error(&mut out, "/nope", "Invalid namespace", None);
/// assert_eq!(out, br#"4/nope,{"message":"Invalid namespace"}"#);
/// ```
pub fn encode_connect_error(out: &mut Vec<u8>, namespace: &str, message: &str, data: Option<&RawValue>) {
    write_head(out, b'4', namespace, None);
    out.extend_from_slice(b"{\"message\":");
    write_string(out, message);
    if let Some(data) = data {
        out.extend_from_slice(b",\"data\":");
        out.extend_from_slice(data.get().as_bytes());
    }
    out.push(b'}');
}

/// As [`encode_connect`], for a client of Socket.IO 1 or 2: it is told no ids.
pub fn encode_legacy_connect(out: &mut Vec<u8>, namespace: &str) {
    write_head(out, b'0', namespace, None);
}

/// As [`encode_connect_error`], for a client of Socket.IO 1 or 2: `data` alone if it is something (to JavaScript: `null`, `false`, `0`
/// and `""` are nothing), else `message`.
///
/// ```
/// use posthaste_socket_proto::encode_legacy_connect_error;
/// let mut out = Vec::new();
/// encode_legacy_connect_error(&mut out, "/admin", "not authorized", None);
/// assert_eq!(out, br#"4/admin,"not authorized""#);
/// ```
pub fn encode_legacy_connect_error(out: &mut Vec<u8>, namespace: &str, message: &str, data: Option<&RawValue>) {
    write_head(out, b'4', namespace, None);
    match data.map(RawValue::get).filter(|data| !["null", "false", "0", "\"\""].contains(data)) {
        Some(data) => out.extend_from_slice(data.as_bytes()),
        None => write_string(out, message),
    }
}

/// Writes that this side leaves a namespace.
pub fn encode_disconnect(out: &mut Vec<u8>, namespace: &str) {
    write_head(out, b'1', namespace, None);
}

/// Writes an event and returns its attachments, to be sent behind it as binary messages in this order.
///
/// With `id` the receiver is asked for an answer. `namespace` starts with a slash and holds no comma. Reference
/// receivers refuse more than 10 attachments.
///
/// # Errors
/// [`EncodeError`]; `out` is then as it was.
///
/// ```
/// use bytes::Bytes;
/// use posthaste_socket_proto::encode_event;
///
/// let mut out = Vec::new();
/// let attachments = encode_event(&mut out, "/admin", Some(13), "hi", &("x", Bytes::from_static(&[1, 2])))?;
/// assert_eq!(out, br#"51-/admin,13["hi","x",{"_placeholder":true,"num":0}]"#);
/// assert_eq!(attachments, [Bytes::from_static(&[1, 2])]);
/// # Ok::<(), posthaste_socket_proto::EncodeError>(())
/// ```
pub fn encode_event<A: EmitArgs + ?Sized>(
    out: &mut Vec<u8>,
    namespace: &str,
    id: Option<u64>,
    event: &str,
    args: &A,
) -> Result<Vec<Bytes>, EncodeError> {
    if let Some(name) = event::reserved(event) {
        return Err(EncodeError::ReservedEvent { name });
    }
    write_array(out, Kind::Event, namespace, id, Some(event), args)
}

/// Writes an event that another server told of: `event` is its name and then its arguments. Returns the attachments, as
/// [`encode_event`] does; the name may be any.
///
/// # Errors
/// [`EncodeError`]; `out` is then as it was.
///
/// ```
/// use posthaste_socket_proto::{Args, encode_event_list};
///
/// let mut out = Vec::new();
/// encode_event_list(&mut out, "/", Some(1), &Args::decode(r#"["hi",2]"#, Vec::new())?)?;
/// assert_eq!(out, br#"21["hi",2]"#);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn encode_event_list(
    out: &mut Vec<u8>,
    namespace: &str,
    id: Option<u64>,
    event: &Args<'_>,
) -> Result<Vec<Bytes>, EncodeError> {
    write_array(out, Kind::Event, namespace, id, None, event)
}

/// Writes the answer to an event and returns its attachments, to be sent behind it as binary messages in this order.
///
/// # Errors
/// [`EncodeError`]; `out` is then as it was.
///
/// ```
/// let mut out = Vec::new();
/// posthaste_socket_proto::encode_ack(&mut out, "/", 0, "ok")?;
/// assert_eq!(out, br#"30["ok"]"#);
/// # Ok::<(), posthaste_socket_proto::EncodeError>(())
/// ```
pub fn encode_ack<A: EmitArgs + ?Sized>(
    out: &mut Vec<u8>,
    namespace: &str,
    id: u64,
    args: &A,
) -> Result<Vec<Bytes>, EncodeError> {
    write_array(out, Kind::Ack, namespace, Some(id), None, args)
}

/// The packets that may have attachments.
#[derive(Clone, Copy)]
enum Kind {
    Event,
    Ack,
}

impl Kind {
    fn digit(self, binary: bool) -> u8 {
        match (self, binary) {
            (Self::Event, false) => b'2',
            (Self::Ack, false) => b'3',
            (Self::Event, true) => b'5',
            (Self::Ack, true) => b'6',
        }
    }
}

fn write_array<A: EmitArgs + ?Sized>(
    out: &mut Vec<u8>,
    kind: Kind,
    namespace: &str,
    id: Option<u64>,
    event: Option<&str>,
    args: &A,
) -> Result<Vec<Bytes>, EncodeError> {
    let start = out.len();
    write_head(out, kind.digit(false), namespace, id);
    let array = out.len();
    out.push(b'[');
    if let Some(event) = event {
        write_string(out, event);
    }
    let mut writer = ArgsWriter::new(out, event.is_some());
    let written = args.emit(&mut writer).map(|()| writer.into_attachments());
    out.push(b']');

    let finished = written.and_then(|attachments| {
        if !attachments.is_empty() {
            let text = str::from_utf8(&out[array..]).expect("invariant: serde_json writes UTF-8");
            placeholder::check(text, attachments.len())?;
            out[start] = kind.digit(true);
            let mut count = itoa::Buffer::new();
            let count = count.format(attachments.len()).bytes().chain([b'-']);
            out.splice(start + 1..start + 1, count);
        }
        Ok(attachments)
    });
    if finished.is_err() {
        out.truncate(start);
    }
    finished
}

fn write_head(out: &mut Vec<u8>, digit: u8, namespace: &str, id: Option<u64>) {
    debug_assert!(namespace.starts_with('/') && !namespace.contains(','), "not a namespace: {namespace:?}");
    out.push(digit);
    if namespace != MAIN_NAMESPACE {
        out.extend_from_slice(namespace.as_bytes());
        out.push(b',');
    }
    if let Some(id) = id {
        out.extend_from_slice(itoa::Buffer::new().format(id).as_bytes());
    }
}

fn write_string(out: &mut Vec<u8>, text: &str) {
    text.serialize(&mut serde_json::Serializer::new(out)).expect("invariant: writing text to memory cannot fail");
}
