//! A publisher that awaits what it sends is no faster than the threads that send it; and waits for nobody else.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Waker};

use posthaste::{Builder, Recovery, Sent, Server, State};
use posthaste_testkit::{Record, eventually, within};

use crate::spread::Spread;

/// What holds a worker up: it says that it does, and waits for a word.
#[derive(Clone, Debug)]
struct Hold {
    held: Record<()>,
    release: Arc<Mutex<mpsc::Receiver<()>>>,
}

/// A server of one worker, which the event `hold` keeps from everything else: what a handler must not do. A word ends that.
fn held() -> (Spread, Hold, mpsc::Sender<()>) {
    held_with(|builder| builder)
}

fn held_with(build: impl FnOnce(Builder) -> Builder) -> (Spread, Hold, mpsc::Sender<()>) {
    let (word, release) = mpsc::channel();
    let hold = Hold { held: Record::new(), release: Arc::new(Mutex::new(release)) };
    let outbox = posthaste::OutboxLimits { bytes: 256 << 20, packets: 1 << 20 };
    let spread = Spread::with(
        1,
        |builder| build(builder.state(hold.clone()).outbox(outbox)),
        |io: &Server| {
            io.on("hold", async |State(hold): State<Hold>| {
                hold.held.push(());
                hold.release.lock().unwrap().recv().unwrap();
            });
        },
    );
    (spread, hold, word)
}

const LARGE: usize = 1 << 20;

fn is_ready(sent: &mut Sent) -> bool {
    matches!(Pin::new(sent).poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(Ok(())))
}

/// Sends with `send` until awaiting that has to wait. Returns how many were sent, and the last.
fn send_until_it_waits(mut send: impl FnMut(usize) -> Sent) -> (usize, Sent) {
    for number in 0.. {
        let mut sent = send(number);
        if !is_ready(&mut sent) {
            return (number + 1, sent);
        }
        assert!(number < 100, "a hundred MiB wait, and still nobody has to");
    }
    unreachable!("one of these waits")
}

#[tokio::test]
async fn who_awaits_what_it_sends_waits_for_a_worker_that_does_not_keep_up_and_nothing_is_lost() {
    let (spread, hold, word) = held();
    let mut placed = spread.client().await;
    let io = spread.running.io.clone();
    let large = "x".repeat(LARGE);

    placed.client.send(r#"2["hold"]"#).await;
    hold.held.wait_for(1).await;
    let (broadcasts, mut last) = send_until_it_waits(|number| io.emit("large", &(number, &large)));
    assert!(broadcasts > 8, "{broadcasts} MiB are no reason to wait");
    let (sends, mut last_sent) = send_until_it_waits(|number| placed.socket.emit("own", &(number, &large)));
    assert_eq!(sends, 1, "it waits already");
    assert!(!is_ready(&mut last));
    // Who does not await is not held back, and keeps its place.
    for number in 0..5 {
        io.emit("small", &number).now().unwrap();
    }
    word.send(()).unwrap();
    within("the worker has taken it", &mut last).await.unwrap();
    within("and that", &mut last_sent).await.unwrap();
    for number in 0..broadcasts {
        let text = placed.client.text().await;
        assert!(text.starts_with(&format!(r#"2["large",{number},"#)), "{}", &text[..20]);
    }
    let text = placed.client.text().await;
    assert!(text.starts_with(r#"2["own",0,"#), "{}", &text[..20]);
    for number in 0..5 {
        placed.client.expect(&format!(r#"2["small",{number}]"#)).await;
    }
    // All is well again.
    assert!(is_ready(&mut io.emit("after", &())));
}

#[tokio::test]
async fn who_waits_for_a_worker_that_ends_waits_no_longer() {
    let (spread, hold, word) = held();
    let mut placed = spread.client().await;
    let io = spread.running.io.clone();
    let large = "x".repeat(LARGE);
    placed.client.send(r#"2["hold"]"#).await;
    hold.held.wait_for(1).await;
    let (_, last) = send_until_it_waits(|number| io.emit("large", &(number, &large)));
    io.close(std::time::Duration::ZERO);
    drop(spread);
    word.send(()).unwrap();
    within("the worker has ended", last).await.unwrap();
}

/// Every way to send has to wait, whoever listens or comes back.
#[tokio::test]
async fn there_is_no_way_around_waiting_for_a_worker_that_does_not_keep_up() {
    let large = bytes::Bytes::from(vec![0; LARGE]);
    for (watched, recovered) in [(false, false), (true, false), (false, true), (true, true)] {
        for way in 0..5 {
            let (spread, hold, word) =
                held_with(|builder| if recovered { builder.recovery(Recovery::default()) } else { builder });
            let io = spread.running.io.clone();
            let mut placed = spread.client().await;
            if watched {
                io.on_any_outgoing(async || {});
            }
            placed.client.send(r#"2["hold"]"#).await;
            hold.held.wait_for(1).await;
            let (_, last) = send_until_it_waits(|number| match way {
                0 => placed.socket.emit("own", &(number, &large)),
                1 => placed.socket.volatile().emit("own", &(number, &large)),
                2 => io.emit("all", &(number, &large)),
                3 => io.volatile().emit("all", &(number, &large)),
                // Rooms weigh nothing, but what takes them there does.
                _ => {
                    drop((0..10_000).map(|_| io.sockets_join("room")).collect::<Vec<_>>());
                    io.sockets_join("room")
                }
            });
            word.send(()).unwrap();
            within("the worker has taken it", last).await.unwrap();
            let socket = placed.socket.clone();
            drop(placed);
            eventually("it is gone", async || !socket.is_connected()).await;
        }
    }
}
