//! How a connection ends, or goes to somebody else.

use std::time::Instant;

use super::{HEAD_TIMEOUT, Http, State};
use crate::stream::Stream;
use crate::worker::wheel::Entry;
use crate::worker::{ConnectionId, Local, WorkerHandle, driver};

impl Local {
    /// The connection is gone, and what its request asked for with it.
    pub(super) fn lose_http(&self, id: ConnectionId) {
        match self.remove_http(id).map(|http| http.state) {
            Some(State::Polls { session, number }) => self.poll_aborted(session, number),
            Some(State::Reads { session, number, .. }) => self.post_dropped(session, number, true),
            Some(State::Waits | State::Posts) | None => {}
        }
    }

    /// Takes a connection out and gives its place up.
    pub(super) fn remove_http(&self, id: ConnectionId) -> Option<Box<Http>> {
        let mut core = self.core.borrow_mut();
        let http = core.take_http(id)?;
        core.free(id.slot);
        Some(http)
    }

    /// Writes the last of a connection and ends it in order.
    pub(super) fn finish_http(&self, id: ConnectionId, last: Vec<u8>) {
        let Some(http) = self.remove_http(id) else { return };
        let mut rest = http.output;
        rest.extend_from_slice(&last);
        driver::end_http(Stream::Direct(http.stream), rest);
    }

    /// Gives a connection with what was read of its next request to the general HTTP server.
    pub(super) fn generalize(&self, id: ConnectionId, rest: &[u8]) {
        let Some(http) = self.remove_http(id) else { return };
        let Http { stream, listening, remote, .. } = *http;
        (listening.general)(self.release(stream), rest.to_vec(), remote);
    }

    /// Gives a connection with what was read of its next request to the worker that knows its session.
    pub(super) fn move_http(&self, id: ConnectionId, worker: &WorkerHandle, rest: &[u8]) {
        let Some(http) = self.remove_http(id) else { return };
        let Http { stream, listening, remote, .. } = *http;
        let (stream, number, rest) = (self.release(stream), listening.number, rest.to_vec());
        // A worker that has ended has no sessions.
        let _ = worker.post(move |worker| worker.local().adopt_moved(number, stream, remote, &rest));
    }

    /// Has the wheel look at a connection that waits for a request, if it does not already.
    pub(super) fn rearm_http(&self, id: ConnectionId) {
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
    pub(in crate::worker) fn http_waited(&self, id: ConnectionId, tick: u64, now: Instant) {
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
    pub(in crate::worker) fn end_idle_http(&self) {
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
    pub(super) fn end_quiet_http(&self, id: ConnectionId) {
        let is_quiet = {
            let mut core = self.core.borrow_mut();
            let Some(http) = core.http(id) else { return };
            http.input.is_empty() && http.output.is_empty() && matches!(http.stream.peek(&mut [0]), Err(_) | Ok(0))
        };
        if is_quiet { drop(self.remove_http(id)) } else { self.finish_http(id, Vec::new()) }
    }
}
