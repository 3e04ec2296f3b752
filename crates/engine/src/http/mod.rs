//! The HTTP face of the engine: one request in, one answer out.
//!
//! ```text
//!   origin ─► middlewares ─► verify ─► Handshake · Session · Refused
//!     GET            handshake ─► open packet        session ─► poll (parked until there is something)
//!     POST           session ─► body against the cap ─► packets ─► `ok`
//!     GET + upgrade  handshake or probe ─► 101, then the stream goes to its worker
//! ```

pub(crate) mod compress;
mod cookie;
mod direct;
mod hooks;
mod limits;
mod origins;
mod poll;
mod refused;
mod service;
mod upgrade;
mod verify;

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, USER_AGENT, X_CONTENT_TYPE_OPTIONS};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use posthaste_engine_proto::error::BadRequest;
use posthaste_engine_proto::{Jsonp, Limit, RequestError};
use tower_layer::Layer;
use tower_service::Service;

use crate::application::Application;
use crate::config::{ConfigError, EngineConfig};
use crate::gate::{Gate, Refused};
use crate::listener::{ListenError, Listener, RemoteAddr};
use crate::request::Secure;
use crate::worker::{AppIndex, WorkerGone, WorkerHandle, Workers};
pub use cookie::{Cookie, CookieBuilder, CookieError, SameSite};
pub(crate) use direct::{DirectAnswer, Head, Parsed, Route, parse_head};
use hooks::Stopped;
pub use hooks::{EngineRequest, Hooks, Stop};
pub use origins::{OriginError, Origins};
pub use refused::{ConnectionError, ErrorContext};
pub use service::{EngineLayer, EngineService};
use verify::Verified;

/// The body of every answer of the engine.
pub type EngineBody = Full<Bytes>;

/// An Engine.IO server: an application, its settings and the workers it runs on. Cloning shares it.
#[derive(Clone)]
pub struct Engine(Arc<Inner>, Option<Owner>);

/// Whatever an engine is a part of.
type Owner = Arc<dyn std::any::Any + Send + Sync>;

struct Inner {
    config: Arc<EngineConfig>,
    workers: Workers,
    app: AppIndex,
    gate: Arc<Gate>,
    files: Option<Files>,
    refused: Arc<refused::Listeners>,
}

/// Answers for files under the engine's path: given what follows the path, or `None` for what is no file.
type Files = fn(&str, &HeaderMap) -> Option<Response<Bytes>>;

/// Why an engine could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// A setting cannot be.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The workers were shut down.
    #[error(transparent)]
    WorkersGone(#[from] WorkerGone),
}

impl Engine {
    /// Starts `application` on `workers`.
    ///
    /// # Errors
    /// [`EngineError`] when a setting cannot be, or the workers have ended.
    pub fn new(application: Arc<dyn Application>, config: EngineConfig, workers: Workers) -> Result<Self, EngineError> {
        let config = Arc::new(config.checked()?);
        let gate = Arc::new(Gate::new(config.admission, config.memory, config.limit_mode));
        let app = workers.attach(&application, &config, &gate)?;
        limits::watch_memory(&workers, app, &gate);
        Ok(Self(Arc::new(Inner { config, workers, app, gate, files: None, refused: Arc::default() }), None))
    }

    /// Has `files` answer first for what follows the engine's path (`socket.io.js`), whatever the method.
    #[must_use]
    pub fn with_files(self, files: Files) -> Self {
        let Inner { config, workers, app, gate, refused, .. } = &*self.0;
        let (config, workers, gate, refused) = (config.clone(), workers.clone(), gate.clone(), refused.clone());
        Self(Arc::new(Inner { config, workers, app: *app, gate, files: Some(files), refused }), self.1)
    }

    /// Calls `listen` for each request and upgrade that is refused, on the thread that answers it.
    pub fn on_connection_error(&self, listen: impl Fn(&ConnectionError<'_>) + Send + Sync + 'static) {
        self.0.refused.add(Arc::new(listen));
    }

    /// This engine, keeping `owner` alive for as long as it is: for layers and listeners, which outlive the handle that made
    /// them.
    #[must_use]
    pub fn keeping(&self, owner: Arc<dyn std::any::Any + Send + Sync>) -> Self {
        Self(self.0.clone(), Some(owner))
    }

    /// Listens on `addr` with a socket for each worker, and answers requests for other paths with 404. Port 0 takes a free one.
    ///
    /// # Errors
    /// [`ListenError`] names the address and what is in the way.
    pub fn listen(&self, addr: SocketAddr) -> Result<Listener, ListenError> {
        Listener::bind_direct(addr, self.clone(), self.clone())
    }

    /// Listens on `addr` with a socket for each worker, and has `service` answer requests for other paths, on the workers.
    ///
    /// # Errors
    /// As [`Engine::listen`].
    pub fn listen_with<S, B>(&self, addr: SocketAddr, service: S) -> Result<Listener, ListenError>
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
        B: http_body::Body<Data = Bytes> + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        Listener::bind_direct(addr, self.clone(), EngineLayer::new(self.clone()).layer(service))
    }

