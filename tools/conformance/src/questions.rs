//! A mount whose sockets are asked what is kept until they have answered: also when the server was killed, if it has a folder.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use posthaste::store::{MemoryStore, Retention, Store, WindowLimits};
use posthaste::{Data, Durable, DurableError, Server, Socket, Workers};
use posthaste_backend_embedded::{Config, EmbeddedStore};
use serde_json::{Value, json};

/// What this process heard in answer to each question.
type Heard = Arc<Mutex<HashMap<String, Vec<Value>>>>;

pub(crate) fn mount(workers: &Workers, folder: Option<&Path>) -> anyhow::Result<Server> {
    let store: Arc<dyn Store> = match folder {
        Some(folder) => Arc::new(EmbeddedStore::open(Config::new(folder))?),
        None => Arc::new(MemoryStore::new(7, Retention::ROOM, WindowLimits::default())),
    };
    let durable = Durable::new(store);
    let io =
        Server::builder().path("/questions").serve_client(false).durable(durable).shared_workers(workers).build()?;
    let heard = Heard::default();
    let notes = heard.clone();
    // Answered when the question is stored; who answers it, and what, comes later.
    io.on("ask-me", move |socket: Socket, Data(question): Data<String>| {
        let notes = notes.clone();
        async move {
            let patience = Duration::from_secs(600);
            let mut asked = socket.durable().timeout(patience).emit_with_ack::<Value>("question", &question);
            let stored = asked.stored().await?;
            socket.journalled().await?;
            tokio::spawn(async move {
                let answer = asked.await.unwrap_or_else(|error| json!({ "error": error.to_string() }));
                notes.lock().unwrap_or_else(PoisonError::into_inner).entry(question).or_default().push(answer);
            });
            Ok::<_, DurableError>(stored.n)
        }
    });
    io.on("answers", move |Data(question): Data<String>| {
        let answers = heard.lock().unwrap_or_else(PoisonError::into_inner).get(&question).cloned();
        async move { Ok::<_, DurableError>(Value::from(answers.unwrap_or_default())) }
    });
    io.on("sync", async || {});
    Ok(io)
}
