//! A handler that panics ends its own socket. The connection, the worker and everybody else go on.

use std::pin::Pin;
use std::sync::{Arc, Once};
use std::task::{Context, Poll};

use posthaste::{Answer, ConnectError, Data, DisconnectReason, Server, Socket, State};
use posthaste_testkit::{Client, Record, Running, Transport, eventually, serve};
use tokio::sync::Semaphore;

/// Keeps the panics that these tests ask for out of their output.
pub(crate) fn quietly() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !std::thread::current().name().is_some_and(|name| name.starts_with("posthaste-")) {
                loud(info);
            }
        }));
    });
}

/// Panics, but says nothing of it in its type.
fn panic_in(place: &str) {
    panic!("in {place}");
}

#[derive(serde::Deserialize)]
#[serde(try_from = "u32")]
struct NeverRead;

impl TryFrom<u32> for NeverRead {
    type Error = std::num::TryFromIntError;
    fn try_from(_: u32) -> Result<Self, Self::Error> {
        panic!("while reading")
    }
}

struct NeverWritten;

impl serde::Serialize for NeverWritten {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        panic!("while writing")
    }
}

struct NeverShown;

impl std::fmt::Display for NeverShown {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panic!("while showing")
    }
}

/// The next step of a handler that waits.
#[derive(Clone, Debug)]
struct Gate(Arc<Semaphore>);

impl Gate {
    async fn pass(self) {
        self.0.acquire().await.unwrap().forget();
    }
}

type Reasons = Record<(String, DisconnectReason)>;

/// A server whose handlers panic, and what left its namespaces.
fn panicking() -> (Running, Reasons, Gate) {
    quietly();
    let (reasons, gate) = (Reasons::new(), Gate(Arc::new(Semaphore::new(0))));
    let running = serve(Server::builder().workers(1).state(reasons.clone()).state(gate.clone()), |io| {
        for namespace in [io.namespace("/"), io.namespace("/chat")] {
            namespace.on("call", |_: Socket| {
                panic_in("the call itself");
                async {}
            });
            namespace.on("poll", async || panic_in("the first poll"));
            namespace.on("wait", async || {
                tokio::task::yield_now().await;
                panic_in("a later poll");
            });
            namespace.on("pass", async |State(gate): State<Gate>| {
                gate.pass().await;
                panic_in("a late poll");
            });
            namespace.on("read", async |Data(_): Data<NeverRead>| {});
            namespace.on("write", async || Answer(NeverWritten));
            namespace.on("show", async || Err::<(), _>(NeverShown));
            namespace.on("emit", async |socket: Socket| drop(socket.emit("x", &NeverWritten)));
            namespace.on("broadcast", async |io: Server| drop(io.emit("x", &NeverWritten)));
            namespace.on("sync", async || {});
            namespace.on_disconnect(
                async |socket: Socket, reason: DisconnectReason, State(reasons): State<Reasons>| {
                    reasons.push((socket.namespace().name().to_owned(), reason));
                },
            );
        }
    });
    (running, reasons, gate)
}

