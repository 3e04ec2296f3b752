//! What is forgotten is said.

use posthaste::store::Retention;
use serde_json::{Value, json};

use crate::peer::Peer;
use crate::scene::{Remains, scene};

const FEW: Retention = Retention { max_messages: 3, ..Retention::ROOM };

#[tokio::test]
async fn whose_history_was_trimmed_starts_afresh_and_is_told_what_it_lost() {
    let remains = Remains::new();
    let (running, _) = remains.serve_with(FEW, |durable| durable, |_| {});
    let mut peer = Peer::join(running.addr).await;
    for room in ["room", "room:busy"] {
        peer.client.ask(&format!(r#"["enter","{room}"]"#), "[]").await;
    }
    running.io.to("room").emit("heard", &()).await.unwrap();
    peer.expect(json!(["heard"])).await;
    let (next, _) = remains.serve_with(FEW, |durable| durable, |_| {});
    next.io.to("room").emit("kept", &()).await.unwrap();
    for number in 0..5 {
        next.io.to("room:busy").emit("event", &number).await.unwrap();
    }
    let mut back = peer.memory.back(next.addr).await;
    assert!(!back.recovered);
    assert_eq!(back.missed, Vec::<Value>::new(), "no partial replay");
    assert_ne!(back.peer.id, peer.id);
    let gap = back.peer.event().await;
    assert_eq!(
        (&gap[0], &gap[1][0]["room"], gap[1].as_array().unwrap().len()),
        (&json!("sio:gap"), &json!("room:busy"), 1)
    );
    let after = gap[1][0]["after"].as_str().unwrap();
    assert_eq!(peer.memory.offset.as_deref().map(|offset| &offset[..23]), Some(after));
    // It is somebody new now: the same wish finds nobody.
    assert!(!peer.memory.back(next.addr).await.recovered);
}

#[tokio::test]
async fn a_store_that_was_made_anew_recovers_nobody() {
    let (_, running, mut peer) = scene().await;
    running.io.to("room").emit("heard", &()).await.unwrap();
    peer.expect(json!(["heard"])).await;
    let (next, _) = Remains::new().serve();
    let back = peer.memory.back(next.addr).await;
    assert!(!back.recovered && back.missed.is_empty());
}

#[tokio::test]
async fn who_missed_more_than_is_replayed_starts_afresh() {
    let (remains, _running, peer) = scene().await;
    let few = |durable| posthaste::Durable { max_replay: 10, ..durable };
    let (next, _) = remains.serve_with(Retention::ROOM, few, |_| {});
    for number in 0..11 {
        next.io.to("room").emit("event", &number).await.unwrap();
    }
    let back = peer.memory.back(next.addr).await;
    assert!(!back.recovered);
}
