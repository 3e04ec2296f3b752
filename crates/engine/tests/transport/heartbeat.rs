//! Pings and pongs in real time. Bounds are one-sided: nothing may come early, and on a busy machine anything may come late.

use std::time::{Duration, Instant};

use posthaste_engine::{CloseReason, EngineConfig};
use posthaste_testkit::{Engine, Http, Packet, Request, Transport, eventually};

use crate::PATH;
use crate::echo::EchoServer;

const INTERVAL: Duration = Duration::from_millis(120);
const TIMEOUT: Duration = Duration::from_millis(150);
const PATIENT_TIMEOUT: Duration = Duration::from_secs(2);

fn short(config: &mut EngineConfig) {
    config.settings.ping_interval = INTERVAL;
    config.settings.ping_timeout = TIMEOUT;
}

/// As [`short`], for clients that answer: a busy machine may hold them up for a while.
fn patient(config: &mut EngineConfig) {
    short(config);
    config.settings.ping_timeout = PATIENT_TIMEOUT;
}

fn text(packet: &str) -> Packet {
    Packet::Text(packet.to_owned())
}

#[tokio::test]
async fn a_ping_comes_an_interval_after_the_handshake_and_after_each_pong() {
    // A timeout that never comes: the next ping must not wait for it.
    let server = EchoServer::start(|config| {
        short(config);
        config.settings.ping_timeout = Duration::from_secs(3600);
    });
    for transport in Transport::ALL {
        // Before the session's own clock starts: what is measured here is never too short.
        let mut since = Instant::now();
        let mut engine = Engine::open(server.addr, PATH, transport).await;
        assert!(engine.handshake().contains(r#""pingInterval":120,"pingTimeout":3600000"#));
        for _ in 0..4 {
            assert_eq!(engine.packet().await.unwrap(), text("2"));
            assert!(since.elapsed() >= INTERVAL, "{transport:?}: a ping after {:?}", since.elapsed());
            since = Instant::now();
            engine.send_all(&[text("3")]).await.unwrap();
        }
        engine.leave().await.unwrap();
    }
}

#[tokio::test]
async fn who_does_not_answer_a_ping_is_given_up() {
    let server = EchoServer::start(short);
    for (number, transport) in Transport::ALL.into_iter().enumerate() {
        let since = Instant::now();
        let mut engine = Engine::open(server.addr, PATH, transport).await;
        assert_eq!(engine.packet().await.unwrap(), text("2"));
        engine.closed().await.unwrap();
        assert!(since.elapsed() >= INTERVAL + TIMEOUT, "{transport:?} after {:?}", since.elapsed());
        assert_eq!(server.ends.wait_for(number + 1).await[number], CloseReason::PingTimeout);
    }
    // Nor does a poll have to be there.
    let _silent = Engine::open(server.addr, PATH, Transport::Polling).await;
    assert_eq!(server.ends.wait_for(3).await[2], CloseReason::PingTimeout);
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn a_request_right_after_the_time_is_over_finds_no_session() {
    let server = EchoServer::start(short);
    // A machine that is busy with other things delays pings, and with them the end: one quiet moment is enough.
    for _ in 0..8 {
        let mut refused = 0;
        let mut polls = Vec::new();
        for _ in 0..12 {
            let engine = Engine::open(server.addr, PATH, Transport::Polling).await;
            let (addr, over) = (server.addr, Instant::now() + INTERVAL + TIMEOUT);
            polls.push(tokio::spawn(async move {
                let mut http = Http::connect(addr).await;
                tokio::time::sleep_until(over.into()).await;
                let target = format!("{PATH}?EIO=4&transport=polling&sid={}", engine.sid());
                http.send(&Request::get(&target)).await.unwrap().status
            }));
            // Not all between the same two ticks of the wheel.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        for poll in polls {
            refused += u32::from(poll.await.unwrap() == 400);
        }
        if refused == 12 {
            return;
        }
    }
    panic!("sessions outlive their time");
}

#[tokio::test]
async fn traffic_is_no_pong() {
    let server = EchoServer::start(short);
    for (number, transport) in Transport::ALL.into_iter().enumerate() {
        let mut engine = Engine::open(server.addr, PATH, transport).await;
        let talk = async {
            // Messages all the time, and never a pong.
            while engine.send("busy").await.is_ok() && engine.packet().await.is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        posthaste_testkit::within("the session is given up", talk).await;
        assert_eq!(server.ends.wait_for(number + 1).await[number], CloseReason::PingTimeout);
    }
}

#[tokio::test]
async fn a_session_that_answers_lives_through_many_pings_and_an_upgrade() {
    let server = EchoServer::start(patient);
    let mut engine = Engine::open(server.addr, PATH, Transport::Polling).await;
    let begin = Instant::now();
    let mut number = 0;
    let mut is_upgraded = false;
    // Long enough for a time-out on either transport, if pongs did not count.
    while begin.elapsed() < 2 * (PATIENT_TIMEOUT + 4 * INTERVAL) {
        if !is_upgraded && begin.elapsed() > PATIENT_TIMEOUT + 4 * INTERVAL {
            engine.upgrade().await.unwrap();
            is_upgraded = true;
        }
        engine.send(&format!("{number}")).await.unwrap();
        assert_eq!(engine.message().await.unwrap(), text(&format!("{number}")));
        number += 1;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(server.ends.all().is_empty());
    assert_eq!(server.connections(), 1);
}

/// All in one turn of the worker, which must not take one step per client down its stack.
#[tokio::test]
async fn thousands_of_silent_clients_are_given_up_together() {
    const CLIENTS: usize = 5_000;
    let server = EchoServer::start(|config| {
        config.settings.ping_interval = Duration::from_millis(1);
        config.settings.ping_timeout = Duration::from_secs(3);
    });
    let mut http = Http::connect(server.addr).await;
    for _ in 0..CLIENTS {
        let opened = http.send(&Request::get("/engine.io/?EIO=4&transport=polling")).await.unwrap();
        assert_eq!(opened.status, 200);
    }
    eventually("all were given up", async || server.connections() == 0).await;
    assert_eq!(server.ends.wait_for(CLIENTS).await, vec![CloseReason::PingTimeout; CLIENTS]);
}

#[tokio::test]
async fn thousands_of_clients_are_told_the_end_of_the_server_together() {
    const CLIENTS: usize = 5_000;
    let server = EchoServer::start(|config| config.settings.ping_interval = Duration::from_secs(3600));
    let mut http = Http::connect(server.addr).await;
    for _ in 0..CLIENTS {
        let opened = http.send(&Request::get("/engine.io/?EIO=4&transport=polling")).await.unwrap();
        assert_eq!(opened.status, 200);
    }
    assert!(server.stop().await);
    assert_eq!(server.ends.all(), vec![CloseReason::ServerShutdown; CLIENTS]);
}
