//! A handler that keeps its worker from all other connections is noticed, counted, and named once.

#![allow(clippy::unwrap_used, reason = "tests: a failed expectation is the point")]

use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::time::Duration;

use posthaste::{ConnectError, Data, EventError, Server, Socket, WorkerStalls};
use posthaste_testkit::{Client, Frame, Record, Running, Transport, encode_frame, eventually, serve};
use tracing::field::{Field, Visit};
use tracing::span;

fn block() {
    std::thread::sleep(LONG);
}

/// Long enough to be a stall on any machine, and for the watch to have looked.
const LONG: Duration = Duration::from_millis(1_200);

/// The log of this process: each warning as `field=value` words.
fn log() -> &'static Record<String> {
    static LOG: OnceLock<Record<String>> = OnceLock::new();
    LOG.get_or_init(|| {
        let log = Record::new();
        tracing::subscriber::set_global_default(Warnings(log.clone())).unwrap();
        log
    })
}

struct Warnings(Record<String>);

struct Words(String);

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, "{field}={value:?} ").unwrap();
    }
}

impl tracing::Subscriber for Warnings {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::WARN
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        let mut words = Words(String::new());
        event.record(&mut words);
        self.0.push(words.0);
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// The warnings with all these words.
fn warnings(words: &[&str]) -> Vec<String> {
    log().all().into_iter().filter(|warning| words.iter().all(|word| warning.contains(word))).collect()
}

fn stalls(running: &Running) -> WorkerStalls {
    running.io.worker_stalls().remove(0)
}

#[tokio::test]
async fn of_many_handlers_of_one_turn_the_one_that_took_too_long_is_named_once() {
    log();
    let running = serve(Server::builder().workers(1), |io| {
        let chat = io.namespace("/many");
        chat.on("quick", async || {});
        chat.on("slow", async || std::thread::sleep(LONG));
    });
    let mut client = Client::open(running.addr, Transport::WebSocket).await;
    let socket = client.connect("/many").await;
    assert_eq!(stalls(&running).stalls, 0);
    let mut frames = Vec::new();
    for number in 0..101 {
        let event = if number == 50 { r#"42/many,["slow"]"# } else { r#"42/many,["quick"]"# };
        frames.extend(encode_frame(&Frame::text(event), Some([1; 4])));
    }
    frames.extend(encode_frame(&Frame::text(r#"42/many,7["quick"]"#), Some([1; 4])));
    client.engine().websocket().wire().write(&frames).await.unwrap();
    client.expect("3/many,7[]").await;
    let by_name = [r#"namespace="/many""#, "stalled"];
    let found = warnings(&by_name);
    assert_eq!(found.len(), 1, "{found:?}");
    for word in [r#"event="slow""#, &format!("socket={socket}"), "worker=0", "milliseconds="] {
        assert!(found[0].contains(word), "{word} in {}", found[0]);
    }
    eventually("the turn is over", async || stalls(&running).turn.is_none()).await;
    let WorkerStalls { worker, stalls, longest_turn, .. } = stalls(&running);
    assert!(worker == 0 && stalls >= 1 && longest_turn >= LONG, "{stalls} of up to {longest_turn:?}");
}

#[tokio::test]
async fn whatever_an_application_wrote_is_named_by_what_it_is_for() {
    log();
    let running = serve(Server::builder().workers(1), |io| {
        io.namespace("/connect").on_connect(async || block());
        io.namespace("/disconnect").on_disconnect(async || block());
        let checked = io.namespace("/checked");
        checked.event_middleware(async || {
            block();
            Ok::<_, EventError>(())
        });
        checked.on("asked", async || {});
        io.namespace("/later").on("later", async || {
            tokio::task::yield_now().await;
            block();
        });
        io.namespace("/asking").middleware(async || {
            block();
            Ok::<_, ConnectError>(())
        });
        io.namespace("/joining").middleware(async || {
            tokio::task::yield_now().await;
            block();
            Ok::<_, ConnectError>(())
        });
    });
    let mut client = Client::open(running.addr, Transport::WebSocket).await;
    for name in ["/connect", "/disconnect", "/checked", "/later", "/asking", "/joining"] {
        client.connect(name).await;
    }
    client.send("1/disconnect,").await;
    client.send(r#"2/checked,["asked"]"#).await;
    client.send(r#"2/later,1["later"]"#).await;
    client.expect("3/later,1[]").await;
    let all =
        [("/connect", "connect"), ("/disconnect", "disconnect"), ("/checked", "asked"), ("/asking", "middleware")];
    for (namespace, event) in all {
        let found = warnings(&[&format!("namespace={namespace:?}"), &format!("event={event:?}")]);
        assert_eq!(found.len(), 1, "{namespace}: {:?}", log().all());
    }
    let found = warnings(&[r#"namespace="/later""#, "after an await"]);
    assert_eq!(found.len(), 1, "{:?}", log().all());
    // Some may have been in one turn.
    assert!(stalls(&running).stalls >= 3);
}

/// A worker that a handler never gives back cannot tell of it; others can.
#[tokio::test]
async fn a_worker_that_is_stuck_is_seen_from_outside_while_it_is() {
    log();
    let (word, release) = mpsc::channel::<()>();
    let release = Arc::new(Mutex::new(release));
    let running = serve(Server::builder().workers(1), |io| {
        io.on("stick", move |Data(()): Data<()>, _: Socket| {
            release.lock().unwrap().recv().unwrap();
            async {}
        });
    });
    let mut client = Client::websocket(running.addr).await;
    client.emit(r#"["stick"]"#).await;
    eventually("it is in the log", async || !warnings(&["worker stuck"]).is_empty()).await;
    let seen = stalls(&running);
    assert!(seen.turn.is_some_and(|turn| turn > LONG && turn <= seen.longest_turn), "{seen:?}");
    assert_eq!(seen.stalls, 0, "it is counted at its end");
    word.send(()).unwrap();
    eventually("it goes on", async || stalls(&running).turn.is_none()).await;
    assert_eq!(stalls(&running).stalls, 1);
    assert_eq!(warnings(&[r#"event="stick""#]).len(), 1);
}
