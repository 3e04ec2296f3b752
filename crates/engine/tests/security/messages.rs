//! SEC-17, SEC-45: WebSocket messages that announce more than they may have, or more than there is.

use posthaste_engine::CloseReason;
use posthaste_testkit::{Engine, Frame, Packet, Transport};

use crate::echo::EchoServer;
use crate::{PATH, serves};

const BOUND: usize = 100_000;

/// The header of a masked text frame that announces `length` bytes, and no more of it.
fn announced(length: u64) -> Vec<u8> {
    let mut frame = vec![0x81, 0x80 | 127];
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&[1, 2, 3, 4]);
    frame
}

/// Sends `bytes` on a new WebSocket, and expects the close code.
async fn is_closed_with(server: &EchoServer, bytes: &[u8], code: u16) {
    let before = server.ends.all().len();
    let mut engine = Engine::open(server.addr, PATH, Transport::WebSocket).await;
    engine.websocket().wire().write(bytes).await.unwrap();
    let end = engine.websocket().closed().await.unwrap().expect("a close frame");
    assert_eq!(end.close_code(), Some(code));
    assert_eq!(server.ends.wait_for(before + 1).await[before], CloseReason::TransportError);
}

#[tokio::test]
async fn sec_17_a_message_above_the_bound_is_refused_before_it_comes() {
    let server = EchoServer::start(|config| config.max_payload = BOUND);
    for length in [BOUND as u64 + 1, 1 << 32, i64::MAX as u64] {
        is_closed_with(&server, &announced(length), 1009).await;
    }
    // Exactly the bound may come: the packet's digit counts.
    let mut engine = Engine::open(server.addr, PATH, Transport::WebSocket).await;
    let most = "x".repeat(BOUND - 1);
    engine.send(&most).await.unwrap();
    assert_eq!(engine.message().await.unwrap(), Packet::Text(most));
    serves(&server).await;
}

#[tokio::test]
async fn sec_17_the_bound_holds_for_all_fragments_of_a_message_together() {
    let server = EchoServer::start(|config| config.max_payload = BOUND);
    let mut engine = Engine::open(server.addr, PATH, Transport::WebSocket).await;
    let socket = engine.websocket();
    socket.send(&Frame::text(&format!("4{}", "x".repeat(BOUND / 2))).unfinished()).await.unwrap();
    socket.send(&Frame::new(0, "x".repeat(BOUND / 2))).await.unwrap();
    assert_eq!(socket.closed().await.unwrap().expect("a close frame").close_code(), Some(1009));
    serves(&server).await;
}

#[tokio::test]
async fn sec_17_there_is_a_bound_unless_told_otherwise() {
    let server = EchoServer::start(|_| {});
    is_closed_with(&server, &announced(1_000_001), 1009).await;
    serves(&server).await;
}

#[tokio::test]
async fn sec_45_a_length_with_the_highest_bit_is_no_length() {
    let server = EchoServer::start(|_| {});
    for length in [1 << 63, u64::MAX, (1 << 63) | 5] {
        is_closed_with(&server, &announced(length), 1002).await;
    }
    serves(&server).await;
}
