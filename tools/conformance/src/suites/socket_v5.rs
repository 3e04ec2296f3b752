//! Two namespaces that tell what they were sent. For the suite of the Socket.IO protocol.

use std::net::SocketAddr;
use std::time::Duration;

use posthaste::{Ack, Args, Auth, Cors, Data, Listener, Server, Socket, Workers};
use serde_json::value::RawValue;

pub(super) fn listen(workers: &Workers, addr: SocketAddr) -> anyhow::Result<Listener> {
    let io = Server::builder()
        .ping(Duration::from_millis(300), Duration::from_millis(200))
        .connect_timeout(Duration::from_secs(1))
        .max_payload(1_000_000)
        .cors(Cors::default())
        .serve_client(false)
        .shared_workers(workers)
        .build()?;
    for namespace in [io.namespace("/"), io.namespace("/custom")] {
        namespace.on_connect(async |socket: Socket, Auth(auth): Auth<Box<RawValue>>| socket.emit("auth", &auth).await);
    }
    io.on("message", async |socket: Socket, Data(args): Data<Args<'static>>, _ack: Ack| {
        socket.emit("message-back", &args).await
    });
    io.on("message-with-ack", async |Data(args): Data<Args<'static>>, ack: Ack| ack.send(&args).await);
    Ok(io.listen(addr)?)
}
