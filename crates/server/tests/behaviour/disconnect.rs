//! Every way to go, its reason, and that it is told once.

use std::time::Duration;

use posthaste::{DisconnectReason, Namespace, OutboxLimits, Server, Socket};
use posthaste_testkit::{Client, Frame, Http, Packet, Record, Request, Running, Transport, eventually, serve};

/// A server that keeps reasons, and sockets.
fn telling(builder: posthaste::Builder) -> (Running, Record<String>, Record<Socket>) {
    let (reasons, sockets) = (Record::new(), Record::new());
    let running = serve(builder.workers(1), |io| {
        let (record, keep) = (reasons.clone(), sockets.clone());
        io.on_connect(move |socket: Socket| {
            keep.push(socket);
            async {}
        });
        io.on_disconnect(move |socket: Socket, namespace: Namespace, reason: DisconnectReason| {
            assert!(!socket.is_connected() && namespace.name() == "/");
            record.push(reason.to_string());
            async move { assert!(socket.rooms().await.is_empty()) }
        });
        io.on("sync", async || {});
    });
    (running, reasons, sockets)
}

/// The reason of one client that goes as `go` makes it.
async fn reason_of<F: Future>(
    transport: Transport,
    builder: posthaste::Builder,
    go: impl FnOnce(Client, Socket, Server) -> F,
) -> String {
    let (running, reasons, sockets) = telling(builder);
    let client = Client::join(running.addr, transport).await;
    let socket = sockets.all().remove(0);
    let kept = go(client, socket.clone(), running.io.clone()).await;
    eventually("it is gone", async || running.io.stats().await.sockets == 0).await;
    let mut all = reasons.wait_for(1).await;
    // Another goodbye would have been said by now: the connection behind it is gone as well.
    socket.disconnect(true);
    drop(kept);
    eventually("its connection is gone", async || {
        running.io.stats().await.connections == 0 || all[0].contains("namespace")
    })
    .await;
    assert_eq!(reasons.all().len(), 1, "told once");
    all.remove(0)
}

#[tokio::test]
async fn every_reason_is_told_in_the_official_words() {
    let plain = || Server::builder();
    for transport in Transport::ALL {
        let of = |builder, go: fn(Client, Socket, Server) -> std::pin::Pin<Box<dyn Future<Output = Client>>>| {
            reason_of(transport, builder, go)
        };
        let reason = of(plain(), |mut client, _, _| {
            Box::pin(async move {
                client.send("1").await;
                client
            })
        });
        assert_eq!(reason.await, "client namespace disconnect");
        let reason = of(plain(), |mut client, socket, _| {
            Box::pin(async move {
                socket.disconnect(false);
                client.expect("1").await;
                client
            })
        });
        assert_eq!(reason.await, "server namespace disconnect");
        let reason = of(plain(), |mut client, socket, _| {
            Box::pin(async move {
                socket.disconnect(true);
                client.expect("1").await;
                client.closed().await;
                client
            })
        });
        assert_eq!(reason.await, "server namespace disconnect");
        let reason = of(plain(), |mut client, _, io| {
            Box::pin(async move {
                let close = tokio::task::spawn_blocking(move || io.close(posthaste_testkit::PATIENCE));
                client.closed().await;
                close.await.unwrap();
                client
            })
        });
        assert_eq!(reason.await, "server shutting down");
        let reason = of(plain().ping(Duration::from_millis(300), Duration::from_millis(1_500)), |mut client, _, _| {
            Box::pin(async move {
                assert_eq!(client.engine().packet().await.unwrap(), Packet::Text("2".to_owned()));
                client.closed().await;
                client
            })
        });
        assert_eq!(reason.await, "ping timeout");
        let reason = of(plain(), |mut client, _, _| {
            Box::pin(async move {
                // No packet of Engine.IO.
                drop(client.engine().send_all(&[Packet::Text("9".to_owned())]).await);
                client.closed().await;
                client
            })
        });
        assert_eq!(reason.await, "parse error");
        let reason = of(plain(), |mut client, _, _| {
            Box::pin(async move {
                // In this revision only servers ping.
                drop(client.engine().send_all(&[Packet::Text("2".to_owned())]).await);
                client.closed().await;
                client
            })
        });
        assert_eq!(reason.await, "transport error");
        let reason = of(plain(), |mut client, _, _| {
            Box::pin(async move {
                // A packet of Engine.IO, but none of Socket.IO; the poll lets the connection close at once.
                client.engine().park().await.unwrap();
                client.send("no packet").await;
                client.closed().await;
                client
            })
        });
        assert_eq!(reason.await, "forced close");
        let small = OutboxLimits { bytes: 20_000, packets: 1000 };
        let reason = of(plain().outbox(small), |client, socket, io| {
            Box::pin(async move {
                let large = "x".repeat(10_000);
                // What the kernel takes for the client does not count.
                while io.stats().await.sockets > 0 {
                    if socket.emit("large", &large).now().is_err() {
                        break;
                    }
                }
                client
            })
        });
        assert_eq!(reason.await, "slow");
    }
}

