//! What is bounded, what is remembered, and for how long.

mod site;

use posthaste_history::store::Timestamp;
use posthaste_queue::*;
use site::*;

fn dedup(queue: &str, key: &str, mode: DedupMode, payload: &str) -> Put {
    Put { dedup: Some(Dedup { key: key.into(), mode, window_ms: None }), ..message(queue, payload) }
}

#[test]
fn a_full_queue_refuses_exactly_one_too_many() {
    let site = Site::default();
    site.configure("q", Config { max_messages: 2, ..Config::default() });
    let three = || vec![message("q", ""), message("q", ""), message("q", "")];
    assert_eq!(site.ask(Command::Put(three())).unwrap_err().code(), "queue_full");
    assert_eq!(site.counts("q"), [0; 4]);
    site.put(message("q", ""));
    site.put(message("q", ""));
    let bytes = 2 * Put::OVERHEAD;
    assert_eq!(site.receipt(message("q", "")), Err(Refusal::Full { queue: name("q"), messages: 2, bytes }));
    site.done(Command::Consume(consumer(1, "q", 1)));
    assert_eq!(site.receipt(message("q", "")).unwrap_err().code(), "queue_full", "what is leased counts");
    let delivery = site.one();
    site.finish(&delivery);
    site.put(message("q", ""));
}

#[test]
fn bytes_are_bounded_too() {
    let site = Site::default();
    site.configure("q", Config { max_bytes: 2 * Put::OVERHEAD + 10, ..Config::default() });
    site.put(message("q", "12345"));
    assert_eq!(site.receipt(message("q", "123456")).unwrap_err().code(), "queue_full");
    site.put(message("q", "12345"));
    assert_eq!(site.depth("q").bytes, 2 * Put::OVERHEAD + 10);
}

