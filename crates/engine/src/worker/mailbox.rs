//! How anyone reaches a worker: a queue that is taken whole.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::Notify;

use super::Worker;

/// From how many bytes to be sent on publishers that await what they send wait for the worker. Far more than a turn takes: only
/// a worker that does not keep up gets there.
const HIGH: usize = 16 << 20;

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
/// to be sent is bounded by publishers that await it: past [`HIGH`] they wait until the worker has taken what waits. Nothing is
/// refused and nothing overtakes; a publisher that does not wait for what it sends is held back by nobody.
pub(crate) struct Mailbox {
    pub(crate) index: u16,
    queue: Mutex<Queue>,
    /// Set while more than [`HIGH`] bytes wait.
    behind: AtomicBool,
    /// Tells publishers when that is over.
    caught_up: Notify,
    /// Set while mail waits; one batch costs one notification, and looking for mail costs one load.
    waiting: AtomicBool,
    pub(crate) notify: Notify,
    /// Connections owned, for choosing the least loaded worker.
    pub(crate) load: AtomicUsize,
}

#[derive(Default)]
struct Queue {
    mail: Vec<Mail>,
    /// What waits to be sent.
    bytes: usize,
    closed: bool,
}

impl Mailbox {
    pub(super) fn new(index: u16) -> Self {
        Self {
            index,
            queue: Mutex::default(),
            behind: AtomicBool::new(false),
            caught_up: Notify::new(),
            waiting: AtomicBool::new(false),
            notify: Notify::new(),
            load: AtomicUsize::new(0),
        }
    }

    /// Queues `mail`; gives it back when the worker has ended.
    pub(crate) fn post(&self, mail: Mail) -> Result<(), Mail> {
        self.post_bytes(mail, 0).map(drop)
    }

    /// As [`Mailbox::post`], for mail that holds `bytes` to be sent. Returns whether more waits than should.
    pub(crate) fn post_bytes(&self, mail: Mail, bytes: usize) -> Result<bool, Mail> {
        let behind = {
            let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            if queue.closed {
                return Err(mail);
            }
            queue.mail.push(mail);
            queue.bytes += bytes;
            let behind = queue.bytes > HIGH;
            if behind {
                self.behind.store(true, Ordering::Relaxed);
            }
            behind
        };
        if !self.waiting.swap(true, Ordering::AcqRel) {
            self.notify.notify_one();
        }
        Ok(behind)
    }

    pub(super) fn has_mail(&self) -> bool {
        self.waiting.load(Ordering::Acquire)
    }

    /// Swaps the waiting mail into `batch`, which must be empty.
    pub(super) fn take(&self, batch: &mut Vec<Mail>) {
        self.waiting.store(false, Ordering::Release);
        {
            let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::swap(&mut queue.mail, batch);
            queue.bytes = 0;
            if !self.behind.load(Ordering::Relaxed) {
                return;
            }
            self.behind.store(false, Ordering::Relaxed);
        }
        self.caught_up.notify_waiters();
    }

    /// Whether more waits to be sent than should.
    pub(crate) fn is_behind(&self) -> bool {
        self.behind.load(Ordering::Relaxed)
    }

    /// Waits until the worker has taken what waits, if that is more than should. What comes after it is for others to wait for.
    pub(crate) async fn caught_up(&self) {
        // Listens before it looks: what is taken in between is heard.
        let caught_up = self.caught_up.notified();
        if self.is_behind() {
            caught_up.await;
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).closed
    }

    /// Refuses mail from now on and drops what waits.
    pub(super) fn close(&self) {
        let mail = {
            let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            queue.closed = true;
            queue.bytes = 0;
            self.behind.store(false, Ordering::Relaxed);
            std::mem::take(&mut queue.mail)
        };
        self.waiting.store(false, Ordering::Release);
        self.caught_up.notify_waiters();
        drop(mail);
    }
}
