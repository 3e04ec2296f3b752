//! Who of this process reads which inbox, and how far they have come.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use posthaste_history::store::{StreamName, Write};
use smallvec::SmallVec;

/// Of how many inboxes cursors are written in one commit.
const AT_ONCE: usize = 1_024;

/// Workers, and how many sockets each has.
type Sockets = SmallVec<[(u16, u32); 1]>;
/// Devices, and how far each has come.
type Devices = SmallVec<[(Arc<str>, u64); 1]>;

/// The inboxes that are read here. Those of whoever is away take nothing.
///
/// The two locks are never held together: whoever commits holds the second, and whoever hears of commits needs the first.
#[derive(Default)]
pub(crate) struct Readers {
    /// The workers that have sockets of an inbox, and how many.
    present: Mutex<HashMap<StreamName, Sockets>>,
    moved: Mutex<Moved>,
}

#[derive(Default)]
struct Moved {
    /// Cursors that have moved and were not written yet.
    cursors: HashMap<StreamName, Devices>,
    is_writing: bool,
}

impl Readers {
    /// A socket of a worker reads an inbox from now on.
    pub(crate) fn enter(&self, inbox: &StreamName, worker: u16) {
        let mut present = lock(&self.present);
        let workers = present.entry(inbox.clone()).or_default();
        match workers.iter_mut().find(|(there, _)| *there == worker) {
            Some((_, sockets)) => *sockets += 1,
            None => workers.push((worker, 1)),
        }
    }

    /// And no more.
    pub(crate) fn leave(&self, inbox: &StreamName, worker: u16) {
        let mut present = lock(&self.present);
        let Entry::Occupied(mut there) = present.entry(inbox.clone()) else { return };
        let workers = there.get_mut();
        if let Some(place) = workers.iter().position(|(there, _)| *there == worker) {
            workers[place].1 -= 1;
            if workers[place].1 == 0 {
                workers.swap_remove(place);
            }
        }
        if workers.is_empty() {
            there.remove();
        }
    }

    /// The workers that have somebody who reads an inbox.
    pub(crate) fn workers(&self, inbox: &StreamName) -> SmallVec<[u16; 4]> {
        lock(&self.present).get(inbox).into_iter().flatten().map(|(worker, _)| *worker).collect()
    }

    /// A device has everything up to `pos`. Returns whether somebody has to begin to write such.
    pub(crate) fn moved(&self, inbox: &StreamName, device: &Arc<str>, pos: u64) -> bool {
        let mut state = lock(&self.moved);
        let devices = state.cursors.entry(inbox.clone()).or_default();
        match devices.iter_mut().find(|(there, _)| there == device) {
            Some((_, moved)) => *moved = pos.max(*moved),
            None => devices.push((device.clone(), pos)),
        }
        !std::mem::replace(&mut state.is_writing, true)
    }

    /// Hands cursors that have moved to `commit`, which must be the only one who takes them to the store: under the lock, so that whoever
    /// asks the store behind this finds them. `None` when there are none, and nobody writes any more.
    pub(crate) fn write<R>(&self, commit: impl FnOnce(Vec<Write>) -> R) -> Option<R> {
        let mut state = lock(&self.moved);
        if state.cursors.is_empty() {
            state.is_writing = false;
            return None;
        }
        let inboxes: Vec<_> = state.cursors.keys().take(AT_ONCE).cloned().collect();
        let writes = inboxes.iter().flat_map(|inbox| state.cursors_of(inbox)).collect();
        Some(commit(writes))
    }

    /// As [`Readers::write`], of one inbox only; there may be none.
    pub(crate) fn write_of<R>(&self, inbox: &StreamName, commit: impl FnOnce(Vec<Write>) -> R) -> R {
        let mut state = lock(&self.moved);
        let writes = state.cursors_of(inbox).collect();
        commit(writes)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Moved {
    fn cursors_of(&mut self, inbox: &StreamName) -> impl Iterator<Item = Write> + use<> {
        let (stream, devices) = (inbox.clone(), self.cursors.remove(inbox).unwrap_or_default());
        devices.into_iter().map(move |(device, pos)| Write::Cursor { stream: stream.clone(), device, pos })
    }
}
