//! Keys that make repeating a message harmless, for a while.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use crate::store::port::Timestamp;

/// How long keys are remembered. Whatever is reached first forgets the oldest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowLimits {
    /// Milliseconds.
    pub max_age_ms: u64,
    /// Number of keys, of all streams together.
    pub max_keys: usize,
}

impl Default for WindowLimits {
    /// Two minutes, 100,000 keys.
    fn default() -> Self {
        Self { max_age_ms: 120_000, max_keys: 100_000 }
    }
}

/// A key, and what was stored under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// The number of the first of the message's streams.
    pub stream: u64,
    /// The key.
    pub key: Bytes,
    /// When it was stored.
    pub at: Timestamp,
    /// Where.
    pub pos: u64,
    /// Its number there.
    pub n: u64,
}

/// The keys of a shard that are remembered.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    limits: WindowLimits,
    by_key: HashMap<(u64, Bytes), Arc<Remembered>>,
    /// In the order they came.
    queue: VecDeque<Arc<Remembered>>,
}

impl Window {
    pub(crate) fn new(limits: WindowLimits) -> Self {
        Self { limits, by_key: HashMap::new(), queue: VecDeque::new() }
    }

    /// What is remembered under a key at this time.
    pub(crate) fn find(&self, now: Timestamp, stream: u64, key: &Bytes) -> Option<&Remembered> {
        let found = self.by_key.get(&(stream, key.clone()))?;
        let is_young = now.0.saturating_sub(found.at.0) < self.limits.max_age_ms;
        is_young.then_some(found)
    }

    pub(crate) fn remember(&mut self, remembered: Remembered) {
        let now = remembered.at;
        let remembered = Arc::new(remembered);
        self.by_key.insert((remembered.stream, remembered.key.clone()), remembered.clone());
        self.queue.push_back(remembered);
        self.forget(now);
    }

    /// Forgets what is too old, or too much. Returns how many keys went.
    pub(crate) fn forget(&mut self, now: Timestamp) -> usize {
        let before = self.queue.len();
        while let Some(oldest) = self.queue.front() {
            let is_young = now.0.saturating_sub(oldest.at.0) < self.limits.max_age_ms;
            if is_young && self.queue.len() <= self.limits.max_keys {
                break;
            }
            let Some(oldest) = self.queue.pop_front() else { break };
            let place = (oldest.stream, oldest.key.clone());
            // The key may have been used again since, when it was too old and not yet swept out.
            if self.by_key.get(&place).is_some_and(|there| Arc::ptr_eq(there, &oldest)) {
                self.by_key.remove(&place);
            }
        }
        before - self.queue.len()
    }

    /// The position of the oldest that is remembered.
    pub(crate) fn oldest(&self) -> Option<u64> {
        self.queue.front().map(|oldest| oldest.pos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remembered(key: &'static str, at: u64) -> Remembered {
        Remembered { stream: 1, key: Bytes::from_static(key.as_bytes()), at: Timestamp(at), pos: at, n: at }
    }

    fn knows(window: &Window, at: u64, key: &'static str) -> bool {
        window.find(Timestamp(at), 1, &Bytes::from_static(key.as_bytes())).is_some()
    }

    #[test]
    fn a_key_is_known_within_its_time_and_for_its_stream() {
        let mut window = Window::new(WindowLimits { max_age_ms: 10, max_keys: 10 });
        window.remember(remembered("a", 5));
        assert!(knows(&window, 14, "a") && !knows(&window, 15, "a") && !knows(&window, 6, "b"));
        assert!(window.find(Timestamp(6), 2, &Bytes::from_static(b"a")).is_none());
        // Used again before it was swept out: the old one must not take the new one with it.
        window.remember(remembered("a", 15));
        window.forget(Timestamp(16));
        assert!(knows(&window, 16, "a"));
    }

    #[test]
    fn past_their_number_the_oldest_key_is_forgotten() {
        let mut window = Window::new(WindowLimits { max_age_ms: 1_000, max_keys: 2 });
        for (at, key) in [(1, "a"), (2, "b"), (3, "c")] {
            window.remember(remembered(key, at));
        }
        assert!(!knows(&window, 3, "a") && knows(&window, 3, "b") && knows(&window, 3, "c"));
        assert_eq!((window.oldest(), window.by_key.len()), (Some(2), 2));
    }
}
