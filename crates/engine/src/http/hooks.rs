//! Where an application takes part in requests: before the engine looks at them, when a session is asked for, and when an
//! answer leaves.
//!
//! ```text
//!   middlewares ─► the engine's checks ─► allow_request (handshakes) ─► session ─► initial_headers · headers ─► answer
//! ```

use std::borrow::Cow;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, SET_COOKIE, TRANSFER_ENCODING, UPGRADE, VARY};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Response};

use crate::listener::RemoteAddr;
use crate::request::Kept;

/// A request under the engine's path, as a middleware or [`Hooks::allow_request`] sees it. It derefs to [`http::request::Parts`]:
/// `headers`, `uri`, `method` and `extensions` are there as fields.
#[derive(Clone, Debug)]
pub struct EngineRequest {
    parts: Arc<Parts>,
    answer: HeaderMap,
    kept: Kept,
    is_upgrade: bool,
}

impl EngineRequest {
    fn new(parts: Parts, is_upgrade: bool) -> Self {
        Self { parts: Arc::new(parts), answer: HeaderMap::new(), kept: Kept::default(), is_upgrade }
    }

    /// Headers for the answer, whatever it will be. The engine's own win, those that frame the answer are ignored, and cookies
    /// add up. A middleware that stops the request takes its own along with [`EngineRequest::refuse`] or
    /// [`EngineRequest::answer`].
    pub const fn answer_headers(&mut self) -> &mut HeaderMap {
        &mut self.answer
    }

    /// Keeps `value` with the connection, if this request opens one: [`Request::kept`](crate::Request::kept) finds it by its
    /// type. For who the client is, say.
    pub fn keep<T: Clone + Send + Sync + 'static>(&mut self, value: T) {
        self.kept.insert(value);
    }

    /// The request itself, to be changed for what comes after.
    pub fn parts_mut(&mut self) -> &mut Parts {
        Arc::make_mut(&mut self.parts)
    }

    /// Where it came from, if known; see [`RemoteAddr`].
    #[must_use]
    pub fn remote_addr(&self) -> Option<SocketAddr> {
        self.parts.extensions.get::<RemoteAddr>().map(|RemoteAddr(addr)| *addr)
    }

    /// Stops the request as [`Stop::refuse`] does, with the headers that were added for its answer.
    pub fn refuse(self, reason: impl Into<Cow<'static, str>>) -> Stop {
        Stop { headers: Some(self.answer), ..Stop::refuse(reason) }
    }

    /// Stops the request as [`Stop::answer`] does, with the headers that were added for its answer.
    #[must_use]
    pub fn answer(self, answer: Response<Bytes>) -> Stop {
        Stop { headers: Some(self.answer), ..Stop::answer(answer) }
    }

    /// Whether it asks for a WebSocket.
    #[must_use]
    pub const fn is_upgrade(&self) -> bool {
        self.is_upgrade
    }
}

impl std::ops::Deref for EngineRequest {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.parts
    }
}

/// Why a middleware does not pass a request on. The answer has the headers that middlewares before it added.
#[derive(Debug)]
pub struct Stop {
    stopped: Stopped,
    /// Those of the middleware that stops, and of all before it.
    headers: Option<HeaderMap>,
}

#[derive(Debug)]
pub(super) enum Stopped {
    Refused(Cow<'static, str>),
    Answered(Box<Response<Bytes>>),
}

impl Stop {
    /// Refuses the request: the client sees code 3, `Bad request`; `reason` goes to
    /// [`on_connection_error`](crate::Engine::on_connection_error) alone.
    pub fn refuse(reason: impl Into<Cow<'static, str>>) -> Self {
        Self { stopped: Stopped::Refused(reason.into()), headers: None }
    }

    /// Answers the request in the engine's place. An answer to an upgrade closes the connection.
    #[must_use]
    pub fn answer(answer: Response<Bytes>) -> Self {
        Self { stopped: Stopped::Answered(Box::new(answer)), headers: None }
    }
}

impl From<Response<Bytes>> for Stop {
    fn from(answer: Response<Bytes>) -> Self {
        Self::answer(answer)
    }
}

impl From<&'static str> for Stop {
    fn from(reason: &'static str) -> Self {
        Self::refuse(reason)
    }
}

