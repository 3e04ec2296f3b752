//! Who has what: leases, and those that hold them.

use posthaste_history::store::Timestamp;

use super::Machine;
use super::message::NONE;
use crate::port::{ConsumerId, MessageId, Token};

/// A message that somebody has.
#[derive(Debug)]
pub(super) struct Lease {
    pub id: MessageId,
    pub token: Token,
    pub consumer: ConsumerId,
    pub since: Timestamp,
    pub deadline: Timestamp,
    /// How long it was when it was given, in milliseconds.
    pub length_ms: u64,
    /// When it is looked at: not after its deadline.
    pub alarm: Timestamp,
    /// The leases of the same holder before and behind it.
    before: u32,
    behind: u32,
}

/// Someone who has leases, or takes messages, or both.
#[derive(Debug)]
pub(super) struct Holder {
    first: u32,
    pub leases: u32,
    pub bytes: u64,
    /// There when it takes messages.
    pub consumer: Option<Box<super::consumer::Consumer>>,
    /// It had leases when all began, and nobody has asked for its messages since.
    pub is_orphan: bool,
}

impl Default for Holder {
    fn default() -> Self {
        Self { first: NONE, leases: 0, bytes: 0, consumer: None, is_orphan: false }
    }
}

/// A lease as it begins.
pub(super) struct NewLease {
    pub id: MessageId,
    pub token: Token,
    pub consumer: ConsumerId,
    pub since: Timestamp,
    pub deadline: Timestamp,
    pub length_ms: u64,
}

impl Machine {
    pub(super) fn begin_lease(&mut self, new: NewLease, cost: u64) -> u32 {
        let NewLease { id, token, consumer, since, deadline, length_ms } = new;
        let is_started = self.is_started;
        let holder = self.holders.entry(consumer).or_default();
        holder.is_orphan |= !is_started;
        holder.leases += 1;
        holder.bytes += cost;
        let behind = holder.first;
        let lease = Lease { id, token, consumer, since, deadline, length_ms, alarm: deadline, before: NONE, behind };
        let place = self.leases.insert(lease);
        holder.first = place;
        if let Some(next) = self.leases.get_mut(behind) {
            next.before = place;
        }
        self.clock.lease(deadline, place);
        place
    }

    pub(super) fn end_lease(&mut self, place: u32, cost: u64) -> Lease {
        let lease = self.leases.remove(place).expect("invariant: a leased message has its lease");
        if let Some(next) = self.leases.get_mut(lease.behind) {
            next.before = lease.before;
        }
        let holder = self.holders.get_mut(&lease.consumer).expect("invariant: a lease has its holder");
        match self.leases.get_mut(lease.before) {
            Some(former) => former.behind = lease.behind,
            None => holder.first = lease.behind,
        }
        holder.leases -= 1;
        holder.bytes -= cost;
        if holder.leases == 0 && holder.consumer.is_none() {
            self.holders.remove(&lease.consumer);
        } else {
            self.offer(lease.consumer);
        }
        self.clock.tidy_leases(&self.leases);
        lease
    }

    /// What a consumer has, the newest first.
    pub(super) fn leases_of(&self, consumer: ConsumerId) -> Vec<MessageId> {
        let Some(holder) = self.holders.get(&consumer) else { return Vec::new() };
        let mut ids = Vec::with_capacity(holder.leases as usize);
        let mut place = holder.first;
        while let Some(lease) = self.leases.get(place) {
            ids.push(lease.id);
            place = lease.behind;
        }
        ids
    }

    pub(super) fn lease(&self, id: MessageId) -> Option<&Lease> {
        self.leases.get(self.messages.get(id)?.lease)
    }
}
