//! What an answered ping says: what was sent before it has reached the client.

use std::time::{Duration, Instant};

use posthaste::{Inbox, InboxMode};
use posthaste_testkit::{Packet, Transport, eventually};
use serde_json::{Value, json};

use crate::device::Device;
use crate::scene::Remains;

fn by_pong() -> Inbox {
    Inbox { mode: InboxMode::Pong, ..Inbox::default() }
}

fn auth() -> Value {
    json!({ "user": "ada", "device": "phone" })
}

#[tokio::test]
async fn what_a_client_has_read_is_confirmed_without_its_doing_and_the_rest_comes_again() {
    for transport in Transport::ALL {
        let remains = Remains::new();
        let running = remains.serve_inboxes(by_pong());
        let mut phone = Device::connect_with(running.addr, transport, auth()).await;
        for number in 0..3 {
            running.io.user("ada").emit("event", &number).await.unwrap();
            let came = phone.message().await;
            assert_eq!((came.id, &came.event[1]), (None, &json!(number)));
        }
        // Answers to pings leave while it reads: in the pings' own time there is none for 25 seconds.
        let reading = tokio::spawn(async move { phone.client.text().await });
        eventually("pongs have confirmed it", async || remains.kept("ada") == 0).await;
        reading.abort();

        // Of one that answers no ping nothing is known.
        let silent = Device::connect_with(running.addr, transport, auth()).await;
        running.io.user("ada").emit("event", &3).await.unwrap();
        drop(silent);
        let mut again = Device::connect_with(running.addr, transport, auth()).await;
        assert_eq!(again.message().await.event[1], json!(3), "{transport:?}");
    }
}

#[tokio::test]
async fn a_session_without_an_offset_goes_on_behind_what_a_pong_confirmed() {
    let remains = Remains::new();
    let (running, _) = crate::peer::recovering(
        posthaste::Server::builder()
            .workers(1)
            .durable(remains.durable())
            .ping(std::time::Duration::from_millis(200), std::time::Duration::from_secs(20)),
        |io| {
            io.durable_rooms("room", posthaste::store::Retention::ROOM).unwrap();
        },
    );
    let mut peer = crate::peer::Peer::join(running.addr).await;
    peer.client.ask(r#"["join","room"]"#, "[]").await;
    running.io.to("room").emit("one", &()).await.unwrap();
    peer.expect(json!(["one"])).await;
    // The ping that comes next is behind it, and what comes behind that ping is not confirmed by its answer.
    while peer.client.engine().packet().await.unwrap() != Packet::Text("2".to_owned()) {}
    peer.client.engine().send_all(&[Packet::Text("3".to_owned())]).await.unwrap();
    peer.sync().await;
    let mut memory = peer.lose(&running.io).await;
    memory.offset = None;
    running.io.to("room").emit("two", &()).await.unwrap();
    let back = memory.back(running.addr).await;
    assert_eq!((back.recovered, back.missed), (true, vec![json!(["two"])]));
}

#[tokio::test]
async fn pings_that_come_early_come_once_a_second_however_much_is_sent() {
    let remains = Remains::new();
    let running = remains.serve_inboxes(by_pong());
    let mut phone = Device::connect_with(running.addr, Transport::WebSocket, auth()).await;
    let io = running.io.clone();
    // More than what is confirmed is on its way at all times.
    let sending = tokio::spawn(async move {
        loop {
            io.user("ada").emit("event", &()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let mut pings = Vec::new();
    while pings.len() < 4 {
        if phone.client.engine().packet().await.unwrap() == Packet::Text("2".to_owned()) {
            pings.push(Instant::now());
            phone.client.engine().send_all(&[Packet::Text("3".to_owned())]).await.unwrap();
        }
    }
    sending.abort();
    // The first comes at once. What a busy machine adds to one interval it may take from the next, but not from all.
    let taken = pings[3].duration_since(pings[0]);
    assert!(taken >= Duration::from_millis(2_500), "four pings in {taken:?}");
    assert!(taken < Duration::from_secs(20), "that was the heartbeat's own pace");
}
