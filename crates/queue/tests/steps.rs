//! What concerns many messages is done in steps, and others have their turns between them: by counting.
#![allow(clippy::unwrap_used, reason = "tests: a failed expectation is the point")]

mod site;

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use posthaste_history::store::{Durability, StoreError, Timestamp, wait};
use posthaste_queue::*;
use site::*;

/// No step changes more messages than this.
const STEP: usize = 1_000;

fn machine(near: usize) -> Machine {
    let capabilities = Capabilities {
        durability: Durability::Memory,
        survives_restart: false,
        max_payload: 1_000,
        max_batch: 100_000,
        keeps_time: false,
    };
    let limits = Limits { max_queues: 10, max_consumers: 10, near, makes_queues: true, capabilities };
    let mut machine = Machine::new(limits, 1);
    machine.started(&mut Group::default(), 1, 1);
    machine
}

/// What was put, as a store would have it.
#[derive(Default)]
struct Kept(Vec<StoredPut>);

impl Kept {
    fn keep(&mut self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Put(stored) => self.0.push((**stored).clone()),
                Change::Ended { id, .. } => self.0.retain(|stored| stored.id != *id),
                _ => {}
            }
        }
        self.0.sort_by_key(|stored| (stored.put.due, stored.id));
    }
}

impl Source for Kept {
    fn delayed(&self, after: (Timestamp, MessageId), max: usize) -> Result<Vec<(StoredPut, u64)>, StoreError> {
        let behind = self.0.iter().filter(|stored| stored.put.due.is_some_and(|due| (due, stored.id) > after));
        Ok(behind.take(max).map(|stored| (stored.clone(), stored.put.cost())).collect())
    }

    fn delayed_of(&self, queue: u32, after: MessageId, max: usize) -> Result<Vec<Later>, StoreError> {
        let of_it =
            self.0.iter().filter(|stored| stored.queue == queue && stored.put.due.is_some() && stored.id > after);
        let mut found: Vec<Later> = of_it.map(Later::of).collect();
        found.sort_by_key(|later| later.id);
        found.truncate(max);
        Ok(found)
    }

    fn message(&self, id: MessageId) -> Result<Option<StoredPut>, StoreError> {
        Ok(self.0.iter().find(|stored| stored.id == id).cloned())
    }

    fn reasons(&self, _: MessageId) -> Result<Vec<(Timestamp, Arc<str>)>, StoreError> {
        Ok(Vec::new())
    }

    fn result(&self, _: Timestamp, _: MessageId) -> Result<Option<(u32, Bytes)>, StoreError> {
        Ok(None)
    }
}

const NOW: Timestamp = Timestamp(1_000_000);

/// Does a command, and with every step puts one message into another queue. Returns its answer, how many steps there were, and the
/// most changes of one.
fn stepped(machine: &mut Machine, kept: &mut Kept, command: &Command) -> (Result<Outcome, Refusal>, usize, usize) {
    let mut steps = machine.steps(command).expect("it is done in steps");
    let mut most = 0;
    for count in 1.. {
        let mut group = Group::default();
        let answer = machine.step(&mut group, NOW, &mut steps, kept).unwrap();
        most = most.max(group.changes.len());
        let other = Command::Put(vec![message("other", "")]);
        assert!(matches!(machine.add(&mut group, NOW, other, kept).unwrap(), Ok(Outcome::Put(_))));
        kept.keep(&group.changes);
        drop(machine.show(group, &mut Group::default(), NOW));
        if let Some(answer) = answer {
            return (answer, count, most);
        }
    }
    unreachable!("it ends")
}

fn put(machine: &mut Machine, kept: &mut Kept, puts: Vec<Put>) {
    let mut group = Group::default();
    assert!(matches!(machine.add(&mut group, NOW, Command::Put(puts), kept).unwrap(), Ok(Outcome::Put(_))));
    kept.keep(&group.changes);
    drop(machine.show(group, &mut Group::default(), NOW));
}

