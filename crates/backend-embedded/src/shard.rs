//! A shard as its callers have it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use posthaste_history::store::{
    Answer, Capabilities, Cursors, Durability, Follower, Heads, Page, Range, Receipt, SessionRecord, Shard, Stats,
    StoreError, StreamInfo, StreamName, Timestamp, Write, merge, reply,
};
use posthaste_history::{Budget, Pid, Position};

use crate::codec::{session_key, unseal};
use crate::committer::Request;
use crate::config::Config;
use crate::content::{Content, Part};
use crate::error::read_failed;
use crate::queue::Queue;

pub(crate) const CAPABILITIES: Capabilities = Capabilities {
    durability: Durability::Disk,
    survives_restart: true,
    max_payload: 16 << 20,
    max_name: 1_024,
    max_writes: 100_000,
};

/// Something to be read by the reader.
pub(crate) type Read = Box<dyn FnOnce() + Send>;

/// What the callers, the committer and the reader share.
pub(crate) struct Inner {
    pub(crate) number: u32,
    pub(crate) config: Config,
    pub(crate) boot: String,
    pub(crate) content: Content,
    pub(crate) queue: Queue<Request>,
    pub(crate) reads: Arc<Queue<Read>>,
    heads: Mutex<Heads>,
    /// The last position that readers see.
    pub(crate) visible: AtomicU64,
    /// Messages forgotten since the last compaction.
    pub(crate) forgotten: AtomicU64,
    pub(crate) groups: AtomicU64,
    pub(crate) syncs: AtomicU64,
    follower: Mutex<Option<Follower>>,
    poisoned: Mutex<Option<String>>,
    /// For tests: the next sync fails.
    pub(crate) fails: AtomicBool,
}

impl Inner {
    pub(crate) fn new(number: u32, config: Config, content: Content, reads: Arc<Queue<Read>>, heads: Heads) -> Self {
        let visible = AtomicU64::new(heads.head().pos);
        Self {
            number,
            boot: config.boot(),
            queue: Queue::new(config.max_waiting_bytes),
            config,
            content,
            reads,
            heads: Mutex::new(heads),
            visible,
            forgotten: AtomicU64::new(0),
            groups: AtomicU64::new(0),
            syncs: AtomicU64::new(0),
            follower: Mutex::new(None),
            poisoned: Mutex::new(None),
            fails: AtomicBool::new(false),
        }
    }

    pub(crate) fn lock_heads(&self) -> MutexGuard<'_, Heads> {
        self.heads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn follower(&self) -> Option<Follower> {
        self.follower.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn poison(&self, error: &StoreError) {
        let mut poisoned = self.poisoned.lock().unwrap_or_else(PoisonError::into_inner);
        if poisoned.is_none() {
            tracing::error!(shard = self.number, %error, "writing failed: nothing is accepted until the store is opened anew");
            *poisoned = Some(error.to_string());
        }
    }

    pub(crate) fn healthy(&self) -> Result<(), StoreError> {
        let poisoned = self.poisoned.lock().unwrap_or_else(PoisonError::into_inner);
        poisoned.as_ref().map_or(Ok(()), |why| Err(StoreError::Poisoned(why.clone())))
    }

    pub(crate) fn fail_if_told(&self) -> Result<(), StoreError> {
        let fails = self.fails.load(Ordering::Relaxed);
        if fails { Err(StoreError::Poisoned("a sync that was told to fail".into())) } else { Ok(()) }
    }

    /// What the disk has left for us.
    pub(crate) fn free_bytes(&self) -> u64 {
        let found = rustix::fs::statvfs(&self.config.path);
        found.map_or(u64::MAX, |found| found.f_bavail.saturating_mul(found.f_frsize))
    }

    /// From now on compaction may drop what is below these floors: they are synced.
    pub(crate) fn allow_dropping(&self, floors: Vec<((u32, u64), u64)>) {
        let mut shared = self.content.floors.write().unwrap_or_else(PoisonError::into_inner);
        let mut all: HashMap<(u32, u64), u64> = (**shared).clone();
        all.extend(floors);
        *shared = Arc::new(all);
    }

    /// Sessions whose time is over.
    pub(crate) fn expired(&self, now: Timestamp) -> Result<Vec<Pid>, StoreError> {
        let mut expired = Vec::new();
        for entry in self.content.sessions.prefix(self.number.to_be_bytes()) {
            let (key, value) = entry.into_inner().map_err(read_failed)?;
            let pid = key.get(4..).and_then(|text| std::str::from_utf8(text).ok()).and_then(Pid::parse);
            let (Some(pid), Some(record)) = (pid, decode(&key, &value)) else { return Err(damaged_session()) };
            if record.expires <= now {
                expired.push(pid);
            }
        }
        Ok(expired)
    }

    fn page(&self, ranges: &[Range], max: Budget) -> Result<Page, StoreError> {
        // The floors are read after the messages would be: what is forgotten meanwhile is reported, not missed.
        let pos = self.visible.load(Ordering::Acquire);
        let ids: Vec<Option<u64>> = {
            let heads = self.lock_heads();
            ranges.iter().map(|range| heads.stream(&range.stream).map(|head| head.id)).collect()
        };
        let found = self.floors(ranges);
        let parts = ranges.iter().zip(&ids).zip(&found).filter_map(|((range, id), floor)| {
            let (after, until) = (range.after.max(*floor), range.until.min(pos));
            (after < until).then_some(())?;
            Some(self.content.messages(self.number, (*id)?, &Range { stream: range.stream.clone(), after, until }))
        });
        let epoch = self.lock_heads().head().epoch;
        let mut page = merge(parts, Vec::new(), Position { epoch, pos }, max)?;
        page.floors = self.floors(ranges);
        if page.floors != found {
            // Something was forgotten while it was read: only what is still promised is handed out.
            let kept = |message: &posthaste_history::store::Message| {
                let floor = ranges.iter().position(|range| range.stream == message.stream);
                floor.is_none_or(|place| message.pos > page.floors[place])
            };
            let kept: Vec<bool> = page.messages.iter().map(kept).collect();
            let mut kept = kept.into_iter();
            page.messages.retain(|_| kept.next().unwrap_or(true));
        }
        Ok(page)
    }

    fn floors(&self, ranges: &[Range]) -> Vec<u64> {
        let heads = self.lock_heads();
        ranges.iter().map(|range| heads.stream(&range.stream).map_or(0, |head| head.floor)).collect()
    }
}

fn decode(key: &[u8], value: &[u8]) -> Option<SessionRecord> {
    SessionRecord::decode(bytes::Bytes::copy_from_slice(unseal(key, value)?))
}

fn damaged_session() -> StoreError {
    StoreError::Damaged("a session is not what was written".into())
}

/// The handle.
pub(crate) struct EmbeddedShard(pub(crate) Arc<Inner>);

impl EmbeddedShard {
    fn ask<T: Send + 'static>(
        &self,
        bytes: usize,
        request: impl FnOnce(posthaste_history::store::Reply<T>) -> Request,
    ) -> Answer<T> {
        if let Err(error) = self.0.healthy() {
            return Box::pin(std::future::ready(Err(error)));
        }
        let (asked, answer) = reply();
        match self.0.queue.push(request(asked), bytes) {
            Ok(()) => answer,
            Err((_, error)) => Box::pin(std::future::ready(Err(error))),
        }
    }

