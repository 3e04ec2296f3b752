//! WebSockets, frame by frame.

use posthaste_engine::CloseReason;
use posthaste_testkit::{
    Engine, Frame, Http, Request, Transport, WebSocket, Wire, encode_frame, eventually, upgrade_request,
};

use crate::PATH;
use crate::echo::EchoServer;

const TARGET: &str = "/engine.io/?EIO=4&transport=websocket";

#[tokio::test]
async fn messages_come_back_as_they_went_whatever_their_length() {
    let server = EchoServer::start(|_| {});
    let mut engine = Engine::open(server.addr, PATH, Transport::WebSocket).await;
    let socket = engine.websocket();
    for length in [0, 1, 124, 125, 126, 127, 65_534, 65_535, 65_536, 300_000] {
        for frame in [Frame::text(&format!("4{}", "x".repeat(length))), Frame::new(2, vec![7; length])] {
            socket.send(&frame).await.unwrap();
            assert!(socket.frame().await.unwrap() == frame, "{length} bytes");
        }
    }
}

#[tokio::test]
async fn fragments_are_one_message_and_control_frames_may_come_between() {
    let server = EchoServer::start(|_| {});
    let mut engine = Engine::open(server.addr, PATH, Transport::WebSocket).await;
    let socket = engine.websocket();
    let text = "4zw\u{f6}lf Boxk\u{e4}mpfer".as_bytes();
    for size in [1, 2, 5] {
        let pieces: Vec<&[u8]> = text.chunks(size).collect();
        for (index, piece) in pieces.iter().enumerate() {
            let frame = Frame::new(u8::from(index == 0), *piece);
            socket.send(&if index + 1 < pieces.len() { frame.unfinished() } else { frame }).await.unwrap();
            if index == 1 {
                socket.send(&Frame::new(9, "ping")).await.unwrap();
                assert_eq!(socket.frame().await.unwrap(), Frame::new(10, "ping"));
            }
        }
        assert_eq!(socket.frame().await.unwrap(), Frame::new(1, text));
    }
}

