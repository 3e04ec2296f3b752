//! What an answered ping says: everything that was sent before it has reached the client.

use std::rc::Rc;
use std::time::{Duration, Instant};

use posthaste_adapter::Member;
use posthaste_engine::ConnectionId;
use smallvec::SmallVec;

use super::{Handle, Local, LocalNamespace};

/// Pings that come early are no more often than this.
pub(super) const EARLIEST: Duration = Duration::from_secs(1);

/// How far a client is known to have come, in an inbox where pongs tell. A value.
#[derive(Debug)]
pub(super) struct Pongs {
    /// What had been sent when the last ping was; nothing if that was answered.
    pinged: Option<u64>,
    confirmed: u64,
    /// When it may be pinged again before its time.
    next: Instant,
    /// Whether somebody waits for that.
    pub(super) is_waiting: bool,
}

impl Pongs {
    pub(super) const fn new(now: Instant) -> Self {
        Self { pinged: None, confirmed: 0, next: now, is_waiting: false }
    }

    /// A ping follows everything up to `sent`.
    pub(super) fn ping(&mut self, sent: u64, now: Instant) {
        self.pinged = Some(sent);
        self.next = now + EARLIEST;
    }

    /// The ping was answered. Returns up to where it is known to be, if that is farther than before.
    pub(super) fn pong(&mut self) -> Option<u64> {
        let pinged = self.pinged.take().filter(|pinged| *pinged > self.confirmed)?;
        self.confirmed = pinged;
        Some(pinged)
    }

    /// When to ping early, if something up to `sent` is not confirmed and nobody waits for that already.
    pub(super) fn wait(&mut self, sent: u64) -> Option<Instant> {
        if sent <= self.confirmed || self.is_waiting {
            return None;
        }
        self.is_waiting = true;
        Some(self.next)
    }
}

impl Local {
    fn tracked_by(&self, id: ConnectionId) -> SmallVec<[(Rc<LocalNamespace>, Member); 1]> {
        let handles = self.with_client(id, |client| client.connection.iter().map(|(_, handle)| *handle).collect());
        let handles: SmallVec<[Handle; 2]> = handles.unwrap_or_default();
        handles.into_iter().filter_map(|handle| Some((self.namespace(handle.namespace)?, handle.member))).collect()
    }

    pub(super) fn note_ping(&self, id: ConnectionId) {
        for (namespace, member) in self.tracked_by(id) {
            if let Some(tracking) = &namespace.tracking {
                tracking.pinged(member);
                tracking.inboxes.pinged(member, Instant::now());
            }
        }
    }

    pub(super) fn note_pong(&self, id: ConnectionId) {
        for (namespace, member) in self.tracked_by(id) {
            if let Some(tracking) = &namespace.tracking {
                tracking.ponged(member);
                self.confirm_inbox(&namespace, member);
            }
            if let Some(desk) = &namespace.desk {
                self.touch_now(desk, namespace.shared.number(), member);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pong_confirms_what_was_sent_before_its_ping() {
        let start = Instant::now();
        let mut pongs = Pongs::new(start);
        assert_eq!((pongs.pong(), pongs.wait(0)), (None, None));
        assert_eq!(pongs.wait(5), Some(start));
        assert_eq!(pongs.wait(6), None, "somebody does");
        pongs.is_waiting = false;
        pongs.ping(6, start);
        assert_eq!(pongs.wait(7), Some(start + EARLIEST));
        assert_eq!((pongs.pong(), pongs.pong()), (Some(6), None));
        pongs.ping(6, start);
        assert_eq!(pongs.pong(), None, "nothing new");
    }
}
