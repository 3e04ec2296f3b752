//! What queues are asked, what they answer, and what they say by themselves.

mod bounds;
mod change;
mod command;
mod config;
mod effect;
mod outcome;
mod refusal;
mod schedule;

use std::sync::Arc;

use posthaste_history::store::{Answer, Around, Durability, Timestamp};

pub use change::{Cause, Change, Later, Place, Reason, Record, Rest, StoredPut};
pub use command::{
    Command, Consume, ConsumerId, Dedup, DedupMode, MessageId, Put, QueueName, Select, Settle, State, Stop, Token,
    Verdict, name_is_good,
};
pub use config::{Backoff, Config, OnExhausted, Overflow, Rate};
pub use effect::{Delivery, Effect, End, Why};
pub use outcome::{Counted, Depth, Found, Outcome, Receipt, Settled};
pub use refusal::Refusal;
pub use schedule::{Fired, Missed, Schedule, ScheduleName, Scheduled, When};

/// Hears what happens, in order and after it is durable. Called by the thread that commits, with everything of one group, before the
/// answers of that group are there: it must not block, and must not wait for an answer of the queues.
pub type Listener = Arc<dyn Fn(Vec<Effect>) + Send + Sync>;

/// What a store of queues can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// The best that a receipt can promise; more is refused.
    pub durability: Durability,
    /// Whether anything is there when it is opened again.
    pub survives_restart: bool,
    /// Whether it looks at the time by itself: [`Queues::tick`] may tell it, but nobody has to.
    pub keeps_time: bool,
    /// Longest payload with its headers, in bytes.
    pub max_payload: usize,
    /// Most messages of one put, and most settlements at once.
    pub max_batch: usize,
}

/// The queues of one place: ordered by one committer, so that every step is a step of all.
///
/// What holds of every implementation, and what the suite of the feature `contract` checks:
///
/// - **Calls begin at once; futures report.** The order of calls of one thread is the order in which they are decided; dropping a
///   future takes nothing back.
/// - **A command happens or does not.** A put of several messages is one; settlements are each their own.
/// - **First durable, then visible.** A message is leased after the durability it was put with is reached, and a receipt is there after
///   it. A settlement is answered when it is as durable as its message.
/// - **A lease nobody waits for.** That a message was leased is written with what is written next; when a crash loses that, it is
///   leased again.
/// - **One lease at a time.** Each has a token that no other lease of these queues has or had. Whoever settles with another one is
///   refused and changes nothing.
/// - **When it is time, once.** What a schedule puts, and that it has, is one step: each time is seen to once, as its schedule says, over
///   restarts and whatever the clock does.
/// - **Not lost, not stuck.** A message that has its receipt is ready, delayed, leased or dead until it is done, expires or is removed.
pub trait Queues: Send + Sync + 'static {
    /// Asks for something. The inner error says why nothing was changed.
    ///
    /// # Errors (of the future)
    /// [`posthaste_history::store::StoreError`] when the store cannot; with `Full` and `Busy` nothing was changed.
    fn ask(&self, now: Timestamp, command: Command) -> Answer<Result<Outcome, Refusal>>;

    /// Does what time brings, in stores that have no thread of their own, and answers when to call it again. One that looks at the time by
    /// itself answers `None`; so does one that has nothing to wait for until it is asked for something.
    fn tick(&self, now: Timestamp) -> Option<Timestamp>;

    /// Who hears of effects from now on, instead of whoever did.
    fn listen(&self, listener: Option<Listener>);

    /// A store with a thread of its own calls the listener, and gives the answers of one group, within this from now on.
    fn answer_within(&self, _: Around) {}

    /// What the store can do.
    fn capabilities(&self) -> Capabilities;
}
