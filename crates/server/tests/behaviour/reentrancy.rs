//! Handlers may call anything, on anything, while their worker is running them.

use std::sync::{Arc, Mutex};

use posthaste::{Answer, Data, DisconnectReason, Namespace, SendError, Server, Socket, State};
use posthaste_testkit::{Client, Record, Transport, eventually, serve};
use serde::ser::SerializeSeq;

#[tokio::test]
async fn a_handler_emits_joins_leaves_and_asks_about_itself() {
    let running = serve(Server::builder().workers(2), |io| {
        io.on("all", async |socket: Socket, io: Server, namespace: Namespace| {
            socket.join(["a", "b"]);
            io.to("a").emit("to a", &()).await.unwrap();
            socket.leave("a");
            io.to("a").emit("not to a", &()).await.unwrap();
            namespace.to("b").emit("to b", &()).await.unwrap();
            socket.to("b").emit("not to myself", &()).await.unwrap();
            let rooms = socket.rooms().await.len();
            let (stats, here) = (io.stats().await, namespace.stats().await);
            assert_eq!(stats, here);
            // It is not counted among the unfinished while it runs.
            Answer((rooms, stats.connections, stats.sockets, stats.rooms, stats.pending_acks))
        });
    });
    for transport in Transport::ALL {
        let mut client = Client::join(running.addr, transport).await;
        client.send(r#"21["all"]"#).await;
        client.expect(r#"2["to a"]"#).await;
        client.expect(r#"2["to b"]"#).await;
        client.expect("31[2,1,1,2,0]").await;
        client.leave().await;
        eventually(&format!("{transport:?} is gone"), async || running.io.stats().await.connections == 0).await;
    }
}

#[tokio::test]
async fn a_handler_that_disconnects_its_own_socket_runs_on_and_its_emits_fail() {
    for close in [false, true] {
        let seen = Record::new();
        let record = seen.clone();
        let running = serve(Server::builder().workers(1).state(seen.clone()), |io| {
            io.on("bye", move |socket: Socket| {
                let record = record.clone();
                async move {
                    socket.emit("bye", &()).now().unwrap();
                    socket.disconnect(close);
                    record.push(format!("connected: {}", socket.is_connected()));
                    let late = socket.emit("late", &()).now();
                    record.push(format!("disconnected: {}", matches!(late, Err(SendError::Disconnected))));
                    socket.join("room");
                    record.push(format!("rooms: {}", socket.rooms().await.len()));
                    tokio::task::yield_now().await;
                    record.push("the end".to_owned());
                }
            });
            io.on_disconnect(async |reason: DisconnectReason, State(seen): State<Record<String>>| {
                seen.push(reason.to_string());
            });
        });
        for transport in Transport::ALL {
            let mut client = Client::join(running.addr, transport).await;
            client.emit(r#"["bye"]"#).await;
            client.expect(r#"2["bye"]"#).await;
            client.expect("1").await;
            if close {
                client.closed().await;
            }
        }
        let expected = ["connected: false", "disconnected: true", "rooms: 0", "server namespace disconnect", "the end"];
        assert_eq!(seen.wait_for(10).await, [expected, expected].concat());
        assert_eq!(running.io.stats().await.rooms, 0);
    }
}

#[tokio::test]
async fn a_handler_that_disconnects_everybody_else_is_the_last_one_left() {
    let sockets = Record::<Socket>::new();
    let running = serve(Server::builder().workers(1), |io| {
        let record = sockets.clone();
        io.on_connect(move |socket: Socket| {
            record.push(socket);
            async {}
        });
        let all = sockets.clone();
        io.on("alone", move |socket: Socket, io: Server| {
            let all = all.clone();
            async move {
                all.all().iter().filter(|other| **other != socket).for_each(|other| other.disconnect(true));
                Answer(io.stats().await.sockets)
            }
        });
        io.on_disconnect(async |socket: Socket, io: Server| {
            io.emit("left", &socket.id().to_string()).await.unwrap();
        });
    });
    let mut last = Client::websocket(running.addr).await;
    let mut others = Vec::new();
    for transport in [Transport::WebSocket, Transport::Polling, Transport::WebSocket] {
        others.push(Client::join(running.addr, transport).await);
    }
    let ids: Vec<String> = sockets.all()[1..].iter().map(|socket| socket.id().to_string()).collect();
    last.send(r#"21["alone"]"#).await;
    // Their goodbyes begin when the handler that caused them gives way; stats of several workers would be such an await.
    last.expect("31[1]").await;
    for id in ids {
        last.expect(&format!(r#"2["left","{id}"]"#)).await;
    }
    for mut other in others {
        other.closed().await;
    }
}

/// Disconnect handlers that disconnect the next socket, which calls them again.
#[tokio::test]
async fn disconnect_handlers_may_disconnect_each_other() {
    let sockets = Record::<Socket>::new();
    let left = Record::new();
    let running = serve(Server::builder().workers(1), |io| {
        let record = sockets.clone();
        io.on_connect(move |socket: Socket| {
            record.push(socket);
            async {}
        });
        let (all, left) = (sockets.clone(), left.clone());
        io.on_disconnect(move |socket: Socket| {
            left.push(socket.id());
            if let Some(next) = all.all().into_iter().find(Socket::is_connected) {
                next.disconnect(true);
            }
            async {}
        });
    });
    let mut clients = Vec::new();
    for _ in 0..200 {
        clients.push(Client::websocket(running.addr).await);
    }
    drop(clients.remove(0));
    for client in &mut clients {
        client.closed().await;
    }
    let ids: Vec<_> = sockets.all().iter().map(Socket::id).collect();
    assert_eq!(left.wait_for(200).await, ids, "each once, in turn");
}

/// A value that uses the server while it is written.
struct Speaks(Server, Socket);

impl serde::Serialize for Speaks {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.emit("inner broadcast", &1).now().map_err(serde::ser::Error::custom)?;
        let mut list = serializer.serialize_seq(Some(2))?;
        list.serialize_element("begin")?;
        self.1.emit("inner emit", &2).now().map_err(serde::ser::Error::custom)?;
        self.1.join("room");
        list.serialize_element("end")?;
        list.end()
    }
}

/// A value that uses the server while it is read.
struct Listens;

thread_local! {
    static HEARD: std::cell::RefCell<Option<Server>> = const { std::cell::RefCell::new(None) };
}

impl<'de> serde::Deserialize<'de> for Listens {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?;
        HEARD
            .with_borrow(|io| io.as_ref().unwrap().emit("while reading", &()))
            .now()
            .map_err(serde::de::Error::custom)?;
        Ok(Self)
    }
}

/// Says so when it is dropped.
struct Farewell(Server);

impl Drop for Farewell {
    fn drop(&mut self) {
        self.0.emit("farewell", &()).now().unwrap();
    }
}

thread_local! {
    static KEPT: std::cell::RefCell<(Option<Farewell>, Option<Server>)> = const { std::cell::RefCell::new((None, None)) };
}

/// What is local to a thread goes in the opposite order of its first use: the server's own is gone when this is.
#[tokio::test]
async fn a_thread_that_ends_may_emit_and_drop_the_last_handle_of_a_server() {
    let running = serve(Server::builder().workers(1), |_| {});
    let mut client = Client::websocket(running.addr).await;
    let io = running.io.clone();
    std::thread::spawn(move || {
        KEPT.set((Some(Farewell(io.clone())), Some(Server::builder().workers(1).build().unwrap())));
        io.emit("hello", &()).now().unwrap();
    })
    .join()
    .unwrap();
    client.expect(r#"2["hello"]"#).await;
    client.expect(r#"2["farewell"]"#).await;
}

#[tokio::test]
async fn values_may_use_the_server_while_they_are_written_and_read() {
    let running = serve(Server::builder().workers(1), |io| {
        io.on("write", async |socket: Socket, io: Server| {
            let value = Speaks(io.clone(), socket.clone());
            socket.emit("outer emit", &value).now().unwrap();
            io.to("room").emit("outer broadcast", &value).now().unwrap();
        });
        io.on("prepare", async |io: Server| HEARD.set(Some(io)));
        io.on("read", async |Data(_): Data<Listens>| {});
        io.on("release", async || HEARD.set(None));
    });
    let mut client = Client::websocket(running.addr).await;
    client.emit(r#"["write"]"#).await;
    for event in ["outer emit", "outer broadcast"] {
        client.expect(r#"2["inner broadcast",1]"#).await;
        client.expect(r#"2["inner emit",2]"#).await;
        client.expect(&format!(r#"2["{event}",["begin","end"]]"#)).await;
    }
    for event in ["prepare", "read"] {
        client.send(&format!(r#"21["{event}","x"]"#)).await;
        if event == "read" {
            client.expect(r#"2["while reading"]"#).await;
        }
        client.expect("31[]").await;
    }
    client.ask(r#"["release"]"#, "[]").await;
}

#[tokio::test]
async fn a_handler_may_register_handlers_and_open_namespaces() {
    let running = serve(Server::builder().workers(2), |io| {
        io.on("more", async |io: Server, Data(name): Data<String>| {
            io.on(&name, async || Answer("registered"));
            io.namespace(&format!("/{name}")).on("hi", async || Answer("opened"));
        });
    });
    let mut client = Client::websocket(running.addr).await;
    client.ask(r#"["more","later"]"#, "[]").await;
    client.ask(r#"["later"]"#, r#"["registered"]"#).await;
    client.connect("/later").await;
    client.send(r#"2/later,1["hi"]"#).await;
    client.expect(r#"3/later,1["opened"]"#).await;
}

#[tokio::test]
async fn a_handler_may_start_a_server_and_close_it() {
    let running = serve(Server::builder().workers(1), |io| {
        io.on("serve", async || {
            let own = Server::builder().workers(1).build().unwrap();
            let listener = own.listen(([127, 0, 0, 1], 0).into()).unwrap();
            own.on("hi", async || Answer("from within"));
            let mut client = Client::websocket(listener.local_addr()).await;
            client.ask(r#"["hi"]"#, r#"["from within"]"#).await;
            let close = tokio::task::spawn_blocking(move || own.close(posthaste_testkit::PATIENCE));
            client.closed().await;
            Answer(close.await.unwrap())
        });
    });
    let mut client = Client::websocket(running.addr).await;
    client.ask(r#"["serve"]"#, "[true]").await;
}

#[tokio::test]
async fn a_handler_may_close_its_own_server() {
    let reasons = Record::new();
    let record = reasons.clone();
    let running = serve(Server::builder().workers(2), |io| {
        io.on("close", async |io: Server| {
            // On a thread that is to end there is no waiting for its end.
            io.close(std::time::Duration::ZERO);
        });
        io.on_disconnect(move |reason: DisconnectReason| {
            record.push(reason);
            async {}
        });
    });
    let mut clients = [Client::websocket(running.addr).await, Client::websocket(running.addr).await];
    clients[0].emit(r#"["close"]"#).await;
    for client in &mut clients {
        client.closed().await;
    }
    assert_eq!(reasons.wait_for(2).await, [DisconnectReason::ServerShuttingDown; 2]);
}

#[tokio::test]
async fn a_handler_may_drop_the_last_handle_of_its_server() {
    let io = Server::builder().workers(2).build().unwrap();
    let kept = Arc::new(Mutex::new(Some(io.clone())));
    let last = kept.clone();
    io.on("drop", move || {
        let last = last.clone();
        async move { drop(last.lock().unwrap().take()) }
    });
    let listener = io.listen(([127, 0, 0, 1], 0).into()).unwrap();
    drop(io);
    let addr = listener.local_addr();
    let mut clients = [Client::join(addr, Transport::WebSocket).await, Client::join(addr, Transport::WebSocket).await];
    // A listener keeps its server; the sockets stay when it goes.
    drop(listener);
    clients[0].emit(r#"["drop"]"#).await;
    for client in &mut clients {
        client.closed().await;
    }
    assert!(kept.lock().unwrap().is_none());
}

#[tokio::test]
async fn what_listens_keeps_its_server_and_takes_it_along() {
    let io = Server::builder().workers(2).build().unwrap();
    io.on("hi", async || {});
    let listener = io.listen(([127, 0, 0, 1], 0).into()).unwrap();
    drop(io);
    let mut clients = [Client::websocket(listener.local_addr()).await, Client::websocket(listener.local_addr()).await];
    for client in &mut clients {
        client.ask(r#"["hi"]"#, "[]").await;
    }
    drop(listener);
    for client in &mut clients {
        client.closed().await;
    }
}
