//! What is said on a connection, whatever carries it: open, join, heartbeat.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use posthaste_engine_proto::PacketType;
use posthaste_socket_proto::encode_connect_request;
use posthaste_websocket_proto::{AcceptKey, Limits, accept_key};
use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};

use super::News;
use crate::failure::Failure;

/// The largest message or response taken from a server, in bytes.
const LARGEST_MESSAGE: usize = 16 << 20;

/// What all connections of a run have in common.
#[derive(Debug)]
pub(crate) struct Dialect {
    /// `/socket.io/?EIO=4&transport=`
    pub(super) path: String,
    /// `Host` and what the user adds, each line with its end.
    pub(super) headers: String,
    /// `""` for the main namespace, else `/name,`.
    pub(super) prefix: String,
    /// The CONNECT packet, Engine.IO's digit included.
    pub(super) join: Vec<u8>,
    namespace: String,
    auth: serde_json::Map<String, serde_json::Value>,
    /// One for the run and not for each connection: it proves that the server is one, and nothing else is at stake.
    pub(super) key: String,
    accept: AcceptKey,
    pub(super) limits: Limits,
}

impl Dialect {
    /// # Errors
    /// What is wrong with the user's path, namespace or headers.
    pub(crate) fn new(
        authority: &str,
        path: &str,
        namespace: &str,
        auth: Option<&RawValue>,
        headers: &[(String, String)],
        nonce: [u8; 16],
    ) -> Result<Self, String> {
        let odd = |text: &str| text.chars().any(|it| it.is_control() || it == ' ');
        if !path.starts_with('/') || odd(path) || path.contains(['?', '#']) {
            return Err(format!("{path:?} is not a path such as /socket.io/"));
        }
        if !namespace.starts_with('/') || namespace.contains(',') || odd(namespace) {
            return Err(format!("{namespace:?} is not a namespace such as / or /chat"));
        }
        let named = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host"));
        let mut lines = if named { String::new() } else { format!("Host: {authority}\r\n") };
        for (name, value) in headers {
            let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            if name.is_empty() || !name.bytes().all(token) || value.chars().any(char::is_control) {
                return Err(format!("{name:?}: {value:?} is not a header"));
            }
            lines += &format!("{name}: {value}\r\n");
        }
        let mut join = b"4".to_vec();
        encode_connect_request(&mut join, namespace, auth);
        let key = STANDARD.encode(nonce);
        Ok(Self {
            path: format!("{path}?EIO=4&transport="),
            headers: lines,
            prefix: if namespace == "/" { String::new() } else { format!("{namespace},") },
            join,
            namespace: namespace.to_owned(),
            auth: auth.and_then(|auth| serde_json::from_str(auth.get()).ok()).unwrap_or_default(),
            accept: accept_key(&key),
            key,
            limits: Limits { max_message_bytes: LARGEST_MESSAGE, ..Limits::default() },
        })
    }

    /// The CONNECT packet of a client that was there before, Engine.IO's digit included.
    pub(crate) fn rejoin(&self, session: &Session) -> Box<[u8]> {
        let mut auth = self.auth.clone();
        auth.insert("pid".into(), session.pid.as_str().into());
        auth.insert("offset".into(), session.offset.as_str().into());
        let auth = to_raw_value(&auth).expect("invariant: a map of texts is JSON");
        let mut join = b"4".to_vec();
        encode_connect_request(&mut join, &self.namespace, Some(&auth));
        join.into()
    }

    /// What the server has to answer to the key.
    pub(crate) fn accept(&self) -> &str {
        self.accept.as_str()
    }
}

/// What a client shows to be recovered: who it was, and what it heard last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) pid: String,
    pub(crate) offset: String,
}

/// How far a connection has come.
#[derive(Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Opening,
    Joining,
    Ready,
}

#[derive(Debug, Default)]
pub(super) struct Dialogue {
    stage: Stage,
    /// Its own CONNECT packet, if it has one.
    join: Option<Box<[u8]>>,
}

