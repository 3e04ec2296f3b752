//! What queues are asked.

use std::sync::Arc;

use bytes::Bytes;
use posthaste_history::store::{Durability, Timestamp};

use crate::port::config::{Backoff, Config};
use crate::port::schedule::{Schedule, ScheduleName};

/// The name of a queue: see [`name_is_good`].
pub type QueueName = Arc<str>;

/// A message's number: no other message of these queues has or had it. Later ones are greater.
pub type MessageId = u64;

/// What a lease is known by. Not above 2^53, so that JavaScript can carry it; no other lease of these queues has or had it.
pub type Token = u64;

/// Who takes messages: a number that the caller chooses and does not use again.
pub type ConsumerId = u64;

/// Whether a queue may have this name: 1 to 200 bytes of ASCII letters, digits and `. _ - : /`.
///
/// ```
/// assert!(posthaste_queue::name_is_good("emails:welcome"));
/// assert!(!posthaste_queue::name_is_good("") && !posthaste_queue::name_is_good("two words"));
/// ```
#[must_use]
pub fn name_is_good(name: &str) -> bool {
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:/".contains(&byte);
    (1..=200).contains(&name.len()) && name.bytes().all(is_good)
}

/// Something to be done.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Command {
    /// Stores messages: all or none. Answered by [`Outcome::Put`](crate::Outcome::Put).
    Put(Vec<Put>),
    /// Takes messages from now on, as they come: [`Effect::Granted`](crate::Effect::Granted). Answered by
    /// [`Outcome::Done`](crate::Outcome::Done), before the first of them.
    Consume(Consume),
    /// Extends what a consumer has, as far as it may; it is alive. Refused for none.
    TouchAll(ConsumerId),
    /// Nothing more is given to a consumer for now; what it has it keeps.
    Hold(ConsumerId),
    /// A consumer that was held takes messages again.
    Unhold(ConsumerId),
    /// A consumer takes nothing more. Nothing happens if there is none.
    Stop(ConsumerId, Stop),
    /// Consumers that have leases and are not there, because the process that knew them has ended:
    /// [`Outcome::Consumers`](crate::Outcome::Consumers). One that consumes again under its number has its leases; one that is
    /// [stopped](Command::Stop) loses them.
    Orphans,
    /// Says what became of messages, each for itself. Answered by [`Outcome::Settled`](crate::Outcome::Settled).
    Settle(Vec<Settle>),
    /// What a queue allows from now on; makes the queue if it is not there.
    Configure(QueueName, Box<Config>),
    /// Nothing is given out of a queue (`true`), or again (`false`). What is leased stays so.
    Pause(QueueName, bool),
    /// Nothing more is put into a queue (`true`), or again (`false`); what it has is worked off.
    Drain(QueueName, bool),
    /// Removes messages of a queue in this state that are there now; leased ones are revoked. Answered by
    /// [`Outcome::Count`](crate::Outcome::Count). Many are removed in steps, between which others are asked, and so it is with
    /// [`Command::Redrive`] and [`Command::Delete`].
    Purge(QueueName, Select),
    /// Gives dead messages of a queue another chance, counters at zero. Answered by [`Outcome::Count`](crate::Outcome::Count).
    Redrive(QueueName, Select),
    /// Removes a queue with all it has; leases are revoked. One that has much is paused and drained while that goes on.
    Delete(QueueName),
    /// Removes one message whatever its state; a lease is revoked.
    Remove(MessageId),
    /// How many messages a queue has: [`Outcome::Depth`](crate::Outcome::Depth).
    Stats(QueueName),
    /// As [`Command::Stats`], and what happened since the store was opened: [`Outcome::Counts`](crate::Outcome::Counts).
    Counts(QueueName),
    /// The queues there are, by name, after this one: [`Outcome::Queues`](crate::Outcome::Queues).
    List {
        /// Behind this name; "" from the beginning.
        after: QueueName,
        /// Not more.
        max: usize,
    },
    /// What a queue was told to allow: [`Outcome::Config`](crate::Outcome::Config).
    Config(QueueName),
    /// Messages, without changing anything: [`Outcome::Page`](crate::Outcome::Page), which says where to go on. Fewer than asked for where
    /// their payloads and reasons are large (beyond the first two, none is read behind 8 MiB), and where many others have to be looked
    /// through to find them.
    Peek {
        /// The queue.
        queue: QueueName,
        /// Those in this state.
        state: State,
        /// With a greater number.
        after: MessageId,
        /// Not more.
        max: usize,
    },
    /// One message: [`Outcome::Messages`](crate::Outcome::Messages) with one, or, when it has ended and its result is kept,
    /// [`Outcome::Ended`](crate::Outcome::Ended).
    Get(MessageId),
    /// Has something put again and again from now on; whatever was told under this name before is replaced. Told the same once more, it goes
    /// on as it was. Answered by [`Outcome::Schedules`](crate::Outcome::Schedules) with it.
    Schedule {
        /// Its name.
        name: ScheduleName,
        /// What is put, and when.
        schedule: Box<Schedule>,
        /// Whether it is paused; `None` as it was, and a new one is not.
        is_paused: Option<bool>,
    },
    /// Removes a schedule. What it has put stays.
    Unschedule {
        /// Its name.
        name: ScheduleName,
        /// Only if it puts into this queue.
        queue: Option<QueueName>,
    },
    /// A schedule puts nothing (`true`), or again from now on.
    PauseSchedule {
        /// Its name.
        name: ScheduleName,
        /// Only if it puts into this queue.
        queue: Option<QueueName>,
        /// Nothing is put.
        is_paused: bool,
    },
    /// Puts what a schedule puts, now and besides; one that is paused as well. Answered by [`Outcome::Put`](crate::Outcome::Put).
    RunSchedule {
        /// Its name.
        name: ScheduleName,
        /// Only if it puts into this queue.
        queue: Option<QueueName>,
    },
    /// The schedules there are, by name: [`Outcome::Schedules`](crate::Outcome::Schedules).
    Schedules {
        /// Only those that put into this queue.
        queue: Option<QueueName>,
        /// Behind this name; "" from the beginning.
        after: ScheduleName,
        /// Not more.
        max: usize,
    },
    /// One schedule: [`Outcome::Schedules`](crate::Outcome::Schedules) with it.
    GetSchedule(ScheduleName),
}

