//! Mounts where everybody has an inbox, and is who they say: `auth.user`.

use posthaste::store::{MemoryStore, Retention, WindowLimits};
use posthaste::{Auth, ConnectError, Data, Durable, DurableError, Inbox, InboxMode, Server, Socket, Workers};
use std::sync::Arc;

#[derive(serde::Deserialize)]
struct Login {
    user: Option<String>,
}

pub(crate) fn mount(workers: &Workers, path: &str, mode: InboxMode) -> anyhow::Result<Server> {
    let store = MemoryStore::new(7, Retention::ROOM, WindowLimits::default());
    let inbox = Inbox { mode, window: 8, ..Inbox::default() };
    let durable = Durable { inbox: Some(inbox), ..Durable::new(Arc::new(store)) };
    let io = Server::builder().path(path).serve_client(false).durable(durable).shared_workers(workers).build()?;
    io.middleware(async |socket: Socket, Auth(login): Auth<Login>| {
        if let Some(user) = login.user {
            socket.identify(user);
        }
        Ok::<_, ConnectError>(())
    });
    io.on("send", async |socket: Socket, Data((user, note)): Data<(String, serde_json::Value)>| {
        let stored = socket.server().user(user).emit("note", &note).await?;
        Ok::<_, DurableError>(stored.n)
    });
    io.on("sync", async || {});
    Ok(io)
}
