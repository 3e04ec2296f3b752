//! What does the store take: of the disk under retention, of time to open after a kill, of memory for idle inboxes, of the disk for names?
//!
//! ```text
//! cargo run --release -p posthaste-backend-embedded --example disk retention [MiB written [MiB kept [streams]]]
//! cargo run --release -p posthaste-backend-embedded --example disk reopen [MiB kept]
//! cargo run --release -p posthaste-backend-embedded --example disk inboxes [number]
//! cargo run --release -p posthaste-backend-embedded --example disk names [number]
//! cargo run --release -p posthaste-backend-embedded --example disk sync [seconds]
//! ```
//!
//! `sync` is the disk without a store, the floor of all that waits for it: 300 bytes written over zeros, and synced, back to back and
//! 200 times a second.
//!
//! The folder is in the system's temporary one. `reopen` and `inboxes` run themselves as the process that fills the folder; it is
//! killed with SIGKILL when it has.

use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use posthaste_backend_embedded::{Config, EmbeddedStore};
use posthaste_history::Budget;
use posthaste_history::store::{
    Durability, Put, Range, Retention, Shard, Store as _, StoreError, StreamName, Timestamp, Write, wait,
};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const MIB: u64 = 1 << 20;
/// Of a message's payload.
const SIZE: usize = 960;
/// Messages in one commit.
const BATCH: u64 = 64;

fn config(path: &Path) -> Config {
    Config { retention: Retention::UNLIMITED, ..Config::new(path) }
}

fn now() -> Timestamp {
    Timestamp(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64))
}

/// What this process had written to the disk, in bytes.
fn written() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    line.and_then(|bytes| bytes.parse().ok()).unwrap_or(0)
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|text| text.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()).unwrap_or(0) * 1_024
}

fn stream(number: u64) -> StreamName {
    format!("stream {number}").into()
}

fn payload(number: u64) -> Bytes {
    let mut state = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(SIZE);
    while bytes.len() < SIZE {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.into()
}

/// Writes so much in turn to so many streams. Returns how long each commit took.
fn write(shard: &dyn Shard, bytes: u64, streams: u64) -> Result<Vec<Duration>> {
    let names: Vec<StreamName> = (0..streams).map(stream).collect();
    let mut waits = Vec::new();
    let each = SIZE as u64 + Put::OVERHEAD;
    for first in (0..bytes / each).step_by(BATCH as usize) {
        let put = |number: u64| {
            let name = &names[(number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20) as usize % names.len()];
            Write::Put(Put::new(name, payload(number), Durability::Disk))
        };
        let begin = Instant::now();
        wait(shard.commit(now(), (first..first + BATCH).map(put).collect()))?;
        waits.push(begin.elapsed());
    }
    Ok(waits)
}

fn retention(total: u64, kept: u64, streams: u64) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let store = EmbeddedStore::open(config(&folder.path().join("data")))?;
    let shard = store.shard("/")?;
    let limit = Retention { max_bytes: kept * MIB / streams, ..Retention::UNLIMITED };
    for number in 0..streams {
        wait(shard.commit(now(), vec![Write::Retain { stream: stream(number), retention: limit }]))?;
    }
    let begin = Instant::now();
    let waits = write(&*shard, total * MIB, streams)?;
    let took = begin.elapsed();
    let at = thousandths(waits);
    println!(
        "{total} MiB through {kept} MiB in {streams} streams: {took:.1?}, {:.0} MiB/s",
        total as f64 / took.as_secs_f64()
    );
    println!(
        "  a commit of {BATCH}: p50 {:.1?}, p99 {:.1?}, p99.9 {:.1?}, max {:.1?}",
        at(500),
        at(990),
        at(999),
        at(1_000)
    );
    let busy = store.disk_use()?;
    println!(
        "  while writing: {} MiB of tables, {} MiB of journals",
        busy.tables_bytes / MIB,
        busy.journals_bytes / MIB
    );
    wait(shard.retain(now()))?;
    let (mut last, mut since) = (0, Instant::now());
    while since.elapsed() < Duration::from_secs(3) {
        std::thread::sleep(Duration::from_millis(100));
        let found = store.disk_use()?;
        let all = found.tables_bytes + found.journals_bytes;
        if all != last {
            (last, since) = (all, Instant::now());
        }
    }
    let (live, used) = (shard.stats().bytes, store.disk_use()?);
    let all = used.tables_bytes + used.journals_bytes;
    println!(
        "  after retention: {:.1} MiB live, {:.1} MiB of tables, {:.1} MiB of journals: {:.2} of what is live",
        live as f64 / MIB as f64,
        used.tables_bytes as f64 / MIB as f64,
        used.journals_bytes as f64 / MIB as f64,
        all as f64 / live as f64
    );
    println!("  written to the disk: {:.2} times the payload", written() as f64 / (total * MIB) as f64);
    Ok(())
}

