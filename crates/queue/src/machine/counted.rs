//! What happened to the messages of a queue, counted. Not written: it begins anew with each start.

use super::Machine;
use crate::port::{Cause, Change, Counted, Depth, End, MessageId, Outcome, QueueName, Refusal};

impl Machine {
    pub(super) fn counts(&self, name: &QueueName) -> Result<Outcome, Refusal> {
        let number = self.named(name)?;
        let depth: Depth = self.depth(number);
        Ok(Outcome::Counts(depth, self.queue(number).counted.as_deref().copied().unwrap_or_default()))
    }

    /// Counts something of a queue, if it is there.
    pub(super) fn count(&mut self, queue: u32, what: impl FnOnce(&mut Counted)) {
        if let Some(queue) = self.queues.get_mut(&queue) {
            what(queue.counted.get_or_insert_default());
        }
    }

    /// As [`Machine::count`], of the queue that a message is in.
    pub(super) fn count_of(&mut self, id: MessageId, what: impl FnOnce(&mut Counted)) {
        if let Some(queue) = self.messages.get(id).map(|message| message.queue) {
            self.count(queue, what);
        }
    }

    /// A change that is new was made.
    pub(super) fn count_change(&mut self, change: &Change) {
        match change {
            Change::Put(stored) => self.count(stored.queue, |it| it.put += 1),
            Change::Leased { id, .. } => self.count_of(*id, |it| it.given += 1),
            Change::Returned { id, cause: Cause::Failed(_), .. } => self.count_of(*id, |it| it.failed += 1),
            Change::Returned { id, cause: Cause::Released, .. } => self.count_of(*id, |it| it.released += 1),
            Change::Died { id, .. } => self.count_of(*id, |it| it.died += 1),
            Change::Redriven { id, .. } => self.count_of(*id, |it| it.redriven += 1),
            _ => {}
        }
    }

    /// A message of a queue ended.
    pub(super) fn count_end(&mut self, queue: u32, end: &End) {
        self.count(queue, |it| match end {
            End::Done(_) => it.done += 1,
            End::Expired => it.expired += 1,
            End::Removed | End::Dead(_) => it.removed += 1,
        });
    }
}
