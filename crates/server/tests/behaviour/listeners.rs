//! What one socket has for itself: handlers beside the namespace's, for once or for long, and middlewares.

use std::sync::{Arc, Weak};

use posthaste::{Answer, Data, Event, Server, Socket};
use posthaste_testkit::{Client, Record, Transport, eventually, serve};

#[tokio::test]
async fn a_sockets_own_handler_goes_before_the_namespaces_until_it_is_taken_away() {
    let running = serve(Server::builder().workers(1), |io| {
        io.on("who", async || Answer("namespace"));
        io.fallback(async |Event(name): Event| Answer(("fallback", name)));
        io.on("on", async |socket: Socket, Data((event, answer)): Data<(String, String)>| {
            socket.on(&event, move || {
                let answer = answer.clone();
                async move { Answer(answer) }
            });
        });
        io.on("off", async |socket: Socket, Data(event): Data<String>| Answer(socket.off(&event)));
    });
    for transport in Transport::ALL {
        let mut client = Client::join(running.addr, transport).await;
        let mut other = Client::join(running.addr, transport).await;
        client.ask(r#"["off","who"]"#, "[false]").await;
        client.ask(r#"["on","who","own"]"#, "[]").await;
        client.ask(r#"["who"]"#, r#"["own"]"#).await;
        client.ask(r#"["on","who","later"]"#, "[]").await;
        client.ask(r#"["who"]"#, r#"["later"]"#).await;
        client.ask(r#"["on","odd","own"]"#, "[]").await;
        client.ask(r#"["odd"]"#, r#"["own"]"#).await;
        other.ask(r#"["who"]"#, r#"["namespace"]"#).await;
        other.ask(r#"["odd"]"#, r#"["fallback","odd"]"#).await;
        client.ask(r#"["off","who"]"#, "[true]").await;
        client.ask(r#"["who"]"#, r#"["namespace"]"#).await;
        client.ask(r#"["off","odd"]"#, "[true]").await;
        client.ask(r#"["odd"]"#, r#"["fallback","odd"]"#).await;
    }
}

#[tokio::test]
async fn once_is_for_one_event_and_what_was_there_is_back_after_it() {
    let running = serve(Server::builder().workers(1), |io| {
        io.on_connect(async |socket: Socket| {
            socket.once("first", async |Data(number): Data<u32>| Answer(("once", number)));
            socket.on("both", async || Answer("always"));
            socket.once("both", async || Answer("replaced by a later one"));
            socket.once("both", async || Answer("once"));
            socket.once("gone", async || Answer("once"));
            socket.off("gone");
        });
        io.fallback(async || Answer("fallback"));
    });
    let mut client = Client::websocket(running.addr).await;
    client.ask(r#"["first",7]"#, r#"["once",7]"#).await;
    client.ask(r#"["first",7]"#, r#"["fallback"]"#).await;
    client.ask(r#"["both"]"#, r#"["once"]"#).await;
    client.ask(r#"["both"]"#, r#"["always"]"#).await;
    client.ask(r#"["both"]"#, r#"["always"]"#).await;
    client.ask(r#"["gone"]"#, r#"["fallback"]"#).await;
    // Many in one go: the first alone.
    let mut client = Client::websocket(running.addr).await;
    client.send_all(&[r#"21["first",1]"#, r#"22["first",2]"#, r#"23["first",3]"#]).await;
    for answer in [r#"31["once",1]"#, r#"32["fallback"]"#, r#"33["fallback"]"#] {
        client.expect(answer).await;
    }
}

#[tokio::test]
async fn a_sockets_own_middlewares_are_asked_behind_the_namespaces() {
    let running = serve(Server::builder().workers(1), |io| {
        io.event_middleware(async |Event(name): Event| if name == "one" { Err("namespace") } else { Ok(()) });
        io.on("guard", async |socket: Socket| {
            socket.event_middleware(async |Event(name): Event| {
                tokio::task::yield_now().await;
                if name == "one" || name == "two" { Err("socket") } else { Ok(()) }
            });
            // Chosen when all have agreed.
            socket.once("three", async || Answer("once"));
        });
        io.fallback(async || Answer("passed"));
    });
    let mut client = Client::websocket(running.addr).await;
    let mut other = Client::websocket(running.addr).await;
    client.ask(r#"["two"]"#, r#"["passed"]"#).await;
    client.ask(r#"["guard"]"#, "[]").await;
    client.ask(r#"["one"]"#, r#"[{"error":"namespace"}]"#).await;
    client.ask(r#"["two"]"#, r#"[{"error":"socket"}]"#).await;
    client.ask(r#"["three"]"#, r#"["once"]"#).await;
    client.ask(r#"["three"]"#, r#"["passed"]"#).await;
    other.ask(r#"["two"]"#, r#"["passed"]"#).await;
}

/// Registers one of everything that holds the socket itself. Returns what is gone when all of it is.
fn hold(socket: &Socket) -> Weak<()> {
    let token = Arc::new(());
    let weak = Arc::downgrade(&token);
    let held = (socket.clone(), token);
    let holding = || {
        let held = held.clone();
        move || {
            let _ = &held;
            async {}
        }
    };
    socket.on("a", holding()).once("a", holding());
    socket.on_any(holding());
    socket.on_any_outgoing(holding());
    let held = held.clone();
    socket.event_middleware(move || {
        let _ = &held;
        async { Ok::<(), String>(()) }
    });
    weak
}

#[tokio::test]
async fn what_a_socket_has_for_itself_is_dropped_when_it_leaves() {
    let (held, sockets) = (Record::new(), Record::new());
    let running = serve(Server::builder().workers(1), |io| {
        let (record, keep) = (held.clone(), sockets.clone());
        io.on_connect(move |socket: Socket| {
            record.push(hold(&socket));
            keep.push(socket);
            async {}
        });
        let record = held.clone();
        io.on_disconnect(move |socket: Socket| {
            record.push(hold(&socket));
            async {}
        });
        let record = held.clone();
        io.namespace("/refused").middleware(move |socket: Socket| {
            record.push(hold(&socket));
            async { Err::<(), _>(posthaste::ConnectError::new("no")) }
        });
    });
    let mut client = Client::websocket(running.addr).await;
    client.send("0/refused,").await;
    client.expect(r#"4/refused,{"message":"no"}"#).await;
    client.emit(r#"["a"]"#).await;
    client.send("1").await;
    let all = held.wait_for(3).await;
    eventually("nothing holds them", async || all.iter().all(|weak| weak.strong_count() == 0)).await;
    // From elsewhere, long after.
    let socket = sockets.all().remove(0);
    assert_eq!(hold(&socket).strong_count(), 0);
    assert!(!socket.off("a"));
}
