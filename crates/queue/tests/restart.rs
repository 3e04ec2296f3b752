//! What is rebuilt from what was kept is what there was: after any history, from its changes alone or from any point within it.
#![allow(clippy::unwrap_used, reason = "tests: a failed expectation is the point")]

mod site;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use posthaste_history::store::{Durability, StoreError, Timestamp};
use posthaste_queue::*;
use proptest::prelude::*;
use site::{consumer, message, name};

/// What a store would have on its disk.
#[derive(Clone, Default)]
struct Disk {
    messages: BTreeMap<MessageId, StoredPut>,
    changes: Vec<Change>,
    reasons: BTreeMap<MessageId, Vec<(Timestamp, Arc<str>)>>,
}

impl Disk {
    fn keep(&mut self, change: Change) {
        match &change {
            Change::Put(stored) => _ = self.messages.insert(stored.id, (**stored).clone()),
            Change::Ended { id, reasons, .. } => {
                self.messages.remove(id);
                self.forget_reasons(*id, *reasons);
            }
            Change::Redriven { id, reasons } => self.forget_reasons(*id, *reasons),
            Change::Returned { id, at, cause: Cause::Failed(reason), .. } | Change::Died { id, at, reason, .. } => {
                let kept = self.reasons.entry(*id).or_default();
                kept.push((*at, reason.text.clone()));
                assert_eq!(kept.len(), reason.number as usize, "reasons have their numbers");
            }
            Change::Deleted { queue } => self.messages.retain(|_, stored| stored.queue != *queue),
            _ => {}
        }
        self.changes.push(change);
    }

    fn forget_reasons(&mut self, id: MessageId, count: u32) {
        let kept = self.reasons.remove(&id).unwrap_or_default();
        assert!(kept.len() <= count as usize, "{count} of {kept:?} are forgotten");
    }
}

impl Source for Disk {
    fn delayed(&self, after: (Timestamp, MessageId), max: usize) -> Result<Vec<(StoredPut, u64)>, StoreError> {
        let listed = self.messages.values().filter_map(|stored| Some(((stored.put.due?, stored.id), stored)));
        let sorted: BTreeMap<_, _> = listed.filter(|(place, _)| *place > after).collect();
        Ok(sorted.into_values().take(max).map(|stored| (stored.clone(), stored.put.cost())).collect())
    }

    fn delayed_of(&self, queue: u32, after: MessageId, max: usize) -> Result<Vec<Later>, StoreError> {
        let behind = self.messages.range(after + 1..).map(|(_, stored)| stored);
        let of_it = behind.filter(|stored| stored.queue == queue && stored.put.due.is_some());
        Ok(of_it.take(max).map(Later::of).collect())
    }

    fn message(&self, id: MessageId) -> Result<Option<StoredPut>, StoreError> {
        Ok(self.messages.get(&id).cloned())
    }

    fn reasons(&self, id: MessageId) -> Result<Vec<(Timestamp, Arc<str>)>, StoreError> {
        Ok(self.reasons.get(&id).cloned().unwrap_or_default())
    }

    fn result(&self, _: Timestamp, _: MessageId) -> Result<Option<(u32, Bytes)>, StoreError> {
        Ok(None)
    }
}

/// A machine at work: one group is filled while another is being written.
struct Work {
    machine: Machine,
    disk: Disk,
    open: Group,
    writing: Option<Group>,
    given: Vec<Delivery>,
    now: u64,
    consumers: u64,
}

fn limits() -> Limits {
    Limits { near: 3, max_consumers: 10, ..MemoryQueues::limits() }
}

impl Work {
    fn new() -> Self {
        let mut machine = Machine::new(limits(), 5);
        let mut open = Group::default();
        machine.started(&mut open, 1, 1);
        let (disk, given) = (Disk::default(), Vec::new());
        Self { machine, disk, open, writing: None, given, now: 1_000, consumers: 0 }
    }

    fn ask(&mut self, command: Command) -> Result<Outcome, Refusal> {
        let before = self.open.changes.len();
        let answer = self.machine.add(&mut self.open, Timestamp(self.now), command, &self.disk).unwrap();
        if answer.is_err() {
            assert_eq!(self.open.changes.len(), before, "a refusal changes nothing");
        }
        answer
    }

    fn tick(&mut self) {
        let now = Timestamp(self.now);
        for _ in 0..50 {
            let effects = self.machine.tick(&mut self.open, now, &self.disk).unwrap();
            self.hear(effects);
            if self.machine.wake_at().is_none_or(|at| at > now) {
                return;
            }
        }
        panic!("there is always more to do");
    }

