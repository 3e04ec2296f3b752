//! Whose handler kept a worker from everything else.

use std::time::Duration;

use posthaste_engine::{ConnectionId, WorkerStalls};

use super::Local;
use crate::server::Server;
use crate::socket::Socket;

impl Local {
    /// A handler of `socket` was called, up to its first await: for an event, or for what `what` says. If that was a stall, it
    /// is in the log by name.
    #[inline]
    pub(super) fn blame(&self, socket: &Socket, what: &str) {
        if let Some(taken) = self.worker.stalled() {
            self.report_stall_in(socket, what, taken);
        }
    }

    #[cold]
    fn report_stall_in(&self, socket: &Socket, what: &str, taken: Duration) {
        tracing::warn!(
            worker = self.worker.index(),
            namespace = &*socket.0.namespace.name,
            event = what,
            socket = %socket.id(),
            milliseconds = taken.as_millis(),
            "worker stalled: a handler kept it from its other connections; heavy work belongs on spawn_blocking"
        );
    }

    /// The same for a handler that went on after an await; nobody knows any more what for.
    pub(super) fn report_stall(&self, id: ConnectionId, serial: u32, taken: Duration) {
        let socket = self.socket_of(id, serial);
        tracing::warn!(
            worker = self.worker.index(),
            namespace = socket.as_ref().map(|socket| &*socket.0.namespace.name),
            socket = socket.as_ref().map(|socket| tracing::field::display(socket.id())),
            milliseconds = taken.as_millis(),
            "worker stalled: a handler kept it from its other connections after an await; heavy work belongs on spawn_blocking"
        );
    }
}

impl Server {
    /// How each worker has kept up, by its number: whether handlers keep it from its other connections. Asks no worker, so it
    /// answers also when one of them does not any more.
    ///
    /// ```
    /// # let io = posthaste::Server::new()?;
    /// let stalls: u64 = io.worker_stalls().iter().map(|worker| worker.stalls).sum();
    /// assert_eq!(stalls, 0);
    /// # Ok::<(), posthaste::BuildError>(())
    /// ```
    #[must_use]
    pub fn worker_stalls(&self) -> Vec<WorkerStalls> {
        self.0.workers.handles().iter().map(posthaste_engine::WorkerHandle::stalls).collect()
    }
}
