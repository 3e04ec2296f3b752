//! What waits for a thread: bounded in bytes.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use posthaste_history::store::StoreError;

/// One thread takes.
pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    news: Condvar,
    max_bytes: usize,
}

struct State<T> {
    waiting: VecDeque<(T, usize)>,
    bytes: usize,
    /// Whether somebody waits for news: telling nobody costs a system call as well.
    is_awaited: bool,
    is_closed: bool,
}

/// What came.
pub(crate) enum News<T> {
    Work(Vec<T>),
    /// Nothing did in time.
    Nothing,
    /// Nothing will.
    Closed,
}

impl<T> Queue<T> {
    pub(crate) fn new(max_bytes: usize) -> Self {
        let state = State { waiting: VecDeque::new(), bytes: 0, is_awaited: false, is_closed: false };
        Self { state: Mutex::new(state), news: Condvar::new(), max_bytes }
    }

    /// Puts work behind what waits. What is larger than the bound is taken when nothing else waits.
    pub(crate) fn push(&self, work: T, bytes: usize) -> Result<(), (T, StoreError)> {
        self.put(work, bytes, false)
    }

    /// As [`Self::push`], however much waits: for what must not be refused, and is bounded by whoever asks for it. It leaves the less room
    /// for the rest.
    pub(crate) fn insist(&self, work: T, bytes: usize) -> Result<(), (T, StoreError)> {
        self.put(work, bytes, true)
    }

    fn put(&self, work: T, bytes: usize, insists: bool) -> Result<(), (T, StoreError)> {
        let mut state = self.lock();
        if state.is_closed {
            return Err((work, StoreError::Closed));
        }
        if !insists && state.bytes + bytes > self.max_bytes && !state.waiting.is_empty() {
            return Err((work, StoreError::Busy { waiting_bytes: state.bytes as u64 }));
        }
        state.bytes += bytes;
        state.waiting.push_back((work, bytes));
        let is_awaited = std::mem::take(&mut state.is_awaited);
        drop(state);
        if is_awaited {
            self.news.notify_one();
        }
        Ok(())
    }

    /// Takes what waits, up to so many bytes and pieces; waits for it if nothing does.
    pub(crate) fn take(&self, max_bytes: usize, max_count: usize, patience: Option<Duration>) -> News<T> {
        let until = patience.map(|patience| Instant::now() + patience);
        let mut state = self.lock();
        while state.waiting.is_empty() {
            if state.is_closed {
                return News::Closed;
            }
            state.is_awaited = true;
            state = match until {
                None => self.news.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return News::Nothing;
                    }
                    self.news.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while let Some((_, size)) = state.waiting.front() {
            if !taken.is_empty() && (bytes + size > max_bytes || taken.len() == max_count) {
                break;
            }
            let Some((work, size)) = state.waiting.pop_front() else { break };
            bytes += size;
            taken.push(work);
        }
        state.bytes -= bytes;
        News::Work(taken)
    }

    /// Lets others put work behind what waits, until so many pieces do, for so long at most.
    pub(crate) fn gather(&self, count: usize, patience: Duration) {
        let begin = Instant::now();
        loop {
            {
                let state = self.lock();
                if state.waiting.is_empty() || state.waiting.len() >= count || state.is_closed {
                    return;
                }
            }
            if begin.elapsed() >= patience {
                return;
            }
            std::thread::yield_now();
        }
    }

    pub(crate) fn close(&self) {
        self.lock().is_closed = true;
        self.news.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