    /// The group that is written is durable, and the next one is handed over.
    fn turn(&mut self) {
        let now = Timestamp(self.now);
        if let Some(written) = self.writing.take() {
            let effects = self.machine.show(written, &mut self.open, now);
            self.hear(effects);
        }
        let mut group = std::mem::take(&mut self.open);
        for change in std::mem::take(&mut group.changes) {
            self.disk.keep(change);
        }
        self.writing = Some(group);
    }

    fn hear(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            if let Effect::Granted(delivery) = effect {
                assert!(self.disk.messages.contains_key(&delivery.id), "first durable, then visible");
                self.given.push(delivery);
            }
        }
    }
}

/// What has to be the same: what is asked of a machine, and what it says is to be kept.
struct Seen {
    queues: Vec<QueueRecord>,
    records: BTreeMap<MessageId, Option<Record>>,
    depths: Vec<(QueueName, Depth)>,
    found: BTreeMap<MessageId, Found>,
    schedules: Vec<(ScheduleName, Scheduled)>,
    remembered: BTreeSet<(u32, Arc<str>, MessageId, Timestamp)>,
    next: (MessageId, u32),
}

fn seen(machine: &mut Machine, disk: &Disk, now: u64) -> Seen {
    let mut ask = |command| {
        let mut group = Group::default();
        let outcome = machine.add(&mut group, Timestamp(now), command, disk).unwrap().unwrap();
        assert!(group.changes.is_empty(), "looking changes nothing");
        outcome
    };
    let Outcome::Queues(mut depths) = ask(Command::List { after: name(""), max: 100 }) else { panic!() };
    let mut found = BTreeMap::new();
    for (queue, depth) in &mut depths {
        depth.consumers = 0;
        let states = [State::Ready, State::Leased, State::Delayed, State::Dead];
        let counts = [depth.ready, depth.leased, depth.delayed, depth.dead];
        for (state, count) in states.into_iter().zip(counts) {
            let peek = Command::Peek { queue: queue.clone(), state, after: 0, max: 1_000 };
            let Outcome::Page(messages, None) = ask(peek) else { panic!() };
            assert_eq!(messages.len() as u64, count, "{queue} {state:?}");
            found.extend(messages.into_iter().map(|message| (message.id, message)));
        }
    }
    let listing = Command::Schedules { queue: None, after: name(""), max: 100 };
    let Outcome::Schedules(schedules) = ask(listing) else { panic!() };
    assert!(found.keys().eq(disk.messages.keys()), "nothing is lost, and nothing comes back");
    let remembered = machine.remembered().filter_map(|change| match change {
        Change::Remembered { queue, key, id, until } if until.0 > now => Some((queue, key, id, until)),
        _ => None,
    });
    Seen {
        remembered: remembered.collect(),
        queues: machine.queues(),
        records: disk.messages.keys().map(|id| (*id, machine.record(*id))).collect(),
        depths,
        found,
        schedules,
        next: (machine.next_id(), machine.next_queue()),
    }
}

/// What a store keeps now and then, so that it need not keep all changes.
struct Checkpoint {
    queues: Vec<QueueRecord>,
    messages: Vec<(StoredPut, Option<Record>)>,
    schedules: Vec<(ScheduleName, Scheduled)>,
    remembered: Vec<Change>,
    changes: usize,
    next: (MessageId, u32),
}

fn checkpoint(work: &mut Work) -> Checkpoint {
    work.turn();
    let named = |which: u8| name(PLANS[usize::from(which)]);
    let machine = &work.machine;
    let schedules = (0..2).filter_map(|which| Some((named(which), machine.scheduled_as(&named(which))?.clone())));
    let here = work.disk.messages.values().filter(|stored| !machine.is_delayed(stored.id));
    Checkpoint {
        queues: machine.queues(),
        messages: here.map(|stored| (stored.clone(), machine.record(stored.id))).collect(),
        schedules: schedules.collect(),
        remembered: machine.remembered().collect(),
        changes: work.disk.changes.len(),
        next: (machine.next_id(), machine.next_queue()),
    }
}

