//! Streams, sessions and cursors that outlive a connection, and perhaps the process: the port of stores, one in memory, and what
//! stores have in common.
//!
//! ```text
//!   commit ─► Heads (positions, numbers, keys, floors) ─► Group ─► a store writes it ─► receipts, Follower
//!   read ─► messages of each range ─► merge ─► Page ─► Splice with live events ─► one receiver
//! ```
//!
//! - [`Store`] and [`Shard`] are the port: few calls, batches first. [`MemoryStore`] is the one without a disk.
//! - [`Heads`] is what every store keeps in memory of its streams, or of those in use, with the rules by which positions are given, keys are remembered and messages
//!   are forgotten.
//! - [`SessionRecord`] is what is stored of a session. Whether it may be taken up is [`recover`](crate::recover)'s to say.
//! - [`merge`] and [`Splice`] turn ranges of several streams into what one receiver hears, and lead over to live events.
//! - [`reply`] and [`wait`] are for stores that answer from a thread of their own.

mod heads;
mod memory;
mod merge;
mod port;
mod reply;
mod session;
mod splice;
mod window;

pub use heads::{Group, Heads, Kept, Record, Source, StreamHead, Totals};
pub use memory::MemoryStore;
pub use merge::merge;
pub use port::{
    Answer, Capabilities, Cursors, Durability, Follower, Message, Page, Pending, Put, Range, Receipt, Retention, Shard,
    Stats, Store, StoreError, StreamInfo, StreamName, Timestamp, Write,
};
pub use reply::{Around, Reply, at_once, reply, wait};
pub use session::SessionRecord;
pub use splice::Splice;
pub use window::{Remembered, WindowLimits};
