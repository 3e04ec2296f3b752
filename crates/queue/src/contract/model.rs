//! Queues as lists. Slow, and simple enough to be believed.

use std::sync::Arc;

use bytes::Bytes;
use posthaste_history::store::Timestamp;

use super::bucket::Bucket;
use super::plans::Planned;
use crate::port::{
    Backoff, Config, Consume, ConsumerId, DedupMode, Depth, MessageId, OnExhausted, Overflow, Put, QueueName, Settle,
    State, Token, Verdict, Why,
};

#[derive(Clone, Default)]
pub(super) struct Model {
    pub(super) now: u64,
    pub(super) queues: Vec<Queue>,
    /// Everything that has not ended.
    pub(super) messages: Vec<Message>,
    pub(super) consumers: Vec<Consumer>,
    /// Keys for a time: queue, key, message, until when; the oldest first.
    pub(super) keys: Vec<(QueueName, Arc<str>, MessageId, u64)>,
    /// Results: message, what, until when.
    pub(super) results: Vec<(MessageId, QueueName, Option<Bytes>, u64)>,
    /// What has to be said, or may be said (`false`).
    pub(super) told: Vec<(Told, bool)>,
    /// Copies of dead messages, and what schedules put, whose numbers are not known yet.
    pub(super) copies: Vec<Message>,
    /// By name.
    pub(super) schedules: Vec<Planned>,
}

#[derive(Clone)]
pub(super) struct Queue {
    pub(super) name: QueueName,
    pub(super) config: Config,
    pub(super) is_paused: bool,
    pub(super) is_draining: bool,
    pub(super) bucket: Bucket,
    pub(super) key_buckets: Vec<(Arc<str>, Bucket)>,
}

#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) id: MessageId,
    pub(super) put: Put,
    pub(super) at: u64,
    pub(super) place: Place,
    /// It waits because it failed.
    pub(super) rests: bool,
    pub(super) deliveries: u32,
    pub(super) failures: u32,
    pub(super) losses: u32,
    /// What was said of each failure, if anybody said something; the newest last.
    pub(super) history: Vec<Option<Arc<str>>>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    /// Ready between these times: where chance has a say, until the time is seen, they are two.
    From(u64, u64),
    Leased {
        token: Token,
        consumer: ConsumerId,
        since: u64,
        length: u64,
        deadline: u64,
    },
    Dead(u64),
}

#[derive(Clone)]
pub(super) struct Consumer {
    pub(super) asked: Consume,
    pub(super) left: Option<u32>,
    pub(super) is_held: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Told {
    Revoked(ConsumerId, MessageId, Token, Why),
    Done(MessageId, Option<Bytes>),
    Dead(MessageId, Option<Arc<str>>),
    Expired(MessageId),
    Removed(MessageId),
    Progress(MessageId, Bytes),
    Finished(ConsumerId),
}

/// What is refused, by its code.
pub(super) type Code = &'static str;

impl Message {
    pub(super) fn state(&self, now: u64) -> State {
        match self.place {
            Place::From(_, last) if last <= now => State::Ready,
            Place::From(..) => State::Delayed,
            Place::Leased { .. } => State::Leased,
            Place::Dead(_) => State::Dead,
        }
    }

    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.place, Place::From(..))
    }

    /// Its worker was lost at this moment: whether it can be given again before something else of the same moment is, is the store's
    /// choice. That it was lost may have to be stored first.
    pub(super) fn is_just_lost(&self, now: u64) -> bool {
        self.losses > 0 && matches!(self.place, Place::From(at, _) if at == now)
    }
}

impl Model {
    pub(super) fn queue(&mut self, name: &QueueName) -> &mut Queue {
        let at = self.queues.iter().position(|queue| queue.name == *name).unwrap_or(self.queues.len());
        if at == self.queues.len() {
            let (bucket, key_buckets) = (Bucket::full(None), Vec::new());
            let config = Config::default();
            let (name, is_paused, is_draining) = (name.clone(), false, false);
            self.queues.push(Queue { name, config, is_paused, is_draining, bucket, key_buckets });
        }
        &mut self.queues[at]
    }

    pub(super) fn config(&self, name: &QueueName) -> Config {
        self.queues.iter().find(|queue| queue.name == *name).map_or_else(Config::default, |it| it.config.clone())
    }

    pub(super) fn find(&mut self, id: MessageId) -> Option<&mut Message> {
        self.messages.iter_mut().find(|message| message.id == id)
    }

