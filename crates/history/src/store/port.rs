//! What a store is asked, and what it answers.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;

use crate::pid::Pid;
use crate::position::Position;
use crate::store::reply::Around;
use crate::store::session::SessionRecord;

/// Something that is not known at once.
pub type Pending<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What a store answers, when it does.
pub type Answer<T> = Pending<Result<T, StoreError>>;

/// Devices of an inbox, and up to where each has it.
pub type Cursors = Vec<(Arc<str>, u64)>;

/// A stream of a shard: a room, an inbox, a session's own events. At most [`Capabilities::max_name`] bytes.
pub type StreamName = Arc<str>;

/// A time of day that survives restarts, in milliseconds since 1970 (UTC).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

/// What a receipt promises. A greater one includes the smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Durability {
    /// Accepted: lost when the process ends.
    Memory,
    /// Written to the system, not synced: survives the end of the process, not a power cut.
    Os,
    /// Synced to the disk before the receipt.
    Disk,
    /// Committed by a majority, or by a synchronous standby.
    Quorum,
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory => "memory",
            Self::Os => "os",
            Self::Disk => "disk",
            Self::Quorum => "quorum",
        })
    }
}

/// How much of a stream is kept. Whatever is reached first forgets the oldest message.
///
/// Number and bytes are kept to with every commit; age when [`Shard::retain`] is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// How long a message is kept, in milliseconds.
    pub max_age_ms: u64,
    /// Number of messages.
    pub max_messages: u64,
    /// Sum of [`Put::cost`].
    pub max_bytes: u64,
    /// Forget what every cursor of the stream has passed: an inbox. Without any cursor nothing is forgotten by this.
    pub until_passed: bool,
}

impl Retention {
    /// An hour, 10,000 messages, 64 MiB: the bounded history of a room.
    pub const ROOM: Self =
        Self { max_age_ms: 3_600_000, max_messages: 10_000, max_bytes: 64 << 20, until_passed: false };
    /// Everything.
    pub const UNLIMITED: Self =
        Self { max_age_ms: u64::MAX, max_messages: u64::MAX, max_bytes: u64::MAX, until_passed: false };
}

impl Default for Retention {
    fn default() -> Self {
        Self::ROOM
    }
}

/// A message to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    /// The streams it is listed in, at one and the same position; each has a copy. At least one.
    pub streams: Vec<StreamName>,
    /// What is stored, at most [`Capabilities::max_payload`] bytes.
    pub payload: Bytes,
    /// What the receipt has to promise.
    pub durability: Durability,
    /// Makes repeating it harmless: while the shard remembers the key for the first of the streams, nothing is stored again, and
    /// the receipt is the first one's.
    pub key: Option<Bytes>,
}

impl Put {
    /// What a message costs besides its payload, in each of its streams. An estimate.
    pub const OVERHEAD: u64 = 64;

    /// A message without a key.
    #[must_use]
    pub fn new(stream: &StreamName, payload: Bytes, durability: Durability) -> Self {
        Self { streams: vec![stream.clone()], payload, durability, key: None }
    }

    /// What counts against [`Retention::max_bytes`] of each of its streams.
    #[must_use]
    pub fn cost(&self) -> u64 {
        self.payload.len() as u64 + Self::OVERHEAD
    }
}

/// Something to be changed. Those of one [`Shard::commit`] happen together or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Write {
    /// Stores a message.
    Put(Put),
    /// From now on so much of this stream is kept.
    Retain {
        /// The stream.
        stream: StreamName,
        /// How much.
        retention: Retention,
    },
    /// Forgets what this stream has up to the position `through`.
    Trim {
        /// The stream.
        stream: StreamName,
        /// The last position that is forgotten.
        through: u64,
    },
    /// A device has everything of the stream up to `pos`. A cursor never moves back: less than before changes nothing.
    Cursor {
        /// The inbox.
        stream: StreamName,
        /// The device, at most [`Capabilities::max_name`] bytes.
        device: Arc<str>,
        /// A position that the shard has reached.
        pos: u64,
    },
    /// A device will not come back: its cursor no longer keeps anything.
    ForgetCursor {
        /// The inbox.
        stream: StreamName,
        /// The device.
        device: Arc<str>,
    },
    /// What is known of a session that may come back; `None` forgets it.
    Session {
        /// Its secret.
        pid: Pid,
        /// What is known.
        record: Option<Box<SessionRecord>>,
    },
}

