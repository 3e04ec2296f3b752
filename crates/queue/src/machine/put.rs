//! Putting messages: all of them or none.

use std::sync::Arc;

use posthaste_history::store::{StoreError, Timestamp};
use rustc_hash::FxHashMap;

use super::queue::Queue;
use super::{Group, Machine, Source};
use crate::port::{
    Change, Config, DedupMode, Effect, End, MessageId, Outcome, Overflow, Put, QueueName, Receipt, Refusal, State,
    StoredPut,
};

/// What several puts come to, before the first of them is done.
#[derive(Default)]
struct Plan {
    /// What each queue will have more, or less: messages and bytes.
    more: FxHashMap<QueueName, (i64, i64)>,
    /// Keys of deduplication that this put will have used, and what they will cost.
    keys: FxHashMap<(QueueName, Arc<str>), u64>,
    /// Queues that will be made.
    made: usize,
}

impl Machine {
    pub(super) fn put(
        &mut self,
        group: &mut Group,
        now: Timestamp,
        puts: Vec<Put>,
        source: &impl Source,
    ) -> Result<Result<Outcome, Refusal>, StoreError> {
        let max = self.limits.capabilities.max_batch;
        if puts.len() > max {
            return Ok(Err(Refusal::Invalid(format!("{} messages at once: {max} at most", puts.len()))));
        }
        let mut plan = Plan::default();
        let is_one = puts.len() == 1;
        for put in &puts {
            if let Err(refusal) = self.may_put(now, put, &mut plan, is_one) {
                return Ok(Err(refusal));
            }
        }
        let victims = self.victims(now, &puts, source)?;
        // Not collected: that would be in the place of the puts, which is larger by far.
        let mut receipts = Vec::with_capacity(puts.len());
        for put in puts {
            receipts.push(self.put_one(group, now, put, &victims));
        }
        Ok(Ok(Outcome::Put(receipts)))
    }

    /// Whether a message may be put, after those of the plan.
    fn may_put(&self, now: Timestamp, put: &Put, plan: &mut Plan, is_one: bool) -> Result<(), Refusal> {
        let capabilities = &self.limits.capabilities;
        put.check(now.0, capabilities.max_payload)?;
        if put.durability > capabilities.durability {
            let (asked, best) = (put.durability, capabilities.durability);
            return Err(Refusal::Invalid(format!("durability {asked}: this store promises {best} at best")));
        }
        let cost = put.cost();
        let number = self.names.get(&put.queue).copied();
        let Some(number) = number else {
            if !plan.more.contains_key(&put.queue) {
                self.may_make(&put.queue, plan.made)?;
            }
            if !self.limits.makes_queues {
                return Err(Refusal::UnknownQueue(put.queue.clone()));
            }
            return self.plan(put, cost, None, plan, is_one);
        };
        let queue = self.queue(number);
        if queue.is_draining {
            return Err(Refusal::Draining(put.queue.clone()));
        }
        let first = put.dedup.as_ref().and_then(|dedup| self.known(number, &dedup.key, now));
        self.plan(put, cost, Some((number, first)), plan, is_one)
    }

    /// Counts a message that is to be put.
    fn plan(
        &self,
        put: &Put,
        cost: u64,
        place: Option<(u32, Option<MessageId>)>,
        plan: &mut Plan,
        is_one: bool,
    ) -> Result<(), Refusal> {
        let planned = if is_one { None } else { plan.more.get(&put.queue).copied() };
        if place.is_none() && planned.is_none() {
            plan.made += 1;
        }
        let (mut messages, mut bytes) = planned.unwrap_or_default();
        if let Some(dedup) = &put.dedup {
            let key = (put.queue.clone(), dedup.key.clone());
            let before = plan.keys.get(&key).copied();
            let first = place.and_then(|(_, first)| first);
            let is_replace = dedup.mode == DedupMode::Replace;
            match (before, first) {
                (Some(_), _) | (None, Some(_)) if !is_replace => return Ok(()), // a duplicate takes no room
                (Some(cost), _) => (messages, bytes) = (messages - 1, bytes - cost as i64),
                (None, Some(first)) => {
                    if let Some(message) = self.replaceable(first) {
                        (messages, bytes) = (messages - 1, bytes - message as i64);
                    }
                }
                (None, None) => {}
            }
            plan.keys.insert(key, cost);
        }
        (messages, bytes) = (messages + 1, bytes + cost as i64);
        let counts = place.map(|(number, _)| self.queue(number).counts).unwrap_or_default();
        let config = place.map_or(&self.standard, |(number, _)| &self.queue(number).config);
        let (has, has_bytes) = match config.overflow {
            Overflow::Reject => (counts.messages() as i64 + messages, counts.bytes as i64 + bytes),
            // All but what is leased, or far away, makes room for it.
            _ => ((counts.leased + counts.far) as i64 + 1, (counts.leased_bytes + counts.far_bytes + cost) as i64),
        };
        if has > config.max_messages as i64 || has_bytes > config.max_bytes as i64 {
            let (messages, bytes) = (counts.messages(), counts.bytes);
            return Err(Refusal::Full { queue: put.queue.clone(), messages, bytes });
        }
        if !is_one {
            plan.more.insert(put.queue.clone(), (messages, bytes));
        }
        Ok(())
    }

