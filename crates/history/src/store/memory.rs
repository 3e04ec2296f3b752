//! The store that forgets everything when the process ends.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::pid::Pid;
use crate::position::{Epoch, Position};
use crate::recovery::Budget;
use crate::store::heads::{Heads, Kept, Source, StreamHead, Totals};
use crate::store::merge::merge;
use crate::store::port::{
    Answer, Capabilities, Cursors, Durability, Follower, Message, Page, Put, Range, Receipt, Retention, Shard, Stats,
    Store, StoreError, StreamInfo, StreamName, Timestamp, Write,
};
use crate::store::session::SessionRecord;
use crate::store::window::WindowLimits;

const CAPABILITIES: Capabilities = Capabilities {
    durability: Durability::Memory,
    survives_restart: false,
    max_payload: 16 << 20,
    max_name: 1_024,
    max_writes: 100_000,
};

/// Shards in this process's memory.
pub struct MemoryStore {
    /// Random bits for epochs; the name of a shard is mixed in.
    seed: u32,
    retention: Retention,
    window: WindowLimits,
    shards: Mutex<HashMap<String, Arc<MemoryShard>>>,
}

impl MemoryStore {
    /// An empty store. `seed` is 32 random bits, `retention` holds for streams that are not told otherwise.
    #[must_use]
    pub fn new(seed: u32, retention: Retention, window: WindowLimits) -> Self {
        Self { seed, retention, window, shards: Mutex::default() }
    }
}

impl Store for MemoryStore {
    fn shard(&self, name: &str) -> Result<Arc<dyn Shard>, StoreError> {
        if name.len() > CAPABILITIES.max_name {
            return Err(StoreError::Refused(format!("a shard's name of {} bytes", name.len())));
        }
        let mut shards = lock(&self.shards);
        let number = shards.len() as u32;
        let shard = shards.entry(name.to_owned()).or_insert_with(|| {
            let epoch = Epoch(self.seed.wrapping_add(number.wrapping_mul(0x9E37_79B9)));
            let heads = Heads::new(epoch, self.retention, self.window, CAPABILITIES);
            Arc::new(MemoryShard(Mutex::new(State {
                heads,
                content: Content::default(),
                stats: Stats::default(),
                is_closed: false,
                follower: None,
            })))
        });
        Ok(shard.clone())
    }

    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }

    fn close(&self) -> Result<(), StoreError> {
        lock(&self.shards).values().for_each(|shard| lock(&shard.0).is_closed = true);
        Ok(())
    }
}

struct MemoryShard(Mutex<State>);

struct State {
    heads: Heads,
    content: Content,
    stats: Stats,
    is_closed: bool,
    follower: Option<Follower>,
}

#[derive(Default)]
struct Content {
    messages: BTreeMap<(u64, u64), Message>,
    cursors: BTreeMap<(u64, Arc<str>), u64>,
    sessions: HashMap<Pid, Box<SessionRecord>>,
}

impl Source for Content {
    fn oldest(&self, stream: u64, after: u64, max: usize) -> Result<Vec<Kept>, StoreError> {
        let range = self.messages.range((stream, after + 1)..=(stream, u64::MAX)).take(max);
        let kept = |message: &Message| Kept {
            pos: message.pos,
            n: message.n,
            cost: message.payload.len() as u64 + Put::OVERHEAD,
            at: message.at,
        };
        Ok(range.map(|(_, message)| kept(message)).collect())
    }

    fn cursor(&self, stream: u64, device: &str) -> Result<Option<u64>, StoreError> {
        Ok(self.cursors.get(&(stream, Arc::from(device))).copied())
    }

    fn passed(&self, stream: u64) -> Result<Option<u64>, StoreError> {
        Ok(self.of_stream(stream).map(|(_, pos)| *pos).min())
    }
}

impl Content {
    fn of_stream(&self, stream: u64) -> impl Iterator<Item = (&Arc<str>, &u64)> {
        let all = self.cursors.range((stream, Arc::from(""))..);
        all.take_while(move |((id, _), _)| *id == stream).map(|((_, device), pos)| (device, pos))
    }

    fn drop_below(&mut self, stream: u64, floor: u64) {
        // What is dropped is at the beginning: a step for each.
        while let Some((key, _)) = self.messages.range((stream, 0)..=(stream, floor)).next() {
            let key = *key;
            self.messages.remove(&key);
        }
    }
}

