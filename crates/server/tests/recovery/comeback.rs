//! A client that comes back in time is who it was.

use std::time::Duration;

use posthaste::{Data, Server, Socket};
use posthaste_testkit::{Client, Transport, eventually, serve};
use serde_json::json;

use crate::peer::{Memory, Peer, plain, recovering};

#[tokio::test]
async fn id_rooms_and_values_are_those_from_before_and_what_was_missed_comes_first() {
    for transport in Transport::ALL {
        let (running, sockets) = recovering(plain(), |io| {
            io.on("keep", async |socket: Socket, Data(word): Data<String>| drop(socket.insert(word)));
        });
        let mut peer = Peer::join_over(running.addr, transport).await;
        assert!(!sockets.all()[0].recovered());
        peer.client.emit(r#"["keep","this"]"#).await;
        peer.client.emit(r#"["join","room"]"#).await;
        peer.sync().await;
        running.io.emit("seen", &1).await.unwrap();
        peer.expect(json!(["seen", 1])).await;
        let id = peer.id.clone();
        let memory = match transport {
            Transport::WebSocket => peer.lose(&running.io).await,
            Transport::Polling => {
                let memory = peer.memory.clone();
                // A polling client is lost when its session is closed.
                let end = posthaste_testkit::Packet::Text("1".to_owned());
                peer.client.engine().send_all(&[end]).await.unwrap();
                memory
            }
        };
        eventually("it is gone", async || running.io.stats().await.sockets == 0).await;
        let io = &running.io;
        io.emit("all", &()).await.unwrap();
        io.to("room").emit("room", &"text").await.unwrap();
        io.to("elsewhere").emit("not for it", &()).await.unwrap();
        io.to(sockets.all()[0].id()).emit("own", &(1, [2])).await.unwrap();
        io.except("room").emit("not for it either", &()).await.unwrap();
        io.volatile().emit("worthless when late", &()).await.unwrap();

        let back = memory.back_over(running.addr, transport).await;
        assert!(back.recovered);
        assert_eq!(back.missed, [json!(["all"]), json!(["room", "text"]), json!(["own", 1, [2]])]);
        assert_eq!(back.peer.id, id);
        let socket = sockets.all()[1].clone();
        assert!(socket.recovered() && socket.is_connected());
        assert_eq!(socket.get::<String>().as_deref(), Some("this"));
        let mut rooms: Vec<String> = socket.rooms().await.iter().map(ToString::to_string).collect();
        rooms.sort();
        let mut expected = vec![id, "room".to_owned()];
        expected.sort();
        assert_eq!(rooms, expected);

        let mut peer = back.peer;
        io.to("room").emit("live", &7).await.unwrap();
        peer.expect(json!(["live", 7])).await;
    }
}

#[tokio::test]
async fn a_client_that_heard_nothing_yet_is_recovered_from_where_it_came() {
    let (running, _) = recovering(plain(), |_| {});
    running.io.emit("before it came", &()).await.unwrap();
    let peer = Peer::join(running.addr).await;
    assert_eq!(peer.memory.offset, None);
    let id = peer.id.clone();
    let memory = peer.lose(&running.io).await;
    running.io.emit("missed", &1).await.unwrap();
    let back = memory.back(running.addr).await;
    assert!(back.recovered);
    assert_eq!((back.peer.id, back.missed), (id, vec![json!(["missed", 1])]));
}

#[tokio::test]
async fn nothing_comes_twice_however_often_a_client_is_lost() {
    let (running, _) = recovering(plain(), |_| {});
    let mut peer = Peer::join(running.addr).await;
    let id = peer.id.clone();
    for round in 0..5 {
        let memory = peer.lose(&running.io).await;
        running.io.emit("missed", &round).await.unwrap();
        let back = memory.back(running.addr).await;
        assert!(back.recovered);
        assert_eq!(back.missed, [json!(["missed", round])]);
        // And again without anything in between.
        let back = back.peer.lose(&running.io).await.back(running.addr).await;
        assert!(back.recovered);
        assert!(back.missed.is_empty(), "{:?}", back.missed);
        peer = back.peer;
        assert_eq!(peer.id, id);
    }
}

#[tokio::test]
async fn what_was_under_way_when_the_connection_was_lost_comes_again() {
    let (running, _) = recovering(plain(), |_| {});
    let mut peer = Peer::join(running.addr).await;
    running.io.emit("heard", &()).await.unwrap();
    peer.expect(json!(["heard"])).await;
    // Written by the server, never read by the client.
    running.io.emit("unheard", &()).await.unwrap();
    let back = peer.lose(&running.io).await.back(running.addr).await;
    assert!(back.recovered);
    assert_eq!(back.missed, [json!(["unheard"])]);
}

#[tokio::test]
async fn rooms_count_as_they_were_when_something_happened() {
    let (running, _) = recovering(plain(), |_| {});
    let io = &running.io;
    let mut peer = Peer::join(running.addr).await;
    io.to("late").emit("before it joined", &()).await.unwrap();
    peer.client.emit(r#"["join","late"]"#).await;
    peer.client.emit(r#"["join","left"]"#).await;
    peer.sync().await;
    io.to("left").emit("while it was there", &()).await.unwrap();
    // Told it by the server: the client does not read any more.
    io.within("late").sockets_leave("left").await.unwrap();
    io.to("left").emit("after it left", &()).await.unwrap();
    let memory = peer.lose(io).await;
    assert_eq!(memory.offset, None);
    io.to("late").emit("missed", &()).await.unwrap();
    let back = memory.back(running.addr).await;
    assert!(back.recovered);
    assert_eq!(back.missed, [json!(["while it was there"]), json!(["missed"])]);
}

#[tokio::test]
async fn each_namespace_has_its_own_session() {
    let (running, _) = recovering(plain(), |io| drop(io.namespace("/chat")));
    let mut client = Client::open(running.addr, Transport::WebSocket).await;
    let mut memories = Vec::new();
    for (name, packet) in [("/", "0"), ("/chat", "0/chat,")] {
        client.send(packet).await;
        let answer = client.text().await;
        let answer: serde_json::Value = serde_json::from_str(answer.strip_prefix(packet).unwrap()).unwrap();
        memories.push((name, Memory { pid: answer["pid"].as_str().unwrap().to_owned(), offset: None }));
    }
    assert_ne!(memories[0].1.pid, memories[1].1.pid);
    client.reset();
    eventually("both wait", async || running.io.stats().await.recoverable == 2).await;
    running.io.namespace("/chat").emit("missed", &()).await.unwrap();

    let mut client = Client::open(running.addr, Transport::WebSocket).await;
    // The secret of one namespace is nothing in another.
    client.send(&memories[1].1.wish()).await;
    let fresh = client.text().await;
    assert!(!fresh.contains(&memories[1].1.pid), "{fresh}");
    client.send(&memories[1].1.wish().replacen('0', "0/chat,", 1)).await;
    assert!(client.text().await.starts_with(r#"2/chat,["missed","~"#));
    assert!(client.text().await.contains(&memories[1].1.pid));
}

/// Everything is as it was without recovery.
#[tokio::test]
async fn without_recovery_there_is_no_secret_and_no_offset() {
    let running = serve(Server::builder().workers(1), |_| {});
    let mut client = Client::open(running.addr, Transport::WebSocket).await;
    client.send(r#"0{"pid":"AAAAAAAAAAAAAAAAAAAAAA","offset":"~"}"#).await;
    client.connected("/").await;
    running.io.emit("plain", &1).await.unwrap();
    running.io.volatile().emit("plain", &2).await.unwrap();
    client.expect(r#"2["plain",1]"#).await;
    client.expect(r#"2["plain",2]"#).await;
}

#[tokio::test]
async fn the_three_ids_of_a_client_are_different() {
    let (running, _) = recovering(plain(), |_| {});
    let mut peer = Peer::join(running.addr).await;
    let sid = peer.client.engine().sid().to_owned();
    assert!(peer.id != sid && peer.memory.pid != sid && peer.memory.pid != peer.id);
    assert_eq!(peer.memory.pid.len(), 22, "128 random bits");
}

/// Nobody else is in it, and namespaces without sockets are forgotten: this one waits with its client.
#[tokio::test]
async fn a_namespace_that_was_made_for_a_client_waits_for_it() {
    let recovery = posthaste::Recovery { max_disconnection: Duration::from_secs(1), ..posthaste::Recovery::default() };
    let builder = crate::peer::with(recovery).cleanup_empty_namespaces(true);
    let (running, _) = recovering(builder, |io| {
        io.namespaces("/game/{id}").unwrap();
    });
    let io = &running.io;
    let mut client = Client::open(running.addr, Transport::WebSocket).await;
    client.send("0/game/7,").await;
    let answer: serde_json::Value = serde_json::from_str(&client.text().await["0/game/7,".len()..]).unwrap();
    let (id, pid) = (answer["sid"].as_str().unwrap(), answer["pid"].as_str().unwrap().to_owned());
    client.reset();
    eventually("it waits", async || io.stats().await.recoverable == 1).await;
    io.find_namespace("/game/7").expect("it is still there").emit("missed", &()).await.unwrap();
    let mut client = Client::open(running.addr, Transport::WebSocket).await;
    let memory = Memory { pid, offset: None };
    client.send(&memory.wish().replacen('0', "0/game/7,", 1)).await;
    assert!(client.text().await.starts_with(r#"2/game/7,["missed","~"#));
    let answer = client.text().await;
    assert!(answer.contains(id) && answer.contains(&memory.pid), "{answer}");
    client.reset();
    eventually("it is forgotten with its session", async || {
        io.stats().await.recoverable == 0 && io.find_namespace("/game/7").is_none()
    })
    .await;
}
