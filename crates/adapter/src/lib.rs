//! Who reaches which socket.
//!
//! ```text
//!   Operator ─► Broadcast { target, packet } ─► Adapter ─┬─► Node (this process: every worker's members)
//!                                                        └─► other nodes, if the adapter knows any
//! ```
//!
//! - [`Target`]: rooms, exceptions and flags of one broadcast.
//! - [`Membership`]: the sockets and rooms of one namespace on one worker, as a plain value.
//! - [`RoomLedger`]: which rooms a whole node has, for those who want to hear of it.
//! - [`Adapter`]: the port between this node and the others; [`MemoryAdapter`] is the one without others. [`Packet`] and
//!   [`RawEvent`] are an event as sockets receive it and as nodes tell it to each other.
//! - [`AckCollector`]: counts the answers to one broadcast.
//! - `contract` (feature `contract`): what every adapter must do, as a suite that an implementation runs.

mod acks;
#[cfg(any(test, feature = "contract"))]
pub mod contract;
mod event;
mod ledger;
mod membership;
mod memory;
mod packet;
mod port;
mod room;
mod snapshot;
mod target;

pub use acks::{AckCollector, AnswerSink, Counts, Reply};
pub use event::RawEvent;
pub use ledger::RoomLedger;
pub use membership::{Member, Membership};
pub use memory::MemoryAdapter;
pub use packet::Packet;
pub use port::{Adapter, AdapterError, Broadcast, Delivery, Node, Operation, Pending, RoomEvent, ServerReply};
pub use room::{IntoRooms, Room, Rooms, SocketId};
pub use snapshot::{HandshakeSnapshot, SocketSnapshot};
pub use target::{Flags, Target};
