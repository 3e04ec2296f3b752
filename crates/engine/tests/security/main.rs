//! What attackers send, by the number of the attack: each gets its answer or its end, and the server is there for everybody else.

#![allow(clippy::unwrap_used, reason = "tests: a failed expectation is the point")]

#[path = "../transport/echo.rs"]
#[allow(dead_code, reason = "shared with the transport tests, which use all of it")]
mod echo;

mod bombs;
mod closes;
mod cookies;
mod eio3;
mod fairness;
mod first_frames;
mod headers;
mod ids;
mod messages;
mod origins;
mod payloads;
mod pongs;
mod queries;
mod resets;
mod responses;
mod witness;

use witness::{PATH, POLLING, WEBSOCKET, serves};

/// Whether usual requests are answered where they are read, or all by the general HTTP server.
const DIRECT: bool = false;
