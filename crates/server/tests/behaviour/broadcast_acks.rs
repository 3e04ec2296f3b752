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