    pub(super) fn of<'a>(&'a self, queue: &'a QueueName) -> impl Iterator<Item = &'a Message> + Clone {
        self.messages.iter().filter(move |message| message.put.queue == *queue)
    }

    pub(super) fn held_by(&self, consumer: ConsumerId) -> impl Iterator<Item = &Message> {
        let is_it = move |it: &&Message| matches!(it.place, Place::Leased { consumer: who, .. } if who == consumer);
        self.messages.iter().filter(is_it)
    }

    /// All or none. New messages get the numbers in `ids`, one for each put; whether it was there before is answered for each.
    pub(super) fn put(&mut self, puts: &[Put], ids: &[MessageId]) -> Result<Vec<(MessageId, bool)>, Code> {
        let before = self.clone();
        let mut ids = ids.iter().copied();
        let answer: Result<Vec<_>, Code> = puts.iter().map(|put| self.put_one(put, ids.next().unwrap_or(0))).collect();
        if answer.is_err() {
            *self = before;
        }
        answer
    }

    fn put_one(&mut self, put: &Put, id: MessageId) -> Result<(MessageId, bool), Code> {
        let now = self.now;
        let queue = self.queue(&put.queue).clone();
        if queue.is_draining {
            return Err("draining");
        }
        if let Some(dedup) = &put.dedup {
            let by_window = self.keys.iter().find(|(at, key, ..)| *at == put.queue && *key == dedup.key);
            let is_same = |it: &&Message| match &it.put.dedup {
                Some(other) => other.mode == DedupMode::UntilDone && other.key == dedup.key,
                None => false,
            };
            let by_life = self.of(&put.queue).filter(|it| !matches!(it.place, Place::Dead(_))).find(is_same);
            let first = by_window.map(|it| it.2).or(by_life.map(|it| it.id));
            match (first, dedup.mode) {
                (Some(first), DedupMode::Reject | DedupMode::UntilDone) => return Ok((first, true)),
                (Some(first), DedupMode::Replace) if self.find(first).is_some_and(|it| it.is_waiting()) => {
                    self.remove(first);
                }
                _ => {}
            }
        }
        let fits = |model: &Self| {
            let (messages, bytes) = model.size(&put.queue);
            messages < queue.config.max_messages && bytes + put.cost() <= queue.config.max_bytes
        };
        while !fits(self) {
            let oldest = self.of(&put.queue).find(|message| message.is_waiting()).map(|message| message.id);
            match (queue.config.overflow, oldest) {
                (Overflow::Reject, _) | (_, None) => return Err("queue_full"),
                (Overflow::DropOldest, Some(oldest)) => self.remove(oldest),
                (Overflow::DeadLetterOldest, Some(oldest)) => self.die(oldest, None),
            }
        }
        let due = put.due.map_or(now, |due| due.0).max(now);
        let expires = put.expires.or(queue.config.ttl_ms.map(|ttl| Timestamp(now + ttl)));
        let (place, put) = (Place::From(due, due), Put { expires, ..put.clone() });
        if let Some(dedup) = put.dedup.as_ref().filter(|dedup| dedup.mode != DedupMode::UntilDone) {
            let until = now + dedup.window_ms.unwrap_or(queue.config.dedup_window_ms);
            self.keys.retain(|(at, key, ..)| *at != put.queue || *key != dedup.key);
            self.keys.push((put.queue.clone(), dedup.key.clone(), id, until));
            let of_queue = |it: &(QueueName, Arc<str>, MessageId, u64)| it.0 == put.queue;
            if self.keys.iter().filter(|it| of_queue(it)).count() as u64 > queue.config.max_dedup_keys {
                let oldest = self.keys.iter().position(of_queue);
                oldest.into_iter().for_each(|oldest| drop(self.keys.remove(oldest)));
            }
        }
        self.messages.push(Message { id, put, at: now, place, ..Message::blank() });
        Ok((id, false))
    }

    /// How many there are that are not dead, and what they cost.
    fn size(&self, queue: &QueueName) -> (u64, u64) {
        let counted = self.of(queue).chain(self.copies.iter().filter(|it| it.put.queue == *queue));
        let counted = counted.filter(|it| !matches!(it.place, Place::Dead(_)));
        counted.fold((0, 0), |(messages, bytes), it| (messages + 1, bytes + it.put.cost()))
    }

    /// A message is gone before it is done.
    pub(super) fn remove(&mut self, id: MessageId) {
        let Some(at) = self.messages.iter().position(|message| message.id == id) else { return };
        let message = self.messages.remove(at);
        if let Place::Leased { token, consumer, .. } = message.place {
            let is_there = self.consumers.iter().any(|it| it.asked.consumer == consumer);
            self.told.push((Told::Revoked(consumer, id, token, Why::Removed), is_there));
        }
        self.told.push((Told::Removed(id), false));
    }

