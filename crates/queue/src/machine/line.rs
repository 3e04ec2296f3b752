//! Messages in the order of their numbers.

use std::collections::BTreeSet;

use crate::port::MessageId;

/// Messages in the order of their numbers: one that comes back has its old place.
#[derive(Debug, Default)]
pub(super) struct Line(BTreeSet<MessageId>);

impl Line {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn first(&self) -> Option<MessageId> {
        self.0.first().copied()
    }

    pub(super) fn insert(&mut self, id: MessageId) {
        let is_new = self.0.insert(id);
        assert!(is_new, "invariant: message {id} stands in one place");
    }

    pub(super) fn remove(&mut self, id: MessageId) {
        let was_there = self.0.remove(&id);
        assert!(was_there, "invariant: message {id} stands where its stage says");
    }

    /// Those behind `after`.
    pub(super) fn after(&self, after: MessageId) -> impl Iterator<Item = MessageId> + '_ {
        self.0.range(after.saturating_add(1)..).copied()
    }
}
