//! SEC-08: every request gets exactly one answer.

use posthaste_testkit::{Engine, Http, Request, Transport};

use crate::echo::EchoServer;
use crate::{PATH, POLLING, serves};

const CONTENT_TYPES: [&str; 9] = [
    "",
    "text/plain;charset=UTF-8",
    "text/plain",
    "application/octet-stream",
    "APPLICATION/OCTET-STREAM",
    "application/x-www-form-urlencoded",
    "application/json",
    "multipart/form-data; boundary=x",
    "\u{7f}",
];

/// Sends `request` and then another on the same connection: two answers, no more and no less.
async fn one_answer(server: &EchoServer, request: &Request) -> u16 {
    let mut http = Http::connect(server.addr).await;
    let first = http.send(request).await.unwrap();
    match http.send(&Request::get("/elsewhere")).await {
        Ok(second) => assert_eq!((second.status, second.text()), (404, ""), "the second answer is the second's"),
        // Said with `connection: close`, or ended because the body was not wanted.
        Err(_) => assert!(first.status >= 400, "{first:?}"),
    }
    first.status
}

#[tokio::test]
async fn sec_08_posts_of_all_content_types_and_revisions_get_one_answer_each() {
    let server = EchoServer::start(|_| {});
    for content_type in CONTENT_TYPES {
        for revision in ["4", "3", "", "x"] {
            for body in ["4hello", "", "\x1e", "b####"] {
                let engine = Engine::open(server.addr, PATH, Transport::Polling).await;
                let target = format!("/engine.io/?EIO={revision}&transport=polling&sid={}", engine.sid());
                let mut request = Request::post(&target, body);
                if !content_type.is_empty() {
                    request = request.header("Content-Type", content_type);
                }
                let status = one_answer(&server, &request).await;
                let is_binary = content_type.eq_ignore_ascii_case("application/octet-stream");
                // Broken as its packets may be, a body that was read is acknowledged.
                let expected = if revision == "4" && !is_binary { 200 } else { 400 };
                // Bytes that no header may have are refused before anybody looks at the request.
                assert!(
                    status == expected || content_type == "\u{7f}" && status == 400,
                    "{content_type} {revision}: {status}"
                );
                // Whatever became of the session, it is no longer needed.
                let _ = engine.leave().await;
            }
        }
    }
    serves(&server).await;
}

#[tokio::test]
async fn sec_08_every_method_gets_one_answer_with_and_without_a_session_and_a_body() {
    let server = EchoServer::start(|_| {});
    let methods = ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "LOCK", "X-OWN"];
    for method in methods {
        for sid in ["", "&sid=AAAAAAAAAAAAAAAAAAAA", "&sid=x"] {
            for body in [None, Some("4hello")] {
                let mut request = Request::new(method, &format!("{POLLING}{sid}"));
                if let Some(body) = body {
                    request = Request::with_body(method, &format!("{POLLING}{sid}"), body);
                }
                let status = one_answer(&server, &request).await;
                assert_eq!(status, 400, "{method} {sid}");
            }
        }
    }
    serves(&server).await;
}

#[tokio::test]
async fn sec_08_a_request_that_lies_about_its_body_is_refused_or_ends_with_its_connection() {
    let server = EchoServer::start(|_| {});
    for headers in [
        &[("Content-Length", "5"), ("Content-Length", "6")][..],
        &[("Content-Length", "-1")],
        &[("Content-Length", "18446744073709551616")],
        &[("Content-Length", "99999999999999999999999999")],
        &[("Content-Length", "5, 5x")],
        &[("Transfer-Encoding", "chunked"), ("Content-Length", "x")],
        &[("Transfer-Encoding", "gzip")],
        &[("Transfer-Encoding", "chunked, identity")],
    ] {
        let engine = Engine::open(server.addr, PATH, Transport::Polling).await;
        let head = Request::new("POST", &engine.polling_target());
        let request = headers.iter().fold(head, |request, (name, value)| request.header(name, value));
        let mut http = Http::connect(server.addr).await;
        http.wire().write(&request.encode()).await.unwrap();
        http.wire().write(b"4hello").await.unwrap();
        http.wire().finish().await.unwrap();
        let answer = http.response().await;
        assert!(answer.as_ref().map_or(true, |answer| answer.status >= 400), "{headers:?}: {answer:?}");
    }
    // A chunk whose size is nonsense, or larger than everything.
    for chunk in ["x\r\n", "ffffffffffffffffff\r\n", "-1\r\n", "5;ext=\r\n4hellox\r\n"] {
        let engine = Engine::open(server.addr, PATH, Transport::Polling).await;
        let mut http = Http::connect(server.addr).await;
        http.begin_chunked(Request::new("POST", &engine.polling_target())).await.unwrap();
        http.wire().write(chunk.as_bytes()).await.unwrap();
        http.wire().finish().await.unwrap();
        let answer = http.response().await;
        assert!(answer.as_ref().map_or(true, |answer| answer.status >= 400), "{chunk:?}: {answer:?}");
    }
    serves(&server).await;
}

#[tokio::test]
async fn sec_08_hundreds_of_parked_polls_are_all_answered_at_the_end() {
    let server = EchoServer::start(|_| {});
    let mut engines = Vec::new();
    for _ in 0..200 {
        let mut engine = Engine::open(server.addr, PATH, Transport::Polling).await;
        engine.begin_poll().await.unwrap();
        engines.push(engine);
    }
    for engine in &mut engines {
        engine.send("mine").await.unwrap();
    }
    for engine in &mut engines {
        assert_eq!(engine.message().await.unwrap(), posthaste_testkit::Packet::Text("mine".to_owned()));
    }
}
