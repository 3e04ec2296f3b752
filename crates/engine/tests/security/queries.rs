//! SEC-07: queries of every kind.

use posthaste_testkit::{Http, Random, Request, upgrade_request};

use crate::echo::EchoServer;
use crate::serves;

const REFUSALS: [&str; 4] = [
    r#"{"code":0,"message":"Transport unknown"}"#,
    r#"{"code":1,"message":"Session ID unknown"}"#,
    r#"{"code":3,"message":"Bad request"}"#,
    r#"{"code":5,"message":"Unsupported protocol version"}"#,
];

#[tokio::test]
async fn sec_07_every_query_is_understood_or_refused_with_its_code() {
    let server = EchoServer::start(|_| {});
    let mut http = Http::connect(server.addr).await;
    for (query, code) in [
        ("", 0),
        ("?", 0),
        ("?EIO=4", 0),
        ("?EIO=4&transport=", 0),
        ("?EIO=4&transport=__proto__", 0),
        ("?EIO=4&transport=constructor", 0),
        ("?EIO=4&transport=toString", 0),
        ("?EIO=4&transport=webtransport", 0),
        ("?EIO=4&transport=POLLING", 0),
        ("?EIO=4&transport=polling&transport=polling", 0),
        ("?EIO=4&transport[]=polling", 0),
        ("?EIO=4&transport[a]=polling", 0),
        ("?EIO=4&transport=polling%00", 0),
        ("?EIO=4&transport=%ff", 0),
        ("?EIO=4;transport=polling", 0),
        ("?EIO=4&transport=websocket", 2),
        ("?transport=polling", 3),
        ("?EIO=3&transport=polling", 3),
        ("?EIO=5&transport=polling", 3),
        ("?EIO=4&EIO=4&transport=polling", 3),
        ("?EIO[]=4&transport=polling", 3),
        ("?EIO=04&transport=polling", 3),
        ("?EIO=4&transport=polling&sid=__proto__", 1),
        ("?EIO=4&transport=polling&sid[]=x", 9),
        ("?EIO=4&transport=polling&sid=../../etc/passwd", 1),
        ("?EIO=4&transport=polling&sid=x&sid=x", 1),
        ("?EIO=4&transport=polling&sid=%F0%9F%98%80", 1),
        ("?EIO=4&transport=polling&sid=", 9),
        ("?EIO=4&transport=polling&j=alert(1)", 9),
        ("?&&&EIO=4&&transport=polling&", 9),
        ("?EIO=%34&transport=p%6flling", 9),
    ] {
        let answer = http.send(&Request::get(&format!("/engine.io/{query}"))).await.unwrap();
        match REFUSALS.get(code) {
            Some(body) => assert_eq!((answer.status, answer.text()), (400, *body), "{query}"),
            None => assert!(answer.status == 200 && answer.text().starts_with("0{"), "{query}: {answer:?}"),
        }
    }
    serves(&server).await;
}

#[tokio::test]
async fn sec_07_random_queries_get_exactly_one_answer_each() {
    let server = EchoServer::start(|_| {});
    let pieces = [
        "EIO",
        "transport",
        "sid",
        "t",
        "j",
        "b64",
        "=",
        "=",
        "=",
        "&",
        "&",
        "&",
        "4",
        "3",
        "polling",
        "websocket",
        "%",
        "%2",
        "%00",
        "[]",
        "__proto__",
        ";",
        "?",
        "/",
        "+",
        "a",
        "AAAAAAAAAAAAAAAAAAAA",
        "'",
        "{",
        "|",
        "~",
        "..",
    ];
    let mut random = Random::seeded(7);
    let mut http = Http::connect(server.addr).await;
    for _ in 0..2000 {
        let query: String = (0..random.below(14)).map(|_| pieces[random.below(pieces.len())]).collect();
        let answer = http.send(&Request::get(&format!("/engine.io/?{query}"))).await.unwrap();
        let is_refused = answer.status == 400 && REFUSALS.contains(&answer.text());
        assert!(is_refused || answer.status == 200 && answer.text().starts_with("0{"), "{query}: {answer:?}");
    }
    // The connection is still in step: the next answer is the next question's.
    assert_eq!(http.send(&Request::get("/elsewhere")).await.unwrap().status, 404);
    for _ in 0..200 {
        let query: String = (0..random.below(14)).map(|_| pieces[random.below(pieces.len())]).collect();
        let answer = Http::once(server.addr, &upgrade_request(&format!("/engine.io/?{query}"))).await.unwrap();
        assert!([101, 400].contains(&answer.status), "{query}: {answer:?}");
    }
    serves(&server).await;
}
