//! Queues in Rust: putting, looking, looking after.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use posthaste_engine::WorkerHandle;
use posthaste_history::store::{Durability, Timestamp};
use posthaste_queue::{
    Backoff, Command, Config, Counted, Dedup, DedupMode, Depth, Found, MessageId, Outcome, Put, QueueName, Receipt,
    Select, State,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::WorkQueues;
use super::error::QueueError;
use super::hub::Hub;
use super::payload::Payload;
use crate::queues::now;
use crate::server::{Inner, Server};

/// A queue, by its name: it need not be there yet. Cloning it is a reference count.
///
/// ```no_run
/// # use posthaste::{Job, JobError, Server};
/// # use std::time::Duration;
/// # async fn example(io: Server) -> Result<(), posthaste::QueueError> {
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Mail {
///     to: String,
/// }
/// let emails = io.queue("emails");
/// emails.worker(8, async |job: Job<Mail>| {
///     println!("to {}", job.data.to);
///     Ok::<_, JobError>("sent")
/// }).start();
/// let receipt = emails.put(&Mail { to: "ann@example.org".into() }).delay(Duration::from_secs(60)).key("ann").await?;
/// println!("message {}", receipt.id);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Queue {
    pub(super) hub: Option<Arc<Hub>>,
    name: QueueName,
    /// Where workers run: on a server's threads, if it has one.
    pub(super) threads: Arc<[WorkerHandle]>,
    pub(super) server: Option<Weak<Inner>>,
}

impl Server {
    /// One of the server's queues. Without [`Builder::queues`](crate::Builder::queues) everything that is done with it fails.
    #[must_use]
    pub fn queue(&self, name: &str) -> Queue {
        let hub = self.0.config.queues.as_ref().map(|queues| queues.hub.clone());
        Queue {
            hub,
            name: name.into(),
            threads: self.0.workers.handles().into(),
            server: Some(Arc::downgrade(&self.0)),
        }
    }
}

impl WorkQueues {
    /// One of the queues, without a server. Stores that have no thread of their own need [`WorkQueues::run`] then.
    #[must_use]
    pub fn queue(&self, name: &str) -> Queue {
        Queue { hub: Some(self.hub.clone()), name: name.into(), threads: Arc::default(), server: None }
    }

    /// Keeps the time for queues that no server has: delays, leases that run out, and so on. Ends when the last handle to them is dropped, and
    /// at once if somebody does so already.
    pub fn run(&self) -> impl Future<Output = ()> + Send + 'static {
        let clock = self.hub.take_clock();
        async move {
            if let Some(clock) = clock {
                clock.run().await;
            }
        }
    }
}

