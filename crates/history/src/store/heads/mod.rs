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

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use crate::pid::Pid;
use crate::position::{Epoch, Position};
use crate::store::port::{
    Capabilities, Durability, Message, Put, Receipt, Retention, StoreError, StreamInfo, StreamName, Timestamp, Write,
};
use crate::store::session::SessionRecord;
use crate::store::window::{Remembered, Window, WindowLimits};

/// How many of the oldest messages are asked for at once.
const AHEAD: usize = 32;

/// One stream, as its shard knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamHead {
    /// A number that no other stream of the shard has or had.
    pub id: u64,
    /// The position of its last message.
    pub head: u64,
    /// The number of its last message.
    pub n: u64,
    /// Messages up to this position are forgotten.
    pub floor: u64,
    /// Messages up to this number are forgotten.
    pub floor_n: u64,
    /// The cost of what is kept.
    pub bytes: u64,
    /// When the oldest message that is kept was committed; `None` if that is not known without asking.
    pub oldest: Option<Timestamp>,
    /// How much is kept, if that was said.
    pub retention: Option<Retention>,
}

impl StreamHead {
    /// A stream that nothing was put in.
    #[must_use]
    pub const fn new(id: u64) -> Self {
        Self { id, head: 0, n: 0, floor: 0, floor_n: 0, bytes: 0, oldest: None, retention: None }
    }

    /// From when on something of it may have to be forgotten; [`u64::MAX`] if nothing ever has to be.
    fn due(&self, default: Retention) -> u64 {
        let retention = self.retention.unwrap_or(default);
        let kept = self.n - self.floor_n;
        if kept == 0 {
            u64::MAX
        } else if kept > retention.max_messages || self.bytes > retention.max_bytes {
            // Kept before less was allowed.
            0
        } else if retention.max_age_ms == u64::MAX {
            u64::MAX
        } else {
            self.oldest.map_or(0, |oldest| oldest.0.saturating_add(retention.max_age_ms).saturating_add(1))
        }
    }

    /// As the port tells it.
    #[must_use]
    pub fn info(&self) -> StreamInfo {
        let Self { head, n, floor, floor_n, bytes, .. } = *self;
        StreamInfo { head, n, floor, messages: n - floor_n, bytes }
    }
}

/// What is known of a stored message without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its position.
    pub pos: u64,
    /// Its number.
    pub n: u64,
    /// Its cost.
    pub cost: u64,
    /// When it was committed.
    pub at: Timestamp,
}

/// What the rules ask of a store.
pub trait Source {
    /// The oldest messages of a stream after a position, at most `max`; none only if there is none.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    fn oldest(&self, stream: u64, after: u64, max: usize) -> Result<Vec<Kept>, StoreError>;

    /// Where a cursor is.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    fn cursor(&self, stream: u64, device: &str) -> Result<Option<u64>, StoreError>;

    /// Up to where every cursor of a stream is; `None` without cursors.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    fn passed(&self, stream: u64) -> Result<Option<u64>, StoreError>;
}

/// A message to be written: of one stream.
#[derive(Clone, Debug)]
pub struct Record {
    /// The number of the stream.
    pub stream: u64,
    /// Its cost.
    pub cost: u64,
    /// The message.
    pub message: Message,
}

/// What one write to the disk has to do: everything of several commits.
#[derive(Clone, Debug)]
pub struct Group {
    /// Its number, without holes from 1.
    pub number: u64,
    /// What is promised to somebody in it.
    pub durability: Durability,
    /// Streams that are new.
    pub created: Vec<(StreamName, u64)>,
    /// Messages, by position.
    pub records: Vec<Record>,
    /// Keys to be remembered.
    pub keys: Vec<Remembered>,
    /// Retentions, by stream.
    pub retentions: Vec<(u64, Retention)>,
    /// Up to where streams are forgotten.
    pub trims: Vec<(u64, u64)>,
    /// Cursors by stream and device; `None` is gone.
    pub cursors: BTreeMap<(u64, Arc<str>), Option<u64>>,
    /// Sessions; `None` is gone.
    pub sessions: Vec<(Pid, Option<Box<SessionRecord>>)>,
    touched: BTreeSet<StreamName>,
}

