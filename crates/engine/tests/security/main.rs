//! What attackers send, by the number of the attack: each gets its answer or its end, and the server is there for everybody else.

#![allow(clippy::unwrap_used, reason = "tests: a failed expectation is the point")]

#[path = "../transport/echo.rs"]
#[allow(dead_code, reason = "shared with the transport tests, which use all of it")]
mod echo;

mod closes;
mod cookies;
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

use echo::EchoServer;
use posthaste_testkit::{Engine, Packet, Transport};

/// Where the echo server answers.
const PATH: &str = "/engine.io/";
const POLLING: &str = "/engine.io/?EIO=4&transport=polling";
const WEBSOCKET: &str = "/engine.io/?EIO=4&transport=websocket";

/// Whoever comes next is served as if nothing had happened.
async fn serves(server: &EchoServer) {
    for transport in Transport::ALL {
        let mut witness = Engine::open(server.addr, PATH, transport).await;
        witness.send("witness").await.unwrap();
        assert_eq!(witness.message().await.unwrap(), Packet::Text("witness".to_owned()));
        witness.leave().await.unwrap();
    }
}
