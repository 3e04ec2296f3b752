//! Messages and answers that are compressed.

use std::io::Read;

use posthaste_engine::{Deflate, Deflated, EngineConfig, HttpCompression};
use posthaste_testkit::{Engine, Frame, Http, Packet, Request, Transport, WebSocket, upgrade_request};

use crate::PATH;
use crate::echo::EchoServer;

const WEBSOCKET: &str = "/engine.io/?EIO=4&transport=websocket";
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
/// What a browser offers.
const BROWSER: &str = "permessage-deflate; client_max_window_bits";

/// The reserved bits of a compressed message.
const COMPRESSED: u8 = 4;

fn deflating(deflate: Deflate) -> impl FnOnce(&mut EngineConfig) {
    move |config| config.per_message_deflate = Some(deflate)
}

/// Connects with an offer. Returns the WebSocket, its open packet read, and what the server agreed to.
async fn connect(server: &EchoServer, offer: Option<&str>) -> (WebSocket, Option<String>) {
    let request = upgrade_request(WEBSOCKET);
    let request = offer.iter().fold(request, |request, offer| request.header("Sec-WebSocket-Extensions", offer));
    let mut http = Http::connect(server.addr).await;
    let answer = http.send(&request).await.unwrap();
    assert_eq!(answer.status, 101);
    let agreed = answer.header("sec-websocket-extensions").map(str::to_owned);
    let mut socket = WebSocket::of(http.into_wire());
    assert!(socket.text().await.starts_with("0{"));
    (socket, agreed)
}

/// A text of `len` bytes that is as large as a few hundred compressed.
fn text(len: usize) -> String {
    (0..).map(|number| format!("{number},")).flat_map(|text| text.chars().collect::<Vec<_>>()).take(len).collect()
}

fn compress(payload: &str) -> Vec<u8> {
    let mut compress = flate2::Compress::new(flate2::Compression::default(), false);
    let mut out = Vec::with_capacity(payload.len() + 100);
    compress.compress_vec(payload.as_bytes(), &mut out, flate2::FlushCompress::Sync).unwrap();
    out.strip_suffix(&TAIL).unwrap().to_vec()
}

/// What messages of a server come to, the ones before included where it keeps context.
fn inflate(messages: &[&Frame]) -> String {
    let mut stream: Vec<u8> = messages.iter().flat_map(|frame| [&frame.payload[..], &TAIL].concat()).collect();
    stream.extend([3, 0]);
    String::from_utf8(miniz_oxide::inflate::decompress_to_vec(&stream).unwrap()).unwrap()
}

async fn deflated(server: &EchoServer) -> Deflated {
    server.engine.workers().handles()[0].call(|worker| worker.deflated()).await.unwrap()
}

#[tokio::test]
async fn nothing_is_agreed_to_unless_both_want_it() {
    let plain = EchoServer::start(|_| {});
    let (mut socket, agreed) = connect(&plain, Some(BROWSER)).await;
    assert_eq!(agreed, None);
    let deflating = EchoServer::start(deflating(Deflate::default()));
    let (mut other, agreed) = connect(&deflating, None).await;
    assert_eq!(agreed, None);
    for socket in [&mut socket, &mut other] {
        let text = text(50_000);
        socket.send_text(&format!("4{text}")).await.unwrap();
        assert_eq!(socket.text().await, format!("4{text}"));
    }
    assert_eq!(deflated(&deflating).await, Deflated::default());
}

