//! What is on the disk, by kind.

use std::panic::{RefUnwindSafe, UnwindSafe};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockWriteGuard, TryLockError};

use fjall::compaction::filter::{CompactionFilter, CompactionFilterResult, Context, Factory, ItemAccessor, Verdict};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use lsm_tree::AbstractTree as _;
use posthaste_history::store::{Kept, Message, Put, Range, Source, StoreError, StreamHead, StreamName};

use crate::ahead::Ahead;
use crate::codec::{Stored, cursor_key, decode_head, group_key, head_key, name_key, stream_key, unseal};
use crate::config::Config;
use crate::error::{OpenError, read_failed};

/// The engine and its keyspaces.
#[derive(Clone)]
pub(crate) struct Content {
    pub(crate) engine: Database,
    pub(crate) ahead: Ahead,
    /// Shards by name, heads of streams, checkpoints.
    pub(crate) heads: Keyspace,
    pub(crate) messages: Keyspace,
    pub(crate) groups: Keyspace,
    pub(crate) cursors: Keyspace,
    pub(crate) sessions: Keyspace,
    /// What was put into queues, and what is known of it.
    pub(crate) jobs: Keyspace,
    pub(crate) queues: Keyspace,
    unsynced: Arc<RwLock<()>>,
    /// What is gathered in memory before it becomes a table.
    memtable_bytes: u64,
    _filtering: Arc<Filtering>,
}

impl Content {
    pub(crate) fn open(path: &Path, config: &Config) -> Result<Self, OpenError> {
        let failed = |error| OpenError::engine(path, error);
        let below = Arc::new(Below(Mutex::new(None)));
        let filter = below.clone();
        let engine = Database::builder(path)
            .cache_size(config.cache_bytes)
            .manual_journal_persist(true)
            // The smallest there is: starting replays it.
            .max_journaling_size(64 << 20)
            // The first of several hands compactions on to the others, again and again until one has time for them.
            .worker_threads(1)
            .with_compaction_filter_factories(Arc::new(move |keyspace| {
                (keyspace == "messages").then(|| filter.clone() as Arc<dyn Factory>)
            }))
            .open()
            .map_err(failed)?;
        let options =
            // No memtable is too large for the engine: see `rotate`.
            || KeyspaceCreateOptions::default().manual_journal_persist(true).max_memtable_size(u64::MAX);
        let keyspace = |name| engine.keyspace(name, options).map_err(failed);
        let (heads, messages, groups) = (keyspace("heads")?, keyspace("messages")?, keyspace("groups")?);
        let (cursors, sessions) = (keyspace("cursors")?, keyspace("sessions")?);
        let (jobs, queues) = (keyspace("jobs")?, keyspace("queues")?);
        let unsynced = Arc::new(RwLock::new(()));
        let filtering = Arc::new(Filtering(below.clone()));
        let ahead = Ahead::new(path.to_owned(), config.journal_bytes);
        let content = Self {
            engine,
            ahead,
            heads,
            messages,
            groups,
            cursors,
            sessions,
            jobs,
            queues,
            unsynced,
            memtable_bytes: config.memtable_bytes,
            _filtering: filtering,
        };
        *below.lock() = Some(content.floors());
        Ok(content)
    }

    /// Writes to the engine, and empties its buffer, which would be lost with the process. Nothing is synced.
    ///
    /// # Errors
    /// The engine's; the store is not to be used any more.
    pub(crate) fn write(&self, act: impl FnOnce() -> Result<(), fjall::Error>) -> Result<(), fjall::Error> {
        {
            let _writing = self.ahead.lock();
            act()?;
            self.engine.persist(PersistMode::Buffer)?;
        }
        self.rotate()
    }

    /// Has tables made of what was gathered in memory, where that is enough.
    ///
    /// The engine would do that by itself: each write would remind its thread, in a queue of 1,000 that the thread puts more into while it
    /// takes from it. During a long compaction the queue is full of reminders, and a thread that is alone would wait for itself.
    fn rotate(&self) -> Result<(), fjall::Error> {
        for keyspace in self.all() {
            if keyspace.tree.active_memtable().size() > self.memtable_bytes {
                keyspace.rotate_memtable()?;
            }
        }
        Ok(())
    }

    pub(crate) fn floors(&self) -> Floors {
        Floors { heads: self.heads.clone(), unsynced: self.unsynced.clone() }
    }

