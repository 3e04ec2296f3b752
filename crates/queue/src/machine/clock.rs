//! What has to be done when.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use posthaste_history::store::Timestamp;

use super::lease::Lease;
use super::slab::Slab;
use crate::port::MessageId;

/// What has to be done when.
#[derive(Default)]
pub(super) struct Clock {
    /// Leases to be looked at. Entries may be out of date: the lease says. When most are, they are thrown away.
    leases: BinaryHeap<Reverse<(Timestamp, u32)>>,
    /// Leases there are.
    leased: usize,
    /// Messages that were put to be ready later, and may be forgotten from the end.
    pub near: BTreeSet<(Timestamp, MessageId)>,
    /// Messages that will be ready, and stay in memory.
    pub waiting: BTreeSet<(Timestamp, MessageId)>,
    /// Messages that nobody needs after a time.
    pub expiring: BTreeSet<(Timestamp, MessageId)>,
    alarms: BinaryHeap<Reverse<(Timestamp, Alarm)>>,
}

/// Something to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Alarm {
    /// The dead of a queue.
    Dead(u32),
    /// The keys of deduplication of a queue.
    Known(u32),
    /// How often a queue may give.
    Queue(u32),
    /// How often a key may be given.
    Key(u32),
}

impl Clock {
    pub(super) fn lease(&mut self, deadline: Timestamp, place: u32) {
        self.leased += 1;
        self.leases.push(Reverse((deadline, place)));
    }

    /// A lease is to be looked at earlier, or again.
    pub(super) fn look_again(&mut self, at: Timestamp, place: u32) {
        self.leases.push(Reverse((at, place)));
    }

    /// A lease is over. Forgets entries that mean nothing, when most do.
    pub(super) fn tidy_leases(&mut self, leases: &Slab<Lease>) {
        self.leased -= 1;
        if self.leases.len() > 1_024 + 4 * self.leased {
            self.leases.retain(|Reverse((at, place))| leases.get(*place).is_some_and(|lease| lease.alarm == *at));
            self.leases.shrink_to(2_048 + 2 * self.leased);
        }
    }

    /// A lease to be looked at now.
    pub(super) fn due_lease(&mut self, now: Timestamp) -> Option<(Timestamp, u32)> {
        let Reverse((at, _)) = *self.leases.peek()?;
        if at > now {
            return None;
        }
        self.leases.pop().map(|Reverse(entry)| entry)
    }

    pub(super) fn alarm(&mut self, at: Timestamp, alarm: Alarm) {
        self.alarms.push(Reverse((at, alarm)));
    }

    pub(super) fn due_alarm(&mut self, now: Timestamp) -> Option<Alarm> {
        let Reverse((at, _)) = *self.alarms.peek()?;
        if at > now {
            return None;
        }
        self.alarms.pop().map(|Reverse((_, alarm))| alarm)
    }

    /// When the next thing is to be done.
    pub(super) fn next(&self) -> Option<Timestamp> {
        let ordered = [&self.near, &self.waiting, &self.expiring].map(|set| set.first().map(|(at, _)| *at));
        let lease = self.leases.peek().map(|Reverse((at, _))| *at);
        let alarm = self.alarms.peek().map(|Reverse((at, _))| *at);
        ordered.into_iter().chain([lease, alarm]).flatten().min()
    }
}
