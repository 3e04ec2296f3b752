//! What is damaged is loud; what a backup has.

use posthaste_backend_embedded::{Config, EmbeddedStore, OpenError};
use posthaste_history::store::{Store as _, Timestamp};
use posthaste_queue::{Command, Depth, Outcome, State, Stop, Verdict};

use crate::disk::count_on_disk;
use crate::image::engine;
use crate::{Scene, config, folder, now, work};

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
    let engine = engine(&config);
    let jobs = engine.keyspace("jobs", fjall::KeyspaceCreateOptions::default).expect("a keyspace");
    jobs.remove(4u64.to_be_bytes()).expect("removed");
    engine.persist(fjall::PersistMode::SyncAll).expect("synced");
    drop((jobs, engine));
    let error = EmbeddedStore::open(config).err().expect("it is damaged");
    assert!(matches!(error, OpenError::Damaged { .. }), "{error:?}");
    assert!(error.to_string().contains("message 4, which was put, is missing"), "{error}");
}

/// Opens the engine of a folder, behind the store's back.
fn tampered(config: &Config, tamper: impl FnOnce(&dyn Fn(&str) -> fjall::Keyspace)) {
    let engine = engine(config);
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
