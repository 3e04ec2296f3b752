//! Sessions on real connections: polling, WebSocket, and the way from one to the other.

#![allow(clippy::unwrap_used, clippy::type_complexity, reason = "tests: a failed expectation is the point")]

mod application;
mod compression;
mod echo;
mod eio3;
mod heartbeat;
mod hooks;
mod limits;
mod polling;
mod traffic;
mod upgrade;
mod websocket;

/// Where the echo server answers.
const PATH: &str = "/engine.io/";

/// Whether usual requests are answered where they are read, or all by the general HTTP server.
const DIRECT: bool = false;
