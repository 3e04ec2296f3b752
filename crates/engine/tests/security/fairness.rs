//! One client's flood is that client's problem.

use std::time::Duration;

use posthaste_testkit::{Engine, Frame, Packet, Transport, encode_frame};

use crate::PATH;
use crate::echo::EchoServer;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_tiny_packets_keeps_nobody_from_an_answer() {
    // Flooders answer no ping; on a busy machine one would be missed before the last answer is there.
    let server = EchoServer::start(|config| config.settings.ping_interval = Duration::from_secs(600));
    let mut victims = [
        Engine::open(server.addr, PATH, Transport::WebSocket).await,
        Engine::open(server.addr, PATH, Transport::Polling).await,
    ];
    let mut flooders = tokio::task::JoinSet::new();
    for kind in 0..3 {
        let mut flooder = Engine::open(server.addr, PATH, Transport::WebSocket).await;
        let frame = match kind {
            // Packets that mean nothing, in frames and above them.
            0 => encode_frame(&Frame::text("6"), Some([1; 4])),
            1 => encode_frame(&Frame::new(10, ""), Some([1; 4])),
            _ => encode_frame(&Frame::text("3"), Some([1; 4])),
        };
        flooders.spawn(async move {
            let flood = frame.repeat(10_000);
            loop {
                // Read at the server's leisure, whatever that is.
                flooder.websocket().wire().write_for(&flood, Duration::MAX).await.unwrap();
            }
        });
    }
    for round in 0..6 {
        for victim in &mut victims {
            // The flood never ends: an answer behind it would not come before the end of all patience.
            victim.send(&format!("{round}")).await.unwrap();
            assert_eq!(victim.message().await.unwrap(), Packet::Text(format!("{round}")));
        }
    }
    assert_eq!(flooders.len(), 3, "the floods went on all the time");
    assert!(flooders.try_join_next().is_none());
}
