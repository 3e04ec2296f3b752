//! The thread that decides what becomes of messages, and writes it.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use fjall::{OwnedWriteBatch, PersistMode};
use posthaste_history::store::{Durability, Reply, StoreError, Timestamp};
use posthaste_queue::{Change, Command, Effect, Group, Machine, MessageId, Outcome, Refusal, Steps};
use rustc_hash::FxHashSet;

use crate::codec::{GroupRecord, group_key, mark_key, seal};
use crate::config::Clock;
use crate::error::write_failed;
use crate::queue::News;
use crate::work::NUMBER;
use crate::work::codec::{encode_change, encode_record};
use crate::work::disk::Disk;
use crate::work::handle::{Inner, Request};
use crate::work::keys;
use crate::work::load::{Checkpoint, encode_queue};
use crate::work::schedules::Writing;

/// One write to the disk has at most so much.
const GROUP_BYTES: usize = 8 << 20;
const GROUP_COUNT: usize = 4_096;
/// As streams do it: see the committer of a shard.
const GATHER_PART: u32 = 4;
const GATHER_MAX: Duration = Duration::from_micros(200);
const FREE_INTERVAL: Duration = Duration::from_millis(100);
/// Where messages are is written down after so many groups (see the configuration) or so many changes: a start has them all in memory.
const CHECKPOINT_CHANGES: usize = 250_000;
/// What time brings is done in so many steps before something that is asked.
const TICKS: usize = 64;
/// Whose time is further behind than what waiting explains has a clock that was set back.
const SET_BACK: Duration = Duration::from_secs(1);
/// Longest sleep: by then the time of day is looked at again.
const SLEEP_MAX: Duration = Duration::from_millis(500);

pub(super) struct Committer {
    pub(super) inner: Arc<Inner>,
    pub(super) machine: Machine,
    pub(super) disk: Disk,
    pub(super) now: Timestamp,
    /// When that was.
    pub(super) looked: Instant,
    /// What is done in steps, and who waits for it: the first of them a step in each turn.
    pub(super) chores: VecDeque<(Steps, Asker)>,
    /// What was changed and not yet written: leases only.
    pub(super) next: Group,
    /// The last group that is written, and the last that is synced.
    pub(super) written: u64,
    pub(super) synced: u64,
    /// When what is not synced was written, or would have been.
    pub(super) unsynced_since: Option<Instant>,
    pub(super) is_marked: bool,
    pub(super) last_count: usize,
    pub(super) last_sync: Duration,
    pub(super) free: Option<(u64, Instant)>,
    pub(super) checkpoint: Checkpoint,
    /// Changes that were written since.
    pub(super) behind: usize,
    /// Messages that were moved since the checkpoint, and those that have a record on the disk.
    pub(super) moved: FxHashSet<MessageId>,
    pub(super) recorded: FxHashSet<MessageId>,
    /// What was given out and is said behind what its group led to.
    pub(super) late: Vec<Effect>,
    /// Queues that were altered since the checkpoint.
    pub(super) altered: BTreeSet<u32>,
    /// What was put into the journal since it was last looked whether there are zeros ahead, about.
    pub(super) put_bytes: u64,
    /// Messages on the disk, but for those that were put for later.
    pub(super) jobs: u64,
}

/// Whoever waits for an answer.
pub(super) type Asker = Reply<Result<Outcome, Refusal>>;

impl Committer {
    /// Before anything else: what a start changes, synced; what the start before this one may have lost is passed by then.
    pub(super) fn begin(&mut self) -> Result<(), StoreError> {
        let mut group = std::mem::take(&mut self.next);
        self.write(&mut group)?;
        self.unmark()?;
        self.show(group)
    }

    pub(super) fn run(mut self) {
        loop {
            self.inner.queue.gather(self.last_count, (self.last_sync / GATHER_PART).min(GATHER_MAX));
            let requests = match self.inner.queue.take(GROUP_BYTES, GROUP_COUNT, Some(self.patience())) {
                News::Work(requests) => requests,
                News::Nothing => Vec::new(),
                News::Closed => break,
            };
            self.reach(self.clock());
            self.turn(requests);
        }
        if self.inner.healthy().is_ok()
            && let Err(error) = self.finish()
        {
            self.inner.poison(&error);
        }
    }

    /// What time it is. Time goes on also when the time of day is set back: what rests, and what is leased, would do so until the time of
    /// day is what it was.
    fn clock(&self) -> Timestamp {
        let told = self.inner.config.now();
        match &self.inner.config.clock {
            Clock::Told(_) => told,
            Clock::OfDay(_) => told.max(Timestamp(self.now.0.saturating_add(self.looked.elapsed().as_millis() as u64))),
        }
    }

