//! The same sessions where usual requests are answered as they are read, and what is particular to that.

#![allow(clippy::unwrap_used, clippy::type_complexity, reason = "tests: a failed expectation is the point")]

mod direct;

#[path = "../transport/application.rs"]
mod application;
#[path = "../transport/compression.rs"]
mod compression;
#[path = "../transport/echo.rs"]
mod echo;
#[path = "../transport/eio3.rs"]
mod eio3;
#[path = "../transport/heartbeat.rs"]
mod heartbeat;
#[path = "../transport/hooks.rs"]
mod hooks;
#[path = "../transport/limits.rs"]
mod limits;
#[path = "../transport/polling.rs"]
mod polling;
#[path = "../transport/traffic.rs"]
mod traffic;
#[path = "../transport/upgrade.rs"]
mod upgrade;
#[path = "../transport/websocket.rs"]
mod websocket;

/// Where the echo server answers.
const PATH: &str = "/engine.io/";

/// Whether usual requests are answered where they are read, or all by the general HTTP server.
const DIRECT: bool = true;
