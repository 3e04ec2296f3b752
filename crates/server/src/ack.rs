//! Answers: ours to clients, and clients' to us.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use posthaste_adapter::AckCollector;
use posthaste_socket_proto::{Args, EmitArgs, FromArgs, encode_ack};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep};

use crate::error::{AckError, SendError};
use crate::sent::Sent;
use crate::socket::Socket;

/// The right to answer an event. A handler that takes it answers for itself, now or later, or not at all.
#[derive(Debug)]
pub struct Ack {
    socket: Socket,
    id: Option<u64>,
}

impl Ack {
    pub(crate) const fn new(socket: Socket, id: Option<u64>) -> Self {
        Self { socket, id }
    }

    /// Whether the client waits for an answer.
    #[must_use]
    pub const fn is_requested(&self) -> bool {
        self.id.is_some()
    }

    /// Answers: a tuple with several values, `()` with none. Does nothing when no answer is waited for.
    pub fn send<A: EmitArgs + ?Sized>(self, answer: &A) -> Sent {
        match self.id {
            Some(id) => self.socket.send_packet(false, |out, namespace| encode_ack(out, namespace, id, answer)),
            None => Sent::ready(Ok(())),
        }
    }
}

/// An answer that is waited for: the future of [`Socket::emit_with_ack`].
///
/// It ends with the answer, when the socket is gone, or when the answer took too long; nothing is kept after that.
///
/// # Cancel safety
/// Dropping it drops the answer.
#[must_use = "the question was asked already; awaiting this brings the answer"]
pub struct AckFuture<T> {
    state: Result<oneshot::Receiver<Result<Args<'static>, AckError>>, Option<AckError>>,
    _answer: PhantomData<fn() -> T>,
}

impl<T> AckFuture<T> {
    pub(crate) const fn waiting(answer: oneshot::Receiver<Result<Args<'static>, AckError>>) -> Self {
        Self { state: Ok(answer), _answer: PhantomData }
    }

    pub(crate) const fn failed(error: AckError) -> Self {
        Self { state: Err(Some(error)), _answer: PhantomData }
    }
}

impl<T: FromArgs> Future for AckFuture<T> {
    type Output = Result<T, AckError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.get_mut().state {
            Err(error) => Poll::Ready(Err(error.take().unwrap_or(AckError::Disconnected))),
            // The worker that kept the question ends with the sockets it asks.
            Ok(answer) => Pin::new(answer).poll(cx).map(|answer| {
                let args = answer.unwrap_or(Err(AckError::Disconnected))?;
                Ok(T::from_args(&args)?)
            }),
        }
    }
}

impl<T> fmt::Debug for AckFuture<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AckFuture")
    }
}

/// The answers to a question that went to many sockets.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Acks<T> {
    /// One for each socket that answered in time, in the order of arrival.
    pub answers: Vec<T>,
    /// How many sockets were asked.
    pub asked: usize,
    /// Whether all of them answered in time.
    pub complete: bool,
}

/// The answers of many sockets, waited for: the future of [`Operator::emit_with_ack`](crate::Operator::emit_with_ack).
///
/// It ends when everyone has answered, or when the time is up, with the answers that came.
#[must_use = "the question was asked already; awaiting this brings the answers"]
pub struct AcksFuture<T> {
    collector: Arc<AckCollector>,
    deadline: Pin<Box<Sleep>>,
    error: Option<SendError>,
    _answer: PhantomData<fn() -> T>,
}

impl<T> AcksFuture<T> {
    pub(crate) fn waiting(collector: Arc<AckCollector>, deadline: std::time::Instant) -> Self {
        let deadline = Box::pin(tokio::time::sleep_until(Instant::from_std(deadline)));
        Self { collector, deadline, error: None, _answer: PhantomData }
    }

    pub(crate) fn failed(error: SendError) -> Self {
        Self {
            collector: Arc::default(),
            deadline: Box::pin(tokio::time::sleep_until(Instant::now())),
            error: Some(error),
            _answer: PhantomData,
        }
    }
}

impl<T: FromArgs> Future for AcksFuture<T> {
    type Output = Result<Acks<T>, AckError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Some(error) = this.error.take() {
            return Poll::Ready(Err(error.into()));
        }
        let done = this.collector.poll_done(cx).is_ready() || this.deadline.as_mut().poll(cx).is_ready();
        if !done {
            return Poll::Pending;
        }
        let answers = this.collector.take();
        let complete = answers.is_complete();
        let asked = answers.addressed;
        let answers = answers.answers.iter().map(T::from_args).collect::<Result<Vec<T>, _>>();
        Poll::Ready(answers.map(|answers| Acks { answers, asked, complete }).map_err(AckError::from))
    }
}

impl<T> fmt::Debug for AcksFuture<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AcksFuture")
    }
}
