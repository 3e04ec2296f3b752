//! What every store of queues must do, and what the model says after any history: on a disk, with kills.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use posthaste_backend_embedded::{self as embedded, Config, EmbeddedStore};
use posthaste_history::store::Store as _;
use posthaste_queue::Queues;
use posthaste_queue::contract::{Bed, Clock, Place, check, history};
use posthaste_testkit::copy_folder;
use proptest::prelude::*;
use tempfile::TempDir;

struct OnDisk;

struct Folder {
    root: TempDir,
    generation: u32,
    store: Option<EmbeddedStore>,
}

impl Folder {
    fn path(&self) -> PathBuf {
        self.root.path().join(self.generation.to_string())
    }
}

impl Place for OnDisk {
    fn fresh(&self) -> Box<dyn Bed> {
        // In memory where there is such a place: syncs are not what is tested here.
        let root = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder");
        Box::new(Folder { root, generation: 0, store: None })
    }
}

impl Bed for Folder {
    fn open(&mut self, clock: &Clock) -> Arc<dyn Queues> {
        let clock = clock.clone();
        let clock = embedded::Clock::Told(Arc::new(move || clock.now()));
        let store = EmbeddedStore::open(Config { reserved_bytes: 0, clock, ..Config::new(self.path()) });
        let store = self.store.insert(store.expect("it opens"));
        store.queues().expect("queues")
    }

    fn close(&mut self, queues: Arc<dyn Queues>) {
        drop(queues);
        let store = self.store.take().expect("it is open");
        store.close().expect("it closes");
    }

    /// What a killed process leaves is what the system has of its files.
    fn kill(&mut self, queues: Arc<dyn Queues>) {
        // What is heard from here on, a killed process would not have said.
        queues.listen(None);
        let from = self.path();
        self.generation += 1;
        copy_folder(&from, &self.path());
        drop(queues);
        drop(self.store.take());
        fs::remove_dir_all(from).expect("it goes");
    }
}

#[test]
fn queues_keep_the_rules() {
    check(&OnDisk).expect("they keep them");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn queues_do_what_the_model_says(tape in prop::collection::vec(any::<u8>(), 0..600)) {
        history(&OnDisk, &tape)?;
    }
}
