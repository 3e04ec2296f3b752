//! A session belongs to who it was made for.

use posthaste::store::Retention;
use posthaste::{Auth, ConnectError, Server, Socket};
use serde_json::json;

use crate::peer::Peer;
use crate::scene::Remains;

fn checked(io: &Server) {
    #[derive(serde::Deserialize)]
    struct Login {
        user: Option<String>,
    }
    io.middleware(async |socket: Socket, Auth(login): Auth<Login>| {
        let Some(user) = login.user else { return Err(ConnectError::new("who are you?")) };
        socket.identify(user);
        Ok(())
    });
}

#[tokio::test]
async fn only_the_same_person_takes_a_session_up() {
    for restarts in [false, true] {
        let remains = Remains::new();
        let serve = || remains.serve_with(Retention::ROOM, |durable| durable, checked);
        let (mut running, mut sockets) = serve();
        let mut peer = Peer::join_with(running.addr, json!({ "user": "ada" })).await;
        assert_eq!(sockets.all()[0].identity().as_deref(), Some("ada"));
        peer.client.ask(r#"["enter","room"]"#, "[]").await;
        let (id, memory) = (peer.id.clone(), peer.lose(&running.io).await);
        if restarts {
            (running, sockets) = serve();
        }
        running.io.to("room").emit("secret", &()).await.unwrap();

        let other = memory.back_with(running.addr, json!({ "user": "eve" })).await;
        assert!(!other.recovered && other.missed.is_empty(), "restarts: {restarts}");
        assert_ne!(other.peer.id, id);
        let socket = sockets.all().pop().unwrap();
        assert_eq!((socket.identity().as_deref(), socket.rooms().await.len()), (Some("eve"), 1));

        let mut refused = posthaste_testkit::Client::open(running.addr, posthaste_testkit::Transport::WebSocket).await;
        refused.send(&memory.wish()).await;
        assert!(refused.text().await.starts_with(r#"4{"message":"who are you?""#));

        let back = memory.back_with(running.addr, json!({ "user": "ada" })).await;
        assert!(back.recovered, "restarts: {restarts}");
        assert_eq!((back.peer.id, back.missed), (id, vec![json!(["secret"])]));
        assert_eq!(sockets.all().pop().unwrap().identity().as_deref(), Some("ada"));
    }
}