#[tokio::test]
async fn a_polling_client_that_breaks_a_rule_between_two_polls_is_closed_with_the_next() {
    let reason = reason_of(Transport::Polling, Server::builder(), |mut client, _, _| async move {
        client.send("no packet").await;
        client.closed().await;
        client
    });
    assert_eq!(reason.await, "forced server close");
}

#[tokio::test]
async fn a_websocket_that_ends_without_a_rule_broken_is_a_transport_close() {
    for frame in [Some(Frame::close(1000)), Some(Frame::new(8, [])), Some(Frame::close(3999)), None] {
        let reason = reason_of(Transport::WebSocket, Server::builder(), |mut client, _, _| async move {
            match frame {
                Some(frame) => client.engine().websocket().send(&frame).await.unwrap(),
                None => client.engine().websocket().wire().finish().await.unwrap(),
            }
            client.closed().await;
            client
        });
        assert_eq!(reason.await, "transport close");
    }
    let reset = reason_of(Transport::WebSocket, Server::builder(), |client, _, _| async move { client.reset() });
    assert_eq!(reset.await, "transport close");
}

#[tokio::test]
async fn a_websocket_that_breaks_a_rule_is_a_transport_error_with_its_close_code() {
    for (frame, code) in [
        (Frame { reserved: 4, ..Frame::text("4") }, 1002),
        (Frame { opcode: 3, ..Frame::text("4") }, 1002),
        (Frame::new(0, "continues nothing"), 1002),
        (Frame::new(9, [0; 126]), 1002),
        (Frame::new(8, [3]), 1002),
        (Frame::new(1, [b'4', 0xff]), 1007),
        (Frame::new(2, vec![0; 2001]), 1009),
    ] {
        let builder = Server::builder().max_payload(2000);
        let reason = reason_of(Transport::WebSocket, builder, |mut client, _, _| async move {
            client.engine().websocket().send(&frame).await.unwrap();
            assert_eq!(client.closed().await, Some(code), "{frame:?}");
            client
        });
        assert_eq!(reason.await, "transport error");
    }
}

#[tokio::test]
async fn a_polling_client_that_breaks_a_rule_is_a_transport_error() {
    // Two polls at once.
    let (running, reasons, _) = telling(Server::builder());
    let mut client = Client::join(running.addr, Transport::Polling).await;
    let target = client.engine().polling_target();
    client.engine().begin_poll().await.unwrap();
    let mut refused = 0;
    while refused == 0 {
        let second = Http::once(running.addr, &Request::get(&target)).await.unwrap();
        refused = usize::from(second.status == 400);
    }
    assert_eq!(reasons.wait_for(1).await, ["transport error"]);
    // A poll that is given up.
    let mut client = Client::join(running.addr, Transport::Polling).await;
    client.engine().park().await.unwrap();
    drop(client);
    assert_eq!(reasons.wait_for(2).await, ["transport error", "transport error"]);
    // A POST that is given up.
    let mut client = Client::join(running.addr, Transport::Polling).await;
    let mut post = Http::connect(running.addr).await;
    let request = Request::new("POST", &client.engine().polling_target()).header("Content-Length", "100");
    post.wire().write(&[&request.encode()[..], b"42[\"sync\"]"].concat()).await.unwrap();
    // One worker takes requests in the order of their arrival: this one's answer shows that the POST has begun.
    Http::once(running.addr, &Request::get("/elsewhere")).await.unwrap();
    drop(post);
    assert_eq!(reasons.wait_for(3).await.len(), 3);
    assert_eq!(running.io.stats().await.connections, 0);
}

