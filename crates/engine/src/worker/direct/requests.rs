//! What is read of a connection, a request at a time.

use std::io::Read;
use std::rc::Rc;
use std::sync::Arc;

use http::HeaderValue;
use posthaste_engine_proto::{PostForm, Wire};

use super::{AHEAD, HEAD_BYTES, Served, State};
use crate::http::{DirectAnswer, Engine, Head, Parsed, Route, compress, parse_head};
use crate::stream::Stream;
use crate::worker::connection::{Answer, Cut, Direct, Reply, StreamState};
use crate::worker::{ConnectionId, Local, PostAnswer, driver};

impl Local {
    pub(super) fn read_http(self: &Rc<Self>, id: ConnectionId, closed: bool) {
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
    pub(super) fn serve(self: &Rc<Self>, id: ConnectionId, data: &[u8]) {
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

    pub(super) fn keep_input(&self, id: ConnectionId, input: Vec<u8>) {
        if let Some(http) = self.core.borrow_mut().http(id) {
            http.input = input;
        }
    }

    pub(super) fn serve_all(self: &Rc<Self>, id: ConnectionId, data: &[u8]) -> Served {
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
    pub(super) fn answer(self: &Rc<Self>, id: ConnectionId, engine: &Engine, head: &Head<'_>, rest: &[u8]) -> Served {
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

    pub(super) fn direct(&self, id: ConnectionId) -> Direct {
        Direct::new(id, self.core.borrow().answers.clone())
    }

    pub(super) fn set_http(&self, id: ConnectionId, state: State) {
        if let Some(http) = self.core.borrow_mut().http(id) {
            http.state = state;
        }
    }

    pub(super) fn note_origin(&self, id: ConnectionId, engine: &Engine, head: &Head<'_>) {
        if engine.config().cors.is_some()
            && let Some(http) = self.core.borrow_mut().http(id)
        {
            http.origin = head.header("origin").and_then(|origin| HeaderValue::from_bytes(origin).ok());
        }
    }

    /// Reads what a poll's client can read: by the time of the answer its head is gone.
    pub(super) fn note_coding(&self, id: ConnectionId, engine: &Engine, head: &Head<'_>) {
        if engine.config().http_compression.is_some() {
            let coding = compress::coding(|| head.headers("accept-encoding"));
            if let Some(http) = self.core.borrow_mut().http(id) {
                http.coding = coding;
            }
        }
    }

    pub(super) fn post_whole(&self, id: ConnectionId, session: ConnectionId, body: Vec<u8>) {
        self.set_http(id, State::Posts);
        self.post(session, (PostForm::Text, body), Reply::Direct(self.direct(id)));
    }
}
