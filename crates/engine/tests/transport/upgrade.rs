//! From polling to a WebSocket: the way there, and every way to fail on it.

use std::time::Duration;

use posthaste_engine::CloseReason;
use posthaste_testkit::{
    Engine, Frame, Http, Packet, Request, Transport, WebSocket, Wire, encode_frame, eventually, upgrade_request,
};

use crate::PATH;
use crate::echo::EchoServer;

async fn polling(server: &EchoServer) -> Engine {
    Engine::open(server.addr, PATH, Transport::Polling).await
}

/// Opens a WebSocket for the session of `engine`.
async fn probe(server: &EchoServer, engine: &Engine) -> WebSocket {
    WebSocket::connect(server.addr, &engine.probe_target()).await
}

/// Opens one that was answered.
async fn probed(server: &EchoServer, engine: &Engine) -> WebSocket {
    let mut socket = probe(server, engine).await;
    socket.send_text("2probe").await.unwrap();
    assert_eq!(socket.text().await, "3probe");
    socket
}

async fn echoes(engine: &mut Engine, text: &str) {
    engine.send(text).await.unwrap();
    assert_eq!(engine.message().await.unwrap(), Packet::Text(text.to_owned()));
}

#[tokio::test]
async fn an_upgraded_session_goes_on_where_it_was() {
    let server = EchoServer::start(|_| {});
    let mut engine = polling(&server).await;
    echoes(&mut engine, "before").await;
    // Said on one transport, heard on the other.
    engine.send("between").await.unwrap();
    engine.upgrade().await.unwrap();
    assert_eq!(engine.message().await.unwrap(), Packet::Text("between".to_owned()));
    echoes(&mut engine, "after").await;
    assert_eq!(server.connections(), 1);
    assert!(server.ends.all().is_empty());
}

#[tokio::test]
async fn a_poll_that_waits_is_let_go_for_the_upgrade() {
    let server = EchoServer::start(|_| {});
    // After the probe, by a noop; several, if it comes again.
    let mut engine = polling(&server).await;
    engine.begin_poll().await.unwrap();
    let _socket = probed(&server, &engine).await;
    for _ in 0..3 {
        assert_eq!(engine.packet().await.unwrap(), Packet::Text("6".to_owned()));
        engine.begin_poll().await.unwrap();
    }
    // By the switch itself, if the client did not wait for that.
    let mut engine = polling(&server).await;
    engine.park().await.unwrap();
    let mut socket = probe(&server, &engine).await;
    socket.send_text("5").await.unwrap();
    assert_eq!(engine.packet().await.unwrap(), Packet::Text("1".to_owned()));
    socket.send_text("4hello").await.unwrap();
    assert_eq!(socket.text().await, "4hello");
}

