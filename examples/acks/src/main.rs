//! How do I know that it arrived, and what the other side says to it? By acknowledgements, which both sides may ask for. Run it
//! and open <http://localhost:3000> in two tabs.

use std::time::Duration;

use axum::{Router, response::Html, routing::get};
use posthaste::{AckError, Data, Server, Socket};
use serde::Deserialize;

#[derive(Deserialize)]
struct Transfer {
    to: String,
    cents: i64,
}

#[derive(Debug, thiserror::Error)]
enum TransferError {
    #[error("{0} cents cannot be sent")]
    NotPositive(i64),
    #[error("nobody is called {0:?}")]
    Unknown(String),
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let io = Server::new()?;
    io.on("transfer", transfer);
    io.on("ask me", ask_me);
    io.on("ask everyone", ask_everyone);

    let page = Router::new().route("/", get(|| async { Html(include_str!("../index.html")) }));
    let listener = io.listen_with(([127, 0, 0, 1], 3000).into(), page)?;
    println!("listening on http://{}", listener.local_addr());
    std::thread::park();
    Ok(())
}

/// A client asks: what the handler returns is the answer, and an error answers `{"error": "…"}`.
async fn transfer(Data(transfer): Data<Transfer>) -> Result<String, TransferError> {
    if transfer.cents <= 0 {
        return Err(TransferError::NotPositive(transfer.cents));
    }
    if transfer.to != "ada" {
        return Err(TransferError::Unknown(transfer.to));
    }
    Ok(format!("receipt for {} cents", transfer.cents))
}

/// The server asks one client and waits: at most this long, and no longer than the client is there.
async fn ask_me(socket: Socket, Data(question): Data<String>) -> Result<String, AckError> {
    let answer: String = socket.timeout(Duration::from_secs(20)).emit_with_ack("question", &question).await?;
    Ok(format!("you said: {answer}"))
}

/// The server asks everyone. The answers that came in time are there, whoever stayed silent.
async fn ask_everyone(io: Server, Data(question): Data<String>) -> Result<String, AckError> {
    let acks = io.timeout(Duration::from_secs(10)).emit_with_ack::<String>("question", &question).await?;
    Ok(format!("{} of {} answered: {}", acks.answers.len(), acks.asked, acks.answers.join(", ")))
}
