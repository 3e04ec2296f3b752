//! The sockets that an operator means, fetched and acted on.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use posthaste::{AckError, Adapter, AdapterError, FetchError, RemoteSocket, Room, Server};
use posthaste_adapter::{AnswerSink, Broadcast, Delivery, Node, Operation, Pending, RawEvent, SocketSnapshot, Target};
use posthaste_testkit::{Client, Running, Transport, eventually, serve};

use crate::spread::{Placed, Spread};

fn ids(sockets: &[RemoteSocket]) -> BTreeSet<String> {
    sockets.iter().map(|socket| socket.id().to_owned()).collect()
}

#[tokio::test]
async fn the_sockets_of_all_workers_are_fetched_with_their_rooms_and_handshakes() {
    for workers in [1, 3] {
        let spread = Spread::over(workers, |_| {});
        let io = &spread.running.io;
        let clients = spread.clients(6 / workers).await;
        for (index, placed) in clients.iter().enumerate() {
            placed.socket.join(if index % 2 == 0 { vec!["even", "all"] } else { vec!["all"] });
        }
        let everyone = io.fetch_sockets().await.unwrap();
        assert_eq!(ids(&everyone), clients.iter().map(|placed| placed.socket.id().to_string()).collect());
        let even = io.to("even").fetch_sockets().await.unwrap();
        assert_eq!(even.len(), 3);
        let odd = io.to("all").except("even").fetch_sockets().await.unwrap();
        assert_eq!(odd.len(), 3);
        assert!(ids(&even).is_disjoint(&ids(&odd)));
        assert_eq!(io.to("nobody").fetch_sockets().await.unwrap().len(), 0);
        assert_eq!(io.namespace("/empty").fetch_sockets().await.unwrap().len(), 0);

        let socket = &clients[0].socket;
        let [found] = &io.to(socket.id()).fetch_sockets().await.unwrap()[..] else { panic!("there is one") };
        assert_eq!(found.id(), socket.id());
        assert_eq!(found.rooms(), [Room::from(socket.id()), Room::from("even"), Room::from("all")]);
        assert_eq!(found.raw_data(), "{}");
        let (handshake, own) = (found.handshake(), socket.handshake());
        assert_eq!(handshake.query_param("EIO"), Some("4"));
        assert_eq!(handshake.header("Host"), own.header("host"));
        assert_eq!((handshake.url.as_str(), &*handshake.auth), (own.url(), own.auth()));
        assert_eq!((handshake.address.as_str(), handshake.secure), ("127.0.0.1", false));
        assert_eq!(handshake.issued, own.issued());

        let themselves = io.to("even").sockets().await;
        assert_eq!(themselves.len(), 3);
        assert!(themselves.contains(socket));
    }
}

#[tokio::test]
async fn what_was_done_before_is_seen_by_a_fetch() {
    let spread = Spread::over(3, |_| {});
    let io = &spread.running.io;
    let clients = spread.clients(1).await;
    for round in 0..50 {
        let room = format!("room {round}");
        io.sockets_join(&room).await.unwrap();
        let fetched = io.to(&room).fetch_sockets();
        io.sockets_leave(&room).await.unwrap();
        assert_eq!(fetched.await.unwrap().len(), clients.len());
        assert_eq!(io.to(&room).fetch_sockets().await.unwrap().len(), 0);
    }
}

