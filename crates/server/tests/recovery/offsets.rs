//! What is at the end of an event, and what it is worth.

use std::time::Duration;

use posthaste::{AckError, Server, Socket};
use posthaste_testkit::Record;
use serde_json::json;

use crate::peer::{Memory, Peer, plain, recovering};

/// The official client takes the last string of *any* event for its offset.
#[tokio::test]
async fn a_volatile_event_that_ends_with_text_does_no_harm() {
    let (running, sockets) = recovering(plain(), |_| {});
    let io = &running.io;
    let mut peer = Peer::join(running.addr).await;
    let socket = sockets.all().remove(0);
    io.emit("stored", &1).await.unwrap();
    peer.expect(json!(["stored", 1])).await;
    let stored = peer.memory.offset.clone();
    io.volatile().emit("volatile", &"some text").await.unwrap();
    peer.expect(json!(["volatile", "some text"])).await;
    assert_eq!(peer.memory.offset, stored, "what it heard last, and nothing later");
    socket.volatile().emit("volatile", &"text to one").await.unwrap();
    peer.expect(json!(["volatile", "text to one"])).await;
    assert_eq!(peer.memory.offset, stored);
    let memory = peer.lose(io).await;
    io.emit("missed", &2).await.unwrap();
    let back = memory.back(running.addr).await;
    assert!(back.recovered);
    assert_eq!(back.missed, [json!(["missed", 2])]);
}

/// A volatile event that comes before anything else.
#[tokio::test]
async fn a_volatile_event_names_a_position_also_when_nothing_was_stored_yet() {
    let (running, _) = recovering(plain(), |_| {});
    let mut peer = Peer::join(running.addr).await;
    running.io.volatile().emit("volatile", &"text").await.unwrap();
    peer.expect(json!(["volatile", "text"])).await;
    let memory = peer.lose(&running.io).await;
    running.io.emit("missed", &()).await.unwrap();
    let back = memory.back(running.addr).await;
    assert!(back.recovered);
    assert_eq!(back.missed, [json!(["missed"])]);
}

/// The last argument of a question is the way to answer it: no offset there, and the official client takes none from it.
#[tokio::test]
async fn a_question_carries_no_offset_and_is_not_repeated() {
    let (running, sockets) = recovering(plain(), |_| {});
    let io = &running.io;
    let mut peer = Peer::join(running.addr).await;
    io.emit("stored", &()).await.unwrap();
    peer.expect(json!(["stored"])).await;
    let one = sockets.all()[0].emit_with_ack::<String>("one?", &"text");
    let many = io.timeout(Duration::from_millis(50)).emit_with_ack::<String>("many?", &"text");
    assert!(peer.client.text().await.ends_with(r#"["one?","text"]"#));
    assert!(peer.client.text().await.ends_with(r#"["many?","text"]"#));
    let memory = peer.lose(io).await;
    assert!(matches!(one.await, Err(AckError::Disconnected)));
    assert!(many.await.unwrap().answers.is_empty());
    let back = memory.back(running.addr).await;
    assert!(back.recovered);
    assert!(back.missed.is_empty(), "{:?}", back.missed);
}

/// A client in another language may take such a text for its offset, or an application may put one into `auth`.
#[tokio::test]
async fn an_offset_that_is_none_repeats_rather_than_skips() {
    let (running, _) = recovering(plain(), |_| {});
    let io = &running.io;
    for garbage in ["some text", "~", "~AAAAAAAAAAAAAAAAAAAAAA", ""] {
        let mut peer = Peer::join(running.addr).await;
        io.emit("heard", &()).await.unwrap();
        peer.expect(json!(["heard"])).await;
        let Memory { pid, .. } = peer.lose(io).await;
        io.emit("missed", &()).await.unwrap();
        let memory = Memory { pid, offset: Some(garbage.to_owned()) };
        let back = memory.back(running.addr).await;
        assert!(back.recovered, "{garbage}");
        assert_eq!(back.missed, [json!(["heard"]), json!(["missed"])], "{garbage}");
        back.peer.client.leave().await;
    }
}

/// The official client keeps its offset when it gets a new session.
#[tokio::test]
async fn an_offset_from_the_session_before_replays_nothing_from_before_the_session() {
    let (running, _) = recovering(plain(), |_| {});
    let io = &running.io;
    let mut peer = Peer::join(running.addr).await;
    io.emit("old", &()).await.unwrap();
    peer.expect(json!(["old"])).await;
    let Memory { offset, .. } = peer.lose(io).await;
    io.emit("between the sessions", &()).await.unwrap();
    let peer = Peer::join(running.addr).await;
    let Memory { pid, .. } = peer.lose(io).await;
    io.emit("missed", &()).await.unwrap();
    let back = Memory { pid, offset }.back(running.addr).await;
    assert!(back.recovered);
    assert_eq!(back.missed, [json!(["missed"])]);
}

#[tokio::test]
async fn what_a_middleware_sends_before_the_socket_joined_is_not_repeated() {
    let (running, _) = recovering(plain(), |io| {
        io.middleware(async |socket: Socket| {
            socket.emit("checking", &"text").await.map_err(|error| posthaste::ConnectError::new(error.to_string()))
        });
    });
    let mut client = posthaste_testkit::Client::open(running.addr, posthaste_testkit::Transport::WebSocket).await;
    client.send("0").await;
    assert!(client.text().await.starts_with(r#"2["checking","text","~"#));
    let answer = client.text().await;
    let pid = answer.split(r#""pid":""#).nth(1).unwrap().trim_end_matches(r#""}"#).to_owned();
    client.reset();
    posthaste_testkit::eventually("it waits", async || running.io.stats().await.recoverable == 1).await;
    running.io.emit("missed", &()).await.unwrap();
    let back = Memory { pid, offset: None }.back(running.addr).await;
    assert!(back.recovered);
    assert_eq!(back.missed, [json!(["missed"])]);
}

#[tokio::test]
async fn attachments_are_replayed_behind_their_event() {
    let (running, _) = recovering(plain(), |_| {});
    let memory = Peer::join(running.addr).await.lose(&running.io).await;
    running.io.emit("binary", &posthaste_bytes(&[1, 2, 3])).await.unwrap();
    let mut client = posthaste_testkit::Client::open(running.addr, posthaste_testkit::Transport::WebSocket).await;
    client.send(&memory.wish()).await;
    let text = client.text().await;
    assert!(text.starts_with(r#"51-["binary",{"_placeholder":true,"num":0},"~"#), "{text}");
    client.expect_binary(&[1, 2, 3]).await;
    assert!(client.text().await.contains(&memory.pid));
}

fn posthaste_bytes(bytes: &'static [u8]) -> bytes::Bytes {
    bytes::Bytes::from_static(bytes)
}

#[tokio::test]
async fn a_handler_may_emit_from_inside_a_value_that_is_being_encoded() {
    struct Chatty(Server);
    impl serde::Serialize for Chatty {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            self.0.emit("inner", &()).now().unwrap();
            serializer.serialize_u8(1)
        }
    }
    let order = Record::new();
    let (running, _) = recovering(plain(), |_| {});
    let mut peer = Peer::join(running.addr).await;
    running.io.emit("outer", &Chatty(running.io.clone())).await.unwrap();
    for _ in 0..2 {
        order.push(peer.event().await);
    }
    assert_eq!(order.all(), [json!(["inner"]), json!(["outer", 1])]);
}
