//! Questions to many clients: the answers of those who answer in time.

use std::time::Duration;

use posthaste::{AckError, Server, Socket};
use posthaste_testkit::{Client, Transport, eventually, serve};

use crate::spread::{Placed, Spread};

#[tokio::test]
async fn all_answers_of_all_workers_are_collected() {
    for workers in [1, 4] {
        let spread = Spread::over(workers, |_| {});
        let mut clients = spread.clients(12 / workers).await;
        let io = &spread.running.io;
        let answers = io.timeout(Duration::from_secs(20)).emit_with_ack::<usize>("number", &"please");
        for (index, Placed { client, .. }) in clients.iter_mut().enumerate() {
            client.expect(r#"20["number","please"]"#).await;
            client.send(&format!("30[{index}]")).await;
        }
        let mut answers = answers.await.unwrap();
        answers.answers.sort_unstable();
        assert_eq!((answers.asked, answers.complete), (12, true));
        assert_eq!(answers.answers, (0..12).collect::<Vec<_>>());
        assert_eq!(io.stats().await.pending_acks, 0);
    }
}

#[tokio::test]
async fn who_does_not_answer_in_time_is_left_out() {
    let spread = Spread::over(2, |io| {
        io.on("sync", async || {});
    });
    let mut clients = spread.clients(2).await;
    let io = &spread.running.io;
    let answers = io.timeout(Duration::from_secs(2)).emit_with_ack::<usize>("number", &());
    for (index, Placed { client, .. }) in clients.iter_mut().enumerate() {
        client.expect(r#"20["number"]"#).await;
        if index % 2 == 0 {
            client.send(&format!("30[{index}]")).await;
            client.ask(r#"["sync"]"#, "[]").await;
        }
    }
    let mut answers = answers.await.unwrap();
    answers.answers.sort_unstable();
    assert_eq!((answers.answers.as_slice(), answers.asked, answers.complete), (&[0, 2][..], 4, false));
    eventually("nothing is kept", async || io.stats().await.pending_acks == 0).await;
    // Too late, and nobody's any more.
    clients[1].client.send("30[1]").await;
    clients[1].client.ask(r#"["sync"]"#, "[]").await;
}

#[tokio::test]
async fn nobody_asked_is_everybody_answered() {
    let spread = Spread::over(3, |_| {});
    let io = &spread.running.io;
    for _ in 0..2 {
        let answers = io.to("empty").emit_with_ack::<usize>("number", &()).await.unwrap();
        assert_eq!((answers.answers.as_slice(), answers.asked, answers.complete), (&[][..], 0, true));
        let _others = spread.client().await;
    }
    let unopened = io.namespace("/unopened").emit_with_ack::<usize>("number", &()).await.unwrap();
    assert_eq!((unopened.asked, unopened.complete), (0, true));
}

#[tokio::test]
async fn who_leaves_before_answering_is_not_waited_for() {
    for transport in Transport::ALL {
        let running = serve(Server::builder().workers(2).ack_timeout(Duration::from_secs(3600)), |_| {});
        let mut stays = Client::websocket(running.addr).await;
        let mut leaves = Client::join(running.addr, transport).await;
        let mut goes = Client::join(running.addr, transport).await;
        let answers = running.io.emit_with_ack::<u8>("number", &());
        for client in [&mut stays, &mut leaves, &mut goes] {
            client.expect(r#"20["number"]"#).await;
        }
        leaves.send("1").await;
        goes.leave().await;
        stays.send("30[1]").await;
        let answers = answers.await.unwrap();
        assert_eq!((answers.answers.as_slice(), answers.asked, answers.complete), (&[1][..], 3, false));
    }
}

#[tokio::test]
async fn one_socket_answers_once() {
    let running = serve(Server::builder().workers(1), |io| {
        io.on("sync", async || {});
    });
    let mut first = Client::websocket(running.addr).await;
    let mut second = Client::websocket(running.addr).await;
    let answers = running.io.emit_with_ack::<u8>("number", &());
    first.expect(r#"20["number"]"#).await;
    second.expect(r#"20["number"]"#).await;
    for number in 1..4 {
        first.send(&format!("30[{number}]")).await;
    }
    first.ask(r#"["sync"]"#, "[]").await;
    second.send("30[9]").await;
    assert_eq!(answers.await.unwrap().answers, [1, 9]);
}

#[tokio::test]
async fn an_answer_of_another_type_is_an_error() {
    let running = serve(Server::builder().workers(1), |_| {});
    let mut client = Client::websocket(running.addr).await;
    let answers = running.io.emit_with_ack::<u8>("number", &());
    client.expect(r#"20["number"]"#).await;
    client.send(r#"30["no number"]"#).await;
    assert!(matches!(answers.await, Err(AckError::Type(_))));
}

#[tokio::test]
async fn a_handler_asks_a_room_but_not_itself() {
    let running = serve(Server::builder().workers(2), |io| {
        io.on_connect(async |socket: Socket| socket.join("room"));
        io.on("sum", async |socket: Socket| {
            let answers = socket.to("room").emit_with_ack::<u32>("number", &()).await?;
            Ok::<_, AckError>((answers.answers.iter().sum::<u32>(), answers.asked))
        });
    });
    let mut asker = Client::websocket(running.addr).await;
    let mut others = Vec::new();
    for transport in [Transport::WebSocket, Transport::Polling, Transport::WebSocket] {
        others.push(Client::join(running.addr, transport).await);
    }
    asker.send(r#"25["sum"]"#).await;
    for client in &mut others {
        client.expect(r#"20["number"]"#).await;
        client.send("30[5]").await;
    }
    asker.expect("35[15,3]").await;
}

#[tokio::test]
async fn answers_come_one_by_one_with_the_sockets_they_are_from() {
    for workers in [1, 2] {
        let spread = Spread::over(workers, |_| {});
        let mut clients = spread.clients(4 / workers).await;
        let io = &spread.running.io;
        let mut answers = io.emit_with_ack::<usize>("number", &()).stream();
        for (index, Placed { client, socket, .. }) in clients.iter_mut().enumerate().rev() {
            client.expect(r#"20["number"]"#).await;
            client.send(&format!("30[{index}]")).await;
            let (from, answer) = answers.next().await.unwrap().unwrap();
            assert_eq!((from, answer), (Some(socket.id()), index));
        }
        assert!(answers.next().await.is_none());
        assert!(answers.is_complete());
        assert_eq!(answers.asked(), 4);
        assert!(answers.next().await.is_none(), "the end is the end");
    }
}

#[tokio::test]
async fn a_stream_goes_on_behind_an_answer_of_another_type_and_ends_in_time() {
    let running = serve(Server::builder().workers(1), |_| {});
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(Client::websocket(running.addr).await);
    }
    let mut answers = running.io.timeout(Duration::from_millis(300)).emit_with_ack::<u8>("number", &()).stream();
    for client in &mut clients {
        client.expect(r#"20["number"]"#).await;
    }
    clients[0].send(r#"30["no number"]"#).await;
    assert!(matches!(answers.next().await, Some(Err(AckError::Type(_)))));
    clients[1].send("30[7]").await;
    assert!(matches!(answers.next().await, Some(Ok((Some(_), 7)))));
    assert!(answers.next().await.is_none());
    assert!(!answers.is_complete());
    eventually("nothing is kept", async || running.io.stats().await.pending_acks == 0).await;
    let refused = running.io.emit_with_ack::<u8>("disconnect", &()).stream().next().await;
    assert!(matches!(refused, Some(Err(AckError::Send(_)))), "a reserved name");
}

#[tokio::test]
async fn answers_are_kept_up_to_a_bound() {
    const SIZE: usize = 100_000;
    let running = serve(Server::builder().workers(1).max_ack_bytes(4 * SIZE), |io| {
        io.on("sync", async || {});
    });
    let mut clients = Vec::new();
    for _ in 0..6 {
        clients.push(Client::websocket(running.addr).await);
    }
    let text = "x".repeat(SIZE);
    for streamed in [false, true] {
        let asked = running.io.timeout(Duration::from_secs(30)).emit_with_ack::<String>("text", &());
        let mut answers = Ok(asked);
        if streamed {
            answers = answers.and_then(|asked| Err::<posthaste::AcksFuture<String>, _>(asked.stream()));
        }
        let id = u8::from(streamed);
        for client in &mut clients {
            client.expect(&format!(r#"2{id}["text"]"#)).await;
            client.send(&format!(r#"3{id}["{text}"]"#)).await;
            client.ask(r#"["sync"]"#, "[]").await;
            if let Err(stream) = &mut answers {
                // What is taken is kept no more.
                assert_eq!(stream.next().await.unwrap().unwrap().1.len(), SIZE);
            }
        }
        match answers {
            Ok(asked) => {
                let answers = asked.await.unwrap();
                assert_eq!((answers.answers.len(), answers.asked, answers.complete), (3, 6, false));
            }
            Err(mut stream) => {
                assert!(stream.next().await.is_none());
                assert!(stream.is_complete());
            }
        }
    }
}