    pub(super) fn die(&mut self, id: MessageId, why: Option<Arc<str>>) {
        let now = self.now;
        let Some(message) = self.find(id) else { return };
        (message.place, message.rests, message.losses) = (Place::Dead(now), false, 0);
        message.history.push(why.clone());
        let queue = message.put.queue.clone();
        let config = self.config(&queue);
        self.told.push((Told::Dead(id, why), true));
        if let Some(to) = &config.dead_letter {
            let (payload, headers) = self.find(id).map_or_else(Default::default, |it| {
                (it.put.payload.clone(), it.put.headers.clone()) // Its number, and what else is kept of it, is seen later.
            });
            let put = Put { headers, ..Put::new(to, payload, posthaste_history::store::Durability::Memory) };
            self.queue(to);
            self.copies.push(Message { at: now, put, place: Place::From(now, now), ..Message::blank() });
        }
        let mut dead: Vec<(u64, MessageId)> = Vec::new();
        dead.extend(self.of(&queue).filter_map(|it| match it.place {
            Place::Dead(at) => Some((at, it.id)),
            _ => None,
        }));
        dead.sort_unstable();
        let too_many = (dead.len() as u64).saturating_sub(config.max_dead);
        dead.into_iter().take(too_many as usize).for_each(|(_, id)| self.remove(id));
    }

    /// It failed: again after so long, or as its backoff says, if it may.
    pub(super) fn fail(&mut self, id: MessageId, after: Option<u64>, why: Option<Arc<str>>) {
        let now = self.now;
        let Some(queue) = self.find(id).map(|message| message.put.queue.clone()) else { return };
        let config = self.config(&queue);
        let Some(message) = self.find(id) else { return };
        (message.failures, message.losses) = (message.failures + 1, 0);
        if message.failures >= message.put.attempts.unwrap_or(config.attempts) {
            return self.die(id, why);
        }
        message.history.push(why);
        let own = message.put.backoff.as_deref();
        let rest = after.map_or_else(|| backoff(own.unwrap_or(&config.backoff), message.failures), |ms| (ms, ms));
        (message.place, message.rests) = (Place::From(now + rest.0, now + rest.1), true);
    }

    /// Its worker is not there any more, or took too long.
    pub(super) fn lose(&mut self, id: MessageId) {
        let now = self.now;
        let Some(queue) = self.find(id).map(|message| message.put.queue.clone()) else { return };
        let limit = self.config(&queue).crash_limit;
        let Some(message) = self.find(id) else { return };
        message.losses += 1;
        message.place = Place::From(now, now);
        if message.losses >= limit {
            self.fail(id, None, None);
        }
    }

    /// Time goes on, until then.
    pub(super) fn time(&mut self, now: u64) {
        self.now = now;
        let is_late = |it: &&Message| matches!(it.place, Place::Leased { deadline, .. } if deadline <= now);
        let late: Vec<Message> = self.messages.iter().filter(is_late).cloned().collect();
        for message in late {
            if let Place::Leased { token, consumer, .. } = message.place {
                let is_there = self.consumers.iter().any(|it| it.asked.consumer == consumer);
                self.told.push((Told::Revoked(consumer, message.id, token, Why::Expired), is_there));
                self.lose(message.id);
            }
        }
        let is_over = |it: &&Message| match it.place {
            Place::From(..) => it.put.expires.is_some_and(|at| at.0 <= now),
            Place::Leased { .. } => false,
            Place::Dead(at) => at + self.config(&it.put.queue).dead_ttl_ms <= now,
        };
        let over: Vec<(MessageId, bool)> =
            self.messages.iter().filter(is_over).map(|it| (it.id, it.is_waiting())).collect();
        for (id, is_told) in over {
            self.messages.retain(|it| it.id != id);
            self.told.push((if is_told { Told::Expired(id) } else { Told::Removed(id) }, is_told));
        }
        self.results.retain(|(.., until)| *until > now);
        self.keys.retain(|(.., until)| *until > now);
        self.fire();
    }

