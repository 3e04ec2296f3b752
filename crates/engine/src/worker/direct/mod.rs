//! HTTP connections of the worker's own reactor.
//!
//! The usual requests of Engine.IO are answered here, where they are read, without a task. Whatever is the least bit unusual goes to
//! the general HTTP server with every byte that was read, which answers it and everything that follows on that connection: so there
//! is one place for refusals, hooks and odd requests, and this one only has to know that a request is none of them.
//!
//! ```text
//!   accept ─► Http ─┬─ open, poll, post ─► the session ─► Answer ─► written at the end of the turn ─► the next request
//!                   ├─ upgrade ─────────► 101, and a WebSocket or a probe in the same place
//!                   ├─ a session of another worker ─► the connection moves there
//!                   └─ anything else ───► the general HTTP server
//! ```

mod answers;
mod ending;
mod requests;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::HeaderValue;
use mio::net::{TcpListener, TcpStream};
use posthaste_engine_proto::ContentCoding;

use super::{ConnectionId, Local, driver};
use crate::http::Engine;
use crate::worker::WorkerHandle;

/// How long a client may take to send the head of a request.
pub(crate) const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// The bound of a request's head.
pub(crate) const HEAD_BYTES: usize = 16 * 1024;
/// What may wait to be read behind a request that is being answered.
const AHEAD: usize = driver::SCRATCH;

/// Takes a connection over with the bytes that were read from it.
type General = Box<dyn Fn(std::net::TcpStream, Vec<u8>, SocketAddr)>;

/// A socket that connections are accepted from.
pub(crate) struct Listening {
    /// Names it on all workers.
    pub(crate) number: u64,
    /// Its place in this worker's reactor.
    pub(super) place: usize,
    /// Absent once it accepts no more, though its connections may go on.
    pub(super) socket: RefCell<Option<TcpListener>>,
    pub(super) engine: Engine,
    pub(super) general: General,
}

impl Listening {
    /// A socket whose connections `engine` answers, and `general` where they ask for something unusual.
    pub(crate) fn new(
        number: u64,
        socket: std::net::TcpListener,
        engine: Engine,
        general: impl Fn(std::net::TcpStream, Vec<u8>, SocketAddr) + 'static,
    ) -> Self {
        Self {
            number,
            place: 0,
            socket: RefCell::new(Some(TcpListener::from_std(socket))),
            engine,
            general: Box::new(general),
        }
    }
}

impl Listening {
    /// Whether it accepts no more.
    fn is_closed(&self) -> bool {
        self.socket.borrow().is_none()
    }
}

/// An HTTP connection.
pub(super) struct Http {
    stream: TcpStream,
    listening: Rc<Listening>,
    remote: SocketAddr,
    /// What was read and not looked at yet: the beginning of a request, or what came behind one that is being answered.
    input: Vec<u8>,
    /// What the socket has not taken of an answer.
    output: Vec<u8>,
    state: State,
    /// Whether more may be there to be read than is held.
    held: bool,
    /// The request's, where the answer depends on it.
    origin: Option<HeaderValue>,
    /// What the client of a poll can read.
    coding: ContentCoding,
    /// Since when it waits for a request.
    since: Instant,
    /// The tick of its entry in the wheel.
    wheel_tick: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Waits for a request, or for the rest of its head.
    Waits,
    /// A GET waits for packets.
    Polls { session: ConnectionId, number: u64 },
    /// The body of a POST is being read.
    Reads { session: ConnectionId, number: u64, length: usize },
    /// A POST waits for its packets to be handed over.
    Posts,
}

/// Where the bytes of a connection are after they were looked at.
enum Served {
    /// So many were used; the rest waits.
    Kept(usize),
    /// They went with the connection, or into it.
    Taken,
}

/// The text of the time, made once a second.
#[derive(Default)]
pub(super) struct Date(RefCell<Option<(Instant, String)>>);

impl Date {
    fn append_to(&self, out: &mut Vec<u8>, now: Instant) {
        let mut date = self.0.borrow_mut();
        let is_fresh = date.as_ref().is_some_and(|(at, _)| now.saturating_duration_since(*at) < Duration::from_secs(1));
        if !is_fresh {
            *date = Some((now, httpdate::fmt_http_date(SystemTime::now())));
        }
        let (_, text) = date.as_ref().expect("invariant: it was just made");
        out.extend_from_slice(text.as_bytes());
    }
}

impl Local {
    /// The time of this turn.
    pub(crate) fn now(&self) -> Instant {
        self.now.get()
    }

    /// Whether this is the worker of `handle`.
    pub(crate) fn is(&self, handle: &WorkerHandle) -> bool {
        Arc::ptr_eq(&self.mailbox, &handle.0)
    }

    /// Whether a session takes a POST of that size.
    pub(crate) fn takes_post(&self, id: ConnectionId, length: usize) -> bool {
        let core = self.core.borrow();
        let Some(connection) = core.get(id) else { return false };
        length <= self.apps.borrow()[connection.app as usize].config.payload_of(connection.vouched)
    }

    pub(crate) fn write_date(&self, out: &mut Vec<u8>) {
        self.date.append_to(out, self.now.get());
    }

    /// Takes an HTTP connection, with what was read of it already.
    pub(super) fn adopt(
        self: &Rc<Self>,
        listening: &Rc<Listening>,
        stream: TcpStream,
        remote: SocketAddr,
        read: &[u8],
    ) {
        let http = Http {
            stream,
            listening: listening.clone(),
            remote,
            input: read.to_vec(),
            output: Vec::new(),
            state: State::Waits,
            held: false,
            origin: None,
            coding: ContentCoding::Identity,
            since: self.now.get(),
            wheel_tick: None,
        };
        let id = self.core.borrow_mut().place_http(http);
        let registered = {
            let mut core = self.core.borrow_mut();
            core.http(id).map(|http| self.register(&mut http.stream, id.slot))
        };
        if let Some(Err(error)) = registered {
            tracing::warn!(%error, "a connection could not be registered");
            return drop(self.remove_http(id));
        }
        self.rearm_http(id);
        if !read.is_empty() {
            // It came by mail: looked at once all mail is applied, for what it provokes may know of what was posted behind it.
            self.core.borrow_mut().unread.push(id.slot);
        }
    }

    /// As [`Local::adopt`], for a connection that another worker accepted from the same listener.
    fn adopt_moved(self: &Rc<Self>, number: u64, stream: std::net::TcpStream, remote: SocketAddr, read: &[u8]) {
        let listening = self.listening.borrow().iter().find(|listening| listening.number == number).cloned();
        // Closed meanwhile: like a connection that had not sent its request yet.
        let Some(listening) = listening else { return };
        self.adopt(&listening, TcpStream::from_std(stream), remote, read);
        self.settle();
    }

    pub(super) fn http_news(self: &Rc<Self>, id: ConnectionId, readable: bool, writable: bool, closed: bool) {
        if writable && !self.write_http(id, &[]) {
            return;
        }
        if readable {
            self.read_http(id, closed);
        }
    }
}
