//! What an application keeps with sockets and registers as handlers is its own code once more when it is copied and dropped.

use std::sync::{Arc, Mutex};

use posthaste::{Data, Server, Socket};
use posthaste_testkit::{Client, Record, eventually, serve};

use crate::panics::{PanicsWhenDropped, quietly};

/// Kept with a socket by whoever is the last to hold it.
type Shared = Arc<PanicsWhenDropped>;

#[tokio::test]
async fn a_value_that_panics_when_its_socket_is_gone_takes_nobody_along() {
    quietly();
    let left = Record::<String>::new();
    let record = left.clone();
    let running = serve(Server::builder().workers(1), |io| {
        for namespace in [io.namespace("/"), io.namespace("/a"), io.namespace("/b")] {
            let record = record.clone();
            namespace.on_connect(async |socket: Socket| drop(socket.insert::<Shared>(Arc::new(PanicsWhenDropped))));
            namespace.on("sync", async || {});
            namespace.on_disconnect(move |socket: Socket| {
                record.push(socket.namespace().name().to_owned());
                async {}
            });
        }
        io.namespace("/brief").on_connect(async |socket: Socket| {
            socket.insert::<Shared>(Arc::new(PanicsWhenDropped));
            socket.disconnect(false);
        });
    });
    let mut witness = Client::websocket(running.addr).await;
    for end in ["reset", "client", "server"] {
        let mut client = Client::websocket(running.addr).await;
        client.connect("/a").await;
        client.connect("/b").await;
        client.send("0/brief,").await;
        assert!(client.text().await.starts_with("0/brief,"));
        client.expect("1/brief,").await;
        client.ask(r#"["sync"]"#, "[]").await;
        let before = left.all().len();
        match end {
            "reset" => client.reset(),
            "client" => client.send_all(&["1/a,", "1/b,", "1"]).await,
            _ => running.io.namespace("/b").disconnect_sockets(true).await.unwrap(),
        }
        eventually("it has left all three", async || left.all().len() == before + 3).await;
        witness.ask(r#"["sync"]"#, "[]").await;
    }
    eventually("one is left", async || running.io.stats().await.sockets == 1).await;
}

/// A value that looks at its socket's other values when it is copied.
struct Curious(Arc<Mutex<Option<Socket>>>);

impl Clone for Curious {
    fn clone(&self) -> Self {
        let socket = self.0.lock().unwrap().take();
        if let Some(socket) = socket {
            assert_eq!(socket.get::<u32>(), Some(7));
        }
        Self(self.0.clone())
    }
}

#[tokio::test]
async fn a_value_may_use_its_socket_when_it_is_copied() {
    let running = serve(Server::builder().workers(1), |io| {
        io.on("copy", async |socket: Socket| {
            socket.insert(7_u32);
            let about = Arc::new(Mutex::new(Some(socket.clone())));
            socket.insert(Curious(about.clone()));
            socket.get::<Curious>().unwrap();
            assert!(about.lock().unwrap().is_none());
            assert!(socket.insert(Curious(about)).is_some());
        });
    });
    Client::websocket(running.addr).await.ask(r#"["copy"]"#, "[]").await;
}

/// Registers a handler when it is dropped.
struct Registers(Server);

impl Drop for Registers {
    fn drop(&mut self) {
        self.0.on("registered", async |Data(word): Data<String>| posthaste::Answer(word));
    }
}

#[tokio::test]
async fn a_handler_may_use_its_server_when_it_is_replaced() {
    let running = serve(Server::builder().workers(1), |io| {
        let held = Registers(io.clone());
        io.on("event", move || {
            let _ = &held;
            async {}
        });
        let held = Registers(io.clone());
        io.fallback(move || {
            let _ = &held;
            async {}
        });
        let held = Registers(io.clone());
        io.on_error(move || {
            let _ = &held;
            async {}
        });
        let held = Registers(io.clone());
        let any = io.on_any(move || {
            let _ = &held;
            async {}
        });
        io.on("event", async || {});
        io.fallback(async || {});
        io.on_error(async || {});
        assert!(io.off_any(any));
    });
    Client::websocket(running.addr).await.ask(r#"["registered","x"]"#, r#"["x"]"#).await;
}
