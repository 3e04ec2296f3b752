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
use posthaste::{Ack, Data, SendError, Server, Socket};
use serde_json::value::RawValue;

fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).init();
    let mut args = std::env::args().skip(1);
    let port: u16 = args.next().context("usage: bench-app PORT [WORKERS]")?.parse()?;
    let mut builder = Server::builder();
    if let Some(workers) = args.next() {
        builder = builder.workers(workers.parse()?);
    }
    let io = builder.build()?;
    io.on_connect(async |socket: Socket| socket.join("room"));
    io.on("echo", async |Data(payload): Data<Box<RawValue>>, ack: Ack| ack.send(&payload).await);
    io.on("bcast", async |io: Server, Data(payload): Data<Box<RawValue>>, _ack: Ack| {
        io.to("room").emit("bcast", &payload).await
    });
    io.on("join", async |socket: Socket, Data(room): Data<String>| socket.join(room));
    io.on("leave", async |socket: Socket, Data(room): Data<String>| socket.leave(room));
    io.on("rbcast", async |io: Server, Data((room, payload)): Data<(String, Box<RawValue>)>, _ack: Ack| {
        io.to(room).emit("bcast", &payload).await?;
        Ok::<_, SendError>(())
    });
    let listener = io.listen(([127, 0, 0, 1], port).into())?;
    println!("listening on {}", listener.local_addr());
    loop {
        std::thread::park();
    }
}
