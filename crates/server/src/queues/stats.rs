//! What a queue has, as clients are shown it.

use posthaste_queue::Depth;
use serde::Serialize;

use super::now;

/// What a queue has, as `q:stats` and the HTTP API show it.
#[derive(Clone, Debug, Serialize)]
pub struct QueueStats {
    /// Messages that somebody may have.
    pub ready: u64,
    /// Messages that somebody has.
    pub leased: u64,
    /// Messages that will be ready later.
    pub delayed: u64,
    /// Messages that were given up.
    pub dead: u64,
    /// Of all but the dead.
    pub bytes: u64,
    /// How long the oldest that is ready has waited, in milliseconds.
    pub oldest: Option<u64>,
    /// Who takes messages.
    pub consumers: u64,
    /// Nothing is given out.
    pub paused: bool,
    /// Nothing is taken in.
    pub draining: bool,
}

impl From<Depth> for QueueStats {
    fn from(depth: Depth) -> Self {
        let Depth { ready, leased, delayed, dead, bytes, oldest, consumers, is_paused, is_draining } = depth;
        let oldest = oldest.map(|oldest| now().0.saturating_sub(oldest.0));
        Self { ready, leased, delayed, dead, bytes, oldest, consumers, paused: is_paused, draining: is_draining }
    }
}
