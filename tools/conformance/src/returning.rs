//! `/returning/`, with `--stats`: clients may come back for a few seconds, and each socket has listeners and values of its own, which
//! are counted for as long as they are there.
//!
//! Beside the events of the other mounts: `mine` → `"socket"`, until `forget` → `"ok"`, and `"namespace"` from then on; `first` →
//! `"socket"` once and `"namespace"` from then on.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use posthaste::{Answer, Event, Namespace, Recovery, Server, Socket, Workers};

use crate::events;

/// What sockets own, as a number.
#[derive(Clone, Default)]
pub(crate) struct Owned(Arc<AtomicUsize>);

/// One thing that a socket owns.
struct One(Owned);

impl Owned {
    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn one(&self) -> Arc<One> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Arc::new(One(self.clone()))
    }
}

impl Drop for One {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(crate) fn mount(workers: &Workers, owned: &Owned) -> anyhow::Result<Server> {
    let recovery = Recovery { max_disconnection: Duration::from_secs(3), max_events: 200_000, ..Recovery::default() };
    let io = Server::builder()
        .path("/returning")
        .ping(Duration::from_secs(2), Duration::from_secs(8))
        .recovery(recovery)
        .cleanup_empty_namespaces(true)
        .max_payload(1_000_000)
        .serve_client(false)
        .shared_workers(workers)
        .build()?;
    serve(&io.namespace("/"), owned);
    serve(&io.namespaces("/game-{number}")?, owned);
    Ok(io)
}

fn serve(namespace: &Namespace, owned: &Owned) {
    events::serve(namespace);
    namespace.on("mine", async || Answer("namespace")).on("first", async || Answer("namespace"));
    namespace.on("forget", async |socket: Socket| {
        socket.off("mine");
        Answer("ok")
    });
    let owned = owned.clone();
    namespace.on_connect(move |socket: Socket| {
        equip(&socket, &owned);
        async {}
    });
}

/// Listeners of every kind; those of a socket that comes back begin anew, its values come with it.
fn equip(socket: &Socket, owned: &Owned) {
    if socket.get::<Arc<One>>().is_none() {
        socket.insert(owned.one());
    }
    let (listener, itself) = (owned.one(), socket.clone());
    // Holds the socket that holds it.
    socket.on("mine", move || {
        let (_listener, itself) = (listener.clone(), itself.clone());
        async move { Answer(if itself.is_connected() { "socket" } else { "nobody" }) }
    });
    let listener = owned.one();
    socket.once("first", move || {
        let _listener = listener.clone();
        async { Answer("socket") }
    });
    let listener = owned.one();
    socket.event_middleware(move |_: Event| {
        let _listener = listener.clone();
        async { Ok::<_, &str>(()) }
    });
    let [incoming, outgoing, passing] = [owned.one(), owned.one(), owned.one()];
    socket.on_any(move |_: Event| {
        let _listener = incoming.clone();
        async {}
    });
    socket.on_any_outgoing(move |_: Event| {
        let _listener = outgoing.clone();
        async {}
    });
    let passing = socket.on_any_outgoing(move |_: Event| {
        let _listener = passing.clone();
        async {}
    });
    socket.off_any(passing);
}
