//! What rust_socketio must be able to do with the conformance app: the scenarios of ../../scenarios.mjs, as far as it can.
//!
//! What it cannot (`installed.mjs` says why) is here under the same name: then its scenario shows what happens instead, against
//! every server alike.

use std::pin::Pin;
use std::time::Duration;

use rust_socketio::Payload;
use serde_json::{Value, json};

use crate::cable::Cable;
use crate::peer::{Cell, Done, Mode, PATIENCE, Peer, departure, equal, until};

type Running = Pin<Box<dyn Future<Output = Done> + Send>>;

pub const SCENARIOS: &[(&str, fn(Cell) -> Running)] = &[
    ("connect with auth and query", |cell| Box::pin(connect(cell))),
    ("several namespaces over one connection", |cell| Box::pin(namespaces(cell))),
    ("events with arguments of every kind", |cell| Box::pin(events(cell))),
    ("binary both ways", |cell| Box::pin(binary(cell))),
    ("acknowledgements both ways, with binary", |cell| Box::pin(acknowledgements(cell))),
    ("volatile events", |cell| Box::pin(volatile(cell))),
    ("rooms and broadcasts", |cell| Box::pin(rooms(cell))),
    ("a refused connection", |cell| Box::pin(refused(cell))),
    ("leaving, by the client", |cell| Box::pin(leaving(cell))),
    ("being disconnected by the server", |cell| Box::pin(disconnected(cell))),
    ("reconnection", |cell| Box::pin(reconnection(cell))),
    ("order under traffic, through the upgrade if there is one", |cell| Box::pin(order(cell))),
    ("large payloads", |cell| Box::pin(large(cell))),
    ("heartbeats keep the connection", |cell| Box::pin(heartbeats(cell))),
];

/// Arguments in JSON.
fn text(args: Value) -> Payload {
    let Value::Array(args) = args else { panic!("arguments are a list") };
    Payload::Text(args)
}

/// Binary data without 0x1e: a message with such a byte the client takes for several (see [`binary`]).
fn data(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 7 % 256) as u8).map(|byte| if byte == 0x1e { 0 } else { byte }).collect()
}

/// The first argument of what was heard.
fn first(payload: &Payload) -> Value {
    match payload {
        Payload::Text(args) => args.first().cloned().unwrap_or_default(),
        _ => Value::Null,
    }
}

async fn connect(cell: Cell) -> Done {
    let auth = json!({ "user": "ada", "nested": { "list": [1, null, "x"] } });
    let address = format!("{}/plain/?room=a%20b%26c%3Dd", cell.url);
    let peer = Peer::connect(cell.builder_at(&address).auth(auth.clone())).await?;
    let seen = peer.ask_one("whoami", json!([])).await?;
    equal((&seen["nsp"], &seen["auth"], &seen["eio"]), (&json!("/"), &auth, &json!(4)))?;
    equal((&seen["transport"], &seen["query"]["room"]), (&json!(cell.transport()), &json!("a b&c=d")))?;
    peer.close().await;
    Ok(())
}

/// Each namespace has a connection of its own, and none hears what is for another.
async fn namespaces(cell: Cell) -> Done {
    let main = cell.connect().await?;
    let custom = Peer::connect(cell.builder().namespace("/custom")).await?;
    equal(main.ask_one("whoami", json!([])).await?["nsp"].take(), json!("/"))?;
    equal(custom.ask_one("whoami", json!([])).await?["nsp"].take(), json!("/custom"))?;
    let nowhere = Peer::begin(cell.builder().namespace("/nowhere")).await?;
    let refusal = nowhere.next("error", 1).await?;
    equal(format!("{refusal:?}").contains("Invalid namespace"), true)?;
    custom.emit("echo", json!("for one")).await?;
    equal(custom.next("echo", 1).await?, text(json!(["for one"])))?;
    main.ask("echo", json!([])).await?;
    equal(main.heard("echo"), [].to_vec())?;
    for peer in [main, custom, nowhere] {
        peer.close().await;
    }
    Ok(())
}

async fn events(cell: Cell) -> Done {
    let peer = cell.connect().await?;
    let cases = [
        json!([null, true, false, 0, -0.5, 1e21, 5e-324]),
        json!(["", "ŭñíçødé 日本 👩‍👩‍👧‍👦", "\0\u{1e}\u{2028}\"\\/", "451-[\"x\"]"]),
        json!([{ "a": [1, { "b": [null, { "c": "d" }] }] }, [], {}, [[[]]]]),
    ];
    for (number, args) in cases.into_iter().enumerate() {
        peer.emit("echo", text(args.clone())).await?;
        equal(peer.next("echo", number + 1).await?, text(args))?;
    }
    peer.emit("événement 日本", text(json!([1, "two"]))).await?;
    equal(peer.next("unhandled", 1).await?, text(json!(["événement 日本", 1, "two"])))?;
    // The name of an event without arguments it takes for the argument of one without a name.
    peer.emit("echo", text(json!([]))).await?;
    equal(peer.next("message", 1).await?, text(json!(["echo"])))?;
    peer.close().await;
    Ok(())
}

