//! Looking at queues, without changing anything.

use posthaste_history::store::{StoreError, Timestamp};

use super::message::{Message, NONE, Stage};
use super::{Machine, Source};
use crate::port::{Depth, End, Found, MessageId, Outcome, QueueName, Refusal, Rest, State, StoredPut};

/// Most messages, or queues, of one look.
const MAX: usize = 1_000;
/// So many messages are looked through at most to find those that are on the disk alone.
const LOOKS: usize = 16_384;
/// With as many bytes of payloads and reasons a look ends, but for a second message: no more are read.
const MAX_BYTES: usize = 8 << 20;

impl Machine {
    pub(super) fn stats(&self, name: &QueueName) -> Result<Outcome, Refusal> {
        Ok(Outcome::Depth(self.depth(self.named(name)?)))
    }

    pub(super) fn depth(&self, number: u32) -> Depth {
        let queue = self.queue(number);
        let counts = queue.counts;
        Depth {
            ready: counts.ready,
            leased: counts.leased,
            delayed: counts.delayed,
            dead: counts.dead,
            bytes: counts.bytes,
            oldest: self.oldest(number),
            consumers: queue.consumers.into(),
            is_paused: queue.is_paused,
            is_draining: queue.is_draining,
        }
    }

    /// When the oldest of the ready messages was put.
    fn oldest(&self, number: u32) -> Option<Timestamp> {
        let queue = self.queue(number);
        if queue.counts.ready == 0 {
            return None;
        }
        let is_ready = |id: &MessageId| {
            self.messages.get(*id).is_some_and(|message| message.queue == number && message.stage == Stage::Ready)
        };
        let plain = queue.levels.iter().filter_map(|level| level.plain.first());
        let keys = queue.keys.values().filter_map(|place| self.keys.get(*place));
        let keyed = keys.filter_map(|key| key.line.after(0).find(is_ready));
        let held = self.held.iter().copied().find(is_ready);
        let first = plain.chain(keyed).chain(held).min()?;
        self.messages.get(first).map(|message| message.at)
    }

    pub(super) fn list_queues(&self, after: &QueueName, max: usize) -> Outcome {
        use std::ops::Bound::{Excluded, Unbounded};
        let names = self.sorted.range::<QueueName, _>((Excluded(after), Unbounded)).take(max.min(MAX));
        Outcome::Queues(names.map(|name| (name.clone(), self.depth(self.names[name]))).collect())
    }

    pub(super) fn config_of(&self, name: &QueueName) -> Result<Outcome, Refusal> {
        let number = self.named(name)?;
        Ok(Outcome::Config(Box::new((*self.queue(number).config).clone())))
    }

    pub(super) fn peek(
        &self,
        name: &QueueName,
        state: State,
        after: MessageId,
        max: usize,
        source: &impl Source,
    ) -> Result<Result<Outcome, Refusal>, StoreError> {
        let number = match self.named(name) {
            Ok(number) => number,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let max = max.min(MAX);
        if max == 0 {
            return Ok(Ok(Outcome::Page(Vec::new(), None)));
        }
        // One more, to know whether there are more.
        let (mut ids, mut next) = (self.page(number, state, after, max + 1), None);
        if state == State::Delayed {
            let (far, looked_to) = self.far_members(number, after, max + 1, LOOKS, source)?;
            ids.extend(far.into_iter().map(|later| later.id));
            ids.sort_unstable();
            if let Some(last) = looked_to {
                ids.retain(|id| *id <= last); // those behind it come after some that were not looked at
            }
            next = looked_to;
        }
        if ids.len() > max {
            ids.truncate(max);
            next = ids.last().copied();
        }
        let (mut found, mut bytes) = (Vec::<Found>::new(), 0);
        for id in ids {
            if bytes >= MAX_BYTES && found.len() > 1 {
                next = found.last().map(|one| one.id);
                break;
            }
            let one = self.found(id, source)?;
            bytes += one.as_ref().map_or(0, Found::bytes);
            found.extend(one);
        }
        Ok(Ok(Outcome::Page(found, next)))
    }

    pub(super) fn get(
        &self,
        now: Timestamp,
        id: MessageId,
        source: &impl Source,
    ) -> Result<Result<Outcome, Refusal>, StoreError> {
        if let Some(found) = self.found(id, source)? {
            return Ok(Ok(Outcome::Messages(vec![found])));
        }
        let kept = source.result(now, id)?;
        // A queue that was removed had it, too.
        let kept = kept.and_then(|(queue, result)| Some((self.queues.get(&queue)?.name.clone(), result)));
        Ok(match kept {
            Some((queue, result)) => Ok(Outcome::Ended(queue, End::Done(Some(result)))),
            None => Err(Refusal::UnknownMessage(id)),
        })
    }

    /// A message that is not in memory, and has not ended.
    pub(super) fn far_message(&self, id: MessageId, source: &impl Source) -> Result<Option<StoredPut>, StoreError> {
        if !self.is_far(id) || self.far == 0 {
            return Ok(None);
        }
        let stored = source.message(id)?;
        Ok(stored.filter(|stored| self.queues.get(&stored.queue).is_some_and(|queue| queue.counts.far > 0)))
    }

    fn found(&self, id: MessageId, source: &impl Source) -> Result<Option<Found>, StoreError> {
        let Some(message) = self.messages.get(id) else {
            let stored = self.far_message(id, source)?;
            return Ok(stored.map(|stored| Found {
                id,
                queue: self.queue(stored.queue).name.clone(),
                state: State::Delayed,
                at: stored.at,
                until: stored.put.due,
                priority: stored.put.priority,
                key: stored.put.key,
                rest: Rest::default(),
                history: Vec::new(),
                payload: stored.put.payload,
                headers: stored.put.headers,
            }));
        };
        let state = message.stage.state();
        let stored = source.message(id)?.map(|stored| stored.put);
        let history = if message.reasons() > 0 { source.reasons(id)? } else { Vec::new() };
        Ok(Some(Found {
            id,
            queue: self.queue(message.queue).name.clone(),
            state,
            at: message.at,
            until: match state {
                State::Delayed => Some(message.since()),
                State::Leased => self.leases.get(message.lease).map(|lease| lease.deadline),
                State::Ready | State::Dead => None,
            },
            priority: message.priority,
            key: (message.key != NONE).then(|| self.keys.get(message.key)).flatten().map(|key| key.name.clone()),
            rest: message.rest(),
            history,
            payload: stored.as_ref().map(|put| put.payload.clone()).unwrap_or_default(),
            headers: stored.map(|put| put.headers).unwrap_or_default(),
        }))
    }
}

impl Found {
    /// What a look counts it for.
    fn bytes(&self) -> usize {
        self.payload.len() + self.history.iter().map(|(_, why)| why.len()).sum::<usize>()
    }
}

impl Message {
    /// What happened to it so far.
    pub(super) fn rest(&self) -> Rest {
        Rest {
            deliveries: self.deliveries,
            failures: self.failures(),
            losses: self.losses(),
            redriven: self.extra.as_ref().map_or(0, |extra| extra.redriven),
        }
    }
}
