//! Questions that are not asked, or not answered, and what their askers hear.

use std::time::Duration;

use posthaste::store::StoreError;
use posthaste::{AckError, Budget, Durable, DurableError, SendError, Server, Socket};
use posthaste_testkit::{Client, Record, Transport, eventually, serve};
use serde_json::json;

use crate::peer::Peer;
use crate::questions::{answer, ask_and_forget, last, question};
use crate::scene::Remains;

fn few() -> Budget {
    Budget { max_bytes: 2_000, max_events: 3 }
}

#[tokio::test]
async fn nobody_owes_more_answers_than_they_may_and_whoever_asks_is_told() {
    let remains = Remains::new();
    let little = |durable| Durable { max_unanswered: few(), ..durable };
    let (running, sockets) = remains.serve_with(posthaste::store::Retention::ROOM, little, |_| {});
    let mut peer = Peer::join(running.addr).await;
    let socket = last(&sockets);
    ask_and_forget(&socket, 0..3).await;
    let refused = socket.durable().emit_with_ack::<()>("question", &3).await;
    let Err(AckError::Send(SendError::Durable(DurableError::Unanswered { events: 3, bytes }))) = refused else {
        panic!("{refused:?}");
    };
    assert!(bytes > 0);
    let (id, _) = question(&mut peer).await;
    question(&mut peer).await;
    question(&mut peer).await;
    answer(&mut peer, id, "0").await;
    peer.sync().await;
    let refused = socket.durable().emit_with_ack::<()>("question", &"x".repeat(2_000)).stored().await;
    assert!(matches!(refused, Err(DurableError::Unanswered { events: 2, .. })), "{refused:?}");
    ask_and_forget(&socket, [3]).await;

    // Another process counts what it finds, and others have room.
    let (next, sockets) = remains.serve_with(posthaste::store::Retention::ROOM, little, |_| {});
    let mut back = peer.memory.back(next.addr).await;
    let mut ids = Vec::new();
    for number in 1..4 {
        let (id, event) = question(&mut back.peer).await;
        assert_eq!(event, json!(["question", number]));
        ids.push(id);
    }
    let socket = last(&sockets);
    assert!(socket.durable().emit_with_ack::<()>("question", &4).stored().await.is_err());
    let mut other = Peer::join(next.addr).await;
    ask_and_forget(&last(&sockets), [5]).await;
    assert_eq!(question(&mut other).await.1, json!(["question", 5]));
    for id in ids {
        answer(&mut back.peer, id, "0").await;
    }
    back.peer.sync().await;
    ask_and_forget(&socket, [4]).await;
}

#[tokio::test]
async fn whoever_waits_for_a_client_that_has_left_is_told_and_nothing_stays() {
    let remains = Remains::new();
    let (running, sockets) = remains.serve();
    for by_server in [false, true] {
        let mut peer = Peer::join(running.addr).await;
        let socket = last(&sockets);
        let asked = socket.durable().timeout(Duration::from_secs(600)).emit_with_ack::<()>("question", &1);
        question(&mut peer).await;
        if by_server {
            socket.disconnect(false);
        } else {
            peer.client.send("1").await;
        }
        assert!(matches!(asked.await, Err(AckError::Disconnected)));
        eventually("the store knows", async || remains.open(&peer.id) == 0).await;
        let late = socket.durable().emit_with_ack::<()>("question", &2).await;
        assert!(matches!(late, Err(AckError::Disconnected)), "{late:?}");
        assert_eq!(remains.open(&peer.id), 0);
    }
}

