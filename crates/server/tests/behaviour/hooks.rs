//! What an application has to say before a client is connected.

use axum::Router;
use http::HeaderValue;
use posthaste::{
    Builder, Cookie, EngineRequest, ErrorContext, Kept, Origins, Revision, Secure, Server, Socket, Stop, Workers,
};
use posthaste_testkit::{Client, Engine, Http, Record, Request, Response, Transport, serve, upgrade_request};
use tokio::net::TcpListener;
use tower::ServiceBuilder;

const POLLING: &str = "/socket.io/?EIO=4&transport=polling";
const WEBSOCKET: &str = "/socket.io/?EIO=4&transport=websocket";

async fn connect(addr: std::net::SocketAddr, transport: Transport, headers: &[(&str, &str)]) -> Client {
    let mut client = Client::new(Engine::open_with(addr, "/socket.io/", transport, "", headers).await);
    client.connect("/").await;
    client
}

#[derive(Clone, Debug, PartialEq)]
struct User(String);

/// Knows who a client is, or keeps it out. The test client says it with its first request alone.
async fn who(mut request: EngineRequest) -> Result<EngineRequest, Stop> {
    if request.uri.query().is_some_and(|query| query.contains("sid=")) {
        return Ok(request);
    }
    let user = request.headers.get("x-user").and_then(|user| user.to_str().ok()).map(str::to_owned);
    request.keep(User(user.ok_or("nobody")?));
    request.answer_headers().insert("x-who", HeaderValue::from_static("known"));
    Ok(request)
}

#[tokio::test]
async fn what_a_middleware_keeps_of_a_request_handlers_find_on_every_transport() {
    let users = Record::new();
    let server = serve(Server::builder().workers(1).engine_middleware(who), |_| {});
    let record = users.clone();
    server.io.on_connect(move |socket: Socket| {
        let handshake = socket.handshake();
        assert_eq!((handshake.revision(), handshake.kept::<u8>()), (Revision::V4, None));
        record.push((handshake.kept::<User>().cloned(), socket.transport()));
        async {}
    });
    let errors = Record::new();
    let record = errors.clone();
    server.io.on_connection_error(move |error| record.push((error.code(), error.context())));
    for (transport, name) in Transport::ALL.into_iter().zip(["ada", "bob"]) {
        let client = connect(server.addr, transport, &[("x-user", name)]).await;
        assert_eq!(users.all().pop().unwrap().0, Some(User(name.to_owned())));
        client.leave().await;
    }
    for (request, body) in
        [(Request::get(POLLING), r#"{"code":3,"message":"Bad request"}"#), (upgrade_request(WEBSOCKET), "Bad request")]
    {
        let answer = Http::once(server.addr, &request).await.unwrap();
        assert_eq!((answer.status, answer.text()), (400, body));
    }
    let error = (3, ErrorContext::Middleware { reason: "nobody".to_owned() });
    assert_eq!(errors.all(), [error.clone(), error]);
    // The files of the browser client belong to no connection.
    let file = Http::once(server.addr, &Request::get("/socket.io/socket.io.js")).await.unwrap();
    assert_eq!((file.status, file.header("x-who")), (200, None));
}

/// Asks for a connection on both transports.
async fn both(builder: Builder, header: Option<(&str, &str)>) -> [Response; 2] {
    let server = serve(builder.workers(1), |_| {});
    let mut answers = Vec::new();
    for request in [Request::get(POLLING), upgrade_request(WEBSOCKET)] {
        let request = header.into_iter().fold(request, |request, (name, value)| request.header(name, value));
        answers.push(Http::once(server.addr, &request).await.unwrap());
    }
    answers.try_into().unwrap()
}

#[tokio::test]
async fn the_builders_hooks_are_the_engines() {
    let [polling, upgrade] = both(Server::builder().allow_request(async |_| Err("not today")), None).await;
    assert_eq!((polling.status, polling.text()), (403, r#"{"code":4,"message":"not today"}"#));
    assert_eq!((upgrade.status, upgrade.text()), (400, "not today"));

    let origins = || Server::builder().origins(Origins::only(["https://app.example"]).unwrap());
    let [polling, upgrade] = both(origins(), Some(("Origin", "https://app.example.evil"))).await;
    assert_eq!((polling.status, upgrade.status), (403, 403));
    let [polling, upgrade] = both(origins(), Some(("Origin", "https://app.example"))).await;
    assert_eq!((polling.status, upgrade.status), (200, 101));

    let builder = Server::builder()
        .cookie(Cookie::default())
        .initial_headers(|headers, _| drop(headers.insert("x-initial", HeaderValue::from_static("1"))))
        .headers(|headers, request| drop(headers.insert("x-query", request.uri.query().unwrap().parse().unwrap())));
    let [polling, upgrade] = both(builder, None).await;
    assert!(polling.header("set-cookie").unwrap().starts_with("io="));
    for (answer, query) in [(polling, "EIO=4&transport=polling"), (upgrade, "EIO=4&transport=websocket")] {
        assert_eq!((answer.header("x-initial"), answer.header("x-query")), (Some("1"), Some(query)));
    }
}

#[tokio::test]
async fn an_application_around_the_server_says_whether_it_is_secure_and_what_to_keep() {
    for said in [None, Some(false), Some(true)] {
        let workers = Workers::start(1).unwrap();
        let io = Server::builder().shared_workers(&workers).build().unwrap();
        let record = Record::new();
        let seen = record.clone();
        io.on_connect(move |socket: Socket| {
            let handshake = socket.handshake();
            seen.push((handshake.is_secure(), handshake.kept::<User>().cloned(), handshake.kept::<u32>().copied()));
            async {}
        });
        let app: Router = Router::new().layer(
            ServiceBuilder::new()
                .map_request(move |mut request: http::Request<axum::body::Body>| {
                    let extensions = request.extensions_mut();
                    extensions.insert("not kept");
                    Kept::keep(extensions, User("ada".to_owned()));
                    Kept::keep(extensions, 7_u32);
                    said.map(|said| extensions.insert(Secure(said)));
                    request
                })
                .layer(io.layer()),
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        for transport in Transport::ALL {
            connect(addr, transport, &[]).await.leave().await;
        }
        let expected = (said == Some(true), Some(User("ada".to_owned())), Some(7));
        assert_eq!(record.all(), [expected.clone(), expected]);
        workers.shutdown(std::time::Duration::ZERO);
    }
}
