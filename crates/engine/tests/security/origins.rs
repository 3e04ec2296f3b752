//! SEC-02: pages of other sites open nothing in their visitor's name, on any transport.

use posthaste_engine::{AllowOrigin, Cors, Origins};
use posthaste_testkit::{Engine, Http, Packet, Record, Request, Response, Transport, upgrade_request};

use crate::echo::EchoServer;
use crate::{PATH, POLLING, WEBSOCKET, serves};

const GOOD: &str = "https://example.com";

const FOREIGN: [&str; 10] = [
    "https://evil.example",
    "https://evil-example.com",
    "https://example.com.evil",
    "https://sub.example.com",
    "http://example.com",
    "https://example.com:8443",
    "https://example.com@evil.example",
    "null",
    "",
    "https://\u{e4}.example",
];

/// A server for `GOOD` whose CORS answers would let everybody in.
fn server() -> EchoServer {
    EchoServer::start(|config| {
        config.origins = Some(Origins::only([GOOD]).unwrap());
        let mut cors = Cors::default().with_credentials();
        cors.origin = AllowOrigin::Mirror;
        config.cors = Some(cors);
        // Whoever is refused for its origin gets no further.
        config.hooks.allow_request(|request| {
            let is_good = request.headers.get("origin").is_none_or(|origin| origin == GOOD);
            async move { if is_good { Ok(()) } else { Err("asked about a foreign origin") } }
        });
    })
}

fn check_refused(answer: &Response, what: &str) {
    assert!(answer.status == 403 && answer.text().contains("Origin not allowed"), "{what}: {answer:?}");
    let cors: Vec<_> = answer.headers.iter().filter(|(name, _)| name.starts_with("access-control-")).collect();
    assert!(cors.is_empty(), "{what}: {cors:?}");
}

#[tokio::test]
async fn sec_02_a_foreign_origin_is_refused_on_every_transport_and_every_request() {
    let server = server();
    let refused = Record::new();
    let record = refused.clone();
    server.engine.on_connection_error(move |error| record.push((error.code(), error.name())));
    let session = Engine::open_with(server.addr, PATH, Transport::Polling, "", &[("Origin", GOOD)]).await;
    let targets = [
        Request::get(POLLING),
        upgrade_request(WEBSOCKET),
        Request::new("OPTIONS", POLLING),
        Request::get(&session.polling_target()),
        Request::post(&session.polling_target(), "4hello"),
        upgrade_request(&session.probe_target()),
    ];
    for origin in FOREIGN {
        for request in &targets {
            let answer = Http::once(server.addr, &request.clone().header("Origin", origin)).await.unwrap();
            check_refused(&answer, &format!("{origin}: {request:?}"));
            let hidden = request.clone().header("Origin", GOOD).header("Origin", origin);
            check_refused(&Http::once(server.addr, &hidden).await.unwrap(), &format!("{origin}, as a second"));
        }
    }
    let all = refused.all();
    assert_eq!(all.len(), FOREIGN.len() * targets.len() * 2);
    assert!(all.iter().all(|one| *one == (4, Some("FOREIGN_ORIGIN"))), "{all:?}");
    assert_eq!(server.connections(), 1, "nothing was opened, and the session of the good origin lives");
    let mut session = session;
    session.send("mine").await.unwrap();
    assert_eq!(session.message().await.unwrap(), Packet::Text("mine".to_owned()));
}

#[tokio::test]
async fn sec_02_the_good_origin_and_those_without_one_are_served() {
    let server = server();
    for transport in Transport::ALL {
        let mut engine = Engine::open_with(server.addr, PATH, transport, "", &[("Origin", GOOD)]).await;
        engine.send("hello").await.unwrap();
        assert_eq!(engine.message().await.unwrap(), Packet::Text("hello".to_owned()));
    }
    let preflight = Request::new("OPTIONS", POLLING).header("Origin", GOOD);
    let answer = Http::once(server.addr, &preflight).await.unwrap();
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (204, Some(GOOD)));
    serves(&server).await;
}

#[tokio::test]
async fn without_the_setting_every_origin_is_served_as_by_the_official_server() {
    let server = EchoServer::start(|_| {});
    for transport in Transport::ALL {
        let mut engine =
            Engine::open_with(server.addr, PATH, transport, "", &[("Origin", "https://evil.example")]).await;
        engine.send("hello").await.unwrap();
        assert_eq!(engine.message().await.unwrap(), Packet::Text("hello".to_owned()));
    }
}
