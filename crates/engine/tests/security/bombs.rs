//! SEC-44, SEC-18: compressed messages that are more than they seem, or nothing at all, and offers to compress of every kind.

use std::time::{Duration, Instant};

use posthaste_engine::{CloseReason, Deflate};
use posthaste_testkit::{Frame, Http, Random, WebSocket, resident_bytes, upgrade_request};

use crate::echo::EchoServer;
use crate::{WEBSOCKET, serves};

const COMPRESSED: u8 = 4;
const BOUND: usize = 1_000_000;

fn deflating(context: bool) -> EchoServer {
    EchoServer::start(|config| {
        let deflate = Deflate {
            server_no_context_takeover: !context,
            client_no_context_takeover: !context,
            ..Deflate::default()
        };
        config.per_message_deflate = Some(deflate);
        config.max_payload = BOUND;
    })
}

async fn connect(server: &EchoServer) -> WebSocket {
    let mut http = Http::connect(server.addr).await;
    let offer = upgrade_request(WEBSOCKET).header("Sec-WebSocket-Extensions", "permessage-deflate");
    let answer = http.send(&offer).await.unwrap();
    assert!(answer.header("sec-websocket-extensions").is_some());
    let mut socket = WebSocket::of(http.into_wire());
    assert!(socket.text().await.starts_with("0{"));
    socket
}

/// A binary message of `len` zeros, compressed to a thousandth.
fn bomb(len: usize) -> Vec<u8> {
    let mut compress = flate2::Compress::new(flate2::Compression::best(), false);
    let mut out = Vec::with_capacity(len / 500 + 100);
    compress.compress_vec(&vec![0; len], &mut out, flate2::FlushCompress::Sync).unwrap();
    out.truncate(out.len() - 4);
    assert!(out.len() < len / 900 + 50);
    out
}

fn compressed(body: &[u8]) -> Frame {
    Frame { reserved: COMPRESSED, ..Frame::new(2, body) }
}

/// Sends frames on a new connection, and expects the close code.
async fn is_closed_with(server: &EchoServer, frames: &[Frame], code: u16) {
    let before = server.ends.all().len();
    let mut socket = connect(server).await;
    for frame in frames {
        // It may be closed before the last of them.
        if socket.send(frame).await.is_err() {
            break;
        }
    }
    let end = socket.closed().await.unwrap().expect("a close frame");
    assert_eq!(end.close_code(), Some(code));
    assert_eq!(server.ends.wait_for(before + 1).await[before], CloseReason::TransportError);
}

#[tokio::test]
async fn sec_44_bombs_are_refused_and_memory_stays_flat() {
    for context in [false, true] {
        let server = deflating(context);
        let (whole, just) = (bomb(64 << 20), bomb(BOUND));
        let pieces: Vec<Frame> =
            whole.chunks(whole.len() / 50 + 1).map(|piece| Frame::new(0, piece).unfinished()).collect();
        let mut pieces = pieces;
        pieces[0] = Frame { opcode: 2, reserved: COMPRESSED, ..pieces[0].clone() };
        // What the first of each costs is there for the next.
        is_closed_with(&server, &[compressed(&whole)], 1009).await;
        let before = resident_bytes().unwrap_or(0);
        for _ in 0..8 {
            is_closed_with(&server, &[compressed(&whole)], 1009).await;
            is_closed_with(&server, &pieces, 1009).await;
            is_closed_with(&server, &[compressed(&bomb(BOUND + 1))], 1009).await;
        }
        let mut many = connect(&server).await;
        for _ in 0..200 {
            many.send(&compressed(&just)).await.unwrap();
            let echo = many.frame().await.unwrap();
            assert!(echo.payload.len() < BOUND / 50, "{}", echo.payload.len());
        }
        let grown = resident_bytes().unwrap_or(0).saturating_sub(before);
        assert!(grown < 24 << 20, "{grown} bytes after bombs of 1 GB");
        serves(&server).await;
    }
}

