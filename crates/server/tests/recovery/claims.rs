//! One client, one socket: whoever shows the secret of a session has it alone.

use std::time::Duration;

use posthaste::{DisconnectReason, Recovery, Server, Socket, Workers};
use posthaste_testkit::{Client, Message, Record, Transport, eventually};
use serde_json::json;

use crate::peer::{Memory, Peer, plain, recovering};

/// The client's network changed, and the server has not noticed: the connection from before still stands.
#[tokio::test]
async fn a_connection_that_still_stands_is_closed_before_its_session_is_taken_up() {
    for workers in [1, 4] {
        let workers = Workers::start(workers).unwrap();
        let (news, seen) = (Record::<String>::new(), Record::<String>::new());
        let record = (news.clone(), news.clone());
        let (running, sockets) =
            recovering(Server::builder().shared_workers(&workers).recovery(Recovery::default()), |io| {
                io.on_connect(move |socket: Socket| {
                    record.0.push(format!("{} came", socket.id()));
                    async {}
                });
                io.on_disconnect(move |socket: Socket, reason: DisconnectReason| {
                    record.1.push(format!("{} left: {reason}", socket.id()));
                    async {}
                });
            });
        // Often enough to meet connections of the same worker and of others.
        for round in 0..12 {
            let mut former = Peer::join(running.addr).await;
            former.client.emit(r#"["join","room"]"#).await;
            former.sync().await;
            running.io.to("room").emit("heard", &round).await.unwrap();
            former.expect(json!(["heard", round])).await;
            let back = former.memory.back(running.addr).await;
            assert!(back.recovered, "{round}");
            assert_eq!(back.peer.id, former.id);
            former.client.closed().await;
            assert!(!sockets.all()[2 * round].is_connected() && sockets.all()[2 * round + 1].is_connected());
            running.io.to("room").emit("live", &round).await.unwrap();
            let mut peer = back.peer;
            peer.expect(json!(["live", round])).await;
            for word in ["came", "left: transport close", "came"] {
                seen.push(format!("{} {word}", peer.id));
            }
            assert_eq!(running.io.stats().await.sockets, 1, "never two of them");
            peer.client.send("1").await;
            seen.push(format!("{} left: client namespace disconnect", peer.id));
            eventually("it has left", async || news.all().len() == seen.all().len()).await;
        }
        assert_eq!(news.all(), seen.all());
        workers.shutdown(Duration::ZERO);
    }
}

/// What is for one socket goes to the worker that owns it, and no other hears of it.
#[tokio::test]
async fn what_was_for_one_socket_follows_it_to_another_worker() {
    let workers = Workers::start(4).unwrap();
    let (running, sockets) =
        recovering(Server::builder().shared_workers(&workers).recovery(Recovery::default()), |_| {});
    let mut former = Peer::join(running.addr).await;
    for round in 0..40 {
        let socket = sockets.all()[round].clone();
        for number in 0..3 {
            socket.emit("alone", &(round, number)).await.unwrap();
        }
        let back = former.memory.back(running.addr).await;
        assert!(back.recovered);
        assert_eq!(back.missed, [0, 1, 2].map(|number| json!(["alone", round, number])));
        former = back.peer;
    }
    workers.shutdown(Duration::ZERO);
}

#[tokio::test]
async fn of_two_who_show_the_same_secret_one_is_recovered_and_the_other_new() {
    for half_open in [false, true] {
        let workers = Workers::start(4).unwrap();
        let (running, _) = recovering(Server::builder().shared_workers(&workers).recovery(Recovery::default()), |_| {});
        for round in 0..30 {
            let peer = Peer::join(running.addr).await;
            let id = peer.id.clone();
            let (memory, kept) = match half_open {
                true => (peer.memory.clone(), Some(peer)),
                false => (peer.lose(&running.io).await, None),
            };
            let (one, other) = tokio::join!(memory.back(running.addr), memory.back(running.addr));
            let both = [one, other];
            // Of a session that is taken up and claimed once more, the second claimant is as good as the first: then it is that one.
            let same: Vec<bool> = both.iter().map(|back| back.peer.id == id).collect();
            let alive = running.io.to(id.as_str()).emit_with_ack::<()>("who?", &());
            drop(alive);
            assert!(same.iter().any(|same| *same), "{round}: nobody was recovered");
            let sockets = running.io.stats().await.sockets;
            assert_eq!(sockets, if same == [true, true] { 1 } else { 2 }, "{round}: {same:?}");
            drop((both, kept));
            eventually("all are gone", async || running.io.stats().await.sockets == 0).await;
        }
        workers.shutdown(Duration::ZERO);
    }
}

/// Lost again before it heard the answer: it is none the wiser, and asks once more.
#[tokio::test]
async fn a_client_that_is_lost_while_it_is_checked_can_try_again() {
    let (running, _) =
        recovering(crate::peer::with(Recovery { skip_middlewares: false, ..Recovery::default() }), |io| {
            io.middleware(async |socket: Socket| {
                if socket.handshake().query_param("slow").is_some() {
                    std::future::pending::<()>().await;
                }
                Ok::<(), posthaste::ConnectError>(())
            });
        });
    let peer = Peer::join(running.addr).await;
    let id = peer.id.clone();
    let memory = peer.lose(&running.io).await;
    running.io.emit("missed", &()).await.unwrap();
    let engine =
        posthaste_testkit::Engine::open_with(running.addr, "/socket.io/", Transport::WebSocket, "&slow=1", &[]).await;
    let mut waiting = Client::new(engine);
    waiting.send(&memory.wish()).await;
    eventually("it is claimed", async || running.io.stats().await.recoverable == 0).await;
    // Nobody else gets it meanwhile.
    let mut other = memory.back(running.addr).await;
    assert!(!other.recovered);
    other.peer.client.send("1").await;
    eventually("the other has left", async || running.io.stats().await.sockets == 0).await;
    waiting.reset();
    // The check never ends, so neither does the claim: a client that is gone does not hold it for ever.
    eventually("it can be claimed again", async || running.io.stats().await.recoverable == 1).await;
    let back = memory.back(running.addr).await;
    assert!(back.recovered);
    assert_eq!((back.peer.id, back.missed), (id, vec![json!(["missed"])]));
}

#[tokio::test]
async fn a_made_up_secret_is_a_new_session() {
    let (running, _) = recovering(plain(), |_| {});
    let peer = Peer::join(running.addr).await;
    for pid in ["AAAAAAAAAAAAAAAAAAAAAA", peer.id.as_str(), "", "\u{0}"] {
        let back = Memory { pid: pid.to_owned(), offset: peer.memory.offset.clone() }.back(running.addr).await;
        assert!(!back.recovered && back.peer.id != peer.id, "{pid}");
    }
    for auth in [r#"{"pid":7}"#, r#"{"pid":["x"]}"#, r#"{"pid":null,"offset":{}}"#] {
        let mut client = Client::open(running.addr, Transport::WebSocket).await;
        client.send(&format!("0{auth}")).await;
        assert!(matches!(client.message().await, Ok(Message::Text(text)) if text.starts_with(r#"0{"sid""#)));
    }
}
