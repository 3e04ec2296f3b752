//! Requests that can be answered where they are read: the usual ones, of which nobody has to be asked.
//!
//! What is decided here is only that a request is none of the others. The rules are those of [`verify`](super::verify); a request
//! that breaks one is told so by the general way.

use std::net::SocketAddr;

use http::header::{HOST, ORIGIN};
use http::{HeaderMap, HeaderValue, Uri};
use posthaste_engine_proto::{Query, Revision, Sid, SidParam, Transport, TransportParam};
use posthaste_websocket_proto::{AcceptKey, DeflateTerms, check_upgrade};

use super::Engine;
use crate::Request;
use crate::gate::Ticket;
use crate::worker::{AppIndex, ConnectionId, Local, WorkerHandle};

/// The head of a request that may be answered directly.
pub(crate) struct Head<'a> {
    is_post: bool,
    is_upgrade: bool,
    target: &'a str,
    headers: &'a [httparse::Header<'a>],
    /// Bytes of the head.
    pub(crate) length: usize,
    /// Bytes of the body.
    pub(crate) body: usize,
}

pub(crate) enum Parsed<'a> {
    Partial,
    /// Not one to be answered directly.
    General,
    Head(Head<'a>),
}

/// Who sees to a request, and how.
pub(crate) enum Route {
    /// The general HTTP server.
    General,
    /// The worker that knows its session.
    Elsewhere(WorkerHandle),
    OpenPolling(Option<Ticket>),
    OpenWebSocket(Option<Ticket>, AcceptKey),
    Poll(ConnectionId),
    Post(ConnectionId),
    Probe(ConnectionId, AcceptKey),
}

/// An answer to such a request.
#[derive(Clone, Copy)]
pub(crate) enum DirectAnswer<'a> {
    /// A session was opened: its id, and the open packet.
    Opened(&'a Sid, &'a [u8]),
    /// As they are, though another client might have got them compressed.
    Packets { body: &'a [u8], varies: bool },
    /// In this coding.
    Compressed(&'a [u8], &'static str),
    /// A POST was handed over.
    Taken,
    /// Two requests of a session at once, or the end of the session under one.
    Refused { close: bool },
}

/// Reads the head of a request.
pub(crate) fn parse_head<'a>(data: &'a [u8], headers: &'a mut [httparse::Header<'a>]) -> Parsed<'a> {
    let mut request = httparse::Request::new(headers);
    let length = match request.parse(data) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Parsed::Partial,
        // Broken, or more headers than usual.
        Err(_) => return Parsed::General,
    };
    let (Some(method), Some(target), Some(1)) = (request.method, request.path, request.version) else {
        return Parsed::General;
    };
    let is_post = match method {
        "GET" => false,
        "POST" => true,
        _ => return Parsed::General,
    };
    let is_plain =
        |byte: u8| matches!(byte, b'!' | b'$'..=b';' | b'=' | b'?'..=b'[' | b']' | b'_' | b'a'..=b'z' | b'~');
    if !target.starts_with('/') || !target.bytes().all(is_plain) {
        return Parsed::General;
    }
    let (mut body, mut connection_upgrades, mut upgrades) = (None, false, false);
    for header in &*request.headers {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        match header.name.len() {
            6 if is("expect") => return Parsed::General,
            7 if is("upgrade") => {
                if !header.value.eq_ignore_ascii_case(b"websocket") {
                    return Parsed::General;
                }
                upgrades = true;
            }
            10 if is("connection") => {
                for token in header.value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                    if token.eq_ignore_ascii_case(b"upgrade") {
                        connection_upgrades = true;
                    } else if !token.eq_ignore_ascii_case(b"keep-alive") {
                        return Parsed::General;
                    }
                }
            }
            14 if is("content-length") => {
                let digits =
                    std::str::from_utf8(header.value).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
                match (digits.and_then(|digits| digits.parse::<usize>().ok()), body) {
                    (Some(length), None) => body = Some(length),
                    _ => return Parsed::General,
                }
            }
            // Ages ago browsers took packets for scripts; their answers have a header more.
            10 if is("user-agent") && header.value.windows(4).any(|part| part == b"MSIE" || part == b"Trid") => {
                return Parsed::General;
            }
            12 if is("content-type") && header.value.eq_ignore_ascii_case(b"application/octet-stream") => {
                return Parsed::General;
            }
            17 if is("transfer-encoding") => return Parsed::General,
            _ => {}
        }
    }
    if upgrades != connection_upgrades || upgrades && is_post || is_post != body.is_some() {
        return Parsed::General;
    }
    Parsed::Head(Head {
        is_post,
        is_upgrade: upgrades,
        target,
        headers: request.headers,
        length,
        body: body.unwrap_or(0),
    })
}