    fn reach(&mut self, now: Timestamp) {
        if now > self.now {
            // What is less than a millisecond is not lost when this is done often.
            let passed = Duration::from_millis(now.0 - self.now.0);
            let steady = self.looked.checked_add(passed).filter(|at| *at <= Instant::now());
            self.now = now;
            self.looked = steady.unwrap_or_else(Instant::now);
        }
    }

    /// Times in a command are by the clock of who asks, which is behind if it was set back.
    fn by_our_clock(&self, now: Timestamp, mut command: Command) -> Command {
        let behind = self.now.0.saturating_sub(now.0);
        if behind > SET_BACK.as_millis() as u64
            && let Command::Put(puts) = &mut command
        {
            let later = |at: &mut Timestamp| at.0 = at.0.saturating_add(behind);
            for put in puts {
                put.due.as_mut().into_iter().chain(put.expires.as_mut()).for_each(later);
            }
        }
        command
    }

    /// What time has brought by now comes before whatever is asked now.
    fn catch_up(&mut self, group: &mut Group) -> Result<(), StoreError> {
        for _ in 0..TICKS {
            if self.machine.wake_at().is_none_or(|at| at > self.now) {
                break;
            }
            self.give(group)?;
        }
        Ok(())
    }

    /// What is ready goes to whoever takes it: told at once, unless something has to be said first.
    fn give(&mut self, group: &mut Group) -> Result<(), StoreError> {
        if self.machine.fires_at().is_some_and(|at| at <= self.now) {
            let has_room = self.free_bytes() >= self.inner.config.reserved_bytes;
            self.disk.has_room.set(has_room);
        }
        let effects = self.machine.tick(group, self.now, &self.disk)?;
        if group.is_awaited() || !self.late.is_empty() {
            self.late.extend(effects);
            return Ok(());
        }
        self.say(effects)
    }

    fn patience(&self) -> Duration {
        if self.next.is_awaited() || (!self.chores.is_empty() && self.inner.healthy().is_ok()) {
            return Duration::ZERO;
        }
        let until = self.machine.wake_at().map_or(u64::MAX, |at| at.0.saturating_sub(self.clock().0.max(self.now.0)));
        let sync = self.unsynced_since.map(|since| self.inner.config.sync_interval.saturating_sub(since.elapsed()));
        Duration::from_millis(until).min(SLEEP_MAX).min(sync.unwrap_or(SLEEP_MAX))
    }

    fn turn(&mut self, requests: Vec<Request>) {
        if let Err(error) = self.inner.healthy() {
            for request in requests {
                if let Request::Ask(_, _, reply) = request {
                    reply.answer(Err(error.clone()));
                }
            }
            return;
        }
        if !requests.is_empty() {
            self.last_count = requests.len();
        }
        let (mut waiting, mut looks) = (Vec::with_capacity(requests.len()), Vec::new());
        let mut group = std::mem::take(&mut self.next);
        let written =
            self.decide(&mut group, requests, &mut waiting, &mut looks).and_then(|()| self.carry_out(&mut group));
        let inner = self.inner.clone();
        let shown = inner.within.run(|| match written.and_then(|()| self.show(group)) {
            Ok(()) => {
                waiting.into_iter().for_each(|(reply, answer)| reply.answer(Ok(answer)));
                // They see what was asked before them.
                for (command, reply) in looks {
                    reply.answer(self.machine.add(&mut Group::default(), self.now, command, &self.disk));
                }
                Ok(())
            }
            Err(error) => {
                let error = self.inner.poison(&error);
                let looks = looks.into_iter().map(|(_, reply)| reply);
                let chores = self.chores.drain(..).map(|(_, reply)| reply);
                let all = waiting.into_iter().map(|(reply, _)| reply).chain(looks).chain(chores);
                all.for_each(|reply| reply.answer(Err(error.clone())));
                Err(error)
            }
        });
        // Behind the answers: nobody waits for it.
        if let Err(error) = shown.and_then(|()| self.tidy_up()) {
            self.inner.poison(&error);
        }
    }

    /// Commands in order; then whatever is ready goes to whoever takes it, at once: a lease needs no sync.
    fn decide(
        &mut self,
        group: &mut Group,
        requests: Vec<Request>,
        waiting: &mut Vec<(Asker, Result<Outcome, Refusal>)>,
        looks: &mut Vec<(Command, Asker)>,
    ) -> Result<(), StoreError> {
        let mut full = None;
        for request in requests {
            let (now, command, reply) = match request {
                Request::Ask(now, command, reply) => (now, command, reply),
                Request::Tick(now) => {
                    self.reach(now);
                    self.catch_up(group)?;
                    continue;
                }
            };
            self.reach(now);
            self.catch_up(group)?;
            if command.is_look() {
                looks.push((command, reply));
                continue;
            }
            let is_more = matches!(command, Command::Put(_) | Command::Schedule { .. } | Command::RunSchedule { .. });
            if is_more {
                let free = self.free_bytes();
                if free < self.inner.config.reserved_bytes {
                    full = Some(free);
                }
            }
            if let (true, Some(free_bytes)) = (is_more, full) {
                reply.answer(Err(StoreError::Full { free_bytes }));
                continue;
            }
            if let Some(steps) = self.machine.steps(&command) {
                self.chores.push_back((steps, reply));
                continue;
            }
            let command = self.by_our_clock(now, command);
            match self.machine.add(group, self.now, command, &self.disk) {
                Ok(answer) => waiting.push((reply, answer)),
                Err(error) => reply.answer(Err(error)),
            }
        }
        self.go_on(group, waiting);
        self.give(group)
    }

