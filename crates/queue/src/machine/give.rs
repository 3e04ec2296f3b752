//! Giving messages to those who take them: both take turns.

use posthaste_history::store::Timestamp;

use super::bucket::Bucket;
use super::clock::Alarm;
use super::tick::STEPS;
use super::{Group, Machine, TOKENS};
use crate::port::{Change, ConsumerId, Delivery, Effect, End, MessageId};

impl Machine {
    /// Gives out what may be given now.
    pub(super) fn give(&mut self, group: &mut Group, now: Timestamp, effects: &mut Vec<Effect>) {
        // Messages that expired and may still be passed over.
        let mut expired = STEPS;
        while let Some(number) = self.listed.pop_front() {
            if let Some(queue) = self.queues.get_mut(&number) {
                queue.is_listed = false;
                self.give_of(number, group, now, effects, &mut expired);
            }
        }
    }

    fn give_of(
        &mut self,
        number: u32,
        group: &mut Group,
        now: Timestamp,
        effects: &mut Vec<Effect>,
        expired: &mut usize,
    ) {
        // Those for whom there is nothing now: they keep their turns.
        let mut aside: Vec<ConsumerId> = Vec::new();
        // Those who have no room for what is next, until another has that.
        let mut full: Vec<ConsumerId> = Vec::new();
        while self.may_give(number, now) {
            let Some(id) = self.queue_mut(number).takers.pop_front() else { break };
            let Some(holder) = self.holders.get_mut(&id) else { continue };
            let has_room = holder.has_room();
            let Some(consumer) = holder.consumer.as_deref_mut().filter(|consumer| consumer.queue == number) else {
                continue;
            };
            if !has_room {
                consumer.is_in_turn = false;
                continue;
            }
            let is_picky = consumer.keys.is_some();
            let found = if is_picky { self.first_of_keys(number, id, now) } else { self.first(number, now) };
            let Some((message, key)) = found else {
                aside.push(id);
                if is_picky {
                    continue;
                }
                break; // there is nothing for anybody
            };
            let standing = self.messages.get(message).expect("invariant: a message in a line is there");
            if standing.expires().is_some_and(|expires| expires <= now) {
                let durability = standing.durability();
                self.queue_mut(number).takers.push_front(id);
                if *expired == 0 {
                    self.clock.alarm(now, Alarm::Queue(number)); // the next tick goes on
                    break;
                }
                *expired -= 1;
                group.durability = group.durability.max(durability);
                self.finish(group, message, End::Expired, None);
                continue;
            }
            if !self.holders.get(&id).is_some_and(|holder| holder.fits(standing.cost.into())) {
                full.push(id);
                continue;
            }
            effects.push(Effect::Granted(self.grant(group, now, number, id, message, key)));
            self.next_turn(number, id, effects);
            let takers = &mut self.queue_mut(number).takers;
            full.drain(..).rev().for_each(|id| takers.push_front(id));
        }
        let takers = &mut self.queue_mut(number).takers;
        full.into_iter().rev().for_each(|id| takers.push_front(id));
        aside.into_iter().rev().for_each(|id| takers.push_front(id));
    }

    /// Whether a queue may give one more.
    fn may_give(&mut self, number: u32, now: Timestamp) -> bool {
        let queue = self.queue_mut(number);
        let config = queue.config.clone();
        let is_busy = config.concurrency.is_some_and(|most| queue.counts.leased >= u64::from(most));
        if queue.is_paused || is_busy || queue.levels.is_empty() || queue.takers.is_empty() {
            return false;
        }
        let Some(rate) = config.rate else { return true };
        let rare = queue.rare_mut();
        let next = rare.bucket.get_or_insert_with(|| Bucket::new(rate, now)).next(rate, now);
        if next > now && rare.rests_until != next {
            rare.rests_until = next;
            self.clock.alarm(next, Alarm::Queue(number));
        }
        next <= now
    }

    /// The message of a queue that is next, and its key.
    fn first(&mut self, number: u32, now: Timestamp) -> Option<(MessageId, Option<u32>)> {
        let mut at = 0;
        while at < self.queue(number).levels.len() {
            let key = self.first_key(number, at, now);
            let level = &mut self.queue_mut(number).levels[at];
            let plain = level.plain.first();
            let takes_key = key.is_some() && (level.is_keys_turn || plain.is_none());
            level.is_keys_turn = !takes_key;
            match (key, plain) {
                (Some(place), _) if takes_key => return Some((self.head(place), Some(place))),
                (_, Some(id)) => return Some((id, None)),
                _ => {}
            }
            let levels = self.queue(number).levels.len();
            self.queue_mut(number).tidy(at);
            at += usize::from(self.queue(number).levels.len() == levels);
        }
        None
    }

    fn head(&mut self, place: u32) -> MessageId {
        self.key_mut(place).line.first().expect("invariant: a key with something to give has a first message")
    }

    /// The key of a level whose turn it is. Entries that are out of date are dropped.
    fn first_key(&mut self, number: u32, at: usize, now: Timestamp) -> Option<u32> {
        loop {
            let level = &mut self.queue_mut(number).levels[at];
            let priority = level.priority;
            let place = *level.turns.front()?;
            if self.may_give_key(number, place, priority, now) {
                return Some(place);
            }
            self.queue_mut(number).levels[at].turns.pop_front();
            if let Some(key) = self.keys.get_mut(place).filter(|key| key.queue == number) {
                key.listed &= !(1 << priority);
            }
        }
    }