impl Head<'_> {
    /// The first header of that name, which is in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
    }

    /// All headers of that name, which is in lower case.
    pub(crate) fn headers(&self, name: &'static str) -> impl Iterator<Item = &[u8]> {
        let named = self.headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
        named.map(|header| header.value)
    }

    /// What is kept of it.
    pub(crate) fn request(&self, remote: SocketAddr) -> Request {
        let headers = self.headers.iter().map(|header| (header.name, header.value));
        Request::from_head(self.target, headers, Some(remote), false)
    }
}

impl Engine {
    /// The number of its application on every worker.
    pub(crate) fn app(&self) -> AppIndex {
        self.0.app
    }

    /// Who sees to a request.
    pub(crate) fn route(&self, local: &Local, head: &Head<'_>, remote: SocketAddr) -> Route {
        let config = &self.0.config;
        let (path, query) = head.target.split_once('?').unwrap_or((head.target, ""));
        if path != config.path || !config.hooks.is_empty() || local.has_ended(self.0.app) {
            return Route::General;
        }
        let query = Query::parse(query);
        let transport = match query.transport {
            TransportParam::Known(transport) if config.transports.contains(transport) => transport,
            TransportParam::Known(_) | TransportParam::Unknown => return Route::General,
        };
        let is_websocket = transport == Transport::WebSocket;
        if query.revision != Revision::V4 || query.base64 || is_websocket != head.is_upgrade || !self.takes_origin(head)
        {
            return Route::General;
        }
        let accept = if head.is_upgrade {
            match check_upgrade(|name| head.header(name)) {
                Ok(accept) => Some(accept),
                Err(_) => return Route::General,
            }
        } else {
            None
        };
        match query.sid {
            SidParam::Invalid => Route::General,
            SidParam::Absent if head.is_post => Route::General,
            SidParam::Absent => match self.0.gate.admit_silently(local.now(), Some(remote.ip())) {
                None => Route::General,
                Some(ticket) => match accept {
                    None => Route::OpenPolling(ticket),
                    Some(accept) => Route::OpenWebSocket(ticket, accept),
                },
            },
            SidParam::Sid(sid) => {
                let Some(worker) = self.0.worker_of(&sid) else { return Route::General };
                if !local.is(worker) {
                    return Route::Elsewhere(worker.clone());
                }
                let Some(facts) = local.session(self.0.app, &sid) else { return Route::General };
                if facts.wire.revision() != Revision::V4 {
                    return Route::General;
                }
                match accept {
                    Some(accept) if config.offers_upgrade() => Route::Probe(facts.id, accept),
                    None if facts.transport == Transport::Polling && !head.is_post => Route::Poll(facts.id),
                    None if facts.transport == Transport::Polling && local.takes_post(facts.id, head.body) => {
                        Route::Post(facts.id)
                    }
                    _ => Route::General,
                }
            }
        }
    }

    /// Whether the request's origin, if it has one, needs no refusal.
    fn takes_origin(&self, head: &Head<'_>) -> bool {
        let mut headers = HeaderMap::new();
        for header in head.headers {
            let name = if header.name.eq_ignore_ascii_case("origin") {
                ORIGIN
            } else if header.name.eq_ignore_ascii_case("host") && self.0.config.origins.is_some() {
                HOST
            } else {
                continue;
            };
            let Ok(value) = HeaderValue::from_bytes(header.value) else { return false };
            if name == ORIGIN && value.to_str().is_err() {
                return false;
            }
            if self.0.config.origins.is_some() {
                headers.append(name, value);
            }
        }
        match &self.0.config.origins {
            None => true,
            Some(origins) => head.target.parse::<Uri>().is_ok_and(|uri| origins.allow(&uri, &headers)),
        }
    }

