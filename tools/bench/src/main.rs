//! The application that load is measured against, on the public API with default settings.
//!
//! ```text
//! bench-app PORT [WORKERS]
//!
//! on connection       joins "room"
//! echo (x, ack)       ack(x)
//! bcast (x)           "bcast" (x) to "room"
//! join, leave (room, ack)
//! rbcast (room, x)    "bcast" (x) to that room
//! ```

use anyhow::Context;
use posthaste::Server;

#[path = "../../../crates/standalone/src/bench/app.rs"]
mod app;

fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).init();
    let mut args = std::env::args().skip(1);
    let port: u16 = args.next().context("usage: bench-app PORT [WORKERS]")?.parse()?;
    let mut builder = Server::builder();
    if let Some(workers) = args.next() {
        builder = builder.workers(workers.parse()?);
    }
    let io = builder.build()?;
    app::install(&io);
    let listener = io.listen(([127, 0, 0, 1], port).into())?;
    println!("listening on {}", listener.local_addr());
    loop {
        std::thread::park();
    }
}
