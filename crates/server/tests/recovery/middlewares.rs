//! Who is asked about a client that comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use posthaste::{ConnectError, Recovery, Socket};
use posthaste_testkit::{Client, Transport};
use serde_json::json;

use crate::peer::{Peer, recovering, with};

#[tokio::test]
async fn middlewares_are_skipped_or_asked_as_the_setting_says() {
    for skip_middlewares in [true, false] {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let recovery = Recovery { skip_middlewares, ..Recovery::default() };
        let (running, _) = recovering(with(recovery), |io| {
            io.middleware(move |socket: Socket| {
                let round = count.fetch_add(1, Ordering::Relaxed);
                async move {
                    assert_eq!(socket.recovered(), round == 1);
                    socket.join("by the middleware");
                    Ok::<(), ConnectError>(())
                }
            });
        });
        let peer = Peer::join(running.addr).await;
        let memory = peer.lose(&running.io).await;
        running.io.to("by the middleware").emit("missed", &()).await.unwrap();
        let back = memory.back(running.addr).await;
        assert!(back.recovered);
        assert_eq!(back.missed, [json!(["missed"])]);
        assert_eq!(asked.load(Ordering::Relaxed), if skip_middlewares { 1 } else { 2 });
        let mut peer = back.peer;
        running.io.to("by the middleware").emit("once", &()).await.unwrap();
        running.io.emit("after", &()).await.unwrap();
        peer.expect(json!(["once"])).await;
        peer.expect(json!(["after"])).await;
    }
}

#[tokio::test]
async fn a_client_that_is_refused_may_be_let_in_later() {
    let closed = Arc::new(AtomicBool::new(false));
    let door = closed.clone();
    let recovery = Recovery { skip_middlewares: false, ..Recovery::default() };
    let (running, _) = recovering(with(recovery), |io| {
        io.middleware(move || {
            let closed = door.load(Ordering::Relaxed);
            async move { if closed { Err(ConnectError::new("not now")) } else { Ok(()) } }
        });
    });
    let peer = Peer::join(running.addr).await;
    let id = peer.id.clone();
    let memory = peer.lose(&running.io).await;
    running.io.emit("missed", &()).await.unwrap();
    closed.store(true, Ordering::Relaxed);
    let mut client = Client::open(running.addr, Transport::WebSocket).await;
    client.send(&memory.wish()).await;
    client.expect(r#"4{"message":"not now"}"#).await;
    closed.store(false, Ordering::Relaxed);
    let back = memory.back(running.addr).await;
    assert!(back.recovered);
    assert_eq!((back.peer.id, back.missed), (id, vec![json!(["missed"])]));
}
