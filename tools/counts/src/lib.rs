//! What an event costs, counted: the same operations for whoever counts instructions, and whoever counts allocations.
//!
//! ```text
//!   Lockstep     a client that blocks and allocates nothing while it talks
//!   Operation    one of the things a server does all day: an echo, a broadcast, a connection's life …
//!   Subject      a server of one worker with the clients of an operation, which is done as often as one likes
//! ```
//!
//! A server that is asked one thing at a time does the same each time, so what is counted is a number and not a
//! measurement: it does not know how busy the machine is. What it leaves out is the kernel, and what memory costs that is
//! not in a cache; `docs/performance.md` has the figures in time.

mod lockstep;
mod operation;
mod subject;

pub use lockstep::{Handshake, Lockstep, masked_text, plain_text};
pub use operation::Operation;
pub use subject::Subject;
