//! Messages that will be ready much later are left on the disk: only the next of them are in memory.

use posthaste_history::store::{StoreError, Timestamp};

use super::message::{NONE, Stage};
use super::{END, Machine, Source};
use crate::port::{Later, MessageId, State};

/// So many are read at once.
const PAGE: usize = 4_096;
/// Not fewer than so many of one queue.
const LEAST: usize = 128;

impl Machine {
    /// A message that will be ready later takes its place: in memory, unless others come before it.
    pub(super) fn come_near(&mut self, due: Timestamp, id: MessageId) {
        if (due, id) > self.covered {
            self.go_far(id);
            return;
        }
        self.clock.near.insert((due, id));
        if self.is_started && self.clock.near.len() > self.limits.near.saturating_mul(2) {
            self.trim();
        }
    }

    /// Leaves those on the disk that will be ready last.
    fn trim(&mut self) {
        while self.clock.near.len() > self.limits.near {
            let Some((_, id)) = self.clock.near.pop_last() else { break };
            self.go_far(id);
        }
        let last = self.clock.near.last().copied().unwrap_or_default();
        self.covered = self.covered.min(last);
    }

    /// A message, counted and in no order, leaves memory and stays counted.
    fn go_far(&mut self, id: MessageId) {
        let message = self.messages.remove(id).expect("invariant: a message that is left on the disk was in memory");
        if let Some(expires) = message.expires() {
            self.clock.expiring.remove(&(expires, id));
        }
        if message.key != NONE {
            self.unname(message.key);
        }
        let counts = &mut self.queue_mut(message.queue).counts;
        counts.far += 1;
        counts.far_bytes += u64::from(message.cost);
        self.far += 1;
    }

    /// A message is counted as one on the disk no longer: it is taken in, or has ended.
    pub(super) fn come_back(&mut self, queue: u32, cost: u64) {
        let Some(queue) = self.queues.get_mut(&queue) else { return };
        if queue.counts.far == 0 {
            return; // counted when the store had not written yet that it ended
        }
        let counts = &mut queue.counts;
        counts.far -= 1;
        counts.delayed -= 1;
        counts.far_bytes = counts.far_bytes.saturating_sub(cost);
        counts.bytes = counts.bytes.saturating_sub(cost);
        self.far -= 1;
    }

    pub(super) fn wants_more(&self) -> bool {
        self.far > 0 && self.clock.near.len() <= self.limits.near / 2 && self.is_started
    }

    /// Reads those that will be ready next, when there are few in memory; `most` of them if they are ready already.
    pub(super) fn load(&mut self, now: Timestamp, most: usize, source: &impl Source) -> Result<(), StoreError> {
        let mut read = 0;
        while self.wants_more() && read < most {
            read += self.load_page(now, source)?;
        }
        Ok(())
    }

    fn load_page(&mut self, now: Timestamp, source: &impl Source) -> Result<usize, StoreError> {
        let max = (self.limits.near.max(1) - self.clock.near.len()).min(PAGE);
        let page = source.delayed(self.covered, max)?;
        let (read, is_last) = (page.len(), page.len() < max);
        for (stored, cost) in page {
            let id = stored.id;
            self.covered = self.covered.max((stored.put.due.unwrap_or_default(), id));
            if self.messages.contains(id) || self.ending.contains(&id) || !self.queues.contains_key(&stored.queue) {
                continue;
            }
            self.come_back(stored.queue, cost);
            self.take_in(&stored, cost, false);
        }
        if is_last {
            self.covered = END;
            self.forget_far();
        }
        self.become_ready(now);
        Ok(read)
    }

    /// There are no more: whatever was counted, the store knows better.
    fn forget_far(&mut self) {
        if self.far == 0 {
            return;
        }
        for queue in self.queues.values_mut() {
            let counts = &mut queue.counts;
            counts.delayed -= counts.far;
            counts.bytes -= counts.far_bytes.min(counts.bytes);
            (counts.far, counts.far_bytes) = (0, 0);
        }
        self.far = 0;
    }

    /// All messages of a queue that are in memory stay there.
    pub(super) fn stay(&mut self, number: u32) {
        for id in self.members(number, State::Delayed) {
            if self.messages.get(id).is_some_and(|message| message.stage == Stage::Delayed) {
                self.leave(id);
                if let Some(message) = self.messages.get_mut(id) {
                    message.stage = Stage::Waiting;
                }
                self.enter(id);
            }
        }
    }

    /// From now on more may be on the disk than in memory. If so, all are left there: which of them are next, the store knows.
    pub(super) fn start_far(&mut self) {
        if self.far == 0 && self.clock.near.len() <= self.limits.near.saturating_mul(2) {
            return;
        }
        while let Some((_, id)) = self.clock.near.pop_first() {
            self.go_far(id);
        }
        self.covered = Default::default();
    }

    /// Messages of a queue that are not in memory, by number, behind `after`, at most `max`, among the first `looks` of those that were put
    /// to be ready later; and the last number that was looked at, unless there are none behind it.
    pub(super) fn far_members(
        &self,
        number: u32,
        mut after: MessageId,
        max: usize,
        mut looks: usize,
        source: &impl Source,
    ) -> Result<(Vec<Later>, Option<MessageId>), StoreError> {
        let mut found = Vec::new();
        if self.queue(number).counts.far == 0 {
            return Ok((found, None));
        }
        while found.len() < max && looks > 0 {
            // Not many more than are wanted: most of those that are listed are not in memory.
            let count = (max - found.len()).clamp(LEAST, PAGE).min(looks);
            let page = source.delayed_of(number, after, count)?;
            looks -= page.len();
            let is_last = page.len() < count;
            for later in page {
                if found.len() >= max {
                    return Ok((found, Some(after)));
                }
                after = later.id;
                if self.is_far(later.id) {
                    found.push(later);
                }
            }
            if is_last {
                return Ok((found, None));
            }
        }
        Ok((found, Some(after)))
    }

    /// Whether a message that the store lists as one to be ready later is on the disk alone.
    pub(super) fn is_far(&self, id: MessageId) -> bool {
        !self.messages.contains(id) && !self.ending.contains(&id)
    }
}
