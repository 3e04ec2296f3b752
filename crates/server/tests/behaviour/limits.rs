//! What clients may ask for, and what they get that ask for more.

use std::time::{Duration, Instant};

use posthaste::{
    AckError, BuildError, ConnectError, Data, DisconnectReason, Event, Excess, JoinError, Limit, LimitMode,
    OutboxLimits, Rate, Server, Socket, State,
};
use posthaste_testkit::{
    Client, Engine, Http, Packet, Record, Request, Running, Transport, WebSocket, Wire, eventually, serve,
    upgrade_request,
};

/// Slow enough that a test is over before much is allowed again.
const SLOW: Rate = Rate::per_second(1).burst(3);

/// `join`, `quietly` (by [`Socket::join`]) and `leave` take a room; `held` tells how many rooms there are; `sync` nothing.
fn with_rooms(builder: posthaste::Builder) -> Running {
    serve(builder.workers(1), |io| {
        io.on("join", async |socket: Socket, Data(rooms): Data<Vec<String>>| socket.try_join(rooms).await);
        io.on("quietly", async |socket: Socket, Data(room): Data<String>| socket.join(room));
        io.on("leave", async |socket: Socket, Data(room): Data<String>| socket.leave(room));
        io.on("held", async |socket: Socket| posthaste::Answer(socket.rooms().await.len() - 1));
        io.on("sync", async || {});
    })
}

