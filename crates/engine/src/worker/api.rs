//! What a worker does for whoever is on its thread.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use posthaste_engine_proto::{CloseReason, Sid, Transport};
use tokio::sync::watch;

use super::{ConnectionId, Deferred, Deflated, Frames, Local, Staged, Worker, WorkerHandle, current};

impl Worker {
    /// The worker whose thread this is.
    #[must_use]
    pub fn current() -> Option<Self> {
        current(Clone::clone)
    }

    /// The worker of `handle`, if this is its thread.
    pub(crate) fn current_of(handle: &WorkerHandle) -> Option<Self> {
        current(|current| current.as_ref().filter(|worker| Arc::ptr_eq(&worker.0.mailbox, &handle.0)).cloned())
    }

    /// This worker, for other threads.
    #[must_use]
    pub fn handle(&self) -> WorkerHandle {
        WorkerHandle(self.0.mailbox.clone())
    }

    /// The time of this turn.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.0.now.get()
    }

    /// Applies the mail that waits, so that what is done next comes after everything posted before.
    ///
    /// A local operation calls this first. Then a task that posted from another thread and goes on here finds its own posts
    /// done, and a broadcast never overtakes the one that provoked it.
    pub fn apply_mail(&self) {
        self.0.apply_mail();
    }

    /// Whether everything posted to this worker so far has been done: a thread that keeps others from posting may then act at once,
    /// where it would otherwise have to post to the worker it is on.
    #[must_use]
    pub fn is_caught_up(&self) -> bool {
        !self.0.mailbox.has_mail() && !self.0.taking_mail.get()
    }

    /// Copies `frames` (a run of complete WebSocket frames) into this turn's buffer, for any number of receivers of this turn.
    #[must_use]
    pub fn stage(&self, frames: &[u8]) -> Staged {
        self.0.stage(frames)
    }

    /// As [`Worker::stage`], but shares the bytes when they are many.
    #[must_use]
    pub fn stage_shared(&self, frames: &Bytes) -> Staged {
        self.0.stage_shared(frames)
    }

    /// Sends what was staged this turn to the connections at `slots`. `volatile` skips those that cannot take it at once.
    /// Places without a connection are skipped.
    pub fn deliver(&self, staged: &Staged, slots: impl Iterator<Item = u32>, volatile: bool) -> usize {
        self.0.deliver(staged, slots, volatile)
    }

    /// Sends `frames` to one connection; does nothing if it is gone. Returns whether it was there (and, when `volatile`, able
    /// to take it).
    pub fn send(&self, id: ConnectionId, frames: &[u8], volatile: bool) -> bool {
        self.send_staged(id, frames, volatile, |_| {})
    }

    /// As [`Worker::send`], of what is to leave as it is where others would be compressed.
    pub fn send_uncompressed(&self, id: ConnectionId, frames: &[u8], volatile: bool) -> bool {
        self.send_staged(id, frames, volatile, |staged| self.leave_uncompressed(staged))
    }

    fn send_staged(&self, id: ConnectionId, frames: &[u8], volatile: bool, mark: impl FnOnce(&Staged)) -> bool {
        self.0.owns(id) && {
            let staged = self.0.stage(frames);
            mark(&staged);
            self.0.deliver(&staged, std::iter::once(id.slot), volatile) == 1
        }
    }

    /// Has what was staged this turn leave as it is, where connections agreed to compress, and bodies of polls that hold nothing else.
    pub fn leave_uncompressed(&self, staged: &Staged) {
        let mut core = self.0.core.borrow_mut();
        if staged.turn == core.turn_number {
            core.compression.get_or_insert_default().mark_plain(staged);
        }
    }

    /// What this worker compressed for WebSockets so far.
    #[must_use]
    pub fn deflated(&self) -> Deflated {
        self.0.core.borrow().compression.as_ref().map_or_else(Deflated::default, |compression| compression.stats)
    }

    /// Sends a text message to one connection; does nothing if it is gone. Returns whether it was there.
    pub fn send_text(&self, id: ConnectionId, text: &str) -> bool {
        self.send(id, Frames::text(text).bytes(), false)
    }

    /// Sends a binary message to one connection; does nothing if it is gone. Returns whether it was there.
    pub fn send_binary(&self, id: ConnectionId, data: &[u8]) -> bool {
        self.send(id, Frames::binary(data).bytes(), false)
    }

    /// Closes a connection after what waits for it was sent. The application hears of it with `reason`.
    pub fn close(&self, id: ConnectionId, reason: CloseReason) {
        self.0.start_clock();
        self.0.close(id, reason);
    }

    /// Vouches for a connection: from now on it may send messages of up to
    /// [`max_payload`](crate::EngineConfig::max_payload) bytes.
    pub fn vouch(&self, id: ConnectionId) {
        if let Some(connection) = self.0.core.borrow_mut().get_mut(id).filter(|_| id.worker == self.0.mailbox.index) {
            connection.vouched = true;
        }
    }

    /// Has the application told of the pings and pongs of a connection, from now on.
    pub fn follow_heartbeat(&self, id: ConnectionId) {
        if let Some(connection) = self.0.core.borrow_mut().get_mut(id).filter(|_| id.worker == self.0.mailbox.index) {
            connection.followed = true;
        }
    }

    /// Pings a connection before its time. Returns whether it does: not while a pong is awaited, and not clients of revision 3, which
    /// ping by themselves.
    pub fn ping_early(&self, id: ConnectionId) -> bool {
        self.0.start_clock();
        id.worker == self.0.mailbox.index && self.0.ping_early(id)
    }

    /// Starts a handler of a connection: it is polled in place, up to its first await that has to wait. Called inside another
    /// handler, it starts when that one returns to the worker; called in a job, when all mail that was posted so far is applied.
    ///
    /// A handler that panics ends alone, and its application is told with `tag`. Past the bound of unfinished handlers the
    /// connection is not read any more.
    pub fn start(&self, owner: ConnectionId, tag: u32, handler: Pin<Box<dyn Future<Output = ()>>>) {
        // What a handler does comes after everything posted before, which is not done while mail is being applied.
        if self.0.busy.get() || self.0.taking_mail.get() {
            self.0.deferred.borrow_mut().push_back(Deferred::Start(owner, tag, handler));
            self.0.want_turn();
        } else {
            self.0.start(owner, tag, handler);
        }
    }

    /// For whoever has just called user code: how long that has taken, if it was too long ([`WorkerStalls`](super::WorkerStalls)). Told once, to whoever
    /// asks first; costs a load.
    #[must_use]
    pub fn stalled(&self) -> Option<Duration> {
        self.0.mailbox.pulse.blame()
    }

    /// This worker's number.
    #[must_use]
    pub fn index(&self) -> u16 {
        self.0.mailbox.index
    }

    /// Whether this is the worker of `handle`.
    #[must_use]
    pub fn is(&self, handle: &WorkerHandle) -> bool {
        self.0.is(handle)
    }

    /// The transport a connection is on; `None` when it is gone.
    #[must_use]
    pub fn transport(&self, id: ConnectionId) -> Option<Transport> {
        self.0.core.borrow().get(id).map(|connection| connection.session.transport())
    }

    /// Bytes that wait for a connection to take them, and packets; `None` when it is gone. What is sent later than that waits behind.
    #[must_use]
    pub fn queued(&self, id: ConnectionId) -> Option<(usize, usize)> {
        self.0.core.borrow().get(id).map(|connection| (connection.outbox.bytes(), connection.outbox.packets()))
    }

    /// The session id of a connection: a secret between it and its client. `None` when it is gone.
    #[must_use]
    pub fn sid(&self, id: ConnectionId) -> Option<Sid> {
        self.0.core.borrow().get(id).map(|connection| connection.sid)
    }

    /// How many connections this worker owns.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.0.mailbox.load.load(Ordering::Relaxed)
    }

    /// How many handlers have not finished.
    #[must_use]
    pub fn handlers(&self) -> usize {
        self.0.tasks.len()
    }

    /// Becomes true when the worker ends: its HTTP connections end then too.
    pub(crate) fn http_stopping(&self) -> watch::Receiver<bool> {
        self.0.stop_http.subscribe()
    }

    pub(crate) fn local(&self) -> &Rc<Local> {
        &self.0
    }
}
