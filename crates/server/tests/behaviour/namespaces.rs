//! Namespaces share a connection and nothing else.

use std::time::Duration;

use posthaste::{Answer, DisconnectReason, Namespace, Server, Socket};
use posthaste_testkit::{Client, Record, Transport, eventually, serve};

#[tokio::test]
async fn namespaces_of_one_connection_have_their_own_ids_handlers_rooms_and_ends() {
    let reasons = Record::new();
    let running = serve(Server::builder().workers(1), |io| {
        for name in ["/", "/a", "/b"] {
            let namespace = io.namespace(name);
            namespace.on_connect(async |socket: Socket| socket.join("room"));
            namespace.on("where", async |namespace: Namespace| Answer(namespace.name().to_owned()));
            namespace.on("all", async |namespace: Namespace| {
                namespace.to("room").emit("from", namespace.name()).await.unwrap();
            });
            let record = reasons.clone();
            namespace.on_disconnect(move |socket: Socket, reason: DisconnectReason| {
                record.push((socket.namespace().name().to_owned(), reason.as_str()));
                async {}
            });
        }
    });
    for transport in Transport::ALL {
        let mut client = Client::open(running.addr, transport).await;
        let mut ids = vec![client.engine().sid().to_owned()];
        // None comes first by nature: a client may leave the main namespace out.
        for namespace in ["/b", "/", "/a"] {
            ids.push(client.connect(namespace).await);
        }
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 4, "three public ids and a secret one");
        assert_eq!(running.io.stats().await.connections, 1);
        client.send(r#"2/a,1["where"]"#).await;
        client.expect(r#"3/a,1["/a"]"#).await;
        client.ask(r#"["where"]"#, r#"["/"]"#).await;
        client.send(r#"2/b,["all"]"#).await;
        client.expect(r#"2/b,["from","/b"]"#).await;

        client.send("1").await;
        client.send(r#"2/a,2["where"]"#).await;
        client.expect(r#"3/a,2["/a"]"#).await;
        running.io.emit("nobody", &()).await.unwrap();
        client.connect("/").await;
        client.leave().await;
        eventually("it is gone", async || running.io.stats().await.connections == 0).await;
        let left = reasons.all().split_off(reasons.all().len() - 4);
        assert_eq!(left[0], ("/".to_owned(), "client namespace disconnect"));
        let mut closed: Vec<&str> = left[1..].iter().map(|(name, _)| name.as_str()).collect();
        closed.sort_unstable();
        assert_eq!(closed, ["/", "/a", "/b"]);
        assert!(left[1..].iter().all(|(_, reason)| *reason == "transport close"));
    }
}

#[tokio::test]
async fn a_namespace_that_nobody_opened_is_invalid() {
    let running = serve(Server::builder().workers(1), |io| {
        io.namespace("/a");
        io.namespace("no slash");
    });
    for transport in Transport::ALL {
        let mut client = Client::open(running.addr, transport).await;
        for name in ["/b", "/A", "/a/", "/aa", "//", "/a?token=x"] {
            client.send(&format!("0{name},{{}}")).await;
            client.expect(&format!(r#"4{name},{{"message":"Invalid namespace"}}"#)).await;
        }
        client.send("0/no slash,").await;
        client.connected("/no slash").await;
        // Without the comma the name runs to the end.
        client.send("0/a").await;
        client.connected("/a").await;
        // One that was opened since is found.
        client.send("0/later,").await;
        client.expect(r#"4/later,{"message":"Invalid namespace"}"#).await;
        let later = running.io.namespace(&format!("/later {transport:?}"));
        client.connect(later.name()).await;
    }
}

#[tokio::test]
async fn more_namespaces_than_allowed_are_refused_and_the_connection_stays() {
    let running = serve(Server::builder().workers(1).max_namespaces(3), |io| {
        (0..5).for_each(|number| drop(io.namespace(&format!("/{number}"))));
    });
    for transport in Transport::ALL {
        let mut client = Client::open(running.addr, transport).await;
        for number in 0..3 {
            client.connect(&format!("/{number}")).await;
        }
        client.send("0/3,").await;
        client.expect(r#"4/3,{"message":"Too many namespaces"}"#).await;
        client.send("1/0,").await;
        client.connect("/3").await;
        assert_eq!(running.io.namespace("/1").stats().await.sockets, 1);
        client.leave().await;
        eventually("it is gone", async || running.io.stats().await.connections == 0).await;
    }
}

#[tokio::test]
async fn a_client_that_joins_nothing_in_time_is_closed() {
    for transport in Transport::ALL {
        let running = serve(Server::builder().workers(1).connect_timeout(Duration::from_secs(1)), |io| {
            io.on("sync", async || {});
        });
        let mut joined = Client::join(running.addr, transport).await;
        let mut refused = Client::open(running.addr, transport).await;
        refused.send("0/unknown,").await;
        refused.expect(r#"4/unknown,{"message":"Invalid namespace"}"#).await;
        let mut silent = Client::open(running.addr, transport).await;
        silent.closed().await;
        refused.closed().await;
        // Who has joined may leave and stay.
        joined.send("1").await;
        tokio::time::sleep(Duration::from_millis(1_300)).await;
        joined.connect("/").await;
        joined.ask(r#"["sync"]"#, "[]").await;
        eventually("only that one is left", async || running.io.stats().await.connections == 1).await;
    }
}

#[tokio::test]
async fn any_timeout_may_be_for_ever() {
    let builder = Server::builder()
        .workers(1)
        .connect_timeout(Duration::MAX)
        .ack_timeout(Duration::MAX)
        .upgrade_timeout(Duration::MAX)
        .ping(Duration::MAX, Duration::MAX);
    let running = serve(builder, |io| {
        io.on("sync", async || {});
    });
    for transport in Transport::ALL {
        let mut client = Client::join(running.addr, transport).await;
        client.ask(r#"["sync"]"#, "[]").await;
    }
    let mut client = Client::join(running.addr, Transport::Polling).await;
    client.engine().upgrade().await.unwrap();
    client.ask(r#"["sync"]"#, "[]").await;
}
