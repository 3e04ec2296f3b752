//! What queues say by themselves.

use std::sync::Arc;

use bytes::Bytes;
use posthaste_history::store::Timestamp;

use crate::port::command::{ConsumerId, MessageId, QueueName, Token};

/// What happened, for whoever is concerned.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Effect {
    /// A consumer has a message now.
    Granted(Delivery),
    /// A consumer no longer has a message: what it says of it counts for nothing.
    Revoked {
        /// The consumer.
        consumer: ConsumerId,
        /// The queue.
        queue: QueueName,
        /// The message.
        id: MessageId,
        /// The lease.
        token: Token,
        /// Why.
        why: Why,
    },
    /// Nothing more happens to a message. Said of those that keep results, and of those that failed or expired.
    Ended {
        /// The queue.
        queue: QueueName,
        /// The message.
        id: MessageId,
        /// How.
        end: End,
    },
    /// A worker says how far it is.
    Progress {
        /// The queue.
        queue: QueueName,
        /// The message.
        id: MessageId,
        /// How far.
        value: Bytes,
    },
    /// A consumer takes nothing more: it has had as many as it wanted, or its queue was deleted.
    Finished(ConsumerId),
}

/// A message for a consumer.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// The consumer.
    pub consumer: ConsumerId,
    /// The queue.
    pub queue: QueueName,
    /// The message.
    pub id: MessageId,
    /// The lease.
    pub token: Token,
    /// When it ends, by the clock of the queues.
    pub deadline: Timestamp,
    /// How long it lasts, in milliseconds from when it was given: whoever holds it has a clock of their own.
    pub lease_ms: u64,
    /// How often it was given to somebody, this time included.
    pub deliveries: u32,
    /// How often it failed.
    pub failures: u32,
    /// When it was put.
    pub at: Timestamp,
    /// Its priority.
    pub priority: u8,
    /// Its key.
    pub key: Option<Arc<str>>,
    /// What was put.
    pub payload: Bytes,
    /// What was said about it.
    pub headers: Bytes,
}

/// Why a lease is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It ran out.
    Expired,
    /// The message was removed.
    Removed,
    /// The settlement came after its end.
    Stale,
}

/// How a message ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Somebody did it.
    Done(Option<Bytes>),
    /// Nobody could. It is kept for a while.
    Dead(Arc<str>),
    /// Its time was over.
    Expired,
    /// It was removed, or replaced.
    Removed,
}
