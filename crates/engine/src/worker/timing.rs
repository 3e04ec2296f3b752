//! What time brings: pings, and the end of sessions that say nothing.

use std::time::Instant;

use super::connection::Farewell;
use super::wheel::Entry;
use super::{AppIndex, ConnectionId, Local};

/// A ping as the whole of a text frame.
const PING: &[u8] = b"\x81\x012";
/// The answer to a client's.
const PONG: &[u8] = b"\x81\x013";
/// Lists with room for so many are kept for the next tick.
const KEPT: usize = 1024;

/// Reused by every tick: what is due, each with the tick it was put down for, and whom to ping.
pub(super) type Ticking = (Vec<(u64, Entry)>, Vec<u32>);

/// Whether a connection is to be sent a ping.
pub(super) enum Beat {
    None,
    Ping,
    /// And its application wants to know.
    Followed(AppIndex),
}

impl Local {
    /// Has the wheel look at a connection when its session asks for it.
    pub(super) fn rearm(&self, id: ConnectionId) {
        if self.core.borrow_mut().rearm(id) {
            self.wheel_changed.notify_one();
        }
    }

    /// Time has passed.
    pub(super) fn tick(&self, now: Instant) {
        let (mut due, mut pinged) = self.due.take();
        self.core.borrow_mut().wheel.take_due(now, &mut due);
        for (tick, entry) in due.drain(..) {
            let id = ConnectionId { worker: self.mailbox.index, slot: entry.slot, generation: entry.generation };
            {
                let mut core = self.core.borrow_mut();
                let Some(connection) = core.get_mut(id) else {
                    drop(core);
                    self.http_waited(id, tick, now);
                    continue;
                };
                if connection.wheel_tick != Some(tick) {
                    continue; // an entry that was replaced by an earlier one
                }
                connection.wheel_tick = None;
            }
            match self.tick_one(id, now) {
                Beat::None => {}
                Beat::Ping => pinged.push(entry.slot),
                Beat::Followed(app) => self.ping_followed(id, app),
            }
        }
        self.ping(&pinged);
        pinged.clear();
        if due.capacity() <= KEPT {
            self.due.replace((due, pinged));
        }
        self.settle();
    }

    /// Does now what the wheel would do a little later: whoever asks for a session finds it as its deadline left it.
    pub(super) fn catch_up(&self, id: ConnectionId) {
        let now = self.now.get();
        let is_due = self.core.borrow().get(id).is_some_and(|connection| connection.session.deadline() <= now);
        if is_due {
            match self.tick_one(id, now) {
                Beat::None => {}
                Beat::Ping => self.ping(&[id.slot]),
                Beat::Followed(app) => self.ping_followed(id, app),
            }
            self.settle();
        }
    }

    /// Time has passed for one connection. Returns whether it is to be sent a ping.
    pub(super) fn tick_one(&self, id: ConnectionId, now: Instant) -> Beat {
        let (due, beat) = {
            let mut core = self.core.borrow_mut();
            let Some(connection) = core.get_mut(id) else { return Beat::None };
            let settings = &self.apps.borrow()[connection.app as usize].config.settings;
            if connection.paused {
                connection.session.excuse(now, settings);
            }
            let due = connection.session.tick(now, settings);
            let beat = match (due.ping, connection.followed) {
                (false, _) => Beat::None,
                (true, false) => Beat::Ping,
                (true, true) => Beat::Followed(connection.app),
            };
            (due, beat)
        };
        if due.close_probe {
            self.drop_probe(id);
        }
        if due.noop {
            self.answer_with_noop(id);
        }
        if let Some(reason) = due.close {
            self.end(id, reason, Farewell::Quiet);
            return Beat::None;
        }
        self.rearm(id);
        beat
    }

    /// Pings now, if a ping is not on its way already. Returns whether one is.
    pub(super) fn ping_early(&self, id: ConnectionId) -> bool {
        let app = {
            let mut core = self.core.borrow_mut();
            let Some(connection) = core.get_mut(id) else { return false };
            let settings = &self.apps.borrow()[connection.app as usize].config.settings;
            let pings = connection.session.ping_early(self.now.get(), settings);
            pings.then_some((connection.app, connection.followed))
        };
        let Some((app, is_followed)) = app else { return false };
        self.rearm(id);
        if is_followed {
            self.ping_followed(id, app)
        } else {
            self.ping(&[id.slot])
        }
        true
    }

    /// Pings one whose application wants to know: at once, so that nothing is sent in between.
    fn ping_followed(&self, id: ConnectionId, app: AppIndex) {
        self.ping(&[id.slot]);
        let app = self.apps.borrow()[usize::from(app)].app.clone();
        app.pinged(id);
    }

    /// Answers the ping of a client of revision 3.
    pub(super) fn answer_ping(&self, id: ConnectionId) {
        let staged = self.stage(PONG);
        self.deliver(&staged, std::iter::once(id.slot), false);
    }

    pub(super) fn ping(&self, slots: &[u32]) {
        if slots.is_empty() {
            return;
        }
        let staged = self.stage(PING);
        self.deliver(&staged, slots.iter().copied(), false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ping_is_a_packet_in_a_frame() {
        let mut frame = Vec::new();
        posthaste_websocket_proto::append_frame(&mut frame, posthaste_websocket_proto::Opcode::Text, b"2");
        assert_eq!(PING, frame);
        frame.clear();
        posthaste_websocket_proto::append_frame(&mut frame, posthaste_websocket_proto::Opcode::Text, b"3");
        assert_eq!(PONG, frame);
    }
}
