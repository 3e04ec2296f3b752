//! Where the data is, and what it may take.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use posthaste_history::store::{Retention, Timestamp, WindowLimits};

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct Config {
    /// The data folder; made if it is not there. One process at a time.
    pub path: PathBuf,
    /// How much a stream keeps that was not told otherwise.
    pub retention: Retention,
    /// How long keys are remembered.
    pub window: WindowLimits,
    /// What was written without a sync is synced within this; default 100 ms.
    pub sync_interval: Duration,
    /// Messages are refused when the disk has less than this left; default 64 MiB. What frees space is still accepted.
    pub reserved_bytes: u64,
    /// Blocks of the disk that are kept in memory; default 16 MiB.
    pub cache_bytes: u64,
    /// What is gathered in memory before it becomes a table, for each of seven tables; default 16 MiB.
    pub memtable_bytes: u64,
    /// What is committed and not yet in tables: when there is more, tables are made of it; default 16 MiB. Of a store that keeps little
    /// it is less, down to a quarter. Starting after a kill reads it again.
    pub journal_bytes: u64,
    /// Bytes of commits and reads that may wait, for each shard; default 64 MiB. More is refused.
    pub max_waiting_bytes: usize,
    /// Streams of which is kept in memory, for each shard, where they end and begin; default 16,384, some 300 bytes each. Of the others
    /// it is looked up on the disk when something happens to them.
    pub hot_streams: usize,
    /// Tells one start of the system from another; the system's own by default.
    #[doc(hidden)]
    pub boot: Option<String>,
    /// Whether a queue is made by the first message that is put there, or by who takes messages from it; default true. Otherwise it is there
    /// once it is configured.
    pub makes_queues: bool,
    /// For tests: where messages of queues are is written down after so many groups, and a start has to go over no more; default 2,048.
    #[doc(hidden)]
    pub checkpoint_groups: u64,
    /// For tests: what time it is; by default the time of day, and time goes on when that is set back.
    #[doc(hidden)]
    pub clock: Clock,
}

/// What time it is.
#[doc(hidden)]
#[derive(Clone)]
pub enum Clock {
    /// The time of day, which may be set back: time goes on all the same.
    OfDay(Arc<dyn Fn() -> Timestamp + Send + Sync>),
    /// This and nothing else.
    Told(Arc<dyn Fn() -> Timestamp + Send + Sync>),
}

impl Default for Clock {
    fn default() -> Self {
        let since = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::OfDay(Arc::new(move || Timestamp(since().as_millis() as u64)))
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

impl Config {
    /// The defaults, for this folder.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            retention: Retention::default(),
            window: WindowLimits::default(),
            sync_interval: Duration::from_millis(100),
            reserved_bytes: 64 << 20,
            cache_bytes: 16 << 20,
            memtable_bytes: 16 << 20,
            journal_bytes: 16 << 20,
            max_waiting_bytes: 64 << 20,
            hot_streams: 16_384,
            boot: None,
            makes_queues: true,
            checkpoint_groups: 2_048,
            clock: Clock::default(),
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        let (Clock::OfDay(now) | Clock::Told(now)) = &self.clock;
        now()
    }

    pub(crate) fn boot(&self) -> String {
        let system = || std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        self.boot.clone().unwrap_or_else(system).trim().to_owned()
    }
}
