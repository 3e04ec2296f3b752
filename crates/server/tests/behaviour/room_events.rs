//! What listeners hear of rooms.

use std::collections::BTreeMap;

use posthaste::{Room, RoomEvent, Server, Socket};
use posthaste_testkit::{Client, Record, Transport, eventually, serve};

use crate::spread::Spread;

fn listen(io: &Server) -> Record<RoomEvent> {
    let heard = Record::new();
    let record = heard.clone();
    io.on_room_event(move |event| record.push(event.clone()));
    heard
}

#[tokio::test]
async fn a_room_is_created_then_joined_and_left_then_deleted() {
    for transport in Transport::ALL {
        let running = serve(Server::builder().workers(2), |io| {
            io.on_connect(async |socket: Socket| {
                socket.join(["a", "b", "a"]);
                socket.leave("b");
                socket.leave("never joined");
                socket.join(socket.id());
            });
        });
        let heard = listen(&running.io);
        let mut client = Client::open(running.addr, transport).await;
        let id = posthaste::SocketId::parse(&client.connect("/").await).unwrap();
        let (own, a, b) = (Room::from(id), Room::from("a"), Room::from("b"));
        use RoomEvent::{Created, Deleted, Joined, Left};
        let mut expected = vec![
            Created(own.clone()),
            Joined(own.clone(), id),
            Created(a.clone()),
            Joined(a.clone(), id),
            Created(b.clone()),
            Joined(b.clone(), id),
            Left(b.clone(), id),
            Deleted(b),
        ];
        eventually("all joined", async || heard.all().len() >= expected.len()).await;
        assert_eq!(heard.all(), expected);
        client.leave().await;
        expected.extend([Left(own.clone(), id), Deleted(own), Left(a.clone(), id), Deleted(a)]);
        eventually("all left", async || heard.all().len() >= expected.len()).await;
        assert_eq!(heard.all(), expected);
    }
}

/// Follows events as a listener would, and finds what cannot be.
#[derive(Default)]
struct Follower(BTreeMap<Room, usize>);

