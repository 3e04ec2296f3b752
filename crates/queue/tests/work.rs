//! Putting, taking and settling: one worker each, and nothing lost between.

mod site;

use posthaste_history::store::Timestamp;
use posthaste_queue::*;
use site::*;

#[test]
fn a_message_goes_from_put_to_done() {
    let site = Site::default();
    let id = site.put(message("emails", "hello"));
    assert_eq!(site.counts("emails"), [1, 0, 0, 0]);
    site.done(Command::Consume(consumer(1, "emails", 10)));
    let delivery = site.one();
    assert_eq!((delivery.id, &delivery.payload[..], delivery.deliveries, delivery.failures), (id, &b"hello"[..], 1, 0));
    assert_eq!(delivery.deadline.0, site.now + 30_000);
    assert_eq!(site.counts("emails"), [0, 1, 0, 0]);
    site.finish(&delivery);
    assert_eq!(site.depth("emails"), Depth { consumers: 1, ..Depth::default() });
}

#[test]
fn consumers_take_turns_and_have_no_more_than_they_asked_for() {
    let site = Site::default();
    site.done(Command::Consume(consumer(1, "q", 2)));
    site.done(Command::Consume(consumer(2, "q", 1)));
    for _ in 0..5 {
        site.put(message("q", ""));
    }
    let given = site.given();
    assert_eq!(given.iter().map(|it| (it.consumer, it.id)).collect::<Vec<_>>(), [(1, 1), (2, 2), (1, 3)]);
    site.finish(&given[1]);
    assert_eq!(site.one().consumer, 2);
}

#[test]
fn bytes_bound_what_a_consumer_has_but_for_one_message() {
    let site = Site::default();
    let small = message("q", "12345678").cost();
    let consume = Consume { bytes: 2 * small, ..consumer(1, "q", 10) };
    site.done(Command::Consume(consume));
    let large = site.put(message("q", &"x".repeat(1_000)));
    for _ in 0..3 {
        site.put(message("q", "12345678"));
    }
    let first = site.one();
    assert_eq!(first.id, large);
    site.finish(&first);
    assert_eq!(site.given_ids(), [2, 3]);
}

#[test]
fn a_lease_that_ran_out_is_over_and_its_token_counts_for_nothing() {
    let mut site = Site::default();
    site.done(Command::Consume(consumer(1, "q", 1)));
    site.put(message("q", ""));
    let first = site.one();
    site.pass(29_999);
    assert_eq!(site.heard(), []);
    site.pass(1);
    let heard = site.heard();
    let [Effect::Revoked { consumer: 1, id: 1, token, why: Why::Expired, .. }, Effect::Granted(second)] = &heard[..]
    else {
        panic!("{heard:?}")
    };
    assert_eq!(*token, first.token);
    assert!(second.token > first.token);
    assert_eq!(second.deliveries, 2);
    for verdict in [Verdict::Done(None), Verdict::Release, Verdict::Touch(None), Verdict::Dead { why: "".into() }] {
        assert_eq!(site.settle(&first, verdict), Err(Refusal::StaleLease(1)));
    }
    site.finish(second);
    assert_eq!(site.settle(second, Verdict::Done(None)), Err(Refusal::StaleLease(1)), "settled before");
}

#[test]
fn a_touch_makes_a_lease_longer_but_not_beyond_its_cap() {
    let mut site = Site::default();
    site.configure("q", Config { lease_ms: 1_000, max_lease_ms: 2_500, ..Config::default() });
    site.done(Command::Consume(consumer(1, "q", 1)));
    site.put(message("q", ""));
    let delivery = site.one();
    let start = site.now;
    for (passes, touch, until) in [(900, None, 1_900), (900, Some(500), 2_300), (400, None, 2_500)] {
        site.pass(passes);
        let until = Timestamp(start + until);
        assert_eq!(site.settle(&delivery, Verdict::Touch(touch)), Ok(Settled::Until(until)));
    }
    site.pass(299);
    assert_eq!(site.counts("q"), [0, 1, 0, 0]);
    site.pass(1);
    assert_eq!(site.given()[0].deliveries, 2);
}

#[test]
fn a_touch_can_make_a_lease_shorter() {
    let mut site = Site::default();
    site.done(Command::Consume(consumer(1, "q", 1)));
    site.put(message("q", ""));
    let delivery = site.one();
    site.settle(&delivery, Verdict::Touch(Some(10))).unwrap();
    site.pass(10);
    assert_eq!(site.given()[0].deliveries, 2);
}

