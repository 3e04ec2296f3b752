//! A client that does not read is given up when too much waits for it, and nobody else has to wait for that.

use std::time::Duration;

use posthaste::{DisconnectReason, OutboxLimits, Server, Socket};
use posthaste_testkit::{Client, Message, Record, Running, Transport, eventually, serve};

const OUTBOX: OutboxLimits = OutboxLimits { bytes: 200_000, packets: 1000 };

fn bounded(limits: OutboxLimits) -> (Running, Record<DisconnectReason>) {
    let reasons = Record::new();
    let record = reasons.clone();
    // No ping that nobody answers: on a busy machine one would be missed before too much waits.
    let quiet = Server::builder().ping(Duration::from_secs(600), Duration::from_secs(600));
    let running = serve(quiet.workers(1).outbox(limits), |io| {
        io.on_disconnect(move |reason: DisconnectReason| {
            record.push(reason);
            async {}
        });
        io.on("sync", async || {});
    });
    (running, reasons)
}

#[tokio::test]
async fn one_stopped_reader_among_fifty_is_given_up_and_the_others_miss_nothing() {
    let (running, reasons) = bounded(OUTBOX);
    let stopped = Client::narrow(running.addr).await;
    let mut clients = Vec::new();
    for index in 0..50 {
        let transport = if index % 5 == 0 { Transport::Polling } else { Transport::WebSocket };
        clients.push(Client::join(running.addr, transport).await);
    }
    let payload = "x".repeat(9_000);
    let mut number = 0;
    while reasons.all().is_empty() {
        for _ in 0..5 {
            running.io.emit("large", &(number, payload.as_str())).await.unwrap();
            number += 1;
        }
        for client in &mut clients {
            for expected in number - 5..number {
                let message = client.text().await;
                assert!(message.starts_with(&format!(r#"2["large",{expected},"#)), "{}", &message[..20]);
            }
        }
        assert!(number < 5_000, "45 MB are more than the kernel holds for anyone");
    }
    assert_eq!(reasons.all(), [DisconnectReason::Slow]);
    for client in &mut clients {
        client.ask(r#"["sync"]"#, "[]").await;
    }
    drop(stopped);
    assert_eq!(running.io.stats().await.sockets, 50);
}

#[tokio::test]
async fn what_waits_is_counted_in_packets_too() {
    for transport in Transport::ALL {
        let (running, reasons) = bounded(OutboxLimits { bytes: 1 << 30, packets: 50 });
        let client = match transport {
            Transport::WebSocket => Client::narrow(running.addr).await,
            Transport::Polling => Client::join(running.addr, transport).await,
        };
        let payload = "x".repeat(1000);
        let mut emitted = 0;
        while reasons.all().is_empty() {
            running.io.emit("x", &payload).await.unwrap();
            // A turn of its own, or all would be one run of packets.
            running.io.stats().await;
            emitted += 1;
            assert!(emitted < 20_000, "20 MB are more than the kernel holds for one client");
        }
        assert_eq!(reasons.all(), [DisconnectReason::Slow]);
        if transport == Transport::Polling {
            assert!(emitted <= 53, "{emitted} events for an outbox of 50");
        }
        drop(client);
    }
}

#[tokio::test]
async fn one_message_may_be_larger_than_what_may_wait() {
    let (running, _) = bounded(OutboxLimits { bytes: 1000, packets: 10 });
    for transport in Transport::ALL {
        let mut client = Client::join(running.addr, transport).await;
        let large = "x".repeat(500_000);
        running.io.emit("large", &large).await.unwrap();
        client.expect(&format!(r#"2["large","{large}"]"#)).await;
        client.ask(r#"["sync"]"#, "[]").await;
        client.leave().await;
    }
}

#[tokio::test]
async fn a_slow_reader_that_catches_up_gets_everything_in_order() {
    let (running, reasons) = bounded(OutboxLimits { bytes: 64 << 20, packets: 100_000 });
    for transport in Transport::ALL {
        let mut client = match transport {
            Transport::WebSocket => Client::narrow(running.addr).await,
            Transport::Polling => Client::join(running.addr, transport).await,
        };
        // Small and copied, large and shared, by turns.
        let payloads = ["x".repeat(10), "y".repeat(5_000), "z".repeat(30_000)];
        for number in 0..300 {
            running.io.emit("x", &(number, &payloads[number % 3])).await.unwrap();
            if number % 7 == 0 {
                running.io.stats().await;
            }
        }
        for number in 0..300 {
            client.expect(&format!(r#"2["x",{number},"{}"]"#, payloads[number % 3])).await;
        }
        client.ask(r#"["sync"]"#, "[]").await;
        client.leave().await;
        eventually("it has left", async || running.io.stats().await.sockets == 0).await;
    }
    assert_eq!(reasons.all(), [DisconnectReason::TransportClose; 2]);
}

#[tokio::test]
async fn volatile_events_pass_by_a_client_that_has_something_waiting() {
    let sockets = Record::<Socket>::new();
    let record = sockets.clone();
    let running = serve(Server::builder().workers(1), |io| {
        io.on_connect(move |socket: Socket| {
            record.push(socket);
            async {}
        });
    });
    let mut client = Client::narrow(running.addr).await;
    let socket = sockets.all().remove(0);
    // Far more than the kernel takes, far less than the outbox holds.
    let large = "x".repeat(6 << 20);
    socket.emit("large", &large).await.unwrap();
    // Until the system has taken what it takes, which it does while the first of it is read: the worker, which answers when
    // that is done, comes to what follows with something waiting. Whoever reads on meanwhile makes room for all of it.
    client.engine().websocket().wire().read().await.unwrap();
    running.io.stats().await;
    for _ in 0..100 {
        socket.volatile().emit("volatile", &()).await.unwrap();
        running.io.volatile().emit("volatile", &()).await.unwrap();
    }
    socket.emit("end", &()).await.unwrap();
    assert_eq!(client.message().await.unwrap(), Message::Text(format!(r#"2["large","{large}"]"#)));
    client.expect(r#"2["end"]"#).await;
    socket.volatile().emit("volatile", &()).await.unwrap();
    client.expect(r#"2["volatile"]"#).await;
}
