//! Namespaces that are made because a client asks for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use posthaste::{
    Answer, Auth, ConnectError, Data, Namespace, NamespaceError, NamespaceRequest, Params, Server, Socket,
};
use posthaste_testkit::{Client, Record, Transport, eventually, serve};
use serde::Deserialize;
use tokio::sync::Semaphore;

async fn invalid(client: &mut Client, name: &str) {
    refused(client, name, "Invalid namespace").await;
}

async fn refused(client: &mut Client, name: &str, message: &str) {
    client.send(&format!("0{name},")).await;
    client.expect(&format!(r#"4{name},{{"message":"{message}"}}"#)).await;
}

/// Asks `event` in a namespace and expects the answer next.
async fn ask(client: &mut Client, namespace: &str, event: &str, answer: &str) {
    client.send(&format!("2{namespace},77{event}")).await;
    client.expect(&format!("3{namespace},77{answer}")).await;
}

#[tokio::test]
async fn a_pattern_makes_namespaces_and_handlers_take_its_open_parts() {
    #[derive(Deserialize)]
    struct Order {
        id: u64,
        shop: String,
    }
    let joined = Record::new();
    let record = joined.clone();
    let running = serve(Server::builder().workers(1), |io| {
        let orders = io.namespaces("/shops/{shop}/orders/{id}").unwrap();
        orders.middleware(
            async |Params((shop, _)): Params<(String, String)>| {
                if shop == "closed" { Err(ConnectError::new("closed")) } else { Ok(()) }
            },
        );
        orders.on_connect(move |namespace: Namespace, Params((shop, id)): Params<(String, u64)>| {
            record.push((namespace.name().to_owned(), shop, id));
            async {}
        });
        orders.on("order", async |Params(Order { id, shop }): Params<Order>| Answer((shop, id)));
        orders.on("wrong", async |Params(_): Params<u8>| {});
        // The rest of a name, slashes and all; and a name that is no pattern's.
        io.namespaces("files/{*path}").unwrap().on("path", async |Params(path): Params<String>| Answer(path));
        io.on("none", async |Params(()): Params<()>, Params(none): Params<Option<u8>>| Answer(none));
    });
    for transport in Transport::ALL {
        let mut client = Client::open(running.addr, transport).await;
        client.connect("/shops/north/orders/17").await;
        ask(&mut client, "/shops/north/orders/17", r#"["order"]"#, r#"["north",17]"#).await;
        let error = r#"[{"error":"the name of the namespace: the namespace's name has 2 parameters, not one"}]"#;
        ask(&mut client, "/shops/north/orders/17", r#"["wrong"]"#, error).await;
        refused(&mut client, "/shops/closed/orders/1", "closed").await;
        for name in
            ["/shops/north/orders", "/shops/north/orders/", "/shops//orders/1", "/shops/a/b/orders/1", "/files/"]
        {
            invalid(&mut client, name).await;
        }
        client.connect("/files/a%20b/ü.txt").await;
        ask(&mut client, "/files/a%20b/ü.txt", r#"["path"]"#, r#"["a%20b/ü.txt"]"#).await;
        client.connect("/").await;
        client.ask(r#"["none"]"#, "[null]").await;
        client.leave().await;
    }
    let expected = ("/shops/north/orders/17".to_owned(), "north".to_owned(), 17);
    assert_eq!(joined.all(), [expected.clone(), expected]);
}

#[tokio::test]
async fn a_regular_expression_makes_namespaces_and_its_groups_are_parameters() {
    let running = serve(Server::builder().workers(1), |io| {
        let rooms = io.namespaces_matching(r"^/(?<kind>room|hall)-(\d+)(-vip)?$").unwrap();
        rooms.on("groups", async |Params(all): Params<std::collections::BTreeMap<String, String>>| Answer(all));
        // A search, as in the official server, unless the expression says where a name begins and ends.
        io.namespaces_matching("any").unwrap();
    });
    let mut client = Client::open(running.addr, Transport::WebSocket).await;
    client.connect("/room-1").await;
    ask(&mut client, "/room-1", r#"["groups"]"#, r#"[{"2":"1","kind":"room"}]"#).await;
    client.connect("/hall-22-vip").await;
    ask(&mut client, "/hall-22-vip", r#"["groups"]"#, r#"[{"2":"22","3":"-vip","kind":"hall"}]"#).await;
    client.connect("/so many things").await;
    for name in ["/room-", "/room-1x", "/x/room-1", "/ROOM-1"] {
        invalid(&mut client, name).await;
    }
}

#[tokio::test]
async fn a_predicate_sees_name_and_auth_and_allows_passes_on_or_refuses() {
    let asked = Record::new();
    let record = asked.clone();
    let running = serve(Server::builder().workers(2), |io| {
        #[derive(Deserialize)]
        struct Wish {
            #[serde(default)]
            may: Option<bool>,
        }
        let first = io.namespaces_where(move |request: NamespaceRequest| {
            record.push(request.name().to_owned());
            async move {
                tokio::task::yield_now().await;
                match request.auth::<Wish>()?.may {
                    Some(may) => Ok(may),
                    None if request.name().starts_with("/panic") => {
                        panic!("the predicate's panic is the client's refusal")
                    }
                    None => Err(ConnectError::new("who asks?")),
                }
            }
        });
        first.on("parent", async || Answer("first"));
        // Behind the first: asked when that one says no.
        let second = io.namespaces("/second/{x}").unwrap();
        second.on("parent", async |Params(x): Params<u8>| Answer(("second", x)));
        io.namespaces_where(async |request: NamespaceRequest| request.name() == "/last")
            .on("parent", async || Answer("last"));
    });
    for transport in Transport::ALL {
        let names = ["/a", "/second/1", "/last"].map(|name| format!("{name}/{transport:?}"));
        let mut client = Client::open(running.addr, transport).await;
        client.connect_with(&names[0], r#"{"may":true}"#).await;
        ask(&mut client, &names[0], r#"["parent"]"#, r#"["first"]"#).await;
        refused(&mut client, "/b", "who asks?").await;
        refused(&mut client, "/panic", "Internal server error").await;
        client.send(r#"0/b,{"may":false}"#).await;
        client.expect(r#"4/b,{"message":"Invalid namespace"}"#).await;
        client.send(r#"0/b,{"may":17}"#).await;
        assert!(client.text().await.starts_with(r#"4/b,{"message":"the auth of the connection: "#));
        client.connect_with("/second/1", r#"{"may":false}"#).await;
        ask(&mut client, "/second/1", r#"["parent"]"#, r#"["second",1]"#).await;
        client.connect_with("/last", r#"{"may":false}"#).await;
        ask(&mut client, "/last", r#"["parent"]"#, r#"["last"]"#).await;
        // What is there is joined, nobody is asked: middlewares are the guards.
        client.leave().await;
        let before = asked.all().len();
        let mut client = Client::open(running.addr, transport).await;
        client.connect("/last").await;
        assert_eq!(asked.all().len(), before);
        client.leave().await;
    }
}

#[tokio::test]
async fn parents_are_asked_in_the_order_of_registration_and_names_of_their_own_come_first() {
    let running = serve(Server::builder().workers(1), |io| {
        io.namespaces_matching("^/a").unwrap().on("who", async || Answer("regex"));
        io.namespaces("/{name}").unwrap().on("who", async || Answer("pattern"));
        io.namespace("/own").on("who", async || Answer("own"));
        // The same pattern is the same parent.
        io.namespaces("{name}").unwrap().on("again", async || Answer("again"));
        assert_eq!(io.namespaces("/{name}").unwrap().name(), "/{name}");
    });
    let mut client = Client::open(running.addr, Transport::WebSocket).await;
    for (name, parent) in [("/ab", "regex"), ("/b", "pattern"), ("/own", "own")] {
        client.connect(name).await;
        ask(&mut client, name, r#"["who"]"#, &format!(r#"["{parent}"]"#)).await;
    }
    ask(&mut client, "/b", r#"["again"]"#, r#"["again"]"#).await;
}

#[tokio::test]
async fn a_child_has_the_handlers_its_parent_had_when_it_was_made_and_those_of_its_own() {
    let running = serve(Server::builder().workers(2), |io| {
        let parent = io.namespaces("/dyn/{x}").unwrap();
        parent.on("who", async || Answer("parent"));
        // Made by the application, as a child.
        io.namespace("/dyn/1").on("own", async |Params(x): Params<u8>| Answer(x));
        parent.middleware(async |Auth(token): Auth<Option<std::collections::HashMap<String, u8>>>| {
            if token.is_some_and(|token| token.contains_key("token")) {
                Ok(())
            } else {
                Err(ConnectError::new("no token"))
            }
        });
        parent.on("late", async || Answer("late"));
    });
    let io = &running.io;
    let mut client = Client::open(running.addr, Transport::WebSocket).await;
    client.connect("/dyn/1").await;
    ask(&mut client, "/dyn/1", r#"["who"]"#, r#"["parent"]"#).await;
    ask(&mut client, "/dyn/1", r#"["own"]"#, "[1]").await;
    // The middleware came after that one was made, and so did the handler: nobody answers but `sync`.
    client.send(r#"2/dyn/1,1["late"]"#).await;
    ask(&mut client, "/dyn/1", r#"["who"]"#, r#"["parent"]"#).await;
    refused(&mut client, "/dyn/2", "no token").await;
    client.connect_with("/dyn/2", r#"{"token":1}"#).await;
    ask(&mut client, "/dyn/2", r#"["late"]"#, r#"["late"]"#).await;
    client.send(r#"2/dyn/2,1["own"]"#).await;
    ask(&mut client, "/dyn/2", r#"["who"]"#, r#"["parent"]"#).await;
    let mut names: Vec<_> =
        io.namespaces("/dyn/{x}").unwrap().children().iter().map(|it| it.name().to_owned()).collect();
    names.sort_unstable();
    assert_eq!(names, ["/dyn/1", "/dyn/2"]);
    assert!(io.namespace("/dyn/1").children().is_empty());
}

#[tokio::test]
async fn what_is_sent_to_a_parent_reaches_the_sockets_of_all_its_namespaces() {
    let running = serve(Server::builder().workers(2), |io| {
        let parent = io.namespaces("/dyn/{x}").unwrap();
        parent.on("join", async |socket: Socket, Data(room): Data<String>| socket.join(room));
        parent.on("sync", async || {});
        io.namespace("/other");
    });
    let io = &running.io;
    let parent = io.namespaces("/dyn/{x}").unwrap();
    // To nobody, and a name that cannot be emitted.
    parent.emit("early", &()).await.unwrap();
    assert!(parent.emit("disconnect", &()).await.is_err());

    let mut clients = Vec::new();
    for (number, transport) in
        [Transport::WebSocket, Transport::Polling, Transport::WebSocket, Transport::Polling].into_iter().enumerate()
    {
        let mut client = Client::open(running.addr, transport).await;
        let name = format!("/dyn/{}", number % 3);
        client.connect(&name).await;
        client.send(&format!(r#"2{name},["join","room {}"]"#, number % 2)).await;
        ask(&mut client, &name, r#"["sync"]"#, "[]").await;
        clients.push((client, name));
    }
    let mut other = Client::open(running.addr, Transport::WebSocket).await;
    other.connect("/other").await;

    parent.emit("all", &(1, "two")).await.unwrap();
    parent.to("room 1").emit("room", &()).await.unwrap();
    parent.except("room 1").emit("except", &()).await.unwrap();
    parent.volatile().emit("volatile", &()).await.unwrap();
    parent.local().within(["room 0", "room 1"]).emit("last", &()).await.unwrap();
    for (number, (client, name)) in clients.iter_mut().enumerate() {
        let one = if number % 2 == 1 { "room" } else { "except" };
        client.expect(&format!(r#"2{name},["all",1,"two"]"#)).await;
        client.expect(&format!(r#"2{name},["{one}"]"#)).await;
        if number % 2 == 0 {
            // The others poll only now: they could not take it at once.
            client.expect(&format!(r#"2{name},["volatile"]"#)).await;
        }
        client.expect(&format!(r#"2{name},["last"]"#)).await;
    }
    let stats = parent.stats().await;
    assert_eq!((stats.sockets, io.stats().await.sockets), (4, 5));

    let asking = parent.emit_with_ack::<u8>("question", &());
    for (client, name) in &mut clients {
        let question = client.text().await;
        let id = question.strip_prefix(&format!("2{name},")).and_then(|rest| rest.strip_suffix(r#"["question"]"#));
        client.send(&format!("3{name},{}[7]", id.unwrap())).await;
    }
    let acks = asking.await.unwrap();
    assert_eq!((acks.answers, acks.complete), (vec![7; 4], true));

    parent.to("room 0").sockets_join("moved").await.unwrap();
    parent.to("moved").disconnect_sockets(false).await.unwrap();
    for (number, (client, name)) in clients.iter_mut().enumerate() {
        if number % 2 == 0 {
            client.expect(&format!("1{name},")).await;
        } else {
            ask(client, name, r#"["sync"]"#, "[]").await;
        }
    }
    assert_eq!(parent.stats().await.sockets, 2);
}

#[tokio::test]
async fn new_namespaces_are_announced_before_anyone_joins() {
    let announced = Record::new();
    let record = announced.clone();
    let gate = Arc::new(std::sync::Barrier::new(2));
    let entered = gate.clone();
    let running = serve(Server::builder().workers(2), |io| {
        io.namespaces("/dyn/{x}").unwrap();
        io.on_new_namespace(move |namespace| {
            record.push(namespace.name().to_owned());
            if namespace.name() == "/dyn/slow" {
                // Here by now, and nobody has joined.
                entered.wait();
                entered.wait();
            }
            namespace.on("announced", async || Answer(true));
            let again = namespace.server().namespace(namespace.name());
            assert_eq!(again.name(), namespace.name());
        });
        io.namespace("/plain");
        io.namespace("/plain");
    });
    let mut client = Client::open(running.addr, Transport::WebSocket).await;
    for name in ["/dyn/1", "/plain"] {
        client.connect(name).await;
        ask(&mut client, name, r#"["announced"]"#, "[true]").await;
    }
    assert_eq!(announced.all(), ["/plain", "/dyn/1"]);

    // One is announced for a while on this thread's behalf; a client that finds it waits.
    let io = running.io.clone();
    let making = tokio::task::spawn_blocking(move || drop(io.namespace("/dyn/slow")));
    let reached = gate.clone();
    tokio::task::spawn_blocking(move || reached.wait()).await.unwrap();
    client.send("0/dyn/slow,").await;
    ask(&mut client, "/dyn/1", r#"["announced"]"#, "[true]").await;
    tokio::task::spawn_blocking(move || gate.wait()).await.unwrap();
    client.connected("/dyn/slow").await;
    ask(&mut client, "/dyn/slow", r#"["announced"]"#, "[true]").await;
    making.await.unwrap();
}

#[tokio::test]
async fn a_client_may_have_only_so_many_namespaces_made_and_there_may_be_only_so_many() {
    let builder = Server::builder().workers(1).max_created_namespaces(3).max_dynamic_namespaces(5);
    let running =
        serve(builder, |io| {
            io.namespaces("/dyn/{x}").unwrap().middleware(async |Params(x): Params<u8>| {
                if x == 2 { Err(ConnectError::new("not two")) } else { Ok(()) }
            });
            io.on("sync", async || {});
        });
    let mut first = Client::join(running.addr, Transport::WebSocket).await;
    // One that was refused by a middleware was made, and one that was left is still there.
    first.connect("/dyn/1").await;
    first.send("1/dyn/1,").await;
    refused(&mut first, "/dyn/2", "not two").await;
    first.connect("/dyn/3").await;
    refused(&mut first, "/dyn/4", "Too many new namespaces").await;
    first.connect("/dyn/1").await;
    for transport in Transport::ALL {
        let mut second = Client::join(running.addr, transport).await;
        second.connect("/dyn/1").await;
        second.connect("/dyn/4").await;
        second.connect("/dyn/5").await;
        refused(&mut second, "/dyn/6", "The server has too many namespaces").await;
        second.ask(r#"["sync"]"#, "[]").await;
        second.leave().await;
    }
    first.ask(r#"["sync"]"#, "[]").await;
    // The application is not bound.
    running.io.namespace("/dyn/7");
    first.connect("/dyn/7").await;
}

#[tokio::test]
async fn empty_children_stay_unless_they_are_to_be_forgotten() {
    for cleanup in [false, true] {
        let made = Record::new();
        let record = made.clone();
        let running = serve(Server::builder().workers(1).cleanup_empty_namespaces(cleanup), |io| {
            let parent = io.namespaces("/dyn/{x}").unwrap();
            parent.on("sync", async || {});
            parent.middleware(
                async |Params(x): Params<String>| {
                    if x == "refused" { Err(ConnectError::new("refused")) } else { Ok(()) }
                },
            );
            io.on_new_namespace(move |namespace| {
                record.push(namespace.name().to_owned());
                namespace.on("hook", async || {});
            });
        });
        let io = &running.io;
        let there = |name: &str| io.find_namespace(name).is_some();
        let (mut one, mut two) = (
            Client::open(running.addr, Transport::WebSocket).await,
            Client::open(running.addr, Transport::Polling).await,
        );
        one.connect("/dyn/1").await;
        two.connect("/dyn/1").await;
        one.send("1/dyn/1,").await;
        ask(&mut two, "/dyn/1", r#"["hook"]"#, "[]").await;
        assert!(there("/dyn/1"), "somebody is in it");
        two.leave().await;
        eventually("the last has left", async || there("/dyn/1") != cleanup).await;
        assert_eq!(there("/dyn/1"), !cleanup);
        // It is made again, or still there.
        one.connect("/dyn/1").await;
        ask(&mut one, "/dyn/1", r#"["hook"]"#, "[]").await;
        assert_eq!(made.all().len(), if cleanup { 2 } else { 1 });

        refused(&mut one, "/dyn/refused", "refused").await;
        eventually("nobody holds it", async || there("/dyn/refused") != cleanup).await;

        // The application holds one, and gives another a handler of its own: both stay.
        let held = io.namespace("/dyn/held");
        io.namespace("/dyn/own").on("own", async || {});
        io.namespace("/dyn/brief").emit("to nobody", &()).await.unwrap();
        eventually("the event is delivered, to nobody", async || there("/dyn/brief") != cleanup).await;
        for name in ["/dyn/held", "/dyn/own"] {
            one.connect(name).await;
            one.send(&format!("1{name},")).await;
        }
        ask(&mut one, "/dyn/1", r#"["sync"]"#, "[]").await;
        assert!(there("/dyn/held") && there("/dyn/own"));
        drop(held);
        eventually("it was held", async || there("/dyn/held") != cleanup).await;
        one.connect("/dyn/own").await;
        ask(&mut one, "/dyn/own", r#"["own"]"#, "[]").await;
        assert_eq!(io.namespaces("/dyn/{x}").unwrap().children().len(), if cleanup { 2 } else { 5 });
    }
}

#[tokio::test]
async fn mail_for_a_namespace_that_is_no_more_reaches_no_other() {
    let running = serve(Server::builder().workers(1).cleanup_empty_namespaces(true), |io| {
        io.namespaces("/dyn/{x}").unwrap().on("sync", async || {});
    });
    let mut client = Client::open(running.addr, Transport::WebSocket).await;
    for number in 0..50 {
        let name = format!("/dyn/{number}");
        client.connect(&name).await;
        let namespace = running.io.find_namespace(&name).unwrap();
        client.send(&format!("1{name},")).await;
        // On its way while the client leaves, and the next namespace is made.
        let late = tokio::spawn(async move {
            for _ in 0..20 {
                let _ = namespace.emit("late", &()).now();
                tokio::task::yield_now().await;
            }
        });
        let next = format!("/dyn/{number}-next");
        client.send(&format!("0{next},")).await;
        // What was sent before the client left may come; what comes for the next is only its own.
        loop {
            let text = client.text().await;
            if text.starts_with(&format!("0{next},")) {
                break;
            }
            assert_eq!(text, format!(r#"2{name},["late"]"#));
        }
        late.await.unwrap();
        ask(&mut client, &next, r#"["sync"]"#, "[]").await;
        client.send(&format!("1{next},")).await;
    }
    eventually("all are forgotten", async || running.io.namespaces("/dyn/{x}").unwrap().children().is_empty()).await;
}

/// Many clients on several workers join and leave the same few namespaces, which come and go under them: every join is answered
/// with a namespace that works, a broadcast reaches all who are in, and at the end nothing is left.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn namespaces_that_come_and_go_under_many_workers_lose_nobody() {
    const ROUNDS: usize = 60;
    let made = Arc::new(AtomicUsize::new(0));
    let count = made.clone();
    let running =
        serve(Server::builder().workers(4).cleanup_empty_namespaces(true).max_created_namespaces(u32::MAX), |io| {
            let parent = io.namespaces("/dyn/{x}").unwrap();
            parent.on("echo", async |namespace: Namespace, Data(text): Data<String>| {
                // By way of the registry: the one that is joined is the one that is found.
                namespace.server().namespace(namespace.name()).emit("echo", &text).await
            });
            parent.middleware(async |Params(x): Params<u8>| {
                if x == 1 {
                    // Others leave meanwhile.
                    tokio::task::yield_now().await;
                }
                Ok::<_, ConnectError>(())
            });
            io.on_new_namespace(move |_| {
                count.fetch_add(1, Ordering::Relaxed);
            });
        });
    let clients = (0..8).map(|number| {
        let addr = running.addr;
        tokio::spawn(async move {
            let mut client = Client::open(addr, Transport::WebSocket).await;
            for round in 0..ROUNDS {
                let name = format!("/dyn/{}", (number + round) % 4);
                client.send(&format!("0{name},")).await;
                // Last words of the one that was left may come before.
                while !client.text().await.starts_with(&format!("0{name},")) {}
                client.send(&format!(r#"2{name},["echo","{number} {round}"]"#)).await;
                let own = format!(r#"2{name},["echo","{number} {round}"]"#);
                // What the others say comes too.
                while client.text().await != own {}
                client.send(&format!("1{name},")).await;
            }
            client
        })
    });
    let mut held = Vec::new();
    for client in clients.collect::<Vec<_>>() {
        held.push(client.await.unwrap());
    }
    let parent = running.io.namespaces("/dyn/{x}").unwrap();
    eventually("all are forgotten", async || parent.children().is_empty()).await;
    assert_eq!(running.io.stats().await.sockets, 0);
    let before = made.load(Ordering::Relaxed);
    let client = &mut held[0];
    client.send("0/dyn/0,").await;
    while !client.text().await.starts_with("0/dyn/0,") {}
    assert_eq!(made.load(Ordering::Relaxed), before + 1, "it is made anew");
}

#[tokio::test]
async fn a_client_that_goes_while_a_predicate_thinks_leaves_nothing_behind() {
    let gate = Arc::new(Semaphore::new(0));
    let asked = Record::new();
    let (wait, record) = (gate.clone(), asked.clone());
    let running = serve(Server::builder().workers(1), |io| {
        io.namespaces_where(move |request: NamespaceRequest| {
            record.push(request.name().to_owned());
            let wait = wait.clone();
            async move {
                wait.acquire().await.unwrap().forget();
                true
            }
        });
    });
    let mut client = Client::open(running.addr, Transport::WebSocket).await;
    client.send("0/gone,").await;
    asked.wait_for(1).await;
    client.reset();
    eventually("it is gone", async || running.io.stats().await.connections == 0).await;
    gate.add_permits(1);
    eventually("the predicate is done", async || running.io.stats().await.handlers == 0).await;
    assert!(running.io.find_namespace("/gone").is_none());
    // Two that wait for the same name are both let in.
    let mut two =
        [Client::open(running.addr, Transport::WebSocket).await, Client::open(running.addr, Transport::Polling).await];
    for client in &mut two {
        client.send("0/both,").await;
    }
    asked.wait_for(3).await;
    gate.add_permits(2);
    for client in &mut two {
        client.connected("/both").await;
    }
    assert_eq!(running.io.namespace("/both").stats().await.sockets, 2);
}

#[tokio::test]
async fn names_that_no_client_can_ask_for_are_errors_and_nothing_panics() {
    let io = Server::builder().workers(1).build().unwrap();
    for (name, character) in [("/a,b", ','), ("a?b", '?'), ("/?,", '?')] {
        let Err(NamespaceError::Character { character: found, .. }) = io.try_namespace(name) else { panic!("{name}") };
        assert_eq!(found, character);
        assert!(matches!(io.namespaces(name), Err(NamespaceError::Character { .. })));
        io.namespace(name).emit("to nobody", &()).await.unwrap();
    }
    assert!(matches!(io.try_namespace(&"x".repeat(1024)), Err(NamespaceError::TooLong { bytes: 1025, max: 1024 })));
    assert_eq!(io.try_namespace(&"x".repeat(1023)).unwrap().name().len(), 1024);
    assert!(matches!(io.namespaces("/{a}{b}"), Err(NamespaceError::Pattern { .. })));
    assert!(matches!(io.namespaces_matching("("), Err(NamespaceError::Regex(_))));
    assert!(matches!(io.namespaces_matching("a{1000}{1000}{1000}"), Err(NamespaceError::Regex(_))));
    assert!(io.find_namespace("/a").is_none());
}

#[tokio::test]
async fn a_regular_expression_that_would_backtrack_for_ever_answers_at_once() {
    let running = serve(Server::builder().workers(1), |io| {
        io.namespaces_matching(r"^/(a+)+$").unwrap();
    });
    let mut client = Client::open(running.addr, Transport::WebSocket).await;
    invalid(&mut client, &format!("/{}b", "a".repeat(1000))).await;
    client.connect(&format!("/{}", "a".repeat(1000))).await;
}

#[tokio::test]
async fn taking_a_listener_away_that_is_not_there_keeps_no_namespace() {
    let running = serve(Server::builder().workers(1).cleanup_empty_namespaces(true), |io| {
        let rooms = io.namespaces("/rooms/{x}").unwrap();
        let elsewhere = io.on_any(async || {});
        rooms.on_connect(move |socket: Socket| {
            let namespace = socket.namespace();
            assert!(!namespace.off_any(elsewhere), "it is the main namespace's");
            async {}
        });
    });
    let mut client = Client::open(running.addr, Transport::WebSocket).await;
    client.connect("/rooms/1").await;
    client.leave().await;
    eventually("it is forgotten", async || running.io.find_namespace("/rooms/1").is_none()).await;
}
