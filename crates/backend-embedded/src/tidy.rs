//! Giving the disk back what is forgotten, without being told to.
//!
//! What lies in tables and is kept by nobody is waste. Tables of which nothing is kept are dropped as they are, which costs nothing:
//! in a stream that is larger than a table, that is nearly all of it. What waste remains, between messages that are kept, goes when
//! there is so much of it that writing the rest anew is worth it.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use lsm_tree::AbstractTree as _;
use posthaste_history::store::{StoreError, reply, wait};

use crate::committer::Request;
use crate::content::{Content, position};
use crate::error::read_failed;
use crate::shard::Inner;
use crate::store::State;

/// Less waste than this is left alone.
const MIN_WASTE: u64 = 8 << 20;

/// Whoever tidies up.
#[derive(Clone)]
pub(crate) struct Tidy {
    pub(crate) content: Content,
    pub(crate) state: Arc<Mutex<State>>,
}

impl Tidy {
    fn shards(&self) -> Vec<Arc<Inner>> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.shards.values().cloned().collect()
    }

    /// Bytes in tables of messages, and of those that are kept.
    fn bytes(&self, shards: &[Arc<Inner>]) -> (u64, u64) {
        let kept = shards.iter().map(|shard| shard.lock_heads().totals().bytes).sum();
        (self.content.messages.disk_space(), kept)
    }

    /// Tidies up if there is enough to be gained.
    pub(crate) fn now_and_then(&self) {
        let shards = self.shards();
        let is_wasteful = || {
            let (tables, kept) = self.bytes(&shards);
            tables.saturating_sub(kept) > MIN_WASTE.max(kept / 6)
        };
        let forgotten: u64 = shards.iter().map(|shard| shard.forgotten.load(Ordering::Relaxed)).sum();
        if forgotten == 0 || !is_wasteful() {
            return;
        }
        let tidied = self.drop_forgotten(&shards).and_then(|()| {
            let (tables, kept) = self.bytes(&shards);
            if tables.saturating_sub(kept) > MIN_WASTE.max(kept / 4) { self.rewrite(&shards) } else { Ok(()) }
        });
        if let Err(error) = tidied {
            tracing::warn!(%error, "what is forgotten could not be taken off the disk; trying again");
        }
    }

    /// Tidies up whatever there is.
    pub(crate) fn all(&self) -> Result<(), StoreError> {
        let shards = self.shards();
        self.drop_forgotten(&shards)?;
        self.rewrite(&shards)
    }

    /// Drops tables of which nothing is kept.
    fn drop_forgotten(&self, shards: &[Arc<Inner>]) -> Result<(), StoreError> {
        for shard in shards {
            let (asked, answer) = reply();
            shard.queue.push(Request::Checkpoint(asked), 0).map_err(|(_, error)| error)?;
            wait(answer)?;
        }
        let (tree, floors) = (&self.content.messages.tree, self.content.floors());
        let mut dead: BTreeMap<[u8; 12], u64> = BTreeMap::new();
        for table in tree.current_version().iter_tables() {
            let range = &table.metadata.key_range;
            let (first, last) = (range.min(), range.max());
            let (Some(stream), true) = (first.first_chunk::<12>(), first.get(..12) == last.get(..12)) else { continue };
            let floor = dead.get(stream).copied().unwrap_or_else(|| floors.of(*stream));
            if position(last) <= floor {
                dead.insert(*stream, floor);
            }
        }
        if dead.is_empty() {
            return Ok(());
        }
        for (stream, floor) in dead {
            let key = |pos: u64| [&stream[..], &pos.to_be_bytes()].concat();
            tree.drop_range(key(0)..=key(floor)).map_err(|error| read_failed(error.into()))?;
        }
        self.let_go()
    }

    /// Writes all tables anew, without what is forgotten.
    fn rewrite(&self, shards: &[Arc<Inner>]) -> Result<(), StoreError> {
        let before: Vec<u64> = shards.iter().map(|shard| shard.forgotten.load(Ordering::Relaxed)).collect();
        // What is in memory keeps the journal it came from.
        for keyspace in self.content.all() {
            keyspace.rotate_memtable_and_wait().map_err(read_failed)?;
        }
        self.content.messages.major_compact().map_err(read_failed)?;
        self.content.groups.major_compact().map_err(read_failed)?;
        for (shard, before) in shards.iter().zip(before) {
            shard.forgotten.fetch_sub(before, Ordering::Relaxed);
        }
        self.let_go()
    }

    /// The engine deletes tables that nobody reads any more when it next makes one.
    fn let_go(&self) -> Result<(), StoreError> {
        self.content.heads.insert("touch", []).map_err(read_failed)?;
        self.content.heads.rotate_memtable_and_wait().map_err(read_failed)
    }
}
