//! What a worker's function takes and returns.

use std::any::{Any, TypeId, type_name};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use posthaste_queue::{MessageId, Verdict};
use rustc_hash::FxHashMap;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::answers::cut;
use super::delivery::{Delivery, Lease};
use super::error::QueueError;
use super::payload::Payload;
use super::queue::milliseconds;
use crate::error::ExtractError;
use crate::extract::State;
use crate::server::{Inner, Server};

/// A message that is worked on, with its payload as a type: what a worker's function takes.
///
/// It may be worked on as long as the queue's `max_lease` says; its lease is extended meanwhile.
#[derive(Debug)]
pub struct Job<T> {
    /// What was put.
    pub data: T,
    lease: Arc<Lease>,
}

impl<T> Job<T> {
    /// Its number.
    #[must_use]
    pub fn id(&self) -> MessageId {
        self.lease.message().id
    }

    /// How often it was given to somebody, this time included.
    #[must_use]
    pub fn deliveries(&self) -> u32 {
        self.lease.message().deliveries
    }

    /// How often it failed.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.lease.message().failures
    }

    /// The key it was put with.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.lease.message().key.as_deref()
    }

    /// What was said about it, if anything was.
    ///
    /// # Errors
    /// [`QueueError::Payload`] when it is no `H`.
    pub fn headers<H: DeserializeOwned>(&self) -> Result<Option<H>, QueueError> {
        self.lease.headers()
    }

    /// As [`Delivery::extend`].
    ///
    /// # Errors
    /// [`posthaste_queue::Refusal::StaleLease`] when somebody else may have it: whatever this one does counts for nothing.
    pub async fn extend(&self, lease: Option<Duration>) -> Result<SystemTime, QueueError> {
        self.lease.extend(lease).await
    }

    /// As [`Delivery::progress`].
    ///
    /// # Errors
    /// As [`Job::extend`].
    pub async fn progress<V: Serialize + ?Sized>(&self, value: &V) -> Result<SystemTime, QueueError> {
        self.lease.progress(value).await
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
pub struct JobError(pub(super) Verdict);

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

/// A message on its way to a worker's function.
#[derive(Debug)]
pub struct JobContext<'a> {
    pub(super) delivery: &'a Delivery,
    pub(super) around: &'a Around,
}

/// What a worker's function may take that is not of its message.
#[derive(Clone, Default)]
pub(super) struct Around {
    pub(super) server: Option<Weak<Inner>>,
    pub(super) states: FxHashMap<TypeId, Arc<dyn Any + Send + Sync>>,
}

impl Around {
    fn server(&self) -> Option<Server> {
        self.server.as_ref()?.upgrade().map(Server)
    }
}

impl fmt::Debug for Around {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Around").field("states", &self.states.len()).finish_non_exhaustive()
    }
}

/// What a worker's function may take: [`Job<T>`](Job), the message with its payload; [`Delivery`], to settle it itself; [`State<T>`](State),
/// given to the worker or to the server's builder; [`Server`].
#[diagnostic::on_unimplemented(
    message = "a worker cannot take `{Self}`",
    label = "not an extractor for jobs",
    note = "it may take `Job<T>` with `T: DeserializeOwned`, `Delivery`, `State<T>`, `Server`"
)]
pub trait FromJob: Sized {
    /// Takes it from the message.
    ///
    /// # Errors
    /// [`ExtractError`]: the function is not called. [`ExtractError::Payload`] is hopeless, and the message is dead; anything else is a failure.
    fn from_job(cx: &mut JobContext<'_>) -> Result<Self, ExtractError>;
}

impl<T: DeserializeOwned> FromJob for Job<T> {
    fn from_job(cx: &mut JobContext<'_>) -> Result<Self, ExtractError> {
        let data = cx.delivery.payload().map_err(|error| ExtractError::Payload(error.to_string()))?;
        Ok(Self { data, lease: cx.delivery.lease() })
    }
}

impl FromJob for Delivery {
    fn from_job(cx: &mut JobContext<'_>) -> Result<Self, ExtractError> {
        Ok(cx.delivery.shared())
    }
}

impl<T: Clone + Send + Sync + 'static> FromJob for State<T> {
    fn from_job(cx: &mut JobContext<'_>) -> Result<Self, ExtractError> {
        let own = cx.around.states.get(&TypeId::of::<T>()).and_then(|state| state.downcast_ref::<T>().cloned());
        let state = own.or_else(|| cx.around.server()?.state::<T>());
        state.map(Self).ok_or(ExtractError::State(type_name::<T>()))
    }
}

