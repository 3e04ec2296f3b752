//! Messages that somebody in Rust has.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use posthaste_queue::{
    self as queue, Command, Consume, ConsumerId, Effect, MessageId, Outcome, Settle, Settled, Stop, Verdict,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use super::answers::cut;
use super::error::QueueError;
use super::hub::{Hub, Route};
use super::payload::Payload;
use super::queue::{Queue, headers_of, milliseconds};

/// The bytes that a consumer in Rust has at a time.
const BYTES: u64 = 64 << 20;

/// How a consumer in Rust takes messages: [`Queue::consumer`].
#[derive(Clone, Debug)]
#[must_use = "nothing is taken until this is started"]
pub struct ConsumerOptions {
    queue: Queue,
    wish: Consume,
}

impl Queue {
    /// Takes messages one by one, for whoever settles each by himself; [`Queue::worker`] is less to write.
    pub fn consumer(&self) -> ConsumerOptions {
        let wish = Consume {
            consumer: 0,
            queue: self.queue_name().clone(),
            prefetch: 1,
            bytes: BYTES,
            lease_ms: None,
            keys: None,
            once: None,
        };
        ConsumerOptions { queue: self.clone(), wish }
    }
}

impl ConsumerOptions {
    /// Has so many at a time; 1 by default.
    pub fn prefetch(mut self, count: u32) -> Self {
        self.wish.prefetch = count;
        self
    }

    /// A lease lasts so long; as the queue says by default.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.wish.lease_ms = Some(milliseconds(lease));
        self
    }

    /// Only messages with one of these keys.
    pub fn keys<K: Into<Arc<str>>>(mut self, keys: impl IntoIterator<Item = K>) -> Self {
        self.wish.keys = Some(keys.into_iter().map(Into::into).collect());
        self
    }

    /// Starts to take messages.
    ///
    /// # Errors
    /// [`QueueError`]
    pub async fn start(self) -> Result<Deliveries, QueueError> {
        let hub = self.queue.hub()?.clone();
        let (tell, effects) = mpsc::unbounded_channel();
        let id = hub.new_consumer();
        hub.route(id, Route::Here(tell));
        let deliveries = Deliveries { hub, id, effects };
        deliveries.hub.call(Command::Consume(Consume { consumer: id, ..self.wish })).await?;
        Ok(deliveries)
    }
}

/// Messages as they come. Dropping it gives back what was not settled.
pub struct Deliveries {
    pub(super) hub: Arc<Hub>,
    pub(super) id: ConsumerId,
    pub(super) effects: mpsc::UnboundedReceiver<Effect>,
}

impl Deliveries {
    /// The next message; `None` when the queue was removed.
    ///
    /// # Cancel safety
    /// Safe: dropped before completion, no message is lost.
    pub async fn next(&mut self) -> Option<Delivery> {
        loop {
            match self.effects.recv().await? {
                Effect::Granted(message) => return Some(Delivery::new(self.hub.clone(), message)),
                // Its queue was removed.
                Effect::Finished(_) => return None,
                _ => {}
            }
        }
    }

    /// Extends what is not settled, as far as it may be.
    ///
    /// # Errors
    /// [`QueueError`]
    pub async fn touch(&self) -> Result<(), QueueError> {
        self.hub.call(Command::TouchAll(self.id)).await.map(drop)
    }
}

impl Drop for Deliveries {
    fn drop(&mut self) {
        drop(self.hub.stop(self.id, Stop::Return));
    }
}

impl fmt::Debug for Deliveries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deliveries").field("consumer", &self.id).finish_non_exhaustive()
    }
}

/// A message that is this process's until it is settled or its lease runs out. One that is dropped has failed.
///
/// A worker's function may take it as well ([`FromJob`](crate::FromJob)): then it may settle the message itself, and what the function returns
/// settles it only if that has not happened. One that is kept beyond the function settles the message later, as long as the worker is not stopped.
pub struct Delivery(Arc<Held>);

/// Whoever has this may settle the message, or drops it last.
struct Held(Arc<Lease>);

/// A message that is leased to this process.
pub(super) struct Lease {
    hub: Arc<Hub>,
    message: queue::Delivery,
    is_settled: AtomicBool,
}

impl Delivery {
    pub(super) fn new(hub: Arc<Hub>, message: queue::Delivery) -> Self {
        Self(Arc::new(Held(Arc::new(Lease { hub, message, is_settled: AtomicBool::new(false) }))))
    }

    /// The same message, for somebody else who may settle it.
    pub(super) fn shared(&self) -> Self {
        Self(self.0.clone())
    }

    /// What may be looked at and extended, and not settled.
    pub(super) fn lease(&self) -> Arc<Lease> {
        self.0.0.clone()
    }

    /// The lease, unless somebody else may settle it still, or has.
    pub(super) fn into_last(self) -> Option<Arc<Lease>> {
        let held = Arc::into_inner(self.0)?;
        let lease = held.0.clone();
        // It was seen to: nothing happens when this is dropped.
        (!lease.is_settled.swap(true, Ordering::AcqRel)).then_some(lease)
    }

