//! Work queues on a disk: what is there after a close, after an end without one, and on another start of the system.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use posthaste_backend_embedded::{Clock, Config, EmbeddedStore, OpenError};
use posthaste_history::store::{Durability, Store as _, StoreError, Timestamp, wait};
use posthaste_queue::{
    Command, Consume, Dedup, DedupMode, Delivery, Depth, Effect, Missed, Outcome, Put, QueueName, Queues, Refusal,
    Schedule, Scheduled, Select, Settle, State, Stop, Verdict, When,
};
use tempfile::TempDir;

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn config(folder: &TempDir) -> Config {
    Config::new(folder.path().join("data"))
}

/// A store, its queues and what they said.
struct Scene {
    store: EmbeddedStore,
    queues: Arc<dyn Queues>,
    said: Arc<Mutex<Vec<Effect>>>,
}

impl Scene {
    fn open(config: &Config) -> Self {
        let store = EmbeddedStore::open(config.clone()).expect("it opens");
        let queues = store.queues().expect("queues");
        let said = Arc::<Mutex<Vec<Effect>>>::default();
        let hears = said.clone();
        queues.listen(Some(Arc::new(move |effects| hears.lock().expect("not poisoned").extend(effects))));
        Self { store, queues, said }
    }

    fn ask(&self, command: Command) -> Result<Outcome, Refusal> {
        wait(self.queues.ask(now(), command)).expect("the store works")
    }

    fn put(&self, payload: &str, alter: impl FnOnce(&mut Put)) -> u64 {
        let mut put = Put::new(&work(), Bytes::from(payload.to_owned()), Durability::Disk);
        alter(&mut put);
        match self.ask(Command::Put(vec![put])) {
            Ok(Outcome::Put(receipts)) => receipts[0].id,
            other => panic!("a receipt, not {other:?}"),
        }
    }

    fn consume(&self, consumer: u64, prefetch: u32) {
        let consume = Consume {
            consumer,
            queue: work(),
            prefetch,
            bytes: u64::MAX,
            lease_ms: Some(600_000),
            keys: None,
            once: None,
        };
        assert_eq!(self.ask(Command::Consume(consume)), Ok(Outcome::Done));
    }

