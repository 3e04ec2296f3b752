//! `posthaste dev`: the first minute.

use std::net::SocketAddr;

use anyhow::bail;
use serde::Serialize;

use crate::cli::DevOptions;
use crate::rooms::Rules;
use crate::{data, demo, serve, stop};

pub(crate) fn run(options: &DevOptions) -> anyhow::Result<()> {
    let addr = options.common.listen.unwrap_or(serve::DEFAULT_ADDR);
    if !addr.ip().is_loopback() {
        bail!(
            "dev is open to everyone who reaches it, so it listens on this machine only; \
             use an address such as 127.0.0.1:{}, or `posthaste serve --listen {addr}`",
            addr.port()
        );
    }
    let store = data::open(&options.common, None)?;
    let (io, _rooms) = serve::start(&store, Rules::dev())?;
    let listener = serve::listen_at(addr, &io, demo::routes())?;
    let links = Links::new(listener.local_addr());
    if options.json {
        println!("{}", serde_json::to_string(&links)?);
    } else {
        print!("{links}");
    }
    stop::until_signal(&io, &listener, Some(&*store))
}

/// Where everything is.
#[derive(Debug, Serialize)]
struct Links {
    socketio: String,
    demo: String,
}

impl Links {
    fn new(addr: SocketAddr) -> Self {
        // Browsers treat localhost as secure, and it is what people type.
        let base = if addr.is_ipv4() && addr.ip() == SocketAddr::from(([127, 0, 0, 1], 0)).ip() {
            format!("http://localhost:{}", addr.port())
        } else {
            format!("http://{addr}")
        };
        Self { demo: format!("{base}/demo"), socketio: base }
    }
}

impl std::fmt::Display for Links {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f)?;
        writeln!(f, "  Socket.IO   {:<30} loopback only", self.socketio)?;
        writeln!(f, "  Demo        {:<30} a chat: open it in two tabs", self.demo)?;
        writeln!(f)?;
        writeln!(f, "  Ctrl-C stops it.")
    }
}
