//! `posthaste serve`.

use std::net::SocketAddr;
use std::sync::Arc;

use posthaste::store::Store as _;
use posthaste::{Durable, ListenError, Listener, Server};
use posthaste_backend_embedded::EmbeddedStore;

use crate::cli::ServeOptions;
use crate::config::Config;
use crate::rooms::{Rules, Verbs};
use crate::{data, rooms, stop};

/// Where to listen if nobody says.
pub(crate) const DEFAULT_ADDR: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 3000);

pub(crate) fn run(options: &ServeOptions) -> anyhow::Result<()> {
    let config = options.config.as_deref().map(Config::read).transpose()?.unwrap_or_default();
    let store = data::open(&options.common, config.data)?;
    let (io, _rooms) = start(&store, config.rooms)?;
    let addr = options.common.listen.or(config.listen).unwrap_or(DEFAULT_ADDR);
    let listener = listen_at(addr, &io, axum::Router::new())?;
    println!("listening on http://{}", listener.local_addr());
    stop::until_signal(&io, &listener, Some(&*store))
}

/// A server that keeps what it has to in this store, with rooms that clients join under these rules.
pub(crate) fn start(store: &Arc<EmbeddedStore>, rules: Rules) -> anyhow::Result<(Server, Verbs)> {
    let io = Server::builder().durable(Durable::new(store.clone())).build()?;
    let rooms = rooms::open(&io.namespace("/"), rules, store.shard("/")?)?;
    Ok((io, rooms))
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