    /// Whether a key has something to give, at this priority.
    fn may_give_key(&mut self, number: u32, place: u32, priority: u8, now: Timestamp) -> bool {
        let rate = self.queue(number).config.key_rate;
        let Some(key) = self.keys.get_mut(place) else { return false };
        if key.queue != number || key.level != Some(priority) {
            return false;
        }
        let Some(rate) = rate else { return true };
        let next = key.bucket.get_or_insert_with(|| Bucket::new(rate, now)).next(rate, now);
        if next <= now {
            return true;
        }
        key.is_throttled = true;
        self.clock.alarm(next, Alarm::Key(place));
        self.refresh(place);
        false
    }

    /// The next message for a consumer that takes only some keys: the highest priority, and of several keys the one whose turn it is.
    fn first_of_keys(&mut self, number: u32, id: ConsumerId, now: Timestamp) -> Option<(MessageId, Option<u32>)> {
        let consumer = self.holders.get(&id)?.consumer.as_deref()?;
        let (keys, first) = (consumer.keys.as_ref()?, consumer.next_key);
        let queue = self.queue(number);
        let ordered = (0..keys.len()).map(|step| (first + step) % keys.len());
        let places: Vec<_> = ordered.filter_map(|index| Some((index, *queue.keys.get(&keys[index])?))).collect();
        let mut best: Option<(u8, usize, u32)> = None;
        for (index, place) in places {
            let Some(level) = self.keys.get(place).and_then(|key| key.level) else { continue };
            if best.is_none_or(|(priority, _, _)| level > priority) && self.may_give_key(number, place, level, now) {
                best = Some((level, index, place));
            }
        }
        let (_, index, place) = best?;
        if let Some(consumer) = self.holders.get_mut(&id).and_then(|holder| holder.consumer.as_mut()) {
            consumer.next_key = index + 1;
        }
        Some((self.head(place), Some(place)))
    }

    fn grant(
        &mut self,
        group: &mut Group,
        now: Timestamp,
        number: u32,
        consumer: ConsumerId,
        id: MessageId,
        key: Option<u32>,
    ) -> Delivery {
        self.pass_turn(number, id, key);
        let lease_ms = self.holders.get(&consumer).and_then(|holder| holder.consumer.as_ref()?.lease_ms);
        let queue = self.queue(number);
        let (name, config) = (queue.name.clone(), queue.config.clone());
        let ms = lease_ms.unwrap_or(config.lease_ms).min(config.max_lease_ms);
        let (token, deadline) = (self.next_token, Timestamp(now.0 + ms));
        if token + TOKENS / 2 >= self.tokens {
            self.change(group, Change::Tokens(token + TOKENS));
        }
        assert!(token < 1 << 53, "invariant: tokens stay below 2^53");
        self.change(group, Change::Leased { id, token, consumer, at: now, deadline });
        if let (Some(rate), Some(rare)) = (config.rate, &mut self.queue_mut(number).rare) {
            rare.bucket.as_mut().expect("invariant: a rate was asked").take(rate);
        }
        if let (Some(rate), Some(key)) = (config.key_rate, key) {
            let bucket = self.key_mut(key).bucket.as_mut();
            bucket.expect("invariant: a key's rate was asked").take(rate);
        }
        let message = self.messages.get(id).expect("invariant: a leased message is there");
        Delivery {
            consumer,
            queue: name,
            id,
            token,
            deadline,
            lease_ms: ms,
            deliveries: message.deliveries,
            failures: message.failures(),
            at: message.at,
            priority: message.priority,
            key: key.map(|key| self.keys.get(key).expect("invariant: a message's key is there").name.clone()),
            payload: bytes::Bytes::new(),
            headers: bytes::Bytes::new(),
        }
    }

    /// A key's entry at the front of its level has had its turn. It stands at the end again if it has more.
    fn pass_turn(&mut self, number: u32, id: MessageId, key: Option<u32>) {
        let Some(place) = key else { return };
        let Some(priority) = self.messages.get(id).map(|message| message.priority) else { return };
        let level = self.queue_mut(number).level_mut(priority);
        if level.turns.front() == Some(&place) {
            level.turns.pop_front();
            self.key_mut(place).listed &= !(1 << priority);
        }
    }

    /// A consumer has had its turn.
    fn next_turn(&mut self, number: u32, id: ConsumerId, effects: &mut Vec<Effect>) {
        let holder = self.holders.get_mut(&id).expect("invariant: a consumer that was given a message is there");
        let consumer = holder.consumer.as_mut().expect("invariant: a consumer that was given a message is there");
        consumer.is_in_turn = false;
        if let Some(left) = &mut consumer.left {
            *left -= 1;
            if *left == 0 {
                effects.push(Effect::Finished(id));
                self.take_leave(id);
                return;
            }
        }
        if holder.has_room() {
            if let Some(consumer) = &mut holder.consumer {
                consumer.is_in_turn = true;
            }
            self.queue_mut(number).takers.push_back(id);
        }
    }
}
