//! How the server ends connections: one, the slowest, an application's, all.

use std::time::{Duration, Instant};

use posthaste_engine_proto::limits::slowest;
use posthaste_engine_proto::session::{CloseDecision, deadline_after};
use posthaste_engine_proto::{CloseReason, Limit, Outbox};

use super::connection::Farewell;
use super::{AppEntry, AppIndex, ConnectionId, Deferred, Local};

impl Local {
    /// Ends a connection that the server closes: what waits is sent first.
    pub(super) fn close(&self, id: ConnectionId, reason: CloseReason) {
        if id.worker != self.mailbox.index {
            return;
        }
        let decision = {
            let mut core = self.core.borrow_mut();
            let has_out = core.has_out(id);
            let Some(connection) = core.get_mut(id) else { return };
            let waiting = has_out || !connection.outbox.is_empty();
            connection.session.close(self.now.get(), waiting)
        };
        match decision {
            CloseDecision::Already => {}
            CloseDecision::EndStream | CloseDecision::AnswerPoll => self.end(id, reason, Farewell::Quiet),
            CloseDecision::AwaitPoll => {
                // The application is done with it; the session lingers for the poll that fetches the end.
                let late = if reason == CloseReason::ForcedClose { CloseReason::ForcedServerClose } else { reason };
                self.tell_closed(id, late);
                self.rearm(id);
            }
        }
    }

    pub(super) fn tell_closed(&self, id: ConnectionId, reason: CloseReason) {
        let Some(app) = ({ self.core.borrow_mut().tell(id) }) else { return };
        self.deferred.borrow_mut().push_back(Deferred::Closed(app, id, reason));
        self.want_turn();
    }

    /// Whether an application takes no connections any more.
    pub(crate) fn has_ended(&self, app: AppIndex) -> bool {
        self.stopping.get().is_some() || self.app(app).closed
    }

    /// Memory is short: ends the connections of `app` that read slowest, until `excess` bytes less wait.
    pub(crate) fn shed(&self, app: AppIndex, excess: u64) {
        // What this turn produced counts as well.
        self.flush();
        let AppEntry { gate, .. } = self.app(app);
        let slow = {
            let core = self.core.borrow();
            let waiting = core.ids().filter_map(|id| {
                let connection = core.get(id)?;
                (connection.app == app && !core.is_told(id)).then(|| (id, connection.outbox.bytes()))
            });
            slowest(waiting, excess)
        };
        for id in slow {
            if gate.forbids(Limit::Shed) {
                tracing::warn!(connection = ?id, "disconnected: memory is short, and it reads slowly");
                // What waits for it is what there is to gain, here and in the kernel: no goodbye.
                if let Some(connection) = self.core.borrow_mut().get_mut(id) {
                    connection.outbox = Outbox::default();
                }
                self.end(id, CloseReason::Slow, Farewell::Gone);
            }
        }
        self.settle();
    }

    /// Ends every connection, and then the worker: when all handlers have finished, or when `patience` is over.
    pub(super) fn stop(&self, patience: Duration) {
        if self.stopping.get().is_none() {
            self.stopping.set(Some(deadline_after(Instant::now(), patience)));
            self.stop_http.send_replace(true);
        }
        self.end_all(None);
        self.want_turn();
    }

    /// Ends every connection, or those of one application.
    pub(super) fn end_all(&self, app: Option<AppIndex>) {
        let all: Vec<ConnectionId> = {
            let core = self.core.borrow();
            core.ids().filter(|id| app.is_none_or(|app| core.get(*id).is_some_and(|one| one.app == app))).collect()
        };
        for id in all {
            self.end(id, CloseReason::ServerShutdown, Farewell::Quiet);
        }
    }

    /// Ends an application: its connections now, and those that would come later.
    pub(super) fn end_app(&self, app: AppIndex) {
        if let Some(entry) = self.apps.borrow_mut().get_mut(usize::from(app)) {
            entry.closed = true;
        }
        self.end_all(Some(app));
        self.settle();
        self.want_turn();
    }
}
