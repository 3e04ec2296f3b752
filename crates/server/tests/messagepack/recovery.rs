//! A client that comes back, and speaks MessagePack.

use posthaste::{Parser, Recovery, Server, Socket};
use posthaste_testkit::{Client, Transport, eventually, serve};
use serde_json::{Value, json};

use crate::speaker::Speaker;

/// Joins, with what is shown of an earlier session. Returns the answer and the events before it.
async fn join(speaker: &mut Speaker, data: Value) -> (Value, Vec<Value>) {
    speaker.send(&json!({ "type": 0, "data": data, "nsp": "/" })).await;
    let mut missed = Vec::new();
    loop {
        let packet = speaker.packet().await;
        match packet["type"].as_u64() {
            Some(0) => return (packet["data"].clone(), missed),
            _ => missed.push(packet["data"].clone()),
        }
    }
}

#[tokio::test]
async fn what_was_missed_comes_first_in_whichever_way_the_client_speaks() {
    for transport in Transport::ALL {
        let running = serve(Server::builder().workers(2).parser(Parser::Either).recovery(Recovery::default()), |io| {
            io.on_connect(async |socket: Socket| socket.join("room"));
        });
        let io = &running.io;
        let mut speaker = Speaker::open(running.addr, transport).await;
        let (joined, _) = join(&mut speaker, json!({ "$undefined": true })).await;
        let (id, pid) = (joined["sid"].clone(), joined["pid"].clone());
        assert_eq!(pid.as_str().map(str::len), Some(22), "{joined}");
        io.to("room").emit("seen", &1).await.unwrap();
        let seen = speaker.packet().await["data"].clone();
        assert_eq!((&seen[0], &seen[1]), (&json!("seen"), &json!(1)));
        let offset = seen[2].clone();
        speaker.0.reset();
        if transport == Transport::Polling {
            // Nobody notices that a polling client has gone: it comes back while its session is still there.
        } else {
            eventually("it is gone", async || io.stats().await.sockets == 0).await;
        }
        io.emit("missed", &(2, bytes::Bytes::from_static(b"data"))).await.unwrap();
        io.to("room").emit("missed", &3).await.unwrap();

        let mut speaker = Speaker::open(running.addr, transport).await;
        let (joined, missed) = join(&mut speaker, json!({ "pid": pid, "offset": offset })).await;
        assert_eq!((&joined["sid"], &joined["pid"]), (&id, &pid));
        let without: Vec<&[Value]> =
            missed.iter().map(|event| event.as_array().unwrap().split_last().unwrap().1).collect();
        assert_eq!(
            without,
            [&[json!("missed"), json!(2), json!({ "$bin": "data" })][..], &[json!("missed"), json!(3)]]
        );
        io.emit("live", &4).await.unwrap();
        let live = speaker.packet().await["data"].clone();
        assert_eq!((&live[0], &live[1]), (&json!("live"), &json!(4)));

        // The same session once more, now in JSON.
        let offset = live[2].as_str().unwrap();
        let mut client = Client::open(running.addr, transport).await;
        io.emit("missed", &5).await.unwrap();
        let pid = pid.as_str().unwrap();
        client.send(&format!(r#"0{{"pid":"{pid}","offset":"{offset}"}}"#)).await;
        let missed = client.text().await;
        assert!(missed.starts_with(r#"2["missed",5,""#), "{missed}");
        assert_eq!(client.text().await, format!(r#"0{{"sid":{id},"pid":"{pid}"}}"#));
    }
}
