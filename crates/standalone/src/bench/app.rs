//! The application that load is measured against: `--self` and `posthaste bench app` serve it, and the `bench-app` of tools/bench, which
//! compiles this very file.

use posthaste::{Ack, Args, Data, SendError, Server, Socket};
use serde_json::value::RawValue;

/// The five events, on the main namespace. `posthaste bench --help` shows people how to offer them.
pub(super) fn install(io: &Server) {
    io.on_connect(async |socket: Socket| socket.join("room"));
    io.on("echo", async |Data(args): Data<Args<'static>>, ack: Ack| ack.send(&args).await);
    io.on("bcast", async |io: Server, Data(args): Data<Args<'static>>, _ack: Ack| {
        io.to("room").emit("bcast", &args).await
    });
    io.on("join", async |socket: Socket, Data(room): Data<String>| socket.join(room));
    io.on("leave", async |socket: Socket, Data(room): Data<String>| socket.leave(room));
    io.on("rbcast", async |io: Server, Data((room, payload)): Data<(String, Box<RawValue>)>, _ack: Ack| {
        io.to(room).emit("bcast", &payload).await?;
        Ok::<_, SendError>(())
    });
}
