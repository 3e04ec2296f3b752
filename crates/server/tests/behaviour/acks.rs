//! Questions to one client: each gets one answer, or an error, and then nothing is kept of it.

use std::time::Duration;

use bytes::Bytes;
use posthaste::{AckError, Answer, Args, Data, Server, Socket};
use posthaste_testkit::{Client, Record, Running, Transport, eventually, serve};

/// A server that keeps its sockets.
fn keeping(builder: posthaste::Builder) -> (Running, Record<Socket>) {
    let sockets = Record::new();
    let record = sockets.clone();
    let running = serve(builder, |io| {
        io.on_connect(move |socket: Socket| {
            record.push(socket);
            async {}
        });
        io.on("sync", async || {});
    });
    (running, sockets)
}

async fn nothing_is_kept(running: &Running) {
    eventually("nothing is kept of the question", async || running.io.stats().await.pending_acks == 0).await;
}

#[tokio::test]
async fn an_answer_reaches_whoever_asked_as_the_type_that_was_asked_for() {
    for transport in Transport::ALL {
        let (running, sockets) = keeping(Server::builder().workers(1));
        let mut client = Client::join(running.addr, transport).await;
        let socket = sockets.all().remove(0);

        let answer = socket.emit_with_ack::<String>("name", &("who", 1));
        client.expect(r#"20["name","who",1]"#).await;
        client.send(r#"30["Ada"]"#).await;
        assert_eq!(answer.await.unwrap(), "Ada");

        let answer = socket.emit_with_ack::<(u8, Option<u8>)>("tuple", &());
        client.expect(r#"21["tuple"]"#).await;
        client.send("31[7]").await;
        assert_eq!(answer.await.unwrap(), (7, None));

        let answer = socket.emit_with_ack::<()>("nothing", &());
        client.expect(r#"22["nothing"]"#).await;
        client.send("32[]").await;
        answer.await.unwrap();

        let answer = socket.emit_with_ack::<u8>("number", &());
        client.expect(r#"23["number"]"#).await;
        client.send(r#"33["no number"]"#).await;
        assert!(matches!(answer.await, Err(AckError::Type(_))));

        let answer = socket.emit_with_ack::<Args<'static>>("raw", &());
        client.expect(r#"24["raw"]"#).await;
        client.send(r#"34[1.0,{"b" : 2}]"#).await;
        assert_eq!(answer.await.unwrap().raw(), r#"1.0,{"b" : 2}"#);
        nothing_is_kept(&running).await;
    }
}

#[tokio::test]
async fn questions_and_answers_carry_bytes() {
    for transport in Transport::ALL {
        let (running, sockets) = keeping(Server::builder().workers(1));
        let mut client = Client::join(running.addr, transport).await;
        let socket = sockets.all().remove(0);
        let answer = socket.emit_with_ack::<(Bytes, u8, Bytes)>("bytes", &Bytes::from_static(b"asked"));
        client.expect(r#"51-0["bytes",{"_placeholder":true,"num":0}]"#).await;
        client.expect_binary(b"asked").await;
        client.send(r#"62-0[{"_placeholder":true,"num":1},5,{"_placeholder":true,"num":0}]"#).await;
        client.send_binary(b"zero").await;
        client.send_binary(b"one").await;
        let (first, number, second) = answer.await.unwrap();
        assert_eq!((&*first, number, &*second), (&b"one"[..], 5, &b"zero"[..]));
    }
}

#[tokio::test]
async fn a_handler_asks_its_own_client_and_others_and_goes_on_with_the_answers() {
    let sockets = Record::<Socket>::new();
    let running = serve(Server::builder().workers(2), |io| {
        let record = sockets.clone();
        io.on_connect(move |socket: Socket| {
            record.push(socket);
            async {}
        });
        let all = sockets.clone();
        io.on("sum", move || {
            let all = all.all();
            async move {
                let mut sum = 0;
                for socket in all {
                    sum += socket.emit_with_ack::<u32>("number", &()).await?;
                }
                Ok::<_, AckError>(sum)
            }
        });
    });
    let mut clients = Vec::new();
    for transport in [Transport::WebSocket, Transport::Polling, Transport::WebSocket, Transport::WebSocket] {
        clients.push(Client::join(running.addr, transport).await);
    }
    clients[0].send(r#"21["sum"]"#).await;
    for (index, client) in clients.iter_mut().enumerate() {
        client.expect(&format!(r#"2{index}["number"]"#)).await;
        client.send(&format!("3{index}[{}]", 10 * index)).await;
    }
    clients[0].expect("31[60]").await;
}

#[tokio::test]
async fn sec_29_a_question_that_times_out_leaves_nothing_behind_and_a_late_answer_is_ignored() {
    for transport in Transport::ALL {
        let (running, sockets) = keeping(Server::builder().workers(1).ack_timeout(Duration::from_millis(60)));
        let mut client = Client::join(running.addr, transport).await;
        let socket = sockets.all().remove(0);
        let by_default = socket.emit_with_ack::<u8>("slow", &());
        let by_itself = socket.timeout(Duration::from_millis(1)).emit_with_ack::<u8>("slow", &());
        let patient = socket.timeout(Duration::from_secs(3600)).emit_with_ack::<u8>("slow", &());
        assert!(matches!(by_itself.await, Err(AckError::Timeout)));
        assert!(matches!(by_default.await, Err(AckError::Timeout)));
        assert_eq!(running.io.stats().await.pending_acks, 1);
        for id in 0..3 {
            client.expect(&format!(r#"2{id}["slow"]"#)).await;
            client.send(&format!("3{id}[{id}]")).await;
        }
        assert_eq!(patient.await.unwrap(), 2);
        nothing_is_kept(&running).await;
        client.ask(r#"["sync"]"#, "[]").await;
        // Ids go on, so that no late answer is taken for another's.
        let next = socket.emit_with_ack::<u8>("next", &());
        client.expect(r#"23["next"]"#).await;
        client.send("33[9]").await;
        assert_eq!(next.await.unwrap(), 9);
    }
}

#[tokio::test]
async fn a_timeout_beyond_every_clock_waits_for_ever() {
    let (running, sockets) = keeping(Server::builder().workers(1).ack_timeout(Duration::MAX));
    let mut client = Client::websocket(running.addr).await;
    let socket = sockets.all().remove(0);
    let answers = [socket.emit_with_ack::<u8>("x", &()), socket.timeout(Duration::MAX).emit_with_ack::<u8>("x", &())];
    let all = running.io.timeout(Duration::MAX).emit_with_ack::<u8>("x", &());
    for id in 0..3 {
        client.expect(&format!(r#"2{id}["x"]"#)).await;
        client.send(&format!("3{id}[{id}]")).await;
    }
    for (id, answer) in (0..).zip(answers) {
        assert_eq!(answer.await.unwrap(), id);
    }
    assert_eq!(all.await.unwrap().answers, [2]);
}

#[tokio::test]
async fn answers_that_nobody_asked_for_and_second_answers_are_ignored() {
    for transport in Transport::ALL {
        let (running, sockets) = keeping(Server::builder().workers(1));
        let mut client = Client::join(running.addr, transport).await;
        let mut other = Client::websocket(running.addr).await;
        let socket = sockets.all().remove(0);
        let answer = socket.emit_with_ack::<u8>("x", &());
        client.expect(r#"20["x"]"#).await;
        // Nobody else may answer in its name.
        other.send("30[66]").await;
        other.ask(r#"["sync"]"#, "[]").await;
        client.send("37[1]").await;
        client.send("30[2]").await;
        client.send("30[3]").await;
        client.send("318446744073709551615[4]").await;
        client.ask(r#"["sync"]"#, "[]").await;
        assert_eq!(answer.await.unwrap(), 2);
    }
}

#[tokio::test]
async fn a_socket_that_goes_answers_no_more_and_whoever_asked_is_told() {
    for transport in Transport::ALL {
        let (running, sockets) = keeping(Server::builder().workers(1));
        let mut client = Client::join(running.addr, transport).await;
        let socket = sockets.all().remove(0);
        let leaves = socket.emit_with_ack::<u8>("x", &());
        asked(&mut client).await;
        client.send("1").await;
        assert!(matches!(leaves.await, Err(AckError::Disconnected)));
        // Asked when it is gone already.
        assert!(matches!(socket.emit_with_ack::<u8>("x", &()).await, Err(AckError::Disconnected)));

        client.connect("/").await;
        let socket = sockets.all().remove(1);
        let is_put_out = socket.emit_with_ack::<u8>("x", &());
        socket.disconnect(false);
        assert!(matches!(is_put_out.await, Err(AckError::Disconnected)));
        asked(&mut client).await;
        client.expect("1").await;

        client.connect("/").await;
        let socket = sockets.all().remove(2);
        let loses_its_connection = socket.emit_with_ack::<u8>("x", &());
        asked(&mut client).await;
        client.leave().await;
        assert!(matches!(loses_its_connection.await, Err(AckError::Disconnected)));
        nothing_is_kept(&running).await;
    }
}

/// Reads a question, whatever its number.
async fn asked(client: &mut Client) {
    let question = client.text().await;
    assert!(question.starts_with('2') && question.ends_with(r#"["x"]"#), "{question}");
}

#[tokio::test]
async fn a_socket_that_owes_too_many_answers_is_asked_no_more() {
    for transport in Transport::ALL {
        let (running, sockets) = keeping(Server::builder().workers(1).max_pending_acks(3));
        let mut client = Client::join(running.addr, transport).await;
        let mut other = Client::websocket(running.addr).await;
        let socket = sockets.all().remove(0);
        let mut owed: Vec<_> = (0..3).map(|_| socket.emit_with_ack::<u8>("x", &())).collect();
        assert!(matches!(socket.emit_with_ack::<u8>("too many", &()).await, Err(AckError::TooMany)));
        // The bound is each socket's own.
        let others = sockets.all().remove(1).emit_with_ack::<u8>("x", &());
        other.expect(r#"24["x"]"#).await;
        other.send("34[1]").await;
        assert_eq!(others.await.unwrap(), 1);
        for id in 0..3 {
            client.expect(&format!(r#"2{id}["x"]"#)).await;
        }
        client.send("30[7]").await;
        assert_eq!(owed.remove(0).await.unwrap(), 7);
        let again = socket.emit_with_ack::<u8>("again", &());
        // The question that was one too many was not asked.
        client.expect(r#"25["again"]"#).await;
        client.send("35[8]").await;
        assert_eq!(again.await.unwrap(), 8);
    }
}

#[tokio::test]
async fn ten_thousand_questions_that_nobody_waits_for_any_more_are_forgotten() {
    let (running, sockets) = keeping(Server::builder().workers(1).max_pending_acks(100_000));
    let client = Client::websocket(running.addr).await;
    let socket = sockets.all().remove(0);
    for _ in 0..10_000 {
        drop(socket.timeout(Duration::from_millis(20)).emit_with_ack::<u8>("x", &()));
    }
    nothing_is_kept(&running).await;
    drop(client);
}

#[tokio::test]
async fn answers_find_whoever_asked_in_whatever_order_they_come() {
    let (running, sockets) = keeping(Server::builder().workers(1));
    let mut client = Client::websocket(running.addr).await;
    let socket = sockets.all().remove(0);
    let answers: Vec<_> = (0..100u32).map(|number| socket.emit_with_ack::<u32>("echo", &number)).collect();
    for number in 0..100 {
        client.expect(&format!(r#"2{number}["echo",{number}]"#)).await;
    }
    for number in (0..100).rev() {
        client.send(&format!("3{number}[{number}]")).await;
    }
    for (number, answer) in (0..).zip(answers) {
        assert_eq!(answer.await.unwrap(), number);
    }
}

#[tokio::test]
async fn each_namespace_counts_its_own_questions() {
    let running = serve(Server::builder().workers(1), |io| {
        for namespace in ["/", "/chat"] {
            io.namespace(namespace).on("ask", async |socket: Socket, Data(name): Data<String>| {
                socket.emit_with_ack::<u8>(&name, &()).await.map(|answer| Answer((name, answer)).0)
            });
        }
    });
    let mut client = Client::websocket(running.addr).await;
    client.connect("/chat").await;
    client.send(r#"25["ask","main"]"#).await;
    client.expect(r#"20["main"]"#).await;
    client.send(r#"2/chat,5["ask","chat"]"#).await;
    client.expect(r#"2/chat,0["chat"]"#).await;
    client.send("3/chat,0[2]").await;
    client.expect(r#"3/chat,5["chat",2]"#).await;
    client.send("30[1]").await;
    client.expect(r#"35["main",1]"#).await;
}

/// The client is asked before it has joined, and goes without an answer.
#[tokio::test]
async fn a_middleware_that_asked_a_client_hears_of_its_end() {
    for transport in Transport::ALL {
        let heard = Record::new();
        let record = heard.clone();
        let running = serve(Server::builder().workers(1).ack_timeout(Duration::from_secs(3600)), |io| {
            let chat = io.namespace("/chat");
            chat.middleware(move |socket: Socket| {
                let record = record.clone();
                async move {
                    // Twice at once, and once more when the connection is gone.
                    let (one, other) = (socket.emit_with_ack::<u8>("who", &()), socket.emit_with_ack::<u8>("why", &()));
                    for outcome in [one.await, other.await, socket.emit_with_ack("still there?", &()).await] {
                        record.push(outcome.map_err(|error| matches!(error, AckError::Disconnected)));
                    }
                    Ok::<_, posthaste::ConnectError>(())
                }
            });
        });
        let mut client = Client::join(running.addr, transport).await;
        client.send("0/chat,").await;
        client.expect(r#"2/chat,0["who"]"#).await;
        client.expect(r#"2/chat,1["why"]"#).await;
        client.leave().await;
        assert_eq!(heard.wait_for(3).await, [Err(true); 3], "{transport:?}");
        nothing_is_kept(&running).await;
        eventually("no handler waits", async || running.io.stats().await.handlers == 0).await;
    }
}

/// Who is let in owes the answers that a middleware asked for.
#[tokio::test]
async fn a_question_of_a_middleware_outlives_it() {
    let (running, sockets) = keeping(Server::builder().workers(1).ack_timeout(Duration::from_secs(3600)));
    let answers = Record::new();
    let record = answers.clone();
    running.io.middleware(move |socket: Socket| {
        let (answer, record) = (socket.emit_with_ack::<u8>("who", &()), record.clone());
        tokio::task::spawn_local(async move { record.push(answer.await.map_err(|error| error.to_string())) });
        async { Ok::<_, posthaste::ConnectError>(()) }
    });
    let lost = AckError::Disconnected.to_string();
    for (answers_it, expected) in [(true, Ok(7)), (false, Err(lost))] {
        let mut client = Client::open(running.addr, Transport::WebSocket).await;
        client.send("0").await;
        let question = client.text().await;
        client.connected("/").await;
        if answers_it {
            let id = question.strip_prefix('2').and_then(|rest| rest.strip_suffix(r#"["who"]"#)).unwrap();
            client.send(&format!("3{id}[7]")).await;
            client.ask(r#"["sync"]"#, "[]").await;
        }
        client.leave().await;
        let count = sockets.wait_for(if answers_it { 1 } else { 2 }).await.len();
        assert_eq!(answers.wait_for(count).await[count - 1], expected);
    }
    nothing_is_kept(&running).await;
}
