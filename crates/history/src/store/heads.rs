//! Where the streams of a shard end and begin: what a store has to keep in memory, and the rules by which it changes.
//!
//! ```text
//!   writes ─► Heads::add ─► Group ─► the store writes it ─► Heads::settle ─► floors
//! ```
//!
//! A value without messages: those are the store's, which tells what is oldest through a [`Source`].

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
    /// How much is kept, if that was said.
    pub retention: Option<Retention>,
}

impl StreamHead {
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

/// The heads of all streams of a shard.
#[derive(Clone, Debug)]
pub struct Heads {
    epoch: Epoch,
    /// The last position given out.
    head: u64,
    /// The last group begun.
    group: u64,
    next_stream: u64,
    streams: HashMap<StreamName, StreamHead>,
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
        let (streams, ahead) = (HashMap::new(), HashMap::new());
        let window = Window::new(window);
        Self { epoch, head: 0, group: 0, next_stream: 1, streams, window, default, capabilities, ahead }
    }

    /// Takes up what was stored: the last position and group, and each stream.
    pub fn restore(&mut self, head: u64, group: u64, streams: impl IntoIterator<Item = (StreamName, StreamHead)>) {
        (self.head, self.group) = (head, group);
        for (name, stream) in streams {
            self.next_stream = self.next_stream.max(stream.id + 1);
            self.streams.insert(name, stream);
        }
    }

    /// Takes up a key that was remembered. In the order they were stored.
    pub fn remember(&mut self, remembered: Remembered) {
        self.window.remember(remembered);
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

    /// One stream.
    #[must_use]
    pub fn stream(&self, name: &StreamName) -> Option<&StreamHead> {
        self.streams.get(name)
    }

    /// All streams.
    pub fn streams(&self) -> impl ExactSizeIterator<Item = (&StreamName, &StreamHead)> {
        self.streams.iter()
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
                    if let Some(head) = self.streams.get_mut(&stream) {
                        head.retention = Some(retention);
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
            let id = self.streams.get(stream).map(|head| head.id);
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
        let id = match self.streams.get(name) {
            Some(head) => head.id,
            None => {
                let id = self.next_stream;
                self.next_stream += 1;
                // It begins here: what others did before is not its past.
                let head = StreamHead { id, head: 0, n: 0, floor: 0, floor_n: 0, bytes: 0, retention: None };
                self.streams.insert(name.clone(), head);
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
            let head = self.streams.get_mut(name).expect("invariant: a touched stream is there");
            if head.head == pos {
                continue; // Named twice.
            }
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
            let id = self.streams.get(name).map_or(0, |head| head.id);
            let trims = group.trims.iter().filter(|(stream, _)| *stream == id).map(|(_, through)| *through);
            forgotten += self.forget(name, trims.max().unwrap_or(0), None, source)?;
        }
        Ok(forgotten)
    }

    /// Forgets what is too old, or too much, everywhere: keys too. Returns how many messages were forgotten.
    ///
    /// # Errors
    /// Those of `source`.
    pub fn settle_all(&mut self, now: Timestamp, source: &impl Source) -> Result<u64, StoreError> {
        self.window.forget(now);
        let kept = self.streams.iter().filter(|(_, head)| head.n > head.floor_n);
        let names: Vec<StreamName> = kept.map(|(name, _)| name.clone()).collect();
        let mut forgotten = 0;
        for name in names {
            forgotten += self.forget(&name, 0, Some(now), source)?;
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
        let Some(head) = self.streams.get_mut(name) else { return Ok(0) };
        let retention = head.retention.unwrap_or(self.default);
        let passed = if retention.until_passed { source.passed(head.id)?.unwrap_or(0) } else { 0 };
        let through = through.max(passed);
        let before = head.floor_n;
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
                break;
            }
            head.floor = oldest.pos;
            head.floor_n = oldest.n;
            head.bytes -= oldest.cost.min(head.bytes);
            ahead.pop_front();
        }
        if self.ahead.get(&head.id).is_some_and(VecDeque::is_empty) {
            self.ahead.remove(&head.id);
        }
        Ok(head.floor_n - before)
    }
}
