//! Several workers publish at once: what a client is sent is in the order of the log, and nothing is skipped or repeated.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use posthaste::{Recovery, Server, Socket, Workers};
use posthaste_testkit::{Random, Transport, eventually};
use serde_json::Value;

use crate::peer::{Peer, recovering};

/// The position in an offset, which is in the order of the log.
fn position(offset: &str) -> u64 {
    let bytes =
        posthaste_testkit::decode_base64(&format!("{}==", offset[1..].replace('-', "+").replace('_', "/"))).unwrap();
    u64::from_be_bytes(bytes[4..12].try_into().unwrap())
}

/// Publishers on every worker, and one thread that is none, each counting its own events.
fn publish_everywhere(io: &Server) {
    io.on("publish", async |io: Server, socket: Socket, posthaste::Data(count): posthaste::Data<u64>| {
        for number in 0..count {
            let args = (socket.id().to_string(), number);
            match number % 3 {
                0 => io.emit("count", &args),
                1 => io.to("room").emit("count", &args),
                _ => io.to("room").except("nobody").emit("count", &args),
            }
            .now()
            .unwrap();
            if number % 7 == 0 {
                io.volatile().emit("now", &"text").now().unwrap();
            }
            if number % 5 == 0 {
                tokio::task::yield_now().await;
            }
        }
    });
}

#[tokio::test]
async fn every_client_sees_rising_offsets_and_the_same_order() {
    const EVENTS: u64 = 300;
    for workers in [1, 2, 4] {
        let workers = Workers::start(workers).unwrap();
        let (running, sockets) =
            recovering(Server::builder().shared_workers(&workers).recovery(Recovery::default()), publish_everywhere);
        let mut peers = Vec::new();
        for _ in 0..8 {
            let mut peer = Peer::join(running.addr).await;
            peer.client.emit(r#"["join","room"]"#).await;
            peer.sync().await;
            peers.push(peer);
        }
        for peer in peers.iter_mut().take(4) {
            peer.client.emit(&format!(r#"["publish",{EVENTS}]"#)).await;
        }
        let (io, all) = (running.io.clone(), sockets.all());
        let outside = std::thread::spawn(move || {
            for number in 0..EVENTS {
                io.emit("count", &("outside", number)).now().unwrap();
                // To one socket, from a thread that does not own it.
                all[0].emit("alone", &number).now().unwrap();
            }
        });
        let mut orders: Vec<Vec<(Value, u64)>> = Vec::new();
        for (index, peer) in peers.iter_mut().enumerate() {
            let (mut order, mut last, mut alone) = (Vec::new(), 0, 0);
            while order.len() < 5 * EVENTS as usize || (index == 0 && alone < EVENTS) {
                let event = peer.event().await;
                let pos = position(peer.memory.offset.as_ref().unwrap());
                if event[0] == "now" {
                    assert!(pos <= last || order.is_empty() || pos >= last, "{pos} after {last}");
                    // What is said with a volatile event was delivered before it: nothing between can come later.
                    last = last.max(pos);
                    continue;
                }
                assert!(pos > last, "{pos} after {last}");
                last = pos;
                if event[0] == "alone" {
                    assert_eq!(event[1], alone);
                    alone += 1;
                    continue;
                }
                order.push((event, pos));
            }
            orders.push(order);
        }
        outside.join().unwrap();
        for order in &orders[1..] {
            assert_eq!(order, &orders[0]);
        }
        workers.shutdown(Duration::ZERO);
    }
}

/// The network of this client breaks all the time, while everyone publishes. Over polling its requests come from workers that do not
/// own it, among other mail.
#[tokio::test]
async fn a_client_that_is_lost_again_and_again_hears_everything_once() {
    let websocket = [(1, 1), (2, 2), (4, 3)].map(|(workers, seed)| (Transport::WebSocket, workers, seed));
    let polling = [(1, 4), (2, 5), (4, 6)].map(|(workers, seed)| (Transport::Polling, workers, seed));
    for (transport, workers, seed) in [websocket, polling].concat() {
        let workers = Workers::start(workers).unwrap();
        let (running, sockets) =
            recovering(Server::builder().shared_workers(&workers).recovery(Recovery::default()), |_| {});
        let mut peer = Peer::join_over(running.addr, transport).await;
        peer.client.emit(r#"["join","room"]"#).await;
        peer.sync().await;
        let (io, id) = (running.io.clone(), sockets.all()[0].id());
        let done = Arc::new(AtomicBool::new(false));
        let stop = done.clone();
        let publisher = std::thread::spawn(move || {
            let mut number = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                for _ in 0..3 {
                    match number % 4 {
                        0 => io.emit("count", &number),
                        1 => io.to("room").emit("count", &number),
                        2 => io.to(id).emit("count", &number),
                        _ => io.to(["room", "other"]).emit("count", &(number, "x".repeat(2_000))),
                    }
                    .now()
                    .unwrap();
                    io.to("other").emit("not for it", &number).now().unwrap();
                    number += 1;
                }
                std::thread::sleep(Duration::from_micros(200));
            }
            io.emit("end", &number).now().unwrap();
        });
        let mut random = Random::seeded(seed);
        let mut expected = 0;
        for round in 0..25 {
            let last_round = round == 24;
            if last_round {
                done.store(true, Ordering::Relaxed);
            }
            let mut patience = random.below(60);
            loop {
                let event = peer.event().await;
                if event[0] == "end" {
                    assert_eq!(event[1], expected);
                    break;
                }
                assert_eq!(event[1], expected, "round {round}");
                expected += 1;
                patience = patience.saturating_sub(1);
                if patience == 0 && !last_round {
                    break;
                }
            }
            if last_round {
                break;
            }
            let memory = peer.memory.clone();
            let half_open = random.below(3) == 0;
            let former = half_open.then_some(peer);
            // Either the server notices first, or it is told by the return.
            let back = match former {
                Some(former) => {
                    let back = memory.back_over(running.addr, transport).await;
                    former.client.reset();
                    back
                }
                None => memory.back_over(running.addr, transport).await,
            };
            assert!(back.recovered, "round {round}");
            for event in &back.missed {
                assert_eq!(event[1], expected, "replayed in round {round}");
                expected += 1;
            }
            peer = back.peer;
        }
        publisher.join().unwrap();
        // A polling client that is only dropped is missed no sooner than at the end of a ping's timeout.
        peer.client.send("1").await;
        eventually("all are gone", async || running.io.stats().await.sockets == 0).await;
        workers.shutdown(Duration::ZERO);
    }
}