impl From<String> for Stop {
    fn from(reason: String) -> Self {
        Self::refuse(reason)
    }
}

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

type MiddlewareFn = Arc<dyn Fn(EngineRequest) -> Boxed<Result<EngineRequest, Stop>> + Send + Sync>;
type AllowFn = Arc<dyn Fn(EngineRequest) -> Boxed<Result<(), Cow<'static, str>>> + Send + Sync>;
type HeadersFn = Arc<dyn Fn(&mut HeaderMap, &Parts) + Send + Sync>;

/// What an application has to say about the engine's requests. Nothing by default, and then it costs nothing.
#[derive(Clone, Default)]
pub struct Hooks {
    middlewares: Vec<MiddlewareFn>,
    allow: Option<AllowFn>,
    initial_headers: Vec<HeadersFn>,
    headers: Vec<HeadersFn>,
}

impl Hooks {
    /// Adds a middleware behind those that are there: it sees every request and every upgrade under the engine's path before the
    /// engine looks at them (but for its origin, see [`Origins`](crate::Origins)), and passes them on or stops them. The files of
    /// the browser client and the preflights of [`Cors`](crate::Cors) are answered without it, as in Socket.IO.
    ///
    /// ```
    /// use posthaste_engine::{EngineConfig, EngineRequest, Stop};
    ///
    /// #[derive(Clone)]
    /// struct User(String);
    ///
    /// async fn who(mut request: EngineRequest) -> Result<EngineRequest, Stop> {
    ///     let user = request.headers.get("x-user").and_then(|user| user.to_str().ok()).map(str::to_owned);
    ///     request.keep(User(user.ok_or("nobody")?));
    ///     request.answer_headers().insert("x-served-by", http::HeaderValue::from_static("posthaste"));
    ///     Ok(request)
    /// }
    /// let mut config = EngineConfig::default();
    /// config.hooks.middleware(who);
    /// ```
    ///
    /// An application that mounts [`EngineLayer`](crate::EngineLayer) may put tower layers around it instead: they see these
    /// requests as well, and what was written for tower fits there. A middleware here belongs to the engine, mounted or
    /// listening; it sees the engine's requests alone, and what it refuses is reported and answered as the protocol has it.
    pub fn middleware<F, Fut, E>(&mut self, middleware: F)
    where
        F: Fn(EngineRequest) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<EngineRequest, E>> + Send + 'static,
        E: Into<Stop>,
    {
        self.middlewares.push(Arc::new(move |request| {
            let passed = middleware(request);
            Box::pin(async move { passed.await.map_err(Into::into) })
        }));
    }

    /// Asks `allow` before a session is opened, on polling and WebSocket alike; requests of open sessions are not asked about.
    /// The last one set is asked.
    ///
    /// `Err` refuses with its text (`Forbidden` when it is empty): status 403 and code 4 over HTTP; 400 and the bare text to an
    /// upgrade, as the official server has it.
    pub fn allow_request<F, Fut, E>(&mut self, allow: F)
    where
        F: Fn(EngineRequest) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Cow<'static, str>>,
    {
        self.allow = Some(Arc::new(move |request| {
            let allowed = allow(request);
            Box::pin(async move { allowed.await.map_err(Into::into) })
        }));
    }

    /// Has `add` write headers for the answer that opens a session: a polling handshake's, or the 101 of a WebSocket's. They win
    /// over the engine's own; those that frame the answer are ignored, and cookies add up.
    pub fn initial_headers(&mut self, add: impl Fn(&mut HeaderMap, &Parts) + Send + Sync + 'static) {
        self.initial_headers.push(Arc::new(add));
    }

    /// The same for every answer of a session: to polling's GET and POST, and the 101 of every WebSocket.
    pub fn headers(&mut self, add: impl Fn(&mut HeaderMap, &Parts) + Send + Sync + 'static) {
        self.headers.push(Arc::new(add));
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.middlewares.is_empty()
            && self.allow.is_none()
            && self.initial_headers.is_empty()
            && self.headers.is_empty()
    }

    pub(super) const fn has_middlewares(&self) -> bool {
        !self.middlewares.is_empty()
    }

