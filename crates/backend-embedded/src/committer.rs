//! The thread that commits: the only one that writes to its shard.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use fjall::PersistMode;
use posthaste_history::store::{Durability, Group, Message, Receipt, Reply, StoreError, StreamName, Timestamp, Write};

use crate::codec::{
    Checkpoint, GroupRecord, Stored, checkpoint_key, cursor_key, encode_head, group_key, head_key, mark_key, name_key,
    seal, session_key, stream_key,
};
use crate::content::Part;
use crate::error::write_failed;
use crate::queue::News;
use crate::shard::Inner;

mod idle;
mod retain;

pub(crate) use idle::DropIdle;
pub(crate) use retain::Retain;

/// What is asked of the committer.
pub(crate) enum Request {
    Commit(Timestamp, Vec<Write>, Reply<Vec<Receipt>>),
    Retain(Retain),
    Checkpoint(Reply<()>),
    DropIdle(DropIdle),
}

/// So many streams, and sessions, are looked after in one step.
const RETAIN_STEP: usize = 256;
/// One write to the disk has at most so much.
const GROUP_BYTES: usize = 8 << 20;
const GROUP_COMMITS: usize = 4_096;
/// Who has just had a receipt is often about to come again. A group waits for as many commits as the last one had, if some are there
/// already, for this part of what a sync takes, and never longer than that: twice as many share a sync then.
const GATHER_PART: u32 = 4;
const GATHER_MAX: Duration = Duration::from_micros(200);
/// Free space is asked for again after so long.
const FREE_INTERVAL: Duration = Duration::from_millis(100);
/// What the engine adds to a value in its journal, its key included, about.
const ITEM_BYTES: usize = 40;
/// Heads are written down after so many groups: a start has to go over no more.
const CHECKPOINT_GROUPS: u64 = 2_048;

pub(crate) struct Committer {
    shard: Arc<Inner>,
    /// The last group that is written.
    written: u64,
    /// What was put into the journal since it was last looked whether there are zeros ahead, about.
    put_bytes: u64,
    /// The last group that is synced.
    synced: u64,
    /// When what is not synced was written.
    unsynced_since: Option<Instant>,
    /// Whether the disk knows that less than `disk` was promised in this run.
    is_marked: bool,
    checkpoint: Checkpoint,
    /// How many commits the last group had, and how long its sync took.
    last_commits: usize,
    last_sync: Duration,
    /// What the disk had left, and when.
    free: Option<(u64, Instant)>,
    /// Streams whose heads are not in the checkpoint.
    dirty: HashSet<StreamName>,
    /// The last position of each group that is kept behind the checkpoint for its keys.
    groups: std::collections::VecDeque<(u64, u64)>,
}

type Commit = (Timestamp, Vec<Write>, Reply<Vec<Receipt>>);
type Waiting = (Reply<Vec<Receipt>>, Vec<Receipt>);

impl Committer {
    pub(crate) fn new(
        shard: Arc<Inner>,
        checkpoint: Checkpoint,
        dirty: HashSet<StreamName>,
        groups: std::collections::VecDeque<(u64, u64)>,
    ) -> Self {
        let synced = shard.lock_heads().group();
        Self {
            shard,
            written: synced,
            put_bytes: 0,
            synced,
            unsynced_since: None,
            is_marked: false,
            checkpoint,
            last_commits: 0,
            last_sync: Duration::ZERO,
            free: None,
            dirty,
            groups,
        }
    }

    pub(crate) fn run(mut self) {
        let interval = self.shard.config.sync_interval;
        loop {
            self.shard.queue.gather(self.last_commits, (self.last_sync / GATHER_PART).min(GATHER_MAX));
            let patience = self.unsynced_since.map(|since| interval.saturating_sub(since.elapsed()));
            match self.shard.queue.take(GROUP_BYTES, GROUP_COMMITS, patience) {
                News::Work(requests) => self.work(requests),
                News::Nothing => {}
                News::Closed => break,
            }
            let is_due = self.unsynced_since.is_some_and(|since| since.elapsed() >= interval);
            if is_due && let Err(error) = self.sync() {
                self.shard.poison(&error);
            }
        }
        if let Err(error) = self.finish() {
            self.shard.poison(&error);
        }
    }

    /// Requests in order: commits that follow each other are one group.
    fn work(&mut self, requests: Vec<Request>) {
        let mut commits = Vec::new();
        for request in requests {
            match request {
                Request::Commit(now, writes, reply) => commits.push((now, writes, reply)),
                Request::Retain(retain) => {
                    self.commit(std::mem::take(&mut commits));
                    self.retain(retain);
                }
                Request::Checkpoint(reply) => {
                    self.commit(std::mem::take(&mut commits));
                    let answer = self.guarded(Self::write_checkpoint);
                    reply.answer(answer);
                }
                Request::DropIdle(idle) => {
                    self.commit(std::mem::take(&mut commits));
                    self.drop_idle(idle);
                }
            }
        }
        self.commit(commits);
    }

