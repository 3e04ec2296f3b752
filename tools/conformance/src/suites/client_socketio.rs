//! Socket.IO as the tests of the official client know it.
//!
//! Handlers take an [`Ack`] where the client must not be answered: some of its tests wait for an answer that never comes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use posthaste::{
    Ack, Answer, Args, ConnectError, Data, Listener, Namespace, Recovery, SendError, Server, Socket, Workers,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::events::is_truthy;
use crate::suites::date;

const BINARY: Bytes = Bytes::from_static(b"asdfasdf");
const TEXTS: [&str; 5] = ["てすと", "Я Б Г Д Ж Й", "Ä ä Ü ü ß", "utf8 — string", "utf8 — string"];

pub(super) fn listen(workers: &Workers, addr: SocketAddr) -> anyhow::Result<Listener> {
    let io = Server::builder()
        .ping(Duration::from_secs(2), Duration::from_secs(20))
        .serve_client(false)
        .recovery(Recovery::default())
        // Clients with a timeout of nothing must not be answered before it.
        .allow_request(async |_request| {
            tokio::time::sleep(Duration::from_millis(10)).await;
            Ok::<_, &str>(())
        })
        .shared_workers(workers)
        .build()?;
    for open_to_all in ["/timeout_socket", "/valid", "/asd"] {
        io.namespace(open_to_all);
    }
    io.namespace("/foo").on("getId", async |socket: Socket| Answer(socket.id().to_string()));
    io.namespace("/abc").on_connect(async |socket: Socket| socket.emit("handshake", &handshake(&socket)).await);
    io.namespace("/no").middleware(async || Err::<(), _>(ConnectError::new("Auth failed (custom namespace)")));
    io.middleware(async |socket: Socket| {
        if socket.handshake().query_param("fail").is_some_and(|fail| !fail.is_empty()) {
            return Err(ConnectError::new("Auth failed (main namespace)"));
        }
        Ok(())
    });
    let main = io.namespace("/");
    answer_questions(&main);
    send_what_is_asked_for(&main);
    check_what_is_received(&main);
    Ok(io.listen(addr)?)
}

fn answer_questions(main: &Namespace) {
    main.on("echo", async |Data(args): Data<Args<'static>>, ack: Ack| ack.send(&args).await)
        .on("getAckDate", async || Answer(date::now()))
        .on("getHandshake", async |socket: Socket| Answer(handshake(&socket)))
        .on("getId", async |socket: Socket| Answer(socket.id().to_string()));
}

fn send_what_is_asked_for(main: &Namespace) {
    main.on("hi", async |socket: Socket, _ack: Ack| socket.emit("hi", &()).await)
        .on("ack", async |socket: Socket, _ack: Ack| {
            #[derive(Deserialize)]
            struct Second {
                #[serde(default)]
                test: Value,
            }
            // Whoever stays silent is not asked again.
            if let Ok((5, Second { test })) = socket.emit_with_ack::<(u32, Second)>("ack", &()).await
                && is_truthy(&test)
            {
                socket.emit("got it", &()).await?;
            }
            Ok::<_, SendError>(())
        })
        .on("getDate", async |socket: Socket, _ack: Ack| socket.emit("takeDate", &date::now()).await)
        .on("getDateObj", async |socket: Socket, _ack: Ack| {
            socket.emit("takeDateObj", &json!({ "date": date::now() })).await
        })
        .on("getUtf8", async |socket: Socket, _ack: Ack| {
            for text in TEXTS {
                socket.emit("takeUtf8", text).await?;
            }
            Ok::<_, SendError>(())
        })
        .on("false", async |socket: Socket, _ack: Ack| socket.emit("false", &false).await)
        .on("doge", async |socket: Socket, _ack: Ack| socket.emit("doge", &BINARY).await)
        .on("getbin", async |socket: Socket, _ack: Ack| socket.emit("takebin", &BINARY).await);
}

/// An event with the wrong arguments reaches no handler, and so the client waits in vain.
fn check_what_is_received(main: &Namespace) {
    main.on("buffa", async |socket: Socket, _: Data<Bytes>, _ack: Ack| socket.emit("buffack", &()).await)
        .on("blob", async |socket: Socket, _: Data<Bytes>, _ack: Ack| socket.emit("back", &()).await)
        .on("jsonbuff", async |socket: Socket, Data(mixed): Data<Mixed>, _ack: Ack| {
            mixed.report(&socket, "jsonbuff-ack").await
        })
        .on("jsonblob", async |socket: Socket, Data(mixed): Data<Mixed>, _ack: Ack| {
            mixed.report(&socket, "jsonblob-ack").await
        })
        .on("abuff1", async |socket: Socket, _: Data<Bytes>, _ack: Ack| socket.received("abuff1"))
        .on("abuff2", async |socket: Socket, _ack: Ack| socket.report_after(&["abuff1"], "abuff2-ack").await)
        .on("blob1", async |socket: Socket, _: Data<Bytes>, _ack: Ack| socket.received("blob1"))
        .on("blob2", async |socket: Socket, Data(text): Data<String>, _ack: Ack| {
            if text == "second" && socket.has_received(&["blob1"]) {
                socket.received("blob2");
            }
        })
        .on("blob3", async |socket: Socket, _: Data<Bytes>, _ack: Ack| {
            socket.report_after(&["blob1", "blob2"], "blob3-ack").await
        });
}

#[derive(Deserialize)]
struct Mixed {
    hello: String,
    #[serde(rename = "message")]
    _message: Bytes,
    goodbye: String,
}

impl Mixed {
    async fn report(self, socket: &Socket, event: &str) -> Result<(), SendError> {
        if self.hello == "lol" && self.goodbye == "gotcha" {
            socket.emit(event, &()).await?;
        }
        Ok(())
    }
}

/// The events that must come in order and have come, kept with the socket.
#[derive(Clone, Default)]
struct Received(Vec<&'static str>);

trait InOrder {
    fn received(&self, event: &'static str);
    fn has_received(&self, events: &[&str]) -> bool;
    async fn report_after(&self, events: &[&str], report: &str) -> Result<(), SendError>;
}

impl InOrder for Socket {
    fn received(&self, event: &'static str) {
        let mut received = self.get::<Received>().unwrap_or_default();
        received.0.push(event);
        self.insert(received);
    }

    fn has_received(&self, events: &[&str]) -> bool {
        self.get::<Received>().unwrap_or_default().0 == events
    }

    async fn report_after(&self, events: &[&str], report: &str) -> Result<(), SendError> {
        if self.has_received(events) { self.emit(report, &()).await } else { Ok(()) }
    }
}

/// The official server's handshake object.
#[derive(Serialize)]
struct Handshake {
    headers: BTreeMap<String, String>,
    time: String,
    address: Option<String>,
    xdomain: bool,
    secure: bool,
    issued: u128,
    url: String,
    query: BTreeMap<String, String>,
    auth: Box<RawValue>,
}

fn handshake(socket: &Socket) -> Handshake {
    let handshake = socket.handshake();
    let since = handshake.issued().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    Handshake {
        headers: handshake.headers().map(|(name, value)| (name.to_owned(), text(value))).collect(),
        time: date::text(since),
        address: handshake.address().map(|address| address.ip().to_string()),
        xdomain: handshake.is_cross_domain(),
        secure: handshake.is_secure(),
        issued: since.as_millis(),
        url: handshake.url().to_owned(),
        query: handshake.query().map(|(name, value)| (name.into_owned(), value.into_owned())).collect(),
        auth: RawValue::from_string(handshake.auth().to_owned()).expect("invariant: it was checked when it came"),
    }
}
