//! The engine's settings, checked once.

use std::time::Duration;

use posthaste_engine_proto::{AdmissionLimits, LimitMode, MemoryWatermark, OutboxLimits, Settings, TransportSet};

use crate::compression::{Deflate, HttpCompression};
use crate::cors::Cors;
use crate::http::{Cookie, Hooks, Origins};
use crate::worker::Frames;

/// Settings of one [`Engine`](crate::Engine). The defaults are Socket.IO's where it has one.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EngineConfig {
    /// Where the engine answers; `/socket.io` by default. One trailing slash is ignored.
    pub path: String,
    /// Whether requests must have a slash behind the path; true by default.
    pub add_trailing_slash: bool,
    /// Heartbeat and upgrade timing.
    pub settings: Settings,
    /// The transports on offer; both by default.
    pub transports: TransportSet,
    /// Whether polling sessions may upgrade to a WebSocket; true by default.
    pub allow_upgrades: bool,
    /// Whether clients of revision 3 of the protocol (Socket.IO 1 and 2, JSONP among them) are served; false by default. A request
    /// that names no revision, or another than 4, is then one of revision 3.
    pub allow_eio3: bool,
    /// The largest polling body or WebSocket message taken from a client, in bytes; 1,000,000 by default.
    pub max_payload: usize,
    /// The same before the application has [vouched](crate::Worker::vouch) for the connection: before its client has joined a
    /// namespace. By default there is no smaller bound, as in Socket.IO.
    pub max_payload_unjoined: Option<usize>,
    /// The most packets taken from one polling body; 65,536 by default (Socket.IO has no bound).
    pub max_payload_packets: usize,
    /// The most fragments of one WebSocket message; 16,384 by default.
    pub max_fragments: usize,
    /// What may wait for one client; 8 MiB and 65,536 packets by default (Socket.IO has no bound). A client past it is
    /// disconnected with the reason `slow`.
    pub outbox: OutboxLimits,
    /// How many handlers of one connection may be unfinished before the worker stops reading from it; 256 by default.
    pub max_handlers: usize,
    /// How many connections are taken, and how fast; without limits by default, as in Socket.IO. Whoever is too much gets a 503
    /// with a `Retry-After` between 1 and 10 seconds.
    pub admission: AdmissionLimits,
    /// What happens when memory becomes short; nothing by default. Memory is looked at once a second, and on Linux only.
    pub memory: Option<MemoryWatermark>,
    /// Whether `admission` and `memory` are enforced or only counted; enforced by default.
    pub limit_mode: LimitMode,
    /// Compressed messages of WebSockets; none by default, as in Socket.IO. See [`Deflate`].
    pub per_message_deflate: Option<Deflate>,
    /// Compressed answers of polling, for clients that ask for them; from 1,024 bytes by default, as in Socket.IO.
    pub http_compression: Option<HttpCompression>,
    /// Cross-origin answers; none by default.
    pub cors: Option<Cors>,
    /// The origins that are served, on every transport; all by default.
    pub origins: Option<Origins>,
    /// A cookie with the session id, set by polling handshakes; none by default.
    pub cookie: Option<Cookie>,
    /// A message that each client is sent right behind its open packet; none by default. For applications of the engine alone:
    /// above Socket.IO a client would take it for a broken packet.
    pub initial_message: Option<Frames>,
    /// Middlewares, the check of handshakes, and headers of answers; none by default.
    pub hooks: Hooks,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            path: "/socket.io".to_owned(),
            add_trailing_slash: true,
            settings: Settings::default(),
            transports: TransportSet::ALL,
            allow_upgrades: true,
            allow_eio3: false,
            max_payload: 1_000_000,
            max_payload_unjoined: None,
            max_payload_packets: 65_536,
            max_fragments: 16_384,
            outbox: OutboxLimits { bytes: 8 << 20, packets: 65_536 },
            max_handlers: 256,
            admission: AdmissionLimits::default(),
            memory: None,
            limit_mode: LimitMode::Enforce,
            per_message_deflate: None,
            http_compression: Some(HttpCompression::default()),
            cors: None,
            origins: None,
            cookie: None,
            initial_message: None,
            hooks: Hooks::default(),
        }
    }
}

/// A setting that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The path does not start with `/`, or has a query.
    #[error("the path {path:?} must start with \"/\" and hold no \"?\" or \"#\"")]
    Path {
        /// What was given.
        path: String,
    },
    /// A bound or a time of zero.
    #[error("{what} must be more than zero")]
    Zero {
        /// The setting's name.
        what: &'static str,
    },
    /// A number that is too small or too large.
    #[error("{what} must be from {least} to {most}, not {value}")]
    OutOfRange {
        /// The setting's name.
        what: &'static str,
        /// What was given.
        value: u8,
        /// The smallest that can be.
        least: u8,
        /// The largest.
        most: u8,
    },
    /// No transport is left.
    #[error("at least one transport must be offered")]
    NoTransport,
}

