//! Engine.IO as the tests of the official Engine.IO client know it.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::SET_COOKIE;
use http::{HeaderMap, HeaderValue, Method};
use posthaste::{Listener, Workers};
use posthaste_engine::{
    Application, CloseReason, ConnectionId, Engine, EngineConfig, EngineRequest, Request, Stop, Worker,
    WorkerApplication,
};

/// Two that a client keeps and two that are over when they come.
const COOKIES: [&str; 4] = [
    "1=1; Max-Age=86400",
    "2=2; Path=/; HttpOnly; Secure; SameSite=Strict",
    "3=3; Max-Age=0",
    "4=4; Expires=Thu, 01 Jan 1970 00:00:00 GMT",
];
const RUSSIAN: &str = "пойду спать всем спокойной ночи";

pub(super) fn listen(workers: &Workers, addr: SocketAddr) -> anyhow::Result<Listener> {
    let posts = Posts::default();
    let mut config = EngineConfig::default();
    "/engine.io".clone_into(&mut config.path);
    config.settings.ping_interval = Duration::from_millis(500);
    config.max_payload = 100;
    config
        .hooks
        .allow_request(|request| async move { if parameter(&request, "deny").is_some() { Err("") } else { Ok(()) } });
    config.hooks.initial_headers(|headers, _| {
        for cookie in COOKIES {
            headers.append(SET_COOKIE, HeaderValue::from_static(cookie));
        }
    });
    let seen = posts.clone();
    config.hooks.middleware(move |request| {
        seen.note(&request);
        async { Ok::<_, Stop>(request) }
    });
    let engine = Engine::new(Arc::new(Echo(posts)), config, workers.clone())?;
    Ok(engine.listen(addr)?)
}

fn parameter<'a>(request: &'a EngineRequest, name: &str) -> Option<Cow<'a, str>> {
    let mut query = form_urlencoded::parse(request.uri.query().unwrap_or_default().as_bytes());
    query.find(|(found, _)| found == name).map(|(_, value)| value)
}

/// The headers of each session's last POST, by session id.
#[derive(Clone, Default)]
struct Posts(Arc<Mutex<HashMap<String, HeaderMap>>>);

impl Posts {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, HeaderMap>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, request: &EngineRequest) {
        let sid = parameter(request, "sid").filter(|_| request.method == Method::POST);
        // Only of sessions that there are: they forget it when they end.
        let mut posts = self.lock();
        if let Some(headers) = sid.and_then(|sid| posts.get_mut(&*sid)) {
            headers.clone_from(&request.headers);
        }
    }

    fn json(&self, sid: &str) -> String {
        let posts = self.lock();
        let headers: BTreeMap<&str, Cow<'_, str>> = posts
            .get(sid)
            .into_iter()
            .flatten()
            .map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes())))
            .collect();
        serde_json::to_string(&headers).expect("invariant: text is JSON")
    }
}

struct Echo(Posts);

impl Application for Echo {
    fn attach(&self, worker: &Worker) -> Rc<dyn WorkerApplication> {
        Rc::new(EchoHalf { worker: worker.clone(), posts: self.0.clone(), sids: RefCell::default() })
    }
}

struct EchoHalf {
    worker: Worker,
    posts: Posts,
    /// Session ids: a connection that has ended has none any more.
    sids: RefCell<HashMap<ConnectionId, String>>,
}

impl WorkerApplication for EchoHalf {
    fn open(&self, id: ConnectionId, _: &Arc<Request>) {
        let Some(sid) = self.worker.sid(id).map(|sid| sid.to_string()) else { return };
        self.posts.lock().insert(sid.clone(), HeaderMap::new());
        self.sids.borrow_mut().insert(id, sid);
        self.worker.send_text(id, "hi");
    }

    fn text(&self, id: ConnectionId, text: &str) {
        match text {
            "give binary" => self.worker.send_binary(id, &[0, 1, 2, 3, 4]),
            "give utf8" => self.worker.send_text(id, RUSSIAN),
            "sendHeaders" => self.worker.send_text(id, &self.posts.json(&self.sids.borrow()[&id])),
            other => self.worker.send_text(id, other),
        };
    }

    fn binary(&self, id: ConnectionId, data: Bytes) {
        self.worker.send_binary(id, &data);
    }

    fn close(&self, id: ConnectionId, _: CloseReason) {
        if let Some(sid) = self.sids.borrow_mut().remove(&id) {
            self.posts.lock().remove(&sid);
        }
    }
}
