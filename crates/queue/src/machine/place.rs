//! Where each message stands: the counts and orders that follow from its stage.

use posthaste_history::store::Timestamp;

use super::Machine;
use super::clock::Alarm;
use super::message::{NONE, Stage};
use crate::port::{MessageId, StoredPut};

/// What its place follows from.
#[derive(Clone, Copy)]
struct Standing {
    queue: u32,
    stage: Stage,
    cost: u64,
    priority: u8,
    key: u32,
    lease: u32,
    is_held: bool,
    since: Timestamp,
    expires: Option<Timestamp>,
}

impl Machine {
    fn standing(&self, id: MessageId) -> Standing {
        let message = self.messages.get(id).expect("invariant: a message that is moved is there");
        Standing {
            queue: message.queue,
            stage: message.stage,
            cost: message.cost.into(),
            priority: message.priority,
            key: message.key,
            lease: message.lease,
            is_held: message.is_held,
            since: message.since(),
            expires: message.expires(),
        }
    }

    /// A message is at a new place.
    pub(super) fn enter(&mut self, id: MessageId) {
        let at = self.standing(id);
        let queue = self.queue_mut(at.queue);
        let counts = &mut queue.counts;
        match at.stage {
            Stage::Ready => counts.ready += 1,
            Stage::Delayed | Stage::Waiting | Stage::Resting => counts.delayed += 1,
            Stage::Leased => {
                counts.leased += 1;
                counts.leased_bytes += at.cost;
            }
            Stage::Dead => counts.dead += 1,
        }
        if at.stage != Stage::Dead {
            counts.bytes += at.cost;
        }
        if !matches!(at.stage, Stage::Leased | Stage::Dead) {
            if let Some(ages) = queue.rare.as_mut().and_then(|rare| rare.ages.as_mut()) {
                ages.insert(id);
            }
            if let Some(expires) = at.expires {
                self.clock.expiring.insert((expires, id));
            }
        }
        if !at.is_held {
            self.line_up(id, at);
        }
    }

    /// A message leaves its place, for another or for good.
    pub(super) fn leave(&mut self, id: MessageId) {
        let at = self.standing(id);
        let queue = self.queue_mut(at.queue);
        let counts = &mut queue.counts;
        match at.stage {
            Stage::Ready => counts.ready -= 1,
            Stage::Delayed | Stage::Waiting | Stage::Resting => counts.delayed -= 1,
            Stage::Leased => {
                counts.leased -= 1;
                counts.leased_bytes -= at.cost;
            }
            Stage::Dead => counts.dead -= 1,
        }
        if at.stage != Stage::Dead {
            counts.bytes -= at.cost;
        }
        if !matches!(at.stage, Stage::Leased | Stage::Dead) {
            if let Some(ages) = queue.rare.as_mut().and_then(|rare| rare.ages.as_mut()) {
                ages.remove(&id);
            }
            if let Some(expires) = at.expires {
                self.clock.expiring.remove(&(expires, id));
            }
        }
        if !at.is_held {
            self.step_out(id, at);
        }
    }

    /// A message that was put is durable: it may be given out when its turn comes.
    pub(super) fn unhold(&mut self, id: MessageId) {
        while self.held.front().is_some_and(|first| *first <= id) {
            self.held.pop_front();
        }
        if let Some(message) = self.messages.get_mut(id).filter(|message| message.is_held) {
            message.is_held = false;
            let at = self.standing(id);
            self.line_up(id, at);
        }
    }

    fn line_up(&mut self, id: MessageId, at: Standing) {
        match at.stage {
            Stage::Ready if at.key == NONE => {
                self.queue_mut(at.queue).level_mut(at.priority).plain.insert(id);
                self.list(at.queue);
            }
            Stage::Ready => self.key_mut(at.key).line.insert(id),
            Stage::Delayed => self.come_near(at.since, id),
            Stage::Waiting => _ = self.clock.waiting.insert((at.since, id)),
            Stage::Resting => {
                self.clock.waiting.insert((at.since, id));
                if at.key != NONE {
                    self.key_mut(at.key).line.insert(id);
                }
            }
            Stage::Leased if at.key != NONE => self.key_mut(at.key).leased += 1,
            Stage::Leased => {}
            Stage::Dead => {
                let queue = self.queue_mut(at.queue);
                let ttl = queue.config.dead_ttl_ms;
                let dead = &mut queue.rare_mut().dead;
                if dead.first().is_none_or(|first| *first > (at.since, id)) {
                    self.clock.alarm(Timestamp(at.since.0 + ttl), Alarm::Dead(at.queue));
                }
                self.queue_mut(at.queue).rare_mut().dead.insert((at.since, id));
                self.list(at.queue);
                if at.key != NONE {
                    self.key_mut(at.key).dead += 1;
                }
            }
        }
        if at.key != NONE {
            self.refresh(at.key);
        }
    }

