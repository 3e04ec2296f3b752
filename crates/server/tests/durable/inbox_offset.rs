//! Clients that keep their own place in their inbox.

use posthaste::{Inbox, InboxMode, Server};
use posthaste_testkit::Transport;
use serde_json::{Value, json};

use crate::device::{Came, Device};
use crate::scene::Remains;

fn by_offset() -> Inbox {
    Inbox { mode: InboxMode::Offset, ..Inbox::default() }
}

async fn connect(addr: std::net::SocketAddr, offset: Value) -> Device {
    let auth = json!({ "user": "ada", "device": "phone", "inbox": offset });
    Device::connect_with(addr, Transport::WebSocket, auth).await
}

async fn emit(io: &Server, range: std::ops::Range<u64>) {
    for number in range {
        io.user("ada").emit("event", &number).await.unwrap();
    }
}

/// Expects these numbers next. Returns the offsets.
async fn expect(device: &mut Device, range: std::ops::Range<u64>) -> Vec<String> {
    let mut offsets = Vec::new();
    for number in range {
        let Came { id, event } = device.message().await;
        assert_eq!((id, &event[0], &event[1]), (None, &json!("event"), &json!(number)));
        offsets.push(event[2].as_str().unwrap().to_owned());
    }
    offsets
}

#[tokio::test]
async fn a_client_is_sent_what_comes_behind_the_offset_it_says() {
    let remains = Remains::new();
    let running = remains.serve_inboxes(by_offset());
    emit(&running.io, 0..3).await;
    let mut device = connect(running.addr, Value::Null).await;
    let mut offsets = expect(&mut device, 0..3).await;
    emit(&running.io, 3..6).await;
    offsets.extend(expect(&mut device, 3..6).await);
    assert_eq!(device.sync().await, []);
    assert!(offsets.iter().all(|offset| offset.starts_with('~') && offset.len() == 69));
    drop(device);

    // It has said nothing yet: all of it comes again.
    let mut device = connect(running.addr, json!("")).await;
    expect(&mut device, 0..6).await;
    drop(device);
    for restarts in [false, true] {
        let next = restarts.then(|| remains.serve_inboxes(by_offset()));
        let running = next.as_ref().unwrap_or(&running);
        let mut device = connect(running.addr, json!(offsets[3])).await;
        expect(&mut device, 4..6).await;
        assert_eq!(device.sync().await, []);
    }
    // The part that is its own does as well.
    let mut device = connect(running.addr, json!(offsets[4][46..])).await;
    expect(&mut device, 5..6).await;
    // Whoever goes back behind what it had is told that it is too late.
    let mut device = connect(running.addr, json!(offsets[3])).await;
    let gap = device.message().await.event;
    assert_eq!((&gap[0], &gap[1][0]["after"]), (&json!("sio:gap"), &json!(offsets[3][46..])));
    expect(&mut device, 5..6).await;
    assert_eq!(remains.kept("ada"), 1, "what it has is forgotten");
}

#[tokio::test]
async fn what_is_no_offset_is_as_none() {
    let remains = Remains::new();
    let running = remains.serve_inboxes(by_offset());
    emit(&running.io, 0..4).await;
    let mut device = connect(running.addr, Value::Null).await;
    let offsets = expect(&mut device, 0..4).await;
    drop(connect(running.addr, json!(offsets[1])).await);
    let foreign = {
        let other = Remains::new().serve_inboxes(by_offset());
        emit(&other.io, 0..4).await;
        let mut device = connect(other.addr, Value::Null).await;
        expect(&mut device, 0..4).await.pop().unwrap()
    };
    for text in ["~", "nonsense", &foreign, &"~".repeat(69), &"x".repeat(100_000), &offsets[3][..46]] {
        let mut device = connect(running.addr, json!(text)).await;
        let came = device.sync().await;
        let numbers: Vec<&Value> = came.iter().map(|came| &came.event[1]).collect();
        // Those of rooms say nothing of the inbox: this one is of a place before it.
        assert!(numbers.ends_with(&[&json!(2), &json!(3)]), "{text}: {numbers:?}");
    }
}

#[tokio::test]
async fn offsets_say_what_was_heard_of_rooms_too() {
    let remains = Remains::new();
    let running = remains.serve_inboxes(by_offset());
    let auth = json!({ "user": "ada", "device": "phone" });
    let mut peer = crate::peer::Peer::join_with(running.addr, auth.clone()).await;
    peer.client.ask(r#"["enter","room"]"#, "[]").await;
    running.io.to("room").emit("heard", &()).await.unwrap();
    peer.expect(json!(["heard"])).await;
    running.io.user("ada").emit("event", &0).await.unwrap();
    let text = peer.client.text().await;
    let event: Value = serde_json::from_str(&text[1..]).unwrap();
    // The official client notes the last text it hears.
    peer.memory.offset = Some(event[2].as_str().unwrap().to_owned());
    let memory = peer.lose(&running.io).await;
    running.io.to("room").emit("missed", &()).await.unwrap();
    let mut said = auth;
    said["inbox"] = event[2].clone();
    for restarts in [false, true] {
        let next = restarts.then(|| remains.serve_inboxes(by_offset()));
        let running = next.as_ref().unwrap_or(&running);
        let mut back = memory.back_with(running.addr, said.clone()).await;
        assert_eq!((back.recovered, &back.missed), (true, &vec![json!(["missed"])]), "restarts: {restarts}");
        back.peer.sync().await;
        back.peer.lose(&running.io).await;
    }
}
