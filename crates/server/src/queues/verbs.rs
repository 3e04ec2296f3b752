//! What clients may ask of queues.

use std::fmt;

/// What a client asks of a queue: what [`WorkQueues::permit`](crate::WorkQueues::permit) is asked about.
///
/// What is not here needs no permission but a lease, a consumer or a call that the same client has: to settle, to touch, to tell of progress, to
/// stop, and to wait on for the result of its own call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum QueueVerb {
    /// `q:put`, `q:putMany`: puts messages.
    Put,
    /// `q:call`: puts a message and waits for its result.
    Call,
    /// `q:await`: waits for the result of a message that another session put.
    Await,
    /// `q:consume`, `q:pull`: takes messages.
    Consume,
    /// `q:peek`: looks at messages.
    Peek,
    /// `q:stats`: how many messages there are.
    Stats,
    /// `q:watch`: hears what becomes of messages.
    Watch,
    /// `q:pause`, `q:resume`: stops giving out, and goes on.
    Pause,
    /// `q:drain`: stops taking in.
    Drain,
    /// `q:purge`: removes messages.
    Purge,
    /// `q:redrive`: gives dead messages another chance.
    Redrive,
    /// `q:schedule`, `q:unschedule`, `q:schedules`: has something put again and again.
    Schedule,
}

impl QueueVerb {
    /// Whether it is for whoever looks after a queue, rather than for whoever uses it.
    #[must_use]
    pub const fn is_admin(self) -> bool {
        match self {
            Self::Put | Self::Call | Self::Await | Self::Consume => false,
            Self::Peek
            | Self::Stats
            | Self::Watch
            | Self::Pause
            | Self::Drain
            | Self::Purge
            | Self::Redrive
            | Self::Schedule => true,
        }
    }
}

impl fmt::Display for QueueVerb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Put => "put",
            Self::Call => "call",
            Self::Await => "await",
            Self::Consume => "consume",
            Self::Peek => "peek",
            Self::Stats => "stats",
            Self::Watch => "watch",
            Self::Pause => "pause",
            Self::Drain => "drain",
            Self::Purge => "purge",
            Self::Redrive => "redrive",
            Self::Schedule => "schedule",
        })
    }
}
