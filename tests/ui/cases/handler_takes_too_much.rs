//~ cannot handle events
//~ up to eight

use posthaste::{Server, Socket};

async fn chat(_: Socket, _: Socket, _: Socket, _: Socket, _: Socket, _: Socket, _: Socket, _: Socket, _: Socket) {}

fn main() {
    let io = Server::new().unwrap();
    io.on("chat", chat);
}
