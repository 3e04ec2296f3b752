//! Clients with a helper: the next page takes up the session of the one before, says what it heard, and reads again what it was sent.

use posthaste::store::Retention;
use posthaste_testkit::Client;
use serde_json::{Value, json};

use crate::peer::{Memory, Peer};
use crate::scene::Remains;

/// Joins as a client with a helper does, and hears which session it has.
async fn helped(addr: std::net::SocketAddr) -> Peer {
    let mut peer = Peer::join_with(addr, json!({ "sio": 1 })).await;
    let pid = peer.memory.pid.clone();
    peer.expect(json!(["sio:session", { "pid": pid, "recovered": false }])).await;
    peer
}

/// As [`helped`], in the durable `room`.
async fn helped_in_room(addr: std::net::SocketAddr) -> Peer {
    let mut peer = helped(addr).await;
    peer.client.ask(r#"["enter","room"]"#, "[]").await;
    peer
}

/// Asks for something, and gives the first value of the answer.
async fn ask(client: &mut Client, event: Value) -> Value {
    client.send(&format!("29{event}")).await;
    let answer = client.text().await;
    let answer = answer.strip_prefix("39").unwrap_or_else(|| panic!("an answer was to come, not {answer:?}"));
    serde_json::from_str::<Vec<Value>>(answer).unwrap().remove(0)
}

async fn fill(peer: &mut Peer, room: Value, after: Option<&str>, through: Option<&str>) -> Value {
    ask(&mut peer.client, json!(["sio:fill", room, after, through])).await
}

fn names(page: &Value) -> Vec<&str> {
    page["events"].as_array().unwrap().iter().map(|event| event["event"].as_str().unwrap_or("-")).collect()
}

#[tokio::test]
async fn a_client_that_asks_for_it_is_told_its_session_right_behind_the_answer() {
    let remains = Remains::new();
    let (running, _) = remains.serve();
    let peer = helped(running.addr).await;
    let memory = peer.memory.clone();
    assert_eq!(memory.offset.as_deref().map(str::len), Some(46), "it has an offset before its first event");
    let memory = Memory { ..peer.lose(&running.io).await };
    for restarts in [false, true] {
        let (next, _) = remains.serve();
        let addr = if restarts { next.addr } else { running.addr };
        let mut back = memory.back_with(addr, json!({ "sio": 1 })).await;
        assert!(back.recovered);
        back.peer.expect(json!(["sio:session", { "pid": memory.pid, "recovered": true }])).await;
        if !restarts {
            back.peer.lose(&running.io).await;
        }
    }
    // Nobody else hears of it.
    for auth in [json!({}), json!({ "sio": 2 }), json!({ "sio": "1" }), json!({ "x": { "sio": 1 } })] {
        let mut peer = Peer::join_with(running.addr, auth).await;
        peer.sync().await;
    }
    // Where nothing is stored there is none.
    let (plain, _) = crate::peer::recovering(crate::peer::plain(), |_| {});
    let mut peer = Peer::join_with(plain.addr, json!({ "sio": 1 })).await;
    peer.sync().await;
}

#[tokio::test]
async fn what_a_client_confirms_is_not_repeated_and_outlives_the_process() {
    let remains = Remains::new();
    let (running, _) = remains.serve();
    let mut peer = helped_in_room(running.addr).await;
    for number in 1..=3 {
        running.io.to("room").emit("event", &number).await.unwrap();
    }
    peer.expect(json!(["event", 1])).await;
    peer.expect(json!(["event", 2])).await;
    let heard = peer.memory.offset.clone().unwrap();
    peer.expect(json!(["event", 3])).await;
    peer.client.send(&format!("2{}", json!(["sio:pos", heard]))).await;
    peer.sync().await;
    // As if it had lost its offset.
    let memory = Memory { offset: None, ..peer.memory.clone() };
    let (next, _) = remains.serve();
    let back = memory.back(next.addr).await;
    assert_eq!((back.recovered, back.missed), (true, vec![json!(["event", 3])]));
    let memory = Memory { offset: None, ..peer.lose(&running.io).await };
    let back = memory.back(running.addr).await;
    assert_eq!((back.recovered, back.missed), (true, vec![json!(["event", 3])]));
}

#[tokio::test]
async fn sec_50_positions_that_are_made_up_or_ahead_move_nothing() {
    let remains = Remains::new();
    let (running, _) = remains.serve();
    let mut other = helped(running.addr).await;
    other.client.ask(r#"["enter","room"]"#, "[]").await;
    let mut peer = helped_in_room(running.addr).await;
    running.io.to("room").emit("event", &()).await.unwrap();
    peer.expect(json!(["event"])).await;
    other.expect(json!(["event"])).await;
    // Of another store, and of one that went on when this process did not.
    let foreign = Remains::new();
    let (elsewhere, _) = foreign.serve();
    let abroad = helped(elsewhere.addr).await.memory.offset.unwrap();
    let (later, _) = remains.serve();
    for _ in 0..3 {
        later.io.to("room").emit("later", &()).await.unwrap();
    }
    let mut ahead = helped(later.addr).await;
    let ahead = ahead.memory.offset.take().unwrap();
    let mut texts: Vec<Value> =
        vec![json!(abroad), json!(&abroad[..23]), json!("~".repeat(46)), json!("x".repeat(100_000))];
    texts.extend([json!(""), json!("é".repeat(23)), json!(7), json!(null), json!({ "pos": 1 }), json!([])]);
    for text in texts {
        peer.client.send(&format!("2{}", json!(["sio:pos", text]))).await;
    }
    peer.client.send(r#"2["sio:pos"]"#).await;
    let half = &ahead[..23];
    peer.client.send(&format!("2{}", json!(["sio:pos", format!("{half}{half}")]))).await;
    peer.sync().await;
    // Neither the store has it, nor this process.
    let memory = Memory { offset: None, ..peer.memory.clone() };
    let back = memory.back(later.addr).await;
    let all = vec![json!(["event"]), json!(["later"]), json!(["later"]), json!(["later"])];
    assert_eq!((back.recovered, back.missed), (true, all));
    let memory = Memory { offset: None, ..peer.lose(&running.io).await };
    let back = memory.back(running.addr).await;
    assert_eq!((back.recovered, back.missed), (true, vec![json!(["event"])]));
}

#[tokio::test]
async fn what_a_room_was_sent_is_read_again_with_what_came_before_each() {
    let remains = Remains::new();
    let (running, _) = remains.serve();
    let io = &running.io;
    let mut peer = helped(running.addr).await;
    io.to("room").emit("before it came", &()).await.unwrap();
    peer.client.ask(r#"["enter","room"]"#, "[]").await;
    let id = peer.id.clone();
    io.to("room").emit("one", &(1, "é")).await.unwrap();
    io.to("room:other").emit("elsewhere", &()).await.unwrap();
    io.to("room").except(id.as_str()).emit("for the others", &()).await.unwrap();
    io.to("room").emit("two", &json!({ "_placeholder": true, "num": 0 })).await.unwrap();
    peer.expect(json!(["one", 1, "é"])).await;
    let first = peer.memory.offset.clone().unwrap();
    peer.expect(json!(["two", { "_placeholder": true, "num": 0 }])).await;
    let second = peer.memory.offset.clone().unwrap();

    // No more than it was sent: what came before it did is not its own to read.
    let page = fill(&mut peer, json!("room"), None, None).await;
    assert_eq!(names(&page), ["one", "-", "two"], "{page}");
    assert_eq!((&page["ok"], &page["complete"], &page["gap"]), (&json!(true), &json!(true), &json!(false)));
    let events = page["events"].as_array().unwrap();
    assert_eq!(events[0]["args"], json!([1, "é"]));
    assert_eq!(events[2]["args"], json!([{ "_placeholder": true, "num": 0 }]));
    assert!(events[1].get("args").is_none());
    for pair in events.windows(2) {
        assert_eq!(pair[0]["offset"], pair[1]["prev"]);
    }
    assert_eq!(events[0]["offset"], json!(&first[..23]));
    assert_eq!(events[0]["n"], json!(2));

    let page = fill(&mut peer, json!("room"), Some(&first), Some(&second)).await;
    assert_eq!(names(&page), ["-", "two"]);
    let page = fill(&mut peer, json!("room"), None, Some(&first)).await;
    assert_eq!((names(&page), page["next"].as_str()), (vec!["one"], Some(&first[..23])));
    let page = fill(&mut peer, json!("room"), Some(&second), None).await;
    assert_eq!((names(&page).len(), &page["complete"]), (0, &json!(true)));
    // What everybody is sent, and what it alone is.
    io.durable().emit("all", &()).await.unwrap();
    io.to(id.as_str()).durable().emit("own", &()).await.unwrap();
    peer.expect(json!(["all"])).await;
    peer.expect(json!(["own"])).await;
    assert_eq!(names(&fill(&mut peer, json!(null), None, None).await), ["all"]);
    assert_eq!(names(&fill(&mut peer, json!(id), None, None).await), ["own"]);
}

#[tokio::test]
async fn pages_are_bounded_and_attachments_stand_alone() {
    let remains = Remains::new();
    let (running, _) = remains.serve();
    let mut peer = helped_in_room(running.addr).await;
    for number in 0..230 {
        running.io.to("room").emit("number", &number).await.unwrap();
    }
    for number in 0..230 {
        peer.expect(json!(["number", number])).await;
    }
    let (mut next, mut sizes, mut heard) = (None::<String>, Vec::new(), Vec::new());
    loop {
        let page = fill(&mut peer, json!("room"), next.as_deref(), None).await;
        let events = page["events"].as_array().unwrap();
        sizes.push(events.len());
        heard.extend(events.iter().map(|event| event["args"][0].as_u64().unwrap()));
        if page["complete"] == json!(true) {
            break;
        }
        next = Some(page["next"].as_str().unwrap().to_owned());
    }
    assert_eq!(sizes, [100, 100, 30]);
    assert!(heard.into_iter().eq(0..230));

    let after = peer.memory.offset.clone().unwrap();
    let bytes = bytes::Bytes::from_static(b"\0\x01");
    running.io.to("room").emit("plain", &json!({ "_placeholder": true, "num": 0 })).await.unwrap();
    running.io.to("room").emit("attached", &(&bytes, 7)).await.unwrap();
    peer.event().await;
    assert!(peer.client.text().await.starts_with(r#"51-["attached""#));
    peer.client.message().await.unwrap();
    let page = fill(&mut peer, json!("room"), Some(&after), None).await;
    assert_eq!((names(&page), &page["complete"]), (vec!["plain"], &json!(false)));
    peer.client.send(&format!("29{}", json!(["sio:fill", "room", page["next"]]))).await;
    let text = peer.client.text().await;
    assert!(text.starts_with("61-9[") && text.contains(r#""args":[{"_placeholder":true,"num":0},7]"#), "{text}");
    let posthaste_testkit::Message::Binary(attachment) = peer.client.message().await.unwrap() else { panic!("bytes") };
    assert_eq!(attachment, bytes);
}

#[tokio::test]
async fn what_is_forgotten_is_said() {
    let remains = Remains::new();
    let retention = Retention { max_messages: 2, ..Retention::UNLIMITED };
    let (running, _) = remains.serve_with(retention, |durable| durable, |_| {});
    let mut peer = helped_in_room(running.addr).await;
    for number in 0..5 {
        running.io.to("room").emit("number", &number).await.unwrap();
        peer.expect(json!(["number", number])).await;
    }
    let page = fill(&mut peer, json!("room"), None, None).await;
    assert_eq!((names(&page).len(), &page["gap"]), (2, &json!(true)));
    let after = page["events"][0]["prev"].as_str().unwrap().to_owned();
    let page = fill(&mut peer, json!("room"), Some(&after), None).await;
    assert_eq!((names(&page).len(), &page["gap"]), (2, &json!(false)));
}

#[tokio::test]
async fn sec_50_rooms_of_others_and_what_was_made_up_give_nothing() {
    let remains = Remains::new();
    let (running, _) = remains.serve();
    let io = &running.io;
    let mut peer = helped(running.addr).await;
    let other = helped(running.addr).await;
    io.to("room").emit("secret", &()).await.unwrap();
    io.to(other.id.as_str()).durable().emit("secret", &()).await.unwrap();
    let mut code = async |event: Value| ask(&mut peer.client, event).await["code"].clone();
    for room in
        [json!("room"), json!(other.id), json!("r:room"), json!(""), json!("k:offsets"), json!("x".repeat(10_000))]
    {
        assert_eq!(code(json!(["sio:fill", room])).await, "not_member", "{room}");
    }
    let foreign = Remains::new();
    let (elsewhere, _) = foreign.serve();
    let abroad = helped(elsewhere.addr).await.memory.offset.unwrap();
    for text in [abroad.as_str(), "", "~", "é", &"é".repeat(23), &"~".repeat(46), &"x".repeat(100_000)] {
        assert_eq!(code(json!(["sio:fill", null, text])).await, "offset", "{text}");
        assert_eq!(code(json!(["sio:fill", null, null, text])).await, "offset", "{text}");
    }
    for event in [json!(["sio:fill", 7]), json!(["sio:fill", {}, []]), json!(["sio:fill", null, 7])] {
        assert_eq!(code(event.clone()).await, "invalid", "{event}");
    }
    // Left: what is sent from then on is none of its business, and what was is not read again either.
    peer.client.ask(r#"["enter","room"]"#, "[]").await;
    peer.client.ask(r#"["leave","room"]"#, "[]").await;
    assert_eq!(fill(&mut peer, json!("room"), None, None).await["code"], "not_member");
    // Nobody waits: nothing is read.
    peer.client.send(r#"2["sio:fill",null]"#).await;
    peer.sync().await;
}

#[tokio::test]
async fn sec_50_names_that_are_the_servers_reach_no_handler_where_there_is_a_store() {
    let handled = |io: &posthaste::Server| {
        io.on("sio:mine", async || {});
        io.on("sio:pos", async || {});
    };
    let remains = Remains::new();
    let (running, _) = remains.serve_with(Retention::ROOM, |durable| durable, handled);
    let mut peer = Peer::join(running.addr).await;
    for name in ["sio:mine", "sio:", "sio:session", "sio:gap", "sio:pos"] {
        peer.client.send(&format!(r#"21["{name}","x"]"#)).await;
    }
    peer.sync().await;
    // Elsewhere they are names like any.
    let (plain, _) = crate::peer::recovering(crate::peer::plain(), handled);
    let mut peer = Peer::join(plain.addr).await;
    peer.client.ask(r#"["sio:mine"]"#, "[]").await;
}
