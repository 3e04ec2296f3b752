//! What a socket is asked about: its data, its rooms while it leaves, its transport, its handshake.

use std::collections::BTreeMap;

use bytes::Bytes;
use posthaste::{Answer, Data, DisconnectReason, HandshakeSnapshot, Rooms, Server, Socket, Transport};
use posthaste_testkit::{Client, Engine, Record, Transport as Wire, serve};
use serde::{Deserialize, Serialize};

use crate::spread::Spread;

#[derive(Debug, Deserialize, PartialEq, Serialize)]
struct Player {
    name: String,
    #[serde(default)]
    score: u32,
}

#[tokio::test]
async fn data_is_a_type_here_and_a_copy_in_what_others_fetch() {
    let spread = Spread::over(2, |_| {});
    let clients = spread.clients(1).await;
    let ada = Player { name: "Ada".into(), score: 7 };
    let socket = &clients[0].socket;
    assert_eq!(&*socket.raw_data(), "{}");
    assert!(socket.data::<Player>().is_err());
    socket.set_data(&ada).unwrap();
    assert_eq!(socket.data::<Player>().unwrap(), ada);
    // What cannot be JSON changes nothing.
    assert!(socket.set_data(&BTreeMap::from([((1, 2), 3)])).is_err());
    assert_eq!(socket.data::<Player>().unwrap(), ada);
    for fetched in spread.running.io.fetch_sockets().await.unwrap() {
        match fetched.id() == socket.id() {
            true => assert_eq!(fetched.data::<Player>().unwrap(), ada),
            false => assert_eq!(fetched.raw_data(), "{}"),
        }
    }
    // Values of this process are another matter.
    socket.insert(String::from("here"));
    socket.set_data(&()).unwrap();
    assert_eq!((&*socket.raw_data(), socket.get::<String>().as_deref()), ("null", Some("here")));
}

#[tokio::test]
async fn a_socket_that_leaves_is_in_its_rooms_and_then_in_none() {
    let seen = Record::new();
    let running = serve(Server::builder().workers(1), |io| {
        let record = seen.clone();
        io.on_disconnecting(move |socket: Socket, Rooms(rooms): Rooms, reason: DisconnectReason| {
            assert!(socket.is_connected());
            record.push((format!("disconnecting, {reason}"), rooms.len()));
            async move { socket.to(rooms).emit("left", &socket.data::<String>().unwrap()).await.unwrap() }
        });
        let record = seen.clone();
        io.on_disconnect(move |socket: Socket, Rooms(rooms): Rooms, reason: DisconnectReason| {
            assert!(!socket.is_connected());
            record.push((format!("disconnect, {reason}"), rooms.len()));
            async {}
        });
        io.on("join", async |socket: Socket, Data((name, room)): Data<(String, String)>| {
            socket.set_data(&name).unwrap();
            socket.join(room);
        });
        io.on("rooms", async |Rooms(rooms): Rooms| Answer(rooms.len()));
        io.on("kick", async |socket: Socket| socket.disconnect(false));
    });
    let mut stays = Client::websocket(running.addr).await;
    stays.ask(r#"["join","stays","room"]"#, "[]").await;
    for (event, reason) in [("1", "client namespace disconnect"), (r#"2["kick"]"#, "server namespace disconnect")] {
        let mut client = Client::websocket(running.addr).await;
        client.ask(r#"["join","goes","room"]"#, "[]").await;
        client.ask(r#"["rooms"]"#, "[2]").await;
        client.send(event).await;
        stays.expect(r#"2["left","goes"]"#).await;
        let all = seen.wait_for(2).await;
        assert_eq!(
            all[all.len() - 2..],
            [(format!("disconnecting, {reason}"), 2), (format!("disconnect, {reason}"), 0)],
        );
    }
    assert_eq!(seen.all().len(), 4, "told once");
}

#[tokio::test]
async fn an_upgrade_is_told_in_every_namespace_the_client_is_in() {
    let seen = Record::new();
    let running = serve(Server::builder().workers(1), |io| {
        for name in ["/", "/other", "/empty"] {
            let record = seen.clone();
            io.namespace(name).on_upgrade(move |socket: Socket, transport: Option<Transport>| {
                record.push((socket.namespace().name().to_owned(), transport));
                async {}
            });
        }
        io.on("transport", async |transport: Option<Transport>| Answer(transport.map(Transport::as_str)));
    });
    // No upgrade: there from the first.
    Client::websocket(running.addr).await.ask(r#"["transport"]"#, r#"["websocket"]"#).await;
    let mut client = Client::join(running.addr, Wire::Polling).await;
    client.connect("/other").await;
    client.ask(r#"["transport"]"#, r#"["polling"]"#).await;
    client.engine().upgrade().await.unwrap();
    client.ask(r#"["transport"]"#, r#"["websocket"]"#).await;
    let mut all = seen.all();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    let socket = Some(Transport::WebSocket);
    assert_eq!(all, [("/".to_owned(), socket), ("/other".to_owned(), socket)]);
}

#[tokio::test]
async fn handshake_and_headers_are_extracted_whole() {
    let running = serve(Server::builder().workers(1), |io| {
        io.on("handshake", async |handshake: HandshakeSnapshot, headers: http::HeaderMap| {
            let sent = headers.get("x-sent").map(|value| value.to_str().unwrap().to_owned());
            let query = handshake.query.iter().find(|(name, _)| name == "transport").cloned();
            Answer((sent, headers.contains_key("host"), query, handshake.auth.to_string()))
        });
    });
    let mut client =
        Client::new(Engine::open_with(running.addr, "/socket.io/", Wire::Polling, "", &[("x-sent", "yes")]).await);
    client.connect_with("/", r#"{"a":1}"#).await;
    let answer = r#"["yes",true,["transport","polling"],"{\"a\":1}"]"#;
    client.ask(r#"["handshake"]"#, answer).await;
}

#[tokio::test]
async fn binary_values_are_bytes_anywhere_in_a_type() {
    #[derive(Deserialize, Serialize)]
    struct File {
        name: String,
        parts: Vec<BTreeMap<String, Option<Bytes>>>,
    }
    let running = serve(Server::builder().workers(1), |io| {
        io.on("file", async |Data((files, last)): Data<(Vec<File>, Bytes)>| {
            let sizes: Vec<_> = files.iter().flat_map(|file| &file.parts).flat_map(BTreeMap::values).collect();
            assert_eq!(sizes, [&Some(Bytes::from_static(b"one")), &None]);
            assert_eq!((files[0].name.as_str(), &last[..]), ("f", &b"two"[..]));
            Answer((last, files))
        });
    });
    let mut client = Client::websocket(running.addr).await;
    let file =
        |first: u8| format!(r#"[{{"name":"f","parts":[{{"a":{{"_placeholder":true,"num":{first}}},"b":null}}]}}]"#);
    let last = |number: u8| format!(r#"{{"_placeholder":true,"num":{number}}}"#);
    client.send(&format!(r#"52-7["file",{},{}]"#, file(0), last(1))).await;
    client.send_binary(b"one").await;
    client.send_binary(b"two").await;
    client.expect(&format!("62-7[{},{}]", last(0), file(1))).await;
    client.expect_binary(b"two").await;
    client.expect_binary(b"one").await;
}
