//! Payloads of messages that somebody will have soon.

use std::collections::VecDeque;

use bytes::Bytes;
use posthaste_queue::MessageId;
use rustc_hash::FxHashMap;

/// What a payload takes besides its bytes.
const OVERHEAD: usize = 96;
/// So many messages are read at once when one of them is needed and those before it were read: those behind it will be next.
const AHEAD: usize = 128;

/// Payload and headers of messages, up to so many bytes: of what does not fit, whoever asks reads the disk.
pub(super) struct Bodies {
    bodies: FxHashMap<MessageId, (Bytes, Bytes)>,
    /// In the order they came; those that were taken since are still in it.
    order: VecDeque<MessageId>,
    bytes: usize,
    max_bytes: usize,
    /// Messages are on the disk in the order of their numbers. The last that was read.
    read_to: MessageId,
    /// So many were read at once.
    ahead: usize,
}

fn cost((payload, headers): &(Bytes, Bytes)) -> usize {
    payload.len() + headers.len() + OVERHEAD
}

impl Bodies {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { bodies: FxHashMap::default(), order: VecDeque::new(), bytes: 0, max_bytes, read_to: 0, ahead: AHEAD / 2 }
    }

    /// One is needed that is not there: how many are to be read, it and those behind it. Twice as many as the last time if they are
    /// needed in order, which they are not where there are keys or priorities.
    pub(super) fn ahead(&mut self, id: MessageId) -> usize {
        let is_next = (self.read_to..=self.read_to + AHEAD as u64).contains(&id);
        self.ahead = if is_next { (self.ahead * 2).min(AHEAD) } else { (self.ahead / 2).max(1) };
        self.ahead
    }

    /// Messages up to this one were read.
    pub(super) fn read_to(&mut self, id: MessageId) {
        self.read_to = id;
    }

    /// Keeps a body if there is room for it. What came before is needed sooner, most often.
    pub(super) fn offer(&mut self, id: MessageId, payload: Bytes, headers: Bytes) {
        let body = (payload, headers);
        let cost = cost(&body);
        if self.bytes + cost > self.max_bytes {
            return;
        }
        if let Some(before) = self.bodies.insert(id, body) {
            self.bytes -= self::cost(&before);
        } else {
            self.order.push_back(id);
        }
        self.bytes += cost;
    }

    /// Keeps a body, whatever has to go for it: one that was just read from the disk.
    pub(super) fn hold(&mut self, id: MessageId, payload: Bytes, headers: Bytes) {
        while self.bytes > self.max_bytes / 2
            && let Some(oldest) = self.order.pop_front()
        {
            self.remove(oldest);
        }
        self.offer(id, payload, headers);
    }

    pub(super) fn get(&self, id: MessageId) -> Option<(Bytes, Bytes)> {
        self.bodies.get(&id).cloned()
    }

    pub(super) fn remove(&mut self, id: MessageId) {
        if let Some(body) = self.bodies.remove(&id) {
            self.bytes -= cost(&body);
        }
        // Most messages end in the order they came.
        while let Some(first) = self.order.front()
            && !self.bodies.contains_key(first)
        {
            self.order.pop_front();
        }
        if self.order.len() > 2 * self.bodies.len() + 1_024 {
            let bodies = &self.bodies;
            self.order.retain(|id| bodies.contains_key(id));
        }
    }
}
