//! The thread that decides what becomes of messages.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use posthaste_history::store::{Reply, StoreError, Timestamp};
use posthaste_queue::{Command, Effect, Group, Machine, MessageId, Outcome, Refusal, Steps};
use rustc_hash::FxHashSet;

use crate::queue::News;
use crate::work::disk::Disk;
use crate::work::handle::{Inner, Request, is_more};
use crate::work::load::Checkpoint;

/// One write to the disk has at most so much.
const GROUP_BYTES: usize = 8 << 20;
const GROUP_COUNT: usize = 4_096;
/// As streams do it: see the committer of a shard.
const GATHER_PART: u32 = 4;
const GATHER_MAX: Duration = Duration::from_micros(200);
/// A long list of what time brings is gone on with so often in a turn: what is asked meanwhile does not wait for the end of it.
const TICKS: usize = 4;

pub(super) struct Committer {
    pub(super) inner: Arc<Inner>,
    pub(super) machine: Machine,
    pub(super) disk: Disk,
    pub(super) now: Timestamp,
    /// When that was.
    pub(super) looked: Instant,
    /// How often a long list of what time brings is gone on with in this turn.
    pub(super) ticks_left: usize,
    /// When keys and results whose time is over had been let go, all of them.
    pub(super) forgot: Option<Instant>,
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
        self.ticks_left = TICKS;
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
            let is_more = is_more(&command);
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

    pub(super) fn say(&mut self, mut effects: Vec<Effect>) -> Result<(), StoreError> {
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
}
