//! Where the streams of a shard end and begin, and the rules by which that changes.
//!
//! ```text
//!   writes ─► Heads::add ─► Group ─► the store writes it ─► Heads::settle ─► floors
//! ```
//!
//! A value without messages: those are the store's, which tells what is oldest through a [`Source`].
//!
//! A store may keep the heads of idle streams elsewhere: it [evicts](Heads::evict) them, and [admits](Heads::admit) what is
//! [missing](Heads::missing) before something happens to it. What remains in memory of a stream that is not there is when its
//! oldest message may be too old, if it has one that can be.

mod add;
mod forget;
mod group;
mod stream;

use std::collections::{BTreeSet, HashMap, VecDeque};

use self::forget::list;
pub use self::forget::{Kept, Source};
pub use self::group::{Group, Record};
pub use self::stream::StreamHead;
use crate::position::{Epoch, Position};
use crate::store::port::{Capabilities, Retention, StreamName, Write};
use crate::store::window::{Remembered, Window, WindowLimits};

/// What all streams of a shard have together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Streams.
    pub streams: u64,
    /// Those that something is kept of.
    pub filled: u64,
    /// Messages that are kept.
    pub messages: u64,
    /// Their cost.
    pub bytes: u64,
}

/// A stream that is in memory.
#[derive(Clone, Debug)]
struct Hot {
    head: StreamHead,
    /// Where it is in [`Heads::dues`]: not after [`StreamHead::due`], so that it need not be moved each time that goes on.
    listed: u64,
    /// Since the last eviction.
    is_used: bool,
}

/// The heads of the streams of a shard.
#[derive(Clone, Debug)]
pub struct Heads {
    epoch: Epoch,
    /// The last position given out.
    head: u64,
    /// The last group begun.
    group: u64,
    next_stream: u64,
    /// The furthest that a stream had come that was dropped.
    dropped: u64,
    totals: Totals,
    streams: HashMap<StreamName, Hot>,
    /// The names of those in memory, by number.
    names: HashMap<u64, StreamName>,
    /// When streams are to be looked after, and their numbers: those that are not in memory too.
    dues: BTreeSet<(u64, u64)>,
    evictions: u64,
    window: Window,
    default: Retention,
    capabilities: Capabilities,
    /// The oldest messages of streams that are full, asked for in advance.
    ahead: HashMap<u64, VecDeque<Kept>>,
}

impl Heads {
    /// A shard without streams.
    #[must_use]
    pub fn new(epoch: Epoch, default: Retention, window: WindowLimits, capabilities: Capabilities) -> Self {
        Self {
            epoch,
            head: 0,
            group: 0,
            next_stream: 1,
            dropped: 0,
            totals: Totals::default(),
            streams: HashMap::new(),
            names: HashMap::new(),
            dues: BTreeSet::new(),
            evictions: 0,
            window: Window::new(window),
            default,
            capabilities,
            ahead: HashMap::new(),
        }
    }

    /// Takes up what was stored: the last position and group. Each stream that was stored is [counted](Heads::count).
    pub fn restore(&mut self, head: u64, group: u64) {
        (self.head, self.group) = (head, group);
    }

    /// Takes up what was stored of streams that were dropped: how far they had come, and the number of the next stream.
    pub fn restore_dropped(&mut self, dropped: u64, next_stream: u64) {
        self.dropped = dropped;
        self.next_stream = self.next_stream.max(next_stream);
    }

    /// Takes up a stream that was stored, without having it in memory.
    pub fn count(&mut self, head: &StreamHead) {
        self.next_stream = self.next_stream.max(head.id + 1);
        self.totals.streams += 1;
        self.totals.filled += u64::from(head.n > head.floor_n);
        self.totals.messages += head.n - head.floor_n;
        self.totals.bytes += head.bytes;
        let due = head.due(self.default);
        if due < u64::MAX {
            self.dues.insert((due, head.id));
        }
    }

    /// Takes up a key that was remembered. In the order they were stored.
    pub fn remember(&mut self, remembered: Remembered) {
        self.window.remember(remembered);
    }