    /// Until when the lease goes on, or `None`.
    pub(super) fn settle(&mut self, settle: &Settle) -> Result<Option<u64>, Code> {
        let (now, id) = (self.now, settle.id);
        let Some(at) = self.messages.iter().position(|it| it.id == id) else { return Err("stale_lease") };
        let message = &mut self.messages[at];
        let (since, length) = match message.place {
            Place::Leased { token, since, length, .. } if token == settle.token => (since, length),
            _ => return Err("stale_lease"),
        };
        match &settle.verdict {
            Verdict::Done(result) => {
                let message = self.messages.remove(at);
                let keep = self.config(&message.put.queue).keep_results_ms;
                let keep = message.put.keep_result_ms.unwrap_or(keep);
                if keep > 0 {
                    self.results.push((id, message.put.queue.clone(), result.clone(), now + keep));
                }
                self.told.push((Told::Done(id, result.clone()), keep > 0));
            }
            Verdict::Retry { after_ms, why } => self.fail(id, *after_ms, Some(why.clone())),
            Verdict::Release => message.place = Place::From(now, now),
            Verdict::Dead { why } => self.die(id, Some(why.clone())),
            Verdict::Touch(_) | Verdict::Progress(_) => {
                if let Verdict::Progress(value) = &settle.verdict {
                    self.told.push((Told::Progress(id, value.clone()), true));
                }
                let asked = if let Verdict::Touch(ms) = settle.verdict { ms } else { None };
                return Ok(self.touch(id, now + asked.unwrap_or(length), since));
            }
        }
        Ok(None)
    }

    fn touch(&mut self, id: MessageId, until: u64, since: u64) -> Option<u64> {
        let queue = self.find(id)?.put.queue.clone();
        let until = until.min(since + self.config(&queue).max_lease_ms);
        if let Place::Leased { deadline, .. } = &mut self.find(id)?.place {
            *deadline = until;
        }
        Some(until)
    }

    pub(super) fn touch_all(&mut self, consumer: ConsumerId) {
        let has: Vec<Message> = self.held_by(consumer).cloned().collect();
        for message in has {
            if let Place::Leased { since, length, deadline, .. } = message.place {
                self.touch(message.id, self.now + length, since);
                // It is extended, whatever the queue allows by now.
                if let Some(Place::Leased { deadline: until, .. }) = self.find(message.id).map(|it| &mut it.place) {
                    *until = deadline.max(*until);
                }
            }
        }
    }

    /// The dead have another chance, the oldest first, as many as there is room for.
    pub(super) fn redrive(&mut self, queue: &QueueName, max: usize) -> Result<u64, Code> {
        let now = self.now;
        let Some(config) = self.queues.iter().find(|it| it.name == *queue).map(|it| it.config.clone()) else {
            return Err("unknown_queue");
        };
        let dead: Vec<Message> = self.of(queue).filter(|it| matches!(it.place, Place::Dead(_))).cloned().collect();
        for (count, message) in dead.iter().take(max).enumerate() {
            let (messages, bytes) = self.size(queue);
            if messages >= config.max_messages || bytes + message.put.cost() > config.max_bytes {
                let is_refused = count == 0 && config.overflow == Overflow::Reject;
                return if is_refused { Err("queue_full") } else { Ok(count as u64) };
            }
            if let Some(it) = self.find(message.id) {
                (it.place, it.deliveries, it.failures, it.losses) = (Place::From(now, now), 0, 0, 0);
                it.history.clear();
                it.put.expires = None;
            }
        }
        Ok(dead.len().min(max) as u64)
    }

    pub(super) fn delete(&mut self, queue: &QueueName) {
        let ids: Vec<MessageId> = self.of(queue).map(|it| it.id).collect();
        ids.into_iter().for_each(|id| self.remove(id));
        for gone in self.consumers.extract_if(.., |it| it.asked.queue == *queue) {
            self.told.push((Told::Finished(gone.asked.consumer), false));
        }
        self.keys.retain(|it| it.0 != *queue);
        self.results.retain(|it| it.1 != *queue);
        self.queues.retain(|it| it.name != *queue);
    }

    #[cfg(test)]
    pub(super) fn forget_keys(&mut self) {
        self.keys.clear();
    }

    /// When time brings something next.
    pub(super) fn next(&self) -> Option<u64> {
        let times = self.messages.iter().flat_map(|it| {
            let expires = it.put.expires.map(|at| at.0);
            match it.place {
                Place::From(_, due) if due > self.now => [Some(due), expires],
                Place::From(..) => [None, expires],
                Place::Leased { deadline, .. } => [Some(deadline), None],
                Place::Dead(at) => [Some(at + self.config(&it.put.queue).dead_ttl_ms), None],
            }
        });
        let plans = self.schedules.iter().filter(|it| !it.is_paused).map(|it| it.next);
        times.flatten().chain(plans).min()
    }

