//! A server whose clients all speak MessagePack.

use std::time::Duration;

use bytes::Bytes;
use posthaste::{Ack, Answer, Args, Auth, Builder, ConnectError, Data, DisconnectReason, Parser, Server, Socket};
use posthaste_testkit::{Record, Running, Transport, serve};
use serde_json::{Value, json};

use crate::speaker::Speaker;

pub(crate) fn packed() -> Builder {
    Server::builder().workers(2).parser(Parser::MessagePack)
}

/// What any handler may do.
pub(crate) fn talking(builder: Builder) -> (Running, Record<DisconnectReason>) {
    let reasons = Record::new();
    let left = reasons.clone();
    let running = serve(builder, |io| {
        for namespace in [io.namespace("/"), io.namespace("/custom")] {
            namespace.on("echo", async |Data(args): Data<Args<'static>>, ack: Ack| ack.send(&args).await);
            namespace.on("back", async |socket: Socket, Data(args): Data<Args<'static>>| {
                socket.emit("back", &args).await.unwrap();
            });
        }
        io.on("typed", async |Data((text, data, number)): Data<(String, Bytes, Option<f64>)>| {
            Answer(json!([text, data.len(), number]))
        });
        io.on("ask", async |socket: Socket, Data(args): Data<Args<'static>>| {
            let (word, data): (String, Bytes) = socket.emit_with_ack("question", &args).await.unwrap();
            socket.emit("told", &(word, data)).await.unwrap();
        });
        io.namespace("/auth").middleware(async |Auth(auth): Auth<Value>| match auth["token"].as_str() {
            Some("good") => Ok(()),
            _ => Err(ConnectError::new("no").with_data(&json!({ "code": 401 }))),
        });
        io.on_disconnect(move |reason: DisconnectReason| {
            left.push(reason);
            async {}
        });
    });
    (running, reasons)
}

/// Everything that is said between a client and its server.
async fn talks(speaker: &mut Speaker) {
    speaker.ask(json!(["echo", 1, [null, -5, "ü", { "a": true }]]), json!([1, [null, -5, "ü", { "a": true }]])).await;
    let data = json!({ "$bin": "four" });
    speaker.ask(json!(["echo", data, { "in": [data] }]), json!([data, { "in": [data] }])).await;
    speaker.ask(json!(["typed", "text", data, 7]), json!([["text", 4, 7]])).await;
    speaker.ask(json!(["typed", "text", data, { "$undefined": true }]), json!([["text", 4, null]])).await;
    speaker.emit(json!(["back", 1, data])).await;
    speaker.expect_event(json!(["back", 1, data])).await;
    speaker.emit(json!(["ask", "what?"])).await;
    let question = speaker.packet().await;
    assert_eq!(question["data"], json!(["question", "what?"]));
    speaker.send(&json!({ "type": 3, "data": ["this", data], "nsp": "/", "id": question["id"] })).await;
    speaker.expect_event(json!(["told", "this", data])).await;
}

#[tokio::test]
async fn everything_is_said_in_messagepack_over_every_transport() {
    let (running, reasons) = talking(packed());
    for transport in Transport::ALL {
        let (mut speaker, id) = Speaker::join(running.addr, transport).await;
        assert_eq!(id.len(), 20);
        talks(&mut speaker).await;
        if transport == Transport::Polling {
            speaker.0.upgrade().await.unwrap();
            talks(&mut speaker).await;
        }
        // Namespaces, refusals, and leaving.
        speaker.connect("/custom").await;
        speaker.send(&json!({ "type": 2, "data": ["echo"], "nsp": "/custom", "id": 0 })).await;
        speaker.expect(json!({ "type": 3, "data": [], "nsp": "/custom", "id": 0 })).await;
        speaker.send(&json!({ "type": 0, "nsp": "/nowhere" })).await;
        speaker.expect(json!({ "type": 4, "data": { "message": "Invalid namespace" }, "nsp": "/nowhere" })).await;
        speaker.send(&json!({ "type": 0, "data": { "token": "bad" }, "nsp": "/auth" })).await;
        speaker
            .expect(json!({ "type": 4, "data": { "message": "no", "data": { "code": 401 } }, "nsp": "/auth" }))
            .await;
        speaker.send(&json!({ "type": 0, "data": { "token": "good" }, "nsp": "/auth" })).await;
        assert_eq!(speaker.packet().await["type"], 0);
        speaker.send(&json!({ "type": 1, "nsp": "/" })).await;
        let seen = reasons.wait_for(1).await;
        assert_eq!(seen.last(), Some(&DisconnectReason::ClientNamespaceDisconnect));
        speaker.send(&json!({ "type": 2, "data": ["echo"], "nsp": "/custom", "id": 1 })).await;
        speaker.expect(json!({ "type": 3, "data": [], "nsp": "/custom", "id": 1 })).await;
    }
}

#[tokio::test]
async fn the_server_takes_clients_out_and_reaches_them_from_any_thread() {
    let (running, _) = talking(packed());
    let (mut speaker, id) = Speaker::join(running.addr, Transport::WebSocket).await;
    let io = &running.io;
    let sockets = io.to(id.as_str()).sockets().await;
    // From this thread, which is no worker's.
    sockets[0].emit("direct", &Bytes::from_static(b"data")).await.unwrap();
    speaker.expect_event(json!(["direct", { "$bin": "data" }])).await;
    let asked = tokio::spawn(sockets[0].timeout(Duration::from_secs(20)).emit_with_ack::<String>("question", &1));
    let question = speaker.packet().await;
    speaker.send(&json!({ "type": 3, "data": ["answer"], "nsp": "/", "id": question["id"] })).await;
    assert_eq!(asked.await.unwrap().unwrap(), "answer");
    sockets[0].disconnect(false);
    speaker.expect(json!({ "type": 1, "nsp": "/" })).await;
}
