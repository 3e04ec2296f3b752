//! The end of a server: everybody is told, and what was said before still arrives.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use posthaste::{DisconnectReason, SendError, Server, Socket, Workers};
use posthaste_testkit::{Client, Http, PATIENCE, Record, Request, Transport, Wire, eventually, serve};

/// Closes without blocking the test's own thread, which has clients to run.
async fn close(io: &Server, patience: Duration) -> bool {
    let io = io.clone();
    tokio::task::spawn_blocking(move || io.close(patience)).await.unwrap()
}

#[tokio::test]
async fn what_was_sent_before_arrives_before_the_end() {
    for workers in [1, 3] {
        let reasons = Record::new();
        let record = reasons.clone();
        let running = serve(Server::builder().workers(workers), |io| {
            io.on_disconnect(move |reason: DisconnectReason| {
                record.push(reason);
                async {}
            });
        });
        let mut clients = Vec::new();
        for _ in 0..4 {
            clients.push(Client::websocket(running.addr).await);
        }
        let large = "x".repeat(10_000);
        for number in 0..100 {
            running.io.emit("last", &(number, &large)).now().unwrap();
        }
        let reads = async {
            for client in &mut clients {
                for number in 0..100 {
                    client.expect(&format!(r#"2["last",{number},"{large}"]"#)).await;
                }
                client.closed().await;
            }
        };
        let (closed, ()) = tokio::join!(close(&running.io, PATIENCE), reads);
        assert!(closed, "all ended in time");
        assert_eq!(reasons.all(), [DisconnectReason::ServerShuttingDown; 4]);
    }
}

/// A polling client fetches what fits into the poll it has waiting; it is not waited for to come again.
#[tokio::test]
async fn what_a_handler_says_before_it_closes_its_server_arrives() {
    for transport in Transport::ALL {
        let running = serve(Server::builder().workers(1), |io| {
            io.on("last words", async |socket: Socket, io: Server| {
                for number in 0..100 {
                    socket.emit("last", &number).await.unwrap();
                }
                io.close(Duration::ZERO);
            });
        });
        let mut client = Client::join(running.addr, transport).await;
        client.engine().park().await.unwrap();
        client.emit(r#"["last words"]"#).await;
        for number in 0..100 {
            client.expect(&format!(r#"2["last",{number}]"#)).await;
        }
        client.closed().await;
    }
}

#[tokio::test]
async fn a_poll_that_waits_is_told_the_end() {
    let running = serve(Server::builder().workers(1), |_| {});
    let mut client = Client::join(running.addr, Transport::Polling).await;
    client.engine().park().await.unwrap();
    let (closed, packet) = tokio::join!(close(&running.io, PATIENCE), client.engine().packet());
    assert_eq!(packet.unwrap(), posthaste_testkit::Packet::Text("1".to_owned()));
    assert!(closed);
}

#[tokio::test]
async fn handlers_that_wait_are_waited_for() {
    let ended = Record::new();
    let record = ended.clone();
    let running = serve(Server::builder().workers(2), |io| {
        io.on("work", move |socket: Socket| {
            let record = record.clone();
            async move {
                tokio::time::sleep(Duration::from_millis(150)).await;
                record.push(matches!(socket.emit("done", &()).await, Err(SendError::Disconnected)));
            }
        });
    });
    let mut client = Client::websocket(running.addr).await;
    client.emit(r#"["work"]"#).await;
    eventually("it works", async || running.io.stats().await.handlers == 1).await;
    let (closed, _) = tokio::join!(close(&running.io, PATIENCE), client.closed());
    assert!(closed);
    assert_eq!(ended.all(), [true]);
}

#[tokio::test]
async fn nobody_is_waited_for_longer_than_the_patience() {
    let running = serve(Server::builder().workers(1), |io| {
        io.on("for ever", async || std::future::pending::<()>().await);
    });
    let mut client = Client::websocket(running.addr).await;
    client.emit(r#"["for ever"]"#).await;
    eventually("it waits", async || running.io.stats().await.handlers == 1).await;
    // One that does not read what is said to it.
    let _stopped = Client::narrow(running.addr).await;
    running.io.emit("large", &"x".repeat(7 << 20)).now().unwrap();
    let begin = Instant::now();
    close(&running.io, Duration::from_millis(100)).await;
    assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn an_ended_server_takes_everything_and_does_nothing() {
    let sockets = Record::<Socket>::new();
    let record = sockets.clone();
    let running = serve(Server::builder().workers(2), |io| {
        io.on_connect(move |socket: Socket| {
            record.push(socket);
            async {}
        });
    });
    let mut client = Client::websocket(running.addr).await;
    let socket = sockets.all().remove(0);
    let (closed, _) = tokio::join!(close(&running.io, PATIENCE), client.closed());
    assert!(closed);
    assert!(close(&running.io, PATIENCE).await, "closing twice is closing once");
    assert!(!socket.is_connected());
    assert!(matches!(socket.emit("x", &()).await, Err(SendError::Disconnected)));
    assert!(socket.emit_with_ack::<()>("x", &()).await.is_err());
    socket.join("room");
    socket.disconnect(true);
    assert!(socket.rooms().await.is_empty());
    running.io.emit("x", &()).await.unwrap();
    assert_eq!(running.io.emit_with_ack::<()>("x", &()).await.unwrap().asked, 0);
    assert_eq!(running.io.stats().await, posthaste::Stats::default());
    eventually("nobody accepts", async || Wire::try_connect(running.addr).await.is_err()).await;
}

#[tokio::test]
async fn a_storm_of_clients_does_not_keep_a_server_from_ending() {
    for _ in 0..5 {
        let running = serve(Server::builder().workers(2), |_| {});
        let stop = Arc::new(AtomicBool::new(false));
        let mut storm = Vec::new();
        for number in 0..8 {
            let (addr, stop) = (running.addr, stop.clone());
            storm.push(tokio::spawn(async move {
                let transport = Transport::ALL[number % 2].name();
                let target = format!("/socket.io/?EIO=4&transport={transport}");
                let request = match number % 2 {
                    0 => Request::get(&target),
                    _ => posthaste_testkit::upgrade_request(&target),
                };
                let mut kept = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    match Wire::try_connect(addr).await {
                        Ok(mut wire) => {
                            let _ = wire.write(&request.encode()).await;
                            kept.push(wire);
                        }
                        // Nobody accepts any more: the storm is over.
                        Err(_) => kept.clear(),
                    }
                    tokio::task::yield_now().await;
                }
            }));
        }
        eventually("the storm is on", async || running.io.stats().await.connections > 20).await;
        assert!(close(&running.io, PATIENCE).await, "the workers ended");
        stop.store(true, Ordering::Relaxed);
        for client in storm {
            client.await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_server_that_shares_its_workers_ends_alone() {
    let workers = Workers::start(2).unwrap();
    let reasons = Record::new();
    let mut servers = Vec::new();
    for _ in 0..2 {
        let record = reasons.clone();
        servers.push(serve(Server::builder().shared_workers(&workers), |io| {
            io.on("hi", async || {});
            io.on_disconnect(move |reason: DisconnectReason| {
                record.push(reason);
                async {}
            });
        }));
    }
    let mut one = [Client::websocket(servers[0].addr).await, Client::join(servers[0].addr, Transport::Polling).await];
    let mut two = Client::websocket(servers[1].addr).await;
    assert!(close(&servers[0].io, PATIENCE).await);
    for client in &mut one {
        client.closed().await;
    }
    assert_eq!(reasons.wait_for(2).await, [DisconnectReason::ServerShuttingDown; 2]);
    two.ask(r#"["hi"]"#, "[]").await;
    // Its listener is still there, and says that the server is not.
    let answer = Http::once(servers[0].addr, &Request::get("/socket.io/?EIO=4&transport=polling")).await.unwrap();
    assert_eq!(answer.status, 503);
    Client::websocket(servers[1].addr).await.ask(r#"["hi"]"#, "[]").await;
    let shutdown = tokio::task::spawn_blocking(move || workers.shutdown(PATIENCE));
    let (ended, _) = tokio::join!(shutdown, two.closed());
    assert!(ended.unwrap());
}

/// Its peer may keep an HTTP connection for its next request as long as it likes; nothing is under way on it.
#[tokio::test]
async fn a_connection_that_waits_for_a_request_keeps_no_server_from_ending() {
    let running = serve(Server::builder().workers(2), |_| {});
    let mut idle = Vec::new();
    for number in 0..8 {
        let mut http = Http::connect(running.addr).await;
        // Some have never asked for anything, some are between two requests: of ours, and of the general HTTP server's.
        let target = ["/socket.io/?EIO=4&transport=polling", "/elsewhere"].get(number % 4);
        if let Some(target) = target {
            http.send(&Request::get(target)).await.unwrap();
        }
        idle.push(http);
    }
    // Closing in order takes up to five seconds per peer that does not close: this is less.
    assert!(close(&running.io, Duration::from_secs(4)).await, "its threads have ended");
    for http in &mut idle {
        assert!(http.wire().take_rest().await.unwrap_or_default().is_empty());
    }
}
