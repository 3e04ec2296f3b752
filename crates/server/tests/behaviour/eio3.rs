//! Clients of Socket.IO 1 and 2, over revision 3 of Engine.IO, as bytes.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use posthaste::{
    Answer, Auth, ConnectError, Data, DisconnectReason, Namespace, Recovery, Revision, SendError, Server, Socket,
};
use posthaste_testkit::{Client, Frame, Http, Record, Request, Transport, WebSocket, eventually, serve};
use serde_json::{Value, json};

/// A client of revision 3 on a WebSocket, and the id of its connection.
async fn third(addr: SocketAddr, query: &str) -> (WebSocket, String) {
    let mut socket = WebSocket::connect(addr, &format!("/socket.io/?EIO=3&transport=websocket{query}")).await;
    let opened = socket.text().await;
    let sid = opened.split_once(r#""sid":""#).unwrap().1[..20].to_owned();
    (socket, sid)
}

/// As [`third`], in the main namespace.
async fn joined(addr: SocketAddr) -> (WebSocket, String) {
    let (mut socket, sid) = third(addr, "").await;
    assert_eq!(socket.text().await, "40");
    (socket, sid)
}

/// Whatever was sent before the answer to this has arrived; nothing was.
async fn nothing_before(socket: &mut WebSocket) {
    socket.send_text("420[\"sync\"]").await.unwrap();
    assert_eq!(socket.text().await, "430[]");
}

async fn whoami(socket: Socket) -> Answer<Value> {
    let mut rooms: Vec<String> = socket.rooms().await.iter().map(ToString::to_string).collect();
    rooms.sort();
    let (auth, revision) = (socket.handshake().auth().to_owned(), socket.handshake().revision());
    let eio = if revision == Revision::V3 { 3 } else { 4 };
    Answer(json!([socket.client_id(), rooms, auth, eio]))
}

#[tokio::test]
async fn the_main_namespace_is_joined_without_asking() {
    let running = serve(Server::builder().workers(1).allow_eio3(true), |io| {
        io.on("whoami", whoami);
        io.on_connect(async |socket: Socket| drop(socket.emit("welcome", &1).await));
    });
    let (mut socket, sid) = third(running.addr, "").await;
    assert_eq!(socket.text().await, "40");
    assert_eq!(socket.text().await, r#"42["welcome",1]"#);
    socket.send_text(r#"420["whoami"]"#).await.unwrap();
    assert_eq!(socket.text().await, format!(r#"430[["{sid}",["{sid}"],"{{}}",3]]"#));
    // Over polling it follows in the first poll.
    let target = "/socket.io/?EIO=3&transport=polling";
    let opened = Http::once(running.addr, &Request::get(target)).await.unwrap();
    let sid = opened.text().split_once(r#""sid":""#).unwrap().1[..20].to_owned();
    let poll = Http::once(running.addr, &Request::get(&format!("{target}&sid={sid}"))).await.unwrap();
    assert_eq!(poll.text(), r#"2:4015:42["welcome",1]"#);
    // Who asks for it again says it twice.
    socket.send_text("40").await.unwrap();
    socket.closed().await.unwrap();
    // Clients of revision 4 ask, and have ids that say nothing of their connections.
    let mut fourth = Client::open(running.addr, Transport::WebSocket).await;
    fourth.connect("/").await;
    fourth.expect(r#"2["welcome",1]"#).await;
    fourth.send(r#"20["whoami"]"#).await;
    let known = fourth.text().await;
    assert!(!known.contains(&sid) && known.ends_with(",4]]"), "{known}");
}

#[tokio::test]
async fn the_query_of_another_namespace_is_the_auth_and_its_name_is_part_of_the_id() {
    let rooms = Record::<String>::new();
    let record = rooms.clone();
    let running = serve(Server::builder().workers(1).allow_eio3(true), |io| {
        let chat = io.namespace("/chat");
        chat.on("whoami", whoami);
        // By either text, the client's and the server's own.
        chat.on("to-me", async |socket: Socket, namespace: Namespace| {
            namespace.to(socket.client_id()).emit("by", &"client").await?;
            namespace.to(socket.id()).emit("by", &"server").await?;
            namespace.to([socket.client_id(), socket.id().to_string()]).emit("by", &"both").await?;
            namespace.except(socket.client_id()).emit("by", &"nobody").await
        });
        chat.on("fetch", move |namespace: Namespace| {
            let record = record.clone();
            async move {
                let sockets = namespace.fetch_sockets().await.unwrap();
                let one = &sockets[0];
                record.push(one.id().to_owned());
                one.join("den").await.unwrap();
                one.emit("fetched", &one.rooms().len()).await.unwrap();
            }
        });
        chat.on("sync", async || {});
    });
    let (mut socket, sid) = joined(running.addr).await;
    socket.send_text("40/chat?token=a%20b&x=1&x=2,").await.unwrap();
    assert_eq!(socket.text().await, "40/chat,");
    socket.send_text(r#"42/chat,0["whoami"]"#).await.unwrap();
    let own = format!("/chat#{sid}");
    assert_eq!(socket.text().await, format!(r#"43/chat,0[["{own}",["{own}"],"{{\"token\":\"a b\",\"x\":\"2\"}}",3]]"#));
    socket.send_text(r#"42/chat,["to-me"]"#).await.unwrap();
    for by in ["client", "server", "both"] {
        assert_eq!(socket.text().await, format!(r#"42/chat,["by","{by}"]"#));
    }
    socket.send_text(r#"42/chat,["fetch"]"#).await.unwrap();
    assert_eq!(socket.text().await, r#"42/chat,["fetched",1]"#);
    assert_eq!(rooms.all(), std::slice::from_ref(&own));
    socket.send_text(r#"42/chat,1["whoami"]"#).await.unwrap();
    assert_eq!(
        socket.text().await,
        format!(r#"43/chat,1[["{own}",["{own}","den"],"{{\"token\":\"a b\",\"x\":\"2\"}}",3]]"#)
    );
    // The name without its query is what it is in, once.
    socket.send_text("40/chat?token=other,").await.unwrap();
    socket.closed().await.unwrap();
}

#[tokio::test]
async fn what_middlewares_have_two_namespaces_join_stays_apart() {
    let running = serve(Server::builder().workers(1).allow_eio3(true), |io| {
        for name in ["/", "/chat"] {
            let namespace = io.namespace(name);
            namespace.middleware(async |socket: Socket| {
                socket.join(format!("~of {}", socket.namespace().name()));
                tokio::time::sleep(Duration::from_millis(30)).await;
                Ok::<_, ConnectError>(())
            });
            namespace.on("whoami", whoami);
        }
    });
    let (mut socket, sid) = third(running.addr, "").await;
    socket.send_text("40/chat,").await.unwrap();
    assert_eq!([socket.text().await, socket.text().await], ["40", "40/chat,"]);
    socket.send_text(r#"420["whoami"]"#).await.unwrap();
    assert_eq!(socket.text().await, format!(r#"430[["{sid}",["{sid}","~of /"],"{{}}",3]]"#));
    socket.send_text(r#"42/chat,1["whoami"]"#).await.unwrap();
    assert_eq!(socket.text().await, format!(r#"43/chat,1[["/chat#{sid}",["/chat#{sid}","~of /chat"],"{{}}",3]]"#));
}

#[tokio::test]
async fn a_refusal_is_its_data_or_its_message_alone() {
    let running = serve(Server::builder().workers(1).allow_eio3(true), |io| {
        io.namespace("/auth").middleware(async |Auth(auth): Auth<Value>| {
            let data = match auth["token"].as_str() {
                Some("good") => return Ok(()),
                Some("data") => json!({ "code": 401 }),
                Some("text") => json!("why"),
                Some("zero") => json!(0),
                Some("null") => json!(null),
                Some("false") => json!(false),
                Some("empty") => json!(""),
                Some("list") => json!([]),
                _ => return Err(ConnectError::new("say \"please\"")),
            };
            Err(ConnectError::new("no").with_data(&data))
        });
    });
    let (mut socket, _) = joined(running.addr).await;
    for (query, answer) in [
        ("?token=data", r#"44/auth,{"code":401}"#),
        ("?token=text", r#"44/auth,"why""#),
        ("?token=list", "44/auth,[]"),
        ("?token=zero", r#"44/auth,"no""#),
        ("?token=null", r#"44/auth,"no""#),
        ("?token=false", r#"44/auth,"no""#),
        ("?token=empty", r#"44/auth,"no""#),
        ("", r#"44/auth,"say \"please\"""#),
        ("?token=good", "40/auth,"),
    ] {
        socket.send_text(&format!("40/auth{query},")).await.unwrap();
        assert_eq!(socket.text().await, answer, "{query}");
    }
    // As the official server has it.
    socket.send_text("40/nowhere,").await.unwrap();
    assert_eq!(socket.text().await, r#"44/nowhere,{"message":"Invalid namespace"}"#);
}

#[tokio::test]
async fn sec_28_the_checks_of_everybody_are_those_of_revision_3_too() {
    let ends = Record::<DisconnectReason>::new();
    let builder =
        Server::builder().workers(1).allow_eio3(true).connect_timeout(Duration::from_millis(300)).allow_request(
            async |request: posthaste::EngineRequest| {
                if request.headers.contains_key("x-key") { Ok(()) } else { Err("no key") }
            },
        );
    let running = serve(builder, |io| {
        let record = ends.clone();
        io.middleware(async |socket: Socket| {
            if socket.handshake().query_param("user").is_some() { Ok(()) } else { Err(ConnectError::new("who?")) }
        });
        io.on_disconnect(move |reason: DisconnectReason| {
            record.push(reason);
            async {}
        });
    });
    let target = "/socket.io/?EIO=3&transport=polling";
    let refused = Http::once(running.addr, &Request::get(target)).await.unwrap();
    assert_eq!((refused.status, refused.text()), (403, r#"{"code":4,"message":"no key"}"#));
    let jsonp = Http::once(running.addr, &Request::get(&format!("{target}&j=0"))).await.unwrap();
    assert_eq!(jsonp.status, 403);
    let websocket =
        |query: &str| posthaste_testkit::upgrade_request(&format!("/socket.io/?EIO=3&transport=websocket{query}"));
    assert_eq!(Http::once(running.addr, &websocket("")).await.unwrap().status, 400);
    let wire = posthaste_testkit::Wire::connect(running.addr).await;
    let mut socket = WebSocket::on(wire, &websocket("").header("x-key", "1")).await;
    socket.text().await;
    assert_eq!(socket.text().await, r#"44"who?""#);
    // In no namespace: it is closed in time, like everybody.
    socket.closed().await.unwrap();
    let wire = posthaste_testkit::Wire::connect(running.addr).await;
    let mut socket = WebSocket::on(wire, &websocket("&user=ada").header("x-key", "1")).await;
    socket.text().await;
    assert_eq!(socket.text().await, "40");
    socket.send_text("41").await.unwrap();
    assert_eq!(ends.wait_for(1).await, [DisconnectReason::ClientNamespaceDisconnect]);
}

#[tokio::test]
async fn events_answers_and_binary_go_both_ways() {
    let running = serve(Server::builder().workers(1).allow_eio3(true), |io| {
        io.on("echo", async |Data(bytes): Data<Bytes>| Answer(bytes));
        io.on("ask", async |socket: Socket| {
            let answer: Bytes = socket.emit_with_ack("question", &Bytes::from_static(&[7])).await.unwrap();
            socket.emit("answered", &answer.len()).await
        });
        io.on("all", async |socket: Socket, Data(bytes): Data<Bytes>| {
            socket.namespace().emit("all", &(bytes, "text")).await
        });
    });
    let (mut socket, _) = joined(running.addr).await;
    let placeholder = r#"{"_placeholder":true,"num":0}"#;
    socket.send_text(&format!(r#"451-0["echo",{placeholder}]"#)).await.unwrap();
    socket.send(&Frame::new(2, [4, 1, 2, 3])).await.unwrap();
    assert_eq!(socket.text().await, format!("461-0[{placeholder}]"));
    assert_eq!(socket.frame().await.unwrap(), Frame::new(2, [4, 1, 2, 3]));
    socket.send_text(r#"42["ask"]"#).await.unwrap();
    assert_eq!(socket.text().await, format!(r#"451-0["question",{placeholder}]"#));
    assert_eq!(socket.frame().await.unwrap(), Frame::new(2, [4, 7]));
    socket.send_text(&format!("461-0[{placeholder}]")).await.unwrap();
    socket.send(&Frame::new(2, [&[4][..], &[9; 300]].concat())).await.unwrap();
    assert_eq!(socket.text().await, r#"42["answered",300]"#);
    // One broadcast for both revisions.
    let mut fourth = Client::join(running.addr, Transport::WebSocket).await;
    socket.send_text(&format!(r#"451-["all",{placeholder}]"#)).await.unwrap();
    socket.send(&Frame::new(2, [4, 1, 2, 3])).await.unwrap();
    let text = format!(r#"451-["all",{placeholder},"text"]"#);
    assert_eq!(socket.text().await, text);
    assert_eq!(socket.frame().await.unwrap(), Frame::new(2, [4, 1, 2, 3]));
    let fourth = fourth.engine().websocket();
    assert_eq!(fourth.text().await, text);
    assert_eq!(fourth.frame().await.unwrap(), Frame::new(2, [1, 2, 3]));
}

#[tokio::test]
async fn where_clients_are_recovered_those_of_revision_3_are_sent_no_offsets_and_not_recovered() {
    let sockets = Record::<Socket>::new();
    let record = sockets.clone();
    let builder = Server::builder().workers(2).allow_eio3(true).recovery(Recovery::default());
    let running = serve(builder, |io| {
        io.middleware(async |socket: Socket| socket.emit("early", &1).await.map_err(|_| ConnectError::new("gone")));
        io.on_connect(move |socket: Socket| {
            record.push(socket);
            async {}
        });
        io.on("sync", async || {});
        io.on("say", async |socket: Socket| {
            let all = socket.namespace();
            socket.emit("one", &"a").await?;
            socket.volatile().emit("one", &"b").await?;
            all.emit("all", &"c").await?;
            all.volatile().emit("all", &"d").await?;
            all.to(socket.id()).emit("room", &"e").await?;
            all.emit("binary", &(Bytes::from_static(&[1]), "f")).await
        });
    });
    let (mut socket, _) = third(running.addr, "").await;
    assert_eq!([socket.text().await, socket.text().await], [r#"42["early",1]"#, "40"]);
    let mut fourth = Client::open(running.addr, Transport::WebSocket).await;
    fourth.engine().send("0").await.unwrap();
    let early = fourth.engine().websocket().text().await;
    assert!(early.starts_with(r#"42["early",1,"~"#), "{early}");
    let opened = fourth.engine().websocket().text().await;
    assert!(opened.starts_with(r#"40{"sid":""#) && opened.contains(r#","pid":""#), "{opened}");
    socket.send_text(r#"42["say"]"#).await.unwrap();
    for expected in ["[\"one\",\"a\"]", "[\"one\",\"b\"]", "[\"all\",\"c\"]", "[\"all\",\"d\"]", "[\"room\",\"e\"]"] {
        assert_eq!(socket.text().await, format!("42{expected}"));
    }
    assert_eq!(socket.text().await, r#"451-["binary",{"_placeholder":true,"num":0},"f"]"#);
    assert_eq!(socket.frame().await.unwrap(), Frame::new(2, [4, 1]));
    nothing_before(&mut socket).await;
    // The others are sent theirs.
    for begin in [r#"42["all","c","~"#, r#"42["all","d","~"#, r#"451-["binary",{"_placeholder":true,"num":0},"f","~"#] {
        let event = fourth.engine().websocket().text().await;
        assert!(event.starts_with(begin), "{event}");
    }
    // Gone is gone: nothing is kept for it, and it takes nothing up.
    let pid = opened.split_once(r#""pid":""#).unwrap().1.split('"').next().unwrap().to_owned();
    drop(socket);
    let lost = sockets.all().remove(0);
    eventually("it is gone", async || !lost.is_connected()).await;
    assert!(matches!(lost.emit("late", &1).await, Err(SendError::Disconnected)));
    assert_eq!(running.io.stats().await.recoverable, 0);
    drop(fourth);
    eventually("the other one waits", async || running.io.stats().await.recoverable == 1).await;
    running.io.namespace("/chat").on("sync", async || {});
    let (mut socket, _) = third(running.addr, "").await;
    assert_eq!([socket.text().await, socket.text().await], [r#"42["early",1]"#, "40"]);
    socket.send_text("41").await.unwrap();
    socket.send_text(&format!("40/?pid={pid}&offset=x,")).await.unwrap();
    assert_eq!([socket.text().await, socket.text().await], [r#"42["early",1]"#, "40"]);
    assert_eq!(running.io.stats().await.recoverable, 1);
}

#[tokio::test]
async fn revision_3_is_off_unless_it_is_allowed() {
    let running = serve(Server::builder().workers(1), |_| {});
    for target in ["/socket.io/?EIO=3&transport=polling", "/socket.io/?transport=polling"] {
        let answer = Http::once(running.addr, &Request::get(target)).await.unwrap();
        assert_eq!((answer.status, answer.text()), (400, r#"{"code":5,"message":"Unsupported protocol version"}"#));
    }
}
