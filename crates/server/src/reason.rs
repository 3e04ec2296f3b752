//! Why a socket left its namespace.

use std::fmt;

use posthaste_engine::CloseReason;

/// Why a socket left its namespace, in the official server's wording ([`DisconnectReason::as_str`]).
///
/// Source: `socket.io` 4.8, the `reason` of the `disconnect` event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DisconnectReason {
    /// [`Socket::disconnect`](crate::Socket::disconnect) was called.
    ServerNamespaceDisconnect,
    /// The client left the namespace.
    ClientNamespaceDisconnect,
    /// The server is shutting down.
    ServerShuttingDown,
    /// The client did not answer a ping in time.
    PingTimeout,
    /// The client closed its connection, or it was lost.
    TransportClose,
    /// The connection broke a rule of its transport.
    TransportError,
    /// The client sent something that is no Engine.IO packet.
    ParseError,
    /// The client sent something that is no Socket.IO packet, or one that it may not send.
    ForcedClose,
    /// The client joined no namespace in time.
    ForcedServerClose,
    /// The client reads too slowly; more was waiting for it than its outbox may hold.
    Slow,
    /// The client sent more in a short time than it may, and such are disconnected ([`Excess`](crate::Excess)).
    TooFast,
}

impl DisconnectReason {
    /// The official text.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ServerNamespaceDisconnect => "server namespace disconnect",
            Self::ClientNamespaceDisconnect => "client namespace disconnect",
            Self::ServerShuttingDown => "server shutting down",
            Self::PingTimeout => "ping timeout",
            Self::TransportClose => "transport close",
            Self::TransportError => "transport error",
            Self::ParseError => "parse error",
            Self::ForcedClose => "forced close",
            Self::ForcedServerClose => "forced server close",
            Self::Slow => "slow",
            Self::TooFast => "too fast",
        }
    }
}

impl DisconnectReason {
    /// Whether the connection was lost rather than ended on purpose: the client may come back as who it was.
    ///
    /// Source: `socket.io` 4.8, `RECOVERABLE_DISCONNECT_REASONS`, which knows neither [`DisconnectReason::Slow`] nor [`DisconnectReason::TooFast`].
    pub(crate) const fn is_recoverable(self) -> bool {
        match self {
            Self::TransportClose
            | Self::TransportError
            | Self::PingTimeout
            | Self::ForcedClose
            | Self::ForcedServerClose
            | Self::ServerShuttingDown
            | Self::Slow => true,
            Self::ServerNamespaceDisconnect | Self::ClientNamespaceDisconnect | Self::ParseError | Self::TooFast => {
                false
            }
        }
    }
}

impl From<CloseReason> for DisconnectReason {
    fn from(reason: CloseReason) -> Self {
        match reason {
            CloseReason::TransportError => Self::TransportError,
            CloseReason::TransportClose => Self::TransportClose,
            CloseReason::PingTimeout => Self::PingTimeout,
            CloseReason::ParseError => Self::ParseError,
            CloseReason::ServerShutdown => Self::ServerShuttingDown,
            CloseReason::Slow => Self::Slow,
            CloseReason::TooFast => Self::TooFast,
            CloseReason::ForcedServerClose => Self::ForcedServerClose,
            _ => Self::ForcedClose,
        }
    }
}

impl fmt::Display for DisconnectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