#[tokio::test]
async fn long_messages_are_compressed_and_short_ones_are_not() {
    for (offer, expected) in [
        (BROWSER, "; server_no_context_takeover; client_no_context_takeover"),
        (
            "permessage-deflate; server_max_window_bits=9; client_max_window_bits=10",
            "; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=9; client_max_window_bits=10",
        ),
        (
            "permessage-deflate; server_max_window_bits=8, permessage-deflate; server_max_window_bits=12",
            "; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=12",
        ),
    ] {
        let server = EchoServer::start(deflating(Deflate { threshold: 200, max_bytes: 200_000, ..Deflate::default() }));
        let (mut socket, agreed) = connect(&server, Some(offer)).await;
        assert_eq!(agreed, Some(format!("permessage-deflate{expected}")), "{offer}");
        for len in [1, 50, 199, 200, 5_000, 20_000, 200_000, 200_001] {
            let text = format!("4{}", text(len - 1));
            // Plain and compressed, whole and in fragments: they mean the same.
            let body = compress(&text);
            let (first, second) = body.split_at(body.len() / 2);
            let deflated = Frame { reserved: COMPRESSED, ..Frame::new(1, body.clone()) };
            let begin = Frame { reserved: COMPRESSED, ..Frame::new(1, first) };
            for frames in [
                vec![Frame::text(&text)],
                vec![deflated],
                vec![begin.unfinished(), Frame::new(9, "between"), Frame::new(0, second)],
            ] {
                for frame in &frames {
                    socket.send(frame).await.unwrap();
                }
                if frames.len() > 1 {
                    assert_eq!(socket.frame().await.unwrap(), Frame::new(10, "between"));
                }
                let answer = socket.frame().await.unwrap();
                let is_compressed = (200..=200_000).contains(&len);
                assert_eq!(
                    (answer.fin, answer.opcode, answer.reserved == COMPRESSED),
                    (true, 1, is_compressed),
                    "{len}"
                );
                if is_compressed {
                    assert!(answer.payload.len() < len, "{} of {len}", answer.payload.len());
                    assert_eq!(inflate(&[&answer]), text);
                } else {
                    assert_eq!(answer.payload, text.as_bytes());
                }
            }
        }
        // Binary as well.
        socket.send(&Frame::new(2, vec![7; 3000])).await.unwrap();
        let answer = socket.frame().await.unwrap();
        assert_eq!((answer.opcode, answer.reserved), (2, COMPRESSED));
        assert_eq!(inflate(&[&answer]).as_bytes(), vec![7; 3000]);
        // What would grow leaves as it is.
        let noise: Vec<u8> = (0..2000).map(|_| noise()).collect();
        socket.send(&Frame::new(2, noise.clone())).await.unwrap();
        assert_eq!(socket.frame().await.unwrap(), Frame::new(2, noise));
    }
}

fn noise() -> u8 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish() as u8
}

#[tokio::test]
async fn with_context_messages_refer_to_those_before_them() {
    let context =
        Deflate { server_no_context_takeover: false, client_no_context_takeover: false, ..Deflate::default() };
    let server = EchoServer::start(deflating(context));
    let (mut socket, agreed) = connect(&server, Some(BROWSER)).await;
    assert_eq!(agreed.as_deref(), Some("permessage-deflate"));
    let text = format!("4{}", text(4000));
    let mut client = flate2::Compress::new(flate2::Compression::default(), false);
    let mut answers = Vec::new();
    for round in 1..4 {
        let mut body = Vec::with_capacity(8000);
        client.compress_vec(text.as_bytes(), &mut body, flate2::FlushCompress::Sync).unwrap();
        assert!(round == 1 || body.len() < 200);
        body.truncate(body.len() - TAIL.len());
        socket.send(&Frame { reserved: COMPRESSED, ..Frame::new(1, body) }).await.unwrap();
        answers.push(socket.frame().await.unwrap());
        assert_eq!(inflate(&answers.iter().collect::<Vec<_>>()), text.repeat(round));
    }
    assert!(answers[2].payload.len() * 10 < answers[0].payload.len());
    // A client may still ask for none.
    let (_, agreed) = connect(&server, Some("permessage-deflate; server_no_context_takeover")).await;
    assert_eq!(agreed.as_deref(), Some("permessage-deflate; server_no_context_takeover"));
}

#[tokio::test]
async fn what_is_not_to_be_compressed_is_not() {
    let server = EchoServer::start(deflating(Deflate::default()));
    let (mut socket, _) = connect(&server, Some(BROWSER)).await;
    for len in [3000, 30_000] {
        let text = text(len);
        socket.send_text(&format!("4plain {text}")).await.unwrap();
        assert_eq!(socket.frame().await.unwrap(), Frame::text(&format!("4{text}")));
        // One behind the other, in one turn.
        socket.send_text(&format!("4both {text}")).await.unwrap();
        assert_eq!(socket.frame().await.unwrap(), Frame::text(&format!("4{text}")));
        let second = socket.frame().await.unwrap();
        assert_eq!((second.reserved, inflate(&[&second])), (COMPRESSED, format!("4{text}")));
    }
    let stats = deflated(&server).await;
    assert_eq!((stats.compressed, stats.sent), (2, 2));
    assert!(stats.bytes_in > 33_000 && stats.bytes_out < stats.bytes_in);
}

