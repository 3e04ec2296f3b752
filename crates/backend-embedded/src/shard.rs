//! A shard as its callers have it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use posthaste_history::store::{
    Answer, Around, Capabilities, Cursors, Durability, Follower, Heads, Page, Range, Receipt, SessionRecord, Shard,
    Stats, StoreError, StreamHead, StreamInfo, StreamName, Timestamp, Totals, Write, merge, reply, wait,
};
use posthaste_history::{Budget, Pid, Position};

use crate::codec::{decode_head, heads_prefix, session_key, unseal};
use crate::committer::{DropIdle, Request, Retain};
use crate::config::Config;
use crate::content::{Content, Part};
use crate::error::read_failed;
use crate::queue::Queue;
use crate::within::Within;

pub(crate) const CAPABILITIES: Capabilities = Capabilities {
    durability: Durability::Disk,
    survives_restart: true,
    max_payload: 16 << 20,
    max_name: 1_024,
    max_writes: 100_000,
};

/// Something to be done by the reader, or by the one who does chores.
pub(crate) type Read = Box<dyn FnOnce() + Send>;

/// What the callers, the committer and the reader share.
pub(crate) struct Inner {
    pub(crate) number: u32,
    pub(crate) config: Config,
    pub(crate) boot: String,
    pub(crate) content: Content,
    pub(crate) queue: Queue<Request>,
    pub(crate) reads: Arc<Queue<Read>>,
    /// What takes long and nobody waits for.
    pub(crate) chores: Arc<Queue<Read>>,
    heads: Mutex<Heads>,
    /// The last position that readers see.
    pub(crate) visible: AtomicU64,
    /// Messages forgotten since the last compaction.
    pub(crate) forgotten: AtomicU64,
    /// Whether retention has run since then.
    pub(crate) retained: AtomicBool,
    pub(crate) groups: AtomicU64,
    pub(crate) syncs: AtomicU64,
    follower: Mutex<Option<Follower>>,
    pub(crate) within: Within,
    poisoned: Mutex<Option<String>>,
    /// For tests: the next sync fails.
    pub(crate) fails: AtomicBool,
}

