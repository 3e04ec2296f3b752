//! Sending one socket what has to be kept, and asking it what has to be answered.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use posthaste_adapter::{Flags, Packet, Room, Rooms, SocketId, Target};
use posthaste_engine_proto::session::deadline_after;
use posthaste_history::store::StoreError;
use posthaste_socket_proto::{Args, EmitArgs, FromArgs, encode_event};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep};

use super::{DurableError, DurableOperator, Form, Keeper, Stored, StoredAt, questions};
use crate::encode::packet_frames;
use crate::error::{AckError, SendError};
use crate::socket::{Phase, Socket};

/// How a durable event goes to one socket; made by [`Socket::durable`] and [`SocketOperator::durable`](crate::SocketOperator::durable).
///
/// ```no_run
/// # async fn example(socket: posthaste::Socket) -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// socket.durable().emit("invoice", &7).await?;
/// let answer = socket.durable().timeout(Duration::from_secs(60)).emit_with_ack::<String>("sign", &7).await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "an operator does nothing until something is emitted"]
pub struct DurableSocketOperator {
    pub(crate) socket: Socket,
    pub(crate) flags: Flags,
}

impl DurableSocketOperator {
    /// Whether it may be compressed on its way; see [`Operator::compress`](crate::Operator::compress).
    pub const fn compress(mut self, compress: bool) -> Self {
        self.flags.compress = compress;
        self
    }

    /// How long the answer to [`DurableSocketOperator::emit_with_ack`] is waited for. The question stays open after that.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.flags.timeout = Some(timeout);
        self
    }

    /// Makes repeating it harmless; see [`DurableOperator::key`].
    pub fn key(self, key: impl Into<Bytes>) -> DurableOperator {
        self.to_own_room().key(key)
    }

    /// Commits an event of the socket's session, and has it sent when it is committed; see [`DurableOperator::emit`].
    pub fn emit<A: EmitArgs + ?Sized>(self, event: &str, args: &A) -> Stored {
        self.to_own_room().emit(event, args)
    }

    /// Commits a question to the socket's session, asks it when it is committed, and asks again until it has answered: whenever its client
    /// comes back and is [recovered](Socket::recovered), behind the answer to its CONNECT, also after the process was killed. The id in the
    /// packet is the same each time, so that an answer to any of them counts; it ends the question.
    ///
    /// Of the client nothing is asked but what [`Socket::emit_with_ack`] asks; its handler may run more than once. It is taken, in the order
    /// of the calls and with other durable events, before this returns. Dropping the future takes nothing back.
    ///
    /// No client may owe more answers than [`Durable::max_unanswered`](super::Durable::max_unanswered) says. Questions are forgotten with
    /// the session they were asked in, and when they are older than two [`Durable::max_away`](super::Durable::max_away).
    ///
    /// # Errors (of the future)
    /// [`AckError::Send`] with [`SendError::Durable`] when it was not stored: then nobody was asked. [`AckError::Disconnected`] when the
    /// session is over, [`AckError::Timeout`] when nobody has answered in time, while the question stays open; [`AckError::Type`] when the
    /// answer is not a `T`.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn emit_with_ack<T: FromArgs>(self, event: &str, args: &(impl EmitArgs + ?Sized)) -> DurableAck<T> {
        DurableAck { state: self.ask(event, args), _answer: PhantomData }
    }

    fn ask(self, event: &str, args: &(impl EmitArgs + ?Sized)) -> Result<Asking, Option<DurableAckError>> {
        let Self { socket, flags } = self;
        let namespace = &socket.0.namespace;
        let refuse = |error: DurableError| Err(Some(DurableAckError::Durable(error)));
        let keeper = match namespace.keeper() {
            Ok(keeper) => keeper.clone(),
            Err(error) => return refuse(error),
        };
        let Some(server) = namespace.server.upgrade() else { return Err(Some(DurableAckError::Gone)) };
        let frames = match packet_frames(|out| encode_event(out, &namespace.name, None, event, args)) {
            Ok(frames) => frames,
            Err(error) => return refuse(DurableError::Encode(error.to_string())),
        };
        let connection = socket.0.connection;
        let live = match socket.phase() {
            Phase::Connected => Some(connection),
            Phase::Gone if socket.is_away() => None,
            Phase::Gone => return Err(Some(DurableAckError::Gone)),
            Phase::Joining => return refuse(DurableError::NotJoined),
        };
        let form = Form { except: Rooms::new(), compress: flags.compress, packet: Packet::from_frames(frames) };
        let (id, max) = (socket.id(), keeper.settings().max_unanswered);
        let (waiter, answer) = oneshot::channel();
        let cost = questions::cost_of(form.packet.frames().len());
        let ticket = match keeper.questions().begin(id, cost, max, waiter, live) {
            Ok(ticket) => ticket,
            Err(error) => return refuse(error),
        };
        let stored = Stored::pending(keeper.put_question(id, ticket, &form), &keeper);
        // Lost, or gone, since it was looked at.
        match socket.phase() {
            Phase::Gone if socket.is_away() => keeper.questions().left(id, connection),
            Phase::Gone => keeper.end_questions(id),
            Phase::Connected | Phase::Joining => {}
        }
        let (told, receipt) = oneshot::channel();
        let there = keeper.clone();
        // Also when nobody waits for it: what was not stored must not count as open.
        tokio::spawn(async move {
            let stored = stored.await;
            if let Err(error) = &stored {
                let why = || AckError::Send(SendError::Durable(error.clone()));
                there.questions().fail(id, ticket, why);
            }
            drop(told.send(stored));
        });
        let timeout = flags.timeout.unwrap_or(server.config.ack_timeout);
        let deadline = Instant::from_std(deadline_after(std::time::Instant::now(), timeout));
        let deadline = Box::pin(tokio::time::sleep_until(deadline));
        Ok(Asking { keeper, id, ticket, receipt: Some(receipt), answer, deadline })
    }

    fn to_own_room(&self) -> DurableOperator {
        let Self { socket, flags } = self;
        let rooms = std::iter::once(Room::from(socket.id())).collect();
        let target = Target { rooms, flags: *flags, ..Target::default() };
        DurableOperator { namespace: socket.namespace(), target, key: None, durability: None }
    }
}