fn rebuilt(disk: &Disk, from: Option<&Checkpoint>, now: u64) -> Machine {
    let mut machine = Machine::new(limits(), 5);
    let mut next = (1, 1);
    if let Some(checkpoint) = from {
        next = checkpoint.next;
        checkpoint.queues.iter().for_each(|queue| machine.restore_queue(queue.clone()));
        for (stored, record) in &checkpoint.messages {
            machine.restore(stored, stored.put.cost(), *record);
        }
        checkpoint.schedules.iter().for_each(|(name, scheduled)| machine.restore_schedule(name, scheduled.clone()));
        checkpoint.remembered.iter().for_each(|change| machine.replay(change, disk).unwrap());
    }
    for change in &disk.changes[from.map_or(0, |checkpoint| checkpoint.changes)..] {
        machine.replay(change, disk).unwrap();
    }
    let mut group = Group::default();
    machine.started(&mut group, next.0, next.1);
    for _ in 0..50 {
        machine.tick(&mut group, Timestamp(now), disk).unwrap();
    }
    let is_tokens = |change: &Change| matches!(change, Change::Tokens(_));
    assert!(group.changes.iter().all(is_tokens), "what time brought was done before: {:?}", group.changes);
    machine
}

#[derive(Clone, Debug)]
enum Step {
    Put(Vec<Draft>),
    Consume { queue: u8, prefetch: u32, picky: bool, once: bool },
    Stop(usize, bool),
    Settle(usize, u8),
    TouchAll(usize),
    Configure(u8, u8),
    Pause(u8, bool),
    Drain(u8, bool),
    Purge(u8, u8, usize),
    Redrive(u8, usize),
    Delete(u8),
    Remove(u64),
    Schedule(u8, u8, bool),
    PauseSchedule(u8, bool),
    Unschedule(u8),
    Pass(u64),
    Turn,
    Checkpoint,
    Compare,
}

#[derive(Clone, Debug)]
struct Draft {
    queue: u8,
    delay: Option<u64>,
    priority: u8,
    key: Option<u8>,
    dedup: Option<(u8, u8)>,
    ttl: Option<u64>,
    attempts: Option<u32>,
    size: usize,
}

fn any_draft() -> impl Strategy<Value = Draft> {
    let few = |range| prop::option::weighted(0.3, range);
    let dedup = prop::option::weighted(0.3, (0u8..3, 0u8..3));
    let rest = (few(1u64..300), prop::option::weighted(0.2, 1u32..3), 0usize..50);
    (0u8..3, few(0u64..500), 0u8..3, prop::option::of(0u8..3), dedup, rest).prop_map(
        |(queue, delay, priority, key, dedup, (ttl, attempts, size))| Draft {
            queue,
            delay,
            priority,
            key,
            dedup,
            ttl,
            attempts,
            size,
        },
    )
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => prop::collection::vec(any_draft(), 1..4).prop_map(Step::Put),
        4 => (0u8..3, 1u32..4, any::<bool>(), any::<bool>())
            .prop_map(|(queue, prefetch, picky, once)| Step::Consume { queue, prefetch, picky, once }),
        2 => (0usize..9, any::<bool>()).prop_map(|(who, returns)| Step::Stop(who, returns)),
        12 => (any::<prop::sample::Index>(), 0u8..8).prop_map(|(which, how)| Step::Settle(which.index(64), how)),
        1 => (0usize..9).prop_map(Step::TouchAll),
        3 => (0u8..3, 0u8..6).prop_map(|(queue, which)| Step::Configure(queue, which)),
        1 => (0u8..3, any::<bool>()).prop_map(|(queue, is_on)| Step::Pause(queue, is_on)),
        1 => (0u8..3, any::<bool>()).prop_map(|(queue, is_on)| Step::Drain(queue, is_on)),
        1 => (0u8..3, 0u8..4, 0usize..4).prop_map(|(queue, state, max)| Step::Purge(queue, state, max)),
        2 => (0u8..3, 0usize..4).prop_map(|(queue, max)| Step::Redrive(queue, max)),
        1 => (0u8..3).prop_map(Step::Delete),
        1 => (1u64..40).prop_map(Step::Remove),
        3 => (0u8..2, 0u8..6, any::<bool>()).prop_map(|(which, how, is_cron)| Step::Schedule(which, how, is_cron)),
        1 => (0u8..2, any::<bool>()).prop_map(|(which, is_on)| Step::PauseSchedule(which, is_on)),
        1 => (0u8..2).prop_map(Step::Unschedule),
        8 => (1u64..150).prop_map(Step::Pass),
        2 => (500u64..4_000).prop_map(Step::Pass),
        12 => Just(Step::Turn),
        2 => Just(Step::Checkpoint),
        4 => Just(Step::Compare),
    ]
}

