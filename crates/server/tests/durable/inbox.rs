//! What is sent to somebody waits for each of their devices until that has answered.

use posthaste::store::{Retention, StoreError};
use posthaste::{Durable, DurableError, Inbox, Server};
use posthaste_testkit::{Client, Transport, eventually, serve};
use serde_json::{Value, json};

use crate::device::Device;
use crate::scene::Remains;

fn numbers(range: std::ops::Range<u64>) -> impl Iterator<Item = Value> {
    range.map(|number| json!(["event", number]))
}

async fn emit(io: &Server, user: &str, range: std::ops::Range<u64>) {
    for number in range {
        io.user(user).emit("event", &number).await.unwrap();
    }
}

fn window(window: usize) -> Inbox {
    Inbox { window, ..Inbox::default() }
}

#[tokio::test]
async fn it_waits_behind_the_answer_in_order_and_what_was_not_answered_comes_again() {
    for transport in Transport::ALL {
        let remains = Remains::new();
        let running = remains.serve_inboxes(Inbox::default());
        let auth = json!({ "user": "ada", "device": "phone" });
        emit(&running.io, "ada", 0..3).await;
        emit(&running.io, "eve", 0..3).await;
        let mut phone = Device::connect_with(running.addr, transport, auth.clone()).await;
        let ids = phone.expect(numbers(0..3)).await;
        emit(&running.io, "ada", 3..6).await;
        phone.expect(numbers(3..6)).await;
        phone.answer(ids[..2].iter().copied()).await;
        assert_eq!(phone.sync().await, []);
        drop(phone);

        // The same process, then another one.
        let mut again = Device::connect_with(running.addr, transport, auth.clone()).await;
        let ids = again.expect(numbers(2..6)).await;
        again.answer([ids[0]]).await;
        again.sync().await;
        eventually("the store knows", async || remains.kept("ada") == 3).await;
        let next = remains.serve_inboxes(Inbox::default());
        emit(&next.io, "ada", 6..7).await;
        let mut last = Device::connect_with(next.addr, transport, auth).await;
        let ids = last.expect(numbers(3..7)).await;
        last.answer(ids).await;
        assert_eq!(last.sync().await, []);
        eventually("all is passed", async || remains.kept("ada") == 0).await;
    }
}

#[tokio::test]
async fn no_more_than_the_window_is_on_its_way_and_others_do_not_wait_for_it() {
    let remains = Remains::new();
    let running = remains.serve_inboxes(window(8));
    emit(&running.io, "ada", 0..50).await;
    let mut silent = Device::connect(running.addr, "ada", "silent").await;
    let ids = silent.expect(numbers(0..8)).await;
    assert_eq!(silent.sync().await, [], "it has to answer first");
    let mut other = Device::connect(running.addr, "ada", "other").await;
    for part in 0..5 {
        let ids = other.expect(numbers(part * 8..part * 8 + 8)).await;
        other.answer(ids).await;
    }
    let ids_of_other = other.expect(numbers(40..48)).await;
    let mut somebody = Device::connect(running.addr, "eve", "other").await;
    emit(&running.io, "eve", 0..1).await;
    somebody.expect(numbers(0..1)).await;

    // Half of it is enough to go on, and the first is still missing.
    silent.answer(ids[1..5].iter().copied()).await;
    assert_eq!(silent.sync().await, []);
    silent.answer([ids[0]]).await;
    silent.expect(numbers(8..13)).await;
    other.answer(ids_of_other).await;
    other.expect(numbers(48..50)).await;
    assert_eq!(silent.sync().await, []);
}

#[tokio::test]
async fn what_comes_while_a_device_is_there_fills_its_window_too() {
    let remains = Remains::new();
    let running = remains.serve_inboxes(window(8));
    let mut silent = Device::connect(running.addr, "ada", "silent").await;
    for number in 0..8 {
        emit(&running.io, "ada", number..number + 1).await;
        silent.expect(numbers(number..number + 1)).await;
    }
    emit(&running.io, "ada", 8..10).await;
    assert_eq!(silent.sync().await, []);
}