impl Inner {
    pub(crate) fn new(
        number: u32,
        config: Config,
        content: Content,
        [reads, chores]: [Arc<Queue<Read>>; 2],
        heads: Heads,
    ) -> Self {
        let visible = AtomicU64::new(heads.head().pos);
        Self {
            number,
            boot: config.boot(),
            queue: Queue::new(config.max_waiting_bytes),
            config,
            content,
            reads,
            chores,
            heads: Mutex::new(heads),
            visible,
            forgotten: AtomicU64::new(0),
            retained: AtomicBool::new(false),
            groups: AtomicU64::new(0),
            syncs: AtomicU64::new(0),
            follower: Mutex::new(None),
            within: Within::default(),
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

    /// Streams that are idle as the last checkpoint has them.
    fn idle(&self, through: u64) -> Result<Vec<u64>, StoreError> {
        let mut idle = Vec::new();
        for entry in self.content.heads.prefix(heads_prefix(self.number)) {
            let (key, value) = entry.into_inner().map_err(read_failed)?;
            let Some((_, head)) = decode_head(&key, &value) else {
                return Err(StoreError::Damaged("a stream's head is not what was written".into()));
            };
            if head.is_idle(through) && !self.content.has_cursors(self.number, head.id)? {
                idle.push(head.id);
                if idle.len() >= IDLE_AT_ONCE {
                    break;
                }
            }
        }
        Ok(idle)
    }

    /// Drops streams that are idle, and gives the disk back what they took, where that was much.
    fn drop_idle(&self, through: u64) -> Result<u64, StoreError> {
        let idle = self.idle(through)?;
        let (reply, answer) = reply();
        let request = Request::DropIdle(DropIdle { through, idle, count: 0, reply });
        self.queue.push(request, 0).map_err(|(_, error)| error)?;
        let count = wait(answer)?;
        if count >= WORTH_COMPACTING {
            self.content.heads.rotate_memtable_and_wait().map_err(read_failed)?;
            self.content.heads.major_compact().map_err(read_failed)?;
        }
        Ok(count)
    }

    /// A session as it is stored.
    pub(crate) fn session(&self, pid: Pid) -> Result<Option<SessionRecord>, StoreError> {
        let key = session_key(self.number, pid.to_text().as_str());
        let Some(value) = self.content.sessions.get(&key).map_err(read_failed)? else { return Ok(None) };
        decode(&key, &value).map(Some).ok_or_else(damaged_session)
    }

    /// Where a stream ends and begins, in memory or on the disk.
    fn stream(&self, name: &StreamName) -> Result<Option<StreamHead>, StoreError> {
        loop {
            let evictions = {
                let heads = self.lock_heads();
                if let Some(head) = heads.stream(name) {
                    return Ok(Some(head.clone()));
                }
                heads.evictions()
            };
            let stored = self.content.head_named(self.number, name)?;
            let heads = self.lock_heads();
            if let Some(head) = heads.stream(name) {
                return Ok(Some(head.clone()));
            }
            // Nothing happens to a stream that is not in memory: it was not there in between.
            if heads.evictions() == evictions {
                return Ok(stored);
            }
        }
    }

    fn page(&self, ranges: &[Range], max: Budget) -> Result<Page, StoreError> {
        // The floors are read after the messages would be: what is forgotten meanwhile is reported, not missed.
        let pos = self.visible.load(Ordering::Acquire);
        let heads: Vec<Option<StreamHead>> =
            ranges.iter().map(|range| self.stream(&range.stream)).collect::<Result<_, _>>()?;
        let unknown = || self.lock_heads().unknown().floor;
        let floor = |head: &Option<StreamHead>| head.as_ref().map_or_else(unknown, |head| head.floor);
        let parts = ranges.iter().zip(&heads).filter_map(|(range, head)| {
            let (after, until) = (range.after.max(floor(head)), range.until.min(pos));
            (after < until).then_some(())?;
            Some(self.content.messages(
                self.number,
                head.as_ref()?.id,
                &Range { stream: range.stream.clone(), after, until },
            ))
        });
        let epoch = self.lock_heads().head().epoch;
        let mut page = merge(parts, Vec::new(), Position { epoch, pos }, max)?;
        for (range, head) in ranges.iter().zip(&heads) {
            let now = floor(&self.stream(&range.stream)?);
            if now > floor(head) {
                // Something was forgotten while it was read: only what is still promised is handed out.
                page.messages.retain(|message| message.stream != range.stream || message.pos > now);
            }
            page.floors.push(now);
        }
        Ok(page)
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

/// So many streams are dropped at once; the rest are, when that is asked for again.
const IDLE_AT_ONCE: usize = 1 << 18;
/// After so many were dropped, heads are written anew without them.
const WORTH_COMPACTING: u64 = 10_000;
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
        self.read_later(move |inner| Ok(inner.session(pid)?.filter(|record| record.expires > now)))
    }

    fn cursors(&self, stream: &StreamName) -> Answer<Cursors> {
        let stream = stream.clone();
        self.read_later(move |inner| {
            let part = Part { content: &inner.content, shard: inner.number };
            inner.stream(&stream)?.map_or(Ok(Vec::new()), |head| part.cursors(head.id))
        })
    }

    fn retain(&self, now: Timestamp) -> Answer<u64> {
        // Looking for sessions takes long, and nobody else has to wait for that.
        let (reply, answer) = reply();
        let inner = self.0.clone();
        let look: Read = Box::new(move || match inner.healthy().and_then(|()| inner.expired(now)) {
            Ok(expired) => {
                let retain = Request::Retain(Retain { now, expired, count: 0, reply });
                if let Err((Request::Retain(retain), error)) = inner.queue.push(retain, 0) {
                    retain.reply.answer(Err(error));
                }
            }
            Err(error) => reply.answer(Err(error)),
        });
        match self.0.chores.push(look, READ_BYTES) {
            Ok(()) => answer,
            Err((_, error)) => Box::pin(std::future::ready(Err(error))),
        }
    }

    fn drop_idle(&self, through: u64) -> Answer<u64> {
        // It is looked for on the disk, where heads are as of the last checkpoint: there is one now.
        let checkpoint = self.ask(0, Request::Checkpoint);
        let (reply, answer) = reply();
        let inner = self.0.clone();
        let look: Read = Box::new(move || reply.answer(wait(checkpoint).and_then(|()| inner.drop_idle(through))));
        match self.0.chores.push(look, READ_BYTES) {
            Ok(()) => answer,
            Err((_, error)) => Box::pin(std::future::ready(Err(error))),
        }
    }

    fn head(&self) -> Position {
        let epoch = self.0.lock_heads().head().epoch;
        Position { epoch, pos: self.0.visible.load(Ordering::Acquire) }
    }

    fn look_up(&self, stream: &StreamName) -> Result<Option<StreamInfo>, StoreError> {
        let found = self.0.stream(stream)?.or_else(|| self.0.lock_heads().unknown().once_dropped());
        Ok(found.map(|head| head.info()))
    }

    fn stats(&self) -> Stats {
        let Totals { streams, filled, messages, bytes } = self.0.lock_heads().totals();
        let (groups, syncs) = (self.0.groups.load(Ordering::Relaxed), self.0.syncs.load(Ordering::Relaxed));
        Stats { streams, filled, messages, bytes, groups, syncs }
    }

    fn follow(&self, follower: Option<Follower>) {
        *self.0.follower.lock().unwrap_or_else(PoisonError::into_inner) = follower;
    }

    fn answer_within(&self, around: Around) {
        self.0.within.set(around);
    }
}