/// One piece of binary as the only argument comes back byte for byte. The client sends no more than that in an event.
async fn binary(cell: Cell) -> Done {
    let peer = cell.connect().await?;
    for (number, length) in [1, 110, 300].into_iter().enumerate() {
        peer.emit("echo", data(length)).await?;
        equal(peer.next("echo", number + 1).await?, Payload::from(data(length)))?;
    }
    // With an acknowledgement it leaves as the answer to one, and so is never answered.
    let asked = tokio::time::timeout(Duration::from_secs(2), peer.ask_with("echo", data(3))).await;
    equal(asked.is_err(), true)?;
    equal(peer.ask("echo", json!(["still here"])).await?, json!(["still here"]))?;
    if cell.mode != Mode::Polling {
        // What is binary it cuts at 0x1e, as if it were the body of a poll, and is lost.
        peer.emit("echo", b"one\x1etwo".to_vec()).await?;
        peer.next("error", 1).await?;
        equal(peer.heard("echo").len(), 3)?;
    }
    Ok(())
}

/// The server's answers come. The client has no way to answer the server.
async fn acknowledgements(cell: Cell) -> Done {
    let peer = cell.connect().await?;
    equal(peer.ask("echo", json!([])).await?, json!([]))?;
    equal(peer.ask("echo", json!([1, { "two": [2] }])).await?, json!([1, { "two": [2] }]))?;
    for number in 0..30 {
        equal(peer.ask("echo", json!([number])).await?, json!([number]))?;
    }
    equal(peer.ask("ask", json!(["question", 500, ["x"]])).await?, json!(["timeout"]))?;
    equal(peer.heard("question"), [text(json!(["x"]))].to_vec())?;
    peer.close().await;
    Ok(())
}

async fn volatile(cell: Cell) -> Done {
    let peer = cell.connect().await?;
    peer.ask("volatile-burst", json!([50, 20])).await?;
    equal(peer.next("vseq-end", 1).await?, text(json!([50])))?;
    let numbers: Vec<_> = peer.heard("vseq").iter().map(|payload| first(payload).as_u64()).collect();
    equal(numbers.is_sorted_by(|one, next| one < next), true)?;
    peer.close().await;
    Ok(())
}

async fn rooms(cell: Cell) -> Done {
    let peers = [cell.connect().await?, cell.connect().await?, cell.connect().await?];
    let [a, b, c] = &peers;
    let (r, s) = (format!("{}-r", cell.name), format!("{}-s", cell.name));
    let mut all = [a.id().await?, r.clone(), s.clone()];
    all.sort_unstable();
    equal(a.ask("join", json!([[r, s]])).await?, json!([all]))?;
    b.ask("join", json!([r])).await?;
    c.ask("join", json!([s])).await?;
    let rounds = [
        (c, json!({ "via": "io", "to": r }), "ab"),
        (a, json!({ "via": "socket", "to": r }), "b"),
        (b, json!({ "via": "io", "to": [r, s] }), "abc"),
        (b, json!({ "via": "io", "to": [r, s], "except": s }), "b"),
        (a, json!({ "via": "io", "to": c.id().await? }), "c"),
    ];
    for (number, (sender, options, expected)) in rounds.into_iter().enumerate() {
        let event = format!("news-{number}");
        let args = json!([number, { "data": [number] }]);
        equal(sender.ask("bcast", json!([options, event, args])).await?, json!(["ok"]))?;
        let heard = || -> String {
            let names = ["a", "b", "c"].into_iter().zip(&peers);
            names.filter(|(_, peer)| !peer.heard(&event).is_empty()).map(|(name, _)| name).collect()
        };
        until(&format!("{event} at {expected}"), || heard().len() >= expected.len()).await?;
        // What was on its way to the others would arrive before the answer to this.
        for peer in &peers {
            peer.ask("echo", json!([])).await?;
        }
        equal(heard(), expected.to_owned())?;
        for peer in peers.iter().filter(|peer| !peer.heard(&event).is_empty()) {
            equal(peer.heard(&event), [text(args.clone())].to_vec())?;
        }
    }
    equal(a.ask("leave", json!([[r, s]])).await?, json!([[a.id().await?]]))?;
    for peer in peers {
        peer.close().await;
    }
    Ok(())
}

