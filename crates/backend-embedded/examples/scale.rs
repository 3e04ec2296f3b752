//! What do work queues cost that have much: of memory, of time to open, of speed?
//!
//! ```text
//! cargo run --release -p posthaste-backend-embedded --example scale delayed [messages [payload bytes]]
//! cargo run --release -p posthaste-backend-embedded --example scale groups [messages [keys]]
//! cargo run --release -p posthaste-backend-embedded --example scale idle [queues]
//! cargo run --release -p posthaste-backend-embedded --example scale backlog [messages]
//! cargo run --release -p posthaste-backend-embedded --example scale expiry [messages]
//! ```
//!
//! - `delayed`: messages to be ready within a day, put in no order; then one that is ready in a second.
//! - `groups`: ready messages of many keys; then workers that take them, each the next when it has done the last.
//! - `idle`: queues that had a message once.
//! - `backlog`: puts into a queue that has so many messages, in turn with puts into an empty store.
//! - `expiry`: puts while so many messages of another queue expire at the same moment, and while so many become ready.
//!
//! The folder is in the system's temporary one. Each fills it in a process that is killed with SIGKILL, and opens it in another, whose
//! memory is measured: once after the kill, once after it was closed.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command as Process, Stdio};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use posthaste_backend_embedded::{Config, EmbeddedStore};
use posthaste_history::store::{Answer, Durability, Store as _, Timestamp, wait};
use posthaste_queue::{
    Command, Consume, Delivery, Depth, Effect, Outcome, Put, QueueName, Queues, Refusal, Select, Settle, State, Verdict,
};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const MIB: f64 = (1 << 20) as f64;
/// Messages put at once while a folder is filled.
const BATCH: u64 = 5_000;
/// Puts in flight where their speed is measured.
const IN_FLIGHT: usize = 64;
const DAY_MS: u64 = 86_400_000;

fn now() -> Timestamp {
    Timestamp(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64))
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|text| text.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()).unwrap_or(0) * 1_024
}

/// CPU time of this process, in seconds.
fn cpu() -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let of = |task: std::fs::DirEntry| {
        let stat = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        stat.split(' ').next()?.parse::<f64>().ok()
    };
    tasks.filter_map(of).sum::<f64>() / 1e9
}