impl Write {
    /// The streams that it is about.
    pub fn streams(&self) -> impl Iterator<Item = &StreamName> {
        let streams = match self {
            Self::Put(put) => &put.streams[..],
            Self::Retain { stream, .. }
            | Self::Trim { stream, .. }
            | Self::Cursor { stream, .. }
            | Self::ForgetCursor { stream, .. } => std::slice::from_ref(stream),
            Self::Session { .. } => &[],
        };
        streams.iter()
    }
}

/// What became of a [`Put`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Where it is.
    pub position: Position,
    /// Its number in the first of its streams, without holes from 1.
    pub n: u64,
    /// It was there before, under the same key.
    pub dup: bool,
    /// What is promised: at least what was asked for.
    pub durability: Durability,
}

/// A stored message, as one of its streams has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The stream.
    pub stream: StreamName,
    /// Its position in the shard.
    pub pos: u64,
    /// The position of the message before it in this stream. Of the first, 0, or up to where [there was none](Shard::drop_idle) that is known.
    pub prev: u64,
    /// Its number in this stream, without holes from 1.
    pub n: u64,
    /// When it was committed.
    pub at: Timestamp,
    /// What was put.
    pub payload: Bytes,
}

/// A part of a stream: what is after `after`, up to and including `until`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// The stream.
    pub stream: StreamName,
    /// The last position that is not asked for.
    pub after: u64,
    /// The last one that is; [`u64::MAX`] for whatever there is.
    pub until: u64,
}

impl Range {
    /// Everything after a position.
    #[must_use]
    pub fn after(stream: &StreamName, after: u64) -> Self {
        Self { stream: stream.clone(), after, until: u64::MAX }
    }

    /// What is left of it behind a position.
    #[must_use]
    pub fn rest(mut self, through: u64) -> Self {
        self.after = self.after.max(through);
        self
    }
}

/// Messages of several streams, by position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// In the order of their positions, each position once.
    pub messages: Vec<Message>,
    /// All ranges are read up to here: go on with [`Range::rest`] of it.
    pub through: u64,
    /// Whether this was everything.
    pub complete: bool,
    /// The last position of the shard when it was read.
    pub head: Position,
    /// For each range, in order: up to where its stream has forgotten messages; 0 if nothing. A range that begins before it has
    /// a gap.
    pub floors: Vec<u64>,
}

/// What is known of one stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamInfo {
    /// The position of its last message.
    pub head: u64,
    /// The number of its last message.
    pub n: u64,
    /// Messages up to this position are forgotten.
    pub floor: u64,
    /// How many are kept.
    pub messages: u64,
    /// Their [`Put::cost`].
    pub bytes: u64,
}

/// What a shard holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Streams that are known, empty ones included.
    pub streams: u64,
    /// Streams that something is kept of.
    pub filled: u64,
    /// Messages in all streams.
    pub messages: u64,
    /// Their [`Put::cost`].
    pub bytes: u64,
    /// Commits since the shard was opened.
    pub groups: u64,
    /// Syncs since then.
    pub syncs: u64,
}

/// What a store can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// The best that a receipt can promise; more is refused.
    pub durability: Durability,
    /// Whether anything is there when it is opened again.
    pub survives_restart: bool,
    /// Longest payload, in bytes.
    pub max_payload: usize,
    /// Longest name of a stream or device, and longest key, in bytes.
    pub max_name: usize,
    /// Most writes of one commit.
    pub max_writes: usize,
}

/// Why a store did not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The caller asks for what cannot be; nothing was changed.
    #[error("refused: {0}")]
    Refused(String),
    /// There is no room on the disk; nothing was changed. Trimming, cursors and sessions are still accepted.
    #[error("the disk has {free_bytes} bytes left, which are reserved: free some space or shorten retention")]
    Full {
        /// What is left.
        free_bytes: u64,
    },
    /// So much waits already that this is not taken; nothing was changed. Try again.
    #[error("the store is behind: {waiting_bytes} bytes wait to be written")]
    Busy {
        /// What waits.
        waiting_bytes: u64,
    },
    /// An earlier write or sync failed: whether it is on the disk nobody can tell, so nothing is accepted until the store was
    /// opened anew.
    #[error("an earlier write failed ({0}): open the store anew")]
    Poisoned(String),
    /// What is stored is not what was written.
    #[error("damaged: {0}")]
    Damaged(String),
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// The system refused.
    #[error("{context}")]
    Io {
        /// What was tried.
        context: String,
        /// Its words.
        #[source]
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
}

/// Hears what was committed, in the order of positions and after its durability was reached. Called by the thread that commits,
/// with all messages of one group, before their receipts are there: it must not block, and must not call the shard.
pub type Follower = Arc<dyn Fn(&[Message]) + Send + Sync>;