#[tokio::test]
async fn an_upgrade_begins_with_what_waited_as_it_is() {
    let server = EchoServer::start(deflating(Deflate::default()));
    let mut engine = Engine::open(server.addr, PATH, Transport::Polling).await;
    let text = text(5000);
    let mut http = Http::connect(server.addr).await;
    let target = engine.polling_target().replace("polling", "websocket");
    let request = upgrade_request(&target).header("Sec-WebSocket-Extensions", BROWSER);
    let answer = http.send(&request).await.unwrap();
    assert!(answer.header("sec-websocket-extensions").is_some_and(|agreed| agreed.starts_with("permessage-deflate")));
    let mut socket = WebSocket::of(http.into_wire());
    // The handshake of the upgrade, compressed, as a client may do that.
    socket.send(&Frame { reserved: COMPRESSED, ..Frame::new(1, compress("2probe")) }).await.unwrap();
    assert_eq!(socket.text().await, "3probe");
    // No poll is there to take it.
    engine.post(&[Packet::message(&text)]).await.unwrap();
    socket.send_text("5").await.unwrap();
    assert_eq!(socket.frame().await.unwrap(), Frame::text(&format!("4{text}")));
    socket.send_text(&format!("4{text}")).await.unwrap();
    let answer = socket.frame().await.unwrap();
    assert_eq!((answer.reserved, inflate(&[&answer])), (COMPRESSED, format!("4{text}")));
}

#[tokio::test]
async fn a_reader_that_falls_behind_gets_everything_in_order() {
    let server = EchoServer::start(deflating(Deflate::default()));
    let (mut socket, _) = connect(&server, Some(BROWSER)).await;
    // Nothing is read meanwhile: it waits in the kernel and then in the outbox.
    let texts: Vec<String> = (0..400).map(|number| format!("{number} {}", text(40_000 + number))).collect();
    for text in &texts {
        socket.send_text(&format!("4{text}")).await.unwrap();
    }
    for text in &texts {
        let answer = socket.frame().await.unwrap();
        assert_eq!((answer.reserved, inflate(&[&answer]) == format!("4{text}")), (COMPRESSED, true));
    }
}

