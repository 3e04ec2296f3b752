//! Clients on every worker of a server.

use posthaste::{Builder, Server, Socket, Workers};
use posthaste_testkit::{Client, Record, Running, Transport, eventually, serve};

/// A client, its socket on the server, and the number of the worker that owns it.
pub(crate) struct Placed {
    pub(crate) client: Client,
    pub(crate) socket: Socket,
    pub(crate) worker: usize,
}

/// A server with a known set of workers.
pub(crate) struct Spread {
    pub(crate) running: Running,
    workers: Workers,
    sockets: Record<(Socket, usize)>,
}

impl Spread {
    pub(crate) fn over(workers: usize, setup: impl FnOnce(&Server)) -> Self {
        Self::with(workers, |builder| builder, setup)
    }

    pub(crate) fn with(workers: usize, build: impl FnOnce(Builder) -> Builder, setup: impl FnOnce(&Server)) -> Self {
        let workers = Workers::start(workers).unwrap();
        let sockets = Record::new();
        let record = sockets.clone();
        let running = serve(build(Server::builder().shared_workers(&workers)), |io| {
            io.on_connect(move |socket: Socket| {
                record.push((socket, worker_here()));
                async {}
            });
            setup(io);
        });
        Self { running, workers, sockets }
    }

    /// Connects one client: the kernel chooses the worker.
    pub(crate) async fn client(&self) -> Placed {
        let mut client = Client::open(self.running.addr, Transport::WebSocket).await;
        let id = client.connect("/").await;
        let sockets = self.sockets.all();
        let (socket, worker) = sockets.into_iter().find(|(socket, _)| socket.id().to_string() == id).unwrap();
        Placed { client, socket, worker }
    }

    /// The number of the worker that owns the socket of that id.
    pub(crate) fn worker_of(&self, id: &str) -> usize {
        let sockets = self.sockets.all();
        sockets.iter().find(|(socket, _)| socket.id().to_text().as_str() == id).expect("it has connected").1
    }

    /// Connects clients until each worker has `each`; those above that are given up again.
    pub(crate) async fn clients(&self, each: usize) -> Vec<Placed> {
        let workers = self.workers.handles().len();
        let mut clients: Vec<Placed> = Vec::new();
        // A fair coin thrown this often does not miss a side.
        for _ in 0..500 * workers {
            if clients.len() == each * workers {
                return clients;
            }
            let Placed { client, socket, worker } = self.client().await;
            if clients.iter().filter(|other| other.worker == worker).count() < each {
                clients.push(Placed { client, socket, worker });
            } else {
                drop(client);
                eventually("the spare client is gone", async || !socket.is_connected()).await;
            }
        }
        panic!("the kernel gives one of {workers} workers no connections");
    }
}

impl Drop for Spread {
    fn drop(&mut self) {
        self.workers.shutdown(std::time::Duration::ZERO);
    }
}

/// The number of the worker whose thread this is: threads are named after it.
fn worker_here() -> usize {
    let thread = std::thread::current();
    let number = thread.name().and_then(|name| name.strip_prefix("posthaste-"));
    number.and_then(|number| number.parse().ok()).expect("handlers run on a worker's thread")
}