fn random(number: u64) -> u64 {
    let mut z = number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn payload(number: u64, size: usize) -> Bytes {
    let mut payload = format!("{number} ").into_bytes();
    while payload.len() < size {
        payload.extend_from_slice(&random(number ^ (payload.len() as u64) << 32).to_le_bytes());
    }
    payload.truncate(size);
    payload.into()
}

fn percentiles(waits: &mut [Duration]) -> String {
    waits.sort_unstable();
    let at = |part: usize| waits.get(waits.len().saturating_sub(1) * part / 1_000).copied().unwrap_or_default();
    format!("p50 {:.2?}, p99 {:.2?}, p99.9 {:.2?}, max {:.2?}", at(500), at(990), at(999), at(1_000))
}

fn ask(queues: &Arc<dyn Queues>, command: Command) -> Result<Outcome> {
    Ok(wait(queues.ask(now(), command))??)
}

fn depth(queues: &Arc<dyn Queues>, queue: &QueueName) -> Result<Depth> {
    match ask(queues, Command::Stats(queue.clone()))? {
        Outcome::Depth(depth) => Ok(depth),
        other => Err(format!("no depth: {other:?}").into()),
    }
}

fn open(path: &Path) -> Result<(EmbeddedStore, Arc<dyn Queues>)> {
    let store = EmbeddedStore::open(Config::new(path))?;
    let queues = store.queues()?;
    Ok((store, queues))
}

/// Puts so many messages, a few batches at a time.
fn fill(queues: &Arc<dyn Queues>, count: u64, put: impl Fn(u64) -> Put) -> Result<()> {
    let mut waiting: VecDeque<Answer<std::result::Result<Outcome, Refusal>>> = VecDeque::new();
    for first in (0..count).step_by(BATCH as usize) {
        let puts = (first..count.min(first + BATCH)).map(&put).collect();
        waiting.push_back(queues.ask(now(), Command::Put(puts)));
        if waiting.len() > 2
            && let Some(answer) = waiting.pop_front()
        {
            wait(answer)??;
        }
    }
    for answer in waiting {
        wait(answer)??;
    }
    Ok(())
}

/// Tells whoever started this process that the folder is filled, and waits for the end.
fn filled() -> ! {
    println!("filled, {:.0} MiB of memory", resident() as f64 / MIB);
    loop {
        std::thread::park();
    }
}

/// Has this program do something in a process, which is killed when it has filled the folder.
fn in_process(arguments: &[&str]) -> Result<()> {
    let begin = Instant::now();
    let mut child = Process::new(std::env::current_exe()?).args(arguments).stdout(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
    while let Some(line) = lines.next().transpose()? {
        println!("  {line}");
        if line.starts_with("filled") {
            child.kill()?;
            child.wait()?;
            println!("  and killed after {:.1?}", begin.elapsed());
            return Ok(());
        }
    }
    if child.wait()?.success() { Ok(()) } else { Err("it failed".into()) }
}

/// Fills a folder in one process and looks at it in two others.
fn rounds(kind: &str, numbers: &[u64]) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("data");
    let path = path.to_str().ok_or("a path that is no text")?;
    let numbers: Vec<String> = numbers.iter().map(u64::to_string).collect();
    let run = |does: &str| {
        let does = format!("{does}-{kind}");
        let arguments = [&does, path].into_iter().chain(numbers.iter().map(String::as_str)).collect::<Vec<_>>();
        in_process(&arguments)
    };
    println!("{kind} {}:", numbers.join(" "));
    run("fill")?;
    for round in ["after the kill", "after it was closed"] {
        println!("{round}:");
        run("look")?;
    }
    Ok(())
}

/// Opens a folder; tells what that took.
fn look(path: &Path) -> Result<(EmbeddedStore, Arc<dyn Queues>)> {
    let empty = EmbeddedStore::open(Config::new(path.with_extension("empty")))?;
    let before = (empty.queues().map(drop), resident()).1;
    drop(empty);
    let begin = Instant::now();
    let (store, queues) = open(path)?;
    let took = begin.elapsed();
    let used = store.disk_use()?;
    println!(
        "open in {took:.2?}; {:.0} MiB of memory, of which {:.0} for what is there; {:.0} MiB of tables, {:.0} MiB of journals",
        resident() as f64 / MIB,
        resident().saturating_sub(before) as f64 / MIB,
        used.tables_bytes as f64 / MIB,
        used.journals_bytes as f64 / MIB,
    );
    Ok((store, queues))
}

/// How many puts a second, with so many in flight.
fn puts(queues: &Arc<dyn Queues>, queue: &QueueName, time: Duration) -> Result<()> {
    let mut waits = put_for(queues, queue, time)?;
    println!("puts into {queue}: {:.0}/s, {}", waits.len() as f64 / time.as_secs_f64(), percentiles(&mut waits));
    Ok(())
}

/// Puts into a deep queue and into an empty store, in turn: what both take of a disk whose speed changes.
fn puts_beside_empty(path: &Path, deep: (&Arc<dyn Queues>, &QueueName)) -> Result<()> {
    const TURNS: u32 = 12;
    let turn = Duration::from_millis(500);
    let (store, empty) = open(&path.with_extension(format!("empty-{}", std::process::id())))?;
    let queue: QueueName = "shallow".into();
    let (mut shallow_waits, mut deep_waits) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        shallow_waits.extend(put_for(&empty, &queue, turn)?);
        deep_waits.extend(put_for(deep.0, deep.1, turn)?);
    }
    let rate = |waits: &[Duration]| waits.len() as f64 / (turn * TURNS).as_secs_f64();
    let (shallow_rate, deep_rate) = (rate(&shallow_waits), rate(&deep_waits));
    println!("puts into an empty store: {shallow_rate:.0}/s, {}", percentiles(&mut shallow_waits));
    println!("puts into {}: {deep_rate:.0}/s, {}", deep.1, percentiles(&mut deep_waits));
    println!("{:.2} of the empty store's", deep_rate / shallow_rate);
    store.close()?;
    Ok(())
}

