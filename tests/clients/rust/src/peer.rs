//! A client that remembers what it hears.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rust_socketio::asynchronous::{Client, ClientBuilder};
use rust_socketio::{Event, Payload, TransportType};
use serde_json::{Value, json};
use tokio::sync::oneshot;

pub const PATIENCE: Duration = Duration::from_secs(20);

/// What went wrong, in words.
pub type Done<T = ()> = Result<T, String>;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mode {
    Polling,
    WebSocket,
    Upgrade,
}

impl Mode {
    pub const ALL: [Self; 3] = [Self::Polling, Self::WebSocket, Self::Upgrade];

    /// What the matrix calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Polling => "polling",
            Self::WebSocket => "websocket",
            Self::Upgrade => "upgrade",
        }
    }

    fn transport_type(self) -> TransportType {
        match self {
            Self::Polling => TransportType::Polling,
            Self::WebSocket => TransportType::Websocket,
            Self::Upgrade => TransportType::WebsocketUpgrade,
        }
    }
}

/// One place of the matrix: the way in which clients connect, and a name of its own on the server that all share.
pub struct Cell {
    pub url: String,
    pub mode: Mode,
    pub name: String,
}

impl Cell {
    /// What the server calls the transport that clients arrive at.
    pub fn transport(&self) -> &'static str {
        if self.mode == Mode::Polling { "polling" } else { "websocket" }
    }

    /// A client to be, of the mount whose events carry no offsets of recovery.
    pub fn builder(&self) -> ClientBuilder {
        self.builder_at(&format!("{}/plain/", self.url))
    }

    pub fn builder_at(&self, address: &str) -> ClientBuilder {
        ClientBuilder::new(address).transport_type(self.mode.transport_type()).reconnect(false)
    }

    pub async fn connect(&self) -> Done<Peer> {
        Peer::connect(self.builder()).await
    }
}

type Heard = Arc<Mutex<Vec<(String, Payload)>>>;

/// A connection, and what came over it in its order: the names of events, of which `connect`, `close` and `error` are the client's.
pub struct Peer {
    pub client: Client,
    heard: Heard,
}

impl Peer {
    /// Connects, and waits until the server let it in.
    pub async fn connect(builder: ClientBuilder) -> Done<Self> {
        let peer = Self::begin(builder).await?;
        peer.next("connect", 1).await?;
        Ok(peer)
    }

    /// Connects; the server may refuse.
    pub async fn begin(mut builder: ClientBuilder) -> Done<Self> {
        let heard = Heard::default();
        for (event, name) in [(Event::Connect, "connect"), (Event::Close, "close"), (Event::Error, "error")] {
            let heard = heard.clone();
            builder = builder.on(event, move |payload, _| {
                heard.lock().expect("nobody panics").push((name.to_owned(), payload));
                Box::pin(async {})
            });
        }
        let events = heard.clone();
        builder = builder.on_any(move |event, payload, _| {
            events.lock().expect("nobody panics").push((event.as_str().to_owned(), payload));
            Box::pin(async {})
        });
        let client = builder.connect().await.map_err(|error| format!("connecting: {error}"))?;
        Ok(Self { client, heard })
    }

    pub async fn emit(&self, event: &str, what: impl Into<Payload>) -> Done {
        self.client.emit(event, what).await.map_err(|error| format!("emitting {event:?}: {error}"))
    }

    /// Emits with an acknowledgement and gives its arguments.
    pub async fn ask(&self, event: &str, args: Value) -> Done<Value> {
        let Value::Array(args) = args else { return Err("arguments are a list".into()) };
        self.ask_with(event, args).await?.ok_or_else(|| format!("no answer to {event:?}"))
    }

    /// As [`Peer::ask`]; `None` when no answer comes.
    pub async fn ask_with(&self, event: &str, what: impl Into<Payload>) -> Done<Option<Value>> {
        let (tell, answer) = oneshot::channel();
        let mut tell = Some(tell);
        let hear = move |payload, _| -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
            if let (Payload::Text(mut values), Some(tell)) = (payload, tell.take()) {
                let _ = tell.send(values.pop());
            }
            Box::pin(async {})
        };
        let emitted = self.client.emit_with_ack(event, what, PATIENCE, hear).await;
        emitted.map_err(|error| format!("emitting {event:?}: {error}"))?;
        match tokio::time::timeout(PATIENCE, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            _ => Ok(None),
        }
    }

    /// The first argument of an acknowledgement.
    pub async fn ask_one(&self, event: &str, args: Value) -> Done<Value> {
        Ok(self.ask(event, args).await?[0].take())
    }

    /// What each `event` brought.
    pub fn heard(&self, event: &str) -> Vec<Payload> {
        let heard = self.heard.lock().expect("nobody panics");
        heard.iter().filter(|(name, _)| name == event).map(|(_, payload)| payload.clone()).collect()
    }

    /// Waits for the `count`-th `event` and gives what it brought.
    pub async fn next(&self, event: &str, count: usize) -> Done<Payload> {
        until(&format!("{count} × {event:?}"), || self.heard(event).len() >= count).await?;
        Ok(self.heard(event)[count - 1].clone())
    }

    /// The server's name for it, which the client itself does not tell.
    pub async fn id(&self) -> Done<String> {
        let seen = self.ask_one("whoami", json!([])).await?;
        seen["id"].as_str().map(str::to_owned).ok_or_else(|| format!("{seen} has no id"))
    }

    pub async fn close(self) {
        let _ = tokio::time::timeout(PATIENCE, self.client.disconnect()).await;
    }
}

/// What the server calls the way in which `id` left.
pub async fn departure(watcher: &Peer, id: &str) -> Done<Value> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let reason = watcher.ask_one("last-disconnect", json!([id])).await?;
        if !reason.is_null() {
            return Ok(reason);
        }
        if Instant::now() > deadline {
            return Err(format!("{id} did not leave"));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until `condition` is true; `what` is told if it never is.
pub async fn until(what: &str, condition: impl Fn() -> bool) -> Done {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        if Instant::now() > deadline {
            return Err(format!("{what} did not happen"));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

pub fn equal<T: std::fmt::Debug + PartialEq>(actual: T, expected: T) -> Done {
    if actual == expected {
        return Ok(());
    }
    let (actual, expected) = (format!("{actual:?}"), format!("{expected:?}"));
    Err(format!("{:.500} is not {:.500}", actual, expected))
}
