//! What a handler takes, what it returns, and what the client is told.

use std::fmt;

use bytes::Bytes;
use posthaste::{Ack, AckId, Answer, Args, Auth, Chain, Data, Event, Namespace, Server, Socket, SocketId, State};
use posthaste_testkit::{Client, Record, Transport, serve};

#[tokio::test]
async fn what_a_handler_returns_answers_a_client_that_waits() {
    let running = serve(Server::builder().workers(1), |io| {
        io.on("unit", async || {});
        io.on("ok", async || Ok::<_, Refused>("yes"));
        io.on("ok unit", async || Ok::<_, Refused>(()));
        io.on("err", async || Err::<(), _>(Refused));
        io.on("answer", async || Answer(vec![1, 2]));
        io.on("tuple", async || Answer((1, "two", [3.5])));
        io.on("bytes", async || Answer(Bytes::from_static(&[1, 2, 3])));
        io.on("sync", || std::future::ready(Answer(true)));
    });
    for transport in Transport::ALL {
        let mut client = Client::join(running.addr, transport).await;
        for (event, answer) in [
            (r#"["unit"]"#, "[]"),
            (r#"["ok"]"#, r#"["yes"]"#),
            (r#"["ok unit"]"#, "[]"),
            (r#"["err"]"#, r#"[{"error":"not today: \"quoted\""}]"#),
            (r#"["answer"]"#, "[[1,2]]"),
            (r#"["tuple"]"#, r#"[1,"two",[3.5]]"#),
            (r#"["sync"]"#, "[true]"),
        ] {
            client.ask(event, answer).await;
        }
        client.send(r#"20["bytes"]"#).await;
        client.expect(r#"61-0[{"_placeholder":true,"num":0}]"#).await;
        client.expect_binary(&[1, 2, 3]).await;
    }
}

#[derive(Debug)]
struct Refused;

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(r#"not today: "quoted""#)
    }
}

#[tokio::test]
async fn a_client_that_does_not_wait_gets_no_answer() {
    let running = serve(Server::builder().workers(1), |io| {
        io.on("answer", async || Answer("unasked"));
        io.on("err", async || Err::<(), _>("unasked"));
        io.on("ack", async |ack: Ack| {
            assert!(!ack.is_requested());
            ack.send("unasked").await
        });
        io.on("number", async |Data(_): Data<u32>| {});
        io.on("sync", async || {});
    });
    let mut client = Client::websocket(running.addr).await;
    for event in [r#"["answer"]"#, r#"["err"]"#, r#"["ack"]"#, r#"["number","no"]"#, r#"["unknown"]"#] {
        client.emit(event).await;
    }
    client.ask(r#"["sync"]"#, "[]").await;
}

#[tokio::test]
async fn a_handler_that_takes_the_ack_answers_whenever_it_likes_and_from_wherever() {
    let running = serve(Server::builder().workers(1), |io| {
        let kept = Record::<std::sync::Arc<std::sync::Mutex<Option<Ack>>>>::new();
        let keep = kept.clone();
        io.on("later", move |ack: Ack, AckId(id): AckId| {
            // The right to answer was taken before the id was asked for.
            assert_eq!((ack.is_requested(), id), (true, None));
            keep.push(std::sync::Arc::new(std::sync::Mutex::new(Some(ack))));
            async { Answer("not this: it took the ack") }
        });
        io.on("now", move || {
            let acks = kept.all();
            async move {
                for (number, ack) in acks.iter().enumerate() {
                    let ack = ack.lock().unwrap().take().unwrap();
                    match number % 3 {
                        0 => ack.send(&number).now().unwrap(),
                        1 => tokio::spawn(async move { ack.send(&number).now().unwrap() }).await.unwrap(),
                        _ => tokio::task::spawn_blocking(move || ack.send(&number).now().unwrap()).await.unwrap(),
                    }
                }
            }
        });
        io.on("never", async |_ack: Ack| Answer("nothing of this"));
    });
    let mut client = Client::websocket(running.addr).await;
    for id in [3, 1, 2] {
        client.send(&format!(r#"2{id}["later"]"#)).await;
    }
    client.send(r#"29["never"]"#).await;
    client.send(r#"24["now"]"#).await;
    for packet in ["33[0]", "31[1]", "32[2]", "34[]"] {
        client.expect(packet).await;
    }
}

#[tokio::test]
async fn a_handler_whose_arguments_are_not_there_is_not_called_and_the_client_is_told() {
    let called = Record::new();
    let record = called.clone();
    let running = serve(Server::builder().workers(1), |io| {
        io.on("number", move |Data(number): Data<u8>| {
            record.push(number);
            async {}
        });
        io.on("auth", async |Auth(_): Auth<(u8, u8)>| {});
        io.on("state", async |State(_): State<Record<u8>>| {});
    });
    let mut client = Client::websocket(running.addr).await;
    for event in [r#"["number"]"#, r#"["number","x"]"#, r#"["number",256]"#, r#"["number",null]"#, r#"["auth"]"#] {
        client.send(&format!("21{event}")).await;
        let answer = client.text().await;
        assert!(answer.starts_with(r#"31[{"error":"the "#), "{event} is answered {answer}");
    }
    client.send(r#"21["state"]"#).await;
    let answer = client.text().await;
    assert!(answer.starts_with(r#"31[{"error":"no state of type "#), "{answer}");
    assert!(called.all().is_empty());
    client.ask(r#"["number",255,"more"]"#, "[]").await;
    assert_eq!(called.all(), [255]);
}

#[tokio::test]
async fn a_handler_takes_what_belongs_to_its_event() {
    #[derive(serde::Deserialize)]
    struct User {
        name: String,
    }
    let running = serve(Server::builder().workers(1).state(17u64).state("text"), |io| {
        let chat = io.namespace("/chat");
        chat.on(
            "all",
            async |socket: Socket,
                   id: SocketId,
                   server: Server,
                   namespace: Namespace,
                   Event(event): Event,
                   Auth(user): Auth<User>,
                   State(number): State<u64>,
                   Data((first, rest)): Data<(String, Option<Bytes>)>| {
                assert!(socket.id() == id && socket.namespace().name() == namespace.name());
                assert_eq!(server.namespace("chat").name(), "/chat");
                let rest = rest.map(|bytes| bytes.len());
                Answer((namespace.name().to_owned(), event, user.name, number, first, rest, id.to_string()))
            },
        );
        chat.on("state", async |State(text): State<&'static str>| Answer(text));
    });
    let mut client = Client::open(running.addr, Transport::WebSocket).await;
    let id = client.connect_with("/chat", r#"{"name":"Ada"}"#).await;
    client.send(r#"51-/chat,5["all","a",{"_placeholder":true,"num":0},"left out"]"#).await;
    client.send_binary(b"four").await;
    client.expect(&format!(r#"3/chat,5["/chat","all","Ada",17,"a",4,"{id}"]"#)).await;
    client.send(r#"2/chat,6["all","a"]"#).await;
    client.expect(&format!(r#"3/chat,6["/chat","all","Ada",17,"a",null,"{id}"]"#)).await;
    client.send(r#"2/chat,7["state"]"#).await;
    client.expect(r#"3/chat,7["text"]"#).await;
}

#[tokio::test]
async fn what_no_handler_is_for_goes_to_the_fallback_and_arguments_pass_through_it_unread() {
    let running = serve(Server::builder().workers(1), |io| {
        io.on("known", async || Answer("known"));
        io.fallback(async |socket: Socket, Event(event): Event, Data(args): Data<Args<'static>>| {
            socket.emit(&format!("{event} back"), &args).now().unwrap();
        });
    });
    for transport in Transport::ALL {
        let mut client = Client::join(running.addr, transport).await;
        client.ask(r#"["known"]"#, r#"["known"]"#).await;
        client.emit(r#"["x",1.0,  {"a":[]} ,"\ud800",1e400]"#).await;
        client.expect(r#"2["x back",1.0,  {"a":[]} ,"\ud800",1e400]"#).await;
        client.emit(r#"["\u0065scaped"]"#).await;
        client.expect(r#"2["escaped back"]"#).await;
        client.emit(r#"[""]"#).await;
        client.expect(r#"2[" back"]"#).await;
        client.emit(r#"["\u0000"]"#).await;
        client.expect(r#"2["\u0000 back"]"#).await;
    }
}

#[tokio::test]
async fn a_chain_passes_arguments_on_behind_those_of_ours() {
    let running = serve(Server::builder().workers(1), |io| {
        io.on("pass", async |io: Server, id: SocketId, Data(args): Data<Args<'static>>| {
            io.emit("passed", &Chain(id.to_string(), args)).await
        });
    });
    let mut client = Client::open(running.addr, Transport::WebSocket).await;
    let id = client.connect("/").await;
    client.emit(r#"["pass",1,{"b":null}]"#).await;
    client.expect(&format!(r#"2["passed","{id}",1,{{"b":null}}]"#)).await;
}

#[tokio::test]
async fn a_later_handler_of_an_event_replaces_the_one_before_also_while_the_server_runs() {
    let running = serve(Server::builder().workers(2), |io| {
        io.on("who", async || Answer(1));
        io.on("who", async || Answer(2));
    });
    let mut client = Client::websocket(running.addr).await;
    client.ask(r#"["who"]"#, "[2]").await;
    running.io.on("who", async || Answer(3));
    client.ask(r#"["who"]"#, "[3]").await;
}

#[tokio::test]
async fn reserved_names_cannot_be_emitted() {
    let running = serve(Server::builder().workers(1), |io| {
        io.on("reserved", async |socket: Socket, io: Server| {
            for name in ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"] {
                assert!(socket.emit(name, &()).now().is_err(), "{name}");
                assert!(io.emit(name, &()).now().is_err(), "{name}");
                assert!(socket.emit_with_ack::<()>(name, &()).await.is_err(), "{name}");
                assert!(io.emit_with_ack::<()>(name, &()).await.is_err(), "{name}");
            }
        });
    });
    let mut client = Client::websocket(running.addr).await;
    client.ask(r#"["reserved"]"#, "[]").await;
}
