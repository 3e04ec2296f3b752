//! How many durable appends a second does the store reach, and how many does the engine alone?
//!
//! `cargo run --release -p posthaste-backend-embedded --example appends [seconds [payload bytes]]`: 64 producers, each waiting
//! for its receipt, each on a stream of its own. The engine alone is what group commit with fjall and nothing else reaches: the same
//! producers, one thread that gathers what they ask for, writes it as one batch and syncs.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fjall::{Database, KeyspaceCreateOptions, PersistMode};
use posthaste_backend_embedded::{Config, EmbeddedStore};
use posthaste_history::store::{Durability, Put, Retention, Store as _, StreamName, Timestamp, Write, wait};

const PRODUCERS: usize = 64;

/// Runs 64 producers of `append` (producer, number) for a while. Returns appends per second and the 50th and 99th percentile of a wait.
fn measure(time: Duration, append: impl Fn(usize, u64) + Send + Sync + 'static) -> (f64, Duration, Duration) {
    let (append, is_over, count) = (Arc::new(append), Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let begin = Instant::now();
    let producer = |producer| {
        let (append, is_over, count) = (append.clone(), is_over.clone(), count.clone());
        std::thread::spawn(move || {
            let mut waits = Vec::new();
            for number in 0.. {
                let asked = Instant::now();
                append(producer, number);
                waits.push(asked.elapsed());
                count.fetch_add(1, Ordering::Relaxed);
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
            }
            waits
        })
    };
    let producers: Vec<_> = (0..PRODUCERS).map(producer).collect();
    std::thread::sleep(time);
    let rate = count.load(Ordering::Relaxed) as f64 / begin.elapsed().as_secs_f64();
    is_over.store(true, Ordering::Relaxed);
    let mut waits: Vec<Duration> = producers.into_iter().flat_map(|it| it.join().unwrap_or_default()).collect();
    waits.sort_unstable();
    let percentile = |part: usize| waits.get(waits.len() * part / 100).copied().unwrap_or_default();
    (rate, percentile(50), percentile(99))
}

fn engine_alone(time: Duration, size: usize) -> Result<(f64, Duration, Duration), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let engine = Database::builder(folder.path()).manual_journal_persist(true).open()?;
    let options = || KeyspaceCreateOptions::default().manual_journal_persist(true);
    let messages = engine.keyspace("messages", options)?;
    let (ask, asked) = mpsc::channel::<([u8; 16], Vec<u8>, mpsc::SyncSender<()>)>();
    let committer = std::thread::spawn(move || -> Result<(), fjall::Error> {
        while let Ok(first) = asked.recv() {
            let mut batch = engine.batch();
            let mut waiting = Vec::new();
            for (key, value, reply) in std::iter::once(first).chain(asked.try_iter()) {
                batch.insert(&messages, key, value);
                waiting.push(reply);
            }
            batch.commit()?;
            engine.persist(PersistMode::SyncData)?;
            for reply in waiting {
                let _ = reply.send(());
            }
        }
        Ok(())
    });
    let figures = measure(time, move |producer, number| {
        let key = [(producer as u64).to_be_bytes(), number.to_be_bytes()].concat();
        let (reply, answer) = mpsc::sync_channel(1);
        let key = <[u8; 16]>::try_from(key).unwrap_or_default();
        if ask.send((key, vec![b'x'; size], reply)).is_ok() {
            let _ = answer.recv();
        }
    });
    committer.join().map_err(|_| "the committer panicked")??;
    Ok(figures)
}

fn with_store(time: Duration, size: usize) -> Result<(f64, Duration, Duration), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let config = Config { retention: Retention::UNLIMITED, ..Config::new(folder.path()) };
    let store = EmbeddedStore::open(config)?;
    let shard = store.shard("/")?;
    let streams: Vec<StreamName> = (0..PRODUCERS).map(|producer| format!("stream {producer}").into()).collect();
    let appending = shard.clone();
    let payload = Bytes::from(vec![b'x'; size]);
    let figures = measure(time, move |producer, number| {
        let put = Put::new(&streams[producer], payload.clone(), Durability::Disk);
        if let Err(error) = wait(appending.commit(Timestamp(number), vec![Write::Put(put)])) {
            eprintln!("{error}");
        }
    });
    let stats = shard.stats();
    println!("  {} messages in {} groups, {} syncs", stats.messages, stats.groups, stats.syncs);
    store.close()?;
    Ok(figures)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let seconds = arguments.next().map_or(Ok(4), |text| text.parse())?;
    let size = arguments.next().map_or(Ok(128), |text| text.parse())?;
    let time = Duration::from_secs(seconds);
    println!("{PRODUCERS} producers, {size} bytes, a sync before each receipt, {seconds} s");
    for _ in 0..2 {
        let (alone, p50, p99) = engine_alone(time, size)?;
        println!("engine alone: {alone:.0}/s, p50 {p50:?}, p99 {p99:?}");
        let (store, p50, p99) = with_store(time, size)?;
        println!("store:        {store:.0}/s, p50 {p50:?}, p99 {p99:?}: {:.2} of the engine alone", store / alone);
    }
    Ok(())
}
