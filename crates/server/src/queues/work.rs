//! Workers in Rust: an async function that is called with each message.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use posthaste_engine::{Worker, WorkerHandle};
use posthaste_queue::{Command, Effect, MessageId, Verdict};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, watch};

use super::answers::cut;
use super::delivery::{ConsumerOptions, Deliveries, Delivery};
use super::error::QueueError;
use super::payload::Payload;
use super::queue::{Queue, milliseconds};

/// How often leases are extended while jobs are worked on, unless leases are shorter than three times this.
const TOUCH: Duration = Duration::from_secs(10);

/// A message that is worked on: what a worker's function takes.
///
/// It may be worked on as long as the queue's `max_lease` says; its lease is extended meanwhile.
#[derive(Debug)]
pub struct Job<T> {
    /// What was put.
    pub data: T,
    delivery: Arc<Delivery>,
}

impl<T> Job<T> {
    /// Its number.
    #[must_use]
    pub fn id(&self) -> MessageId {
        self.delivery.id()
    }

    /// How often it was given to somebody, this time included.
    #[must_use]
    pub fn deliveries(&self) -> u32 {
        self.delivery.message().deliveries
    }

    /// How often it failed.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.delivery.message().failures
    }

    /// The key it was put with.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.delivery.message().key.as_deref()
    }

    /// What was said about it, if anything was.
    ///
    /// # Errors
    /// [`QueueError::Payload`] when it is no `H`.
    pub fn headers<H: DeserializeOwned>(&self) -> Result<Option<H>, QueueError> {
        self.delivery.headers()
    }

    /// As [`Delivery::extend`].
    ///
    /// # Errors
    /// [`posthaste_queue::Refusal::StaleLease`] when somebody else may have it: whatever this one does counts for nothing.
    pub async fn extend(&self, lease: Option<Duration>) -> Result<SystemTime, QueueError> {
        self.delivery.extend(lease).await
    }

    /// As [`Delivery::progress`].
    ///
    /// # Errors
    /// As [`Job::extend`].
    pub async fn progress<V: Serialize + ?Sized>(&self, value: &V) -> Result<SystemTime, QueueError> {
        self.delivery.progress(value).await
    }
}

/// Why a job was not done, and what is to become of it. Any error is one: the job is tried again as its backoff says.
///
/// ```
/// # use posthaste::JobError;
/// # use std::time::Duration;
/// fn check(text: &str) -> Result<u32, JobError> {
///     if text.is_empty() {
///         return Err(JobError::dead("nothing to read"));
///     }
///     if text == "busy" {
///         return Err(JobError::retry("come back later").after(Duration::from_secs(5)));
///     }
///     Ok(text.parse::<u32>()?)
/// }
/// ```
#[derive(Clone, Debug)]
pub struct JobError(Verdict);

impl JobError {
    /// It failed: again later.
    #[must_use]
    pub fn retry(why: impl fmt::Display) -> Self {
        Self(Verdict::Retry { after_ms: None, why: cut(&why.to_string()).into() })
    }

    /// After so long; of [`JobError::retry`].
    #[must_use]
    pub fn after(self, time: Duration) -> Self {
        match self.0 {
            Verdict::Retry { why, .. } => Self(Verdict::Retry { after_ms: Some(milliseconds(time)), why }),
            other => Self(other),
        }
    }

    /// It is hopeless.
    #[must_use]
    pub fn dead(why: impl fmt::Display) -> Self {
        Self(Verdict::Dead { why: cut(&why.to_string()).into() })
    }

    /// Somebody else may have it; it did not fail.
    #[must_use]
    pub const fn release() -> Self {
        Self(Verdict::Release)
    }
}

impl<E: std::error::Error> From<E> for JobError {
    fn from(error: E) -> Self {
        Self::retry(error)
    }
}

/// A worker that is not at work yet: [`Queue::worker`].
#[must_use = "nothing is worked on until this is started"]
pub struct QueueWorker<F, T, R> {
    options: ConsumerOptions,
    queue: Queue,
    lease: Option<Duration>,
    work: F,
    _types: PhantomData<fn(T) -> R>,
}