impl Group {
    /// Whether nothing has to be written for it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.created.is_empty()
            && self.records.is_empty()
            && self.retentions.is_empty()
            && self.trims.is_empty()
            && self.cursors.is_empty()
            && self.sessions.is_empty()
    }

    /// The streams that something happens to.
    pub fn touched(&self) -> impl Iterator<Item = &StreamName> {
        self.touched.iter()
    }
}

/// What all streams of a shard have together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Streams.
    pub streams: u64,
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

    /// Takes up a stream that was stored, without having it in memory.
    pub fn count(&mut self, head: &StreamHead) {
        self.next_stream = self.next_stream.max(head.id + 1);
        self.totals.streams += 1;
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

    /// Begins a group.
    pub fn begin(&mut self) -> Group {
        self.group += 1;
        Group {
            number: self.group,
            durability: Durability::Memory,
            created: Vec::new(),
            records: Vec::new(),
            keys: Vec::new(),
            retentions: Vec::new(),
            trims: Vec::new(),
            cursors: BTreeMap::new(),
            sessions: Vec::new(),
            touched: BTreeSet::new(),
        }
    }

    /// Takes back a group that nothing was added to.
    pub fn cancel(&mut self, group: &Group) {
        debug_assert!(group.is_empty() && group.number == self.group);
        self.group -= 1;
    }

    /// Adds one commit to a group: all of it, or an error and nothing. Receipts promise what the store reaches for what was asked.
    /// A stream that is not in memory is a new one.
    ///
    /// # Errors
    /// [`StoreError::Refused`] for what cannot be; the errors of `source`.
    pub fn add(
        &mut self,
        group: &mut Group,
        now: Timestamp,
        writes: Vec<Write>,
        source: &impl Source,
    ) -> Result<Vec<Receipt>, StoreError> {
        self.check(&writes)?;
        let cursors = self.cursors_of(group, &writes, source)?;
        for ((name, device), pos) in cursors {
            let id = self.touch(group, &name);
            group.cursors.insert((id, device), pos);
        }
        let mut receipts = Vec::new();
        for write in writes {
            match write {
                Write::Put(put) => receipts.push(self.put(group, now, put)),
                Write::Retain { stream, retention } => {
                    let id = self.touch(group, &stream);
                    if let Some(hot) = self.streams.get_mut(&stream) {
                        hot.head.retention = Some(retention);
                    }
                    group.retentions.push((id, retention));
                }
                Write::Trim { stream, through } => {
                    let id = self.touch(group, &stream);
                    group.trims.push((id, through));
                }
                Write::Cursor { .. } | Write::ForgetCursor { .. } => {}
                Write::Session { pid, record } => group.sessions.push((pid, record)),
            }
        }
        Ok(receipts)
    }

    fn check(&self, writes: &[Write]) -> Result<(), StoreError> {
        let Capabilities { durability, max_payload, max_name, max_writes, .. } = self.capabilities;
        let refuse = |why: String| Err(StoreError::Refused(why));
        if writes.len() > max_writes {
            return refuse(format!("{} writes at once, of {max_writes}", writes.len()));
        }
        for write in writes {
            let (streams, text): (&[StreamName], usize) = match write {
                Write::Put(put) => {
                    if put.streams.is_empty() {
                        return refuse("a message without a stream".into());
                    }
                    if put.payload.len() > max_payload {
                        return refuse(format!("a payload of {} bytes, of {max_payload}", put.payload.len()));
                    }
                    if put.durability > durability {
                        return refuse(format!("{} is more than this store reaches, {durability}", put.durability));
                    }
                    (&put.streams, put.key.as_ref().map_or(0, bytes::Bytes::len))
                }
                Write::Retain { stream, .. } => (std::slice::from_ref(stream), 0),
                Write::Trim { stream, through } => {
                    if *through > self.head {
                        return refuse(format!("trimming to {through}, while the shard is at {}", self.head));
                    }
                    (std::slice::from_ref(stream), 0)
                }
                Write::Cursor { stream, device, pos } => {
                    if *pos > self.head {
                        return refuse(format!("a cursor at {pos}, while the shard is at {}", self.head));
                    }
                    (std::slice::from_ref(stream), device.len())
                }
                Write::ForgetCursor { stream, device } => (std::slice::from_ref(stream), device.len()),
                Write::Session { .. } => (&[], 0),
            };
            if text > max_name || streams.iter().any(|name| name.len() > max_name) {
                return refuse(format!("a name or key of more than {max_name} bytes"));
            }
        }
        Ok(())
    }

    /// Where cursors will be: what is new only. One that would move back is not in it.
    #[expect(clippy::type_complexity, reason = "a local list")]
    fn cursors_of(
        &self,
        group: &Group,
        writes: &[Write],
        source: &impl Source,
    ) -> Result<BTreeMap<(StreamName, Arc<str>), Option<u64>>, StoreError> {
        let mut cursors = BTreeMap::new();
        for write in writes {
            let (stream, device, pos) = match write {
                Write::Cursor { stream, device, pos } => (stream, device, Some(*pos)),
                Write::ForgetCursor { stream, device } => (stream, device, None),
                _ => continue,
            };
            let place = (stream.clone(), device.clone());
            let id = self.streams.get(stream).map(|hot| hot.head.id);
            let there = match (cursors.get(&place), id) {
                (Some(there), _) => *there,
                (None, None) => None,
                (None, Some(id)) => match group.cursors.get(&(id, device.clone())) {
                    Some(there) => *there,
                    None => source.cursor(id, device)?,
                },
            };
            // `None` is less than every position: a new cursor is always written, one that goes back never.
            if pos.is_none() && there.is_some() || pos > there {
                cursors.insert(place, pos);
            }
        }
        Ok(cursors)
    }

    /// The number of a stream that something happens to.
    fn touch(&mut self, group: &mut Group, name: &StreamName) -> u64 {
        let id = match self.streams.get_mut(name) {
            Some(hot) => {
                hot.is_used = true;
                hot.head.id
            }
            None => {
                let id = self.next_stream;
                self.next_stream += 1;
                self.totals.streams += 1;
                // It begins here: what others did before is not its past.
                self.admit(name, StreamHead::new(id));
                group.created.push((name.clone(), id));
                id
            }
        };
        if !group.touched.contains(name) {
            group.touched.insert(name.clone());
        }
        id
    }

    fn put(&mut self, group: &mut Group, now: Timestamp, put: Put) -> Receipt {
        group.durability = group.durability.max(put.durability);
        let first = self.touch(group, &put.streams[0]);
        let epoch = self.epoch;
        if let Some(key) = &put.key
            && let Some(there) = self.window.find(now, first, key)
        {
            let position = Position { epoch, pos: there.pos };
            return Receipt { position, n: there.n, dup: true, durability: put.durability };
        }
        self.head += 1;
        let (pos, cost) = (self.head, put.cost());
        let mut first_n = None;
        for name in &put.streams {
            let id = self.touch(group, name);
            let head = &mut self.streams.get_mut(name).expect("invariant: a touched stream is there").head;
            if head.head == pos {
                continue; // Named twice.
            }
            if head.n == head.floor_n {
                head.oldest = Some(now);
            }
            self.totals.messages += 1;
            self.totals.bytes += cost;
            let prev = std::mem::replace(&mut head.head, pos);
            head.n += 1;
            head.bytes += cost;
            first_n.get_or_insert(head.n);
            let (n, payload) = (head.n, put.payload.clone());
            let message = Message { stream: name.clone(), pos, prev, n, at: now, payload };
            group.records.push(Record { stream: id, cost, message });
        }
        let n = first_n.expect("invariant: a message has a stream");
        if let Some(key) = put.key {
            let remembered = Remembered { stream: first, key, at: now, pos, n };
            group.keys.push(remembered.clone());
            self.window.remember(remembered);
        }
        Receipt { position: Position { epoch, pos }, n, dup: false, durability: put.durability }
    }

    /// After a group was written: forgets what is too much in the streams it touched. Returns how many messages were forgotten.
    ///
    /// # Errors
    /// Those of `source`.
    pub fn settle(&mut self, group: &Group, source: &impl Source) -> Result<u64, StoreError> {
        let mut forgotten = 0;
        for name in &group.touched {
            let id = self.streams.get(name).map_or(0, |hot| hot.head.id);
            let trims = group.trims.iter().filter(|(stream, _)| *stream == id).map(|(_, through)| *through);
            forgotten += self.forget(name, trims.max().unwrap_or(0), None, source)?;
        }
        Ok(forgotten)
    }

    /// The numbers of streams, at most `max`, of which something may be too old. [Looking after](Heads::look_after) one takes it off.
    #[must_use]
    pub fn due(&self, now: Timestamp, max: usize) -> Vec<u64> {
        self.dues.range(..=(now.0, u64::MAX)).take(max).map(|(_, id)| *id).collect()
    }

    /// The name of a stream that is in memory.
    #[must_use]
    pub fn name(&self, id: u64) -> Option<&StreamName> {
        self.names.get(&id)
    }

    /// Forgets keys that are too old.
    pub fn forget_keys(&mut self, now: Timestamp) {
        self.window.forget(now);
    }

    /// Forgets of a stream that is in memory what is too old, or too much. Returns how many messages were forgotten.
    ///
    /// # Errors
    /// Those of `source`.
    pub fn look_after(&mut self, id: u64, now: Timestamp, source: &impl Source) -> Result<u64, StoreError> {
        let Some(name) = self.names.get(&id).cloned() else { return Ok(0) };
        let forgotten = self.forget(&name, 0, Some(now), source)?;
        if let Some(hot) = self.streams.get_mut(&name) {
            let due = hot.head.due(self.default);
            list(&mut self.dues, hot, due);
        }
        Ok(forgotten)
    }

    /// Forgets of one stream what was trimmed up to a position, and what is too much.
    ///
    /// # Errors
    /// Those of `source`.
    pub fn forget(
        &mut self,
        name: &StreamName,
        through: u64,
        now: Option<Timestamp>,
        source: &impl Source,
    ) -> Result<u64, StoreError> {
        let Some(hot) = self.streams.get_mut(name) else { return Ok(0) };
        let head = &mut hot.head;
        let retention = head.retention.unwrap_or(self.default);
        let passed = if retention.until_passed { source.passed(head.id)?.unwrap_or(0) } else { 0 };
        let through = through.max(passed);
        let (before, bytes_before) = (head.floor_n, head.bytes);
        while head.floor_n < head.n {
            let oldest_age = retention.max_age_ms;
            let is_much = head.n - head.floor_n > retention.max_messages || head.bytes > retention.max_bytes;
            if !is_much && head.floor >= through && now.is_none() {
                break;
            }
            let ahead = self.ahead.entry(head.id).or_default();
            if ahead.is_empty() {
                ahead.extend(source.oldest(head.id, head.floor, AHEAD)?);
            }
            let Some(oldest) = ahead.front() else {
                let (missing, last) = (head.floor_n + 1, head.n);
                return Err(StoreError::Damaged(format!("stream {name:?} lacks its messages {missing} to {last}")));
            };
            let is_old = now.is_some_and(|now| now.0.saturating_sub(oldest.at.0) > oldest_age);
            if !is_much && !is_old && oldest.pos > through {
                head.oldest = Some(oldest.at);
                break;
            }
            head.floor = oldest.pos;
            head.floor_n = oldest.n;
            head.bytes -= oldest.cost.min(head.bytes);
            ahead.pop_front();
            head.oldest = ahead.front().map(|next| next.at);
        }
        if self.ahead.get(&head.id).is_some_and(VecDeque::is_empty) {
            self.ahead.remove(&head.id);
        }
        let forgotten = head.floor_n - before;
        self.totals.messages -= forgotten;
        self.totals.bytes -= bytes_before - head.bytes;
        let due = head.due(self.default);
        if due < hot.listed || due == u64::MAX {
            list(&mut self.dues, hot, due);
        }
        Ok(forgotten)
    }
}

/// Lists a stream as due then.
fn list(dues: &mut BTreeSet<(u64, u64)>, hot: &mut Hot, due: u64) {
    if hot.listed != due {
        dues.remove(&(hot.listed, hot.head.id));
        if due < u64::MAX {
            dues.insert((due, hot.head.id));
        }
        hot.listed = due;
    }
}
