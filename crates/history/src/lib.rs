//! What happened, and who still has to hear it.
//!
//! ```text
//!   append ─► Log ── entries, bounded in bytes, count and age ──┐
//!   join, leave ─► Trail ── rooms, and since when ──────────────┴─► replay_start, Log::missed ─► frames, or why not
//!   disconnect ─► Sessions ── parked by Pid, claimed once ─► reconnect
//! ```
//!
//! - [`Position`] is a place in a log: the log's [`Epoch`] and a number. [`OffsetKey`] writes and reads the form that clients
//!   carry around.
//! - [`Log`] keeps the events of one namespace for a while, and knows precisely which rooms it has forgotten something of.
//! - [`Trail`] is where one socket was: what it missed depends on the rooms it was in *when* something happened.
//! - [`Sessions`] holds those who may come back. Finding one and taking it is one step.
//! - [`Once`] remembers what was done under a key, and what was answered.
//! - [`store`] is all of this where it outlives the process: the port of stores, a memory implementation, and sessions as they are
//!   stored. [`recover`] and [`gaps`] decide over what is stored as [`replay_start`] does over a log.
//!
//! Everything is a value, but for the port: time comes in as `now`, chance as random bytes, and locks are the caller's. Rooms are of any type
//! that can be compared and hashed.

#[cfg(any(test, feature = "contract"))]
pub mod contract;
mod log;
mod once;
mod pid;
mod position;
mod recovery;
mod sessions;
pub mod store;
mod trail;

pub use log::{Audience, Log, LogLimits};
pub use once::{Begin, Once, OnceLimits};
pub use pid::{Pid, PidText};
pub use position::{Epoch, Offset, OffsetKey, Position};
pub use recovery::{Budget, Gap, NotRecovered, gaps, recover, replay_start};
pub use sessions::{Claim, SessionLimits, Sessions};
pub use trail::{Stay, Trail};
