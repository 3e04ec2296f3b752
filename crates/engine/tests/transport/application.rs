//! What an application on the engine is told, and what its clients hear from it first.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use posthaste_engine::{
    Application, CloseReason, ConnectionId, Engine as Server, EngineConfig, Frames, Listener, Request, Revision,
    Transport as On, Worker, WorkerApplication, Workers,
};
use posthaste_testkit::{Engine, Http, Packet, Record, Transport, within};

use crate::PATH;

#[derive(Clone, Debug, PartialEq)]
enum Told {
    Open {
        peer: Option<SocketAddr>,
        revision: Revision,
        on: Option<On>,
    },
    Upgraded {
        on: Option<On>,
    },
    Text(String),
    /// It was asked to ping early.
    Early(bool),
    Pinged,
    Ponged,
    Closed(CloseReason),
}

/// Greets with as many messages as the query's `greet` says, sends everything back, and tells of the upgrade. With `bye` in the
/// query it closes the connection after the greeting, with `refuse` when it is upgraded.
struct Greeter(Record<Told>);

struct Half {
    worker: Worker,
    told: Record<Told>,
    refuses: std::cell::Cell<bool>,
}

impl Application for Greeter {
    fn attach(&self, worker: &Worker) -> Rc<dyn WorkerApplication> {
        Rc::new(Half { worker: worker.clone(), told: self.0.clone(), refuses: std::cell::Cell::default() })
    }
}

impl WorkerApplication for Half {
    fn open(&self, id: ConnectionId, request: &Arc<Request>) {
        let on = self.worker.transport(id);
        self.told.push(Told::Open { peer: request.remote_addr(), revision: request.revision(), on });
        self.refuses.set(request.query().contains("refuse"));
        if let Some((_, count)) = request.query().split_once("greet=") {
            for number in 0..count.split('&').next().unwrap().parse().unwrap() {
                assert!(self.worker.send_text(id, &format!("greeting {number} {}", "x".repeat(20_000 * (number % 2)))));
            }
            assert!(self.worker.send_binary(id, &[1, 2, 3]));
        }
        if request.query().contains("bye") {
            self.worker.close(id, CloseReason::ForcedClose);
        }
    }

    fn text(&self, id: ConnectionId, text: &str) {
        self.told.push(Told::Text(text.to_owned()));
        match text {
            "follow" => self.worker.follow_heartbeat(id),
            "ping" => self.told.push(Told::Early(self.worker.ping_early(id))),
            _ => {}
        }
        self.worker.send_text(id, text);
    }

    fn binary(&self, id: ConnectionId, data: Bytes) {
        self.worker.send_binary(id, &data);
    }

    fn pinged(&self, _: ConnectionId) {
        self.told.push(Told::Pinged);
    }

    fn ponged(&self, _: ConnectionId) {
        self.told.push(Told::Ponged);
    }

    fn upgraded(&self, id: ConnectionId) {
        self.told.push(Told::Upgraded { on: self.worker.transport(id) });
        if self.refuses.get() {
            return self.worker.close(id, CloseReason::ForcedClose);
        }
        self.worker.send_text(id, "upgraded");
    }

    fn close(&self, _: ConnectionId, reason: CloseReason) {
        self.told.push(Told::Closed(reason));
    }
}

struct Running {
    addr: SocketAddr,
    told: Record<Told>,
    workers: Workers,
    _listener: Listener,
}

impl Running {
    fn start(configure: impl FnOnce(&mut EngineConfig)) -> Self {
        let workers = Workers::start(1).unwrap();
        let told = Record::new();
        let mut config = EngineConfig::default();
        "/engine.io".clone_into(&mut config.path);
        configure(&mut config);
        let engine = Server::new(Arc::new(Greeter(told.clone())), config, workers.clone()).unwrap();
        let listener = engine.listen(([127, 0, 0, 1], 0).into()).unwrap();
        Self { addr: listener.local_addr(), told, workers, _listener: listener }
    }

    async fn open(&self, transport: Transport, query: &str) -> Engine {
        Engine::open_with(self.addr, PATH, transport, query, &[]).await
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.workers.shutdown(Duration::ZERO);
    }
}

/// The messages of a greeting of that length.
fn greeting(count: usize) -> Vec<Packet> {
    let texts =
        (0..count).map(|number| Packet::Text(format!("greeting {number} {}", "x".repeat(20_000 * (number % 2)))));
    texts.chain([Packet::Binary(vec![1, 2, 3])]).collect()
}

