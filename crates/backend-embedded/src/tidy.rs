//! Giving the disk back what is forgotten, without being told to.
//!
//! What lies in tables and is kept by nobody is waste. Tables of which nothing is kept are dropped as they are, which costs nothing:
//! in a stream that is larger than a table, that is nearly all of it. What waste remains, between messages that are kept, goes when
//! there is so much of it that writing the rest anew is worth it.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use lsm_tree::AbstractTree as _;
use posthaste_history::store::{StoreError, reply, wait};

use crate::committer::Request;
use crate::config::Config;
use crate::content::{Content, position};
use crate::error::{io, read_failed};
use crate::shard::Inner;
use crate::start::Trimmer;
use crate::store::State;
use crate::tools::disk_use;

/// Less waste than this is left alone.
const MIN_WASTE: u64 = 8 << 20;
/// Between two times that the journal is given back to the disk.
const TRIM_INTERVAL: Duration = Duration::from_secs(2);
/// While more than this part of what the journal may take is written between two looks, giving it back would only be in the way: the
/// engine does that by itself, at 64 MiB.
const BUSY_PART: u64 = 16;

/// What was seen and done before.
#[derive(Default)]
pub(crate) struct Before {
    /// When the journal was last given back.
    trimmed: Option<Instant>,
    /// What had been written at the last look.
    written: u64,
}

/// Whoever tidies up.
pub(crate) struct Tidy {
    pub(crate) config: Config,
    pub(crate) content: Content,
    pub(crate) state: Arc<Mutex<State>>,
    pub(crate) trimmer: Mutex<Trimmer>,
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
    pub(crate) fn now_and_then(&self, before: &mut Before) {
        let shards = self.shards();
        if shards.iter().any(|shard| shard.healthy().is_err()) {
            return;
        }
        if let Err(error) = self.take_off_waste(&shards) {
            tracing::warn!(%error, "what is forgotten could not be taken off the disk; trying again");
        }
        let written = self.content.ahead.total();
        let is_calm = written - std::mem::replace(&mut before.written, written) < self.config.journal_bytes / BUSY_PART;
        let is_due = before.trimmed.is_none_or(|trimmed| trimmed.elapsed() >= TRIM_INTERVAL);
        if is_calm && is_due && self.is_journal_long(&shards, before.trimmed.is_none()) {
            if let Err(error) = self.trim() {
                tracing::warn!(%error, "the journal could not be given back to the disk; trying again");
            }
            before.trimmed = Some(Instant::now());
        }
    }

    /// What a start has read of a journal is in memory, at several times its size where it is small things: that is not left there.
    fn is_journal_long(&self, shards: &[Arc<Inner>], is_first: bool) -> bool {
        let budget = self.config.journal_bytes;
        let bound = if is_first { budget / 16 } else { (self.bytes(shards).1 / 16).clamp(budget / 4, budget) };
        disk_use(&self.config.path).is_ok_and(|used| used.journals_bytes > bound)
    }

    fn trim(&self) -> Result<(), StoreError> {
        let mut trimmer = self.trimmer.lock().unwrap_or_else(PoisonError::into_inner);
        trimmer.trim(&self.content).map_err(|error| io("giving the journal back to the disk", error))
    }

    fn take_off_waste(&self, shards: &[Arc<Inner>]) -> Result<(), StoreError> {
        let is_wasteful = |part: u64| {
            let (tables, kept) = self.bytes(shards);
            tables.saturating_sub(kept) > MIN_WASTE.max(kept / part)
        };
        let forgotten: u64 = shards.iter().map(|shard| shard.forgotten.load(Ordering::Relaxed)).sum();
        if forgotten == 0 || !is_wasteful(8) {
            return Ok(());
        }
        self.drop_forgotten(shards)?;
        // What has just been gone through is to be small; while messages come and go, writing it anew costs more than it brings.
        let is_settled =
            shards.iter().map(|shard| shard.retained.swap(false, Ordering::Relaxed)).fold(false, |a, b| a | b);
        if is_wasteful(if is_settled { 8 } else { 4 }) { self.rewrite(shards) } else { Ok(()) }
    }

    /// Tidies up whatever there is.
    pub(crate) fn all(&self) -> Result<(), StoreError> {
        let shards = self.shards();
        self.drop_forgotten(&shards)?;
        self.rewrite(&shards)?;
        self.trim()
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
        self.content.write(|| self.content.heads.insert("touch", [])).map_err(read_failed)?;
        self.content.heads.rotate_memtable_and_wait().map_err(read_failed)
    }
}