    /// Does nothing on a store that is poisoned, and poisons it if this fails.
    fn guarded<T>(&mut self, act: impl FnOnce(&mut Self) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.shard.healthy()?;
        let result = act(self);
        if let Err(error) = &result {
            self.shard.poison(error);
        }
        result
    }

    fn commit(&mut self, commits: Vec<Commit>) {
        if commits.is_empty() {
            return;
        }
        if let Err(error) = self.shard.healthy() {
            commits.into_iter().for_each(|(_, _, reply)| reply.answer(Err(error.clone())));
            return;
        }
        let shard = self.shard.clone();
        let source = Part { content: &shard.content, shard: shard.number };
        self.last_commits = commits.len();
        let free = match self.free {
            Some((free, at)) if at.elapsed() < FREE_INTERVAL => free,
            _ => self.free.insert((shard.free_bytes(), Instant::now())).0,
        };
        let is_full = free < shard.config.reserved_bytes;
        let mut waiting: Vec<Waiting> = Vec::with_capacity(commits.len());
        if let Err(error) = self.admit(&commits) {
            commits.into_iter().for_each(|(_, _, reply)| reply.answer(Err(error.clone())));
            return;
        }
        let mut heads = shard.lock_heads();
        let mut group = heads.begin();
        for (now, writes, reply) in commits {
            if is_full && writes.iter().any(|write| matches!(write, Write::Put(_))) {
                reply.answer(Err(StoreError::Full { free_bytes: free }));
                continue;
            }
            match heads.add(&mut group, now, writes, &source) {
                Ok(receipts) => waiting.push((reply, receipts)),
                Err(error) => reply.answer(Err(error)),
            }
        }
        if group.is_empty() {
            heads.cancel(&group);
        }
        drop(heads);
        let written = self.write(&group);
        let is_done = shard.within.run(|| match written.and_then(|()| self.show(group)) {
            Ok(()) => {
                let reached = if self.unsynced_since.is_none() { Durability::Disk } else { Durability::Os };
                for (reply, mut receipts) in waiting {
                    receipts.iter_mut().for_each(|receipt| receipt.durability = reached);
                    reply.answer(Ok(receipts));
                }
                true
            }
            Err(error) => {
                self.shard.poison(&error);
                let error = self.shard.healthy().err().unwrap_or(error);
                waiting.into_iter().for_each(|(reply, _)| reply.answer(Err(error.clone())));
                false
            }
        });
        if !is_done {
            return;
        }
        shard.content.ahead.go_on(std::mem::take(&mut self.put_bytes));
        if self.is_checkpoint_due()
            && let Err(error) = self.write_checkpoint()
        {
            self.shard.poison(&error);
        }
    }

    /// Takes the streams of these commits into memory. Nobody else does, and nobody else changes them: they are read without the lock.
    fn admit(&self, commits: &[Commit]) -> Result<(), StoreError> {
        let shard = &self.shard;
        let missing = shard.lock_heads().missing(commits.iter().flat_map(|(_, writes, _)| writes));
        for name in missing {
            if let Some(head) = shard.content.head_named(shard.number, &name)? {
                shard.lock_heads().admit(&name, head);
            }
        }
        Ok(())
    }

    /// Writes a group, as durably as somebody in it was promised.
    fn write(&mut self, group: &Group) -> Result<(), StoreError> {
        let is_durable = group.durability >= Durability::Disk;
        if !group.is_empty() {
            if !is_durable && is_told(group) {
                self.mark()?;
            }
            self.put(group)?;
            if self.unsynced_since.is_none() {
                self.unsynced_since = Some(Instant::now());
            }
        }
        if is_durable && self.unsynced_since.is_some() {
            self.sync()?;
        }
        Ok(())
    }

    /// Shows what was written: to readers, then to the follower. Receipts come after that: whoever has one finds its message, and
    /// whatever it sends next comes behind it.
    fn show(&mut self, group: Group) -> Result<(), StoreError> {
        if group.is_empty() {
            return Ok(());
        }
        let shard = self.shard.clone();
        let source = Part { content: &shard.content, shard: shard.number };
        let mut heads = shard.lock_heads();
        let forgotten = heads.settle(&group, &source)?;
        let head = heads.head().pos;
        drop(heads);
        shard.visible.store(head, Ordering::Release);
        shard.forgotten.fetch_add(forgotten, Ordering::Relaxed);
        shard.groups.fetch_add(1, Ordering::Relaxed);
        self.dirty.extend(group.touched().cloned());
        self.groups.push_back((group.number, head));
        if !group.records.is_empty()
            && let Some(follower) = shard.follower()
        {
            let messages: Vec<Message> = group.records.into_iter().map(|record| record.message).collect();
            follower(&messages);
        }
        Ok(())
    }

