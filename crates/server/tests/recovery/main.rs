//! Connection state recovery, with raw clients that remember what the official one remembers.

#![allow(clippy::unwrap_used, reason = "tests: a failed expectation is the point")]

mod away;
mod bounds;
mod claims;
mod comeback;
mod mail;
mod middlewares;
mod offsets;
mod order;
mod peer;
mod reasons;
mod replay;