/// Puts for a while, so many in flight; what each took.
fn put_for(queues: &Arc<dyn Queues>, queue: &QueueName, time: Duration) -> Result<Vec<Duration>> {
    let mut waits = Vec::new();
    let begin = Instant::now();
    let mut flying: VecDeque<(Instant, Answer<std::result::Result<Outcome, Refusal>>)> = VecDeque::new();
    let body = payload(1, 200);
    while begin.elapsed() < time {
        while flying.len() < IN_FLIGHT {
            let put = Put::new(queue, body.clone(), Durability::Disk);
            flying.push_back((Instant::now(), queues.ask(now(), Command::Put(vec![put]))));
        }
        if let Some((at, answer)) = flying.pop_front() {
            wait(answer)??;
            waits.push(at.elapsed());
        }
    }
    for (_, answer) in flying {
        wait(answer)??;
    }
    Ok(waits)
}

/// What is given out from now on.
fn given(queues: &Arc<dyn Queues>) -> mpsc::Receiver<(Instant, Delivery)> {
    let (to, from) = mpsc::channel();
    queues.listen(Some(Arc::new(move |effects| {
        let at = Instant::now();
        for effect in effects {
            if let Effect::Granted(delivery) = effect {
                let _ = to.send((at, delivery));
            }
        }
    })));
    from
}

fn consumer(number: u64, queue: &QueueName, prefetch: u32, once: Option<u32>) -> Command {
    let (queue, bytes) = (queue.clone(), u64::MAX);
    Command::Consume(Consume { consumer: number, queue, prefetch, bytes, lease_ms: None, keys: None, once })
}

fn delayed(path: &Path, count: u64, size: usize) -> Result<()> {
    let (_store, queues) = open(path)?;
    let queue: QueueName = "later".into();
    let start = now().0 + DAY_MS / 24;
    let due = |number: u64| Some(Timestamp(start + random(number) % DAY_MS));
    fill(&queues, count, |number| Put {
        due: due(number),
        ..Put::new(&queue, payload(number, size), Durability::Disk)
    })?;
    filled()
}

fn look_delayed(path: &Path, count: u64) -> Result<()> {
    let (store, queues) = look(path)?;
    let queue: QueueName = "later".into();
    let there = depth(&queues, &queue)?.delayed;
    if there < count {
        return Err(format!("{there} delayed messages, not {count}").into());
    }
    puts(&queues, &"others".into(), Duration::from_secs(2))?;
    let given = given(&queues);
    ask(&queues, consumer(resident(), &queue, 1, None))?;
    let (asked, due) = (Instant::now(), now().0 + 1_000);
    let put = Put { due: Some(Timestamp(due)), ..Put::new(&queue, Bytes::from_static(b"soon"), Durability::Disk) };
    ask(&queues, Command::Put(vec![put]))?;
    println!("put for later in {:.2?}", asked.elapsed());
    let (_, delivery) = given.recv_timeout(Duration::from_secs(5))?;
    println!("given out {} ms after it was ready", now().0 as i64 - due as i64);
    ask(&queues, Command::Settle(vec![done(&delivery)]))?;
    queues.listen(None);
    close(store)
}

fn done(delivery: &Delivery) -> Settle {
    Settle { id: delivery.id, token: delivery.token, verdict: Verdict::Done(None) }
}

fn close(store: EmbeddedStore) -> Result<()> {
    let begin = Instant::now();
    println!("{:.0} MiB of memory by now", resident() as f64 / MIB);
    store.close()?;
    println!("closed in {:.2?}", begin.elapsed());
    Ok(())
}

