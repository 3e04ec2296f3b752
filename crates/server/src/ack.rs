//! Answers: ours to clients, and clients' to us.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use posthaste_adapter::{AckCollector, SocketId};
use posthaste_socket_proto::{Args, EmitArgs, FromArgs, encode_ack};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep};

use crate::error::{AckError, SendError};
use crate::how::How;
use crate::once::Ticket;
use crate::sent::Sent;
use crate::socket::Socket;

/// The right to answer an event. A handler that takes it answers for itself, now or later, or not at all.
#[derive(Debug)]
pub struct Ack {
    socket: Socket,
    id: Option<Asked>,
}

/// What an answer is to.
#[derive(Clone, Debug)]
pub(crate) enum Asked {
    /// A question of the client's.
    Id(u64),
    /// One with a key: whoever repeats it gets the same answer.
    Keyed(u64, Arc<Ticket>),
}

impl Asked {
    pub(crate) const fn id(&self) -> u64 {
        match self {
            Self::Id(id) | Self::Keyed(id, _) => *id,
        }
    }

    /// The key it was asked with.
    pub(crate) fn key(&self) -> Option<&Arc<str>> {
        match self {
            Self::Id(_) => None,
            Self::Keyed(_, ticket) => Some(ticket.key()),
        }
    }
}

impl Ack {
    pub(crate) const fn new(socket: Socket, id: Option<Asked>) -> Self {
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
            Some(Asked::Id(id)) => self.socket.answer(id, answer),
            Some(Asked::Keyed(id, ticket)) => ticket.answer(&self.socket, id, answer),
            None => Sent::ready(Ok(())),
        }
    }

    /// As [`Ack::send`], but whoever asks again under the same key ([`Builder::idempotency`](crate::Builder::idempotency)) is handled anew:
    /// for a refusal that passes, after which nothing was done.
    pub fn send_for_now<A: EmitArgs + ?Sized>(self, answer: &A) -> Sent {
        match self.id {
            Some(Asked::Keyed(_, ticket)) => ticket.answer_for_now(answer),
            Some(Asked::Id(id)) => self.socket.answer(id, answer),
            None => Sent::ready(Ok(())),
        }
    }
}

impl Socket {
    /// Answers a question of the client's.
    pub(crate) fn answer<A: EmitArgs + ?Sized>(&self, id: u64, answer: &A) -> Sent {
        self.send_packet(How::USUAL, |out, namespace| encode_ack(out, namespace, id, answer))
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
    state: One,
    _answer: PhantomData<fn() -> T>,
}

enum One {
    /// A socket of this server was asked: whoever keeps the question keeps its time as well.
    Here(oneshot::Receiver<Result<Args<'static>, AckError>>),
    /// A socket was asked by its room, wherever it is.
    Anywhere(Collecting),
    Failed(Option<AckError>),
}

impl<T> AckFuture<T> {
    pub(crate) const fn waiting(answer: oneshot::Receiver<Result<Args<'static>, AckError>>) -> Self {
        Self { state: One::Here(answer), _answer: PhantomData }
    }

    /// Of a collector that is done with the first answer.
    pub(crate) fn anywhere(collector: Arc<AckCollector>, deadline: std::time::Instant) -> Self {
        Self { state: One::Anywhere(Collecting::new(collector, deadline)), _answer: PhantomData }
    }

    pub(crate) const fn failed(error: AckError) -> Self {
        Self { state: One::Failed(Some(error)), _answer: PhantomData }
    }
}

impl<T: FromArgs> Future for AckFuture<T> {
    type Output = Result<T, AckError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let args = match &mut self.get_mut().state {
            One::Failed(error) => Err(error.take().unwrap_or(AckError::Disconnected)),
            // The worker that kept the question ends with the sockets it asks.
            One::Here(answer) => ready!(Pin::new(answer).poll(cx)).unwrap_or(Err(AckError::Disconnected)),
            One::Anywhere(collecting) => {
                let ended = ready!(collecting.poll_end(cx));
                let answer = collecting.collector.take().pop();
                answer.map(|reply| reply.args).ok_or(match ended {
                    End::NothingMore => AckError::Disconnected,
                    End::TimeIsUp => AckError::Timeout,
                })
            }
        };
        Poll::Ready(args.and_then(|args| Ok(T::from_args(&args)?)))
    }
}

impl<T> fmt::Debug for AckFuture<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AckFuture")
    }
}

/// A collector that is waited for until a deadline. Dropping it has the collector keep nothing any more.
struct Collecting {
    collector: Arc<AckCollector>,
    deadline: Pin<Box<Sleep>>,
}

/// Why no more answers come.
#[derive(Clone, Copy)]
enum End {
    NothingMore,
    TimeIsUp,
}

impl Collecting {
    fn new(collector: Arc<AckCollector>, deadline: std::time::Instant) -> Self {
        Self { collector, deadline: Box::pin(tokio::time::sleep_until(Instant::from_std(deadline))) }
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if self.collector.poll_done(cx).is_ready() {
            return Poll::Ready(End::NothingMore);
        }
        self.deadline.as_mut().poll(cx).map(|()| End::TimeIsUp)
    }
}

