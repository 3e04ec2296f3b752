//! Who reaches which socket.
//!
//! ```text
//!   Operator ─► Broadcast { target, packet } ─► Adapter ─┬─► Node (this process: every worker's members)
//!                                                        └─► other nodes, if the adapter knows any
//! ```
//!
//! - [`Target`]: rooms, exceptions and flags of one broadcast.
//! - [`Membership`]: the sockets and rooms of one namespace on one worker, as a plain value.
//! - [`Adapter`]: the port between this node and the others; [`MemoryAdapter`] is the one without others.
//! - [`AckCollector`]: counts the answers to one broadcast.

mod acks;
mod membership;
mod memory;
mod port;
mod room;
mod target;

pub use acks::{AckCollector, Answers};
pub use membership::{Member, Membership};
pub use memory::MemoryAdapter;
pub use port::{Adapter, AdapterError, Broadcast, Delivery, Node, Operation, Packet};
pub use room::{IntoRooms, Room, Rooms, SocketId};
pub use target::{Flags, Target};