/// Has this program fill a folder in a process that is killed then.
fn filled(arguments: &[&str]) -> Result<()> {
    let mut child = Command::new(std::env::current_exe()?).args(arguments).stdout(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(child.stdout.take().ok_or("no output")?);
    let mut line = String::new();
    lines.read_line(&mut line)?;
    child.kill()?;
    child.wait()?;
    if line.trim() != "filled" { Err(format!("it did not fill the folder: {line}").into()) } else { Ok(()) }
}

fn done() -> ! {
    println!("filled");
    loop {
        std::thread::park();
    }
}

fn reopen(kept: u64) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("data");
    let text = path.to_str().ok_or("a path that is no text")?;
    filled(&["fill", text, &kept.to_string()])?;
    for round in ["after a kill", "after it was closed"] {
        let begin = Instant::now();
        let store = EmbeddedStore::open(config(&path))?;
        let took = begin.elapsed();
        let shard = store.shard("/")?;
        let page = wait(shard.read(vec![Range::after(&stream(0), 0)], Budget { max_events: 10, max_bytes: 1 << 20 }))?;
        let used = store.disk_use()?;
        println!(
            "{} MiB, {} messages, {round}: open in {took:.2?}, 10 messages read in {:.2?}; {} MiB of tables, {} MiB of journals",
            shard.stats().bytes / MIB,
            shard.stats().messages,
            begin.elapsed() - took,
            used.tables_bytes / MIB,
            used.journals_bytes / MIB,
        );
        assert_eq!(page.messages.len(), 10);
        let begin = Instant::now();
        store.close()?;
        println!("  closed in {:.2?}", begin.elapsed());
    }
    Ok(())
}

fn inbox(number: u64) -> StreamName {
    format!("user:{number:032}").into()
}

fn device(number: u64) -> Arc<str> {
    if number.is_multiple_of(2) { "phone".into() } else { "laptop".into() }
}

/// Inboxes with a cursor each; in every second one, a message waits.
fn fill_inboxes(path: &Path, count: u64) -> Result<Arc<dyn Shard>> {
    let store = EmbeddedStore::open(config(path))?;
    let shard = store.shard("/")?;
    let limits = Retention { until_passed: true, max_age_ms: 30 * 86_400_000, ..Retention::UNLIMITED };
    for first in (0..count).step_by(1_000) {
        let mut writes = Vec::new();
        for number in first..(first + 1_000).min(count) {
            let stream = inbox(number);
            writes.push(Write::Retain { stream: stream.clone(), retention: limits });
            writes.push(Write::Cursor { stream: stream.clone(), device: device(number), pos: 0 });
            if number.is_multiple_of(2) {
                writes.push(Write::Put(Put::new(&stream, Bytes::from_static(&[b'x'; 128]), Durability::Os)));
            }
        }
        wait(shard.commit(now(), writes))?;
    }
    std::mem::forget(store);
    Ok(shard)
}

fn inboxes(count: u64) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("data");
    let text = path.to_str().ok_or("a path that is no text")?;
    let begin = Instant::now();
    filled(&["fill-inboxes", text, &count.to_string()])?;
    println!("{count} inboxes filled in {:.1?}, and killed", begin.elapsed());
    for round in ["after a kill", "after it was closed"] {
        println!("{round}:");
        let looks = Command::new(std::env::current_exe()?).args(["look", text, &count.to_string()]).status()?;
        if !looks.success() {
            return Err("it did not look".into());
        }
    }
    Ok(())
}

/// Opens a folder of inboxes, in a process of its own: its memory is measured.
fn look(path: &Path, count: u64) -> Result<()> {
    let empty = EmbeddedStore::open(config(&path.with_extension("empty")))?;
    let _shard = empty.shard("/")?;
    let before = resident();
    let each = || resident().saturating_sub(before) as f64 / count as f64;
    let begin = Instant::now();
    let store = EmbeddedStore::open(config(path))?;
    let shard = store.shard("/")?;
    let streams = shard.stats().streams;
    let opened = begin.elapsed();
    let journals = store.disk_use()?.journals_bytes as f64 / f64::from(1 << 20);
    println!(
        "  open in {opened:.2?}, {streams} streams, {:.0} bytes of memory for each, {journals:.1} MiB of journals",
        each()
    );
    std::thread::sleep(Duration::from_secs(5));
    let journals = store.disk_use()?.journals_bytes as f64 / f64::from(1 << 20);
    println!("  five seconds later {:.0} bytes, {journals:.1} MiB of journals", each());
    let (begin, looks) = (Instant::now(), 10_000);
    for number in 0..looks {
        let name = inbox(number * 7_919 % count);
        assert!(shard.stream(&name).is_some());
        assert_eq!(wait(shard.cursors(&name))?.len(), 1);
    }
    println!("  looking one and its cursors up: {:.1?}", begin.elapsed() / looks as u32);
    let begin = Instant::now();
    let passed = (0..10_000).map(|number| number * 104_729 % count).map(|number| Write::Cursor {
        stream: inbox(number),
        device: device(number),
        pos: shard.head().pos,
    });
    wait(shard.commit(now(), passed.collect()))?;
    println!("  moving 10,000 cursors in one commit: {:.1?}", begin.elapsed());
    let begin = Instant::now();
    wait(shard.retain(now()))?;
    println!("  retention with nothing due: {:.1?}; {:.0} bytes of memory each by now", begin.elapsed(), each());
    Ok(store.close()?)
}