    /// Until this is let go, compaction does not learn what heads say.
    pub(crate) fn floors_unsynced(&self) -> RwLockWriteGuard<'_, ()> {
        self.unsynced.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the last checkpoint has of a stream. It is out of date if the stream is in memory.
    pub(crate) fn head(&self, shard: u32, stream: u64) -> Result<Option<(StreamName, StreamHead)>, StoreError> {
        let key = head_key(shard, stream);
        let Some(value) = self.heads.get(key).map_err(read_failed)? else { return Ok(None) };
        let Some((name, head)) = decode_head(&key, &value) else {
            return Err(StoreError::Damaged(format!("the head of stream {stream} is not what was written")));
        };
        Ok(Some((name.into(), head)))
    }

    /// The same, by name.
    pub(crate) fn head_named(&self, shard: u32, name: &str) -> Result<Option<StreamHead>, StoreError> {
        let Some(stream) = self.number_named(shard, name)? else { return Ok(None) };
        Ok(self.head(shard, stream)?.map(|(_, head)| head))
    }

    /// The number of the stream of this name.
    pub(crate) fn number_named(&self, shard: u32, name: &str) -> Result<Option<u64>, StoreError> {
        let key = name_key(shard, name);
        let Some(value) = self.heads.get(&key).map_err(read_failed)? else { return Ok(None) };
        let Some(stream) = number_of(&key, &value) else {
            return Err(StoreError::Damaged(format!("the number of stream {name:?} is not what was written")));
        };
        Ok(Some(stream))
    }

    /// Whether a device has a cursor in a stream.
    pub(crate) fn has_cursors(&self, shard: u32, stream: u64) -> Result<bool, StoreError> {
        let found = self.cursors.prefix(group_key(shard, stream)).next().map(fjall::Guard::key);
        Ok(found.transpose().map_err(read_failed)?.is_some())
    }

    /// The keys of the first messages of a stream, forgotten or not.
    pub(crate) fn message_keys(&self, shard: u32, stream: u64, max: usize) -> Result<Vec<fjall::Slice>, StoreError> {
        let keys = self.messages.range(stream_key(shard, stream, 0)..=stream_key(shard, stream, u64::MAX)).take(max);
        keys.map(|entry| entry.key().map_err(read_failed)).collect()
    }

    pub(crate) fn all(&self) -> [&Keyspace; 7] {
        [&self.heads, &self.messages, &self.groups, &self.cursors, &self.sessions, &self.jobs, &self.queues]
    }

    /// The messages of a range, in order.
    pub(crate) fn messages(
        &self,
        shard: u32,
        stream: u64,
        range: &Range,
    ) -> impl Iterator<Item = Result<Message, StoreError>> + use<> {
        let name: StreamName = range.stream.clone();
        let (from, to) = (stream_key(shard, stream, range.after + 1), stream_key(shard, stream, range.until));
        self.messages.range(from..=to).map(move |entry| {
            let (key, value) = entry.into_inner().map_err(read_failed)?;
            let pos = position(&key);
            let Some(stored) = Stored::decode(&key, &value) else {
                return Err(StoreError::Damaged(format!(
                    "the message of stream {name:?} at {pos} is not what was written"
                )));
            };
            let Stored { at, prev, n, payload } = stored;
            Ok(Message { stream: name.clone(), pos, prev, n, at, payload })
        })
    }
}

/// The position in a message's key.
pub(crate) fn position(key: &[u8]) -> u64 {
    key.last_chunk().map_or(0, |pos| u64::from_be_bytes(*pos))
}

/// One shard's part.
pub(crate) struct Part<'a> {
    pub(crate) content: &'a Content,
    pub(crate) shard: u32,
}

impl Part<'_> {
    /// The cursors of a stream by device.
    pub(crate) fn cursors(&self, stream: u64) -> Result<Vec<(Arc<str>, u64)>, StoreError> {
        let prefix = group_key(self.shard, stream);
        let entry = |entry: fjall::Guard| {
            let (key, value) = entry.into_inner().map_err(read_failed)?;
            let device = std::str::from_utf8(key.get(prefix.len()..).unwrap_or_default()).ok();
            match (device, number_of(&key, &value)) {
                (Some(device), Some(pos)) => Ok((Arc::from(device), pos)),
                _ => Err(StoreError::Damaged("a cursor is not what was written".into())),
            }
        };
        self.content.cursors.prefix(prefix).map(entry).collect()
    }
}

