//! What queues answer.

use std::sync::Arc;

use bytes::Bytes;
use posthaste_history::store::{Durability, Timestamp};
use serde::Serialize;

use crate::port::change::Rest;
use crate::port::command::{MessageId, QueueName, State};
use crate::port::config::Config;
use crate::port::effect::End;
use crate::port::refusal::Refusal;
use crate::port::schedule::{ScheduleName, Scheduled};

/// What a command led to.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Outcome {
    /// It is so.
    Done,
    /// A receipt for each message, in order.
    Put(Vec<Receipt>),
    /// For each settlement, in order.
    Settled(Vec<Result<Settled, Refusal>>),
    /// So many messages.
    Count(u64),
    /// What a queue has.
    Depth(Depth),
    /// What a queue has, and what happened there.
    Counts(Depth, Counted),
    /// Queues, and what each has.
    Queues(Vec<(QueueName, Depth)>),
    /// What a queue allows.
    Config(Box<Config>),
    /// Messages.
    Messages(Vec<Found>),
    /// Messages by number, and behind which number to go on: `None` when these were the last. A page may be empty and not be the last: no
    /// more messages are looked through at once.
    Page(Vec<Found>, Option<MessageId>),
    /// How a message ended, and its queue.
    Ended(QueueName, End),
    /// Consumers.
    Consumers(Vec<crate::ConsumerId>),
    /// Schedules by name.
    Schedules(Vec<(ScheduleName, Scheduled)>),
}

/// What became of a put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The message.
    pub id: MessageId,
    /// It was there before, under the same key.
    pub dup: bool,
    /// What is promised: at least what was asked for.
    pub durability: Durability,
}

/// What became of a settlement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// The message is gone, dead or somebody else's.
    Ended,
    /// The lease goes on until then.
    Until(Timestamp),
}

/// How much a queue has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Whoever comes may have them, unless their keys are busy.
    pub ready: u64,
    /// Workers have them.
    pub leased: u64,
    /// Not before their time, or resting.
    pub delayed: u64,
    /// Given up.
    pub dead: u64,
    /// The cost of all but the dead.
    pub bytes: u64,
    /// When the oldest of the ready ones was put.
    pub oldest: Option<Timestamp>,
    /// Who takes messages.
    pub consumers: u64,
    /// Nothing is given out.
    pub is_paused: bool,
    /// Nothing is taken in.
    pub is_draining: bool,
}

/// What happened to the messages of a queue since its store was opened. No number ever becomes less; they are in memory only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Counted {
    /// Messages came, copies of dead ones from other queues included.
    pub put: u64,
    /// Puts found their message there under the same key.
    pub dup: u64,
    /// Messages were given to workers.
    pub given: u64,
    /// They were done.
    pub done: u64,
    /// They failed, and rest; those that died of it are not counted here.
    pub failed: u64,
    /// Workers gave them back.
    pub released: u64,
    /// Their worker was lost.
    pub lost: u64,
    /// Their lease ran out.
    pub leases_expired: u64,
    /// They were removed while a worker had them.
    pub revoked: u64,
    /// They died.
    pub died: u64,
    /// Dead ones were given another chance.
    pub redriven: u64,
    /// Their time was over.
    pub expired: u64,
    /// They were removed, replaced or dropped.
    pub removed: u64,
    /// Settlements came with a lease that was over, and were refused, of messages that had not ended.
    pub stale: u64,
}

/// A message, as one who looks at it sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The message.
    pub id: MessageId,
    /// Its queue.
    pub queue: QueueName,
    /// Where it is.
    pub state: State,
    /// When it was put.
    pub at: Timestamp,
    /// When it will be ready, when its lease ends.
    pub until: Option<Timestamp>,
    /// Its priority.
    pub priority: u8,
    /// Its key.
    pub key: Option<Arc<str>>,
    /// What happened to it so far.
    pub rest: Rest,
    /// Why it failed or died last, and when; the newest last, at most [`Reason::MAX_KEPT`](crate::Reason::MAX_KEPT). A store in memory has fewer
    /// of long ones.
    pub history: Vec<(Timestamp, Arc<str>)>,
    /// What was put; empty if it could not be read.
    pub payload: Bytes,
    /// What was said about it.
    pub headers: Bytes,
}
