//! Keys under which messages were put, so that repeating a put is harmless.

use std::collections::BTreeMap;
use std::sync::Arc;

use posthaste_history::store::Timestamp;
use rustc_hash::FxHashMap;

use crate::port::MessageId;

/// Until its message has ended.
const LIVE: Timestamp = Timestamp(u64::MAX);

/// The keys of one queue. The latest message under a key counts.
#[derive(Debug, Default)]
pub(super) struct Known {
    keys: FxHashMap<Arc<str>, (MessageId, Timestamp)>,
    /// The windows, those first that are over first.
    windows: BTreeMap<(Timestamp, MessageId), Arc<str>>,
}

impl Known {
    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The message that a key stands for.
    pub(super) fn get(&self, key: &str, now: Timestamp) -> Option<MessageId> {
        self.keys.get(key).filter(|(_, until)| *until > now).map(|(id, _)| *id)
    }

    /// A key stands for a message until then. When there are more than `max`, the one whose time is over first is forgotten; those
    /// whose message decides how long are not counted, for the queue's messages are.
    pub(super) fn remember(&mut self, key: &Arc<str>, id: MessageId, until: Timestamp, max: u64) {
        self.forget(key);
        if max == 0 {
            return;
        }
        self.keep(max - 1);
        self.windows.insert((until, id), key.clone());
        self.keys.insert(key.clone(), (id, until));
    }

    /// There are not more windows than this.
    pub(super) fn keep(&mut self, max: u64) {
        while self.windows.len() as u64 > max {
            let Some((_, oldest)) = self.windows.pop_first() else { break };
            self.keys.remove(&oldest);
        }
    }

    /// A key stands for a message until that has ended.
    pub(super) fn hold(&mut self, key: &Arc<str>, id: MessageId) {
        if self.keys.get(key).is_some_and(|(other, until)| *until == LIVE && *other > id) {
            return;
        }
        self.forget(key);
        self.keys.insert(key.clone(), (id, LIVE));
    }

    /// A message has ended: it holds its key no longer.
    pub(super) fn release(&mut self, key: &str, id: MessageId) {
        if self.keys.get(key) == Some(&(id, LIVE)) {
            self.keys.remove(key);
        }
    }

    fn forget(&mut self, key: &str) {
        if let Some((id, until)) = self.keys.remove(key) {
            self.windows.remove(&(until, id));
        }
    }

    /// Forgets what is over, at most `max`; how many they were, and when there is more to forget.
    pub(super) fn pass(&mut self, now: Timestamp, max: usize) -> (usize, Option<Timestamp>) {
        let mut done = 0;
        let next = loop {
            let first = self.windows.first_key_value().map(|((until, _), _)| *until);
            if done >= max || first.is_none_or(|until| until > now) {
                break first;
            }
            if let Some((_, key)) = self.windows.pop_first() {
                self.keys.remove(&key);
            }
            done += 1;
        };
        (done, next)
    }

    /// What has to be remembered: keys, their messages, until when.
    pub(super) fn windows(&self) -> impl Iterator<Item = (&Arc<str>, MessageId, Timestamp)> {
        self.windows.iter().map(|((until, id), key)| (key, *id, *until))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Arc<str> {
        name.into()
    }

    #[test]
    fn a_key_stands_for_its_message_until_its_time_is_over() {
        let mut known = Known::default();
        known.remember(&key("a"), 1, Timestamp(100), 10);
        assert_eq!(known.get("a", Timestamp(99)), Some(1));
        assert_eq!(known.get("a", Timestamp(100)), None);
        known.remember(&key("a"), 2, Timestamp(200), 10);
        assert_eq!(known.pass(Timestamp(150), 10), (0, Some(Timestamp(200))));
        assert_eq!(known.get("a", Timestamp(150)), Some(2));
        assert_eq!(known.pass(Timestamp(200), 0), (0, Some(Timestamp(200))));
        assert_eq!(known.pass(Timestamp(200), 10), (1, None));
        assert!(known.is_empty());
    }

    #[test]
    fn too_many_keys_forget_the_one_that_is_over_first() {
        let mut known = Known::default();
        for (name, id, until) in [("a", 1, 300), ("b", 2, 100), ("c", 3, 200)] {
            known.remember(&key(name), id, Timestamp(until), 2);
        }
        assert_eq!(["a", "b", "c"].map(|name| known.get(name, Timestamp(0))), [Some(1), None, Some(3)]);
    }

    #[test]
    fn a_message_holds_its_key_until_it_ends() {
        let mut known = Known::default();
        known.hold(&key("a"), 1);
        assert_eq!(known.get("a", Timestamp(u64::MAX - 1)), Some(1));
        known.release("a", 2);
        assert_eq!(known.get("a", Timestamp(0)), Some(1));
        known.release("a", 1);
        assert!(known.is_empty());
    }
}