impl Drop for Collecting {
    fn drop(&mut self) {
        self.collector.close();
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
    /// Whether all of them answered in time, and all answers could be kept
    /// ([`max_ack_bytes`](crate::Builder::max_ack_bytes)).
    pub complete: bool,
}

/// The answers of many sockets, waited for: the future of [`Operator::emit_with_ack`](crate::Operator::emit_with_ack).
///
/// It ends when everyone has answered, or when the time is up, with the answers that came. [`AcksFuture::stream`] gives them one by
/// one instead, as they come.
///
/// # Cancel safety
/// Dropping it drops the answers.
#[must_use = "the question was asked already; awaiting this brings the answers"]
pub struct AcksFuture<T> {
    state: Result<Collecting, Option<SendError>>,
    _answer: PhantomData<fn() -> T>,
}

impl<T> AcksFuture<T> {
    pub(crate) fn waiting(collector: Arc<AckCollector>, deadline: std::time::Instant) -> Self {
        Self { state: Ok(Collecting::new(collector, deadline)), _answer: PhantomData }
    }

    pub(crate) const fn failed(error: SendError) -> Self {
        Self { state: Err(Some(error)), _answer: PhantomData }
    }

    /// The answers one by one, as they come. What was taken is kept no more, so a stream that is read as fast as answers come
    /// takes any number of them.
    ///
    /// ```no_run
    /// # async fn example(io: posthaste::Server) -> Result<(), posthaste::AckError> {
    /// let mut votes = io.to("jury").emit_with_ack::<u8>("vote", &()).stream();
    /// while let Some(vote) = votes.next().await {
    ///     let (from, points) = vote?;
    ///     println!("{points} points from {from:?}");
    /// }
    /// println!("all have voted: {}", votes.is_complete());
    /// # Ok(()) }
    /// ```
    pub fn stream(self) -> AckStream<T> {
        AckStream { state: self.state, _answer: PhantomData }
    }
}

impl<T: FromArgs> Future for AcksFuture<T> {
    type Output = Result<Acks<T>, AckError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let collecting = match &mut self.get_mut().state {
            Ok(collecting) => collecting,
            Err(error) => return Poll::Ready(Err(error.take().unwrap_or(SendError::Disconnected).into())),
        };
        ready!(collecting.poll_end(cx));
        let replies = collecting.collector.take();
        let counts = collecting.collector.counts();
        let answers = replies.iter().map(|reply| T::from_args(&reply.args)).collect::<Result<Vec<T>, _>>();
        Poll::Ready(match answers {
            Ok(answers) => Ok(Acks { answers, asked: counts.asked, complete: counts.is_complete() }),
            Err(error) => Err(error.into()),
        })
    }
}

impl<T> fmt::Debug for AcksFuture<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AcksFuture")
    }
}

/// The answers of many sockets, one by one as they come: see [`AcksFuture::stream`].
///
/// Each comes with the id of the socket it is from; answers of servers, and of sockets on servers that do not tell, have none. An
/// answer that is not a `T` is an [`AckError::Type`] in its place. The stream ends when everyone has answered, or when the time is up.
#[must_use = "a stream does nothing until it is polled"]
pub struct AckStream<T> {
    state: Result<Collecting, Option<SendError>>,
    _answer: PhantomData<fn() -> T>,
}

impl<T: FromArgs> AckStream<T> {
    /// The next answer; `None` when no more can come.
    ///
    /// # Errors
    /// [`AckError::Send`] when the question could not be sent, [`AckError::Type`] when an answer is not a `T`.
    ///
    /// # Cancel safety
    /// Safe: dropped before completion, no answer is lost.
    pub async fn next(&mut self) -> Option<Result<(Option<SocketId>, T), AckError>> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl<T> AckStream<T> {
    /// How many sockets were asked, as far as servers have said by now.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.state.as_ref().map_or(0, |collecting| collecting.collector.counts().asked)
    }

    /// Whether everyone who was asked has answered by now.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.state.as_ref().is_ok_and(|collecting| collecting.collector.counts().is_complete())
    }
}

impl<T: FromArgs> Stream for AckStream<T> {
    type Item = Result<(Option<SocketId>, T), AckError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let collecting = match &mut self.get_mut().state {
            Ok(collecting) => collecting,
            Err(error) => return Poll::Ready(error.take().map(|error| Err(error.into()))),
        };
        match collecting.collector.poll_reply(cx) {
            Poll::Ready(Some(reply)) => {
                let answer = T::from_args(&reply.args).map_err(AckError::from);
                Poll::Ready(Some(answer.map(|answer| (reply.from, answer))))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => collecting.deadline.as_mut().poll(cx).map(|()| None),
        }
    }
}

impl<T> fmt::Debug for AckStream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AckStream")
    }
}
