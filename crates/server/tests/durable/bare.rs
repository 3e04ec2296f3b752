//! Clients that have no place for offsets behind the arguments: `auth.offsets` is `"off"`.

use std::time::Duration;

use posthaste::store::Retention;
use posthaste::{Durable, Inbox, InboxMode, Recovery, Server, Socket};
use posthaste_testkit::{Client, Message, Packet, Record, Running, Transport};
use serde_json::{Value, json};

use crate::peer::recovering;
use crate::scene::Remains;

/// A server that pings often, with a store or without.
fn serve(remains: Option<&Remains>) -> (Running, Record<Socket>) {
    let builder = Server::builder().workers(1).ping(Duration::from_millis(200), Duration::from_secs(20));
    let builder = match remains {
        Some(remains) => {
            let inbox = Inbox { mode: InboxMode::Offset, ..Inbox::default() };
            builder.durable(Durable { inbox: Some(inbox), ..remains.durable() })
        }
        None => builder.recovery(Recovery::default()),
    };
    recovering(builder, |io| {
        if remains.is_some() {
            io.durable_rooms("room", Retention::ROOM).unwrap();
        }
        io.middleware(async |socket: Socket| {
            socket.identify("ada");
            Ok::<_, posthaste::ConnectError>(())
        });
    })
}

/// Joins, and returns its id and its secret.
async fn join(client: &mut Client, auth: Value) -> (String, String, Vec<Value>) {
    client.send(&format!("0{auth}")).await;
    let mut before = Vec::new();
    loop {
        let text = client.text().await;
        let Some(answer) = text.strip_prefix('0') else {
            before.push(event(&text));
            continue;
        };
        let answer: Value = serde_json::from_str(answer).unwrap();
        return (answer["sid"].as_str().unwrap().into(), answer["pid"].as_str().unwrap().into(), before);
    }
}

fn event(text: &str) -> Value {
    serde_json::from_str(text.strip_prefix('2').unwrap_or_else(|| panic!("an event was to come, not {text:?}")))
        .unwrap()
}

/// Answers the next ping: what came before it has been heard.
async fn pong(client: &mut Client) {
    while client.engine().packet().await.unwrap() != Packet::Text("2".to_owned()) {}
    client.engine().send_all(&[Packet::Text("3".to_owned())]).await.unwrap();
    client.ask(r#"["sync"]"#, "[]").await;
}

#[tokio::test]
async fn events_come_as_they_were_emitted_and_pongs_tell_where_the_client_is() {
    for stored in [true, false] {
        let remains = Remains::new();
        let (running, sockets) = serve(stored.then_some(&remains));
        let io = &running.io;
        let mut client = Client::open(running.addr, Transport::WebSocket).await;
        let (id, pid, _) = join(&mut client, json!({ "offsets": "off" })).await;
        let mut other = crate::peer::Peer::join(running.addr).await;
        client.ask(r#"["join","room"]"#, "[]").await;
        other.client.ask(r#"["join","room"]"#, "[]").await;

        let socket = sockets.all()[0].clone();
        io.to("room").emit("stored", &("a,\"b", 1)).await.unwrap();
        io.to("room").volatile().emit("volatile", &()).await.unwrap();
        io.emit("all", &json!({ "n": 1 })).await.unwrap();
        socket.emit("alone", &"~").await.unwrap();
        socket.volatile().emit("alone and volatile", &["x"]).await.unwrap();
        io.to("room").emit("binary", &bytes::Bytes::from_static(b"\xff")).await.unwrap();
        let same = [
            json!(["stored", "a,\"b", 1]),
            json!(["volatile"]),
            json!(["all", { "n": 1 }]),
            json!(["alone", "~"]),
            json!(["alone and volatile", "x"]),
        ];
        for expected in same {
            assert_eq!(event(&client.text().await), expected, "{stored}");
        }
        assert_eq!(client.text().await, r#"51-["binary",{"_placeholder":true,"num":0}]"#);
        assert_eq!(client.message().await.unwrap(), Message::Binary(vec![0xff]));
        // Whoever says nothing of it has them.
        other.expect(json!(["stored", "a,\"b", 1])).await;

        pong(&mut client).await;
        let before = io.stats().await.sockets;
        client.reset();
        posthaste_testkit::eventually("it is lost", async || io.stats().await.sockets < before).await;
        io.to("room").emit("missed", &7).await.unwrap();
        let again = json!({ "offsets": "off", "pid": pid });
        let mut back = Client::open(running.addr, Transport::WebSocket).await;
        assert_eq!(join(&mut back, again.clone()).await, (id.clone(), pid.clone(), vec![json!(["missed", 7])]));
        if stored {
            let (next, _) = serve(Some(&remains));
            next.io.to("room").emit("missed", &8).await.unwrap();
            let mut third = Client::open(next.addr, Transport::WebSocket).await;
            let (_, same, missed) = join(&mut third, again).await;
            // It has answered no ping since it came back.
            assert_eq!((same, missed), (pid, vec![json!(["missed", 7]), json!(["missed", 8])]));
        }
    }
}

/// Who cannot say an offset answers instead.
#[tokio::test]
async fn inboxes_that_go_by_offsets_go_by_answers() {
    let remains = Remains::new();
    let (running, _) = serve(Some(&remains));
    let mut client = Client::open(running.addr, Transport::WebSocket).await;
    join(&mut client, json!({ "offsets": "off", "device": "phone" })).await;
    running.io.user("ada").emit("event", &1).await.unwrap();
    let text = client.text().await;
    let id =
        text.strip_prefix('2').and_then(|text| text.strip_suffix(r#"["event",1]"#)).unwrap_or_else(|| panic!("{text}"));
    client.send(&format!("3{id}[]")).await;
    posthaste_testkit::eventually("it is confirmed", async || remains.kept("ada") == 0).await;
}
