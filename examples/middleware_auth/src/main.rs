//! How do I let in only whom I know? By a middleware: it sees a client before it is connected, and what it returns as an error the
//! client gets as `connect_error`. Run it and open <http://localhost:3000>.

use std::collections::HashMap;
use std::sync::Arc;

use axum::{Router, response::Html, routing::get};
use posthaste::{Auth, ConnectError, Data, SendError, Server, Socket, State};
use serde::{Deserialize, Serialize};

/// Users by token. An application would ask its session store or verify a signed token here.
type Users = Arc<HashMap<&'static str, User>>;

#[derive(Clone, Serialize)]
struct User {
    name: &'static str,
    may_announce: bool,
}

/// What the client gives as `io(url, { auth: { token } })`.
#[derive(Deserialize)]
struct Credentials {
    token: String,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let users: Users = Arc::new(HashMap::from([
        ("token-of-ada", User { name: "Ada", may_announce: true }),
        ("token-of-grace", User { name: "Grace", may_announce: false }),
    ]));
    let io = Server::builder().state(users).build()?;
    io.middleware(authenticate);
    io.on_connect(welcome);
    io.on("announce", announce);

    let page = Router::new().route("/", get(|| async { Html(include_str!("../index.html")) }));
    let listener = io.listen_with(([127, 0, 0, 1], 3000).into(), page)?;
    println!("listening on http://{}", listener.local_addr());
    std::thread::park();
    Ok(())
}

/// May wait for a database: the client is told nothing until it is done.
async fn authenticate(
    socket: Socket,
    Auth(Credentials { token }): Auth<Credentials>,
    State(users): State<Users>,
) -> Result<(), ConnectError> {
    let Some(user) = users.get(token.as_str()) else {
        return Err(ConnectError::new("not authorized").with_data(&serde_json::json!({ "retry": false })));
    };
    // Kept with the socket, for its handlers.
    socket.insert(user.clone());
    Ok(())
}

async fn welcome(socket: Socket) -> Result<(), SendError> {
    let Some(user) = socket.get::<User>() else { return Ok(()) };
    socket.emit("welcome", &user).await
}

async fn announce(io: Server, socket: Socket, Data(text): Data<String>) -> Result<(), &'static str> {
    match socket.get::<User>() {
        Some(user) if user.may_announce => io.emit("announcement", &(user.name, text)).await.map_err(|_| "not sent"),
        _ => Err("you may not announce"),
    }
}
