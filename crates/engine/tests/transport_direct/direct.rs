//! Two ways of HTTP that nobody can tell apart.

use std::time::Duration;

use posthaste_engine::{Cookie, Cors, EngineConfig, Origins};
use posthaste_testkit::{Http, Request, Response, Wire, upgrade_request};

use crate::PATH;
use crate::echo::EchoServer;

const OPEN: &str = "/engine.io/?EIO=4&transport=polling";

async fn open(client: &mut Http) -> String {
    sid_of(&client.send(&Request::get(OPEN)).await.unwrap())
}

fn sid_of(opened: &Response) -> String {
    assert_eq!(opened.status, 200, "{opened:?}");
    let text = opened.text();
    let start = text.find(r#""sid":""#).unwrap() + 7;
    text[start..].split('"').next().unwrap().to_owned()
}

fn target(sid: &str) -> String {
    format!("{OPEN}&sid={sid}")
}

/// What there is to see of an answer, but for the time and the session id.
fn seen(answer: &Response, sid: &str) -> (u16, Vec<(String, String)>, String) {
    let hide = |text: &str| if sid.is_empty() { text.to_owned() } else { text.replace(sid, "SID") };
    let mut headers: Vec<_> = answer
        .headers
        .iter()
        .map(|(name, value)| (name.to_ascii_lowercase(), hide(value)))
        .filter(|(name, _)| name != "date" && name != "sec-websocket-accept")
        .collect();
    headers.sort();
    (answer.status, headers, hide(&String::from_utf8_lossy(&answer.body)))
}

/// Everything that one client is answered, usual requests and others among each other.
async fn conversation(server: &EchoServer) -> Vec<(u16, Vec<(String, String)>, String)> {
    let mut answers = Vec::new();
    let origin = |request: Request| request.header("Origin", "http://allowed.example");
    let mut client = Http::connect(server.addr).await;
    let opened = client.send(&origin(Request::get(OPEN))).await.unwrap();
    let sid = sid_of(&opened);
    answers.push(seen(&opened, &sid));
    let at = target(&sid);
    let text = |request: Request| request.header("Content-Type", "text/plain;charset=UTF-8");
    for request in [
        origin(text(Request::post(&at, "4hello"))),
        origin(Request::get(&at)),
        Request::post(&at, "4a\u{1e}4b\u{1e}bAQID"),
        Request::get(&at).header("User-Agent", "Mozilla/5.0 (compatible; MSIE 9.0; Windows NT 6.1)"),
        // Not usual, and none of them ends the session.
        origin(Request::new("OPTIONS", &at)),
        Request::new("PUT", &at),
        Request::get(&format!("{at}&t=%41")),
        Request::get("/engine.io/?EIO=4&transport=polling&sid=nobody"),
        Request::get("/engine.io/?EIO=4&transport=carrier"),
        Request::get("/engine.io/?EIO=3&transport=polling"),
        Request::post(OPEN, "4hello"),
        Request::get("/elsewhere"),
        Request::post(&at, "x".repeat(1_000_001)),
        Request::post(&at, ""),
        upgrade_request(&format!("{PATH}?EIO=4&transport=polling&sid={sid}")),
    ] {
        let is_waiting = |target: &str| request.encode().starts_with(format!("GET {target}").as_bytes());
        if is_waiting(&format!("{at}&t=%41")) {
            // Something to be fetched.
            Http::once(server.addr, &Request::post(&at, "4more")).await.unwrap();
        }
        let mut one = Http::connect(server.addr).await;
        let answer = one.send(&request).await.unwrap();
        answers.push(seen(&answer, &sid));
    }
    answers
}

#[tokio::test]
async fn both_ways_answer_alike() {
    let configures: [fn(&mut EngineConfig); 4] = [
        |_| {},
        |config| config.cors = Some(Cors::origin("http://allowed.example").unwrap().with_credentials()),
        |config| config.cookie = Some(Cookie::builder().name("io").build().unwrap()),
        |config| config.origins = Some(Origins::only(["http://allowed.example"]).unwrap()),
    ];
    for configure in configures {
        let [direct, general] = [true, false].map(|direct| EchoServer::with(direct, 1, configure));
        let (here, there) = tokio::join!(conversation(&direct), conversation(&general));
        for (here, there) in here.iter().zip(&there) {
            assert_eq!(here, there);
        }
        assert_eq!(here.len(), there.len());
    }
}

#[tokio::test]
async fn both_ways_make_the_same_websockets() {
    let [direct, general] = [true, false].map(|direct| EchoServer::with(direct, 1, |_| {}));
    let mut heads = Vec::new();
    for server in [&direct, &general] {
        let mut client = Http::connect(server.addr).await;
        let opened = client.send(&upgrade_request(&format!("{PATH}?EIO=4&transport=websocket"))).await.unwrap();
        heads.push(seen(&opened, ""));
    }
    assert_eq!(heads[0], heads[1]);
    assert_eq!(heads[0].0, 101);
}

#[tokio::test]
async fn requests_may_come_in_any_pieces() {
    let server = EchoServer::start(|_| {});
    let mut client = Http::connect(server.addr).await;
    let sid = open(&mut client).await;
    let post = Request::post(&target(&sid), "4in pieces").encode();
    for cut in (1..post.len()).step_by(5) {
        client.wire().write(&post[..cut]).await.unwrap();
        // Not needed for what is asserted: so that it does arrive in two.
        tokio::time::sleep(Duration::from_millis(2)).await;
        client.wire().write(&post[cut..]).await.unwrap();
        let answer = client.response().await.unwrap();
        assert_eq!((answer.status, answer.text()), (200, "ok"), "cut at {cut}");
        let echo = client.send(&Request::get(&target(&sid))).await.unwrap();
        assert_eq!(echo.text(), "4in pieces", "cut at {cut}");
    }
}

#[tokio::test]
async fn requests_in_one_write_are_answered_one_by_one() {
    let server = EchoServer::start(|_| {});
    let mut client = Http::connect(server.addr).await;
    let sid = open(&mut client).await;
    let requests = [
        Request::get(&target(&sid)),
        Request::post(&target(&sid), "4first"),
        Request::get(&target(&sid)),
        // Unusual, behind usual ones.
        Request::get("/elsewhere"),
        Request::post(&target(&sid), "4second"),
        Request::get(&target(&sid)),
    ];
    // The first waits; what is behind it does, too.
    let all: Vec<u8> = requests.iter().flat_map(Request::encode).collect();
    client.wire().write(&all).await.unwrap();
    let other = Http::once(server.addr, &Request::post(&target(&sid), "4zeroth")).await.unwrap();
    assert_eq!(other.text(), "ok");
    for expected in ["4zeroth", "ok", "4first", "", "ok", "4second"] {
        assert_eq!(client.response().await.unwrap().text(), expected);
    }
}

#[tokio::test]
async fn a_session_is_found_by_connections_of_every_worker() {
    let server = EchoServer::over(3, |_| {});
    let mut clients = Vec::new();
    for _ in 0..12 {
        clients.push(Http::connect(server.addr).await);
    }
    let mut sids = Vec::new();
    for client in &mut clients {
        sids.push(open(client).await);
    }
    for round in 0..4 {
        for (number, client) in clients.iter_mut().enumerate() {
            let at = target(&sids[(number + round) % sids.len()]);
            let text = format!("4{round} {number}");
            assert_eq!(client.send(&Request::post(&at, text.clone())).await.unwrap().text(), "ok");
            assert_eq!(client.send(&Request::get(&at)).await.unwrap().text(), text);
        }
    }
    assert_eq!(server.connections(), 12);
}

#[tokio::test]
async fn a_head_without_end_is_refused() {
    let server = EchoServer::start(|_| {});
    let mut wire = Wire::connect(server.addr).await;
    let endless = format!("GET {OPEN} HTTP/1.1\r\nX-Endless: {}", "x".repeat(200_000));
    // The server may be done with it before it has all.
    let _ = wire.write(endless.as_bytes()).await;
    let answer = String::from_utf8(wire.take_rest().await.unwrap()).unwrap();
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}