#[tokio::test]
async fn sec_44_garbage_is_refused_with_1007_and_bits_out_of_place_with_1002() {
    let server = deflating(true);
    for garbage in [&b"\x07"[..], b"\x00\x05\x00\x00\x00Hello", b"\xf2\x00\x11\x00\x00", b"\xff\xff\xff\xff\xff"] {
        is_closed_with(&server, &[compressed(garbage)], 1007).await;
    }
    for opcode in [0, 8, 9, 10] {
        is_closed_with(&server, &[Frame { reserved: COMPRESSED, ..Frame::new(opcode, "") }], 1002).await;
    }
    for reserved in [1, 2, 3, 5, 6, 7] {
        is_closed_with(&server, &[Frame { reserved, ..Frame::text("4x") }], 1002).await;
    }
    let begun = [compressed(b"\xf2").unfinished(), Frame { reserved: COMPRESSED, ..Frame::new(0, "\x00") }];
    is_closed_with(&server, &begun, 1002).await;
    // Final blocks are none of that: what comes behind them is read on.
    let mut socket = connect(&server).await;
    let hello = [&b"\x03\x00"[..], b"\xf2\x48\xcd\xc9\xc9\x07\x00"].concat();
    socket.send(&compressed(&hello)).await.unwrap();
    assert_eq!(socket.frame().await.unwrap(), Frame::new(2, "Hello"));
    // Nothing was agreed on.
    let plain = EchoServer::start(|_| {});
    let mut socket = WebSocket::connect(plain.addr, WEBSOCKET).await;
    socket.send(&compressed(&hello)).await.unwrap();
    assert_eq!(socket.closed().await.unwrap().unwrap().close_code(), Some(1002));
    serves(&server).await;
}

#[tokio::test]
async fn sec_44_random_streams_end_in_bounds() {
    let server = deflating(false);
    let mut random = Random::seeded(44);
    let valid = bomb(5000);
    for _ in 0..200 {
        let mut body = if random.below(2) == 0 { valid.clone() } else { vec![0; random.below(300)] };
        for _ in 0..=random.below(8) {
            let len = body.len().max(1);
            body.resize(len, 0);
            body[random.below(len)] = random.below(256) as u8;
        }
        let mut socket = connect(&server).await;
        socket.send(&compressed(&body)).await.unwrap();
        socket.send(&Frame::new(9, "there?")).await.unwrap();
        let begin = Instant::now();
        loop {
            let frame = socket.frame().await.unwrap();
            assert!([2, 8, 10].contains(&frame.opcode) && begin.elapsed() < Duration::from_secs(60));
            if frame.opcode != 2 {
                assert!(frame.opcode == 10 || frame.close_code() == Some(1007), "{frame:?}");
                break;
            }
        }
    }
    serves(&server).await;
}

#[tokio::test]
async fn sec_18_offers_of_every_kind_open_a_connection() {
    let server = deflating(false);
    let pieces = [
        "permessage-deflate",
        "; ",
        ", ",
        "=",
        "\"",
        "server_max_window_bits",
        "client_max_window_bits",
        "server_no_context_takeover",
        "client_no_context_takeover",
        "8",
        "10",
        "15",
        "99999999999999999999",
        "x",
        "\t",
        "(",
        "\\",
    ];
    let mut random = Random::seeded(18);
    let mut agreed = 0;
    for number in 0..300 {
        let mut offer: String = (0..random.below(12)).map(|_| pieces[random.below(pieces.len())]).collect();
        if number % 3 == 0 {
            offer.insert_str(0, "permessage-deflate; ");
        }
        let mut http = Http::connect(server.addr).await;
        let answer = http.send(&upgrade_request(WEBSOCKET).header("Sec-WebSocket-Extensions", &offer)).await.unwrap();
        assert_eq!(answer.status, 101, "{number}: {offer:?}");
        if let Some(answer) = answer.header("sec-websocket-extensions") {
            agreed += 1;
            assert!(
                offer.contains("permessage-deflate") && answer.starts_with("permessage-deflate; "),
                "{offer}: {answer}"
            );
        }
    }
    assert!((1..300).contains(&agreed), "{agreed}");
    let long = "permessage-deflate; server_max_window_bits=8,".repeat(300);
    let answer = Http::once(server.addr, &upgrade_request(WEBSOCKET).header("Sec-WebSocket-Extensions", &long)).await;
    let answer = answer.unwrap();
    assert_eq!((answer.status, answer.header("sec-websocket-extensions")), (101, None));
    serves(&server).await;
}
