//! What a request wants, and whether it may: the official server's checks in its order.

use http::header::{CONNECTION, ORIGIN, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, Method};
use posthaste_engine_proto::error::BadRequest;
use posthaste_engine_proto::{Query, RequestError, Revision, SidParam, Transport, TransportParam};

use super::Inner;
use crate::gate::Ticket;
use crate::worker::{SessionFacts, WorkerHandle};

/// A request that may go on.
pub(super) enum Verified {
    /// It opens a session on this transport, of a client that takes no binary frames if so.
    Handshake { transport: Transport, base64: bool, ticket: Option<Ticket> },
    /// It belongs to a session; `transport` is the one it came on.
    Session { worker: WorkerHandle, facts: SessionFacts, transport: Transport },
}

/// Whether the request asks for a WebSocket, by its headers alone.
pub(super) fn asks_for_upgrade(headers: &HeaderMap) -> bool {
    let has_token = |name, token: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|item| item.trim().eq_ignore_ascii_case(token))
    };
    has_token(CONNECTION, "upgrade") && has_token(UPGRADE, "websocket")
}

pub(super) async fn verify(engine: &Inner, parts: &Parts, is_upgrade: bool) -> Result<Verified, RequestError> {
    let query = Query::parse(parts.uri.query().unwrap_or_default());
    let transport = match query.transport {
        TransportParam::Known(transport) if engine.config.transports.contains(transport) => transport,
        TransportParam::Known(_) | TransportParam::Unknown => return Err(RequestError::UnknownTransport),
    };
    if parts.headers.get_all(ORIGIN).iter().any(|origin| origin.to_str().is_err()) {
        return Err(RequestError::BadRequest(BadRequest::InvalidOrigin));
    }
    let sid = match query.sid {
        SidParam::Sid(sid) => sid,
        SidParam::Invalid => return Err(RequestError::UnknownSid),
        SidParam::Absent => {
            if parts.method != Method::GET {
                return Err(RequestError::BadHandshakeMethod);
            }
            if transport == Transport::WebSocket && !is_upgrade {
                return Err(RequestError::BadRequest(BadRequest::TransportHandshake));
            }
            // Before the application is asked, and then held while it thinks.
            let ticket = super::limits::admit(engine, parts)?;
            if let Err(message) = engine.config.hooks.allows(parts, is_upgrade).await {
                let message = if message.is_empty() { "Forbidden".into() } else { message };
                return Err(RequestError::Forbidden(message));
            }
            if query.revision != Revision::V4 {
                return Err(RequestError::UnsupportedVersion);
            }
            return Ok(Verified::Handshake { transport, base64: query.base64, ticket });
        }
    };
    let worker = engine.worker_of(&sid).ok_or(RequestError::UnknownSid)?.clone();
    let app = engine.app;
    let found = worker.call(move |worker| worker.local().session(app, &sid)).await;
    let facts = found.ok().flatten().ok_or(RequestError::UnknownSid)?;
    if !is_upgrade && facts.transport != transport {
        return Err(RequestError::BadRequest(BadRequest::TransportMismatch));
    }
    if query.revision != Revision::V4 {
        return Err(RequestError::BadRequest(BadRequest::ProtocolMismatch));
    }
    if !is_upgrade && transport == Transport::WebSocket {
        return Err(RequestError::BadRequest(BadRequest::TransportHandshake));
    }
    if is_upgrade && !engine.config.offers_upgrade() {
        return Err(RequestError::BadRequest(BadRequest::TransportMismatch));
    }
    Ok(Verified::Session { worker, facts, transport })
}
