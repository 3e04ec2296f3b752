//! Messages in the order of their numbers.

use std::collections::BTreeSet;

use crate::port::MessageId;

/// Messages in the order of their numbers: one that comes back has its old place.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// Beside the others: most lines are no longer than this, and take no further memory.
    first: Option<MessageId>,
    /// All behind it.
    others: BTreeSet<MessageId>,
}

impl Line {
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    pub(super) fn first(&self) -> Option<MessageId> {
        self.first
    }

    pub(super) fn insert(&mut self, id: MessageId) {
        let behind = match &mut self.first {
            None => {
                self.first = Some(id);
                return;
            }
            Some(first) if id < *first => std::mem::replace(first, id),
            Some(first) => {
                assert!(*first != id, "invariant: message {id} stands in one place");
                id
            }
        };
        let is_new = self.others.insert(behind);
        assert!(is_new, "invariant: message {id} stands in one place");
    }

    pub(super) fn remove(&mut self, id: MessageId) {
        if self.first == Some(id) {
            self.first = self.others.pop_first();
            return;
        }
        let was_there = self.others.remove(&id);
        assert!(was_there, "invariant: message {id} stands where its stage says");
    }

    /// Those behind `after`.
    pub(super) fn after(&self, after: MessageId) -> impl Iterator<Item = MessageId> + '_ {
        let first = self.first.filter(|first| *first > after);
        first.into_iter().chain(self.others.range(after.saturating_add(1)..).copied())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! { // model: a sorted set
        #[test]
        fn a_line_is_in_order_whatever_comes_and_goes(steps in prop::collection::vec(0u64..20, 0..200), after in 0u64..20) {
            let (mut line, mut model) = (Line::default(), BTreeSet::new());
            for id in steps {
                if model.remove(&id) {
                    line.remove(id);
                } else {
                    model.insert(id);
                    line.insert(id);
                }
                prop_assert_eq!(line.first(), model.first().copied());
                prop_assert_eq!(line.is_empty(), model.is_empty());
            }
            prop_assert!(line.after(after).eq(model.range(after + 1..).copied()));
        }
    }
}
