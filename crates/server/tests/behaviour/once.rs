//! Events that clients repeat are handled once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use posthaste::{Ack, Auth, Builder, ConnectError, Data, Idempotency, IdempotencyKey, Server, Socket};
use posthaste_testkit::{Client, Transport, eventually, serve};
use tokio::sync::Semaphore;

fn keyed() -> Builder {
    Server::builder().workers(2).idempotency(Idempotency::default())
}

/// Counts what `count` handles; `slow` waits for a permit first.
fn counting(io: &Server) -> (Arc<AtomicUsize>, Arc<Semaphore>) {
    let (count, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
    let counted = count.clone();
    io.on("count", move |Data(args): Data<(u32,)>| {
        let number = counted.fetch_add(1, Ordering::SeqCst);
        async move { Ok::<_, std::convert::Infallible>((args.0, number)) }
    });
    let (counted, opened) = (count.clone(), gate.clone());
    io.on("slow", move || {
        let number = counted.fetch_add(1, Ordering::SeqCst);
        let opened = opened.clone();
        async move {
            opened.acquire().await.unwrap().forget();
            Ok::<_, std::convert::Infallible>(number)
        }
    });
    (count, gate)
}

#[tokio::test]
async fn what_is_repeated_under_a_key_is_handled_once_and_answered_each_time() {
    let mut counted = None;
    let running = serve(keyed(), |io| counted = Some(counting(io)));
    let (count, _) = counted.unwrap();
    for transport in Transport::ALL {
        let before = count.load(Ordering::SeqCst);
        let mut client = Client::join(running.addr, transport).await;
        for id in 1..=3 {
            client.send(&format!(r#"2{id}["count",7,{{"$key":"{before}"}}]"#)).await;
            client.expect(&format!("3{id}[7,{before}]")).await;
        }
        // Another connection, as after a reconnect.
        let mut again = Client::join(running.addr, transport).await;
        again.send(&format!(r#"29["count",7,{{"$key":"{before}"}}]"#)).await;
        again.expect(&format!("39[7,{before}]")).await;
        assert_eq!(count.load(Ordering::SeqCst), before + 1);
        // Without a key each is its own.
        for id in 4..=5 {
            client.send(&format!(r#"2{id}["count",7]"#)).await;
            client.expect(&format!("3{id}[7,{}]", before + id - 3)).await;
        }
    }
}

#[tokio::test]
async fn what_is_repeated_while_it_is_being_handled_waits_for_the_same_answer() {
    let mut counted = None;
    let running = serve(keyed(), |io| counted = Some(counting(io)));
    let (count, gate) = counted.unwrap();
    let mut one = Client::join(running.addr, Transport::WebSocket).await;
    let mut two = Client::join(running.addr, Transport::WebSocket).await;
    one.send(r#"21["slow",{"$key":"k"}]"#).await;
    eventually("it is being handled", async || count.load(Ordering::SeqCst) == 1).await;
    two.send(r#"25["slow",{"$key":"k"}]"#).await;
    two.ask(r#"["count",1]"#, "[1,1]").await;
    // The first is lost; its handler goes on.
    one.reset();
    eventually("it is gone", async || running.io.stats().await.sockets == 1).await;
    gate.add_permits(1);
    two.expect("35[0]").await;
    assert_eq!(count.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn what_was_not_answered_is_handled_again() {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    let running = serve(keyed(), |io| {
        io.on("forget", move |ack: Ack| {
            let number = counted.fetch_add(1, Ordering::SeqCst);
            async move {
                if number > 0 {
                    ack.send(&number).await.unwrap();
                }
            }
        });
    });
    let mut client = Client::join(running.addr, Transport::WebSocket).await;
    client.send(r#"21["forget",{"$key":"k"}]"#).await;
    eventually("it was handled", async || count.load(Ordering::SeqCst) == 1).await;
    client.send(r#"22["forget",{"$key":"k"}]"#).await;
    client.expect("32[1]").await;
}

#[tokio::test]
async fn what_is_refused_for_now_is_handled_again() {
    let running = serve(keyed(), |io| {
        let count = AtomicUsize::new(0);
        io.on("work", move |ack: Ack| {
            let time = count.fetch_add(1, Ordering::Relaxed);
            async move {
                drop(match time {
                    0 => ack.send_for_now(&"later"),
                    time => ack.send(&time),
                });
            }
        });
    });
    let mut client = Client::join(running.addr, Transport::WebSocket).await;
    client.send(r#"21["work",{"$key":"a"}]"#).await;
    client.expect(r#"31["later"]"#).await;
    for id in [2, 3] {
        client.send(&format!(r#"2{id}["work",{{"$key":"a"}}]"#)).await;
        client.expect(&format!("3{id}[1]")).await;
    }
}

#[tokio::test]
async fn keys_are_their_clients_own_and_handlers_see_what_is_before_them() {
    #[derive(serde::Deserialize)]
    struct Login {
        user: String,
    }
    let running = serve(keyed(), |io| {
        io.middleware(async |socket: Socket, Auth(login): Auth<Login>| {
            socket.identify(login.user);
            Ok::<_, ConnectError>(())
        });
        io.on("who", async |socket: Socket, posthaste::Data(args): Data<serde_json::Value>, key: IdempotencyKey| {
            assert!(key.0.is_some_and(|key| key.ends_with("\nsame")));
            Ok::<_, std::convert::Infallible>((socket.identity().unwrap().to_string(), args))
        });
    });
    for user in ["ada", "bob"] {
        let mut client = Client::open(running.addr, Transport::WebSocket).await;
        client.connect_with("/", &format!(r#"{{"user":"{user}"}}"#)).await;
        client.send(r#"21["who",{"$key":"not this"},{"$key":"same"}]"#).await;
        client.expect(&format!(r#"31["{user}",{{"$key":"not this"}}]"#)).await;
    }
}

#[tokio::test]
async fn keys_are_bounded() {
    let limits = Idempotency { max_keys: 2, ..Idempotency::default() };
    let mut counted = None;
    let running = serve(Server::builder().workers(1).idempotency(limits), |io| counted = Some(counting(io)));
    let (_, gate) = counted.unwrap();
    let mut client = Client::join(running.addr, Transport::WebSocket).await;
    for id in 1..=2 {
        client.send(&format!(r#"2{id}["slow",{{"$key":"{id}"}}]"#)).await;
    }
    client.send(r#"23["slow",{"$key":"3"}]"#).await;
    // In the form of a failed handler's answer, and in that of a verb's.
    let refusal = |code: &str, message: &str| {
        serde_json::json!([{ "ok": false, "code": code, "message": message, "error": message }]).to_string()
    };
    client.expect(&format!("33{}", refusal("busy", "too many keys: try again"))).await;
    client.send(&format!(r#"24["slow",{{"$key":"{}"}}]"#, "k".repeat(129))).await;
    client.expect(&format!("34{}", refusal("invalid", "the key is too long"))).await;
    gate.add_permits(2);
    client.expect("31[0]").await;
    client.expect("32[1]").await;
}

#[tokio::test]
async fn without_the_setting_a_key_is_an_argument_like_any() {
    let running = serve(Server::builder().workers(1), |io| {
        io.on("echo", async |posthaste::Data(args): Data<serde_json::Value>| Ok::<_, std::convert::Infallible>(args));
    });
    let mut client = Client::join(running.addr, Transport::WebSocket).await;
    client.ask(r#"["echo",{"$key":"k"}]"#, r#"[{"$key":"k"}]"#).await;
}
