//! What one queue allows.

use serde::{Deserialize, Serialize};

/// What one queue allows. Each of its numbers has bounds: [`Config::check`].
///
/// Its form in files and over HTTP is an object with these names; what is left out has its default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// A lease lasts so long unless the consumer says otherwise, in milliseconds; default 30 s.
    pub lease_ms: u64,
    /// A lease ends so long after it was given, however often it was touched; default 1 h.
    pub max_lease_ms: u64,
    /// A message is dead when it has failed so often; default 5, `u32::MAX` for never.
    pub attempts: u32,
    /// How long it rests after a failure.
    pub backoff: Backoff,
    /// It counts as a failure when a message came back so often without a word (its worker was lost, its lease ran out); default 3.
    pub crash_limit: u32,
    /// So many of a key at a time; default 1.
    pub key_concurrency: u32,
    /// What becomes of the other messages of a key when one is dead.
    pub on_exhausted: OnExhausted,
    /// Not more than so many leased at a time; `None` as many as consumers take.
    pub concurrency: Option<u32>,
    /// Not more than so many leases in a time.
    pub rate: Option<Rate>,
    /// The same for each key.
    pub key_rate: Option<Rate>,
    /// Not more messages than this in all states but dead; default 10 million.
    pub max_messages: u64,
    /// Not more bytes than this ([`Put::cost`](crate::Put::cost)); default 8 GiB.
    pub max_bytes: u64,
    /// What happens to one too many.
    pub overflow: Overflow,
    /// A message expires so long after it was put, unless it says otherwise; `None` never.
    pub ttl_ms: Option<u64>,
    /// A dead message is removed after so long; default 14 days.
    pub dead_ttl_ms: u64,
    /// Not more dead messages than this: the oldest is removed; default 100,000.
    pub max_dead: u64,
    /// A dead message is put into this queue as well, in the same step, with its payload, headers, key and priority. Not if that queue is
    /// full or drained, or is not there and may not be made: the message is dead here all the same.
    pub dead_letter: Option<crate::QueueName>,
    /// How long a key of [`Dedup`](crate::Dedup) is remembered; default 5 min.
    pub dedup_window_ms: u64,
    /// Not more keys than this: the oldest is forgotten first; default 1 million.
    pub max_dedup_keys: u64,
    /// How long results are kept; default 0, not at all.
    pub keep_results_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            lease_ms: 30_000,
            max_lease_ms: 3_600_000,
            attempts: 5,
            backoff: Backoff::Exponential { first_ms: 1_000, max_ms: 600_000, jitter: 0.2 },
            crash_limit: 3,
            key_concurrency: 1,
            on_exhausted: OnExhausted::Skip,
            concurrency: None,
            rate: None,
            key_rate: None,
            max_messages: 10_000_000,
            max_bytes: 8 << 30,
            overflow: Overflow::Reject,
            ttl_ms: None,
            dead_ttl_ms: 14 * 24 * 3_600_000,
            max_dead: 100_000,
            dead_letter: None,
            dedup_window_ms: 300_000,
            max_dedup_keys: 1_000_000,
            keep_results_ms: 0,
        }
    }
}

/// How long a message rests after a failure, in milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backoff {
    /// Not at all.
    None,
    /// Always as long.
    Fixed {
        /// So long.
        ms: u64,
    },
    /// Longer by as much each time.
    Linear {
        /// After the first failure, and more after each.
        step_ms: u64,
        /// Not longer than this.
        max_ms: u64,
    },
    /// Twice as long each time.
    Exponential {
        /// After the first failure.
        first_ms: u64,
        /// Not longer than this.
        max_ms: u64,
        /// By this part longer or shorter, by chance: 0 to 1.
        jitter: f64,
    },
    /// As listed; the last one for all that follow. At least one, at most 100.
    List(Vec<u64>),
}

/// What becomes of the other messages of a key when one is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnExhausted {
    /// They are worked on.
    Skip,
    /// They wait until the dead one is redriven or removed.
    Block,
}

/// What happens to a message that is one too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overflow {
    /// It is [refused](crate::Refusal::Full).
    Reject,
    /// The oldest that is ready or delayed is removed for it.
    DropOldest,
    /// The oldest that is ready or delayed is dead.
    DeadLetterOldest,
}

/// So many in a time, and so many at once after a rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// So many …
    pub count: u32,
    /// … in so many milliseconds.
    pub per_ms: u64,
    /// So many at once; at least 1.
    pub burst: u32,
}
