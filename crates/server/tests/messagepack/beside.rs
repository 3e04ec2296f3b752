//! Clients that speak MessagePack beside clients that speak JSON.

use std::time::Duration;

use bytes::Bytes;
use posthaste::{Builder, Data, Parser, Server};
use posthaste_testkit::{Client, Transport, serve};
use serde_json::json;

use crate::alone::talking;
use crate::speaker::Speaker;

fn either(workers: usize) -> Builder {
    Server::builder().workers(workers).parser(Parser::Either)
}

#[tokio::test]
async fn each_client_is_spoken_to_as_it_began() {
    let (running, _) = talking(either(2));
    for transport in Transport::ALL {
        let mut json = Client::join(running.addr, transport).await;
        let (mut packed, _) = Speaker::join(running.addr, transport).await;
        json.ask(r#"["echo",1,"a"]"#, r#"[1,"a"]"#).await;
        packed.ask(json!(["echo", 1, "a"]), json!([1, "a"])).await;
        json.send(r#"51-["back",{"_placeholder":true,"num":0}]"#).await;
        json.send_binary(b"data").await;
        json.expect(r#"51-["back",{"_placeholder":true,"num":0}]"#).await;
        json.expect_binary(b"data").await;
        packed.emit(json!(["back", { "$bin": "data" }])).await;
        packed.expect_event(json!(["back", { "$bin": "data" }])).await;
    }
}

#[tokio::test]
async fn broadcasts_reach_both_in_order_with_binary_on_every_worker() {
    for workers in [1, 4] {
        let (running, _) = talking(either(workers));
        let mut others = Vec::new();
        let mut speakers = Vec::new();
        // The kernel spreads them over the workers.
        for number in 0..12 {
            let transport = Transport::ALL[number / 10];
            others.push(Client::join(running.addr, transport).await);
            speakers.push(Speaker::join(running.addr, transport).await.0);
        }
        let data = Bytes::from_static(b"data");
        // More than a turn takes without sharing, and less.
        let long = "x".repeat(20_000);
        for number in 0..100 {
            match number % 4 {
                0 => running.io.emit("count", &number),
                1 => running.io.emit("count", &(number, &data)),
                2 => running.io.emit("count", &(number, &long)),
                _ => running.io.except("nobody").emit("count", &(number, "ü", json!({ "a": [1.5] }))),
            }
            .now()
            .unwrap();
        }
        for client in &mut others {
            for number in 0..100 {
                match number % 4 {
                    0 => client.expect(&format!(r#"2["count",{number}]"#)).await,
                    1 => {
                        let text = format!(r#"51-["count",{number},{{"_placeholder":true,"num":0}}]"#);
                        client.expect(&text).await;
                        client.expect_binary(&data).await;
                    }
                    2 => client.expect(&format!(r#"2["count",{number},"{long}"]"#)).await,
                    _ => client.expect(&format!(r#"2["count",{number},"ü",{{"a":[1.5]}}]"#)).await,
                }
            }
        }
        for speaker in &mut speakers {
            for number in 0..100 {
                let event = match number % 4 {
                    0 => json!(["count", number]),
                    1 => json!(["count", number, { "$bin": "data" }]),
                    2 => json!(["count", number, long]),
                    _ => json!(["count", number, "ü", { "a": [1.5] }]),
                };
                speaker.expect_event(event).await;
            }
        }
    }
}

#[tokio::test]
async fn what_one_sends_the_others_are_sent() {
    let running = serve(either(2), |io| {
        io.on("say", async |io: Server, Data(args): Data<posthaste::Args<'static>>| {
            io.emit("said", &args).await.unwrap();
        });
    });
    let mut client = Client::websocket(running.addr).await;
    let (mut speaker, _) = Speaker::join(running.addr, Transport::WebSocket).await;
    speaker.emit(json!(["say", { "$bin": "one" }, -7, { "b": [{ "$bin": "two" }] }])).await;
    client.expect(r#"52-["said",{"_placeholder":true,"num":0},-7,{"b":[{"_placeholder":true,"num":1}]}]"#).await;
    client.expect_binary(b"one").await;
    client.expect_binary(b"two").await;
    speaker.expect_event(json!(["said", { "$bin": "one" }, -7, { "b": [{ "$bin": "two" }] }])).await;
    // Numbered the other way round, with blanks, and half of a surrogate pair.
    client.send(r#"52-["say", [ {"num":1,"_placeholder":true} , {"_placeholder":true,"num":0} ], "\ud800" ]"#).await;
    client.send_binary(b"one").await;
    client.send_binary(b"two").await;
    speaker.expect_event(json!(["said", [{ "$bin": "two" }, { "$bin": "one" }], "\u{fffd}"])).await;
}

#[tokio::test]
async fn all_of_them_answer_a_question() {
    for workers in [1, 4] {
        let (running, _) = talking(either(workers));
        let mut client = Client::websocket(running.addr).await;
        let (mut speaker, _) = Speaker::join(running.addr, Transport::WebSocket).await;
        let asking = running.io.timeout(Duration::from_secs(20)).emit_with_ack::<(String, Bytes)>("question", &"?");
        client.expect(r#"20["question","?"]"#).await;
        client.send(r#"61-0["json",{"_placeholder":true,"num":0}]"#).await;
        client.send_binary(b"1").await;
        speaker.expect(json!({ "type": 2, "data": ["question", "?"], "nsp": "/", "id": 0 })).await;
        speaker.send(&json!({ "type": 3, "data": ["packed", { "$bin": "2" }], "nsp": "/", "id": 0 })).await;
        let mut answers = asking.await.unwrap();
        answers.answers.sort_unstable();
        let expected = [("json", "1"), ("packed", "2")].map(|(word, data)| (word.to_owned(), Bytes::from(data)));
        assert_eq!((answers.answers.as_slice(), answers.complete), (&expected[..], true));
    }
}

#[tokio::test]
async fn a_namespace_may_take_one_of_them_only() {
    let running = serve(either(1), |io| {
        io.namespace("/packed").parser(Parser::MessagePack);
        io.namespace("/json").parser(Parser::Json);
        io.namespaces("/dynamic/{id}").unwrap().parser(Parser::MessagePack);
        io.namespace("/both").parser(Parser::Either);
    });
    let mut client = Client::websocket(running.addr).await;
    let (mut speaker, _) = Speaker::join(running.addr, Transport::WebSocket).await;
    for namespace in ["/packed", "/dynamic/7"] {
        client.send(&format!("0{namespace},")).await;
        let refusal = r#"{"message":"This namespace takes packets in MessagePack only"}"#;
        client.expect(&format!("4{namespace},{refusal}")).await;
        speaker.connect(namespace).await;
    }
    speaker.send(&json!({ "type": 0, "nsp": "/json" })).await;
    let refusal = json!({ "message": "This namespace takes packets in JSON only" });
    speaker.expect(json!({ "type": 4, "data": refusal, "nsp": "/json" })).await;
    client.connect("/json").await;
    // Whoever was refused is still there, and may join others.
    client.connect("/both").await;
    speaker.connect("/both").await;
}

#[tokio::test]
async fn what_is_too_deep_for_messagepack_is_left_out_and_nothing_else() {
    let (running, _) = talking(either(2));
    let mut client = Client::websocket(running.addr).await;
    let (mut speaker, id) = Speaker::join(running.addr, Transport::WebSocket).await;
    let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let socket = running.io.to(id.as_str()).sockets().await.remove(0);
    for depth in [511, 512, 100_000] {
        let text = deep(depth);
        let array = format!("[{text}]");
        let args = posthaste::Args::decode(&array, Vec::new()).unwrap();
        running.io.emit("deep", &args).await.unwrap();
        socket.emit("deep", &args).await.unwrap();
        client.expect(&format!(r#"2["deep",{text}]"#)).await;
    }
    running.io.emit("after", &()).await.unwrap();
    for _ in 0..2 {
        let packet = speaker.packet().await;
        assert_eq!((&packet["data"][0], packet["data"].as_array().unwrap().len()), (&json!("deep"), 2));
    }
    speaker.expect_event(json!(["after"])).await;
}
