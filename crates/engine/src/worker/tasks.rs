//! Handlers in flight: polled in place when they start, and again when woken.

use std::cell::RefCell;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use super::ConnectionId;
use super::mailbox::{Mail, Mailbox};

/// The connection a handler belongs to, and its application's word for what in it.
pub(super) type Owner = (ConnectionId, u32);
pub(super) type Handler = Pin<Box<dyn Future<Output = ()>>>;

/// The unfinished handlers of one worker.
pub(super) struct Tasks {
    mailbox: Arc<Mailbox>,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    slots: Vec<Option<Task>>,
    free: Vec<u32>,
    /// The usual handler ends in its first poll; its waker then serves the next one.
    spare: Option<HandlerWaker>,
}

struct Task {
    /// Absent while it is being polled.
    handler: Option<Handler>,
    owner: Owner,
    waker: HandlerWaker,
}

/// What wakes a handler, as itself and as a task sees it.
#[derive(Clone)]
struct HandlerWaker {
    shared: Arc<TaskWaker>,
    waker: Waker,
}

impl HandlerWaker {
    /// Whether nobody else can wake by it.
    fn is_alone(&self) -> bool {
        Arc::strong_count(&self.shared) == 2
    }
}

struct TaskWaker {
    mailbox: Arc<Mailbox>,
    task: AtomicU32,
    /// Set while a wake-up is on its way: a handler is in the mailbox at most once.
    woken: AtomicBool,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.woken.swap(true, Ordering::AcqRel) {
            // A worker that has ended polls nothing any more.
            let _ = self.mailbox.post(Mail::Wake(self.task.load(Ordering::Acquire)));
        }
    }
}

/// How a poll of a handler ended.
pub(super) enum Polled {
    /// It is done; a panic counts as done.
    Done {
        panicked: bool,
    },
    Pending,
}

impl Tasks {
    pub(super) fn new(mailbox: Arc<Mailbox>) -> Self {
        Self { mailbox, state: RefCell::default() }
    }

    /// How many handlers are unfinished.
    pub(super) fn len(&self) -> usize {
        let state = self.state.borrow();
        state.slots.len() - state.free.len()
    }

    /// Polls a new handler and keeps it if it is not done.
    pub(super) fn start(&self, owner: Owner, mut handler: Handler) -> Polled {
        let (number, waker) = {
            let mut state = self.state.borrow_mut();
            let number = state.free.pop().unwrap_or_else(|| {
                state.slots.push(None);
                u32::try_from(state.slots.len() - 1).expect("invariant: fewer than 2^32 handlers fit in memory")
            });
            let waker = state.spare.take().unwrap_or_else(|| {
                let shared = Arc::new(TaskWaker {
                    mailbox: self.mailbox.clone(),
                    task: AtomicU32::new(number),
                    woken: AtomicBool::new(false),
                });
                HandlerWaker { waker: Waker::from(shared.clone()), shared }
            });
            (number, waker)
        };
        waker.shared.task.store(number, Ordering::Release);
        waker.shared.woken.store(false, Ordering::Release);
        let polled = poll(&mut handler, &waker);
        let mut state = self.state.borrow_mut();
        match polled {
            Polled::Pending => state.slots[number as usize] = Some(Task { handler: Some(handler), owner, waker }),
            Polled::Done { .. } => {
                state.free.push(number);
                if waker.is_alone() {
                    state.spare = Some(waker);
                }
                drop(state);
                finish(handler);
            }
        }
        polled
    }

    /// Polls a woken handler. `None` if it is gone (a late wake-up) or being polled.
    pub(super) fn resume(&self, number: u32) -> Option<(Owner, Polled)> {
        let (mut handler, owner, waker) = {
            let mut state = self.state.borrow_mut();
            let task = state.slots.get_mut(number as usize)?.as_mut()?;
            (task.handler.take()?, task.owner, task.waker.clone())
        };
        waker.shared.woken.store(false, Ordering::Release);
        let polled = poll(&mut handler, &waker);
        let mut state = self.state.borrow_mut();
        match polled {
            Polled::Pending => {
                let task = state.slots[number as usize].as_mut().expect("invariant: only its end frees a task's place");
                task.handler = Some(handler);
            }
            Polled::Done { .. } => {
                let task = state.slots[number as usize].take();
                state.free.push(number);
                drop(state);
                drop(task);
                finish(handler);
            }
        }
        Some((owner, polled))
    }

    /// Drops every unfinished handler.
    pub(super) fn clear(&self) {
        let state = std::mem::take(&mut *self.state.borrow_mut());
        state.slots.into_iter().flatten().filter_map(|task| task.handler).for_each(finish);
    }
}

/// Drops a handler. What it holds may panic at that, and must not take the worker along.
fn finish(handler: Handler) {
    // The panic is in the log, by the panic hook; whose handler it was means nothing any more.
    let _ = std::panic::catch_unwind(AssertUnwindSafe(|| drop(handler)));
}

fn poll(handler: &mut Handler, waker: &HandlerWaker) -> Polled {
    let mut cx = Context::from_waker(&waker.waker);
    // One task polls many handlers, and tokio's budget is the task's: without this the last of them would find every tokio
    // resource pending for no reason.
    let mut unconstrained = tokio::task::unconstrained(handler.as_mut());
    match std::panic::catch_unwind(AssertUnwindSafe(|| Pin::new(&mut unconstrained).poll(&mut cx))) {
        Ok(Poll::Ready(())) => Polled::Done { panicked: false },
        Ok(Poll::Pending) => Polled::Pending,
        Err(_) => Polled::Done { panicked: true },
    }
}
