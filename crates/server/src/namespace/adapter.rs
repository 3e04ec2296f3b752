//! The adapter of a namespace that may still be being made.

use std::sync::{Arc, OnceLock};
use std::thread::{self, ThreadId};

use posthaste_adapter::Adapter;

/// Absent while it is made, by the thread that makes the namespace; other threads that want it wait until it has started.
///
/// So applications' code runs in the making of an adapter and in its start without any lock, and may use the server: other
/// namespaces in both, and its own from its start on.
pub(super) struct AdapterCell {
    maker: ThreadId,
    adapter: OnceLock<Arc<dyn Adapter>>,
    started: OnceLock<()>,
}

/// Lets those go who wait, also when the start panics.
struct Started<'a>(&'a OnceLock<()>);

impl Drop for Started<'_> {
    fn drop(&mut self) {
        // Set before only if a start that panicked is made good.
        let _ = self.0.set(());
    }
}

impl AdapterCell {
    pub(super) fn new() -> Self {
        Self { maker: thread::current().id(), adapter: OnceLock::new(), started: OnceLock::new() }
    }

    pub(super) fn start(&self, adapter: Arc<dyn Adapter>, start: impl FnOnce(&Arc<dyn Adapter>)) {
        let _started = Started(&self.started);
        start(self.adapter.get_or_init(|| adapter));
    }

    /// The adapter, if it is there.
    pub(super) fn made(&self) -> Option<&Arc<dyn Adapter>> {
        self.adapter.get()
    }

    pub(super) fn get(&self, namespace: &str) -> &Arc<dyn Adapter> {
        if self.started.get().is_none() && thread::current().id() != self.maker {
            self.started.wait();
        }
        match self.adapter.get() {
            Some(adapter) => adapter,
            None => panic!("the adapter of {namespace} is being made: nothing can be sent there yet"),
        }
    }
}
