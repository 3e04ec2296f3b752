//! An application that sends every message back, and does a few things when told to.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use posthaste_engine::{
    Application, CloseReason, ConnectionId, Engine, EngineConfig, EngineLayer, Listener, Request, Worker,
    WorkerApplication, Workers,
};
use posthaste_testkit::{PATIENCE, Record};
use tower::Layer;

/// A server that echoes, until it is dropped.
pub(crate) struct EchoServer {
    pub(crate) addr: SocketAddr,
    /// Why sessions ended, in the order of their ends.
    pub(crate) ends: Record<CloseReason>,
    pub(crate) engine: Engine,
    workers: Workers,
    _listener: Listener,
}

impl EchoServer {
    /// Starts one with settings that `configure` may change. Its one worker takes requests in the order of their arrival.
    pub(crate) fn start(configure: impl FnOnce(&mut EngineConfig)) -> Self {
        Self::over(1, configure)
    }

    pub(crate) fn over(workers: usize, configure: impl FnOnce(&mut EngineConfig)) -> Self {
        Self::with(crate::DIRECT, workers, configure)
    }

    pub(crate) fn with(direct: bool, workers: usize, configure: impl FnOnce(&mut EngineConfig)) -> Self {
        let workers = Workers::start(workers).unwrap();
        let ends = Record::new();
        let mut config = EngineConfig::default();
        "/engine.io".clone_into(&mut config.path);
        configure(&mut config);
        let engine = Engine::new(Arc::new(Echo(ends.clone())), config, workers.clone()).unwrap();
        let (anywhere, others) = (([127, 0, 0, 1], 0).into(), tower::service_fn(not_found));
        let listener = if direct {
            engine.listen_with(anywhere, others)
        } else {
            Listener::bind(&workers, anywhere, EngineLayer::new(engine.clone()).layer(others))
        };
        let listener = listener.unwrap();
        Self { addr: listener.local_addr(), ends, engine, workers, _listener: listener }
    }

    /// Ends all sessions and the workers. Returns whether they had ended in time.
    pub(crate) async fn stop(&self) -> bool {
        let workers = self.workers.clone();
        tokio::task::spawn_blocking(move || workers.shutdown(PATIENCE)).await.unwrap()
    }

    /// How many sessions are open.
    pub(crate) fn connections(&self) -> usize {
        self.workers.handles().iter().map(|handle| handle.connections()).sum()
    }
}

impl Drop for EchoServer {
    fn drop(&mut self) {
        self.workers.shutdown(Duration::ZERO);
    }
}

async fn not_found<B>(_: http::Request<B>) -> Result<http::Response<Full<Bytes>>, std::convert::Infallible> {
    let mut answer = http::Response::new(Full::default());
    *answer.status_mut() = http::StatusCode::NOT_FOUND;
    Ok(answer)
}

struct Echo(Record<CloseReason>);

impl Application for Echo {
    fn attach(&self, worker: &Worker) -> Rc<dyn WorkerApplication> {
        Rc::new(EchoHalf { worker: worker.clone(), ends: self.0.clone() })
    }
}

struct EchoHalf {
    worker: Worker,
    ends: Record<CloseReason>,
}

impl WorkerApplication for EchoHalf {
    fn open(&self, _: ConnectionId, _: &Arc<Request>) {}

    /// `push <count>`: sends that many numbered messages, a few at a time. `close`: closes the session after a last word.
    /// `vouch`: vouches for it. `plain <text>`: sends the text, which is not to be compressed; `both <text>`: and once more, which may be.
    fn text(&self, id: ConnectionId, text: &str) {
        if let Some(count) = text.strip_prefix("push ") {
            let count: usize = count.parse().unwrap();
            let worker = self.worker.clone();
            let push = async move {
                for number in 0..count {
                    worker.send_text(id, &format!("pushed {number}"));
                    if number % 5 == 0 {
                        tokio::time::sleep(Duration::from_micros(300)).await;
                    }
                }
            };
            return self.worker.start(id, 0, Box::pin(push));
        }
        if let Some((text, twice)) =
            text.strip_prefix("plain ").map(|text| (text, false)).or_else(|| Some((text.strip_prefix("both ")?, true)))
        {
            self.worker.send_uncompressed(id, posthaste_engine::Frames::text(text).bytes(), false);
            if twice {
                self.worker.send_text(id, text);
            }
            return;
        }
        if text == "close" {
            self.worker.send_text(id, "closing");
            return self.worker.close(id, CloseReason::ForcedClose);
        }
        if text == "vouch" {
            self.worker.vouch(id);
        }
        self.worker.send_text(id, text);
    }

    fn binary(&self, id: ConnectionId, data: Bytes) {
        self.worker.send_binary(id, &data);
    }

    fn close(&self, _: ConnectionId, reason: CloseReason) {
        self.ends.push(reason);
    }

    fn panicked(&self, _: ConnectionId, _: u32) {}
}
