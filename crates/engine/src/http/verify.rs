//! What a request wants, and whether it may: the official server's checks in its order.

use http::header::{CONNECTION, ORIGIN, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, Method};
use posthaste_engine_proto::error::BadRequest;
use posthaste_engine_proto::{Jsonp, Query, RequestError, Revision, SidParam, Transport, TransportParam, Wire};

use super::Inner;
use crate::gate::Ticket;
use crate::worker::{SessionFacts, WorkerHandle};

/// A request that may go on.
pub(super) enum Verified {
    /// It opens a session on this transport, of a client that takes packets in this form.
    Handshake { transport: Transport, wire: Wire, jsonp: Option<Jsonp>, ticket: Option<Ticket> },
    /// It belongs to a session; `transport` is the one it came on.
    Session { worker: WorkerHandle, facts: SessionFacts, transport: Transport, jsonp: Option<Jsonp> },
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
    // Revision 4 has no JSONP, and a WebSocket needs none.
    let jsonp =
        query.jsonp.filter(|_| query.revision == Revision::V3 && transport == Transport::Polling && !is_upgrade);
    if jsonp.is_some()
        && engine.config.origins.as_ref().is_some_and(|origins| !origins.allow_script(&parts.uri, &parts.headers))
    {
        return Err(RequestError::ForeignOrigin);
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
            if query.revision == Revision::V3 && !engine.config.allow_eio3 {
                return Err(RequestError::UnsupportedVersion);
            }
            // A script has no room for binary.
            let wire = Wire::new(query.revision, query.base64 || jsonp.is_some());
            return Ok(Verified::Handshake { transport, wire, jsonp, ticket });
        }
    };
    let worker = engine.worker_of(&sid).ok_or(RequestError::UnknownSid)?.clone();
    let app = engine.app;
    let found = worker.call(move |worker| worker.local().session(app, &sid)).await;
    let facts = found.ok().flatten().ok_or(RequestError::UnknownSid)?;
    if !is_upgrade && facts.transport != transport {
        return Err(RequestError::BadRequest(BadRequest::TransportMismatch));
    }
    if query.revision != facts.wire.revision() {
        return Err(RequestError::BadRequest(BadRequest::ProtocolMismatch));
    }
    if jsonp.is_some() && facts.wire.takes_binary() {
        // Opened without JSONP: what waits for it may not fit into a script.
        return Err(RequestError::BadRequest(BadRequest::TransportMismatch));
    }
    if !is_upgrade && transport == Transport::WebSocket {
        return Err(RequestError::BadRequest(BadRequest::TransportHandshake));
    }
    if is_upgrade && !engine.config.offers_upgrade() {
        return Err(RequestError::BadRequest(BadRequest::TransportMismatch));
    }
    Ok(Verified::Session { worker, facts, transport, jsonp })
}
