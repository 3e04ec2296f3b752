//! What is kept is bounded, and what is not kept is not pretended.

use std::time::Duration;

use posthaste::{OutboxLimits, Recovery};
use posthaste_testkit::eventually;
use serde_json::json;

use crate::peer::{Memory, Peer, plain, recovering, with};

#[tokio::test]
async fn a_client_that_missed_what_was_forgotten_begins_anew_and_is_replayed_nothing() {
    for recovery in
        [Recovery { max_events: 10, ..Recovery::default() }, Recovery { max_bytes: 10_000, ..Recovery::default() }]
    {
        let (running, sockets) = recovering(with(recovery), |_| {});
        let peer = Peer::join(running.addr).await;
        let id = peer.id.clone();
        let memory = peer.lose(&running.io).await;
        for number in 0..100 {
            running.io.emit("missed", &(number, "x".repeat(200))).await.unwrap();
        }
        let back = memory.back(running.addr).await;
        assert!(!back.recovered && back.missed.is_empty() && back.peer.id != id);
        assert!(!sockets.all()[1].recovered());
        assert_eq!(running.io.stats().await.recoverable, 0);
    }
}

/// In Socket.IO a quiet client's offset is forgotten with the events of others.
#[tokio::test]
async fn a_quiet_client_is_recovered_whatever_others_were_sent() {
    let (running, _) = recovering(with(Recovery { max_events: 10, ..Recovery::default() }), |_| {});
    let mut peer = Peer::join(running.addr).await;
    peer.client.emit(r#"["join","quiet"]"#).await;
    peer.sync().await;
    running.io.to("quiet").emit("heard", &()).await.unwrap();
    peer.expect(json!(["heard"])).await;
    for number in 0..100 {
        running.io.to("busy").emit("not for it", &number).await.unwrap();
    }
    let memory = peer.lose(&running.io).await;
    running.io.to("quiet").emit("missed", &()).await.unwrap();
    let back = memory.back(running.addr).await;
    assert!(back.recovered);
    assert_eq!(back.missed, [json!(["missed"])]);
}

#[tokio::test]
async fn a_client_that_stays_away_too_long_begins_anew() {
    let recovery = Recovery { max_disconnection: Duration::from_millis(150), ..Recovery::default() };
    let (running, _) = recovering(with(recovery), |_| {});
    let peer = Peer::join(running.addr).await;
    let memory = peer.lose(&running.io).await;
    eventually("nobody waits", async || running.io.stats().await.recoverable == 0).await;
    assert!(!memory.back(running.addr).await.recovered);
}

#[tokio::test]
async fn so_many_sessions_wait_and_no_more() {
    let (running, _) = recovering(with(Recovery { max_sessions: 3, ..Recovery::default() }), |io| {
        io.namespace("/other");
    });
    let mut memories = Vec::new();
    for count in 1..=6 {
        let peer = Peer::join(running.addr).await;
        memories.push(peer.lose(&running.io).await);
        assert_eq!(running.io.stats().await.recoverable, count.min(3));
    }
    // All at once: those that are new would be kept in the place of others when they go.
    let mut backs = Vec::new();
    for memory in &memories {
        backs.push(memory.back(running.addr).await);
    }
    let recovered: Vec<bool> = backs.iter().map(|back| back.recovered).collect();
    assert_eq!(recovered, [false, false, false, true, true, true]);
}

#[tokio::test]
async fn more_than_half_an_outbox_is_not_replayed() {
    let builder = plain().outbox(OutboxLimits { bytes: 20_000, packets: 100 });
    let (running, _) = recovering(builder, |_| {});
    for (events, size, expected) in [(40, 10, true), (60, 10, false), (8, 1_000, true), (11, 1_000, false)] {
        let memory = Peer::join(running.addr).await.lose(&running.io).await;
        for number in 0..events {
            running.io.emit("missed", &(number, "x".repeat(size))).await.unwrap();
        }
        let back = memory.back(running.addr).await;
        assert_eq!(back.recovered, expected, "{events} of {size}");
        assert_eq!(back.missed.len(), if expected { events } else { 0 });
        back.peer.client.leave().await;
    }
}

/// Coming, being lost and coming back again leaves nothing.
#[tokio::test]
async fn nothing_is_left_of_those_who_have_gone_for_good() {
    let (running, _) = recovering(plain(), |_| {});
    for _ in 0..20 {
        let peer = Peer::join(running.addr).await;
        let memory = peer.lose(&running.io).await;
        let mut back = memory.back(running.addr).await;
        assert!(back.recovered);
        back.peer.client.send("1").await;
        eventually("it has left", async || running.io.stats().await.sockets == 0).await;
        drop(back);
    }
    eventually("all is quiet", async || running.io.stats().await.connections == 0).await;
    let stats = running.io.stats().await;
    assert_eq!((stats.recoverable, stats.rooms, stats.handlers, stats.pending_acks), (0, 0, 0, 0));
    let Memory { pid, .. } = Peer::join(running.addr).await.memory;
    assert_eq!(pid.len(), 22);
}

/// What is kept is shared by all namespaces: what has to go is the oldest of all, not what happens to be said next.
#[tokio::test]
async fn a_quiet_namespace_is_not_forgotten_for_what_is_said_in_a_busy_one() {
    let (running, _) = recovering(with(Recovery { max_bytes: 100_000, ..Recovery::default() }), |_| {});
    let busy = running.io.namespace("/busy");
    let text = "x".repeat(1_000);
    let fill = async |count: usize| {
        for _ in 0..count {
            busy.emit("noise", &text).await.unwrap();
        }
    };
    fill(200).await;
    let mut memory = Peer::join(running.addr).await.lose(&running.io).await;
    for round in 0..10 {
        for number in 0..3 {
            running.io.emit("missed", &(round, number, &text)).await.unwrap();
        }
        fill(50).await;
        let back = memory.back(running.addr).await;
        assert!(back.recovered, "{round}");
        assert_eq!(back.missed, [0, 1, 2].map(|number| json!(["missed", round, number, text])));
        memory = back.peer.lose(&running.io).await;
    }
    // Nothing is kept for ever.
    for _ in 0..10 {
        running.io.emit("missed", &text).await.unwrap();
    }
    fill(200).await;
    assert!(!memory.back(running.addr).await.recovered);
}

/// As many have left one namespace as may be absent from all: who leaves another one next may come back all the same.
#[tokio::test]
async fn those_who_wait_for_one_namespace_keep_nobody_from_waiting_for_another() {
    let (running, _) = recovering(with(Recovery { max_sessions: 8, ..Recovery::default() }), |io| {
        io.namespace("/busy");
    });
    for _ in 0..12 {
        let mut client = posthaste_testkit::Client::open(running.addr, posthaste_testkit::Transport::WebSocket).await;
        client.connect("/busy").await;
        client.reset();
        eventually("it is gone", async || running.io.stats().await.connections == 0).await;
    }
    assert_eq!(running.io.stats().await.recoverable, 8);
    let memory = Peer::join(running.addr).await.lose(&running.io).await;
    assert_eq!(running.io.stats().await.recoverable, 8);
    let back = memory.back(running.addr).await;
    assert!(back.recovered);
    assert_eq!(running.io.stats().await.recoverable, 7);
}
