//! Listeners of the server's own.

use std::net::SocketAddr;

use axum::Router;
use axum::routing::get;
use posthaste::{ListenError, Server};
use posthaste_testkit::{Client, Engine, Http, Request, Transport, Wire, eventually, serve};

const LOCALHOST: [u8; 4] = [127, 0, 0, 1];

#[tokio::test]
async fn an_own_listener_serves_a_router_beside_the_server() {
    let io = Server::builder().workers(2).build().unwrap();
    io.on("hi", async || {});
    let app = Router::new().route("/", get(|| async { "home" }));
    let listener = io.listen_with((LOCALHOST, 0).into(), app).unwrap();
    let addr = listener.local_addr();
    assert_ne!(addr.port(), 0);
    assert_eq!(Http::once(addr, &Request::get("/")).await.unwrap().text(), "home");
    for transport in Transport::ALL {
        Client::join(addr, transport).await.ask(r#"["hi"]"#, "[]").await;
    }
    io.close(std::time::Duration::ZERO);
}

#[tokio::test]
async fn an_own_listener_without_one_answers_404_beside_its_path() {
    let running = serve(Server::builder().workers(1), |_| {});
    for (path, status) in [
        ("/", 404),
        ("/socket.io", 404),
        ("/socket.iox/?EIO=4&transport=polling", 404),
        ("/SOCKET.IO/?EIO=4&transport=polling", 404),
        ("/x/socket.io/?EIO=4&transport=polling", 404),
        ("/socket.io/?EIO=4&transport=polling", 200),
        ("/socket.io/anything?EIO=4&transport=polling", 200),
        ("/socket.io/", 400),
    ] {
        assert_eq!(Http::once(running.addr, &Request::get(path)).await.unwrap().status, status, "{path}");
    }
    let running = serve(Server::builder().workers(1).path("/live/").add_trailing_slash(false), |_| {});
    for path in ["/live", "/live/", "/live?x=1&"] {
        let target = format!("{path}{}EIO=4&transport=polling", if path.contains('?') { "" } else { "?" });
        assert_eq!(Http::once(running.addr, &Request::get(&target)).await.unwrap().status, 200, "{path}");
    }
}

#[tokio::test]
async fn an_address_where_somebody_listens_is_taken() {
    let other = std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).unwrap();
    let io = Server::builder().workers(2).build().unwrap();
    let taken = |addr: SocketAddr| match io.listen(addr) {
        Err(ListenError::Taken { addr: named }) => assert_eq!(named, addr),
        other => panic!("{addr} is taken, not {other:?}"),
    };
    taken(other.local_addr().unwrap());
    // Another server's, and its own.
    let running = serve(Server::builder().workers(2), |_| {});
    taken(running.addr);
    let own = io.listen((LOCALHOST, 0).into()).unwrap();
    taken(own.local_addr());
    // Nothing of the attempts is left in the way of those who were there.
    Client::websocket(running.addr).await;
    io.close(std::time::Duration::ZERO);
}

#[tokio::test]
async fn an_address_of_another_machine_is_unusable() {
    let io = Server::builder().workers(1).build().unwrap();
    // A documentation address (RFC 5737).
    let addr: SocketAddr = ([192, 0, 2, 1], 0).into();
    assert!(matches!(io.listen(addr), Err(ListenError::Unusable { addr: named, .. }) if named == addr));
    io.close(std::time::Duration::ZERO);
    eventually("the workers end", async || matches!(io.listen((LOCALHOST, 0).into()), Err(ListenError::WorkersGone)))
        .await;
}

#[tokio::test]
async fn several_listeners_serve_one_server() {
    let io = Server::builder().workers(2).build().unwrap();
    let mut listeners = vec![io.listen((LOCALHOST, 0).into()).unwrap(), io.listen((LOCALHOST, 0).into()).unwrap()];
    // Not every machine has the other family.
    listeners.extend(io.listen((std::net::Ipv6Addr::LOCALHOST, 0).into()));
    let mut clients = Vec::new();
    for listener in &listeners {
        clients.push(Client::websocket(listener.local_addr()).await);
    }
    io.emit("all", &()).await.unwrap();
    for client in &mut clients {
        client.expect(r#"2["all"]"#).await;
    }
    io.close(std::time::Duration::ZERO);
}

#[tokio::test]
async fn a_closed_listener_accepts_nobody_and_its_sockets_go_on() {
    let running = serve(Server::builder().workers(1), |io| {
        io.on("hi", async || {});
    });
    let mut socket = Client::websocket(running.addr).await;
    let mut polling = Client::join(running.addr, Transport::Polling).await;
    let mut idle = Http::connect(running.addr).await;
    assert_eq!(idle.send(&Request::get("/")).await.unwrap().status, 404);
    let mut half_open = Wire::connect(running.addr).await;
    half_open.write(b"GET /socket.io/").await.unwrap();
    polling.engine().park().await.unwrap();

    running.listener.close();
    eventually("nobody accepts", async || Wire::try_connect(running.addr).await.is_err()).await;
    assert_eq!(idle.wire().read().await.unwrap_or(0), 0, "an idle connection ends");
    socket.ask(r#"["hi"]"#, "[]").await;
    // A poll that waits is answered.
    running.io.emit("still there", &()).await.unwrap();
    polling.expect(r#"2["still there"]"#).await;
    socket.expect(r#"2["still there"]"#).await;
    socket.ask(r#"["hi"]"#, "[]").await;

    // The port is free again, for this server too.
    let again = running.io.listen(running.addr).unwrap();
    assert_eq!(again.local_addr(), running.addr);
    let mut next = Client::websocket(running.addr).await;
    next.ask(r#"["hi"]"#, "[]").await;
    socket.ask(r#"["hi"]"#, "[]").await;
}

#[tokio::test]
async fn transports_and_upgrades_can_be_switched_off() {
    let only = |polling, websocket| posthaste::TransportSet { polling, websocket };
    let running = serve(Server::builder().workers(1).transports(only(true, false)), |_| {});
    let engine = Engine::open(running.addr, "/socket.io/", Transport::Polling).await;
    assert!(engine.handshake().contains(r#""upgrades":[]"#));
    let refused = posthaste_testkit::upgrade_request("/socket.io/?EIO=4&transport=websocket");
    let refused = Http::once(running.addr, &refused).await.unwrap();
    assert_eq!((refused.status, refused.text()), (400, "Transport unknown"));

    let running = serve(Server::builder().workers(1).transports(only(false, true)), |_| {});
    let refused = Http::once(running.addr, &Request::get("/socket.io/?EIO=4&transport=polling")).await.unwrap();
    assert_eq!((refused.status, refused.text()), (400, r#"{"code":0,"message":"Transport unknown"}"#));
    Client::websocket(running.addr).await;

    let running = serve(Server::builder().workers(1).allow_upgrades(false), |_| {});
    let engine = Engine::open(running.addr, "/socket.io/", Transport::Polling).await;
    assert!(engine.handshake().contains(r#""upgrades":[]"#));
    let refused = Http::once(running.addr, &posthaste_testkit::upgrade_request(&engine.probe_target())).await.unwrap();
    assert_eq!((refused.status, refused.text()), (400, "Bad request"));
    Client::websocket(running.addr).await;
}
