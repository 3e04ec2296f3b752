//! One client's flood is that client's problem.

use std::time::{Duration, Instant};

use posthaste_testkit::{Engine, Frame, Packet, Transport, encode_frame};

use crate::PATH;
use crate::echo::EchoServer;

/// Far above what an answer takes beside a flood, far below what it takes behind one.
const SOON: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_tiny_packets_keeps_nobody_from_an_answer() {
    let server = EchoServer::start(|_| {});
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
                flooder.websocket().wire().write(&flood).await.unwrap();
            }
        });
    }
    for round in 0..6 {
        for victim in &mut victims {
            let begin = Instant::now();
            victim.send(&format!("{round}")).await.unwrap();
            assert_eq!(victim.message().await.unwrap(), Packet::Text(format!("{round}")));
            assert!(begin.elapsed() < SOON, "answered after {:?}", begin.elapsed());
        }
    }
    assert_eq!(flooders.len(), 3, "the floods went on all the time");
    assert!(flooders.try_join_next().is_none());
}
