//! The calls of a server, from the other side.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use axum::body::{Body, to_bytes};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{Method, Request, StatusCode, Uri};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Where a server is if nobody says.
const DEFAULT_URL: &str = "http://127.0.0.1:3000";
/// How long connecting may take, and an answer longer than it was asked to wait.
const PATIENCE: Duration = Duration::from_secs(20);
/// Longest answer, in bytes.
const MAX_ANSWER: usize = 64 << 20;
/// Connections that are kept for later.
const MAX_IDLE: usize = 16;

/// A server.
pub(super) struct Server {
    url: String,
    authority: String,
    host: String,
    port: u16,
    idle: Mutex<VecDeque<SendRequest<Body>>>,
}

/// What a server answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_slice(&self.body).context("what the server answered is no JSON")
    }
}

/// A server says no.
#[derive(Debug, thiserror::Error)]
#[error("{detail} ({code})")]
pub(super) struct Refused {
    pub(super) status: StatusCode,
    pub(super) code: String,
    detail: String,
    pub(super) problem: Value,
}

impl Server {
    /// The one that is said, else that of the environment, else the usual one.
    pub(super) fn new(url: Option<&str>) -> anyhow::Result<Self> {
        let said = url.map(str::to_owned).or_else(|| std::env::var("POSTHASTE_URL").ok().filter(|url| !url.is_empty()));
        let url = said.unwrap_or_else(|| DEFAULT_URL.to_owned());
        let uri: Uri = url.parse().with_context(|| format!("{url:?} is no URL"))?;
        let is_plain = uri.scheme_str() == Some("http") && matches!(uri.path(), "" | "/") && uri.query().is_none();
        let Some(authority) = uri.authority().filter(|it| is_plain && !it.as_str().contains('@')) else {
            bail!("{url:?} is no URL of a server such as {DEFAULT_URL}");
        };
        Ok(Self {
            authority: authority.to_string(),
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port: authority.port_u16().unwrap_or(80),
            url,
            idle: Mutex::default(),
        })
    }

    /// Makes a call that takes as long as `wait` by itself. Dropped before it is answered, its connection is closed.
    ///
    /// # Errors
    /// [`Refused`], or that there was no answer.
    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        wait: Duration,
    ) -> anyhow::Result<Answer> {
        let named = || format!("{} does not answer", self.url);
        let patience = PATIENCE + wait;
        let answer = timeout(patience, self.send(&method, path, body)).await;
        let answer = answer.unwrap_or_else(|_| Err(anyhow!("nothing came for {} s", patience.as_secs())));
        let answer = answer.with_context(named)?;
        if answer.status.is_success() { Ok(answer) } else { Err(refused(&answer).into()) }
    }

    async fn send(&self, method: &Method, path: &str, body: Option<&Value>) -> anyhow::Result<Answer> {
        let request = || {
            let text = body.map(Value::to_string).unwrap_or_default();
            let request = Request::builder().method(method).uri(format!("/api/v1/{path}"));
            let request = request.header(HOST, &self.authority).header(CONTENT_TYPE, "application/json");
            request.body(Body::from(text)).context("what was asked for cannot be a request")
        };
        // One that was kept may have been closed meanwhile: then nothing of the request was read.
        while let Some(mut kept) = self.take() {
            if kept.ready().await.is_err() {
                continue;
            }
            match kept.try_send_request(request()?).await {
                Ok(response) => return self.read(kept, response).await,
                Err(mut error) => {
                    if error.take_message().is_none() {
                        return Err(error.into_error().into());
                    }
                }
            }
        }
        let stream = TcpStream::connect((&*self.host, self.port)).await?;
        stream.set_nodelay(true)?;
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let response = sender.send_request(request()?).await?;
        self.read(sender, response).await
    }

    async fn read(
        &self,
        sender: SendRequest<Body>,
        response: http::Response<hyper::body::Incoming>,
    ) -> anyhow::Result<Answer> {
        let (head, body) = response.into_parts();
        let body = to_bytes(Body::new(body), MAX_ANSWER).await?;
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE {
            idle.push_back(sender);
        }
        Ok(Answer { status: head.status, body })
    }

    fn take(&self) -> Option<SendRequest<Body>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop_back()
    }
}

fn refused(answer: &Answer) -> Refused {
    let problem = answer.json().unwrap_or_default();
    let text = |name: &str| problem.get(name).and_then(Value::as_str).map(str::to_owned);
    let code = text("code").unwrap_or_else(|| answer.status.as_str().to_owned());
    let detail = text("detail").unwrap_or_else(|| "the server refused without saying why".to_owned());
    Refused { status: answer.status, code, detail, problem }
}

/// The path of a queue.
pub(super) fn path_of(queue: &str) -> String {
    format!("queues/{}", encoded(queue))
}

/// Text as a part of a path or a query.
pub(super) fn encoded(text: &str) -> String {
    let mut to = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            to.push(char::from(byte));
        } else {
            to.push_str(&format!("%{byte:02X}"));
        }
    }
    to
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_server_and_nothing_else() {
        let server = Server::new(Some("http://[::1]:3000/")).unwrap();
        assert_eq!((&*server.host, server.port, &*server.authority), ("::1", 3000, "[::1]:3000"));
        assert_eq!(Server::new(Some("http://queues.example")).unwrap().port, 80);
        for url in ["", "localhost:3000", "https://a.b", "http://a.b/c", "http://a.b?c", "http://u:p@a.b", "http://"] {
            assert!(Server::new(Some(url)).is_err(), "{url}");
        }
    }

    #[test]
    fn names_survive_a_path() {
        assert_eq!(path_of("a/b:c d"), "queues/a%2Fb%3Ac%20d");
    }
}