fn number_of(key: &[u8], value: &[u8]) -> Option<u64> {
    unseal(key, value)?.first_chunk().map(|pos| u64::from_be_bytes(*pos))
}

impl Source for Part<'_> {
    fn oldest(&self, stream: u64, after: u64, max: usize) -> Result<Vec<Kept>, StoreError> {
        let range = Range { stream: StreamName::from(""), after, until: u64::MAX };
        let kept = |message: Result<Message, StoreError>| {
            let Message { pos, n, at, payload, .. } = message?;
            Ok(Kept { pos, n, at, cost: payload.len() as u64 + Put::OVERHEAD })
        };
        self.content.messages(self.shard, stream, &range).take(max).map(kept).collect()
    }

    fn cursor(&self, stream: u64, device: &str) -> Result<Option<u64>, StoreError> {
        let key = cursor_key(self.shard, stream, device);
        let Some(value) = self.content.cursors.get(&key).map_err(read_failed)? else { return Ok(None) };
        let pos = number_of(&key, &value);
        pos.map(Some).ok_or_else(|| StoreError::Damaged(format!("the cursor of {device:?} is not what was written")))
    }

    fn passed(&self, stream: u64) -> Result<Option<u64>, StoreError> {
        Ok(self.cursors(stream)?.into_iter().map(|(_, pos)| pos).min())
    }
}

/// Drops messages that are forgotten.
struct Below(Mutex<Option<Floors>>);

/// As long as this is there, compaction knows what is forgotten. The engine holds what it filters with, and that holds a part of the
/// engine: without an end to it nothing would ever be closed.
struct Filtering(Arc<Below>);

impl Drop for Filtering {
    fn drop(&mut self) {
        *self.0.lock() = None;
    }
}

impl Below {
    fn lock(&self) -> MutexGuard<'_, Option<Floors>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Up to where each stream is forgotten: as the last checkpoint says, which is synced.
#[derive(Clone)]
pub(crate) struct Floors {
    heads: Keyspace,
    /// Nobody looks while a checkpoint is written and not yet synced.
    unsynced: Arc<RwLock<()>>,
}

impl Floors {
    /// Of the stream whose messages have keys that begin like this.
    pub(crate) fn of(&self, stream: [u8; 12]) -> u64 {
        let _synced = self.unsynced.read().unwrap_or_else(PoisonError::into_inner);
        self.synced(stream)
    }

    /// The same for the engine's thread, for which whoever writes a checkpoint may be waiting: nothing counts as forgotten then.
    fn of_at_once(&self, stream: [u8; 12]) -> u64 {
        match self.unsynced.try_read() {
            Ok(_synced) => self.synced(stream),
            Err(TryLockError::Poisoned(_)) => self.synced(stream),
            Err(TryLockError::WouldBlock) => 0,
        }
    }

    fn synced(&self, stream: [u8; 12]) -> u64 {
        let mut key = [b'h'; 13];
        key[1..].copy_from_slice(&stream);
        let head = self.heads.get(key).ok().flatten();
        head.and_then(|value| decode_head(&key, &value).map(|(_, head)| head.floor)).unwrap_or(0)
    }
}

impl RefUnwindSafe for Below {}
impl UnwindSafe for Below {}

impl Factory for Below {
    fn name(&self) -> &str {
        "forgotten messages"
    }

    fn make_filter(&self, _: &Context) -> Box<dyn CompactionFilter> {
        Box::new(BelowNow { floors: self.lock().clone(), last: None })
    }
}

struct BelowNow {
    /// Not known while the engine is being opened, or closed.
    floors: Option<Floors>,
    /// The stream that was met last, and its floor.
    last: Option<([u8; 12], u64)>,
}

impl CompactionFilter for BelowNow {
    fn filter_item(&mut self, item: ItemAccessor<'_>, _: &Context) -> CompactionFilterResult {
        let key: &[u8] = item.key();
        let (Some(stream), Some(floors), true) = (key.first_chunk::<12>(), &self.floors, key.len() == 20) else {
            return Ok(Verdict::Keep);
        };
        let floor = match self.last {
            Some((last, floor)) if last == *stream => floor,
            _ => {
                let floor = floors.of_at_once(*stream);
                self.last = Some((*stream, floor));
                floor
            }
        };
        // A message's key is written once.
        Ok(if position(key) <= floor { Verdict::Destroy } else { Verdict::Keep })
    }
}
