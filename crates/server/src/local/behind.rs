//! Publishers that are faster than the workers.

use std::sync::atomic::{AtomicBool, Ordering};

use posthaste_engine::WorkerHandle;

use crate::namespace::NamespaceInner;
use crate::sent::Sent;

/// Whether some worker did not keep up when last something was posted to it for a namespace.
#[derive(Debug, Default)]
pub(crate) struct Behind(AtomicBool);

impl Behind {
    pub(crate) fn note(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl NamespaceInner {
    /// `sent`, ready no sooner than the workers have taken what was posted to them, if that is more than should wait.
    pub(crate) fn held_back(&self, sent: Sent) -> Sent {
        if !self.behind.0.load(Ordering::Relaxed) {
            return sent;
        }
        let Some(server) = self.server.upgrade() else { return sent };
        let behind: Vec<_> =
            server.workers.handles().iter().filter(|worker| worker.is_behind()).map(WorkerHandle::caught_up).collect();
        if behind.is_empty() {
            self.behind.0.store(false, Ordering::Relaxed);
            return sent;
        }
        sent.after(async {
            for caught_up in behind {
                caught_up.await;
            }
        })
    }
}
