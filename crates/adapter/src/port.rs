//! The port between this node and the others.
//!
//! ```text
//!   operator ─► Adapter ─┬─► Node       this process: every worker's members of the namespace
//!                        └─► bus ─► another server's Adapter ─► its Node
//! ```
//!
//! An adapter belongs to one namespace of one server. It is given the [`Node`] of that namespace once, and then carries calls:
//! to the node, and to the adapters of the same namespace on other servers, which do the same to theirs.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use posthaste_socket_proto::Args;

use crate::acks::AnswerSink;
use crate::event::RawEvent;
use crate::packet::Packet;
use crate::room::{Room, Rooms, SocketId};
use crate::snapshot::SocketSnapshot;
use crate::target::Target;

/// Something that is not known at once.
pub type Pending<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// One event, and whom it is for.
#[derive(Clone, Debug)]
pub struct Broadcast {
    /// Whom.
    pub target: Target,
    /// What. With answers asked for it holds the id of the question, which is the asking node's own: see [`Node::next_ack_id`].
    pub packet: Packet,
    /// Where the answers go, with the id the packet asks them under; absent when none are asked for.
    pub answers: Option<(u64, Arc<dyn AnswerSink>)>,
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

/// What happened to a room of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RoomEvent {
    /// The first socket of this node is about to be in it.
    Created(Room),
    /// A socket joined it. Each socket joins the room of its own id when it connects.
    Joined(Room, SocketId),
    /// A socket left it, or is gone.
    Left(Room, SocketId),
    /// No socket of this node is in it any more.
    Deleted(Room),
}

/// How a server answers the event of another one. Dropping it is having no answer.
pub type ServerReply = Box<dyn FnOnce(Args<'static>) + Send>;

/// The sockets of one namespace in this process, as its adapter sees them. Cheap to keep; it does not keep the server.
pub trait Node: Send + Sync {
    /// The namespace, with its leading slash.
    fn namespace(&self) -> &str;

    /// The id of this node's next question. A question that came from another node is asked under an id of this node
    /// ([`Packet::encode`]), for its sockets may be asked the same number by this node itself.
    fn next_ack_id(&self) -> u64;

    /// Delivers to every socket of this node that the target means. Never waits for a socket.
    ///
    /// With answers: the sink expects this node before this returns, and hears once how many were asked.
    fn deliver(&self, broadcast: &Broadcast);

    /// Does `operation` to every socket of this node that the target means.
    fn apply(&self, target: &Target, operation: &Operation);

    /// The sockets of this node that the target means, as they are when everything called before is done.
    fn fetch(&self, target: &Target) -> Pending<Vec<SocketSnapshot>>;

    /// Another server's event, for this server's handlers. `reply` is there when an answer is waited for.
    fn server_event(&self, event: RawEvent, reply: Option<ServerReply>);
}

/// What became of something that was handed to an adapter.
#[must_use = "what is still on its way fails unseen"]
pub enum Delivery {
    /// It was handed to everyone it is for.
    Done,
    /// Other nodes have yet to take it. It goes its way whether or not this is awaited.
    Pending(Pending<Result<(), AdapterError>>),
}

/// Why the other nodes were not reached. This node's sockets were.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdapterError {
    /// What connects the nodes failed.
    #[error("the other nodes could not be reached")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Some nodes did not answer in time.
    #[error("timeout reached: {missing} of the other nodes did not answer")]
    Timeout {
        /// How many.
        missing: usize,
    },
}

/// Who reaches sockets, here and elsewhere; one for each namespace of a server.
///
/// What holds of every implementation, and what the suite of the feature `contract` checks:
///
/// - **This node first, and in the call.** What concerns this node's sockets is done through the [`Node`] before the call
///   returns, so that the order of calls is the order of delivery. Other nodes see the calls of one node in that order too.
/// - **Once.** Every node that has sockets of the target is told once, and a node never hears its own calls again.
/// - **`local`.** A target with this flag concerns nobody else: keeping it here is the adapter's duty, for an adapter that logs
///   events has to see those as well.
/// - **The event is the adapter's to complete.** Whoever logs events appends the offset ([`Packet::with_last_argument`]) and then
///   delivers that packet, here and elsewhere.
/// - **Futures report.** Everything was begun when the call returned; dropping a future takes nothing back, but forgets a
///   request that waits for answers. Waiting for other nodes has a bound: the target's timeout is the caller's wish, and the
///   caller gives up by dropping.
///
/// Calls come from any thread, workers' among them, and must not block.
pub trait Adapter: Send + Sync + 'static {
    /// The namespace begins: `node` is its sockets here. Called once, before everything else. It may use the server, this namespace
    /// included; other threads that send to the namespace wait until this returns.
    fn start(&self, node: Arc<dyn Node>);

    /// The namespace ends: other nodes no longer wait for this one, and nothing is done to its node any more. Called when the server
    /// has closed, and once more when the namespace is dropped.
    fn close(&self) -> Delivery {
        Delivery::Done
    }

    /// Sends an event to the sockets of the target, on all nodes. With answers, the sink expects every node before this returns;
    /// a node that is not known yet is expected by a number that is corrected later.
    fn broadcast(&self, broadcast: Broadcast) -> Delivery;

    /// Has an operation done to the sockets of the target, on all nodes. In order with broadcasts.
    fn apply(&self, target: Target, operation: Operation) -> Delivery;

    /// The sockets of the target, on all nodes.
    ///
    /// # Errors (of the future)
    /// [`AdapterError`] when not every node answered.
    fn fetch(&self, target: Target) -> Pending<Result<Vec<SocketSnapshot>, AdapterError>>;

    /// Sends an event to the other servers' handlers ([`Node::server_event`]). With `answers` each of them is asked for one: the
    /// sink is told of them like of sockets that were asked. No other server is no answer, and no error.
    fn server_emit(&self, event: RawEvent, answers: Option<Arc<dyn AnswerSink>>) -> Delivery;

    /// How many servers there are, this one included.
    ///
    /// # Errors (of the future)
    /// [`AdapterError`] when they could not be counted.
    fn node_count(&self) -> Pending<Result<usize, AdapterError>>;

    /// Whether it wants to hear which rooms this node has: then [`Adapter::room_changed`] is called. Asked once, after
    /// [`Adapter::start`]; following rooms costs a little with each join.
    fn follows_rooms(&self) -> bool {
        false
    }

    /// A room of this node was created or deleted (never another event): for adapters that subscribe to rooms. In order.
    fn room_changed(&self, event: &RoomEvent) {
        let _ = event;
    }
}
