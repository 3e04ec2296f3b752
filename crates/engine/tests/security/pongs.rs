//! SEC-26: pongs that nobody asked for.

use std::cell::Cell;
use std::time::{Duration, Instant};

use posthaste_engine::CloseReason;
use posthaste_testkit::{Engine, Frame, Http, PATIENCE, Packet, Request, Transport, encode_frame, within};

use crate::echo::EchoServer;
use crate::{PATH, serves};

const INTERVAL: Duration = Duration::from_millis(300);

#[tokio::test]
async fn sec_26_a_flood_of_pongs_neither_costs_nor_puts_off_anything() {
    let server = EchoServer::start(|config| {
        config.settings.ping_interval = INTERVAL;
        config.settings.ping_timeout = Duration::from_secs(20);
    });
    for (number, transport) in Transport::ALL.into_iter().enumerate() {
        let mut engine = Engine::open(server.addr, PATH, transport).await;
        // Pongs all the time, until the ping has come: it must not wait for them to end.
        let ping = match transport {
            Transport::Polling => {
                let (target, come) = (engine.polling_target(), Cell::new(false));
                let flood = async {
                    let mut http = Http::connect(server.addr).await;
                    let pongs = vec!["3"; 100].join("\x1e");
                    while !come.get() {
                        assert_eq!(http.send(&Request::post(&target, pongs.as_str())).await.unwrap().status, 200);
                    }
                };
                let ping = async {
                    let packet = within("the ping comes during the flood", engine.packet()).await;
                    come.set(true);
                    packet.unwrap()
                };
                tokio::join!(flood, ping).1
            }
            Transport::WebSocket => {
                let mut flood = encode_frame(&Frame::text("3"), Some([7; 4])).repeat(100);
                flood.extend(encode_frame(&Frame::new(10, "unasked"), Some([7; 4])).repeat(100));
                let begin = Instant::now();
                loop {
                    engine.websocket().wire().write(&flood).await.unwrap();
                    if let Ok(packet) = tokio::time::timeout(Duration::from_millis(2), engine.packet()).await {
                        break packet.unwrap();
                    }
                    assert!(begin.elapsed() < PATIENCE, "no ping comes during the flood");
                }
            }
        };
        assert_eq!(ping, Packet::Text("2".to_owned()), "{transport:?}");
        engine.send_all(&[Packet::Text("3".to_owned())]).await.unwrap();
        engine.send("still here").await.unwrap();
        assert_eq!(engine.message().await.unwrap(), Packet::Text("still here".to_owned()));
        assert_eq!(server.connections(), 1);
        engine.leave().await.unwrap();
        assert_eq!(server.ends.wait_for(number + 1).await[number], CloseReason::TransportClose);
    }
    serves(&server).await;
}

#[tokio::test]
async fn pings_of_a_client_are_no_part_of_the_protocol() {
    let server = EchoServer::start(|_| {});
    for (number, transport) in Transport::ALL.into_iter().enumerate() {
        let mut engine = Engine::open(server.addr, PATH, transport).await;
        engine.send_all(&[Packet::Text("2".to_owned())]).await.unwrap();
        engine.closed().await.unwrap();
        assert_eq!(server.ends.wait_for(number + 1).await[number], CloseReason::TransportError);
    }
}

#[tokio::test]
async fn a_flood_of_websocket_pings_is_answered_in_order() {
    let server = EchoServer::start(|_| {});
    let mut engine = Engine::open(server.addr, PATH, Transport::WebSocket).await;
    let socket = engine.websocket();
    for round in 0..50u8 {
        for number in 0..100u8 {
            socket.send(&Frame::new(9, [round, number])).await.unwrap();
        }
        for number in 0..100u8 {
            assert_eq!(socket.frame().await.unwrap(), Frame::new(10, [round, number]));
        }
    }
}