#[test]
fn the_oldest_goes_for_a_new_one() {
    let site = Site::default();
    site.configure("q", Config { max_messages: 2, overflow: Overflow::DropOldest, ..Config::default() });
    site.put(Put { due: Some(Timestamp(site.now + 1_000)), ..message("q", "") });
    site.put(message("q", ""));
    site.put(message("q", ""));
    assert_eq!(site.peek("q", State::Ready).iter().map(|found| found.id).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(site.counts("q"), [2, 0, 0, 0]);
    site.done(Command::Consume(consumer(1, "q", 2)));
    assert_eq!(site.receipt(message("q", "")).unwrap_err().code(), "queue_full", "what is leased stays");
    let huge = Config { max_bytes: 100, overflow: Overflow::DropOldest, ..Config::default() };
    site.configure("r", huge);
    assert_eq!(site.receipt(message("r", "")).unwrap_err().code(), "queue_full");
}

#[test]
fn the_oldest_is_dead_for_a_new_one() {
    let site = Site::default();
    let (overflow, dead_letter) = (Overflow::DeadLetterOldest, Some(name("dead")));
    site.put(message("q", "first"));
    site.configure("q", Config { max_messages: 2, overflow, dead_letter, ..Config::default() });
    site.ask(Command::Put(vec![message("q", "second"), message("q", "third"), message("q", "fourth")])).unwrap();
    assert_eq!(site.counts("q"), [2, 0, 0, 2]);
    let forwarded = site.peek("dead", State::Ready);
    let payloads: Vec<_> = forwarded.iter().map(|found| &found.payload[..]).collect();
    assert_eq!(payloads, [&b"first"[..], b"second"], "the second one was put in the same step");
    assert_eq!(site.peek("q", State::Dead)[0].rest.failures, 0);
}

#[test]
fn a_key_is_put_once_within_its_window() {
    let mut site = Site::default();
    let first = site.receipt(dedup("q", "k", DedupMode::Reject, "")).unwrap();
    assert!(!first.dup);
    let again = site.receipt(dedup("q", "k", DedupMode::Reject, "")).unwrap();
    assert_eq!((again.id, again.dup), (first.id, true));
    assert!(!site.receipt(dedup("r", "k", DedupMode::Reject, "")).unwrap().dup, "each queue has its own");
    site.done(Command::Remove(first.id));
    site.pass(299_999);
    assert!(site.receipt(dedup("q", "k", DedupMode::Reject, "")).unwrap().dup, "whether it has ended or not");
    site.pass(1);
    assert!(!site.receipt(dedup("q", "k", DedupMode::Reject, "")).unwrap().dup);
    let both = vec![dedup("s", "k", DedupMode::Reject, ""), dedup("s", "k", DedupMode::Reject, "")];
    let Ok(Outcome::Put(receipts)) = site.ask(Command::Put(both)) else { panic!() };
    assert_eq!((receipts[0].id, receipts[0].dup, receipts[1].dup), (receipts[1].id, false, true));
}

#[test]
fn a_key_may_last_until_its_message_is_done() {
    let mut site = Site::default();
    site.done(Command::Consume(consumer(1, "q", 1)));
    let first = site.receipt(dedup("q", "k", DedupMode::UntilDone, "")).unwrap();
    let delivery = site.one();
    site.pass(20_000);
    assert_eq!(site.receipt(dedup("q", "k", DedupMode::UntilDone, "")).unwrap().id, first.id);
    site.finish(&delivery);
    assert!(!site.receipt(dedup("q", "k", DedupMode::UntilDone, "")).unwrap().dup);
}

#[test]
fn a_newer_message_takes_the_place_of_one_that_nobody_has() {
    let site = Site::default();
    site.configure("q", Config { max_messages: 1, ..Config::default() });
    let first = site.receipt(dedup("q", "k", DedupMode::Replace, "old")).unwrap();
    let second = site.receipt(dedup("q", "k", DedupMode::Replace, "new")).unwrap();
    assert!(second.id > first.id && !second.dup);
    assert_eq!(site.counts("q"), [1, 0, 0, 0], "the place of the first one is free for it");
    site.configure("q", Config::default());
    site.done(Command::Consume(consumer(1, "q", 1)));
    assert_eq!(&site.one().payload[..], b"new");
    site.receipt(dedup("q", "k", DedupMode::Replace, "newer")).unwrap();
    assert_eq!(site.counts("q"), [1, 1, 0, 0], "what is leased stays");
}

#[test]
fn a_duplicate_is_answered_by_a_full_queue() {
    let site = Site::default();
    site.configure("q", Config { max_messages: 1, ..Config::default() });
    site.put(dedup("q", "k", DedupMode::Reject, ""));
    assert!(site.receipt(dedup("q", "k", DedupMode::Reject, "")).unwrap().dup);
}

#[test]
fn the_oldest_key_is_forgotten_first() {
    let site = Site::default();
    site.configure("q", Config { max_dedup_keys: 2, ..Config::default() });
    for key in ["a", "b", "c"] {
        site.put(dedup("q", key, DedupMode::Reject, ""));
    }
    let is_dup = |key| site.receipt(dedup("q", key, DedupMode::Reject, "")).unwrap().dup;
    assert_eq!([is_dup("c"), is_dup("b"), is_dup("a")], [true, true, false]);
}

#[test]
fn what_nobody_needs_any_more_ends_unless_it_is_leased() {
    let mut site = Site::default();
    site.configure("q", Config { ttl_ms: Some(1_000), ..Config::default() });
    site.done(Command::Consume(consumer(1, "q", 1)));
    site.put(message("q", ""));
    site.put(message("q", ""));
    site.put(Put { expires: Some(Timestamp(site.now + 5_000)), ..message("q", "") });
    let delivery = site.one();
    site.pass(1_000);
    assert_eq!(site.counts("q"), [1, 1, 0, 0]);
    assert_eq!(site.heard(), [Effect::Ended { queue: name("q"), id: 2, end: End::Expired }]);
    site.settle(&delivery, Verdict::Release).unwrap();
    let heard = site.heard();
    assert!(heard.contains(&Effect::Ended { queue: name("q"), id: 1, end: End::Expired }), "{heard:?}");
    assert!(matches!(heard.first(), Some(Effect::Granted(Delivery { id: 3, .. }))), "{heard:?}");
}

#[test]
fn results_are_kept_for_so_long() {
    let mut site = Site::default();
    site.done(Command::Consume(consumer(1, "q", 1)));
    site.put(Put { keep_result_ms: Some(1_000), ..message("q", "") });
    let delivery = site.one();
    let end = End::Done(Some("42".into()));
    site.settle(&delivery, Verdict::Done(Some("42".into()))).unwrap();
    assert_eq!(site.heard(), [Effect::Ended { queue: name("q"), id: 1, end: end.clone() }]);
    assert_eq!(site.ask(Command::Get(1)), Ok(Outcome::Ended(name("q"), end)));
    site.pass(1_000);
    assert_eq!(site.ask(Command::Get(1)), Err(Refusal::UnknownMessage(1)));
    site.put(message("q", ""));
    let plain = site.one();
    site.finish(&plain);
    assert_eq!(site.heard(), [], "nobody is told of those that keep nothing");
}

#[test]
fn queues_and_consumers_are_counted() {
    let limits = Limits { max_queues: 1, max_consumers: 1, ..MemoryQueues::limits() };
    let site = Site::with(limits);
    site.put(message("a", ""));
    assert_eq!(site.receipt(message("b", "")), Err(Refusal::TooMany { what: "queues", max: 1 }));
    site.done(Command::Consume(consumer(1, "a", 1)));
    assert_eq!(site.ask(Command::Consume(consumer(2, "a", 1))).unwrap_err().code(), "too_many");
    site.done(Command::Stop(1, Stop::Keep));
    site.done(Command::Consume(consumer(2, "a", 1)));
    let both = vec![message("c", ""), message("d", "")];
    let site = Site::with(Limits { max_queues: 1, ..MemoryQueues::limits() });
    assert_eq!(site.ask(Command::Put(both)).unwrap_err().code(), "too_many");
    assert_eq!(site.ask(Command::List { after: name(""), max: 10 }), Ok(Outcome::Queues(vec![])));
    site.ask(Command::Put(vec![message("c", ""), message("c", "")])).unwrap();
}

#[test]
fn queues_may_have_to_be_made_on_purpose() {
    let site = Site::with(Limits { makes_queues: false, ..MemoryQueues::limits() });
    assert_eq!(site.receipt(message("q", "")), Err(Refusal::UnknownQueue(name("q"))));
    assert_eq!(site.ask(Command::Consume(consumer(1, "q", 1))).unwrap_err().code(), "unknown_queue");
    site.configure("q", Config::default());
    site.put(message("q", ""));
}