#[tokio::test]
async fn a_handler_that_panics_ends_its_socket_and_nothing_else() {
    for transport in Transport::ALL {
        let (running, reasons, _) = panicking();
        let mut witness = Client::websocket(running.addr).await;
        let events = ["call", "poll", "wait", "read", "write", "show", "emit", "broadcast"];
        for event in events {
            let mut client = Client::join(running.addr, transport).await;
            client.connect("/chat").await;
            client.send(&format!(r#"2/chat,5["{event}",1]"#)).await;
            client.expect("1/chat,").await;
            client.ask(r#"["sync"]"#, "[]").await;
            // It may come again.
            client.connect("/chat").await;
            client.send(r#"2/chat,1["sync"]"#).await;
            client.expect("3/chat,1[]").await;
            // The main namespace is treated like any other.
            client.send(&format!(r#"25["{event}",1]"#)).await;
            client.expect("1").await;
            client.send(r#"2/chat,2["sync"]"#).await;
            client.expect("3/chat,2[]").await;
            witness.ask(r#"["sync"]"#, "[]").await;
        }
        for namespace in ["/", "/chat"] {
            let panicked = (namespace.to_owned(), DisconnectReason::ServerNamespaceDisconnect);
            assert_eq!(reasons.all().iter().filter(|left| **left == panicked).count(), events.len());
        }
    }
}

#[tokio::test]
async fn a_handler_that_panics_after_its_socket_has_left_ends_nothing() {
    let (running, reasons, gate) = panicking();
    for transport in Transport::ALL {
        let mut client = Client::join(running.addr, transport).await;
        client.connect("/chat").await;
        client.send(r#"2/chat,["pass"]"#).await;
        eventually("the handler waits", async || running.io.stats().await.handlers == 1).await;
        client.send("1/chat,").await;
        eventually("it has left", async || running.io.namespace("/chat").stats().await.sockets == 0).await;
        gate.0.add_permits(1);
        eventually("the handler panics", async || running.io.stats().await.handlers == 0).await;
        client.ask(r#"["sync"]"#, "[]").await;
    }
    let left = reasons.all().into_iter().filter(|(namespace, _)| namespace == "/chat").map(|(_, reason)| reason);
    assert_eq!(left.collect::<Vec<_>>(), [DisconnectReason::ClientNamespaceDisconnect; 2]);
}

#[tokio::test]
async fn a_handler_that_panics_does_not_end_the_socket_that_came_after_its_own() {
    let (running, _, gate) = panicking();
    for transport in Transport::ALL {
        let mut client = Client::join(running.addr, transport).await;
        client.connect("/chat").await;
        client.send(r#"2/chat,["pass"]"#).await;
        eventually("the handler waits", async || running.io.stats().await.handlers == 1).await;
        client.send("1/chat,").await;
        client.connect("/chat").await;
        gate.0.add_permits(1);
        eventually("the handler panics", async || running.io.stats().await.handlers == 0).await;
        client.send(r#"2/chat,1["sync"]"#).await;
        client.expect("3/chat,1[]").await;
    }
}

#[tokio::test]
async fn a_connect_handler_that_panics_ends_its_socket() {
    quietly();
    let running = serve(Server::builder().workers(1), |io| {
        io.on("sync", async || {});
        io.namespace("/call").on_connect(|_: Socket| {
            panic_in("the call itself");
            async {}
        });
        io.namespace("/poll").on_connect(async || panic_in("the first poll"));
        io.namespace("/wait").on_connect(async || {
            tokio::task::yield_now().await;
            panic_in("a later poll");
        });
        io.namespace("/fail").on_connect(async || Err::<(), _>("no panic, but as good as one"));
    });
    for transport in Transport::ALL {
        let mut client = Client::join(running.addr, transport).await;
        for namespace in ["/call", "/poll", "/wait", "/fail"] {
            client.connect(namespace).await;
            client.expect(&format!("1{namespace},")).await;
            client.ask(r#"["sync"]"#, "[]").await;
        }
    }
}

#[tokio::test]
async fn a_disconnect_handler_that_panics_keeps_nobody_from_hearing_of_it() {
    quietly();
    let heard = Record::new();
    let running = serve(Server::builder().workers(1), |io| {
        io.on("sync", async || {});
        for namespace in ["/call", "/poll", "/wait", "/drop"] {
            let heard = heard.clone();
            let namespace = io.namespace(namespace);
            match namespace.name() {
                "/call" => namespace.on_disconnect(|_: Socket| {
                    panic_in("the call itself");
                    async {}
                }),
                "/poll" => namespace.on_disconnect(async || panic_in("the first poll")),
                "/wait" => namespace.on_disconnect(async || {
                    tokio::task::yield_now().await;
                    panic_in("a later poll");
                }),
                _ => namespace.on_disconnect(|| PanicsWhenDropped),
            };
            namespace.on_disconnect(move |socket: Socket| {
                heard.push(socket.namespace().name().to_owned());
                async {}
            });
        }
    });
    for transport in Transport::ALL {
        let mut client = Client::join(running.addr, transport).await;
        for namespace in ["/call", "/poll", "/wait", "/drop"] {
            client.connect(namespace).await;
            client.send(&format!("1{namespace},")).await;
            client.ask(r#"["sync"]"#, "[]").await;
        }
    }
    assert_eq!(heard.all(), ["/call", "/poll", "/wait", "/drop", "/call", "/poll", "/wait", "/drop"]);
}

/// A future written by hand.
pub(crate) struct PanicsWhenDropped;

impl Future for PanicsWhenDropped {
    type Output = ();
    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        panic!("while it is dropped")
    }
}

#[tokio::test]
async fn a_middleware_that_panics_refuses_its_client_and_leaves_nothing_behind() {
    quietly();
    let sockets = Record::<Socket>::new();
    let running = serve(Server::builder().workers(1), |io| {
        io.on("sync", async || {});
        let record = sockets.clone();
        io.namespace("/call").middleware(move |socket: Socket| {
            record.push(socket);
            panic_in("the call itself");
            async { Ok::<_, ConnectError>(()) }
        });
        let record = sockets.clone();
        io.namespace("/poll").middleware(move |socket: Socket| {
            record.push(socket);
            async {
                panic_in("the first poll");
                Ok::<_, ConnectError>(())
            }
        });
        let record = sockets.clone();
        io.namespace("/wait").middleware(move |socket: Socket| {
            record.push(socket.clone());
            async move {
                socket.join("room");
                tokio::task::yield_now().await;
                panic_in("a later poll");
                Ok::<_, ConnectError>(())
            }
        });
    });
    let mut clients = Vec::new();
    for transport in Transport::ALL {
        let mut client = Client::join(running.addr, transport).await;
        for namespace in ["/call", "/poll", "/wait"] {
            client.send(&format!("0{namespace},")).await;
            client.expect(&format!(r#"4{namespace},{{"message":"Internal server error"}}"#)).await;
            client.ask(r#"["sync"]"#, "[]").await;
        }
        clients.push(client);
    }
    for socket in sockets.all() {
        assert!(!socket.is_connected() && socket.emit("x", &()).now().is_err(), "{socket:?}");
    }
    assert_eq!(running.io.stats().await.sockets, 2);
}
