//! What fails: rests, counts, the dead and what becomes of them.

mod site;

use posthaste_history::store::Timestamp;
use posthaste_queue::*;
use site::nothing::Nothing;
use site::*;

#[test]
fn a_failure_rests_as_the_queue_the_message_or_the_worker_says() {
    let mut site = Site::default();
    site.configure("q", Config { backoff: Backoff::Linear { step_ms: 100, max_ms: 1_000 }, ..Config::default() });
    site.done(Command::Consume(consumer(1, "q", 1)));
    site.put(message("q", ""));
    let first = site.one();
    site.retry(&first, None);
    assert_eq!(site.found(1).until, Some(Timestamp(site.now + 100)));
    site.pass(100);
    let second = site.one();
    assert_eq!((second.deliveries, second.failures), (2, 1));
    site.retry(&second, Some(7));
    site.pass(7);
    let third = site.one();
    site.finish(&third);
    site.put(Put { backoff: Some(Box::new(Backoff::Fixed { ms: 42 })), ..message("q", "") });
    let own = site.one();
    site.retry(&own, None);
    assert_eq!(site.found(2).until, Some(Timestamp(site.now + 42)));
}

#[test]
fn the_last_failure_is_death_with_reasons() {
    let mut site = Site::default();
    site.configure("q", Config { attempts: 3, backoff: Backoff::None, ..Config::default() });
    site.done(Command::Consume(consumer(1, "q", 1)));
    site.put(message("q", "x"));
    for _ in 0..3 {
        site.pass(1);
        let delivery = site.one();
        site.retry(&delivery, None);
    }
    let why: std::sync::Arc<str> = "why".into();
    assert!(site.heard().contains(&Effect::Ended { queue: name("q"), id: 1, end: End::Dead(why.clone()) }));
    assert_eq!(site.counts("q"), [0, 0, 0, 1]);
    let dead = &site.peek("q", State::Dead)[0];
    let history = [site.now - 2, site.now - 1, site.now].map(|at| (Timestamp(at), why.clone()));
    assert_eq!(dead.rest, Rest { deliveries: 3, failures: 3, losses: 0, redriven: 0 });
    assert_eq!(dead.history, history);
    assert_eq!(&dead.payload[..], b"x");
    assert_eq!(site.depth("q").bytes, 0);
}

#[test]
fn a_message_may_have_its_own_number_of_attempts() {
    let site = Site::default();
    site.done(Command::Consume(consumer(1, "q", 1)));
    site.put(Put { attempts: Some(1), ..message("q", "") });
    let delivery = site.one();
    site.retry(&delivery, None);
    assert_eq!(site.counts("q"), [0, 0, 0, 1]);
}

#[test]
fn a_release_and_a_lost_worker_are_no_failures_until_it_happens_too_often() {
    let site = Site::default();
    site.configure("q", Config { crash_limit: 3, attempts: 2, backoff: Backoff::None, ..Config::default() });
    site.put(message("q", ""));
    let mut failures = Vec::new();
    for worker in 1..=6 {
        site.done(Command::Consume(consumer(worker, "q", 1)));
        failures.push(site.one().failures);
        site.done(Command::Stop(worker, Stop::Return));
    }
    assert_eq!(failures, [0, 0, 0, 1, 1, 1]);
    assert_eq!(site.counts("q"), [0, 0, 0, 1]);
    assert_eq!(site.found(1).history[0].1.as_ref(), "its worker was lost, 3 times");

    site.done(Command::Consume(consumer(9, "r", 1)));
    site.put(message("r", ""));
    for _ in 0..10 {
        let delivery = site.one();
        assert_eq!(delivery.failures, 0);
        site.settle(&delivery, Verdict::Release).unwrap();
    }
}

