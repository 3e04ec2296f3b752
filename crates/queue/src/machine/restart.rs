//! Beginning with what a store has, and saying what it has to keep.

use std::sync::Arc;

use posthaste_history::store::{StoreError, Timestamp};
use rustc_hash::FxHashMap;

use super::lease::NewLease;
use super::message::{Message, Stage};
use super::{Group, Machine, Source, TOKENS};
use crate::port::{
    Change, Config, MessageId, Place, QueueName, Record, Rest, ScheduleName, Scheduled, StoredPut, Token,
};

/// What is kept of a queue besides its messages and its keys of deduplication.
#[derive(Clone, Debug, PartialEq)]
pub struct QueueRecord {
    /// Its number.
    pub queue: u32,
    /// Its name.
    pub name: QueueName,
    /// What it was told to allow.
    pub config: Option<Arc<Config>>,
    /// Nothing is given out.
    pub is_paused: bool,
    /// Nothing is taken in.
    pub is_draining: bool,
    /// Messages that [may be far](StoredPut::may_be_far) and are as they were put, to be ready later: how many, and their cost.
    pub delayed: (u64, u64),
}

/// At a start, in this order: [`Self::restore_queue`] and [`Self::restore`] for what was kept, [`Self::replay`] for what changed since
/// then, [`Self::started`].
impl Machine {
    /// There is a queue. Messages that are counted in [`QueueRecord::delayed`] are not restored: they are read when they are nearly ready.
    pub fn restore_queue(&mut self, record: QueueRecord) {
        let QueueRecord { queue: number, name, config, is_paused, is_draining, delayed: (messages, bytes) } = record;
        self.apply(&Change::Created { queue: number, name });
        let queue = self.queue_mut(number);
        queue.is_paused = is_paused;
        queue.is_draining = is_draining;
        queue.counts.far = messages;
        queue.counts.far_bytes = bytes;
        queue.counts.delayed = messages;
        queue.counts.bytes = bytes;
        self.far += messages;
        if let Some(config) = config {
            self.set_config(number, config);
        }
    }

    /// There is a message, of this cost whether its payload is here or not. One of a queue that is not there is left out.
    pub fn restore(&mut self, message: &StoredPut, cost: u64, record: Option<Record>) {
        let id = message.id;
        self.next_id = self.next_id.max(id + 1);
        self.take_in(message, cost, false);
        let (Some(record), Some(at)) = (record, self.messages.get(id).map(|message| message.at)) else { return };
        self.leave(id);
        let Record { rest: Rest { deliveries, failures, losses, redriven }, place } = record;
        let message = self.messages.get_mut(id).expect("invariant: a message was taken in a moment ago");
        message.deliveries = deliveries;
        if failures > 0 || losses > 0 || redriven > 0 {
            let extra = message.extra_mut();
            (extra.failures, extra.losses, extra.redriven) = (failures, losses, redriven);
            extra.expires = extra.expires.filter(|_| redriven == 0);
        }
        match place {
            Place::From(due) => {
                message.stage = if due > at { Stage::Resting } else { Stage::Ready };
                if due > at || message.extra.is_some() {
                    message.extra_mut().since = due;
                }
                self.enter(id);
            }
            Place::Leased { token, consumer, since, deadline, lease_ms } => {
                self.next_token = self.next_token.max(token + 1);
                let new = NewLease { id, token, consumer, since, deadline, length_ms: lease_ms };
                self.move_to_lease(new);
            }
            Place::Dead(at) => {
                message.stage = Stage::Dead;
                let queue = message.queue;
                let extra = message.extra_mut();
                extra.since = at;
                if let Some(key) = extra.until_done.clone() {
                    self.queue_mut(queue).rare_mut().known.release(&key, id);
                }
                self.enter(id);
            }
        }
    }

