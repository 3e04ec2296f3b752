//! A process that is killed while it appends: whatever had its receipt is there when the folder is opened again.
//!
//! `POSTHASTE_KILLS` says how often; 12 times otherwise. The test runs itself as the process that is killed; receipts come over its standard output.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read as _};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use posthaste_backend_embedded::{Config, EmbeddedStore, verify};
use posthaste_history::Budget;
use posthaste_history::store::{Durability, Put, Range, Retention, Shard, Store, StreamName, Timestamp, Write, wait};

const FOLDER: &str = "POSTHASTE_KILL_FOLDER";
const PRODUCERS: u8 = 4;

fn stream(producer: u8) -> StreamName {
    format!("stream {producer}").into()
}

fn open(path: &str) -> (EmbeddedStore, Arc<dyn Shard>) {
    let store = EmbeddedStore::open(Config { retention: Retention::UNLIMITED, ..Config::new(path) }).expect("it opens");
    let shard = store.shard("/").expect("a shard");
    (store, shard)
}

/// The process that is killed.
#[test]
fn append_until_killed() {
    let Ok(path) = std::env::var(FOLDER) else { return };
    let (_store, shard) = open(&path);
    let threads: Vec<_> = (0..PRODUCERS)
        .map(|producer| {
            let (shard, stream) = (shard.clone(), stream(producer));
            std::thread::spawn(move || {
                for number in 0_u64.. {
                    let durability = if producer % 2 == 0 { Durability::Disk } else { Durability::Os };
                    let payload = Bytes::from(vec![producer; 1 + (number % 300) as usize]);
                    let writes =
                        (0..1 + number % 3).map(|_| Write::Put(Put::new(&stream, payload.clone(), durability)));
                    let receipts = wait(shard.commit(Timestamp(number), writes.collect())).expect("a receipt");
                    let last = receipts.last().expect("one");
                    // One line, one write: a line that is there was receipted.
                    println!("receipt {producer} {} {} .", last.n, last.position.pos);
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("it appends"));
}

#[test]
fn every_receipt_is_kept_through_kills() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_str().expect("a path").to_owned();
    let mut promised: BTreeMap<u8, (u64, u64)> = BTreeMap::new();
    let mut epoch = None;
    let this = std::env::current_exe().expect("this test");
    let rounds: u64 = std::env::var("POSTHASTE_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(12);
    for round in 0..rounds {
        let mut child = Command::new(&this)
            .args(["append_until_killed", "--exact", "--nocapture", "--test-threads=1"])
            .env(FOLDER, &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("a process");
        let mut lines = BufReader::new(child.stdout.take().expect("its output"));
        let mut note = |line: &str| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            if let [.., "receipt", producer, n, pos, "."] = fields[..] {
                let parse = |text: &str| text.parse::<u64>().expect("a number");
                promised.insert(parse(producer) as u8, (parse(n), parse(pos)));
            }
        };
        // Somewhere in the middle, another place each time: after so many receipts and so many microseconds.
        let mut line = String::new();
        for _ in 0..20 + round * 13 % 500 {
            line.clear();
            assert!(lines.read_line(&mut line).expect("a line") > 0, "it appends until it is killed");
            note(&line);
        }
        std::thread::sleep(Duration::from_micros(round * 331 % 3_000));
        child.kill().expect("it is killed");
        let mut rest = String::new();
        lines.read_to_string(&mut rest).expect("the rest");
        rest.split_inclusive('\n').filter(|line| line.ends_with('\n')).for_each(&mut note);
        child.wait().expect("it is gone");

        let (store, shard) = open(&path);
        let head = shard.head();
        assert_eq!(*epoch.get_or_insert(head.epoch), head.epoch, "a kill takes nothing that was written");
        for (producer, (n, pos)) in &promised {
            let stream = stream(*producer);
            let page = wait(shard.read(vec![Range::after(&stream, 0)], Budget::UNLIMITED)).expect("it reads");
            let numbers: Vec<u64> = page.messages.iter().map(|message| message.n).collect();
            assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>(), "no holes");
            let receipted = page.messages.get(*n as usize - 1).map(|message| message.pos);
            assert_eq!(receipted, Some(*pos), "round {round}: producer {producer} was promised {n}");
            assert!(page.messages.iter().all(|message| message.payload.iter().all(|byte| byte == producer)));
        }
        store.close().expect("it closes");
    }
    let report =
        verify(Config { retention: Retention::UNLIMITED, ..Config::new(&path) }, &mut |_| ()).expect("it opens");
    assert_eq!(report.damage, Vec::<String>::new());
    assert!(report.messages > 20 * rounds, "{report:?}");
}