fn depth(machine: &mut Machine, queue: &str) -> Result<Depth, Refusal> {
    let stats = Command::Stats(name(queue));
    match machine.add(&mut Group::default(), NOW, stats, &Kept::default()).unwrap()? {
        Outcome::Depth(depth) => Ok(depth),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_purge_of_many_messages_changes_few_at_a_time() {
    for near in [usize::MAX >> 1, 100] {
        let (mut machine, mut kept) = (machine(near), Kept::default());
        let puts = (0..9_500).map(|number: u64| match number % 3 {
            0 => message("q", ""),
            1 => keyed("q", &format!("key {}", number % 50), ""),
            _ => Put { due: Some(Timestamp(NOW.0 + 1_000 + number)), ..message("q", "") },
        });
        put(&mut machine, &mut kept, puts.collect());
        // Those of others stay.
        put(&mut machine, &mut kept, vec![Put { due: Some(Timestamp(NOW.0 + 2_000)), ..message("late", "") }]);
        let purge = Command::Purge(name("q"), all(&[State::Ready, State::Delayed]));
        let (answer, steps, most) = stepped(&mut machine, &mut kept, &purge);
        assert_eq!(answer, Ok(Outcome::Count(9_500)), "{near} near ones");
        assert!(most <= STEP && (10..50).contains(&steps), "{steps} steps, of {most} changes");
        let (Outcome::Counts(left, counted), _) = tell(&mut machine, &mut kept, NOW, Command::Counts(name("q"))) else {
            panic!("no counts");
        };
        assert_eq!((left, counted.removed), (Depth::default(), 9_500));
        assert_eq!(depth(&mut machine, "late").unwrap().delayed, 1);
        assert_eq!(depth(&mut machine, "other").unwrap().ready, steps as u64);
        assert_eq!(kept.0.iter().filter(|stored| &*stored.put.queue == "q").count(), 0);
    }
}

#[test]
fn what_is_put_while_a_purge_goes_on_stays() {
    let (mut machine, mut kept) = (machine(1_000_000), Kept::default());
    put(&mut machine, &mut kept, (0..2_500).map(|_| message("q", "")).collect());
    let mut steps = machine.steps(&Command::Purge(name("q"), all(&[State::Ready]))).unwrap();
    let mut count = None;
    while count.is_none() {
        let mut group = Group::default();
        count = machine.step(&mut group, NOW, &mut steps, &kept).unwrap();
        drop(machine.show(group, &mut Group::default(), NOW));
        put(&mut machine, &mut kept, (0..700).map(|_| message("q", "")).collect());
    }
    assert_eq!(count, Some(Ok(Outcome::Count(2_500))));
    assert_eq!(depth(&mut machine, "q").unwrap().ready % 700, 0);
}

#[test]
fn a_queue_with_many_messages_is_deleted_a_few_at_a_time_and_takes_nothing_meanwhile() {
    let (mut machine, mut kept) = (machine(100), Kept::default());
    let late = |number: u64| Put { due: Some(Timestamp(NOW.0 + 1_000 + number)), ..message("q", "") };
    put(
        &mut machine,
        &mut kept,
        (0..5_000).map(|number| if number % 2 == 0 { message("q", "") } else { late(number) }).collect(),
    );
    let mut steps = machine.steps(&Command::Delete(name("q"))).unwrap();
    let mut group = Group::default();
    assert_eq!(machine.step(&mut group, NOW, &mut steps, &kept).unwrap(), None);
    kept.keep(&group.changes);
    drop(machine.show(group, &mut Group::default(), NOW));
    let refused = machine.add(&mut Group::default(), NOW, Command::Put(vec![message("q", "")]), &kept).unwrap();
    assert_eq!(refused, Err(Refusal::Draining(name("q"))));
    let (answer, steps, most) = stepped(&mut machine, &mut kept, &Command::Delete(name("q")));
    assert_eq!(answer, Ok(Outcome::Done));
    assert!(most <= STEP + 2 && steps >= 4, "{steps} steps, of {most} changes");
    assert_eq!(depth(&mut machine, "q").unwrap_err().code(), "unknown_queue");
    assert!(kept.0.iter().all(|stored| &*stored.put.queue == "other"), "whoever stores them is told of each");
    put(&mut machine, &mut kept, vec![message("q", "")]);
    assert_eq!(depth(&mut machine, "q").unwrap().ready, 1);
}

#[test]
fn many_dead_messages_have_another_chance_a_few_at_a_time() {
    let site = Site::default();
    site.configure("q", Config { max_dead: 10_000, ..Config::default() });
    for _ in 0..3_200 {
        site.put(message("q", ""));
    }
    site.done(Command::Consume(Consume { once: Some(3_200), ..consumer(1, "q", 3_200) }));
    for delivery in site.given() {
        site.settle(&delivery, Verdict::Dead { why: "why".into() }).unwrap();
    }
    assert_eq!(site.counts("q"), [0, 0, 0, 3_200]);
    assert_eq!(site.count(Command::Redrive(name("q"), Select { max: Some(2_100), ..all(&[]) })), 2_100);
    assert_eq!(site.counts("q"), [2_100, 0, 0, 1_100]);
    assert_eq!(site.count(Command::Redrive(name("q"), all(&[]))), 1_100);
    assert_eq!(site.counts("q"), [3_200, 0, 0, 0]);
}

#[test]
fn the_queues_in_memory_answer_others_while_a_purge_goes_on() {
    let queues = Arc::new(MemoryQueues::new(MemoryQueues::limits(), 1));
    let ask = |command| wait(queues.ask(NOW, command)).unwrap();
    for _ in 0..10 {
        ask(Command::Put((0..1_000).map(|_| message("q", "")).collect())).unwrap();
    }
    ask(Command::Put((0..100).map(|_| message("other", "")).collect())).unwrap();
    // Leased ones first: each step says of which it took.
    ask(Command::Consume(consumer(1, "q", 10_000))).unwrap();
    let answered = Arc::new(Mutex::new(Vec::new()));
    let (ear, asked) = (answered.clone(), Arc::downgrade(&queues));
    queues.listen(Some(Arc::new(move |effects| {
        let revoked = effects.iter().filter(|effect| matches!(effect, Effect::Revoked { .. })).count();
        if revoked > 0 {
            // Asked in the middle of the purge: answered before its next step.
            let stats = asked.upgrade().unwrap().ask(NOW, Command::Stats(name("q")));
            ear.lock().unwrap().push((revoked, stats));
        }
    })));
    assert_eq!(ask(Command::Purge(name("q"), all(&[State::Leased]))), Ok(Outcome::Count(10_000)));
    let answered = std::mem::take(&mut *answered.lock().unwrap());
    assert_eq!(answered.iter().map(|(revoked, _)| *revoked).collect::<Vec<_>>(), [1_000; 10]);
    let left: Vec<u64> = answered
        .into_iter()
        .map(|(_, stats)| match wait(stats).unwrap() {
            Ok(Outcome::Depth(depth)) => depth.leased,
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(left.windows(2).all(|pair| pair[0] > pair[1]) && left[0] >= 8_000, "{left:?}");
}

/// Has time do its work until there is nothing more to do by `now`: how often, the most changes of one time, and what is said.
fn passed(machine: &mut Machine, kept: &mut Kept, now: Timestamp) -> (usize, usize, Vec<Effect>) {
    let (mut most, mut said) = (0, Vec::new());
    for count in 1..1_000 {
        let mut group = Group::default();
        said.extend(machine.tick(&mut group, now, kept).unwrap());
        most = most.max(group.changes.len());
        kept.keep(&group.changes);
        said.extend(group.take_effects());
        said.extend(machine.show(group, &mut Group::default(), now));
        if machine.wake_at().is_none_or(|at| at > now) {
            return (count, most, said);
        }
    }
    panic!("there is always more to do");
}

fn granted(said: &[Effect]) -> Vec<Delivery> {
    let of = |effect: &Effect| if let Effect::Granted(delivery) = effect { Some(delivery.clone()) } else { None };
    said.iter().filter_map(of).collect()
}

fn tell(machine: &mut Machine, kept: &mut Kept, now: Timestamp, command: Command) -> (Outcome, Vec<Effect>) {
    let (mut group, mut next) = (Group::default(), Group::default());
    let answer = machine.add(&mut group, now, command, kept).unwrap().unwrap();
    kept.keep(&group.changes);
    let said = machine.show(group, &mut next, now);
    kept.keep(&next.changes);
    (answer, said)
}

#[test]
fn messages_that_expire_together_do_so_a_few_at_a_time() {
    let over = Timestamp(NOW.0 + 50);
    for is_consumed in [false, true] {
        let (mut machine, mut kept) = (machine(100), Kept::default());
        put(&mut machine, &mut kept, (0..5_000).map(|_| Put { expires: Some(over), ..message("q", "") }).collect());
        put(&mut machine, &mut kept, (0..10).map(|_| message("q", "")).collect());
        let mut given = Vec::new();
        if is_consumed {
            given = tell(&mut machine, &mut kept, over, Command::Consume(consumer(1, "q", 100))).1;
        }
        let (ticks, most, said) = passed(&mut machine, &mut kept, over);
        given.extend(said);
        // A consumer passes over as many as are looked for without one.
        assert!(most <= 2 * STEP + 10 && (2..=6).contains(&ticks), "{ticks} ticks, of {most} changes");
        let (Outcome::Counts(depth, counted), _) = tell(&mut machine, &mut kept, over, Command::Counts(name("q")))
        else {
            panic!("no counts");
        };
        assert_eq!(counted.expired, 5_000);
        let given = granted(&given).len() as u64;
        assert_eq!((given, depth.leased, depth.ready), if is_consumed { (10, 10, 0) } else { (0, 0, 10) });
        assert_eq!(kept.0.len(), 10, "whoever stores them is told of each");
    }
}

#[test]
fn leases_that_run_out_together_and_dead_messages_that_are_old_go_a_few_at_a_time() {
    let (mut machine, mut kept) = (machine(100), Kept::default());
    put(&mut machine, &mut kept, (0..3_500).map(|_| message("q", "")).collect());
    let config = Config { max_dead: 10_000, dead_ttl_ms: 5_000_000, ..Config::default() };
    tell(&mut machine, &mut kept, NOW, Command::Configure(name("q"), Box::new(config)));
    let consume = Consume { once: Some(3_500), lease_ms: Some(60_000), ..consumer(1, "q", 3_500) };
    let (_, said) = tell(&mut machine, &mut kept, NOW, Command::Consume(consume));
    assert_eq!(granted(&said).len(), 3_500);
    let lost = Timestamp(NOW.0 + 60_000);
    let (ticks, most, said) = passed(&mut machine, &mut kept, lost);
    assert!(most <= STEP && ticks >= 4, "{ticks} ticks, of {most} changes");
    assert_eq!(said.iter().filter(|effect| matches!(effect, Effect::Revoked { .. })).count(), 3_500);
    // Lost ones rest before they are given again.
    let again = Timestamp(lost.0 + 3_600_000);
    passed(&mut machine, &mut kept, again);
    let consume = Consume { once: Some(3_500), ..consumer(2, "q", 3_500) };
    let (_, said) = tell(&mut machine, &mut kept, again, Command::Consume(consume));
    for Delivery { id, token, .. } in granted(&said) {
        let settle = Settle { id, token, verdict: Verdict::Dead { why: "why".into() } };
        tell(&mut machine, &mut kept, again, Command::Settle(vec![settle]));
    }
    assert_eq!(depth(&mut machine, "q").unwrap().dead, 3_500);
    let (ticks, most, _) = passed(&mut machine, &mut kept, Timestamp(again.0 + 5_000_000));
    assert!(most <= STEP && ticks >= 4, "{ticks} ticks, of {most} changes");
    assert_eq!(depth(&mut machine, "q"), Ok(Depth::default()));
    assert!(kept.0.is_empty());
}