#[tokio::test]
async fn a_socket_is_in_no_more_rooms_than_it_may_be() {
    let running = with_rooms(Server::builder().max_rooms(3));
    for transport in Transport::ALL {
        let mut client = Client::join(running.addr, transport).await;
        let refused = r#"[{"error":"a socket may be in no more than 3 rooms"}]"#;
        client.ask(r#"["join",["a","b"]]"#, "[]").await;
        client.ask(r#"["join",["c","d"]]"#, refused).await;
        client.ask(r#"["held"]"#, "[2]").await;
        client.ask(r#"["join",["c","a"]]"#, "[]").await;
        // Where it is already, it may join again, its own room too.
        client.ask(r#"["join",["a","b","c"]]"#, "[]").await;
        client.ask(r#"["join",["d"]]"#, refused).await;
        client.ask(r#"["quietly","d"]"#, "[]").await;
        running.io.to("a").sockets_join(["e", "f"]).await.unwrap();
        client.ask(r#"["held"]"#, "[3]").await;
        client.ask(r#"["leave","a"]"#, "[]").await;
        client.ask(r#"["quietly","d"]"#, "[]").await;
        client.ask(r#"["held"]"#, "[3]").await;
        client.leave().await;
    }
    assert_eq!(running.io.refused().by(Limit::Rooms), 2 * 4);
}

#[tokio::test]
async fn rooms_that_are_joined_before_the_socket_is_let_in_count_as_well() {
    let answers = Record::<Result<(), JoinError>>::new();
    let running = serve(Server::builder().workers(1).max_rooms(2).state(answers.clone()), |io| {
        io.middleware(async |socket: Socket, State(answers): State<Record<Result<(), JoinError>>>| {
            for rooms in [&["a", "b"][..], &["a"], &["c"]] {
                answers.push(socket.try_join(rooms).await);
            }
            Ok::<(), ConnectError>(())
        });
        io.on("held", async |socket: Socket| posthaste::Answer(socket.rooms().await.len() - 1));
    });
    let mut client = Client::websocket(running.addr).await;
    assert_eq!(answers.all(), [Ok(()), Ok(()), Err(JoinError::TooManyRooms { max: 2 })]);
    client.ask(r#"["held"]"#, "[2]").await;
}

#[tokio::test]
async fn events_beyond_the_rate_are_answered_with_an_error_and_not_handled() {
    for transport in Transport::ALL {
        let handled = Record::<String>::new();
        let running = serve(Server::builder().workers(1).event_rate(SLOW).state(handled.clone()), |io| {
            io.fallback(async |Event(name): Event, State(handled): State<Record<String>>| handled.push(name));
        });
        let begin = Instant::now();
        let mut client = Client::join(running.addr, transport).await;
        let events: Vec<String> = (0..50).map(|id| format!(r#"2{id}["e{id}"]"#)).collect();
        client.send_all(&events.iter().map(String::as_str).collect::<Vec<_>>()).await;
        let mut refused = 0;
        for id in 0..50 {
            let answer = client.text().await;
            if answer == format!(r#"3{id}[{{"error":"too many events"}}]"#) {
                refused += 1;
            } else {
                assert_eq!(answer, format!("3{id}[]"));
            }
        }
        // One more for each second that this took.
        let allowed = 3 + usize::try_from(begin.elapsed().as_secs()).unwrap() + 1;
        assert!((3..=allowed).contains(&(50 - refused)), "{transport:?}: {refused} refused");
        assert_eq!(handled.all().len(), 50 - refused, "what is refused is not handled");
        assert_eq!(running.io.refused().by(Limit::Events), refused as u64);
        // What nobody asks an answer for is dropped without a word, and another client has a rate of its own.
        client.send_all(&[r#"2["x"]"#; 20]).await;
        let mut other = Client::join(running.addr, transport).await;
        other.ask(r#"["y"]"#, "[]").await;
        // With time it may again.
        eventually("it is heard again", async || {
            client.send(r#"2777["z"]"#).await;
            client.text().await == "3777[]"
        })
        .await;
    }
}

#[tokio::test]
async fn a_client_beyond_the_rate_is_disconnected_where_that_is_wanted() {
    for (transport, joins) in [(Transport::WebSocket, false), (Transport::Polling, false), (Transport::WebSocket, true)]
    {
        let reasons = Record::<DisconnectReason>::new();
        let builder = Server::builder().workers(1).excess(Excess::Disconnect).state(reasons.clone());
        let builder = if joins { builder.join_rate(SLOW) } else { builder.event_rate(SLOW) };
        let running = serve(builder, |io| {
            io.on("e", async |socket: Socket| socket.join("room"));
            io.on_disconnect(async |reason: DisconnectReason, State(reasons): State<Record<DisconnectReason>>| {
                reasons.push(reason);
            });
        });
        let mut client = Client::join(running.addr, transport).await;
        for _ in 0..50 {
            if client.try_send(r#"2["e"]"#).await.is_err() {
                break; // gone already
            }
        }
        assert_eq!(reasons.wait_for(1).await, [DisconnectReason::TooFast], "{transport:?} {joins}");
        eventually("nothing is left", async || running.io.stats().await == posthaste::Stats::default()).await;
        if transport == Transport::WebSocket {
            client.closed().await;
        }
    }
}

#[tokio::test]
async fn namespaces_and_rooms_are_joined_no_faster_than_the_rate() {
    let running = with_rooms(Server::builder().join_rate(SLOW));
    let begin = Instant::now();
    let mut client = Client::websocket(running.addr).await; // the first of three
    let mut let_in = 1;
    for _ in 0..20 {
        client.send("1").await;
        client.send("0").await;
        let answer = client.text().await;
        if answer != r#"4{"message":"Too many joins"}"# {
            assert!(answer.starts_with("0{"), "{answer}");
            let_in += 1;
            continue;
        }
        // It is in no namespace: it has to be let in to leave.
        break;
    }
    assert!(let_in <= 4 + begin.elapsed().as_secs(), "{let_in} joined");
    assert!(running.io.refused().by(Limit::Joins) >= 1);

    // Rooms take from the same.
    let mut client = Client::websocket(running.addr).await;
    client.ask(r#"["join",["a","b"]]"#, "[]").await;
    client.ask(r#"["join",["c","d","e"]]"#, r#"[{"error":"too many joins"}]"#).await;
    client.ask(r#"["held"]"#, "[2]").await;
}

#[tokio::test]
async fn limits_that_are_only_observed_are_counted_and_nothing_is_refused() {
    let running = with_rooms(
        Server::builder()
            .max_rooms(1)
            .event_rate(SLOW)
            .join_rate(SLOW)
            .max_connections(1)
            .limit_mode(LimitMode::Observe),
    );
    let mut client = Client::websocket(running.addr).await;
    let mut other = Client::websocket(running.addr).await;
    for room in 0..30 {
        client.ask(&format!(r#"["join",["{room}"]]"#), "[]").await;
    }
    client.ask(r#"["held"]"#, "[30]").await;
    other.ask(r#"["sync"]"#, "[]").await;
    let refused = running.io.refused();
    assert_eq!((refused.by(Limit::Connections), refused.by(Limit::Rooms)), (1, 29));
    assert!(refused.by(Limit::Events) > 0 && refused.by(Limit::Joins) > 0, "{refused:?}");
}

#[tokio::test]
async fn a_client_that_has_joined_nothing_may_say_little_and_then_as_much_as_all() {
    let running = serve(Server::builder().workers(1).max_payload_unjoined(2_000), |io| {
        io.on("size", async |Data(text): Data<String>| posthaste::Answer(text.len()));
    });
    let long = "x".repeat(50_000);
    for transport in Transport::ALL {
        let mut client = Client::open(running.addr, transport).await;
        client.connect_with("/", r#"{"token":"short"}"#).await;
        client.ask(&format!(r#"["size","{long}"]"#), "[50000]").await;
        client.leave().await;

        let mut stranger = Engine::open(running.addr, "/socket.io/", transport).await;
        let request = Packet::message(&format!(r#"0{{"token":"{long}"}}"#));
        match transport {
            Transport::Polling => assert_eq!(stranger.post(&[request]).await.unwrap().status, 413),
            Transport::WebSocket => {
                stranger.send_all(&[request]).await.unwrap();
                assert_eq!(stranger.websocket().closed().await.unwrap().unwrap().close_code(), Some(1009));
            }
        }
    }
    assert_eq!(running.io.refused().by(Limit::Payload), 2);
}

#[tokio::test]
async fn connections_beyond_the_limits_of_a_server_are_told_to_come_again() {
    let builders = [
        (Limit::Connections, Server::builder().max_connections(1)),
        (Limit::ConnectionsPerIp, Server::builder().max_connections_per_ip(1)),
        (Limit::ConnectionRate, Server::builder().connection_rate(Rate::per_second(1).burst(1))),
    ];
    for (limit, builder) in builders {
        let running = serve(builder.workers(1), |io| {
            io.on("sync", async || {});
        });
        let mut client = Client::websocket(running.addr).await;
        let mut refused = 0;
        // Some of many are refused by the slowest rate too, however long each takes.
        for _ in 0..5 {
            let target = "/socket.io/?EIO=4&transport=polling";
            let answer = Http::once(running.addr, &Request::get(target)).await.unwrap();
            refused += u64::from(answer.status == 503 && answer.header("retry-after").is_some());
            let upgrade = upgrade_request("/socket.io/?EIO=4&transport=websocket");
            if let Err(answer) = WebSocket::handshake(Wire::connect(running.addr).await, &upgrade).await.unwrap() {
                assert_eq!(answer.status, 503);
                refused += 1;
            }
        }
        assert!(refused > 0, "{limit}");
        assert_eq!(running.io.refused().by(limit), refused);
        client.ask(r#"["sync"]"#, "[]").await;
    }
}

#[tokio::test]
async fn every_bound_that_ends_or_refuses_something_is_counted_by_its_name() {
    let sockets = Record::<Socket>::new();
    let running = serve(
        Server::builder()
            .state(sockets.clone())
            .workers(1)
            .max_namespaces(1)
            .max_attachments(1)
            .max_pending_acks(1)
            .attachments_timeout(Duration::from_millis(50))
            .connect_timeout(Duration::from_millis(50))
            .outbox(OutboxLimits { bytes: 10_000, packets: 10 }),
        |io| {
            io.namespace("/other");
            io.on_connect(async |socket: Socket, State(sockets): State<Record<Socket>>| sockets.push(socket));
        },
    );
    let counted = |limit, times| {
        let io = running.io.clone();
        async move { eventually("it is counted", async || io.refused().by(limit) == times).await }
    };
    let mut silent = Engine::open(running.addr, "/socket.io/", Transport::WebSocket).await;
    silent.websocket().closed().await.unwrap();
    counted(Limit::ConnectTimeout, 1).await;

    let mut client = Client::websocket(running.addr).await;
    client.send("0/other,").await;
    client.expect(r#"4/other,{"message":"Too many namespaces"}"#).await;
    counted(Limit::Namespaces, 1).await;

    let socket = sockets.wait_for(1).await.remove(0);
    let first = socket.emit_with_ack::<()>("q", &());
    assert!(matches!(socket.emit_with_ack::<()>("q", &()).await, Err(AckError::TooMany)));
    counted(Limit::PendingAcks, 1).await;

    client.send(r#"52-["e",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#).await;
    counted(Limit::Attachments, 1).await;
    assert!(matches!(first.await, Err(AckError::Disconnected)));

    let mut late = Client::websocket(running.addr).await;
    late.send(r#"51-["e",{"_placeholder":true,"num":0}]"#).await;
    late.closed().await;
    counted(Limit::Attachments, 2).await;

    let _stopped = Client::join(running.addr, Transport::Polling).await;
    let socket = sockets.wait_for(3).await.remove(2);
    for _ in 0..3 {
        let _ = socket.emit("x", &"x".repeat(9_000)).await;
        running.io.stats().await;
    }
    counted(Limit::Outbox, 1).await;
    assert_eq!(running.io.refused().total(), 6);
}

#[test]
fn limits_that_let_nothing_through_are_refused_when_the_server_is_built() {
    let zero = Rate::per_second(0);
    for (builder, what) in
        [(Server::builder().event_rate(zero), "event_rate"), (Server::builder().join_rate(zero), "join_rate")]
    {
        assert!(matches!(builder.build(), Err(BuildError::Zero { what: found }) if found == what));
    }
    for builder in [
        Server::builder().connection_rate(zero.burst(1)),
        Server::builder().max_connections(0),
        Server::builder().max_connections_per_ip(0),
        Server::builder().max_payload_unjoined(0),
    ] {
        assert!(matches!(builder.build(), Err(BuildError::Engine(_))));
    }
}
