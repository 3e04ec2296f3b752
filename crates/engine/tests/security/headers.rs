//! SEC-18, SEC-19, SEC-20: headers in numbers, lengths and shapes that nobody needs, and heads that never end.

use std::time::{Duration, Instant};

use posthaste_testkit::{Http, Random, Request, Wire, upgrade_request};

use crate::echo::EchoServer;
use crate::{POLLING, WEBSOCKET, serves};

#[tokio::test]
async fn sec_20_too_many_or_too_large_headers_are_refused() {
    let server = EchoServer::start(|_| {});
    for upgrade in [false, true] {
        let request = || if upgrade { upgrade_request(WEBSOCKET) } else { Request::get(POLLING) };
        let many = (0..2000).fold(request(), |request, number| request.header(&format!("x-{number}"), "1"));
        let large = request().header("x-large", &"x".repeat(100_000));
        let name = request().header(&"x".repeat(70_000), "1");
        let folded = (0..50).fold(request(), |request, _| request.header("x-same", &"y".repeat(2_000)));
        for request in [many, large, name, folded] {
            let mut http = Http::connect(server.addr).await;
            // Refused before it is read to its end, so that the writing may fail and the answer be lost with it.
            let _ = http.wire().write(&request.encode()).await;
            if let Ok(answer) = http.response().await {
                assert_eq!(answer.status, 431);
                assert_eq!(http.wire().take_rest().await.unwrap(), b"");
            }
        }
    }
    let long_target = Request::get(&format!("{POLLING}&x={}", "y".repeat(100_000)));
    let mut http = Http::connect(server.addr).await;
    let _ = http.wire().write(&long_target.encode()).await;
    assert!(http.response().await.is_ok_and(|answer| [414, 431].contains(&answer.status)) || server.connections() == 0);
    assert_eq!(server.connections(), 0, "none of them opened anything");
    // Fifty headers are many, and nobody's fault.
    let fifty = (0..50).fold(Request::get(POLLING), |request, number| request.header(&format!("x-{number}"), "1"));
    assert_eq!(Http::once(server.addr, &fifty).await.unwrap().status, 200);
    serves(&server).await;
}

#[tokio::test]
async fn sec_18_and_19_websocket_headers_of_every_kind_agree_on_nothing() {
    let server = EchoServer::start(|_| {});
    let pieces = [
        "permessage-deflate",
        "; ",
        ", ",
        "=",
        "\"",
        "server_max_window_bits",
        "constructor",
        "__proto__",
        "x",
        ",",
        ";",
        " ",
        "15",
        "\t",
        "chat",
        "a-b",
        "(",
        "\\",
    ];
    let mut random = Random::seeded(18);
    for number in 0..200 {
        let mut value = || (0..random.below(30)).map(|_| pieces[random.below(pieces.len())]).collect::<String>();
        let (extensions, protocols) = (value(), value());
        let request = upgrade_request(WEBSOCKET)
            .header("Sec-WebSocket-Extensions", &extensions)
            .header("Sec-WebSocket-Protocol", &protocols);
        let answer = Http::once(server.addr, &request).await.unwrap();
        assert_eq!(answer.status, 101, "{number}: {extensions:?} {protocols:?}");
        assert!(
            answer.header("sec-websocket-extensions").is_none() && answer.header("sec-websocket-protocol").is_none()
        );
    }
    // As long as a head may be, and soon answered.
    let long = upgrade_request(WEBSOCKET).header("Sec-WebSocket-Protocol", &" ,".repeat(6_000));
    assert_eq!(Http::once(server.addr, &long).await.unwrap().status, 101);
    serves(&server).await;
}

#[tokio::test]
async fn a_head_that_never_ends_loses_its_connection() {
    let server = EchoServer::start(|_| {});
    let mut wires = Vec::new();
    for begin in ["", "G", "GET /engine.io/?EIO=4", "GET / HTTP/1.1\r\nHost: a\r\nX-Slow: "] {
        let mut wire = Wire::connect(server.addr).await;
        wire.write(begin.as_bytes()).await.unwrap();
        wires.push(wire);
    }
    let mut dripping = wires.pop().unwrap();
    let begin = Instant::now();
    let drips = async {
        while dripping.write(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(300)).await;
            assert!(begin.elapsed() < Duration::from_secs(60), "the head is still being read");
        }
    };
    let ends = async {
        for wire in &mut wires {
            // Perhaps with a 408.
            wire.take_rest().await.unwrap();
        }
    };
    tokio::join!(drips, ends);
    serves(&server).await;
}
