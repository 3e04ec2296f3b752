//! Streams of which nothing is kept are forgotten, and the disk with them.

mod image;

use std::sync::Arc;

use bytes::Bytes;
use posthaste_backend_embedded::{Config, EmbeddedStore, verify};
use posthaste_history::Budget;
use posthaste_history::store::{
    Durability, Put, Range, Receipt, Retention, Shard, Store, StreamInfo, StreamName, Timestamp, Write, wait,
};
use tempfile::TempDir;

use image::{end_of, image, journals, reopened_with};

fn config(folder: &TempDir) -> Config {
    Config { retention: Retention::UNLIMITED, ..Config::new(folder.path().join("data")) }
}

fn open(config: &Config) -> (EmbeddedStore, Arc<dyn Shard>) {
    let store = EmbeddedStore::open(config.clone()).expect("it opens");
    let shard = store.shard("/").expect("a shard");
    (store, shard)
}

fn name(number: usize) -> StreamName {
    format!("stream {number}").into()
}

fn put(number: usize, text: &'static str) -> Write {
    let put = Put::new(&name(number), Bytes::from_static(text.as_bytes()), Durability::Disk);
    Write::Put(Put { key: Some(Bytes::from_static(text.as_bytes())), ..put })
}

fn commit(shard: &dyn Shard, writes: Vec<Write>) -> Vec<Receipt> {
    wait(shard.commit(Timestamp(1), writes)).expect("it is taken")
}

/// Each in a commit of its own.
fn fill(shard: &dyn Shard, numbers: impl IntoIterator<Item = usize>, text: &'static str) {
    let answers: Vec<_> =
        numbers.into_iter().map(|number| shard.commit(Timestamp(1), vec![put(number, text)])).collect();
    answers.into_iter().for_each(|answer| assert!(!wait(answer).expect("it is taken")[0].dup));
}

fn empty(shard: &dyn Shard, numbers: impl IntoIterator<Item = usize>) {
    let through = shard.head().pos;
    commit(shard, numbers.into_iter().map(|number| Write::Trim { stream: name(number), through }).collect());
}

fn drop_idle(shard: &dyn Shard, through: u64) -> u64 {
    wait(shard.drop_idle(through)).expect("they are dropped")
}

fn info(shard: &dyn Shard, number: usize) -> StreamInfo {
    shard.look_up(&name(number)).expect("it reads").unwrap_or_default()
}

fn texts(shard: &dyn Shard, number: usize) -> Vec<(u64, Bytes)> {
    let page = wait(shard.read(vec![Range::after(&name(number), 0)], Budget::UNLIMITED)).expect("it reads");
    page.messages.into_iter().map(|message| (message.n, message.payload)).collect()
}

/// How many heads, names of streams, and messages are on the disk of a store that is closed.
fn on_disk(config: &Config) -> [usize; 3] {
    let engine = image::engine(config);
    let keyspace = |name| engine.keyspace(name, fjall::KeyspaceCreateOptions::default).expect("a keyspace");
    let heads = keyspace("heads");
    [heads.prefix(b"h").count(), heads.prefix(b"n").count(), keyspace("messages").iter().count()]
}

