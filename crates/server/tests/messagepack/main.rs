//! Clients that write their packets in MessagePack, alone and beside others.

#![allow(clippy::unwrap_used, reason = "tests: a failed expectation is the point")]

mod alone;
mod beside;
mod pack;
mod recovery;
mod refused;
mod speaker;