    /// Sends a request through the middlewares.
    pub(super) fn pass(&self, parts: Parts, is_upgrade: bool) -> Boxed<Passed> {
        let middlewares = self.middlewares.clone();
        Box::pin(async move {
            let mut request = EngineRequest::new(parts, is_upgrade);
            for middleware in middlewares {
                let (parts, answer) = (request.parts.clone(), request.answer.clone());
                match middleware(request).await {
                    Ok(passed) => request = passed,
                    Err(Stop { stopped, headers }) => {
                        let headers = boxed(headers.unwrap_or(answer));
                        return Passed { parts: Arc::unwrap_or_clone(parts), headers, stopped: Some(stopped) };
                    }
                }
            }
            let EngineRequest { parts, answer, kept, .. } = request;
            let mut parts = Arc::unwrap_or_clone(parts);
            kept.join(&mut parts.extensions);
            Passed { parts, headers: boxed(answer), stopped: None }
        })
    }

    /// Whether a session may be opened; `Err` holds the text for the client.
    pub(super) async fn allows(&self, parts: &Parts, is_upgrade: bool) -> Result<(), Cow<'static, str>> {
        match &self.allow {
            None => Ok(()),
            Some(allow) => allow(EngineRequest::new(parts.clone(), is_upgrade)).await,
        }
    }

    /// Adds what the application adds to an answer of a session.
    pub(super) fn add_headers(&self, answer: &mut HeaderMap, request: &Parts, is_initial: bool) {
        for add in self.initial_headers.iter().filter(|_| is_initial).chain(&self.headers) {
            let mut added = HeaderMap::new();
            add(&mut added, request);
            merge(answer, added, true);
        }
    }
}

impl std::fmt::Debug for Hooks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hooks")
            .field("middlewares", &self.middlewares.len())
            .field("allow_request", &self.allow.is_some())
            .field("initial_headers", &self.initial_headers.len())
            .field("headers", &self.headers.len())
            .finish()
    }
}

/// What became of a request on its way through the middlewares.
pub(super) struct Passed {
    pub(super) parts: Parts,
    /// For the answer; `None` when there are none.
    pub(super) headers: Option<Box<HeaderMap>>,
    pub(super) stopped: Option<Stopped>,
}

fn boxed(headers: HeaderMap) -> Option<Box<HeaderMap>> {
    (!headers.is_empty()).then(|| Box::new(headers))
}

/// Adds `added` to an answer. `over` says whose word counts when both name a header.
pub(super) fn merge(answer: &mut HeaderMap, added: HeaderMap, over: bool) {
    let mut current: Option<(HeaderName, bool)> = None;
    for (name, value) in added {
        if let Some(name) = name {
            let adds_up = name == SET_COOKIE || name == VARY;
            let takes = !frames_the_answer(&name) && (over || adds_up || !answer.contains_key(&name));
            if takes && !adds_up {
                answer.remove(&name);
            }
            current = Some((name, takes));
        }
        if let Some((name, true)) = &current {
            append(answer, name, value);
        }
    }
}

fn append(answer: &mut HeaderMap, name: &HeaderName, value: HeaderValue) {
    // Refused only past 32,768 names: such an answer nobody takes.
    let _ = answer.try_append(name, value);
}

/// Headers that say where an answer ends and what the connection is from then on: nobody's business but the engine's.
fn frames_the_answer(name: &HeaderName) -> bool {
    [CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE].contains(name)
        || name.as_str().starts_with("sec-websocket-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn added_headers_replace_or_yield_and_never_frame_the_answer() {
        let own = [("cache-control", "no-store"), ("set-cookie", "io=1"), ("connection", "close")];
        let added = [
            ("cache-control", "private"),
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
            ("x-two", "1"),
            ("x-two", "2"),
            ("content-length", "7"),
            ("transfer-encoding", "chunked"),
            ("connection", "keep-alive"),
            ("upgrade", "h2c"),
            ("sec-websocket-accept", "x"),
        ];
        for (over, cache) in [(true, "private"), (false, "no-store")] {
            let mut answer = headers(&own);
            merge(&mut answer, headers(&added), over);
            let expected = [
                ("cache-control", cache),
                ("set-cookie", "io=1"),
                ("set-cookie", "a=1"),
                ("set-cookie", "b=2"),
                ("connection", "close"),
                ("x-two", "1"),
                ("x-two", "2"),
            ];
            assert_eq!(answer, headers(&expected), "over: {over}");
        }
    }
}