    /// Takes a stream into memory that was counted, as it was when it was evicted or counted. Nothing if it is there.
    pub fn admit(&mut self, name: &StreamName, head: StreamHead) {
        if !self.streams.contains_key(name) {
            let listed = head.due(self.default);
            self.names.insert(head.id, name.clone());
            self.streams.insert(name.clone(), Hot { head, listed, is_used: true });
        }
    }

    /// The streams of these writes that are not in memory: new, or to be admitted before the writes are added.
    #[must_use]
    pub fn missing<'a>(&self, writes: impl IntoIterator<Item = &'a Write>) -> BTreeSet<StreamName> {
        let named = writes.into_iter().flat_map(Write::streams);
        named.filter(|name| !self.streams.contains_key(*name)).cloned().collect()
    }

    /// Lets go of streams that were not used since the last time, or of all, until no more than `max` are in memory; not of those
    /// that `is_kept` names. Whoever calls this has stored the others as they are.
    pub fn evict(&mut self, max: usize, is_kept: impl Fn(&StreamName) -> bool) {
        for spares_used in [true, false] {
            if self.streams.len() <= max {
                break;
            }
            self.evictions += 1;
            let Self { streams, names, dues, ahead, default, .. } = self;
            streams.retain(|name, hot| {
                if is_kept(name) || spares_used && std::mem::take(&mut hot.is_used) {
                    return true;
                }
                list(dues, hot, hot.head.due(*default));
                names.remove(&hot.head.id);
                ahead.remove(&hot.head.id);
                false
            });
            if self.streams.capacity() > 4 * max.max(self.streams.len()) {
                self.streams.shrink_to(max);
                self.names.shrink_to(max);
            }
        }
    }

    /// Before streams are dropped: from now on, what is not known may have been one of them, up to this position.
    pub fn raise_dropped(&mut self, through: u64) {
        self.dropped = self.dropped.max(through);
    }

    /// Forgets that a stream was there, in memory or not, that [is idle](StreamHead::is_idle) and has no cursors. How far it had come
    /// [was said before](Heads::raise_dropped). Keys of its messages mean nothing any more.
    pub fn drop_stream(&mut self, name: &StreamName) {
        if let Some(mut hot) = self.streams.remove(name) {
            list(&mut self.dues, &mut hot, u64::MAX);
            self.names.remove(&hot.head.id);
            self.ahead.remove(&hot.head.id);
        }
        self.totals.streams -= 1;
        self.evictions += 1;
    }

    /// What a stream is that is not there: it may have been, and was dropped. A new one begins like this.
    #[must_use]
    pub const fn unknown(&self) -> StreamHead {
        StreamHead::new(self.next_stream, self.dropped)
    }

    /// How far streams had come that were dropped, and the number of the next stream: to be [restored](Heads::restore_dropped).
    #[must_use]
    pub const fn dropped(&self) -> (u64, u64) {
        (self.dropped, self.next_stream)
    }

    /// How often something was evicted: what was stored of a stream that is not in memory, and was not in between, holds as long as
    /// this is the same.
    #[must_use]
    pub const fn evictions(&self) -> u64 {
        self.evictions
    }

    /// The last position given out. What is visible may be behind.
    #[must_use]
    pub const fn head(&self) -> Position {
        Position { epoch: self.epoch, pos: self.head }
    }

    /// The number of the last group.
    #[must_use]
    pub const fn group(&self) -> u64 {
        self.group
    }

    /// One stream, if it is in memory.
    #[must_use]
    pub fn stream(&self, name: &StreamName) -> Option<&StreamHead> {
        self.streams.get(name).map(|hot| &hot.head)
    }

    /// The streams that are in memory.
    pub fn streams(&self) -> impl ExactSizeIterator<Item = (&StreamName, &StreamHead)> {
        self.streams.iter().map(|(name, hot)| (name, &hot.head))
    }

    /// What all streams have together.
    #[must_use]
    pub const fn totals(&self) -> Totals {
        self.totals
    }

    /// The position of the oldest message whose key is remembered.
    #[must_use]
    pub fn oldest_key(&self) -> Option<u64> {
        self.window.oldest()
    }

    /// The name of a stream that is in memory.
    #[must_use]
    pub fn name(&self, id: u64) -> Option<&StreamName> {
        self.names.get(&id)
    }
}
