//! Connection state recovery: a client that comes back in time is who it was, and hears what it missed.
//!
//! ```text
//!   emit ─► Journal (one per namespace, one lock) ─┬─ position, offset behind the arguments, log
//!                                                  └─ mail to every worker, in the order of the log
//!   connection lost ─► left ─► Journal.park        rooms, values and position under the client's secret pid
//!   CONNECT with pid ─► Journal.attempt ─► Journal.claim ─► replay, in pages ─► CONNECT with the old id ─► live again
//! ```
//!
//! The rules are values of `posthaste-history`; here are the lock and the bounds that all namespaces share. The log's order is the
//! order of delivery on every worker because positions are given, and mail is posted, under that lock. So each worker's half of a
//! namespace knows one number, *applied*: everything up to it has been delivered here.

mod attempts;
mod away;
mod journal;
mod place;
mod shared;
mod wish;

use std::time::Duration;

pub(crate) use attempts::{Attempt, Earlier};
pub(crate) use away::Away;
pub(crate) use journal::{Claimed, Journal, Journals, Kept, Published, random};
pub(crate) use place::{OffsetText, Place};
pub(crate) use wish::{Wish, field, refuses_offsets, text};

/// How clients that lose their connection are recovered: [`Builder::recovery`](crate::Builder::recovery).
///
/// Kept in the memory of this process: a client that reaches another one, or the same one restarted, connects afresh. What is to outlive
/// the process is for [`Builder::durable`](crate::Builder::durable).
///
/// What was missed is sent before the answer that the client is back, as the official server does it. The official client keeps it until
/// then: one that is lost again in the middle of a long replay hears the first part of it twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// How long a client may stay away; 2 minutes by default.
    pub max_disconnection: Duration,
    /// Whether the namespace's middlewares are not asked again about a client that is recovered; true by default.
    pub skip_middlewares: bool,
    /// Bytes of events and of absent clients' sessions that are kept, all namespaces together; 64 MiB by default (Socket.IO
    /// has no bound). Past it the oldest events of all go first, then sessions.
    pub max_bytes: usize,
    /// The most events kept of one namespace; 10,000 by default (Socket.IO has no bound).
    pub max_events: usize,
    /// The most absent clients that may come back, all namespaces together; 100,000 by default (Socket.IO has no bound). Past it those
    /// who left first go, in the namespace that most are absent from.
    pub max_sessions: usize,
}

impl Default for Recovery {
    fn default() -> Self {
        Self {
            max_disconnection: Duration::from_secs(120),
            skip_middlewares: true,
            max_bytes: 64 << 20,
            max_events: 10_000,
            max_sessions: 100_000,
        }
    }
}
