//! Why a session ended.

use std::fmt;

/// Why an Engine.IO session ended, in the official server's wording.
///
/// Source: `socket.io` 4.8, the `reason` of the engine's `close` event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// The transport broke a rule or failed: bad frames, two polls at once, a body cut off.
    TransportError,
    /// The peer closed the transport.
    TransportClose,
    /// The application closed the session.
    ForcedClose,
    /// The application closed the session and its transport could not be closed at once: no poll was there to be answered.
    ForcedServerClose,
    /// No pong came in time.
    PingTimeout,
    /// The peer sent a packet that is none.
    ParseError,
    /// The server is shutting down.
    ServerShutdown,
    /// The peer reads too slowly: its outbox reached its bound.
    Slow,
    /// The peer sent more in a short time than it may, and is not let go on.
    TooFast,
}

impl CloseReason {
    /// The reason's text, as applications see it (`transport error`, `ping timeout`, …).
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TransportError => "transport error",
            Self::TransportClose => "transport close",
            Self::ForcedClose => "forced close",
            Self::ForcedServerClose => "forced server close",
            Self::PingTimeout => "ping timeout",
            Self::ParseError => "parse error",
            Self::ServerShutdown => "server shutting down",
            Self::Slow => "slow",
            Self::TooFast => "too fast",
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
