//! Work queues, with raw clients and in Rust.

#![allow(clippy::unwrap_used, reason = "tests: a failed expectation is the point")]

mod admin;
mod away;
mod bad;
mod binary;
mod extract;
mod jobs;
#[path = "../recovery/peer.rs"]
mod peer;
mod pull;
mod routes;
mod rust;
mod scene;
mod schedules;
mod silent;
mod trouble;
