//! Sending what has to be kept.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use posthaste_adapter::{IntoRooms, Packet, Target};
use posthaste_history::Offset;
use posthaste_history::store::{Answer, Durability, Receipt};
use posthaste_socket_proto::{EmitArgs, encode_event};

use super::{DurableError, Keeper, RoomPattern, RoomPatternError, RoomPolicy, Rule};
use crate::encode::packet_frames;
use crate::namespace::Namespace;
use crate::server::Server;

/// Where a durable event goes; made by [`Operator::durable`](crate::Operator::durable).
///
/// ```no_run
/// # async fn example(io: posthaste::Server) -> Result<(), posthaste::DurableError> {
/// let stored = io.to("orders").durable().emit("order", &(7, "soup")).await?;
/// println!("committed ({}) at {}", stored.durability, stored.offset());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "an operator does nothing until something is emitted"]
pub struct DurableOperator {
    pub(crate) namespace: Namespace,
    pub(crate) target: Target,
    pub(crate) key: Option<Bytes>,
    pub(crate) durability: Option<Durability>,
}

impl DurableOperator {
    /// To the sockets in these rooms, besides those named before; see [`Operator::to`](crate::Operator::to).
    pub fn to(mut self, rooms: impl IntoRooms) -> Self {
        rooms.append_to(&mut self.target.rooms);
        self
    }

    /// Not to the sockets in these rooms.
    pub fn except(mut self, rooms: impl IntoRooms) -> Self {
        rooms.append_to(&mut self.target.except);
        self
    }

    /// Whether it may be compressed on its way; see [`Operator::compress`](crate::Operator::compress).
    pub const fn compress(mut self, compress: bool) -> Self {
        self.target.flags.compress = compress;
        self
    }

    /// Makes repeating it harmless: while the store remembers the key for the first of the rooms, the event is neither stored nor sent
    /// again, and [`StoredAt`] is that of the first time, with `dup` set.
    pub fn key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Has it sent as soon as this is reached, where more would be waited for; [`StoredAt::durability`] says what was. An event that is not
    /// worth a sync, a position on a map say, is kept all the same, but for a power cut.
    pub const fn durability(mut self, durability: Durability) -> Self {
        self.durability = Some(durability);
        self
    }

    /// Commits an event, and has it sent when it is committed. It is taken, in the order of the calls, before this returns; awaiting it
    /// tells where it is. Dropping the future takes nothing back.
    ///
    /// # Errors (of the future)
    /// [`DurableError`]: with any but [`StoreError::Poisoned`](crate::store::StoreError::Poisoned) it was neither stored nor sent.
    pub fn emit<A: EmitArgs + ?Sized>(self, event: &str, args: &A) -> Stored {
        let frames = packet_frames(|out| encode_event(out, self.namespace.name(), None, event, args));
        match frames {
            Ok(frames) => self.put(&Packet::from_frames(frames)),
            Err(error) => Stored::failed(DurableError::Encode(error.to_string())),
        }
    }

    pub(crate) fn put(self, packet: &Packet) -> Stored {
        let Self { namespace, target, key, durability } = self;
        match namespace.0.keeper() {
            Ok(keeper) => Stored::pending(keeper.put(&target, packet, key, durability), keeper),
            Err(error) => Stored::failed(error),
        }
    }
}

/// A durable event on its way into the store.
#[must_use = "it is on its way; only awaiting it says whether it is kept"]
pub struct Stored(Result<Waiting, Option<DurableError>>);

/// The store's answer, and who can read it.
type Waiting = (Answer<Vec<Receipt>>, Arc<Keeper>);

impl Stored {
    pub(super) fn pending(answer: Answer<Vec<Receipt>>, keeper: &Arc<Keeper>) -> Self {
        Self(Ok((answer, keeper.clone())))
    }

    pub(super) const fn failed(error: DurableError) -> Self {
        Self(Err(Some(error)))
    }
}

impl Future for Stored {
    type Output = Result<StoredAt, DurableError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.get_mut().0 {
            Err(error) => Poll::Ready(Err(error.take().expect("a future is not polled again when it has ended"))),
            Ok((answer, keeper)) => answer.as_mut().poll(cx).map(|receipts| {
                let receipts = receipts?;
                let Receipt { position, n, dup, durability } =
                    *receipts.last().expect("invariant: a receipt for each message");
                Ok(StoredAt { offset: keeper.offset(position.pos), pos: position.pos, n, dup, durability })
            }),
        }
    }
}

impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_ok() { "Stored(pending)" } else { "Stored(failed)" })
    }
}

/// Where a durable event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredAt {
    offset: Offset,
    /// Its position in the namespace's shard.
    pub pos: u64,
    /// Its number in the first of its rooms, without holes from 1.
    pub n: u64,
    /// It was there before, under the same key.
    pub dup: bool,
    /// What is promised.
    pub durability: Durability,
}

impl StoredAt {
    /// The text of its position: what clients carry, and what [`History`](super::History) goes on from.
    #[must_use]
    pub fn offset(&self) -> &str {
        self.offset.as_str()
    }
}

/// Where rooms are declared durable.
macro_rules! declares {
    ($name:ty, $namespace:expr) => {
        impl $name {
            /// Keeps what is emitted to rooms that match `pattern` (`orders`, `chat:*`, `chat:{id}`), as `policy` says: a [`RoomPolicy`], or a [`Retention`](crate::store::Retention) alone. Of several
            /// patterns the first that matches a room counts.
            ///
            /// Whatever names such a room among its targets is stored, unless it is volatile or asks for an answer: `emit` is then ready when
            /// it is committed, and fails when it is not. It reaches the sockets of this node.
            ///
            /// # Errors
            /// [`DurableError::NoStore`] without [`Builder::durable`](crate::Builder::durable), [`DurableError::Pattern`] when it does not parse.
            pub fn durable_rooms(&self, pattern: &str, policy: impl Into<RoomPolicy>) -> Result<&Self, DurableError> {
                let pattern = RoomPattern::parse(pattern)?;
                let namespace: Namespace = $namespace(self);
                namespace.0.keeper()?.add_rule(Rule { pattern, policy: policy.into() });
                Ok(self)
            }
        }
    };
}

declares!(Namespace, Clone::clone);
declares!(Server, Server::main);

impl From<RoomPatternError> for DurableError {
    fn from(error: RoomPatternError) -> Self {
        Self::Pattern(error)
    }
}
