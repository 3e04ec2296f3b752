//! What changes: what is written down, and what is applied again at a start.

use std::sync::Arc;

use bytes::Bytes;
use posthaste_history::store::Timestamp;

use crate::port::command::{ConsumerId, MessageId, Put, QueueName, Token};
use crate::port::config::Config;
use crate::port::schedule::{Fired, ScheduleName, Scheduled};

/// One step. Applied in order, they give what there is.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Change {
    /// A queue began.
    Created {
        /// A number that no other queue has or had.
        queue: u32,
        /// Its name.
        name: QueueName,
    },
    /// A queue allows this.
    Configured {
        /// The queue.
        queue: u32,
        /// What.
        config: Box<Config>,
    },
    /// A queue is paused or not, drained or not.
    Switched {
        /// The queue.
        queue: u32,
        /// Nothing is given out.
        is_paused: bool,
        /// Nothing is taken in.
        is_draining: bool,
    },
    /// A queue is gone with all it had.
    Deleted {
        /// The queue.
        queue: u32,
    },
    /// A message came.
    Put(Box<StoredPut>),
    /// Somebody has it.
    Leased {
        /// The message.
        id: MessageId,
        /// The lease.
        token: Token,
        /// Who.
        consumer: ConsumerId,
        /// Since when.
        at: Timestamp,
        /// Until when.
        deadline: Timestamp,
    },
    /// Somebody has it longer.
    Touched {
        /// The message.
        id: MessageId,
        /// Until when.
        deadline: Timestamp,
    },
    /// Nobody has it any more.
    Returned {
        /// The message.
        id: MessageId,
        /// When.
        at: Timestamp,
        /// When it is ready.
        due: Timestamp,
        /// Why.
        cause: Cause,
    },
    /// It is dead.
    Died {
        /// The message.
        id: MessageId,
        /// When.
        at: Timestamp,
        /// Why.
        reason: Reason,
        /// Whether it failed once more, or somebody gave it up.
        is_failure: bool,
    },
    /// It was dead and has another chance.
    Redriven {
        /// The message.
        id: MessageId,
        /// So many [reasons](Reason) may be kept of it, which are forgotten.
        reasons: u32,
    },
    /// It is gone: done, expired, removed.
    Ended {
        /// The message.
        id: MessageId,
        /// Its queue.
        queue: u32,
        /// What it counted for: [`Put::cost`].
        cost: u64,
        /// The time it was to be ready at when it was put, which a store may have it listed by.
        due: Option<Timestamp>,
        /// Its result, and until when that is kept.
        result: Option<(Bytes, Timestamp)>,
        /// So many [reasons](Reason) may be kept of it, which are forgotten.
        reasons: u32,
    },
    /// Tokens below this may have been given: at a start they go on from here, so that none is given twice.
    Tokens(Token),
    /// A key of a queue stands for this message until then, whether it has ended or not. The latest counts.
    Remembered {
        /// The queue.
        queue: u32,
        /// The key.
        key: Arc<str>,
        /// The message.
        id: MessageId,
        /// Until when.
        until: Timestamp,
    },
    /// A schedule was told something, or is paused or not: this is what it is now.
    Scheduled {
        /// The schedule.
        name: ScheduleName,
        /// All of it.
        scheduled: Box<Scheduled>,
    },
    /// A schedule has seen to all its times before `next`. What it put is in the same group.
    Fired {
        /// The schedule.
        name: ScheduleName,
        /// The first time it has not seen to.
        next: Timestamp,
        /// When it put something last.
        last: Option<Fired>,
        /// How often it has put something.
        count: u64,
    },
    /// A schedule is gone.
    Unscheduled {
        /// The schedule.
        name: ScheduleName,
    },
}

/// Why a message came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It failed.
    Failed(Reason),
    /// It was given back.
    Released,
    /// Its worker was lost, or its lease ran out.
    Lost,
}

/// Why a message failed or died. The store keeps it, and whoever looks at the message [reads it](crate::Source::reasons) there: how often it
/// failed is all that a machine has in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// Its number among those of the message, since that was put or redriven: from 1.
    pub number: u32,
    /// For people; at most [`Verdict::MAX_WHY`](crate::Verdict::MAX_WHY) bytes.
    pub text: Arc<str>,
}

impl Reason {
    /// So many are kept of a message, the newest.
    pub const MAX_KEPT: usize = 10;
}

/// A message as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredPut {
    /// Its number.
    pub id: MessageId,
    /// The number of its queue.
    pub queue: u32,
    /// When it was put.
    pub at: Timestamp,
    /// What was put.
    pub put: Put,
}

impl Later {
    /// That of a message as it is stored.
    #[must_use]
    pub fn of(message: &StoredPut) -> Self {
        Self { id: message.id, due: message.put.due.unwrap_or_default(), cost: message.put.cost() }
    }
}

impl StoredPut {
    /// The same without payload and headers.
    #[must_use]
    pub fn without_body(mut self) -> Self {
        (self.put.payload, self.put.headers) = (Bytes::new(), Bytes::new());
        self
    }
}

/// What a store says of a message that was put to be ready later, without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Later {
    /// The message.
    pub id: MessageId,
    /// When it is ready.
    pub due: Timestamp,
    /// What it counts for: [`Put::cost`].
    pub cost: u64,
}

/// What happened to a message since it was put.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rest {
    /// How often it was given to somebody.
    pub deliveries: u32,
    /// How often it failed.
    pub failures: u32,
    /// How often it came back without a word since it last failed.
    pub losses: u32,
    /// How often it was dead and had another chance: since the first of them it does not expire any more.
    pub redriven: u32,
}

/// What is stored of a message besides what was put, when that is not what it began with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// What happened to it.
    pub rest: Rest,
    /// Where it is.
    pub place: Place,
}

/// Where a message is, and since or until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Ready from then on.
    From(Timestamp),
    /// Leased.
    Leased {
        /// The lease.
        token: Token,
        /// Who has it.
        consumer: ConsumerId,
        /// When it was given.
        since: Timestamp,
        /// When it ends.
        deadline: Timestamp,
        /// How long it was when it was given, in milliseconds: a touch without a time makes it as long again.
        lease_ms: u64,
    },
    /// Dead since then.
    Dead(Timestamp),
}
