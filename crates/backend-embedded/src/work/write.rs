//! What was decided, onto the disk: a group at a time, and now and then a checkpoint.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use fjall::{OwnedWriteBatch, PersistMode};
use posthaste_history::store::{Durability, StoreError};
use posthaste_queue::{Change, Group, MessageId};
use rustc_hash::FxHashSet;

use crate::codec::{GroupRecord, group_key, mark_key, seal};
use crate::error::write_failed;
use crate::work::NUMBER;
use crate::work::codec::{begin_changes, encode_change, encode_record};
use crate::work::committer::Committer;
use crate::work::load::{Checkpoint, encode_queue};
use crate::work::schedules::Writing;
use crate::work::{keys, reasons};

const FREE_INTERVAL: Duration = Duration::from_millis(100);
/// Between two looks for keys and results whose time is over, when the last has found none that is left.
const FORGET_INTERVAL: Duration = Duration::from_secs(60);
/// Where messages are is written down after so many groups (see the configuration) or so many changes: a start has them all in memory.
const CHECKPOINT_CHANGES: usize = 250_000;

impl Committer {
    /// Writes a group, as durably as somebody in it was promised.
    pub(super) fn carry_out(&mut self, group: &mut Group) -> Result<(), StoreError> {
        let is_due = self.unsynced_since.is_some_and(|since| since.elapsed() >= self.inner.config.sync_interval);
        let is_idle = |change: &Change| matches!(change, Change::Leased { .. } | Change::Touched { .. });
        let is_awaited = group.is_awaited() || is_due || group.durability > Durability::Memory;
        if !is_awaited && group.changes.iter().all(is_idle) {
            // Nobody waits for it. Shown nevertheless: answers may.
            if !group.changes.is_empty() && self.unsynced_since.is_none() {
                self.unsynced_since = Some(Instant::now());
            }
            self.next.changes = std::mem::take(&mut group.changes);
            return Ok(());
        }
        self.write(group)?;
        if group.durability >= Durability::Disk || is_due {
            self.sync()?;
        }
        Ok(())
    }

    pub(super) fn write(&mut self, group: &mut Group) -> Result<(), StoreError> {
        if group.changes.is_empty() {
            return Ok(());
        }
        if group.durability == Durability::Os {
            self.mark()?;
        }
        let content = self.disk.content.clone();
        let mut batch = OwnedWriteBatch::with_capacity(content.engine.clone(), group.changes.len() + 2);
        let mut changes = begin_changes(self.now, 32 * group.changes.len());
        // What comes and goes within one group is not written: of one key a batch may say one thing only.
        let first = group.changes.iter().find_map(|change| match change {
            Change::Put(message) => Some(message.id),
            _ => None,
        });
        let first = first.unwrap_or(MessageId::MAX);
        let ended = |change: &Change| match change {
            Change::Ended { id, .. } if *id >= first => Some(*id),
            _ => None,
        };
        let ephemeral: FxHashSet<MessageId> = group.changes.iter().filter_map(ended).collect();
        let mut keys_said = FxHashSet::default();
        let mut schedules = Writing::default();
        let mut reasons = reasons::Writing::default();
        for change in group.changes.iter_mut().rev() {
            if let Change::Remembered { queue, key, .. } = change
                && keys_said.insert((*queue, key.clone()))
            {
                self.put_bytes += self.disk.write(&mut batch, change)?;
            }
        }
        for change in &mut group.changes {
            match change {
                Change::Put(message) if ephemeral.contains(&message.id) => {}
                Change::Ended { id, result: None, .. } if ephemeral.contains(id) => {}
                Change::Remembered { .. } => {}
                _ => {
                    self.put_bytes += self.disk.write(&mut batch, change)?;
                    self.put_bytes += schedules.write(&content, &mut batch, &self.machine, change);
                }
            }
        }
        for change in &group.changes {
            reasons.note(change);
            encode_change(&mut changes, change);
            self.note(&mut batch, change);
        }
        self.put_bytes += reasons.write(&content, &mut batch);
        let number = self.written + 1;
        let record = GroupRecord {
            shard: NUMBER,
            number,
            synced: self.synced,
            head: self.machine.next_id(),
            changes,
            ..GroupRecord::default()
        };
        let record = record.encode();
        self.put_bytes += record.len() as u64;
        batch.insert(&content.groups, group_key(NUMBER, number), record);
        content.write(|| batch.commit()).map_err(|error| write_failed(&error))?;
        self.written = number;
        self.behind += group.changes.len();
        self.unsynced_since.get_or_insert_with(Instant::now);
        Ok(())
    }