async fn refused(cell: Cell) -> Done {
    let cases = [
        (json!({ "token": "bad" }), json!({ "message": "not authorized", "data": { "code": 401, "hint": "token" } })),
        (json!({ "token": "good", "banned": true }), json!({ "message": "banned" })),
    ];
    for (auth, expected) in cases {
        let peer = Peer::begin(cell.builder().namespace("/auth").auth(auth)).await?;
        let told = first(&peer.next("error", 1).await?);
        let told = told.as_str().unwrap_or_default().trim_start_matches("Received an ConnectError frame: ");
        equal(serde_json::from_str(told).map_err(|error| format!("{told}: {error}")), Ok::<Value, String>(expected))?;
        equal(peer.heard("connect"), [].to_vec())?;
        peer.close().await;
    }
    let peer = Peer::connect(cell.builder().namespace("/auth").auth(json!({ "token": "good" }))).await?;
    equal(peer.ask_one("whoami", json!([])).await?["nsp"].take(), json!("/auth"))?;
    peer.close().await;
    Ok(())
}

async fn leaving(cell: Cell) -> Done {
    let watcher = cell.connect().await?;
    let peer = cell.connect().await?;
    let id = peer.id().await?;
    peer.close().await;
    equal(departure(&watcher, &id).await?, json!("client namespace disconnect"))?;
    watcher.close().await;
    Ok(())
}

async fn disconnected(cell: Cell) -> Done {
    let watcher = cell.connect().await?;
    for close in [false, true] {
        let peer = cell.connect().await?;
        let id = peer.id().await?;
        peer.emit("kick", json!(close)).await?;
        peer.next("close", 1).await?;
        equal(departure(&watcher, &id).await?, json!("server namespace disconnect"))?;
    }
    watcher.close().await;
    Ok(())
}

/// A lost connection is made again under a new id. What is emitted meanwhile the client refuses.
async fn reconnection(cell: Cell) -> Done {
    let cable = Cable::to(&cell.url).await?;
    let builder = cell.builder_at(&format!("{}/plain/", cable.url));
    let peer = Peer::connect(builder.reconnect(true).reconnect_delay(20, 20)).await?;
    let id = peer.id().await?;
    cable.cut();
    peer.next("connect", 2).await?;
    equal(peer.id().await? != id, true)?;
    equal(peer.ask("echo", json!(["back"])).await?, json!(["back"]))?;
    equal(peer.ask_one("whoami", json!([])).await?["recovered"].take(), json!(false))?;
    peer.close().await;
    Ok(())
}

async fn order(cell: Cell) -> Done {
    let peer = cell.connect().await?;
    let mut expected = Vec::new();
    for sent in 0..200_u64 {
        peer.emit("count", json!(sent)).await?;
        let said = if sent % 5 == 0 { Payload::from(data(1 + sent as usize)) } else { text(json!([sent])) };
        peer.emit("echo", said.clone()).await?;
        expected.push(said);
        if sent % 40 == 39 {
            peer.ask("burst", json!([20, 50])).await?;
        }
    }
    equal(peer.ask_one("whoami", json!([])).await?["transport"].take(), json!(cell.transport()))?;
    equal(peer.ask_one("count-report", json!([])).await?, json!({ "received": 200, "outOfOrder": 0 }))?;
    until("all echoes", || peer.heard("echo").len() == expected.len()).await?;
    equal(peer.heard("echo"), expected)?;
    let numbers: Vec<_> = peer.heard("seq").iter().map(first).collect();
    let expected: Vec<_> = (0..100).map(|number| json!(number % 20)).collect();
    equal(numbers, expected)?;
    peer.close().await;
    Ok(())
}

async fn large(cell: Cell) -> Done {
    let peer = cell.connect().await?;
    let much = "ü".repeat(400_000);
    if cell.mode == Mode::Polling {
        // Each part of an answer that a read of the socket gives it takes for a whole one.
        let asked = tokio::time::timeout(PATIENCE, peer.ask_with("echo", json!(much)));
        return tokio::select! {
            answered = asked => Err(format!("{:.100}", format!("{answered:?}"))),
            error = peer.next("error", 1) => error.map(drop),
        };
    }
    equal(peer.ask_one("echo", json!([much])).await? == json!(much), true)?;
    peer.emit("echo", data(500_000)).await?;
    equal(peer.next("echo", 1).await? == Payload::from(data(500_000)), true)?;
    peer.ask("burst", json!([3, 700_000])).await?;
    for payload in peer.heard("seq") {
        let Payload::Text(args) = payload else { return Err("binary".into()) };
        equal(args[1].as_str().map(str::len), Some(700_000))?;
    }
    equal(peer.heard("seq").len(), 3)?;
    peer.close().await;
    Ok(())
}

async fn heartbeats(cell: Cell) -> Done {
    // Ping every 300 ms, 2.5 s to answer.
    let peer = Peer::connect(cell.builder_at(&format!("{}/steady/", cell.url))).await?;
    tokio::time::sleep(Duration::from_millis(3300)).await;
    equal((peer.heard("close"), peer.heard("error")), ([].to_vec(), [].to_vec()))?;
    equal(peer.ask("echo", json!(["still here"])).await?, json!(["still here"]))?;
    peer.close().await;
    Ok(())
}
