//! Clients of revision 3, byte by byte: payloads with lengths, binary with its type, JSONP, their own heartbeat, the upgrade.

use std::time::Duration;

use posthaste_engine::{CloseReason, EngineConfig};
use posthaste_testkit::{Frame, Http, Packet, Request, Response, WebSocket, eventually, upgrade_request};

use crate::PATH;
use crate::echo::EchoServer;

fn allowed(config: &mut EngineConfig) {
    config.allow_eio3 = true;
}

/// A polling session of revision 3.
struct Session<'a> {
    server: &'a EchoServer,
    /// Path and query of its requests.
    target: String,
}

impl<'a> Session<'a> {
    /// Opens one; `query` is added to all its requests.
    async fn open(server: &'a EchoServer, query: &str) -> Self {
        let target = format!("{PATH}?EIO=3&transport=polling{query}");
        let opened = Http::once(server.addr, &Request::get(&target)).await.unwrap();
        assert_eq!(opened.status, 200, "{}", opened.text());
        let sid = sid_of(opened.text());
        Self { server, target: format!("{target}&sid={sid}") }
    }

    async fn get(&self) -> Response {
        Http::once(self.server.addr, &Request::get(&self.target)).await.unwrap()
    }

    /// A poll whose answer is text.
    async fn poll(&self) -> String {
        let answer = self.get().await;
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/plain; charset=UTF-8")));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        answer.text().to_owned()
    }

    async fn post(&self, body: impl Into<Vec<u8>>) {
        self.post_as("text/plain;charset=UTF-8", body).await;
    }

    async fn post_as(&self, kind: &str, body: impl Into<Vec<u8>>) {
        let request = Request::post(&self.target, body).header("Content-Type", kind);
        let answer = Http::once(self.server.addr, &request).await.unwrap();
        assert_eq!((answer.status, answer.text(), answer.header("content-type")), (200, "ok", Some("text/html")));
    }

    fn websocket_target(&self) -> String {
        self.target.replace("transport=polling", "transport=websocket")
    }
}