    /// What there is to know of it.
    #[must_use]
    pub fn message(&self) -> &queue::Delivery {
        self.0.0.message()
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> MessageId {
        self.message().id
    }

    /// When its lease ends, unless it is extended.
    #[must_use]
    pub fn deadline(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.message().deadline.0)
    }

    /// What was put.
    ///
    /// # Errors
    /// [`QueueError::Payload`] when it is no `T`.
    pub fn payload<T: DeserializeOwned>(&self) -> Result<T, QueueError> {
        self.0.0.payload()
    }

    /// What was said about it, if anything was.
    ///
    /// # Errors
    /// [`QueueError::Payload`] when it is no `H`.
    pub fn headers<H: DeserializeOwned>(&self) -> Result<Option<H>, QueueError> {
        headers_of(&self.message().headers)
    }

    /// It is done.
    ///
    /// # Errors
    /// [`queue::Refusal::StaleLease`] when somebody else may have it: then this counts for nothing.
    pub async fn ack(self) -> Result<(), QueueError> {
        self.0.0.settle(Verdict::Done(None)).await.map(drop)
    }

    /// It is done, with a result.
    ///
    /// # Errors
    /// As [`Delivery::ack`]; [`QueueError::Payload`] when the result cannot be written.
    pub async fn ack_with<R: Serialize + ?Sized>(self, result: &R) -> Result<(), QueueError> {
        let result = Payload::new(result)?.into_stored();
        self.0.0.settle(Verdict::Done(Some(result))).await.map(drop)
    }

    /// It failed: again later, `after` so long or as its backoff says.
    ///
    /// # Errors
    /// As [`Delivery::ack`].
    pub async fn retry(self, why: &str, after: Option<Duration>) -> Result<(), QueueError> {
        let verdict = Verdict::Retry { after_ms: after.map(milliseconds), why: cut(why).into() };
        self.0.0.settle(verdict).await.map(drop)
    }

    /// It is hopeless.
    ///
    /// # Errors
    /// As [`Delivery::ack`].
    pub async fn dead(self, why: &str) -> Result<(), QueueError> {
        self.0.0.settle(Verdict::Dead { why: cut(why).into() }).await.map(drop)
    }

    /// Somebody else may have it; it did not fail.
    ///
    /// # Errors
    /// As [`Delivery::ack`].
    pub async fn release(self) -> Result<(), QueueError> {
        self.0.0.settle(Verdict::Release).await.map(drop)
    }

    /// Still at it: so long from now, or as long as the lease was. Returns when the lease ends.
    ///
    /// # Errors
    /// As [`Delivery::ack`].
    pub async fn extend(&self, lease: Option<Duration>) -> Result<SystemTime, QueueError> {
        self.0.0.extend(lease).await
    }

    /// Still at it, and this far: told to those who watch the queue.
    ///
    /// # Errors
    /// As [`Delivery::ack`]; [`QueueError::Payload`] when the value cannot be written.
    pub async fn progress<T: Serialize + ?Sized>(&self, value: &T) -> Result<SystemTime, QueueError> {
        self.0.0.progress(value).await
    }
}

impl Lease {
    pub(super) const fn message(&self) -> &queue::Delivery {
        &self.message
    }

    pub(super) fn payload<T: DeserializeOwned>(&self) -> Result<T, QueueError> {
        Payload::from_stored(self.message.payload.clone()).read()
    }

    pub(super) fn headers<H: DeserializeOwned>(&self) -> Result<Option<H>, QueueError> {
        headers_of(&self.message.headers)
    }

    pub(super) async fn extend(&self, lease: Option<Duration>) -> Result<SystemTime, QueueError> {
        self.settle(Verdict::Touch(lease.map(milliseconds))).await
    }

    pub(super) async fn progress<T: Serialize + ?Sized>(&self, value: &T) -> Result<SystemTime, QueueError> {
        let value = Payload::new(value)?.into_stored();
        self.settle(Verdict::Progress(value)).await
    }

    pub(super) async fn settle(&self, verdict: Verdict) -> Result<SystemTime, QueueError> {
        let ends = !matches!(verdict, Verdict::Touch(_) | Verdict::Progress(_));
        if ends {
            self.is_settled.store(true, Ordering::Release);
        }
        let settles = vec![Settle { id: self.message.id, token: self.message.token, verdict }];
        // What ends it is said once: whoever says it does not have it any more.
        let again = if ends { settles.clone() } else { Vec::new() };
        let mut answered = self.hub.ask(Command::Settle(settles)).await;
        if ends {
            answered = self.hub.settle_after(&again, answered).await;
        }
        let settled = match answered?? {
            Outcome::Settled(settled) => settled.into_iter().next().transpose()?,
            _ => None,
        };
        Ok(match settled {
            Some(Settled::Until(until)) => UNIX_EPOCH + Duration::from_millis(until.0),
            Some(Settled::Ended) | None => SystemTime::now(),
        })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let lease = &self.0;
        if !lease.is_settled.swap(true, Ordering::AcqRel) {
            let why = "dropped without a word".into();
            let verdict = Verdict::Retry { after_ms: None, why };
            let settle = Settle { id: lease.message.id, token: lease.message.token, verdict };
            drop(lease.hub.ask(Command::Settle(vec![settle])));
        }
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery").field("message", self.message()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("message", &self.message).finish_non_exhaustive()
    }
}
