//! What a refused HTTP request is answered with: the one place that maps refusals to codes, texts and statuses.

use std::borrow::Cow;

use crate::limits::Limit;

/// A request that the engine refuses before any session is touched.
///
/// Source: `engine.io` 6.6, the server's error codes 0–5; 6 is this server's own.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// Code 0: `transport` is missing, unknown or switched off.
    #[error("Transport unknown")]
    UnknownTransport,
    /// Code 1: no session of that `sid` here.
    #[error("Session ID unknown")]
    UnknownSid,
    /// Code 2: a handshake that is not a GET.
    #[error("Bad handshake method")]
    BadHandshakeMethod,
    /// Code 3: the request contradicts itself or the session; the context says how.
    #[error("Bad request")]
    BadRequest(BadRequest),
    /// Code 4: the application's check refused; the text is the check's own, `Forbidden` by default.
    #[error("{0}")]
    Forbidden(Cow<'static, str>),
    /// Code 4: the origin that the request names is not allowed. Upgrades, too, are answered 403: the official server has no such
    /// check, and no answer of its own.
    #[error("Origin not allowed")]
    ForeignOrigin,
    /// Code 5: another protocol revision than this server speaks.
    #[error("Unsupported protocol version")]
    UnsupportedVersion,
    /// Code 6, which the official server does not have: a limit on connections was passed, or memory is short. Answered 503 with
    /// `Retry-After`, a WebSocket upgrade too.
    #[error("Server is busy")]
    Busy(Limit),
}

/// What makes a request bad (the official server's `context.name`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BadRequest {
    /// The `Origin` header has characters no header may have.
    InvalidOrigin,
    /// The session runs on another transport.
    TransportMismatch,
    /// The session speaks another protocol revision.
    ProtocolMismatch,
    /// `transport=websocket` in a request that is no WebSocket upgrade.
    TransportHandshake,
    /// A middleware of the application refused.
    Middleware,
}

impl BadRequest {
    /// The name the official server uses for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::InvalidOrigin => "INVALID_ORIGIN",
            Self::TransportMismatch => "TRANSPORT_MISMATCH",
            Self::ProtocolMismatch => "PROTOCOL_MISMATCH",
            Self::TransportHandshake => "TRANSPORT_HANDSHAKE_ERROR",
            Self::Middleware => "MIDDLEWARE_FAILURE",
        }
    }
}

impl RequestError {
    /// The numeric code, 0–6.
    #[must_use]
    pub const fn code(&self) -> u8 {
        match self {
            Self::UnknownTransport => 0,
            Self::UnknownSid => 1,
            Self::BadHandshakeMethod => 2,
            Self::BadRequest(_) => 3,
            Self::Forbidden(_) | Self::ForeignOrigin => 4,
            Self::UnsupportedVersion => 5,
            Self::Busy(_) => 6,
        }
    }

    /// The HTTP status of a plain request.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::Forbidden(_) | Self::ForeignOrigin => 403,
            Self::Busy(_) => 503,
            _ => 400,
        }
    }

    /// The HTTP status of a failed WebSocket upgrade: 400 whatever the code, but for a foreign origin and a
    /// server that is busy.
    #[must_use]
    pub const fn upgrade_status(&self) -> u16 {
        match self {
            Self::ForeignOrigin => 403,
            Self::Busy(_) => 503,
            _ => 400,
        }
    }

    /// The body of a refused plain request: JSON with exactly `code` and `message`.
    ///
    /// ```
    /// use posthaste_engine_proto::RequestError;
    /// assert_eq!(RequestError::UnknownSid.body(), r#"{"code":1,"message":"Session ID unknown"}"#);
    /// ```
    #[must_use]
    pub fn body(&self) -> String {
        let mut body = format!(r#"{{"code":{},"message":""#, self.code());
        for character in self.to_string().chars() {
            match character {
                '"' => body.push_str("\\\""),
                '\\' => body.push_str("\\\\"),
                control if u32::from(control) < 0x20 => body.push_str(&format!("\\u{:04x}", u32::from(control))),
                other => body.push(other),
            }
        }
        body.push_str("\"}");
        body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_messages_and_statuses_are_the_official_ones() {
        for (error, status, body) in [
            (RequestError::UnknownTransport, 400, r#"{"code":0,"message":"Transport unknown"}"#),
            (RequestError::UnknownSid, 400, r#"{"code":1,"message":"Session ID unknown"}"#),
            (RequestError::BadHandshakeMethod, 400, r#"{"code":2,"message":"Bad handshake method"}"#),
            (RequestError::BadRequest(BadRequest::InvalidOrigin), 400, r#"{"code":3,"message":"Bad request"}"#),
            (RequestError::Forbidden("Forbidden".into()), 403, r#"{"code":4,"message":"Forbidden"}"#),
            (RequestError::Forbidden("say \"please\"\n".into()), 403, r#"{"code":4,"message":"say \"please\"\u000a"}"#),
            (RequestError::ForeignOrigin, 403, r#"{"code":4,"message":"Origin not allowed"}"#),
            (RequestError::Busy(Limit::Memory), 503, r#"{"code":6,"message":"Server is busy"}"#),
            (RequestError::UnsupportedVersion, 400, r#"{"code":5,"message":"Unsupported protocol version"}"#),
        ] {
            assert_eq!((error.status(), error.body().as_str()), (status, body));
            let upgrade =
                if matches!(error, RequestError::ForeignOrigin | RequestError::Busy(_)) { status } else { 400 };
            assert_eq!(error.upgrade_status(), upgrade);
        }
    }
}