#[test]
fn a_consumer_that_is_alive_touches_all_it_has() {
    let mut site = Site::default();
    assert_eq!(site.ask(Command::TouchAll(1)), Err(Refusal::UnknownConsumer));
    site.done(Command::Consume(consumer(1, "q", 2)));
    site.put(message("q", ""));
    site.put(message("q", ""));
    site.pass(20_000);
    site.done(Command::TouchAll(1));
    site.pass(20_000);
    assert_eq!(site.counts("q"), [0, 2, 0, 0]);
    site.pass(10_000);
    assert_eq!(site.given().len(), 4, "given, and given again");
}

#[test]
fn progress_is_told_and_touches() {
    let mut site = Site::default();
    site.done(Command::Consume(consumer(1, "q", 1)));
    site.put(message("q", ""));
    let delivery = site.one();
    site.pass(10_000);
    let value = bytes::Bytes::from_static(b"half");
    let until = Timestamp(site.now + 30_000);
    assert_eq!(site.settle(&delivery, Verdict::Progress(value.clone())), Ok(Settled::Until(until)));
    assert_eq!(site.heard(), [Effect::Progress { queue: name("q"), id: 1, value }]);
}

#[test]
fn a_held_consumer_keeps_what_it_has_and_gets_no_more() {
    let site = Site::default();
    site.done(Command::Consume(consumer(1, "q", 2)));
    site.put(message("q", ""));
    site.done(Command::Hold(1));
    site.put(message("q", ""));
    assert_eq!(site.given_ids(), [1]);
    site.done(Command::Unhold(1));
    assert_eq!(site.given_ids(), [2]);
    assert_eq!(site.ask(Command::Hold(9)), Err(Refusal::UnknownConsumer));
}

#[test]
fn what_a_stopped_consumer_had_is_free_at_once_or_stays_leased() {
    let site = Site::default();
    site.done(Command::Consume(consumer(1, "q", 3)));
    (0..3).for_each(|_| _ = site.put(message("q", "")));
    let given = site.given();
    site.done(Command::Stop(1, Stop::Keep));
    assert_eq!(site.counts("q"), [0, 3, 0, 0]);
    site.finish(&given[1]);
    site.done(Command::Stop(1, Stop::Return));
    assert_eq!(site.counts("q"), [2, 0, 0, 0]);
    assert_eq!(site.settle(&given[0], Verdict::Done(None)), Err(Refusal::StaleLease(1)));
    site.done(Command::Consume(consumer(2, "q", 3)));
    let again = site.given();
    assert_eq!(again.iter().map(|it| (it.id, it.deliveries, it.failures)).collect::<Vec<_>>(), [(1, 2, 0), (3, 2, 0)]);
    site.done(Command::Stop(77, Stop::Return)); // nothing happens
}

#[test]
fn a_pull_takes_so_many_and_is_gone() {
    let site = Site::default();
    site.done(Command::Consume(Consume { once: Some(2), ..consumer(1, "q", 10) }));
    (0..3).for_each(|_| _ = site.put(message("q", "")));
    let heard = site.heard();
    let [Effect::Granted(first), Effect::Granted(_), Effect::Finished(1)] = &heard[..] else { panic!("{heard:?}") };
    assert_eq!(site.counts("q"), [1, 2, 0, 0]);
    assert_eq!(site.depth("q").consumers, 0);
    site.finish(first);
    site.done(Command::Stop(1, Stop::Return));
    assert_eq!(site.counts("q"), [2, 0, 0, 0]);
}

#[test]
fn higher_priorities_go_first_and_a_returned_message_keeps_its_place() {
    let site = Site::default();
    for priority in [0, 31, 5, 31, 0] {
        site.put(Put { priority, ..message("q", "") });
    }
    site.done(Command::Consume(consumer(1, "q", 1)));
    let first = site.one();
    site.settle(&first, Verdict::Release).unwrap();
    let mut order = vec![];
    for _ in 0..5 {
        let delivery = site.one();
        order.push(delivery.id);
        site.finish(&delivery);
    }
    assert_eq!(order, [2, 4, 3, 1, 5]);
}

#[test]
fn a_delayed_message_is_ready_at_its_time() {
    let mut site = Site::default();
    site.done(Command::Consume(consumer(1, "q", 1)));
    site.put(Put { due: Some(Timestamp(site.now + 500)), ..message("q", "") });
    assert_eq!(site.counts("q"), [0, 0, 1, 0]);
    assert_eq!(site.queues.tick(Timestamp(site.now)), Some(Timestamp(site.now + 500)));
    site.pass(499);
    assert_eq!(site.given_ids(), []);
    site.pass(1);
    assert_eq!(site.given_ids(), [1]);
}