fn groups(path: &Path, count: u64, keys: u64) -> Result<()> {
    let (_store, queues) = open(path)?;
    let queue: QueueName = "orders".into();
    let names: Vec<Arc<str>> = (0..keys).map(|key| format!("customer {key}").into()).collect();
    let key = |number: u64| names.get((random(number) % keys) as usize).cloned();
    fill(&queues, count, |number| Put {
        key: key(number),
        ..Put::new(&queue, payload(number, 200), Durability::Disk)
    })?;
    filled()
}

fn look_groups(path: &Path) -> Result<()> {
    let (store, queues) = look(path)?;
    let queue: QueueName = "orders".into();
    let given = given(&queues);
    let first = resident();
    // Pulls: each a consumer that takes one message.
    let mut waits = Vec::new();
    let mut held = Vec::new();
    for number in 0..2_000 {
        let begin = Instant::now();
        drop(queues.ask(now(), consumer(first + number, &queue, 1, Some(1))));
        let (at, delivery) = given.recv_timeout(Duration::from_secs(5))?;
        waits.push(at.duration_since(begin));
        held.push(done(&delivery));
    }
    println!("a pull of one: {}", percentiles(&mut waits));
    ask(&queues, Command::Settle(held))?;
    // Workers, which have the next when they have done the last.
    for number in 0..8 {
        ask(&queues, consumer(first + 10_000 + number, &queue, 8, None))?;
    }
    let (mut waits, mut count, begin) = (Vec::new(), 0_u64, Instant::now());
    let mut answers = VecDeque::new();
    let mut asked: VecDeque<Instant> = VecDeque::new();
    while begin.elapsed() < Duration::from_secs(4) {
        let (at, delivery) = given.recv_timeout(Duration::from_secs(5))?;
        // The first 64 come without anything being done.
        if count >= 64
            && let Some(since) = asked.pop_front()
        {
            waits.push(at.saturating_duration_since(since));
        }
        count += 1;
        asked.push_back(Instant::now());
        answers.push_back(queues.ask(now(), Command::Settle(vec![done(&delivery)])));
        if answers.len() > 256
            && let Some(answer) = answers.pop_front()
        {
            wait(answer)??;
        }
    }
    println!(
        "{:.0} jobs/s; done until the next is given: {}",
        count as f64 / begin.elapsed().as_secs_f64(),
        percentiles(&mut waits)
    );
    for answer in answers {
        wait(answer)??;
    }
    queues.listen(None);
    close(store)
}

fn idle(path: &Path, count: u64) -> Result<()> {
    let (_store, queues) = open(path)?;
    let name = |number: u64| QueueName::from(format!("queue:{number}"));
    fill(&queues, count, |number| Put::new(&name(number), payload(number, 200), Durability::Disk))?;
    for number in 0..count {
        let select = Select { states: vec![State::Ready], id: None, max: None };
        drop(queues.ask(now(), Command::Purge(name(number), select)));
        if number % 1_000 == 999 {
            depth(&queues, &name(number))?;
        }
    }
    ask(&queues, Command::Put(vec![Put::new(&name(0), payload(0, 200), Durability::Disk)]))?;
    filled()
}

fn look_idle(path: &Path, count: u64) -> Result<()> {
    let (store, queues) = look(path)?;
    // Tables are made of what was in the journal, once.
    for says in ["at first", "from then on"] {
        let before = (cpu(), Instant::now());
        std::thread::sleep(Duration::from_secs(4));
        let each_second = (cpu() - before.0) * 1_000.0 / before.1.elapsed().as_secs_f64();
        println!("{says} {each_second:.2} ms of CPU a second for {count} queues at rest");
    }
    puts(&queues, &"queue:1".into(), Duration::from_secs(2))?;
    close(store)
}

