//! What a power cut leaves of a data folder, and what is in one behind the back of the store.

// Each test binary uses some of it.
#![allow(dead_code)]

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use posthaste_backend_embedded::{Config, EmbeddedStore, OpenError};
use tempfile::TempDir;

/// What a disk writes at once.
const PAGE: usize = 512;

/// For images of a disk that are made by the dozen: in memory where there is such a place.
pub(crate) fn quick_folder() -> TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().expect("a folder"))
}

pub(crate) fn journals(config: &Config) -> Vec<PathBuf> {
    let entries =
        fs::read_dir(config.path.join("data")).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries.filter(|path| path.extension().is_some_and(|it| it == "jnl")).collect()
}

/// Where the zeros at the end begin.
pub(crate) fn end_of(bytes: &[u8]) -> usize {
    let block = bytes.chunks(4_096).rposition(|block| block != &[0; 4_096][..block.len()]).unwrap_or(0) * 4_096;
    bytes[block..].iter().take(4_096).rposition(|byte| *byte != 0).map_or(0, |last| block + last + 1)
}

/// A copy of a folder, as a power cut would have left it had it come now.
///
/// # Panics
/// When the engine makes and removes files all the time.
pub(crate) fn image(from: &Path, to: &Path) {
    // A power cut comes to all of it at once: not while tables come and go.
    let is_still = (0..1_000).any(|_| {
        let before = names(from).ok();
        let is_still = copy(from, to).is_ok() && before.is_some() && names(from).ok() == before;
        if !is_still {
            fs::remove_dir_all(to).expect("it is made anew");
        }
        is_still
    });
    assert!(is_still, "the files of {} change all the time", from.display());
}

/// Every file below.
fn names(folder: &Path) -> io::Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.extend(names(&entry.path())?);
        } else {
            found.insert(entry.path());
        }
    }
    Ok(found)
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            let bytes = fs::read(entry.path())?;
            // Journals are 64 MiB of mostly nothing.
            let is_journal = target.extension().is_some_and(|it| it == "jnl");
            fs::write(&target, &bytes[..if is_journal { end_of(&bytes) } else { bytes.len() }])?;
        }
    }
    Ok(())
}

/// Opens the engine of a folder, behind the store's back.
///
/// # Panics
/// When the journal is not whole any more: [`Config::journal_bytes`] has the store keep it.
pub(crate) fn engine(config: &Config) -> fjall::Database {
    let is_whole = !config.path.join("start").exists();
    assert!(is_whole, "the store gave the beginning of its journal back to the disk, which the engine does not know");
    fjall::Database::builder(config.path.join("data")).open().expect("the engine opens")
}

/// Opens an image of a running store, its journal changed.
pub(crate) fn reopened_with(
    config: &Config,
    change: impl FnOnce(&mut Vec<u8>),
) -> (TempDir, Config, Result<EmbeddedStore, OpenError>) {
    let folder = quick_folder();
    let path = folder.path().join("image");
    image(&config.path, &path);
    let config = Config { path, reserved_bytes: 0, ..config.clone() };
    let journal = journals(&config).pop().expect("a journal");
    let mut bytes = fs::read(&journal).expect("a journal");
    change(&mut bytes);
    fs::write(&journal, bytes).expect("a journal");
    let store = EmbeddedStore::open(config.clone());
    (folder, config, store)
}

/// Of what nobody synced, pages reach the disk in any order: each is there, is not, or is torn. `random` gives 31 bits.
pub(crate) fn cut(unsynced: &mut [u8], random: &mut impl FnMut() -> u64) {
    for page in unsynced.chunks_mut(PAGE) {
        match random() % 8 {
            0..=4 => {}
            5 | 6 => page.fill(0),
            _ => {
                let from = random() as usize % page.len();
                page[from..].fill(0);
            }
        }
    }
}
