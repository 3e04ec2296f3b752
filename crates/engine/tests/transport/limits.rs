//! How many connections are taken, how fast, and how much those may say that nobody vouches for.

use posthaste_engine::{CloseReason, EngineConfig, Limit, LimitMode, Rate};
use posthaste_testkit::{
    Engine, Http, Packet, Request, Response, Transport, WebSocket, Wire, eventually, upgrade_request,
};

use crate::PATH;
use crate::echo::EchoServer;

/// The answer to a handshake.
async fn knock(server: &EchoServer, transport: Transport) -> Response {
    let target = format!("{PATH}?EIO=4&transport={}", transport.name());
    match transport {
        Transport::Polling => Http::once(server.addr, &Request::get(&target)).await.unwrap(),
        Transport::WebSocket => {
            let wire = Wire::connect(server.addr).await;
            WebSocket::handshake(wire, &upgrade_request(&target)).await.unwrap().expect_err("it was let in")
        }
    }
}

/// That a handshake is refused for want of room, on both transports, and counted.
async fn is_full(server: &EchoServer, limit: Limit) {
    for transport in Transport::ALL {
        let before = server.engine.refused().by(limit);
        let answer = knock(server, transport).await;
        assert_eq!(answer.status, 503, "{transport:?}: {answer:?}");
        let again: u64 = answer.header("retry-after").expect("when to come again").parse().unwrap();
        assert!((1..=10).contains(&again), "{again}");
        assert_eq!(server.engine.refused().by(limit), before + 1, "{transport:?}");
    }
}

async fn open_two(server: &EchoServer) -> Vec<Engine> {
    let mut open = Vec::new();
    for transport in Transport::ALL {
        open.push(Engine::open(server.addr, PATH, transport).await);
    }
    open
}

async fn a_place_is_free_again_when_a_connection_has_ended(limit: Limit, configure: impl FnOnce(&mut EngineConfig)) {
    let server = EchoServer::start(configure);
    let mut open = open_two(&server).await;
    is_full(&server, limit).await;
    // Those who are in are not disturbed; an upgrade is no new connection.
    open[0].send("here").await.unwrap();
    assert_eq!(open[0].message().await.unwrap(), Packet::Text("here".to_owned()));
    let mut probe = WebSocket::connect(server.addr, &open[0].probe_target()).await;
    probe.send_text("2probe").await.unwrap();
    assert_eq!(probe.text().await, "3probe");
    drop(probe);
    for one in open {
        one.leave().await.unwrap();
    }
    eventually("they have left", async || server.connections() == 0).await;
    for one in open_two(&server).await {
        one.leave().await.unwrap();
    }
}

#[tokio::test]
async fn no_more_connections_are_taken_than_the_server_may_have() {
    a_place_is_free_again_when_a_connection_has_ended(Limit::Connections, |config| {
        config.admission.connections = Some(2);
    })
    .await;
}

#[tokio::test]
async fn no_more_connections_are_taken_than_an_address_may_have() {
    a_place_is_free_again_when_a_connection_has_ended(Limit::ConnectionsPerIp, |config| {
        config.admission.per_ip = Some(2);
    })
    .await;
}

#[tokio::test]
async fn no_more_connections_are_taken_in_a_second_than_may_come() {
    // Slow enough that the next token is not there before the test is over.
    let slow = EchoServer::start(|config| config.admission.rate = Some(Rate::per_second(1).burst(2)));
    let begin = std::time::Instant::now();
    drop(open_two(&slow).await);
    let refused = knock(&slow, Transport::Polling).await;
    if begin.elapsed().as_millis() < 900 {
        assert_eq!(refused.status, 503);
        assert_eq!(slow.engine.refused().by(Limit::ConnectionRate), 1);
    }
    // A token comes back with time alone.
    eventually("it may come", async || knock(&slow, Transport::Polling).await.status == 200).await;
}

