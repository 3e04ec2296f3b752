//! How anyone reaches a worker, and what anyone may know of it.

use std::cell::RefCell;
use std::sync::Arc;
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
    pub(crate) fn post(self: &Arc<Self>, mail: Mail) -> Result<(), Mail> {
        self.post_bytes(mail, 0).map(drop)
    }

    /// As [`Mailbox::post`], for mail that holds `bytes` to be sent. Returns whether more waits than should.
    pub(crate) fn post_bytes(self: &Arc<Self>, mail: Mail, bytes: usize) -> Result<bool, Mail> {
        let entered = self.queue.put(mail, bytes)?;
        if entered.is_first && !is_put_off(self) {
            self.notify().notify_one();
        }
        Ok(entered.is_behind)
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

thread_local! {
    /// Within [`together`]: whom to wake at its end.
    static PUT_OFF: RefCell<Option<Vec<Arc<Mailbox>>>> = const { RefCell::new(None) };
}

/// Runs `act`, and wakes the workers that it has work for once each and after it: for a thread that gives many answers, or sends to
/// many, in one go. Worker threads of other cores would begin with the first of them, sleep, and be woken again; one of the same core
/// would do so in its place. What `act` does must not take long.
pub fn together(act: &mut dyn FnMut()) {
    /// Wakes also when `act` panics.
    struct AtLast;
    impl Drop for AtLast {
        fn drop(&mut self) {
            let waiting = PUT_OFF.take();
            waiting.into_iter().flatten().for_each(|mailbox| mailbox.notify().notify_one());
        }
    }
    // One within another ends with the outer one.
    let is_outer = PUT_OFF.with_borrow_mut(|put_off| put_off.is_none().then(|| *put_off = Some(Vec::new())).is_some());
    let _at_last = is_outer.then(|| AtLast);
    act();
}

fn is_put_off(mailbox: &Arc<Mailbox>) -> bool {
    let put_off =
        |all: &RefCell<Option<Vec<_>>>| all.borrow_mut().as_mut().map(|all| all.push(mailbox.clone())).is_some();
    // A thread that ends may drop what sends.
    PUT_OFF.try_with(put_off).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_notified(mailbox: &Mailbox) -> bool {
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        std::pin::pin!(mailbox.notify().notified()).poll(&mut cx).is_ready()
    }

    fn mailboxes() -> [Arc<Mailbox>; 2] {
        [0, 1].map(|index| Arc::new(Mailbox::new(index)))
    }

    #[test]
    fn what_is_posted_together_wakes_each_worker_at_the_end() {
        let all = mailboxes();
        together(&mut || {
            // One within another ends with the outer one.
            for round in 0..2 {
                together(&mut || all.iter().for_each(|mailbox| assert!(mailbox.post(Mail::Wake(round)).is_ok())));
                assert!(!all.iter().any(|mailbox| is_notified(mailbox)));
            }
        });
        for mailbox in &all {
            assert!(is_notified(mailbox), "once");
            assert!(!is_notified(mailbox), "and no more than once");
            let mut batch = Vec::new();
            mailbox.take(&mut batch);
            assert_eq!(batch.len(), 2);
        }
        assert!(all[0].post(Mail::Wake(0)).is_ok());
        assert!(is_notified(&all[0]), "at once, as before");
    }

    #[test]
    fn workers_are_woken_though_it_panics() {
        let [mailbox, _] = mailboxes();
        let act = std::panic::AssertUnwindSafe(|| {
            together(&mut || {
                assert!(mailbox.post(Mail::Wake(0)).is_ok());
                panic!("as meant");
            });
        });
        assert!(std::panic::catch_unwind(act).is_err());
        assert!(is_notified(&mailbox));
    }
}
