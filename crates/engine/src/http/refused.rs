//! Refused requests, for whoever wants to know.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use http::header::ORIGIN;
use http::request::Parts;
use http::{HeaderValue, Method};
use posthaste_engine_proto::error::BadRequest;
use posthaste_engine_proto::{Limit, RequestError, Revision, Transport};

/// A request or upgrade that the engine refused (`connection_error` in Socket.IO).
#[derive(Clone, Copy)]
pub struct ConnectionError<'a> {
    request: &'a Parts,
    error: &'a RequestError,
    reason: Option<&'a str>,
}

impl fmt::Debug for ConnectionError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the request: its URL may hold secrets.
        f.debug_struct("ConnectionError")
            .field("code", &self.code())
            .field("message", &self.message())
            .field("reason", &self.reason)
            .finish_non_exhaustive()
    }
}

/// What was wrong, with the facts of the case. The names of the official server's `context.name` are those of
/// [`ConnectionError::name`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorContext {
    /// The transport is missing, unknown or switched off.
    UnknownTransport {
        /// What was asked for.
        transport: Option<String>,
    },
    /// No session of that id here.
    UnknownSession {
        /// What was asked for; several are joined with a comma.
        sid: String,
    },
    /// A handshake that is not a GET.
    HandshakeMethod {
        /// Its method.
        method: Method,
    },
    /// The `Origin` header has characters no header may have.
    InvalidOrigin {
        /// The header.
        origin: HeaderValue,
    },
    /// The origin is none of those that are allowed.
    ForeignOrigin {
        /// The header; the first, if there are several.
        origin: HeaderValue,
    },
    /// The session runs on another transport.
    TransportMismatch {
        /// What was asked for.
        transport: Transport,
        /// The session's.
        previous: Transport,
    },
    /// The session speaks another revision of the protocol.
    ProtocolMismatch {
        /// What was asked for.
        revision: Revision,
        /// The session's.
        previous: Revision,
    },
    /// A limit on connections was passed, or memory is short.
    Busy {
        /// Which.
        limit: Limit,
    },
    /// The WebSocket handshake is none.
    TransportHandshake,
    /// A middleware refused.
    Middleware {
        /// Its reason, which the client is not told.
        reason: String,
    },
    /// The application's check refused.
    Forbidden {
        /// What the client was told.
        message: String,
    },
    /// The client speaks a revision of the protocol that this server does not.
    UnsupportedVersion {
        /// The client's.
        revision: Revision,
    },
    /// Something else, which the error itself tells.
    Other,
}

impl<'a> ConnectionError<'a> {
    /// The request.
    #[must_use]
    pub const fn request(&self) -> &'a Parts {
        self.request
    }

    /// Why it was refused.
    #[must_use]
    pub const fn error(&self) -> &'a RequestError {
        self.error
    }

    /// The protocol's code, 0–5; 6 for a server that is [busy](ErrorContext::Busy).
    #[must_use]
    pub const fn code(&self) -> u8 {
        self.error.code()
    }

    /// The protocol's text for the code.
    #[must_use]
    pub fn message(&self) -> Cow<'static, str> {
        match self.error {
            RequestError::Forbidden(_) | RequestError::ForeignOrigin => "Forbidden".into(),
            other => other.to_string().into(),
        }
    }

    /// The official server's name for what makes a request bad (`TRANSPORT_MISMATCH`, …).
    #[must_use]
    pub const fn name(&self) -> Option<&'static str> {
        match self.error {
            RequestError::BadRequest(what) => Some(what.name()),
            RequestError::ForeignOrigin => Some("FOREIGN_ORIGIN"),
            _ => None,
        }
    }

    /// What was wrong, with the facts of the case.
    #[must_use]
    pub fn context(&self) -> ErrorContext {
        let origin = || {
            let origin = self.request.headers.get(ORIGIN).cloned();
            origin.unwrap_or_else(|| HeaderValue::from_static(""))
        };
        match self.error {
            RequestError::UnknownTransport => ErrorContext::UnknownTransport { transport: self.query("transport") },
            RequestError::UnknownSid => ErrorContext::UnknownSession { sid: self.query("sid").unwrap_or_default() },
            RequestError::BadHandshakeMethod => ErrorContext::HandshakeMethod { method: self.request.method.clone() },
            RequestError::BadRequest(BadRequest::InvalidOrigin) => ErrorContext::InvalidOrigin { origin: origin() },
            RequestError::ForeignOrigin => ErrorContext::ForeignOrigin { origin: origin() },
            RequestError::BadRequest(BadRequest::TransportMismatch) => {
                // Of two transports it was the other; an upgrade where none is offered would leave polling as well.
                let (transport, previous) = match self.query("transport").as_deref() {
                    Some("polling") => (Transport::Polling, Transport::WebSocket),
                    _ => (Transport::WebSocket, Transport::Polling),
                };
                ErrorContext::TransportMismatch { transport, previous }
            }
            RequestError::BadRequest(BadRequest::ProtocolMismatch) => {
                let (revision, previous) = match self.revision() {
                    Revision::V4 => (Revision::V4, Revision::V3),
                    Revision::V3 => (Revision::V3, Revision::V4),
                };
                ErrorContext::ProtocolMismatch { revision, previous }
            }
            RequestError::BadRequest(BadRequest::TransportHandshake) => ErrorContext::TransportHandshake,
            RequestError::BadRequest(BadRequest::Middleware) => {
                ErrorContext::Middleware { reason: self.reason.unwrap_or_default().to_owned() }
            }
            RequestError::Forbidden(message) => ErrorContext::Forbidden { message: message.clone().into_owned() },
            RequestError::Busy(limit) => ErrorContext::Busy { limit: *limit },
            RequestError::UnsupportedVersion => ErrorContext::UnsupportedVersion { revision: self.revision() },
            _ => ErrorContext::Other,
        }
    }

    fn revision(&self) -> Revision {
        posthaste_engine_proto::Query::parse(self.request.uri.query().unwrap_or_default()).revision
    }

    /// A query parameter, decoded; several of one name are joined with a comma.
    fn query(&self, name: &str) -> Option<String> {
        let query = self.request.uri.query().unwrap_or_default();
        let values = form_urlencoded::parse(query.as_bytes()).filter(|(found, _)| found == name);
        values.map(|(_, value)| value.into_owned()).reduce(|all, next| format!("{all},{next}"))
    }
}

type Listen = Arc<dyn Fn(&ConnectionError<'_>) + Send + Sync>;

/// Those who are told of refused requests. Only a refusal looks at it.
#[derive(Default)]
pub(super) struct Listeners(RwLock<Vec<Listen>>);

impl Listeners {
    pub(super) fn add(&self, listen: Listen) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).push(listen);
    }

    pub(super) fn tell(&self, request: &Parts, error: &RequestError, reason: Option<&str>) {
        tracing::debug!(%error, code = error.code(), reason, path = request.uri.path(), "request refused");
        // Called outside of the lock: a listener may add another.
        let listeners = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        for listen in listeners {
            listen(&ConnectionError { request, error, reason });
        }
    }
}
