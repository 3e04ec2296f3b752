//! The server inside of other HTTP servers, on streams of every kind.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use posthaste::{Answer, Data, RemoteAddr, Server, Socket, Workers};
use posthaste_testkit::{Client, Engine, Http, Record, Request, Transport};
use tokio::net::TcpListener;
use tower::ServiceBuilder;

/// A server that echoes, and keeps the addresses of its clients.
fn echoing(path: &str, workers: &Workers) -> (Server, Record<Option<SocketAddr>>) {
    let io = Server::builder().path(path).shared_workers(workers).build().unwrap();
    let addresses = Record::new();
    let record = addresses.clone();
    io.on_connect(move |socket: Socket| {
        record.push(socket.handshake().address());
        async {}
    });
    io.on("echo", async |Data(text): Data<String>| Answer(text));
    (io, addresses)
}

/// Says something over each transport, and across the upgrade between them.
async fn talks(addr: SocketAddr, path: &str) {
    for transport in Transport::ALL {
        let mut client = Client::new(Engine::open(addr, path, transport).await);
        client.connect("/").await;
        client.ask(r#"["echo","hello"]"#, r#"["hello"]"#).await;
        let large = "x".repeat(300_000);
        client.ask(&format!(r#"["echo","{large}"]"#), &format!(r#"["{large}"]"#)).await;
        if transport == Transport::Polling {
            client.engine().upgrade().await.unwrap();
            client.ask(r#"["echo","upgraded"]"#, r#"["upgraded"]"#).await;
            client.ask(&format!(r#"["echo","{large}"]"#), &format!(r#"["{large}"]"#)).await;
        }
        client.leave().await;
    }
}

#[tokio::test]
async fn an_axum_application_keeps_its_routes_and_they_may_emit() {
    let workers = Workers::start(2).unwrap();
    let (io, addresses) = echoing("/socket.io", &workers);
    let app = Router::new()
        .route("/", get(|| async { "home" }))
        .route("/announce", post(|State(io): State<Server>| async move { drop(io.emit("announced", &1).await) }))
        .with_state(io.clone())
        .layer(io.layer());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });

    talks(addr, "/socket.io/").await;
    assert_eq!(Http::once(addr, &Request::get("/")).await.unwrap().text(), "home");
    assert_eq!(Http::once(addr, &Request::get("/none")).await.unwrap().status, 404);
    let mut client = Client::websocket(addr).await;
    assert_eq!(Http::once(addr, &Request::post("/announce", "")).await.unwrap().status, 200);
    client.expect(r#"2["announced",1]"#).await;
    // A WebSocket's own stream tells where it comes from; a polling request would need a layer to say so.
    let addresses = addresses.all();
    assert_eq!(addresses[0], None);
    assert_eq!(addresses[2], Some(client.engine().websocket().wire().local_addr()));
    workers.shutdown(std::time::Duration::ZERO);
}

#[tokio::test]
async fn an_axum_application_may_say_where_requests_come_from() {
    let workers = Workers::start(1).unwrap();
    let (io, addresses) = echoing("/socket.io", &workers);
    let known: SocketAddr = ([192, 0, 2, 7], 4711).into();
    let app: Router = Router::new().layer(
        ServiceBuilder::new()
            .map_request(move |mut request: http::Request<axum::body::Body>| {
                request.extensions_mut().insert(RemoteAddr(known));
                request
            })
            .layer(io.layer()),
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    talks(addr, "/socket.io/").await;
    assert_eq!(addresses.all(), [Some(known), Some(known)]);
    workers.shutdown(std::time::Duration::ZERO);
}

#[tokio::test]
async fn servers_on_other_paths_share_workers_and_nothing_else() {
    let workers = Workers::start(2).unwrap();
    let (one, _) = echoing("/one", &workers);
    let (two, _) = echoing("/two/deep", &workers);
    let app: Router = Router::new().layer(one.layer()).layer(two.layer());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    talks(addr, "/one/").await;
    talks(addr, "/two/deep/").await;

    let mut first = Engine::open(addr, "/one/", Transport::Polling).await;
    let mut second = Client::new(Engine::open(addr, "/two/deep/", Transport::WebSocket).await);
    second.connect("/").await;
    let of_the_other = format!("/two/deep/?EIO=4&transport=polling&sid={}", first.sid());
    let answer = Http::once(addr, &Request::post(&of_the_other, "40")).await.unwrap();
    assert_eq!((answer.status, answer.text()), (400, r#"{"code":1,"message":"Session ID unknown"}"#));
    first.send("0").await.unwrap();
    let mut first = Client::new(first);
    first.connected("/").await;
    one.emit("from one", &()).await.unwrap();
    two.emit("from two", &()).await.unwrap();
    first.expect(r#"2["from one"]"#).await;
    second.expect(r#"2["from two"]"#).await;
    let (one, two) = (one.stats().await, two.stats().await);
    assert_eq!((one.sockets, two.sockets, two.connections), (1, 1, 1));
    workers.shutdown(std::time::Duration::ZERO);
}

/// Answers every request with `below`.
async fn below(_: http::Request<Incoming>) -> Result<http::Response<Full<Bytes>>, std::convert::Infallible> {
    Ok(http::Response::new(Full::new(Bytes::from_static(b"below"))))
}

#[tokio::test]
async fn the_layer_is_a_tower_layer_that_hyper_serves() {
    let workers = Workers::start(2).unwrap();
    let (io, _) = echoing("/socket.io", &workers);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let service = ServiceBuilder::new().layer(io.layer()).service(tower::service_fn(below));
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = TowerToHyperService::new(service.clone());
            let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::spawn(connection.with_upgrades());
        }
    });
    talks(addr, "/socket.io/").await;
    assert_eq!(Http::once(addr, &Request::get("/socket.io")).await.unwrap().text(), "below");
    workers.shutdown(std::time::Duration::ZERO);
}

/// A stream that is no TCP stream, and takes few bytes at a time: whatever carries it stays on its own runtime.
#[tokio::test]
async fn a_stream_in_memory_carries_a_websocket() {
    for capacity in [1, 64, 100_000] {
        let workers = Workers::start(1).unwrap();
        let (io, addresses) = echoing("/socket.io", &workers);
        let service = ServiceBuilder::new().layer(io.layer()).service(tower::service_fn(below));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (mut outside, _) = listener.accept().await.unwrap();
                let (mut near, far) = tokio::io::duplex(capacity);
                tokio::spawn(async move { drop(tokio::io::copy_bidirectional(&mut outside, &mut near).await) });
                let service = TowerToHyperService::new(service.clone());
                let connection =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(far), service);
                tokio::spawn(connection.with_upgrades());
            }
        });
        let mut client = Client::websocket(addr).await;
        let large = "x".repeat(if capacity == 1 { 2_000 } else { 200_000 });
        for _ in 0..3 {
            client.ask(r#"["echo","hello"]"#, r#"["hello"]"#).await;
            client.ask(&format!(r#"["echo","{large}"]"#), &format!(r#"["{large}"]"#)).await;
        }
        for number in 0..200 {
            client.send(&format!(r#"2{number}["echo","{number}"]"#)).await;
        }
        for number in 0..200 {
            client.expect(&format!(r#"3{number}["{number}"]"#)).await;
        }
        io.emit("large", &(&large, &large)).await.unwrap();
        client.expect(&format!(r#"2["large","{large}","{large}"]"#)).await;
        assert_eq!(addresses.all(), [None]);
        drop(client);
        posthaste_testkit::eventually("it is gone", async || io.stats().await.connections == 0).await;
        workers.shutdown(std::time::Duration::ZERO);
    }
}