impl Queue {
    /// Has `work` called with each message, so many at a time. What it returns settles the message: `Ok` is done, with its value as the result
    /// if results are kept, and an error says itself what is to become of it. A panic is a failure, and a payload that is no `T` is hopeless.
    ///
    /// It runs on the threads of the server's workers, as handlers do; on a thread of its own where there is no server.
    pub fn worker<T, R, F, Fut>(&self, concurrency: u32, work: F) -> QueueWorker<F, T, R>
    where
        F: Fn(Job<T>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, JobError>> + 'static,
        T: DeserializeOwned + 'static,
        R: Serialize + 'static,
    {
        let options = self.consumer().prefetch(concurrency.max(1));
        QueueWorker { options, queue: self.clone(), lease: None, work, _types: PhantomData }
    }
}

impl<F, T, R> QueueWorker<F, T, R> {
    /// A lease lasts so long, and is extended while the job is worked on; as the queue says by default.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.options = self.options.lease(lease);
        self.lease = Some(lease);
        self
    }

    /// Only messages with one of these keys.
    pub fn keys<K: Into<Arc<str>>>(mut self, keys: impl IntoIterator<Item = K>) -> Self {
        self.options = self.options.keys(keys);
        self
    }

    /// Starts it. It works until it is [stopped](WorkerControl::stop), also when what is returned is dropped.
    pub fn start<Fut>(self) -> WorkerControl
    where
        F: Fn(Job<T>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, JobError>> + 'static,
        T: DeserializeOwned + 'static,
        R: Serialize + 'static,
    {
        let (stop, stopping) = watch::channel(false);
        let (ended, end) = watch::channel(None);
        let threads = self.queue.threads.clone();
        let begin = move |threads: Arc<[WorkerHandle]>| async move {
            let outcome = self.run(threads, stopping).await;
            if let Err(error) = &outcome {
                tracing::error!(%error, "a worker of a queue could not start");
            }
            ended.send_replace(Some(outcome));
        };
        match threads.first() {
            Some(first) => {
                let on = threads.clone();
                let posted = first.post(move |_: &Worker| _ = tokio::task::spawn_local(begin(on)));
                if posted.is_err() {
                    tracing::error!("a worker of a queue could not start: the server has ended");
                }
            }
            None => alone(move || begin(threads)),
        }
        WorkerControl { stop, end }
    }

    async fn run<Fut>(self, threads: Arc<[WorkerHandle]>, mut stopping: watch::Receiver<bool>) -> Result<(), QueueError>
    where
        F: Fn(Job<T>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, JobError>> + 'static,
        T: DeserializeOwned + 'static,
        R: Serialize + 'static,
    {
        let work = Arc::new(self.work);
        let mut deliveries = self.options.start().await?;
        let (done, mut all_done) = mpsc::unbounded_channel();
        let (mut busy, mut turn) = (0_usize, 0);
        let every = self.lease.map_or(TOUCH, |lease| (lease / 3).clamp(Duration::from_millis(10), TOUCH));
        let mut touch = tokio::time::interval(every);
        touch.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut is_stopping, mut can_stop) = (false, true);
        while !is_stopping || busy > 0 {
            let Deliveries { hub, id, effects } = &mut deliveries;
            tokio::select! {
                effect = effects.recv() => {
                    let message = match effect {
                        Some(Effect::Granted(message)) => message,
                        Some(Effect::Finished(_)) | None => {
                            is_stopping = true;
                            continue;
                        }
                        Some(_) => continue,
                    };
                    let delivery = Delivery::new(hub.clone(), message);
                    busy += 1;
                    let (work, done) = (work.clone(), done.clone());
                    let job = move || async move {
                        do_one(&*work, delivery).await;
                        // Nobody listens when the worker itself was dropped.
                        let _ = done.send(());
                    };
                    turn += 1;
                    spawn(&threads, turn, job);
                }
                Some(()) = all_done.recv() => busy -= 1,
                _ = touch.tick(), if busy > 0 => drop(hub.ask(Command::TouchAll(*id))),
                stopped = stopping.wait_for(|stop| *stop), if can_stop => {
                    // Whoever could stop it has gone: it works on.
                    can_stop = false;
                    if stopped.is_ok() {
                        is_stopping = true;
                        // What was given meanwhile is in the channel then, and worked on.
                        let held = hub.ask(Command::Hold(*id));
                        drop(stopped);
                        drop(held.await);
                        while let Ok(effect) = effects.try_recv() {
                            if let Effect::Granted(message) = effect {
                                let delivery = Delivery::new(hub.clone(), message);
                                drop(delivery.release().await);
                            }
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

impl<F, T, R> fmt::Debug for QueueWorker<F, T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueWorker").field("options", &self.options).finish_non_exhaustive()
    }
}

/// Runs a job on one of the threads, each in turn; on this one if there are none.
fn spawn<J: Future<Output = ()> + 'static>(
    threads: &[WorkerHandle],
    turn: usize,
    job: impl FnOnce() -> J + Send + 'static,
) {
    match threads.get(turn % threads.len().max(1)) {
        Some(thread) if !Worker::current().is_some_and(|here| here.is(thread)) => {
            // A thread that has ended drops it, and that is a failure.
            let _ = thread.post(move |_| _ = tokio::task::spawn_local(job()));
        }
        _ => _ = tokio::task::spawn_local(job()),
    }
}

/// Runs something on a thread of its own.
fn alone<B: Future<Output = ()>>(begin: impl FnOnce() -> B + Send + 'static) {
    let run = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        match runtime {
            Ok(runtime) => tokio::task::LocalSet::new().block_on(&runtime, begin()),
            Err(error) => tracing::error!(%error, "a worker of a queue could not start"),
        }
    };
    if let Err(error) = std::thread::Builder::new().name("queue worker".into()).spawn(run) {
        tracing::error!(%error, "a worker of a queue could not start");
    }
}

/// One message, from its payload to its settlement.
async fn do_one<T, R, F, Fut>(work: &F, delivery: Delivery)
where
    F: Fn(Job<T>) -> Fut,
    Fut: Future<Output = Result<R, JobError>>,
    T: DeserializeOwned,
    R: Serialize,
{
    let delivery = Arc::new(delivery);
    let verdict = match delivery.payload::<T>() {
        Ok(data) => {
            let job = Job { data, delivery: delivery.clone() };
            match caught(|| work(job)).await {
                Some(Ok(result)) => match Payload::new(&result).map(Payload::into_stored) {
                    Ok(result) if &*result == b"null" => Verdict::Done(None),
                    Ok(result) => Verdict::Done(Some(result)),
                    Err(error) => Verdict::Dead { why: cut(&error.to_string()).into() },
                },
                Some(Err(JobError(verdict))) => verdict,
                None => Verdict::Retry { after_ms: None, why: "the worker panicked".into() },
            }
        }
        Err(error) => Verdict::Dead { why: cut(&error.to_string()).into() },
    };
    if let Err(error) = delivery.settle(verdict).await {
        tracing::warn!(%error, queue = %delivery.message().queue, id = delivery.id(), "a job was not settled");
    }
}

/// Awaits what an application wrote; a panic is `None`, and in the log by the panic hook.
async fn caught<F: Future>(begin: impl FnOnce() -> F) -> Option<F::Output> {
    let begun = std::panic::catch_unwind(AssertUnwindSafe(begin)).ok()?;
    let mut running = Box::pin(begun);
    std::future::poll_fn(|cx| {
        let mut running: Pin<&mut F> = running.as_mut();
        match std::panic::catch_unwind(AssertUnwindSafe(|| running.as_mut().poll(cx))) {
            Ok(polled) => polled.map(Some),
            Err(_) => Poll::Ready(None),
        }
    })
    .await
}

/// A worker at work.
#[derive(Debug)]
pub struct WorkerControl {
    stop: watch::Sender<bool>,
    end: watch::Receiver<Option<Result<(), QueueError>>>,
}

impl WorkerControl {
    /// Takes no more messages, and waits until those that are worked on are settled.
    ///
    /// # Errors
    /// [`QueueError`] when it could not even start.
    pub async fn stop(mut self) -> Result<(), QueueError> {
        self.stop.send_replace(true);
        self.ended().await
    }

    async fn ended(&mut self) -> Result<(), QueueError> {
        match self.end.wait_for(Option::is_some).await {
            Ok(ended) => ended.clone().unwrap_or(Ok(())),
            // Its thread has ended.
            Err(_) => Ok(()),
        }
    }
}
