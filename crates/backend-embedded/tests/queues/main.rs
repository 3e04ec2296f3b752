//! Work queues on a disk: what is there after a close, after an end without one, and on another start of the system.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use posthaste_backend_embedded::{Config, EmbeddedStore};
use posthaste_history::store::{Durability, Store as _, Timestamp, wait};
use posthaste_queue::{
    Command, Consume, Delivery, Depth, Effect, Outcome, Put, QueueName, Queues, Refusal, Settle, State, Verdict,
};
use tempfile::TempDir;

mod clock;
mod damage;
mod disk;
#[path = "../image/mod.rs"]
mod image;
mod life;

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
        let copy = copy(to, config);
        self.store.close().expect("it closes");
        copy
    }
}

/// Copies the folder of a store that may have it.
fn copy(to: &TempDir, config: &Config) -> Config {
    let copy = Config { path: to.path().join("data"), ..config.clone() };
    image::image(&config.path, &copy.path);
    copy
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
