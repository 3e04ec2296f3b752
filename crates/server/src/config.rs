//! Settings of a server.

use std::any::{Any, TypeId};
use std::borrow::Cow;
use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use http::request::Parts;
use posthaste_adapter::{Adapter, MemoryAdapter};
use posthaste_engine::{
    Cookie, Cors, Deflate, EngineConfig, EngineRequest, HttpCompression, Origins, OutboxLimits, Rate, Stop,
    TransportSet, Workers,
};
use posthaste_socket_proto::ConnectionLimits;

use crate::durable::Durable;
use crate::error::BuildError;
use crate::limits::Excess;
use crate::once::Idempotency;
use crate::parser::Parser;
use crate::queues::WorkQueues;
use crate::recovery::Recovery;
use crate::server::Server;

/// Makes the adapter of a namespace.
pub(crate) type MakeAdapter = Box<dyn Fn(&str) -> Arc<dyn Adapter> + Send + Sync>;
pub(crate) type States = HashMap<TypeId, Box<dyn Any + Send + Sync>>;

/// The settings above the transport. Defaults are Socket.IO's where it has one.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServerConfig {
    /// How long a client may take to join a namespace; 45 s by default.
    pub connect_timeout: Duration,
    /// How long an answer may take when the question names no timeout; 10 s by default (Socket.IO waits for ever).
    pub ack_timeout: Duration,
    /// How many answers one socket may owe; 4,096 by default (Socket.IO has no bound).
    pub max_pending_acks: usize,
    /// How many bytes of answers to one broadcast are kept at a time; 16 MiB by default (Socket.IO has no bound).
    pub max_ack_bytes: usize,
    /// Bounds of packets and namespaces of one client.
    pub limits: ConnectionLimits,
    /// How many rooms one socket may be in, that of its own id left out; 16,384 by default (Socket.IO has no bound).
    pub max_rooms: usize,
    /// How many events one client may send; unlimited by default, as in Socket.IO.
    pub event_rate: Option<Rate>,
    /// How many namespaces and rooms one client may join; unlimited by default, as in Socket.IO.
    pub join_rate: Option<Rate>,
    /// What a client gets that passes a rate; its excess is refused by default.
    pub excess: Excess,
    /// Whether the browser client is served under the path; true by default.
    pub serve_client: bool,
    /// How many namespaces clients may have made in all; 100,000 by default (Socket.IO has no bound).
    pub max_dynamic_namespaces: usize,
    /// How many namespaces one connection may have made; 256 by default (Socket.IO has no bound).
    pub max_created_namespaces: u32,
    /// Whether a namespace made for a client is forgotten when nobody is in it any more; false by default.
    pub cleanup_empty_namespaces: bool,
    /// How clients that lose their connection are recovered; not at all by default.
    pub recovery: Option<Recovery>,
    /// What outlives the process; nothing by default.
    pub durable: Option<Durable>,
    /// Work queues; none by default.
    pub queues: Option<WorkQueues>,
    /// Whether clients' events with a key are handled once; not by default.
    pub idempotency: Option<Idempotency>,
    /// How clients write packets; JSON by default.
    pub parser: Parser,
    /// Whether there may be clients of Socket.IO 1 and 2: the engine's setting.
    pub(crate) allows_eio3: bool,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(45),
            ack_timeout: Duration::from_secs(10),
            max_pending_acks: 4096,
            max_ack_bytes: 16 << 20,
            limits: ConnectionLimits::default(),
            max_rooms: 16_384,
            event_rate: None,
            join_rate: None,
            excess: Excess::default(),
            serve_client: true,
            max_dynamic_namespaces: 100_000,
            max_created_namespaces: 256,
            cleanup_empty_namespaces: false,
            recovery: None,
            durable: None,
            queues: None,
            idempotency: None,
            parser: Parser::Json,
            allows_eio3: false,
        }
    }
}

impl ServerConfig {
    /// Whether there may be clients that speak another dialect than the usual one.
    pub(crate) fn is_multilingual(&self) -> bool {
        // Revision 3 is another dialect where events have offsets, which its clients are not sent.
        self.parser != Parser::Json || self.allows_eio3 && self.recovery.is_some()
    }
}

/// Builds a [`Server`].
///
/// ```
/// use posthaste::{Cors, Server};
/// use std::time::Duration;
///
/// let io = Server::builder()
///     .path("/live")
///     .ping(Duration::from_secs(10), Duration::from_secs(5))
///     .cors(Cors::origin("https://app.example")?)
///     .state(String::from("shared with every handler"))
///     .build()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a builder does nothing until `build`"]
pub struct Builder {
    pub(crate) engine: EngineConfig,
    pub(crate) config: ServerConfig,
    pub(crate) adapter: MakeAdapter,
    pub(crate) states: States,
    pub(crate) workers: WorkerChoice,
}

