//! What changes, applied: the only thing that alters what survives.

use std::sync::Arc;

use posthaste_history::store::Timestamp;

use super::Machine;
use super::clock::Alarm;
use super::lease::NewLease;
use super::message::{NONE, Stage};
use super::queue::Queue;
use crate::port::{Cause, Change, Config, MessageId, QueueName, State, Verdict};

impl Machine {
    /// Makes a change.
    pub(super) fn apply(&mut self, change: &Change) {
        match change {
            Change::Created { queue, name } => self.create(*queue, name),
            Change::Configured { queue, config } => self.set_config(*queue, Arc::new((**config).clone())),
            Change::Switched { queue, is_paused, is_draining } => {
                let number = *queue;
                let queue = self.queue_mut(number);
                queue.is_paused = *is_paused;
                queue.is_draining = *is_draining;
                self.list(number);
            }
            Change::Deleted { queue } => self.drop_queue(*queue),
            Change::Put(stored) => {
                self.next_id = self.next_id.max(stored.id + 1);
                self.take_in(stored, stored.put.cost(), self.is_started);
            }
            Change::Leased { id, token, consumer, at, deadline } => {
                self.leave(*id);
                self.next_token = self.next_token.max(token + 1);
                let message = self.messages.get_mut(*id).expect("invariant: a leased message is there");
                message.deliveries += 1;
                let length_ms = deadline.0.saturating_sub(at.0);
                let new = NewLease {
                    id: *id,
                    token: *token,
                    consumer: *consumer,
                    since: *at,
                    deadline: *deadline,
                    length_ms,
                };
                self.move_to_lease(new);
            }
            Change::Touched { id, deadline } => self.set_deadline(*id, *deadline),
            Change::Returned { id, at, due, cause } => self.return_to(*id, *at, *due, cause),
            Change::Died { id, at, is_failure, .. } => {
                self.leave(*id);
                let message = self.messages.get_mut(*id).expect("invariant: a message that died is there");
                message.stage = Stage::Dead;
                message.lease = NONE;
                let queue = message.queue;
                let extra = message.extra_mut();
                extra.failures += u32::from(*is_failure);
                extra.losses = 0;
                extra.since = *at;
                let key = extra.until_done.clone();
                if let Some(key) = key {
                    self.queue_mut(queue).rare_mut().known.release(&key, *id);
                }
                self.enter(*id);
            }
            Change::Redriven { id, .. } => {
                self.leave(*id);
                let message = self.messages.get_mut(*id).expect("invariant: a message that is redriven is there");
                message.stage = Stage::Ready;
                message.deliveries = 0;
                let (queue, at) = (message.queue, message.at);
                let extra = message.extra_mut();
                (extra.failures, extra.losses, extra.since) = (0, 0, at);
                // Somebody wants it done, whatever it was worth when it was put.
                (extra.redriven, extra.expires) = (extra.redriven.saturating_add(1), None);
                let key = extra.until_done.clone();
                if let Some(key) = key {
                    self.queue_mut(queue).rare_mut().known.hold(&key, *id);
                }
                self.enter(*id);
            }
            Change::Ended { id, queue, cost, .. } => self.end(*id, *queue, *cost),
            Change::Tokens(below) => {
                if !self.is_started {
                    self.next_token = self.next_token.max(*below);
                }
                self.tokens = *below;
            }
            Change::Remembered { queue, key, id, until } => {
                let number = *queue;
                let queue = self.queue_mut(number);
                let max = queue.config.max_dedup_keys;
                let known = &mut queue.rare_mut().known;
                let was_empty = known.windows().next().is_none();
                known.remember(key, *id, *until, max);
                if was_empty {
                    self.clock.alarm(*until, Alarm::Known(number));
                }
            }
            Change::Scheduled { name, scheduled } => self.schedules.set(name, (**scheduled).clone()),
            Change::Fired { name, next, last, count } => self.schedules.go_on(name, *next, *last, *count),
            Change::Unscheduled { name } => self.schedules.remove(name),
        }
    }

