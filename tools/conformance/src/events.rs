//! The events, the same in every namespace.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use posthaste::{
    Ack, AckError, Acks, Answer, Args, Auth, Chain, ConnectError, Data, DisconnectReason, Event, EventError, Namespace,
    NamespaceError, Operator, RemoteSocket, Revision, SendError, Server, Socket, SocketId, Transport,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

/// Which sockets left last, the latest first.
#[derive(Clone, Default)]
struct Departures(Arc<Mutex<VecDeque<Departure>>>);

struct Departure {
    namespace: Box<str>,
    id: SocketId,
    reason: DisconnectReason,
}

/// Departures that are remembered: enough for whoever asks soon, and no leak in an app that leaks are looked for in.
const DEPARTURES: usize = 1_000;

/// The names of namespaces that are made when somebody asks for them.
const DYNAMIC: &str = "^/dyn-[0-9]+$";

/// What a socket remembers of its `count` events.
#[derive(Clone, Copy, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Counter {
    received: u64,
    out_of_order: u64,
    #[serde(skip)]
    next: u64,
}

/// What `bin-info` tells of an event's binary values.
#[derive(Serialize)]
struct BinaryInfo {
    count: usize,
    bytes: usize,
}

/// The checks of `/auth`, in order.
pub(crate) fn check(auth: &Namespace) {
    #[derive(Deserialize)]
    struct Credentials {
        #[serde(default)]
        token: Value,
        #[serde(default)]
        delay: u64,
        #[serde(default)]
        banned: Value,
    }
    auth.middleware(async |Auth(credentials): Auth<Credentials>| {
        tokio::time::sleep(Duration::from_millis(credentials.delay)).await;
        if credentials.token == "good" {
            return Ok(());
        }
        Err(ConnectError::new("not authorized").with_data(&json!({ "code": 401, "hint": "token" })))
    });
    auth.middleware(
        async |Auth(credentials): Auth<Credentials>| {
            if is_truthy(&credentials.banned) { Err(ConnectError::new("banned")) } else { Ok(()) }
        },
    );
}

/// The parent of the namespaces that are made when somebody asks for them.
pub(crate) fn dynamic(io: &Server) -> Result<Namespace, NamespaceError> {
    io.namespaces_matching(DYNAMIC)
}

/// Registers every event on a namespace.
pub(crate) fn serve(namespace: &Namespace) {
    namespace.on_connect(async |socket: Socket| {
        // As on the npm server, where a counter is a connection's.
        if socket.recovered() {
            socket.insert(Counter::default());
        }
    });
    let departures = Departures::default();
    let left = departures.clone();
    namespace.on_disconnect(move |socket: Socket, reason: DisconnectReason| {
        left.note(&socket, reason);
        async {}
    });
    namespace.on("last-disconnect", move |namespace: Namespace, Data(id): Data<String>| {
        let reason = departures.last(&namespace, &id);
        async move { Answer(reason.map(DisconnectReason::as_str)) }
    });
    namespace
        .on("echo", echo)
        .on("bin-info", async |Data(args): Data<Args<'static>>| {
            let bytes: usize = args.attachments().iter().map(Bytes::len).sum();
            Answer(BinaryInfo { count: args.attachments().len(), bytes })
        })
        .on("whoami", whoami)
        .on("set-data", async |socket: Socket, Data(new): Data<Map<String, Value>>| {
            let mut data: Map<String, Value> = socket.data()?;
            data.extend(new);
            socket.set_data(&data)?;
            Ok::<_, serde_json::Error>("ok")
        })
        .on("join", async |socket: Socket, Data(rooms): Data<OneOrMany>| {
            socket.join(rooms.into_vec());
            Answer(sorted_rooms(&socket).await)
        })
        .on("leave", async |socket: Socket, Data(rooms): Data<OneOrMany>| {
            socket.leave(rooms.into_vec());
            Answer(sorted_rooms(&socket).await)
        })
        .on("bcast", broadcast)
        .on("bcast-ack", broadcast_with_ack)
        .on("ask", ask)
        .on("util", utility)
        .on("kick", async |socket: Socket, Data(close): Data<Option<bool>>, _ack: Ack| {
            socket.disconnect(close.unwrap_or(false));
        })
        .on("burst", async |socket: Socket, Data((count, size)): Data<(u64, usize)>| {
            let text = "x".repeat(size);
            for i in 0..count {
                socket.emit("seq", &(i, &text)).await?;
            }
            socket.emit("seq-end", &count).await?;
            Ok::<_, SendError>("ok")
        })
        .on("volatile-burst", async |socket: Socket, Data((count, size)): Data<(u64, usize)>| {
            let text = "x".repeat(size);
            for i in 0..count {
                socket.volatile().emit("vseq", &(i, &text)).await?;
            }
            socket.emit("vseq-end", &count).await?;
            Ok::<_, SendError>("ok")
        })
        .on("count", async |socket: Socket, Data(i): Data<u64>| {
            let mut counter = socket.get::<Counter>().unwrap_or_default();
            counter.received += 1;
            counter.out_of_order += u64::from(i != counter.next);
            counter.next = i + 1;
            socket.insert(counter);
        })
        .on("count-report", async |socket: Socket| Answer(socket.get::<Counter>().unwrap_or_default()))
        .on("late-ack", async |Data(ms): Data<u64>| {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            Answer("late")
        })
        // An acknowledgement can be given once: the second is a compile error here.
        .on("double-ack", async || Answer("first"))
        .on("no-ack", async |_ack: Ack| {})
        .on("noop", async |_ack: Ack| {})
        .on("stats", async |namespace: Namespace| {
            let stats = namespace.stats().await;
            Answer(json!({ "engine": stats.connections, "sockets": stats.sockets, "rooms": stats.rooms }))
        })
        .on("parent-emit", emit_to_all_dynamic)
        .event_middleware(async |Event(name): Event| if name == "forbidden" { Err("event refused") } else { Ok(()) })
        // Takes the answer and gives none: on the npm server a client that asks for one waits in vain.
        .on_error(async |socket: Socket, error: EventError, _ack: Ack| {
            let _ = socket.emit("mw-error", &error.to_string()).await;
        })
        .fallback(async |socket: Socket, Event(name): Event, Data(args): Data<Args<'static>>, _ack: Ack| {
            let _ = socket.emit("unhandled", &Chain(name, args)).await;
        });
}

