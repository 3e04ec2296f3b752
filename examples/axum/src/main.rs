//! How does it go into the axum application I have? As a layer: Socket.IO is answered under its path, your routes stay yours,
//! and a route can emit. Run it, connect a client to `http://localhost:3000`, then
//! `curl -X POST localhost:3000/announce -H 'content-type: application/json' -d '{"text":"hello"}'`.

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use posthaste::{Data, Server, Socket};
use serde::{Deserialize, Serialize};

#[derive(Deserialize, Serialize)]
struct Announcement {
    text: String,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let io = Server::new()?;
    io.on_connect(async |socket: Socket| socket.join("everyone"));
    io.on("join", async |socket: Socket, Data(room): Data<String>| socket.join(room));

    let app = Router::new()
        .route("/", get(|| async { "Socket.IO is at /socket.io/\n" }))
        .route("/announce", post(announce))
        .with_state(io.clone())
        .layer(io.layer());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}

async fn announce(State(io): State<Server>, Json(announcement): Json<Announcement>) -> StatusCode {
    match io.to("everyone").emit("announcement", &announcement).await {
        Ok(()) => StatusCode::ACCEPTED,
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
