//! What clients may ask for, as rules: who is let in, how often, and who goes when memory ends.
//!
//! ```text
//!   handshake ─► Admission ─► in, or which Limit was passed      (total, per address, per second, memory)
//!   event     ─► TokenBucket ─► taken, or not                     (so many per second, a few more at once)
//!   memory    ─► MemoryWatermark ─► Pressure ─► slowest ─► whom to end
//! ```
//!
//! Nothing here reads a clock, an address or a meter: those come in as values. A [`Limit`] names each bound that a client can
//! run into, in counters and metrics alike.

mod admission;
mod bucket;
mod memory;

pub use admission::{Admission, AdmissionLimits, Peer};
pub use bucket::{Rate, TokenBucket};
pub use memory::{MemoryWatermark, Pressure, slowest};

use std::fmt;

/// Whether limits are enforced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LimitMode {
    /// What is too much is refused.
    #[default]
    Enforce,
    /// What is too much is counted and let through: to find out what a limit would do. Bounds that keep memory safe (sizes of
    /// messages, attachments, namespaces, awaited answers, what waits for a client, the time to join) are enforced all the same.
    Observe,
}

/// A bound that a client ran into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Limit {
    /// As many connections as the server takes.
    Connections,
    /// As many connections as one address may have.
    ConnectionsPerIp,
    /// As many new connections as the server takes in a second.
    ConnectionRate,
    /// No new connections while memory is short.
    Memory,
    /// Ended, because memory was short and it read slowly.
    Shed,
    /// A polling body or a WebSocket message that is too large.
    Payload,
    /// More packets than one polling body may hold.
    PayloadPackets,
    /// More fragments than one WebSocket message may come in.
    Fragments,
    /// Attachments: too many, too large, or too late.
    Attachments,
    /// No namespace joined in time.
    ConnectTimeout,
    /// More namespaces than a client may be in, or a name that is too long.
    Namespaces,
    /// More rooms than a socket may be in.
    Rooms,
    /// More answers than a socket may owe.
    PendingAcks,
    /// More waits for a client than its outbox may hold: it reads too slowly.
    Outbox,
    /// More events than a client may send in a second.
    Events,
    /// More joins than a client may ask for in a second.
    Joins,
}

impl Limit {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::Connections,
        Self::ConnectionsPerIp,
        Self::ConnectionRate,
        Self::Memory,
        Self::Shed,
        Self::Payload,
        Self::PayloadPackets,
        Self::Fragments,
        Self::Attachments,
        Self::ConnectTimeout,
        Self::Namespaces,
        Self::Rooms,
        Self::PendingAcks,
        Self::Outbox,
        Self::Events,
        Self::Joins,
    ];

    /// Its name in counters and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::ConnectionsPerIp => "connections_per_ip",
            Self::ConnectionRate => "connection_rate",
            Self::Memory => "memory",
            Self::Shed => "shed",
            Self::Payload => "payload",
            Self::PayloadPackets => "payload_packets",
            Self::Fragments => "fragments",
            Self::Attachments => "attachments",
            Self::ConnectTimeout => "connect_timeout",
            Self::Namespaces => "namespaces",
            Self::Rooms => "rooms",
            Self::PendingAcks => "pending_acks",
            Self::Outbox => "outbox",
            Self::Events => "events",
            Self::Joins => "joins",
        }
    }

    /// Its place in [`Limit::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_has_its_place_and_a_name_of_its_own() {
        let mut names = std::collections::HashSet::new();
        for (index, limit) in Limit::ALL.into_iter().enumerate() {
            assert_eq!(limit.index(), index);
            assert!(names.insert(limit.to_string()), "{limit} twice");
        }
    }
}