/// What a packet meant.
#[derive(Debug)]
pub(super) enum Heard<'a> {
    Nothing,
    /// The session is open; the namespace is to be joined.
    Open {
        sid: String,
        join: Option<Box<[u8]>>,
    },
    Ping,
    /// The namespace is joined; with what the server says to that.
    Ready(Cow<'a, str>),
    Packet(Cow<'a, str>),
}

impl<'a> Heard<'a> {
    /// Hands the answer that is due to `send`.
    pub(super) fn answer(&self, dialect: &Dialect, send: impl FnOnce(&[u8])) {
        match self {
            Self::Open { join, .. } => send(join.as_deref().unwrap_or(&dialect.join)),
            Self::Ping => send(b"3"),
            _ => {}
        }
    }

    pub(super) fn news(self) -> News<'a> {
        match self {
            Self::Nothing | Self::Open { .. } => News::None,
            Self::Ping => News::Ping,
            Self::Ready(reply) => News::Ready(reply),
            Self::Packet(text) => News::Packet(text),
        }
    }
}

/// What of the open packet matters here.
#[derive(Deserialize)]
struct Open {
    sid: String,
}

#[derive(Deserialize)]
struct ConnectError {
    message: String,
}

impl Dialogue {
    /// One that joins with a packet of its own.
    pub(super) fn joining(join: Option<Box<[u8]>>) -> Self {
        Self { stage: Stage::Opening, join }
    }

    /// # Errors
    /// What ends the connection.
    pub(super) fn hear<'a>(&mut self, text: Cow<'a, str>, dialect: &Dialect) -> Result<Heard<'a>, Failure> {
        let odd = |text: &str| {
            Failure::Protocol(format!("a packet that begins with {:?}", Failure::excerpt(text.as_bytes())))
        };
        let kind = text.bytes().next().and_then(PacketType::from_digit).ok_or_else(|| odd(&text))?;
        match kind {
            PacketType::Message => self.message(text, dialect),
            PacketType::Ping => Ok(Heard::Ping),
            PacketType::Open if self.stage == Stage::Opening => {
                let open: Open = serde_json::from_str(&text[1..]).map_err(|_| odd(&text))?;
                if open.sid.is_empty() || open.sid.chars().any(|it| it.is_control() || " &#".contains(it)) {
                    return Err(odd(&text));
                }
                self.stage = Stage::Joining;
                Ok(Heard::Open { sid: open.sid, join: self.join.take() })
            }
            PacketType::Close => Err(Failure::Disconnected),
            PacketType::Noop | PacketType::Pong => Ok(Heard::Nothing),
            PacketType::Open | PacketType::Upgrade => Err(odd(&text)),
        }
    }

    fn message<'a>(&mut self, text: Cow<'a, str>, dialect: &Dialect) -> Result<Heard<'a>, Failure> {
        let kind = text.as_bytes().get(1).copied();
        match kind {
            Some(b'2' | b'3' | b'5' | b'6') => Ok(Heard::Packet(behind(text, 1))),
            Some(b'0') if self.stage == Stage::Joining && text[2..].starts_with(&dialect.prefix) => {
                self.stage = Stage::Ready;
                Ok(Heard::Ready(behind(text, 2 + dialect.prefix.len())))
            }
            Some(b'4') => {
                let data = text[2..].strip_prefix(dialect.prefix.as_str()).unwrap_or(&text[2..]);
                let reason = serde_json::from_str(data).map(|it: ConnectError| it.message);
                Err(Failure::Refused(Failure::excerpt(reason.as_deref().unwrap_or(data).as_bytes())))
            }
            Some(b'1') => Err(Failure::Disconnected),
            _ => Err(Failure::Protocol(format!("a message that begins with {:?}", Failure::excerpt(text.as_bytes())))),
        }
    }
}

/// `text` without its first `bytes`.
fn behind(text: Cow<'_, str>, bytes: usize) -> Cow<'_, str> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(&text[bytes..]),
        Cow::Owned(mut text) => {
            text.drain(..bytes);
            Cow::Owned(text)
        }
    }
}