    /// The next messages that are given out.
    fn deliveries(&self, count: usize) -> Vec<Delivery> {
        let begin = Instant::now();
        loop {
            let mut said = self.said.lock().expect("not poisoned");
            let granted = |effect: &Effect| matches!(effect, Effect::Granted(_));
            if said.iter().filter(|effect| granted(effect)).count() >= count {
                let all = std::mem::take(&mut *said).into_iter();
                return all.filter_map(|it| if let Effect::Granted(it) = it { Some(it) } else { None }).collect();
            }
            drop(said);
            assert!(begin.elapsed() < Duration::from_secs(20), "{count} messages are given out");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn settle(&self, delivery: &Delivery, verdict: Verdict) {
        let settle = Settle { id: delivery.id, token: delivery.token, verdict };
        match self.ask(Command::Settle(vec![settle])) {
            Ok(Outcome::Settled(settled)) => assert!(settled[0].is_ok(), "{settled:?}"),
            other => panic!("settled, not {other:?}"),
        }
    }

    fn depth(&self) -> Depth {
        match self.ask(Command::Stats(work())) {
            Ok(Outcome::Depth(depth)) => depth,
            other => panic!("a depth, not {other:?}"),
        }
    }

    fn payloads(&self, state: State) -> Vec<String> {
        match self.ask(Command::Peek { queue: work(), state, after: 0, max: 1_000 }) {
            Ok(Outcome::Page(found, None)) => {
                found.iter().map(|it| String::from_utf8_lossy(&it.payload).into_owned()).collect()
            }
            other => panic!("messages, not {other:?}"),
        }
    }

    /// As a crash leaves it: the folder is copied while the store has it.
    fn crash(self, to: &TempDir, config: &Config) -> Config {
        let copy = Config { path: to.path().join("data"), ..config.clone() };
        let status = std::process::Command::new("cp")
            .args(["-a", "--sparse=always"])
            .arg(&config.path)
            .arg(&copy.path)
            .status()
            .expect("cp runs");
        assert!(status.success());
        self.store.close().expect("it closes");
        copy
    }
}

fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time after 1970");
    Timestamp(since.as_millis() as u64)
}

fn work() -> QueueName {
    "work".into()
}

fn texts(deliveries: &[Delivery]) -> Vec<String> {
    deliveries.iter().map(|it| String::from_utf8_lossy(&it.payload).into_owned()).collect()
}

#[test]
fn what_was_put_is_given_out_and_what_is_done_is_gone() {
    let folder = folder();
    let scene = Scene::open(&config(&folder));
    let id = scene.put("one", |put| put.headers = Bytes::from_static(b"{\"by\":\"me\"}"));
    scene.consume(7, 1);
    let [first] = &scene.deliveries(1)[..] else { panic!("one") };
    assert_eq!((first.id, &first.payload[..], &first.headers[..]), (id, &b"one"[..], &b"{\"by\":\"me\"}"[..]));
    assert_eq!((first.consumer, first.deliveries, first.failures), (7, 1, 0));
    scene.settle(first, Verdict::Done(None));
    assert_eq!(scene.depth(), Depth { consumers: 1, ..Depth::default() });
}

#[test]
fn everything_is_where_it_was_after_a_close_and_after_a_crash() {
    for crashes in [false, true] {
        let (folder, other) = (folder(), folder());
        let config = config(&folder);
        let scene = Scene::open(&config);
        for number in 0..20 {
            scene.put(&format!("message {number}"), |_| {});
        }
        scene.put("later", |put| put.due = Some(Timestamp(now().0 + 86_400_000)));
        scene.put("first of all", |put| put.priority = 9);
        scene.consume(1, 5);
        let mut given = scene.deliveries(5);
        assert_eq!(texts(&given), ["first of all", "message 0", "message 1", "message 2", "message 3"]);
        assert_eq!(scene.ask(Command::Hold(1)), Ok(Outcome::Done));
        scene.settle(&given.remove(0), Verdict::Done(None));
        scene.settle(&given.remove(0), Verdict::Dead { why: "broken".into() });
        scene.settle(&given.remove(0), Verdict::Retry { after_ms: Some(3_600_000), why: "tomorrow".into() });
        let before = scene.depth();
        assert_eq!((before.ready, before.leased, before.delayed, before.dead), (16, 2, 2, 1));
        let tokens: Vec<u64> = given.iter().map(|it| it.token).collect();
        let config = if crashes {
            scene.crash(&other, &config)
        } else {
            scene.store.close().expect("it closes");
            drop(scene);
            config
        };

        let scene = Scene::open(&config);
        let after = scene.depth();
        assert_eq!((after.ready, after.leased, after.delayed, after.dead, after.bytes), (16, 2, 2, 1, before.bytes));
        assert_eq!(scene.payloads(State::Dead), ["message 0"]);
        assert_eq!(scene.payloads(State::Leased), ["message 2", "message 3"]);
        // The leases are those of a consumer that is not there: it may come back under its number, and loses them if it does not.
        assert_eq!(scene.ask(Command::Orphans), Ok(Outcome::Consumers(vec![1])));
        scene.settle(&given[0], Verdict::Done(None));
        assert_eq!(scene.ask(Command::Stop(1, Stop::Return)), Ok(Outcome::Done));
        scene.consume(2, 100);
        let again = scene.deliveries(17);
        assert_eq!(again[0].id, given[1].id, "it came back to its place");
        assert_eq!((again[0].deliveries, again[0].failures), (2, 0));
        assert_eq!(again.len(), 17);
        assert!(again.iter().all(|it| !tokens.contains(&it.token)), "no token is given twice");
        let ids: std::collections::BTreeSet<u64> = again.iter().map(|it| it.id).collect();
        assert_eq!(ids.len(), 17);
        let new = scene.put("new", |_| {});
        assert!(ids.iter().all(|id| *id < new));
    }
}

#[test]
fn checkpoints_let_go_of_groups_and_forget_nothing() {
    let (folder, other) = (folder(), folder());
    let config = config(&folder);
    let scene = Scene::open(&config);
    scene.consume(1, 1);
    // More groups than a checkpoint is written after.
    for number in 0..1_100 {
        scene.put(&format!("{number}"), |_| {});
        let given = scene.deliveries(1);
        let verdict = match number % 100 {
            0 => Verdict::Retry { after_ms: Some(3_600_000), why: "later".into() },
            _ => Verdict::Done(None),
        };
        scene.settle(&given[0], verdict);
    }
    let config = scene.crash(&other, &config);
    let scene = Scene::open(&config);
    let depth = scene.depth();
    assert_eq!((depth.ready, depth.leased, depth.delayed, depth.dead), (0, 0, 11, 0));
    let Ok(Outcome::Page(found, None)) =
        scene.ask(Command::Peek { queue: work(), state: State::Delayed, after: 0, max: 100 })
    else {
        panic!("messages")
    };
    assert!(found.iter().all(|it| (it.rest.deliveries, it.rest.failures) == (1, 1)));
}

/// How many values of this kind queues have on the disk of a store that is closed.
fn count_on_disk(config: &Config, kind: u8) -> usize {
    let engine = fjall::Database::builder(config.path.join("data")).open().expect("the engine opens");
    let queues = engine.keyspace("queues", fjall::KeyspaceCreateOptions::default).expect("a keyspace");
    queues.prefix([kind]).count()
}

#[test]
fn reasons_of_failures_are_on_the_disk_alone_until_their_message_ends() {
    const KEPT: usize = 10;
    let (folder, other) = (folder(), folder());
    let config = config(&folder);
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
    let config = config(&folder);
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
fn a_message_that_is_missing_is_an_error_that_names_it() {
    let (folder, other) = (folder(), folder());
    let config = config(&folder);
    let scene = Scene::open(&config);
    for number in 0..10 {
        scene.put(&format!("message {number}"), |_| {});
    }
    let config = scene.crash(&other, &config);
    // Taken out behind the store's back.
    let engine = fjall::Database::builder(config.path.join("data")).open().expect("the engine opens");
    let jobs = engine.keyspace("jobs", fjall::KeyspaceCreateOptions::default).expect("a keyspace");
    jobs.remove(4u64.to_be_bytes()).expect("removed");
    engine.persist(fjall::PersistMode::SyncAll).expect("synced");
    drop((jobs, engine));
    let error = EmbeddedStore::open(config).err().expect("it is damaged");
    assert!(matches!(error, OpenError::Damaged { .. }), "{error:?}");
    assert!(error.to_string().contains("message 4, which was put, is missing"), "{error}");
}

/// A time of day that is so many milliseconds from the real one.
fn of_day(offset: &Arc<AtomicI64>) -> Clock {
    let offset = offset.clone();
    Clock::OfDay(Arc::new(move || shifted(&offset)))
}

fn shifted(offset: &AtomicI64) -> Timestamp {
    Timestamp(now().0.saturating_add_signed(offset.load(Ordering::Relaxed)))
}

#[test]
fn a_clock_that_is_set_back_holds_nobody_up_and_nothing_expires_by_it() {
    const HOUR_MS: i64 = 3_600_000;
    let (folder, offset) = (folder(), Arc::<AtomicI64>::default());
    let config = Config { clock: of_day(&offset), ..config(&folder) };
    let mut scene = Scene::open(&config);
    let ask = |scene: &Scene, command| wait(scene.queues.ask(shifted(&offset), command)).expect("the store works");
    let put = |scene: &Scene, payload: &'static str, delay_ms: u64| {
        let later = |ms: u64| Some(Timestamp(shifted(&offset).0 + ms));
        let put = Put::new(&work(), Bytes::from_static(payload.as_bytes()), Durability::Disk);
        let put = Put { due: later(delay_ms).filter(|_| delay_ms > 0), expires: later(600_000), ..put };
        assert!(matches!(ask(scene, Command::Put(vec![put])), Ok(Outcome::Put(_))));
    };
    scene.consume(1, 1);
    put(&scene, "before", 0);
    let given = scene.deliveries(1);
    // By the time it is opened again, the time of day is hours behind what it was.
    for restarts in [false, true] {
        offset.fetch_sub(3 * HOUR_MS, Ordering::Relaxed);
        if restarts {
            scene.store.close().expect("it closes");
            drop(scene);
            scene = Scene::open(&config);
            assert_eq!(ask(&scene, Command::Stop(1, Stop::Return)), Ok(Outcome::Done));
            scene.consume(2, 1);
        } else {
            // It rests for a moment by our time, and not for hours.
            let settle = Settle {
                id: given[0].id,
                token: given[0].token,
                verdict: Verdict::Retry { after_ms: Some(20), why: "not yet".into() },
            };
            assert!(matches!(ask(&scene, Command::Settle(vec![settle])), Ok(Outcome::Settled(all)) if all[0].is_ok()));
        }
        let again = scene.deliveries(1);
        assert_eq!(texts(&again), ["before"], "after a restart: {restarts}");
        assert_eq!(again[0].lease_ms, 600_000);
    }
    let begin = Instant::now();
    let consume = Consume {
        consumer: 3,
        queue: work(),
        prefetch: 10,
        bytes: u64::MAX,
        lease_ms: Some(600_000),
        keys: None,
        once: None,
    };
    assert_eq!(ask(&scene, Command::Consume(consume)), Ok(Outcome::Done));
    put(&scene, "after a while", 300);
    assert_eq!(texts(&scene.deliveries(1)), ["after a while"]);
    assert!(begin.elapsed() >= Duration::from_millis(300), "a delay is one by the clock that is there now");
}

#[test]
fn a_clock_that_is_set_back_while_the_server_is_killed_holds_nobody_up_either() {
    const HOUR_MS: i64 = 3_600_000;
    let (folder, other, offset) = (folder(), tempfile::tempdir().expect("a folder"), Arc::<AtomicI64>::default());
    let config = Config { clock: of_day(&offset), ..config(&folder) };
    let scene = Scene::open(&config);
    offset.fetch_add(6 * HOUR_MS, Ordering::Relaxed);
    let due = Some(Timestamp(shifted(&offset).0 + 300));
    let put = Put { due, ..Put::new(&work(), Bytes::from_static(b"soon"), Durability::Disk) };
    let receipt = wait(scene.queues.ask(shifted(&offset), Command::Put(vec![put]))).expect("the store works");
    assert!(matches!(receipt, Ok(Outcome::Put(_))));
    let config = scene.crash(&other, &config);
    offset.fetch_sub(6 * HOUR_MS, Ordering::Relaxed);
    let scene = Scene::open(&config);
    scene.consume(1, 1);
    assert_eq!(texts(&scene.deliveries(1)), ["soon"]);
}

#[test]
fn results_and_keys_whose_time_is_over_leave_the_disk() {
    const MESSAGES: u64 = 3_000;
    let (folder, other, offset) = (folder(), tempfile::tempdir().expect("a folder"), Arc::<AtomicI64>::default());
    let config = Config { clock: of_day(&offset), checkpoint_groups: 16, ..config(&folder) };
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
    offset.fetch_add(3_600_000, Ordering::Relaxed);
    // The next checkpoint, and what it begins.
    for number in 0..32 {
        scene.put(&number.to_string(), |_| {});
    }
    std::thread::sleep(Duration::from_secs(2));
    let config = scene.crash(&other, &config);
    let engine = fjall::Database::builder(config.path.join("data")).open().expect("the engine opens");
    let queues = engine.keyspace("queues", fjall::KeyspaceCreateOptions::default).expect("a keyspace");
    let left = ["k", "K", "r", "R"].map(|kind| queues.prefix(kind).count());
    assert_eq!(left, [0; 4], "keys, their ends, results, their ends");
}

#[test]
fn who_takes_messages_or_leaves_is_heard_also_when_more_of_them_are_refused() {
    let folder = folder();
    let config = Config { max_waiting_bytes: 1_000, ..config(&folder) };
    let scene = Scene::open(&config);
    let body = Bytes::from(vec![b'x'; 10_000]);
    let mut refusals = 0;
    let mut asked = Vec::new();
    while refusals < 100 {
        let mut put = scene.queues.ask(now(), Command::Put(vec![Put::new(&work(), body.clone(), Durability::Disk)]));
        let stop = scene.queues.ask(now(), Command::Stop(7, Stop::Return));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match put.as_mut().poll(&mut context) {
            std::task::Poll::Ready(Err(StoreError::Busy { .. })) => refusals += 1,
            std::task::Poll::Ready(other) => panic!("nothing is answered that fast: {other:?}"),
            std::task::Poll::Pending => asked.push(put),
        }
        asked.push(stop);
    }
    for answer in asked {
        assert!(wait(answer).is_ok());
    }
}

#[test]
fn while_a_queue_is_emptied_or_deleted_others_have_their_turns_and_the_disk_is_freed() {
    const MESSAGES: usize = 10_000;
    for deletes in [false, true] {
        let folder = folder();
        let config = config(&folder);
        let scene = Scene::open(&config);
        let full: QueueName = "full".into();
        for _ in 0..MESSAGES / 1_000 {
            let puts = (0..1_000).map(|number| {
                let put = Put::new(&full, Bytes::from_static(b"much"), Durability::Disk);
                Put { due: (number % 2 == 0).then(|| Timestamp(now().0 + 3_600_000)), ..put }
            });
            assert!(matches!(scene.ask(Command::Put(puts.collect())), Ok(Outcome::Put(_))));
        }
        // Someone works meanwhile: each message that is done is one turn of theirs.
        let turns = Arc::new(AtomicUsize::new(0));
        let (counts, queues) = (turns.clone(), Arc::downgrade(&scene.queues));
        scene.queues.listen(Some(Arc::new(move |effects| {
            let Some(queues) = queues.upgrade() else { return };
            for effect in effects {
                if let Effect::Granted(Delivery { id, token, .. }) = effect {
                    counts.fetch_add(1, Ordering::SeqCst);
                    drop(queues.ask(now(), Command::Settle(vec![Settle { id, token, verdict: Verdict::Done(None) }])));
                }
            }
        })));
        let busy = (0..3_000).map(|_| Put::new(&work(), Bytes::from_static(b"little"), Durability::Os)).collect();
        assert!(matches!(scene.ask(Command::Put(busy)), Ok(Outcome::Put(_))));
        scene.consume(1, 1);
        let before = turns.load(Ordering::SeqCst);
        let states = vec![State::Ready, State::Delayed];
        let command = match deletes {
            false => Command::Purge(full.clone(), Select { states, id: None, max: None }),
            true => Command::Delete(full.clone()),
        };
        let expected = if deletes { Outcome::Done } else { Outcome::Count(MESSAGES as u64) };
        assert_eq!(scene.ask(command), Ok(expected));
        let meanwhile = turns.load(Ordering::SeqCst) - before;
        assert!(meanwhile >= MESSAGES / 1_000 - 2, "{meanwhile} turns of others while it went on");
        scene.queues.listen(None);
        scene.store.close().expect("it closes");
        drop(scene);
        let left = posthaste_backend_embedded::verify(config.clone(), &mut |_| ()).expect("it opens").jobs;
        let scene = Scene::open(&config);
        assert_eq!(
            left,
            scene.depth().ready + scene.depth().leased,
            "what is left on the disk is what is left to be done"
        );
        let gone = scene.ask(Command::Stats(full));
        assert_eq!(gone.is_err(), deletes, "{gone:?}");
    }
}

/// Opens the engine of a folder, behind the store's back.
fn tampered(config: &Config, tamper: impl FnOnce(&dyn Fn(&str) -> fjall::Keyspace)) {
    let engine = fjall::Database::builder(config.path.join("data")).open().expect("the engine opens");
    tamper(&|name| engine.keyspace(name, fjall::KeyspaceCreateOptions::default).expect("a keyspace"));
    engine.persist(fjall::PersistMode::SyncAll).expect("synced");
}

fn spoil(keyspace: &fjall::Keyspace, key: &[u8]) {
    let mut value = keyspace.get(key).expect("it reads").expect("it is there").to_vec();
    value[0] ^= 0x20;
    keyspace.insert(key, value).expect("written");
}

fn key(kind: u8, number: u64) -> Vec<u8> {
    [&[kind][..], &number.to_be_bytes()].concat()
}

/// What is damaged: what is said about it, and the messages that are there afterwards.
type Damaged = (&'static str, fn(&dyn Fn(&str) -> fjall::Keyspace), &'static str, &'static [&'static str]);

