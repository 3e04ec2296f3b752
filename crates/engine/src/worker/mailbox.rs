//! How anyone reaches a worker, and what anyone may know of it.

use std::sync::atomic::AtomicUsize;

use tokio::sync::Notify;

use super::Worker;
use super::pulse::Pulse;
use super::queue::Queue;

/// Work for a worker's thread. No handler begins while it runs: those that it starts begin when all mail is applied.
pub(super) type Job = Box<dyn FnOnce(&Worker) + Send>;

pub(crate) enum Mail {
    Job(Job),
    /// A handler's future may make progress.
    Wake(u32),
}

/// The shared half of a worker.
///
/// What posts into it is bounded by its callers: requests by open connections, wake-ups by unfinished handlers, one each. What is
/// to be sent is bounded by publishers that await it: past [`HIGH`](super::queue::HIGH) bytes they wait until the worker has taken
/// what waits. Nothing is refused and nothing overtakes; a publisher that does not wait for what it sends is held back by nobody.
pub(crate) struct Mailbox {
    pub(crate) index: u16,
    queue: Queue<Mail>,
    /// Connections owned, for choosing the least loaded worker.
    pub(crate) load: AtomicUsize,
    /// Whether the worker keeps up with its turns.
    pub(super) pulse: Pulse,
}

impl Mailbox {
    pub(super) fn new(index: u16) -> Self {
        Self { index, queue: Queue::new(), load: AtomicUsize::new(0), pulse: Pulse::new() }
    }

    /// Queues `mail`; gives it back when the worker has ended.
    pub(crate) fn post(&self, mail: Mail) -> Result<(), Mail> {
        self.post_bytes(mail, 0).map(drop)
    }

    /// As [`Mailbox::post`], for mail that holds `bytes` to be sent. Returns whether more waits than should.
    pub(crate) fn post_bytes(&self, mail: Mail, bytes: usize) -> Result<bool, Mail> {
        self.queue.put(mail, bytes)
    }

    pub(super) fn has_mail(&self) -> bool {
        self.queue.has_some()
    }

    /// Swaps the waiting mail into `batch`, which must be empty.
    pub(super) fn take(&self, batch: &mut Vec<Mail>) {
        self.queue.take(batch);
    }

    /// Notified when mail has come, or a turn is wanted.
    pub(super) const fn notify(&self) -> &Notify {
        &self.queue.notify
    }

    /// Whether more waits to be sent than should.
    pub(crate) fn is_behind(&self) -> bool {
        self.queue.is_behind()
    }

    /// Waits until the worker has taken what waits, if that is more than should. What comes after it is for others to wait for.
    pub(crate) async fn caught_up(&self) {
        self.queue.caught_up().await;
    }

    pub(super) fn is_closed(&self) -> bool {
        self.queue.is_closed()
    }

    /// Refuses mail from now on and drops what waits.
    pub(super) fn close(&self) {
        self.queue.close();
    }
}
