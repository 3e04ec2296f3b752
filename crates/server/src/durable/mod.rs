//! Durable events: what outlives a connection, and the process.
//!
//! ```text
//!   emit to a durable room ─► Keeper (one per namespace) ─► Shard.commit ─► Follower ─► Journal ─► mail to every worker
//!   join, leave, connection lost ─► SessionRecord ─► Shard.commit
//!   emit to a user ─► Shard.commit ─► Follower ─► workers that have a device of it ─► read behind the device's cursor ─► the device
//!   question to a session ─► Shard.commit ─► Follower ─► the worker that has its socket ─► the answer ends it; else it is asked again
//!   CONNECT with a pid that this process does not know ─► Shard.session ─► replay, in pages ─► the socket it was
//! ```
//!
//! An event is committed first and sent then, with its offset: what a client has heard of, no crash takes back. A session's changes are
//! committed in order with the events, so whatever event is in the store, the joins before it are there as well.

mod allowance;
mod ask;
mod asked;
mod emit;
mod form;
mod history;
mod idle;
mod inbox;
mod keeper;
mod pages;
mod questions;
mod readers;
mod rules;
mod sessions;

use std::sync::Arc;
use std::time::Duration;

pub use allowance::ReplayBudget;
pub(crate) use allowance::{Allowances, Reserved, Whose};
pub use ask::{DurableAck, DurableSocketOperator};
pub use emit::{DurableOperator, Stored, StoredAt};
pub(crate) use form::Form;
pub use history::{History, HistoryPage, HistoryReservation, HistoryStart, StoredEvent};
pub(crate) use inbox::has_inbox;
pub use inbox::{Inbox, InboxMode, UserOperator};
pub(crate) use keeper::{BUSY, Keeper, everybody, inbox_of, now, offset_key, room_of, stream_of};
pub(crate) use pages::{NoPart, PAGE, PART_BYTES, Pages};
use posthaste_history::Budget;
use posthaste_history::store::{Durability, Store};
pub(crate) use questions::{FIRST_ID, decode as decode_question, questions_of};
pub(crate) use readers::Readers;
pub(crate) use rules::Rule;
pub use rules::{RoomPattern, RoomPatternError, RoomPolicy};

/// How durable events and sessions are kept: [`Builder::durable`](crate::Builder::durable).
///
/// Every namespace that is opened by its name has a shard of the store, of the same name. Those that clients make by asking for a name that a
/// [parent](crate::Server::namespaces) matches have none: [`Recovery`](crate::Recovery) keeps them in memory.
#[derive(Clone)]
pub struct Durable {
    /// Where.
    pub store: Arc<dyn Store>,
    /// What has to be reached before an event is sent; the best that the store can promise by default, but no more than
    /// [`Durability::Disk`].
    pub durability: Durability,
    /// How long a client may stay away and still be who it was; 24 hours by default. In the memory of this process it is kept for
    /// [`Recovery::max_disconnection`](crate::Recovery::max_disconnection), and with it what is not durable.
    pub max_away: Duration,
    /// Of a room, or of what a client was asked, of which nothing is kept, and that nothing came in for so long, it is forgotten that it was
    /// there; 7 days by default, [`Duration::MAX`] for never, and no less than two `max_away`. Whoever asks for what came in such a room
    /// after an earlier position is told of a gap, whether or not there was something.
    pub forget_after: Duration,
    /// The most events that one client is sent when it comes back; 200,000 by default. Who missed more starts afresh.
    pub max_replay: usize,
    /// How much may be sent again to one identity in a time; 64 MiB and 8 MiB a second by default.
    pub replay_budget: ReplayBudget,
    /// The most that one client may owe answers to, of what it was asked durably ([`DurableSocketOperator::emit_with_ack`]); by default 256
    /// questions that take 1 MiB together. What was answered behind one that is open counts as well.
    pub max_unanswered: Budget,
    /// How inboxes are kept; by default nobody has one. With it, the store knows of every identity that has connected.
    pub inbox: Option<Inbox>,
}

impl Durable {
    /// The defaults, in this store.
    pub fn new(store: Arc<dyn Store>) -> Self {
        let durability = store.capabilities().durability.min(Durability::Disk);
        Self {
            store,
            durability,
            max_away: Duration::from_secs(24 * 3600),
            forget_after: Duration::from_secs(7 * 24 * 3600),
            max_replay: 200_000,
            replay_budget: ReplayBudget::default(),
            max_unanswered: Budget { max_bytes: 1 << 20, max_events: 256 },
            inbox: None,
        }
    }
}

impl std::fmt::Debug for Durable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { store: _, durability, max_away, forget_after, max_replay, replay_budget, max_unanswered, inbox } =
            self;
        f.debug_struct("Durable")
            .field("durability", durability)
            .field("max_away", max_away)
            .field("forget_after", forget_after)
            .field("max_replay", max_replay)
            .field("replay_budget", replay_budget)
            .field("max_unanswered", max_unanswered)
            .field("inbox", inbox)
            .finish_non_exhaustive()
    }
}

/// Why something durable was not done.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DurableError {
    /// The event could not be encoded.
    #[error("the event could not be encoded: {0}")]
    Encode(String),
    /// The namespace has no shard: the server was built without [`Builder::durable`](crate::Builder::durable), or a client made it.
    #[error("{0} has no store")]
    NoStore(String),
    /// The client owes as many answers as it may: [`Durable::max_unanswered`].
    #[error("the client owes {events} answers already, to questions of {bytes} bytes")]
    Unanswered {
        /// How many.
        events: usize,
        /// What these questions take in the store.
        bytes: u64,
    },
    /// The socket has no session: it was not let in yet, or has left.
    #[error("the socket was not let in yet, or has left")]
    NotJoined,
    /// Nobody has an inbox: [`Durable::inbox`] says how they are kept.
    #[error("there are no inboxes: `Durable::inbox` says how they are kept")]
    NoInbox,
    /// An identity is empty, or longer than one with an inbox may be.
    #[error("an identity of {bytes} bytes has no inbox: it has at least 1 and at most {max}")]
    Identity {
        /// Its length in bytes.
        bytes: usize,
        /// What there may be.
        max: usize,
    },
    /// The pattern does not parse.
    #[error(transparent)]
    Pattern(RoomPatternError),
    /// The text is no offset of this store.
    #[error("the offset is none of this store")]
    Offset,
    /// The store says why.
    #[error(transparent)]
    Store(#[from] posthaste_history::store::StoreError),
}
