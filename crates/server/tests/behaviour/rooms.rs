//! Who an operator means.

use posthaste::{Room, Server, Socket};
use posthaste_testkit::{Client, Transport, eventually, serve};

use crate::spread::{Placed, Spread};

/// Three sockets in overlapping rooms: `a` 0 and 1, `b` 1 and 2, `all` everybody.
async fn overlapping(workers: usize) -> (Spread, Vec<Placed>) {
    let spread = Spread::over(workers, |_| {});
    let mut clients = Vec::new();
    for rooms in [&["a", "all"][..], &["a", "b", "all"], &["b", "all"]] {
        let placed = spread.client().await;
        placed.socket.join(rooms);
        clients.push(placed);
    }
    (spread, clients)
}

/// Emits through each operator, and expects it at exactly the named clients: a marker to all comes behind it.
async fn reaches(io: &Server, clients: &mut [Placed], emit: impl FnOnce(&str), expected: &[usize]) {
    emit("wanted");
    io.emit("marker", &()).await.unwrap();
    for (index, Placed { client, .. }) in clients.iter_mut().enumerate() {
        if expected.contains(&index) {
            client.expect(r#"2["wanted"]"#).await;
        }
        client.expect(r#"2["marker"]"#).await;
    }
}

#[tokio::test]
async fn operators_reach_exactly_whom_they_name_and_each_once() {
    for workers in [1, 3] {
        let (spread, mut clients) = overlapping(workers).await;
        let io = &spread.running.io;
        let sockets: Vec<Socket> = clients.iter().map(|placed| placed.socket.clone()).collect();
        let (first, second) = (&sockets[0], &sockets[1]);
        macro_rules! reach {
            ($operator:expr, $expected:expr) => {
                reaches(io, &mut clients, |event| $operator.emit(event, &()).now().unwrap(), &$expected).await
            };
        }
        reach!(io, [0, 1, 2]);
        reach!(io.to("a"), [0, 1]);
        reach!(io.within("b"), [1, 2]);
        reach!(io.to("a").to("b"), [0, 1, 2]);
        reach!(io.to(["a", "b", "a", "all"]), [0, 1, 2]);
        reach!(io.to("nobody"), []);
        reach!(io.to(["nobody", "b"]), [1, 2]);
        reach!(io.except("a"), [2]);
        reach!(io.except(["a", "b"]), []);
        reach!(io.except("nobody"), [0, 1, 2]);
        reach!(io.to("a").except("b"), [0]);
        reach!(io.to("all").except("a").except("nobody"), [2]);
        reach!(io.to("a").except("a"), []);
        reach!(io.local().to("a"), [0, 1]);
        reach!(io.volatile().to("b"), [1, 2]);
        reach!(io.to(second.id()), [1]);
        reach!(io.to("a").to(second.id()), [0, 1]);
        reach!(io.except(first.id()), [1, 2]);
        reach!(io.to(String::from("a")), [0, 1]);
        reach!(io.to(vec![Room::from("a"), Room::from(first.id())]), [0, 1]);
        reach!(first.broadcast(), [1, 2]);
        reach!(first.to("a"), [1]);
        reach!(first.to("b"), [1, 2]);
        reach!(second.to(["a", "b"]), [0, 2]);
        reach!(first.within("all").except("b"), []);
        reach!(first.except("b"), []);
        reach!(second.except("b"), [0]);
        reach!(first.volatile().to("all"), [1, 2]);
        reach!(first.volatile().broadcast(), [1, 2]);
        reach!(first.volatile(), [0]);
        reach!(first, [0]);
        reach!(first.to(first.id()), []);
    }
}

#[tokio::test]
async fn an_operator_can_be_kept_and_used_again() {
    let (spread, mut clients) = overlapping(2).await;
    let to_a = spread.running.io.to("a");
    let narrower = to_a.clone().except("b");
    for _ in 0..2 {
        to_a.clone().emit("all of a", &()).await.unwrap();
        narrower.clone().emit("some of a", &()).await.unwrap();
    }
    spread.running.io.emit("end", &()).await.unwrap();
    let expected: [&[&str]; 3] = [&["all of a", "some of a", "all of a", "some of a"], &["all of a", "all of a"], &[]];
    for (Placed { client, .. }, events) in clients.iter_mut().zip(expected) {
        for event in events.iter().chain(&["end"]) {
            client.expect(&format!(r#"2["{event}"]"#)).await;
        }
    }
}

#[tokio::test]
async fn the_room_of_its_own_id_is_always_its_own() {
    let (spread, mut clients) = overlapping(2).await;
    let io = &spread.running.io;
    let sockets: Vec<Socket> = clients.iter().map(|placed| placed.socket.clone()).collect();
    let own = Room::from(sockets[0].id());
    assert_eq!(sockets[0].rooms().await, [own.clone(), Room::from("a"), Room::from("all")]);
    // Left, it stays; joined, it is the same room; another's may be joined and is left like any room.
    sockets[0].leave(sockets[0].id());
    sockets[0].join(sockets[0].id());
    sockets[1].join(&own);
    assert_eq!(sockets[0].rooms().await.iter().filter(|room| **room == own).count(), 1);
    reaches(io, &mut clients, |event| io.to(&own).emit(event, &()).now().unwrap(), &[0, 1]).await;
    reaches(io, &mut clients, |event| sockets[1].to(&own).emit(event, &()).now().unwrap(), &[0]).await;
    sockets[1].leave(&own);
    reaches(io, &mut clients, |event| io.to(&own).emit(event, &()).now().unwrap(), &[0]).await;
}

#[tokio::test]
async fn joining_twice_is_joining_once_and_leaving_is_final() {
    let (spread, mut clients) = overlapping(2).await;
    let io = &spread.running.io;
    let sockets: Vec<Socket> = clients.iter().map(|placed| placed.socket.clone()).collect();
    sockets[0].join(["x", "x"]);
    sockets[0].join("x");
    reaches(io, &mut clients, |event| io.to("x").emit(event, &()).now().unwrap(), &[0]).await;
    sockets[0].leave(["x", "never joined"]);
    sockets[0].leave("x");
    reaches(io, &mut clients, |event| io.to("x").emit(event, &()).now().unwrap(), &[]).await;
    let rooms: Vec<String> = sockets[0].rooms().await.iter().skip(1).map(ToString::to_string).collect();
    assert_eq!(rooms, ["a", "all"]);
}

#[tokio::test]
async fn odd_names_are_rooms_too() {
    let (spread, mut clients) = overlapping(2).await;
    let io = &spread.running.io;
    let long = "long ".repeat(10_000);
    for name in ["", " ", "a,b", "\0", "ünï", "__proto__", &long] {
        clients[1].socket.join(name);
        reaches(io, &mut clients, |event| io.to(name).emit(event, &()).now().unwrap(), &[1]).await;
    }
}

#[tokio::test]
async fn rooms_are_left_by_themselves_when_a_socket_goes() {
    for transport in Transport::ALL {
        let running = serve(Server::builder().workers(2), |io| {
            for namespace in ["/", "/chat"] {
                io.namespace(namespace).on_connect(async |socket: Socket| socket.join(["a", "b"]));
            }
        });
        let io = &running.io;
        let mut client = Client::join(running.addr, transport).await;
        client.connect("/chat").await;
        assert_eq!((io.stats().await.rooms, io.namespace("/chat").stats().await.rooms), (6, 3));
        client.send("1/chat,").await;
        eventually("one has left", async || io.namespace("/chat").stats().await.rooms == 0).await;
        assert_eq!(io.stats().await.rooms, 3);
        client.leave().await;
        eventually("all have left", async || io.stats().await.rooms == 0).await;
        assert_eq!(io.stats().await, posthaste::Stats::default());
    }
}

#[tokio::test]
async fn a_socket_that_is_gone_joins_nothing() {
    let (spread, mut clients) = overlapping(2).await;
    let Placed { client, socket, .. } = clients.remove(0);
    client.leave().await;
    eventually("it is gone", async || !socket.is_connected()).await;
    socket.join("late");
    let elsewhere = socket.clone();
    tokio::task::spawn_blocking(move || elsewhere.join("late")).await.unwrap();
    assert!(socket.rooms().await.is_empty());
    let io = &spread.running.io;
    assert_eq!(io.stats().await.rooms, 2 + 3, "two own rooms, a, b and all");
    reaches(io, &mut clients, |event| io.to("late").emit(event, &()).now().unwrap(), &[]).await;
    assert!(socket.emit("x", &()).await.is_err());
    // What it broadcasts is another matter.
    reaches(io, &mut clients, |event| socket.broadcast().emit(event, &()).now().unwrap(), &[0, 1]).await;
}

#[tokio::test]
async fn a_broadcast_reaches_hundreds_at_once_also_when_it_is_volatile() {
    let running = serve(Server::builder().workers(1), |io| {
        io.on("go", async |io: Server| {
            for round in 0..3 {
                io.emit("plain", &round).await.unwrap();
                // Long enough for the turn to end, so that everything has left.
                tokio::time::sleep(std::time::Duration::from_millis(30)).await;
                io.volatile().emit("volatile", &round).await.unwrap();
                tokio::time::sleep(std::time::Duration::from_millis(30)).await;
            }
        });
    });
    let mut clients = Vec::new();
    for _ in 0..300 {
        clients.push(Client::websocket(running.addr).await);
    }
    clients[0].emit(r#"["go"]"#).await;
    for client in &mut clients {
        for round in 0..3 {
            client.expect(&format!(r#"2["plain",{round}]"#)).await;
            client.expect(&format!(r#"2["volatile",{round}]"#)).await;
        }
    }
}

#[tokio::test]
async fn a_volatile_event_is_not_kept_for_a_poll_that_is_not_there() {
    let running = serve(Server::builder().workers(1), |io| {
        io.on("sync", async || {});
    });
    let mut client = Client::join(running.addr, Transport::Polling).await;
    running.io.volatile().emit("lost", &()).await.unwrap();
    running.io.emit("kept", &()).await.unwrap();
    client.expect(r#"2["kept"]"#).await;
    client.ask(r#"["sync"]"#, "[]").await;
    // With a poll under way it is as good as any; a poll is answered once.
    client.engine().begin_poll().await.unwrap();
    let mut arrived = false;
    for _ in 0..1000 {
        running.io.volatile().emit("caught", &()).await.unwrap();
        let answer = tokio::time::timeout(std::time::Duration::from_millis(20), client.engine().packet()).await;
        if let Ok(packet) = answer {
            assert_eq!(packet.unwrap(), posthaste_testkit::Packet::message(r#"2["caught"]"#));
            arrived = true;
            break;
        }
    }
    assert!(arrived, "it is caught once the poll has arrived");
}
