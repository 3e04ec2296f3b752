//! What attackers send to a Socket.IO server, by the number of the attack: see docs/security.md.

#![allow(clippy::unwrap_used, reason = "tests: a failed expectation is the point")]

use std::collections::HashSet;
use std::time::Duration;

use posthaste::{Answer, ConnectError, Data, Server, Socket, Stats};
use posthaste_testkit::{Client, Engine, Frame, Http, Packet, Random, Request, Running, Transport, eventually, serve};

fn start() -> Running {
    running(Server::builder().workers(1))
}

fn running(builder: posthaste::Builder) -> Running {
    // No heartbeat comes to the rescue: what is to be closed must be closed for what it did.
    const LONG: Duration = Duration::from_secs(600);
    serve(builder.ping(LONG, LONG), |io| {
        for namespace in [io.namespace("/"), io.namespace("/chat")] {
            namespace.on("echo", async |Data(value): Data<u64>| Answer(value));
            namespace.on("panic", async || panic_now());
        }
        let guarded = io.namespace("/guarded");
        guarded.middleware(async |socket: Socket| {
            socket.join("early");
            Err::<(), _>(ConnectError::new("not you"))
        });
    })
}

/// Panics, but says nothing of it in its type.
fn panic_now() {
    std::panic::panic_any("asked for");
}