const QUEUES: [&str; 3] = ["a", "b", "c"];
/// They put into a queue of their own: what another refuses is tried again, and when is not kept.
const PLANS: [&str; 2] = ["p", "q"];

fn plan(how: u8, is_cron: bool) -> Schedule {
    let missed = [Missed::Once, Missed::Skip, Missed::All { max: 2 }][usize::from(how % 3)];
    let when = if is_cron { When::cron("* * * * * *") } else { When::Every { ms: 1_000 + u64::from(how) * 300 } };
    let ttl_ms = how.is_multiple_of(2).then_some(700);
    Schedule { when, missed, put: Put { priority: how, ..message("planned", "x") }, ttl_ms }
}

fn config(which: u8) -> Config {
    let base = Config { lease_ms: 100, max_lease_ms: 300, crash_limit: 2, attempts: 2, ..Config::default() };
    let base = Config { backoff: Backoff::Fixed { ms: 70 }, dedup_window_ms: 200, ..base };
    let rate = Some(Rate { count: 1, per_ms: 40, burst: 2 });
    match which {
        0 => base,
        1 => Config { overflow: Overflow::DropOldest, max_messages: 5, ..base },
        2 => Config { overflow: Overflow::DeadLetterOldest, dead_letter: Some(name("d")), max_messages: 4, ..base },
        3 => Config { key_concurrency: 2, on_exhausted: OnExhausted::Block, ttl_ms: Some(400), max_dead: 2, ..base },
        4 => Config { concurrency: Some(2), rate, key_rate: rate, max_dedup_keys: 2, ..base },
        _ => Config { max_bytes: 700, dead_ttl_ms: 300, dead_letter: Some(name("a2")), ..base },
    }
}

fn run(work: &mut Work, step: Step, kept: &mut Option<Checkpoint>) {
    let now = work.now;
    let queue = |index: u8| name(QUEUES[usize::from(index)]);
    match step {
        Step::Put(drafts) => {
            let puts = drafts.into_iter().map(|draft| {
                let modes = [DedupMode::Reject, DedupMode::UntilDone, DedupMode::Replace];
                let key = |key: u8| -> Arc<str> { ["x", "y", "z"][usize::from(key)].into() };
                Put {
                    due: draft.delay.map(|ms| Timestamp(now + ms)),
                    priority: draft.priority,
                    key: draft.key.map(key),
                    dedup: draft.dedup.map(|(which, mode)| Dedup {
                        key: key(which),
                        mode: modes[usize::from(mode)],
                        window_ms: None,
                    }),
                    expires: draft.ttl.map(|ms| Timestamp(now + ms)),
                    attempts: draft.attempts,
                    ..Put::new(&queue(draft.queue), vec![7; draft.size].into(), Durability::Memory)
                }
            });
            _ = work.ask(Command::Put(puts.collect()));
        }
        Step::Consume { queue: index, prefetch, picky, once } => {
            work.consumers += 1;
            let keys = picky.then(|| vec!["x".into(), "y".into()]);
            let once = once.then_some(2);
            let consume = Consume { keys, once, ..consumer(work.consumers, QUEUES[usize::from(index)], prefetch) };
            _ = work.ask(Command::Consume(consume));
        }
        Step::Stop(who, returns) => {
            let stop = if returns { Stop::Return } else { Stop::Keep };
            work.ask(Command::Stop(work.consumers.saturating_sub(who as u64), stop)).unwrap();
        }
        Step::Settle(which, how) => {
            if work.given.is_empty() {
                return;
            }
            let delivery = work.given[which % work.given.len()].clone();
            let verdict = match how {
                0..=2 => Verdict::Done(None),
                3 => Verdict::Retry { after_ms: None, why: "no".into() },
                4 => Verdict::Retry { after_ms: Some(0), why: "no".into() },
                5 => Verdict::Release,
                6 => Verdict::Dead { why: "never".into() },
                _ => Verdict::Touch(None),
            };
            let settle = Settle { id: delivery.id, token: delivery.token, verdict };
            work.ask(Command::Settle(vec![settle])).unwrap();
        }
        Step::TouchAll(who) => _ = work.ask(Command::TouchAll(work.consumers.saturating_sub(who as u64))),
        Step::Configure(index, which) => {
            work.ask(Command::Configure(queue(index), Box::new(config(which)))).unwrap();
        }
        Step::Pause(index, is_on) => _ = work.ask(Command::Pause(queue(index), is_on)),
        Step::Drain(index, is_on) => _ = work.ask(Command::Drain(queue(index), is_on)),
        Step::Purge(index, state, max) => {
            let states = vec![[State::Ready, State::Leased, State::Delayed, State::Dead][usize::from(state)]];
            _ = work.ask(Command::Purge(queue(index), Select { states, id: None, max: Some(max) }));
        }
        Step::Redrive(index, max) => {
            let select = Select { states: vec![State::Dead], id: None, max: Some(max) };
            _ = work.ask(Command::Redrive(queue(index), select));
        }
        Step::Delete(index) => _ = work.ask(Command::Delete(queue(index))),
        Step::Remove(id) => _ = work.ask(Command::Remove(id)),
        Step::Schedule(which, how, is_cron) => {
            let (name, schedule) = (name(PLANS[usize::from(which)]), Box::new(plan(how, is_cron)));
            work.ask(Command::Schedule { name, schedule, is_paused: None }).unwrap();
        }
        Step::PauseSchedule(which, is_paused) => {
            let name = name(PLANS[usize::from(which)]);
            _ = work.ask(Command::PauseSchedule { name, queue: None, is_paused });
        }
        Step::Unschedule(which) => {
            let name = name(PLANS[usize::from(which)]);
            _ = work.ask(Command::Unschedule { name, queue: None });
        }
        Step::Pass(ms) => {
            work.now += ms;
            work.tick();
        }
        Step::Turn => work.turn(),
        Step::Checkpoint => *kept = Some(checkpoint(work)),
        Step::Compare => {
            for _ in 0..4 {
                work.tick(); // until nothing is on its way
                work.turn();
            }
            let there_is = seen(&mut work.machine, &work.disk, work.now);
            same(seen(&mut rebuilt(&work.disk, None, work.now), &work.disk, work.now), &there_is);
            if let Some(kept) = kept {
                same(seen(&mut rebuilt(&work.disk, Some(kept), work.now), &work.disk, work.now), &there_is);
            }
        }
    }
}

