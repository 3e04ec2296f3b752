//! The rules of queues, as a value: commands become changes, changes become what there is.
//!
//! ```text
//!   add    put · settle · consumer · admin · look      what is asked
//!   tick   lease · delay · expiry · alarm · schedules  what time brings     ─► Change ─► apply ─► place
//!   show   held ─► ready ─► give                       what is given out
//! ```
//!
//! [`Machine::apply`] alone alters what survives a restart; everything else decides, and says it as a [`Change`].

mod admin;
mod apply;
mod bucket;
mod clock;
mod consumer;
mod counted;
mod death;
mod delays;
mod give;
mod keys;
mod known;
mod lease;
mod line;
mod look;
mod members;
mod message;
mod place;
mod put;
mod queue;
mod restart;
mod schedules;
mod settle;
mod slab;
mod steps;
mod table;
mod tick;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use posthaste_history::store::{Durability, StoreError, Timestamp};
use rustc_hash::{FxHashMap, FxHashSet};

pub use restart::QueueRecord;
pub use steps::Steps;

use crate::port::{
    Capabilities, Change, Command, Config, ConsumerId, Effect, Later, MessageId, Outcome, QueueName, Refusal,
    StoredPut, Token,
};
use clock::Clock;
use keys::Key;
use lease::{Holder, Lease};
use queue::Queue;
use schedules::Schedules;
use slab::Slab;
use table::Table;

/// What a machine may ask of its store while it decides.
///
/// The store answers for all it was ever given, written or on its way: only what is still in the [`Group`] that a call is about is not
/// there yet.
pub trait Source {
    /// Messages that were put to be ready later, with their costs, by that time and number, behind this one, at most `max`. Payloads
    /// may be left out. Those that have ended are not among them; those that are ready, leased or dead meanwhile may be.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    fn delayed(&self, after: (Timestamp, MessageId), max: usize) -> Result<Vec<(StoredPut, u64)>, StoreError>;

    /// Messages of one queue that were put to be ready later, by number, behind `after`, at most `max`. Of those that have ended and of
    /// those that are ready, leased or dead meanwhile the same holds as in [`Self::delayed`].
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    fn delayed_of(&self, queue: u32, after: MessageId, max: usize) -> Result<Vec<Later>, StoreError>;

    /// One message that has not ended, with its payload; `None` if there is none.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    fn message(&self, id: MessageId) -> Result<Option<StoredPut>, StoreError>;

    /// The result of a message that is kept, with the number of its queue, unless its time is over.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    fn result(&self, now: Timestamp, id: MessageId) -> Result<Option<(u32, bytes::Bytes)>, StoreError>;

    /// Why a message that has not ended failed or died, and when: the newest of its [reasons](crate::Reason), the newest last.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    fn reasons(&self, id: MessageId) -> Result<Vec<(Timestamp, Arc<str>)>, StoreError>;

    /// Whether there is room for what schedules put. What is due waits for it.
    fn has_room(&self) -> bool {
        true
    }
}

/// What one write to the store has to do: the changes of several commands, in order.
#[derive(Debug)]
pub struct Group {
    /// What is promised to somebody in it.
    pub durability: Durability,
    /// What changes. A store may take them out before [`Machine::show`].
    pub changes: Vec<Change>,
    /// What is said when it is durable.
    pub(crate) effects: Vec<Effect>,
    /// Messages that came.
    pub(crate) puts: Vec<MessageId>,
    /// Messages that ended, and were to be ready later once.
    pub(crate) ends: Vec<MessageId>,
}

impl Default for Group {
    fn default() -> Self {
        Self {
            durability: Durability::Memory,
            changes: Vec::new(),
            effects: Vec::new(),
            puts: Vec::new(),
            ends: Vec::new(),
        }
    }
}