impl State {
    fn commit(&mut self, now: Timestamp, writes: Vec<Write>) -> Result<Vec<Receipt>, StoreError> {
        if self.is_closed {
            return Err(StoreError::Closed);
        }
        let Self { heads, content, stats, .. } = self;
        let mut group = heads.begin();
        let receipts = match heads.add(&mut group, now, writes, content) {
            Ok(receipts) => receipts,
            Err(error) => {
                heads.cancel(&group);
                return Err(error);
            }
        };
        stats.groups += 1;
        let mut told: Vec<Message> = Vec::new();
        for record in &group.records {
            content.messages.insert((record.stream, record.message.pos), record.message.clone());
            told.push(record.message.clone());
        }
        for (place, pos) in &group.cursors {
            match pos {
                Some(pos) => content.cursors.insert(place.clone(), *pos),
                None => content.cursors.remove(place),
            };
        }
        for (pid, record) in std::mem::take(&mut group.sessions) {
            match record {
                Some(record) => content.sessions.insert(pid, record),
                None => content.sessions.remove(&pid),
            };
        }
        heads.settle(&group, content)?;
        for name in group.touched() {
            if let Some(head) = heads.stream(name) {
                content.drop_below(head.id, head.floor);
            }
        }
        if let Some(follower) = self.follower.as_ref().filter(|_| !told.is_empty()) {
            follower(&told);
        }
        Ok(receipts)
    }
}

impl MemoryShard {
    fn now<T: Send + 'static>(&self, act: impl FnOnce(&mut State) -> Result<T, StoreError>) -> Answer<T> {
        let result = act(&mut lock(&self.0));
        Box::pin(std::future::ready(result))
    }
}

impl Shard for MemoryShard {
    fn commit(&self, now: Timestamp, writes: Vec<Write>) -> Answer<Vec<Receipt>> {
        self.now(|state| state.commit(now, writes))
    }

    fn read(&self, ranges: Vec<Range>, max: Budget) -> Answer<Page> {
        self.now(|state| {
            let State { heads, content, .. } = state;
            let heads_of = |range: &Range| heads.stream(&range.stream);
            let floors =
                ranges.iter().map(|range| heads_of(range).map_or(heads.unknown().floor, |head| head.floor)).collect();
            let parts = ranges.iter().filter(|range| range.after < range.until).filter_map(|range| {
                let id = heads_of(range)?.id;
                let kept = content.messages.range((id, range.after + 1)..=(id, range.until));
                Some(kept.map(|(_, message)| Ok(message.clone())))
            });
            merge(parts, floors, heads.head(), max)
        })
    }

    fn session(&self, now: Timestamp, pid: Pid) -> Answer<Option<SessionRecord>> {
        self.now(|state| {
            let found = state.content.sessions.get(&pid).filter(|record| record.expires > now);
            Ok(found.map(|record| (**record).clone()))
        })
    }

    fn cursors(&self, stream: &StreamName) -> Answer<Cursors> {
        self.now(|state| {
            let Some(head) = state.heads.stream(stream) else { return Ok(Vec::new()) };
            Ok(state.content.of_stream(head.id).map(|(device, pos)| (device.clone(), *pos)).collect())
        })
    }

    fn retain(&self, now: Timestamp) -> Answer<u64> {
        self.now(|state| {
            let State { heads, content, .. } = state;
            heads.forget_keys(now);
            let mut messages = 0;
            for id in heads.due(now, usize::MAX) {
                messages += heads.look_after(id, now, content)?;
                let floor = heads.name(id).and_then(|name| heads.stream(name)).map_or(0, |head| head.floor);
                content.drop_below(id, floor);
            }
            let before = content.sessions.len();
            content.sessions.retain(|_, record| record.expires > now);
            Ok(messages + (before - content.sessions.len()) as u64)
        })
    }

    fn drop_idle(&self, through: u64) -> Answer<u64> {
        self.now(|state| {
            let State { heads, content, .. } = state;
            let is_idle = |head: &StreamHead| head.is_idle(through) && content.of_stream(head.id).next().is_none();
            let idle: Vec<(StreamName, u64)> = heads
                .streams()
                .filter(|(_, head)| is_idle(head))
                .map(|(name, head)| (name.clone(), head.head))
                .collect();
            for (name, end) in &idle {
                heads.raise_dropped(*end);
                heads.drop_stream(name);
            }
            Ok(idle.len() as u64)
        })
    }

    fn head(&self) -> Position {
        lock(&self.0).heads.head()
    }

    fn look_up(&self, stream: &StreamName) -> Result<Option<StreamInfo>, StoreError> {
        let heads = &lock(&self.0).heads;
        Ok(heads.stream(stream).or(heads.unknown().once_dropped().as_ref()).map(StreamHead::info))
    }

    fn stats(&self) -> Stats {
        let state = lock(&self.0);
        let Totals { streams, filled, messages, bytes } = state.heads.totals();
        Stats { streams, filled, messages, bytes, ..state.stats }
    }

    fn follow(&self, follower: Option<Follower>) {
        lock(&self.0).follower = follower;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
