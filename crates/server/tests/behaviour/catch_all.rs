//! Listeners that see all events, coming and going.

use bytes::Bytes;
use posthaste::{Ack, Answer, Args, CatchAllId, Data, Event, Server, Socket};
use posthaste_testkit::{Client, Record, Transport, serve};

use crate::spread::Spread;

type Seen = Record<String>;

/// A listener that notes what it sees.
fn noting(
    seen: &Seen,
    who: &'static str,
) -> impl Fn(Event, Data<Args<'static>>) -> std::future::Ready<()> + Send + Sync + use<> {
    let seen = seen.clone();
    move |Event(name), Data(args)| {
        seen.push(format!("{who} {name} {}", args.raw()));
        std::future::ready(())
    }
}

#[tokio::test]
async fn incoming_events_are_seen_before_middlewares_and_handlers_whether_or_not_they_are_handled() {
    let seen = Seen::new();
    let running = serve(Server::builder().workers(1), |io| {
        let (checks, handled) = (seen.clone(), seen.clone());
        io.event_middleware(move |Event(name): Event| {
            checks.push(format!("check {name}"));
            async move { if name == "bad" { Err("bad") } else { Ok(()) } }
        });
        io.on("known", move || {
            handled.push("handler".to_owned());
            async { Answer("handled") }
        });
        io.on_any(noting(&seen, "first"));
        io.on_any(noting(&seen, "second"));
        let own = seen.clone();
        io.on_connect(move |socket: Socket| {
            socket.on_any(noting(&own, "socket"));
            async {}
        });
    });
    for transport in Transport::ALL {
        let mut client = Client::join(running.addr, transport).await;
        client.ask(r#"["known",1,"x"]"#, r#"["handled"]"#).await;
        client.ask(r#"["bad"]"#, r#"[{"error":"bad"}]"#).await;
        client.emit(r#"["unknown"]"#).await;
        client.ask(r#"["known"]"#, r#"["handled"]"#).await;
        let before = |event: &str, args: &str| ["first", "second", "socket"].map(|who| format!("{who} {event} {args}"));
        let mut expected = before("known", r#"1,"x""#).to_vec();
        expected.extend(["check known".to_owned(), "handler".to_owned()]);
        expected.extend(before("bad", ""));
        expected.push("check bad".to_owned());
        expected.extend(before("unknown", ""));
        expected.push("check unknown".to_owned());
        expected.extend(before("known", ""));
        expected.extend(["check known".to_owned(), "handler".to_owned()]);
        let all = seen.all();
        assert_eq!(all[all.len() - expected.len()..], expected);
    }
}

#[tokio::test]
async fn a_catch_all_listener_may_answer_disconnect_or_be_taken_away() {
    let ids: Record<CatchAllId> = Record::new();
    let running = serve(Server::builder().workers(1), |io| {
        io.on_any(async |Event(name): Event, _: Data<Bytes>| panic!("{name} is no binary"));
        let id = io.on_any(async |Event(name): Event, socket: Socket| {
            if name == "leave" {
                socket.disconnect(false);
            }
        });
        ids.push(id);
        io.on_any(|Event(name): Event, socket: Socket| {
            if name == "panic" {
                panic!("on purpose");
            }
            async move { drop(socket) }
        });
        io.on("leave", async || Answer("stayed"));
        io.on("plain", async || Answer("handler"));
        let answering = io.namespace("/answering");
        answering.on_any(async |ack: Ack| ack.send("listener").now().unwrap());
        answering.on("plain", async || Answer("handler"));
    });
    let mut client = Client::websocket(running.addr).await;
    client.connect("/answering").await;
    client.ask(r#"["plain"]"#, r#"["handler"]"#).await;
    client.send(r#"2/answering,4["plain"]"#).await;
    client.expect(r#"3/answering,4["listener"]"#).await;
    // Gone: no handler sees the event.
    client.send(r#"21["leave"]"#).await;
    client.expect("1").await;
    client.connect("/").await;
    client.emit(r#"["panic"]"#).await;
    client.expect("1").await;
    client.connect("/").await;
    let id = ids.all()[0];
    assert!(running.io.off_any(id) && !running.io.off_any(id));
    client.ask(r#"["leave"]"#, r#"["stayed"]"#).await;
}

#[tokio::test]
async fn outgoing_events_are_seen_for_each_socket_they_reach_and_answers_are_not() {
    let seen = Seen::new();
    let spread = Spread::over(2, |io| {
        io.on("echo", async |Data(args): Data<Args<'static>>, ack: Ack| ack.send(&args).await);
        io.on("back", async |socket: Socket| socket.emit("from handler", &Bytes::from_static(b"abc")).await);
    });
    let io = &spread.running.io;
    let mut clients = spread.clients(1).await;
    clients[0].socket.join("room");
    clients[1].socket.join(["room", "other"]);
    let record = seen.clone();
    let ids = [
        io.on_any_outgoing(move |socket: Socket, Event(name): Event, Data(args): Data<Args<'static>>| {
            assert!(socket.is_connected());
            record.push(format!("all {name} {}", args.raw()));
            async {}
        }),
        clients[1].socket.on_any_outgoing(noting(&seen, "one")),
    ];
    io.namespace("/elsewhere").emit("elsewhere", &()).await.unwrap();
    io.to("room").except("other").emit("except", &1).await.unwrap();
    io.to("room").emit("both", &("x", [1, 2])).await.unwrap();
    clients[0].socket.emit("alone", &()).await.unwrap();
    clients[1].socket.volatile().emit("volatile", &()).await.unwrap();
    let asked = clients[1].socket.emit_with_ack::<u32>("question", &());
    let many = io.to("other").emit_with_ack::<u32>("many", &());
    let mut expected = vec!["all except 1", r#"all both "x",[1,2]"#, r#"all both "x",[1,2]"#, "all alone "];
    expected.extend([r#"one both "x",[1,2]"#, "all volatile ", "one volatile ", "all question ", "one question "]);
    expected.extend(["all many ", "one many "]);
    let mut all = seen.wait_for(expected.len()).await;
    expected.sort_unstable();
    all.sort_unstable();
    assert_eq!(all, expected);
    drop((asked, many));
    for (client, packets) in clients.iter_mut().zip([&["except", "both", "alone"][..], &["both", "volatile"]]) {
        for packet in packets {
            assert!(client.client.text().await.contains(packet));
        }
    }
    for packet in ["question", "many"] {
        assert!(clients[1].client.text().await.contains(packet));
    }
    // Answers are no events.
    clients[0].client.ask(r#"["echo",1]"#, "[1]").await;
    clients[0].client.emit(r#"["back"]"#).await;
    clients[0].client.expect(r#"51-["from handler",{"_placeholder":true,"num":0}]"#).await;
    clients[0].client.expect_binary(b"abc").await;
    let placeholder = r#"{"_placeholder":true,"num":0}"#;
    assert_eq!(seen.all()[expected.len()..], [format!("all from handler {placeholder}")]);
    // Taken away: nothing is seen any more.
    assert!(io.off_any(ids[0]) && clients[1].socket.off_any(ids[1]));
    io.emit("unseen", &()).await.unwrap();
    for client in &mut clients {
        client.client.expect(r#"2["unseen"]"#).await;
    }
    assert_eq!(seen.all().len(), expected.len() + 1);
}

#[tokio::test]
async fn children_of_a_parent_are_watched_as_their_parent_was_when_they_were_made() {
    let seen = Seen::new();
    let running = serve(Server::builder().workers(1), |io| {
        let parent = io.namespaces("/dyn/{id}").unwrap();
        parent.on_any(noting(&seen, "in"));
        parent.on_any_outgoing(noting(&seen, "out"));
        parent.on("back", async |socket: Socket| socket.send("text").await);
    });
    let mut client = Client::websocket(running.addr).await;
    client.connect("/dyn/1").await;
    client.send(r#"2/dyn/1,["back"]"#).await;
    client.expect(r#"2/dyn/1,["message","text"]"#).await;
    assert_eq!(seen.all(), ["in back ", r#"out message "text""#]);
}

#[tokio::test]
async fn nobody_is_asked_after_a_listener_has_disconnected_it() {
    crate::panics::quietly();
    let spread = Spread::over(1, |io| {
        io.on_any_outgoing(|Event(name): Event| {
            assert_eq!(name, "harmless", "on purpose");
            async {}
        });
    });
    for round in 0..3 {
        let mut placed = spread.client().await;
        let io = &spread.running.io;
        let asked = match round {
            0 => placed.socket.emit_with_ack::<()>("question", &()).await.err(),
            1 => {
                assert_eq!(io.emit_with_ack::<()>("question", &()).await.unwrap().asked, 0);
                None
            }
            _ => {
                placed.socket.emit("harmful", &()).await.unwrap();
                None
            }
        };
        assert!(matches!(asked, None | Some(posthaste::AckError::Disconnected)), "{asked:?}");
        placed.client.expect("1").await;
        // What is sent to it now would be heard by the socket that comes next.
        placed.client.connect("/").await;
    }
}

/// A mistake that costs the socket its connection, and the process nothing.
#[tokio::test]
async fn a_listener_that_is_shown_what_it_sends_does_not_end_the_process() {
    let outbox = posthaste::OutboxLimits { bytes: 1 << 20, packets: 1_000 };
    let spread = Spread::with(
        1,
        |builder| builder.outbox(outbox),
        |io| {
            io.on("sync", async || {});
            io.on("begin", async |socket: Socket| socket.emit("echo", &0).await);
            io.on_any_outgoing(|socket: Socket| {
                drop(socket.emit("echo", &()));
                async {}
            });
            let polite = io.namespace("/later");
            polite.on("begin", async |socket: Socket| socket.emit("echo", &0).await);
            polite.on_any_outgoing(async |socket: Socket| drop(socket.emit("echo", &Bytes::from_static(&[0; 65_536]))));
        },
    );
    let mut witness = spread.client().await;
    for namespace in ["", "/later,"] {
        let mut placed = spread.client().await;
        if !namespace.is_empty() {
            placed.client.connect("/later").await;
        }
        placed.client.send(&format!(r#"2{namespace}["begin"]"#)).await;
        witness.client.ask(r#"["sync"]"#, "[]").await;
    }
}