impl Departures {
    fn note(&self, socket: &Socket, reason: DisconnectReason) {
        let mut departures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        departures.truncate(DEPARTURES - 1);
        departures.push_front(Departure { namespace: socket.namespace().name().into(), id: socket.id(), reason });
    }

    fn last(&self, namespace: &Namespace, id: &str) -> Option<DisconnectReason> {
        let departures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_meant = |left: &&Departure| *left.namespace == *namespace.name() && id == left.id;
        departures.iter().find(is_meant).map(|left| left.reason)
    }
}

async fn echo(socket: Socket, Data(args): Data<Args<'static>>, ack: Ack) -> Result<(), SendError> {
    if ack.is_requested() { ack.send(&args).await } else { socket.emit("echo", &args).await }
}

/// Everything that a socket knows about itself.
#[derive(Serialize)]
struct Whoami {
    id: String,
    nsp: String,
    rooms: Vec<String>,
    recovered: bool,
    transport: Option<&'static str>,
    eio: u8,
    auth: Box<RawValue>,
    query: BTreeMap<String, String>,
    data: Box<RawValue>,
}

async fn whoami(socket: Socket) -> Result<Whoami, serde_json::Error> {
    let handshake = socket.handshake();
    Ok(Whoami {
        id: socket.client_id(),
        nsp: socket.namespace().name().to_owned(),
        rooms: sorted_rooms(&socket).await,
        recovered: socket.recovered(),
        transport: socket.transport().map(Transport::as_str),
        eio: if handshake.revision() == Revision::V3 { 3 } else { 4 },
        auth: RawValue::from_string(handshake.auth().to_owned())?,
        query: handshake.query().map(|(name, value)| (name.into_owned(), value.into_owned())).collect(),
        data: socket.data()?,
    })
}

async fn sorted_rooms(socket: &Socket) -> Vec<String> {
    let mut rooms: Vec<String> = socket.rooms().await.iter().map(ToString::to_string).collect();
    rooms.sort_unstable();
    rooms
}

/// What `bcast` and `bcast-ack` take: who is meant, the event and its arguments.
#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Options {
    via: Option<String>,
    to: Option<OneOrMany>,
    except: Option<OneOrMany>,
    volatile: bool,
    local: bool,
    timeout: u64,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(room) => vec![room],
            Self::Many(rooms) => rooms,
        }
    }
}