#[test]
fn what_nothing_is_kept_of_leaves_the_disk() {
    const ALL: usize = 1_000;
    let folder = tempfile::tempdir().expect("a folder");
    // Most heads are on the disk alone.
    let config = Config { hot_streams: 50, ..config(&folder) };
    let (store, shard) = open(&config);
    fill(&*shard, 0..ALL, "first");
    let idle_since = shard.head().pos;
    empty(&*shard, (0..ALL).filter(|number| number % 100 != 0));
    commit(&*shard, vec![Write::Cursor { stream: name(1), device: "phone".into(), pos: 2 }]);
    fill(&*shard, [2], "second");
    empty(&*shard, [2]);
    // Those that are empty but for an inbox, and one that something came in since.
    assert_eq!(drop_idle(&*shard, idle_since), (ALL - ALL / 100 - 2) as u64);
    assert_eq!(drop_idle(&*shard, idle_since), 0);
    let check = |shard: &dyn Shard| {
        assert_eq!(shard.stats().streams, (ALL / 100 + 2) as u64);
        let last = ALL as u64;
        assert_eq!(info(shard, 3), StreamInfo { head: last, floor: last, ..StreamInfo::default() }, "it was dropped");
        assert_eq!(info(shard, ALL + 5), info(shard, 3), "it never was");
        assert_eq!(texts(shard, 100), [(1, Bytes::from_static(b"first"))]);
        assert_eq!(info(shard, 100).floor, 0, "what is there is as it was");
        assert_eq!(wait(shard.cursors(&name(1))).expect("it reads").len(), 1);
        assert_eq!((info(shard, 2).n, info(shard, 2).messages), (2, 0));
    };
    check(&*shard);
    let (_image, _, killed) = reopened_with(&config, |_| ());
    check(&*killed.expect("it opens").shard("/").expect("a shard"));
    // They come again, and their keys are as new.
    fill(&*shard, [3, ALL + 5], "first");
    let expected = StreamInfo { head: ALL as u64 + 2, floor: ALL as u64, n: 1, messages: 1, bytes: 5 + Put::OVERHEAD };
    assert_eq!(info(&*shard, 3), expected);
    store.close().expect("it closes");
    drop((store, shard));
    let there = ALL / 100 + 4;
    // What is forgotten of those that were not dropped is compaction's.
    let forgotten = 3;
    assert_eq!(on_disk(&config), [there, there, ALL / 100 + 2 + forgotten]);
    assert_eq!(verify(config.clone(), &mut |_| ()).expect("it opens").damage, Vec::<String>::new());
    let (_store, shard) = open(&config);
    assert_eq!(info(&*shard, 3), expected);
}

/// Whatever part of the journal is lost behind a synced beginning: a stream is as it was, or dropped, or there again.
#[test]
fn wherever_it_ends_it_opens() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = config(&folder);
    let (_store, shard) = open(&config);
    fill(&*shard, 0..6, "first");
    let journal = journals(&config).pop().expect("a journal");
    let begin = end_of(&std::fs::read(&journal).expect("a journal"));
    empty(&*shard, 0..4);
    assert_eq!(drop_idle(&*shard, 3), 3);
    fill(&*shard, [1], "second");
    fill(&*shard, [5], "second");
    empty(&*shard, [5]);
    assert_eq!(drop_idle(&*shard, 8), 2);
    fill(&*shard, [5], "third");
    fill(&*shard, [1], "third");
    let end = end_of(&std::fs::read(&journal).expect("a journal"));
    let mut seen = std::collections::BTreeSet::new();
    for cut in (begin..end).step_by(((end - begin) / 100).max(1)).chain([end]) {
        let (_folder, image, store) = reopened_with(&config, |bytes| bytes[cut..].fill(0));
        let store = store.unwrap_or_else(|error| panic!("cut at {cut} of {begin} to {end}: {error}"));
        let shard = store.shard("/").expect("a shard");
        let what = |number| {
            let (info, texts) = (info(&*shard, number), texts(&*shard, number));
            assert_eq!(info.messages, texts.len() as u64, "cut at {cut}");
            let floor_is_behind = texts.is_empty() || info.floor < info.head;
            assert!(floor_is_behind && info.floor <= info.head, "cut at {cut}: {info:?}");
            (info.n, texts.into_iter().map(|(_, text)| String::from_utf8_lossy(&text).into_owned()).collect::<Vec<_>>())
        };
        seen.insert((what(1), what(5)));
        assert_eq!(texts(&*shard, 4).len(), 1, "cut at {cut}: nobody touched it");
        fill(&*shard, [0, 1, 5], "behind");
        drop(shard);
        store.close().expect("it closes");
        drop(store);
        assert_eq!(verify(image, &mut |_| ()).expect("it opens").damage, Vec::<String>::new(), "cut at {cut}");
    }
    let state = |one: (u64, &[&str]), five: (u64, &[&str])| {
        let owned = |(n, texts): (u64, &[&str])| (n, texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
        (owned(one), owned(five))
    };
    let expected = [
        state((1, &["first"]), (1, &["first"])),
        state((1, &[]), (1, &["first"])),
        state((0, &[]), (1, &["first"])),
        state((1, &["second"]), (1, &["first"])),
        state((1, &["second"]), (2, &["first", "second"])),
        state((1, &["second"]), (2, &[])),
        state((1, &["second"]), (0, &[])),
        state((1, &["second"]), (1, &["third"])),
        state((2, &["second", "third"]), (1, &["third"])),
    ];
    for state in &expected {
        assert!(seen.contains(state), "{state:?} is not among {seen:?}");
    }
    assert_eq!(seen.len(), expected.len(), "{seen:?}");
}