/// Whoever comes next is served as if nothing had happened.
async fn serves(running: &Running) {
    for transport in Transport::ALL {
        let mut witness = Client::join(running.addr, transport).await;
        witness.ask(r#"["echo",7]"#, "[7]").await;
        witness.leave().await;
    }
}

async fn comes_to_rest(running: &Running) {
    eventually("nothing is left", async || running.io.stats().await == Stats::default()).await;
}

#[tokio::test]
async fn sec_01_a_public_id_opens_recovers_and_reveals_no_session() {
    let running = start();
    let mut ids = HashSet::new();
    let mut secrets = HashSet::new();
    for transport in [Transport::Polling; 20] {
        let mut client = Client::open(running.addr, transport).await;
        let public = client.connect("/").await;
        let other = client.connect("/chat").await;
        let secret = client.engine().sid().to_owned();
        // The session goes by none of the names that others know, and neither do its requests.
        for id in [&public, &other] {
            for request in [
                Request::get(&format!("/socket.io/?EIO=4&transport=polling&sid={id}")),
                Request::post(&format!("/socket.io/?EIO=4&transport=polling&sid={id}"), "41"),
            ] {
                let answer = Http::once(running.addr, &request).await.unwrap();
                assert_eq!((answer.status, answer.text()), (400, r#"{"code":1,"message":"Session ID unknown"}"#));
            }
            // Nothing of one is in the other.
            let shared = (0..=secret.len() - 6).filter(|at| id.contains(&secret[*at..at + 6])).count();
            assert_eq!(shared, 0, "{id} and {secret}");
        }
        // Nor does one who says it brings back a socket that is there: it is another one.
        let mut thief = Client::open(running.addr, transport).await;
        let stolen = thief.connect_with("/", &format!(r#"{{"pid":"{public}","offset":"0"}}"#)).await;
        assert!(ids.insert(public) && ids.insert(other) && ids.insert(stolen) && secrets.insert(secret));
        client.ask(r#"["echo",1]"#, "[1]").await;
    }
    assert!(ids.is_disjoint(&secrets));
}

#[tokio::test]
async fn sec_03_no_event_name_reaches_what_it_must_not() {
    let running = start();
    // `error` is an event like any other, to the official parser too.
    let reserved = ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];
    for transport in Transport::ALL {
        for name in reserved {
            let mut client = Client::join(running.addr, transport).await;
            client.send(&format!(r#"21["{name}",1]"#)).await;
            client.closed().await;
        }
        // Names that other servers have tripped over are names.
        let mut client = Client::join(running.addr, transport).await;
        for name in ["__proto__", "constructor", "toString", "hasOwnProperty", "error", "", "\\u0000", "*", "message"] {
            client.send(&format!(r#"2["{name}",{{"__proto__":{{"a":1}}}}]"#)).await;
        }
        client.ask(r#"["echo",3]"#, "[3]").await;
        client.leave().await;
    }
    let mut random = Random::seeded(3);
    let alphabet =
        ["\"", "\\", "{", "}", "[", "]", ",", "_placeholder", "connect", "\u{1e}", "0", "null", ":", "é", " "];
    for _ in 0..300 {
        let name: String = (0..random.below(6)).map(|_| alphabet[random.below(alphabet.len())]).collect();
        let mut client = Client::websocket(running.addr).await;
        let _ = client.try_send(&format!("2[{name}]")).await;
        let _ = client.try_send(&format!("2[\"{name}\"]")).await;
        client.reset();
    }
    serves(&running).await;
    comes_to_rest(&running).await;
}

#[tokio::test]
async fn sec_03_a_handler_that_panics_ends_its_socket_alone() {
    std::panic::set_hook(Box::new(|info| {
        // What is asked for is no news.
        if info.payload().downcast_ref::<&str>() != Some(&"asked for") {
            eprintln!("{info}");
        }
    }));
    let running = start();
    let mut neighbour = Client::websocket(running.addr).await;
    for transport in Transport::ALL {
        for _ in 0..20 {
            let mut client = Client::join(running.addr, transport).await;
            client.connect("/chat").await;
            client.send(r#"2/chat,["panic"]"#).await;
            client.expect("1/chat,").await;
            client.ask(r#"["echo",2]"#, "[2]").await;
            client.leave().await;
        }
    }
    neighbour.ask(r#"["echo",1]"#, "[1]").await;
    neighbour.leave().await;
    comes_to_rest(&running).await;
}

#[tokio::test]
async fn sec_12_a_client_that_stalls_or_trickles_its_attachments_is_disconnected() {
    let running = running(Server::builder().workers(1).attachments_timeout(Duration::from_millis(200)));
    for transport in Transport::ALL {
        let mut stalls = Client::join(running.addr, transport).await;
        stalls.send(r#"51-["echo",{"_placeholder":true,"num":0}]"#).await;
        stalls.closed().await;
        let mut trickles = Client::join(running.addr, transport).await;
        let places: Vec<String> = (0..10).map(|number| format!(r#"{{"_placeholder":true,"num":{number}}}"#)).collect();
        trickles.send(&format!(r#"510-["echo",{}]"#, places.join(","))).await;
        for _ in 0..3 {
            trickles.send_binary(b"x").await;
        }
        trickles.closed().await;
    }
    for header in [r#"511-["e"]"#, r#"5999999999-["e"]"#] {
        let mut client = Client::websocket(running.addr).await;
        client.send(header).await;
        client.closed().await;
    }
    serves(&running).await;
    comes_to_rest(&running).await;
}

#[tokio::test]
async fn sec_13_binary_packets_that_declare_no_attachments_leave_nothing_behind() {
    let running = start();
    for transport in Transport::ALL {
        for packet in [r#"50-["echo"]"#, r#"60-1["echo"]"#, r#"50-/chat,["echo"]"#] {
            for _ in 0..50 {
                let mut client = Client::join(running.addr, transport).await;
                client.connect("/chat").await;
                client.send(packet).await;
                client.closed().await;
            }
        }
    }
    comes_to_rest(&running).await;
    serves(&running).await;
}

#[tokio::test]
async fn sec_23_nothing_but_the_embedded_files_is_served() {
    let running = start();
    assert_eq!(Http::once(running.addr, &Request::get("/socket.io/socket.io.js")).await.unwrap().status, 200);
    for name in [
        "../Cargo.toml",
        "../../../../etc/passwd",
        "%2e%2e/%2e%2e/etc/passwd",
        "..%2f..%2fetc%2fpasswd",
        "/etc/passwd",
        "socket.io.js/../../Cargo.toml",
        "socket.io.js%00.txt",
        "SOCKET.IO.JS",
        "socket.io.js.bak",
        ".",
        "",
    ] {
        let answer = Http::once(running.addr, &Request::get(&format!("/socket.io/{name}"))).await.unwrap();
        assert_eq!((answer.status, answer.text()), (400, r#"{"code":0,"message":"Transport unknown"}"#), "{name}");
    }
}

#[tokio::test]
async fn sec_27_attachments_of_those_who_have_joined_nothing_end_the_connection() {
    let running = start();
    let header = Packet::message(r#"51-["echo",{"_placeholder":true,"num":0}]"#);
    let elsewhere = Packet::message(r#"51-/chat,["echo",{"_placeholder":true,"num":0}]"#);
    for transport in Transport::ALL {
        for first in [&header, &elsewhere, &Packet::Binary(vec![7; 10_000])] {
            let mut stranger = Engine::open(running.addr, "/socket.io/", transport).await;
            let _ = stranger.send_all(std::slice::from_ref(first)).await;
            stranger.closed().await.unwrap();
        }
        // In one namespace is not in another.
        let mut client = Client::join(running.addr, transport).await;
        client.send(r#"51-/chat,["echo",{"_placeholder":true,"num":0}]"#).await;
        client.closed().await;
    }
    comes_to_rest(&running).await;
    serves(&running).await;
}

#[tokio::test]
async fn sec_28_a_bad_first_packet_or_a_refused_client_leaves_nothing_on_any_transport() {
    let running = start();
    let firsts = [
        Packet::message("9"),
        Packet::message(""),
        Packet::message("1"),
        Packet::message(r#"2["echo",1]"#),
        Packet::message(r#"31[1]"#),
        Packet::message("0[]"),
        Packet::message("0\"x\""),
        Packet::message("4{}"),
        Packet::Text("x".to_owned()),
        Packet::Text(String::new()),
        Packet::Binary(Vec::new()),
    ];
    for transport in Transport::ALL {
        for first in &firsts {
            let mut stranger = Engine::open(running.addr, "/socket.io/", transport).await;
            let _ = stranger.send_all(std::slice::from_ref(first)).await;
            stranger.closed().await.unwrap_or_else(|error| panic!("{transport:?} {first:?}: {error}"));
        }
        let mut refused = Client::open(running.addr, transport).await;
        for _ in 0..20 {
            refused.send("0/guarded,").await;
            refused.expect(r#"4/guarded,{"message":"not you"}"#).await;
            refused.send("0/nowhere,").await;
            refused.expect(r#"4/nowhere,{"message":"Invalid namespace"}"#).await;
        }
        let stats = running.io.stats().await;
        assert_eq!((stats.sockets, stats.rooms, stats.handlers), (0, 0, 0), "{transport:?}");
        refused.leave().await;
    }
    comes_to_rest(&running).await;
    serves(&running).await;
}

#[tokio::test]
async fn sec_28_connections_that_join_nothing_end_in_time_on_any_transport() {
    let running = running(Server::builder().workers(1).connect_timeout(Duration::from_millis(200)));
    for transport in Transport::ALL {
        let mut strangers = Vec::new();
        for _ in 0..50 {
            strangers.push(Engine::open(running.addr, "/socket.io/", transport).await);
        }
        for mut stranger in strangers {
            // Frames that mean nothing put nothing off.
            if transport == Transport::WebSocket {
                let _ = stranger.websocket().send(&Frame::new(9, "x")).await;
            }
            stranger.closed().await.unwrap();
        }
    }
    comes_to_rest(&running).await;
}