impl Options {
    fn operator(self, socket: &Socket) -> Operator {
        let mut operator = if self.via.as_deref() == Some("socket") {
            socket.broadcast()
        } else {
            socket.namespace().to(Vec::<String>::new())
        };
        operator = operator.to(self.to.map_or_else(Vec::new, OneOrMany::into_vec));
        operator = operator.except(self.except.map_or_else(Vec::new, OneOrMany::into_vec));
        if self.volatile {
            operator = operator.volatile();
        }
        if self.local {
            operator = operator.local();
        }
        operator.timeout(Duration::from_millis(self.timeout))
    }
}

/// The arguments inside a list that is itself an argument, binary included.
fn inner_args(list: Option<&RawValue>, outer: &Args<'_>) -> anyhow::Result<Args<'static>> {
    let list = list.map_or("[]", RawValue::get);
    Ok(Args::decode(list, outer.attachments().to_vec())?.into_owned())
}

type BroadcastArgs = (Options, String, Option<Box<RawValue>>);

async fn broadcast(
    socket: Socket,
    Data((options, event, list)): Data<BroadcastArgs>,
    Data(args): Data<Args<'static>>,
) -> anyhow::Result<&'static str> {
    options.operator(&socket).emit(&event, &inner_args(list.as_deref(), &args)?).await?;
    Ok("ok")
}

/// The first value of a client's answer, if it has any.
#[derive(Deserialize, Serialize)]
#[serde(untagged)]
enum OneAnswer {
    Json(Value),
    Binary(Bytes),
}

async fn broadcast_with_ack(
    socket: Socket,
    Data((options, event, list)): Data<BroadcastArgs>,
    Data(args): Data<Args<'static>>,
) -> anyhow::Result<(Option<&'static str>, Vec<Option<OneAnswer>>)> {
    let asked = options.operator(&socket).emit_with_ack(&event, &inner_args(list.as_deref(), &args)?);
    let Acks { answers, complete, .. } = asked.await?;
    Ok(((!complete).then_some("timeout"), answers))
}

async fn ask(
    socket: Socket,
    Data((event, timeout, list)): Data<(String, u64, Option<Box<RawValue>>)>,
    Data(args): Data<Args<'static>>,
    ack: Ack,
) -> anyhow::Result<()> {
    let question = inner_args(list.as_deref(), &args)?;
    let asked = socket.timeout(Duration::from_millis(timeout)).emit_with_ack::<Args<'static>>(&event, &question);
    match asked.await {
        Ok(answer) => ack.send(&Chain(Value::Null, answer)).await?,
        Err(AckError::Timeout) => ack.send("timeout").await?,
        Err(AckError::Disconnected) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

async fn emit_to_all_dynamic(
    io: Server,
    Data(event): Data<String>,
    Data(args): Data<Args<'static>>,
) -> anyhow::Result<&'static str> {
    dynamic(&io)?.emit(&event, &args.skip(1)).await?;
    Ok("ok")
}

/// What `util` takes besides the operation.
#[derive(Default, Deserialize)]
#[serde(default)]
struct UtilityOptions {
    r#in: Option<OneOrMany>,
    except: Option<OneOrMany>,
    rooms: Option<OneOrMany>,
    close: bool,
}

async fn utility(
    namespace: Namespace,
    Data((operation, options)): Data<(String, Option<UtilityOptions>)>,
) -> anyhow::Result<Value> {
    let options = options.unwrap_or_default();
    let operator = namespace
        .to(options.r#in.map_or_else(Vec::new, OneOrMany::into_vec))
        .except(options.except.map_or_else(Vec::new, OneOrMany::into_vec));
    let rooms = options.rooms.map_or_else(Vec::new, OneOrMany::into_vec);
    match operation.as_str() {
        "fetch" => {
            let sockets = operator.fetch_sockets().await?;
            return sockets.iter().map(describe).collect();
        }
        "join" => operator.sockets_join(rooms).await?,
        "leave" => operator.sockets_leave(rooms).await?,
        "disconnect" => operator.disconnect_sockets(options.close).await?,
        other => anyhow::bail!("no operation {other:?}"),
    }
    Ok("ok".into())
}

fn describe(socket: &RemoteSocket) -> anyhow::Result<Value> {
    let mut rooms: Vec<&str> = socket.rooms().iter().map(|room| &**room).collect();
    rooms.sort_unstable();
    Ok(json!({ "id": socket.id(), "rooms": rooms, "data": socket.data::<Value>()? }))
}

pub(crate) fn is_truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(value) => value.as_f64() != Some(0.0),
        Value::String(value) => !value.is_empty(),
        Value::Array(_) | Value::Object(_) => true,
    }
}