    fn step_out(&mut self, id: MessageId, at: Standing) {
        let was_there = match at.stage {
            Stage::Ready if at.key == NONE => {
                self.queue_mut(at.queue).remove_plain(at.priority, id);
                true
            }
            Stage::Ready => {
                self.key_mut(at.key).line.remove(id);
                true
            }
            Stage::Delayed => self.clock.near.remove(&(at.since, id)),
            Stage::Waiting => self.clock.waiting.remove(&(at.since, id)),
            Stage::Resting => {
                if at.key != NONE {
                    self.key_mut(at.key).line.remove(id);
                }
                self.clock.waiting.remove(&(at.since, id))
            }
            Stage::Leased => {
                self.end_lease(at.lease, at.cost);
                if at.key != NONE {
                    self.key_mut(at.key).leased -= 1;
                }
                self.list(at.queue);
                true
            }
            Stage::Dead => {
                if at.key != NONE {
                    self.key_mut(at.key).dead -= 1;
                }
                self.queue_mut(at.queue).rare_mut().dead.remove(&(at.since, id))
            }
        };
        assert!(was_there, "invariant: message {id} stands where its stage says");
        if at.key != NONE {
            self.refresh(at.key);
        }
    }

    /// A message comes to memory, as it was put.
    pub(super) fn take_in(&mut self, stored: &StoredPut, cost: u64, is_held: bool) {
        let (id, put) = (stored.id, &stored.put);
        let Some(queue) = self.queues.get(&stored.queue) else { return }; // deleted meanwhile: replayed from before
        let stays = !stored.may_be_far() || queue.drops();
        let stage = match put.due {
            Some(due) if due > stored.at && stays => Stage::Waiting,
            Some(due) if due > stored.at => Stage::Delayed,
            _ => Stage::Ready,
        };
        let extra = super::message::extra_of(put, stored.at);
        if let Some(key) = extra.as_ref().and_then(|extra| extra.until_done.as_ref()) {
            self.queue_mut(stored.queue).rare_mut().known.hold(key, id);
        }
        let key = put.key.as_ref().map_or(NONE, |name| self.key_for(stored.queue, name));
        let cost = u32::try_from(cost).expect("invariant: a message is smaller than 4 GiB");
        let message = super::message::Message {
            at: stored.at,
            extra,
            queue: stored.queue,
            cost,
            key,
            lease: NONE,
            deliveries: 0,
            priority: put.priority,
            durability: put.durability as u8,
            stage,
            is_held,
        };
        self.messages.insert(id, message);
        if is_held {
            self.held.push_back(id);
        }
        self.enter(id);
    }

    /// A message leaves memory.
    pub(super) fn let_go(&mut self, id: MessageId) {
        self.leave(id);
        let message = self.messages.remove(id).expect("invariant: a message that leaves is there");
        if let Some(key) = message.extra.and_then(|extra| extra.until_done) {
            self.queue_mut(message.queue).rare_mut().known.release(&key, id);
        }
        // It may have been next, and too large for those who take the one behind it.
        self.list(message.queue);
        if message.key != NONE {
            self.unname(message.key);
        }
    }
}

impl StoredPut {
    /// Whether it may be left on the disk until it is nearly ready: it holds no key of deduplication, and does not expire before.
    #[must_use]
    pub fn may_be_far(&self) -> bool {
        let put = &self.put;
        let holds_key = put.dedup.as_ref().is_some_and(|dedup| dedup.mode == crate::port::DedupMode::UntilDone);
        put.due.is_some_and(|due| due > self.at && put.expires.is_none_or(|expires| expires >= due)) && !holds_key
    }
}