#[tokio::test]
async fn what_is_sent_at_the_opening_comes_behind_the_open_packet() {
    let server = Running::start(|_| {});
    for transport in Transport::ALL {
        // Many and large, so that a turn is flushed while the application is still greeting.
        for count in [0, 1, 40] {
            // `open` panics if anything but the open packet comes first.
            let mut engine = server.open(transport, &format!("&greet={count}")).await;
            for expected in greeting(count) {
                assert_eq!(engine.message().await.unwrap(), expected);
            }
            engine.send("and now").await.unwrap();
            assert_eq!(engine.message().await.unwrap(), Packet::Text("and now".to_owned()));
            engine.leave().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_connection_closed_at_its_opening_says_what_it_was_to_say() {
    let server = Running::start(|_| {});
    for transport in Transport::ALL {
        let mut engine = server.open(transport, "&greet=2&bye").await;
        if transport == Transport::WebSocket {
            for expected in greeting(2) {
                assert_eq!(engine.message().await.unwrap(), expected);
            }
        }
        assert_eq!(engine.closed().await.unwrap(), None);
    }
    let told = server.told.wait_for(4).await;
    assert_eq!(told.iter().filter(|told| matches!(told, Told::Closed(_))).count(), 2, "{told:?}");
}

#[tokio::test]
async fn an_initial_message_comes_right_behind_the_open_packet() {
    for (initial, expected) in [
        (Frames::text("welcome"), Packet::Text("welcome".to_owned())),
        (Frames::binary(&[0; 70_000]), Packet::Binary(vec![0; 70_000])),
    ] {
        let server = Running::start(|config| config.initial_message = Some(initial));
        for transport in Transport::ALL {
            let mut engine = server.open(transport, "&greet=1").await;
            assert_eq!(engine.message().await.unwrap(), expected);
            assert_eq!(engine.message().await.unwrap(), greeting(1)[0]);
        }
        for query in ["&b64=1", "&b%364=1"] {
            let mut base64 = server.open(Transport::WebSocket, query).await;
            match (base64.message().await, &expected) {
                (Ok(text), Packet::Text(_)) => assert_eq!(text, expected),
                // The test client knows no base64 on a WebSocket.
                (Err(error), Packet::Binary(_)) => assert!(error.to_string().contains("bAAAA"), "{error}"),
                other => panic!("{query}: {other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn the_application_knows_its_peer_and_hears_of_the_upgrade_once() {
    let server = Running::start(|_| {});
    let mut http = Http::connect(server.addr).await;
    let peer = http.wire().local_addr();
    let request = posthaste_testkit::Request::get("/engine.io/?EIO=4&transport=polling");
    assert_eq!(http.send(&request).await.unwrap().status, 200);
    let open = |peer, on| Told::Open { peer: Some(peer), revision: Revision::V4, on: Some(on) };
    assert_eq!(server.told.wait_for(1).await, [open(peer, On::Polling)]);

    let server = Running::start(|_| {});
    let mut engine = server.open(Transport::Polling, "").await;
    engine.send("before").await.unwrap();
    assert_eq!(engine.message().await.unwrap(), Packet::Text("before".to_owned()));
    engine.upgrade().await.unwrap();
    // Pings would keep a client waiting for as long as it answers them.
    let news = within("the news of the upgrade", engine.message()).await.unwrap();
    assert_eq!(news, Packet::Text("upgraded".to_owned()));
    engine.send("after").await.unwrap();
    assert_eq!(engine.message().await.unwrap(), Packet::Text("after".to_owned()));
    engine.leave().await.unwrap();
    let told = server.told.wait_for(5).await;
    let upgraded = Told::Upgraded { on: Some(On::WebSocket) };
    let closed = Told::Closed(CloseReason::TransportClose);
    assert_eq!(told[1..], [Told::Text("before".into()), upgraded, Told::Text("after".into()), closed]);

    let mut websocket = server.open(Transport::WebSocket, "").await;
    let peer = websocket.websocket().wire().local_addr();
    websocket.send("here").await.unwrap();
    assert_eq!(websocket.message().await.unwrap(), Packet::Text("here".to_owned()));
    assert_eq!(server.told.all()[5..], [open(peer, On::WebSocket), Told::Text("here".into())]);
}

#[tokio::test]
async fn a_connection_may_be_closed_as_it_is_upgraded() {
    let server = Running::start(|_| {});
    let mut engine = server.open(Transport::Polling, "&refuse").await;
    engine.upgrade().await.unwrap();
    assert_eq!(within("the end", engine.closed()).await.unwrap(), None);
    assert_eq!(server.told.wait_for(3).await[2], Told::Closed(CloseReason::ForcedClose));
}

#[tokio::test]
async fn a_probe_that_does_not_switch_is_no_upgrade() {
    let server = Running::start(|_| {});
    let engine = server.open(Transport::Polling, "").await;
    let mut probe = posthaste_testkit::WebSocket::connect(server.addr, &engine.probe_target()).await;
    probe.send_text("2probe").await.unwrap();
    assert_eq!(probe.text().await, "3probe");
    probe.reset();
    engine.leave().await.unwrap();
    let told = server.told.wait_for(2).await;
    assert_eq!(told[1..], [Told::Closed(CloseReason::TransportClose)]);
}

#[tokio::test]
async fn an_engine_that_listens_by_itself_knows_no_other_paths() {
    let server = Running::start(|_| {});
    for path in ["/", "/engine.io", "/elsewhere"] {
        let request = posthaste_testkit::Request::get(path);
        assert_eq!(Http::once(server.addr, &request).await.unwrap().status, 404, "{path}");
    }
}

/// An application that keeps what it does not survive the loss of.
struct Careless(Record<&'static str>);

impl Application for Careless {
    fn attach(&self, worker: &Worker) -> Rc<dyn WorkerApplication> {
        Rc::new(CarelessHalf { worker: worker.clone(), told: self.0.clone() })
    }
}

struct CarelessHalf {
    worker: Worker,
    told: Record<&'static str>,
}

impl WorkerApplication for CarelessHalf {
    fn open(&self, _: ConnectionId, _: &Arc<Request>) {}

    fn text(&self, id: ConnectionId, text: &str) {
        match text {
            "panic" => panic!("on purpose"),
            "job" => {
                let told = self.told.clone();
                let job = move |worker: &Worker| {
                    told.push("job begins");
                    let handler = told.clone();
                    worker.start(id, 0, Box::pin(async move { handler.push("handler") }));
                    told.push("job ends");
                };
                let next = self.told.clone();
                self.worker.handle().post(job).unwrap();
                self.worker.handle().post(move |_| next.push("next job")).unwrap();
            }
            _ => drop(self.worker.send_text(id, text)),
        }
    }

    fn binary(&self, _: ConnectionId, _: Bytes) {}

    fn close(&self, _: ConnectionId, _: CloseReason) {
        self.told.push("closed");
        panic!("on purpose");
    }
}

fn careless() -> (Workers, Listener, Record<&'static str>) {
    let (workers, told) = (Workers::start(1).unwrap(), Record::new());
    let mut config = EngineConfig::default();
    "/engine.io".clone_into(&mut config.path);
    let engine = Server::new(Arc::new(Careless(told.clone())), config, workers.clone()).unwrap();
    let listener = engine.listen(([127, 0, 0, 1], 0).into()).unwrap();
    (workers, listener, told)
}

#[tokio::test]
async fn an_application_that_panics_does_not_end_its_worker() {
    let (workers, listener, told) = careless();
    let mut witness = Engine::open(listener.local_addr(), PATH, Transport::WebSocket).await;
    for transport in Transport::ALL {
        let mut engine = Engine::open(listener.local_addr(), PATH, transport).await;
        for text in ["panic", "before"] {
            engine.send(text).await.unwrap();
        }
        assert_eq!(engine.message().await.unwrap(), Packet::Text("before".to_owned()));
        engine.leave().await.unwrap();
    }
    told.wait_for(2).await;
    witness.send("after").await.unwrap();
    assert_eq!(witness.message().await.unwrap(), Packet::Text("after".to_owned()));
    assert_eq!(told.all(), ["closed"; 2]);
    drop(listener);
    assert!(tokio::task::spawn_blocking(move || workers.shutdown(Duration::from_secs(30))).await.unwrap());
}

/// What a handler does comes after everything that was posted before it was started, as if it were posted itself.
#[tokio::test]
async fn a_handler_that_a_job_starts_begins_when_all_mail_is_applied() {
    let (workers, listener, told) = careless();
    let mut engine = Engine::open(listener.local_addr(), PATH, Transport::WebSocket).await;
    engine.send("job").await.unwrap();
    assert_eq!(told.wait_for(4).await, ["job begins", "job ends", "next job", "handler"]);
    workers.shutdown(Duration::ZERO);
}

#[tokio::test]
async fn a_ping_comes_early_if_none_is_on_its_way_and_whoever_follows_it_hears_of_it() {
    let server = Running::start(|_| {});
    let ping = || Packet::Text("2".to_owned());
    for transport in Transport::ALL {
        let before = server.told.all().len();
        let mut engine = server.open(transport, "").await;
        let mut say = async |what: &str, comes: &[Packet]| {
            engine.send_all(&[Packet::Text(what.to_owned())]).await.unwrap();
            for expected in comes {
                assert_eq!(engine.packet().await.unwrap(), *expected);
            }
        };
        let echo = Packet::message;
        // Nobody follows: there is a ping, and no news of it.
        say("4ping", &[ping(), echo("ping")]).await;
        say("4ping", &[echo("ping")]).await;
        say("3", &[]).await;
        say("4follow", &[echo("follow")]).await;
        say("4ping", &[ping(), echo("ping")]).await;
        say("4ping", &[echo("ping")]).await;
        say("3", &[]).await;
        say("4ping", &[ping(), echo("ping")]).await;
        let text = |what: &str| Told::Text(what.to_owned());
        let expected = [
            vec![text("ping"), Told::Early(true), text("ping"), Told::Early(false)],
            vec![text("follow")],
            vec![text("ping"), Told::Pinged, Told::Early(true), text("ping"), Told::Early(false), Told::Ponged],
            vec![text("ping"), Told::Pinged, Told::Early(true)],
        ];
        let expected = expected.concat();
        let told = server.told.wait_for(before + 1 + expected.len()).await;
        assert_eq!(told[before + 1..], expected, "{transport:?}");
        engine.leave().await.unwrap();
        server.told.wait_for(before + 2 + expected.len()).await;
    }
}
