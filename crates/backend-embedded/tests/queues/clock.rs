//! Clocks that are set back.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use posthaste_backend_embedded::{Clock, Config};
use posthaste_history::store::{Durability, Store as _, Timestamp, wait};
use posthaste_queue::{Command, Consume, Outcome, Put, Settle, Stop, Verdict};

use crate::{Scene, config, folder, now, texts, work};

/// A time of day that is so many milliseconds from the real one.
pub(crate) fn of_day(offset: &Arc<AtomicI64>) -> Clock {
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
