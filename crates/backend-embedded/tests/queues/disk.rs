//! What queues take of the disk, and what they do when it refuses.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use posthaste_backend_embedded::Config;
use posthaste_history::store::{Durability, Store as _, StoreError, Timestamp, wait};
use posthaste_queue::{
    Command, Dedup, DedupMode, Delivery, Missed, Outcome, Put, Schedule, Scheduled, Select, Settle, State, Verdict,
    When,
};
use tempfile::TempDir;

use crate::clock::of_day;
use crate::image::engine;
use crate::{Scene, config, folder, now, work};

/// A store that keeps its journal whole.
fn whole(folder: &TempDir) -> Config {
    Config { journal_bytes: 1 << 30, ..config(folder) }
}

pub(crate) fn count_on_disk(config: &Config, kind: u8) -> usize {
    let engine = engine(config);
    let queues = engine.keyspace("queues", fjall::KeyspaceCreateOptions::default).expect("a keyspace");
    queues.prefix([kind]).count()
}

#[test]
fn reasons_of_failures_are_on_the_disk_alone_until_their_message_ends() {
    const KEPT: usize = 10;
    let (folder, other) = (folder(), folder());
    let config = whole(&folder);
    let scene = Scene::open(&config);
    let allow = posthaste_queue::Config { attempts: u32::MAX, ..Default::default() };
    assert_eq!(scene.ask(Command::Configure(work(), Box::new(allow))), Ok(Outcome::Done));
    let ids = ["done", "redriven", "stays"].map(|payload| scene.put(payload, |_| {}));
    scene.consume(1, 3);
    let mut given = scene.deliveries(3);
    let shared: Arc<str> = "x".repeat(Verdict::MAX_WHY).into();
    for round in 0..12 {
        for one in given.drain(..) {
            let why = if round == 11 { format!("the last of {}", one.id).into() } else { shared.clone() };
            scene.settle(&one, Verdict::Retry { after_ms: Some(0), why });
        }
        given = scene.deliveries(3);
    }
    scene.depth();
    assert_eq!(Arc::strong_count(&shared), 1, "none of them is in memory");
    let redriven = given.iter().position(|it| it.id == ids[1]).expect("it was given out");
    scene.settle(&given.remove(redriven), Verdict::Dead { why: "given up".into() });
    let history = |scene: &Scene, id: u64| match scene.ask(Command::Get(id)) {
        Ok(Outcome::Messages(found)) => {
            assert!(found[0].history.is_sorted_by_key(|(at, _)| *at), "the newest is last");
            found[0].history.iter().map(|(_, why)| why.len()).collect::<Vec<_>>()
        }
        other => panic!("a message, not {other:?}"),
    };
    let long = |rest: &[&str]| {
        let rest = rest.iter().map(|it| it.len());
        [vec![Verdict::MAX_WHY; KEPT - rest.len()], rest.collect()].concat()
    };
    let expected = [long(&["the last of 1"]), long(&["the last of 2", "given up"]), long(&["the last of 3"])];
    assert_eq!(ids.map(|id| history(&scene, id)), expected);

    // As a crash leaves it, and as a close does.
    let config = scene.crash(&other, &config);
    let scene = Scene::open(&config);
    assert_eq!(ids.map(|id| history(&scene, id)), expected);
    scene.store.close().expect("it closes");
    drop(scene);
    assert_eq!(count_on_disk(&config, b'f'), 3 * KEPT);
    let scene = Scene::open(&config);
    assert_eq!(ids.map(|id| history(&scene, id)), expected);

    let done = given.iter().position(|it| it.id == ids[0]).expect("it was given out");
    scene.settle(&given[done], Verdict::Done(None));
    let select = Select { states: vec![State::Dead], id: None, max: None };
    assert_eq!(scene.ask(Command::Redrive(work(), select)), Ok(Outcome::Count(1)));
    assert_eq!(history(&scene, ids[1]), [0; 0]);
    scene.store.close().expect("it closes");
    drop(scene);
    assert_eq!(count_on_disk(&config, b'f'), KEPT);
}

#[test]
fn a_queue_shows_what_is_for_later_behind_that_of_others_also_after_a_restart() {
    const OTHERS: usize = 66_000;
    let (folder, other) = (folder(), folder());
    let config = whole(&folder);
    let scene = Scene::open(&config);
    let later = now().0 + 3_600_000;
    for _ in 0..OTHERS / 6_000 {
        let put = Put::new(&"other".into(), Bytes::from_static(b"other"), Durability::Memory);
        let puts = vec![Put { due: Some(Timestamp(later)), ..put }; 6_000];
        assert!(matches!(scene.ask(Command::Put(puts)), Ok(Outcome::Put(_))));
    }
    for payload in ["one", "two", "three"] {
        scene.put(payload, |put| put.due = Some(Timestamp(later + 1)));
    }
    assert_eq!(scene.payloads(State::Delayed), ["one", "two", "three"]);
    // More than are in memory are before them.
    let config = scene.crash(&other, &config);
    let scene = Scene::open(&config);
    assert_eq!(scene.payloads(State::Delayed), ["one", "two", "three"]);
    scene.store.close().expect("it closes");
    drop(scene);
    assert_eq!(count_on_disk(&config, b'n'), OTHERS + 3);

    let scene = Scene::open(&config);
    let select = Select { states: vec![State::Delayed], id: None, max: None };
    assert_eq!(scene.ask(Command::Purge(work(), select)), Ok(Outcome::Count(3)));
    assert_eq!((scene.depth().delayed, scene.payloads(State::Delayed).len()), (0, 0));
    scene.store.close().expect("it closes");
    drop(scene);
    assert_eq!(count_on_disk(&config, b'n'), OTHERS);
}