/// What compaction has not taken off the disk goes with its stream, unless it is much: then compaction is first.
#[test]
fn what_is_forgotten_and_still_there_goes_with_its_stream() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = config(&folder);
    let (store, shard) = open(&config);
    let puts = |number, count| (0..count).map(|_| Write::Put(plain(number))).collect();
    commit(&*shard, puts(1, 64));
    commit(&*shard, puts(2, 65));
    empty(&*shard, [1, 2]);
    assert_eq!(drop_idle(&*shard, u64::MAX), 1);
    assert_eq!((info(&*shard, 1).n, info(&*shard, 2).n), (0, 65));
    store.compact().expect("it compacts");
    assert_eq!(drop_idle(&*shard, u64::MAX), 1);
    store.close().expect("it closes");
    drop((store, shard));
    let (_store, shard) = open(&config);
    assert_eq!((shard.stats().streams, info(&*shard, 2).n), (0, 0));
}

fn plain(number: usize) -> Put {
    Put::new(&name(number), Bytes::from_static(&[b'x'; 200]), Durability::Os)
}

/// Whoever drops streams may have to wait for the engine's thread, which asks for floors while it compacts.
#[test]
fn dropping_and_compacting_do_not_wait_for_each_other() {
    const STREAMS: usize = 4_000;
    let folder = tempfile::tempdir().expect("a folder");
    let config = Config { memtable_bytes: 32 << 10, ..config(&folder) };
    let (store, shard) = open(&config);
    for first in (0..STREAMS).step_by(200) {
        let all = first..first + 200;
        commit(&*shard, all.clone().flat_map(|number| (0..10).map(move |_| Write::Put(plain(number)))).collect());
        empty(&*shard, all);
    }
    let (done, is_done) = std::sync::mpsc::channel();
    let dropping = shard.clone();
    std::thread::spawn(move || done.send(drop_idle(&*dropping, u64::MAX)));
    let until = std::time::Instant::now() + std::time::Duration::from_secs(120);
    let dropped = loop {
        store.compact().expect("it compacts");
        match is_done.try_recv() {
            Ok(dropped) => break dropped,
            Err(_) => assert!(std::time::Instant::now() < until, "they wait for each other"),
        }
    };
    assert_eq!(dropped, STREAMS as u64);
    store.close().expect("it closes");
}

#[test]
fn salvage_takes_them_neither_for_losses_nor_for_streams() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = config(&folder);
    let (store, shard) = open(&config);
    fill(&*shard, 0..6, "first");
    empty(&*shard, 0..5);
    assert_eq!(drop_idle(&*shard, 6), 5);
    fill(&*shard, [1], "second");
    store.close().expect("it closes");
    drop((store, shard));
    let (store, losses) = EmbeddedStore::salvage(config.clone()).expect("it opens");
    assert_eq!(losses, Vec::<String>::new());
    let shard = store.shard("/").expect("a shard");
    assert_eq!(texts(&*shard, 1), [(1, Bytes::from_static(b"second"))]);
    assert_eq!(texts(&*shard, 5).len(), 1);
    fill(&*shard, [0, 1], "third");
    assert_eq!((info(&*shard, 0).n, info(&*shard, 1).n), (1, 2));
}

/// A group that is kept for its keys names a stream that was dropped, and one behind the checkpoint names it anew.
#[test]
fn salvage_of_what_was_killed_knows_which_of_two_is_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = config(&folder);
    let (_store, shard) = open(&config);
    fill(&*shard, 0..2, "first");
    empty(&*shard, 0..2);
    assert_eq!(drop_idle(&*shard, 2), 2);
    fill(&*shard, [1], "second");
    let config = Config { path: folder.path().join("image"), ..config.clone() };
    image(&folder.path().join("data"), &config.path);
    let (store, losses) = EmbeddedStore::salvage(config).expect("it opens");
    assert_eq!(losses, Vec::<String>::new());
    let shard = store.shard("/").expect("a shard");
    drop_idle(&*shard, u64::MAX);
    assert_eq!(texts(&*shard, 1), [(1, Bytes::from_static(b"second"))]);
    assert_eq!(shard.stats().streams, 1);
}
