//! Looking after queues: pausing, draining, removing, looking.
#![allow(clippy::unwrap_used, reason = "tests: a failed expectation is the point")]

mod site;

use posthaste_history::store::Timestamp;
use posthaste_queue::*;
use site::*;

#[test]
fn a_paused_queue_gives_nothing_and_keeps_what_is_leased() {
    let site = Site::default();
    site.done(Command::Consume(consumer(1, "q", 2)));
    site.put(message("q", ""));
    let delivery = site.one();
    site.done(Command::Pause(name("q"), true));
    site.put(message("q", ""));
    assert_eq!(site.given_ids(), []);
    site.finish(&delivery);
    assert!(site.depth("q").is_paused);
    site.done(Command::Pause(name("q"), false));
    assert_eq!(site.given_ids(), [2]);
    assert_eq!(site.ask(Command::Pause(name("none"), true)).unwrap_err().code(), "unknown_queue");
}

#[test]
fn a_draining_queue_takes_nothing_and_is_worked_off() {
    let site = Site::default();
    site.put(message("q", ""));
    site.done(Command::Drain(name("q"), true));
    assert_eq!(site.receipt(message("q", "")), Err(Refusal::Draining(name("q"))));
    site.done(Command::Consume(consumer(1, "q", 2)));
    assert_eq!(site.given_ids(), [1]);
    site.done(Command::Drain(name("q"), false));
    site.put(message("q", ""));
}

/// One in each state: dead 1, leased 2, ready 3 and 4, delayed 5.
fn one_of_each() -> Site {
    let site = Site::default();
    site.done(Command::Consume(Consume { once: Some(2), ..consumer(1, "q", 2) }));
    (0..4).for_each(|_| _ = site.put(message("q", "")));
    site.put(Put { due: Some(Timestamp(site.now + 1_000)), ..message("q", "") });
    let given = site.given();
    site.settle(&given[0], Verdict::Dead { why: "why".into() }).unwrap();
    site.heard();
    assert_eq!(site.counts("q"), [2, 1, 1, 1]);
    site
}

#[test]
fn a_purge_removes_what_it_names() {
    let purge = |site: &Site, select| site.count(Command::Purge(name("q"), select));
    let site = one_of_each();
    assert_eq!(purge(&site, all(&[State::Ready])), 2);
    assert_eq!(site.counts("q"), [0, 1, 1, 1]);
    assert_eq!(purge(&site, all(&[State::Delayed, State::Dead])), 2);
    assert_eq!(site.heard(), []);
    assert_eq!(purge(&site, all(&[State::Leased])), 1);
    assert!(matches!(site.heard()[..], [Effect::Revoked { id: 2, why: Why::Removed, .. }]));
    assert_eq!(site.depth("q"), Depth::default());
    let site = one_of_each();
    assert_eq!(purge(&site, Select { max: Some(1), ..all(&[State::Ready, State::Delayed]) }), 1);
    assert_eq!(purge(&site, Select { id: Some(4), ..all(&[State::Delayed]) }), 0);
    assert_eq!(purge(&site, Select { id: Some(4), ..all(&[State::Ready]) }), 1);
    assert_eq!(site.counts("q"), [0, 1, 1, 1]);
}

#[test]
fn a_deleted_queue_is_gone_with_all_it_had() {
    let site = one_of_each();
    site.done(Command::Consume(Consume { keys: Some(vec!["k".into()]), ..consumer(2, "q", 2) }));
    site.done(Command::Delete(name("q")));
    assert!(matches!(site.heard()[..], [Effect::Revoked { id: 2, consumer: 1, .. }, Effect::Finished(2)]));
    assert_eq!(site.ask(Command::Stats(name("q"))).unwrap_err().code(), "unknown_queue");
    assert_eq!(site.ask(Command::Get(3)), Err(Refusal::UnknownMessage(3)));
    assert_eq!(site.put(message("q", "")), 6);
    assert_eq!(site.counts("q"), [1, 0, 0, 0]);
    assert_eq!(site.ask(Command::Hold(2)), Err(Refusal::UnknownConsumer));
}

#[test]
fn any_message_may_be_removed() {
    let site = one_of_each();
    for id in 1..=5 {
        site.done(Command::Remove(id));
    }
    assert!(matches!(site.heard()[..], [Effect::Revoked { id: 2, .. }]));
    assert_eq!(site.depth("q"), Depth::default());
    assert_eq!(site.ask(Command::Remove(1)), Err(Refusal::UnknownMessage(1)));
}

#[test]
fn looking_shows_each_state_and_changes_nothing() {
    let site = one_of_each();
    let ids = |state| site.peek("q", state).iter().map(|found| found.id).collect::<Vec<_>>();
    let states = [State::Ready, State::Leased, State::Delayed, State::Dead];
    assert_eq!(states.map(ids), [vec![3, 4], vec![2], vec![5], vec![1]]);
    let page = Command::Peek { queue: name("q"), state: State::Ready, after: 3, max: 1 };
    assert!(matches!(site.ask(page), Ok(Outcome::Page(found, _)) if found.len() == 1 && found[0].id == 4));
    assert_eq!(site.found(5).until, Some(Timestamp(site.now + 1_000)));
    assert_eq!(site.found(2).until, Some(Timestamp(site.now + 30_000)));
    assert_eq!(site.counts("q"), [2, 1, 1, 1]);
    assert_eq!(site.depth("q").oldest, Some(Timestamp(site.now)));
}

#[test]
fn a_look_at_large_messages_reads_some_of_them() {
    let site = Site::default();
    let payload = "x".repeat(1 << 20);
    let ids: Vec<MessageId> = (0..12).map(|_| site.put(message("q", &payload))).collect();
    let seen: Vec<MessageId> = site.peek("q", State::Ready).iter().map(|found| found.id).collect();
    assert_eq!(seen, ids[..8]);
    let peek = |after| site.ask(Command::Peek { queue: name("q"), state: State::Ready, after, max: 100 });
    assert!(matches!(peek(0), Ok(Outcome::Page(_, Some(next))) if next == ids[7]));
    assert!(matches!(peek(ids[7]), Ok(Outcome::Page(found, None)) if found.len() == 4));
}

#[test]
fn queues_are_listed_by_name() {
    let site = Site::default();
    for queue in ["b", "a", "c"] {
        site.put(message(queue, ""));
    }
    let list = |after: &str| match site.ask(Command::List { after: name(after), max: 2 }) {
        Ok(Outcome::Queues(queues)) => queues.into_iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!((list(""), list("b")), (vec!["a".into(), "b".into()], vec!["c".into()]));
    site.configure("a", Config { attempts: 9, ..Config::default() });
    assert!(matches!(site.ask(Command::Config(name("a"))), Ok(Outcome::Config(config)) if config.attempts == 9));
}
