//! Telling queues what they allow, and removing what they have.

use posthaste_history::store::{StoreError, Timestamp};

use super::{Group, Machine, Source};
use crate::port::{
    Change, Config, Effect, End, Later, MessageId, Outcome, Overflow, QueueName, Refusal, Select, State, Why,
};

impl Machine {
    pub(super) fn configure(
        &mut self,
        group: &mut Group,
        _now: Timestamp,
        name: &QueueName,
        config: Box<Config>,
    ) -> Result<(), Refusal> {
        config.check()?;
        if config.dead_letter.as_ref() == Some(name) {
            return Err(Refusal::Invalid("dead_letter: a queue's dead messages stay in it, name another one".into()));
        }
        let queue = match self.names.get(name) {
            Some(queue) => *queue,
            None => {
                self.may_make(name, 0)?;
                self.make(group, name)
            }
        };
        self.promise(group);
        self.change(group, Change::Configured { queue, config });
        Ok(())
    }

    /// What is told to a queue is as durable as can be.
    pub(super) fn promise(&self, group: &mut Group) {
        group.durability = group.durability.max(self.limits.capabilities.durability);
    }

    pub(super) fn switch(
        &mut self,
        group: &mut Group,
        name: &QueueName,
        is_paused: Option<bool>,
        is_draining: Option<bool>,
    ) -> Result<(), Refusal> {
        let number = self.named(name)?;
        let queue = self.queue(number);
        let (was_paused, was_draining) = (queue.is_paused, queue.is_draining);
        let is_paused = is_paused.unwrap_or(was_paused);
        let is_draining = is_draining.unwrap_or(was_draining);
        self.promise(group);
        if (is_paused, is_draining) != (was_paused, was_draining) {
            self.change(group, Change::Switched { queue: number, is_paused, is_draining });
        }
        Ok(())
    }

    pub(super) fn delete(&mut self, group: &mut Group, name: &QueueName) -> Result<(), Refusal> {
        let number = self.named(name)?;
        self.promise(group);
        // Each by itself: a store lets go of what ends.
        for state in [State::Leased, State::Ready, State::Delayed, State::Dead] {
            for id in self.members(number, state) {
                self.take_out(group, id);
            }
        }
        group.effects.extend(self.farewells(number));
        self.change(group, Change::Deleted { queue: number });
        Ok(())
    }

    /// Removes a message, whatever its state; whoever has it is told.
    pub(super) fn take_out(&mut self, group: &mut Group, id: MessageId) {
        self.revoke(group, id);
        self.finish(group, id, End::Removed, None);
    }

    /// Removes a message that is on the disk alone.
    pub(super) fn take_out_far(&mut self, group: &mut Group, queue: u32, later: Later) {
        let Later { id, due, cost } = later;
        self.change(group, Change::Ended { id, queue, cost, due: Some(due), result: None, reasons: 0 });
        self.count_end(queue, &End::Removed);
    }

    /// Whoever has the message is told that it is gone.
    fn revoke(&mut self, group: &mut Group, id: MessageId) {
        if let (Some(lease), Some(message)) = (self.lease(id), self.messages.get(id)) {
            let number = message.queue;
            let queue = self.queue(number).name.clone();
            let (consumer, token) = (lease.consumer, lease.token);
            self.count(number, |it| it.revoked += 1);
            group.effects.push(Effect::Revoked { consumer, queue, id, token, why: Why::Removed });
        }
    }

    /// Messages of a queue that are meant, the oldest first.
    fn selected(&self, number: u32, select: &Select) -> Vec<MessageId> {
        let max = select.max.unwrap_or(usize::MAX);
        if let Some(id) = select.id {
            let is_meant = self
                .messages
                .get(id)
                .is_some_and(|message| message.queue == number && select.states.contains(&message.stage.state()));
            return if is_meant && max > 0 { vec![id] } else { Vec::new() };
        }
        let mut ids: Vec<MessageId> = Vec::new();
        for state in [State::Delayed, State::Ready, State::Leased, State::Dead] {
            if select.states.contains(&state) {
                ids.extend(self.page(number, state, 0, max));
            }
        }
        ids.sort_unstable();
        ids.truncate(max);
        ids
    }

    pub(super) fn purge(
        &mut self,
        group: &mut Group,
        name: &QueueName,
        select: &Select,
        source: &impl Source,
    ) -> Result<Result<Outcome, Refusal>, StoreError> {
        let number = match self.named(name) {
            Ok(number) => number,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let ids = self.selected(number, select);
        let mut far = Vec::new();
        let left = select.max.unwrap_or(usize::MAX) - ids.len();
        match select.id {
            _ if !select.states.contains(&State::Delayed) || left == 0 => {}
            Some(id) => {
                let stored = self.far_message(id, source)?.filter(|stored| stored.queue == number);
                far.extend(stored.map(|stored| Later::of(&stored)));
            }
            None => far = self.far_members(number, 0, left, usize::MAX, source)?.0,
        }
        self.promise(group);
        let count = (ids.len() + far.len()) as u64;
        for id in ids {
            self.take_out(group, id);
        }
        for later in far {
            self.take_out_far(group, number, later);
        }
        Ok(Ok(Outcome::Count(count)))
    }

    pub(super) fn redrive(&mut self, group: &mut Group, name: &QueueName, select: &Select) -> Result<Outcome, Refusal> {
        let number = self.named(name)?;
        let dead = Select { states: vec![State::Dead], ..select.clone() };
        let mut count = 0;
        for id in self.selected(number, &dead) {
            let queue = self.queue(number);
            let message = self.messages.get(id);
            let (cost, reasons) = message.map_or((0, 0), |message| (message.cost.into(), message.reasons()));
            let is_full = queue.counts.messages() + 1 > queue.config.max_messages
                || queue.counts.bytes + cost > queue.config.max_bytes;
            if is_full && queue.config.overflow == Overflow::Reject {
                if count > 0 {
                    break;
                }
                let (messages, bytes) = (queue.counts.messages(), queue.counts.bytes);
                return Err(Refusal::Full { queue: name.clone(), messages, bytes });
            }
            if is_full {
                break; // what would have to go for it are messages that had no chance yet
            }
            self.change(group, Change::Redriven { id, reasons });
            count += 1;
        }
        self.promise(group);
        Ok(Outcome::Count(count))
    }

    pub(super) fn remove(
        &mut self,
        group: &mut Group,
        id: MessageId,
        source: &impl Source,
    ) -> Result<Result<Outcome, Refusal>, StoreError> {
        if self.messages.contains(id) {
            self.promise(group);
            self.take_out(group, id);
            return Ok(Ok(Outcome::Done));
        }
        let Some(stored) = self.far_message(id, source)? else { return Ok(Err(Refusal::UnknownMessage(id))) };
        self.promise(group);
        self.take_out_far(group, stored.queue, Later::of(&stored));
        Ok(Ok(Outcome::Done))
    }
}
