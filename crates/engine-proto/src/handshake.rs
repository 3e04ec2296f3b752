//! The opening exchange: transports and the open packet.

use std::fmt;
use std::time::Duration;

use crate::Sid;

/// A way to carry packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// HTTP long-polling: a parked GET brings packets, POSTs take them.
    Polling,
    /// One WebSocket frame per packet.
    WebSocket,
}

impl Transport {
    /// The name on the wire (`polling`, `websocket`).
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Polling => "polling",
            Self::WebSocket => "websocket",
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which transports a server offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransportSet {
    /// HTTP long-polling.
    pub polling: bool,
    /// WebSocket.
    pub websocket: bool,
}

impl TransportSet {
    /// Polling and WebSocket, the default.
    pub const ALL: Self = Self { polling: true, websocket: true };

    /// Whether `transport` is offered.
    #[must_use]
    pub const fn contains(self, transport: Transport) -> bool {
        match transport {
            Transport::Polling => self.polling,
            Transport::WebSocket => self.websocket,
        }
    }
}

impl Default for TransportSet {
    fn default() -> Self {
        Self::ALL
    }
}

/// What the server tells a client about its new session.
///
/// Source: Engine.IO protocol v4, "Handshake".
#[derive(Clone, Copy, Debug)]
pub struct OpenPacket {
    /// The session's secret id.
    pub sid: Sid,
    /// Whether the client may upgrade to a WebSocket (false on a WebSocket handshake).
    pub upgrade: bool,
    /// Time between two pings.
    pub ping_interval: Duration,
    /// How long the server waits for a pong.
    pub ping_timeout: Duration,
    /// The largest polling body or WebSocket message the server takes, in bytes.
    pub max_payload: usize,
}

impl OpenPacket {
    /// Appends the packet, type digit included, keys in the official order.
    ///
    /// ```
    /// use posthaste_engine_proto::{OpenPacket, Sid};
    /// use std::time::Duration;
    /// let mut wire = Vec::new();
    /// let packet = OpenPacket {
    ///     sid: Sid::from_bytes([0; 15]),
    ///     upgrade: true,
    ///     ping_interval: Duration::from_secs(25),
    ///     ping_timeout: Duration::from_secs(20),
    ///     max_payload: 1_000_000,
    /// };
    /// packet.encode(&mut wire);
    /// let expected = r#"0{"sid":"AAAAAAAAAAAAAAAAAAAA","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#;
    /// assert_eq!(wire, expected.as_bytes());
    /// ```
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(br#"0{"sid":""#);
        out.extend_from_slice(self.sid.to_text().as_str().as_bytes());
        out.extend_from_slice(br#"","upgrades":["#);
        if self.upgrade {
            out.extend_from_slice(br#""websocket""#);
        }
        let mut digits = itoa::Buffer::new();
        out.extend_from_slice(br#"],"pingInterval":"#);
        out.extend_from_slice(digits.format(self.ping_interval.as_millis()).as_bytes());
        out.extend_from_slice(br#","pingTimeout":"#);
        out.extend_from_slice(digits.format(self.ping_timeout.as_millis()).as_bytes());
        out.extend_from_slice(br#","maxPayload":"#);
        out.extend_from_slice(digits.format(self.max_payload).as_bytes());
        out.push(b'}');
    }
}