    /// A step of what is done in steps.
    fn go_on(&mut self, group: &mut Group, waiting: &mut Vec<(Asker, Result<Outcome, Refusal>)>) {
        let Some((steps, _)) = self.chores.front_mut() else { return };
        let stepped = self.machine.step(group, self.now, steps, &self.disk);
        if matches!(stepped, Ok(None)) {
            return;
        }
        let (_, reply) = self.chores.pop_front().expect("invariant: a step is taken of the first");
        match stepped {
            Ok(answer) => waiting.extend(answer.map(|answer| (reply, answer))),
            Err(error) => reply.answer(Err(error)),
        }
    }

    /// Writes a group, as durably as somebody in it was promised.
    fn carry_out(&mut self, group: &mut Group) -> Result<(), StoreError> {
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

    fn tidy_up(&mut self) -> Result<(), StoreError> {
        self.disk.content.ahead.go_on(std::mem::take(&mut self.put_bytes));
        let is_long = self.behind >= CHECKPOINT_CHANGES;
        if is_long || self.written - self.checkpoint.group >= self.inner.config.checkpoint_groups {
            self.write_checkpoint()?;
        }
        Ok(())
    }

    fn show(&mut self, mut group: Group) -> Result<(), StoreError> {
        let mut first = group.take_effects();
        first.append(&mut self.late);
        self.say(first)?;
        let effects = self.machine.show(group, &mut self.next, self.now);
        if !self.next.changes.is_empty() && self.unsynced_since.is_none() {
            self.unsynced_since = Some(Instant::now());
        }
        self.say(effects)
    }

    fn say(&mut self, mut effects: Vec<Effect>) -> Result<(), StoreError> {
        if effects.is_empty() {
            return Ok(());
        }
        for effect in &mut effects {
            if let Effect::Granted(delivery) = effect {
                self.disk.fill(delivery)?;
            }
        }
        if let Some(listener) = self.inner.listener() {
            listener(effects);
        }
        Ok(())
    }

    fn write(&mut self, group: &mut Group) -> Result<(), StoreError> {
        if group.changes.is_empty() {
            return Ok(());
        }
        if group.durability == Durability::Os {
            self.mark()?;
        }
        let content = self.disk.content.clone();
        let mut batch = OwnedWriteBatch::with_capacity(content.engine.clone(), group.changes.len() + 2);
        let mut changes = Vec::with_capacity(32 * group.changes.len());
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
            encode_change(&mut changes, change);
            self.note(&mut batch, change);
        }
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
    fn note(&mut self, batch: &mut OwnedWriteBatch, change: &Change) {
        match change {
            Change::Leased { id, .. }
            | Change::Touched { id, .. }
            | Change::Returned { id, .. }
            | Change::Died { id, .. }
            | Change::Redriven { id } => drop(self.moved.insert(*id)),
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

    fn sync(&mut self) -> Result<(), StoreError> {
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
    fn mark(&mut self) -> Result<(), StoreError> {
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
    fn unmark(&mut self) -> Result<(), StoreError> {
        let content = &self.disk.content;
        content.write(|| content.heads.remove(mark_key(NUMBER))).map_err(|error| write_failed(&error))?;
        self.sync()
    }

    fn free_bytes(&mut self) -> u64 {
        match self.free {
            Some((free, at)) if at.elapsed() < FREE_INTERVAL => free,
            _ => {
                let found = rustix::fs::statvfs(&self.inner.config.path);
                let free = found.map_or(u64::MAX, |found| found.f_bavail.saturating_mul(found.f_frsize));
                self.free.insert((free, Instant::now())).0
            }
        }
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
        self.disk.forget(&mut batch, self.now)?;
        content.write(|| batch.commit()).map_err(|error| write_failed(&error))?;
        self.sync()
    }

    fn finish(&mut self) -> Result<(), StoreError> {
        let mut group = std::mem::take(&mut self.next);
        self.write(&mut group)?;
        self.write_checkpoint()?;
        if self.is_marked {
            self.unmark()?;
        }
        Ok(())
    }
}
