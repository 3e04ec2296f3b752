//! What much of something takes of memory, and how often the store is asked for it: counted, so that it holds on any machine.

use std::alloc::System;
use std::cell::Cell;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use posthaste_history::store::{Durability, StoreError, Timestamp};
use posthaste_queue::*;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// One test at a time: all of them allocate.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn in_use() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

const NOW: u64 = 1_000_000;

/// A store with messages that are ready one millisecond after the other, from a second from now on. It counts what it is asked.
#[derive(Default)]
struct Later {
    count: u64,
    pages: Cell<usize>,
    read: Cell<usize>,
    others: Cell<usize>,
}

fn message(queue: &QueueName) -> Put {
    Put::new(queue, Bytes::from_static(&[7; 200]), Durability::Memory)
}

impl Source for Later {
    fn delayed(&self, after: (Timestamp, MessageId), max: usize) -> Result<Vec<(StoredPut, u64)>, StoreError> {
        let first = if after.0.0 < NOW { 0 } else { after.0.0 + 1 - NOW - 1_000 };
        let name: QueueName = "later".into();
        let stored = (first..self.count.min(first + max as u64)).map(|place| {
            let put = Put { due: Some(Timestamp(NOW + 1_000 + place)), ..message(&name) };
            let cost = put.cost();
            (StoredPut { id: place + 1, queue: 1, at: Timestamp(1), put }, cost)
        });
        let stored: Vec<_> = stored.collect();
        self.pages.set(self.pages.get() + 1);
        self.read.set(self.read.get() + stored.len());
        Ok(stored)
    }

    fn delayed_of(&self, _: u32, _: MessageId, _: usize) -> Result<Vec<posthaste_queue::Later>, StoreError> {
        self.others.set(self.others.get() + 1);
        Ok(Vec::new())
    }

    fn message(&self, _: MessageId) -> Result<Option<StoredPut>, StoreError> {
        self.others.set(self.others.get() + 1);
        Ok(None)
    }

    fn reasons(&self, _: MessageId) -> Result<Vec<(Timestamp, Arc<str>)>, StoreError> {
        Ok(Vec::new())
    }

    fn result(&self, _: Timestamp, _: MessageId) -> Result<Option<(u32, Bytes)>, StoreError> {
        self.others.set(self.others.get() + 1);
        Ok(None)
    }
}

/// A machine whose groups are durable at once.
struct Desk {
    machine: Machine,
    next: Group,
    source: Later,
}

impl Desk {
    fn new() -> Self {
        let mut machine = Machine::new(MemoryQueues::limits(), 1);
        machine.started(&mut Group::default(), 1, 1);
        Self { machine, next: Group::default(), source: Later::default() }
    }

    fn ask(&mut self, command: Command) -> Vec<Effect> {
        let mut group = std::mem::take(&mut self.next);
        let outcome = self.machine.add(&mut group, Timestamp(NOW), command, &self.source);
        outcome.expect("it can be read").expect("it is not refused");
        let effects = self.machine.show(group, &mut self.next, Timestamp(NOW));
        self.next.changes.clear(); // written
        effects
    }

    fn consume(&mut self, queue: &QueueName, prefetch: u32) -> Vec<Effect> {
        let (queue, bytes) = (queue.clone(), u64::MAX);
        self.ask(Command::Consume(Consume {
            consumer: 1,
            queue,
            prefetch,
            bytes,
            lease_ms: None,
            keys: None,
            once: None,
        }))
    }

    fn done(&mut self, effect: &Effect) -> Vec<Effect> {
        let Effect::Granted(delivery) = effect else { panic!("{effect:?}") };
        let settle = Settle { id: delivery.id, token: delivery.token, verdict: Verdict::Done(None) };
        self.ask(Command::Settle(vec![settle]))
    }
}

#[test]
fn a_ready_message_takes_less_than_a_hundred_bytes_and_all_of_them_come_back() {
    let _alone = alone();
    for keys in [0, 500] {
        let (mut desk, queue) = (Desk::new(), QueueName::from("emails"));
        let names: Vec<Arc<str>> = (0..keys).map(|key| format!("key {key}").into()).collect();
        let before = in_use();
        for number in 0..50_000_usize {
            let key = names.get(number.wrapping_mul(7_919) % names.len().max(1)).cloned();
            desk.ask(Command::Put(vec![Put { key, ..message(&queue) }]));
        }
        let each = (in_use() - before) as f64 / 50_000.0;
        assert!(each < 100.0, "{each} bytes of a message with one of {keys} keys");
        let mut given = std::collections::VecDeque::from(desk.consume(&queue, 64));
        let mut count = 0;
        while let Some(delivery) = given.pop_front() {
            given.extend(desk.done(&delivery));
            count += 1;
        }
        assert_eq!(count, 50_000);
        // Tables keep the size they had.
        let left = in_use().saturating_sub(before) as f64 / 50_000.0;
        assert!(left < 4.0, "{left} bytes of each are left when all are done, with {keys} keys");
        assert_eq!(desk.source.others.get() + desk.source.pages.get(), 0, "nothing is read for that");
    }
}

#[test]
fn a_queue_at_rest_takes_little_and_no_time() {
    let _alone = alone();
    let mut desk = Desk::new();
    let names: Vec<QueueName> = (0..10_000).map(|queue| format!("queue:{queue}").into()).collect();
    let before = in_use();
    for queue in &names {
        desk.ask(Command::Put(vec![message(queue)]));
        desk.ask(Command::Purge(queue.clone(), Select { states: vec![State::Ready], id: None, max: None }));
    }
    let each = (in_use() - before) / names.len();
    // A quarter of it is what is counted, since something happened in it.
    assert!(each < 450, "{each} bytes of a queue");
    assert_eq!(desk.machine.wake_at(), None, "nothing has to be done for them");
}

#[test]
fn what_is_far_away_takes_no_memory_and_is_read_when_it_is_near() {
    let _alone = alone();
    let (count, near) = (1_000_000, 1_000);
    let mut machine = Machine::new(Limits { near, ..MemoryQueues::limits() }, 1);
    let source = Later { count, ..Later::default() };
    let before = in_use();
    let name: QueueName = "later".into();
    let record =
        QueueRecord { queue: 1, name, config: None, is_paused: false, is_draining: false, delayed: (count / 2, 1) };
    machine.restore_queue(record);
    // The other half was put since then: counted, and not read.
    (count / 2..count).for_each(|place| machine.replay_far(place + 1, 1, 328));
    machine.started(&mut Group::default(), count + 1, 2);
    assert_eq!((machine.len(), source.read.get() + source.others.get()), (0, 0));
    let mut group = Group::default();
    machine.tick(&mut group, Timestamp(NOW), &source).expect("it can be read");
    assert!((near / 2..=near).contains(&machine.len()), "{} in memory", machine.len());
    let used = in_use() - before;
    assert!(used < 400 * near, "{used} bytes for {} messages in memory", machine.len());
    // A tenth of them become ready, a few at a time: each is read once, some beforehand.
    for step in 0..100 {
        machine.tick(&mut group, Timestamp(NOW + 1_000 * step), &source).expect("it can be read");
    }
    let read = source.read.get();
    assert!((99_000..=99_000 + near).contains(&read), "{read} read");
    assert!(source.pages.get() <= 99_000 / near * 4, "in {} pages", source.pages.get());
    assert_eq!(source.others.get(), 0, "and none alone");
}