#[test]
fn after_a_failed_sync_nothing_is_accepted() {
    let folder = folder();
    let scene = Scene::open(&config(&folder));
    scene.put("one", |_| {});
    scene.store.fail_syncs();
    let put = Put::new(&work(), Bytes::from_static(b"two"), Durability::Disk);
    let answer = wait(scene.queues.ask(now(), Command::Put(vec![put])));
    assert!(matches!(answer, Err(StoreError::Poisoned(_))), "{answer:?}");
    let answer = wait(scene.queues.ask(now(), Command::Stats(work())));
    assert!(matches!(answer, Err(StoreError::Poisoned(_))), "{answer:?}");
}

#[test]
fn a_disk_that_is_nearly_full_takes_no_messages_and_lets_go_of_them() {
    let folder = folder();
    let config = config(&folder);
    let scene = Scene::open(&config);
    scene.put("one", |_| {});
    scene.store.close().expect("it closes");
    drop(scene);
    let scene = Scene::open(&Config { reserved_bytes: u64::MAX, ..config });
    let put = Put::new(&work(), Bytes::from_static(b"two"), Durability::Disk);
    let answer = wait(scene.queues.ask(now(), Command::Put(vec![put])));
    assert!(matches!(answer, Err(StoreError::Full { .. })), "{answer:?}");
    scene.consume(1, 1);
    let given = scene.deliveries(1);
    scene.settle(&given[0], Verdict::Done(None));
    assert_eq!(scene.depth().leased, 0);
}

#[test]
fn what_is_due_waits_for_room_on_the_disk() {
    let folder = folder();
    let config = config(&folder);
    let scene = Scene::open(&config);
    let put = Put::new(&work(), Bytes::from_static(b"due"), Durability::Disk);
    let schedule = Schedule { when: When::Every { ms: 1_000 }, missed: Missed::Once, put, ttl_ms: None };
    let command = |schedule| Command::Schedule { name: "s".into(), schedule: Box::new(schedule), is_paused: None };
    scene.ask(command(schedule.clone())).expect("it is scheduled");
    let looked = |scene: &Scene| match scene.ask(Command::GetSchedule("s".into())) {
        Ok(Outcome::Schedules(found)) => found[0].1.clone(),
        other => panic!("{other:?}"),
    };
    let wait_for = |scene: &Scene, what: &str, is_so: &dyn Fn(&Scheduled) -> bool| {
        let begin = Instant::now();
        while !is_so(&looked(scene)) {
            assert!(begin.elapsed() < Duration::from_secs(60), "{what}: {:?}", looked(scene));
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    wait_for(&scene, "there is room", &|it| it.count > 0);
    scene.store.close().expect("it closes");
    drop(scene);
    let before = {
        let scene = Scene::open(&Config { reserved_bytes: u64::MAX, ..config.clone() });
        wait_for(&scene, "there is none", &|it| it.problem == Some("storage_full"));
        let answer = wait(scene.queues.ask(now(), command(schedule)));
        assert!(matches!(answer, Err(StoreError::Full { .. })), "{answer:?}");
        let before = looked(&scene);
        scene.store.close().expect("it closes");
        before
    };
    let scene = Scene::open(&config);
    wait_for(&scene, "there is again", &|it| it.count > before.count && it.problem.is_none());
}

#[test]
fn results_and_keys_whose_time_is_over_leave_the_disk() {
    const MESSAGES: u64 = 3_000;
    let (place, offset) = (folder(), Arc::<AtomicI64>::default());
    let config = Config { clock: of_day(&offset), checkpoint_groups: 16, ..whole(&place) };
    let scene = Scene::open(&config);
    let put = |number: u64| {
        let key = format!("key {number}").into();
        let dedup = Dedup { key, mode: DedupMode::Reject, window_ms: Some(1_000) };
        let put = Put::new(&work(), Bytes::from_static(b"job"), Durability::Disk);
        Put { dedup: Some(dedup), keep_result_ms: Some(1_000), ..put }
    };
    assert!(matches!(scene.ask(Command::Put((0..MESSAGES).map(put).collect())), Ok(Outcome::Put(_))));
    scene.consume(1, MESSAGES as u32);
    let done = |given: &Delivery| Settle {
        id: given.id,
        token: given.token,
        verdict: Verdict::Done(Some(Bytes::from_static(b"result"))),
    };
    let settles = scene.deliveries(MESSAGES as usize).iter().map(done).collect();
    assert!(matches!(scene.ask(Command::Settle(settles)), Ok(Outcome::Settled(_))));
    let kept = || {
        let other = folder();
        let copy = crate::copy(&other, &config);
        [b'k', b'K', b'r', b'R'].map(|kind| count_on_disk(&copy, kind))
    };
    assert_eq!(kept(), [MESSAGES as usize; 4], "keys, their ends, results, their ends");
    offset.fetch_add(3_600_000, Ordering::Relaxed);
    // The next checkpoint, and what it begins.
    for number in 0..32 {
        scene.put(&number.to_string(), |_| {});
    }
    let begin = Instant::now();
    while kept() != [0; 4] {
        assert!(begin.elapsed() < Duration::from_secs(60), "keys, their ends, results, their ends: {:?}", kept());
        std::thread::sleep(Duration::from_millis(100));
    }
}