impl Queue {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) const fn queue_name(&self) -> &QueueName {
        &self.name
    }

    pub(super) fn hub(&self) -> Result<&Arc<Hub>, QueueError> {
        self.hub.as_ref().ok_or(QueueError::NoQueues)
    }

    /// Puts a message; bytes in it are binary parts. It is put when the returned value is awaited, which gives the receipt: what that promises
    /// has happened then.
    pub fn put<T: Serialize + ?Sized>(&self, payload: &T) -> QueuePut {
        self.put_payload(Payload::new(payload))
    }

    /// As [`Queue::put`], of a payload that is there already.
    pub fn put_raw(&self, payload: Payload) -> QueuePut {
        self.put_payload(Ok(payload))
    }

    fn put_payload(&self, payload: Result<Payload, QueueError>) -> QueuePut {
        let durability = self.hub.as_ref().map_or(Durability::Memory, |hub| hub.capabilities().durability);
        let put = payload.map(|payload| Put::new(&self.name, payload.into_stored(), durability));
        QueuePut { queue: self.clone(), put, ttl: None }
    }

    /// Puts messages: all or none.
    ///
    /// # Errors
    /// [`QueueError`]: nothing was put.
    pub async fn put_all(&self, puts: impl IntoIterator<Item = QueuePut>) -> Result<Vec<Receipt>, QueueError> {
        let puts: Result<Vec<Put>, QueueError> = puts.into_iter().map(|put| put.put).collect();
        match self.hub()?.call(Command::Put(puts?)).await? {
            Outcome::Put(receipts) => Ok(receipts),
            _ => Ok(Vec::new()),
        }
    }

    /// Waits for the result of a message that keeps one.
    ///
    /// # Errors
    /// [`QueueError::Pending`] when it takes longer than `patience`, [`QueueError::Failed`] when there will be none,
    /// [`QueueError::Refused`] when nothing is known of the message.
    pub async fn result<R: DeserializeOwned>(&self, id: MessageId, patience: Duration) -> Result<R, QueueError> {
        self.hub()?.result_of(id, false, patience).await?.read()
    }

    /// How many messages it has.
    ///
    /// # Errors
    /// [`QueueError`]
    pub async fn stats(&self) -> Result<Depth, QueueError> {
        match self.hub()?.call(Command::Stats(self.name.clone())).await? {
            Outcome::Depth(depth) => Ok(depth),
            _ => Ok(Depth::default()),
        }
    }

    /// What happened to its messages since the store was opened.
    ///
    /// # Errors
    /// [`QueueError`]
    pub async fn counts(&self) -> Result<Counted, QueueError> {
        match self.hub()?.call(Command::Counts(self.name.clone())).await? {
            Outcome::Counts(_, counted) => Ok(counted),
            _ => Ok(Counted::default()),
        }
    }

    /// Messages in a state, behind the one numbered `after`, at most `max`: nothing is changed. None if there are no more.
    ///
    /// # Errors
    /// [`QueueError`]
    pub async fn peek(&self, state: State, mut after: MessageId, max: usize) -> Result<Vec<Found>, QueueError> {
        loop {
            let peek = Command::Peek { queue: self.name.clone(), state, after, max };
            match self.hub()?.call(peek).await? {
                // Others have had to be looked through.
                Outcome::Page(found, Some(next)) if found.is_empty() => after = next,
                Outcome::Page(found, _) => return Ok(found),
                _ => return Ok(Vec::new()),
            }
        }
    }

    /// Says what the queue allows from now on; makes it if it is not there.
    ///
    /// # Errors
    /// [`QueueError`]
    pub async fn configure(&self, config: Config) -> Result<(), QueueError> {
        self.hub()?.call(Command::Configure(self.name.clone(), Box::new(config))).await.map(drop)
    }

    /// Gives nothing out any more, or does so again.
    ///
    /// # Errors
    /// [`QueueError`]
    pub async fn pause(&self, pause: bool) -> Result<(), QueueError> {
        self.hub()?.call(Command::Pause(self.name.clone(), pause)).await.map(drop)
    }

    /// Takes nothing in any more, or does so again.
    ///
    /// # Errors
    /// [`QueueError`]
    pub async fn drain(&self, drain: bool) -> Result<(), QueueError> {
        self.hub()?.call(Command::Drain(self.name.clone(), drain)).await.map(drop)
    }

    /// Removes messages. Returns how many.
    ///
    /// # Errors
    /// [`QueueError`]
    pub async fn purge(&self, select: Select) -> Result<u64, QueueError> {
        self.counted(Command::Purge(self.name.clone(), select)).await
    }

    /// Gives dead messages another chance, at most `max`. Returns how many.
    ///
    /// # Errors
    /// [`QueueError`]
    pub async fn redrive(&self, max: Option<usize>) -> Result<u64, QueueError> {
        let select = Select { states: vec![State::Dead], id: None, max };
        self.counted(Command::Redrive(self.name.clone(), select)).await
    }

    async fn counted(&self, command: Command) -> Result<u64, QueueError> {
        match self.hub()?.call(command).await? {
            Outcome::Count(count) => Ok(count),
            _ => Ok(0),
        }
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Queue").field(&&*self.name).finish()
    }
}

/// A message to be put: awaiting it puts it.
#[must_use = "nothing is put until this is awaited"]
#[derive(Clone, Debug)]
pub struct QueuePut {
    pub(super) queue: Queue,
    pub(super) put: Result<Put, QueueError>,
    /// As it was said: what is scheduled is put later.
    pub(super) ttl: Option<Duration>,
}

