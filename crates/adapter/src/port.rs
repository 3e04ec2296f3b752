//! The port between this node and the others.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;

use crate::acks::AckCollector;
use crate::room::Rooms;
use crate::target::Target;

/// One encoded event on its way to many sockets. Cloning it is a reference count.
#[derive(Clone, Debug)]
pub struct Packet {
    /// A run of complete WebSocket frames: the packet's text, then its attachments.
    pub frames: Bytes,
}

/// One event, and whom it is for.
#[derive(Clone, Debug)]
pub struct Broadcast {
    /// Whom.
    pub target: Target,
    /// What.
    pub packet: Packet,
    /// Where the answers go, with the id the packet asks them under; absent when none are asked for.
    pub answers: Option<(u64, Arc<AckCollector>)>,
}

/// Something done to many sockets, besides sending to them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation {
    /// They join these rooms.
    Join(Rooms),
    /// They leave these rooms.
    Leave(Rooms),
    /// They are taken out of the namespace; with `close` out of all, and their connections are closed.
    Disconnect {
        /// Whether the connections are closed.
        close: bool,
    },
}

/// The sockets of this process, as an adapter sees them.
pub trait Node: Send + Sync {
    /// Delivers to every socket of this node that the target means. Never waits for a socket.
    fn deliver(&self, broadcast: &Broadcast);

    /// Does `operation` to every socket of this node that the target means.
    fn apply(&self, target: &Target, operation: &Operation);
}

/// What became of a broadcast that was handed to an adapter.
#[must_use = "a broadcast that is still on its way fails unseen"]
pub enum Delivery {
    /// It was handed to everyone it is for.
    Done,
    /// Other nodes have yet to take it.
    Pending(Pin<Box<dyn Future<Output = Result<(), AdapterError>> + Send>>),
}

/// Why a broadcast did not reach the other nodes. This node's sockets have it.
#[derive(Debug, thiserror::Error)]
#[error("the other nodes could not be reached")]
pub struct AdapterError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// Who reaches sockets, here and elsewhere; one for each namespace.
pub trait Adapter: Send + Sync + 'static {
    /// Sends a broadcast to this node's sockets through `node`, and to the other nodes.
    ///
    /// The local part happens before this returns, so that the order of calls is the order of delivery.
    fn broadcast(&self, node: &dyn Node, broadcast: Broadcast) -> Delivery;

    /// Has an operation done to this node's sockets through `node`, and to those of the other nodes. In order with broadcasts.
    fn apply(&self, node: &dyn Node, target: Target, operation: Operation) -> Delivery;
}
