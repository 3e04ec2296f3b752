//! Thousands of messages both ways at once, with delays of all kinds: none is lost, doubled or overtaken.

use std::collections::VecDeque;
use std::time::Duration;

use posthaste_testkit::{Engine, Packet, Random, Transport};

use crate::PATH;
use crate::echo::EchoServer;

const MESSAGES: usize = 400;
const PUSHED: usize = 120;

/// How a conversation goes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Course {
    Polling,
    WebSocket,
    /// Polling first, then a WebSocket, at a moment of the seed's choice.
    Upgrade,
}

/// One conversation: messages of both kinds and many sizes are sent and read back in a random order of doing things, while the
/// server says something of its own.
async fn converse(addr: std::net::SocketAddr, course: Course, seed: u64) {
    let mut random = Random::seeded(seed);
    let transport = if course == Course::WebSocket { Transport::WebSocket } else { Transport::Polling };
    let mut engine = Engine::open(addr, PATH, transport).await;
    let mut upgrade_at = (course == Course::Upgrade).then(|| random.below(MESSAGES));
    let push_at = random.below(MESSAGES / 2);
    let (mut sent, mut pushed, mut has_asked) = (0, 0, false);
    let mut expected = VecDeque::new();
    while sent < MESSAGES || !expected.is_empty() || pushed < PUSHED {
        if !has_asked && sent >= push_at {
            has_asked = true;
            engine.send(&format!("push {PUSHED}")).await.unwrap();
        }
        match random.below(8) {
            0..=3 if sent < MESSAGES => {
                let count = (1 + random.below(30)).min(MESSAGES - sent);
                let batch: Vec<Packet> = (sent..sent + count).map(|number| message(number, &mut random)).collect();
                engine.send_all(&batch).await.unwrap();
                expected.extend(batch);
                sent += count;
            }
            4 => engine.begin_poll().await.unwrap(),
            5 => tokio::time::sleep(Duration::from_micros(random.below(2000) as u64)).await,
            6 if upgrade_at.is_some_and(|at| sent >= at) => {
                engine.upgrade().await.unwrap();
                upgrade_at = None;
            }
            // Whatever is still to come: to wait for it is safe.
            _ if !expected.is_empty() || has_asked && pushed < PUSHED => {
                let received = engine.message().await.unwrap();
                if received == Packet::Text(format!("pushed {pushed}")) {
                    pushed += 1;
                } else {
                    let wanted = expected.pop_front().map(without_digit);
                    assert_eq!(Some(&received), wanted.as_ref(), "seed {seed}, {course:?}, {} sent", sent);
                }
            }
            _ => {}
        }
    }
    if upgrade_at.is_some() {
        engine.upgrade().await.unwrap();
    }
    engine.send("the end").await.unwrap();
    assert_eq!(engine.message().await.unwrap(), Packet::Text("the end".to_owned()));
}

fn message(number: usize, random: &mut Random) -> Packet {
    let length = match random.below(10) {
        0 => 5_000 + random.below(40_000),
        1 => 125 + random.below(3),
        _ => random.below(60),
    };
    let text = format!("{number} {}", "x".repeat(length));
    if random.once_in(3) { Packet::Binary(text.into_bytes()) } else { Packet::message(&text) }
}

fn without_digit(packet: Packet) -> Packet {
    match packet {
        Packet::Text(mut text) => Packet::Text(text.split_off(1)),
        binary @ Packet::Binary(_) => binary,
    }
}

async fn converse_often(course: Course, seeds: u64) {
    let server = EchoServer::over(2, |config| {
        config.max_payload = 4_000_000;
        // A ping that waits behind hundreds of messages which a busy machine's client has not come to is not the subject.
        config.settings.ping_interval = Duration::from_secs(600);
    });
    let mut conversations = tokio::task::JoinSet::new();
    for seed in 0..seeds {
        // A few at a time, so that they are in each other's way.
        if conversations.len() == 8 {
            conversations.join_next().await.unwrap().unwrap();
        }
        conversations.spawn(converse(server.addr, course, seed));
    }
    while let Some(conversation) = conversations.join_next().await {
        conversation.unwrap();
    }
}

#[tokio::test]
async fn polling_loses_and_reorders_nothing() {
    converse_often(Course::Polling, 16).await;
}

#[tokio::test]
async fn a_websocket_loses_and_reorders_nothing() {
    converse_often(Course::WebSocket, 16).await;
}

#[tokio::test]
async fn an_upgrade_under_traffic_loses_and_reorders_nothing() {
    converse_often(Course::Upgrade, 48).await;
}