#[tokio::test]
async fn a_session_that_is_not_recovered_answers_nothing_any_more() {
    let remains = Remains::new();
    let one = posthaste::store::Retention { max_messages: 1, ..posthaste::store::Retention::ROOM };
    let (running, sockets) = remains.serve_with(one, |durable| durable, |_| {});
    let mut peer = Peer::join(running.addr).await;
    let socket = last(&sockets);
    peer.client.ask(r#"["enter","room"]"#, "[]").await;
    ask_and_forget(&socket, [1]).await;
    question(&mut peer).await;
    let (next, sockets) = remains.serve_with(one, |durable| durable, |_| {});
    for number in 0..3 {
        next.io.to("room").emit("event", &number).await.unwrap();
    }
    // It missed more than is kept: it is somebody new, and is told so, but not asked what somebody else owes.
    let mut new = Client::open(next.addr, Transport::WebSocket).await;
    new.send(&peer.memory.wish()).await;
    assert!(new.text().await.starts_with('0'));
    assert!(new.text().await.contains("sio:gap"));
    new.ask(r#"["sync"]"#, "[]").await;
    assert!(!last(&sockets).recovered());
}

#[tokio::test]
async fn what_is_no_answer_to_it_changes_nothing() {
    let remains = Remains::new();
    let (running, sockets) = remains.serve();
    let mut peer = Peer::join(running.addr).await;
    let socket = last(&sockets);
    let asked = socket.durable().emit_with_ack::<String>("question", &1);
    let (id, _) = question(&mut peer).await;
    let mut nobody = Peer::join(running.addr).await;
    answer(&mut nobody, id, r#""not mine""#).await;
    nobody.sync().await;
    for other in [id - 1, id + 1, 0, 1, 1 << 30, (1 << 31) - 1, 1 << 31, u64::MAX] {
        answer(&mut peer, other, r#""made up""#).await;
    }
    peer.sync().await;
    assert_eq!(remains.open(&peer.id), 1);
    answer(&mut peer, id, r#""mine""#).await;
    assert_eq!(asked.await.unwrap(), "mine");
    // An answer of another type is one.
    let asked = socket.durable().emit_with_ack::<String>("question", &2);
    let (id, _) = question(&mut peer).await;
    answer(&mut peer, id, "7").await;
    assert!(matches!(asked.await, Err(AckError::Type(_))));
    peer.sync().await;
    assert_eq!(remains.open(&peer.id), 0);
}

#[tokio::test]
async fn where_nothing_can_be_kept_nobody_is_asked() {
    let remains = Remains::new();
    let (running, sockets) = remains.serve();
    let mut peer = Peer::join(running.addr).await;
    let socket = last(&sockets);
    let refused = socket.durable().emit_with_ack::<()>("connect", &1).await;
    assert!(matches!(refused, Err(AckError::Send(SendError::Durable(DurableError::Encode(_))))), "{refused:?}");
    peer.sync().await;

    let refused = Record::new();
    let (record, durable) = (refused.clone(), remains.durable());
    let early = serve(Server::builder().workers(1).durable(durable), move |io| {
        io.middleware(move |socket: Socket| {
            let record = record.clone();
            async move {
                let refused = socket.durable().emit_with_ack::<()>("question", &1).await;
                record.push(format!("{refused:?}"));
                Ok::<_, posthaste::ConnectError>(())
            }
        });
    });
    Client::websocket(early.addr).await;
    assert_eq!(refused.all(), ["Err(Send(Durable(NotJoined)))"]);

    let sockets = Record::new();
    let record = sockets.clone();
    let none = serve(Server::builder().workers(1), move |io| {
        io.on_connect(move |socket: Socket| {
            record.push(socket);
            async {}
        });
    });
    let _client = Client::websocket(none.addr).await;
    let refused = last(&sockets).durable().emit_with_ack::<()>("question", &1).stored().await;
    assert!(matches!(refused, Err(DurableError::NoStore(_))), "{refused:?}");
}

#[tokio::test]
async fn what_the_store_refuses_is_not_asked_and_takes_no_place() {
    let remains = Remains::new();
    let huge = |durable| Durable { max_unanswered: Budget { max_bytes: usize::MAX, max_events: 1 }, ..durable };
    let (running, sockets) = remains.serve_with(posthaste::store::Retention::ROOM, huge, |_| {});
    let mut peer = Peer::join(running.addr).await;
    let socket = last(&sockets);
    let payload = "x".repeat(17 << 20);
    for _ in 0..2 {
        let refused = socket.durable().emit_with_ack::<()>("question", &payload).await;
        let Err(AckError::Send(SendError::Durable(DurableError::Store(StoreError::Refused(_))))) = refused else {
            panic!("{refused:?}");
        };
    }
    ask_and_forget(&socket, [1]).await;
    assert_eq!(question(&mut peer).await.1, json!(["question", 1]));
}