fn same(rebuilt: Seen, there_is: &Seen) {
    assert_eq!(rebuilt.found, there_is.found);
    assert_eq!(rebuilt.records, there_is.records);
    assert_eq!(rebuilt.depths, there_is.depths);
    assert_eq!(rebuilt.schedules, there_is.schedules);
    assert_eq!(rebuilt.remembered, there_is.remembered);
    assert_eq!(rebuilt.next, there_is.next);
    assert_eq!(rebuilt.queues, there_is.queues);
}

proptest! { // law: a machine is what its changes say
    #[test]
    fn what_is_rebuilt_is_what_there_was(steps in prop::collection::vec(any_step(), 1..120)) {
        let (mut work, mut kept) = (Work::new(), None);
        for queue in 0..3 {
            run(&mut work, Step::Configure(queue, 0), &mut kept);
        }
        for step in steps {
            run(&mut work, step, &mut kept);
        }
        run(&mut work, Step::Compare, &mut kept);
    }
}

/// Twelve messages that will be ready one after the other, of which few are in memory.
fn far_ones() -> Work {
    let mut work = Work::new();
    for step in 1..=12 {
        let put = Put { due: Some(Timestamp(work.now + 10 * step)), ..site::message("a", "") };
        work.ask(Command::Put(vec![put])).unwrap();
        work.turn();
    }
    work.turn();
    assert!(work.machine.len() <= 6, "{} of 12 in memory", work.machine.len());
    work
}

#[test]
fn what_is_left_on_the_disk_is_counted_and_comes_in_time() {
    let mut work = far_ones();
    work.ask(Command::Consume(consumer(1, "a", 100))).unwrap();
    for passed in 1..=12 {
        work.now += 10;
        work.tick();
        assert_eq!(work.given.len(), passed);
    }
    assert!(work.given.iter().map(|delivery| delivery.id).eq(1..=12));
}

#[test]
fn what_ended_does_not_come_back_while_that_is_being_written() {
    let mut work = far_ones();
    assert_eq!(work.ask(Command::Remove(12)), Ok(Outcome::Done));
    assert_eq!(work.ask(Command::Remove(12)), Err(Refusal::UnknownMessage(12)));
    work.now += 100;
    work.tick(); // reads what is next from a disk that does not know yet
    run(&mut work, Step::Compare, &mut None);
    assert_eq!(work.disk.messages.len(), 11);
}
