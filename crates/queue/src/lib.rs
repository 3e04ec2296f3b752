//! Work that is stored until it is done, and done by one worker each.
//!
//! ```text
//!   Command ─► Machine::add ─► Change, Change … ─► Group ─► a store writes it ─► Machine::show ─► Effect … ─► consumers
//!                 │                                  ▲                              │
//!                 └─ Refusal: nothing was changed    └─ Machine::replay at a start   └─ leases: changes of the next group
//! ```
//!
//! - [`Queues`] is the port: one call for everything, and one listener for what happens. [`MemoryQueues`] is the one without a
//!   disk.
//! - [`Machine`] is what every store keeps in memory: who may have which message, when, and what becomes of it. It says what changes;
//!   the same changes, applied again, give the same machine.
//! - [`Backoff`] is how long a message rests after a failure; [`Config`] is what one queue allows.
//!
//! [`Times`] are those of a [`Schedule`], in its time zone.
//!
//! The life of a message:
//!
//! ```text
//!            put ──► delayed ──► ready ──► leased ──► done
//!                                  ▲          │
//!                                  ├─ retry, release, lease expired
//!                                  └─ redrive ── dead ◄─ failed too often, given up
//!            delayed, ready, dead ──► expired, removed
//! ```
//!
//! Everything but the port and the store in memory is a value: time comes in as `now`, chance as a seed.

#[cfg(any(test, feature = "contract"))]
pub mod contract;
mod machine;
mod memory;
pub mod port;
mod reasons;
mod times;

pub use machine::{Group, Limits, Machine, QueueRecord, Source, Steps};
pub use memory::MemoryQueues;
pub use port::*;
pub use times::Times;
