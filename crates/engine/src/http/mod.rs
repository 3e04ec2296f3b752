//! The HTTP face of the engine: one request in, one answer out.
//!
//! ```text
//!   verify ─► Handshake · Session · Refused
//!     GET            handshake ─► open packet        session ─► poll (parked until there is something)
//!     POST           session ─► body against the cap ─► packets ─► `ok`
//!     GET + upgrade  handshake or probe ─► 101, then the stream goes to its worker
//! ```

mod poll;
mod service;
mod upgrade;
mod verify;

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use posthaste_engine_proto::RequestError;

use crate::application::Application;
use crate::config::{ConfigError, EngineConfig};
use crate::listener::RemoteAddr;
use crate::worker::{AppIndex, WorkerGone, WorkerHandle, Workers};
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
    files: Option<Files>,
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
        let app = workers.attach(application, config.clone())?;
        Ok(Self(Arc::new(Inner { config, workers, app, files: None }), None))
    }

    /// Has `files` answer first for what follows the engine's path (`socket.io.js`), whatever the method.
    #[must_use]
    pub fn with_files(self, files: Files) -> Self {
        let Inner { config, workers, app, .. } = &*self.0;
        Self(
            Arc::new(Inner { config: config.clone(), workers: workers.clone(), app: *app, files: Some(files) }),
            self.1,
        )
    }

    /// This engine, keeping `owner` alive for as long as it is: for layers and listeners, which outlive the handle that made
    /// them.
    #[must_use]
    pub fn keeping(&self, owner: Arc<dyn std::any::Any + Send + Sync>) -> Self {
        Self(self.0.clone(), Some(owner))
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
        if let Some(cors) = self.0.config.cors.as_ref().filter(|_| parts.method == Method::OPTIONS && !is_upgrade) {
            return cors.preflight(&parts.headers).map(|()| EngineBody::default());
        }
        if let Some(answer) = self.file(&parts) {
            return self.finish(&parts.headers, answer.map(EngineBody::new));
        }
        let verified = match verify::verify(&self.0, &parts, is_upgrade).await {
            Ok(verified) => verified,
            Err(error) => {
                tracing::debug!(%error, code = error.code(), path = parts.uri.path(), "request refused");
                return if is_upgrade { refuse_upgrade(&error) } else { self.finish(&parts.headers, refuse(&error)) };
            }
        };
        if let Some(upgrade) = upgrade.filter(|_| is_upgrade) {
            return self.upgrade(&parts, upgrade, verified).await;
        }
        let answer = match verified {
            Verified::Handshake { .. } => self.open_polling(&parts).await,
            Verified::Session { worker, facts, .. } => match parts.method {
                Method::GET => self.poll(&worker, facts, &parts.headers).await,
                Method::POST => self.post(&worker, facts, &parts.headers, body).await,
                _ => empty(StatusCode::INTERNAL_SERVER_ERROR),
            },
        };
        self.finish(&parts.headers, answer)
    }

    /// Adds what every answer of the engine carries.
    fn finish(&self, request: &HeaderMap, mut answer: Response<EngineBody>) -> Response<EngineBody> {
        if let Some(cors) = &self.0.config.cors {
            cors.apply(request, answer.headers_mut());
        }
        answer
    }

    fn file(&self, parts: &http::request::Parts) -> Option<Response<Bytes>> {
        let name = parts.uri.path().strip_prefix(&self.0.config.path)?;
        self.0.files?(name.strip_prefix('/').unwrap_or(name), &parts.headers)
    }
}

impl Inner {
    fn worker_of(&self, sid: &posthaste_engine_proto::Sid) -> Option<&WorkerHandle> {
        let last = sid.as_bytes()[posthaste_engine_proto::Sid::BYTES - 1];
        self.workers.handles().get(usize::from(last))
    }

    fn request(&self, parts: &http::request::Parts) -> crate::Request {
        let remote = parts.extensions.get::<RemoteAddr>().copied();
        let secure = parts.uri.scheme() == Some(&http::uri::Scheme::HTTPS);
        crate::Request::new(&parts.uri, &parts.headers, remote.map(|RemoteAddr(addr)| addr), secure)
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
    // Old Internet Explorers take packets for scripts that somebody injected.
    let agent = request.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    if agent.contains(";MSIE") || agent.contains("; MSIE") || agent.contains("Trident/") {
        headers.insert("x-xss-protection", HeaderValue::from_static("0"));
    }
    answer
}

/// An answer that carries packets.
fn payload(body: Vec<u8>, request: &HeaderMap) -> Response<EngineBody> {
    polling("text/plain; charset=UTF-8", body, request)
}

/// What a refused plain request gets: the one place for it.
fn refuse(error: &RequestError) -> Response<EngineBody> {
    let mut answer = with_body("application/json", error.body());
    *answer.status_mut() = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST);
    answer
}

/// What a refused upgrade gets: always 400, the bare text, and the end of the connection.
fn refuse_upgrade(error: &RequestError) -> Response<EngineBody> {
    let mut answer = with_body("text/html", error.to_string());
    *answer.status_mut() = StatusCode::BAD_REQUEST;
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    answer
}

/// The workers were shut down under a request.
fn unavailable() -> Response<EngineBody> {
    empty(StatusCode::SERVICE_UNAVAILABLE)
}