    fn read_later<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Inner) -> Result<T, StoreError> + Send + 'static,
    ) -> Answer<T> {
        let (asked, answer) = reply();
        let inner = self.0.clone();
        let read: Read = Box::new(move || asked.answer(read(&inner)));
        match self.0.reads.push(read, READ_BYTES) {
            Ok(()) => answer,
            Err((_, error)) => Box::pin(std::future::ready(Err(error))),
        }
    }
}

/// What a read counts for while it waits.
const READ_BYTES: usize = 1_024;

fn size(writes: &[Write]) -> usize {
    let of_one = |write: &Write| match write {
        Write::Put(put) => put.payload.len() * put.streams.len() + 128,
        Write::Session { record: Some(record), .. } => record.data.len() + 64 * record.trail.stays().len() + 128,
        _ => 128,
    };
    writes.iter().map(of_one).sum()
}

impl Shard for EmbeddedShard {
    fn commit(&self, now: Timestamp, writes: Vec<Write>) -> Answer<Vec<Receipt>> {
        self.ask(size(&writes), |reply| Request::Commit(now, writes, reply))
    }

    fn read(&self, ranges: Vec<Range>, max: Budget) -> Answer<Page> {
        self.read_later(move |inner| inner.page(&ranges, max))
    }

    fn session(&self, now: Timestamp, pid: Pid) -> Answer<Option<SessionRecord>> {
        self.read_later(move |inner| {
            let key = session_key(inner.number, pid.to_text().as_str());
            let Some(value) = inner.content.sessions.get(&key).map_err(read_failed)? else { return Ok(None) };
            let record = decode(&key, &value).ok_or_else(damaged_session)?;
            Ok(Some(record).filter(|record| record.expires > now))
        })
    }

    fn cursors(&self, stream: &StreamName) -> Answer<Cursors> {
        let stream = stream.clone();
        self.read_later(move |inner| {
            let id = inner.lock_heads().stream(&stream).map(|head| head.id);
            let part = Part { content: &inner.content, shard: inner.number };
            id.map_or(Ok(Vec::new()), |id| part.cursors(id))
        })
    }

    fn retain(&self, now: Timestamp) -> Answer<u64> {
        self.ask(0, |reply| Request::Retain(now, reply))
    }

    fn head(&self) -> Position {
        let epoch = self.0.lock_heads().head().epoch;
        Position { epoch, pos: self.0.visible.load(Ordering::Acquire) }
    }

    fn stream(&self, stream: &StreamName) -> Option<StreamInfo> {
        self.0.lock_heads().stream(stream).map(|head| head.info())
    }

    fn stats(&self) -> Stats {
        let mut stats = Stats {
            groups: self.0.groups.load(Ordering::Relaxed),
            syncs: self.0.syncs.load(Ordering::Relaxed),
            ..Stats::default()
        };
        for (_, head) in self.0.lock_heads().streams() {
            let info = head.info();
            stats.streams += 1;
            stats.messages += info.messages;
            stats.bytes += info.bytes;
        }
        stats
    }

    fn follow(&self, follower: Option<Follower>) {
        *self.0.follower.lock().unwrap_or_else(PoisonError::into_inner) = follower;
    }
}
