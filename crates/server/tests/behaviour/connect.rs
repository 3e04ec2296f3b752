//! Middlewares: who may join a namespace, and what happens until that is decided.

use std::sync::Arc;

use posthaste::{Auth, ConnectError, DisconnectReason, Server, Socket, State};
use posthaste_testkit::{Client, Record, Running, Transport, eventually, serve};
use serde::Deserialize;
use tokio::sync::Semaphore;

#[tokio::test]
async fn middlewares_are_asked_in_their_order_then_connect_handlers_are_called_in_theirs() {
    let seen = Record::<&'static str>::new();
    let running = serve(Server::builder().workers(1).state(seen.clone()), |io| {
        io.on_connect(async |socket: Socket, State(seen): State<Record<&'static str>>| {
            assert!(socket.is_connected());
            seen.push("first handler");
            tokio::task::yield_now().await;
            seen.push("first handler, later");
        });
        io.middleware(async |socket: Socket, State(seen): State<Record<&'static str>>| {
            assert!(!socket.is_connected());
            seen.push("first middleware");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            seen.push("first middleware, later");
            Ok::<_, ConnectError>(())
        });
        io.middleware(async |State(seen): State<Record<&'static str>>| {
            seen.push("second middleware");
            Ok::<_, ConnectError>(())
        });
        io.on_connect(async |State(seen): State<Record<&'static str>>| seen.push("second handler"));
    });
    let mut expected = Vec::new();
    for transport in Transport::ALL {
        Client::join(running.addr, transport).await;
        expected.extend([
            "first middleware",
            "first middleware, later",
            "second middleware",
            "first handler",
            "second handler",
            "first handler, later",
        ]);
        assert_eq!(seen.wait_for(expected.len()).await, expected);
    }
}

