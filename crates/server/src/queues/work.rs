//! Workers in Rust: an async function that is called with each message.

use std::any::TypeId;
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use posthaste_engine::{Worker, WorkerHandle};
use posthaste_queue::{Command, Effect, Verdict};
use tokio::sync::{mpsc, watch};

use super::answers::cut;
use super::delivery::{ConsumerOptions, Deliveries, Delivery};
use super::error::QueueError;
#[cfg(doc)]
use super::job::FromJob;
use super::job::{Around, JobContext, JobError, JobHandler, Working};
use super::queue::Queue;
use crate::error::ExtractError;

/// How often leases are extended while jobs are worked on, unless they are shorter than three times this.
const TOUCH: Duration = Duration::from_secs(10);

/// What is called with each message.
type Work = Arc<dyn Fn(&mut JobContext<'_>) -> Result<Working, ExtractError> + Send + Sync>;

/// A worker that is not at work yet: [`Queue::worker`].
#[must_use = "nothing is worked on until this is started"]
pub struct QueueWorker {
    options: ConsumerOptions,
    queue: Queue,
    around: Around,
    work: Work,
}

impl Queue {
    /// Has `work` called with each message, so many at a time: an async function of up to eight [extractors](FromJob). What it returns settles
    /// the message: `Ok` is done, with its value as the result if results are kept, and an error says itself what is to become of it. A panic is
    /// a failure, and a payload that is no `T` of its [`Job<T>`](crate::Job) is hopeless.
    ///
    /// It runs on the threads of the server's workers, as handlers do; on a thread of its own where there is no server.
    ///
    /// ```no_run
    /// # use posthaste::{Delivery, Job, JobError, Queue, State};
    /// # #[derive(Clone)] struct Db;
    /// # impl Db { async fn store(&self, _: &str) -> Result<u64, std::io::Error> { Ok(1) } }
    /// # fn example(emails: Queue, db: Db) {
    /// let worker = emails.worker(8, async |job: Job<String>, State(db): State<Db>, delivery: Delivery| {
    ///     delivery.progress(&"storing").await?;
    ///     Ok::<_, JobError>(db.store(&job.data).await?)
    /// });
    /// worker.state(db).start();
    /// # }
    /// ```
    pub fn worker<Args>(&self, concurrency: u32, work: impl JobHandler<Args>) -> QueueWorker {
        let options = self.consumer().prefetch(concurrency.max(1));
        let around = Around { server: self.server.clone(), ..Around::default() };
        let work: Work = Arc::new(move |cx: &mut JobContext<'_>| work.call(cx));
        QueueWorker { options, queue: self.clone(), around, work }
    }
}

impl QueueWorker {
    /// A lease lasts so long, and is extended while the job is worked on; as the queue says by default.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.options = self.options.lease(lease);
        self
    }

    /// Only messages with one of these keys.
    pub fn keys<K: Into<Arc<str>>>(mut self, keys: impl IntoIterator<Item = K>) -> Self {
        self.options = self.options.keys(keys);
        self
    }

    /// Something for every call that asks for a [`State`](crate::State) of this type, before what the server was given. One value per type; the
    /// last wins.
    pub fn state<T: Clone + Send + Sync + 'static>(mut self, state: T) -> Self {
        self.around.states.insert(TypeId::of::<T>(), Arc::new(state));
        self
    }

    /// Starts it. It works until it is [stopped](WorkerControl::stop), also when what is returned is dropped.
    pub fn start(self) -> WorkerControl {
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

    async fn run(self, threads: Arc<[WorkerHandle]>, mut stopping: watch::Receiver<bool>) -> Result<(), QueueError> {
        let (work, around) = (self.work, Arc::new(self.around));
        let mut deliveries = self.options.start().await?;
        let (done, mut all_done) = mpsc::unbounded_channel();
        let (mut busy, mut turn) = (0_usize, 0);
        let mut touch = touching(TOUCH);
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
                    // How long a lease is, its queue may say, and say otherwise later.
                    let every = (Duration::from_millis(message.lease_ms) / 3).clamp(Duration::from_millis(10), TOUCH);
                    if every < touch.period() || (busy == 0 && every != touch.period()) {
                        touch = touching(every);
                    }
                    let delivery = Delivery::new(hub.clone(), message);
                    busy += 1;
                    let (work, around, done) = (work.clone(), around.clone(), done.clone());
                    let job = move || async move {
                        do_one(&work, &around, delivery).await;
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

impl fmt::Debug for QueueWorker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueWorker").field("options", &self.options).finish_non_exhaustive()
    }
}

/// Says when leases are extended: first after this time, not at once.
fn touching(every: Duration) -> tokio::time::Interval {
    let mut touch = tokio::time::interval_at(tokio::time::Instant::now() + every, every);
    touch.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    touch
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
async fn do_one(work: &Work, around: &Around, delivery: Delivery) {
    let (lease, mut extracted) = (delivery.lease(), None);
    let begin = || work(&mut JobContext { delivery: &delivery, around });
    let verdict = match std::panic::catch_unwind(AssertUnwindSafe(begin)) {
        Ok(Ok(working)) => match caught(working).await {
            Some(Ok(result)) => Verdict::Done(result),
            Some(Err(JobError(verdict))) => verdict,
            None => panicked(),
        },
        Ok(Err(error)) => extracted.insert(error).verdict(),
        Err(_) => panicked(),
    };
    if let Some(error) = extracted {
        tracing::error!(%error, queue = %lease.message().queue, id = lease.message().id, "a worker was not called with a job");
    }
    // Whoever took the delivery has settled the message, or will.
    let Some(lease) = delivery.into_last() else { return };
    if let Err(error) = lease.settle(verdict).await {
        let message = lease.message();
        tracing::warn!(%error, queue = %message.queue, id = message.id, "a job was not settled");
    }
}

fn panicked() -> Verdict {
    Verdict::Retry { after_ms: None, why: "the worker panicked".into() }
}

impl ExtractError {
    /// What becomes of a message that nobody was called with.
    fn verdict(&self) -> Verdict {
        let why = cut(&self.to_string()).into();
        match self {
            Self::Payload(_) => Verdict::Dead { why },
            _ => Verdict::Retry { after_ms: None, why },
        }
    }
}

/// Awaits what an application wrote; a panic is `None`, and in the log by the panic hook.
async fn caught<T>(mut running: Pin<Box<dyn Future<Output = T>>>) -> Option<T> {
    std::future::poll_fn(|cx| match std::panic::catch_unwind(AssertUnwindSafe(|| running.as_mut().poll(cx))) {
        Ok(polled) => polled.map(Some),
        Err(_) => Poll::Ready(None),
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
