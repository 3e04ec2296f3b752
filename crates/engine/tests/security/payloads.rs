//! SEC-04, SEC-43: polling bodies that are too long, too many, or nothing at all.

use std::time::Duration;

use posthaste_engine::CloseReason;
use posthaste_testkit::{Engine, Http, Packet, Request, Transport, eventually};

use crate::echo::EchoServer;
use crate::{PATH, serves};

#[tokio::test]
async fn sec_04_an_endless_post_is_refused_once_it_passes_the_bound() {
    let server = EchoServer::start(|config| config.max_payload = 100_000);
    let mut engine = Engine::open(server.addr, PATH, Transport::Polling).await;
    let mut http = Http::connect(server.addr).await;
    http.begin_chunked(Request::new("POST", &engine.polling_target())).await.unwrap();
    let chunk = [b'4'; 10_000];
    let mut sent = 0;
    // What lies in buffers on the way is sent as well; an endless body would go on for ever.
    while sent < 200_000_000 && http.chunk(&chunk).await.is_ok() {
        sent += chunk.len();
        if sent > 100_000 && http.wire().write_for(b"", Duration::ZERO).await.is_err() {
            break;
        }
        if sent > 30_000_000 {
            break;
        }
    }
    assert!(sent < 30_000_000, "{sent} bytes were taken of a body that may have 100,000");
    if let Ok(answer) = http.response().await {
        assert_eq!(answer.status, 413);
    }
    // The session is none the worse for it.
    engine.send("after").await.unwrap();
    assert_eq!(engine.message().await.unwrap(), Packet::Text("after".to_owned()));
    serves(&server).await;
}

#[tokio::test]
async fn sec_04_a_body_that_announces_too_much_is_refused_before_it_comes() {
    let server = EchoServer::start(|config| config.max_payload = 100_000);
    let engine = Engine::open(server.addr, PATH, Transport::Polling).await;
    for length in ["100001", "4294967296", "9223372036854775807"] {
        let mut http = Http::connect(server.addr).await;
        let request = Request::new("POST", &engine.polling_target()).header("Content-Length", length);
        assert_eq!(http.send(&request).await.unwrap().status, 413, "{length}");
    }
    serves(&server).await;
}

#[tokio::test]
async fn who_sends_too_much_in_one_go_gets_to_read_the_refusal() {
    let server = EchoServer::start(|_| {});
    let engine = Engine::open(server.addr, PATH, Transport::Polling).await;
    for _ in 0..20 {
        // More than what lies between two ends of a connection has room for: it is written while the answer is there.
        let request = Request::post(&engine.polling_target(), "x".repeat(1_900_000));
        assert_eq!(Http::once(server.addr, &request).await.unwrap().status, 413);
    }
    serves(&server).await;
}

#[tokio::test]
async fn a_body_that_comes_drop_by_drop_holds_its_session_no_longer_than_a_heartbeat() {
    let server = EchoServer::start(|config| {
        config.settings.ping_interval = Duration::from_millis(150);
        config.settings.ping_timeout = Duration::from_millis(150);
    });
    let engine = Engine::open(server.addr, PATH, Transport::Polling).await;
    let mut http = Http::connect(server.addr).await;
    http.begin_chunked(Request::new("POST", &engine.polling_target())).await.unwrap();
    let drips = async {
        while http.chunk(b"4").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    posthaste_testkit::within("the body is given up", drips).await;
    assert_eq!(server.ends.wait_for(1).await, [CloseReason::PingTimeout]);
    eventually("nothing is left", async || server.connections() == 0).await;
}

#[tokio::test]
async fn sec_43_a_million_separators_are_answered_at_once() {
    let server = EchoServer::start(|_| {});
    for (number, body) in ["\x1e".repeat(1_000_000), "\x1e".to_owned(), String::new()].into_iter().enumerate() {
        let engine = Engine::open(server.addr, PATH, Transport::Polling).await;
        let answer = Http::once(server.addr, &Request::post(&engine.polling_target(), body)).await.unwrap();
        assert_eq!((answer.status, answer.text()), (200, "ok"));
        assert_eq!(server.ends.wait_for(number + 1).await[number], CloseReason::ParseError);
    }
    serves(&server).await;
}

#[tokio::test]
async fn sec_43_more_packets_than_a_body_may_have_end_the_session() {
    let server = EchoServer::start(|config| config.max_payload_packets = 1000);
    for (count, ends) in [(1000, 0), (1001, 1)] {
        let mut engine = Engine::open(server.addr, PATH, Transport::Polling).await;
        let body = vec!["4"; count].join("\x1e");
        let answer = Http::once(server.addr, &Request::post(&engine.polling_target(), body)).await.unwrap();
        assert_eq!(answer.text(), "ok");
        eventually("it is judged", async || server.ends.all().len() == ends).await;
        if ends == 0 {
            for _ in 0..count {
                assert_eq!(engine.message().await.unwrap(), Packet::Text(String::new()));
            }
        }
    }
    assert_eq!(server.ends.all(), [CloseReason::ParseError]);
    serves(&server).await;
}
