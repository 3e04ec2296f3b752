//! Queues that forget everything when the process ends.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use posthaste_history::store::{Answer, Durability, Reply, StoreError, Timestamp, reply};
use rustc_hash::FxHashMap;

use crate::machine::{Group, Limits, Machine, Source, Steps};
use crate::port::{
    Capabilities, Change, Command, Effect, Later, Listener, MessageId, Outcome, Queues, Refusal, StoredPut,
};
use crate::reasons::Reasons;

/// What queues in memory can do.
const CAPABILITIES: Capabilities = Capabilities {
    durability: Durability::Memory,
    survives_restart: false,
    keeps_time: false,
    max_payload: 16 << 20,
    max_batch: 10_000,
};

/// Queues in this process's memory. They have no thread: whoever asks does the work, and [`Queues::tick`] what time brings.
///
/// ```
/// use bytes::Bytes;
/// use posthaste_history::store::{Durability, Timestamp, wait};
/// use posthaste_queue::{Command, MemoryQueues, Outcome, Put, Queues};
///
/// let queues = MemoryQueues::new(MemoryQueues::limits(), 7);
/// let put = Put::new(&"emails".into(), Bytes::from_static(b"hello"), Durability::Memory);
/// let outcome = wait(queues.ask(Timestamp(0), Command::Put(vec![put])))?;
/// assert!(matches!(outcome, Ok(Outcome::Put(receipts)) if receipts[0].id == 1));
/// # Ok::<(), posthaste_history::store::StoreError>(())
/// ```
pub struct MemoryQueues {
    capabilities: Capabilities,
    /// What is asked while somebody is at work, who does that as well: so a listener may ask.
    desk: Mutex<Desk>,
    state: Mutex<State>,
    listener: Mutex<Option<Listener>>,
}

#[derive(Default)]
struct Desk {
    is_busy: bool,
    jobs: VecDeque<Job>,
    /// When there is something to do for [`Queues::tick`].
    wake_at: Option<Timestamp>,
}

enum Job {
    Ask(Timestamp, Command, Reply<Result<Outcome, Refusal>>),
    /// A step of what is done in steps, in its turn with what is asked meanwhile.
    Step(Timestamp, Steps, Reply<Result<Outcome, Refusal>>),
    Tick(Timestamp),
}

struct State {
    machine: Machine,
    /// What changed and was not shown yet: leases.
    next: Group,
    content: Content,
}

#[derive(Default)]
struct Content {
    messages: FxHashMap<MessageId, Box<StoredPut>>,
    /// Messages that were put to be ready later, until they end.
    delayed: BTreeSet<(Timestamp, MessageId)>,
    /// The same by queue.
    delayed_of: BTreeSet<(u32, MessageId)>,
    reasons: Reasons,
    results: FxHashMap<MessageId, (u32, Bytes, Timestamp)>,
    /// The same by their ends.
    ends: BTreeMap<(Timestamp, MessageId), ()>,
}

impl MemoryQueues {
    /// No queues yet. `seed` is 64 random bits: rests after failures vary by it.
    #[must_use]
    pub fn new(limits: Limits, seed: u64) -> Self {
        let capabilities = limits.capabilities;
        let mut machine = Machine::new(limits, seed);
        let mut group = Group::default();
        machine.started(&mut group, 1, 1);
        let state = State { machine, next: Group::default(), content: Content::default() };
        Self { capabilities, desk: Mutex::default(), state: Mutex::new(state), listener: Mutex::default() }
    }

    /// As much as memory has room for: queues are made by whoever uses them.
    #[must_use]
    pub fn limits() -> Limits {
        Limits {
            max_queues: 100_000,
            max_consumers: 100_000,
            near: usize::MAX,
            makes_queues: true,
            capabilities: CAPABILITIES,
        }
    }

    /// Does what is on the desk, unless somebody is at it who will.
    fn work(&self, job: Job) {
        let mut desk = lock(&self.desk);
        desk.jobs.push_back(job);
        if std::mem::replace(&mut desk.is_busy, true) {
            return;
        }
        while let Some(job) = desk.jobs.pop_front() {
            drop(desk);
            let (wake_at, next) = self.do_one(job);
            desk = lock(&self.desk);
            desk.wake_at = wake_at;
            desk.jobs.extend(next);
        }
        desk.is_busy = false;
    }

    /// Returns when there is something to do for [`Queues::tick`], and what is left of the job.
    fn do_one(&self, job: Job) -> (Option<Timestamp>, Option<Job>) {
        let mut state = lock(&self.state);
        let (Job::Ask(now, ..) | Job::Step(now, ..) | Job::Tick(now)) = &job;
        let now = *now;
        let mut effects = Vec::new();
        let ticked = state.tick(now, &mut effects);
        let (mut answer, mut next) = (None, None);
        match job {
            Job::Ask(_, command, reply) => match state.machine.steps(&command) {
                Some(steps) => next = Some(Job::Step(now, steps, reply)),
                None => answer = Some((ticked.and_then(|()| state.ask(now, command, &mut effects)), reply)),
            },
            Job::Step(_, mut steps, reply) => {
                match ticked.and_then(|()| state.step(now, &mut steps, &mut effects)).transpose() {
                    Some(said) => answer = Some((said, reply)),
                    None => next = Some(Job::Step(now, steps, reply)),
                }
            }
            Job::Tick(_) => {}
        }
        let wake_at = state.machine.wake_at();
        drop(state);
        if !effects.is_empty() {
            let listener = lock(&self.listener).clone();
            if let Some(listener) = listener {
                listener(effects);
            }
        }
        if let Some((answer, reply)) = answer {
            reply.answer(answer);
        }
        (wake_at, next)
    }
}

