//! Several servers, as far as operators are concerned: connected inside of this process.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use posthaste::{Adapter, Answer, Data, Event, MemoryAdapter, Namespace, SendError, Server};
use posthaste_adapter::contract::Mesh;
use posthaste_testkit::{Client, Record, Running, eventually, serve};

/// Servers whose main namespaces are one.
fn connected(servers: usize, setup: impl Fn(usize, &Server)) -> Vec<Running> {
    let adapters = Mesh::default().connect(&["/"], servers).remove(0);
    let make = |(number, adapter): (usize, Arc<dyn Adapter>)| {
        let adapter = Mutex::new(Some(adapter));
        let builder = Server::builder().workers(2).ack_timeout(Duration::from_secs(30)).adapter(move |name| {
            let own = adapter.lock().unwrap().take_if(|_| name == "/");
            own.unwrap_or_else(|| Arc::new(MemoryAdapter::new()))
        });
        serve(builder, |io| setup(number, io))
    };
    adapters.into_iter().enumerate().map(make).collect()
}

/// Two clients on each server.
async fn clients(servers: &[Running]) -> Vec<Client> {
    let mut clients = Vec::new();
    for running in servers {
        clients.push(Client::websocket(running.addr).await);
        clients.push(Client::websocket(running.addr).await);
    }
    clients
}

