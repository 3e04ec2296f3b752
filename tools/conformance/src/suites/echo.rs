//! Engine.IO alone: every message comes back as it was sent. For the suites of the Engine.IO protocol.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use posthaste::{Cors, Listener, Workers};
use posthaste_engine::{
    Application, CloseReason, ConnectionId, Engine, EngineConfig, Request, Worker, WorkerApplication,
};

pub(super) fn listen(workers: &Workers, addr: SocketAddr) -> anyhow::Result<Listener> {
    let mut config = EngineConfig::default();
    "/engine.io".clone_into(&mut config.path);
    config.settings.ping_interval = Duration::from_millis(300);
    config.settings.ping_timeout = Duration::from_millis(200);
    config.max_payload = 1_000_000;
    config.cors = Some(Cors::default());
    let engine = Engine::new(Arc::new(Echo), config, workers.clone())?;
    Ok(engine.listen(addr)?)
}

struct Echo;

impl Application for Echo {
    fn attach(&self, worker: &Worker) -> Rc<dyn WorkerApplication> {
        Rc::new(EchoHalf(worker.clone()))
    }
}

struct EchoHalf(Worker);

impl WorkerApplication for EchoHalf {
    fn open(&self, _: ConnectionId, _: &Arc<Request>) {}

    fn text(&self, id: ConnectionId, text: &str) {
        self.0.send_text(id, text);
    }

    fn binary(&self, id: ConnectionId, data: Bytes) {
        self.0.send_binary(id, &data);
    }

    fn close(&self, _: ConnectionId, _: CloseReason) {}
}
