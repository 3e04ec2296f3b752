//! What a server knows of a client from its first request.

use std::time::{Duration, SystemTime};

use posthaste::{Answer, Server, Socket, Transport as Kind};
use posthaste_testkit::{Client, Engine, Record, Transport, serve};

#[tokio::test]
async fn the_handshake_is_what_the_client_sent_first() {
    let sockets = Record::<Socket>::new();
    let record = sockets.clone();
    let running = serve(Server::builder().workers(1), |io| {
        io.namespace("/chat").on_connect(move |socket: Socket| {
            record.push(socket);
            async {}
        });
    });
    for transport in Transport::ALL {
        let before = SystemTime::now();
        let query = "&name=J%C3%BCrgen+M&name=second&empty=&%26a=%26%3D%3Fa&flag";
        let headers = [("X-Custom", "a: b"), ("Cookie", "k=v; l=w"), ("x-twice", "1"), ("X-Twice", "2")];
        let engine = Engine::open_with(running.addr, "/socket.io/", transport, query, &headers).await;
        let mut client = Client::new(engine);
        client.connect_with("/chat", r#"{"token":"t","n":[1,2.50]}"#).await;
        let socket = sockets.all().pop().unwrap();
        let handshake = socket.handshake();
        assert_eq!(handshake.auth(), r#"{"token":"t","n":[1,2.50]}"#);
        assert_eq!(handshake.url(), format!("/socket.io/?EIO=4&transport={}{query}", transport.name()));
        let parameters: Vec<(String, String)> =
            handshake.query().map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
        let expected = [
            ("EIO", "4"),
            ("transport", transport.name()),
            ("name", "Jürgen M"),
            ("name", "second"),
            ("empty", ""),
            ("&a", "&=?a"),
            ("flag", ""),
        ];
        assert_eq!(parameters, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(handshake.query_param("name").as_deref(), Some("second"));
        assert_eq!(handshake.query_param("none"), None);
        assert_eq!(handshake.header("x-CUSTOM"), Some("a: b"));
        assert_eq!(handshake.header("cookie"), Some("k=v; l=w"));
        assert_eq!(handshake.header("host"), Some("localhost"));
        assert_eq!(handshake.header("none"), None);
        let twice: Vec<&[u8]> =
            handshake.headers().filter(|(name, _)| *name == "x-twice").map(|(_, value)| value).collect();
        assert_eq!(twice, [b"1", b"2"]);
        let address = handshake.address().unwrap();
        assert_eq!(address.ip(), running.addr.ip());
        if transport == Transport::WebSocket {
            assert_eq!(address, client.engine().websocket().wire().local_addr());
        }
        assert!(!handshake.is_secure() && !handshake.is_cross_domain());
        let issued = handshake.issued();
        assert!(issued >= before - Duration::from_secs(1) && issued <= SystemTime::now());
    }
}

#[tokio::test]
async fn each_namespace_has_its_own_auth_and_the_same_request() {
    let sockets = Record::<Socket>::new();
    let running = serve(Server::builder().workers(1), |io| {
        for namespace in ["/", "/a", "/b"] {
            let record = sockets.clone();
            io.namespace(namespace).on_connect(move |socket: Socket| {
                record.push(socket);
                async {}
            });
        }
    });
    let headers = [("Origin", "https://app.example")];
    let engine = Engine::open_with(running.addr, "/socket.io/", Transport::WebSocket, "&x=1", &headers).await;
    let mut client = Client::new(engine);
    client.connect("/").await;
    client.connect_with("/a", "{}").await;
    client.connect_with("/b", r#"{"b":true}"#).await;
    let auths: Vec<String> = sockets.all().iter().map(|socket| socket.handshake().auth().to_owned()).collect();
    assert_eq!(auths, ["{}", "{}", r#"{"b":true}"#]);
    for socket in sockets.all() {
        assert_eq!(socket.handshake().query_param("x").as_deref(), Some("1"));
        assert!(socket.handshake().is_cross_domain());
    }
}

#[tokio::test]
async fn a_socket_knows_its_transport_also_after_an_upgrade() {
    let running = serve(Server::builder().workers(1), |io| {
        io.on("transport", async |transport: Option<Kind>| Answer(transport.unwrap().as_str()));
    });
    let mut client = Client::join(running.addr, Transport::Polling).await;
    client.ask(r#"["transport"]"#, r#"["polling"]"#).await;
    client.engine().upgrade().await.unwrap();
    client.ask(r#"["transport"]"#, r#"["websocket"]"#).await;
}

#[tokio::test]
async fn what_is_kept_with_a_socket_is_there_for_its_handlers_until_its_end() {
    let running = serve(Server::builder().workers(1), |io| {
        io.on_connect(async |socket: Socket| {
            assert_eq!(socket.insert(1u32), None);
            assert_eq!(socket.insert("name".to_owned()), None);
        });
        io.on("next", async |socket: Socket| {
            let number = socket.get::<u32>().unwrap();
            assert_eq!(socket.insert(number + 1), Some(number));
            assert_eq!(socket.get::<u64>(), None);
            Answer((number, socket.get::<String>()))
        });
    });
    let mut client = Client::websocket(running.addr).await;
    client.ask(r#"["next"]"#, r#"[1,"name"]"#).await;
    client.ask(r#"["next"]"#, r#"[2,"name"]"#).await;
    client.send("1").await;
    client.connect("/").await;
    client.ask(r#"["next"]"#, r#"[1,"name"]"#).await;
}