#[tokio::test]
async fn an_upgraded_session_takes_no_polling_and_no_second_websocket() {
    let server = EchoServer::start(|_| {});
    let mut engine = polling(&server).await;
    let (get, post) = (Request::get(&engine.polling_target()), Request::post(&engine.polling_target(), "4x"));
    engine.upgrade().await.unwrap();
    echoes(&mut engine, "switched").await;
    for request in [get, post] {
        let answer = Http::once(server.addr, &request).await.unwrap();
        assert_eq!((answer.status, answer.text()), (400, r#"{"code":3,"message":"Bad request"}"#));
    }
    let mut second = probe(&server, &engine).await;
    assert_eq!(second.closed().await.unwrap(), Some(Frame::new(8, [])));
    echoes(&mut engine, "undisturbed").await;
}

#[tokio::test]
async fn a_second_probe_is_closed_and_does_not_disturb_the_first() {
    let server = EchoServer::start(|_| {});
    let mut engine = polling(&server).await;
    let mut first = probed(&server, &engine).await;
    let mut second = probe(&server, &engine).await;
    assert_eq!(second.closed().await.unwrap(), Some(Frame::new(8, [])));
    echoes(&mut engine, "polling still").await;
    first.send_text("5").await.unwrap();
    first.send_text("4switched").await.unwrap();
    assert_eq!(first.text().await, "4switched");
}

#[tokio::test]
async fn an_abandoned_probe_leaves_polling_as_it_was() {
    let server = EchoServer::start(|_| {});
    let mut engine = polling(&server).await;
    for how in 0..8 {
        let is_answered = how % 2 == 1;
        let socket = if is_answered { probed(&server, &engine).await } else { probe(&server, &engine).await };
        let mut socket = socket;
        match how / 2 {
            0 => drop(socket),
            1 => socket.reset(),
            2 => {
                socket.send(&Frame::close(1000)).await.unwrap();
                socket.closed().await.unwrap();
            }
            _ => {
                // Half of what it wanted to say.
                let upgrade = encode_frame(&Frame::text("5"), Some([1; 4]));
                socket.wire().write(&upgrade[..upgrade.len() - 1]).await.unwrap();
                drop(socket);
            }
        }
        echoes(&mut engine, &format!("after {how}")).await;
        // The next probe is refused until the loss of this one was noticed.
        let next = async || {
            let mut next = probe(&server, &engine).await;
            next.send_text("2probe").await.is_ok() && next.frame().await.is_ok_and(|frame| frame.payload == b"3probe")
        };
        eventually("the loss is noticed", next).await;
    }
    eventually("the last one is noticed too", async || {
        let mut next = probe(&server, &engine).await;
        next.send_text("2probe").await.is_ok() && next.frame().await.is_ok_and(|frame| frame.payload == b"3probe")
    })
    .await;
    assert_eq!(server.connections(), 1);
    assert!(server.ends.all().is_empty());
}

#[tokio::test]
async fn a_wrong_probe_is_closed_and_polling_stays_as_it_was() {
    let server = EchoServer::start(|_| {});
    let mut engine = polling(&server).await;
    let wrong = [
        (Frame::text("2other"), None),
        (Frame::text("2"), None),
        (Frame::text("3probe"), None),
        (Frame::text("4message"), None),
        (Frame::text("1"), None),
        (Frame::text("6"), None),
        (Frame::text(""), None),
        (Frame::text("x"), None),
        (Frame::new(2, [1, 2, 3]), None),
        (Frame { reserved: 1, ..Frame::text("2probe") }, Some(1002)),
        (Frame { opcode: 5, ..Frame::text("2probe") }, Some(1002)),
        (Frame::new(1, [0xff]), Some(1007)),
        (Frame::new(2, vec![0; 1_000_001]), Some(1009)),
    ];
    for (frame, code) in wrong {
        for is_answered in [false, true] {
            let mut socket = if is_answered { probed(&server, &engine).await } else { probe(&server, &engine).await };
            // One that is much too long is refused by its header, while the rest of it is still coming.
            let _ = socket.send(&frame).await;
            let close = socket.closed().await.unwrap().unwrap();
            assert_eq!(close.close_code(), code, "{:?}", &frame.payload[..frame.payload.len().min(10)]);
            echoes(&mut engine, "polling").await;
        }
    }
    engine.upgrade().await.unwrap();
    echoes(&mut engine, "switched").await;
}

#[tokio::test]
async fn an_unmasked_probe_is_a_violation_and_polling_stays_as_it_was() {
    let server = EchoServer::start(|_| {});
    let mut engine = polling(&server).await;
    let mut socket = probe(&server, &engine).await;
    socket.wire().write(&encode_frame(&Frame::text("2probe"), None)).await.unwrap();
    assert_eq!(socket.closed().await.unwrap().unwrap().close_code(), Some(1002));
    echoes(&mut engine, "polling").await;
}

#[tokio::test]
async fn a_probe_that_takes_too_long_is_closed_and_polling_goes_on() {
    let server = EchoServer::start(|config| config.settings.upgrade_timeout = Duration::from_secs(1));
    let mut engine = polling(&server).await;
    for is_answered in [false, true] {
        let mut socket = if is_answered { probed(&server, &engine).await } else { probe(&server, &engine).await };
        echoes(&mut engine, "while it waits").await;
        assert_eq!(socket.closed().await.unwrap(), Some(Frame::new(8, [])));
        echoes(&mut engine, "polling").await;
    }
    engine.upgrade().await.unwrap();
    echoes(&mut engine, "switched").await;
    tokio::time::sleep(Duration::from_millis(1_300)).await;
    echoes(&mut engine, "for good").await;
}

/// The official client waits for its POST before it switches. One that does not loses nothing either.
#[tokio::test]
async fn a_post_that_is_under_way_at_the_switch_is_answered_and_counts() {
    let server = EchoServer::start(|_| {});
    let engine = polling(&server).await;
    let mut post = Http::connect(server.addr).await;
    post.begin_chunked(Request::new("POST", &engine.polling_target())).await.unwrap();
    post.chunk(b"4first half").await.unwrap();
    let mut socket = probed(&server, &engine).await;
    socket.send_text("5").await.unwrap();
    socket.send_text("4on the WebSocket").await.unwrap();
    assert_eq!(socket.text().await, "4on the WebSocket");
    post.chunk(b", second half\x1e4and more").await.unwrap();
    post.chunk(b"").await.unwrap();
    let answer = post.response().await.unwrap();
    assert_eq!((answer.status, answer.text()), (200, "ok"));
    assert_eq!(socket.text().await, "4first half, second half");
    assert_eq!(socket.text().await, "4and more");
    // One that never ends costs its own connection only.
    let engine = polling(&server).await;
    let mut post = Http::connect(server.addr).await;
    post.begin_chunked(Request::new("POST", &engine.polling_target())).await.unwrap();
    let mut socket = probed(&server, &engine).await;
    socket.send_text("5").await.unwrap();
    drop(post);
    socket.send_text("4still here").await.unwrap();
    assert_eq!(socket.text().await, "4still here");
    assert!(server.ends.all().is_empty());
}

#[tokio::test]
async fn everything_may_come_at_once() {
    let server = EchoServer::start(|_| {});
    for _ in 0..20 {
        let mut engine = polling(&server).await;
        engine.send("waits for the switch").await.unwrap();
        let mut wire = Wire::connect(server.addr).await;
        let mut bytes = upgrade_request(&engine.probe_target()).encode();
        for text in ["2probe", "5", "4first", "4second"] {
            bytes.extend(encode_frame(&Frame::text(text), Some([3, 1, 4, 1])));
        }
        wire.write(&bytes).await.unwrap();
        let mut http = Http::new(wire);
        assert_eq!(http.response().await.unwrap().status, 101);
        let mut wire = http.into_wire();
        for text in ["3probe", "4waits for the switch", "4first", "4second"] {
            let frame = encode_frame(&Frame::text(text), None);
            let received = wire.take(frame.len()).await.unwrap();
            assert_eq!(String::from_utf8_lossy(&received), String::from_utf8_lossy(&frame));
        }
    }
}

#[tokio::test]
async fn a_session_that_ends_while_upgrading_closes_its_probe() {
    let server = EchoServer::start(|_| {});
    // The client ends it.
    let mut engine = polling(&server).await;
    let mut socket = probed(&server, &engine).await;
    engine.post(&[Packet::Text("1".to_owned())]).await.unwrap();
    assert_eq!(socket.closed().await.unwrap(), Some(Frame::new(8, [])));
    assert_eq!(server.ends.wait_for(1).await, [CloseReason::TransportClose]);
    // A mistake of the client ends it.
    let mut engine = polling(&server).await;
    let mut socket = probed(&server, &engine).await;
    engine.post(&[Packet::Text("2".to_owned())]).await.unwrap();
    assert_eq!(socket.closed().await.unwrap(), Some(Frame::new(8, [])));
    eventually("both are gone", async || server.connections() == 0).await;
}

#[tokio::test]
async fn a_session_that_the_application_closes_while_upgrading_ends_on_whichever_transport_it_reaches() {
    let server = EchoServer::start(|_| {});
    // The client completes the upgrade.
    let mut engine = polling(&server).await;
    let mut socket = probed(&server, &engine).await;
    engine.post(&[Packet::message("close")]).await.unwrap();
    socket.send_text("5").await.unwrap();
    assert_eq!(socket.text().await, "4closing");
    assert_eq!(socket.closed().await.unwrap(), Some(Frame::new(8, [])));
    eventually("it is gone", async || server.connections() == 0).await;
    // The client goes on polling.
    let mut engine = polling(&server).await;
    let mut socket = probed(&server, &engine).await;
    engine.post(&[Packet::message("close")]).await.unwrap();
    assert_eq!(engine.message().await.unwrap(), Packet::Text("closing".to_owned()));
    engine.closed().await.unwrap();
    assert_eq!(socket.closed().await.unwrap(), Some(Frame::new(8, [])));
    eventually("it is gone", async || server.connections() == 0).await;
    assert_eq!(server.ends.all().len(), 2, "each was told once");
}
