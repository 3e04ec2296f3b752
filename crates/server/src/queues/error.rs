//! Why something was not done with a queue: for callers in Rust, and for clients.

use std::borrow::Cow;
use std::fmt;

use posthaste_history::store::StoreError;
use posthaste_queue::Refusal;
use serde::Serialize;

/// Why something was not done with a queue: nothing was changed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    /// The queue says no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store could not.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A payload or a result cannot be written, or is of another type than was asked for.
    #[error("the payload: {0}")]
    Payload(String),
    /// The server was built without [`Builder::queues`](crate::Builder::queues).
    #[error("the server has no queues: give some to its builder")]
    NoQueues,
    /// A result did not come in time; the message is still worked on.
    #[error("message {0} has no result yet")]
    Pending(posthaste_queue::MessageId),
    /// The message failed for good: it is dead, it expired, or it was removed.
    #[error("{0}")]
    Failed(Failure),
}

/// How a message ended that nobody did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// It is dead; why.
    Dead(String),
    /// Its time was over.
    Expired,
    /// It was removed or replaced.
    Removed,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dead(why) if why.is_empty() => f.write_str("the message is dead"),
            Self::Dead(why) => write!(f, "the message is dead: {why}"),
            Self::Expired => f.write_str("the message expired"),
            Self::Removed => f.write_str("the message was removed"),
        }
    }
}

impl QueueError {
    pub(crate) fn payload(error: impl fmt::Display) -> Self {
        Self::Payload(error.to_string())
    }
}

/// What a client is told that asks for what it does not get. The codes are in `docs/queues.md`, and stay as they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Refused {
    ok: bool,
    code: &'static str,
    message: Cow<'static, str>,
    /// When to try again, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
}

impl Refused {
    pub(crate) fn new(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self { ok: false, code, message: message.into(), retry_after: None }
    }

    pub(crate) fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new("invalid", message)
    }

    /// Someone may not do that, or not there.
    pub(crate) fn forbidden(verb: &str) -> Self {
        Self::new("forbidden", format!("{verb} is not allowed here"))
    }

    pub(crate) const fn code(&self) -> &'static str {
        self.code
    }

    pub(crate) fn text(&self) -> &str {
        &self.message
    }

    pub(crate) const fn retry_after(&self) -> Option<u64> {
        self.retry_after
    }

    pub(crate) fn after(self, milliseconds: u64) -> Self {
        Self { retry_after: Some(milliseconds), ..self }
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        let refused = Self::new(refusal.code(), refusal.to_string());
        match refusal {
            Refusal::Full { .. } => refused.after(1_000),
            _ => refused,
        }
    }
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Busy { .. } => Self::new("busy", "the store is behind: try again").after(100),
            StoreError::Full { .. } => Self::new("storage_full", "the disk is full").after(10_000),
            StoreError::Refused(why) => Self::invalid(why),
            // What there is to know is for whoever runs the server.
            error => {
                tracing::error!(%error, "queues: the store failed");
                Self::new("unavailable", "the store does not answer").after(5_000)
            }
        }
    }
}

impl From<QueueError> for Refused {
    fn from(error: QueueError) -> Self {
        match error {
            QueueError::Refused(refusal) => refusal.into(),
            QueueError::Store(error) => error.into(),
            QueueError::Payload(why) => Self::invalid(why),
            QueueError::NoQueues => Self::new("unavailable", "there are no queues"),
            QueueError::Pending(id) => Self::new("pending", format!("message {id} has no result yet")),
            QueueError::Failed(failure) => failure.into(),
        }
    }
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        let code = match &failure {
            Failure::Dead(_) => "dead",
            Failure::Expired => "expired",
            Failure::Removed => "removed",
        };
        Self::new(code, failure.to_string())
    }
}