#[test]
fn what_is_damaged_in_queues_is_loud_and_salvage_lists_it_and_goes_on() {
    const ALL: &[&str] = &["0", "1", "2", "3", "4", "5", "later", "new"];
    let damages: &[Damaged] = &[
        (
            "a message",
            |keyspace| spoil(&keyspace("jobs"), &4u64.to_be_bytes()),
            "message 4 of a queue is not what was written",
            &["0", "1", "2", "4", "5", "later", "new"],
        ),
        (
            "a message is missing",
            |keyspace| keyspace("jobs").remove(8u64.to_be_bytes()).expect("removed"),
            "message 8, which was put, is missing",
            &["0", "1", "2", "3", "4", "5", "later"],
        ),
        (
            "one for later",
            |keyspace| {
                let queues = keyspace("queues");
                let key = queues.prefix(b"l").next().expect("one").key().expect("its key").to_vec();
                spoil(&queues, &key);
            },
            "message 7, which was put for later, is not what was written",
            &["0", "1", "2", "3", "4", "5", "new"],
        ),
        (
            "what happened to a message",
            |keyspace| spoil(&keyspace("queues"), &key(b's', 1)),
            "what happened to message 1 is not what was written",
            ALL,
        ),
        (
            "what happened to a message, and a list can be made anew",
            |keyspace| {
                let queues = keyspace("queues");
                spoil(&queues, &key(b's', 1));
                queues.remove([key(b'n', 1), 7u64.to_be_bytes().to_vec()].concat()).expect("removed");
            },
            "what happened to message 1 is not what was written",
            ALL,
        ),
        (
            "why a message failed",
            |keyspace| spoil(&keyspace("queues"), &[key(b'f', 1), vec![0; 8]].concat()),
            "why message 1 failed is not what was written",
            ALL,
        ),
        (
            "the name of a queue",
            |keyspace| spoil(&keyspace("queues"), &key(b'q', 1)),
            "what is known of a queue is not what was written",
            &[],
        ),
        ("the checkpoint", |keyspace| spoil(&keyspace("queues"), b"c"), "the checkpoint of the queues is not", ALL),
        (
            "a group",
            |keyspace| {
                let groups = keyspace("groups");
                let keys: Vec<_> = groups.prefix(u32::MAX.to_be_bytes()).map(|it| it.key().expect("a key")).collect();
                groups.remove(keys[0].to_vec()).expect("removed");
            },
            "of the queues are missing",
            ALL,
        ),
    ];
    for (what, tamper, said, left) in damages {
        let (folder, other) = (folder(), folder());
        let config = config(&folder);
        let scene = Scene::open(&config);
        for number in 0..6 {
            scene.put(&format!("{number}"), |_| {});
        }
        scene.put("later", |put| put.due = Some(Timestamp(now().0 + 3_600_000)));
        scene.consume(1, 1);
        let first = scene.deliveries(1).remove(0);
        scene.settle(&first, Verdict::Retry { after_ms: Some(0), why: "not yet".into() });
        let again = scene.deliveries(1).remove(0);
        scene.store.close().expect("it closes");
        drop(scene);
        // Something behind the checkpoint as well.
        let scene = Scene::open(&config);
        let new = scene.put("new", |_| {});
        let config = scene.crash(&other, &config);
        tampered(&config, tamper);

        let is_late = matches!(*what, "one for later" | "why a message failed");
        let refused = EmbeddedStore::open(config.clone()).err();
        if let Some(error) = &refused {
            assert!(matches!(error, OpenError::Damaged { .. }), "{what}: {error}");
            assert!(error.to_string().contains(said) && error.to_string().contains("salvage"), "{what}: {error}");
        }
        // What is far away is read when its time comes, reasons when somebody looks; who verifies reads everything.
        assert!(refused.is_some() != is_late, "{what} is noticed: {refused:?}");
        let report = posthaste_backend_embedded::verify(config.clone(), &mut |_| ());
        assert!(report.map_or(true, |report| !report.damage.is_empty()), "{what} is found by who verifies");

        let (report, losses) = posthaste_backend_embedded::salvage(config.clone(), &mut |_| ()).expect("it goes on");
        assert!(losses.iter().any(|loss| loss.contains(said)), "{what}: {losses:?}");
        assert_eq!(report.damage, Vec::<String>::new(), "{what}");
        if left.is_empty() {
            assert!(losses.iter().any(|loss| loss == "the name of queue 1, and with it its 8 messages"), "{losses:?}");
        }
        let report = posthaste_backend_embedded::verify(config.clone(), &mut |_| ()).expect("it opens");
        assert_eq!((report.damage, report.jobs), (Vec::new(), left.len() as u64), "{what}");
        assert_eq!(count_on_disk(&config, b'n'), count_on_disk(&config, b'l'), "{what}");
        let scene = Scene::open(&config);
        assert_eq!(scene.ask(Command::Stop(1, Stop::Return)), Ok(Outcome::Done));
        if !left.is_empty() {
            let mut there: Vec<_> =
                [State::Ready, State::Delayed].into_iter().flat_map(|state| scene.payloads(state)).collect();
            there.sort();
            assert_eq!(&there, left, "{what}");
        }
        let fresh = scene.put("fresh", |_| {});
        assert!(fresh > new + 1, "{what}: numbers are not given twice: {fresh}");
        scene.consume(9, 1);
        let token = scene.deliveries(1)[0].token;
        assert!(token > again.token + (1 << 39), "{what}: tokens are not given twice");
    }
}