#[tokio::test]
async fn whoever_gives_up_on_the_way_in_takes_no_place_for_good() {
    let server = EchoServer::start(|config| config.admission.connections = Some(1));
    for _ in 0..20 {
        let mut wire = Wire::connect(server.addr).await;
        wire.write(&upgrade_request(&format!("{PATH}?EIO=4&transport=websocket")).encode()).await.unwrap();
        wire.reset();
    }
    eventually("a place is free", async || knock(&server, Transport::Polling).await.status == 200).await;
}

#[tokio::test]
async fn limits_that_are_only_observed_refuse_nobody_and_count() {
    let server = EchoServer::start(|config| {
        config.admission.connections = Some(2);
        config.limit_mode = LimitMode::Observe;
    });
    let first = open_two(&server).await;
    let second = open_two(&server).await;
    assert_eq!(server.engine.refused().by(Limit::Connections), 2);
    assert_eq!(server.engine.refused().total(), 2);
    assert_eq!(server.connections(), first.len() + second.len());
}

#[tokio::test]
async fn nobody_new_is_taken_while_memory_is_short() {
    let server = EchoServer::start(|config| {
        config.memory = Some(posthaste_engine::MemoryWatermark { limit: Some(1), ..Default::default() });
    });
    eventually("it has looked", async || knock(&server, Transport::Polling).await.status == 503).await;
    is_full(&server, Limit::Memory).await;
}

#[tokio::test]
async fn large_messages_are_taken_only_from_those_somebody_vouches_for() {
    let small = "s".repeat(900);
    let large = "l".repeat(50_000);
    for transport in Transport::ALL {
        let server = EchoServer::start(|config| config.max_payload_unjoined = Some(1_000));
        let mut engine = Engine::open(server.addr, PATH, transport).await;
        for text in [&*small, "vouch", &*large] {
            engine.send(text).await.unwrap();
            assert_eq!(engine.message().await.unwrap(), Packet::Text(text.to_owned()), "{transport:?}");
        }
        assert_eq!(server.engine.refused().total(), 0);

        let mut stranger = Engine::open(server.addr, PATH, transport).await;
        match transport {
            Transport::Polling => {
                assert_eq!(stranger.post(&[Packet::message(&large)]).await.unwrap().status, 413);
            }
            Transport::WebSocket => {
                stranger.send(&large).await.unwrap();
                let end = stranger.websocket().closed().await.unwrap().expect("a close frame");
                assert_eq!(end.close_code(), Some(1009));
                assert_eq!(server.ends.wait_for(1).await, [CloseReason::TransportError]);
            }
        }
        assert_eq!(server.engine.refused().by(Limit::Payload), 1, "{transport:?}");
    }
}

#[tokio::test]
async fn what_is_too_much_for_one_body_or_message_is_counted() {
    let server = EchoServer::start(|config| {
        config.max_payload_packets = 3;
        config.max_fragments = 3;
    });
    let mut engine = Engine::open(server.addr, PATH, Transport::Polling).await;
    let four: Vec<Packet> = (0..4).map(|number| Packet::message(&number.to_string())).collect();
    engine.post(&four).await.unwrap();
    assert_eq!(server.ends.wait_for(1).await, [CloseReason::ParseError]);
    assert_eq!(server.engine.refused().by(Limit::PayloadPackets), 1);

    let mut engine = Engine::open(server.addr, PATH, Transport::WebSocket).await;
    let socket = engine.websocket();
    socket.send(&posthaste_testkit::Frame::text("4").unfinished()).await.unwrap();
    for _ in 0..3 {
        socket.send(&posthaste_testkit::Frame::new(0, "x").unfinished()).await.unwrap();
    }
    let end = socket.closed().await.unwrap().expect("a close frame");
    assert_eq!(end.close_code(), Some(1009));
    assert_eq!(server.engine.refused().by(Limit::Fragments), 1);
}