    fn put(&mut self, group: &Group) -> Result<(), StoreError> {
        let shard = &self.shard;
        let (content, number) = (&shard.content, shard.number);
        let head = shard.lock_heads().head().pos;
        let mut batch = fjall::OwnedWriteBatch::with_capacity(content.engine.clone(), group.records.len() + 4);
        for record in &group.records {
            let key = stream_key(number, record.stream, record.message.pos);
            let Message { at, prev, n, ref payload, .. } = record.message;
            let stored = Stored { at, prev, n, payload: payload.clone() }.encode(&key);
            self.put_bytes += (stored.len() + ITEM_BYTES) as u64;
            batch.insert(&content.messages, key, stored);
        }
        for (name, id) in &group.created {
            let key = name_key(number, name);
            batch.insert(&content.heads, &key[..], seal(&key, id.to_be_bytes().to_vec()));
        }
        for ((stream, device), pos) in &group.cursors {
            let key = cursor_key(number, *stream, device);
            match pos {
                Some(pos) => batch.insert(&content.cursors, &key[..], seal(&key, pos.to_be_bytes().to_vec())),
                None => batch.remove(&content.cursors, &key[..]),
            }
        }
        for (pid, record) in &group.sessions {
            let key = session_key(number, pid.to_text().as_str());
            match record {
                Some(record) => batch.insert(&content.sessions, &key[..], seal(&key, record.encode().to_vec())),
                None => batch.remove(&content.sessions, &key[..]),
            }
        }
        let record = GroupRecord::new(number, self.synced, head, group).encode();
        self.put_bytes += (record.len() + ITEM_BYTES) as u64;
        batch.insert(&content.groups, group_key(number, group.number), record);
        content.write(|| batch.commit()).map_err(|error| write_failed(&error))?;
        self.written = group.number;
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        self.shard.fail_if_told()?;
        let begin = Instant::now();
        self.shard.content.engine.persist(PersistMode::SyncData).map_err(|error| write_failed(&error))?;
        self.last_sync = begin.elapsed();
        self.shard.syncs.fetch_add(1, Ordering::Relaxed);
        self.synced = self.written;
        self.unsynced_since = None;
        Ok(())
    }

    /// Before anything is shown that a power cut could take back: notes which start of the system this is.
    fn mark(&mut self) -> Result<(), StoreError> {
        if !self.is_marked {
            let key = mark_key(self.shard.number);
            let value = seal(&key, self.shard.boot.clone().into_bytes());
            let content = &self.shard.content;
            content.write(|| content.heads.insert(&key[..], value)).map_err(|error| write_failed(&error))?;
            self.sync()?;
            self.is_marked = true;
        }
        Ok(())
    }

    fn is_checkpoint_due(&self) -> bool {
        self.written - self.checkpoint.group >= CHECKPOINT_GROUPS || self.dirty.len() >= self.shard.config.hot_streams
    }

    /// Writes the heads of all streams that changed, and lets go of groups that nobody needs.
    fn write_checkpoint(&mut self) -> Result<(), StoreError> {
        let shard = self.shard.clone();
        let (content, number) = (&shard.content, shard.number);
        let mut batch = content.engine.batch();
        let heads = shard.lock_heads();
        for name in self.dirty.drain() {
            let Some(head) = heads.stream(&name) else { continue };
            let key = head_key(number, head.id);
            batch.insert(&content.heads, key, encode_head(&key, &name, head));
        }
        let needed = heads.oldest_key().unwrap_or(u64::MAX);
        let mut from = self.checkpoint.from.max(1);
        while let Some((group, _)) = self.groups.front().filter(|(_, last)| *last < needed) {
            batch.remove(&content.groups, group_key(number, *group));
            from = group + 1;
            self.groups.pop_front();
        }
        self.checkpoint = Checkpoint { group: heads.group(), head: heads.head().pos, from, dropped: heads.dropped() };
        drop(heads);
        let key = checkpoint_key(number);
        batch.insert(&content.heads, &key[..], self.checkpoint.encode(&key));
        let unsynced = content.floors_unsynced();
        content.write(|| batch.commit()).map_err(|error| write_failed(&error))?;
        self.sync()?;
        drop(unsynced);
        shard.lock_heads().evict(shard.config.hot_streams, |_| false);
        Ok(())
    }

    fn finish(&mut self) -> Result<(), StoreError> {
        self.shard.healthy()?;
        self.write_checkpoint()?;
        if self.is_marked {
            let (content, key) = (&self.shard.content, mark_key(self.shard.number));
            content.write(|| content.heads.remove(key)).map_err(|error| write_failed(&error))?;
            self.sync()?;
        }
        Ok(())
    }
}

/// Whether somebody hears of something in a group that must not be otherwise after a power cut.
///
/// Messages: their positions are out, and must not be given to others. Sessions: a client was told which rooms it is in, and would be
/// taken for one that is still in those of before. Cursors, trims and retentions that are lost are as if they had come later: something is
/// sent again, or kept a little longer.
fn is_told(group: &Group) -> bool {
    !group.records.is_empty() || !group.sessions.is_empty()
}
