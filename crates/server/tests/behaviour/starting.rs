//! Adapters and servers that are made may use what is there already.

use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::time::Duration;

use posthaste::Server;
use posthaste_adapter::{
    Adapter, AdapterError, AnswerSink, Broadcast, Delivery, MemoryAdapter, Node, Operation, Pending, RawEvent,
    SocketSnapshot, Target,
};
use posthaste_testkit::{Client, PATIENCE, Record, serve};

/// Calls back when it is started, then is an adapter like any other.
struct Caller {
    inner: MemoryAdapter,
    name: String,
    on_start: Arc<dyn Fn(&str) + Send + Sync>,
}

impl Adapter for Caller {
    fn start(&self, node: Arc<dyn Node>) {
        self.inner.start(node);
        (self.on_start)(&self.name);
    }

    fn broadcast(&self, broadcast: Broadcast) -> Delivery {
        self.inner.broadcast(broadcast)
    }

    fn apply(&self, target: Target, operation: Operation) -> Delivery {
        self.inner.apply(target, operation)
    }

    fn fetch(&self, target: Target) -> Pending<Result<Vec<SocketSnapshot>, AdapterError>> {
        self.inner.fetch(target)
    }

    fn server_emit(&self, event: RawEvent, answers: Option<Arc<dyn AnswerSink>>) -> Delivery {
        self.inner.server_emit(event, answers)
    }

    fn node_count(&self) -> Pending<Result<usize, AdapterError>> {
        self.inner.node_count()
    }
}

/// Runs `act` on a thread of its own: what hangs is a failure.
fn in_time<R: Send + 'static>(act: impl FnOnce() -> R + Send + 'static) -> R {
    let (done, outcome) = mpsc::channel();
    std::thread::spawn(move || done.send(act()));
    outcome.recv_timeout(PATIENCE).expect("it neither hangs nor panics")
}

#[tokio::test]
async fn an_adapter_may_use_the_server_while_it_is_made_and_started() {
    let server = Arc::new(OnceLock::<Server>::new());
    let (made, started) = (Record::new(), Record::new());
    let (at_start, at_making) = (server.clone(), server.clone());
    let (notes_start, notes_making) = (started.clone(), made.clone());
    let on_start: Arc<dyn Fn(&str) + Send + Sync> = Arc::new(move |name: &str| {
        notes_start.push(name.to_owned());
        if let Some(io) = at_start.get() {
            // Its own namespace is there, its neighbours are, and new ones can be made.
            assert_eq!(io.find_namespace(name).unwrap().name(), name);
            io.namespace(name).emit("began", &name).now().unwrap();
            io.emit("began", &name).now().unwrap();
            if name == "/first" {
                io.namespace("/second");
            }
        }
    });
    let builder = Server::builder().workers(2).adapter(move |name| {
        notes_making.push(name.to_owned());
        if name == "/first" {
            at_making.get().unwrap().namespace("/made for the first");
        }
        Arc::new(Caller { inner: MemoryAdapter::new(), name: name.to_owned(), on_start: on_start.clone() })
    });
    let running = serve(builder, |_| {});
    server.set(running.io.clone()).unwrap();
    let mut client = Client::websocket(running.addr).await;
    let io = running.io.clone();
    in_time(move || io.namespace("/first"));
    for name in ["/made for the first", "/first", "/second"] {
        client.expect(&format!(r#"2["began","{name}"]"#)).await;
    }
    assert_eq!(made.all(), ["/", "/first", "/made for the first", "/second"]);
    assert_eq!(started.all(), ["/", "/made for the first", "/first", "/second"]);
    client.connect("/second").await;
}

/// Whoever finds a namespace that somebody else is making sends through an adapter that has begun.
#[tokio::test]
async fn a_namespace_that_is_being_made_is_used_when_its_adapter_has_started() {
    let (word, release) = mpsc::channel::<()>();
    let (release, starting) = (Mutex::new(release), Record::new());
    let notes = starting.clone();
    let on_start: Arc<dyn Fn(&str) + Send + Sync> = Arc::new(move |name: &str| {
        notes.push(name.to_owned());
        if name == "/slow" {
            release.lock().unwrap().recv().unwrap();
        }
    });
    let builder = Server::builder().workers(1).adapter(move |name| {
        Arc::new(Caller { inner: MemoryAdapter::new(), name: name.to_owned(), on_start: on_start.clone() })
    });
    let running = serve(builder, |_| {});
    let maker = {
        let io = running.io.clone();
        std::thread::spawn(move || io.namespace("/slow"))
    };
    starting.wait_for(2).await;
    // Nobody else waits for it.
    let io = running.io.clone();
    assert!(in_time(move || io.find_namespace("/none").is_none() && io.emit("x", &()).now().is_ok()));
    let user = {
        let io = running.io.clone();
        std::thread::spawn(move || io.namespace("/slow").emit("hello", &()).now())
    };
    word.send(()).unwrap();
    in_time(move || (maker.join().unwrap(), user.join().unwrap())).1.unwrap();
    assert_eq!(starting.all(), ["/", "/slow"]);
}

/// A factory that panics leaves no half of a namespace behind, and the next one is asked again.
#[tokio::test]
async fn a_namespace_whose_adapter_cannot_be_made_is_not_there() {
    crate::panics::quietly();
    let tries = Record::new();
    let notes = tries.clone();
    let builder = Server::builder().workers(1).adapter(move |name| {
        notes.push(name.to_owned());
        assert!(name != "/odd" || notes.all().len() > 2, "on purpose");
        Arc::new(MemoryAdapter::new())
    });
    let running = serve(builder, |_| {});
    let io = running.io.clone();
    assert!(std::thread::spawn(move || io.namespace("/odd")).join().is_err());
    assert!(running.io.find_namespace("/odd").is_none());
    let io = running.io.clone();
    in_time(move || io.namespace("/odd").emit("x", &()).now()).unwrap();
    assert_eq!(tries.all(), ["/", "/odd", "/odd"]);
    let mut client = Client::websocket(running.addr).await;
    client.connect("/odd").await;
}

/// Two handlers on two workers, each of which starts a server on both: none waits for the other's thread.
#[tokio::test]
async fn two_workers_may_start_servers_on_each_other_at_once() {
    let workers = posthaste::Workers::start(2).unwrap();
    let (both, (done, outcome)) = (Arc::new(std::sync::Barrier::new(2)), mpsc::channel());
    for handle in workers.handles() {
        let (workers, both, done) = (workers.clone(), both.clone(), done.clone());
        let start = move || {
            both.wait();
            done.send(Server::builder().shared_workers(&workers).build()).unwrap();
        };
        handle.post(move |_| start()).unwrap();
    }
    let mut servers = Vec::new();
    for _ in 0..2 {
        servers.push(outcome.recv_timeout(PATIENCE).expect("they wait for each other").unwrap());
    }
    for io in servers {
        let listener = io.listen(([127, 0, 0, 1], 0).into()).unwrap();
        let mut clients = Vec::new();
        for _ in 0..8 {
            clients.push(Client::websocket(listener.local_addr()).await);
        }
        io.emit("hello", &()).now().unwrap();
        for client in &mut clients {
            client.expect(r#"2["hello"]"#).await;
        }
        assert_eq!(io.stats().await.connections, 8);
    }
    workers.shutdown(Duration::ZERO);
}