impl Queues for MemoryQueues {
    fn ask(&self, now: Timestamp, command: Command) -> Answer<Result<Outcome, Refusal>> {
        let (reply, answer) = reply();
        self.work(Job::Ask(now, command, reply));
        answer
    }

    fn tick(&self, now: Timestamp) -> Option<Timestamp> {
        self.work(Job::Tick(now));
        lock(&self.desk).wake_at
    }

    fn listen(&self, listener: Option<Listener>) {
        *lock(&self.listener) = listener;
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }
}

impl State {
    fn tick(&mut self, now: Timestamp, effects: &mut Vec<Effect>) -> Result<(), StoreError> {
        if self.machine.wake_at().is_none_or(|at| at > now) {
            return Ok(());
        }
        self.content.forget(now);
        let mut group = std::mem::take(&mut self.next);
        let ticked = self.machine.tick(&mut group, now, &self.content);
        let given = self.write(group, now);
        effects.extend(given);
        let mut granted = ticked?;
        self.content.fill(&mut granted);
        effects.extend(granted);
        Ok(())
    }

    fn ask(
        &mut self,
        now: Timestamp,
        command: Command,
        effects: &mut Vec<Effect>,
    ) -> Result<Result<Outcome, Refusal>, StoreError> {
        let mut group = std::mem::take(&mut self.next);
        let answer = self.machine.add(&mut group, now, command, &self.content);
        let given = self.write(group, now);
        effects.extend(given);
        answer
    }

    fn step(
        &mut self,
        now: Timestamp,
        steps: &mut Steps,
        effects: &mut Vec<Effect>,
    ) -> Result<Option<Result<Outcome, Refusal>>, StoreError> {
        let mut group = std::mem::take(&mut self.next);
        let answer = self.machine.step(&mut group, now, steps, &self.content);
        let given = self.write(group, now);
        effects.extend(given);
        answer
    }

    /// Keeps what changed, and shows it, until there is nothing more to say.
    fn write(&mut self, mut group: Group, now: Timestamp) -> Vec<Effect> {
        let mut effects = Vec::new();
        loop {
            for change in std::mem::take(&mut group.changes) {
                self.content.keep(change);
            }
            effects.extend(self.machine.show(group, &mut self.next, now));
            if !self.next.is_awaited() {
                break;
            }
            group = std::mem::take(&mut self.next);
        }
        self.content.fill(&mut effects);
        effects
    }
}

impl Content {
    fn keep(&mut self, change: Change) {
        self.reasons.keep(&change);
        match change {
            Change::Put(stored) => {
                if let Some(due) = stored.put.due {
                    self.delayed.insert((due, stored.id));
                    self.delayed_of.insert((stored.queue, stored.id));
                }
                self.messages.insert(stored.id, stored);
            }
            Change::Ended { id, queue, due, result, .. } => {
                self.messages.remove(&id);
                if let Some(due) = due {
                    self.delayed.remove(&(due, id));
                    self.delayed_of.remove(&(queue, id));
                }
                if let Some((result, until)) = result {
                    self.ends.insert((until, id), ());
                    self.results.insert(id, (queue, result, until));
                }
            }
            Change::Deleted { queue } => {
                self.messages.retain(|_, stored| stored.queue != queue);
                let messages = &self.messages;
                self.delayed.retain(|(_, id)| messages.contains_key(id));
                self.delayed_of.retain(|(other, _)| *other != queue);
            }
            _ => {} // the machine knows
        }
    }

    fn fill(&self, effects: &mut [Effect]) {
        for effect in effects {
            if let Effect::Granted(delivery) = effect {
                let stored = self.messages.get(&delivery.id).expect("invariant: a message that is given out is kept");
                delivery.payload = stored.put.payload.clone();
                delivery.headers = stored.put.headers.clone();
            }
        }
    }

    fn forget(&mut self, now: Timestamp) {
        while let Some((&(until, id), ())) = self.ends.first_key_value() {
            if until > now {
                break;
            }
            self.ends.pop_first();
            self.results.remove(&id);
        }
    }
}

impl Source for Content {
    fn delayed(&self, after: (Timestamp, MessageId), max: usize) -> Result<Vec<(StoredPut, u64)>, StoreError> {
        use std::ops::Bound::{Excluded, Unbounded};
        let behind = self.delayed.range((Excluded(after), Unbounded)).take(max);
        let stored = behind.filter_map(|(_, id)| self.messages.get(id));
        Ok(stored.map(|stored| ((**stored).clone(), stored.put.cost())).collect())
    }

    fn delayed_of(&self, queue: u32, after: MessageId, max: usize) -> Result<Vec<Later>, StoreError> {
        let behind = self.delayed_of.range((queue, after.saturating_add(1))..=(queue, MessageId::MAX)).take(max);
        Ok(behind.filter_map(|(_, id)| self.messages.get(id)).map(|stored| Later::of(stored)).collect())
    }

    fn message(&self, id: MessageId) -> Result<Option<StoredPut>, StoreError> {
        Ok(self.messages.get(&id).map(|stored| (**stored).clone()))
    }

    fn reasons(&self, id: MessageId) -> Result<Vec<(Timestamp, Arc<str>)>, StoreError> {
        Ok(self.reasons.of(id))
    }

    fn result(&self, now: Timestamp, id: MessageId) -> Result<Option<(u32, Bytes)>, StoreError> {
        let kept = self.results.get(&id).filter(|(.., until)| *until > now);
        Ok(kept.map(|(queue, result, _)| (*queue, result.clone())))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