impl Command {
    /// Whether it only looks, and changes nothing.
    #[must_use]
    pub const fn is_look(&self) -> bool {
        matches!(
            self,
            Self::Orphans
                | Self::Stats(_)
                | Self::Counts(_)
                | Self::List { .. }
                | Self::Config(_)
                | Self::Peek { .. }
                | Self::Get(_)
                | Self::Schedules { .. }
                | Self::GetSchedule(_)
        )
    }
}

/// A message to be stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Put {
    /// The queue; made if it is not there, unless that is not allowed.
    pub queue: QueueName,
    /// What the worker gets. Means nothing to the queue.
    pub payload: Bytes,
    /// What is said about it; means nothing to the queue either.
    pub headers: Bytes,
    /// Not before this time.
    pub due: Option<Timestamp>,
    /// 0 to [`Put::MAX_PRIORITY`]; higher ones first.
    pub priority: u8,
    /// Messages with the same key are worked on in order of their numbers, so many at a time as [`Config::key_concurrency`] says, with
    /// the priority of the first of them. One that rests after a failure keeps those behind it waiting; one that was put to be ready
    /// later does not, and has its place when its time has come. At most [`Put::MAX_KEY`] bytes.
    pub key: Option<Arc<str>>,
    /// What makes repeating it harmless.
    pub dedup: Option<Dedup>,
    /// Nobody needs it after this time: it [ends](crate::End::Expired) unless it is leased.
    pub expires: Option<Timestamp>,
    /// It may fail so often, less one: instead of [`Config::attempts`].
    pub attempts: Option<u32>,
    /// Instead of [`Config::backoff`].
    pub backoff: Option<Box<Backoff>>,
    /// How long its result is kept, in milliseconds: instead of [`Config::keep_results_ms`].
    pub keep_result_ms: Option<u64>,
    /// What its receipt has to promise.
    pub durability: Durability,
}

impl Put {
    /// The highest priority.
    pub const MAX_PRIORITY: u8 = 31;
    /// Longest key, in bytes; the same for keys of [`Dedup`].
    pub const MAX_KEY: usize = 256;
    /// What a message costs besides payload and headers. An estimate.
    pub const OVERHEAD: u64 = 128;

