//! SEC-05, SEC-17, SEC-45: what comes first on a WebSocket is judged like everything after it.

use posthaste_engine::CloseReason;
use posthaste_testkit::{Engine, Frame, Transport, WebSocket, encode_frame, eventually};

use crate::echo::EchoServer;
use crate::{PATH, WEBSOCKET, serves};

const MASK: Option<[u8; 4]> = Some([0xde, 0xad, 0xbe, 0xef]);

/// A masked frame's header alone, with a length of the sender's choice in eight bytes.
fn header(first: u8, length: u64) -> Vec<u8> {
    let mut bytes = vec![first, 0x80 | 127];
    bytes.extend(length.to_be_bytes());
    bytes.extend([0; 4]);
    bytes
}

/// Bytes that break a rule, and the code they get.
fn violations() -> Vec<(&'static str, Vec<u8>, u16)> {
    let masked = |frame: Frame| encode_frame(&frame, MASK);
    vec![
        ("the first reserved bit", masked(Frame { reserved: 4, ..Frame::text("4a") }), 1002),
        ("the second reserved bit", masked(Frame { reserved: 2, ..Frame::text("4a") }), 1002),
        ("the third reserved bit", masked(Frame { reserved: 1, ..Frame::text("4a") }), 1002),
        ("opcode 3", masked(Frame::new(3, "4a")), 1002),
        ("opcode 7", masked(Frame::new(7, "4a")), 1002),
        ("opcode 11", masked(Frame::new(11, "")), 1002),
        ("opcode 15", masked(Frame::new(15, "")), 1002),
        ("no mask", encode_frame(&Frame::text("4a"), None), 1002),
        ("a continuation of nothing", masked(Frame::new(0, "4a")), 1002),
        (
            "a message within a message",
            [masked(Frame::text("4a").unfinished()), masked(Frame::text("4b"))].concat(),
            1002,
        ),
        ("a ping in fragments", masked(Frame::new(9, "").unfinished()), 1002),
        ("a close in fragments", masked(Frame::close(1000).unfinished()), 1002),
        ("a ping of 126 bytes", masked(Frame::new(9, [0; 126])), 1002),
        ("a length in more bytes than it needs", header(0x81, 5), 1002),
        ("text that is none", masked(Frame::new(1, [b'4', 0xc3, 0x28])), 1007),
        ("text that ends too soon", masked(Frame::new(1, [b'4', 0xe2, 0x82])), 1007),
        ("sec_17 a message a byte too long", masked(Frame::new(2, vec![0; 1001])), 1009),
        ("sec_17 a text a byte too long", masked(Frame::new(1, vec![b'4'; 1001])), 1009),
        (
            "sec_17 fragments a byte too long together",
            [masked(Frame::new(2, [0; 900]).unfinished()), masked(Frame::new(0, [0; 101]))].concat(),
            1009,
        ),
        ("sec_17 a tebibyte that never comes", header(0x82, 1 << 40), 1009),
        ("sec_45 a length with the highest bit", header(0x82, 1 << 63), 1002),
        ("sec_45 the largest length of all", header(0x81, u64::MAX), 1002),
        ("sec_45 the largest length a file may have", header(0x82, i64::MAX as u64), 1009),
        ("an HTTP request", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), 1002),
    ]
}

#[tokio::test]
async fn sec_05_a_websocket_that_begins_with_a_violation_is_closed_with_its_code() {
    let server = EchoServer::start(|config| config.max_payload = 1000);
    let violations = violations();
    for (name, bytes, code) in &violations {
        let mut socket = WebSocket::connect(server.addr, WEBSOCKET).await;
        socket.wire().write(bytes).await.unwrap();
        assert!(socket.text().await.starts_with("0{"), "{name}");
        let close = socket.closed().await.unwrap().unwrap_or_else(|| panic!("{name}: no close frame"));
        assert_eq!(close.close_code(), Some(*code), "{name}: {close:?}");
        // SEC-21: a reason is short, and text.
        assert!(close.payload.len() <= 125 && std::str::from_utf8(&close.payload[2..]).is_ok(), "{name}");
    }
    assert_eq!(server.ends.wait_for(violations.len()).await, vec![CloseReason::TransportError; violations.len()]);
    assert_eq!(server.connections(), 0);
    serves(&server).await;
}

#[tokio::test]
async fn sec_05_a_violation_right_behind_an_upgrade_is_closed_with_its_code() {
    let server = EchoServer::start(|config| config.max_payload = 1000);
    for (name, bytes, code) in violations() {
        let engine = Engine::open(server.addr, PATH, Transport::Polling).await;
        let mut socket = WebSocket::connect(server.addr, &engine.probe_target()).await;
        let mut all = encode_frame(&Frame::text("2probe"), MASK);
        all.extend(encode_frame(&Frame::text("5"), MASK));
        all.extend(&bytes);
        socket.wire().write(&all).await.unwrap();
        assert_eq!(socket.text().await, "3probe", "{name}");
        let close = socket.closed().await.unwrap().unwrap_or_else(|| panic!("{name}: no close frame"));
        assert_eq!(close.close_code(), Some(code), "{name}");
    }
    eventually("all are gone", async || server.connections() == 0).await;
    serves(&server).await;
}

#[tokio::test]
async fn sec_05_a_violation_in_place_of_a_probe_costs_the_probe_only() {
    let server = EchoServer::start(|config| config.max_payload = 1000);
    let mut engine = Engine::open(server.addr, PATH, Transport::Polling).await;
    for (name, bytes, code) in violations() {
        let mut socket = WebSocket::connect(server.addr, &engine.probe_target()).await;
        socket.wire().write(&bytes).await.unwrap();
        let close = socket.closed().await.unwrap();
        // What is no message of the probe's may be closed without a code before the rule is broken.
        assert!(close.is_some_and(|close| close.close_code().is_none_or(|found| found == code)), "{name}");
        engine.send(name).await.unwrap();
        assert_eq!(engine.message().await.unwrap(), posthaste_testkit::Packet::Text(name.to_owned()));
    }
    assert!(server.ends.all().is_empty());
}
