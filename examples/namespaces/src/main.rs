//! How do I give each of many things a namespace of its own, without knowing them beforehand? By a pattern: a client that asks for
//! `/boards/7` has it made. Run it, open <http://localhost:3000> in several tabs, and open the same boards and different ones.

use axum::{Router, response::Html, routing::get};
use posthaste::{Auth, ConnectError, Data, Namespace, Params, SendError, Server, Socket};
use serde::{Deserialize, Serialize};

/// What the client gives as `io("/boards/7", { auth: { name } })`.
#[derive(Deserialize)]
struct Guest {
    name: String,
}

/// Who it is, kept with the socket.
#[derive(Clone)]
struct Name(String);

#[derive(Serialize)]
struct Note {
    board: u32,
    by: String,
    text: String,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // A board that everyone has left is forgotten: nothing of it is worth keeping here.
    let io = Server::builder().cleanup_empty_namespaces(true).build()?;
    let boards = io.namespaces("/boards/{number}")?;
    boards.middleware(admit);
    boards.on_connect(welcome);
    boards.on("note", note);
    io.on("announce", announce);

    let page = Router::new().route("/", get(|| async { Html(include_str!("../index.html")) }));
    let listener = io.listen_with(([127, 0, 0, 1], 3000).into(), page)?;
    println!("listening on http://{}", listener.local_addr());
    std::thread::park();
    Ok(())
}

/// Asked for each client, also when the board is there already. What the name must be is said by the type: `/boards/x` is refused.
async fn admit(
    socket: Socket,
    Params(number): Params<u32>,
    Auth(Guest { name }): Auth<Guest>,
) -> Result<(), ConnectError> {
    if name.is_empty() || number == 0 || number > 99 {
        return Err(ConnectError::new("boards 1 to 99 are for those who have a name"));
    }
    socket.insert(Name(name));
    Ok(())
}

/// What is sent to a board is heard on this board alone.
async fn welcome(board: Namespace, socket: Socket) -> Result<(), SendError> {
    let Some(Name(name)) = socket.get() else { return Ok(()) };
    board.except(socket.id()).emit("guest", &name).await
}

async fn note(
    board: Namespace,
    socket: Socket,
    Params(number): Params<u32>,
    Data(text): Data<String>,
) -> Result<(), SendError> {
    let Some(Name(by)) = socket.get() else { return Ok(()) };
    board.emit("note", &Note { board: number, by, text }).await
}

/// The parent stands for all boards there are.
async fn announce(io: Server, Data(text): Data<String>) -> Result<usize, Box<dyn std::error::Error>> {
    let boards = io.namespaces("/boards/{number}")?;
    boards.emit("announcement", &text).await?;
    Ok(boards.children().len())
}
