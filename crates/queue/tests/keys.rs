//! Messages with keys: order within a key, fairness between keys, and trouble that stays where it is.

mod site;

use posthaste_history::store::Timestamp;
use posthaste_queue::*;
use site::*;

fn by_key(given: &[Delivery]) -> Vec<(&str, MessageId)> {
    given.iter().map(|delivery| (delivery.key.as_deref().unwrap_or("-"), delivery.id)).collect()
}

#[test]
fn one_of_a_key_at_a_time_and_in_order() {
    let site = Site::default();
    for key in ["a", "a", "b", "a"] {
        site.put(keyed("q", key, ""));
    }
    site.done(Command::Consume(consumer(1, "q", 10)));
    let given = site.given();
    assert_eq!(by_key(&given), [("a", 1), ("b", 3)]);
    site.finish(&given[0]);
    let second = site.one();
    assert_eq!(second.id, 2);
    site.settle(&second, Verdict::Release).unwrap();
    assert_eq!(site.one().id, 2, "it goes back to its place");
}

#[test]
fn keys_take_turns_and_alternate_with_messages_without() {
    let site = Site::default();
    for _ in 0..4 {
        site.put(keyed("q", "a", ""));
    }
    for _ in 0..2 {
        site.put(keyed("q", "b", ""));
        site.put(message("q", ""));
    }
    site.done(Command::Consume(consumer(1, "q", 1)));
    let mut order = Vec::new();
    for _ in 0..8 {
        let delivery = site.one();
        order.push(delivery.key.as_deref().unwrap_or("-").to_owned());
        site.finish(&delivery);
    }
    assert_eq!(order.concat(), "-a-babaa");
}

#[test]
fn so_many_of_a_key_at_a_time_as_it_was_told() {
    let site = Site::default();
    site.configure("q", Config { key_concurrency: 2, ..Config::default() });
    (0..4).for_each(|_| _ = site.put(keyed("q", "a", "")));
    site.done(Command::Consume(consumer(1, "q", 10)));
    assert_eq!(site.given_ids(), [1, 2]);
    site.configure("q", Config { key_concurrency: 3, ..Config::default() });
    assert_eq!(site.given_ids(), [3]);
}

#[test]
fn a_key_whose_first_message_rests_waits_alone() {
    let mut site = Site::default();
    for key in ["a", "a", "b"] {
        site.put(keyed("q", key, ""));
    }
    site.done(Command::Consume(consumer(1, "q", 1)));
    let first = site.one();
    site.retry(&first, Some(1_000));
    let other = site.one();
    assert_eq!(other.id, 3);
    site.finish(&other);
    assert_eq!(site.given_ids(), []);
    site.pass(1_000);
    assert_eq!(site.given_ids(), [1]);
}

#[test]
fn a_delayed_message_does_not_keep_its_key_waiting() {
    let mut site = Site::default();
    site.put(Put { due: Some(Timestamp(site.now + 10)), ..keyed("q", "a", "") });
    site.put(keyed("q", "a", ""));
    site.done(Command::Consume(consumer(1, "q", 1)));
    let first = site.one();
    assert_eq!(first.id, 2);
    site.put(keyed("q", "a", ""));
    site.pass(10);
    site.finish(&first);
    assert_eq!(site.given_ids(), [1], "it has its place by its number when its time has come");
}

#[test]
fn a_dead_message_blocks_its_key_if_it_is_told_to() {
    for (on_exhausted, expected) in [(OnExhausted::Skip, vec![2]), (OnExhausted::Block, vec![])] {
        let site = Site::default();
        site.configure("q", Config { on_exhausted, ..Config::default() });
        (0..2).for_each(|_| _ = site.put(keyed("q", "a", "")));
        site.done(Command::Consume(consumer(1, "q", 1)));
        let first = site.one();
        site.settle(&first, Verdict::Dead { why: "hopeless".into() }).unwrap();
        assert_eq!(site.given_ids(), expected, "{on_exhausted:?}");
    }
}

