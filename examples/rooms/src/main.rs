//! How do I send to some of the clients? By rooms: a kitchen and a bar get the orders that concern them. Run it, open
//! <http://localhost:3000> in several tabs, and let them work at different places.

use axum::{Router, response::Html, routing::get};
use posthaste::{Data, SendError, Server, Socket};
use serde::{Deserialize, Serialize};

#[derive(Deserialize, Serialize)]
struct Order {
    dish: String,
    table: u32,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let io = Server::new()?;
    io.on("work at", work_at);
    io.on("order", order);
    io.on("shout", shout);
    io.on("close place", close_place);

    let page = Router::new().route("/", get(|| async { Html(include_str!("../index.html")) }));
    let listener = io.listen_with(([127, 0, 0, 1], 3000).into(), page)?;
    println!("listening on http://{}", listener.local_addr());
    std::thread::park();
    Ok(())
}

/// A socket may be in many rooms. They need not be made, and are gone with their last member.
async fn work_at(socket: Socket, Data(place): Data<String>) -> Result<(), SendError> {
    socket.join(&place);
    // To everyone in the room but this socket.
    socket.to(&place).emit("colleague", &(socket.id(), place)).await
}

/// Whoever is in both rooms gets it once.
async fn order(io: Server, Data((places, order)): Data<(Vec<String>, Order)>) -> Result<(), SendError> {
    io.to(&places).emit("order", &order).await
}

/// To everyone, but not to those in this room.
async fn shout(io: Server, Data((text, spared)): Data<(String, String)>) -> Result<(), SendError> {
    io.except(spared).emit("shout", &text).await
}

/// What is done to a room is done to each socket in it.
async fn close_place(io: Server, Data(place): Data<String>) -> Result<(), SendError> {
    io.to(&place).emit("closed", &place).await?;
    io.to(&place).sockets_leave(&place).await
}