impl QueuePut {
    fn with(mut self, change: impl FnOnce(&mut Put)) -> Self {
        if let Ok(put) = &mut self.put {
            change(put);
        }
        self
    }

    /// Not before this time is over.
    pub fn delay(self, delay: Duration) -> Self {
        self.with(|put| put.due = Some(after(delay)))
    }

    /// Not before this time of day.
    pub fn at(self, at: SystemTime) -> Self {
        let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.with(|put| put.due = Some(Timestamp(milliseconds(since))))
    }

    /// 0 to [`Put::MAX_PRIORITY`]; higher ones first.
    pub fn priority(self, priority: u8) -> Self {
        self.with(|put| put.priority = priority)
    }

    /// Messages with the same key are worked on in order.
    pub fn key(self, key: impl Into<Arc<str>>) -> Self {
        self.with(|put| put.key = Some(key.into()))
    }

    /// Repeating it under this key is harmless: the receipt is the first one's.
    pub fn dedup(self, key: impl Into<Arc<str>>) -> Self {
        self.dedup_as(key, DedupMode::Reject, None)
    }

    /// As [`QueuePut::dedup`], saying what a second one is and for how long; `None` as the queue says.
    pub fn dedup_as(self, key: impl Into<Arc<str>>, mode: DedupMode, window: Option<Duration>) -> Self {
        let window_ms = window.map(milliseconds);
        self.with(|put| put.dedup = Some(Dedup { key: key.into(), mode, window_ms }))
    }

    /// Nobody needs it after this time.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self.with(|put| put.expires = Some(after(ttl)))
    }

    /// It may fail so often, less one.
    pub fn attempts(self, attempts: u32) -> Self {
        self.with(|put| put.attempts = Some(attempts))
    }

    /// How long it rests after a failure.
    pub fn backoff(self, backoff: Backoff) -> Self {
        self.with(|put| put.backoff = Some(Box::new(backoff)))
    }

    /// What is said about it: anything that is an object in JSON.
    pub fn headers<H: Serialize + ?Sized>(mut self, headers: &H) -> Self {
        match serde_json::to_vec(headers) {
            Ok(headers) => self.with(|put| put.headers = headers.into()),
            Err(error) => {
                self.put = Err(QueueError::payload(error));
                self
            }
        }
    }

    /// How long its result is kept.
    pub fn keep_result(self, time: Duration) -> Self {
        self.with(|put| put.keep_result_ms = Some(milliseconds(time)))
    }

    /// What its receipt has to promise.
    pub fn durability(self, durability: Durability) -> Self {
        self.with(|put| put.durability = durability)
    }

    /// Puts it and waits for its result.
    ///
    /// # Errors
    /// As [`Queue::result`], and [`QueueError`] when it could not be put.
    pub async fn call<R: DeserializeOwned>(self, patience: Duration) -> Result<R, QueueError> {
        const LONGER: Duration = Duration::from_secs(300);
        let queue = self.queue.clone();
        let kept = milliseconds(patience.saturating_add(LONGER));
        let put = self.with(|put| _ = put.keep_result_ms.get_or_insert(kept));
        let keeps = put.put.as_ref().is_ok_and(|put| put.keep_result_ms > Some(0));
        let Receipt { id, dup, .. } = put.await?;
        queue.hub()?.result_of(id, keeps && !dup, patience).await?.read()
    }
}

impl IntoFuture for QueuePut {
    type Output = Result<Receipt, QueueError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        let asked = self.put.and_then(|put| Ok(self.queue.hub()?.ask(Command::Put(vec![put]))));
        Box::pin(async move {
            match asked?.await?? {
                Outcome::Put(receipts) if receipts.len() == 1 => Ok(receipts[0]),
                _ => Err(QueueError::payload("the store gave no receipt")),
            }
        })
    }
}

pub(super) fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn after(time: Duration) -> Timestamp {
    Timestamp(now().0.saturating_add(milliseconds(time)))
}

/// Headers of a message, read.
pub(super) fn headers_of<H: DeserializeOwned>(headers: &Bytes) -> Result<Option<H>, QueueError> {
    if headers.is_empty() {
        return Ok(None);
    }
    serde_json::from_slice(headers).map(Some).map_err(QueueError::payload)
}