#[test]
fn a_blocked_key_goes_on_when_its_dead_message_is_redriven_or_removed() {
    let block = Config { on_exhausted: OnExhausted::Block, ..Config::default() };
    let dead = || {
        let site = Site::default();
        site.configure("q", block.clone());
        (0..2).for_each(|_| _ = site.put(keyed("q", "a", "")));
        site.done(Command::Consume(consumer(1, "q", 1)));
        let first = site.one();
        site.settle(&first, Verdict::Dead { why: "hopeless".into() }).unwrap();
        site
    };
    let site = dead();
    site.done(Command::Remove(1));
    assert_eq!(site.given_ids(), [2]);
    let site = dead();
    assert_eq!(site.count(Command::Redrive(name("q"), all(&[State::Dead]))), 1);
    assert_eq!(site.given_ids(), [1]);
    let mut site = dead();
    site.pass(block.dead_ttl_ms);
    assert_eq!(site.given_ids(), [2], "a dead message that is too old is removed");
}

#[test]
fn a_consumer_may_take_only_some_keys() {
    let site = Site::default();
    let keys = Some(vec!["a".into(), "b".into()]);
    site.done(Command::Consume(Consume { keys, ..consumer(1, "q", 10) }));
    site.put(message("q", ""));
    for key in ["c", "b", "a", "b"] {
        site.put(keyed("q", key, ""));
    }
    let given = site.given();
    assert_eq!(by_key(&given), [("b", 3), ("a", 4)]);
    site.done(Command::Consume(consumer(2, "q", 1)));
    assert_eq!(by_key(&site.given()), [("-", 1)]);
    site.finish(&given[0]);
    assert_eq!(by_key(&site.given()), [("b", 5)]);
}

#[test]
fn the_priority_of_a_key_is_that_of_its_first_message() {
    let site = Site::default();
    site.put(keyed("q", "a", ""));
    site.put(Put { priority: 9, ..keyed("q", "a", "") });
    site.put(Put { priority: 5, ..keyed("q", "b", "") });
    site.done(Command::Consume(consumer(1, "q", 1)));
    let mut order = Vec::new();
    for _ in 0..3 {
        let delivery = site.one();
        order.push(delivery.id);
        site.finish(&delivery);
    }
    assert_eq!(order, [3, 1, 2]);
}

#[test]
fn rates_bound_a_queue_and_each_key() {
    let mut site = Site::default();
    let rate = Some(Rate { count: 1, per_ms: 100, burst: 2 });
    site.configure("q", Config { rate, ..Config::default() });
    site.configure("k", Config { key_rate: rate, key_concurrency: 9, ..Config::default() });
    site.done(Command::Consume(consumer(1, "q", 10)));
    site.done(Command::Consume(consumer(2, "k", 10)));
    (0..4).for_each(|_| _ = site.put(message("q", "")));
    assert_eq!(site.given_ids(), [1, 2]);
    site.pass(99);
    assert_eq!(site.given_ids(), []);
    site.pass(1);
    assert_eq!(site.given_ids(), [3]);
    site.pass(100);
    assert_eq!(site.given_ids(), [4]);
    (0..3).for_each(|_| _ = site.put(keyed("k", "a", "")));
    site.put(keyed("k", "b", ""));
    assert_eq!(site.given_ids(), [5, 6, 8]);
    site.pass(100);
    assert_eq!(site.given_ids(), [7]);
}

#[test]
fn a_queue_gives_no_more_at_a_time_than_it_was_told() {
    let site = Site::default();
    site.configure("q", Config { concurrency: Some(2), ..Config::default() });
    site.done(Command::Consume(consumer(1, "q", 2)));
    site.done(Command::Consume(consumer(2, "q", 2)));
    (0..3).for_each(|_| _ = site.put(message("q", "")));
    let given = site.given();
    assert_eq!(given.iter().map(|it| it.consumer).collect::<Vec<_>>(), [1, 2]);
    site.finish(&given[1]);
    assert_eq!(site.given_ids(), [3]);
}