pub(crate) enum WorkerChoice {
    PerCore,
    Count(usize),
    Shared(Workers),
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            engine: EngineConfig::default(),
            config: ServerConfig::default(),
            adapter: Box::new(|_| Arc::new(MemoryAdapter::new())),
            states: States::new(),
            workers: WorkerChoice::PerCore,
        }
    }
}

impl Builder {
    /// Where the server answers; `/socket.io` by default.
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.engine.path = path.into();
        self
    }

    /// Whether requests must have a slash behind the path; true by default.
    pub fn add_trailing_slash(mut self, slash: bool) -> Self {
        self.engine.add_trailing_slash = slash;
        self
    }

    /// Time between two pings, and how long a pong may take; 25 s and 20 s by default. Shorter finds dead clients sooner and
    /// costs a packet per socket.
    pub fn ping(mut self, interval: Duration, timeout: Duration) -> Self {
        self.engine.settings.ping_interval = interval;
        self.engine.settings.ping_timeout = timeout;
        self
    }

    /// How long an upgrade to a WebSocket may take; 10 s by default.
    pub fn upgrade_timeout(mut self, timeout: Duration) -> Self {
        self.engine.settings.upgrade_timeout = timeout;
        self
    }

    /// How long a client may take to join a namespace; 45 s by default.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.config.connect_timeout = timeout;
        self
    }

    /// How long an answer may take when the question names no timeout; 10 s by default.
    pub fn ack_timeout(mut self, timeout: Duration) -> Self {
        self.config.ack_timeout = timeout;
        self
    }

    /// How many answers one socket may owe; 4,096 by default.
    pub fn max_pending_acks(mut self, count: usize) -> Self {
        self.config.max_pending_acks = count;
        self
    }

    /// How many bytes of answers to one broadcast are kept at a time; 16 MiB by default. What is past it counts as not answered.
    pub fn max_ack_bytes(mut self, bytes: usize) -> Self {
        self.config.max_ack_bytes = bytes;
        self
    }

    /// The largest polling body or WebSocket message taken from a client, in bytes; 1,000,000 by default (Socket.IO's
    /// `maxHttpBufferSize`).
    pub fn max_payload(mut self, bytes: usize) -> Self {
        self.engine.max_payload = bytes;
        self.config.limits.decode.max_attachment_bytes = bytes;
        self
    }

    /// The most binary values in one packet; 10 by default.
    pub fn max_attachments(mut self, count: usize) -> Self {
        self.config.limits.decode.max_attachments = count;
        self
    }

    /// The most namespaces one client may be in; 64 by default (Socket.IO has no bound).
    pub fn max_namespaces(mut self, count: usize) -> Self {
        self.config.limits.max_namespaces = count;
        self
    }

    /// What may wait for one client; 8 MiB and 65,536 packets by default. A client past it is disconnected as `slow`.
    pub fn outbox(mut self, limits: OutboxLimits) -> Self {
        self.engine.outbox = limits;
        self
    }

    /// How many handlers of one connection may be unfinished before it is not read any more; 256 by default.
    pub fn max_handlers(mut self, count: usize) -> Self {
        self.engine.max_handlers = count;
        self
    }

    /// The transports on offer; polling and WebSocket by default.
    pub fn transports(mut self, transports: TransportSet) -> Self {
        self.engine.transports = transports;
        self
    }

    /// Whether polling clients may upgrade; true by default.
    pub fn allow_upgrades(mut self, allow: bool) -> Self {
        self.engine.allow_upgrades = allow;
        self
    }

    /// Whether clients of Socket.IO 1 and 2 (Engine.IO 3) are served as well; false by default, and they are refused with code 5.
    ///
    /// They speak through the same checks as everybody: engine middlewares, [`Builder::allow_request`], [`Builder::origins`] and the
    /// middlewares of namespaces, which find the query of a namespace's name (`io("/chat?token=…")`) in
    /// [`Handshake::auth`](crate::Handshake::auth). Two things are particular to them. Their public id is the secret of their
    /// connection, as in Socket.IO: who is told the [`id`](crate::Socket::id) of such a client can speak in its name until it is on a
    /// WebSocket. And pages may poll by `<script>` (JSONP), which CORS does not stop: with [`Builder::origins`] those of foreign pages
    /// are refused. They are not [recovered](Builder::recovery), and sent no offsets.
    pub fn allow_eio3(mut self, allow: bool) -> Self {
        self.engine.allow_eio3 = allow;
        self.config.allows_eio3 = allow;
        self
    }

    /// Has WebSockets whose clients offer it agree on compressed messages (permessage-deflate); off by default, as in Socket.IO. See
    /// [`Deflate`] for what it costs. Messages of fewer than [`Deflate::threshold`] bytes, and what is sent with `compress(false)`,
    /// leave as they are.
    ///
    /// ```
    /// # use posthaste::{Deflate, Server};
    /// let io = Server::builder().per_message_deflate(Deflate::default()).build()?;
    /// # Ok::<(), posthaste::BuildError>(())
    /// ```
    pub fn per_message_deflate(mut self, deflate: Deflate) -> Self {
        self.engine.per_message_deflate = Some(deflate);
        self
    }

    /// How answers of long-polling are compressed for clients that ask for it, or `None` for not at all; from 1,024 bytes by default,
    /// as in Socket.IO. An answer that holds nothing but what was sent with `compress(false)` leaves as it is.
    pub fn http_compression(mut self, compression: Option<HttpCompression>) -> Self {
        self.engine.http_compression = compression;
        self
    }

    /// What browsers on other origins are told; nothing by default, and they refuse the answers.
    pub fn cors(mut self, cors: Cors) -> Self {
        self.engine.cors = Some(cors);
        self
    }

    /// The origins that are served, on polling and WebSocket alike; all by default, as in Socket.IO. A server that knows its
    /// visitors by cookies should name its own: [`Cors`] does not keep a page of another site from opening a WebSocket.
    pub fn origins(mut self, origins: Origins) -> Self {
        self.engine.origins = Some(origins);
        self
    }

    /// A cookie with the session id, set by polling handshakes; none by default. For load balancers that go by it.
    pub fn cookie(mut self, cookie: Cookie) -> Self {
        self.engine.cookie = Some(cookie);
        self
    }

    /// Asks `allow` before a connection is opened, on every transport; `Err` refuses with its text. The last one set is asked.
    /// See [`Hooks::allow_request`](posthaste_engine::Hooks::allow_request).
    ///
    /// ```
    /// # use posthaste::{EngineRequest, Server};
    /// async fn has_key(request: EngineRequest) -> Result<(), &'static str> {
    ///     if request.headers.contains_key("x-key") { Ok(()) } else { Err("no key") }
    /// }
    /// let io = Server::builder().allow_request(has_key).build()?;
    /// # Ok::<(), posthaste::BuildError>(())
    /// ```
    pub fn allow_request<F, Fut, E>(mut self, allow: F) -> Self
    where
        F: Fn(EngineRequest) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Cow<'static, str>>,
    {
        self.engine.hooks.allow_request(allow);
        self
    }

    /// Sends every request and upgrade under the path through `middleware` first (`io.engine.use` in Socket.IO); see
    /// [`Hooks::middleware`](posthaste_engine::Hooks::middleware), and there when a tower layer is the better choice. What it keeps
    /// of a request, handlers find with [`Handshake::kept`](crate::Handshake::kept).
    ///
    /// ```
    /// # use posthaste::{EngineRequest, Server, Socket, Stop};
    /// #[derive(Clone)]
    /// struct User(String);
    ///
    /// async fn who(mut request: EngineRequest) -> Result<EngineRequest, Stop> {
    ///     let user = request.headers.get("x-user").and_then(|user| user.to_str().ok()).map(str::to_owned);
    ///     request.keep(User(user.ok_or("nobody")?));
    ///     Ok(request)
    /// }
    /// let io = Server::builder().engine_middleware(who).build()?;
    /// io.on_connect(async |socket: Socket| {
    ///     let User(name) = socket.handshake().kept().expect("the middleware lets nobody in without a name");
    ///     println!("{name} came");
    /// });
    /// # Ok::<(), posthaste::BuildError>(())
    /// ```
    pub fn engine_middleware<F, Fut, E>(mut self, middleware: F) -> Self
    where
        F: Fn(EngineRequest) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<EngineRequest, E>> + Send + 'static,
        E: Into<Stop>,
    {
        self.engine.hooks.middleware(middleware);
        self
    }

    /// Has `add` write headers for the answer that opens a connection: a polling handshake's, or a WebSocket's 101.
    pub fn initial_headers(mut self, add: impl Fn(&mut HeaderMap, &Parts) + Send + Sync + 'static) -> Self {
        self.engine.hooks.initial_headers(add);
        self
    }

    /// Has `add` write headers for every answer of a connection: to polling's GET and POST, and every WebSocket's 101.
    pub fn headers(mut self, add: impl Fn(&mut HeaderMap, &Parts) + Send + Sync + 'static) -> Self {
        self.engine.hooks.headers(add);
        self
    }

    /// Whether the browser client is served under the path (`/socket.io/socket.io.js`); true by default.
    pub fn serve_client(mut self, serve: bool) -> Self {
        self.config.serve_client = serve;
        self
    }

    /// Has clients that lose their connection recovered when they come back in time (Socket.IO's `connectionStateRecovery`): they
    /// keep their id, rooms and values and hear what they missed. Off by default.
    ///
    /// Every event that is sent without asking for an answer then has one more argument at its end, which official clients note
    /// and give to their handlers as well.
    pub fn recovery(mut self, recovery: Recovery) -> Self {
        self.config.recovery = Some(recovery);
        self
    }

    /// Keeps durable events, and the sessions of clients, in a store that outlives the process if it is one on a disk: clients are
    /// recovered after a restart, and a crash, and after a day. Turns [`Builder::recovery`] on, if it is not.
    ///
    /// What is durable: rooms that were declared so ([`Server::durable_rooms`](crate::Server::durable_rooms)), and what is emitted with
    /// [`Operator::durable`](crate::Operator::durable). Middlewares are then asked about every client that comes back, and who it is
    /// ([`Socket::identify`](crate::Socket::identify)) has to be the same.
    pub fn durable(mut self, durable: Durable) -> Self {
        self.config.durable = Some(durable);
        self.config.recovery.get_or_insert_default();
        self
    }

    /// Handles an event once that a client sends several times under one key, and answers it each time: for clients that repeat what was not
    /// answered, as the official one does with `retries`. Off by default.
    ///
    /// The key is the last argument, an object with nothing else: `socket.emit("order", data, { $key: crypto.randomUUID() }, done)`. Handlers do
    /// not see it. Only events that ask for an answer have one.
    pub fn idempotency(mut self, idempotency: Idempotency) -> Self {
        self.config.idempotency = Some(idempotency);
        self
    }

    /// Who connects this node with others: called once for each namespace. By default nobody. `make` may use the server, but
    /// nothing can be sent to a namespace before its adapter is there: that panics.
    pub fn adapter(mut self, make: impl Fn(&str) -> Arc<dyn Adapter> + Send + Sync + 'static) -> Self {
        self.adapter = Box::new(make);
        self
    }

    /// Something for every handler that asks for a [`State`](crate::State) of this type. One value per type; the last wins.
    pub fn state<T: Clone + Send + Sync + 'static>(mut self, state: T) -> Self {
        self.states.insert(TypeId::of::<T>(), Box::new(state));
        self
    }

    /// How many I/O workers to start; one per core by default.
    pub fn workers(mut self, count: usize) -> Self {
        self.workers = WorkerChoice::Count(count);
        self
    }

    /// Runs on workers that other servers of this process share.
    pub fn shared_workers(mut self, workers: &Workers) -> Self {
        self.workers = WorkerChoice::Shared(workers.clone());
        self
    }

    /// How many namespaces there may be that were made because a parent matched their names; 100,000 by default (Socket.IO has
    /// no bound). Past it clients are refused, and their connections stay.
    pub fn max_dynamic_namespaces(mut self, count: usize) -> Self {
        self.config.max_dynamic_namespaces = count;
        self
    }

    /// How many namespaces one connection may have made by asking for them, over its life; 256 by default (Socket.IO has no
    /// bound). Past it, it may join those that are there.
    pub fn max_created_namespaces(mut self, count: u32) -> Self {
        self.config.max_created_namespaces = count;
        self
    }

    /// Whether a namespace that was made because a parent matched its name is forgotten when its last socket on this node has
    /// left and nothing else refers to it (Socket.IO's `cleanupEmptyChildNamespaces`); false by default. One that the
    /// application registered handlers on by itself, outside of [`Server::on_new_namespace`], stays.
    pub fn cleanup_empty_namespaces(mut self, cleanup: bool) -> Self {
        self.config.cleanup_empty_namespaces = cleanup;
        self
    }

    /// Starts the workers and makes the server. It answers once it is mounted or listens.
    ///
    /// # Errors
    /// [`BuildError`] when a setting cannot be, or the workers cannot be started.
    pub fn build(self) -> Result<Server, BuildError> {
        Server::build(self)
    }
}
