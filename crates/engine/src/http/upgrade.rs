//! From an HTTP request to a WebSocket on its worker.

use std::sync::Arc;

use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, UPGRADE};
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use posthaste_engine_proto::RequestError;
use posthaste_engine_proto::Transport;
use posthaste_engine_proto::error::BadRequest;
use posthaste_websocket_proto::{DeflateAnswer, check_upgrade};
use tokio::net::TcpStream;

use super::verify::Verified;
use super::{Engine, EngineBody};
use crate::stream::{Handover, Rewound};
use crate::worker::WorkerHandle;

impl Engine {
    /// Answers 101 and sees the stream to its worker.
    pub(super) async fn upgrade(&self, parts: &Parts, upgrade: OnUpgrade, verified: Verified) -> Response<EngineBody> {
        // That the request asks for an upgrade is known; these two may also come in several lines.
        let header = |name: &str| match name {
            "connection" => Some(&b"upgrade"[..]),
            "upgrade" => Some(&b"websocket"[..]),
            other => parts.headers.get(other).map(HeaderValue::as_bytes),
        };
        let accept = match check_upgrade(header) {
            Ok(accept) => accept,
            Err(error) => {
                tracing::debug!(%error, "no WebSocket handshake");
                return self.refuse(parts, true, &RequestError::BadRequest(BadRequest::TransportHandshake), None);
            }
        };
        let app = self.0.app;
        let deflate = self.agree(|| parts.headers.get_all(SEC_WEBSOCKET_EXTENSIONS).iter().map(HeaderValue::as_bytes));
        let terms = deflate.map(|answer| answer.terms);
        match verified {
            // The official server lets the handshake through and closes at once; nothing is gained by that.
            Verified::Handshake { transport: Transport::Polling, .. }
            | Verified::Session { transport: Transport::Polling, .. } => {
                return self.refuse(parts, true, &RequestError::BadRequest(BadRequest::TransportHandshake), None);
            }
            Verified::Handshake { transport: Transport::WebSocket, wire, ticket, .. } => {
                let request = self.0.request(parts);
                let worker = self.0.workers.nearest().clone();
                hand_over(upgrade, worker, move |worker, stream, leftover| {
                    let request = Arc::new(request.with_peer(stream.peer_addr()));
                    worker.local().open_websocket(app, request, wire, ticket, terms, stream, leftover);
                });
            }
            Verified::Session { worker, facts, .. } => {
                hand_over(upgrade, worker, move |worker, stream, leftover| {
                    worker.local().open_probe(facts.id, terms, stream, leftover);
                });
            }
        }
        let mut answer = Response::new(EngineBody::default());
        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = answer.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(
            SEC_WEBSOCKET_ACCEPT,
            HeaderValue::from_str(accept.as_str()).expect("invariant: base64 is header text"),
        );
        if let Some(deflate) = deflate {
            let value =
                HeaderValue::try_from(deflate.to_string()).expect("invariant: names and numbers are header text");
            headers.insert(SEC_WEBSOCKET_EXTENSIONS, value);
        }
        answer
    }

    /// What is agreed on with a client that offers these extensions, if the server wants any.
    pub(super) fn agree<'a, I: Iterator<Item = &'a [u8]>>(&self, offers: impl FnOnce() -> I) -> Option<DeflateAnswer> {
        self.0.config.per_message_deflate.as_ref()?.terms().accept(offers())
    }
}

/// Waits for hyper to let go of the stream, then gives it and the bytes that came early to `worker`.
fn hand_over(
    upgrade: OnUpgrade,
    worker: WorkerHandle,
    open: impl FnOnce(&crate::Worker, Handover, &[u8]) + Send + 'static,
) {
    tokio::spawn(async move {
        let upgraded = match upgrade.await {
            Ok(upgraded) => upgraded,
            // The client was gone before the 101 was written: there is no session yet.
            Err(error) => return tracing::debug!(%error, "upgrade abandoned"),
        };
        let (stream, leftover) = match release(upgraded) {
            Ok(released) => released,
            Err(error) => return tracing::debug!(%error, "the stream could not be taken over"),
        };
        // A worker that has ended drops the stream, which closes it.
        let _ = worker.post(move |worker| open(worker, stream, &leftover));
    });
}

/// Takes a bare TCP stream out of hyper's hands, and out of the reactor it was registered with; anything else stays as it is.
fn release(upgraded: Upgraded) -> std::io::Result<(Handover, Vec<u8>)> {
    let bare = |stream: TcpStream, leftover: &[u8]| {
        stream.set_nodelay(true)?;
        // Copied: it is a slice of hyper's read buffer, which would live as long.
        Ok((Handover::Tcp(stream.into_std()?), leftover.to_vec()))
    };
    let upgraded = match upgraded.downcast::<TokioIo<Rewound>>() {
        Ok(parts) => {
            let (stream, rest) = parts.io.into_inner().into_parts();
            return bare(stream, &[&parts.read_buf[..], &rest].concat());
        }
        Err(upgraded) => upgraded,
    };
    let upgraded = match upgraded.downcast::<TokioIo<TcpStream>>() {
        Ok(parts) => return bare(parts.io.into_inner(), &parts.read_buf),
        Err(upgraded) => upgraded,
    };
    // What axum serves with looks at the first bytes itself, and wraps the stream for it.
    match hyper_util::server::conn::auto::upgrade::downcast::<TokioIo<TcpStream>>(upgraded) {
        Ok(parts) => bare(parts.io.into_inner(), &parts.read_buf),
        Err(upgraded) => Ok((Handover::Other(Box::new(TokioIo::new(upgraded))), Vec::new())),
    }
}
