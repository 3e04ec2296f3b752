//! What is on the disk, by kind.

use std::collections::HashMap;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use fjall::compaction::filter::{CompactionFilter, CompactionFilterResult, Context, Factory, ItemAccessor, Verdict};
use fjall::{Database, Keyspace, KeyspaceCreateOptions};
use posthaste_history::store::{Kept, Message, Put, Range, Source, StoreError, StreamName};

use crate::codec::{Stored, cursor_key, group_key, stream_key, unseal};
use crate::config::Config;
use crate::error::{OpenError, read_failed};

/// Up to where each stream is forgotten, as the last synced checkpoint says: what compaction may drop.
pub(crate) type Floors = Arc<RwLock<Arc<HashMap<(u32, u64), u64>>>>;

/// The engine and its keyspaces.
#[derive(Clone)]
pub(crate) struct Content {
    pub(crate) engine: Database,
    /// Shards by name, heads of streams, checkpoints.
    pub(crate) heads: Keyspace,
    pub(crate) messages: Keyspace,
    pub(crate) groups: Keyspace,
    pub(crate) cursors: Keyspace,
    pub(crate) sessions: Keyspace,
    pub(crate) floors: Floors,
}

impl Content {
    pub(crate) fn open(path: &Path, config: &Config) -> Result<Self, OpenError> {
        let failed = |error| OpenError::engine(path, error);
        let floors = Floors::default();
        let filter = floors.clone();
        let engine = Database::builder(path)
            .cache_size(config.cache_bytes)
            .manual_journal_persist(true)
            // The smallest there is: starting replays it.
            .max_journaling_size(64 << 20)
            .worker_threads(2)
            .with_compaction_filter_factories(Arc::new(move |keyspace| {
                (keyspace == "messages").then(|| Arc::new(Below(filter.clone())) as Arc<dyn Factory>)
            }))
            .open()
            .map_err(failed)?;
        let options =
            || KeyspaceCreateOptions::default().manual_journal_persist(true).max_memtable_size(config.memtable_bytes);
        let keyspace = |name| engine.keyspace(name, options).map_err(failed);
        let (heads, messages, groups) = (keyspace("heads")?, keyspace("messages")?, keyspace("groups")?);
        let (cursors, sessions) = (keyspace("cursors")?, keyspace("sessions")?);
        Ok(Self { engine, heads, messages, groups, cursors, sessions, floors })
    }

    pub(crate) fn all(&self) -> [&Keyspace; 5] {
        [&self.heads, &self.messages, &self.groups, &self.cursors, &self.sessions]
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
            match (device, pos_of(&key, &value)) {
                (Some(device), Some(pos)) => Ok((Arc::from(device), pos)),
                _ => Err(StoreError::Damaged("a cursor is not what was written".into())),
            }
        };
        self.content.cursors.prefix(prefix).map(entry).collect()
    }
}

fn pos_of(key: &[u8], value: &[u8]) -> Option<u64> {
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
        let pos = pos_of(&key, &value);
        pos.map(Some).ok_or_else(|| StoreError::Damaged(format!("the cursor of {device:?} is not what was written")))
    }

    fn passed(&self, stream: u64) -> Result<Option<u64>, StoreError> {
        Ok(self.cursors(stream)?.into_iter().map(|(_, pos)| pos).min())
    }
}

/// Drops messages that are forgotten.
struct Below(Floors);

impl RefUnwindSafe for Below {}
impl UnwindSafe for Below {}

impl Factory for Below {
    fn name(&self) -> &str {
        "forgotten messages"
    }

    fn make_filter(&self, _: &Context) -> Box<dyn CompactionFilter> {
        let floors = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        Box::new(BelowNow { floors, last: None })
    }
}

struct BelowNow {
    floors: Arc<HashMap<(u32, u64), u64>>,
    /// The stream that was met last, and its floor.
    last: Option<([u8; 12], u64)>,
}

impl CompactionFilter for BelowNow {
    fn filter_item(&mut self, item: ItemAccessor<'_>, _: &Context) -> CompactionFilterResult {
        let key: &[u8] = item.key();
        let (Some(stream), true) = (key.first_chunk::<12>(), key.len() == 20) else { return Ok(Verdict::Keep) };
        let floor = match self.last {
            Some((last, floor)) if last == *stream => floor,
            _ => {
                let (shard, id) = stream.split_at(4);
                let number = |bytes: &[u8]| bytes.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
                let floor = self.floors.get(&(number(shard) as u32, number(id))).copied().unwrap_or(0);
                self.last = Some((*stream, floor));
                floor
            }
        };
        // A message's key is written once.
        Ok(if position(key) <= floor { Verdict::Destroy } else { Verdict::Keep })
    }
}
