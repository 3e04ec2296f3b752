//! Durable events and sessions, with raw clients that remember what the official one remembers.
//!
//! A server that is killed is one whose store another server opens: the first lives on, and nobody hears of it.

#![allow(clippy::unwrap_used, reason = "tests: a failed expectation is the point")]

mod attempts;
mod bare;
mod between;
mod device;
mod disk;
mod emits;
mod gaps;
mod helper;
mod identity;
mod idle;
mod inbox;
mod inbox_model;
mod inbox_offset;
mod live;
#[path = "../recovery/peer.rs"]
mod peer;
mod pongs;
mod questions;
mod questions_lost;
mod replays;
mod revival;
mod scene;
mod trouble;