impl Follower {
    fn hear(&mut self, event: &RoomEvent) {
        match event {
            RoomEvent::Created(room) => assert_eq!(self.0.insert(room.clone(), 0), None, "{room} is there"),
            RoomEvent::Joined(room, _) => *self.0.get_mut(room).expect("created before it is joined") += 1,
            RoomEvent::Left(room, _) => *self.0.get_mut(room).expect("left before it is deleted") -= 1,
            RoomEvent::Deleted(room) => assert_eq!(self.0.remove(room), Some(0), "{room} is left by all"),
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn rooms_of_all_workers_are_one_room_and_events_come_in_an_order_that_can_be() {
    let spread = Spread::over(3, |_| {});
    let io = &spread.running.io;
    let heard = listen(io);
    let clients = spread.clients(2).await;
    let sockets: Vec<Socket> = clients.iter().map(|placed| placed.socket.clone()).collect();
    let mut tasks = Vec::new();
    for (number, socket) in sockets.iter().cloned().enumerate() {
        tasks.push(tokio::spawn(async move {
            for round in 0..200 {
                socket.join(format!("room {}", (round + number) % 3));
                socket.leave(format!("room {}", (round * 7 + number) % 3));
                if round % 16 == 0 {
                    tokio::task::yield_now().await;
                }
            }
            socket.leave(["room 0", "room 1", "room 2"]);
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    io.sockets_join("end").await.unwrap();
    let ends = |events: &[RoomEvent]| {
        events.iter().filter(|event| matches!(event, RoomEvent::Joined(room, _) if &**room == "end")).count()
    };
    eventually("all have joined the end", async || ends(&heard.all()) == sockets.len()).await;
    let mut follower = Follower::default();
    // Clients that were given up while clients were placed have rooms of their own.
    let events = heard.all();
    events.iter().for_each(|event| follower.hear(event));
    assert!(events.len() > 400, "something happened: {}", events.len());
    let ended = follower.0.remove(&Room::from("end"));
    assert_eq!(ended, Some(sockets.len()));
    assert!(follower.0.keys().all(|room| !room.starts_with("room")), "{:?}", follower.0);
}

#[tokio::test]
async fn a_listener_that_comes_late_hears_of_what_changes_then() {
    let spread = Spread::over(2, |_| {});
    let io = &spread.running.io;
    let clients = spread.clients(1).await;
    clients[0].socket.join("old");
    clients[1].socket.join("old");
    let heard = listen(io);
    clients[0].socket.leave("old");
    clients[1].socket.join("new");
    clients[1].socket.leave("old");
    use RoomEvent::{Created, Deleted, Joined, Left};
    let (old, new) = (Room::from("old"), Room::from("new"));
    let (first, second) = (clients[0].socket.id(), clients[1].socket.id());
    let expected =
        [Left(old.clone(), first), Created(new.clone()), Joined(new, second), Left(old.clone(), second), Deleted(old)];
    eventually("everything was heard", async || heard.all().len() >= expected.len()).await;
    // The sockets are on different workers.
    assert_eq!(heard.all().len(), expected.len());
    assert!(expected.iter().all(|event| heard.all().contains(event)), "{:?}", heard.all());
}

#[tokio::test]
async fn a_listener_may_change_rooms_and_panic() {
    let spread = Spread::over(1, |_| {});
    let io = spread.running.io.clone();
    let other = io.clone();
    io.on_room_event(move |event| match event {
        RoomEvent::Joined(room, _) if &**room == "first" => {
            other.to("first").sockets_join("second").now().unwrap();
            panic!("expected by the test");
        }
        _ => {}
    });
    let heard = listen(&io);
    let placed = spread.client().await;
    placed.socket.join("first");
    let room = |event: &RoomEvent| match event {
        RoomEvent::Created(room) => format!("created {room}"),
        RoomEvent::Joined(room, _) => format!("joined {room}"),
        event => format!("{event:?}"),
    };
    eventually("all four", async || heard.all().len() == 6).await;
    let events: Vec<String> = heard.all().iter().skip(2).map(room).collect();
    assert_eq!(events, ["created first", "joined first", "created second", "joined second"]);
}

#[tokio::test]
async fn rooms_are_listed_with_their_sizes() {
    let spread = Spread::over(3, |_| {});
    let io = &spread.running.io;
    let clients = spread.clients(2).await;
    for (index, placed) in clients.iter().enumerate() {
        placed.socket.join("all");
        if index < 2 {
            placed.socket.join("two");
        }
    }
    let rooms = io.rooms().await;
    assert_eq!(rooms, BTreeMap::from([(Room::from("all"), 6), (Room::from("two"), 2)]));
    assert_eq!(io.namespace("/chat").rooms().await, BTreeMap::new());
}

#[tokio::test]
async fn a_parents_listeners_hear_of_its_childrens_rooms() {
    let heard = Record::new();
    let record = heard.clone();
    let running = serve(Server::builder().workers(2), |io| {
        let parent = io.namespaces("/game-{number}").unwrap();
        parent.on_room_event(move |event| record.push(event.clone()));
        parent.on_connect(async |socket: Socket| socket.join("table"));
    });
    let mut client = Client::open(running.addr, Transport::WebSocket).await;
    let id = posthaste::SocketId::parse(&client.connect("/game-1").await).unwrap();
    client.connect("/game-2").await;
    let joined = RoomEvent::Joined(Room::from("table"), id);
    eventually("both have joined", async || heard.all().len() == 8).await;
    assert!(heard.all().contains(&joined));
    let parent = running.io.namespaces("/game-{number}").unwrap();
    assert_eq!(parent.rooms().await, BTreeMap::from([(Room::from("table"), 2)]));
}
