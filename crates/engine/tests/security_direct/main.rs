//! The same attacks where usual requests are answered as they are read.

#![allow(clippy::unwrap_used, reason = "tests: a failed expectation is the point")]

#[path = "../transport/echo.rs"]
#[allow(dead_code, reason = "shared with the transport tests, which use all of it")]
mod echo;

#[path = "../security/bombs.rs"]
mod bombs;
#[path = "../security/closes.rs"]
mod closes;
#[path = "../security/cookies.rs"]
mod cookies;
#[path = "../security/eio3.rs"]
mod eio3;
#[path = "../security/fairness.rs"]
mod fairness;
#[path = "../security/first_frames.rs"]
mod first_frames;
#[path = "../security/headers.rs"]
mod headers;
#[path = "../security/ids.rs"]
mod ids;
#[path = "../security/messages.rs"]
mod messages;
#[path = "../security/origins.rs"]
mod origins;
#[path = "../security/payloads.rs"]
mod payloads;
#[path = "../security/pongs.rs"]
mod pongs;
#[path = "../security/queries.rs"]
mod queries;
#[path = "../security/resets.rs"]
mod resets;
#[path = "../security/responses.rs"]
mod responses;
#[path = "../security/witness.rs"]
mod witness;

use witness::{PATH, POLLING, WEBSOCKET, serves};

/// Whether usual requests are answered where they are read, or all by the general HTTP server.
const DIRECT: bool = true;
