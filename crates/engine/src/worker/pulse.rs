//! Whether a worker keeps up: how long its turns take, seen from outside.
//!
//! ```text
//!   worker   turn begins ─► handler ─► handler (too long) ─► turn ends: counted
//!   watch         looks ·  ·  ·  ·  ·  ·  ▲ overdue         └► whoever finds the mark when it is done says its name
//! ```
//!
//! A worker reads the clock twice a turn, which is far too little to know which of a turn's many handlers took so long; to read
//! it around each would cost as much as some of them take. So a thread that sleeps most of the time looks at all workers, and marks
//! one whose turn goes on for long: then, and only then, the ends of handlers are looked at.

use std::sync::Weak;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A turn that takes longer than this is a stall: something kept the worker from its other connections.
pub(super) const STALL: Duration = Duration::from_millis(100);
/// From when on it is asked what a turn is doing.
const SUSPICIOUS: Duration = Duration::from_millis(45);
/// How often the watch looks: between suspicion and stall it does at least once.
const LOOK: Duration = Duration::from_millis(50);
/// What takes longer than this is reported while it goes on: it may never end.
const STUCK: Duration = Duration::from_secs(2);

/// How one worker has kept up. A worker takes turns: it reads what came, calls handlers up to their next await, and writes. While a
/// turn goes on, none of its other connections is served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerStalls {
    /// The worker's number.
    pub worker: u16,
    /// How many turns took more than 100 ms. Each is in the log too, with the event whose handler was to blame where that is known.
    pub stalls: u64,
    /// The longest turn so far.
    pub longest_turn: Duration,
    /// How long the turn that it is in has been going on; `None` between turns.
    pub turn: Option<Duration>,
}

/// A worker's turns. It writes two numbers each; others only read, and leave a mark.
pub(crate) struct Pulse {
    epoch: Instant,
    /// Nanoseconds since the epoch at which the turn began; 0 between turns.
    began: AtomicU64,
    /// The same of the part of the turn that it is in, as far as is known: parts are told apart only when it takes long.
    part: AtomicU64,
    stalls: AtomicU64,
    longest: AtomicU64,
    /// The watch's mark.
    overdue: AtomicBool,
    /// Whether the stall of this turn was reported with a name.
    blamed: AtomicBool,
}

impl Pulse {
    pub(super) fn new() -> Self {
        Self {
            epoch: Instant::now(),
            began: AtomicU64::new(0),
            part: AtomicU64::new(0),
            stalls: AtomicU64::new(0),
            longest: AtomicU64::new(0),
            overdue: AtomicBool::new(false),
            blamed: AtomicBool::new(false),
        }
    }

    fn since_epoch(&self, at: Instant) -> u64 {
        nanoseconds(at.saturating_duration_since(self.epoch)).max(1)
    }

    /// A turn begins.
    pub(super) fn begin(&self, now: Instant) {
        let now = self.since_epoch(now);
        self.part.store(now, Ordering::Relaxed);
        self.began.store(now, Ordering::Relaxed);
    }

    /// A turn that took so long has ended. Returns whether it was a stall that nobody was blamed for.
    pub(super) fn end(&self, taken: Duration) -> bool {
        self.began.store(0, Ordering::Relaxed);
        let nanoseconds = nanoseconds(taken);
        if nanoseconds > self.longest.load(Ordering::Relaxed) {
            self.longest.store(nanoseconds, Ordering::Relaxed);
        }
        if self.overdue.load(Ordering::Relaxed) {
            self.overdue.store(false, Ordering::Relaxed);
        }
        let blamed = self.blamed.load(Ordering::Relaxed) && self.blamed.swap(false, Ordering::Relaxed);
        if taken <= STALL {
            return false;
        }
        self.stalls.fetch_add(1, Ordering::Relaxed);
        !blamed
    }

    /// For whoever has just done a part of a turn: how long that has taken, if it was a stall by itself.
    pub(super) fn blame(&self) -> Option<Duration> {
        // Nearly always this is all.
        if !self.overdue.load(Ordering::Relaxed) { None } else { self.blame_now() }
    }

    #[cold]
    fn blame_now(&self) -> Option<Duration> {
        let now = Instant::now();
        let taken = self.part(now)?;
        self.part.store(self.since_epoch(now), Ordering::Relaxed);
        self.overdue.store(false, Ordering::Relaxed);
        if taken <= STALL {
            return None;
        }
        self.blamed.store(true, Ordering::Relaxed);
        Some(taken)
    }

    /// How long the turn has been going on.
    fn turn(&self, now: Instant) -> Option<Duration> {
        let began = self.began.load(Ordering::Relaxed);
        (began != 0).then(|| Duration::from_nanos(self.since_epoch(now).saturating_sub(began)))
    }

    /// How long the turn has been at what it is doing.
    fn part(&self, now: Instant) -> Option<Duration> {
        let part = self.part.load(Ordering::Relaxed);
        self.turn(now).map(|_| Duration::from_nanos(self.since_epoch(now).saturating_sub(part)))
    }

    pub(super) fn stalls(&self, worker: u16) -> WorkerStalls {
        let turn = self.turn(Instant::now());
        let longest = Duration::from_nanos(self.longest.load(Ordering::Relaxed));
        WorkerStalls {
            worker,
            stalls: self.stalls.load(Ordering::Relaxed),
            // The one that goes on counts, too.
            longest_turn: longest.max(turn.unwrap_or_default()),
            turn,
        }
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Looks at workers now and then, until they are gone. Runs on a thread of its own: a worker cannot notice that it does not.
pub(super) fn watch(workers: &[Weak<super::mailbox::Mailbox>], end: &std::sync::mpsc::Receiver<()>) {
    // Of each worker, when that began which was reported as stuck.
    let mut stuck = vec![0; workers.len()];
    while end.recv_timeout(LOOK) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
        let now = Instant::now();
        for (worker, reported) in workers.iter().zip(&mut stuck) {
            let Some(mailbox) = worker.upgrade() else { continue };
            let pulse = &mailbox.pulse;
            let Some(taken) = pulse.part(now) else { continue };
            if taken > SUSPICIOUS {
                pulse.overdue.store(true, Ordering::Relaxed);
            }
            let part = pulse.part.load(Ordering::Relaxed);
            if taken > STUCK && *reported != part {
                *reported = part;
                tracing::warn!(
                    worker = mailbox.index,
                    seconds = taken.as_secs(),
                    "worker stuck: a handler keeps it from all its connections, and may never return"
                );
            }
        }
    }
}
