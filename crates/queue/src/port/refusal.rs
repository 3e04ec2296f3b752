//! Why something was not done.

use crate::port::command::{MessageId, QueueName};
use crate::port::schedule::ScheduleName;

/// Why something was not done: nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Queues are made by configuring them here, and this one was not.
    #[error("there is no queue {0:?}")]
    UnknownQueue(QueueName),
    /// Not a [name](crate::name_is_good).
    #[error("{0:?} is no name: 1 to 200 of A-Z a-z 0-9 . _ - : /")]
    BadName(String),
    /// Something else about the request is not possible.
    #[error("{0}")]
    Invalid(String),
    /// The payload with its headers is too long.
    #[error("{bytes} bytes are more than the {max} that a message may have")]
    TooLarge {
        /// What it has.
        bytes: usize,
        /// What it may have.
        max: usize,
    },
    /// The queue has as many messages, or bytes, as it may.
    #[error("queue {queue:?} is full: {messages} messages, {bytes} bytes")]
    Full {
        /// The queue.
        queue: QueueName,
        /// What it has.
        messages: u64,
        /// What that takes.
        bytes: u64,
    },
    /// The queue is being drained.
    #[error("queue {0:?} takes no more messages")]
    Draining(QueueName),
    /// There are as many queues, or consumers, as there may be.
    #[error("there are {max} {what} already")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// So many.
        max: usize,
    },
    /// There is no such message, or no longer.
    #[error("there is no message {0}")]
    UnknownMessage(MessageId),
    /// The message is not leased with this token: the lease ran out, was revoked, or was settled before.
    #[error("the lease of message {0} is over")]
    StaleLease(MessageId),
    /// There is no such consumer.
    #[error("there is no such consumer")]
    UnknownConsumer,
    /// There is no such schedule, or it is one of another queue.
    #[error("there is no schedule {0:?}")]
    UnknownSchedule(ScheduleName),
    /// There is a schedule of this name, which puts into another queue: that one has to be removed first.
    #[error("schedule {name:?} puts into queue {queue:?}; remove it first")]
    OtherQueue {
        /// The schedule.
        name: ScheduleName,
        /// Its queue.
        queue: QueueName,
    },
    /// What says when a schedule puts something cannot be read.
    #[error("{0}")]
    BadSchedule(String),
    /// It can be read, and there is no such time: the 30th of February.
    #[error("{0:?} is never")]
    NeverFires(String),
}

impl Refusal {
    /// What the wire calls it. Stable.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::UnknownQueue(_) => "unknown_queue",
            Self::BadName(_) => "bad_name",
            Self::Invalid(_) => "invalid",
            Self::TooLarge { .. } => "too_large",
            Self::Full { .. } => "queue_full",
            Self::Draining(_) => "draining",
            Self::TooMany { .. } => "too_many",
            Self::UnknownMessage(_) => "unknown_message",
            Self::StaleLease(_) => "stale_lease",
            Self::UnknownConsumer => "unknown_consumer",
            Self::UnknownSchedule(_) => "unknown_schedule",
            Self::OtherQueue { .. } => "other_queue",
            Self::BadSchedule(_) => "bad_schedule",
            Self::NeverFires(_) => "never_fires",
        }
    }
}