#[test]
fn reasons_are_cut_and_only_the_last_are_kept() {
    let mut site = Site::default();
    site.configure("q", Config { attempts: u32::MAX, backoff: Backoff::None, ..Config::default() });
    site.done(Command::Consume(consumer(1, "q", 1)));
    site.put(message("q", ""));
    let fail = |site: &mut Site, text: &str| {
        site.pass(1);
        let delivery = site.one();
        site.settle(&delivery, Verdict::Retry { after_ms: None, why: text.into() }).unwrap();
    };
    (0..12).for_each(|_| fail(&mut site, "short"));
    let found = site.found(1);
    assert_eq!((found.history.len(), found.rest.failures), (Reason::MAX_KEPT, 12));
    assert_eq!(found.history[9].0.0, site.now);
    // In memory those of a message have no more together than one may have.
    fail(&mut site, &"x".repeat(Verdict::MAX_WHY - 5));
    assert_eq!(site.found(1).history.iter().map(|(_, why)| why.len()).collect::<Vec<_>>(), [5, 1_019]);
    for _ in 0..2 {
        fail(&mut site, &"ü".repeat(Verdict::MAX_WHY));
        assert_eq!(site.found(1).history.iter().map(|(_, why)| why.len()).collect::<Vec<_>>(), [Verdict::MAX_WHY]);
    }
}

#[test]
fn a_machine_does_not_hold_the_reasons_of_failures() {
    let limits = MemoryQueues::limits();
    let (mut machine, now) = (Machine::new(limits, 1), Timestamp(1_000));
    machine.started(&mut Group::default(), 1, 1);
    // What is written is let go of.
    let mut ask = |command| {
        let (mut group, mut next) = (Group::default(), Group::default());
        let outcome = machine.add(&mut group, now, command, &Nothing).unwrap().unwrap();
        (outcome, machine.show(group, &mut next, now))
    };
    let config = Config { attempts: 4, backoff: Backoff::None, ..Config::default() };
    ask(Command::Configure(name("q"), Box::new(config)));
    ask(Command::Put(vec![message("q", "")]));
    let why: std::sync::Arc<str> = "x".repeat(Verdict::MAX_WHY).into();
    let mut effects = ask(Command::Consume(consumer(1, "q", 1))).1;
    for _ in 0..4 {
        let Some(Effect::Granted(given)) = effects.last() else { panic!("{effects:?}") };
        let verdict = Verdict::Retry { after_ms: None, why: why.clone() };
        effects = ask(Command::Settle(vec![Settle { id: given.id, token: given.token, verdict }])).1;
    }
    let (Outcome::Depth(depth), _) = ask(Command::Stats(name("q"))) else { panic!() };
    assert_eq!(depth.dead, 1);
    drop(effects);
    assert_eq!(std::sync::Arc::strong_count(&why), 1, "only the failures are counted");
}

#[test]
fn dead_messages_have_another_chance_with_counters_at_zero() {
    let site = Site::default();
    site.configure("q", Config { attempts: 1, ..Config::default() });
    site.done(Command::Consume(consumer(1, "q", 3)));
    (0..3).for_each(|_| _ = site.put(message("q", "")));
    site.given().iter().for_each(|delivery| site.retry(delivery, None));
    let select = Select { id: Some(2), ..all(&[State::Dead]) };
    assert_eq!(site.count(Command::Redrive(name("q"), select)), 1);
    let again = site.one();
    assert_eq!((again.id, again.deliveries, again.failures), (2, 1, 0));
    assert_eq!(site.count(Command::Redrive(name("q"), Select { max: Some(1), ..all(&[]) })), 1);
    assert_eq!(site.counts("q"), [0, 2, 0, 1]);
}

#[test]
fn a_message_that_has_another_chance_does_not_expire_before_it_is_taken() {
    let mut site = Site::default();
    site.configure("q", Config { ttl_ms: Some(60_000), ..Config::default() });
    let id = site.put(message("q", ""));
    site.done(Command::Consume(Consume { once: Some(1), ..consumer(1, "q", 1) }));
    site.settle(&site.one(), Verdict::Dead { why: "a bug".into() }).unwrap();
    site.pass(3_600_000);
    assert_eq!(site.count(Command::Redrive(name("q"), all(&[]))), 1);
    site.pass(3_600_000);
    assert_eq!(site.counts("q"), [1, 0, 0, 0]);
    assert_eq!(site.found(id).rest.redriven, 1);
    site.done(Command::Consume(consumer(2, "q", 1)));
    assert_eq!(site.given_ids(), [id]);
}

