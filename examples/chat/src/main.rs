//! How much does a chat take? The "get started" chat of Socket.IO: run it, and open <http://localhost:3000> in two tabs.

use axum::{Router, response::Html, routing::get};
use posthaste::{Data, DisconnectReason, SendError, Server, Socket};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let io = Server::new()?;
    io.on_connect(async |socket: Socket| println!("{} connected", socket.id()));
    io.on_disconnect(async |socket: Socket, reason: DisconnectReason| println!("{} left: {reason}", socket.id()));
    io.on("chat message", chat_message);

    let page = Router::new().route("/", get(|| async { Html(include_str!("../index.html")) }));
    let listener = io.listen_with(([127, 0, 0, 1], 3000).into(), page)?;
    println!("listening on http://{}", listener.local_addr());
    std::thread::park();
    Ok(())
}

async fn chat_message(io: Server, Data(text): Data<String>) -> Result<(), SendError> {
    io.emit("chat message", &text).await
}
