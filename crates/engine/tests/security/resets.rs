//! SEC-06: connections that break at every possible byte.

use std::time::Duration;

use posthaste_testkit::{Engine, Frame, Request, Transport, Wire, encode_frame, eventually, upgrade_request};

use crate::echo::EchoServer;
use crate::{PATH, POLLING, WEBSOCKET, serves};

const MASK: Option<[u8; 4]> = Some([1, 2, 3, 4]);

/// How a connection ends.
#[derive(Clone, Copy, Debug)]
enum End {
    /// With a reset.
    Reset,
    /// In good order.
    Close,
    /// No more is said, but the answer is awaited.
    Finish,
}

/// Sends `bytes` up to every one of them, and ends the connection there.
async fn break_everywhere(addr: std::net::SocketAddr, bytes: &[u8]) {
    for count in 0..=bytes.len() {
        for end in [End::Reset, End::Close, End::Finish] {
            let mut wire = Wire::connect(addr).await;
            wire.write(&bytes[..count]).await.unwrap();
            match end {
                End::Reset => wire.reset(),
                End::Close => drop(wire),
                End::Finish => wire.finish().await.unwrap(),
            }
        }
    }
}

/// A session that was opened by a request whose sender is gone ends with its heartbeat: that is soon here.
fn short_lived() -> EchoServer {
    EchoServer::start(|config| {
        config.settings.ping_interval = Duration::from_millis(200);
        config.settings.ping_timeout = Duration::from_millis(200);
    })
}

#[tokio::test]
async fn sec_06_a_polling_handshake_that_breaks_anywhere_leaves_nothing_behind() {
    let server = short_lived();
    break_everywhere(server.addr, &Request::get(POLLING).encode()).await;
    eventually("nothing is left", async || server.connections() == 0).await;
    serves(&server).await;
}

#[tokio::test]
async fn sec_06_a_websocket_handshake_that_breaks_anywhere_leaves_nothing_behind() {
    let server = short_lived();
    let mut bytes = upgrade_request(WEBSOCKET).encode();
    bytes.extend(encode_frame(&Frame::text("4hello"), MASK));
    bytes.extend(encode_frame(&Frame::close(1000), MASK));
    break_everywhere(server.addr, &bytes).await;
    eventually("nothing is left", async || server.connections() == 0).await;
    serves(&server).await;
}

#[tokio::test]
async fn sec_06_a_refused_upgrade_that_breaks_anywhere_leaves_nothing_behind() {
    let server = short_lived();
    let bytes = upgrade_request(&format!("{WEBSOCKET}&sid=AAAAAAAAAAAAAAAAAAAA")).encode();
    break_everywhere(server.addr, &bytes).await;
    let bytes = upgrade_request("/engine.io/?EIO=3&transport=websocket").encode();
    break_everywhere(server.addr, &bytes).await;
    assert_eq!(server.connections(), 0);
    serves(&server).await;
}

#[tokio::test]
async fn sec_06_an_upgrade_that_breaks_anywhere_leaves_polling_or_nothing() {
    let server = EchoServer::start(|_| {});
    let frames = ["2probe", "5", "4hello"].map(|text| encode_frame(&Frame::text(text), MASK)).concat();
    let mut engine = Engine::open(server.addr, PATH, Transport::Polling).await;
    let length = upgrade_request(&engine.probe_target()).encode().len() + frames.len();
    // Up to here the upgrade packet is not complete, and the session may be used again.
    let switched = length - encode_frame(&Frame::text("4hello"), MASK).len();
    for count in 0..=length {
        let mut bytes = upgrade_request(&engine.probe_target()).encode();
        bytes.extend(&frames);
        let mut wire = Wire::connect(server.addr).await;
        wire.write(&bytes[..count]).await.unwrap();
        if count % 2 == 0 {
            wire.reset();
        } else {
            drop(wire);
        }
        if count < switched {
            engine.send("still polling").await.unwrap();
            assert_eq!(engine.message().await.unwrap(), posthaste_testkit::Packet::Text("still polling".to_owned()));
        } else {
            // Whether the end or the upgrade was seen first, one of the two transports is the session's.
            let _ = engine.leave().await;
            engine = Engine::open(server.addr, PATH, Transport::Polling).await;
        }
    }
    engine.leave().await.unwrap();
    eventually("nothing is left", async || server.connections() == 0).await;
    serves(&server).await;
}

#[tokio::test]
async fn sec_06_a_post_that_breaks_anywhere_ends_its_session() {
    let server = short_lived();
    let body = "4hello\x1e4world";
    let length = Request::post(&format!("{POLLING}&sid=AAAAAAAAAAAAAAAAAAAA"), body).encode().len();
    for count in 0..=length {
        let engine = Engine::open(server.addr, PATH, Transport::Polling).await;
        let bytes = Request::post(&engine.polling_target(), body).encode();
        let mut wire = Wire::connect(server.addr).await;
        wire.write(&bytes[..count]).await.unwrap();
        if count % 2 == 0 {
            wire.reset();
        }
    }
    eventually("nothing is left", async || server.connections() == 0).await;
    serves(&server).await;
}