#[test]
fn nothing_goes_for_a_dead_message_that_is_not_taken_in_all_the_same() {
    let small = |overflow| Config { max_messages: 3, max_bytes: 1_000, overflow, ..Config::default() };
    for (overflow, drains, payload) in [
        (Overflow::DropOldest, false, "x".repeat(2_000)),
        (Overflow::DropOldest, true, String::new()),
        (Overflow::DeadLetterOldest, false, "x".repeat(2_000)),
        (Overflow::DeadLetterOldest, true, String::new()),
    ] {
        let site = Site::default();
        site.configure("graves", small(overflow));
        site.configure("q", Config { dead_letter: Some("graves".into()), ..Config::default() });
        (0..3).for_each(|_| _ = site.put(message("graves", "")));
        site.done(Command::Drain(name("graves"), drains));
        site.put(message("q", &payload));
        site.done(Command::Consume(consumer(1, "q", 1)));
        site.settle(&site.one(), Verdict::Dead { why: "why".into() }).unwrap();
        assert_eq!(site.counts("graves"), [3, 0, 0, 0], "{overflow:?}, drained: {drains}");
        assert_eq!(site.counts("q"), [0, 0, 0, 1]);
    }
}

#[test]
fn a_dead_message_is_put_into_another_queue_as_well() {
    let site = Site::default();
    let config = Config { attempts: 1, dead_letter: Some(name("dead")), ..Config::default() };
    site.configure("q", config);
    site.done(Command::Consume(consumer(1, "q", 1)));
    site.put(Put { headers: "h".into(), priority: 3, ..keyed("q", "k", "p") });
    let delivery = site.one();
    site.retry(&delivery, None);
    assert_eq!(site.counts("q"), [0, 0, 0, 1]);
    let found = &site.peek("dead", State::Ready)[0];
    assert_eq!((&found.payload[..], &found.headers[..], found.priority), (&b"p"[..], &b"h"[..], 3));
    assert_eq!(found.key.as_deref(), Some("k"));
    let own = Config { dead_letter: Some(name("q")), ..Config::default() };
    assert_eq!(site.ask(Command::Configure(name("q"), Box::new(own))).unwrap_err().code(), "invalid");
}

#[test]
fn queues_for_each_others_dead_do_not_go_round_for_ever() {
    let site = Site::default();
    for (queue, other) in [("a", "b"), ("b", "a")] {
        let overflow = Overflow::DeadLetterOldest;
        let dead_letter = Some(name(other));
        site.configure(queue, Config { dead_letter, max_messages: 1, overflow, ..Config::default() });
    }
    (0..3).for_each(|_| _ = site.put(message("a", "")));
    assert_eq!(site.counts("a"), [1, 0, 0, 2]);
    assert_eq!(site.counts("b"), [1, 0, 0, 1]);
}

#[test]
fn too_many_dead_forget_the_oldest() {
    let site = Site::default();
    site.configure("q", Config { attempts: 1, max_dead: 2, ..Config::default() });
    site.done(Command::Consume(consumer(1, "q", 1)));
    for _ in 0..3 {
        site.put(message("q", ""));
        let delivery = site.one();
        site.retry(&delivery, None);
    }
    assert_eq!(site.peek("q", State::Dead).iter().map(|found| found.id).collect::<Vec<_>>(), [2, 3]);
}

#[test]
fn the_dead_are_removed_when_they_are_old() {
    let mut site = Site::default();
    site.configure("q", Config { attempts: 1, dead_ttl_ms: 1_000, ..Config::default() });
    site.done(Command::Consume(consumer(1, "q", 1)));
    site.put(message("q", ""));
    let delivery = site.one();
    site.retry(&delivery, None);
    site.pass(999);
    assert_eq!(site.counts("q"), [0, 0, 0, 1]);
    site.configure("q", Config { attempts: 1, dead_ttl_ms: 2_000, ..Config::default() });
    site.pass(1_000);
    assert_eq!(site.counts("q"), [0, 0, 0, 1]);
    site.pass(1);
    assert_eq!(site.counts("q"), [0; 4]);
}
