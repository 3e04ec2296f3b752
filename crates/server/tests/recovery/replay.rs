//! A long replay: in pages, behind which live events wait, and beside which others go on.

use std::time::Duration;

use posthaste::{OutboxLimits, Recovery, Server, Socket};
use posthaste_testkit::{Client, Engine, Wire, eventually};

use crate::peer::{Peer, recovering};

#[tokio::test]
async fn a_long_replay_is_whole_and_in_order_with_what_happens_meanwhile() {
    let builder = Server::builder()
        .workers(2)
        .recovery(Recovery::default())
        .outbox(OutboxLimits { bytes: 64 << 20, packets: 65_536 });
    let (running, _) = recovering(builder, |_| {});
    let text = "x".repeat(3_000);
    let mut expected = 0_u64;
    let mut memory = Peer::join(running.addr).await.lose(&running.io).await;
    for round in 0..4 {
        for _ in 0..2_000 {
            running.io.emit("missed", &(expected, &text)).await.unwrap();
            expected += 1;
        }
        let io = running.io.clone();
        let (first, text) = (expected, text.clone());
        let publisher = std::thread::spawn(move || {
            for number in first..first + 300 {
                io.emit("missed", &(number, &text)).now().unwrap();
                std::thread::sleep(Duration::from_micros(50));
            }
        });
        let back = memory.back(running.addr).await;
        assert!(back.recovered, "{round}");
        let mut peer = back.peer;
        let mut heard: Vec<u64> = back.missed.iter().map(|event| event[1].as_u64().unwrap()).collect();
        assert!(heard.len() >= 2_000, "{}", heard.len());
        publisher.join().unwrap();
        expected += 300;
        while heard.last() != Some(&(expected - 1)) {
            heard.push(peer.event().await[1].as_u64().unwrap());
        }
        assert_eq!(heard, (expected - 2_300..expected).collect::<Vec<_>>(), "{round}");
        memory = peer.lose(&running.io).await;
    }
}

/// Others on the same worker are answered while a replay goes on.
#[tokio::test]
async fn a_replay_leaves_the_worker_to_others_between_its_pages() {
    let builder = Server::builder()
        .workers(1)
        .recovery(Recovery::default())
        .outbox(OutboxLimits { bytes: 64 << 20, packets: 65_536 });
    let (running, sockets) = recovering(builder, |_| {});
    let mut other = Peer::join(running.addr).await;
    let memory = Peer::join(running.addr).await.lose(&running.io).await;
    other.client.emit(r#"["join","other"]"#).await;
    other.sync().await;
    for number in 0..5_000 {
        running.io.except("other").emit("missed", &(number, "x".repeat(3_000))).await.unwrap();
    }
    let wire = Wire::connect_narrow(running.addr).await;
    let mut returning = Client::new(Engine::open_on(wire, running.addr, "/socket.io/").await);
    returning.send(&memory.wish()).await;
    let first = returning.text().await;
    assert!(first.starts_with(r#"2["missed",0,"#));
    other.sync().await;
    let joined = |socket: &Socket| socket.recovered();
    assert!(!sockets.all().iter().any(joined), "the replay has not ended: the kernel's buffers do not hold it");
    for _ in 1..5_000 {
        assert!(returning.text().await.starts_with("2[\"missed\","));
    }
    assert!(returning.text().await.starts_with("0{"));
    eventually("it has joined", async || sockets.all().iter().any(joined)).await;
}
