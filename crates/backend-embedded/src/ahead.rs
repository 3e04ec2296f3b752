//! Zeros where the journal goes on.
//!
//! The engine makes a journal of 64 MiB as a hole. A sync of what was written into a hole has the file system write down where that is,
//! besides; a sync of what was written over something has not, and takes a half or a quarter of the time. So zeros are written ahead
//! of what is written next, which doubles what the journal writes.
//!
//! That must never hit anything but zeros. All writes of this crate to the engine go through [`Ahead::lock`] and leave nothing in the
//! engine's buffer; zeros are written under the same lock, and only where zeros are read. What the engine itself writes when it
//! begins another journal is nothing then.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::journal;

/// So much of what a journal may take is written at once, when less than half of that is left: little, for whoever waits for a sync
/// waits for that of the zeros as well.
const PART: u64 = 256;
const BLOCK: u64 = 4_096;
/// What is behind data is left alone up to here.
const DISTANCE: u64 = 64 << 10;

/// Where zeros are written. Clones are the same.
#[derive(Clone)]
pub(crate) struct Ahead(Arc<Mutex<State>>);

/// While it is held, nobody writes zeros, and nobody else to the engine.
pub(crate) struct Writing<'a>(MutexGuard<'a, State>);

struct State {
    /// Where the journals are.
    data: PathBuf,
    /// So much is written at once.
    step: u64,
    /// The number of the journal of which the following is true. It is not held open, or its space would be when it is deleted.
    journal: Option<u64>,
    /// Zeros are written up to here.
    until: u64,
    /// Data are written up to here, about.
    reached: u64,
    /// What was written in all, about.
    total: u64,
    /// Something went wrong: it is tried no more. Writing into holes is only slower.
    is_over: bool,
}

impl Ahead {
    /// For the journals in this folder, which are to take so many bytes.
    pub(crate) fn new(data: PathBuf, journal_bytes: u64) -> Self {
        let step = (journal_bytes / PART).next_multiple_of(BLOCK).max(BLOCK);
        let state = State { data, step, journal: None, until: 0, reached: 0, total: 0, is_over: false };
        Self(Arc::new(Mutex::new(state)))
    }

    /// Whoever writes to the engine holds this until the engine's buffer is empty again.
    pub(crate) fn lock(&self) -> Writing<'_> {
        Writing(self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How much was written since the start, about.
    pub(crate) fn total(&self) -> u64 {
        self.lock().0.total
    }

    /// Writes zeros if few are left, when so many bytes more were written.
    pub(crate) fn go_on(&self, written: u64) {
        let mut state = self.lock().0;
        state.reached += written;
        state.total += written;
        if !state.is_over
            && state.reached + state.step / 2 > state.until
            && let Err(error) = state.step()
        {
            tracing::debug!(%error, "nothing is written ahead of the journal any more");
            state.is_over = true;
        }
    }
}

impl State {
    fn step(&mut self) -> io::Result<()> {
        let Some((number, path)) = journal::list(&self.data)?.pop() else { return Ok(()) };
        let is_same = self.journal.replace(number) == Some(number);
        let file = &match File::options().read(true).write(true).open(path) {
            // The engine needs it no more.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            opened => opened?,
        };
        let (step, length) = (self.step, file.metadata()?.len());
        let mut bytes = vec![0; (DISTANCE + step) as usize];
        let mut place = self.until;
        if !is_same || !is_zero(file, &mut bytes, place, (place + step).min(length))? {
            // A journal that nobody here knows, or data have come further than thought.
            place = (journal::end_of_data(file)? + DISTANCE).next_multiple_of(BLOCK);
            self.reached = place - DISTANCE;
            if !is_zero(file, &mut bytes, place, (place + step).min(length))? {
                self.until = length;
                return Ok(());
            }
        }
        let count = step.min(length - place) as usize;
        bytes.fill(0);
        file.write_all_at(&bytes[..count], place)?;
        self.until = place + count as u64;
        Ok(())
    }
}

/// Whether there are zeros from `place` to `until`, and some before it. There are none in nothing.
fn is_zero(file: &File, bytes: &mut [u8], place: u64, until: u64) -> io::Result<bool> {
    let from = place.saturating_sub(DISTANCE);
    if place >= until {
        return Ok(false);
    }
    let bytes = &mut bytes[..(until - from) as usize];
    file.read_exact_at(bytes, from)?;
    Ok(bytes.chunks(BLOCK as usize).all(|block| block == &[0; BLOCK as usize][..block.len()]))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    const LENGTH: u64 = 8 << 20;

    /// A journal with so much of nothing, as the engine makes it.
    fn journal(folder: &std::path::Path, number: u64) -> File {
        let file = File::create(folder.join(format!("{number}.jnl"))).expect("the folder is there");
        file.set_len(LENGTH).expect("the folder is there");
        file
    }

    fn contents(folder: &std::path::Path, number: u64) -> Vec<u8> {
        std::fs::read(folder.join(format!("{number}.jnl"))).expect("the folder is there")
    }

    #[test]
    fn zeros_are_ahead_of_what_is_written_and_nowhere_else() {
        let folder = tempfile::tempdir().expect("the folder is there");
        let ahead = Ahead::new(folder.path().to_owned(), PART << 20);
        ahead.go_on(1);
        let file = journal(folder.path(), 0);
        let mut expected = vec![0; LENGTH as usize];
        let mut at = 0;
        // What is written is told as less and as more than it is, and once it comes much further than that.
        for (count, told) in [(13_000, 13_000), (100_000, 20_000), (3 << 20, 1_000), (40_000, 600_000)].repeat(2) {
            let bytes: Vec<u8> = (0..count).map(|it: usize| it as u8 | 1).collect();
            file.write_all_at(&bytes, at as u64).expect("the folder is there");
            expected[at..at + count].copy_from_slice(&bytes);
            at += count;
            ahead.go_on(told);
            assert!(contents(folder.path(), 0) == expected, "only zeros over zeros, at {at}");
        }
        assert!(
            journal::end_of_data(&file).expect("the folder is there") > at as u64 + (1 << 19),
            "they are there, and no hole"
        );
        assert_eq!(file.metadata().expect("the folder is there").len(), LENGTH);
        assert_eq!(journal::written(&contents(folder.path(), 0)).len(), at.next_multiple_of(4_096));
    }

    #[test]
    fn another_journal_gets_zeros_as_well_and_a_full_one_none() {
        let folder = tempfile::tempdir().expect("the folder is there");
        let ahead = Ahead::new(folder.path().to_owned(), PART << 20);
        let file = journal(folder.path(), 0);
        file.write_all_at(&vec![1; LENGTH as usize - 5_000], 0).expect("the folder is there");
        ahead.go_on(1);
        assert!(journal::end_of_data(&file).expect("the folder is there") <= LENGTH);
        assert_eq!(contents(folder.path(), 0).iter().filter(|byte| **byte == 1).count(), LENGTH as usize - 5_000);
        let next = journal(folder.path(), 1);
        ahead.go_on(LENGTH);
        assert_eq!(journal::end_of_data(&next).expect("the folder is there"), DISTANCE + (1 << 20));
    }
}
