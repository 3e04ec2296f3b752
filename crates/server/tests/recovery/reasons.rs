//! Which ends may be followed by a return.

use std::time::Duration;

use posthaste::{OutboxLimits, Recovery, Server};
use posthaste_testkit::{Client, Engine, Frame, Packet, Transport, Wire, eventually};
use serde_json::json;

use crate::peer::{Memory, Peer, plain, recovering};

type Going<'a> = std::pin::Pin<Box<dyn Future<Output = Option<Peer>> + 'a>>;

async fn comes_back(builder: posthaste::Builder, go: impl for<'a> FnOnce(Peer, &'a Server) -> Going<'a>) -> bool {
    let (running, _) = recovering(builder, |_| {});
    let peer = Peer::join(running.addr).await;
    let memory = peer.memory.clone();
    let kept = go(peer, &running.io).await;
    eventually("it is gone", async || running.io.stats().await.sockets == 0).await;
    let waits = running.io.stats().await.recoverable == 1;
    let back = memory.back(running.addr).await;
    assert_eq!(back.recovered, waits);
    drop(kept);
    waits
}

#[tokio::test]
async fn who_was_lost_may_come_back() {
    // transport close
    assert!(
        comes_back(plain(), |peer, _| Box::pin(async {
            peer.client.reset();
            None
        }))
        .await
    );
    assert!(
        comes_back(plain(), |peer, _| Box::pin(async {
            peer.client.leave().await;
            None
        }))
        .await
    );
    // transport error: a frame that is none
    let broken = |mut peer: Peer| async move {
        peer.client.engine().websocket().send(&Frame { reserved: 7, ..Frame::text("x") }).await.unwrap();
        Some(peer)
    };
    assert!(comes_back(plain(), |peer, _| Box::pin(broken(peer))).await);
    // forced close: a packet that is none
    let violating = |mut peer: Peer| async move {
        peer.client.send("9").await;
        Some(peer)
    };
    assert!(comes_back(plain(), |peer, _| Box::pin(violating(peer))).await);
    // ping timeout
    let quick = plain().ping(Duration::from_millis(50), Duration::from_millis(100));
    assert!(comes_back(quick, |peer, _| Box::pin(async { Some(peer) })).await);
}

/// Not in Socket.IO, which has no such end: what did not fit is in the log.
#[tokio::test]
async fn who_was_too_slow_hears_the_rest_when_it_comes_back() {
    let builder = plain().outbox(OutboxLimits { bytes: 1 << 20, packets: 65_536 });
    let (running, _) = recovering(builder, |_| {});
    let mut client =
        Client::new(Engine::open_on(Wire::connect_narrow(running.addr).await, running.addr, "/socket.io/").await);
    client.send("0").await;
    let answer: serde_json::Value = serde_json::from_str(&client.text().await[1..]).unwrap();
    let memory = Memory { pid: answer["pid"].as_str().unwrap().to_owned(), offset: None };
    let text = "x".repeat(10_000);
    let mut sent = 0;
    while running.io.stats().await.sockets == 1 {
        running.io.emit("much", &(sent, &text)).await.unwrap();
        sent += 1;
    }
    let back = memory.back(running.addr).await;
    // More than half an outbox is not replayed: how much was read before is the kernel's business.
    if back.recovered {
        let numbers: Vec<u64> = back.missed.iter().map(|event| event[1].as_u64().unwrap()).collect();
        assert_eq!(numbers, (0..sent).collect::<Vec<_>>());
    }
    drop(client);
}

#[tokio::test]
async fn who_was_sent_away_or_left_may_not() {
    let away = |close: bool| {
        move |peer: Peer, io: &Server| -> Going<'_> {
            let done = io.disconnect_sockets(close);
            Box::pin(async move {
                done.await.unwrap();
                Some(peer)
            })
        }
    };
    assert!(!comes_back(plain(), |peer, io| away(false)(peer, io)).await);
    assert!(!comes_back(plain(), |peer, io| away(true)(peer, io)).await);
    let leaving = |mut peer: Peer| async move {
        peer.client.send("1").await;
        Some(peer)
    };
    assert!(!comes_back(plain(), |peer, _| Box::pin(leaving(peer))).await);
    // parse error: no packet of the transport's protocol
    let garbage = |mut peer: Peer| async move {
        peer.client.engine().websocket().send(&Frame::text("x")).await.unwrap();
        Some(peer)
    };
    assert!(!comes_back(plain(), |peer, _| Box::pin(garbage(peer))).await);
}

#[tokio::test]
async fn events_that_came_with_the_end_of_the_connection_are_handled() {
    let (running, sockets) = recovering(plain(), |io| {
        io.on("last", async |socket: posthaste::Socket| {
            socket.insert(7_u8);
        });
    });
    let mut peer = Peer::join_over(running.addr, Transport::Polling).await;
    let memory = peer.memory.clone();
    // One body: the events, and the end of the connection.
    let packets =
        [Packet::message(r#"2["join","room"]"#), Packet::message(r#"2["last"]"#), Packet::Text("1".to_owned())];
    peer.client.engine().send_all(&packets).await.unwrap();
    drop(peer);
    eventually("it waits", async || running.io.stats().await.recoverable == 1).await;
    running.io.to("room").emit("missed", &()).await.unwrap();
    let back = memory.back(running.addr).await;
    assert!(back.recovered);
    assert_eq!(back.missed, [json!(["missed"])]);
    assert_eq!(sockets.all()[1].get::<u8>(), Some(7));
}

#[tokio::test]
async fn a_closed_server_keeps_nobody() {
    let (running, _) = recovering(plain().recovery(Recovery::default()), |_| {});
    let peer = Peer::join_over(running.addr, Transport::WebSocket).await;
    assert!(running.io.close(Duration::from_secs(10)));
    drop(peer);
}
