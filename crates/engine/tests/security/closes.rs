//! SEC-21: close frames of every kind.

use posthaste_testkit::{Frame, WebSocket, eventually};

use crate::echo::EchoServer;
use crate::{WEBSOCKET, serves};

#[tokio::test]
async fn sec_21_close_frames_are_checked_and_answered() {
    let server = EchoServer::start(|_| {});
    let with = |code: u16, reason: &[u8]| [&code.to_be_bytes()[..], reason].concat();
    for (payload, code) in [
        (vec![], None),
        (with(1000, b""), Some(1000)),
        (with(1001, &[b'x'; 123]), Some(1001)),
        (with(3000, "gr\u{fc}n".as_bytes()), Some(3000)),
        (with(4999, b""), Some(4999)),
        (vec![3], Some(1002)),
        (with(0, b""), Some(1002)),
        (with(999, b""), Some(1002)),
        (with(1004, b""), Some(1002)),
        (with(1005, b""), Some(1002)),
        (with(1006, b""), Some(1002)),
        (with(1015, b""), Some(1002)),
        (with(2999, b""), Some(1002)),
        (with(5000, b""), Some(1002)),
        (with(65535, b""), Some(1002)),
        (with(1000, &[0xff]), Some(1007)),
        (with(1000, &[b'x'; 124]), Some(1002)),
    ] {
        let mut socket = WebSocket::connect(server.addr, WEBSOCKET).await;
        socket.text().await;
        socket.send(&Frame::new(8, payload.clone())).await.unwrap();
        let close = socket.closed().await.unwrap().unwrap();
        assert_eq!(close.close_code(), code, "{payload:?}");
        assert!(close.payload.len() <= 2, "a code and no text: {close:?}");
    }
    eventually("all are gone", async || server.connections() == 0).await;
    serves(&server).await;
}