#[tokio::test]
async fn an_event_reaches_the_sockets_of_all_servers_unless_it_is_local() {
    let servers = connected(3, |_, _| {});
    let mut clients = clients(&servers).await;
    let io = &servers[1].io;
    assert_eq!(io.server_count().await.unwrap(), 3);
    io.emit("first", &("text", bytes::Bytes::from_static(b"binary"))).await.unwrap();
    io.local().sockets_join("here").await.unwrap();
    io.sockets_join("everywhere").await.unwrap();
    io.local().emit("local", &()).await.unwrap();
    io.to("here").emit("here", &()).await.unwrap();
    io.except("here").emit("elsewhere", &()).await.unwrap();
    io.to("everywhere").compress(false).emit("last", &()).await.unwrap();
    for (index, client) in clients.iter_mut().enumerate() {
        client.expect(r#"51-["first","text",{"_placeholder":true,"num":0}]"#).await;
        client.expect_binary(b"binary").await;
        if index / 2 == 1 {
            client.expect(r#"2["local"]"#).await;
            client.expect(r#"2["here"]"#).await;
        } else {
            client.expect(r#"2["elsewhere"]"#).await;
        }
        client.expect(r#"2["last"]"#).await;
    }
    io.disconnect_sockets(false).await.unwrap();
    for client in &mut clients {
        client.expect("1").await;
    }
    eventually("everyone is gone", async || {
        servers[0].io.fetch_sockets().await.is_ok_and(|sockets| sockets.is_empty())
    })
    .await;
}

#[tokio::test]
async fn the_sockets_of_all_servers_answer_and_those_that_do_not_are_told_in_time() {
    let servers = connected(2, |_, _| {});
    let mut clients = clients(&servers).await;
    // So that the servers' questions have different numbers.
    for _ in 0..3 {
        let _ = servers[1].io.local().timeout(Duration::ZERO).emit_with_ack::<u8>("hurry", &()).await.unwrap();
    }
    for client in &mut clients[2..] {
        for id in 0..3 {
            client.expect(&format!(r#"2{id}["hurry"]"#)).await;
        }
    }
    let io = &servers[0].io;
    let answers = io.emit_with_ack::<u8>("number", &1);
    for (index, client) in clients.iter_mut().enumerate() {
        let id = if index < 2 { 0 } else { 3 };
        client.expect(&format!(r#"2{id}["number",1]"#)).await;
        client.send(&format!("3{id}[{index}]")).await;
    }
    let mut answers = answers.await.unwrap();
    answers.answers.sort_unstable();
    assert_eq!((answers.answers.as_slice(), answers.asked, answers.complete), (&[0, 1, 2, 3][..], 4, true));

    let mut stream = io.timeout(Duration::from_millis(500)).emit_with_ack::<u8>("number", &2).stream();
    for index in [3, 0] {
        let id = if index < 2 { 1 } else { 4 };
        clients[index].expect(&format!(r#"2{id}["number",2]"#)).await;
        clients[index].send(&format!("3{id}[{index}]")).await;
        let (from, answer) = stream.next().await.unwrap().unwrap();
        assert_eq!(usize::from(answer), index);
        assert!(from.is_some());
    }
    assert!(stream.next().await.is_none());
    assert_eq!((stream.asked(), stream.is_complete()), (4, false));
}

#[tokio::test]
async fn sockets_of_other_servers_are_fetched_and_acted_on() {
    let servers = connected(2, |_, _| {});
    let mut clients = clients(&servers).await;
    let (here, there) = (&servers[0].io, &servers[1].io);
    there.local().sockets_join("there").await.unwrap();
    let fetched = here.fetch_sockets().await.unwrap();
    let of = |sockets: Vec<posthaste::Socket>| -> BTreeSet<String> {
        sockets.iter().map(|socket| socket.id().to_string()).collect()
    };
    let mut all = of(here.sockets().await);
    let remote = of(there.sockets().await);
    all.extend(remote.clone());
    assert_eq!(fetched.iter().map(|socket| socket.id().to_owned()).collect::<BTreeSet<_>>(), all);
    let away: Vec<_> = fetched.iter().filter(|socket| socket.rooms().iter().any(|room| &**room == "there")).collect();
    assert_eq!(away.iter().map(|socket| socket.id().to_owned()).collect::<BTreeSet<_>>(), remote);
    assert_eq!(away[0].handshake().query_param("transport"), Some("websocket"));

    let answer = away[0].emit_with_ack::<String>("question", &away[0].id());
    let question = format!(r#"20["question","{}"]"#, away[0].id());
    // One of the two is asked; the other one's turn is next.
    let second = away[1].emit_with_ack::<String>("question", &away[1].id());
    for client in &mut clients[2..] {
        let text = client.text().await;
        let id = if text == question { 0 } else { 1 };
        client.send(&format!(r#"3{id}["answer {id}"]"#)).await;
    }
    assert_eq!((answer.await.unwrap(), second.await.unwrap()), ("answer 0".to_owned(), "answer 1".to_owned()));

    away[0].join("moved").await.unwrap();
    let moved = here.to("moved").fetch_sockets().await.unwrap();
    assert_eq!(moved.len(), 1);
    assert_eq!(moved[0].id(), away[0].id());
    away[0].leave("moved").await.unwrap();
    assert_eq!(here.to("moved").fetch_sockets().await.unwrap().len(), 0);
    away[0].disconnect(true).await.unwrap();
    eventually("it is gone", async || here.fetch_sockets().await.is_ok_and(|sockets| sockets.len() == 3)).await;
}

#[tokio::test]
async fn servers_tell_and_ask_each_other_but_not_themselves() {
    let heard = Record::new();
    let servers = connected(3, |number, io| {
        let record = heard.clone();
        io.on_server_event("told", move |Data((text, n)): Data<(String, u8)>, namespace: Namespace| {
            record.push((number, format!("{text} {n} {}", namespace.name())));
            async {}
        });
        io.on_server_event("number", move || async move { Answer(number) });
        if number != 2 {
            io.on_server_event("some", move |Event(name): Event| async move {
                tokio::task::yield_now().await;
                Ok::<_, SendError>(format!("{name} {number}"))
            });
        }
        io.on_server_event("fails", async move || Err::<(), _>("no luck"));
    });
    for n in 0..20 {
        servers[0].io.server_side_emit("told", &("hello", n)).await.unwrap();
    }
    eventually("both have heard all", async || heard.all().len() >= 40).await;
    for number in 0..3 {
        let of_one: Vec<String> =
            heard.all().into_iter().filter(|(of, _)| *of == number).map(|(_, text)| text).collect();
        let expected: Vec<String> = (0..20).map(|n| format!("hello {n} /")).collect();
        assert_eq!(of_one, if number == 0 { Vec::new() } else { expected });
    }
    for (number, others) in [(0, [1, 2]), (1, [0, 2]), (2, [0, 1])] {
        let mut answers = servers[number].io.server_side_emit_with_ack::<usize>("number", &()).await.unwrap();
        answers.answers.sort_unstable();
        assert_eq!((answers.answers.as_slice(), answers.asked, answers.complete), (&others[..], 2, true));
    }
    // A server without a handler is not waited for.
    let some = servers[0].io.server_side_emit_with_ack::<String>("some", &()).await.unwrap();
    assert_eq!((some.answers, some.asked, some.complete), (vec!["some 1".to_owned()], 2, false));
    let failed = servers[0].io.server_side_emit_with_ack::<serde_json::Value>("fails", &()).await.unwrap();
    assert_eq!(failed.answers, [serde_json::json!({ "error": "no luck" }), serde_json::json!({ "error": "no luck" })]);
}

#[tokio::test]
async fn a_server_that_is_alone_has_nobody_to_tell_which_is_no_error() {
    let running = serve(Server::builder().workers(1), |io| {
        io.on_server_event("event", async || -> () { panic!("a server does not hear itself") });
    });
    let io = &running.io;
    io.server_side_emit("event", &1).await.unwrap();
    let answers = io.server_side_emit_with_ack::<u8>("event", &1).await.unwrap();
    assert_eq!((answers.answers.len(), answers.asked, answers.complete), (0, 0, true));
    assert_eq!(io.server_count().await.unwrap(), 1);
    for name in ["connect", "connection", "new_namespace"] {
        assert!(matches!(io.server_side_emit(name, &()).await, Err(SendError::Encode(_))), "{name}");
        assert!(io.namespace("/x").server_side_emit_with_ack::<u8>(name, &()).await.is_err(), "{name}");
    }
    io.server_side_emit("disconnect", &()).await.unwrap();
}

#[tokio::test]
async fn what_is_registered_on_a_parent_hears_the_servers_of_its_children() {
    let adapters = Mesh::default().connect(&["/game-1"], 2).remove(0);
    let servers: Vec<Running> = adapters
        .into_iter()
        .map(|adapter| {
            let builder = Server::builder().workers(1).adapter(move |name| match name {
                "/game-1" => adapter.clone(),
                _ => Arc::new(MemoryAdapter::new()),
            });
            serve(builder, |io| {
                let parent = io.namespaces("/game-{number}").unwrap();
                parent.on_server_event("where", async |namespace: Namespace| Answer(namespace.name().to_owned()));
            })
        })
        .collect();
    let mut clients = Vec::new();
    for running in &servers {
        let mut client = Client::open(running.addr, posthaste_testkit::Transport::WebSocket).await;
        client.connect("/game-1").await;
        clients.push(client);
    }
    let parent = servers[0].io.namespaces("/game-{number}").unwrap();
    let answers = parent.server_side_emit_with_ack::<String>("where", &()).await.unwrap();
    assert_eq!((answers.answers, answers.complete), (vec!["/game-1".to_owned()], true));
    assert_eq!(parent.fetch_sockets().await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_server_that_has_closed_is_not_waited_for() {
    let servers = connected(3, |_, _| {});
    let _clients = clients(&servers).await;
    let io = &servers[0].io;
    let closing = servers[2].io.clone();
    tokio::task::spawn_blocking(move || closing.close(Duration::from_secs(20))).await.unwrap();
    eventually("two are left", async || io.server_count().await.unwrap() == 2).await;
    assert_eq!(io.fetch_sockets().await.unwrap().len(), 4);
    let answers = io.server_side_emit_with_ack::<u8>("nobody handles", &()).await.unwrap();
    assert_eq!((answers.asked, answers.complete), (1, false));
}
