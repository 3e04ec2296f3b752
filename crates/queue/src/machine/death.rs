//! Messages that nobody could do.

use std::sync::Arc;

use posthaste_history::store::{StoreError, Timestamp};
use rustc_hash::FxHashMap;

use super::{Group, Machine, Source};
use crate::port::{Change, Effect, End, MessageId, Reason, StoredPut};

impl Machine {
    /// Of these messages, those that are put into another queue if they die now: read before anything is changed.
    pub(super) fn forwards_of(
        &self,
        dying: impl Iterator<Item = MessageId>,
        source: &impl Source,
    ) -> Result<FxHashMap<MessageId, StoredPut>, StoreError> {
        let mut forwards = FxHashMap::default();
        for id in dying {
            let Some(message) = self.messages.get(id) else { continue };
            if self.queue(message.queue).config.dead_letter.is_some() {
                forwards.extend(source.message(id)?.map(|stored| (id, stored)));
            }
        }
        Ok(forwards)
    }

    /// Whether one more failure is the last.
    pub(super) fn dies_of_failure(&self, id: MessageId) -> bool {
        let Some(message) = self.messages.get(id) else { return false };
        let own = message.extra.as_ref().and_then(|extra| extra.attempts);
        let attempts = own.unwrap_or_else(|| self.queue(message.queue).config.attempts);
        attempts != u32::MAX && message.failures().saturating_add(1) >= attempts
    }

    /// Whether coming back without a word once more is a failure.
    pub(super) fn fails_of_loss(&self, id: MessageId) -> bool {
        let Some(message) = self.messages.get(id) else { return false };
        message.losses().saturating_add(1) >= self.queue(message.queue).config.crash_limit
    }

    /// Whether coming back without a word once more is the end.
    pub(super) fn dies_of_loss(&self, id: MessageId) -> bool {
        self.fails_of_loss(id) && self.dies_of_failure(id)
    }

    /// A message is dead. It stays where it is, and is put into another queue as well if its own says so and `stored` is known.
    pub(super) fn die(
        &mut self,
        group: &mut Group,
        now: Timestamp,
        id: MessageId,
        why: &Arc<str>,
        is_failure: bool,
        stored: Option<&StoredPut>,
    ) {
        let message = self.messages.get(id).expect("invariant: a message that dies is there");
        let (number, durability) = (message.queue, message.durability());
        let reason = Reason { number: message.failures().saturating_add(1), text: why.clone() };
        group.durability = group.durability.max(durability);
        let queue = self.queue(number).name.clone();
        self.change(group, Change::Died { id, at: now, reason, is_failure });
        group.effects.push(Effect::Ended { queue, id, end: End::Dead(why.clone()) });
        let config = self.queue(number).config.clone();
        if let Some(name) = &config.dead_letter {
            let fresh = || {
                group.changes.iter().rev().find_map(|change| match change {
                    Change::Put(stored) if stored.id == id => Some((**stored).clone()),
                    _ => None,
                })
            };
            if let Some(stored) = stored.cloned().or_else(fresh) {
                self.forward(group, now, name, &stored);
            }
        }
        while self.queue(number).counts.dead > config.max_dead {
            let oldest = self.queue(number).rare.as_ref().and_then(|rare| rare.dead.first().copied());
            let (_, oldest) = oldest.expect("invariant: the dead that are counted are listed");
            self.finish(group, oldest, End::Removed, None);
        }
    }
}
