//! Messages with a key: in order, so many at a time, and one key's trouble is no other's.

use std::sync::Arc;

use super::Machine;
use super::bucket::Bucket;
use super::clock::Alarm;
use super::line::Line;
use super::message::Stage;
use crate::port::{MessageId, OnExhausted};

/// A key of a queue that has messages in memory.
#[derive(Debug)]
pub(super) struct Key {
    pub queue: u32,
    pub name: Arc<str>,
    /// Messages that name it, in all stages.
    pub messages: u32,
    pub leased: u32,
    pub dead: u32,
    /// Those that are ready, and those that rest and keep the ones behind them waiting.
    pub line: Line,
    /// The priority of its first message, if that may be given.
    pub level: Option<u8>,
    /// Levels that have an entry of it.
    pub listed: u32,
    /// It has had as much as it may for now.
    pub is_throttled: bool,
    pub bucket: Option<Bucket>,
}

impl Key {
    fn new(queue: u32, name: Arc<str>) -> Self {
        Self {
            queue,
            name,
            messages: 0,
            leased: 0,
            dead: 0,
            line: Line::default(),
            level: None,
            listed: 0,
            is_throttled: false,
            bucket: None,
        }
    }
}

impl Machine {
    /// The place of a key, with one message more.
    pub(super) fn key_for(&mut self, queue: u32, name: &Arc<str>) -> u32 {
        let found = self.queues.get(&queue).and_then(|queue| queue.keys.get(name).copied());
        let place = found.unwrap_or_else(|| {
            let place = self.keys.insert(Key::new(queue, name.clone()));
            self.queue_mut(queue).keys.insert(name.clone(), place);
            place
        });
        self.key_mut(place).messages += 1;
        place
    }

    /// One message less names a key; it is forgotten with the last, unless how often it had its turn has to be remembered.
    pub(super) fn unname(&mut self, place: u32) {
        let key = self.key_mut(place);
        key.messages -= 1;
        let (queue, bucket) = (key.queue, key.bucket);
        if let (0, Some(bucket)) = (key.messages, bucket) {
            let rate = self.queues.get(&queue).and_then(|queue| queue.config.key_rate);
            self.clock.alarm(rate.map_or_else(Default::default, |rate| bucket.full_at(rate)), Alarm::Key(place));
        }
        self.forget_key(place);
    }

    pub(super) fn forget_key(&mut self, place: u32) {
        let key = self.key_mut(place);
        if key.messages > 0 || key.bucket.is_some() {
            return;
        }
        let key = self.keys.remove(place).expect("invariant: a key was found a moment ago");
        if let Some(queue) = self.queues.get_mut(&key.queue) {
            queue.keys.remove(&key.name);
            if queue.keys.is_empty() {
                queue.keys = Default::default();
            }
        }
    }

    pub(super) fn key_mut(&mut self, place: u32) -> &mut Key {
        self.keys.get_mut(place).expect("invariant: a message's key is there")
    }

    /// A key's first message, if it may be given now but for rates.
    fn key_ready(&self, place: u32) -> Option<(MessageId, u8)> {
        let key = self.keys.get(place)?;
        let config = &self.queues.get(&key.queue)?.config;
        let is_blocked = key.dead > 0 && config.on_exhausted == OnExhausted::Block;
        if is_blocked || key.is_throttled || key.leased >= config.key_concurrency {
            return None;
        }
        let id = key.line.first()?;
        let message = self.messages.get(id).expect("invariant: a message in a key's line is there");
        (message.stage == Stage::Ready).then_some((id, message.priority))
    }

    /// Something about a key has changed: whether it has a message to give is found out anew.
    pub(super) fn refresh(&mut self, place: u32) {
        let ready = self.key_ready(place);
        let Some(key) = self.keys.get_mut(place) else { return };
        key.level = ready.map(|(_, priority)| priority);
        let Some(priority) = key.level else { return };
        let number = key.queue;
        if key.listed & (1 << priority) == 0 {
            key.listed |= 1 << priority;
            self.queue_mut(number).level_mut(priority).turns.push_back(place);
        }
        self.list(number);
    }
}