    /// A message without anything particular.
    #[must_use]
    pub fn new(queue: &QueueName, payload: Bytes, durability: Durability) -> Self {
        Self {
            queue: queue.clone(),
            payload,
            headers: Bytes::new(),
            due: None,
            priority: 0,
            key: None,
            dedup: None,
            expires: None,
            attempts: None,
            backoff: None,
            keep_result_ms: None,
            durability,
        }
    }

    /// What counts against [`Config::max_bytes`] and a consumer's [`Consume::bytes`].
    #[must_use]
    pub fn cost(&self) -> u64 {
        (self.payload.len() + self.headers.len()) as u64 + Self::OVERHEAD
    }
}

/// A key under which a message is put once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dedup {
    /// The key, within the queue; at most [`Put::MAX_KEY`] bytes.
    pub key: Arc<str>,
    /// What a second message is.
    pub mode: DedupMode,
    /// For how long, in milliseconds; `None` for [`Config::dedup_window_ms`]. Not for [`DedupMode::UntilDone`].
    pub window_ms: Option<u64>,
}

/// What a second message under the same key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DedupMode {
    /// The first one: its receipt is given again.
    Reject,
    /// The same, until the first one has ended or is dead, however long that takes.
    UntilDone,
    /// A newer one: it takes the place of the first, which is removed if it is not leased yet. The window begins anew: debounce.
    Replace,
}

/// Someone who takes messages.
#[derive(Clone, Debug, PartialEq)]
pub struct Consume {
    /// Known by this.
    pub consumer: ConsumerId,
    /// Takes from this queue; made if it is not there, unless that is not allowed.
    pub queue: QueueName,
    /// Has so many at a time; at least 1.
    pub prefetch: u32,
    /// Has so many bytes at a time ([`Put::cost`]); one message is given whatever its size.
    pub bytes: u64,
    /// A lease lasts so long, in milliseconds; `None` for [`Config::lease_ms`]. Not longer than [`Config::max_lease_ms`].
    pub lease_ms: Option<u64>,
    /// Only messages with one of these keys, if given: at least one, at most 64.
    pub keys: Option<Vec<Arc<str>>>,
    /// Takes so many in all and is gone then: a pull. What it has stays leased.
    pub once: Option<u32>,
}

/// What becomes of what a consumer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It is free at once. That does not count as a failure, unless it happens [too often](crate::Config::crash_limit).
    Return,
    /// It stays leased.
    Keep,
}

/// What became of a message.
#[derive(Clone, Debug, PartialEq)]
pub struct Settle {
    /// The message.
    pub id: MessageId,
    /// The lease.
    pub token: Token,
    /// What became of it.
    pub verdict: Verdict,
}

/// What a worker says of a message it has.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Verdict {
    /// It is done. The result is kept if results are.
    Done(Option<Bytes>),
    /// It failed: again later, as long as it may.
    Retry {
        /// After so long, in milliseconds; `None` as its backoff says.
        after_ms: Option<u64>,
        /// For people; at most [`Verdict::MAX_WHY`] bytes are kept.
        why: Arc<str>,
    },
    /// Somebody else may have it; it did not fail.
    Release,
    /// It is hopeless.
    Dead {
        /// For people; at most [`Verdict::MAX_WHY`] bytes are kept.
        why: Arc<str>,
    },
    /// Still at it: so long from now, in milliseconds, or as long as the lease was. Not beyond [`Config::max_lease_ms`] since it was
    /// given.
    Touch(Option<u64>),
    /// Still at it, and this far: told to whoever listens. Touches as well.
    Progress(Bytes),
}

impl Verdict {
    /// Longest reason, in bytes. What is longer is cut at a character.
    pub const MAX_WHY: usize = 1_024;
}

/// Where a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Not before its time, or resting after a failure.
    Delayed,
    /// Whoever comes may have it, unless its key is busy.
    Ready,
    /// A worker has it.
    Leased,
    /// It failed too often, or somebody gave it up.
    Dead,
}

/// Messages of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Select {
    /// In one of these states.
    pub states: Vec<State>,
    /// Only this one.
    pub id: Option<MessageId>,
    /// Not more than this.
    pub max: Option<usize>,
}
