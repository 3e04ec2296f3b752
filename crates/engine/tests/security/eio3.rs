//! What comes with revision 3: lengths, scripts that foreign pages embed, pings of the client's own.

use posthaste_engine::{CloseReason, Origins};
use posthaste_testkit::{Engine, Http, Packet, Request, Transport, WebSocket, upgrade_request};

use crate::echo::EchoServer;
use crate::{PATH, serves};

fn server() -> EchoServer {
    EchoServer::start(|config| config.allow_eio3 = true)
}

/// The target of a new polling session; `query` is added to it.
async fn open(server: &EchoServer, query: &str) -> String {
    let target = format!("{PATH}?EIO=3&transport=polling{query}");
    let opened = Http::once(server.addr, &Request::get(&target)).await.unwrap();
    let text = opened.text().replace("\\\"", "\"");
    let (_, rest) = text.split_once(r#""sid":""#).unwrap();
    format!("{target}&sid={}", &rest[..20])
}

#[tokio::test]
async fn sec_07_revision_3_is_refused_where_it_is_not_allowed() {
    let server = EchoServer::start(|_| {});
    for revision in ["EIO=3&", "EIO=2&", "EIO=abc&", "EIO=&", "", "EIO=04&", "EIO=4&EIO=4&"] {
        for query in ["transport=polling", "transport=polling&j=0", "transport=polling&b64=1"] {
            let request = Request::get(&format!("{PATH}?{revision}{query}"));
            let answer = Http::once(server.addr, &request).await.unwrap();
            let refusal = r#"{"code":5,"message":"Unsupported protocol version"}"#;
            assert_eq!((answer.status, answer.text()), (400, refusal), "{revision}{query}");
        }
        let request = upgrade_request(&format!("{PATH}?{revision}transport=websocket"));
        let answer = Http::once(server.addr, &request).await.unwrap();
        assert_eq!((answer.status, answer.text()), (400, "Unsupported protocol version"));
    }
    // Nor does a session of revision 4 understand it.
    let engine = Engine::open(server.addr, PATH, Transport::Polling).await;
    for target in [
        engine.polling_target().replace("EIO=4", "EIO=3"),
        format!("{}&j=0", engine.polling_target().replace("EIO=4", "")),
    ] {
        let answer = Http::once(server.addr, &Request::get(&target)).await.unwrap();
        assert_eq!((answer.status, answer.text()), (400, r#"{"code":3,"message":"Bad request"}"#), "{target}");
    }
    assert_eq!(server.connections(), 1);
    serves(&server).await;
}

#[tokio::test]
async fn sec_07_nothing_of_a_request_but_digits_gets_into_a_script() {
    let server = server();
    for (j, number) in [
        ("0](alert(1));//", "1"),
        ("%22%3E%3Cscript%3E7", "7"),
        ("%0a1%0d%0a", "1"),
        ("%E2%80%A8", "0"),
        ("%D9%A3", "0"),
        ("", "0"),
        ("999999999999999999999999", "999999999"),
    ] {
        let target = open(&server, &format!("&j={j}")).await;
        let post = Request::post(&target, "d=3%3A4%22%5C").header("Content-Type", "application/x-www-form-urlencoded");
        assert_eq!(Http::once(server.addr, &post).await.unwrap().text(), "ok");
        let answer = Http::once(server.addr, &Request::get(&target)).await.unwrap();
        let expected = format!(r#"___eio[{}]("3:4\"\\");"#, number.parse::<u32>().unwrap());
        assert_eq!(answer.text(), expected, "{j}");
        let rest = answer.text().strip_prefix("___eio[").unwrap().trim_start_matches(|c: char| c.is_ascii_digit());
        assert_eq!(rest, r#"]("3:4\"\\");"#, "{j}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("content-type"), Some("text/javascript; charset=UTF-8"));
    }
    // The text of a refusal is never a script.
    let refused =
        Http::once(server.addr, &Request::get(&format!("{PATH}?EIO=3&transport=polling&j=1&sid=x"))).await.unwrap();
    assert_eq!((refused.status, refused.header("content-type")), (400, Some("application/json")));
    serves(&server).await;
}

#[tokio::test]
async fn sec_02_pages_of_other_sites_embed_no_scripts() {
    let server = EchoServer::start(|config| {
        config.allow_eio3 = true;
        config.origins = Some(Origins::only(["https://example.com"]).unwrap());
    });
    let good = |request: Request| request.header("Referer", "https://example.com/chat?room=1");
    let opened = good(Request::get(&format!("{PATH}?EIO=3&transport=polling&j=0")));
    let opened = Http::once(server.addr, &opened).await.unwrap();
    assert_eq!(opened.status, 200, "{}", opened.text());
    let text = opened.text().replace("\\\"", "\"");
    let sid = text.split_once(r#""sid":""#).unwrap().1[..20].to_owned();
    let session = format!("{PATH}?EIO=3&transport=polling&j=0&sid={sid}");
    let requests = [
        Request::get(&format!("{PATH}?EIO=3&transport=polling&j=0")),
        Request::get(&format!("{PATH}?transport=polling&j=")),
        Request::get(&session),
        Request::post(&session, "d=1%3A2"),
    ];
    for request in &requests {
        // Browsers name no origin of a script's page, and may be told to name no page either.
        for referer in [
            None,
            Some("https://evil.example/"),
            Some("https://example.com.evil/"),
            Some("https://evil.example/https://example.com/"),
            Some("https://example.com@evil.example/"),
            Some("http://example.com/"),
            Some("/chat"),
            Some("about:blank"),
            Some(""),
        ] {
            let request = match referer {
                None => request.clone(),
                Some(referer) => request.clone().header("Referer", referer),
            };
            let answer = Http::once(server.addr, &request).await.unwrap();
            assert_eq!((answer.status, answer.text().contains("Origin not allowed")), (403, true), "{referer:?}");
        }
        let both = good(request.clone()).header("Origin", "https://evil.example");
        assert_eq!(Http::once(server.addr, &both).await.unwrap().status, 403);
    }
    assert_eq!(server.connections(), 1);
    let post = good(Request::post(&session, "d=2%3A4a"));
    assert_eq!(Http::once(server.addr, &post).await.unwrap().text(), "ok");
    let poll = Http::once(server.addr, &good(Request::get(&session))).await.unwrap();
    assert_eq!(poll.text(), r#"___eio[0]("2:4a");"#);
    let named = Request::get(&format!("{PATH}?EIO=3&transport=polling&j=0")).header("Origin", "https://example.com");
    assert_eq!(Http::once(server.addr, &named).await.unwrap().status, 200);
}

#[tokio::test]
async fn sec_45_lengths_that_are_none_end_the_session_and_cost_nothing() {
    let server = server();
    let digits = "9".repeat(900_000);
    let bodies: [(&str, Vec<u8>); 14] = [
        ("text", digits.clone().into()),
        ("text", format!("{digits}:4").into()),
        ("text", format!("{}2:4a", "0".repeat(900_000)).into()),
        ("text", "18446744073709551615:4a".into()),
        ("text", "18446744073709551618:4a".into()),
        ("text", "4294967298:4a".into()),
        ("text", "999999999:4a".into()),
        ("text", "-1:4a".into()),
        ("text", "3:4a".into()),
        ("text", "2:4😀".into()),
        ("application/octet-stream", vec![9; 900_000]),
        ("application/octet-stream", [&[1][..], &[9; 900_000]].concat()),
        ("application/octet-stream", [&[1][..], &[9; 11], &[255, 4]].concat()),
        ("application/octet-stream", vec![0, 2, 255, b'4']),
    ];
    for (number, (kind, body)) in bodies.into_iter().enumerate() {
        let target = open(&server, "").await;
        let request = Request::post(&target, body).header("Content-Type", kind);
        let answer = Http::once(server.addr, &request).await.unwrap();
        assert_eq!((answer.status, answer.text()), (200, "ok"), "{number}");
        assert_eq!(server.ends.wait_for(number + 1).await[number], CloseReason::ParseError, "{number}");
    }
    serves(&server).await;
}

#[tokio::test]
async fn sec_43_bodies_of_the_smallest_packets_end_at_the_bound() {
    let server = EchoServer::start(|config| {
        config.allow_eio3 = true;
        config.max_payload_packets = 1000;
    });
    let binary = "application/octet-stream";
    let bodies: [(&str, Vec<u8>); 6] = [
        ("text", ":".repeat(1_000_000).into()),
        ("text", "0:".repeat(500_000).into()),
        ("text", "1:6".repeat(300_000).into()),
        (binary, [0, 1, 255, b'6'].repeat(250_000)),
        (binary, [0, 0, 255].repeat(300_000)),
        (binary, vec![255; 1_000_000]),
    ];
    for (number, (kind, body)) in bodies.into_iter().enumerate() {
        let target = open(&server, "").await;
        let request = Request::post(&target, body).header("Content-Type", kind);
        assert_eq!(Http::once(server.addr, &request).await.unwrap().text(), "ok");
        assert_eq!(server.ends.wait_for(number + 1).await[number], CloseReason::ParseError, "{number}");
    }
    let target = open(&server, "").await;
    let request = Request::post(&target, "2:4a".repeat(1000));
    assert_eq!(Http::once(server.addr, &request).await.unwrap().text(), "ok");
    let answer = Http::once(server.addr, &Request::get(&target)).await.unwrap();
    assert_eq!(answer.text(), "2:4a".repeat(1000));
    serves(&server).await;
}

#[tokio::test]
async fn sec_26_a_flood_of_pings_is_answered_and_delays_nobody() {
    let server = server();
    let mut flood = WebSocket::connect(server.addr, &format!("{PATH}?EIO=3&transport=websocket")).await;
    flood.text().await;
    let mut pings = Vec::new();
    for _ in 0..20_000 {
        pings.extend(posthaste_testkit::encode_frame(&posthaste_testkit::Frame::text("2"), Some([1, 2, 3, 4])));
    }
    flood.wire().write(&pings).await.unwrap();
    let mut other = Engine::open(server.addr, PATH, Transport::WebSocket).await;
    other.send("meanwhile").await.unwrap();
    assert_eq!(other.message().await.unwrap(), Packet::Text("meanwhile".to_owned()));
    for _ in 0..20_000 {
        assert_eq!(flood.text().await, "3");
    }
    let target = open(&server, "").await;
    let request = Request::post(&target, "1:2".repeat(10_000));
    assert_eq!(Http::once(server.addr, &request).await.unwrap().text(), "ok");
    let mut answered = 0;
    while answered < 10_000 {
        answered += Http::once(server.addr, &Request::get(&target)).await.unwrap().text().matches("1:3").count();
    }
    assert_eq!((answered, server.connections()), (10_000, 3));
    serves(&server).await;
}

#[tokio::test]
async fn sec_08_every_kind_of_body_gets_one_answer() {
    let server = server();
    for (number, kind) in [
        "text/plain",
        "text/plain;charset=UTF-8",
        "application/octet-stream",
        "APPLICATION/OCTET-STREAM",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json",
        "",
        ",",
    ]
    .into_iter()
    .enumerate()
    {
        for query in ["", "&j=1", "&b64=1"] {
            let target = open(&server, query).await;
            let request = Request::post(&target, "\u{0}\u{1}no payload").header("Content-Type", kind);
            let answer = Http::once(server.addr, &request).await.unwrap();
            assert_eq!((answer.status, answer.text()), (200, "ok"), "{number} {kind} {query}");
        }
        let ends = server.ends.wait_for(3 * (number + 1)).await;
        assert!(ends.iter().all(|end| *end == CloseReason::ParseError), "{kind}: {ends:?}");
    }
    serves(&server).await;
}