    /// Something changed since what was restored was kept. What it says of queues and messages that have ended since is left out.
    ///
    /// # Errors
    /// [`StoreError`] if a message that was left on the disk cannot be read.
    pub fn replay(&mut self, change: &Change, source: &impl Source) -> Result<(), StoreError> {
        assert!(!self.is_started, "invariant: changes are replayed before the start");
        let is_known = match change {
            Change::Created { queue, .. } => !self.queues.contains_key(queue),
            Change::Configured { queue, .. }
            | Change::Switched { queue, .. }
            | Change::Deleted { queue }
            | Change::Remembered { queue, .. } => self.queues.contains_key(queue),
            Change::Put(stored) => !self.messages.contains(stored.id),
            Change::Leased { id, .. }
            | Change::Touched { id, .. }
            | Change::Returned { id, .. }
            | Change::Died { id, .. }
            | Change::Redriven { id, .. } => self.is_at_hand(*id, source)?,
            Change::Fired { name, .. } | Change::Unscheduled { name } => self.schedules.get(name).is_some(),
            Change::Ended { .. } | Change::Tokens(_) | Change::Scheduled { .. } => true,
        };
        if is_known {
            self.apply(change);
        }
        Ok(())
    }

    /// A message was put since what was restored was kept, is to be ready later, and [may be far](StoredPut::may_be_far): it is counted,
    /// and read when it is nearly ready. Instead of replaying that it was put.
    pub fn replay_far(&mut self, id: MessageId, queue: u32, cost: u64) {
        assert!(!self.is_started, "invariant: changes are replayed before the start");
        self.next_id = self.next_id.max(id + 1);
        if self.messages.contains(id) {
            return;
        }
        let Some(queue) = self.queues.get_mut(&queue) else { return };
        let counts = &mut queue.counts;
        counts.far += 1;
        counts.far_bytes += cost;
        counts.delayed += 1;
        counts.bytes += cost;
        self.far += 1;
    }

    /// Whether a message is in memory, where it comes now if it was on the disk to be ready later.
    fn is_at_hand(&mut self, id: MessageId, source: &impl Source) -> Result<bool, StoreError> {
        if !self.messages.contains(id) {
            let Some(stored) = source.message(id)? else { return Ok(false) };
            self.come_back(stored.queue, stored.put.cost());
            self.take_in(&stored, stored.put.cost(), false);
        }
        Ok(self.messages.contains(id))
    }

    /// There is a schedule.
    pub fn restore_schedule(&mut self, name: &ScheduleName, scheduled: Scheduled) {
        self.schedules.set(name, scheduled);
    }

    /// What is kept of a schedule, as it is now.
    #[must_use]
    pub fn scheduled_as(&self, name: &ScheduleName) -> Option<&Scheduled> {
        self.schedules.get(name)
    }

    /// When the first of the schedules has something to put.
    #[must_use]
    pub fn fires_at(&self) -> Option<Timestamp> {
        self.schedules.wake_at()
    }

    /// All is there: what is asked from now on is new. Numbers go on from those given, or higher. `group` is to be durable before
    /// anything else is done, or tokens could be given twice.
    pub fn started(&mut self, group: &mut Group, next_id: MessageId, next_queue: u32) {
        self.next_id = self.next_id.max(next_id);
        self.next_queue = self.next_queue.max(next_queue);
        self.is_started = true;
        self.start_far();
        let tokens = self.next_token + TOKENS;
        group.durability = group.durability.max(self.limits.capabilities.durability);
        self.change(group, Change::Tokens(tokens));
    }

    /// Numbers and tokens go on from these, if they are not beyond them: those before may have been given, by what is lost.
    pub fn skip_to(&mut self, id: MessageId, tokens: Token) {
        self.next_id = self.next_id.max(id);
        self.next_token = self.next_token.max(tokens);
        self.tokens = self.tokens.max(tokens);
    }

    /// The number of the next message.
    #[must_use]
    pub fn next_id(&self) -> MessageId {
        self.next_id
    }

    /// The number of the next queue.
    #[must_use]
    pub fn next_queue(&self) -> u32 {
        self.next_queue
    }

