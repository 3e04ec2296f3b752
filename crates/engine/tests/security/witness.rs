//! Where the echo server is, and whether it still serves.

use posthaste_testkit::{Engine, Packet, Transport};

use crate::echo::EchoServer;

/// Where the echo server answers.
pub(crate) const PATH: &str = "/engine.io/";
pub(crate) const POLLING: &str = "/engine.io/?EIO=4&transport=polling";
pub(crate) const WEBSOCKET: &str = "/engine.io/?EIO=4&transport=websocket";

/// Whoever comes next is served as if nothing had happened.
pub(crate) async fn serves(server: &EchoServer) {
    for transport in Transport::ALL {
        let mut witness = Engine::open(server.addr, PATH, transport).await;
        witness.send("witness").await.unwrap();
        assert_eq!(witness.message().await.unwrap(), Packet::Text("witness".to_owned()));
        witness.leave().await.unwrap();
    }
}
