//! How much does a step of the machine cost, and how much memory does a message take?
//!
//! `cargo run --release -p posthaste-queue --example steps`, or with the name of one measure behind it: see `main`.

use std::alloc::System;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use posthaste_history::store::{Durability, Timestamp};
use posthaste_queue::*;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[path = "../tests/site/nothing.rs"]
mod nothing;

use nothing::Nothing;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// A machine whose groups are durable at once.
struct Bench {
    machine: Machine,
    next: Group,
    now: u64,
}

impl Bench {
    fn new() -> Self {
        let limits = Limits { near: 10_000_000, max_queues: 1_000_000, ..MemoryQueues::limits() };
        let mut machine = Machine::new(limits, 1);
        let mut group = Group::default();
        machine.started(&mut group, 1, 1);
        Self { machine, next: Group::default(), now: 1_000_000 }
    }

    fn ask(&mut self, command: Command) -> (Outcome, Vec<Effect>) {
        let mut group = std::mem::take(&mut self.next);
        let outcome = self.machine.add(&mut group, Timestamp(self.now), command, &Nothing);
        let effects = self.machine.show(group, &mut self.next, Timestamp(self.now));
        self.next.changes.clear(); // written
        (outcome.expect("nothing is read").expect("nothing is refused"), effects)
    }

    fn consume(&mut self, queue: &QueueName, prefetch: u32) -> Vec<Effect> {
        let consume = Consume {
            consumer: 1,
            queue: queue.clone(),
            prefetch,
            bytes: u64::MAX,
            lease_ms: None,
            keys: None,
            once: None,
        };
        self.ask(Command::Consume(consume)).1
    }

    fn done(&mut self, effect: &Effect) -> Vec<Effect> {
        let Effect::Granted(delivery) = effect else { panic!("{effect:?}") };
        let settle = Settle { id: delivery.id, token: delivery.token, verdict: Verdict::Done(None) };
        self.ask(Command::Settle(vec![settle])).1
    }
}

fn message(queue: &QueueName) -> Put {
    Put::new(queue, Bytes::from_static(&[7; 200]), Durability::Memory)
}

fn in_use() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

fn report(what: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize].as_nanos();
    let mean = times.iter().sum::<Duration>().as_nanos() / times.len() as u128;
    println!("{what}: mean {mean} ns, p50 {}, p99 {}, p99.9 {}, max {}", at(0.5), at(0.99), at(0.999), at(1.0));
}

/// Put, lease, done, one after the other, in a queue that is nearly empty.
fn shallow() {
    let (mut bench, queue) = (Bench::new(), QueueName::from("emails"));
    bench.consume(&queue, 64);
    for count in [100_000, 1_000_000] {
        let start = Instant::now();
        for step in 0..count {
            bench.now += u64::from(step % 20 == 0);
            let given = bench.ask(Command::Put(vec![message(&queue)])).1;
            bench.done(&given[0]);
        }
        if count > 100_000 {
            println!("put, lease, done: {} ns in all", start.elapsed().as_nanos() / count);
        }
    }
}

/// Many ready messages, with keys or without.
fn deep(what: &str, count: u64, keys: u64) {
    let (mut bench, queue) = (Bench::new(), QueueName::from("emails"));
    let names: Vec<Arc<str>> = (0..keys).map(|key| format!("key-{key}").into()).collect();
    let before = in_use();
    let mut puts = Vec::with_capacity(count as usize);
    let room = in_use();
    for step in 0..count {
        let key =
            (keys > 0).then(|| names[(step.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20) as usize % names.len()].clone());
        let put = Command::Put(vec![Put { key, ..message(&queue) }]);
        let start = Instant::now();
        bench.ask(put);
        puts.push(start.elapsed());
    }
    println!("{what}: {} bytes a message", (in_use() - room) / count as usize);
    report(&format!("{what}, put (among the last 100,000)"), &mut puts[count as usize - 100_000..]);
    drop(puts);
    let mut given = std::collections::VecDeque::from(bench.consume(&queue, 64));
    let mut leases = Vec::with_capacity(200_000);
    for _ in 0..200_000 {
        let delivery = given.pop_front().expect("there are more");
        let start = Instant::now();
        let next = bench.done(&delivery);
        leases.push(start.elapsed());
        given.extend(next);
    }
    report(&format!("{what}, done and lease of the next"), &mut leases);
    while let Some(delivery) = given.pop_front() {
        given.extend(bench.done(&delivery));
    }
    println!("{what}: {} bytes are left when all are done", in_use().saturating_sub(before));
}

