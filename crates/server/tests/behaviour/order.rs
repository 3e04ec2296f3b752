//! What is sent first arrives first: from a client, to a client, on one worker.

use posthaste::{Data, Server, Socket};
use posthaste_testkit::{Client, Record, Transport, serve};

#[tokio::test]
async fn ten_thousand_events_are_handled_in_the_order_they_were_sent() {
    for transport in Transport::ALL {
        let seen = Record::new();
        let record = seen.clone();
        let running = serve(Server::builder().workers(1), |io| {
            io.on("count", move |Data(number): Data<u32>| {
                record.push(number);
                async {}
            });
            io.on("done", async || {});
        });
        let mut client = Client::join(running.addr, transport).await;
        for begin in (0..10_000u32).step_by(500) {
            let events: Vec<String> = (begin..begin + 500).map(|number| format!(r#"2["count",{number}]"#)).collect();
            client.send_all(&events.iter().map(String::as_str).collect::<Vec<_>>()).await;
        }
        client.ask(r#"["done"]"#, "[]").await;
        assert_eq!(seen.all(), (0..10_000).collect::<Vec<_>>(), "{transport:?}");
    }
}

#[tokio::test]
async fn an_event_with_attachments_keeps_its_place_among_plain_ones() {
    let running = serve(Server::builder().workers(1), |io| {
        io.on("count", async |socket: Socket, Data(number): Data<u32>| {
            socket.emit("counted", &number).now().unwrap();
        });
        io.on("bytes", async |socket: Socket, Data(bytes): Data<bytes::Bytes>| {
            socket.emit("counted", &bytes).now().unwrap();
        });
    });
    for transport in Transport::ALL {
        let mut client = Client::join(running.addr, transport).await;
        for round in 0..100u32 {
            client.emit(&format!(r#"["count",{round}]"#)).await;
            client.send(r#"51-["bytes",{"_placeholder":true,"num":0}]"#).await;
            client.send_binary(&round.to_be_bytes()).await;
        }
        for round in 0..100u32 {
            client.expect(&format!(r#"2["counted",{round}]"#)).await;
            client.expect(r#"51-["counted",{"_placeholder":true,"num":0}]"#).await;
            client.expect_binary(&round.to_be_bytes()).await;
        }
    }
}

#[tokio::test]
async fn ten_thousand_emits_arrive_in_the_order_they_were_made() {
    let running = serve(Server::builder().workers(1), |io| {
        io.on("go", async |socket: Socket| {
            for number in 0..10_000 {
                socket.emit("count", &number).now().unwrap();
            }
        });
    });
    for transport in Transport::ALL {
        let mut client = Client::join(running.addr, transport).await;
        client.emit(r#"["go"]"#).await;
        for number in 0..10_000 {
            client.expect(&format!(r#"2["count",{number}]"#)).await;
        }
    }
}

#[tokio::test]
async fn acks_emits_and_broadcasts_of_one_handler_leave_in_the_order_they_were_made() {
    let running = serve(Server::builder().workers(1), |io| {
        io.on("all", async |socket: Socket, io: Server, ack: posthaste::Ack| {
            socket.emit("first", &()).now().unwrap();
            io.emit("second", &()).now().unwrap();
            ack.send(&"third").now().unwrap();
            io.to(socket.id()).emit("fourth", &()).now().unwrap();
            socket.emit("fifth", &()).now().unwrap();
        });
    });
    for transport in Transport::ALL {
        let mut client = Client::join(running.addr, transport).await;
        for _ in 0..50 {
            client.send(r#"27["all"]"#).await;
            for packet in [r#"2["first"]"#, r#"2["second"]"#, r#"37["third"]"#, r#"2["fourth"]"#, r#"2["fifth"]"#] {
                client.expect(packet).await;
            }
        }
    }
}

#[tokio::test]
async fn emits_from_other_threads_and_tasks_keep_their_place_between_those_of_the_handler() {
    let running = serve(Server::builder().workers(1), |io| {
        io.on("go", async |socket: Socket, io: Server| {
            let emit = |number: u32| (socket.clone(), io.clone(), number);
            // Three ways to emit, from wherever this runs.
            let send = |(socket, io, number): (Socket, Server, u32)| {
                match number % 3 {
                    0 => socket.emit("count", &number).now(),
                    1 => io.emit("count", &number).now(),
                    _ => io.to(socket.id()).emit("count", &number).now(),
                }
                .unwrap();
            };
            for number in (0..500).step_by(5) {
                send(emit(number));
                let other = emit(number + 1);
                tokio::task::spawn_blocking(move || send(other)).await.unwrap();
                send(emit(number + 2));
                let other = emit(number + 3);
                tokio::spawn(async move { send(other) }).await.unwrap();
                let other = emit(number + 4);
                std::thread::spawn(move || send(other)).join().unwrap();
            }
        });
    });
    let mut client = Client::websocket(running.addr).await;
    client.emit(r#"["go"]"#).await;
    for number in 0..500 {
        client.expect(&format!(r#"2["count",{number}]"#)).await;
    }
}