#[test]
fn a_put_of_several_happens_or_does_not() {
    let site = Site::default();
    let bad = Put { priority: 32, ..message("q", "") };
    assert!(matches!(site.ask(Command::Put(vec![message("q", ""), bad])), Err(Refusal::Invalid(_))));
    assert_eq!(site.ask(Command::Stats(name("q"))), Err(Refusal::UnknownQueue(name("q"))));
    site.ask(Command::Put(vec![message("q", ""), message("r", "")])).unwrap();
    assert_eq!((site.counts("q"), site.counts("r")), ([1, 0, 0, 0], [1, 0, 0, 0]));
}

#[test]
fn absurd_requests_are_refused_and_change_nothing() {
    let site = Site::default();
    let refused = |command| site.ask(command).unwrap_err().code();
    let put = |put| refused(Command::Put(vec![put]));
    assert_eq!(put(message("no good", "")), "bad_name");
    assert_eq!(put(Put { key: Some("".into()), ..message("q", "") }), "invalid");
    assert_eq!(put(Put { due: Some(Timestamp(u64::MAX)), ..message("q", "") }), "invalid");
    assert_eq!(put(Put { attempts: Some(0), ..message("q", "") }), "invalid");
    assert_eq!(put(Put { durability: posthaste_history::store::Durability::Disk, ..message("q", "") }), "invalid");
    assert_eq!(put(Put { payload: vec![0; (16 << 20) + 1].into(), ..message("q", "") }), "too_large");
    assert_eq!(refused(Command::Put(vec![message("q", ""); 10_001])), "invalid");
    assert_eq!(refused(Command::Consume(consumer(1, "q", 0))), "invalid");
    assert_eq!(refused(Command::Consume(Consume { keys: Some(vec![]), ..consumer(1, "q", 1) })), "invalid");
    assert_eq!(site.ask(Command::List { after: name(""), max: 10 }), Ok(Outcome::Queues(vec![])));
}

#[test]
fn a_listener_may_ask() {
    let site = std::sync::Arc::new(MemoryQueues::new(MemoryQueues::limits(), 1));
    let weak = std::sync::Arc::downgrade(&site);
    site.listen(Some(std::sync::Arc::new(move |effects| {
        for effect in effects {
            if let Effect::Granted(delivery) = effect {
                let settle = Settle { id: delivery.id, token: delivery.token, verdict: Verdict::Done(None) };
                drop(weak.upgrade().unwrap().ask(Timestamp(1), Command::Settle(vec![settle])));
            }
        }
    })));
    drop(site.ask(Timestamp(1), Command::Consume(consumer(1, "q", 1))));
    drop(site.ask(Timestamp(1), Command::Put(vec![message("q", ""), message("q", "")])));
    let depth = posthaste_history::store::wait(site.ask(Timestamp(1), Command::Stats(name("q")))).unwrap();
    assert_eq!(depth, Ok(Outcome::Depth(Depth { consumers: 1, ..Depth::default() })));
}

#[test]
fn what_happens_is_counted() {
    let mut site = Site::default();
    site.done(Command::Consume(consumer(1, "q", 1)));
    let dedup = Dedup { key: "k".into(), mode: DedupMode::Reject, window_ms: None };
    site.put(Put { dedup: Some(dedup.clone()), ..message("q", "") });
    site.put(Put { dedup: Some(dedup), ..message("q", "") });
    let first = site.one();
    site.settle(&first, Verdict::Retry { after_ms: Some(0), why: "no".into() }).unwrap();
    let second = site.one();
    // What was said too late is refused, and counted.
    assert_eq!(site.settle(&first, Verdict::Done(None)), Err(Refusal::StaleLease(first.id)));
    site.settle(&second, Verdict::Release).unwrap();
    let third = site.one();
    assert_eq!(third.deadline.0, site.now + 30_000);
    site.pass(30_000);
    let fourth = site.one();
    site.settle(&fourth, Verdict::Dead { why: "hopeless".into() }).unwrap();
    site.put(message("q", ""));
    let last = site.one();
    site.finish(&last);
    let Ok(Outcome::Counts(depth, counted)) = site.ask(Command::Counts(name("q"))) else { panic!("no counts") };
    assert_eq!((depth.dead, depth.consumers), (1, 1));
    let all = [counted.put, counted.dup, counted.given, counted.failed, counted.stale, counted.released];
    assert_eq!(all, [2, 1, 5, 1, 1, 1]);
    let rest = [counted.leases_expired, counted.died, counted.done, counted.lost, counted.removed, counted.revoked];
    assert_eq!(rest, [1, 1, 1, 0, 0, 0]);
}
