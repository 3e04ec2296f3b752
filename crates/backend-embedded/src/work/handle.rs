//! Queues as their callers have them.

use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError};

use posthaste_history::store::{Answer, Around, Durability, Reply, StoreError, Timestamp, reply};
use posthaste_queue::{Capabilities, Command, Listener, Outcome, Queues, Refusal, Settle, Verdict};

use crate::config::Config;
use crate::content::Content;
use crate::queue::Queue;
use crate::within::Within;

pub(super) const CAPABILITIES: Capabilities = Capabilities {
    durability: Durability::Disk,
    survives_restart: true,
    keeps_time: true,
    max_payload: 16 << 20,
    max_batch: 10_000,
};

/// What is asked of the committer.
pub(crate) enum Request {
    Ask(Timestamp, Command, Reply<Result<Outcome, Refusal>>),
    Tick(Timestamp),
}

/// What the callers and the committer share.
pub(crate) struct Inner {
    pub(crate) config: Config,
    pub(crate) content: Content,
    pub(crate) queue: Queue<Request>,
    listener: Mutex<Option<Listener>>,
    pub(super) within: Within,
    poisoned: Mutex<Option<String>>,
    pub(crate) syncs: AtomicU64,
    /// For tests: the next sync fails.
    pub(crate) fails: AtomicBool,
}

impl Inner {
    pub(crate) fn new(config: Config, content: Content) -> Self {
        let queue = Queue::new(config.max_waiting_bytes);
        Self {
            config,
            content,
            queue,
            listener: Mutex::default(),
            within: Within::default(),
            poisoned: Mutex::default(),
            syncs: AtomicU64::new(0),
            fails: AtomicBool::new(false),
        }
    }

    pub(super) fn listener(&self) -> Option<Listener> {
        self.listener.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn poison(&self, error: &StoreError) -> StoreError {
        let mut poisoned = self.poisoned.lock().unwrap_or_else(PoisonError::into_inner);
        if poisoned.is_none() {
            tracing::error!(%error, "writing queues failed: nothing is accepted until the store is opened anew");
        }
        StoreError::Poisoned(poisoned.get_or_insert_with(|| error.to_string()).clone())
    }

    pub(crate) fn healthy(&self) -> Result<(), StoreError> {
        let poisoned = self.poisoned.lock().unwrap_or_else(PoisonError::into_inner);
        poisoned.as_ref().map_or(Ok(()), |why| Err(StoreError::Poisoned(why.clone())))
    }
}

/// The handle.
pub(crate) struct EmbeddedQueues(pub(crate) Arc<Inner>);

/// What a command counts for while it waits.
fn size(command: &Command) -> usize {
    let said = |settle: &Settle| match &settle.verdict {
        Verdict::Done(Some(value)) | Verdict::Progress(value) => value.len(),
        Verdict::Retry { why, .. } | Verdict::Dead { why } => why.len(),
        _ => 0,
    };
    match command {
        Command::Put(puts) => puts.iter().map(|put| put.cost() as usize).sum(),
        Command::Settle(settles) => settles.iter().map(|settle| 128 + said(settle)).sum(),
        Command::Schedule { schedule, .. } => schedule.put.cost() as usize,
        _ => 256,
    }
}

/// Whether a command brings messages. The others are taken whatever waits: who takes messages, has done one or leaves is bounded by what
/// was given, and a queue that is full of work has to hear of them.
pub(super) fn is_more(command: &Command) -> bool {
    matches!(command, Command::Put(_) | Command::Schedule { .. } | Command::RunSchedule { .. })
}

impl Queues for EmbeddedQueues {
    fn ask(&self, now: Timestamp, command: Command) -> Answer<Result<Outcome, Refusal>> {
        if let Err(error) = self.0.healthy() {
            return Box::pin(std::future::ready(Err(error)));
        }
        let (asked, answer) = reply();
        let (bytes, is_more) = (size(&command), is_more(&command));
        let (queue, request) = (&self.0.queue, Request::Ask(now, command, asked));
        match if is_more { queue.push(request, bytes) } else { queue.insist(request, bytes) } {
            Ok(()) => answer,
            Err((_, error)) => Box::pin(std::future::ready(Err(error))),
        }
    }

    fn tick(&self, now: Timestamp) -> Option<Timestamp> {
        // The thread looks at the time by itself; who knows better may say so. One that is closed needs no time.
        let _ = self.0.queue.push(Request::Tick(now), 0);
        None
    }

    fn listen(&self, listener: Option<Listener>) {
        *self.0.listener.lock().unwrap_or_else(PoisonError::into_inner) = listener;
    }

    fn answer_within(&self, around: Around) {
        self.0.within.set(around);
    }

    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }
}