    /// What is kept of a message besides what was put: `None` if it is as it was put, or not in memory.
    #[must_use]
    pub fn record(&self, id: MessageId) -> Option<Record> {
        let message = self.messages.get(id)?;
        let rest = message.rest();
        let place = match message.stage {
            Stage::Delayed | Stage::Waiting => return None,
            Stage::Ready if rest == Rest::default() => return None,
            Stage::Ready | Stage::Resting => Place::From(message.since()),
            Stage::Leased => {
                let lease = self.leases.get(message.lease)?;
                let (token, consumer) = (lease.token, lease.consumer);
                let (since, deadline, lease_ms) = (lease.since, lease.deadline, lease.length_ms);
                Place::Leased { token, consumer, since, deadline, lease_ms }
            }
            Stage::Dead => Place::Dead(message.since()),
        };
        Some(Record { rest, place })
    }

    /// Whether a message that has not ended is one of those that [`QueueRecord::delayed`] counts, and that are not restored.
    #[must_use]
    pub fn is_delayed(&self, id: MessageId) -> bool {
        self.messages.get(id).is_none_or(Message::may_be_far)
    }

    /// What is kept of all queues, by number.
    #[must_use]
    pub fn queues(&self) -> Vec<QueueRecord> {
        let mut delayed: FxHashMap<u32, (u64, u64)> = FxHashMap::default();
        for (_, id) in self.clock.near.iter().chain(&self.clock.waiting) {
            self.count_delayed(*id, &mut delayed);
        }
        for id in &self.held {
            if self.messages.get(*id).is_some_and(|message| message.is_held) {
                self.count_delayed(*id, &mut delayed);
            }
        }
        let mut records: Vec<_> = self
            .queues
            .iter()
            .map(|(number, queue)| {
                let (messages, bytes) = delayed.get(number).copied().unwrap_or_default();
                QueueRecord {
                    queue: *number,
                    name: queue.name.clone(),
                    config: queue.is_configured.then(|| queue.config.clone()),
                    is_paused: queue.is_paused,
                    is_draining: queue.is_draining,
                    delayed: (messages + queue.counts.far, bytes + queue.counts.far_bytes),
                }
            })
            .collect();
        records.sort_unstable_by_key(|record| record.queue);
        records
    }

    fn count_delayed(&self, id: MessageId, delayed: &mut FxHashMap<u32, (u64, u64)>) {
        let Some(message) = self.messages.get(id).filter(|message| message.may_be_far()) else { return };
        let (messages, bytes) = delayed.entry(message.queue).or_default();
        (*messages, *bytes) = (*messages + 1, *bytes + u64::from(message.cost));
    }

    /// Keys of deduplication and tokens, as changes to be replayed.
    pub fn remembered(&self) -> impl Iterator<Item = Change> + '_ {
        let known = self.queues.iter().filter_map(|(number, queue)| Some((*number, &queue.rare.as_ref()?.known)));
        let keys = known.flat_map(|(queue, known)| {
            known.windows().map(move |(key, id, until)| Change::Remembered { queue, key: key.clone(), id, until })
        });
        keys.chain(std::iter::once(Change::Tokens(self.tokens)))
    }

    /// Whether a message is in memory.
    #[must_use]
    pub fn has(&self, id: MessageId) -> bool {
        self.messages.contains(id)
    }

    /// The numbers of all messages in memory, in no order.
    pub fn in_memory(&self) -> impl Iterator<Item = MessageId> + '_ {
        self.messages.ids()
    }

    /// How many messages are in memory.
    #[must_use]
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether no message is in memory.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.messages.len() == 0
    }
}

impl Message {
    /// Whether it is to be ready later, as it was put, and need not be in memory: [`StoredPut::may_be_far`].
    fn may_be_far(&self) -> bool {
        let Some(extra) = self.extra.as_ref().filter(|_| matches!(self.stage, Stage::Delayed | Stage::Waiting)) else {
            return false;
        };
        let expires_before = |due: Timestamp| extra.expires.is_some_and(|expires| expires < due);
        extra.until_done.is_none() && extra.put_due.is_some_and(|due| !expires_before(due))
    }
}
