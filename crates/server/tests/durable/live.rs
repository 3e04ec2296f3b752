//! Coming back while the room goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use crate::peer::Peer;
use crate::scene::{Remains, scene};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_doubled_between_replay_and_live_events() {
    let remains = Remains::new();
    let (running, _) = remains.serve();
    let mut peers = Vec::new();
    for _ in 0..8 {
        let mut peer = Peer::join(running.addr).await;
        peer.client.ask(r#"["enter","room"]"#, "[]").await;
        peers.push(peer);
    }
    let (next, _) = remains.serve();
    let io = next.io.clone();
    for number in 0..3_000 {
        io.to("room").emit("event", &number).await.unwrap();
    }
    let done = Arc::new(AtomicBool::new(false));
    let publisher = {
        let (io, done) = (io.clone(), done.clone());
        tokio::spawn(async move {
            let mut number = 3_000;
            while !done.load(Ordering::Relaxed) {
                io.to("room").emit("event", &number).await.unwrap();
                number += 1;
                tokio::time::sleep(std::time::Duration::from_micros(200)).await;
            }
            number
        })
    };
    let mut backs = Vec::new();
    for peer in &peers {
        let back = peer.memory.back(next.addr).await;
        assert!(back.recovered);
        backs.push(back);
    }
    done.store(true, Ordering::Relaxed);
    let last = publisher.await.unwrap();
    for mut back in backs {
        let mut heard: Vec<i64> = back.missed.iter().map(|event| event[1].as_i64().unwrap()).collect();
        while heard.len() < last as usize {
            heard.push(back.peer.event().await[1].as_i64().unwrap());
        }
        assert_eq!(heard, (0..last).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn of_two_that_claim_a_session_the_later_gets_it() {
    let (remains, _running, peer) = scene().await;
    let (next, sockets) = remains.serve();
    for number in 0..100 {
        next.io.to("room").emit("event", &number).await.unwrap();
    }
    let (one, two) = tokio::join!(peer.memory.try_back(next.addr), peer.memory.try_back(next.addr));
    // The earlier is closed for the later, perhaps before it is told that it was recovered.
    let both: Vec<_> = [one, two].into_iter().flatten().collect();
    assert!(!both.is_empty() && both.iter().all(|back| back.recovered && back.peer.id == peer.id));
    let is_it = |socket: &posthaste::Socket| socket.id().to_string() == peer.id && socket.is_connected();
    posthaste_testkit::eventually("one socket has the id", async || {
        sockets.all().iter().filter(|it| is_it(it)).count() == 1
    })
    .await;
    // The next one fences whoever has it.
    let three = peer.memory.back(next.addr).await;
    assert!(three.recovered);
    assert_eq!(three.missed.len(), 100);
    assert_eq!(three.missed[99], json!(["event", 99]));
}
