//! The events, the same in every namespace.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use posthaste::{
    Ack, AckError, Acks, Answer, Args, Auth, ConnectError, Data, DisconnectReason, Event, Namespace, Operator,
    SendError, Socket, Transport,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

/// Why each socket last left, by its id.
type Departures = Arc<Mutex<HashMap<String, DisconnectReason>>>;

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

/// The socket's own data, as `set-data` leaves it.
#[derive(Clone, Default)]
struct SocketData(Map<String, Value>);

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

/// Registers every event on a namespace.
pub(crate) fn serve(namespace: &Namespace) {
    let departures = Departures::default();
    let left = departures.clone();
    namespace.on_disconnect(move |socket: Socket, reason: DisconnectReason| {
        left.lock().unwrap_or_else(PoisonError::into_inner).insert(socket.id().to_string(), reason);
        async {}
    });
    namespace.on("last-disconnect", move |Data(id): Data<String>| {
        let reason = departures.lock().unwrap_or_else(PoisonError::into_inner).get(&id).copied();
        async move { Answer(reason.map(DisconnectReason::as_str)) }
    });
    namespace
        .on("echo", echo)
        .on("bin-info", async |Data(args): Data<Args<'static>>| {
            let bytes: usize = args.attachments().iter().map(Bytes::len).sum();
            Answer(BinaryInfo { count: args.attachments().len(), bytes })
        })
        .on("whoami", async |socket: Socket| Answer(whoami(&socket).await))
        .on("set-data", async |socket: Socket, Data(new): Data<Map<String, Value>>| {
            let mut data = socket.get::<SocketData>().unwrap_or_default();
            data.0.extend(new);
            socket.insert(data);
            Answer("ok")
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
        .on("forbidden", async |socket: Socket, _ack: Ack| {
            let _ = socket.emit("mw-error", "event refused").await;
        })
        .fallback(async |socket: Socket, Event(name): Event, Data(args): Data<Args<'static>>, _ack: Ack| {
            let _ = socket.emit("unhandled", &posthaste::Chain(name, args)).await;
        });
}

async fn echo(socket: Socket, Data(args): Data<Args<'static>>, ack: Ack) -> Result<(), SendError> {
    if ack.is_requested() { ack.send(&args).await } else { socket.emit("echo", &args).await }
}

async fn whoami(socket: &Socket) -> Value {
    let handshake = socket.handshake();
    let query: BTreeMap<_, _> = handshake.query().collect();
    let auth: Value = serde_json::from_str(handshake.auth()).unwrap_or_default();
    json!({
        "id": socket.id().to_string(),
        "nsp": socket.namespace().name(),
        "rooms": sorted_rooms(socket).await,
        "recovered": false,
        "transport": socket.transport().map(Transport::as_str),
        "eio": 4,
        "auth": auth,
        "query": query,
        "data": socket.get::<SocketData>().unwrap_or_default().0,
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

/// The first value of a client's answer.
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
) -> anyhow::Result<(Option<&'static str>, Vec<OneAnswer>)> {
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
        Ok(answer) => ack.send(&posthaste::Chain(Value::Null, answer)).await?,
        Err(AckError::Timeout) => ack.send("timeout").await?,
        Err(AckError::Disconnected) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(())
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
    Data((operation, options)): Data<(String, UtilityOptions)>,
) -> anyhow::Result<&'static str> {
    let operator = namespace
        .to(options.r#in.map_or_else(Vec::new, OneOrMany::into_vec))
        .except(options.except.map_or_else(Vec::new, OneOrMany::into_vec));
    let rooms = options.rooms.map_or_else(Vec::new, OneOrMany::into_vec);
    match operation.as_str() {
        "join" => operator.sockets_join(rooms).await?,
        "leave" => operator.sockets_leave(rooms).await?,
        "disconnect" => operator.disconnect_sockets(options.close).await?,
        other => anyhow::bail!("no operation {other:?}"),
    }
    Ok("ok")
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