#[tokio::test]
async fn taking_one_namespace_away_leaves_the_connection_and_closing_takes_all() {
    let left = Record::new();
    let sockets = Record::<Socket>::new();
    let running = serve(Server::builder().workers(1), |io| {
        for name in ["/", "/a", "/b"] {
            let (record, keep) = (left.clone(), sockets.clone());
            let namespace = io.namespace(name);
            namespace.on_connect(move |socket: Socket| {
                keep.push(socket);
                async {}
            });
            namespace.on("sync", async || {});
            namespace.on_disconnect(move |socket: Socket, reason: DisconnectReason| {
                record.push((socket.namespace().name().to_owned(), reason.as_str()));
                async {}
            });
        }
    });
    for transport in Transport::ALL {
        let begin = left.all().len();
        let mut client = Client::open(running.addr, transport).await;
        for namespace in ["/", "/a", "/b"] {
            client.connect(namespace).await;
        }
        let all = sockets.all().split_off(sockets.all().len() - 3);
        all[1].disconnect(false);
        client.expect("1/a,").await;
        // Said before it had heard of it: passed over.
        client.send(r#"2/a,7["sync"]"#).await;
        client.send("1/a,").await;
        client.ask(r#"["sync"]"#, "[]").await;
        client.connect("/a").await;
        all[0].disconnect(true);
        for namespace in ["1", "1/b,", "1/a,"] {
            client.expect(namespace).await;
        }
        client.closed().await;
        let told = left.wait_for(begin + 4).await.split_off(begin);
        let names: Vec<&str> = told.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["/a", "/", "/b", "/a"]);
        assert!(told.iter().all(|(_, reason)| *reason == "server namespace disconnect"), "{told:?}");
    }
}

#[tokio::test]
async fn what_was_said_before_a_disconnect_arrives_before_it() {
    let running = serve(Server::builder().workers(1), |io| {
        io.on("bye", async |socket: Socket, io: Server| {
            socket.emit("last", &1).await.unwrap();
            io.emit("last", &2).await.unwrap();
            socket.disconnect(true);
        });
    });
    for transport in Transport::ALL {
        for _ in 0..30 {
            let mut client = Client::join(running.addr, transport).await;
            client.emit(r#"["bye"]"#).await;
            client.expect(r#"2["last",1]"#).await;
            client.expect(r#"2["last",2]"#).await;
            client.expect("1").await;
            client.closed().await;
        }
    }
}

/// The request that makes the server say goodbye, and the poll that fetches it, arrive in the same moment.
#[tokio::test]
async fn a_poll_that_meets_the_goodbye_on_its_way_misses_nothing() {
    let running = serve(Server::builder().workers(1), |io| {
        io.on("bye", async |socket: Socket| {
            socket.emit("last", &()).await.unwrap();
            socket.disconnect(true);
        });
    });
    for _ in 0..60 {
        let mut client = Client::join(running.addr, Transport::Polling).await;
        let target = client.engine().polling_target();
        let mut post = Http::connect(running.addr).await;
        let request = Request::post(&target, r#"42["bye"]"#).encode();
        post.wire().write(&request).await.unwrap();
        client.expect(r#"2["last"]"#).await;
        client.expect("1").await;
        client.closed().await;
        assert_eq!(post.response().await.unwrap().status, 200);
    }
}
