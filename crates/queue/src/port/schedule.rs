//! Schedules: what is put again and again, and when.

use std::sync::Arc;

use posthaste_history::store::Timestamp;
use serde::{Deserialize, Serialize};

use crate::port::command::{MessageId, Put};

/// The name of a schedule: as [that of a queue](crate::name_is_good).
pub type ScheduleName = Arc<str>;

/// What is put again and again.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// When.
    pub when: When,
    /// What becomes of times that passed while nobody could put anything.
    pub missed: Missed,
    /// What is put each time, without [`Put::due`] and [`Put::expires`]. Without a [`Put::dedup`] it has one of its own,
    /// [`Schedule::key`], so that stores that several processes share put it once.
    pub put: Put,
    /// Nobody needs a message so long after it was put, in milliseconds.
    pub ttl_ms: Option<u64>,
}

/// When a schedule puts its message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// As a clock on a wall shows it.
    Cron {
        /// Minute, hour, day of the month, month, day of the week, with the second before them or not; or `@hourly`, `@daily`, `@weekly`,
        /// `@monthly`, `@yearly`. At most [`Schedule::MAX_EXPRESSION`] bytes.
        expression: Arc<str>,
        /// Where that clock hangs, by its name in the IANA time zone database: `Europe/Berlin`.
        zone: Arc<str>,
    },
    /// After so many milliseconds each, counted from the beginning of 1970: the same on every node, and whenever it was told.
    Every {
        /// [`Schedule::MIN_EVERY_MS`] to [`Schedule::MAX_EVERY_MS`].
        ms: u64,
    },
}

/// What becomes of times that passed while nobody could put anything: the process was down, the clock jumped, the queue was full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Missed {
    /// What is more than [`Schedule::GRACE_MS`] late is left out.
    Skip,
    /// One message, for the last of them.
    #[default]
    Once,
    /// One for each of them, of the last `max`.
    All {
        /// 1 to [`Schedule::MAX_CATCH_UP`].
        max: u32,
    },
}

impl Schedule {
    /// The most schedules.
    pub const MAX_COUNT: usize = 10_000;
    /// Longest payload with headers, in bytes.
    pub const MAX_PAYLOAD: usize = 64 * 1_024;
    /// What all schedules may take in memory, in bytes.
    pub const MAX_BYTES: u64 = 64 << 20;
    /// Longest cron expression, in bytes.
    pub const MAX_EXPRESSION: usize = 200;
    /// Shortest interval, in milliseconds.
    pub const MIN_EVERY_MS: u64 = 1_000;
    /// Longest interval, in milliseconds: 366 days.
    pub const MAX_EVERY_MS: u64 = 366 * 24 * 3_600_000;
    /// The most times that are [caught up on](Missed::All).
    pub const MAX_CATCH_UP: u32 = 1_000;
    /// What is later than this was missed, for [`Missed::Skip`]; in milliseconds.
    pub const GRACE_MS: u64 = 60_000;
    /// When something refuses what is to be put, it is tried again so long after, in milliseconds.
    pub const RETRY_MS: u64 = 1_000;

    /// The key under which what is due at a time is put, wherever that is done.
    ///
    /// ```
    /// use posthaste_queue::Schedule;
    /// assert_eq!(&*Schedule::key("nightly", posthaste_history::store::Timestamp(60_000)), "schedule/nightly/60000");
    /// ```
    #[must_use]
    pub fn key(name: &str, time: Timestamp) -> Arc<str> {
        format!("schedule/{name}/{}", time.0).into()
    }
}

/// A schedule, and how far it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Scheduled {
    /// What it was told.
    pub schedule: Arc<Schedule>,
    /// Nothing is put. Times that pass meanwhile are no missed ones.
    pub is_paused: bool,
    /// The first time that was not seen to; of one that is paused, it means nothing.
    pub next: Timestamp,
    /// When it put something last.
    pub last: Option<Fired>,
    /// How often it has put something.
    pub count: u64,
    /// The [code](crate::Refusal::code) of what keeps it from putting what is due. Not stored.
    pub problem: Option<&'static str>,
}

/// Something that was put because it was time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fired {
    /// The time it was due.
    pub time: Timestamp,
    /// When it was put.
    pub at: Timestamp,
    /// The message.
    pub id: MessageId,
}
