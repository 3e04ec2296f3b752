//! The whole.

use std::any::TypeId;
use std::collections::HashSet;
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::{Request, Response};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use posthaste_engine::{ConnectionError, Engine, EngineLayer, ListenError, Listener, Rate, Workers};
use posthaste_history::Budget;
use tower_service::Service;

use crate::config::{Builder, ServerConfig, States, WorkerChoice};
use crate::durable::{DurableError, offset_key};
use crate::error::BuildError;
use crate::local::{self, App};
use crate::namespace::{self, Bounds, IntoAllowed, Matcher, Namespace, NamespaceError, NamespaceRequest, Registry};
use crate::recovery::{Journals, random};
use crate::stats::Stats;

/// A Socket.IO server. Cloning shares it; it ends with [`Server::close`], or when the last clone is dropped.
///
/// What it has of its own (`on`, `emit`, `to`, …) is that of the main namespace, `/`.
///
/// A handler that captures a clone keeps the server alive for ever; let it take `Server` as an extractor instead.
#[derive(Clone)]
pub struct Server(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) config: ServerConfig,
    pub(crate) workers: Workers,
    /// Whether the workers are this server's alone.
    owns_workers: bool,
    engine: OnceLock<Engine>,
    pub(crate) registry: Arc<Registry>,
    states: States,
}

impl Server {
    /// A server with default settings: [`Server::builder`] has them all.
    ///
    /// # Errors
    /// As [`Builder::build`].
    pub fn new() -> Result<Self, BuildError> {
        Self::builder().build()
    }