    /// The message that a key of deduplication stands for.
    pub(super) fn known(&self, queue: u32, key: &str, now: Timestamp) -> Option<MessageId> {
        self.queue(queue).rare.as_ref()?.known.get(key, now)
    }

    /// What a message costs, if it may be replaced.
    fn replaceable(&self, id: MessageId) -> Option<u64> {
        let message = self.messages.get(id)?;
        (message.stage.state() == State::Ready || message.stage.state() == State::Delayed)
            .then_some(message.cost.into())
    }

    /// What will be needed of messages that have to go for these: those to be replaced that are not in memory, and the payloads of those
    /// that will be dead and are put elsewhere. Read before anything is changed.
    fn victims(
        &self,
        now: Timestamp,
        puts: &[Put],
        source: &impl Source,
    ) -> Result<FxHashMap<MessageId, StoredPut>, StoreError> {
        let mut victims = FxHashMap::default();
        let mut more: FxHashMap<u32, (u64, u64)> = FxHashMap::default();
        for put in puts {
            let Some(number) = self.names.get(&put.queue).copied() else { continue };
            let replaces = put.dedup.as_ref().filter(|dedup| dedup.mode == DedupMode::Replace && self.far > 0);
            let first = replaces.and_then(|dedup| self.known(number, &dedup.key, now));
            if let Some(id) = first.filter(|id| !self.messages.contains(*id) && !self.ending.contains(id)) {
                victims.extend(source.message(id)?.map(|stored| (id, stored)));
            }
            let config = &self.queue(number).config;
            if config.overflow == Overflow::DeadLetterOldest && config.dead_letter.is_some() {
                let (messages, bytes) = more.entry(number).or_default();
                (*messages, *bytes) = (*messages + 1, *bytes + put.cost());
            }
        }
        for (number, (messages, bytes)) in more {
            let queue = self.queue(number);
            let mut has = (queue.counts.messages() + messages, queue.counts.bytes + bytes);
            for id in queue.rare.as_ref().and_then(|rare| rare.ages.as_ref()).into_iter().flatten() {
                if has.0 <= queue.config.max_messages && has.1 <= queue.config.max_bytes {
                    break;
                }
                victims.extend(source.message(*id)?.map(|stored| (*id, stored)));
                let cost = self.messages.get(*id).map_or(0, |message| message.cost.into());
                has = (has.0 - 1, has.1 - cost);
            }
        }
        Ok(victims)
    }

    fn put_one(
        &mut self,
        group: &mut Group,
        now: Timestamp,
        mut put: Put,
        victims: &FxHashMap<MessageId, StoredPut>,
    ) -> Receipt {
        let number = match self.names.get(&put.queue) {
            Some(number) => *number,
            None => self.make(group, &put.queue.clone()),
        };
        let durability = put.durability;
        group.durability = group.durability.max(durability);
        if let Some(dedup) = &put.dedup {
            let first = self.known(number, &dedup.key, now);
            match first {
                Some(id) if dedup.mode != DedupMode::Replace => {
                    self.count(number, |it| it.dup += 1);
                    return Receipt { id, dup: true, durability };
                }
                Some(id) => self.replace(group, id, number, victims),
                None => {}
            }
        }
        self.make_room(group, now, number, put.cost(), victims);
        let queue = self.queue(number);
        if let (None, Some(ttl)) = (put.expires, queue.config.ttl_ms) {
            put.expires = Some(Timestamp(now.0 + ttl));
        }
        let window = queue.config.dedup_window_ms;
        let id = self.next_id;
        let remembered = put.dedup.as_ref().filter(|dedup| dedup.mode != DedupMode::UntilDone).map(|dedup| {
            let until = Timestamp(now.0 + dedup.window_ms.unwrap_or(window));
            Change::Remembered { queue: number, key: dedup.key.clone(), id, until }
        });
        self.change(group, Change::Put(Box::new(StoredPut { id, queue: number, at: now, put })));
        if let Some(remembered) = remembered {
            self.change(group, remembered);
        }
        Receipt { id, dup: false, durability }
    }