    /// Remembers what the next checkpoint has to write down.
    pub(super) fn note(&mut self, batch: &mut OwnedWriteBatch, change: &Change) {
        match change {
            Change::Leased { id, .. }
            | Change::Touched { id, .. }
            | Change::Returned { id, .. }
            | Change::Died { id, .. }
            | Change::Redriven { id, .. } => drop(self.moved.insert(*id)),
            Change::Ended { id, queue, due, .. } => {
                match due {
                    Some(_) => drop(self.altered.insert(*queue)),
                    None => self.jobs -= 1,
                }
                self.moved.remove(id);
                if self.recorded.remove(id) {
                    batch.remove(&self.disk.content.queues, &keys::record(*id)[..]);
                }
            }
            Change::Created { queue, .. }
            | Change::Configured { queue, .. }
            | Change::Switched { queue, .. }
            | Change::Deleted { queue } => drop(self.altered.insert(*queue)),
            Change::Put(message) => match message.put.due {
                Some(_) => drop(self.altered.insert(message.queue)),
                None => self.jobs += 1,
            },
            _ => {}
        }
    }

    pub(super) fn sync(&mut self) -> Result<(), StoreError> {
        if self.inner.fails.load(Ordering::Relaxed) {
            return Err(StoreError::Poisoned("a sync that was told to fail".into()));
        }
        let begin = Instant::now();
        self.disk.content.engine.persist(PersistMode::SyncData).map_err(|error| write_failed(&error))?;
        self.last_sync = begin.elapsed();
        self.inner.syncs.fetch_add(1, Ordering::Relaxed);
        self.synced = self.written;
        self.unsynced_since = None;
        Ok(())
    }

    /// Before anything is shown that a power cut could take back: notes which start of the system this is.
    pub(super) fn mark(&mut self) -> Result<(), StoreError> {
        if !self.is_marked {
            let key = mark_key(NUMBER);
            let value = seal(&key, self.inner.config.boot().into_bytes());
            let content = &self.disk.content;
            content.write(|| content.heads.insert(&key[..], value)).map_err(|error| write_failed(&error))?;
            self.sync()?;
            self.is_marked = true;
        }
        Ok(())
    }

    /// Nothing that was shown can be taken back by a power cut.
    pub(super) fn unmark(&mut self) -> Result<(), StoreError> {
        let content = &self.disk.content;
        content.write(|| content.heads.remove(mark_key(NUMBER))).map_err(|error| write_failed(&error))?;
        self.sync()
    }

    pub(super) fn free_bytes(&mut self) -> u64 {
        match self.free {
            Some((free, at)) if at.elapsed() < FREE_INTERVAL => free,
            _ => {
                let found = rustix::fs::statvfs(&self.inner.config.path);
                let free = found.map_or(u64::MAX, |found| found.f_bavail.saturating_mul(found.f_frsize));
                self.free.insert((free, Instant::now())).0
            }
        }
    }

    /// What nobody waits for: zeros ahead of the journal, a checkpoint, keys and results whose time is over.
    pub(super) fn tidy_up(&mut self) -> Result<(), StoreError> {
        self.disk.content.ahead.go_on(std::mem::take(&mut self.put_bytes));
        let is_long = self.behind >= CHECKPOINT_CHANGES;
        if is_long || self.written - self.checkpoint.group >= self.inner.config.checkpoint_groups {
            self.write_checkpoint()?;
            self.forgot = None;
        }
        if self.forgot.is_none_or(|at| at.elapsed() >= FORGET_INTERVAL) {
            let mut batch = self.disk.content.engine.batch();
            let is_all = !self.disk.forget(&mut batch, self.now)?;
            self.disk.content.write(|| batch.commit()).map_err(|error| write_failed(&error))?;
            self.forgot = is_all.then(Instant::now);
        }
        Ok(())
    }

    /// Writes down where messages are, and lets go of the groups that said so.
    pub(super) fn write_checkpoint(&mut self) -> Result<(), StoreError> {
        let content = self.disk.content.clone();
        let mut batch = content.engine.batch();
        for id in self.moved.drain() {
            let key = keys::record(id);
            match self.machine.record(id) {
                Some(record) => {
                    batch.insert(&content.queues, &key[..], seal(&key, encode_record(&record)));
                    self.recorded.insert(id);
                }
                None => {
                    if self.recorded.remove(&id) {
                        batch.remove(&content.queues, &key[..]);
                    }
                }
            }
        }
        let mut altered = std::mem::take(&mut self.altered);
        if !altered.is_empty() {
            for record in self.machine.queues() {
                if altered.remove(&record.queue) {
                    let key = keys::queue(record.queue);
                    batch.insert(&content.queues, &key[..], seal(&key, encode_queue(&record)));
                }
            }
            // What is left of them was removed.
            altered.iter().for_each(|queue| batch.remove(&content.queues, &keys::queue(*queue)[..]));
        }
        for number in self.checkpoint.group + 1..=self.written {
            batch.remove(&content.groups, group_key(NUMBER, number));
        }
        self.checkpoint = Checkpoint::of(&self.machine, self.written, self.now, self.jobs);
        self.behind = 0;
        batch.insert(&content.queues, keys::CHECKPOINT, seal(keys::CHECKPOINT, self.checkpoint.encode()));
        content.write(|| batch.commit()).map_err(|error| write_failed(&error))?;
        self.sync()
    }

    pub(super) fn finish(&mut self) -> Result<(), StoreError> {
        let mut group = std::mem::take(&mut self.next);
        self.write(&mut group)?;
        self.write_checkpoint()?;
        if self.is_marked {
            self.unmark()?;
        }
        Ok(())
    }
}
