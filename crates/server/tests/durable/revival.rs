//! The server is killed, and another one opens its store: clients are who they were.

use posthaste::{Data, Socket};
use posthaste_testkit::Transport;
use serde_json::json;

use crate::peer::{Memory, Peer};
use crate::scene::{Remains, scene};

#[tokio::test]
async fn id_rooms_and_data_outlive_the_process_and_what_was_missed_comes_first() {
    for transport in Transport::ALL {
        let remains = Remains::new();
        let (running, _) = remains.serve_with(
            posthaste::store::Retention::ROOM,
            |durable| durable,
            |io| {
                io.on("keep", async |socket: Socket, Data(word): Data<String>| socket.set_data(&word).unwrap());
            },
        );
        let mut peer = Peer::join_over(running.addr, transport).await;
        peer.client.ask(r#"["keep","this"]"#, "[]").await;
        peer.client.ask(r#"["enter","room"]"#, "[]").await;
        running.io.to("room").emit("seen", &1).await.unwrap();
        peer.expect(json!(["seen", 1])).await;
        running.io.to("room").emit("on its way when it was killed", &()).await.unwrap();
        let (id, memory) = (peer.id.clone(), peer.memory.clone());

        let (next, sockets) = remains.serve();
        let io = &next.io;
        io.to("room").emit("missed", &(1, [2])).await.unwrap();
        io.to("room:other").emit("not for it", &()).await.unwrap();
        io.to("room").except(id.as_str()).emit("not for it either", &()).await.unwrap();
        io.to(id.as_str()).durable().emit("own", &()).await.unwrap();
        io.durable().emit("all", &()).await.unwrap();
        let back = memory.back_over(next.addr, transport).await;
        assert!(back.recovered);
        let missed =
            [json!(["on its way when it was killed"]), json!(["missed", 1, [2]]), json!(["own"]), json!(["all"])];
        assert_eq!(back.missed, missed);
        assert_eq!(back.peer.id, id);
        let socket = sockets.all()[0].clone();
        assert!(socket.recovered() && socket.is_connected());
        assert_eq!(socket.data::<String>().unwrap(), "this");
        let mut rooms: Vec<String> = socket.rooms().await.iter().map(ToString::to_string).collect();
        rooms.sort();
        let mut expected = vec![id.clone(), "room".to_owned()];
        expected.sort();
        assert_eq!(rooms, expected);
        let mut peer = back.peer;
        io.to("room").emit("live", &7).await.unwrap();
        peer.expect(json!(["live", 7])).await;

        // And killed again, with a client that has heard of both.
        let (last, _) = remains.serve();
        last.io.to("room").emit("missed again", &()).await.unwrap();
        let back = peer.memory.back_over(last.addr, transport).await;
        assert!(back.recovered);
        assert_eq!((back.peer.id, back.missed), (id, vec![json!(["missed again"])]));
    }
}

#[tokio::test]
async fn a_client_that_heard_nothing_yet_is_recovered_from_where_it_came() {
    let remains = Remains::new();
    let (running, _) = remains.serve();
    running.io.to("room").emit("before it came", &()).await.unwrap();
    let mut peer = Peer::join(running.addr).await;
    peer.client.ask(r#"["enter","room"]"#, "[]").await;
    assert_eq!(peer.memory.offset, None);
    let (next, _) = remains.serve();
    next.io.to("room").emit("missed", &1).await.unwrap();
    let back = peer.memory.back(next.addr).await;
    assert!(back.recovered);
    assert_eq!((back.peer.id, back.missed), (peer.id, vec![json!(["missed", 1])]));
}

#[tokio::test]
async fn what_happened_in_a_room_that_was_left_is_owed_up_to_then() {
    let (remains, running, mut peer) = scene().await;
    running.io.to("room").emit("heard", &()).await.unwrap();
    peer.expect(json!(["heard"])).await;
    let memory = peer.memory.clone();
    running.io.to("room").emit("there", &1).await.unwrap();
    peer.expect(json!(["there", 1])).await;
    peer.client.ask(r#"["leave","room"]"#, "[]").await;
    running.io.to("room").emit("gone", &2).await.unwrap();
    // As if the last event had been lost on its way.
    let (next, sockets) = remains.serve();
    let back = memory.back(next.addr).await;
    assert_eq!((back.recovered, back.missed), (true, vec![json!(["there", 1])]));
    assert_eq!(sockets.all()[0].rooms().await.len(), 1);
}

#[tokio::test]
async fn events_that_are_not_durable_carry_offsets_that_never_run_ahead() {
    let (remains, running, mut peer) = scene().await;
    running.io.to("room").emit("kept", &1).await.unwrap();
    running.io.emit("not kept", &2).await.unwrap();
    running.io.volatile().emit("volatile", &3).await.unwrap();
    peer.expect(json!(["kept", 1])).await;
    // Which of the others comes first is open: the one that is kept is committed before it is sent.
    let mut memory = peer.memory.clone();
    for _ in 0..2 {
        peer.event().await;
        memory = peer.memory.clone();
    }
    running.io.to("room").emit("missed", &4).await.unwrap();
    let (next, _) = remains.serve();
    let back = memory.back(next.addr).await;
    assert_eq!((back.recovered, back.missed), (true, vec![json!(["missed", 4])]));
}

#[tokio::test]
async fn texts_that_are_no_offsets_repeat_and_never_skip() {
    let (remains, running, mut peer) = scene().await;
    running.io.to("room").emit("one", &()).await.unwrap();
    peer.expect(json!(["one"])).await;
    for offset in [None, Some(""), Some("an application's text"), Some(&"~".repeat(46)), Some(&"x".repeat(100_000))] {
        let (next, _) = remains.serve();
        let memory = Memory { offset: offset.map(String::from), ..peer.memory.clone() };
        let back = memory.back(next.addr).await;
        assert_eq!((back.recovered, back.missed), (true, vec![json!(["one"])]), "{offset:?}");
    }
}

#[tokio::test]
async fn forged_and_foreign_pids_are_somebody_new() {
    let (remains, running, mut peer) = scene().await;
    running.io.to("room").emit("one", &()).await.unwrap();
    peer.expect(json!(["one"])).await;
    let foreign = {
        let (other, _) = Remains::new().serve();
        Peer::join(other.addr).await.memory
    };
    let (next, sockets) = remains.serve();
    for pid in [foreign.pid.as_str(), "", "nonsense", &"A".repeat(22)] {
        let memory = Memory { pid: pid.to_owned(), ..peer.memory.clone() };
        let back = memory.back(next.addr).await;
        assert!(!back.recovered && back.missed.is_empty(), "{pid}");
        assert_ne!(back.peer.id, peer.id);
        let socket = sockets.all().pop().unwrap();
        assert_eq!(socket.rooms().await.len(), 1, "{pid}");
    }
}

#[tokio::test]
async fn a_client_that_left_for_good_is_forgotten() {
    let (remains, running, mut peer) = scene().await;
    peer.client.send("1").await;
    posthaste_testkit::eventually("it has left", async || running.io.stats().await.sockets == 0).await;
    let (next, _) = remains.serve();
    assert!(!peer.memory.back(next.addr).await.recovered);
}

#[tokio::test]
async fn the_first_life_comes_back_from_memory_with_what_was_not_durable() {
    let (_, running, peer) = scene().await;
    let memory = peer.lose(&running.io).await;
    running.io.to("room").emit("kept", &1).await.unwrap();
    running.io.to("room:plain").emit("not for it", &()).await.unwrap();
    running.io.emit("not kept", &2).await.unwrap();
    let back = memory.back(running.addr).await;
    assert!(back.recovered);
    assert_eq!(back.missed, [json!(["kept", 1]), json!(["not kept", 2])]);
}

#[tokio::test]
async fn longer_away_than_memory_remembers_is_not_too_long_for_the_store() {
    use std::time::Duration;
    let recovery =
        posthaste::Recovery { max_disconnection: Duration::from_millis(1), ..posthaste::Recovery::default() };
    let remains = Remains::new();
    let (running, _) = crate::peer::recovering(
        posthaste::Server::builder().workers(1).durable(remains.durable()).recovery(recovery),
        |io| {
            io.durable_rooms("room", posthaste::store::Retention::ROOM).unwrap();
        },
    );
    let mut peer = Peer::join(running.addr).await;
    peer.client.ask(r#"["join","room"]"#, "[]").await;
    let id = peer.id.clone();
    let memory = peer.lose(&running.io).await;
    running.io.to("room").emit("kept", &1).await.unwrap();
    posthaste_testkit::eventually("memory has forgotten it", async || running.io.stats().await.recoverable == 0).await;
    let back = memory.back(running.addr).await;
    assert!(back.recovered);
    assert_eq!((back.peer.id, back.missed), (id, vec![json!(["kept", 1])]));
}
