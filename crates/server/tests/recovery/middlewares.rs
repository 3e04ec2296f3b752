//! Who is asked about a client that comes back.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use posthaste::{ConnectError, Event, Recovery, Socket};
use posthaste_testkit::{Client, Record, Transport, eventually};
use serde_json::json;
use tokio::sync::Semaphore;

use crate::peer::{Memory, Peer, recovering, with};

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

/// A socket that did not come back after all is as gone as one that was refused.
#[tokio::test]
async fn nothing_is_left_of_an_attempt_whose_client_is_lost_while_it_is_checked() {
    let (attempts, gate) = (Record::<(Socket, Weak<()>)>::new(), Arc::new(Semaphore::new(0)));
    let (record, door, heard) = (attempts.clone(), gate.clone(), Record::<String>::new());
    let seen = heard.clone();
    let (running, _) = recovering(with(Recovery { skip_middlewares: false, ..Recovery::default() }), |io| {
        io.middleware(move |socket: Socket| {
            let (record, door, seen) = (record.clone(), door.clone(), seen.clone());
            async move {
                if socket.recovered() {
                    let held = Arc::new(());
                    record.push((socket.clone(), Arc::downgrade(&held)));
                    socket.on_any_outgoing(move |Event(name): Event| {
                        let _ = &held;
                        seen.push(name);
                        async {}
                    });
                    socket.join("attempted");
                    door.acquire().await.unwrap().forget();
                }
                Ok::<(), ConnectError>(())
            }
        });
    });
    let memory = Peer::join(running.addr).await.lose(&running.io).await;
    running.io.emit("missed", &()).await.unwrap();
    for attempt in 1..=2 {
        let mut client = Client::open(running.addr, Transport::WebSocket).await;
        client.send(&memory.wish()).await;
        attempts.wait_for(attempt).await;
        client.reset();
        eventually("it waits on", async || running.io.stats().await.recoverable == 1).await;
        gate.add_permits(1);
        let (socket, held) = attempts.all().pop().unwrap();
        eventually("its listeners are dropped", async || held.strong_count() == 0).await;
        assert!(!socket.is_connected() && socket.emit("late", &()).now().is_err());
        // What is done to it now does nothing.
        socket.join("late");
        assert!(socket.rooms().await.is_empty());
    }
    gate.add_permits(1);
    let back = memory.back(running.addr).await;
    assert!(back.recovered);
    assert_eq!(back.missed, [json!(["missed"])]);
    running.io.to("late").emit("to the late", &()).await.unwrap();
    running.io.to("attempted").emit("to all that tried", &()).await.unwrap();
    let mut peer = back.peer;
    peer.expect(json!(["to all that tried"])).await;
    assert_eq!(heard.all(), ["to all that tried"]);
}

/// Refused each time, nobody is in the namespace: it goes with the session.
#[tokio::test]
async fn a_namespace_is_forgotten_with_a_session_that_was_asked_for_in_vain() {
    let recovery = Recovery {
        skip_middlewares: false,
        max_disconnection: std::time::Duration::from_millis(500),
        ..Recovery::default()
    };
    let (running, _) = recovering(with(recovery).cleanup_empty_namespaces(true), |io| {
        io.namespaces("/game/{id}").unwrap().middleware(async |socket: Socket| match socket.recovered() {
            true => Err(ConnectError::new("not again")),
            false => Ok(()),
        });
    });
    let io = &running.io;
    let mut client = Client::open(running.addr, Transport::WebSocket).await;
    client.send("0/game/7,").await;
    let answer: serde_json::Value = serde_json::from_str(&client.text().await["0/game/7,".len()..]).unwrap();
    let memory = Memory { pid: answer["pid"].as_str().unwrap().to_owned(), offset: None };
    client.reset();
    eventually("it waits", async || io.stats().await.recoverable == 1).await;
    let mut client = Client::open(running.addr, Transport::WebSocket).await;
    client.send(&memory.wish().replacen('0', "0/game/7,", 1)).await;
    client.expect(r#"4/game/7,{"message":"not again"}"#).await;
    eventually("it is forgotten with its session", async || {
        io.stats().await.recoverable == 0 && io.find_namespace("/game/7").is_none()
    })
    .await;
}
