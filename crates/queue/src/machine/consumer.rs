//! Those who take messages.

use std::sync::Arc;

use posthaste_history::store::{StoreError, Timestamp};

use super::{Group, Machine, Source};
use crate::port::{Change, Consume, ConsumerId, Effect, Outcome, QueueName, Refusal, Stop, name_is_good};

/// Someone who takes messages of a queue.
#[derive(Debug)]
pub(super) struct Consumer {
    pub queue: u32,
    pub prefetch: u32,
    pub bytes: u64,
    pub lease_ms: Option<u64>,
    pub keys: Option<Vec<Arc<str>>>,
    /// The key that is looked at first.
    pub next_key: usize,
    /// Takes so many more.
    pub left: Option<u32>,
    pub is_held: bool,
    /// It stands among the takers of its queue.
    pub is_in_turn: bool,
}

impl Machine {
    pub(super) fn consume(&mut self, group: &mut Group, consume: Consume) -> Result<(), Refusal> {
        consume.check()?;
        let holder = self.holders.get(&consume.consumer);
        if holder.is_some_and(|holder| holder.consumer.is_some()) {
            return Err(Refusal::Invalid(format!("consumer {} takes messages already", consume.consumer)));
        }
        if self.consumers >= self.limits.max_consumers {
            return Err(Refusal::TooMany { what: "consumers", max: self.limits.max_consumers });
        }
        let queue = self.queue_for(group, &consume.queue)?;
        let id = consume.consumer;
        let holder = self.holders.entry(id).or_default();
        holder.is_orphan = false;
        holder.consumer = Some(Box::new(Consumer {
            queue,
            prefetch: consume.prefetch,
            bytes: consume.bytes,
            lease_ms: consume.lease_ms,
            keys: consume.keys,
            next_key: 0,
            left: consume.once,
            is_held: false,
            is_in_turn: false,
        }));
        self.consumers += 1;
        self.queue_mut(queue).consumers += 1;
        self.offer(id);
        Ok(())
    }

    /// The queue of this name, made if that is allowed.
    pub(super) fn queue_for(&mut self, group: &mut Group, name: &QueueName) -> Result<u32, Refusal> {
        if let Some(queue) = self.names.get(name) {
            return Ok(*queue);
        }
        self.may_make(name, 0)?;
        if !self.limits.makes_queues {
            return Err(Refusal::UnknownQueue(name.clone()));
        }
        Ok(self.make(group, name))
    }

    /// Whether a queue of this name may be made, besides `more`.
    pub(super) fn may_make(&self, name: &QueueName, more: usize) -> Result<(), Refusal> {
        if !name_is_good(name) {
            return Err(Refusal::BadName(name.to_string()));
        }
        if self.queues.len() + more >= self.limits.max_queues {
            return Err(Refusal::TooMany { what: "queues", max: self.limits.max_queues });
        }
        Ok(())
    }

    pub(super) fn make(&mut self, group: &mut Group, name: &QueueName) -> u32 {
        let queue = self.next_queue;
        self.change(group, Change::Created { queue, name: name.clone() });
        queue
    }

    /// Puts a consumer among those that can have one more, if it can.
    pub(super) fn offer(&mut self, id: ConsumerId) {
        let Some(holder) = self.holders.get_mut(&id) else { return };
        if !holder.has_room() {
            return;
        }
        let Some(consumer) = holder.consumer.as_mut() else { return };
        let number = consumer.queue;
        if !consumer.is_in_turn {
            consumer.is_in_turn = true;
            self.queue_mut(number).takers.push_back(id);
        }
        self.list(number);
    }

    pub(super) fn hold(&mut self, id: ConsumerId, is_held: bool) -> Result<(), Refusal> {
        let consumer = self.holders.get_mut(&id).and_then(|holder| holder.consumer.as_mut());
        consumer.ok_or(Refusal::UnknownConsumer)?.is_held = is_held;
        self.offer(id);
        Ok(())
    }

    pub(super) fn stop(
        &mut self,
        group: &mut Group,
        now: Timestamp,
        id: ConsumerId,
        stop: Stop,
        source: &impl Source,
    ) -> Result<(), StoreError> {
        if stop == Stop::Return {
            let mut leased = self.leases_of(id);
            leased.reverse(); // the oldest first: it came first, and goes first again
            let forwards = self.forwards_of(leased.iter().copied().filter(|id| self.dies_of_loss(*id)), source)?;
            for message in leased {
                self.count_of(message, |it| it.lost += 1);
                self.lose(group, now, message, "its worker was lost", &forwards);
            }
        }
        self.take_leave(id);
        Ok(())
    }

    /// A consumer takes nothing more. What it has stays leased.
    pub(super) fn take_leave(&mut self, id: ConsumerId) {
        let Some(holder) = self.holders.get_mut(&id) else { return };
        if let Some(consumer) = holder.consumer.take() {
            self.consumers -= 1;
            if holder.leases == 0 {
                self.holders.remove(&id);
            }
            let queue = self.queue_mut(consumer.queue);
            queue.consumers -= 1;
            if queue.consumers == 0 {
                queue.takers = Default::default();
            }
        }
    }

    /// All consumers of a queue take leave.
    pub(super) fn drop_consumers(&mut self, queue: u32) {
        if self.queue(queue).consumers == 0 {
            return;
        }
        for id in self.consumers_of(queue) {
            self.take_leave(id);
        }
    }

    fn consumers_of(&self, queue: u32) -> Vec<ConsumerId> {
        let takes = |holder: &super::lease::Holder| holder.consumer.as_ref().is_some_and(|it| it.queue == queue);
        let mut ids: Vec<_> = self.holders.iter().filter(|(_, holder)| takes(holder)).map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids
    }

    /// What consumers of a queue that is deleted are told.
    pub(super) fn farewells(&self, queue: u32) -> Vec<Effect> {
        if self.queue(queue).consumers == 0 {
            return Vec::new();
        }
        self.consumers_of(queue).into_iter().map(Effect::Finished).collect()
    }

    pub(super) fn touch_all(&mut self, group: &mut Group, now: Timestamp, id: ConsumerId) -> Result<(), Refusal> {
        if !self.holders.contains_key(&id) {
            return Err(Refusal::UnknownConsumer);
        }
        for message in self.leases_of(id) {
            let former = self.lease(message).map(|lease| lease.deadline);
            let deadline = self.deadline(now, message, None);
            if former.is_some_and(|former| deadline > former) {
                self.change(group, Change::Touched { id: message, deadline });
            }
        }
        Ok(())
    }

    pub(super) fn orphans(&self) -> Outcome {
        let orphans = self.holders.iter().filter(|(_, holder)| holder.is_orphan && holder.consumer.is_none());
        let mut ids: Vec<_> = orphans.map(|(id, _)| *id).collect();
        ids.sort_unstable();
        Outcome::Consumers(ids)
    }
}

impl super::lease::Holder {
    /// Whether it takes one more message, if that is not too large.
    pub(super) fn has_room(&self) -> bool {
        let takes =
            |consumer: &Consumer| !consumer.is_held && consumer.left != Some(0) && self.leases < consumer.prefetch;
        self.consumer.as_deref().is_some_and(takes)
    }

    /// Whether a message of this cost fits.
    pub(super) fn fits(&self, cost: u64) -> bool {
        self.leases == 0
            || self.consumer.as_ref().is_some_and(|consumer| self.bytes.saturating_add(cost) <= consumer.bytes)
    }
}
