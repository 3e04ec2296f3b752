//! What every store must do, and what the model says after any history: on a disk, with kills.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use posthaste_backend_embedded::{Config, EmbeddedStore};
use posthaste_history::contract::{Bed, Place, check, history};
use posthaste_history::store::{Retention, Store, WindowLimits};
use posthaste_testkit::copy_folder;
use proptest::prelude::*;
use tempfile::TempDir;

/// So many streams are in memory.
struct OnDisk(usize);

const ALL: usize = 65_536;

struct Folder {
    hot_streams: usize,
    root: TempDir,
    generation: u32,
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
        Box::new(Folder { hot_streams: self.0, root, generation: 0 })
    }
}

impl Bed for Folder {
    fn open(&mut self, retention: Retention, window: WindowLimits) -> Arc<dyn Store> {
        let hot_streams = self.hot_streams;
        let config = Config { retention, window, hot_streams, reserved_bytes: 0, ..Config::new(self.path()) };
        Arc::new(EmbeddedStore::open(config).expect("it opens"))
    }

    /// What a killed process leaves is what the system has of its files.
    fn kill(&mut self, store: Arc<dyn Store>) {
        let from = self.path();
        self.generation += 1;
        copy_folder(&from, &self.path());
        drop(store);
        fs::remove_dir_all(from).expect("it goes");
    }
}

#[test]
fn the_store_keeps_the_rules() {
    check(&OnDisk(ALL)).expect("it keeps them");
}

#[test]
fn the_store_keeps_the_rules_when_its_streams_are_not_in_memory() {
    for hot_streams in [0, 2] {
        check(&OnDisk(hot_streams)).expect("it keeps them");
    }
}

/// `POSTHASTE_HISTORIES` says how many; 16 otherwise. `cargo xtask soak store` tries thousands.
fn histories() -> u32 {
    std::env::var("POSTHASTE_HISTORIES").ok().and_then(|text| text.parse().ok()).unwrap_or(16)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(histories()))]
    #[test]
    fn the_store_and_the_model_agree_after_any_history(tape in prop::collection::vec(any::<u8>(), 0..300)) {
        let hot_streams = [ALL, 0, 1, 3][tape.len() % 4];
        if let Err(violation) = history(&OnDisk(hot_streams), &tape) {
            prop_assert!(false, "{violation}");
        }
    }
}
