//! What queues answer.

use std::sync::Arc;

use bytes::Bytes;
use posthaste_history::store::{Durability, Timestamp};

use crate::port::change::Rest;
use crate::port::command::{MessageId, QueueName, State};
use crate::port::config::Config;
use crate::port::effect::End;
use crate::port::refusal::Refusal;

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
    /// Queues, and what each has.
    Queues(Vec<(QueueName, Depth)>),
    /// What a queue allows.
    Config(Box<Config>),
    /// Messages by number.
    Messages(Vec<Found>),
    /// How a message ended, and its queue.
    Ended(QueueName, End),
    /// Consumers.
    Consumers(Vec<crate::ConsumerId>),
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
    /// What was put; empty if it could not be read.
    pub payload: Bytes,
    /// What was said about it.
    pub headers: Bytes,
}