/// Where shards are kept.
pub trait Store: Send + Sync + 'static {
    /// The shard of this name; an empty one if it was never written to. The same one for the same name.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read, or if the name is longer than [`Capabilities::max_name`].
    fn shard(&self, name: &str) -> Result<Arc<dyn Shard>, StoreError>;

    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// Finishes what was begun, syncs, and refuses everything after. Blocks until that is done.
    ///
    /// # Errors
    /// [`StoreError`] if what was written could not be synced.
    fn close(&self) -> Result<(), StoreError>;
}

/// One scale of positions, and the streams on it. Usually a namespace.
///
/// What holds of every implementation, and what the suite of the feature `contract` checks:
///
/// - **Calls begin at once; futures report.** The order of calls of one thread is the order of positions; dropping a future takes
///   nothing back.
/// - **A commit happens or does not.** Also across a crash: what belongs together is there together. What had its receipt is there
///   after a crash that its durability covers, or the epoch is another one.
/// - **Positions grow**, in the order of commits; what an [epoch](crate::Epoch) gave to one message it never gives to another.
///   `n` has no holes.
/// - **First durable, then visible.** Readers and followers see a message only after the durability it was put with is reached.
/// - **First visible, then heard, then receipted.** Readers find a message before the follower hears of it, and the follower has
///   heard of it before its receipt is there. Whoever has a receipt can read the message, and what it sends after that through
///   whatever the follower feeds comes behind the message, everywhere.
/// - **What is forgotten is known.** [`Page::floors`] never claims more than is there.
pub trait Shard: Send + Sync + 'static {
    /// Writes all or nothing. Answers with a receipt for each [`Write::Put`], in order.
    ///
    /// # Errors (of the future)
    /// [`StoreError`]; with [`StoreError::Refused`] and [`StoreError::Full`] nothing was changed.
    fn commit(&self, now: Timestamp, writes: Vec<Write>) -> Answer<Vec<Receipt>>;

    /// Reads ranges of several streams, merged by position, up to so many messages and bytes of payload; at least one message if
    /// there is one.
    ///
    /// # Errors (of the future)
    /// [`StoreError`] when something could not be read.
    fn read(&self, ranges: Vec<Range>, max: crate::Budget) -> Answer<Page>;

    /// What is known of a session, unless it has expired.
    ///
    /// # Errors (of the future)
    /// [`StoreError`] when it could not be read.
    fn session(&self, now: Timestamp, pid: Pid) -> Answer<Option<SessionRecord>>;

    /// Up to where each device of an inbox has it, by name.
    ///
    /// # Errors (of the future)
    /// [`StoreError`] when they could not be read.
    fn cursors(&self, stream: &StreamName) -> Answer<Cursors>;

    /// Forgets messages that are too old and sessions that have expired. To be called now and then. Answers how many of both.
    ///
    /// # Errors (of the future)
    /// [`StoreError`] when that could not be written.
    fn retain(&self, now: Timestamp) -> Answer<u64>;

    /// Forgets that streams were there of which nothing is kept, that have no cursors, and that nothing was put in since the position
    /// `through`; with them, the keys of their messages. Answers how many. Of very many, a store may leave some for the next time.
    ///
    /// From then on a stream that is not known, or is new, counts as forgotten up to where the furthest of them had come: whoever asks for
    /// what came after an earlier position is told of a gap. A store that does not forget streams answers 0.
    ///
    /// # Errors (of the future)
    /// [`StoreError`] when that could not be read, or written.
    fn drop_idle(&self, _through: u64) -> Answer<u64> {
        Box::pin(std::future::ready(Ok(0)))
    }

    /// The last position that is visible.
    fn head(&self) -> Position;

    /// What is known of a stream; `None` if it was never written to, and where [some were dropped](Shard::drop_idle), one that ends where
    /// they did. A store that keeps idle streams on a disk looks one up there: once,
    /// by name.
    ///
    /// # Errors
    /// [`StoreError`] when that could not be read.
    fn look_up(&self, stream: &StreamName) -> Result<Option<StreamInfo>, StoreError>;

    /// As [`Shard::look_up`]; `None` also if that cannot be read.
    fn stream(&self, stream: &StreamName) -> Option<StreamInfo> {
        self.look_up(stream).ok().flatten()
    }

    /// What the shard holds.
    fn stats(&self) -> Stats;

    /// Who hears of commits from now on, instead of whoever did.
    fn follow(&self, follower: Option<Follower>);

    /// A store with a thread of its own calls the follower, and gives the receipts of one group, within this from now on.
    fn answer_within(&self, _: Around) {}
}
