//! What a socket is asked stays open until it has answered, over other connections and in other processes.

use std::time::Duration;

use posthaste::{AckError, DurableAck, Socket};
use posthaste_testkit::{Record, Running, Transport, eventually};
use serde_json::{Value, json};

use crate::device::{Came, read};
use crate::peer::{Memory, Peer};
use crate::scene::Remains;

/// The next question to a client: its id, its name and arguments.
pub(crate) async fn question(peer: &mut Peer) -> (u64, Value) {
    let Came { id, event } = read(&peer.client.text().await);
    (id.expect("it asks for an answer"), event)
}

pub(crate) async fn answer(peer: &mut Peer, id: u64, what: &str) {
    peer.client.send(&format!("3{id}[{what}]")).await;
}

/// Whoever connected last.
pub(crate) fn last(sockets: &Record<Socket>) -> Socket {
    sockets.all().pop().unwrap()
}

fn ask(socket: &Socket, number: i64) -> DurableAck<String> {
    socket.durable().timeout(Duration::from_secs(60)).emit_with_ack("question", &number)
}

/// Stores questions that nobody waits for.
pub(crate) async fn ask_and_forget(socket: &Socket, numbers: impl IntoIterator<Item = i64>) {
    for number in numbers {
        ask(socket, number).stored().await.unwrap();
    }
}

/// A client, and its socket.
async fn scene(remains: &Remains, transport: Transport) -> (Running, Peer, Socket) {
    let (running, sockets) = remains.serve();
    let peer = Peer::join_over(running.addr, transport).await;
    let socket = last(&sockets);
    (running, peer, socket)
}