    fn create(&mut self, number: u32, name: &QueueName) {
        self.next_queue = self.next_queue.max(number + 1);
        self.names.insert(name.clone(), number);
        self.sorted.insert(name.clone());
        self.queues.insert(number, Box::new(Queue::new(name.clone(), self.standard.clone())));
    }

    pub(super) fn set_config(&mut self, number: u32, config: Arc<Config>) {
        let queue = self.queue_mut(number);
        queue.config = config;
        queue.is_configured = true;
        let (drops, has_ages) = (queue.drops(), queue.rare.as_ref().is_some_and(|rare| rare.ages.is_some()));
        if let Some(rare) = &mut queue.rare {
            rare.bucket = None;
            rare.known.keep(queue.config.max_dedup_keys);
        }
        let places: Vec<u32> = queue.keys.values().copied().collect();
        if drops && !has_ages {
            let mut ages = self.members(number, State::Ready);
            ages.extend(self.members(number, State::Delayed));
            self.queue_mut(number).rare_mut().ages = Some(ages.into_iter().collect());
            self.stay(number);
        } else if !drops && has_ages {
            self.queue_mut(number).rare_mut().ages = None;
        }
        for place in places {
            let key = self.key_mut(place);
            (key.bucket, key.is_throttled) = (None, false);
            self.refresh(place);
            self.forget_key(place);
        }
        self.clock.alarm(Timestamp(0), Alarm::Dead(number));
        self.list(number);
    }

    fn drop_queue(&mut self, number: u32) {
        for state in [State::Ready, State::Delayed, State::Leased, State::Dead] {
            for id in self.members(number, state) {
                self.let_go(id);
            }
        }
        self.drop_consumers(number);
        let queue = self.queues.remove(&number).expect("invariant: a queue that is deleted is there");
        for place in queue.keys.values() {
            self.keys.remove(*place); // what is left of them is how often they had their turns
        }
        self.far -= queue.counts.far;
        self.names.remove(&queue.name);
        self.sorted.remove(&queue.name);
    }

    pub(super) fn move_to_lease(&mut self, new: NewLease) {
        let id = new.id;
        let message = self.messages.get(id).expect("invariant: a leased message is there");
        let cost = message.cost.into();
        let place = self.begin_lease(new, cost);
        if let Some(message) = self.messages.get_mut(id) {
            message.stage = Stage::Leased;
            message.lease = place;
            message.is_held = false;
        }
        self.enter(id);
    }

    fn set_deadline(&mut self, id: MessageId, deadline: Timestamp) {
        let place = self.messages.get(id).map_or(NONE, |message| message.lease);
        let lease = self.leases.get_mut(place).expect("invariant: a touched message is leased");
        lease.deadline = deadline;
        if deadline < lease.alarm {
            lease.alarm = deadline;
            self.clock.look_again(deadline, place);
        }
    }

    fn return_to(&mut self, id: MessageId, at: Timestamp, due: Timestamp, cause: &Cause) {
        self.leave(id);
        let message = self.messages.get_mut(id).expect("invariant: a message that returns is there");
        message.lease = NONE;
        message.stage = if due > at { Stage::Resting } else { Stage::Ready };
        match cause {
            Cause::Failed(_) => {
                let extra = message.extra_mut();
                extra.failures = extra.failures.saturating_add(1);
                extra.losses = 0;
            }
            Cause::Lost => message.extra_mut().losses += 1,
            Cause::Released => {}
        }
        if let Some(extra) = &mut message.extra {
            extra.since = due;
        } else if due > at {
            message.extra_mut().since = due;
        }
        self.enter(id);
    }

    fn end(&mut self, id: MessageId, queue: u32, cost: u64) {
        if self.messages.contains(id) {
            self.let_go(id);
            return;
        }
        self.come_back(queue, cost); // one that was to be ready later, and is not in memory
    }
}

/// A reason, as long as is kept.
pub(super) fn cut(why: &Arc<str>) -> Arc<str> {
    if why.len() <= Verdict::MAX_WHY {
        return why.clone();
    }
    let end = (0..=Verdict::MAX_WHY).rev().find(|end| why.is_char_boundary(*end)).unwrap_or(0);
    why[..end].into()
}
