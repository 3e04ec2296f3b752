//! A client with the memory of the official one.

#![allow(dead_code, reason = "shared by two suites, neither of which uses all of it")]

use std::net::SocketAddr;

use posthaste::{Builder, Recovery, Server, Socket};
use posthaste_testkit::{Client, Message, Record, Running, Transport, eventually, serve};
use serde_json::{Value, json};

/// What a client keeps while it has no connection.
#[derive(Clone, Debug)]
pub(crate) struct Memory {
    pub(crate) pid: String,
    pub(crate) offset: Option<String>,
}

/// A client in a namespace where clients are recovered. It remembers, as the official one does, its pid and the last string that
/// came as the last argument of an event.
pub(crate) struct Peer {
    pub(crate) client: Client,
    pub(crate) id: String,
    pub(crate) memory: Memory,
}

/// What happened when a client came back.
pub(crate) struct Back {
    pub(crate) peer: Peer,
    /// The events that came before the answer.
    pub(crate) missed: Vec<Value>,
    /// Whether the official client would say that it was recovered.
    pub(crate) recovered: bool,
}

impl Peer {
    pub(crate) async fn join(addr: SocketAddr) -> Self {
        Self::join_over(addr, Transport::WebSocket).await
    }

    pub(crate) async fn join_over(addr: SocketAddr, transport: Transport) -> Self {
        let mut client = Client::open(addr, transport).await;
        client.send("0").await;
        let nobody = Memory { pid: String::new(), offset: None };
        connected(client, nobody).await.peer
    }

    /// Joins with something in its auth.
    pub(crate) async fn join_with(addr: SocketAddr, auth: Value) -> Self {
        let mut client = Client::open(addr, Transport::WebSocket).await;
        client.send(&format!("0{auth}")).await;
        let nobody = Memory { pid: String::new(), offset: None };
        connected(client, nobody).await.peer
    }

    /// The next event: its name and arguments, without the offset.
    pub(crate) async fn event(&mut self) -> Value {
        let text = self.client.text().await;
        self.memory.hear(&text)
    }

    /// Expects exactly this event next.
    pub(crate) async fn expect(&mut self, event: Value) {
        assert_eq!(self.event().await, event);
    }

    /// A round trip: everything the server said before has been heard.
    pub(crate) async fn sync(&mut self) {
        self.client.ask(r#"["sync"]"#, "[]").await;
    }

    /// Loses its connection, and has the server notice.
    pub(crate) async fn lose(self, io: &Server) -> Memory {
        let before = io.stats().await.sockets;
        self.client.reset();
        eventually("the server has noticed", async || io.stats().await.sockets < before).await;
        self.memory
    }
}

impl Memory {
    pub(crate) async fn back(&self, addr: SocketAddr) -> Back {
        self.back_over(addr, Transport::WebSocket).await
    }

    pub(crate) async fn back_over(&self, addr: SocketAddr, transport: Transport) -> Back {
        let mut client = Client::open(addr, transport).await;
        client.send(&self.wish()).await;
        connected(client, self.clone()).await
    }

    /// As [`Memory::back`], with more in its auth.
    pub(crate) async fn back_with(&self, addr: SocketAddr, auth: Value) -> Back {
        connected(self.ask_with(addr, auth).await, self.clone()).await
    }

    /// As [`Memory::back`]; `None` if its connection is closed before there is an answer.
    pub(crate) async fn try_back(&self, addr: SocketAddr) -> Option<Back> {
        try_connected(self.ask_with(addr, json!({})).await, self.clone()).await
    }

    /// Asks, and does not wait for the answer.
    pub(crate) async fn ask_with(&self, addr: SocketAddr, auth: Value) -> Client {
        let mut client = Client::open(addr, Transport::WebSocket).await;
        client.send(&self.wish_with(auth)).await;
        client
    }

    /// The packet it asks for its session with.
    pub(crate) fn wish(&self) -> String {
        self.wish_with(json!({}))
    }

    fn wish_with(&self, mut auth: Value) -> String {
        auth["pid"] = self.pid.as_str().into();
        if let Some(offset) = &self.offset {
            auth["offset"] = offset.as_str().into();
        }
        format!("0{auth}")
    }

    /// Notes the offset of an event, and returns the event without it.
    fn hear(&mut self, text: &str) -> Value {
        let event = text.strip_prefix('2').unwrap_or_else(|| panic!("an event was to come, not {text:?}"));
        let mut event: Value = serde_json::from_str(event).unwrap();
        let args = event.as_array_mut().unwrap();
        match args.last() {
            Some(Value::String(last)) if last.starts_with('~') && matches!(last.len(), 23 | 46) => {
                self.offset = Some(last.clone());
                args.pop();
            }
            last => panic!("an event ends with its offset, not with {last:?}"),
        }
        event
    }
}

async fn connected(client: Client, memory: Memory) -> Back {
    try_connected(client, memory).await.expect("its connection was closed")
}

async fn try_connected(mut client: Client, mut memory: Memory) -> Option<Back> {
    let mut missed = Vec::new();
    loop {
        let Message::Text(text) = client.message().await.ok()? else { panic!("no attachments here") };
        let Some(answer) = text.strip_prefix('0') else {
            missed.push(memory.hear(&text));
            continue;
        };
        let answer: Value = serde_json::from_str(answer).unwrap();
        let (id, pid) = (answer["sid"].as_str().unwrap().to_owned(), answer["pid"].as_str().unwrap().to_owned());
        let recovered = pid == memory.pid;
        memory.pid = pid;
        return Some(Back { peer: Peer { client, id, memory }, missed, recovered });
    }
}

/// A server that recovers clients, and the sockets that joined its main namespace.
pub(crate) fn recovering(builder: Builder, setup: impl FnOnce(&Server)) -> (Running, Record<Socket>) {
    let sockets = Record::new();
    let record = sockets.clone();
    let running = serve(builder, |io| {
        io.on_connect(move |socket: Socket| {
            record.push(socket);
            async {}
        });
        io.on("sync", async || {});
        io.on("join", async |socket: Socket, posthaste::Data(room): posthaste::Data<String>| socket.join(room));
        io.on("leave", async |socket: Socket, posthaste::Data(room): posthaste::Data<String>| socket.leave(room));
        setup(io);
    });
    (running, sockets)
}

/// One worker, the defaults.
pub(crate) fn plain() -> Builder {
    with(Recovery::default())
}

pub(crate) fn with(recovery: Recovery) -> Builder {
    Server::builder().workers(1).recovery(recovery)
}
