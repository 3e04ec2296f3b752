//! Who is about to take which session up: one at a time, and whoever comes last has the right to it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use posthaste_engine::ConnectionId;
use posthaste_history::Pid;
use tokio::sync::watch;

use super::Journal;

/// The attempts of a namespace.
#[derive(Debug, Default)]
pub(super) struct Attempts(Mutex<HashMap<Pid, Going>>);

#[derive(Debug)]
struct Going {
    owner: ConnectionId,
    /// Who came last of those that wait for its end.
    next: Option<ConnectionId>,
    /// Dropped at its end.
    over: watch::Sender<()>,
}

/// The right to take a session up, until it is dropped.
pub(crate) struct Attempt {
    journal: Arc<Journal>,
    pid: Pid,
}

/// An attempt that is going on, of another connection.
#[derive(Debug)]
pub(crate) struct Earlier {
    /// The connections that are to be closed: its own, and that of whoever waited for its end before.
    pub(crate) owners: Vec<ConnectionId>,
    over: watch::Receiver<()>,
}

impl Earlier {
    /// Ready when it is over.
    pub(crate) async fn over(&mut self) {
        // Nothing is ever sent.
        let _ = self.over.changed().await;
    }
}

impl Attempts {
    fn take(&self, pid: Pid, owner: ConnectionId) -> Result<(), Earlier> {
        let mut all = self.lock();
        let Some(going) = all.get_mut(&pid) else {
            all.insert(pid, Going { owner, next: None, over: watch::Sender::new(()) });
            return Ok(());
        };
        let former = going.next.replace(owner).filter(|former| *former != owner);
        Err(Earlier { owners: std::iter::once(going.owner).chain(former).collect(), over: going.over.subscribe() })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Pid, Going>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Journal {
    /// Takes the right to take a session up, unless another connection has it.
    pub(crate) fn attempt(self: &Arc<Self>, pid: Pid, owner: ConnectionId) -> Result<Attempt, Earlier> {
        self.attempts.take(pid, owner).map(|()| Attempt { journal: self.clone(), pid })
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.journal.attempts.lock().remove(&self.pid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(slot: u32) -> ConnectionId {
        ConnectionId { worker: 0, slot, generation: 1 }
    }

    #[tokio::test]
    async fn whoever_waits_already_is_closed_for_whoever_comes_last() {
        let (attempts, pid) = (Attempts::default(), Pid::from_bytes([7; 16]));
        attempts.take(pid, connection(1)).unwrap();
        attempts.take(Pid::from_bytes([8; 16]), connection(1)).unwrap();
        let mut second = attempts.take(pid, connection(2)).unwrap_err();
        assert_eq!(second.owners, [connection(1)]);
        assert_eq!(attempts.take(pid, connection(2)).unwrap_err().owners, [connection(1)], "it does not close itself");
        let mut third = attempts.take(pid, connection(3)).unwrap_err();
        assert_eq!(third.owners, [connection(1), connection(2)]);
        attempts.lock().remove(&pid);
        second.over().await;
        third.over().await;
        attempts.take(pid, connection(3)).unwrap();
    }
}
