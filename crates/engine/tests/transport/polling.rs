//! HTTP long-polling, request by request.

use posthaste_engine::CloseReason;
use posthaste_testkit::{Engine, Http, Packet, Request, Transport, eventually};

use crate::PATH;
use crate::echo::EchoServer;

#[tokio::test]
async fn a_handshake_tells_exactly_what_a_client_needs() {
    let server = EchoServer::start(|config| config.max_payload = 12_345);
    let opened = Http::once(server.addr, &Request::get("/engine.io/?EIO=4&transport=polling")).await.unwrap();
    assert_eq!(opened.header("content-type"), Some("text/plain; charset=UTF-8"));
    assert_eq!(opened.header("cache-control"), Some("no-store"));
    let (sid, rest) = opened.text().strip_prefix(r#"0{"sid":""#).unwrap().split_at(20);
    assert!(sid.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{sid}");
    assert_eq!(rest, r#"","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":20000,"maxPayload":12345}"#);
    let engine = Engine::open(server.addr, PATH, Transport::WebSocket).await;
    assert!(engine.handshake().contains(r#""upgrades":[],"#), "{}", engine.handshake());
}

#[tokio::test]
async fn a_poll_waits_until_there_is_something_and_brings_all_of_it() {
    let server = EchoServer::start(|_| {});
    let mut engine = Engine::open(server.addr, PATH, Transport::Polling).await;
    engine.begin_poll().await.unwrap();
    let early = tokio::time::timeout(std::time::Duration::from_millis(100), engine.packet()).await;
    assert!(early.is_err(), "nothing was said yet: {early:?}");
    let answer =
        engine.post(&[Packet::message("a"), Packet::Binary(vec![1, 2, 3]), Packet::message("")]).await.unwrap();
    assert_eq!((answer.status, answer.text(), answer.header("content-type")), (200, "ok", Some("text/html")));
    // The poll may come back with the first of them, the next brings the rest.
    for expected in [Packet::message("a"), Packet::Binary(vec![1, 2, 3]), Packet::message("")] {
        assert_eq!(engine.packet().await.unwrap(), expected);
    }
}

#[tokio::test]
async fn the_second_of_two_polls_is_refused_and_the_session_ends() {
    let server = EchoServer::start(|_| {});
    let engine = Engine::open(server.addr, PATH, Transport::Polling).await;
    let request = Request::get(&engine.polling_target());
    let mut first = Http::connect(server.addr).await;
    first.wire().write(&request.encode()).await.unwrap();
    let mut second = Http::connect(server.addr).await;
    second.wire().write(&request.encode()).await.unwrap();
    let mut answers = [first.response().await.unwrap(), second.response().await.unwrap()];
    // Which one came first is the network's choice.
    answers.sort_by_key(|answer| answer.status);
    assert_eq!((answers[0].status, answers[0].text()), (200, "1"));
    assert_eq!((answers[1].status, answers[1].text()), (400, ""));
    assert_eq!(server.ends.wait_for(1).await, [CloseReason::TransportError]);
    assert_eq!(Http::once(server.addr, &request).await.unwrap().status, 400);
}

#[tokio::test]
async fn the_second_of_two_posts_is_refused_and_the_session_ends() {
    let server = EchoServer::start(|_| {});
    let engine = Engine::open(server.addr, PATH, Transport::Polling).await;
    let mut first = Http::connect(server.addr).await;
    first.begin_chunked(Request::new("POST", &engine.polling_target())).await.unwrap();
    first.chunk(b"4never").await.unwrap();
    let mut refused = 0;
    // Until the first has arrived, the second is the first.
    while refused == 0 {
        let second = Http::once(server.addr, &Request::post(&engine.polling_target(), "4second")).await.unwrap();
        refused = usize::from(second.status == 400);
    }
    assert_eq!(server.ends.wait_for(1).await, [CloseReason::TransportError]);
    // The first is not left waiting for its own end.
    let answer = first.response().await.unwrap();
    assert_eq!(answer.status, 400);
}

#[tokio::test]
async fn a_close_packet_ends_the_session_and_frees_the_poll_with_a_noop() {
    let server = EchoServer::start(|_| {});
    let mut engine = Engine::open(server.addr, PATH, Transport::Polling).await;
    engine.park().await.unwrap();
    let answer = engine.post(&[Packet::Text("1".to_owned())]).await.unwrap();
    assert_eq!((answer.status, answer.text()), (200, "ok"));
    assert_eq!(engine.packet().await.unwrap(), Packet::Text("6".to_owned()));
    assert_eq!(server.ends.wait_for(1).await, [CloseReason::TransportClose]);
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn a_session_closed_by_the_application_says_its_last_word_first() {
    let server = EchoServer::start(|_| {});
    for is_polling in [true, false] {
        let mut engine = Engine::open(server.addr, PATH, Transport::Polling).await;
        if is_polling {
            engine.park().await.unwrap();
        }
        engine.send("close").await.unwrap();
        assert_eq!(engine.message().await.unwrap(), Packet::Text("closing".to_owned()));
        let end: Vec<Packet> = vec![engine.packet().await.unwrap(), engine.packet().await.unwrap()];
        assert_eq!(end, [Packet::Text("6".to_owned()), Packet::Text("1".to_owned())]);
        eventually("it is gone", async || server.connections() == 0).await;
    }
}

#[tokio::test]
async fn other_methods_on_a_session_are_errors_that_do_it_no_harm() {
    let server = EchoServer::start(|_| {});
    let mut engine = Engine::open(server.addr, PATH, Transport::Polling).await;
    for method in ["PUT", "DELETE", "PATCH"] {
        let answer = Http::once(server.addr, &Request::new(method, &engine.polling_target())).await.unwrap();
        assert_eq!((answer.status, answer.text()), (500, ""), "{method}");
    }
    engine.send("still here").await.unwrap();
    assert_eq!(engine.message().await.unwrap(), Packet::Text("still here".to_owned()));
}

#[tokio::test]
async fn a_body_above_the_bound_is_refused_and_the_session_stays() {
    let server = EchoServer::start(|config| config.max_payload = 1000);
    let mut engine = Engine::open(server.addr, PATH, Transport::Polling).await;
    let answer = engine.post(&[Packet::message(&"x".repeat(1000))]).await.unwrap();
    assert_eq!((answer.status, answer.text()), (413, ""));
    // 1,000 bytes are not too many. The answer to a refused body may have ended its connection.
    let request = Request::post(&engine.polling_target(), format!("4{}", "y".repeat(999)));
    assert_eq!(Http::once(server.addr, &request).await.unwrap().status, 200);
    assert_eq!(engine.message().await.unwrap(), Packet::Text("y".repeat(999)));
}

#[tokio::test]
async fn packets_before_a_broken_one_still_count() {
    for broken in ["", "x", "9", "b?", "\u{e9}"] {
        let server = EchoServer::start(|_| {});
        let mut engine = Engine::open(server.addr, PATH, Transport::Polling).await;
        engine.park().await.unwrap();
        let body = format!("4one\x1e4two\x1e{broken}\x1e4never");
        let answer = Http::once(server.addr, &Request::post(&engine.polling_target(), body)).await.unwrap();
        assert_eq!((answer.status, answer.text()), (200, "ok"), "{broken:?}");
        assert_eq!(engine.message().await.unwrap(), Packet::Text("one".to_owned()));
        assert_eq!(engine.message().await.unwrap(), Packet::Text("two".to_owned()));
        engine.closed().await.unwrap();
        assert_eq!(server.ends.wait_for(1).await, [CloseReason::ParseError], "{broken:?}");
    }
}

#[tokio::test]
async fn a_body_that_comes_in_any_number_of_chunks_is_one_body() {
    let server = EchoServer::start(|_| {});
    let mut engine = Engine::open(server.addr, PATH, Transport::Polling).await;
    let body = "4zw\u{f6}lf\x1ebAQID\x1e4end".as_bytes();
    for size in [1, 2, 3, 7, body.len()] {
        let mut http = Http::connect(server.addr).await;
        http.begin_chunked(Request::new("POST", &engine.polling_target())).await.unwrap();
        for chunk in body.chunks(size) {
            http.chunk(chunk).await.unwrap();
            tokio::task::yield_now().await;
        }
        http.chunk(b"").await.unwrap();
        assert_eq!(http.response().await.unwrap().text(), "ok");
        for expected in
            [Packet::Text("zw\u{f6}lf".to_owned()), Packet::Binary(vec![1, 2, 3]), Packet::Text("end".to_owned())]
        {
            assert_eq!(engine.message().await.unwrap(), expected, "chunks of {size}");
        }
    }
}

#[tokio::test]
async fn requests_of_one_connection_are_answered_in_their_order() {
    let server = EchoServer::start(|_| {});
    let engine = Engine::open(server.addr, PATH, Transport::Polling).await;
    let mut http = Http::connect(server.addr).await;
    let target = engine.polling_target();
    let requests =
        [Request::post(&target, "4a"), Request::get(&target), Request::post(&target, "4b"), Request::get(&target)];
    let bytes: Vec<u8> = requests.iter().flat_map(Request::encode).collect();
    http.wire().write(&bytes).await.unwrap();
    for expected in ["ok", "4a", "ok", "4b"] {
        assert_eq!(http.response().await.unwrap().text(), expected);
    }
}
