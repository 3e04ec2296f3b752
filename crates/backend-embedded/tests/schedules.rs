//! Schedules of a process that is killed again and again: each time is put once, and none is left out.
//!
//! `POSTHASTE_KILLS` says how often; 10 times otherwise. The test runs itself as the process that is killed. Its day is fifty times as fast as
//! others, so that it is time every twenty milliseconds.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use posthaste_backend_embedded::{Clock, Config, EmbeddedStore, verify};
use posthaste_history::store::{Durability, Store as _, Timestamp, wait};
use posthaste_queue::{Command as Asked, Missed, Outcome, Put, Queues, Refusal, Schedule, Scheduled, State, When};

const FOLDER: &str = "POSTHASTE_KILL_FOLDER";
const SPEED: u64 = 50;

/// A day that began when this file was written.
fn fast(path: &str) -> Clock {
    let began = std::fs::metadata(format!("{path}/began")).and_then(|file| file.modified()).expect("a time");
    Clock::Told(Arc::new(move || {
        let gone = SystemTime::now().duration_since(began).unwrap_or_default();
        Timestamp(1_700_000_000_000 + gone.as_millis() as u64 * SPEED)
    }))
}

fn open(path: &str, clock: Clock) -> (EmbeddedStore, Arc<dyn Queues>) {
    let config = Config { reserved_bytes: 0, clock, ..Config::new(format!("{path}/data")) };
    let store = EmbeddedStore::open(config).expect("it opens");
    let queues = store.queues().expect("queues");
    (store, queues)
}

fn ask(queues: &Arc<dyn Queues>, command: Asked) -> Result<Outcome, Refusal> {
    wait(queues.ask(Timestamp(0), command)).expect("an answer")
}

fn scheduled(queues: &Arc<dyn Queues>, name: &str) -> Scheduled {
    match ask(queues, Asked::GetSchedule(name.into())) {
        Ok(Outcome::Schedules(mut found)) => found.remove(0).1,
        other => panic!("{other:?}"),
    }
}

/// The process that is killed.
#[test]
fn put_until_killed() {
    let Ok(path) = std::env::var(FOLDER) else { return };
    let (_store, queues) = open(&path, fast(&path));
    for (name, when) in [("every", When::Every { ms: 1_000 }), ("cron", When::cron("*/2 * * * * *"))] {
        let put = Put::new(&"q".into(), Bytes::from_static(b"due"), Durability::Disk);
        let schedule = Schedule { when, missed: Missed::All { max: 1_000 }, put, ttl_ms: None };
        // Told at each start, and the same each time.
        let schedule = Asked::Schedule { name: name.into(), schedule: Box::new(schedule), is_paused: None };
        ask(&queues, schedule).expect("it is scheduled");
    }
    let mut said = 0;
    loop {
        let count = scheduled(&queues, "every").count;
        if count > said {
            println!("put {count}");
            said = count;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// For which times there are messages, and how many, by schedule.
fn times(queues: &Arc<dyn Queues>) -> BTreeMap<String, Vec<u64>> {
    let mut times: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let mut after = 0;
    loop {
        let page = match ask(queues, Asked::Peek { queue: "q".into(), state: State::Ready, after, max: 1_000 }) {
            Ok(Outcome::Page(page, _)) => page,
            other => panic!("{other:?}"),
        };
        let Some(last) = page.last() else { return times };
        after = last.id;
        for message in page {
            let headers: serde_json::Value = serde_json::from_slice(&message.headers).expect("an object");
            let of = &headers["schedule"];
            let name = of["name"].as_str().expect("a name").to_owned();
            times.entry(name).or_default().push(of["time"].as_u64().expect("a time"));
        }
    }
}

#[test]
fn each_time_is_put_once_through_kills() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_str().expect("a path").to_owned();
    std::fs::write(format!("{path}/began"), "").expect("a file");
    let this = std::env::current_exe().expect("this test");
    let rounds: u64 = std::env::var("POSTHASTE_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(10);
    let mut before = 0;
    for round in 0..rounds {
        let mut child = Command::new(&this)
            .args(["put_until_killed", "--exact", "--nocapture", "--test-threads=1"])
            .env(FOLDER, &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("a process");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let mut count = || lines.find_map(|line| line.expect("a line").strip_prefix("put ")?.parse::<u64>().ok());
        // After some that were put by this process, in the middle of whatever comes then.
        for _ in 0..1 + round % 4 {
            before = before.max(count().expect("it goes on until it is killed"));
        }
        std::thread::sleep(Duration::from_micros(round * 3_331 % 20_000));
        child.kill().expect("it is killed");
        child.wait().expect("it is gone");

        // Nothing more is due in a day that stands still.
        let (store, queues) = open(&path, Clock::Told(Arc::new(|| Timestamp(0))));
        let seen = times(&queues);
        for (name, step) in [("every", 1_000), ("cron", 2_000)] {
            let Some(seen) = seen.get(name) else {
                assert_eq!(scheduled(&queues, name).count, 0, "round {round}: {name} was killed before its first time");
                continue;
            };
            let expected: Vec<u64> = (0..seen.len() as u64).map(|place| seen[0] + place * step).collect();
            assert_eq!(*seen, expected, "round {round}: {name}");
            let there = scheduled(&queues, name);
            assert_eq!((there.count, there.next.0), (seen.len() as u64, seen[0] + seen.len() as u64 * step));
            assert_eq!(there.last.expect("it put something").time.0, seen[seen.len() - 1]);
        }
        assert!(scheduled(&queues, "every").count >= before, "round {round}: what was seen is there");
        store.close().expect("it closes");
    }
    let report = verify(Config::new(format!("{path}/data")), &mut |_| ()).expect("it opens");
    assert_eq!(report.damage, Vec::<String>::new());
}