fn backlog(path: &Path, count: u64) -> Result<()> {
    let (_store, queues) = open(path)?;
    println!("nothing there: {:.0} MiB of memory", resident() as f64 / MIB);
    let queue: QueueName = "deep".into();
    fill(&queues, count, |number| Put::new(&queue, payload(number, 200), Durability::Disk))?;
    println!("{count} messages there: {:.0} MiB of memory", resident() as f64 / MIB);
    puts_beside_empty(path, (&queues, &queue))?;
    filled()
}

fn look_backlog(path: &Path) -> Result<()> {
    let (store, queues) = look(path)?;
    let queue: QueueName = "deep".into();
    puts_beside_empty(path, (&queues, &queue))?;
    let given = given(&queues);
    ask(&queues, consumer(resident(), &queue, 64, None))?;
    let (begin, mut count, mut answers) = (Instant::now(), 0_u64, VecDeque::new());
    while begin.elapsed() < Duration::from_secs(3) {
        let (_, delivery) = given.recv_timeout(Duration::from_secs(5))?;
        count += 1;
        answers.push_back(queues.ask(now(), Command::Settle(vec![done(&delivery)])));
        if answers.len() > 256
            && let Some(answer) = answers.pop_front()
        {
            wait(answer)??;
        }
    }
    println!("{:.0} jobs/s are done", count as f64 / begin.elapsed().as_secs_f64());
    for answer in answers {
        wait(answer)??;
    }
    queues.listen(None);
    close(store)
}

/// Puts while `count` messages have their moment, all the same one.
fn expiry(path: &Path, count: u64) -> Result<()> {
    let (_store, queues) = open(path)?;
    let other: QueueName = "others".into();
    puts(&queues, &other, Duration::from_secs(2))?;
    for (queue, says) in [("over", "expire"), ("later", "become ready")] {
        let queue: QueueName = queue.into();
        let at = Timestamp(now().0 + 5_000 + count / 50);
        fill(&queues, count, |number| {
            let mut put = Put::new(&queue, payload(number, 64), Durability::Disk);
            *(if says == "expire" { &mut put.expires } else { &mut put.due }) = Some(at);
            put
        })?;
        let left = at.0.checked_sub(now().0 + 500).ok_or("filled too slowly: the moment has passed")?;
        std::thread::sleep(Duration::from_millis(left));
        println!("while {count} {says}:");
        puts(&queues, &other, Duration::from_secs(5))?;
        let Depth { ready, delayed, .. } = depth(&queues, &queue)?;
        println!("{ready} are ready and {delayed} delayed 4.5 s behind the moment");
    }
    filled()
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |place: usize, otherwise: u64| arguments.get(place).map_or(Ok(otherwise), |text| text.parse());
    let path = || Path::new(arguments.get(1).map_or("", String::as_str));
    match arguments.first().map(String::as_str) {
        // One less than a queue takes, for the one that is looked for.
        Some("delayed") => rounds("delayed", &[number(1, 9_999_999)?, number(2, 64)?]),
        Some("fill-delayed") => delayed(path(), number(2, 0)?, number(3, 0)? as usize),
        Some("look-delayed") => look_delayed(path(), number(2, 0)?),
        Some("groups") => rounds("groups", &[number(1, 1_000_000)?, number(2, 10_000)?]),
        Some("fill-groups") => groups(path(), number(2, 0)?, number(3, 1)?),
        Some("look-groups") => look_groups(path()),
        Some("idle") => rounds("idle", &[number(1, 99_990)?]),
        Some("fill-idle") => idle(path(), number(2, 0)?),
        Some("look-idle") => look_idle(path(), number(2, 0)?),
        Some("backlog") => rounds("backlog", &[number(1, 5_000_000)?]),
        Some("fill-backlog") => backlog(path(), number(2, 0)?),
        Some("look-backlog") => look_backlog(path()),
        Some("expiry") => rounds("expiry", &[number(1, 1_000_000)?]),
        Some("fill-expiry") => expiry(path(), number(2, 0)?),
        Some("look-expiry") => look(path()).map(drop),
        _ => Err("delayed, groups, idle, backlog or expiry?".into()),
    }
}
