//! What is there after a close and after an end without one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use posthaste_backend_embedded::Config;
use posthaste_history::store::{Durability, Store as _, StoreError, Timestamp, wait};
use posthaste_queue::{
    Command, Delivery, Depth, Effect, Outcome, Put, QueueName, Select, Settle, State, Stop, Verdict,
};

use crate::{Scene, config, folder, now, texts, work};

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
