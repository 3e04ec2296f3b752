//! Engine.IO alone: every message comes back as it was sent, and nothing else is said.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use posthaste::{Cors, Workers};
use posthaste_engine::{
    Application, CloseReason, ConnectionId, Engine, EngineConfig, Request, Worker, WorkerApplication,
};

pub(crate) fn engine(workers: &Workers, allow_eio3: bool) -> anyhow::Result<Engine> {
    let mut config = EngineConfig::default();
    "/engine.io".clone_into(&mut config.path);
    config.settings.ping_interval = Duration::from_millis(300);
    config.settings.ping_timeout = Duration::from_millis(200);
    config.max_payload = 1_000_000;
    config.allow_eio3 = allow_eio3;
    config.cors = Some(Cors::default());
    Ok(Engine::new(Arc::new(Echo), config, workers.clone())?)
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
