//! Handlers that outlive the connection they began on.

use std::time::Duration;

use posthaste::{Recovery, SendError, Server, Socket, Workers};
use posthaste_testkit::{eventually, within};
use serde_json::json;
use tokio::sync::watch;

use crate::peer::{Peer, plain, recovering, with};

#[tokio::test]
async fn what_a_handler_says_after_the_connection_was_lost_is_heard_by_who_comes_back() {
    for workers in [1, 4] {
        let workers = Workers::start(workers).unwrap();
        let (go, gone) = watch::channel(false);
        let (running, sockets) =
            recovering(Server::builder().shared_workers(&workers).recovery(Recovery::default()), |io| {
                io.on("work", move |socket: Socket| {
                    let mut gone = gone.clone();
                    async move {
                        let _ = gone.wait_for(|gone| *gone).await;
                        socket.emit("done", &1).await
                    }
                });
            });
        let mut peer = Peer::join(running.addr).await;
        running.io.emit("before", &()).await.unwrap();
        peer.expect(json!(["before"])).await;
        peer.client.emit(r#"["work"]"#).await;
        peer.sync().await;
        let memory = peer.lose(&running.io).await;
        let former = sockets.all()[0].clone();
        assert!(!former.is_connected());
        // From outside, and from a handler at work.
        former.emit("first", &()).await.unwrap();
        assert!(matches!(former.volatile().emit("volatile", &()).await, Err(SendError::Disconnected)));
        go.send(true).unwrap();
        // The handler says it on another thread.
        let mut back = memory.back(running.addr).await;
        assert!(back.recovered);
        while back.missed.len() < 2 {
            let event = within("what the handler says", back.peer.event()).await;
            back.missed.push(event);
        }
        assert_eq!(back.missed, [json!(["first"]), json!(["done", 1])]);
        // Whoever still holds the socket from before speaks to the one that took its place.
        former.emit("still held", &()).await.unwrap();
        back.peer.expect(json!(["still held"])).await;
        drop(former);
        workers.shutdown(Duration::ZERO);
    }
}

#[tokio::test]
async fn who_left_for_good_or_stayed_away_too_long_is_sent_nothing() {
    let (running, sockets) = recovering(plain(), |_| {});
    let peer = Peer::join(running.addr).await;
    let mut client = peer.client;
    client.send("1").await;
    eventually("it has left", async || running.io.stats().await.sockets == 0).await;
    assert!(matches!(sockets.all()[0].emit("late", &()).await, Err(SendError::Disconnected)));

    let short = Recovery { max_disconnection: Duration::from_millis(1), ..Recovery::default() };
    let (running, sockets) = recovering(with(short), |_| {});
    let peer = Peer::join(running.addr).await;
    peer.lose(&running.io).await;
    let socket = sockets.all()[0].clone();
    eventually("its session is over", async || matches!(socket.emit("late", &()).await, Err(SendError::Disconnected)))
        .await;

    let none = Recovery { max_sessions: 0, ..Recovery::default() };
    let (running, sockets) = recovering(with(none), |_| {});
    let peer = Peer::join(running.addr).await;
    peer.lose(&running.io).await;
    assert!(matches!(sockets.all()[0].emit("late", &()).await, Err(SendError::Disconnected)));
}