/// A session, and a poll that brings `text`. Returns the answer.
async fn polled(server: &EchoServer, text: &str, headers: &[(&str, &str)]) -> posthaste_testkit::Response {
    let mut engine = Engine::open(server.addr, PATH, Transport::Polling).await;
    let request = headers
        .iter()
        .fold(Request::get(&engine.polling_target()), |request, (name, value)| request.header(name, value));
    let mut http = Http::connect(server.addr).await;
    http.wire().write(&request.encode()).await.unwrap();
    let ok = engine.post(&[Packet::message(text)]).await.unwrap();
    assert_eq!((ok.text(), ok.header("content-encoding")), ("ok", None));
    let answer = http.response().await.unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("text/plain; charset=UTF-8"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    answer
}

/// The body of an answer, in whatever it came.
fn body(answer: &posthaste_testkit::Response) -> String {
    let mut body = Vec::new();
    match answer.header("content-encoding") {
        None => body.clone_from(&answer.body),
        Some("gzip") => drop(flate2::read::GzDecoder::new(&answer.body[..]).read_to_end(&mut body).unwrap()),
        Some("deflate") => drop(flate2::read::ZlibDecoder::new(&answer.body[..]).read_to_end(&mut body).unwrap()),
        Some("br") => brotli::BrotliDecompress(&mut &answer.body[..], &mut body).unwrap(),
        Some(other) => panic!("nobody asked for {other}"),
    }
    String::from_utf8(body).unwrap()
}

#[tokio::test]
async fn answers_of_polling_come_as_the_client_likes_them() {
    let server = EchoServer::start(|_| {});
    let text = text(5000);
    for (asked, coding) in [
        ("gzip, deflate, br, zstd", Some("gzip")),
        ("gzip, deflate", Some("gzip")),
        ("deflate", Some("deflate")),
        ("br", Some("br")),
        ("gzip;q=0.5, br", Some("br")),
        ("gzip;q=0, *", Some("deflate")),
        ("identity", None),
        ("zstd", None),
        ("*;q=0", None),
    ] {
        let answer = polled(&server, &text, &[("Accept-Encoding", asked)]).await;
        assert_eq!(answer.header("content-encoding"), coding, "{asked}");
        assert_eq!(answer.header("vary"), Some("Accept-Encoding"), "{asked}");
        assert_eq!(body(&answer), format!("4{text}"), "{asked}");
        assert_eq!(answer.body.len() < 4000, coding.is_some(), "{asked}");
    }
    let lines = [("Accept-Encoding", "gzip;q=0"), ("Accept-Encoding", "deflate")];
    assert_eq!(polled(&server, &text, &lines).await.header("content-encoding"), Some("deflate"));
    let silent = polled(&server, &text, &[]).await;
    assert_eq!((silent.header("content-encoding"), silent.header("vary")), (None, Some("Accept-Encoding")));
}

#[tokio::test]
async fn answers_are_compressed_within_bounds_and_where_that_is_wanted() {
    let gzip = [("Accept-Encoding", "gzip")];
    let server = EchoServer::start(|_| {});
    for (len, is_compressed) in [(1, false), (1022, false), (1023, true), (1 << 20, false), ((1 << 20) - 1, true)] {
        let server = EchoServer::start(|config| config.max_payload = 2 << 20);
        let answer = polled(&server, &text(len), &gzip).await;
        assert_eq!(answer.header("content-encoding").is_some(), is_compressed, "{len}");
        assert_eq!(answer.header("vary").is_some(), is_compressed, "{len}");
        assert_eq!(body(&answer).len(), len + 1);
    }
    // One that may be compressed is enough.
    let plain = polled(&server, &format!("plain {}", text(5000)), &gzip).await;
    assert_eq!((plain.header("content-encoding"), plain.header("vary")), (None, None));
    let both = polled(&server, &format!("both {}", text(5000)), &gzip).await;
    assert_eq!((both.header("content-encoding"), body(&both).len()), (Some("gzip"), 10_003));

    let never = EchoServer::start(|config| config.http_compression = None);
    let answer = polled(&never, &text(5000), &gzip).await;
    assert_eq!((answer.header("content-encoding"), answer.header("vary")), (None, None));
    let always = EchoServer::start(|config| {
        config.http_compression = Some(HttpCompression { threshold: 0, level: 9, ..HttpCompression::default() });
    });
    let answer = polled(&always, &"x".repeat(100), &gzip).await;
    assert_eq!(answer.header("content-encoding"), Some("gzip"));
}

#[tokio::test]
async fn what_waited_for_a_poll_is_compressed_as_it_was_meant() {
    let server = EchoServer::start(|_| {});
    for (word, expected) in [("plain ", None), ("both ", Some("gzip")), ("", Some("gzip"))] {
        let mut engine = Engine::open(server.addr, PATH, Transport::Polling).await;
        engine.post(&[Packet::message(&format!("{word}{}", text(3000)))]).await.unwrap();
        let request = Request::get(&engine.polling_target()).header("Accept-Encoding", "gzip");
        let answer = Http::once(server.addr, &request).await.unwrap();
        assert_eq!(answer.header("content-encoding"), expected, "{word}");
        assert!(body(&answer).ends_with(&text(3000)));
        // The mark does not outlive what it was for.
        engine.post(&[Packet::message(&text(3000))]).await.unwrap();
        assert_eq!(Http::once(server.addr, &request).await.unwrap().header("content-encoding"), Some("gzip"));
    }
}

#[tokio::test]
async fn a_cross_origin_answer_varies_by_both() {
    let server = EchoServer::start(|config| {
        let mut cors = posthaste_engine::Cors::default();
        cors.origin = posthaste_engine::AllowOrigin::Mirror;
        config.cors = Some(cors);
    });
    let headers = [("Accept-Encoding", "gzip"), ("Origin", "http://a.example")];
    let answer = polled(&server, &text(3000), &headers).await;
    let varies: Vec<_> =
        answer.headers.iter().filter(|(name, _)| name == "vary").map(|(_, value)| value.as_str()).collect();
    assert!(varies.contains(&"Accept-Encoding") && varies.contains(&"Origin"), "{varies:?}");
}
