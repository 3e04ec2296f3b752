//! Middlewares that an event has to pass before its handler.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use posthaste::{Ack, Answer, Data, Event, EventError, Namespace, Server, Socket};
use posthaste_testkit::{Client, Record, Transport, serve};
use tokio::sync::Semaphore;

/// Why a test's middleware refused an event.
#[derive(Debug, PartialEq)]
struct Refused(u32);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "refused with {}", self.0)
    }
}

#[tokio::test]
async fn a_refused_event_is_dropped_its_client_told_and_the_socket_stays() {
    let handled = Record::new();
    let (record, any) = (handled.clone(), handled.clone());
    let running = serve(Server::builder().workers(1), |io| {
        io.event_middleware(async |Event(name): Event| if name.starts_with("bad") { Err(Refused(7)) } else { Ok(()) });
        io.on("bad", move || {
            record.push("bad".to_owned());
            async {}
        });
        io.fallback(move |Event(name): Event| {
            any.push(name);
            async {}
        });
    });
    for transport in Transport::ALL {
        let mut client = Client::join(running.addr, transport).await;
        client.ask(r#"["bad"]"#, r#"[{"error":"refused with 7"}]"#).await;
        client.ask(r#"["bad and unknown"]"#, r#"[{"error":"refused with 7"}]"#).await;
        // Nobody waits: nothing is said.
        client.emit(r#"["bad"]"#).await;
        client.ask(r#"["good"]"#, "[]").await;
    }
    assert_eq!(handled.all(), ["good", "good"]);
}

#[tokio::test]
async fn middlewares_are_asked_in_order_until_one_refuses_and_see_the_whole_event() {
    let seen = Record::new();
    let running = serve(Server::builder().workers(1), |io| {
        for number in 1..=3u32 {
            let record = seen.clone();
            io.event_middleware(move |Event(name): Event, Data((limit, bytes)): Data<(u32, Option<Bytes>)>| {
                record.push((name, number, bytes.map(|bytes| bytes.len())));
                async move {
                    // Also when they wait.
                    tokio::task::yield_now().await;
                    if number < limit { Ok(()) } else { Err(Refused(number)) }
                }
            });
        }
        io.on("count", async |Data((_, bytes)): Data<(u32, Option<Bytes>)>| Answer(bytes));
    });
    let mut client = Client::websocket(running.addr).await;
    client.ask(r#"["count",2]"#, r#"[{"error":"refused with 2"}]"#).await;
    assert_eq!(seen.all(), [("count".to_owned(), 1, None), ("count".to_owned(), 2, None)]);
    client.send(r#"51-5["count",9,{"_placeholder":true,"num":0}]"#).await;
    client.send_binary(b"four").await;
    client.expect(r#"61-5[{"_placeholder":true,"num":0}]"#).await;
    client.expect_binary(b"four").await;
    let event = |number| ("count".to_owned(), number, Some(4));
    assert_eq!(seen.all()[2..], [event(1), event(2), event(3)]);
    // What a middleware takes is not there: refused.
    client.send(r#"21["count","x"]"#).await;
    let answer = client.text().await;
    assert!(answer.starts_with(r#"31[{"error":"the arguments of the event: "#), "{answer}");
}

#[tokio::test]
async fn refusals_go_to_the_error_handler_which_may_answer_itself() {
    let seen = Record::new();
    let record = seen.clone();
    let running = serve(Server::builder().workers(1), |io| {
        io.event_middleware(async |Event(name): Event| if name == "bad" { Err(Refused(1)) } else { Ok(()) });
        io.on_error(async |_: Socket| panic!("a later error handler replaces this one"));
        io.on_error(move |error: EventError, Event(name): Event, Data(text): Data<String>, socket: Socket| {
            record.push((name, text, error.downcast_ref::<Refused>().map(|Refused(code)| *code)));
            async move { socket.emit("error", &error.to_string()).now().unwrap() }
        });
        let own = io.namespace("/own");
        own.event_middleware(async || Err::<(), _>("no"));
        own.on_error(async |ack: Ack, error: EventError| ack.send(&("own", error.to_string())).now().unwrap());
        // Taken by the middleware: nobody else answers.
        let taken = io.namespace("/taken");
        taken.event_middleware(async |ack: Ack| {
            ack.send("taken").now().unwrap();
            Err::<(), _>(String::from("not sent"))
        });
        taken.on_error(async |ack: Ack| assert!(!ack.is_requested()));
    });
    let mut client = Client::websocket(running.addr).await;
    client.send(r#"21["bad","text"]"#).await;
    client.expect(r#"31[{"error":"refused with 1"}]"#).await;
    client.expect(r#"2["error","refused with 1"]"#).await;
    client.emit(r#"["bad","again"]"#).await;
    client.expect(r#"2["error","refused with 1"]"#).await;
    // The handler cannot be called, and the client is told all the same.
    client.ask(r#"["bad",17]"#, r#"[{"error":"refused with 1"}]"#).await;
    let expected = |text: &str| ("bad".to_owned(), text.to_owned(), Some(1));
    assert_eq!(seen.all(), [expected("text"), expected("again")]);

    client.connect("/own").await;
    client.send(r#"2/own,4["x"]"#).await;
    client.expect(r#"3/own,4["own","no"]"#).await;
    client.connect("/taken").await;
    client.send(r#"2/taken,4["x"]"#).await;
    client.expect(r#"3/taken,4["taken"]"#).await;
    client.send(r#"2/taken,5["x"]"#).await;
    client.expect(r#"3/taken,5["taken"]"#).await;
}

#[tokio::test]
async fn an_event_error_is_there_for_error_handlers_alone() {
    let running = serve(Server::builder().workers(1), |io| {
        io.on("ask", async |_: EventError| {});
    });
    let mut client = Client::websocket(running.addr).await;
    client.ask(r#"["ask"]"#, r#"[{"error":"no middleware refused this event"}]"#).await;
}

#[tokio::test]
async fn an_event_that_is_let_through_after_its_socket_left_is_dropped() {
    let gate = Arc::new(Semaphore::new(0));
    let seen = Record::new();
    let (wait, asked, handled) = (gate.clone(), seen.clone(), seen.clone());
    let running = serve(Server::builder().workers(1), |io| {
        io.event_middleware(move |Event(name): Event| {
            let wait = wait.clone();
            asked.push(format!("asked {name}"));
            async move {
                if name == "slow" {
                    wait.acquire().await.unwrap().forget();
                }
                Ok::<_, Refused>(())
            }
        });
        io.fallback(move |Event(name): Event| {
            handled.push(format!("handled {name}"));
            async {}
        });
        io.namespace("/other").on("sync", async || {});
    });
    let mut client = Client::websocket(running.addr).await;
    client.connect("/other").await;
    client.emit(r#"["slow"]"#).await;
    // One that waits holds up no other.
    client.ask(r#"["fast"]"#, "[]").await;
    client.send("1").await;
    client.send(r#"2/other,1["sync"]"#).await;
    client.expect("3/other,1[]").await;
    gate.add_permits(1);
    posthaste_testkit::eventually("the middleware is done", async || running.io.stats().await.handlers == 0).await;
    assert_eq!(seen.all(), ["asked slow", "asked fast", "handled fast"]);
}

#[tokio::test]
async fn a_middleware_that_panics_ends_its_socket_and_no_other() {
    let running = serve(Server::builder().workers(1), |io| {
        io.event_middleware(async |Event(name): Event| {
            assert_ne!(name, "panic", "on purpose");
            Ok::<_, Refused>(())
        });
        io.on("sync", async || {});
        io.namespace("/other").on("sync", async || {});
    });
    let mut other = Client::websocket(running.addr).await;
    let mut client = Client::websocket(running.addr).await;
    client.connect("/other").await;
    client.send(r#"21["panic"]"#).await;
    client.expect("1").await;
    client.send(r#"2/other,1["sync"]"#).await;
    client.expect("3/other,1[]").await;
    other.ask(r#"["sync"]"#, "[]").await;
}

#[tokio::test]
async fn children_have_the_event_middlewares_of_their_parent_and_namespaces_not_those_of_others() {
    let running = serve(Server::builder().workers(1), |io| {
        let parent = io.namespaces("/dyn/{x}").unwrap();
        parent.event_middleware(async |namespace: Namespace| Err::<(), _>(namespace.name().to_owned()));
        io.on("sync", async || {});
    });
    let mut client = Client::websocket(running.addr).await;
    client.connect("/dyn/1").await;
    client.send(r#"2/dyn/1,1["x"]"#).await;
    client.expect(r#"3/dyn/1,1[{"error":"/dyn/1"}]"#).await;
    client.ask(r#"["sync"]"#, "[]").await;
}
