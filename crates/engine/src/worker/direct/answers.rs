//! What requests are answered with.

use posthaste_engine_proto::ContentCoding;

use super::State;
use crate::http::compress::Coded;
use crate::http::{DirectAnswer, Engine};
use crate::stream::write_now;
use crate::worker::connection::Answer;
use crate::worker::{ConnectionId, GetAnswer, Local, PostAnswer, driver};

impl Local {
    /// Sends the answers that are ready. What waits behind the requests is looked at in the next turn.
    pub(in crate::worker) fn send_answers(&self) {
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

    /// Answers a poll, compressed if that is worth it and its client reads that.
    pub(super) fn respond_packets(
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

    /// Answers the request of a connection, which then waits for the next.
    pub(super) fn respond(&self, id: ConnectionId, engine: &Engine, answer: DirectAnswer<'_>) {
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
    pub(super) fn write_http(self: &Local, id: ConnectionId, more: &[u8]) -> bool {
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
}