impl FromJob for Server {
    fn from_job(cx: &mut JobContext<'_>) -> Result<Self, ExtractError> {
        cx.around.server().ok_or(ExtractError::NoServer)
    }
}

/// A message that is being worked on: its result, or why there is none.
pub(crate) type Working = Pin<Box<dyn Future<Output = Result<Option<Bytes>, JobError>>>>;

/// An async function that works on the messages of a queue: it takes up to eight extractors ([`FromJob`]) and returns `()`, or a `Result` whose
/// value is the result of the message, and whose error says what is to become of it ([`JobError`]).
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot work on the messages of a queue",
    label = "not a worker",
    note = "a worker is an `async fn` or async closure, `Fn`, `Send`, `Sync` and `'static`, whose arguments, up to eight, are extractors (`Job<T>`, `Delivery`, `State<T>`, `Server`) and whose result is `()` or `Result<impl Serialize, E>` with `E: Into<JobError>`, as every error is"
)]
pub trait JobHandler<Args>: Send + Sync + 'static {
    /// Extracts what the function takes and calls it.
    ///
    /// # Errors
    /// [`ExtractError`] when something it takes is not there.
    fn call(&self, cx: &mut JobContext<'_>) -> Result<Working, ExtractError>;
}

/// What a worker's function may return.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot settle a message",
    label = "not a result of a worker",
    note = "return `()`, or `Result<R, E>` with `R: Serialize` and `E: Into<JobError>`, as every error is"
)]
pub trait IntoSettled {
    /// The result in its stored form, if there is one.
    ///
    /// # Errors
    /// [`JobError`] says what is to become of the message.
    fn settled(self) -> Result<Option<Bytes>, JobError>;
}

impl IntoSettled for () {
    fn settled(self) -> Result<Option<Bytes>, JobError> {
        Ok(None)
    }
}

impl<R: Serialize, E: Into<JobError>> IntoSettled for Result<R, E> {
    fn settled(self) -> Result<Option<Bytes>, JobError> {
        let result = Payload::new(&self.map_err(Into::into)?).map_err(JobError::dead)?.into_stored();
        Ok((&*result != b"null").then_some(result))
    }
}

macro_rules! workers {
    ($($take:ident),*) => {
        #[allow(non_snake_case, unused_variables, reason = "one argument per extractor, none for the last")]
        impl<F, Fut, Out, $($take,)*> JobHandler<($($take,)*)> for F
        where
            F: Fn($($take),*) -> Fut + Send + Sync + 'static,
            Fut: Future<Output = Out> + 'static,
            Out: IntoSettled,
            $($take: FromJob,)*
        {
            fn call(&self, cx: &mut JobContext<'_>) -> Result<Working, ExtractError> {
                $(let $take = $take::from_job(cx)?;)*
                let working = self($($take),*);
                Ok(Box::pin(async move { working.await.settled() }))
            }
        }
    };
}

workers!();
workers!(T1);
workers!(T1, T2);
workers!(T1, T2, T3);
workers!(T1, T2, T3, T4);
workers!(T1, T2, T3, T4, T5);
workers!(T1, T2, T3, T4, T5, T6);
workers!(T1, T2, T3, T4, T5, T6, T7);
workers!(T1, T2, T3, T4, T5, T6, T7, T8);
