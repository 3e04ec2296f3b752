//! A queue that many threads put into and one takes whole.
//!
//! Every interleaving of a few threads is tried in `tests/queue_model`, which compiles this file on a model checker's primitives.

use super::sync::{AtomicBool, Mutex, Notify, Ordering, PoisonError};

/// From how many bytes to be sent on publishers that await what they send wait for the worker. Far more than a turn takes: only
/// a worker that does not keep up gets there.
pub(super) const HIGH: usize = 16 << 20;

/// Nothing is refused while it is open, and what one thread puts in is taken in that order.
pub(super) struct Queue<T> {
    entries: Mutex<Entries<T>>,
    /// Set while more than [`HIGH`] bytes wait.
    behind: AtomicBool,
    /// Tells publishers when that is over.
    caught_up: Notify,
    /// Set while something waits, and changed only with the entries; one batch costs one notification, and looking costs one load.
    waiting: AtomicBool,
    /// Tells whoever takes.
    pub(super) notify: Notify,
}

/// How an entry found its queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entered {
    /// Nothing waited before it: nobody else notifies.
    pub(super) is_first: bool,
    /// More waits to be sent than should.
    pub(super) is_behind: bool,
}

struct Entries<T> {
    all: Vec<T>,
    /// What waits to be sent.
    bytes: usize,
    closed: bool,
}

impl<T> Queue<T> {
    pub(super) fn new() -> Self {
        Self {
            entries: Mutex::new(Entries { all: Vec::new(), bytes: 0, closed: false }),
            behind: AtomicBool::new(false),
            caught_up: Notify::new(),
            waiting: AtomicBool::new(false),
            notify: Notify::new(),
        }
    }

    /// Puts `entry` in, which holds `bytes` to be sent; gives it back when nobody takes any more. Whoever puts the
    /// [first](Entered::is_first) one in has to see to it that [`Queue::notify`] is notified.
    pub(super) fn put(&self, entry: T, bytes: usize) -> Result<Entered, T> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.closed {
            return Err(entry);
        }
        let is_first = entries.all.is_empty();
        if is_first {
            self.waiting.store(true, Ordering::Release);
        }
        entries.all.push(entry);
        entries.bytes += bytes;
        let is_behind = entries.bytes > HIGH;
        if is_behind {
            self.behind.store(true, Ordering::Relaxed);
        }
        Ok(Entered { is_first, is_behind })
    }

    /// Whether something waits. What the caller knows to have been put in is seen, unless it was taken.
    pub(super) fn has_some(&self) -> bool {
        self.waiting.load(Ordering::Acquire)
    }

    /// Swaps what waits into `batch`, which must be empty.
    pub(super) fn take(&self, batch: &mut Vec<T>) {
        {
            let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::swap(&mut entries.all, batch);
            entries.bytes = 0;
            self.waiting.store(false, Ordering::Relaxed);
            if !self.behind.load(Ordering::Relaxed) {
                return;
            }
            self.behind.store(false, Ordering::Relaxed);
        }
        self.caught_up.notify_waiters();
    }

    /// Whether more waits to be sent than should.
    pub(super) fn is_behind(&self) -> bool {
        self.behind.load(Ordering::Relaxed)
    }

    /// Waits until what waits was taken, if that is more than should. What comes after it is for others to wait for.
    pub(super) async fn caught_up(&self) {
        // Listens before it looks: what is taken in between is heard.
        let caught_up = self.caught_up.notified();
        if self.is_behind() {
            caught_up.await;
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).closed
    }

    /// Refuses entries from now on and drops what waits.
    pub(super) fn close(&self) {
        let all = {
            let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
            entries.closed = true;
            entries.bytes = 0;
            self.behind.store(false, Ordering::Relaxed);
            self.waiting.store(false, Ordering::Relaxed);
            std::mem::take(&mut entries.all)
        };
        self.caught_up.notify_waiters();
        // What is dropped may call back.
        drop(all);
    }
}
