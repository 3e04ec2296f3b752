//! What the connections do, as plain state machines over a [`Wire`]: real sockets, or a test's own and its clock.

pub(crate) mod broadcast;
pub(crate) mod connect;
pub(crate) mod echo;
#[cfg(test)]
mod fake;
pub(crate) mod recover;
mod returns;
pub(crate) mod rooms;
pub(crate) mod storm;

use crate::client::Session;
use crate::failure::Failure;

/// What a scenario can do. Connections are numbered from 0; times are nanoseconds of the run's clock.
pub(crate) trait Wire {
    /// The time of the last look at the clock, which every read is.
    fn now(&self) -> u64;
    /// Handshakes under way.
    fn shaking(&self) -> usize;
    /// Whether connection `id` has joined.
    fn is_ready(&self, id: usize) -> bool;
    fn random(&mut self) -> u64;
    /// Sends an Engine.IO packet; to nobody if the connection is not there.
    fn send(&mut self, id: usize, packet: &[u8]);
    /// Opens connection `id`, anew if it is there; `since` is when that was due.
    fn open(&mut self, id: usize, since: u64);
    /// As [`Wire::open`], for a client that was there before.
    fn open_again(&mut self, id: usize, since: u64, session: &Session);
    /// Ends connection `id`, as a lost network does.
    fn cut(&mut self, id: usize);
}

/// What happens to it.
pub(crate) trait Scenario {
    /// The server lets connection `id` in, and says this; [`Scenario::ready`] comes next.
    fn welcomed(&mut self, id: usize, reply: &str) {
        let _ = (id, reply);
    }
    /// Connection `id`, whose opening was due at `since`, has joined.
    fn ready<W: Wire>(&mut self, wire: &mut W, id: usize, since: u64) {
        let _ = (wire, id, since);
    }
    /// An event or an answer came, from the Socket.IO type digit on.
    fn packet<W: Wire>(&mut self, wire: &mut W, id: usize, packet: &str);
    /// Connection `id` is gone.
    fn lost<W: Wire>(&mut self, wire: &mut W, id: usize, failure: &Failure) {
        let _ = (wire, id, failure);
    }
    /// Does what is due; returns when to be called again at the latest.
    fn tick<W: Wire>(&mut self, wire: &mut W) -> Option<u64> {
        let _ = wire;
        None
    }
    /// Operations that have come to their end.
    fn done(&self) -> u64;
    /// Operations that have begun, or should have. Looked at a few times a second.
    fn unfinished(&self) -> u64 {
        0
    }
}

/// The span in which operations count, in nanoseconds of the run's clock: `from` included, `until` not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) from: u64,
    pub(crate) until: u64,
}

impl Window {
    /// Nothing counts.
    pub(crate) const CLOSED: Self = Self { from: u64::MAX, until: u64::MAX };

    pub(crate) fn holds(self, at: u64) -> bool {
        (self.from..self.until).contains(&at)
    }

    /// How many of `count` operations, evenly from `first` to `last`, lie within.
    pub(crate) fn share(self, first: u64, last: u64, count: u64) -> u64 {
        if count <= 1 || first >= last {
            return if self.holds(first) { count } else { 0 };
        }
        let step = (last - first) as f64 / (count - 1) as f64;
        let before = |end: u64| ((end.saturating_sub(first) as f64 / step).ceil() as u64).min(count);
        before(self.until) - before(self.from)
    }
}