    /// The answer that makes a connection a WebSocket.
    pub(crate) fn switching(
        &self,
        local: &Local,
        accept: &AcceptKey,
        head: &Head<'_>,
    ) -> (Vec<u8>, Option<DeflateTerms>) {
        // Room for the open packet behind it.
        let mut out = Vec::with_capacity(512);
        out.extend_from_slice(
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: ",
        );
        out.extend_from_slice(accept.as_str().as_bytes());
        out.extend_from_slice(b"\r\n");
        let deflate = self.agree(|| head.headers("sec-websocket-extensions"));
        if let Some(answer) = &deflate {
            out.extend_from_slice(format!("sec-websocket-extensions: {answer}\r\n").as_bytes());
        }
        self.write_cors(&mut out, head.header("origin").and_then(|origin| HeaderValue::from_bytes(origin).ok()));
        out.extend_from_slice(b"date: ");
        local.write_date(&mut out);
        out.extend_from_slice(b"\r\n\r\n");
        (out, deflate.map(|answer| answer.terms))
    }

    /// Writes an answer; `origin` is the request's.
    pub(crate) fn write_answer(
        &self,
        out: &mut Vec<u8>,
        origin: Option<HeaderValue>,
        answer: DirectAnswer<'_>,
        date: impl FnOnce(&mut Vec<u8>),
    ) {
        const PACKETS: &[u8] =
            b"HTTP/1.1 200 OK\r\ncontent-type: text/plain; charset=UTF-8\r\ncache-control: no-store\r\n";
        let body: &[u8] = match answer {
            DirectAnswer::Opened(sid, body) => {
                out.extend_from_slice(PACKETS);
                if let Some(cookie) = &self.0.config.cookie {
                    out.extend_from_slice(b"set-cookie: ");
                    out.extend_from_slice(cookie.header(sid).as_bytes());
                    out.extend_from_slice(b"\r\n");
                }
                body
            }
            DirectAnswer::Packets { body, varies } => {
                out.extend_from_slice(PACKETS);
                if varies {
                    out.extend_from_slice(b"vary: Accept-Encoding\r\n");
                }
                body
            }
            DirectAnswer::Compressed(body, coding) => {
                out.extend_from_slice(PACKETS);
                out.extend_from_slice(b"vary: Accept-Encoding\r\ncontent-encoding: ");
                out.extend_from_slice(coding.as_bytes());
                out.extend_from_slice(b"\r\n");
                body
            }
            DirectAnswer::Taken => {
                out.extend_from_slice(b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncache-control: no-store\r\n");
                b"ok"
            }
            DirectAnswer::Refused { close } => {
                out.extend_from_slice(b"HTTP/1.1 400 Bad Request\r\n");
                if close {
                    out.extend_from_slice(b"connection: close\r\n");
                }
                b""
            }
        };
        self.write_cors(out, origin);
        out.extend_from_slice(b"content-length: ");
        out.extend_from_slice(itoa::Buffer::new().format(body.len()).as_bytes());
        out.extend_from_slice(b"\r\ndate: ");
        date(out);
        out.extend_from_slice(b"\r\n\r\n");
        out.extend_from_slice(body);
    }

    fn write_cors(&self, out: &mut Vec<u8>, origin: Option<HeaderValue>) {
        let Some(cors) = &self.0.config.cors else { return };
        let (mut request, mut answer) = (HeaderMap::new(), HeaderMap::new());
        if let Some(origin) = origin {
            request.insert(ORIGIN, origin);
        }
        cors.apply(&request, &mut answer);
        for (name, value) in &answer {
            out.extend_from_slice(name.as_str().as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }
}
