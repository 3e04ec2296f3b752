//! Leases go on while something comes from the socket that has them: what its client says, and its answers to pings.
//!
//! A client that works on one long job says nothing but that, and pings have a pace of their own, which knows nothing of leases. So one that was
//! silent for two thirds of its shortest lease is pinged before its time, and its answer extends what it has.

use std::time::{Duration, Instant};

use posthaste_adapter::Member;
use posthaste_queue::Command;

use super::{Desk, Holder};
use crate::local::Local;
use crate::local::heartbeats::EARLIEST;

impl Holder {
    /// It has one more lease of this length: what comes extends it in time.
    pub(super) fn pace(&mut self, lease: Duration, now: Instant) {
        let every = (lease / 3).max(Duration::from_millis(10));
        if self.leases.is_empty() {
            self.touch_every = every;
            self.touch_at = now + every;
        } else {
            self.touch_every = self.touch_every.min(every);
            self.touch_at = self.touch_at.min(now + every);
        }
    }

    /// Whether it has leases that are extended.
    fn is_touched(&self) -> bool {
        self.consumers.values().any(|consumer| consumer.held > 0 && consumer.is_touched)
    }

    /// When it has been silent for two thirds of its shortest lease. For shorter leases than a second and a half that is too late.
    fn silent_at(&self) -> Instant {
        self.touch_at + self.touch_every.max(EARLIEST.saturating_sub(self.touch_every))
    }

    /// When to look whether it is silent, if nobody looks by then.
    fn look(&mut self) -> Option<Instant> {
        let at = self.silent_at();
        let is_sooner = self.look_at.is_none_or(|look_at| at < look_at);
        (is_sooner && self.is_touched()).then(|| *self.look_at.insert(at))
    }
}

impl Local {
    /// Something has come from a socket that has jobs: its leases go on, if it is time for that.
    pub(super) fn touch_jobs(&self, desk: &Desk, number: u32, member: Member) {
        let now = self.worker.now();
        if desk.with(member, |holder| now >= holder.touch_at) == Some(true) {
            self.touch_now(desk, number, member);
        }
    }

    /// A ping was answered. That is rare, and the next answer may come too late for a lease: it counts whenever it comes.
    pub(in crate::local) fn touch_now(&self, desk: &Desk, number: u32, member: Member) {
        let now = self.worker.now();
        let due = desk.with(member, |holder| {
            if holder.leases.is_empty() {
                return Vec::new();
            }
            holder.touch_at = now + holder.touch_every;
            let consumers = holder.consumers.iter().filter(|(_, consumer)| consumer.held > 0 && consumer.is_touched);
            consumers.map(|(id, _)| *id).collect()
        });
        for consumer in due.unwrap_or_default() {
            // Whether it could be is seen by whoever settles.
            drop(self.ask_queues(desk, number, Command::TouchAll(consumer)));
        }
    }

    /// Looks from now on whether a socket that has jobs is silent, as long as it has some.
    pub(super) fn watch_silence(&self, desk: &Desk, number: u32, member: Member) {
        let Some(first) = desk.with(member, Holder::look).flatten() else { return };
        let this = self.this.clone();
        tokio::task::spawn_local(async move {
            let mut next = Some(first);
            while let Some(at) = next {
                tokio::time::sleep_until(at.into()).await;
                let Some(this) = this.upgrade() else { return };
                next = this.end_silence(number, member, at);
            }
        });
    }

    /// Pings a socket that is silent. Returns when to look again.
    fn end_silence(&self, number: u32, member: Member, at: Instant) -> Option<Instant> {
        let namespace = self.namespace(number)?;
        let now = Instant::now();
        let looked = namespace.desk()?.with(member, |holder| {
            // It is looked at sooner, or there is another one in its place.
            if holder.look_at != Some(at) {
                return None;
            }
            holder.look_at = None;
            if !holder.is_touched() {
                return None;
            }
            let silent_at = holder.silent_at();
            let is_silent = silent_at <= now;
            let next = if is_silent { now + EARLIEST.max(holder.touch_every) } else { silent_at };
            holder.look_at = Some(next);
            Some((is_silent.then_some(holder.socket.0.connection), next))
        });
        let (silent, next) = looked.flatten()?;
        if let Some(connection) = silent {
            // Where one is on its way already, its answer does as well.
            self.worker.ping_early(connection);
        }
        Some(next)
    }
}