fn idle(count: usize) {
    let mut bench = Bench::new();
    let names: Vec<QueueName> = (0..count).map(|queue| format!("queue-{queue}").into()).collect();
    let before = in_use();
    for queue in &names {
        bench.ask(Command::Put(vec![message(queue)]));
    }
    for queue in &names {
        let select = Select { states: vec![State::Ready], id: None, max: None };
        bench.ask(Command::Purge(queue.clone(), select));
    }
    println!("{count} idle queues: {} bytes each", (in_use() - before) / count);
    let start = Instant::now();
    for step in 0..1_000 {
        let mut group = Group::default();
        let tick = bench.machine.tick(&mut group, Timestamp(bench.now + step), &Nothing);
        tick.expect("nothing is read");
    }
    println!("{count} idle queues: {} ns for a tick", start.elapsed().as_nanos() / 1_000);
}

fn delayed(count: u64) {
    let (mut bench, queue) = (Bench::new(), QueueName::from("emails"));
    let before = in_use();
    for step in 0..count {
        let due = Some(Timestamp(bench.now + 1_000 + step * 7 % 100_000));
        bench.ask(Command::Put(vec![Put { due, ..message(&queue) }]));
    }
    println!("{count} delayed messages in memory: {} bytes each", (in_use() - before) / count as usize);
    let start = Instant::now();
    bench.now += 200_000;
    let mut group = Group::default();
    while bench.machine.wake_at().is_some_and(|at| at.0 <= bench.now) {
        bench.machine.tick(&mut group, Timestamp(bench.now), &Nothing).expect("nothing is read");
    }
    println!("becoming ready: {} ns each", start.elapsed().as_nanos() / u128::from(count));
}

/// Beginning with what a store has.
fn restored(count: u64) {
    let queue = QueueName::from("emails");
    let mut machine = Machine::new(MemoryQueues::limits(), 1);
    let record = QueueRecord {
        queue: 1,
        name: queue.clone(),
        config: None,
        is_paused: false,
        is_draining: false,
        delayed: (10_000_000, 10_000_000 * 328),
    };
    let start = Instant::now();
    machine.restore_queue(record);
    for id in 1..=count {
        machine.restore(&StoredPut { id, queue: 1, at: Timestamp(1), put: message(&queue) }, 328, None);
    }
    let mut group = Group::default();
    machine.started(&mut group, count + 1, 2);
    println!("a restart with {count} ready and 10 M delayed ones: {} ms", start.elapsed().as_millis());
}

fn main() {
    let only = std::env::args().nth(1);
    let is_asked = |what: &str| only.as_deref().is_none_or(|only| only == what);
    let measures: [(&str, fn()); 7] = [
        ("shallow", shallow),
        ("deep", || deep("1 M without keys", 1_000_000, 0)),
        ("keys", || deep("1 M of 10,000 keys", 1_000_000, 10_000)),
        ("deeper", || deep("5 M without keys", 5_000_000, 0)),
        ("delayed", || delayed(130_000)),
        ("idle", || idle(100_000)),
        ("restart", || restored(1_000_000)),
    ];
    measures.iter().filter(|(what, _)| is_asked(what)).for_each(|(_, measure)| measure());
}
