//! What the queue is made of here.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

pub(super) use loom::sync::Mutex;
pub(super) use loom::sync::atomic::{AtomicBool, Ordering};
pub(super) use std::sync::PoisonError;

/// tokio's, as far as its documentation goes: one permit for whoever comes, and a call to all who listen.
pub(super) struct Notify(Mutex<State>);

struct State {
    permit: bool,
    calls: u64,
    wakers: Vec<Waker>,
}

pub(super) struct Notified<'a> {
    notify: &'a Notify,
    /// It listens from the moment it is made.
    calls: u64,
}

impl Notify {
    pub(super) fn new() -> Self {
        Self(Mutex::new(State { permit: false, calls: 0, wakers: Vec::new() }))
    }

    pub(super) fn notify_one(&self) {
        let wakers = {
            let mut state = self.0.lock().unwrap();
            state.permit = true;
            std::mem::take(&mut state.wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    pub(super) fn notify_waiters(&self) {
        let wakers = {
            let mut state = self.0.lock().unwrap();
            state.calls += 1;
            std::mem::take(&mut state.wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    pub(super) fn notified(&self) -> Notified<'_> {
        Notified { notify: self, calls: self.0.lock().unwrap().calls }
    }
}

impl Future for Notified<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.notify.0.lock().unwrap();
        if state.calls != self.calls || std::mem::take(&mut state.permit) {
            return Poll::Ready(());
        }
        state.wakers.push(cx.waker().clone());
        Poll::Pending
    }
}
