//! How anyone reaches a worker: a queue that is taken whole.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::Notify;

use super::Worker;

/// Work for a worker's thread. It never runs an application's handler: those are started by the worker itself.
pub(super) type Job = Box<dyn FnOnce(&Worker) + Send>;

pub(crate) enum Mail {
    Job(Job),
    /// A handler's future may make progress.
    Wake(u32),
}

/// The shared half of a worker.
///
/// The queue has no bound of its own: what posts into it is bounded by its callers (broadcasts by the publisher's own pace,
/// requests by open connections, wake-ups by unfinished handlers, one each).
pub(crate) struct Mailbox {
    pub(crate) index: u16,
    queue: Mutex<Queue>,
    /// Set while mail waits; one batch costs one notification, and looking for mail costs one load.
    waiting: AtomicBool,
    pub(crate) notify: Notify,
    /// Connections owned, for choosing the least loaded worker.
    pub(crate) load: AtomicUsize,
}

#[derive(Default)]
struct Queue {
    mail: Vec<Mail>,
    closed: bool,
}

impl Mailbox {
    pub(super) fn new(index: u16) -> Self {
        Self {
            index,
            queue: Mutex::default(),
            waiting: AtomicBool::new(false),
            notify: Notify::new(),
            load: AtomicUsize::new(0),
        }
    }

    /// Queues `mail`; gives it back when the worker has ended.
    pub(crate) fn post(&self, mail: Mail) -> Result<(), Mail> {
        {
            let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            if queue.closed {
                return Err(mail);
            }
            queue.mail.push(mail);
        }
        if !self.waiting.swap(true, Ordering::AcqRel) {
            self.notify.notify_one();
        }
        Ok(())
    }

    pub(super) fn has_mail(&self) -> bool {
        self.waiting.load(Ordering::Acquire)
    }

    /// Swaps the waiting mail into `batch`, which must be empty.
    pub(super) fn take(&self, batch: &mut Vec<Mail>) {
        self.waiting.store(false, Ordering::Release);
        std::mem::swap(&mut self.queue.lock().unwrap_or_else(PoisonError::into_inner).mail, batch);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).closed
    }

    /// Refuses mail from now on and drops what waits.
    pub(super) fn close(&self) {
        let mail = {
            let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            queue.closed = true;
            std::mem::take(&mut queue.mail)
        };
        self.waiting.store(false, Ordering::Release);
        drop(mail);
    }
}
