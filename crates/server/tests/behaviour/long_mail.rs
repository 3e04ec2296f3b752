//! A worker that is held up has a long mailbox: nothing of it is lost, and nothing changes places.

use std::sync::{Arc, Mutex, mpsc};

use posthaste::{OutboxLimits, Server};
use posthaste_testkit::Record;

use crate::spread::{Placed, Spread};

const PUBLISHERS: u32 = 4;
const EACH: u32 = 25_000;

/// A hundred thousand events of four publishers, two of them rooms that are joined and left on the way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_posts_to_a_worker_that_is_held_up_arrive_in_order_once() {
    let (word, release) = mpsc::channel::<()>();
    let (release, held) = (Arc::new(Mutex::new(release)), Record::new());
    let spread = Spread::with(
        2,
        |builder| builder.outbox(OutboxLimits { bytes: 256 << 20, packets: 1 << 20 }),
        |io: &Server| {
            let holding = held.clone();
            io.on("hold", move || {
                holding.push(());
                release.lock().unwrap().recv().unwrap();
                async {}
            });
        },
    );
    let mut clients = spread.clients(1).await;
    clients[0].client.emit(r#"["hold"]"#).await;
    held.wait_for(1).await;
    let threads: Vec<_> = (0..PUBLISHERS)
        .map(|publisher| {
            let (io, sockets) = (spread.running.io.clone(), clients.iter().map(|it| it.socket.clone()));
            let sockets: Vec<_> = sockets.collect();
            std::thread::spawn(move || {
                let room = format!("room {publisher}");
                for number in 0..EACH {
                    // Half of the publishers speak to a room that is there for one event in two.
                    if publisher % 2 == 0 {
                        io.emit("count", &(publisher, number)).now().unwrap();
                        continue;
                    }
                    sockets.iter().for_each(|socket| match number % 2 {
                        0 => socket.join(&*room),
                        _ => socket.leave(&*room),
                    });
                    io.to(&*room).emit("count", &(publisher, number)).now().unwrap();
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    word.send(()).unwrap();
    for Placed { client, .. } in &mut clients {
        let mut next = [0; PUBLISHERS as usize];
        for _ in 0..PUBLISHERS / 2 * (EACH + EACH / 2) {
            let text = client.text().await;
            let numbers = text.strip_prefix(r#"2["count","#).and_then(|rest| rest.strip_suffix(']')).unwrap();
            let (publisher, number) = numbers.split_once(',').unwrap();
            let (publisher, number): (usize, u32) = (publisher.parse().unwrap(), number.parse().unwrap());
            assert_eq!(number, next[publisher], "publisher {publisher}");
            next[publisher] += if publisher % 2 == 0 { 1 } else { 2 };
        }
        assert_eq!(next, [EACH; PUBLISHERS as usize], "and nothing is missing");
    }
}

/// A turn is not one write, whatever it produces: what is behind a quarter of a mebibyte (a mebibyte of events that are long
/// themselves) leaves before the handler that says it has come to its end.
#[tokio::test]
async fn a_handler_that_says_much_is_heard_before_it_returns() {
    for (count, length) in [(400, 1_000), (15, 100_000)] {
        let (word, release) = mpsc::channel::<()>();
        let release = Arc::new(Mutex::new(release));
        let spread = Spread::over(1, |io| {
            io.on("go", move |io: Server| {
                for number in 0..count {
                    io.emit("much", &(number, "x".repeat(length))).now().unwrap();
                }
                // What a handler must not do: nothing is written while it waits.
                let heard = release.lock().unwrap().recv_timeout(posthaste_testkit::PATIENCE);
                async move { posthaste::Answer(heard.is_ok()) }
            });
        });
        let mut client = spread.client().await.client;
        client.send(r#"27["go"]"#).await;
        let text = client.text().await;
        assert!(text.starts_with(r#"2["much",0,"#), "{}", &text[..20]);
        word.send(()).unwrap();
        for number in 1..count {
            let text = client.text().await;
            assert!(text.starts_with(&format!(r#"2["much",{number},"#)), "{}", &text[..20]);
        }
        client.expect("37[true]").await;
    }
}