    /// Settings for a new server.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn build(builder: Builder) -> Result<Self, BuildError> {
        let Builder { engine, config, adapter, states, workers } = builder;
        for (what, rate) in [("event_rate", config.event_rate), ("join_rate", config.join_rate)] {
            if rate.is_some_and(Rate::is_zero) {
                return Err(BuildError::Zero { what });
            }
        }
        let (workers, owns_workers) = match workers {
            WorkerChoice::PerCore => (Workers::start_default().map_err(BuildError::Workers)?, true),
            WorkerChoice::Count(count) => (Workers::start(count).map_err(BuildError::Workers)?, true),
            WorkerChoice::Shared(workers) => (workers, false),
        };
        let serve_client = config.serve_client;
        let journals = config.recovery.map(|recovery| {
            let silence = engine.settings.ping_interval.saturating_add(engine.settings.ping_timeout);
            // The other half is for what happens meanwhile.
            let budget = Budget { max_bytes: engine.outbox.bytes / 2, max_events: engine.outbox.packets / 2 };
            let durable = config.durable.clone();
            let keyed = durable.map(|durable| Ok((offset_key(&*durable.store, random())?, durable)));
            let keyed: Option<Result<_, DurableError>> = keyed;
            let durable = keyed.transpose()?.map(|(key, durable)| (durable, key));
            Ok::<_, BuildError>(Journals::new(recovery, silence, budget, durable))
        });
        let journals = journals.transpose()?;
        let (idempotency, outbox) = (config.idempotency, engine.outbox);
        let bounds = Bounds { max_dynamic: config.max_dynamic_namespaces, cleanup: config.cleanup_empty_namespaces };
        let server = Self(Arc::new_cyclic(|server| Inner {
            config,
            workers: workers.clone(),
            owns_workers,
            engine: OnceLock::new(),
            registry: Arc::new(Registry::new(server.clone(), adapter, bounds, journals, idempotency)),
            states,
        }));
        server.0.registry.open("/");
        if server.0.config.durable.is_some() {
            // Of a later namespace that is in the log, and an error of whoever sends there.
            server.main().0.keeper()?;
        }
        if let Some(queues) = &server.0.config.queues {
            queues.open(&server, outbox)?;
        }
        let app = Arc::new(App(Arc::downgrade(&server.0)));
        let mut engine = Engine::new(app, engine, workers)?;
        if serve_client {
            engine = engine.with_files(crate::bundle::respond);
        }
        let first = server.0.engine.set(engine);
        debug_assert!(first.is_ok(), "invariant: an engine is made once");
        Ok(server)
    }

    pub(crate) fn engine(&self) -> &Engine {
        self.0.engine()
    }

    pub(crate) fn main(&self) -> Namespace {
        self.0.registry.main()
    }

    pub(crate) fn state<T: Clone + 'static>(&self) -> Option<T> {
        self.0.states.get(&TypeId::of::<T>())?.downcast_ref::<T>().cloned()
    }

    /// The namespace of that name, made if it is not there; a leading slash is added if there is none. A name that a parent's
    /// pattern or regular expression matches is made as a child of that parent.
    ///
    /// A name that no client can ask for is reported in the log, and nobody will come; [`Server::try_namespace`] is for names
    /// that are not written in the program.
    pub fn namespace(&self, name: &str) -> Namespace {
        match namespace::checked(name, self.0.config.limits.max_namespace_bytes) {
            Ok(name) => self.0.registry.open(&name),
            Err(error) => {
                tracing::error!(%error, "nobody will come to this namespace");
                self.0.registry.unreachable(name)
            }
        }
    }

    /// As [`Server::namespace`], for a name that may be one that no client can ask for.
    ///
    /// # Errors
    /// [`NamespaceError::Character`] for a comma or a question mark, [`NamespaceError::TooLong`] for one longer than clients may
    /// ask for.
    pub fn try_namespace(&self, name: &str) -> Result<Namespace, NamespaceError> {
        let name = namespace::checked(name, self.0.config.limits.max_namespace_bytes)?;
        Ok(self.0.registry.open(&name))
    }

    /// The namespace of that name, if it is there.
    #[must_use]
    pub fn find_namespace(&self, name: &str) -> Option<Namespace> {
        self.0.registry.find(name)
    }

    /// A parent for all names that `pattern` matches: `"/orders/{id}"`. Clients that ask for one of them have it made.
    ///
    /// An open part, `{id}`, takes the characters up to the next slash (at least one), `{*rest}` all that follow; handlers take
    /// what they matched as [`Params`](crate::Params). Each namespace made begins with the handlers and middlewares that the parent has at that time. When
    /// a client asks for a name that is not there, parents are tried in the order in which they were registered; the same pattern
    /// again is the same parent.
    ///
    /// What is sent to the parent goes to the sockets of all its namespaces. How many there may be:
    /// [`Builder::max_dynamic_namespaces`], and [`Builder::max_created_namespaces`] for one client.
    ///
    /// # Errors
    /// [`NamespaceError::Pattern`] when it does not parse; [`NamespaceError::Character`] when no client could ask for a name that
    /// it matches.
    ///
    /// ```
    /// # use posthaste::{Params, Server, Socket};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let io = Server::builder().workers(1).build()?;
    /// let orders = io.namespaces("/orders/{id}")?;
    /// orders.on_connect(async |socket: Socket, Params(id): Params<u64>| println!("{} follows order {id}", socket.id()));
    /// orders.emit("closing time", &()).now()?;
    /// # Ok(()) }
    /// ```
    pub fn namespaces(&self, pattern: &str) -> Result<Namespace, NamespaceError> {
        let (pattern, matcher) = Matcher::pattern(pattern)?;
        Ok(self.0.registry.parent(&pattern, matcher))
    }

    /// A parent for all names that a regular expression finds a match in (the `regex` crate: linear time, and unanchored unless
    /// it says `^` and `$`). Groups are [`Params`](crate::Params), by name or number. As [`Server::namespaces`] otherwise.
    ///
    /// # Errors
    /// [`NamespaceError::Regex`] when it does not parse.
    pub fn namespaces_matching(&self, regex: &str) -> Result<Namespace, NamespaceError> {
        Ok(self.0.registry.parent(regex, Matcher::regex(regex)?))
    }

    /// A parent for all names that the application allows when it is asked: `true` makes the namespace, `false` leaves the name
    /// to the parents behind this one, and an error refuses the client. As [`Server::namespaces`] otherwise.
    ///
    /// It is asked for names that are not there, so it is no guard: the next client finds the namespace made. Who may join is for
    /// [`Namespace::middleware`] to say.
    ///
    /// ```
    /// # use posthaste::{ConnectError, NamespaceRequest, Server};
    /// # async fn exists(name: String) -> Result<bool, std::io::Error> { Ok(true) }
    /// # let io = Server::builder().workers(1).build()?;
    /// io.namespaces_where(async |request: NamespaceRequest| {
    ///     let Some(room) = request.name().strip_prefix("/rooms/") else { return Ok(false) };
    ///     if exists(room.to_owned()).await? { Ok(true) } else { Err(ConnectError::new("no such room")) }
    /// });
    /// # Ok::<(), posthaste::BuildError>(())
    /// ```
    pub fn namespaces_where<Fut>(
        &self,
        predicate: impl Fn(NamespaceRequest) -> Fut + Send + Sync + 'static,
    ) -> Namespace
    where
        Fut: Future<Output: IntoAllowed> + 'static,
    {
        self.0.registry.parent("*", Matcher::predicate(predicate))
    }

    /// Calls `hook` for each namespace made from now on (`new_namespace`), whether the application or a client asked for it,
    /// before anyone joins. It may register handlers on it.
    pub fn on_new_namespace(&self, hook: impl Fn(&Namespace) + Send + Sync + 'static) -> &Self {
        self.0.registry.on_new(hook);
        self
    }

    /// Calls `listen` for each request and upgrade that is refused before it becomes a connection, on the thread that answers it
    /// (`connection_error` in Socket.IO).
    ///
    /// ```
    /// let io = posthaste::Server::new()?;
    /// io.on_connection_error(|error| println!("{} {}: {:?}", error.code(), error.message(), error.context()));
    /// # Ok::<(), posthaste::BuildError>(())
    /// ```
    pub fn on_connection_error(&self, listen: impl Fn(&ConnectionError<'_>) + Send + Sync + 'static) -> &Self {
        self.engine().on_connection_error(listen);
        self
    }

    /// The server as a tower layer: requests under its path are answered, the others go on to the service below.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let io = posthaste::Server::new()?;
    /// let app: axum::Router = axum::Router::new()
    ///     .route("/", axum::routing::get(|| async { "hello" }))
    ///     .layer(io.layer());
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn layer(&self) -> EngineLayer {
        // A layer that outlives this handle goes on answering.
        EngineLayer::new(self.engine().keeping(self.0.clone()))
    }

    /// Listens on `addr` with a socket for each worker. Requests for other paths are answered 404; port 0 takes a free one.
    ///
    /// # Errors
    /// [`ListenError`] names the address and what is in the way.
    pub fn listen(&self, addr: SocketAddr) -> Result<Listener, ListenError> {
        self.listen_with(addr, NotFound)
    }

    /// Listens on `addr`, and has `service` (an axum router, say) answer the requests for other paths, on the workers.
    ///
    /// # Errors
    /// As [`Server::listen`].
    pub fn listen_with<S, B>(&self, addr: SocketAddr, service: S) -> Result<Listener, ListenError>
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
        B: http_body::Body<Data = Bytes> + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.engine().keeping(self.0.clone()).listen_with(addr, service)
    }

    /// What the server holds at this moment.
    pub async fn stats(&self) -> Stats {
        self.count(None).await
    }

    /// Ends every connection with the reason `server shutting down` and stops the workers, if they are this server's alone.
    /// Waits for what is still being written, at most `patience`; returns whether all of it was. Blocks.
    pub fn close(&self, patience: Duration) -> bool {
        let ended = if self.0.owns_workers { self.0.workers.shutdown(patience) } else { self.engine().close(patience) };
        self.0.registry.close();
        ended
    }

    async fn count(&self, only: Option<&[Namespace]>) -> Stats {
        let mut total = Stats::default();
        let mut rooms = HashSet::new();
        let server = Arc::downgrade(&self.0);
        let only: Option<Arc<[u32]>> = only.map(|only| only.iter().map(|namespace| namespace.0.number()).collect());
        for handle in self.0.workers.handles() {
            let (server, only) = (server.clone(), only.clone());
            let counted = handle.call(move |_| local::of(&server).map(|local| local.stats(only.as_deref())));
            let (stats, names) = counted.await.ok().flatten().unwrap_or_default();
            total += stats;
            rooms.extend(names);
        }
        total.rooms += rooms.len();
        total.recoverable = self.0.registry.journals().map_or(0, Journals::parked);
        total
    }
}

impl Inner {
    pub(crate) fn engine(&self) -> &Engine {
        self.engine.get().expect("invariant: set before the server is given out")
    }
}

impl Namespace {
    /// What this namespace holds at this moment, a parent all its namespaces; connections, answers and handlers are the whole
    /// server's.
    pub async fn stats(&self) -> Stats {
        // Held until they are counted, so that their numbers mean them.
        self.server().count(Some(&self.each())).await
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("config", &self.0.config).finish_non_exhaustive()
    }
}

/// Answers 404.
#[derive(Clone, Copy, Debug)]
struct NotFound;

impl<B> Service<Request<B>> for NotFound {
    type Response = Response<Empty<Bytes>>;
    type Error = std::convert::Infallible;
    type Future = std::future::Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<B>) -> Self::Future {
        let mut answer = Response::new(Empty::new());
        *answer.status_mut() = http::StatusCode::NOT_FOUND;
        std::future::ready(Ok(answer))
    }
}
