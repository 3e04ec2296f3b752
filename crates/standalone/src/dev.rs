//! `posthaste dev`: the first minute.

use std::net::SocketAddr;

use anyhow::bail;
use serde::Serialize;

use crate::cli::DevOptions;
use crate::serve::{self, Open, Running};
use crate::{data, demo, queues, rooms};

pub(crate) fn run(options: &DevOptions) -> anyhow::Result<()> {
    let addr = options.common.listen.unwrap_or(serve::DEFAULT_ADDR);
    if !addr.ip().is_loopback() {
        bail!(
            "dev is open to everyone who reaches it, so it listens on this machine only; \
             use an address such as 127.0.0.1:{}, or `posthaste serve --listen {addr}`",
            addr.port()
        );
    }
    let store = data::open(&options.common, None, false)?;
    let running = Running::start(
        store,
        Open {
            rooms: rooms::Rules::dev(),
            queues: queues::Rules::dev(),
            routes: Vec::new(),
            schedules: queues::Schedules::default(),
        },
        addr,
        demo::routes(),
    )?;
    let links = Links::new(running.listener.local_addr());
    if options.json {
        println!("{}", serde_json::to_string(&links)?);
    } else {
        print!("{links}");
    }
    running.until_signal()
}

/// Where everything is.
#[derive(Debug, Serialize)]
struct Links {
    socketio: String,
    demo: String,
    api: String,
    queues: String,
}

impl Links {
    fn new(addr: SocketAddr) -> Self {
        // Browsers treat localhost as secure, and it is what people type.
        let base = if addr.is_ipv4() && addr.ip() == SocketAddr::from(([127, 0, 0, 1], 0)).ip() {
            format!("http://localhost:{}", addr.port())
        } else {
            format!("http://{addr}")
        };
        Self {
            demo: format!("{base}/demo"),
            api: format!("{base}/api/v1"),
            queues: format!("{base}/queues"),
            socketio: base,
        }
    }

    /// What the commands for queues have to be told.
    fn url_option(&self) -> String {
        let is_usual = self.socketio == format!("http://localhost:{}", serve::DEFAULT_ADDR.port());
        if is_usual { String::new() } else { format!(" --url {}", self.socketio) }
    }
}

impl std::fmt::Display for Links {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f)?;
        writeln!(f, "  Socket.IO   {:<30} loopback only", self.socketio)?;
        writeln!(f, "  Demo        {:<30} chat that forgets nothing: kill the server, start it again", self.demo)?;
        let api = self.api.strip_prefix("http://").unwrap_or(&self.api);
        writeln!(f, "  Follow      curl -N -H accept:text/event-stream {api}/streams/demo")?;
        let url = self.url_option();
        writeln!(f, "  Queues      {:<30} open: posthaste queue{url} put emails '{{\"to\": \"ada\"}}'", self.queues)?;
        writeln!(f, "  Worker      posthaste work{url} --queue emails -- tee /dev/stderr")?;
        writeln!(f)?;
        writeln!(f, "  Ctrl-C stops it.")
    }
}