/// How long so many thousandths of the waits took at most: of 1,000, the longest.
fn thousandths(mut waits: Vec<Duration>) -> impl Fn(usize) -> Duration {
    waits.sort_unstable();
    move |part| waits.get(waits.len().saturating_sub(1) * part / 1_000).copied().unwrap_or_default()
}

/// Names that were used once, and are dropped.
fn names(count: u64) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let store = EmbeddedStore::open(config(&folder.path().join("data")))?;
    let shard = store.shard("/")?;
    for first in (0..count).step_by(1_000) {
        let numbers = first..(first + 1_000).min(count);
        let put = |number| Write::Put(Put::new(&stream(number), Bytes::from_static(&[b'x'; 128]), Durability::Os));
        wait(shard.commit(now(), numbers.clone().map(put).collect()))?;
        let through = shard.head().pos;
        wait(shard.commit(now(), numbers.map(|number| Write::Trim { stream: stream(number), through }).collect()))?;
    }
    let says = |what: &str| -> Result<()> {
        store.compact()?;
        let tables = store.disk_use()?.tables_bytes;
        println!("{what}: {} streams, {:.1} MiB of tables", shard.stats().streams, tables as f64 / MIB as f64);
        Ok(())
    };
    says("used once")?;
    let (begin, through) = (Instant::now(), shard.head().pos);
    // A store drops so many at once; then others have their turn.
    let drop_all = || -> std::result::Result<u64, StoreError> {
        let mut dropped = 0;
        loop {
            match wait(shard.drop_idle(through))? {
                0 => return Ok(dropped),
                some => dropped += some,
            }
        }
    };
    let mut waits = Vec::new();
    let other = stream(count);
    std::thread::scope(|scope| {
        let drops = scope.spawn(drop_all);
        while !drops.is_finished() {
            let at = Instant::now();
            wait(shard.commit(now(), vec![Write::Put(Put::new(&other, Bytes::from_static(b"x"), Durability::Disk))]))?;
            waits.push(at.elapsed());
        }
        let dropped = drops.join().map_err(|_| "the drop panicked")??;
        println!("{dropped} dropped in {:.1?}", begin.elapsed());
        Ok::<_, Box<dyn std::error::Error>>(())
    })?;
    let (commits, at) = (waits.len(), thousandths(waits));
    println!("commits meanwhile: {commits}, p50 {:.2?}, p99 {:.1?}, at most {:.1?}", at(500), at(990), at(1_000));
    says("then")?;
    Ok(store.close()?)
}

/// How long a small write and its sync take.
fn sync(time: Duration) -> Result<()> {
    let mut file = tempfile::tempfile()?;
    file.write_all(&vec![0; 64 << 20])?;
    file.sync_all()?;
    file.seek(SeekFrom::Start(0))?;
    for (says, rest) in [("back to back", Duration::ZERO), ("200 a second", Duration::from_millis(5))] {
        let (begin, mut waits) = (Instant::now(), Vec::new());
        while begin.elapsed() < time {
            std::thread::sleep(rest);
            let at = Instant::now();
            file.write_all(&[b'x'; 300])?;
            file.sync_data()?;
            waits.push(at.elapsed());
        }
        let at = thousandths(waits);
        println!("{says}: p50 {:.2?}, p99 {:.2?}, p99.9 {:.2?}", at(500), at(990), at(999));
    }
    Ok(())
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |place: usize, otherwise: u64| arguments.get(place).map_or(Ok(otherwise), |text| text.parse());
    match arguments.first().map(String::as_str) {
        Some("retention") => retention(number(1, 1_024)?, number(2, 64)?, number(3, 1)?),
        Some("reopen") => reopen(number(1, 1_024)?),
        Some("look") => look(Path::new(&arguments[1]), number(2, 0)?),
        Some("sync") => sync(Duration::from_secs(number(1, 5)?)),
        Some("inboxes") => inboxes(number(1, 1_000_000)?),
        Some("names") => names(number(1, 1_000_000)?),
        Some("fill") => {
            let store = EmbeddedStore::open(config(Path::new(&arguments[1])))?;
            write(&*store.shard("/")?, number(2, 0)? * MIB, 100)?;
            done()
        }
        Some("fill-inboxes") => {
            let _shard = fill_inboxes(Path::new(&arguments[1]), number(2, 0)?)?;
            done()
        }
        _ => Err("retention, reopen, inboxes, names or sync?".into()),
    }
}
