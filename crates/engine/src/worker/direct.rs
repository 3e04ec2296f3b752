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

use std::cell::RefCell;
use std::io::Read;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::HeaderValue;
use mio::net::{TcpListener, TcpStream};
use posthaste_engine_proto::{ContentCoding, PostForm, Wire};

use super::connection::{Answer, Cut, Direct, Reply, StreamState};
use super::wheel::Entry;
use super::{ConnectionId, GetAnswer, Local, PostAnswer, driver};
use crate::http::compress::{self, Coded};
use crate::http::{DirectAnswer, Engine, Head, Parsed, Route, parse_head};
use crate::stream::{Stream, write_now};
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

    fn read_http(self: &Rc<Self>, id: ConnectionId, closed: bool) {
        self.serve(id, &[]);
        for _ in 0..4 {
            let mut scratch = driver::take_scratch(self);
            let read = {
                let mut core = self.core.borrow_mut();
                let Some(http) = core.http(id) else {
                    drop(core);
                    self.scratch.replace(scratch);
                    return;
                };
                let room = match http.state {
                    State::Reads { length, .. } => length + AHEAD,
                    _ => AHEAD,
                };
                if http.input.len() >= room {
                    http.held = true;
                    drop(core);
                    self.scratch.replace(scratch);
                    return;
                }
                http.stream.read(&mut scratch)
            };
            let is_over = match read {
                Ok(0) => {
                    self.lose_http(id);
                    true
                }
                Ok(count) => {
                    self.serve(id, &scratch[..count]);
                    count < scratch.len() && !closed
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => true,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => false,
                Err(_) => {
                    self.lose_http(id);
                    true
                }
            };
            self.scratch.replace(scratch);
            if is_over {
                return;
            }
        }
        self.core.borrow_mut().unread.push(id.slot);
    }

    /// Looks at what was read, now and before, as far as that can be answered.
    fn serve(self: &Rc<Self>, id: ConnectionId, data: &[u8]) {
        let before = {
            let mut core = self.core.borrow_mut();
            let Some(http) = core.http(id) else { return };
            if http.input.is_empty() { Vec::new() } else { std::mem::take(&mut http.input) }
        };
        if before.is_empty() {
            if !data.is_empty()
                && let Served::Kept(used) = self.serve_all(id, data)
                && used < data.len()
            {
                self.keep_input(id, data[used..].to_vec());
            }
            return;
        }
        let mut all = before;
        all.extend_from_slice(data);
        if let Served::Kept(used) = self.serve_all(id, &all) {
            all.drain(..used);
            if !all.is_empty() {
                self.keep_input(id, all);
            }
        }
    }

    fn keep_input(&self, id: ConnectionId, input: Vec<u8>) {
        if let Some(http) = self.core.borrow_mut().http(id) {
            http.input = input;
        }
    }

    fn serve_all(self: &Rc<Self>, id: ConnectionId, data: &[u8]) -> Served {
        let mut used = 0;
        while used < data.len() {
            let (state, listening) = {
                let mut core = self.core.borrow_mut();
                let Some(http) = core.http(id) else { return Served::Taken };
                if !http.output.is_empty() {
                    return Served::Kept(used);
                }
                (http.state, http.listening.clone())
            };
            match state {
                State::Waits => {}
                State::Reads { session, length, .. } => {
                    if data.len() - used < length {
                        return Served::Kept(used);
                    }
                    self.post_whole(id, session, data[used..used + length].to_vec());
                    used += length;
                    continue;
                }
                State::Polls { .. } | State::Posts => return Served::Kept(used),
            }
            let rest = &data[used..];
            let mut headers = [httparse::EMPTY_HEADER; 32];
            match parse_head(rest, &mut headers) {
                Parsed::Partial if rest.len() <= HEAD_BYTES => return Served::Kept(used),
                Parsed::Partial | Parsed::General => {
                    self.generalize(id, rest);
                    return Served::Taken;
                }
                Parsed::Head(head) => match self.answer(id, &listening.engine, &head, rest) {
                    Served::Kept(length) => used += length,
                    Served::Taken => return Served::Taken,
                },
            }
        }
        Served::Kept(used)
    }

    /// Sees to one request, whose head is at the beginning of `rest`.
    fn answer(self: &Rc<Self>, id: ConnectionId, engine: &Engine, head: &Head<'_>, rest: &[u8]) -> Served {
        let remote = {
            let mut core = self.core.borrow_mut();
            let Some(http) = core.http(id) else { return Served::Taken };
            http.remote
        };
        match engine.route(self, head, remote) {
            Route::General => {
                self.generalize(id, rest);
                Served::Taken
            }
            Route::Elsewhere(worker) => {
                self.move_http(id, &worker, rest);
                Served::Taken
            }
            Route::OpenPolling(ticket) => {
                self.note_origin(id, engine, head);
                let request = Arc::new(head.request(remote));
                let Some((sid, body)) = self.open_polling(engine.app(), request, Wire::V4, ticket) else {
                    drop(self.remove_http(id));
                    return Served::Taken;
                };
                self.respond(id, engine, DirectAnswer::Opened(&sid, &body));
                Served::Kept(head.length)
            }
            Route::Poll(session) => {
                self.note_origin(id, engine, head);
                self.note_coding(id, engine, head);
                self.set_http(id, State::Polls { session, number: 0 });
                let reply = Reply::Direct(self.direct(id));
                if let Some(number) = self.poll(session, reply)
                    && let Some(http) = self.core.borrow_mut().http(id)
                    && let State::Polls { number: noted, .. } = &mut http.state
                {
                    *noted = number;
                }
                Served::Kept(head.length)
            }
            Route::Post(session) => {
                self.note_origin(id, engine, head);
                let answers = self.core.borrow().answers.clone();
                let Ok((number, _)) = self.post_begin(session, Cut::Direct(id, answers)) else {
                    self.set_http(id, State::Posts);
                    self.core.borrow().answers.borrow_mut().push_back((id, Answer::Post(PostAnswer::Overlap)));
                    return Served::Kept(head.length);
                };
                self.set_http(id, State::Reads { session, number, length: head.body });
                if rest.len() >= head.length + head.body {
                    self.post_whole(id, session, rest[head.length..head.length + head.body].to_vec());
                    return Served::Kept(head.length + head.body);
                }
                Served::Kept(head.length)
            }
            Route::OpenWebSocket(ticket, accept) => {
                let request = Arc::new(head.request(remote));
                let (answer, deflate) = engine.switching(self, &accept, head);
                let Some(http) = ({ self.core.borrow_mut().take_http(id) }) else { return Served::Taken };
                let stream = StreamState::new(Stream::Direct(http.stream), deflate, None);
                let opened = self.open_on(engine.app(), request, Wire::V4, ticket, (stream, Some(id.slot)), answer);
                if let Some(websocket) = opened {
                    self.read_leftover(websocket, &rest[head.length..]);
                }
                Served::Taken
            }
            Route::Probe(session, accept) => {
                let (answer, deflate) = engine.switching(self, &accept, head);
                let Some(http) = ({ self.core.borrow_mut().take_http(id) }) else { return Served::Taken };
                let mut stream = StreamState::new(Stream::Direct(http.stream), deflate, None);
                // A fresh socket takes a few bytes.
                if !matches!(stream.write(&answer), Ok(written) if written == answer.len()) {
                    self.core.borrow_mut().free(id.slot);
                    return Served::Taken;
                }
                if let Some(probe) = self.probe_on(session, stream, Some(id.slot)) {
                    self.read_leftover(probe, &rest[head.length..]);
                }
                Served::Taken
            }
        }
    }

    fn direct(&self, id: ConnectionId) -> Direct {
        Direct::new(id, self.core.borrow().answers.clone())
    }

    fn set_http(&self, id: ConnectionId, state: State) {
        if let Some(http) = self.core.borrow_mut().http(id) {
            http.state = state;
        }
    }

    fn note_origin(&self, id: ConnectionId, engine: &Engine, head: &Head<'_>) {
        if engine.config().cors.is_some()
            && let Some(http) = self.core.borrow_mut().http(id)
        {
            http.origin = head.header("origin").and_then(|origin| HeaderValue::from_bytes(origin).ok());
        }
    }

    /// Reads what a poll's client can read: by the time of the answer its head is gone.
    fn note_coding(&self, id: ConnectionId, engine: &Engine, head: &Head<'_>) {
        if engine.config().http_compression.is_some() {
            let coding = compress::coding(|| head.headers("accept-encoding"));
            if let Some(http) = self.core.borrow_mut().http(id) {
                http.coding = coding;
            }
        }
    }

    /// Answers a poll, compressed if that is worth it and its client reads that.
    fn respond_packets(
        &self,
        id: ConnectionId,
        engine: &Engine,
        body: &[u8],
        may_compress: bool,
        coding: ContentCoding,
    ) {
        let Coded { compressed, varies } = engine.config().coded(body, may_compress, || coding);
        match &compressed {
            Some((compressed, token)) => self.respond(id, engine, DirectAnswer::Compressed(compressed, token)),
            None => self.respond(id, engine, DirectAnswer::Packets { body, varies }),
        }
    }

    fn post_whole(&self, id: ConnectionId, session: ConnectionId, body: Vec<u8>) {
        self.set_http(id, State::Posts);
        self.post(session, (PostForm::Text, body), Reply::Direct(self.direct(id)));
    }

    /// Sends the answers that are ready. What waits behind the requests is looked at in the next turn.
    pub(super) fn send_answers(&self) {
        loop {
            let next = { self.core.borrow().answers.borrow_mut().pop_front() };
            let Some((id, answer)) = next else { return };
            let (listening, coding) = {
                let mut core = self.core.borrow_mut();
                let Some(http) = core.http(id) else { continue };
                match (http.state, &answer) {
                    (State::Polls { .. }, Answer::Get(_) | Answer::None)
                    | (State::Posts, Answer::Post(_) | Answer::None)
                    | (State::Reads { .. }, Answer::Cut) => {}
                    // The session was done with a request that came to its end by itself.
                    _ => continue,
                }
                (http.listening.clone(), http.coding)
            };
            let engine = &listening.engine;
            match answer {
                // Clients of revision 3, whose bodies may be binary, are not served here.
                Answer::Get(GetAnswer::Body(body, may_compress) | GetAnswer::Binary(body, may_compress)) => {
                    self.respond_packets(id, engine, &body, may_compress, coding);
                }
                Answer::Post(PostAnswer::Ok) => self.respond(id, engine, DirectAnswer::Taken),
                Answer::Get(GetAnswer::Overlap) | Answer::Post(PostAnswer::Overlap) | Answer::None => {
                    self.respond(id, engine, DirectAnswer::Refused { close: false });
                }
                Answer::Cut => self.respond(id, engine, DirectAnswer::Refused { close: true }),
            }
        }
    }

    /// Answers the request of a connection, which then waits for the next.
    fn respond(&self, id: ConnectionId, engine: &Engine, answer: DirectAnswer<'_>) {
        let closes = matches!(answer, DirectAnswer::Refused { close: true });
        let mut out = self.answer.take();
        out.clear();
        let now = self.now.get();
        {
            let mut core = self.core.borrow_mut();
            let Some(http) = core.http(id) else { return };
            engine.write_answer(&mut out, http.origin.take(), answer, |out| self.date.append_to(out, now));
            http.state = State::Waits;
            http.since = now;
            if !http.input.is_empty() || std::mem::take(&mut http.held) {
                core.unread.push(id.slot);
            }
        }
        if closes {
            return self.finish_http(id, out);
        }
        self.write_http(id, &out);
        if out.capacity() <= driver::SCRATCH {
            self.answer.replace(out);
        }
        let is_closing = {
            let mut core = self.core.borrow_mut();
            core.http(id).is_some_and(|http| http.listening.is_closed())
        };
        if is_closing || self.stopping.get().is_some() {
            return self.finish_http(id, Vec::new());
        }
        self.rearm_http(id);
        if !self.core.borrow().unread.is_empty() {
            self.want_turn();
        }
    }

    /// Writes what waits and `more` behind it, as far as the socket takes it. Returns whether the connection is still there.
    fn write_http(self: &Local, id: ConnectionId, more: &[u8]) -> bool {
        let mut core = self.core.borrow_mut();
        let Some(http) = core.http(id) else { return false };
        let had = !http.output.is_empty();
        if had {
            http.output.extend_from_slice(more);
        }
        let waits = std::mem::take(&mut http.output);
        let all = if had { &waits[..] } else { more };
        let Ok(written) = write_now(&mut http.stream, all) else {
            drop(core);
            self.lose_http(id);
            return false;
        };
        http.output = all[written..].to_vec();
        if had && http.output.is_empty() && !http.input.is_empty() {
            // What came behind the request was left until its answer had gone.
            core.unread.push(id.slot);
            drop(core);
            self.want_turn();
        }
        true
    }

    /// The connection is gone, and what its request asked for with it.
    fn lose_http(&self, id: ConnectionId) {
        match self.remove_http(id).map(|http| http.state) {
            Some(State::Polls { session, number }) => self.poll_aborted(session, number),
            Some(State::Reads { session, number, .. }) => self.post_dropped(session, number, true),
            Some(State::Waits | State::Posts) | None => {}
        }
    }

    /// Takes a connection out and gives its place up.
    fn remove_http(&self, id: ConnectionId) -> Option<Box<Http>> {
        let mut core = self.core.borrow_mut();
        let http = core.take_http(id)?;
        core.free(id.slot);
        Some(http)
    }

    /// Writes the last of a connection and ends it in order.
    fn finish_http(&self, id: ConnectionId, last: Vec<u8>) {
        let Some(http) = self.remove_http(id) else { return };
        let mut rest = http.output;
        rest.extend_from_slice(&last);
        driver::end_http(Stream::Direct(http.stream), rest);
    }

    /// Gives a connection with what was read of its next request to the general HTTP server.
    fn generalize(&self, id: ConnectionId, rest: &[u8]) {
        let Some(http) = self.remove_http(id) else { return };
        let Http { stream, listening, remote, .. } = *http;
        (listening.general)(self.release(stream), rest.to_vec(), remote);
    }

    /// Gives a connection with what was read of its next request to the worker that knows its session.
    fn move_http(&self, id: ConnectionId, worker: &WorkerHandle, rest: &[u8]) {
        let Some(http) = self.remove_http(id) else { return };
        let Http { stream, listening, remote, .. } = *http;
        let (stream, number, rest) = (self.release(stream), listening.number, rest.to_vec());
        // A worker that has ended has no sessions.
        let _ = worker.post(move |worker| worker.local().adopt_moved(number, stream, remote, &rest));
    }

    /// Has the wheel look at a connection that waits for a request, if it does not already.
    fn rearm_http(&self, id: ConnectionId) {
        let mut core = self.core.borrow_mut();
        let Some(at) = core.http(id).filter(|http| http.wheel_tick.is_none()).map(|http| http.since + HEAD_TIMEOUT)
        else {
            return;
        };
        let tick = core.wheel.insert(Entry { slot: id.slot, generation: id.generation }, at);
        if let Some(http) = core.http(id) {
            http.wheel_tick = Some(tick);
        }
        drop(core);
        self.wheel_changed.notify_one();
    }

    /// The wheel looks at a connection: has it waited for a request too long?
    pub(super) fn http_waited(&self, id: ConnectionId, tick: u64, now: Instant) {
        let is_over = {
            let mut core = self.core.borrow_mut();
            let Some(http) = core.http(id).filter(|http| http.wheel_tick == Some(tick)) else { return };
            http.wheel_tick = None;
            match http.state {
                State::Waits => now.saturating_duration_since(http.since) >= HEAD_TIMEOUT,
                // Its session's heartbeat ends it; the wheel is asked again when it waits.
                State::Polls { .. } | State::Reads { .. } | State::Posts => return,
            }
        };
        if is_over { drop(self.remove_http(id)) } else { self.rearm_http(id) }
    }

    /// Ends the connections that wait for a request and will not be answered.
    pub(super) fn end_idle_http(&self) {
        let all = self.core.borrow().https();
        for id in all {
            let ends = {
                let mut core = self.core.borrow_mut();
                core.http(id).is_some_and(|http| {
                    (http.listening.is_closed() || self.stopping.get().is_some()) && matches!(http.state, State::Waits)
                })
            };
            if ends {
                self.end_quiet_http(id);
            }
        }
    }

    /// Ends a connection that waits for a request. If none has begun, nothing is under way that closing could cut off: there is no
    /// goodbye to wait for.
    fn end_quiet_http(&self, id: ConnectionId) {
        let is_quiet = {
            let mut core = self.core.borrow_mut();
            let Some(http) = core.http(id) else { return };
            http.input.is_empty() && http.output.is_empty() && matches!(http.stream.peek(&mut [0]), Err(_) | Ok(0))
        };
        if is_quiet { drop(self.remove_http(id)) } else { self.finish_http(id, Vec::new()) }
    }
}
