//! The whole.

use std::any::TypeId;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use http::{Request, Response};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use posthaste_engine::{ConnectionError, Engine, EngineLayer, ListenError, Listener, Workers};
use tower_layer::Layer;
use tower_service::Service;

use crate::config::{Builder, MakeAdapter, ServerConfig, States, WorkerChoice};
use crate::error::BuildError;
use crate::handler::{ConnectHandler, DisconnectHandler, EventHandler, Middleware};
use crate::local::{self, App};
use crate::namespace::Namespace;
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
    namespaces: RwLock<Namespaces>,
    adapter: MakeAdapter,
    states: States,
}

#[derive(Default)]
struct Namespaces {
    by_name: HashMap<Arc<str>, Namespace>,
    main: Option<Namespace>,
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
        let (workers, owns_workers) = match workers {
            WorkerChoice::PerCore => (Workers::start_default().map_err(BuildError::Workers)?, true),
            WorkerChoice::Count(count) => (Workers::start(count).map_err(BuildError::Workers)?, true),
            WorkerChoice::Shared(workers) => (workers, false),
        };
        let serve_client = config.serve_client;
        let server = Self(Arc::new(Inner {
            config,
            workers: workers.clone(),
            owns_workers,
            engine: OnceLock::new(),
            namespaces: RwLock::default(),
            adapter,
            states,
        }));
        server.namespace("/");
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
        self.0.engine.get().expect("invariant: set before the server is given out")
    }

    pub(crate) fn main(&self) -> Namespace {
        let namespaces = self.0.namespaces.read().unwrap_or_else(PoisonError::into_inner);
        namespaces.main.clone().expect("invariant: the main namespace is made with the server")
    }

    pub(crate) fn state<T: Clone + 'static>(&self) -> Option<T> {
        self.0.states.get(&TypeId::of::<T>())?.downcast_ref::<T>().cloned()
    }

    /// The namespace of that name, made if it is not there; a leading slash is added if there is none.
    pub fn namespace(&self, name: &str) -> Namespace {
        let name = if name.starts_with('/') { name.to_owned() } else { format!("/{name}") };
        let mut namespaces = self.0.namespaces.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(namespace) = namespaces.by_name.get(name.as_str()) {
            return namespace.clone();
        }
        let number = u32::try_from(namespaces.by_name.len()).expect("invariant: fewer than 2^32 namespaces");
        let namespace = Namespace::new(&name, number, Arc::downgrade(&self.0), (self.0.adapter)(&name));
        namespaces.by_name.insert(namespace.0.name.clone(), namespace.clone());
        if name == "/" {
            namespaces.main = Some(namespace.clone());
        }
        namespace
    }

    /// Handles an event of the main namespace; see [`Namespace::on`].
    pub fn on<Args>(&self, event: &str, handler: impl EventHandler<Args>) -> &Self {
        self.main().on(event, handler);
        self
    }

    /// Handles every event of the main namespace that nothing else handles; see [`Namespace::fallback`].
    pub fn fallback<Args>(&self, handler: impl EventHandler<Args>) -> &Self {
        self.main().fallback(handler);
        self
    }

    /// Calls `handler` for each socket that joins the main namespace; see [`Namespace::on_connect`].
    pub fn on_connect<Args>(&self, handler: impl ConnectHandler<Args>) -> &Self {
        self.main().on_connect(handler);
        self
    }

    /// Asks `check` before a socket joins the main namespace; see [`Namespace::middleware`].
    pub fn middleware<Args>(&self, check: impl Middleware<Args>) -> &Self {
        self.main().middleware(check);
        self
    }

    /// Calls `handler` for each socket that leaves the main namespace; see [`Namespace::on_disconnect`].
    pub fn on_disconnect<Args>(&self, handler: impl DisconnectHandler<Args>) -> &Self {
        self.main().on_disconnect(handler);
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
        Listener::bind(&self.0.workers, addr, self.layer().layer(service))
    }

    /// What the server holds at this moment.
    pub async fn stats(&self) -> Stats {
        self.count(None).await
    }

    /// Ends every connection with the reason `server shutting down` and stops the workers, if they are this server's alone.
    /// Waits for what is still being written, at most `patience`; returns whether all of it was. Blocks.
    pub fn close(&self, patience: Duration) -> bool {
        if self.0.owns_workers { self.0.workers.shutdown(patience) } else { self.engine().close(patience) }
    }

    async fn count(&self, namespace: Option<u32>) -> Stats {
        let mut total = Stats::default();
        let mut rooms = HashSet::new();
        let server = Arc::downgrade(&self.0);
        for handle in self.0.workers.handles() {
            let server = server.clone();
            let counted = handle.call(move |_| local::of(&server).map(|local| local.stats(namespace)));
            let (stats, names) = counted.await.ok().flatten().unwrap_or_default();
            total += stats;
            rooms.extend(names);
        }
        total.rooms += rooms.len();
        total
    }
}

impl Namespace {
    /// What this namespace holds at this moment; connections, answers and handlers are the whole server's.
    pub async fn stats(&self) -> Stats {
        self.server().count(Some(self.0.number)).await
    }
}

impl Inner {
    pub(crate) fn find(&self, name: &str) -> Option<Namespace> {
        self.namespaces.read().unwrap_or_else(PoisonError::into_inner).by_name.get(name).cloned()
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
