//! How many durable appends a second does the store reach, and how many does the engine alone?
//!
//! `cargo run --release -p posthaste-backend-embedded --example appends [seconds [payload bytes [publishers [memtable MiB [journal MiB]]]]]`: 64 publishers, each a
//! task that waits for its receipt before it goes on, each on a stream of its own, all on one thread. The engine alone is what group
//! commit with fjall and nothing else reaches: the same publishers, one thread that gathers what they ask for, writes it as one batch
//! and syncs. Then both in turns at half of the store's median rate, with waits from when a message was due: what a disk that stops now
//! and then leaves of them.

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fjall::{Database, KeyspaceCreateOptions, PersistMode};
use posthaste_backend_embedded::{Config, EmbeddedStore};
use posthaste_history::store::{Durability, Put, Retention, Store as _, StreamName, Timestamp, Write};
use tokio::sync::oneshot;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[derive(Clone, Copy)]
struct Load {
    time: Duration,
    size: usize,
    publishers: usize,
    /// Appends a second, of all together; as fast as it goes otherwise.
    rate: Option<f64>,
    memtable_bytes: u64,
    journal_bytes: u64,
}

struct Figures {
    rate: f64,
    waits: Vec<Duration>,
}

impl Figures {
    fn percentile(&self, part: usize) -> Duration {
        self.waits.get(self.waits.len() * part / 1_000).copied().unwrap_or_default()
    }

    fn text(&self) -> String {
        let at = |part| self.percentile(part);
        let longest = self.waits.last().copied().unwrap_or_default();
        format!(
            "{:.0}/s, p50 {:.2?}, p99 {:.2?}, p99.9 {:.2?}, max {longest:.2?}",
            self.rate,
            at(500),
            at(990),
            at(999)
        )
    }
}

/// Runs publishers of `append` (publisher, number) for a while.
fn measure<F: Future<Output = ()> + 'static>(
    load: Load,
    append: impl Fn(usize, u64) -> F + 'static,
) -> Result<Figures> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let (append, waits) = (Rc::new(append), Rc::new(RefCell::new(Vec::new())));
    let tasks = tokio::task::LocalSet::new();
    let begin = Instant::now();
    for publisher in 0..load.publishers {
        let (append, waits) = (append.clone(), waits.clone());
        let between = load.rate.map(|rate| Duration::from_secs_f64(load.publishers as f64 / rate));
        tasks.spawn_local(async move {
            let mut due = begin + between.unwrap_or_default().mul_f64(publisher as f64 / load.publishers as f64);
            for number in 0.. {
                match between {
                    Some(between) => {
                        tokio::time::sleep_until(due.into()).await;
                        due += between;
                    }
                    None => due = Instant::now(),
                }
                let asked = between.map_or(due, |between| due - between);
                append(publisher, number).await;
                waits.borrow_mut().push(asked.elapsed());
                if begin.elapsed() > load.time {
                    break;
                }
            }
        });
    }
    runtime.block_on(tasks);
    let took = begin.elapsed();
    let mut waits = std::mem::take(&mut *waits.borrow_mut());
    waits.sort_unstable();
    Ok(Figures { rate: waits.len() as f64 / took.as_secs_f64(), waits })
}

fn engine_alone(load: Load) -> Result<Figures> {
    let folder = tempfile::tempdir()?;
    let engine = Database::builder(folder.path()).manual_journal_persist(true).open()?;
    let options = || KeyspaceCreateOptions::default().manual_journal_persist(true);
    let messages = engine.keyspace("messages", options)?;
    let (ask, asked) = mpsc::channel::<([u8; 16], Vec<u8>, oneshot::Sender<()>)>();
    let committer = std::thread::spawn(move || -> std::result::Result<(), fjall::Error> {
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
    let size = load.size;
    let figures = measure(load, move |publisher, number| {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&(publisher as u64).to_be_bytes());
        key[8..].copy_from_slice(&number.to_be_bytes());
        let (reply, answer) = oneshot::channel();
        let is_asked = ask.send((key, vec![b'x'; size], reply)).is_ok();
        async move {
            if is_asked {
                let _ = answer.await;
            }
        }
    })?;
    committer.join().map_err(|_| "the committer panicked")??;
    Ok(figures)
}

fn with_store(load: Load) -> Result<(Figures, f64)> {
    let folder = tempfile::tempdir()?;
    let Load { memtable_bytes, journal_bytes, .. } = load;
    let config = Config::new(folder.path().join("data"));
    let config = Config { retention: Retention::UNLIMITED, memtable_bytes, journal_bytes, ..config };
    let store = EmbeddedStore::open(config)?;
    let shard = store.shard("/")?;
    let streams: Vec<StreamName> = (0..load.publishers).map(|it| format!("stream {it}").into()).collect();
    let (appending, payload) = (shard.clone(), Bytes::from(vec![b'x'; load.size]));
    let figures = measure(load, move |publisher, number| {
        let put = Put::new(&streams[publisher], payload.clone(), Durability::Disk);
        let receipt = appending.commit(Timestamp(number), vec![Write::Put(put)]);
        async move {
            if let Err(error) = receipt.await {
                eprintln!("{error}");
            }
        }
    })?;
    let stats = shard.stats();
    store.close()?;
    Ok((figures, stats.messages as f64 / stats.syncs as f64))
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |otherwise: usize| arguments.next().map_or(Ok(otherwise), |text| text.parse());
    let (seconds, size, publishers) = (number(4)?, number(128)?, number(64)?);
    let defaults = Config::new("");
    let [memtable_bytes, journal_bytes] =
        [defaults.memtable_bytes, defaults.journal_bytes].map(|otherwise| number((otherwise >> 20) as usize));
    let (memtable_bytes, journal_bytes) = ((memtable_bytes? as u64) << 20, (journal_bytes? as u64) << 20);
    let time = Duration::from_secs(seconds as u64);
    let load = Load { time, size, publishers, rate: None, memtable_bytes, journal_bytes };
    println!("{publishers} publishers, {size} bytes, a sync before each receipt, {seconds} s each");
    let mut rates = Vec::new();
    for _ in 0..3 {
        let alone = engine_alone(load)?;
        println!("engine alone: {}", alone.text());
        let (store, group) = with_store(load)?;
        println!(
            "store:        {}: {:.2} of the engine alone, {group:.0} to a sync",
            store.text(),
            store.rate / alone.rate
        );
        rates.push(store.rate);
    }
    rates.sort_by(f64::total_cmp);
    let half = Load { rate: rates.get(1).map(|rate| rate / 2.0), time: Duration::from_secs(1), ..load };
    let (mut alone, mut store) = (Vec::new(), Vec::new());
    for _ in 0..seconds.max(1) {
        alone.extend(engine_alone(half)?.waits);
        store.extend(with_store(half)?.0.waits);
    }
    for (says, mut waits) in [("the engine alone", alone), ("the store", store)] {
        waits.sort_unstable();
        let rate = waits.len() as f64 / seconds.max(1) as f64;
        println!("{says} at half of that: {}", Figures { rate, waits }.text());
    }
    Ok(())
}
