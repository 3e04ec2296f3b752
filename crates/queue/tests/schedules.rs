//! What is put again and again.
#![allow(clippy::unwrap_used, reason = "tests: a failed expectation is the point")]

mod site;

use bytes::Bytes;
use posthaste_history::store::{Durability, Timestamp};
use posthaste_queue::*;
use site::*;

fn every(seconds: u64, payload: &str) -> Schedule {
    let (when, missed) = (When::Every { ms: seconds * 1_000 }, Missed::Once);
    Schedule { when, missed, put: message("q", payload), ttl_ms: None }
}

fn plan(site: &Site, named: &str, schedule: &Schedule) -> Result<Scheduled, Refusal> {
    let command = Command::Schedule { name: name(named), schedule: Box::new(schedule.clone()), is_paused: None };
    seen(site.ask(command)?)
}

fn seen(outcome: Outcome) -> Result<Scheduled, Refusal> {
    match outcome {
        Outcome::Schedules(mut all) => Ok(all.remove(0).1),
        other => panic!("{other:?}"),
    }
}

fn look(site: &Site, named: &str) -> Scheduled {
    seen(site.ask(Command::GetSchedule(name(named))).unwrap()).unwrap()
}

#[test]
fn a_worker_is_told_for_which_time_a_job_is() {
    let mut site = Site::default();
    let mut schedule = every(60, "report");
    schedule.put.headers = Bytes::from_static(br#" { "a": [1] } "#);
    assert_eq!(plan(&site, "nightly", &schedule).unwrap().next, Timestamp(1_020_000));
    site.done(Command::Consume(consumer(1, "q", 1)));
    site.pass(30_000);
    let given = site.one();
    assert_eq!(&given.payload[..], b"report");
    assert_eq!(&given.headers[..], br#"{"a": [1],"schedule":{"name":"nightly","time":1020000}}"#);
    let last = look(&site, "nightly").last.unwrap();
    assert_eq!((last.time.0, last.at.0, last.id), (1_020_000, 1_030_000, given.id));
}

#[test]
fn what_a_full_queue_refuses_is_put_when_it_has_room() {
    let mut site = Site::default();
    site.configure("q", Config { max_messages: 1, ..Config::default() });
    let before = site.put(message("q", "before"));
    plan(&site, "s", &every(10, "due")).unwrap();
    site.pass(10_000);
    assert_eq!((look(&site, "s").problem, look(&site, "s").count), (Some("queue_full"), 0));
    assert_eq!(site.queues.tick(Timestamp(site.now)), Some(Timestamp(1_011_000)), "it is tried again");
    site.done(Command::Remove(before));
    site.pass(1_000);
    let there = look(&site, "s");
    assert_eq!((there.problem, there.count, there.next), (None, 1, Timestamp(1_020_000)));
    assert_eq!(there.last.unwrap().time, Timestamp(1_010_000));
    assert_eq!(site.counts("q"), [1, 0, 0, 0]);
}

#[test]
fn what_was_missed_fits_one_by_one() {
    let mut site = Site::default();
    site.configure("q", Config { max_messages: 3, ..Config::default() });
    plan(&site, "s", &Schedule { missed: Missed::All { max: 100 }, ..every(10, "due") }).unwrap();
    site.pass(55_000);
    let there = look(&site, "s");
    assert_eq!((there.count, there.next, there.problem), (3, Timestamp(1_040_000), Some("queue_full")));
    site.ask(Command::Purge(name("q"), all(&[State::Ready]))).unwrap();
    site.pass(1_000);
    assert_eq!((look(&site, "s").count, look(&site, "s").next), (5, Timestamp(1_060_000)));
}

#[test]
fn one_that_is_refused_keeps_no_other_waiting() {
    let mut site = Site::default();
    site.configure("q", Config::default());
    site.done(Command::Drain(name("q"), true));
    plan(&site, "a", &every(10, "refused")).unwrap();
    let mut other = every(10, "taken");
    other.put.queue = name("r");
    plan(&site, "b", &other).unwrap();
    site.pass(10_000);
    assert_eq!((look(&site, "a").problem, site.counts("r")), (Some("draining"), [1, 0, 0, 0]));
}

#[test]
fn a_clock_that_was_set_back_puts_nothing_again() {
    let mut site = Site::default();
    plan(&site, "s", &every(10, "due")).unwrap();
    site.pass(30_000);
    assert_eq!(site.counts("q"), [1, 0, 0, 0], "forward: one for all that was missed");
    site.now -= 25_000;
    site.pass(24_999);
    assert_eq!(site.counts("q"), [1, 0, 0, 0]);
    site.pass(10_001);
    assert_eq!(site.counts("q"), [2, 0, 0, 0]);
}

#[test]
fn a_key_of_its_own_is_used_instead() {
    let mut site = Site::default();
    let mut schedule = every(10, "one at a time");
    schedule.put.dedup = Some(Dedup { key: "s".into(), mode: DedupMode::UntilDone, window_ms: None });
    plan(&site, "s", &schedule).unwrap();
    site.pass(10_000);
    site.pass(10_000);
    assert_eq!(site.counts("q"), [1, 0, 0, 0], "the first is not done yet");
    site.done(Command::Consume(consumer(1, "q", 1)));
    site.finish(&site.one());
    site.pass(10_000);
    assert_eq!(site.counts("q"), [0, 1, 0, 0]);
}

#[test]
fn what_another_node_put_for_the_same_time_is_not_put_again() {
    let mut site = Site::default();
    plan(&site, "s", &every(10, "due")).unwrap();
    let key = Schedule::key("s", Timestamp(1_010_000));
    let dedup = Some(Dedup { key, mode: DedupMode::Reject, window_ms: None });
    let other = site.put(Put { dedup, ..message("q", "due") });
    site.pass(10_000);
    assert_eq!((site.counts("q"), look(&site, "s").last.unwrap().id), ([1, 0, 0, 0], other));
}

#[test]
fn schedules_are_bounded_in_number_and_bytes() {
    let site = Site::default();
    let mut large = every(10, "");
    large.put.payload = vec![0; Schedule::MAX_PAYLOAD].into();
    let refused = (0..2_000).find_map(|number| plan(&site, &format!("large:{number}"), &large).err());
    assert_eq!(refused.unwrap().code(), "too_many");
    let site = Site::default();
    for number in 0..Schedule::MAX_COUNT {
        plan(&site, &number.to_string(), &every(10, "")).unwrap();
    }
    assert_eq!(plan(&site, "more", &every(10, "")).unwrap_err().code(), "too_many");
    plan(&site, "7", &every(20, "")).unwrap();
}

#[test]
fn a_schedule_makes_no_queue_where_only_configuring_does() {
    let mut site = Site::with(Limits { makes_queues: false, ..MemoryQueues::limits() });
    assert_eq!(plan(&site, "s", &every(10, "")).unwrap_err().code(), "unknown_queue");
    site.configure("q", Config::default());
    plan(&site, "s", &every(10, "")).unwrap();
    site.done(Command::Delete(name("q")));
    site.pass(10_000);
    assert_eq!(look(&site, "s").problem, Some("unknown_queue"));
}

#[test]
fn more_is_promised_than_there_is() {
    let mut schedule = every(10, "");
    schedule.put.durability = Durability::Disk;
    assert_eq!(plan(&Site::default(), "s", &schedule).unwrap_err().code(), "invalid");
}