#[tokio::test]
async fn answers_to_nothing_change_nothing() {
    let remains = Remains::new();
    let running = remains.serve_inboxes(Inbox::default());
    emit(&running.io, "ada", 0..3).await;
    let mut device = Device::connect(running.addr, "ada", "phone").await;
    let ids = device.expect(numbers(0..3)).await;
    let mut nobody = Client::websocket(running.addr).await;
    for id in 0..2_000 {
        if !ids.contains(&id) {
            device.client.send(&format!("3{id}[]")).await;
        }
        // Another client's are not its own.
        nobody.send(&format!("3{id}[]")).await;
    }
    device.answer([u64::MAX, ids[2], ids[2], ids[1]]).await;
    nobody.ask(r#"["sync"]"#, "[]").await;
    assert_eq!(device.sync().await, []);
    drop(device);
    let mut again = Device::connect(running.addr, "ada", "phone").await;
    again.expect(numbers(0..3)).await;
}

#[tokio::test]
async fn every_device_has_its_own_cursor_and_connections_of_one_share_it() {
    let remains = Remains::new();
    let running = remains.serve_inboxes(Inbox::default());
    let mut phone = Device::connect(running.addr, "ada", "phone").await;
    let mut one = Device::connect(running.addr, "ada", "laptop").await;
    let mut two = Device::connect(running.addr, "ada", "laptop").await;
    emit(&running.io, "ada", 0..2).await;
    phone.expect(numbers(0..2)).await;
    one.expect(numbers(0..2)).await;
    let ids = two.expect(numbers(0..2)).await;
    two.answer(ids).await;
    two.sync().await;
    drop((phone, one, two));
    let mut laptop = Device::connect(running.addr, "ada", "laptop").await;
    assert_eq!(laptop.sync().await, [], "one of its connections has answered");
    let mut phone = Device::connect(running.addr, "ada", "phone").await;
    phone.expect(numbers(0..2)).await;
    // Whoever says no name, and who says one that is none, is one more device.
    for auth in [json!({ "user": "ada" }), json!({ "user": "ada", "device": "x".repeat(1_000) })] {
        let mut unnamed = Device::connect_with(running.addr, Transport::WebSocket, auth).await;
        unnamed.expect(numbers(0..2)).await;
    }
    let names: Vec<String> = remains.cursors("ada").await.into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["default", "laptop", "phone"]);
}

#[tokio::test]
async fn of_too_many_devices_the_one_farthest_behind_is_forgotten() {
    let remains = Remains::new();
    let running = remains.serve_inboxes(Inbox { max_devices: 3, ..Inbox::default() });
    emit(&running.io, "ada", 0..2).await;
    for device in ["two", "one", "three"] {
        let mut it = Device::connect(running.addr, "ada", device).await;
        let ids = it.expect(numbers(0..2)).await;
        if device != "two" {
            it.answer(ids).await;
        }
        it.sync().await;
    }
    for device in 0..20 {
        let name = format!("made up {device}");
        let mut it = Device::connect(running.addr, "ada", &name).await;
        let came = it.sync().await;
        it.answer(came.into_iter().filter_map(|came| came.id)).await;
        it.sync().await;
        drop(it);
        assert!(remains.cursors("ada").await.len() <= 3);
    }
    let names: Vec<String> = remains.cursors("ada").await.into_iter().map(|(name, _)| name).collect();
    assert!(!names.contains(&"two".to_owned()), "{names:?}");
}

#[tokio::test]
async fn what_was_forgotten_too_early_is_said_and_the_rest_comes() {
    let remains = Remains::new();
    let few = Retention { max_messages: 3, ..Inbox::default().retention };
    let inbox = || Inbox { retention: few, ..Inbox::default() };
    let running = remains.serve_inboxes(inbox());
    emit(&running.io, "ada", 0..1).await;
    let mut phone = Device::connect(running.addr, "ada", "phone").await;
    let ids = phone.expect(numbers(0..1)).await;
    phone.answer(ids).await;
    phone.sync().await;
    drop(phone);
    emit(&running.io, "ada", 1..6).await;
    for _ in 0..2 {
        let mut phone = Device::connect(running.addr, "ada", "phone").await;
        let gap = phone.message().await.event;
        assert_eq!((&gap[0], &gap[1][0]["inbox"], &gap[1][0]["room"]), (&json!("sio:gap"), &json!(true), &Value::Null));
        assert_ne!(gap[1][0]["after"], gap[1][0]["through"]);
        phone.expect(numbers(3..6)).await;
        // Until it has confirmed something newer, it is told again.
    }
    let mut new = Device::connect(running.addr, "ada", "new").await;
    let ids = new.expect(numbers(3..6)).await;
    new.answer(ids).await;
    assert_eq!(new.sync().await, [], "what was forgotten before is no loss to it");
}