    /// Ends the application's connections and takes no more. Returns whether every worker did so within `patience`. Blocks.
    pub fn close(&self, patience: std::time::Duration) -> bool {
        self.0.workers.end_app(self.0.app, patience)
    }

    /// The settings, as checked: the path has the slash that requests are compared with.
    #[must_use]
    pub fn config(&self) -> &EngineConfig {
        &self.0.config
    }

    /// The workers.
    #[must_use]
    pub fn workers(&self) -> &Workers {
        &self.0.workers
    }

    /// How often clients ran into each limit.
    #[must_use]
    pub fn refused(&self) -> Refused {
        self.0.gate.refused()
    }

    /// Counts that a client ran into a limit of the application's. Returns whether what it asked for is to be refused: it is,
    /// unless limits are only observed ([`EngineConfig::limit_mode`]).
    #[must_use = "it says whether to refuse"]
    pub fn forbids(&self, limit: Limit) -> bool {
        self.0.gate.forbids(limit)
    }

    /// Whether a request for this path is the engine's: the official server compares the raw prefix.
    #[must_use]
    pub fn serves(&self, path: &str) -> bool {
        path.starts_with(&self.0.config.path)
    }

    /// Answers a request under the engine's path. Never fails: what is wrong with a request is in its answer.
    pub async fn handle<B>(&self, request: Request<B>) -> Response<EngineBody>
    where
        B: http_body::Body + Send + 'static,
        B::Data: Send,
    {
        let (mut parts, body) = request.into_parts();
        let upgrade = parts.extensions.remove::<hyper::upgrade::OnUpgrade>();
        let is_upgrade = upgrade.is_some() && verify::asks_for_upgrade(&parts.headers);
        let preflight = self.0.config.cors.as_ref().filter(|_| parts.method == Method::OPTIONS && !is_upgrade);
        if preflight.is_none()
            && let Some(answer) = self.file(&parts)
        {
            return self.finish(&parts.headers, None, answer.map(EngineBody::new));
        }
        if self.0.config.origins.as_ref().is_some_and(|origins| !origins.allow(&parts.uri, &parts.headers)) {
            // Nothing tells a foreign page's browser that it may read this.
            return self.refuse(&parts, is_upgrade, &RequestError::ForeignOrigin, None);
        }
        if let Some(cors) = preflight {
            return cors.preflight(&parts.headers).map(|()| EngineBody::default());
        }
        let mut added = None;
        if self.0.config.hooks.has_middlewares() {
            let passed = self.0.config.hooks.pass(parts, is_upgrade).await;
            if let Some(stopped) = passed.stopped {
                return self.stopped(&passed.parts, passed.headers, is_upgrade, stopped);
            }
            (parts, added) = (passed.parts, passed.headers);
        }
        let verified = match verify::verify(&self.0, &parts, is_upgrade).await {
            Ok(verified) => verified,
            Err(error) => {
                let answer = self.refuse(&parts, is_upgrade, &error, None);
                return self.finish(&parts.headers, added, answer);
            }
        };
        let is_initial = matches!(verified, Verified::Handshake { .. });
        let mut answer = if let Some(upgrade) = upgrade.filter(|_| is_upgrade) {
            self.upgrade(&parts, upgrade, verified).await
        } else {
            match verified {
                Verified::Handshake { wire, jsonp, ticket, .. } => self.open_polling(&parts, wire, jsonp, ticket).await,
                Verified::Session { worker, facts, jsonp, .. } => match parts.method {
                    Method::GET => self.poll(&worker, facts, jsonp, &parts.headers).await,
                    Method::POST => self.post(&worker, facts, jsonp, &parts.headers, body).await,
                    _ => empty(StatusCode::INTERNAL_SERVER_ERROR),
                },
            }
        };
        if [StatusCode::OK, StatusCode::SWITCHING_PROTOCOLS].contains(&answer.status()) {
            self.0.config.hooks.add_headers(answer.headers_mut(), &parts, is_initial);
        }
        self.finish(&parts.headers, added, answer)
    }