impl EngineConfig {
    /// Checks the settings and brings the path into the form that requests are compared with.
    ///
    /// # Errors
    /// [`ConfigError`] names the first setting that cannot be.
    pub(crate) fn checked(mut self) -> Result<Self, ConfigError> {
        if !self.path.starts_with('/') || self.path.contains(['?', '#']) {
            return Err(ConfigError::Path { path: self.path });
        }
        if let Some(bare) = self.path.strip_suffix('/') {
            self.path = bare.to_owned();
        }
        if self.add_trailing_slash {
            self.path.push('/');
        }
        let zero = [
            ("ping_interval", self.settings.ping_interval == Duration::ZERO),
            ("ping_timeout", self.settings.ping_timeout == Duration::ZERO),
            ("upgrade_timeout", self.settings.upgrade_timeout == Duration::ZERO),
            ("max_payload", self.max_payload == 0),
            ("max_payload_unjoined", self.max_payload_unjoined == Some(0)),
            ("max_payload_packets", self.max_payload_packets == 0),
            ("max_fragments", self.max_fragments == 0),
            ("outbox.bytes", self.outbox.bytes == 0),
            ("outbox.packets", self.outbox.packets == 0),
            ("max_handlers", self.max_handlers == 0),
            ("admission.connections", self.admission.connections == Some(0)),
            ("admission.per_ip", self.admission.per_ip == Some(0)),
            ("admission.rate", self.admission.rate.is_some_and(posthaste_engine_proto::Rate::is_zero)),
            ("memory.limit", self.memory.is_some_and(|memory| memory.limit == Some(0))),
        ];
        if let Some((what, _)) = zero.into_iter().find(|(_, is_zero)| *is_zero) {
            return Err(ConfigError::Zero { what });
        }
        self.per_message_deflate.as_ref().map_or(Ok(()), Deflate::check)?;
        self.http_compression.as_ref().map_or(Ok(()), HttpCompression::check)?;
        if !self.transports.polling && !self.transports.websocket {
            return Err(ConfigError::NoTransport);
        }
        Ok(self)
    }

    /// The largest message of a client, in bytes; `vouched` says whether the application has vouched for it.
    pub(crate) fn payload_of(&self, vouched: bool) -> usize {
        match self.max_payload_unjoined {
            Some(unjoined) if !vouched => unjoined.min(self.max_payload),
            _ => self.max_payload,
        }
    }

    /// Whether a polling client is told that it may upgrade.
    pub(crate) const fn offers_upgrade(&self) -> bool {
        self.allow_upgrades && self.transports.websocket
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_gets_exactly_one_slash_unless_told_otherwise() {
        for (path, slash, expected) in [
            ("/socket.io", true, "/socket.io/"),
            ("/socket.io/", true, "/socket.io/"),
            ("/socket.io/", false, "/socket.io"),
            ("/", true, "/"),
        ] {
            let config = EngineConfig { path: path.to_owned(), add_trailing_slash: slash, ..Default::default() };
            assert_eq!(config.checked().expect("a good path").path, expected);
        }
    }

    #[test]
    fn settings_that_cannot_be_are_named() {
        let path = EngineConfig { path: "chat".to_owned(), ..Default::default() };
        assert_eq!(path.checked().err(), Some(ConfigError::Path { path: "chat".to_owned() }));
        let none = TransportSet { polling: false, websocket: false };
        assert_eq!(
            EngineConfig { transports: none, ..Default::default() }.checked().err(),
            Some(ConfigError::NoTransport)
        );
        let deflate =
            |deflate| EngineConfig { per_message_deflate: Some(deflate), ..Default::default() }.checked().err();
        let server = deflate(Deflate { server_max_window_bits: 8, ..Deflate::default() });
        let what = "per_message_deflate.server_max_window_bits";
        assert_eq!(server, Some(ConfigError::OutOfRange { what, value: 8, least: 9, most: 15 }));
        assert!(deflate(Deflate { client_max_window_bits: 16, ..Deflate::default() }).is_some());
        assert!(deflate(Deflate { level: 0, ..Deflate::default() }).is_some());
        assert!(deflate(Deflate { client_max_window_bits: 8, ..Deflate::default() }).is_none());
        let zero = EngineConfig { max_payload: 0, ..Default::default() };
        assert_eq!(zero.checked().err(), Some(ConfigError::Zero { what: "max_payload" }));
    }
}