    /// Whether there is nothing about the rest of its queue that keeps a message from being given to somebody. Its bucket is
    /// certainly (`sure`) or perhaps full.
    pub(super) fn is_head(&self, message: &Message, sure: bool) -> bool {
        let Some(queue) = self.queues.iter().find(|queue| queue.name == message.put.queue) else { return false };
        if message.state(self.now) != State::Ready {
            return false;
        }
        let others = self.of(&message.put.queue).filter(|other| other.put.key == message.put.key);
        let Some(key) = &message.put.key else {
            let is_before = |it: &Message| it.put.priority == message.put.priority && it.id < message.id;
            let ready = |it: &Message| it.state(self.now) == State::Ready && (sure || !it.is_just_lost(self.now));
            return !others.clone().any(|it| ready(it) && is_before(it));
        };
        let leased = others.clone().filter(|it| it.state(self.now) == State::Leased).count();
        let is_before = |it: &Message| it.id < message.id && (it.rests || it.state(self.now) == State::Ready);
        let is_dead = |it: &Message| matches!(it.place, Place::Dead(_));
        let is_blocked = queue.config.on_exhausted == OnExhausted::Block && others.clone().any(is_dead);
        let bucket = queue.key_buckets.iter().find(|(other, _)| other == key).map(|(_, bucket)| bucket);
        let is_free = bucket.is_none_or(|bucket| bucket.has(queue.config.key_rate, self.now, sure));
        leased < queue.config.key_concurrency as usize && !others.clone().any(is_before) && !is_blocked && is_free
    }

    /// Whether a consumer may have one more.
    pub(super) fn takes(&self, consumer: &Consumer, message: &Message) -> bool {
        let asked = &consumer.asked;
        let has = self.held_by(asked.consumer).count();
        let bytes: u64 = self.held_by(asked.consumer).map(|it| it.put.cost()).sum();
        let wants = asked.keys.as_ref().is_none_or(|keys| message.put.key.as_ref().is_some_and(|it| keys.contains(it)));
        asked.queue == message.put.queue
            && !consumer.is_held
            && wants
            && has < asked.prefetch as usize
            && consumer.left != Some(0)
            && (has == 0 || bytes + message.put.cost() <= asked.bytes)
    }

    /// Whether a queue gives anything at all.
    pub(super) fn gives(&self, queue: &Queue, sure: bool) -> bool {
        let leased = self.of(&queue.name).filter(|it| it.state(self.now) == State::Leased).count();
        let is_free = queue.config.concurrency.is_none_or(|max| leased < max as usize);
        !queue.is_paused && is_free && queue.bucket.has(queue.config.rate, self.now, sure)
    }

    pub(super) fn depth(&self, queue: &Queue) -> Depth {
        let count = |state| self.of(&queue.name).filter(|it| it.state(self.now) == state).count() as u64;
        let ready = self.of(&queue.name).filter(|it| it.state(self.now) == State::Ready);
        Depth {
            ready: count(State::Ready),
            leased: count(State::Leased),
            delayed: count(State::Delayed),
            dead: count(State::Dead),
            bytes: self.size(&queue.name).1,
            oldest: ready.map(|it| Timestamp(it.at)).min(),
            consumers: self.consumers.iter().filter(|it| it.asked.queue == queue.name).count() as u64,
            is_paused: queue.is_paused,
            is_draining: queue.is_draining,
        }
    }
}

impl Message {
    pub(super) fn blank() -> Self {
        let put = Put::new(&"".into(), Bytes::new(), posthaste_history::store::Durability::Memory);
        let (place, history) = (Place::From(0, 0), Vec::new());
        Self { id: 0, put, at: 0, place, rests: false, deliveries: 0, failures: 0, losses: 0, history }
    }
}

/// How long a message rests that failed so often: at least and at most.
fn backoff(backoff: &Backoff, failures: u32) -> (u64, u64) {
    let exactly = |ms| (ms, ms);
    match backoff {
        Backoff::None => exactly(0),
        Backoff::Fixed { ms } => exactly(*ms),
        Backoff::Linear { step_ms, max_ms } => exactly((*step_ms * u64::from(failures)).min(*max_ms)),
        Backoff::Exponential { first_ms, max_ms, jitter } => {
            let ms = (1..failures).fold(*first_ms, |ms, _| (ms * 2).min(*max_ms)).min(*max_ms);
            let part = (ms as f64 * jitter).ceil() as u64;
            (ms.saturating_sub(part), (ms + part).min(*max_ms))
        }
        Backoff::List(list) => exactly(list.get(failures as usize - 1).or(list.last()).copied().unwrap_or_default()),
    }
}
