//! One Socket.IO packet, decoded as far as the protocol needs and no further.

use std::borrow::Cow;

use crate::{args::Args, event::EventName};

/// A packet of Socket.IO protocol v5, complete with its attachments.
///
/// Binary events and acks (types 5 and 6) come out as [`Packet::Event`] and [`Packet::Ack`]: on the wire they differ,
/// in meaning they do not. `namespace` starts with a slash; `/` is the main one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// A client asks to join a namespace, or the server tells it that it did.
    Connect {
        /// The namespace to join.
        namespace: Cow<'a, str>,
        /// A JSON object as text: from a client its credentials, from a server `sid` (and `pid`).
        auth: Option<Cow<'a, str>>,
    },
    /// Either side leaves a namespace.
    Disconnect {
        /// The namespace to leave.
        namespace: Cow<'a, str>,
    },
    /// Something happened.
    Event {
        /// The namespace it happened in.
        namespace: Cow<'a, str>,
        /// Present when the sender waits for an answer under this id.
        id: Option<u64>,
        /// What happened; never reserved.
        event: EventName<'a>,
        /// The values sent along, without the name.
        args: Args<'a>,
    },
    /// The answer to an event.
    Ack {
        /// The namespace of the event.
        namespace: Cow<'a, str>,
        /// The id the event asked for an answer with.
        id: u64,
        /// The answer.
        args: Args<'a>,
    },
    /// A server refuses a client's wish to join.
    ConnectError {
        /// The namespace that was asked for.
        namespace: Cow<'a, str>,
        /// A JSON object (or string, from older servers) as text, with the reason.
        data: Option<Cow<'a, str>>,
    },
    /// An event without a name, or an ack without id and payload. Legal on the wire (`2`, `3`), and nothing can
    /// handle it.
    Blank {
        /// The namespace, which the sender must have joined all the same.
        namespace: Cow<'a, str>,
    },
}

impl Packet<'_> {
    /// The namespace that the packet belongs to.
    pub fn namespace(&self) -> &str {
        match self {
            Self::Connect { namespace, .. }
            | Self::Disconnect { namespace }
            | Self::Event { namespace, .. }
            | Self::Ack { namespace, .. }
            | Self::ConnectError { namespace, .. }
            | Self::Blank { namespace } => namespace,
        }
    }

    /// Copies what is borrowed, so that the packet outlives the message it came in.
    pub fn into_owned(self) -> Packet<'static> {
        match self {
            Self::Connect { namespace, auth } => {
                Packet::Connect { namespace: owned_namespace(namespace), auth: auth.map(owned) }
            }
            Self::Disconnect { namespace } => Packet::Disconnect { namespace: owned_namespace(namespace) },
            Self::Event { namespace, id, event, args } => Packet::Event {
                namespace: owned_namespace(namespace),
                id,
                event: owned(event),
                args: args.into_owned(),
            },
            Self::Ack { namespace, id, args } => {
                Packet::Ack { namespace: owned_namespace(namespace), id, args: args.into_owned() }
            }
            Self::ConnectError { namespace, data } => {
                Packet::ConnectError { namespace: owned_namespace(namespace), data: data.map(owned) }
            }
            Self::Blank { namespace } => Packet::Blank { namespace: owned_namespace(namespace) },
        }
    }
}

fn owned(text: Cow<'_, str>) -> Cow<'static, str> {
    Cow::Owned(text.into_owned())
}

/// Most packets belong to the main namespace, whose name needs no copy.
fn owned_namespace(namespace: Cow<'_, str>) -> Cow<'static, str> {
    if namespace == MAIN_NAMESPACE { Cow::Borrowed(MAIN_NAMESPACE) } else { owned(namespace) }
}

/// The namespace that every client may name by leaving the name out.
pub const MAIN_NAMESPACE: &str = "/";
