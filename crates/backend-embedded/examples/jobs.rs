//! How many jobs a second do queues on a disk take in and give out, without a network?
//!
//! `cargo run --release -p posthaste-backend-embedded --example jobs [seconds [payload bytes [in flight]]]`: as many producers as jobs
//! in flight, each a task that waits for its receipt before it goes on. First puts alone; then jobs all the way, where a producer puts
//! the next when a worker has done the last: put, synced, leased, done, synced. Then 200 puts a second, and how long it is from the put
//! to the worker.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use posthaste_backend_embedded::{Config, EmbeddedStore};
use posthaste_history::store::{Durability, Timestamp};
use posthaste_queue::{Command, Consume, Delivery, Effect, Outcome, Put, QueueName, Queues, Settle, Verdict};
use tokio::sync::{mpsc, oneshot};
use tokio::task::LocalSet;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn now() -> Timestamp {
    Timestamp(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64)
}

fn percentile(waits: &mut [Duration], part: usize) -> Duration {
    waits.sort_unstable();
    waits.get(waits.len() * part / 100).copied().unwrap_or_default()
}

/// What identifies a put within a payload: which producer, and when.
fn payload(size: usize, producer: usize, at: Duration) -> Bytes {
    let mut payload = format!("{producer} {} ", at.as_nanos()).into_bytes();
    payload.resize(size.max(payload.len()), b'.');
    Bytes::from(payload)
}

fn who(payload: &[u8]) -> Option<(usize, Duration)> {
    let mut words = std::str::from_utf8(payload).ok()?.split(' ');
    Some((words.next()?.parse().ok()?, Duration::from_nanos(words.next()?.parse().ok()?)))
}

async fn put(queues: &Arc<dyn Queues>, queue: &QueueName, payload: Bytes) -> Result<()> {
    let put = Put::new(queue, payload, Durability::Disk);
    match queues.ask(now(), Command::Put(vec![put])).await?? {
        Outcome::Put(_) => Ok(()),
        other => Err(format!("no receipt: {other:?}").into()),
    }
}

async fn puts(queues: Arc<dyn Queues>, time: Duration, size: usize, producers: usize) -> Result<()> {
    let queue: QueueName = "puts".into();
    let begin = Instant::now();
    let tasks = (0..producers).map(|producer| {
        let (queues, queue) = (queues.clone(), queue.clone());
        tokio::task::spawn_local(async move {
            let mut waits = Vec::new();
            while begin.elapsed() < time {
                let at = Instant::now();
                put(&queues, &queue, payload(size, producer, Duration::ZERO)).await.expect("a receipt");
                waits.push(at.elapsed());
            }
            waits
        })
    });
    let mut waits = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        waits.append(&mut task.await?);
    }
    let rate = waits.len() as f64 / begin.elapsed().as_secs_f64();
    println!(
        "puts           {rate:>8.0}/s   p50 {:.2?}   p99 {:.2?}",
        percentile(&mut waits, 50),
        percentile(&mut waits, 99)
    );
    queues.ask(now(), Command::Delete(queue)).await??;
    Ok(())
}

/// Jobs that are given out, settled at once and told to their producers.
async fn work(
    queues: Arc<dyn Queues>,
    mut given: mpsc::UnboundedReceiver<Vec<Delivery>>,
    done: Rc<RefCell<Vec<Option<oneshot::Sender<()>>>>>,
    seen: Rc<RefCell<Vec<Duration>>>,
    begin: Instant,
) {
    while let Some(deliveries) = given.recv().await {
        let settles = deliveries.iter().map(|it| Settle { id: it.id, token: it.token, verdict: Verdict::Done(None) });
        let answer = queues.ask(now(), Command::Settle(settles.collect()));
        for delivery in &deliveries {
            if let Some((_, at)) = who(&delivery.payload) {
                seen.borrow_mut().push(begin.elapsed().saturating_sub(at));
            }
        }
        let done = done.clone();
        tokio::task::spawn_local(async move {
            answer.await.expect("the store works").expect("settled");
            for delivery in deliveries {
                if let Some((producer, _)) = who(&delivery.payload)
                    && let Some(waits) = done.borrow_mut().get_mut(producer).and_then(Option::take)
                {
                    let _ = waits.send(());
                }
            }
        });
    }
}

async fn jobs(queues: Arc<dyn Queues>, time: Duration, size: usize, producers: usize, rate: Option<f64>) -> Result<()> {
    let queue: QueueName = if rate.is_some() { "calm".into() } else { "busy".into() };
    let begin = Instant::now();
    let (to, given) = mpsc::unbounded_channel();
    queues.listen(Some(Arc::new(move |effects| {
        let granted = effects.into_iter().filter_map(|it| if let Effect::Granted(it) = it { Some(it) } else { None });
        let _ = to.send(granted.collect());
    })));
    let done = Rc::new(RefCell::new((0..producers).map(|_| None).collect::<Vec<_>>()));
    let seen = Rc::<RefCell<Vec<Duration>>>::default();
    let worker = tokio::task::spawn_local(work(queues.clone(), given, done.clone(), seen.clone(), begin));
    for consumer in 0..8 {
        let consume = Consume {
            consumer: consumer + if rate.is_some() { 100 } else { 0 },
            queue: queue.clone(),
            prefetch: 8,
            bytes: u64::MAX,
            lease_ms: None,
            keys: None,
            once: None,
        };
        queues.ask(now(), Command::Consume(consume)).await??;
    }
    let tasks = (0..producers).map(|producer| {
        let (queues, queue, done) = (queues.clone(), queue.clone(), done.clone());
        tokio::task::spawn_local(async move {
            let mut count = 0u64;
            while begin.elapsed() < time {
                let (told, tells) = oneshot::channel();
                done.borrow_mut()[producer] = Some(told);
                put(&queues, &queue, payload(size, producer, begin.elapsed())).await.expect("a receipt");
                tells.await.expect("it is done");
                count += 1;
                if let Some(rate) = rate {
                    tokio::time::sleep(Duration::from_secs_f64(producers as f64 / rate)).await;
                }
            }
            count
        })
    });
    let mut count = 0;
    for task in tasks.collect::<Vec<_>>() {
        count += task.await?;
    }
    let rate = count as f64 / begin.elapsed().as_secs_f64();
    let seen = &mut *seen.borrow_mut();
    let (p50, p99) = (percentile(seen, 50), percentile(seen, 99));
    println!("{queue:<5} jobs     {rate:>8.0}/s   put to worker p50 {p50:.2?}   p99 {p99:.2?}");
    queues.listen(None);
    worker.abort();
    Ok(())
}

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let mut number = |default: u64| args.next().map_or(Ok(default), |it| it.parse());
    let (seconds, size, in_flight) = (number(5)?, number(200)? as usize, number(64)? as usize);
    let time = Duration::from_secs(seconds);
    let folder = tempfile::tempdir_in(".")?;
    let store = EmbeddedStore::open(Config::new(folder.path().join("data")))?;
    let queues = store.queues()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    LocalSet::new().block_on(&runtime, async {
        puts(queues.clone(), time, size, in_flight).await?;
        jobs(queues.clone(), time, size, in_flight, None).await?;
        jobs(queues.clone(), time, size, 2, Some(200.0)).await
    })
}