    /// A middleware did not pass the request on.
    fn stopped(
        &self,
        parts: &Parts,
        added: Option<Box<HeaderMap>>,
        is_upgrade: bool,
        stopped: Stopped,
    ) -> Response<EngineBody> {
        let answer = match stopped {
            Stopped::Refused(reason) => {
                let error = RequestError::BadRequest(BadRequest::Middleware);
                self.refuse(parts, is_upgrade, &error, Some(&reason))
            }
            Stopped::Answered(answer) => {
                let mut answer = answer.map(EngineBody::new);
                if is_upgrade {
                    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                answer
            }
        };
        self.finish(&parts.headers, added, answer)
    }

    /// Answers a request that is refused, and tells whoever listens for that.
    fn refuse(
        &self,
        parts: &Parts,
        is_upgrade: bool,
        error: &RequestError,
        reason: Option<&str>,
    ) -> Response<EngineBody> {
        self.0.refused.tell(parts, error, reason);
        let mut answer = if is_upgrade { refuse_upgrade(error) } else { refuse(error) };
        limits::add_retry_after(&self.0, error, answer.headers_mut());
        answer
    }

    /// Adds what every answer of the engine carries, and what middlewares `added`.
    fn finish(
        &self,
        request: &HeaderMap,
        added: Option<Box<HeaderMap>>,
        mut answer: Response<EngineBody>,
    ) -> Response<EngineBody> {
        if let Some(cors) = &self.0.config.cors {
            cors.apply(request, answer.headers_mut());
        }
        if let Some(added) = added {
            hooks::merge(answer.headers_mut(), *added, false);
        }
        answer
    }

    fn file(&self, parts: &Parts) -> Option<Response<Bytes>> {
        let name = parts.uri.path().strip_prefix(&self.0.config.path)?;
        self.0.files?(name.strip_prefix('/').unwrap_or(name), &parts.headers)
    }
}

impl Inner {
    fn worker_of(&self, sid: &posthaste_engine_proto::Sid) -> Option<&WorkerHandle> {
        let last = sid.as_bytes()[posthaste_engine_proto::Sid::BYTES - 1];
        self.workers.handles().get(usize::from(last))
    }

    fn request(&self, parts: &Parts) -> crate::Request {
        let remote = parts.extensions.get::<RemoteAddr>().copied();
        let secure = parts.extensions.get::<Secure>().map(|Secure(secure)| *secure);
        let secure = secure.unwrap_or_else(|| parts.uri.scheme() == Some(&http::uri::Scheme::HTTPS));
        let remote = remote.map(|RemoteAddr(addr)| addr);
        crate::Request::new(&parts.uri, &parts.headers, remote, secure).with_kept(&parts.extensions)
    }
}

/// An answer without a body.
fn empty(status: StatusCode) -> Response<EngineBody> {
    let mut answer = Response::new(EngineBody::default());
    *answer.status_mut() = status;
    answer
}

fn with_body(content_type: &'static str, body: impl Into<Bytes>) -> Response<EngineBody> {
    let mut answer = Response::new(EngineBody::new(body.into()));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

/// An answer of a polling session.
fn polling(content_type: &'static str, body: impl Into<Bytes>, request: &HeaderMap) -> Response<EngineBody> {
    let mut answer = with_body(content_type, body);
    let headers = answer.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if content_type == SCRIPT {
        // Not to be taken for anything else.
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    }
    // Old Internet Explorers take packets for scripts that somebody injected.
    let agent = request.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    if agent.contains(";MSIE") || agent.contains("; MSIE") || agent.contains("Trident/") {
        headers.insert("x-xss-protection", HeaderValue::from_static("0"));
    }
    answer
}

/// The type of packets that come as a script.
const SCRIPT: &str = "text/javascript; charset=UTF-8";

/// The type and body of an answer that carries packets: as text, or as a script.
fn payload(body: Vec<u8>, jsonp: Option<Jsonp>) -> (&'static str, Vec<u8>) {
    match jsonp {
        None => ("text/plain; charset=UTF-8", body),
        // Binary packets are base64 there.
        Some(jsonp) => (SCRIPT, jsonp.script(&String::from_utf8_lossy(&body))),
    }
}

/// What a refused plain request gets: the one place for it.
fn refuse(error: &RequestError) -> Response<EngineBody> {
    let mut answer = with_body("application/json", error.body());
    *answer.status_mut() = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST);
    answer
}

/// What a refused upgrade gets: the bare text, and the end of the connection.
fn refuse_upgrade(error: &RequestError) -> Response<EngineBody> {
    let mut answer = with_body("text/html", error.to_string());
    *answer.status_mut() = StatusCode::from_u16(error.upgrade_status()).unwrap_or(StatusCode::BAD_REQUEST);
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    answer
}

/// The workers were shut down under a request.
fn unavailable() -> Response<EngineBody> {
    empty(StatusCode::SERVICE_UNAVAILABLE)
}