impl Group {
    /// Whether somebody waits for it to be durable, besides those whose commands are in it. What is given out, nobody waits for: it is
    /// written with what is written next.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        !self.effects.is_empty()
    }

    /// What is to be said when it is durable, of what it led to: taken out, for a store that has other things to say behind it.
    /// Else [`Machine::show`] returns it.
    #[must_use]
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }
}

/// How much a machine takes.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Most queues; default 100,000.
    pub max_queues: usize,
    /// Most consumers; default 100,000.
    pub max_consumers: usize,
    /// So many messages that will be ready later are held in memory, and up to twice as many for a while; default 65,536.
    pub near: usize,
    /// Whether whoever puts or consumes makes a queue; else only [`Command::Configure`] does.
    pub makes_queues: bool,
    /// What the store can do.
    pub capabilities: Capabilities,
}

/// All queues of one place, without their payloads.
pub struct Machine {
    limits: Limits,
    seed: u64,
    /// What a queue allows that was not told.
    standard: Arc<Config>,
    names: FxHashMap<QueueName, u32>,
    /// The same, in order.
    sorted: BTreeSet<QueueName>,
    queues: FxHashMap<u32, Box<Queue>>,
    messages: Table,
    keys: Slab<Key>,
    leases: Slab<Lease>,
    holders: FxHashMap<ConsumerId, Holder>,
    consumers: usize,
    clock: Clock,
    /// Messages that are not durable yet, in order; some may have ended.
    held: VecDeque<MessageId>,
    /// Queues that may have something to give.
    listed: VecDeque<u32>,
    /// Messages up to here, by the time they will be ready and number, are in memory.
    covered: (Timestamp, MessageId),
    /// Messages to be ready later that are not in memory.
    far: u64,
    /// Those that ended and may still be listed by the store.
    ending: FxHashSet<MessageId>,
    schedules: Schedules,
    next_id: MessageId,
    next_queue: u32,
    next_token: Token,
    /// Tokens below this may be given.
    tokens: Token,
    /// What changes is new, not replayed.
    is_started: bool,
}

/// So many tokens are taken at once.
const TOKENS: u64 = 1 << 32;

/// Behind every message.
const END: (Timestamp, MessageId) = (Timestamp(u64::MAX), u64::MAX);

impl Machine {
    /// Nothing yet. `seed` is 64 random bits: rests vary by it. To be [started](Self::started) before anything is asked of it.
    #[must_use]
    pub fn new(limits: Limits, seed: u64) -> Self {
        // One that is next has to be there.
        let limits = Limits { near: limits.near.max(1), ..limits };
        Self {
            limits,
            seed,
            standard: Arc::new(Config::default()),
            names: FxHashMap::default(),
            sorted: BTreeSet::new(),
            queues: FxHashMap::default(),
            messages: Table::default(),
            keys: Slab::default(),
            leases: Slab::default(),
            holders: FxHashMap::default(),
            consumers: 0,
            clock: Clock::default(),
            held: VecDeque::new(),
            listed: VecDeque::new(),
            covered: END,
            far: 0,
            ending: FxHashSet::default(),
            schedules: Schedules::default(),
            next_id: 1,
            next_queue: 1,
            next_token: 1,
            tokens: 1,
            is_started: false,
        }
    }