#[tokio::test]
async fn a_key_makes_repeating_harmless_and_where_it_is_is_said() {
    let remains = Remains::new();
    let running = remains.serve_inboxes(Inbox::default());
    let mut phone = Device::connect(running.addr, "ada", "phone").await;
    let first = running.io.user("ada").key("one").emit("event", &0).await.unwrap();
    let again = running.io.user("ada").key("one").compress(false).emit("event", &0).await.unwrap();
    let other = running.io.namespace("/").user("ada").emit("event", &(1, [2])).await.unwrap();
    assert_eq!((first.n, first.dup, again.n, again.dup, other.n), (1, false, 1, true, 2));
    assert_eq!(first.offset(), again.offset());
    phone.expect([json!(["event", 0]), json!(["event", 1, [2]])]).await;
    assert_eq!(phone.sync().await, []);
}

#[tokio::test]
async fn whoever_is_nobody_has_no_inbox_and_emitting_to_them_says_so() {
    let remains = Remains::new();
    let running = remains.serve_inboxes(Inbox::default());
    let io = &running.io;
    for identity in [String::new(), "x".repeat(513)] {
        let refused = io.user(identity.as_str()).emit("event", &()).await;
        assert!(matches!(refused, Err(DurableError::Identity { bytes, max: 512 }) if bytes == identity.len()));
        let mut device = Device::connect(running.addr, &identity, "phone").await;
        assert_eq!(device.sync().await, []);
    }
    io.user("x".repeat(512)).emit("event", &()).await.unwrap();
    let mut nobody = Client::websocket(running.addr).await;
    nobody.ask(r#"["sync"]"#, "[]").await;
    let refused = io.user("ada").emit("event", &"x".repeat(17 << 20)).await;
    assert!(matches!(refused, Err(DurableError::Store(StoreError::Refused(_)))), "{refused:?}");

    let none = serve(Server::builder().workers(1), |_| {});
    assert!(matches!(none.io.user("ada").emit("event", &()).await, Err(DurableError::NoStore(_))));
    let without = serve(Server::builder().workers(1).durable(Durable { inbox: None, ..remains.durable() }), |_| {});
    assert!(matches!(without.io.user("ada").emit("event", &()).await, Err(DurableError::NoInbox)));
}

#[tokio::test]
async fn a_client_that_is_recovered_is_sent_its_inbox_as_well() {
    let remains = Remains::new();
    let running = remains.serve_inboxes(Inbox::default());
    let auth = json!({ "user": "ada", "device": "phone" });
    let mut peer = crate::peer::Peer::join_with(running.addr, auth.clone()).await;
    running.io.to("nobody").emit("nothing", &()).await.unwrap();
    peer.client.ask(r#"["enter","room"]"#, "[]").await;
    let memory = peer.lose(&running.io).await;
    running.io.to("room").emit("missed", &()).await.unwrap();
    emit(&running.io, "ada", 0..2).await;
    for restarts in [false, true] {
        let next = restarts.then(|| remains.serve_inboxes(Inbox::default()));
        let running = next.as_ref().unwrap_or(&running);
        let mut back = memory.back_with(running.addr, auth.clone()).await;
        assert!(back.recovered, "restarts: {restarts}");
        assert_eq!(back.missed, [json!(["missed"])]);
        for number in 0..2 {
            assert!(back.peer.client.text().await.ends_with(&format!(r#"["event",{number}]"#)));
        }
        back.peer.lose(&running.io).await;
    }
}

#[tokio::test]
async fn binary_messages_and_other_namespaces_have_inboxes_too() {
    let remains = Remains::new();
    let running = remains.serve_inboxes(Inbox::default());
    let data = bytes::Bytes::from_static(&[1, 2, 3]);
    running.io.user("ada").emit("data", &("a", data)).await.unwrap();
    let mut phone = Device::connect(running.addr, "ada", "phone").await;
    let text = phone.client.text().await;
    let id =
        text.strip_prefix("51-").and_then(|rest| rest.strip_suffix(r#"["data","a",{"_placeholder":true,"num":0}]"#));
    let id: u64 = id.unwrap_or_else(|| panic!("{text}")).parse().unwrap();
    phone.client.expect_binary(&[1, 2, 3]).await;
    phone.answer([id]).await;
    eventually("it is passed", async || remains.kept("ada") == 0).await;
}
