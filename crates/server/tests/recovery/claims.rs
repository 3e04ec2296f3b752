//! One client, one socket: whoever shows the secret of a session has it alone.

use std::time::Duration;

use posthaste::{Auth, DisconnectReason, Recovery, Server, Socket, Workers};
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
async fn of_two_who_show_the_same_secret_the_later_is_that_socket() {
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
            let (one, other) = tokio::join!(memory.try_back(running.addr), memory.try_back(running.addr));
            // The earlier is closed, perhaps before it is told that it was recovered.
            let both: Vec<_> = [one, other].into_iter().flatten().collect();
            assert!(!both.is_empty(), "{round}: nobody was recovered");
            assert!(both.iter().all(|back| back.recovered && back.peer.id == id), "{round}");
            assert_eq!(running.io.stats().await.sockets, 1, "{round}");
            drop((both, kept));
            eventually("all are gone", async || running.io.stats().await.sockets == 0).await;
        }
        workers.shutdown(Duration::ZERO);
    }
}

/// A server that checks clients again when they come back, and never comes to an end with those that say so.
fn checking() -> (posthaste_testkit::Running, Record<Socket>) {
    recovering(crate::peer::with(Recovery { skip_middlewares: false, ..Recovery::default() }), |io| {
        io.middleware(async |Auth(auth): Auth<serde_json::Value>| {
            if auth["slow"] == true {
                std::future::pending::<()>().await;
            }
            Ok::<(), posthaste::ConnectError>(())
        });
    })
}

/// Lost again before it heard the answer: it is none the wiser, and asks once more.
#[tokio::test]
async fn a_client_that_is_lost_while_it_is_checked_can_try_again() {
    let (running, _) = checking();
    let peer = Peer::join_with(running.addr, json!({})).await;
    let id = peer.id.clone();
    let memory = peer.lose(&running.io).await;
    running.io.emit("missed", &()).await.unwrap();
    let waiting = memory.ask_with(running.addr, json!({ "slow": true })).await;
    eventually("it is claimed", async || running.io.stats().await.recoverable == 0).await;
    waiting.reset();
    // The check never ends, so neither does the claim: a client that is gone does not hold it for ever.
    eventually("it can be claimed again", async || running.io.stats().await.recoverable == 1).await;
    let back = memory.back(running.addr).await;
    assert!(back.recovered);
    assert_eq!((back.peer.id, back.missed), (id, vec![json!(["missed"])]));
}

/// As above, when the server has not noticed that it was lost.
#[tokio::test]
async fn whoever_tries_again_while_the_last_try_goes_on_is_recovered_and_that_one_closed() {
    let (running, sockets) = checking();
    let peer = Peer::join_with(running.addr, json!({})).await;
    let id = peer.id.clone();
    let memory = peer.lose(&running.io).await;
    running.io.emit("missed", &()).await.unwrap();
    let mut waiting = memory.ask_with(running.addr, json!({ "slow": true })).await;
    eventually("it is claimed", async || running.io.stats().await.recoverable == 0).await;
    let back = memory.back(running.addr).await;
    assert!(back.recovered);
    assert_eq!((back.peer.id.as_str(), back.missed), (id.as_str(), vec![json!(["missed"])]));
    waiting.closed().await;
    let mut peer = back.peer;
    running.io.emit("live", &()).await.unwrap();
    peer.expect(json!(["live"])).await;
    let live =
        sockets.all().iter().filter(|socket| socket.is_connected()).map(|it| it.id().to_string()).collect::<Vec<_>>();
    assert_eq!(live, [id]);
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
