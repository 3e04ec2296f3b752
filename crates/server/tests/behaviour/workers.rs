//! Order holds across workers: posts are seen in the order they were made, and an answer never overtakes its cause.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use posthaste::{Data, Server, Socket};
use posthaste_testkit::{Client, Record};

use crate::spread::{Placed, Spread};

#[tokio::test]
async fn broadcasts_of_one_publisher_arrive_everywhere_in_the_order_they_were_made() {
    for workers in [1, 2, 4] {
        let spread = Spread::over(workers, |io| {
            io.on_connect(async |socket: Socket| socket.join("room"));
        });
        let mut clients = spread.clients(3).await;
        for number in 0..300 {
            let io = &spread.running.io;
            match number % 3 {
                0 => io.emit("count", &number),
                1 => io.to("room").emit("count", &number),
                _ => io.to("room").except("nobody").emit("count", &number),
            }
            .now()
            .unwrap();
        }
        for Placed { client, .. } in &mut clients {
            for number in 0..300 {
                client.expect(&format!(r#"2["count",{number}]"#)).await;
            }
        }
    }
}

#[tokio::test]
async fn broadcasts_of_a_handler_arrive_everywhere_in_the_order_they_were_made() {
    for workers in [1, 2, 4] {
        let spread = Spread::over(workers, |io| {
            io.on("go", async |io: Server| {
                for number in 0..100 {
                    io.emit("count", &number).await.unwrap();
                    if number % 10 == 0 {
                        tokio::task::yield_now().await;
                    }
                }
            });
        });
        let mut clients = spread.clients(2).await;
        for publisher in 0..clients.len() {
            clients[publisher].client.emit(r#"["go"]"#).await;
            for Placed { client, .. } in &mut clients {
                for number in 0..100 {
                    client.expect(&format!(r#"2["count",{number}]"#)).await;
                }
            }
        }
    }
}

#[tokio::test]
async fn a_join_is_seen_by_the_emits_after_it_from_whichever_thread_both_are_made() {
    for workers in [1, 2, 4] {
        let sockets = Record::<Socket>::new();
        let spread = Spread::over(workers, |io| {
            let sockets = sockets.clone();
            // Joins sockets of all workers from one worker's thread.
            io.on("gather", move |io: Server| {
                let all = sockets.all();
                async move {
                    for round in 0..100 {
                        all.iter().for_each(|socket| socket.join("handler"));
                        io.to("handler").emit("in", &round).await.unwrap();
                        all.iter().for_each(|socket| socket.leave("handler"));
                        io.to("handler").emit("out", &round).await.unwrap();
                    }
                }
            });
        });
        let mut clients = spread.clients(2).await;
        clients.iter().for_each(|placed| sockets.push(placed.socket.clone()));
        let all = sockets.all();
        let io = &spread.running.io;
        for round in 0..100 {
            all.iter().for_each(|socket| socket.join("thread"));
            io.to("thread").emit("in", &round).now().unwrap();
            all.iter().for_each(|socket| socket.leave("thread"));
            io.to("thread").emit("out", &round).now().unwrap();
        }
        for Placed { client, .. } in &mut clients {
            for round in 0..100 {
                client.expect(&format!(r#"2["in",{round}]"#)).await;
            }
        }
        clients[0].client.emit(r#"["gather"]"#).await;
        for Placed { client, .. } in &mut clients {
            for round in 0..100 {
                client.expect(&format!(r#"2["in",{round}]"#)).await;
            }
        }
    }
}

/// A on one worker, told to another worker's thread by shared memory, where B is broadcast at once. A waits in that worker's
/// mailbox at that time, and must not be overtaken there.
#[tokio::test]
async fn a_broadcast_that_another_one_provoked_arrives_behind_it_everywhere() {
    const ROUNDS: u32 = 300;
    for workers in [2, 4] {
        let said = Arc::new(AtomicU32::new(0));
        let answered = Arc::new(AtomicU32::new(0));
        let spread = Spread::over(workers, |io| {
            let (asks, asked) = ((said.clone(), answered.clone()), (said.clone(), answered.clone()));
            io.on("say", move |io: Server| {
                let (said, answered) = asks.clone();
                async move {
                    for round in 1..=ROUNDS {
                        io.emit("cause", &round).now().unwrap();
                        said.store(round, Ordering::Release);
                        while answered.load(Ordering::Acquire) < round {
                            tokio::task::yield_now().await;
                        }
                    }
                }
            });
            io.on("answer", move |io: Server| {
                let (said, answered) = asked.clone();
                async move {
                    // A task of its own, so that nothing but the flag wakes it: a woken handler would come by the mailbox.
                    let answers = tokio::task::spawn_local(async move {
                        for round in 1..=ROUNDS {
                            while said.load(Ordering::Acquire) < round {
                                tokio::task::yield_now().await;
                            }
                            io.emit("effect", &round).now().unwrap();
                            answered.store(round, Ordering::Release);
                        }
                    });
                    answers.await.unwrap();
                }
            });
        });
        let mut clients = spread.clients(2).await;
        let first = clients[0].worker;
        let other = clients.iter().position(|placed| placed.worker != first).unwrap();
        clients[other].client.emit(r#"["answer"]"#).await;
        clients[0].client.emit(r#"["say"]"#).await;
        for Placed { client, .. } in &mut clients {
            for round in 1..=ROUNDS {
                client.expect(&format!(r#"2["cause",{round}]"#)).await;
                client.expect(&format!(r#"2["effect",{round}]"#)).await;
            }
        }
    }
}

/// The same through clients: whoever saw the cause makes another worker's handler broadcast the effect.
#[tokio::test]
async fn an_event_that_a_delivery_provoked_arrives_behind_it_everywhere() {
    let spread = Spread::over(4, |io| {
        io.on("react", async |io: Server, Data(round): Data<u32>| io.emit("effect", &round).await);
    });
    let mut clients = spread.clients(2).await;
    let mut reactor: Client = spread.client().await.client;
    for round in 0..200 {
        spread.running.io.emit("cause", &round).now().unwrap();
        reactor.expect(&format!(r#"2["cause",{round}]"#)).await;
        reactor.emit(&format!(r#"["react",{round}]"#)).await;
        reactor.expect(&format!(r#"2["effect",{round}]"#)).await;
    }
    for Placed { client, .. } in &mut clients {
        for round in 0..200 {
            client.expect(&format!(r#"2["cause",{round}]"#)).await;
            client.expect(&format!(r#"2["effect",{round}]"#)).await;
        }
    }
}
