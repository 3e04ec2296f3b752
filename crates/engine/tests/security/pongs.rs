//! SEC-26: pongs that nobody asked for.

use std::time::{Duration, Instant};

use posthaste_engine::CloseReason;
use posthaste_testkit::{Engine, Frame, Packet, Transport, encode_frame};

use crate::echo::EchoServer;
use crate::{PATH, serves};

const INTERVAL: Duration = Duration::from_millis(300);

#[tokio::test]
async fn sec_26_a_flood_of_pongs_neither_costs_nor_puts_off_anything() {
    let server = EchoServer::start(|config| {
        config.settings.ping_interval = INTERVAL;
        config.settings.ping_timeout = Duration::from_secs(20);
    });
    for (number, transport) in Transport::ALL.into_iter().enumerate() {
        let mut engine = Engine::open(server.addr, PATH, transport).await;
        let begin = Instant::now();
        // Pongs all the time, until well after the ping is due.
        while begin.elapsed() < 2 * INTERVAL {
            match transport {
                Transport::Polling => engine.send_all(&vec![Packet::Text("3".to_owned()); 100]).await.unwrap(),
                Transport::WebSocket => {
                    let mut flood = encode_frame(&Frame::text("3"), Some([7; 4])).repeat(100);
                    flood.extend(encode_frame(&Frame::new(10, "unasked"), Some([7; 4])).repeat(100));
                    // Given up perhaps, in the end: the ping that came meanwhile was answered by some of these, or not.
                    engine.websocket().wire().write(&flood).await.unwrap();
                }
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        // It was sent although a pong had come a moment before.
        assert_eq!(engine.packet().await.unwrap(), Packet::Text("2".to_owned()), "{transport:?}");
        engine.send("still here").await.unwrap();
        assert_eq!(engine.message().await.unwrap(), Packet::Text("still here".to_owned()));
        assert_eq!(server.connections(), 1);
        engine.leave().await.unwrap();
        assert_eq!(server.ends.wait_for(number + 1).await[number], CloseReason::TransportClose);
    }
    serves(&server).await;
}

#[tokio::test]
async fn pings_of_a_client_are_no_part_of_the_protocol() {
    let server = EchoServer::start(|_| {});
    for (number, transport) in Transport::ALL.into_iter().enumerate() {
        let mut engine = Engine::open(server.addr, PATH, transport).await;
        engine.send_all(&[Packet::Text("2".to_owned())]).await.unwrap();
        engine.closed().await.unwrap();
        assert_eq!(server.ends.wait_for(number + 1).await[number], CloseReason::TransportError);
    }
}

#[tokio::test]
async fn a_flood_of_websocket_pings_is_answered_in_order() {
    let server = EchoServer::start(|_| {});
    let mut engine = Engine::open(server.addr, PATH, Transport::WebSocket).await;
    let socket = engine.websocket();
    for round in 0..50u8 {
        for number in 0..100u8 {
            socket.send(&Frame::new(9, [round, number])).await.unwrap();
        }
        for number in 0..100u8 {
            assert_eq!(socket.frame().await.unwrap(), Frame::new(10, [round, number]));
        }
    }
}