#[test]
fn a_backup_has_queues_and_what_is_made_of_it_has_them_too() {
    let folder = folder();
    let config = config(&folder);
    let scene = Scene::open(&config);
    for number in 0..10 {
        scene.put(&format!("{number}"), |_| {});
    }
    scene.put("later", |put| put.due = Some(Timestamp(now().0 + 3_600_000)));
    scene.consume(1, 3);
    let given = scene.deliveries(3);
    scene.settle(&given[0], Verdict::Done(None));
    scene.settle(&given[1], Verdict::Dead { why: "hopeless".into() });
    assert_eq!(scene.ask(Command::Pause(work(), true)), Ok(Outcome::Done));
    let before = scene.depth();
    scene.store.close().expect("it closes");
    drop(scene);
    let (copy, again) = (folder.path().join("copy"), folder.path().join("again"));
    posthaste_backend_embedded::backup(&config.path, &copy, &mut |_| ()).expect("it is copied");
    let report = posthaste_backend_embedded::restore(&copy, &again, &mut |_| ()).expect("it is copied back");
    assert_eq!((report.jobs, report.queues, report.damage), (10, 1, Vec::new()));
    let scene = Scene::open(&Config { path: again, ..config });
    let after = scene.depth();
    assert_eq!(Depth { consumers: 0, ..before }, after);
    assert!(after.is_paused);
    assert_eq!(scene.payloads(State::Dead), ["1"]);
}