#[derive(Debug, thiserror::Error)]
#[error("no {0} here")]
struct Unwelcome(&'static str);

#[tokio::test]
async fn a_refusal_reaches_the_client_with_its_message_and_data() {
    #[derive(Deserialize)]
    struct Token {
        token: String,
    }
    let seen = Record::new();
    let record = seen.clone();
    let running = serve(Server::builder().workers(1), |io| {
        io.middleware(async |Auth(auth): Auth<Token>| match auth.token.as_str() {
            "good" => Ok(()),
            "data" => Err(ConnectError::new("not authorized").with_data(&serde_json::json!({ "code": 401 }))),
            "text" => Err(ConnectError::new("say \"please\"")),
            _ => Err(ConnectError::from(Unwelcome("stranger"))),
        });
        io.middleware(move |socket: Socket| {
            record.push(socket.id().to_string());
            async { Ok::<_, Unwelcome>(()) }
        });
        io.on("sync", async || {});
    });
    let mut stay = Vec::new();
    for transport in Transport::ALL {
        let mut client = Client::open(running.addr, transport).await;
        for (auth, answer) in [
            (r#"{"token":"data"}"#, r#"4{"message":"not authorized","data":{"code":401}}"#),
            (r#"{"token":"text"}"#, r#"4{"message":"say \"please\""}"#),
            (r#"{"token":"other"}"#, r#"4{"message":"no stranger here"}"#),
        ] {
            client.send(&format!("0{auth}")).await;
            client.expect(answer).await;
        }
        client.send(r#"0{"token":1}"#).await;
        let answer = client.text().await;
        assert!(answer.starts_with(r#"4{"message":"the auth of the connection: "#), "{answer}");
        // Refused is not banned.
        let id = client.connect_with("/", r#"{"token":"good"}"#).await;
        assert_eq!(seen.all().last(), Some(&id), "the second middleware was asked only now");
        client.ask(r#"["sync"]"#, "[]").await;
        stay.push(client);
    }
    assert_eq!(seen.all().len(), 2);
    assert_eq!(running.io.stats().await.sockets, 2);
}

#[tokio::test]
async fn what_a_middleware_emits_comes_before_the_answer_and_its_rooms_count_from_it_on() {
    let running = serve(Server::builder().workers(1), |io| {
        io.middleware(async |socket: Socket, io: Server| {
            socket.emit("early", &1).await?;
            socket.join(["a", "b", "c"]);
            socket.leave("c");
            assert!(socket.rooms().await.is_empty());
            // Not a member yet: no broadcast finds it.
            io.emit("broadcast", &()).await?;
            io.to("a").emit("to a", &()).await?;
            io.to(socket.id()).emit("to its id", &()).await?;
            tokio::task::yield_now().await;
            socket.emit("early", &2).await?;
            Ok::<_, posthaste::SendError>(())
        });
        io.on_connect(async |socket: Socket, io: Server| {
            assert_eq!(socket.rooms().await.len(), 3);
            io.to("a").emit("to a", &()).await.unwrap();
            io.to("c").emit("to c", &()).await.unwrap();
            io.to(socket.id()).emit("to its id", &()).await.unwrap();
        });
    });
    for transport in Transport::ALL {
        let mut client = Client::open(running.addr, transport).await;
        client.send("0").await;
        client.expect(r#"2["early",1]"#).await;
        client.expect(r#"2["early",2]"#).await;
        client.connected("/").await;
        client.expect(r#"2["to a"]"#).await;
        client.expect(r#"2["to its id"]"#).await;
        client.leave().await;
        eventually("it is gone", async || running.io.stats().await.connections == 0).await;
    }
}

#[tokio::test]
async fn connect_handlers_start_before_the_first_event_also_behind_a_middleware() {
    let seen = Record::<&'static str>::new();
    let running = serve(Server::builder().workers(1).state(seen.clone()), |io| {
        io.middleware(async || Ok::<_, ConnectError>(()));
        io.on_connect(async |State(seen): State<Record<&'static str>>| seen.push("connect"));
        io.on("event", async |State(seen): State<Record<&'static str>>| seen.push("event"));
    });
    for transport in Transport::ALL {
        let mut client = Client::open(running.addr, transport).await;
        // A client in a hurry: it does not wait for the answer.
        client.send_all(&["0", r#"21["event"]"#]).await;
        client.connected("/").await;
        client.expect("31[]").await;
    }
    assert_eq!(seen.all(), ["connect", "event", "connect", "event"]);
}

#[derive(Clone)]
struct Gate(Arc<Semaphore>);

/// A server whose one middleware waits for a permit, then decides.
fn slow(verdict: Result<(), &'static str>) -> (Running, Gate, Record<Socket>, Record<DisconnectReason>) {
    let gate = Gate(Arc::new(Semaphore::new(0)));
    let (sockets, reasons) = (Record::new(), Record::new());
    let state = (sockets.clone(), reasons.clone());
    let running = serve(Server::builder().workers(1).state(gate.clone()), |io| {
        let record = state.0;
        io.namespace("/slow").middleware(move |socket: Socket, State(gate): State<Gate>| {
            record.push(socket.clone());
            async move {
                socket.join("early");
                gate.0.acquire().await.unwrap().forget();
                socket.join("late");
                verdict.map_err(ConnectError::new)
            }
        });
        let record = state.1;
        io.namespace("/slow").on_disconnect(move |reason: DisconnectReason| {
            record.push(reason);
            async {}
        });
        io.on("sync", async || {});
    });
    (running, gate, sockets, reasons)
}

#[tokio::test]
async fn a_client_that_goes_while_a_middleware_decides_leaves_nothing_behind() {
    for verdict in [Ok(()), Err("no")] {
        for transport in Transport::ALL {
            let (running, gate, sockets, reasons) = slow(verdict);
            let mut client = Client::join(running.addr, transport).await;
            client.send("0/slow,").await;
            let socket = sockets.wait_for(1).await.remove(0);
            client.leave().await;
            eventually("it is gone", async || running.io.stats().await.connections == 0).await;
            // Somebody else takes the place of the connection meanwhile, and is not let in by mistake.
            let mut next = Client::join(running.addr, transport).await;
            next.send("0/slow,").await;
            sockets.wait_for(2).await;
            gate.0.add_permits(1);
            eventually("the first is decided", async || running.io.stats().await.handlers == 1).await;
            assert!(!socket.is_connected() && socket.emit("x", &()).now().is_err());
            let stats = running.io.namespace("/slow").stats().await;
            assert_eq!((stats.sockets, stats.rooms), (0, 0));
            next.ask(r#"["sync"]"#, "[]").await;
            gate.0.add_permits(1);
            match verdict {
                Ok(()) => drop(next.connected("/slow").await),
                Err(message) => next.expect(&format!(r#"4/slow,{{"message":"{message}"}}"#)).await,
            }
            let stats = running.io.namespace("/slow").stats().await;
            assert_eq!((stats.sockets, stats.rooms), if verdict.is_ok() { (1, 3) } else { (0, 0) });
            assert!(reasons.all().is_empty(), "who never joined never left");
        }
    }
}

#[tokio::test]
async fn while_a_middleware_decides_other_namespaces_go_on_and_its_own_takes_nothing() {
    for transport in Transport::ALL {
        let (running, gate, sockets, _) = slow(Ok(()));
        let mut client = Client::join(running.addr, transport).await;
        client.send("0/slow,").await;
        sockets.wait_for(1).await;
        client.ask(r#"["sync"]"#, "[]").await;
        running.io.namespace("/slow").emit("not yet", &()).await.unwrap();
        client.ask(r#"["sync"]"#, "[]").await;
        gate.0.add_permits(1);
        client.connected("/slow").await;
        running.io.namespace("/slow").to("late").emit("now", &()).await.unwrap();
        client.expect(r#"2/slow,["now"]"#).await;

        // An event for a namespace that was not joined yet breaks the protocol.
        let mut client = Client::join(running.addr, transport).await;
        client.send("0/slow,").await;
        sockets.wait_for(2).await;
        client.send(r#"2/slow,["early"]"#).await;
        client.closed().await;
        gate.0.add_permits(1);
    }
}
