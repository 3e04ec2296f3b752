//! Inboxes: what is sent to somebody, whoever is there and wherever.

use std::sync::Arc;

use bytes::Bytes;
use posthaste_adapter::Packet;
use posthaste_history::store::Retention;
use posthaste_socket_proto::{EmitArgs, encode_event};

use super::{DurableError, Stored};
use crate::encode::packet_frames;
use crate::namespace::Namespace;
use crate::server::Server;

/// Longest identity that has an inbox, in bytes.
const MAX_IDENTITY: usize = 512;

/// How inboxes are kept, and how clients are sent theirs: [`Durable::inbox`](super::Durable::inbox).
///
/// Every identity ([`Socket::identify`](crate::Socket::identify)) has an inbox in each namespace, and for each of its devices a cursor:
/// what is behind the cursor, the device is sent when it connects, behind the answer to its CONNECT, and then what comes. A device says
/// its name as `auth.device`, a text of at most 128 bytes; those that say none, or anything else, are together the device `default`. A
/// device that is new is sent everything that is kept.
///
/// Two connections of one device both get what comes while they are there; the cursor moves when either has confirmed it, for the device
/// has it then. Whoever needs all of it in each of its windows gives each a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inbox {
    /// How much is kept for an identity: by default until every device of it has it, and no more than 10,000 messages, 16 MiB and 30
    /// days. What a device has not confirmed and is forgotten, it is told of by a `sio:gap` event.
    pub retention: Retention,
    /// How a cursor moves; [`InboxMode::Ack`] by default.
    pub mode: InboxMode,
    /// The most messages that one client is sent without having answered them, in [`InboxMode::Ack`]; 64 by default, at least 1.
    pub window: usize,
    /// The most devices of an identity; 16 by default, at least 1. When another comes, the one that is farthest behind is forgotten: should
    /// it come back, it is new.
    pub max_devices: usize,
}

/// How the cursor of a device moves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum InboxMode {
    /// Each message asks for an answer, and the cursor passes it when its answer and all before it have come: what a client's handler did
    /// not answer comes again when the client connects again. Official clients answer by calling the last argument of their handler, those
    /// for Python by what the handler returns.
    #[default]
    Ack,
    /// Each message has one more argument at its end, its offset. The client keeps the last one where it likes, with what it made of the
    /// message, and says it as `auth.inbox` when it connects: it is sent what comes behind. Without one, the device is sent what comes
    /// behind the last that it said.
    Offset,
    /// Nothing is asked of the client: what was sent before an Engine.IO ping has reached its process when it answers that, and the
    /// cursor passes it. Of its handlers this says nothing. As long as something is not confirmed, pings come early, at most one a second.
    /// Clients of Socket.IO 1 and 2 ping by themselves: they are asked for answers.
    Pong,
}

impl Default for Inbox {
    fn default() -> Self {
        let retention = Retention {
            max_age_ms: 30 * 24 * 3_600_000,
            max_messages: 10_000,
            max_bytes: 16 << 20,
            until_passed: true,
        };
        Self { retention, mode: InboxMode::Ack, window: 64, max_devices: 16 }
    }
}

/// Sends to an inbox; made by [`Server::user`](crate::Server::user) and [`Namespace::user`](crate::Namespace::user).
///
/// ```no_run
/// # async fn example(io: posthaste::Server) -> Result<(), posthaste::DurableError> {
/// io.user("ada").emit("message", &("eve", "are you there?")).await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "an operator does nothing until something is emitted"]
pub struct UserOperator {
    namespace: Namespace,
    identity: Arc<str>,
    compress: bool,
    key: Option<Bytes>,
}

impl UserOperator {
    /// Whether it may be compressed on its way; see [`Operator::compress`](crate::Operator::compress).
    pub const fn compress(mut self, compress: bool) -> Self {
        self.compress = compress;
        self
    }

    /// Makes repeating it harmless; see [`DurableOperator::key`](super::DurableOperator::key).
    pub fn key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Commits an event to the inbox. Devices that are connected are sent it when it is committed, the others when they come. It is taken,
    /// in the order of the calls, before this returns; awaiting it tells where it is. Dropping the future takes nothing back.
    ///
    /// # Errors (of the future)
    /// [`DurableError`]: with any but [`StoreError::Poisoned`](crate::store::StoreError::Poisoned) it is not in the inbox.
    pub fn emit<A: EmitArgs + ?Sized>(self, event: &str, args: &A) -> Stored {
        let Self { namespace, identity, compress, key } = self;
        let keeper = match namespace.0.keeper() {
            Ok(keeper) => keeper,
            Err(error) => return Stored::failed(error),
        };
        if keeper.settings().inbox.is_none() {
            return Stored::failed(DurableError::NoInbox);
        }
        if !has_inbox(&identity) {
            return Stored::failed(DurableError::Identity { bytes: identity.len(), max: MAX_IDENTITY });
        }
        match packet_frames(|out| encode_event(out, namespace.name(), None, event, args)) {
            Ok(frames) => {
                let packet = Packet::from_frames(frames);
                Stored::pending(keeper.put_to_inbox(&identity, packet, compress, key), keeper)
            }
            Err(error) => Stored::failed(DurableError::Encode(error.to_string())),
        }
    }
}

/// Whether an identity may have an inbox: it is somebody's, and no longer than it may be.
pub(crate) fn has_inbox(identity: &str) -> bool {
    (1..=MAX_IDENTITY).contains(&identity.len())
}

/// Where inboxes are found.
macro_rules! sends_to_users {
    ($name:ty, $namespace:expr) => {
        impl $name {
            /// To the inbox of whoever is called so ([`Socket::identify`](crate::Socket::identify)), on all of its devices, now or when they come:
            /// see [`Inbox`]. At most 512 bytes.
            pub fn user(&self, identity: impl Into<Arc<str>>) -> UserOperator {
                UserOperator { namespace: $namespace(self), identity: identity.into(), compress: true, key: None }
            }
        }
    };
}

sends_to_users!(Namespace, Clone::clone);
sends_to_users!(Server, Server::main);