    /// The first message under a key goes, if nobody has it.
    fn replace(&mut self, group: &mut Group, id: MessageId, queue: u32, victims: &FxHashMap<MessageId, StoredPut>) {
        if self.replaceable(id).is_some() {
            self.finish(group, id, End::Removed, None);
        } else if let Some(stored) = victims.get(&id).filter(|_| !self.messages.contains(id)) {
            let (cost, due) = (stored.put.cost(), stored.put.due);
            self.change(group, Change::Ended { id, queue, cost, due, result: None, reasons: 0 });
            self.count_end(queue, &End::Removed);
        }
    }

    /// The oldest messages go, until one of this cost fits. [`Self::may_put`] said that this is enough.
    fn make_room(
        &mut self,
        group: &mut Group,
        now: Timestamp,
        number: u32,
        cost: u64,
        victims: &FxHashMap<MessageId, StoredPut>,
    ) {
        while self.is_full(number, cost) {
            let queue = self.queue(number);
            let oldest = queue.rare.as_ref().and_then(|rare| rare.ages.as_ref()?.first().copied());
            let Some(id) = oldest else { return };
            match queue.config.overflow {
                Overflow::DeadLetterOldest => {
                    let why: Arc<str> = "the queue was full".into();
                    self.die(group, now, id, &why, false, victims.get(&id));
                }
                _ => self.finish(group, id, End::Removed, None),
            }
        }
    }

    fn is_full(&self, number: u32, cost: u64) -> bool {
        let queue = self.queue(number);
        let config: &Config = &queue.config;
        queue.counts.messages() + 1 > config.max_messages || queue.counts.bytes + cost > config.max_bytes
    }

    /// A dead message is put into another queue as well, if there is room for it.
    pub(super) fn forward(&mut self, group: &mut Group, now: Timestamp, name: &QueueName, stored: &StoredPut) {
        let Ok(number) = self.queue_for(group, name) else { return };
        let mut put = Put::new(name, stored.put.payload.clone(), stored.put.durability);
        put.headers = stored.put.headers.clone();
        put.key = stored.put.key.clone();
        put.priority = stored.put.priority;
        let cost = put.cost();
        // Nothing goes for one that is not taken in all the same.
        let Queue { counts, config, is_draining, .. } = self.queue(number);
        let (stay, stay_bytes) = match config.overflow {
            Overflow::Reject => (counts.messages(), counts.bytes),
            _ => (counts.leased + counts.far, counts.leased_bytes + counts.far_bytes),
        };
        if *is_draining || stay + 1 > config.max_messages || stay_bytes + cost > config.max_bytes {
            return;
        }
        while self.is_full(number, cost) {
            let queue = self.queue(number);
            let oldest = queue.rare.as_ref().and_then(|rare| rare.ages.as_ref()?.first().copied());
            let Some(oldest) = oldest else { return };
            // One that is dead for this has no further queue, or two queues could fill each other for ever.
            match queue.config.overflow {
                Overflow::Reject => return,
                Overflow::DropOldest => self.finish(group, oldest, End::Removed, None),
                Overflow::DeadLetterOldest => self.die(group, now, oldest, &"the queue was full".into(), false, None),
            }
        }
        self.put_one(group, now, put, &FxHashMap::default());
    }

    /// A message has ended. Those who wait for it are told.
    pub(super) fn finish(
        &mut self,
        group: &mut Group,
        id: MessageId,
        end: End,
        result: Option<(bytes::Bytes, Timestamp)>,
    ) {
        let message = self.messages.get(id).expect("invariant: a message that ends is there");
        let (queue, cost, due) = (message.queue, message.cost.into(), message.put_due());
        let reasons = message.reasons();
        self.count_end(queue, &end);
        let is_told = match end {
            End::Done(_) => result.is_some(),
            End::Expired => true,
            End::Removed | End::Dead(_) => self.keep_ms(id) > 0,
        };
        if is_told {
            let queue = self.queue(queue).name.clone();
            group.effects.push(Effect::Ended { queue, id, end });
        }
        self.change(group, Change::Ended { id, queue, cost, due, result, reasons });
    }

    /// How long a message's result is kept, in milliseconds.
    pub(super) fn keep_ms(&self, id: MessageId) -> u64 {
        let Some(message) = self.messages.get(id) else { return 0 };
        let own = message.extra.as_ref().and_then(|extra| extra.keep_result_ms);
        own.unwrap_or_else(|| self.queue(message.queue).config.keep_results_ms)
    }
}