#[tokio::test]
async fn a_fetched_socket_can_be_sent_to_asked_moved_and_disconnected() {
    for transport in Transport::ALL {
        let running = serve(Server::builder().workers(2), |_| {});
        let io = &running.io;
        let mut client = Client::join(running.addr, transport).await;
        let mut other = Client::join(running.addr, transport).await;
        let fetched = io.fetch_sockets().await.unwrap();
        assert_eq!(fetched.len(), 2);
        // Which is which, the clients tell.
        let marked = |socket: &RemoteSocket| socket.emit("you are", &socket.id());
        for socket in &fetched {
            marked(socket).await.unwrap();
        }
        let text = client.text().await;
        let socket = fetched.iter().find(|socket| text.contains(socket.id())).unwrap();
        assert_eq!(text, format!(r#"2["you are","{}"]"#, socket.id()));
        other.text().await;

        let answer = socket.emit_with_ack::<(u8, String)>("question", &7);
        client.expect(r#"20["question",7]"#).await;
        client.send(r#"30[1,"a"]"#).await;
        assert_eq!(answer.await.unwrap(), (1, "a".to_owned()));

        let silence = socket.timeout(Duration::from_millis(50)).emit_with_ack::<u8>("question", &8);
        client.expect(r#"21["question",8]"#).await;
        assert!(matches!(silence.await, Err(AckError::Timeout)));

        socket.join(["a", "b"]).await.unwrap();
        socket.leave("b").await.unwrap();
        let rooms = io.to("a").fetch_sockets().await.unwrap();
        assert_eq!(ids(&rooms), BTreeSet::from([socket.id().to_owned()]));
        assert_eq!(rooms[0].rooms().len(), 2);
        assert_eq!(socket.rooms().len(), 1, "a snapshot does not change");

        socket.disconnect(false).await.unwrap();
        client.expect("1").await;
        assert_eq!(io.fetch_sockets().await.unwrap().len(), 1);
        // To somebody who is gone nothing is sent, and nobody waits for his answer.
        socket.emit("late", &()).await.unwrap();
        assert!(matches!(socket.emit_with_ack::<u8>("late", &()).await, Err(AckError::Disconnected)));
    }
}

#[tokio::test]
async fn asking_a_socket_that_leaves_ends_with_it() {
    let running = serve(Server::builder().workers(1).ack_timeout(Duration::from_secs(3600)), |_| {});
    let mut client = Client::websocket(running.addr).await;
    let fetched = running.io.fetch_sockets().await.unwrap();
    let answer = fetched[0].emit_with_ack::<u8>("question", &());
    client.expect(r#"20["question"]"#).await;
    client.leave().await;
    assert!(matches!(answer.await, Err(AckError::Disconnected)));
    eventually("nothing is kept", async || running.io.stats().await.pending_acks == 0).await;
}

/// Connects with servers that never answer.
struct Deaf;

impl Adapter for Deaf {
    fn start(&self, _: Arc<dyn Node>) {}
    fn broadcast(&self, _: Broadcast) -> Delivery {
        Delivery::Done
    }
    fn apply(&self, _: Target, _: Operation) -> Delivery {
        Delivery::Done
    }
    fn fetch(&self, target: Target) -> Pending<Result<Vec<SocketSnapshot>, AdapterError>> {
        if !target.except.is_empty() {
            return Box::pin(async { Err(AdapterError::Timeout { missing: 3 }) });
        }
        Box::pin(std::future::pending())
    }
    fn server_emit(&self, _: RawEvent, answers: Option<Arc<dyn AnswerSink>>) -> Delivery {
        answers.into_iter().for_each(|answers| answers.expect(1));
        Delivery::Done
    }
    fn node_count(&self) -> Pending<Result<usize, AdapterError>> {
        Box::pin(async { Ok(2) })
    }
}

#[tokio::test]
async fn servers_that_do_not_answer_are_an_error_in_time() {
    let running: Running = serve(Server::builder().workers(1).adapter(|_| Arc::new(Deaf)), |_| {});
    let io = &running.io;
    let fetched = io.timeout(Duration::from_millis(30)).fetch_sockets().await;
    assert!(matches!(fetched, Err(FetchError::Timeout)));
    let error = io.except("x").fetch_sockets().await.unwrap_err();
    assert_eq!(error.to_string(), "timeout reached: 3 of the other nodes did not answer");
    // After 5 s, both.
    let (fetched, answers) = tokio::join!(io.fetch_sockets(), io.server_side_emit_with_ack::<u8>("question", &()));
    assert!(matches!(fetched, Err(FetchError::Timeout)));
    let answers = answers.unwrap();
    assert_eq!((answers.answers.len(), answers.complete), (0, false));
}

#[tokio::test]
async fn a_handler_may_fetch_and_act_at_once() {
    let spread = Spread::over(2, |io| {
        io.on("who", async |io: Server| {
            let sockets = io.fetch_sockets().await?;
            for socket in &sockets {
                socket.emit("hello", &sockets.len()).await.map_err(|_| FetchError::Timeout)?;
            }
            Ok::<_, FetchError>(sockets.len())
        });
    });
    let mut clients = spread.clients(2).await;
    clients[0].client.send(r#"27["who"]"#).await;
    clients[0].client.expect(r#"2["hello",4]"#).await;
    clients[0].client.expect("37[4]").await;
    for Placed { client, .. } in &mut clients[1..] {
        client.expect(r#"2["hello",4]"#).await;
    }
}
