//! What applications do with requests before and after the engine.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::HeaderValue;
use posthaste_engine::{
    Cookie, EngineConfig, EngineRequest, ErrorContext, RemoteAddr, Revision, SameSite, Stop, Transport as On,
};
use posthaste_testkit::{Engine, Http, Packet, Record, Request, Response, Transport, upgrade_request};

use crate::PATH;
use crate::echo::EchoServer;

const POLLING: &str = "/engine.io/?EIO=4&transport=polling";
const WEBSOCKET: &str = "/engine.io/?EIO=4&transport=websocket";

async fn ask(server: &EchoServer, request: &Request) -> Response {
    Http::once(server.addr, request).await.unwrap()
}

/// A handshake on each transport.
fn handshakes() -> [(Request, bool); 2] {
    [(Request::get(POLLING), false), (upgrade_request(WEBSOCKET), true)]
}

#[tokio::test]
async fn allow_request_refuses_on_both_transports_before_there_is_a_session() {
    let asked = Record::new();
    let record = asked.clone();
    let server = EchoServer::start(|config| {
        config.hooks.allow_request(move |request: EngineRequest| {
            let address = request.remote_addr();
            record.push((request.is_upgrade(), address.is_some()));
            async move {
                tokio::task::yield_now().await;
                match request.headers.get("x-key").map(HeaderValue::as_bytes) {
                    Some(b"good") => Ok(()),
                    Some(_) => Err("a \"wrong\" key"),
                    None => Err(""),
                }
            }
        });
    });
    for (key, message) in [(None, "Forbidden"), (Some("bad"), "a \"wrong\" key")] {
        for (request, is_upgrade) in handshakes() {
            let answer = ask(&server, &key.map_or(request.clone(), |key| request.clone().header("x-key", key))).await;
            if is_upgrade {
                assert_eq!((answer.status, answer.text()), (400, message));
                assert_eq!(answer.header("connection"), Some("close"));
            } else {
                let body = format!(r#"{{"code":4,"message":"{}"}}"#, message.replace('"', "\\\""));
                assert_eq!((answer.status, answer.text()), (403, body.as_str()));
                assert_eq!(answer.header("content-type"), Some("application/json"));
            }
            assert_eq!(server.connections(), 0);
        }
    }
    assert_eq!(asked.all(), [(false, true), (true, true), (false, true), (true, true)]);
    for transport in Transport::ALL {
        let mut engine = Engine::open_with(server.addr, PATH, transport, "", &[("x-key", "good")]).await;
        engine.send("hello").await.unwrap();
        assert_eq!(engine.message().await.unwrap(), Packet::Text("hello".to_owned()));
        if transport == Transport::Polling {
            engine.upgrade().await.unwrap();
        }
        engine.leave().await.unwrap();
    }
    assert_eq!(asked.all().len(), 6, "requests of an open session are not asked about");
}

#[tokio::test]
async fn allow_request_is_not_asked_about_what_is_refused_anyway_but_before_the_revision() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let server = EchoServer::start(|config| {
        config.hooks.allow_request(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            async { Err("no") }
        });
    });
    for (request, code) in [
        (Request::get("/engine.io/?EIO=4&transport=pigeon"), 0),
        (Request::get(&format!("{POLLING}&sid=AAAAAAAAAAAAAAAAAAAA")), 1),
        (Request::post(POLLING, ""), 2),
        (Request::get(WEBSOCKET), 3),
    ] {
        assert!(ask(&server, &request).await.text().starts_with(&format!(r#"{{"code":{code},"#)));
    }
    assert_eq!(asked.load(Ordering::Relaxed), 0);
    let old = ask(&server, &Request::get("/engine.io/?EIO=3&transport=polling")).await;
    assert_eq!((old.text(), asked.load(Ordering::Relaxed)), (r#"{"code":4,"message":"no"}"#, 1));
}

#[tokio::test]
async fn the_cookie_comes_with_a_polling_handshake_and_with_nothing_else() {
    let cookie = || Cookie::builder().name("sticky").same_site(SameSite::Strict).secure(true);
    let server = EchoServer::start(|config| config.cookie = Some(cookie().build().unwrap()));
    let opened = ask(&server, &Request::get(POLLING)).await;
    let sid = &opened.text()[r#"0{"sid":""#.len()..][..20];
    let expected = format!("sticky={sid}; Path=/; HttpOnly; Secure; SameSite=Strict");
    assert_eq!(opened.header("set-cookie"), Some(expected.as_str()));
    assert_eq!(ask(&server, &Request::post(&format!("{POLLING}&sid={sid}"), "4a")).await.header("set-cookie"), None);
    assert_eq!(ask(&server, &Request::get(&format!("{POLLING}&sid={sid}"))).await.header("set-cookie"), None);
    let upgrade = ask(&server, &upgrade_request(WEBSOCKET)).await;
    assert_eq!((upgrade.status, upgrade.header("set-cookie")), (101, None));
    let probe = ask(&server, &upgrade_request(&format!("{WEBSOCKET}&sid={sid}"))).await;
    assert_eq!((probe.status, probe.header("set-cookie")), (101, None));
    let plain = EchoServer::start(|_| {});
    assert_eq!(ask(&plain, &Request::get(POLLING)).await.header("set-cookie"), None);
}

#[tokio::test]
async fn headers_are_added_to_the_answers_of_sessions_and_initial_ones_to_the_first() {
    let server = EchoServer::start(|config| {
        config.cookie = Some(Cookie::default());
        config.hooks.initial_headers(|headers, request| {
            headers.insert("x-initial", HeaderValue::from_str(request.uri.path()).unwrap());
            headers.append("set-cookie", HeaderValue::from_static("mine=1"));
        });
        config.hooks.headers(|headers, _| {
            headers.insert("x-every", HeaderValue::from_static("1"));
            headers.insert("cache-control", HeaderValue::from_static("private"));
            headers.insert("content-length", HeaderValue::from_static("1"));
        });
    });
    let check = |answer: &Response, status: u16, initial: bool, every: bool| {
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("x-initial"), initial.then_some("/engine.io/"));
        assert_eq!(answer.header("x-every"), every.then_some("1"));
        if every && status == 200 {
            assert_eq!(answer.header("cache-control"), Some("private"), "{answer:?}");
        }
    };
    let opened = ask(&server, &Request::get(POLLING)).await;
    check(&opened, 200, true, true);
    let cookies: Vec<_> = opened.headers.iter().filter(|(name, _)| name == "set-cookie").collect();
    assert_eq!(cookies.len(), 2, "{cookies:?}");
    let sid = &opened.text()[r#"0{"sid":""#.len()..][..20];
    let session = format!("{POLLING}&sid={sid}");
    check(&ask(&server, &Request::post(&session, "4a")).await, 200, false, true);
    check(&ask(&server, &Request::get(&session)).await, 200, false, true);
    check(&ask(&server, &upgrade_request(&format!("{WEBSOCKET}&sid={sid}"))).await, 101, false, true);
    check(&ask(&server, &upgrade_request(WEBSOCKET)).await, 101, true, true);
    check(&ask(&server, &Request::get("/engine.io/?EIO=4")).await, 400, false, false);
    check(&ask(&server, &Request::post(&format!("{session}x"), "4a")).await, 400, false, false);
}

#[derive(Clone, Debug, PartialEq)]
struct User(&'static str);

async fn first(mut request: EngineRequest) -> Result<EngineRequest, Stop> {
    request.answer_headers().insert("x-first", HeaderValue::from_static("1"));
    request.keep(User("from the first"));
    Ok(request)
}

/// Does what the header `x-do` says.
async fn second(mut request: EngineRequest) -> Result<EngineRequest, Stop> {
    tokio::task::yield_now().await;
    request.answer_headers().insert("x-second", HeaderValue::from_static("1"));
    request.answer_headers().insert("cache-control", HeaderValue::from_static("public"));
    match request.headers.get("x-do").map(HeaderValue::as_bytes) {
        None => Ok(request),
        Some(b"refuse") => Err(request.refuse("a secret reason")),
        Some(b"fail") => Err(String::from_utf8(vec![0xff]).map_err(|error| error.to_string()).unwrap_err())?,
        Some(b"answer") => {
            let mut answer = http::Response::new(Bytes::from_static(b"teapot"));
            *answer.status_mut() = http::StatusCode::IM_A_TEAPOT;
            Err(request.answer(answer))
        }
        Some(b"rewrite") => {
            request.parts_mut().uri = POLLING.parse().unwrap();
            Ok(request)
        }
        Some(other) => panic!("{other:?}"),
    }
}

fn with_middlewares(config: &mut EngineConfig) {
    config.hooks.middleware(first);
    config.hooks.middleware(second);
}

#[tokio::test]
async fn middlewares_see_every_request_and_every_upgrade_and_add_headers_to_any_answer() {
    let server = EchoServer::start(with_middlewares);
    let opened = ask(&server, &Request::get(POLLING)).await;
    let sid = &opened.text()[r#"0{"sid":""#.len()..][..20];
    let session = format!("{POLLING}&sid={sid}");
    assert_eq!(opened.header("cache-control"), Some("no-store"), "the engine's own headers win");
    for (request, status) in [
        (Request::get(POLLING), 200),
        (upgrade_request(WEBSOCKET), 101),
        (Request::post(&session, "4a"), 200),
        (Request::get(&session), 200),
        (upgrade_request(&format!("{WEBSOCKET}&sid={sid}")), 101),
        (Request::new("DELETE", &session), 500),
        (Request::get("/engine.io/?EIO=4"), 400),
        (upgrade_request("/engine.io/?EIO=4"), 400),
        (Request::new("OPTIONS", POLLING), 400),
        (Request::get("/engine.io/?EIO=4&transport=pigeon").header("x-do", "rewrite"), 200),
    ] {
        let answer = ask(&server, &request).await;
        let added = (answer.header("x-first"), answer.header("x-second"));
        assert_eq!((answer.status, added), (status, (Some("1"), Some("1"))), "{request:?}");
    }
    let beside = ask(&server, &Request::get("/elsewhere")).await;
    assert_eq!((beside.status, beside.header("x-first")), (404, None));
}

#[tokio::test]
async fn a_middleware_refuses_or_answers_by_itself_and_no_session_is_opened() {
    let server = EchoServer::start(with_middlewares);
    let errors = Record::new();
    let record = errors.clone();
    server.engine.on_connection_error(move |error| record.push((error.code(), error.name(), error.context())));
    for (request, is_upgrade) in handshakes() {
        for what in ["refuse", "fail"] {
            let answer = ask(&server, &request.clone().header("x-do", what)).await;
            let body = if is_upgrade { "Bad request" } else { r#"{"code":3,"message":"Bad request"}"# };
            let headers = (answer.header("x-first"), answer.header("x-second"));
            assert_eq!((answer.status, answer.text()), (400, body));
            assert_eq!(headers, (Some("1"), (what == "refuse").then_some("1")));
        }
        let mut http = Http::connect(server.addr).await;
        let answer = http.send(&request.clone().header("x-do", "answer")).await.unwrap();
        assert_eq!((answer.status, answer.text()), (418, "teapot"));
        assert_eq!((answer.header("x-first"), answer.header("x-second")), (Some("1"), Some("1")));
        let after = http.send(&Request::get("/elsewhere")).await;
        assert_eq!(after.is_err(), is_upgrade, "an answered upgrade ends its connection");
    }
    assert_eq!(server.connections(), 0);
    let reasons = errors.all().into_iter().map(|(code, name, context)| match context {
        ErrorContext::Middleware { reason } => (code, name, reason),
        other => panic!("{other:?}"),
    });
    let reasons: Vec<_> = reasons.collect();
    let expected = |reason: &str| (3, Some("MIDDLEWARE_FAILURE"), reason.to_owned());
    assert_eq!(reasons[0], expected("a secret reason"));
    assert_eq!(reasons[2], expected("a secret reason"));
    assert!(reasons.len() == 4 && reasons[1].2.contains("utf-8"), "an answer is no error: {reasons:?}");
}

#[tokio::test]
async fn every_refusal_is_reported_with_its_code_and_its_facts() {
    let server = EchoServer::start(|config| {
        config.hooks.allow_request(async |request: EngineRequest| {
            if request.headers.contains_key("x-forbid") { Err("forbidden here") } else { Ok(()) }
        });
    });
    let errors = Record::new();
    for _ in 0..2 {
        let record = errors.clone();
        server.engine.on_connection_error(move |error| {
            assert!(error.request().extensions.get::<RemoteAddr>().is_some());
            record.push((error.code(), error.message().into_owned(), error.name(), error.context()));
        });
    }
    let polling = Engine::open(server.addr, PATH, Transport::Polling).await;
    let mut websocket = Engine::open(server.addr, PATH, Transport::WebSocket).await;
    let unknown = "AAAAAAAAAAAAAAAAAAAA";
    let old = polling.polling_target().replace("EIO=4", "EIO=3");
    let mismatch = |transport, previous| ErrorContext::TransportMismatch { transport, previous };
    let unsupported = || ErrorContext::UnsupportedVersion { revision: Revision::V3 };
    let cases = [
        (Request::get("/engine.io/?EIO=4"), 0, None, ErrorContext::UnknownTransport { transport: None }),
        (
            upgrade_request("/engine.io/?transport=pig%20eon"),
            0,
            None,
            ErrorContext::UnknownTransport { transport: Some("pig eon".to_owned()) },
        ),
        (
            Request::get(&format!("{POLLING}&sid={unknown}")),
            1,
            None,
            ErrorContext::UnknownSession { sid: unknown.to_owned() },
        ),
        (Request::post(POLLING, ""), 2, None, ErrorContext::HandshakeMethod { method: http::Method::POST }),
        (Request::get(&polling.probe_target()), 3, Some("TRANSPORT_MISMATCH"), mismatch(On::WebSocket, On::Polling)),
        (
            Request::get(&websocket.polling_target()),
            3,
            Some("TRANSPORT_MISMATCH"),
            mismatch(On::Polling, On::WebSocket),
        ),
        (
            Request::get(&old),
            3,
            Some("PROTOCOL_MISMATCH"),
            ErrorContext::ProtocolMismatch { revision: Revision::V3, previous: Revision::V4 },
        ),
        (Request::get(WEBSOCKET), 3, Some("TRANSPORT_HANDSHAKE_ERROR"), ErrorContext::TransportHandshake),
        (upgrade_request(POLLING), 3, Some("TRANSPORT_HANDSHAKE_ERROR"), ErrorContext::TransportHandshake),
        (
            Request::get(POLLING).header("Origin", "http://a\u{e4}.example"),
            3,
            Some("INVALID_ORIGIN"),
            ErrorContext::InvalidOrigin {
                origin: HeaderValue::from_bytes("http://a\u{e4}.example".as_bytes()).unwrap(),
            },
        ),
        (
            upgrade_request(WEBSOCKET).header("x-forbid", ""),
            4,
            None,
            ErrorContext::Forbidden { message: "forbidden here".to_owned() },
        ),
        (Request::get("/engine.io/?transport=polling"), 5, None, unsupported()),
        (upgrade_request("/engine.io/?EIO=3&transport=websocket"), 5, None, unsupported()),
    ];
    let messages = [
        "Transport unknown",
        "Session ID unknown",
        "Bad handshake method",
        "Bad request",
        "Forbidden",
        "Unsupported protocol version",
    ];
    for (number, (request, code, name, context)) in cases.into_iter().enumerate() {
        let answer = ask(&server, &request).await;
        assert!(answer.status == 400, "{request:?}: {answer:?}");
        let all = errors.all();
        assert_eq!(all.len(), 2 * (number + 1), "each listener hears of each refusal once");
        let expected = (code, messages[usize::from(code)].to_owned(), name, context);
        assert_eq!(all[2 * number..], [expected.clone(), expected], "{request:?}");
    }
    websocket.send("still here").await.unwrap();
    assert_eq!(websocket.message().await.unwrap(), Packet::Text("still here".to_owned()));
    assert_eq!(errors.all().len(), 26, "what goes well is not reported");
}
