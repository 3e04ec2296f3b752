//! An answer that comes from another thread, for whoever waits: no runtime is involved.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use crate::store::port::{Answer, StoreError};

/// How what answers several questions is run: as it is called, at once, so that whoever is woken by it may be woken once.
pub type Around = Arc<dyn Fn(&mut dyn FnMut()) + Send + Sync>;

enum State<T> {
    Waiting(Option<Waker>),
    Answered(T),
    /// Nobody will answer.
    Dropped,
    Taken,
}

/// The side that answers. Dropping it answers [`StoreError::Closed`].
pub struct Reply<T>(Arc<Mutex<State<Result<T, StoreError>>>>);

struct Asked<T>(Arc<Mutex<State<Result<T, StoreError>>>>);

/// A question's two ends: who answers it, and what to wait for.
#[must_use]
pub fn reply<T: Send + 'static>() -> (Reply<T>, Answer<T>) {
    let state = Arc::new(Mutex::new(State::Waiting(None)));
    (Reply(state.clone()), Box::pin(Asked(state)))
}

/// Waits for an answer on this thread, which must not be one that the answer needs.
pub fn wait<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let (mut future, mut cx) = (pin!(future), Context::from_waker(&waker));
    loop {
        match future.as_mut().poll(&mut cx) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// The answer if it is there already. Whoever gets `None` polls it again.
pub fn at_once<F: Future + Unpin>(answer: &mut F) -> Option<F::Output> {
    match pin!(answer).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

impl<T> Reply<T> {
    /// Answers.
    pub fn answer(self, answer: Result<T, StoreError>) {
        self.set(State::Answered(answer));
    }

    fn set(&self, state: State<Result<T, StoreError>>) {
        let former = std::mem::replace(&mut *lock(&self.0), state);
        if let State::Waiting(Some(waker)) = former {
            waker.wake();
        }
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        let is_open = matches!(*lock(&self.0), State::Waiting(_));
        if is_open {
            self.set(State::Dropped);
        }
    }
}

impl<T> Future for Asked<T> {
    type Output = Result<T, StoreError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = lock(&self.0);
        match std::mem::replace(&mut *state, State::Taken) {
            State::Answered(answer) => Poll::Ready(answer),
            State::Dropped | State::Taken => Poll::Ready(Err(StoreError::Closed)),
            State::Waiting(_) => {
                *state = State::Waiting(Some(cx.waker().clone()));
                Poll::Pending
            }
        }
    }
}

fn lock<T>(state: &Mutex<State<T>>) -> MutexGuard<'_, State<T>> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_comes_from_another_thread_before_or_after_it_is_waited_for() {
        for early in [true, false] {
            let (asked, answer) = reply::<u8>();
            let other = std::thread::spawn(move || asked.answer(Ok(7)));
            if early {
                other.join().expect("it answers");
                assert_eq!(wait(answer).expect("an answer"), 7);
            } else {
                assert_eq!(wait(answer).expect("an answer"), 7);
                other.join().expect("it answered");
            }
        }
    }

    #[test]
    fn a_question_that_nobody_answers_ends() {
        let (asked, answer) = reply::<u8>();
        drop(asked);
        assert!(matches!(wait(answer), Err(StoreError::Closed)));
    }
}
