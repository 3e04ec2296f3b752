//! `posthaste serve`.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context;
use posthaste::{ListenError, Listener, Server};

use crate::cli::{Common, ServeOptions};
use crate::stop;

pub(crate) fn run(options: &ServeOptions) -> anyhow::Result<()> {
    let io = Server::builder().build()?;
    let listener = listen(&options.common, &io, axum::Router::new())?;
    println!("listening on http://{}", listener.local_addr());
    stop::until_signal(&io, &listener)
}

/// Prepares the data folder and listens, with `app` for what is not Socket.IO.
pub(crate) fn listen(options: &Common, io: &Server, app: axum::Router) -> anyhow::Result<Listener> {
    prepare(&options.data)?;
    listen_at(options.listen, io, app)
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

fn prepare(folder: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("the data folder {} cannot be used; choose another with --data", folder.display()))
}