#[tokio::test]
async fn it_is_stored_then_asked_and_its_answer_ends_it() {
    for transport in Transport::ALL {
        let remains = Remains::new();
        let (_running, mut peer, socket) = scene(&remains, transport).await;
        let mut asked = ask(&socket, 1);
        let stored = asked.stored().await.unwrap();
        assert!(stored.pos > 0 && !stored.dup);
        assert!(asked.stored().await.is_err(), "the receipt was given");
        let (id, event) = question(&mut peer).await;
        assert_eq!(event, json!(["question", 1]), "without an offset: the last argument is the answer's");
        assert!(i32::try_from(id).is_ok());
        assert_eq!(remains.open(&peer.id), 1);
        answer(&mut peer, id, r#""yes""#).await;
        assert_eq!(asked.await.unwrap(), "yes");
        eventually("the store knows", async || remains.open(&peer.id) == 0).await;
    }
}

#[tokio::test]
async fn what_was_not_answered_when_the_connection_was_lost_is_asked_again_and_any_answer_counts() {
    for transport in Transport::ALL {
        let remains = Remains::new();
        let (running, mut peer, socket) = scene(&remains, transport).await;
        let (one, two) = (ask(&socket, 1), ask(&socket, 2));
        let (first, _) = question(&mut peer).await;
        question(&mut peer).await;
        answer(&mut peer, first, r#""one""#).await;
        assert_eq!(one.await.unwrap(), "one");
        // A connection that polls is found to be gone when its client comes again.
        let memory = match transport {
            Transport::WebSocket => peer.lose(&running.io).await,
            Transport::Polling => peer.memory,
        };
        // Also what is asked while it is away, and what waits for its coming back is one of these.
        let three = ask(&socket, 3);
        ask_and_forget(&socket, [4]).await;
        let mut back = memory.back_over(running.addr, transport).await;
        assert!(back.recovered && back.missed.is_empty());
        for (number, waiting) in [(2, Some(two)), (3, Some(three)), (4, None)] {
            let (id, event) = question(&mut back.peer).await;
            assert_eq!(event, json!(["question", number]));
            answer(&mut back.peer, id, r#""late""#).await;
            if let Some(waiting) = waiting {
                assert_eq!(waiting.await.unwrap(), "late");
            }
        }
        back.peer.sync().await;
        assert_eq!(remains.open(&back.peer.id), 0);
        let mut again = back.peer.memory.back_over(running.addr, transport).await;
        again.peer.sync().await;
    }
}

#[tokio::test]
async fn an_answer_that_was_on_its_way_when_the_connection_was_lost_counts_over_the_next_one() {
    let remains = Remains::new();
    let (running, mut peer, socket) = scene(&remains, Transport::WebSocket).await;
    let asked = ask(&socket, 1);
    let (id, _) = question(&mut peer).await;
    let memory = peer.lose(&running.io).await;
    let mut back = memory.back(running.addr).await;
    // Its handler ran over the old connection, and is done now.
    answer(&mut back.peer, id, r#""done""#).await;
    assert_eq!(asked.await.unwrap(), "done");
    let (again, _) = question(&mut back.peer).await;
    answer(&mut back.peer, again, r#""twice""#).await;
    back.peer.sync().await;
    assert_eq!(remains.open(&back.peer.id), 0);
}

#[tokio::test]
async fn a_question_outlives_the_process_that_asked() {
    for transport in Transport::ALL {
        let remains = Remains::new();
        let (_running, mut peer, socket) = scene(&remains, transport).await;
        ask_and_forget(&socket, 0..4).await;
        let mut ids = Vec::new();
        for number in 0..4 {
            let (id, event) = question(&mut peer).await;
            assert_eq!(event[1], json!(number));
            ids.push(id);
        }
        // The first and the third are answered: the second stands between them.
        answer(&mut peer, ids[0], "0").await;
        answer(&mut peer, ids[2], "0").await;
        peer.sync().await;

        let (next, _sockets) = remains.serve();
        let mut back = peer.memory.back_over(next.addr, transport).await;
        assert!(back.recovered);
        // One is answered before it was asked again.
        answer(&mut back.peer, ids[3], "0").await;
        let (id, event) = question(&mut back.peer).await;
        assert_eq!((id, event), (ids[1], json!(["question", 1])));
        let mut heard = Vec::new();
        back.peer.client.send(r#"2999["sync"]"#).await;
        loop {
            let text = back.peer.client.text().await;
            if text == "3999[]" {
                break;
            }
            heard.push(read(&text).event[1].clone());
        }
        assert!(heard.is_empty() || heard == [json!(3)], "{heard:?}");
        answer(&mut back.peer, id, "0").await;
        back.peer.sync().await;
        assert_eq!(remains.open(&back.peer.id), 0);

        let (last, sockets) = remains.serve();
        let mut back = back.peer.memory.back_over(last.addr, transport).await;
        back.peer.sync().await;
        // And it is asked like anybody.
        let asked = ask(&self::last(&sockets), 9);
        let (id, _) = question(&mut back.peer).await;
        answer(&mut back.peer, id, r#""nine""#).await;
        assert_eq!(asked.await.unwrap(), "nine");
    }
}

#[tokio::test]
async fn answers_that_came_out_of_order_are_known_to_the_next_process_until_all_before_have_come() {
    let remains = Remains::new();
    let (_running, mut peer, socket) = scene(&remains, Transport::WebSocket).await;
    ask_and_forget(&socket, 0..6).await;
    let mut ids = Vec::new();
    for _ in 0..6 {
        ids.push(question(&mut peer).await.0);
    }
    for place in [5, 3, 1] {
        answer(&mut peer, ids[place], "0").await;
    }
    peer.sync().await;
    let mut memory = peer.memory.clone();
    for place in [0, 4, 2] {
        let (next, _) = remains.serve();
        let mut back = memory.back(next.addr).await;
        let expected: Vec<usize> = match place {
            0 => vec![0, 2, 4],
            4 => vec![2, 4],
            _ => vec![2],
        };
        for number in expected {
            assert_eq!(question(&mut back.peer).await, (ids[number], json!(["question", number])));
        }
        answer(&mut back.peer, ids[place], "0").await;
        back.peer.sync().await;
        memory = back.peer.memory.clone();
    }
    assert_eq!(remains.open(&peer.id), 0);
}

#[tokio::test]
async fn it_comes_in_order_with_other_durable_events() {
    let remains = Remains::new();
    let (_running, mut peer, socket) = scene(&remains, Transport::WebSocket).await;
    for number in 0..50 {
        drop(socket.durable().emit("event", &number));
        drop(ask(&socket, number));
    }
    for number in 0..50 {
        peer.expect(json!(["event", number])).await;
        let (id, event) = question(&mut peer).await;
        assert_eq!(event, json!(["question", number]));
        answer(&mut peer, id, "0").await;
    }
}

#[tokio::test]
async fn a_connection_that_hangs_is_closed_for_the_one_that_comes_and_what_it_owes_moves() {
    let remains = Remains::new();
    let (running, mut peer, socket) = scene(&remains, Transport::WebSocket).await;
    let asked = ask(&socket, 1);
    question(&mut peer).await;
    let mut back = peer.memory.back(running.addr).await;
    assert!(back.recovered);
    let (id, _) = question(&mut back.peer).await;
    answer(&mut back.peer, id, r#""here""#).await;
    assert_eq!(asked.await.unwrap(), "here");
}

#[tokio::test]
async fn nobody_waits_longer_than_they_said_and_the_question_stays() {
    let remains = Remains::new();
    let (running, mut peer, socket) = scene(&remains, Transport::WebSocket).await;
    let asked = socket.timeout(Duration::from_millis(20)).durable().emit_with_ack::<()>("question", &1);
    assert!(matches!(asked.await, Err(AckError::Timeout)));
    question(&mut peer).await;
    let memory: Memory = peer.lose(&running.io).await;
    let mut back = memory.back(running.addr).await;
    let (id, _) = question(&mut back.peer).await;
    answer(&mut back.peer, id, "0").await;
    back.peer.sync().await;
    assert_eq!(remains.open(&back.peer.id), 0);
}

#[tokio::test]
async fn many_are_asked_again_page_by_page_with_what_comes_meanwhile_once_each_and_in_order() {
    let remains = Remains::new();
    let (running, peer, socket) = scene(&remains, Transport::WebSocket).await;
    let memory = peer.lose(&running.io).await;
    ask_and_forget(&socket, 0..200).await;
    let mut back = memory.back(running.addr).await;
    for number in 200..250 {
        drop(ask(&socket, number));
    }
    for number in 0..250 {
        let (id, event) = question(&mut back.peer).await;
        assert_eq!(event, json!(["question", number]));
        answer(&mut back.peer, id, "0").await;
    }
    back.peer.sync().await;
    assert_eq!(remains.open(&back.peer.id), 0);
}
