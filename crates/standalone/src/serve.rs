//! `posthaste serve`.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use posthaste::store::Store as _;
use posthaste::{Durable, Idempotency, ListenError, Listener, Server};
use posthaste_backend_embedded::EmbeddedStore;

use crate::api::{Api, Desk};
use crate::cli::ServeOptions;
use crate::config::Config;
use crate::stop::Signals;
use crate::{data, queues, rooms};

/// Where to listen if nobody says.
pub(crate) const DEFAULT_ADDR: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 3000);

pub(crate) fn run(options: &ServeOptions) -> anyhow::Result<()> {
    let config = options.config.as_deref().map(Config::read).transpose()?.unwrap_or_default();
    let store = data::open(&options.common, config.data, config.strict_queues)?;
    let addr = options.common.listen.or(config.listen).unwrap_or(DEFAULT_ADDR);
    let running = Running::start(
        store,
        Open { rooms: config.rooms, queues: config.queues, routes: config.routes, schedules: config.schedules },
        addr,
        axum::Router::new(),
    )?;
    println!("listening on http://{}", running.listener.local_addr());
    running.until_signal()
}

/// What is open to clients.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) rooms: rooms::Rules,
    pub(crate) queues: queues::Rules,
    pub(crate) routes: Vec<queues::Route>,
    pub(crate) schedules: queues::Schedules,
}

/// A server that keeps what it has to in a store, with rooms that clients join, and the calls of HTTP.
pub(crate) struct Running {
    pub(crate) listener: Listener,
    io: Server,
    api: Arc<Api>,
    store: Arc<EmbeddedStore>,
    signals: Signals,
}

impl Running {
    /// Starts and listens, with `app` for what is neither Socket.IO nor the API.
    pub(crate) fn start(
        store: Arc<EmbeddedStore>,
        open: Open,
        addr: SocketAddr,
        app: axum::Router,
    ) -> anyhow::Result<Self> {
        let Open { rooms, queues: rules, routes, schedules } = open;
        let rules = Arc::new(rules);
        let queues = queues::open(&store, rules.clone(), &schedules)?;
        let builder = Server::builder().durable(Durable::new(store.clone())).idempotency(Idempotency::default());
        let io = builder.queues(queues.clone()).build()?;
        let namespace = io.namespace("/");
        let rooms = rooms::open(&namespace, rooms, store.shard("/")?)?;
        queues::open_routes(&io, &routes)?;
        let api = Api::new(namespace, rooms, Desk::new(queues, rules));
        let signals = Signals::listen()?;
        let listener = listen_at(addr, &io, app.merge(api.routes()))?;
        Ok(Self { listener, io, api, store, signals })
    }

    /// Runs until a signal, then closes in order.
    ///
    /// # Errors
    /// When what is kept could not be written.
    pub(crate) fn until_signal(self) -> anyhow::Result<()> {
        let Self { listener, io, api, store, signals } = self;
        signals.wait(&io, &listener, || api.close())?;
        store.close().context("the data folder could not be closed: what was kept last may be missing")
    }
}

/// Listens, with `app` for what is not Socket.IO.
pub(crate) fn listen_at(addr: SocketAddr, io: &Server, app: axum::Router) -> anyhow::Result<Listener> {
    io.listen_with(addr, app).map_err(|error| match error {
        ListenError::Taken { addr } => anyhow::anyhow!(
            "{addr} is taken by another program; stop it, or choose another address with --listen {}:{}",
            addr.ip(),
            addr.port().checked_add(1).unwrap_or(3000),
        ),
        error => error.into(),
    })
}