#[tokio::test]
async fn bytes_that_come_one_by_one_are_the_same_bytes() {
    let server = EchoServer::start(|_| {});
    let mut wire = Wire::connect(server.addr).await;
    let mut bytes = upgrade_request(TARGET).encode();
    for byte in bytes.drain(..) {
        wire.write(&[byte]).await.unwrap();
    }
    let mut http = Http::new(wire);
    assert_eq!(http.response().await.unwrap().status, 101);
    let mut wire = http.into_wire();
    for byte in encode_frame(&Frame::text("4slowly"), Some([1, 2, 3, 4])) {
        wire.write(&[byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    let received = wire.take(2).await.unwrap();
    wire.take(usize::from(received[1])).await.unwrap();
    assert_eq!(wire.take(9).await.unwrap(), b"\x81\x074slowly"[..]);
}

/// A client in a hurry sends its first frames behind the request, before it knows that it may.
#[tokio::test]
async fn frames_that_come_with_the_request_are_not_lost() {
    let server = EchoServer::start(|_| {});
    for number in 0..20 {
        let mut wire = Wire::connect(server.addr).await;
        let mut bytes = upgrade_request(TARGET).encode();
        for text in ["4first", "4second"] {
            bytes.extend(encode_frame(&Frame::text(text), Some([9, 9, 9, 9])));
        }
        let cut = if number % 2 == 0 { bytes.len() } else { bytes.len() - 3 };
        wire.write(&bytes[..cut]).await.unwrap();
        let mut http = Http::new(wire);
        assert_eq!(http.response().await.unwrap().status, 101);
        let mut wire = http.into_wire();
        wire.write(&bytes[cut..]).await.unwrap();
        let open = wire.take(2).await.unwrap();
        wire.take(usize::from(open[1])).await.unwrap();
        assert_eq!(wire.take(17).await.unwrap(), b"\x81\x064first\x81\x074second"[..]);
    }
}

#[tokio::test]
async fn a_close_frame_is_echoed_and_the_server_closes() {
    let server = EchoServer::start(|_| {});
    for (frame, code) in [(Frame::close(1000), Some(1000)), (Frame::close(4321), Some(4321)), (Frame::new(8, []), None)]
    {
        let mut socket = WebSocket::connect(server.addr, TARGET).await;
        socket.text().await;
        socket.send_text("4before").await.unwrap();
        socket.send(&frame).await.unwrap();
        // What follows a close frame is nobody's.
        socket.send_text("4after").await.unwrap();
        assert_eq!(socket.text().await, "4before");
        let answer = socket.frame().await.unwrap();
        assert_eq!((answer.opcode, answer.close_code()), (8, code));
        assert_eq!(socket.closed().await.unwrap(), None);
    }
    assert_eq!(server.ends.wait_for(3).await, [CloseReason::TransportClose; 3]);
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn a_close_packet_means_nothing_on_a_websocket() {
    let server = EchoServer::start(|_| {});
    let mut engine = Engine::open(server.addr, PATH, Transport::WebSocket).await;
    for packet in ["1", "0", "5", "6", "3"] {
        engine.websocket().send_text(packet).await.unwrap();
    }
    engine.send("still here").await.unwrap();
    assert_eq!(engine.websocket().text().await, "4still here");
}

#[tokio::test]
async fn a_session_closed_by_the_application_says_its_last_word_and_goes_without_a_code() {
    let server = EchoServer::start(|_| {});
    let mut engine = Engine::open(server.addr, PATH, Transport::WebSocket).await;
    engine.send("close").await.unwrap();
    assert_eq!(engine.websocket().text().await, "4closing");
    assert_eq!(engine.websocket().frame().await.unwrap(), Frame::new(8, []));
    assert_eq!(engine.closed().await.unwrap(), None);
    assert_eq!(server.ends.wait_for(1).await, [CloseReason::ForcedClose]);
}

#[tokio::test]
async fn a_handshake_that_is_none_is_refused_and_its_connection_closed() {
    let server = EchoServer::start(|_| {});
    let upgrade = |target: &str| Request::get(target).header("Connection", "Upgrade").header("Upgrade", "websocket");
    let (version, key) = (("Sec-WebSocket-Version", "13"), ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="));
    let with = |target: &str, headers: &[(&str, &str)]| {
        headers.iter().fold(upgrade(target), |request, (name, value)| request.header(name, value))
    };
    for (request, text) in [
        (with(TARGET, &[version]), "Bad request"),
        (with(TARGET, &[key]), "Bad request"),
        (with(TARGET, &[("Sec-WebSocket-Version", "8"), key]), "Bad request"),
        (with(TARGET, &[version, ("Sec-WebSocket-Key", "short")]), "Bad request"),
        (with("/engine.io/?EIO=4&transport=polling", &[version, key]), "Bad request"),
        (with("/engine.io/?EIO=4", &[version, key]), "Transport unknown"),
        (with("/engine.io/?EIO=3&transport=websocket", &[version, key]), "Unsupported protocol version"),
        (with(&format!("{TARGET}&sid=AAAAAAAAAAAAAAAAAAAA"), &[version, key]), "Session ID unknown"),
        (with(&format!("{TARGET}&sid=x"), &[version, key]), "Session ID unknown"),
    ] {
        let mut http = Http::connect(server.addr).await;
        let answer = http.send(&request).await.unwrap();
        assert_eq!((answer.status, answer.text()), (400, text));
        assert_eq!(answer.header("connection"), Some("close"));
        assert_eq!(http.wire().take_rest().await.unwrap(), b"");
    }
    // Without the upgrade headers it is a plain request with the wrong transport.
    let plain = Http::once(server.addr, &Request::get(TARGET)).await.unwrap();
    assert_eq!((plain.status, plain.text()), (400, r#"{"code":3,"message":"Bad request"}"#));
    eventually("nothing was opened", async || server.connections() == 0).await;
    assert!(server.ends.all().is_empty());
}

#[tokio::test]
async fn upgrade_headers_may_have_any_case_and_company() {
    let server = EchoServer::start(|_| {});
    for (connection, upgrade) in
        [("upgrade", "WebSocket"), ("keep-alive, Upgrade", "WEBSOCKET"), ("UPGRADE,close", "h2c, websocket")]
    {
        let request = Request::get(TARGET)
            .header("CONNECTION", connection)
            .header("upgrade", upgrade)
            .header("sec-websocket-version", "13")
            .header("SEC-WEBSOCKET-KEY", "dGhlIHNhbXBsZSBub25jZQ==")
            .header("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits")
            .header("Sec-WebSocket-Protocol", "chat, superchat");
        let mut http = Http::connect(server.addr).await;
        let answer = http.send(&request).await.unwrap();
        assert_eq!(answer.status, 101, "{connection} {upgrade}");
        // Nothing was agreed on that this server does not do.
        assert_eq!((answer.header("sec-websocket-extensions"), answer.header("sec-websocket-protocol")), (None, None));
    }
}
