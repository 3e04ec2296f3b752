//! Load for any Socket.IO server, from one thread, and figures that mean what they say.
//!
//! ```text
//!   Plan ─► run ─► scenario (what connections do, when) ─► client (the protocols) ─► io (sockets)
//!                     │   schedule: when an operation is due, whatever the server does
//!                     ▼
//!   Report ◄─ measure (histograms) · server (CPU time, memory)
//! ```
//!
//! - With a rate the loop is open: operations are due at even distances, and latency counts from then on. A server that
//!   stalls is charged with everything that would have happened meanwhile. Without a rate the loop is closed: as fast as
//!   answers come.
//! - Scenarios and clients know no sockets: they are tested with a clock set by hand.
//! - Everything is bounded: connections, operations in flight, sizes, what a server may answer, and time.
//! - Answers are checked. What is wrong, lost, repeated or out of order makes a run fail, however fast it was.

mod client;
mod failure;
mod io;
mod measure;
mod plan;
mod process;
mod report;
mod run;
mod scenario;
mod schedule;
mod server;
mod system;
mod target;
mod wire;

pub use client::Transport;
pub use failure::Failure;
pub use measure::Summary;
pub use plan::{
    HIGHEST_RATE, LARGEST_SIZE, LONGEST, Load, LoadError, MOST_CONNECTIONS, MOST_IN_FLIGHT, MOST_MISSED, MOST_ROOMS,
    MOST_ROUNDS, Plan, Watched,
};
pub use report::{Report, ServerUse};
pub use run::{Control, Progress, run};
pub use system::{pin_to_core, raise_open_files};
pub use target::{Target, TargetError};