    /// Decides one command: its changes go to `group`, all of them or none, and the answer is to be given when the group is durable.
    ///
    /// # Errors
    /// [`StoreError`] if the store could not tell what was to be known; nothing was changed.
    pub fn add(
        &mut self,
        group: &mut Group,
        now: Timestamp,
        command: Command,
        source: &impl Source,
    ) -> Result<Result<Outcome, Refusal>, StoreError> {
        assert!(self.is_started, "invariant: a machine is started before it is asked");
        let done = |refused: Result<(), Refusal>| Ok(refused.map(|()| Outcome::Done));
        match command {
            Command::Put(puts) => self.put(group, now, puts, source),
            Command::Settle(settles) => self.settle(group, now, settles, source),
            Command::Consume(consume) => done(self.consume(group, consume)),
            Command::TouchAll(consumer) => done(self.touch_all(group, now, consumer)),
            Command::Hold(consumer) => done(self.hold(consumer, true)),
            Command::Unhold(consumer) => done(self.hold(consumer, false)),
            Command::Stop(consumer, stop) => {
                self.stop(group, now, consumer, stop, source)?;
                done(Ok(()))
            }
            Command::Orphans => Ok(Ok(self.orphans())),
            Command::Configure(name, config) => done(self.configure(group, now, &name, config)),
            Command::Pause(name, is_paused) => done(self.switch(group, &name, Some(is_paused), None)),
            Command::Drain(name, is_draining) => done(self.switch(group, &name, None, Some(is_draining))),
            Command::Purge(name, select) => self.purge(group, &name, &select, source),
            Command::Redrive(name, select) => Ok(self.redrive(group, &name, &select)),
            Command::Delete(name) => done(self.delete(group, &name)),
            Command::Remove(id) => self.remove(group, id, source),
            Command::Stats(name) => Ok(self.stats(&name)),
            Command::Counts(name) => Ok(self.counts(&name)),
            Command::List { after, max } => Ok(Ok(self.list_queues(&after, max))),
            Command::Config(name) => Ok(self.config_of(&name)),
            Command::Peek { queue, state, after, max } => self.peek(&queue, state, after, max, source),
            Command::Get(id) => self.get(now, id, source),
            Command::Schedule { name, schedule, is_paused } => {
                Ok(self.schedule(group, now, name, *schedule, is_paused))
            }
            Command::Unschedule { name, queue } => done(self.unschedule(group, name, queue.as_ref())),
            Command::PauseSchedule { name, queue, is_paused } => {
                done(self.pause_schedule(group, now, &name, queue.as_ref(), is_paused))
            }
            Command::RunSchedule { name, queue } => self.run_schedule(group, now, &name, queue.as_ref(), source),
            Command::Schedules { queue, after, max } => Ok(Ok(self.list_schedules(queue.as_ref(), &after, max))),
            Command::GetSchedule(name) => Ok(self.get_schedule(&name)),
        }
    }

    /// `written` is durable: its messages may be given out; what is given out changes `next`. Returns what is to be said now: first
    /// what `written` led to, then what is given. [Payloads and headers](crate::Delivery) are left out.
    pub fn show(&mut self, written: Group, next: &mut Group, now: Timestamp) -> Vec<Effect> {
        for id in written.puts {
            self.unhold(id);
        }
        for id in written.ends {
            self.ending.remove(&id);
        }
        let mut effects = written.effects;
        self.give(next, now, &mut effects);
        effects
    }

    /// The change is made, and will be written.
    fn change(&mut self, group: &mut Group, change: Change) {
        self.apply(&change);
        self.count_change(&change);
        match &change {
            Change::Put(stored) => group.puts.push(stored.id),
            Change::Ended { id, due: Some(_), .. } => {
                self.ending.insert(*id);
                group.ends.push(*id);
            }
            _ => {}
        }
        group.changes.push(change);
    }

    fn queue_mut(&mut self, number: u32) -> &mut Queue {
        self.queues.get_mut(&number).expect("invariant: a message's queue is there")
    }

    fn queue(&self, number: u32) -> &Queue {
        self.queues.get(&number).expect("invariant: a message's queue is there")
    }

    fn named(&self, name: &QueueName) -> Result<u32, Refusal> {
        self.names.get(name).copied().ok_or_else(|| Refusal::UnknownQueue(name.clone()))
    }

    /// The queue may have something to give, if there is somebody to take it.
    fn list(&mut self, number: u32) {
        let queue = self.queue_mut(number);
        if !queue.is_listed && !queue.takers.is_empty() && !queue.is_paused {
            queue.is_listed = true;
            self.listed.push_back(number);
        }
    }
}