/// The session id in what a handshake is answered with, a script or not.
fn sid_of(opened: &str) -> String {
    let opened = opened.replace('\\', "");
    opened.split_once(r#""sid":""#).and_then(|(_, rest)| rest.split('"').next()).unwrap().to_owned()
}

#[tokio::test]
async fn a_handshake_is_a_payload_with_a_length() {
    let server = EchoServer::start(allowed);
    // Whatever is not revision 4 is revision 3.
    for query in ["EIO=3&", "EIO=2&", "EIO=abc&", "EIO=&", "EIO=4&EIO=4&", ""] {
        let opened = Http::once(server.addr, &Request::get(&format!("{PATH}?{query}transport=polling"))).await.unwrap();
        assert_eq!(opened.header("content-type"), Some("text/plain; charset=UTF-8"));
        let (length, packet) = opened.text().split_once(':').unwrap();
        assert_eq!(length.parse(), Ok(packet.len()), "{query}");
        let expected = r#"","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#;
        assert!(packet.starts_with(r#"0{"sid":""#) && packet.ends_with(expected), "{packet}");
    }
    let mut socket = WebSocket::connect(server.addr, &format!("{PATH}?EIO=3&transport=websocket")).await;
    let opened = socket.text().await;
    assert!(opened.starts_with(r#"0{"sid":""#) && opened.contains(r#""upgrades":[],"#), "{opened}");
}

#[tokio::test]
async fn lengths_count_characters_as_javascript_does() {
    let server = EchoServer::start(allowed);
    let session = Session::open(&server, "").await;
    session.post("6:4hello2:4€3:4😀7:4zwölf\u{1e}").await;
    assert_eq!(session.poll().await, "6:4hello2:4€3:4😀7:4zwölf\u{1e}");
}

#[tokio::test]
async fn binary_comes_as_bytes_to_who_takes_them_and_as_base64_to_who_does_not() {
    let server = EchoServer::start(allowed);
    let session = Session::open(&server, "&b64=1").await;
    session.post("6:4hello10:b4AQIDBA==").await;
    assert_eq!(session.poll().await, "6:4hello10:b4AQIDBA==");

    let session = Session::open(&server, "").await;
    let body = [&[0, 8, 255][..], "4hello€".as_bytes(), &[1, 5, 255, 4, 1, 2, 3, 4]].concat();
    // Text with a length of its own is counted in bytes here.
    let body = [&[0, 9, 255][..], &body[3..]].concat();
    for sent in ["text", "binary"] {
        match sent {
            "text" => session.post("7:4hello€10:b4AQIDBA==").await,
            _ => session.post_as("application/octet-stream", body.clone()).await,
        }
        let answer = session.get().await;
        assert_eq!(answer.header("content-type"), Some("application/octet-stream"), "{sent}");
        assert_eq!(answer.body, body, "{sent}");
    }
    // Without binary in it a body is text.
    session.post("2:4a").await;
    assert_eq!(session.poll().await, "2:4a");
}

#[tokio::test]
async fn binary_frames_begin_with_the_type_of_a_message() {
    let server = EchoServer::start(allowed);
    let mut socket = WebSocket::connect(server.addr, &format!("{PATH}?EIO=3&transport=websocket")).await;
    socket.text().await;
    for size in [0, 1, 124, 125, 126, 65_534, 65_535, 200_000] {
        let frame = Frame::new(2, [&[4][..], &vec![7; size]].concat());
        socket.send_text("4before").await.unwrap();
        socket.send(&frame).await.unwrap();
        socket.send_text("b4AQID").await.unwrap();
        assert_eq!(socket.text().await, "4before");
        assert_eq!(socket.frame().await.unwrap(), frame);
        assert_eq!(socket.frame().await.unwrap(), Frame::new(2, [4, 1, 2, 3]));
    }
    let mut socket = WebSocket::connect(server.addr, &format!("{PATH}?EIO=3&transport=websocket&b64=1")).await;
    socket.text().await;
    socket.send(&Frame::new(2, [4, 1, 2, 3])).await.unwrap();
    assert_eq!(socket.text().await, "b4AQID");
}

#[tokio::test]
async fn frames_that_are_no_packets_of_revision_3_end_the_session() {
    let server = EchoServer::start(allowed);
    let wrong =
        [Frame::new(2, []), Frame::new(2, [3, 1]), Frame::new(2, [b'4', 1]), Frame::text("bAQID"), Frame::text("7")];
    for (number, frame) in wrong.into_iter().enumerate() {
        let mut socket = WebSocket::connect(server.addr, &format!("{PATH}?EIO=3&transport=websocket")).await;
        socket.text().await;
        socket.send(&frame).await.unwrap();
        socket.closed().await.unwrap();
        assert_eq!(server.ends.wait_for(number + 1).await[number], CloseReason::ParseError, "{frame:?}");
    }
}

#[tokio::test]
async fn the_client_pings_and_the_server_answers() {
    let server = EchoServer::start(allowed);
    let session = Session::open(&server, "").await;
    session.post("1:22:4a").await;
    assert_eq!(session.poll().await, "1:32:4a");
    let mut socket = WebSocket::connect(server.addr, &format!("{PATH}?EIO=3&transport=websocket")).await;
    socket.text().await;
    for _ in 0..3 {
        socket.send_text("2").await.unwrap();
        assert_eq!(socket.text().await, "3");
    }
    // Only to a probe is what it brings sent back.
    socket.send_text("2probe").await.unwrap();
    assert_eq!(socket.text().await, "3");
}

#[tokio::test]
async fn a_pong_from_a_client_of_revision_3_is_the_wrong_direction() {
    let server = EchoServer::start(allowed);
    let session = Session::open(&server, "").await;
    session.post("1:3").await;
    assert_eq!(server.ends.wait_for(1).await, [CloseReason::TransportError]);
    let mut socket = WebSocket::connect(server.addr, &format!("{PATH}?EIO=3&transport=websocket")).await;
    socket.text().await;
    socket.send_text("3").await.unwrap();
    socket.closed().await.unwrap();
    assert_eq!(server.ends.wait_for(2).await[1], CloseReason::TransportError);
}

#[tokio::test]
async fn who_does_not_ping_is_given_up_and_is_sent_no_pings() {
    let server = EchoServer::start(|config| {
        allowed(config);
        config.settings.ping_interval = Duration::from_millis(100);
        config.settings.ping_timeout = Duration::from_millis(150);
    });
    let session = Session::open(&server, "").await;
    let mut socket = WebSocket::connect(server.addr, &format!("{PATH}?EIO=3&transport=websocket")).await;
    socket.text().await;
    // Messages are no pings. Whatever comes is their echo, up to the end.
    socket.send_text("4a").await.unwrap();
    assert_eq!(socket.text().await, "4a");
    assert_eq!(socket.frame().await.unwrap().opcode, 8);
    assert_eq!(server.ends.wait_for(2).await, [CloseReason::PingTimeout; 2]);
    assert_eq!(session.get().await.status, 400);
}

#[tokio::test]
async fn pings_keep_a_session_beyond_its_first_deadline() {
    let server = EchoServer::start(|config| {
        allowed(config);
        config.settings.ping_interval = Duration::from_millis(100);
        config.settings.ping_timeout = Duration::from_secs(2);
    });
    let mut socket = WebSocket::connect(server.addr, &format!("{PATH}?EIO=3&transport=websocket")).await;
    socket.text().await;
    let until = tokio::time::Instant::now() + Duration::from_millis(2_600);
    while tokio::time::Instant::now() < until {
        socket.send_text("2").await.unwrap();
        assert_eq!(socket.text().await, "3");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(server.ends.all(), []);
}

#[tokio::test]
async fn a_session_goes_from_polling_to_a_websocket() {
    let server = EchoServer::start(allowed);
    let session = Session::open(&server, "").await;
    let mut poll = Http::connect(server.addr).await;
    poll.wire().write(&Request::get(&session.target).encode()).await.unwrap();
    let mut socket = WebSocket::connect(server.addr, &session.websocket_target()).await;
    socket.send_text("2probe").await.unwrap();
    assert_eq!(socket.text().await, "3probe");
    // The poll that waits is let go with a noop.
    assert_eq!(poll.response().await.unwrap().text(), "1:6");
    // What waits for a poll leaves on the WebSocket, binary among it.
    session.post("2:4a6:b4AQID1:2").await;
    socket.send_text("5").await.unwrap();
    assert_eq!(socket.text().await, "4a");
    assert_eq!(socket.frame().await.unwrap(), Frame::new(2, [4, 1, 2, 3]));
    assert_eq!(socket.text().await, "3");
    socket.send_text("2").await.unwrap();
    assert_eq!(socket.text().await, "3");
    socket.send_text("4on").await.unwrap();
    assert_eq!(socket.text().await, "4on");
    assert_eq!(session.get().await.status, 400);
}

#[tokio::test]
async fn a_poll_under_which_the_upgrade_is_done_ends_with_a_close_packet() {
    let server = EchoServer::start(allowed);
    let session = Session::open(&server, "").await;
    let mut socket = WebSocket::connect(server.addr, &session.websocket_target()).await;
    let mut poll = Http::connect(server.addr).await;
    poll.wire().write(&Request::get(&session.target).encode()).await.unwrap();
    // Of two polls one is refused: until then the first may not have arrived.
    socket.send_text("2probe").await.unwrap();
    assert_eq!(socket.text().await, "3probe");
    assert_eq!(poll.response().await.unwrap().text(), "1:6");
    poll.wire().write(&Request::get(&session.target).encode()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    socket.send_text("5").await.unwrap();
    let last = poll.response().await.unwrap();
    assert!(["1:1", "1:6", ""].contains(&last.text()), "{}", last.text());
    socket.send_text("4on").await.unwrap();
    assert_eq!(socket.text().await, "4on");
}

#[tokio::test]
async fn closes_are_told_in_the_form_of_the_client() {
    let server = EchoServer::start(allowed);
    let session = Session::open(&server, "").await;
    session.post("6:4close").await;
    assert_eq!(session.poll().await, "8:4closing");
    assert_eq!(session.poll().await, "1:61:1");
    assert_eq!(session.get().await.status, 400);

    let session = Session::open(&server, "").await;
    let mut poll = Http::connect(server.addr).await;
    poll.wire().write(&Request::get(&session.target).encode()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    session.post("1:1").await;
    let answer = poll.response().await.unwrap();
    assert!(answer.text() == "1:6" || answer.status == 400, "{answer:?}");
    eventually("nothing is left", async || server.connections() == 0).await;
}

#[tokio::test]
async fn packets_before_a_broken_one_still_count() {
    let server = EchoServer::start(allowed);
    for (number, broken) in ["", "abc", "9:4b", "0:", "1:7", "-1:4", "6:b4AQI!"].into_iter().enumerate() {
        let session = Session::open(&server, "").await;
        session.post(format!("2:4a{broken}")).await;
        if broken.is_empty() {
            assert_eq!(session.poll().await, "2:4a");
            session.post("").await;
        }
        let ends = server.ends.wait_for(number + 1).await;
        assert_eq!(ends[number], CloseReason::ParseError, "{broken:?}");
    }
}

#[tokio::test]
async fn a_body_is_gone_on_with_when_its_handlers_allow() {
    let server = EchoServer::start(|config| {
        allowed(config);
        config.max_handlers = 1;
    });
    for kind in ["text", "binary"] {
        let session = Session::open(&server, "").await;
        let mut expected = Vec::new();
        let mut body = Vec::new();
        for (number, text) in ["4push 7", "4€", "4push 2", "4end"].into_iter().enumerate() {
            if kind == "text" {
                body.extend(format!("{}:{text}", text.chars().count()).into_bytes());
            } else {
                body.extend([0, text.len() as u8, 255]);
                body.extend(text.as_bytes());
            }
            expected.push((number, text));
        }
        session.post_as(if kind == "text" { "text/plain" } else { "application/octet-stream" }, body).await;
        let mut all = String::new();
        while !all.contains("4end") || all.matches("pushed").count() < 9 {
            all.push_str(&session.poll().await);
        }
        // Nothing behind a handler that waits is looked at before it is done.
        let first_end = all.find("pushed 6").unwrap();
        assert!(first_end < all.find("2:4€").unwrap(), "{kind}: {all}");
    }
}

#[tokio::test]
async fn the_revisions_do_not_mix() {
    let server = EchoServer::start(allowed);
    let third = Session::open(&server, "").await;
    let fourth = posthaste_testkit::Engine::open(server.addr, PATH, posthaste_testkit::Transport::Polling).await;
    let targets = [
        third.target.replace("EIO=3", "EIO=4"),
        third.target.replace("EIO=3", "EIO=4").replace("polling", "websocket"),
        fourth.polling_target().replace("EIO=4", "EIO=3"),
        fourth.polling_target().replace("EIO=4", "EIO=5"),
        fourth.probe_target().replace("EIO=4", "EIO=3"),
    ];
    for target in &targets {
        let request = if target.contains("websocket") { upgrade_request(target) } else { Request::get(target) };
        let answer = Http::once(server.addr, &request).await.unwrap();
        assert_eq!((answer.status, answer.text().contains("Bad request")), (400, true), "{target}: {answer:?}");
    }
    third.post("2:4a").await;
    assert_eq!(third.poll().await, "2:4a");
    let mut fourth = fourth;
    fourth.send("b").await.unwrap();
    assert_eq!(fourth.message().await.unwrap(), Packet::Text("b".to_owned()));
}

#[tokio::test]
async fn scripts_and_forms_carry_payloads() {
    let server = EchoServer::start(allowed);
    let opened = Http::once(server.addr, &Request::get(&format!("{PATH}?EIO=3&transport=polling&j=12"))).await.unwrap();
    assert_eq!(opened.header("content-type"), Some("text/javascript; charset=UTF-8"));
    assert_eq!(opened.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(opened.header("cache-control"), Some("no-store"));
    let string = opened.text().strip_prefix("___eio[12](").and_then(|rest| rest.strip_suffix(");")).unwrap();
    let payload = string.replace("\\\"", "\"");
    let (length, packet) = payload.trim_matches('"').split_once(':').unwrap();
    assert_eq!(length.parse(), Ok(packet.len()));

    let target = format!("{PATH}?EIO=3&transport=polling&j=12&sid={}", sid_of(packet));
    let form = |body: &str| {
        Request::post(&target, body.to_owned()).header("Content-Type", "application/x-www-form-urlencoded")
    };
    // A line feed, a backslash before an n, both kinds of line separators, a quote, bytes.
    let body = "d=19%3A4a%5Cnb%5C%5Cnc%E2%80%A8%E2%80%A9%22%3C%2Fscript%3E6%3Ab4AQID";
    let answer = Http::once(server.addr, &form(body)).await.unwrap();
    assert_eq!((answer.status, answer.text(), answer.header("content-type")), (200, "ok", Some("text/html")));
    let poll = Request::get(&target.replace("j=12", "j=0](x)//3"));
    let answer = Http::once(server.addr, &poll).await.unwrap();
    // Bytes are base64 here, whatever else the client takes.
    assert_eq!(answer.text(), "___eio[3](\"19:4a\\nb\\\\nc\\u2028\\u2029\\\"</script>6:b4AQID\");");

    for (number, broken) in ["", "d", "d=", "x=1%3A2", "1:2", "d=1%3A2&d=1%3A2"].into_iter().enumerate() {
        let session = Session::open(&server, "&j=0").await;
        session.post_as("application/x-www-form-urlencoded", broken).await;
        assert_eq!(server.ends.wait_for(number + 1).await[number], CloseReason::ParseError, "{broken:?}");
    }
}

#[tokio::test]
async fn a_session_without_jsonp_is_not_polled_by_scripts() {
    let server = EchoServer::start(allowed);
    let session = Session::open(&server, "").await;
    let answer = Http::once(server.addr, &Request::get(&format!("{}&j=0", session.target))).await.unwrap();
    assert_eq!((answer.status, answer.text()), (400, r#"{"code":3,"message":"Bad request"}"#));
    session.post("2:4a").await;
    assert_eq!(session.poll().await, "2:4a");
    // Revision 4 has no JSONP: the parameter means nothing.
    let fourth = Http::once(server.addr, &Request::get(&format!("{PATH}?EIO=4&transport=polling&j=0"))).await.unwrap();
    assert!(fourth.text().starts_with("0{"), "{}", fourth.text());
}