/// Why nobody was asked.
enum DurableAckError {
    Durable(DurableError),
    Gone,
}

/// An answer that is waited for, to a question that is kept until it has come: the future of
/// [`DurableSocketOperator::emit_with_ack`].
///
/// # Cancel safety
/// Dropping it drops the answer. The question stays.
#[must_use = "the question is on its way; awaiting this brings the answer"]
pub struct DurableAck<T> {
    state: Result<Asking, Option<DurableAckError>>,
    _answer: PhantomData<fn() -> T>,
}

struct Asking {
    keeper: Arc<Keeper>,
    id: SocketId,
    ticket: u64,
    receipt: Option<oneshot::Receiver<Result<StoredAt, DurableError>>>,
    answer: oneshot::Receiver<Result<Args<'static>, AckError>>,
    deadline: Pin<Box<Sleep>>,
}

impl Asking {
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<Args<'static>, AckError>> {
        if let Poll::Ready(answer) = Pin::new(&mut self.answer).poll(cx) {
            return Poll::Ready(answer.unwrap_or(Err(AckError::Disconnected)));
        }
        self.deadline.as_mut().poll(cx).map(|()| Err(AckError::Timeout))
    }
}

impl<T> DurableAck<T> {
    /// Waits until the question is stored: from then on no crash takes it back.
    ///
    /// # Errors
    /// [`DurableError`] when it was not, or when this was asked before.
    ///
    /// # Cancel safety
    /// Safe: dropped before completion, it can be asked again.
    pub async fn stored(&mut self) -> Result<StoredAt, DurableError> {
        match &mut self.state {
            Ok(asking) => {
                let closed = || DurableError::Store(StoreError::Closed);
                let Some(receipt) = &mut asking.receipt else { return Err(closed()) };
                let stored = receipt.await.unwrap_or_else(|_| Err(closed()));
                asking.receipt = None;
                stored
            }
            Err(Some(DurableAckError::Durable(error))) => Err(error.clone()),
            Err(Some(DurableAckError::Gone) | None) => Err(DurableError::NotJoined),
        }
    }
}

impl<T: FromArgs> Future for DurableAck<T> {
    type Output = Result<T, AckError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = match &mut self.get_mut().state {
            Err(error) => Err(match error.take() {
                Some(DurableAckError::Durable(error)) => AckError::Send(SendError::Durable(error)),
                Some(DurableAckError::Gone) | None => AckError::Disconnected,
            }),
            Ok(asking) => ready!(asking.poll_answer(cx)),
        };
        Poll::Ready(answer.and_then(|args| Ok(T::from_args(&args)?)))
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.keeper.questions().give_up(self.id, self.ticket);
    }
}

impl<T> fmt::Debug for DurableAck<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DurableAck")
    }
}
