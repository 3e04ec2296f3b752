//! What time it is for queues, and what that brings.

use std::time::{Duration, Instant};

use posthaste_history::store::{StoreError, Timestamp};
use posthaste_queue::{Command, Group};

use crate::config::Clock;
use crate::work::committer::Committer;

/// Whose time is further behind than what waiting explains has a clock that was set back.
const SET_BACK: Duration = Duration::from_secs(1);
/// While there are more keys and results whose time is over.
const FORGET_PATIENCE: Duration = Duration::from_millis(5);
/// Longest sleep: by then the time of day is looked at again.
const SLEEP_MAX: Duration = Duration::from_millis(500);

impl Committer {
    /// What time it is. Time goes on also when the time of day is set back: what rests, and what is leased, would do so until the time of
    /// day is what it was.
    pub(super) fn clock(&self) -> Timestamp {
        let told = self.inner.config.now();
        match &self.inner.config.clock {
            Clock::Told(_) => told,
            Clock::OfDay(_) => told.max(Timestamp(self.now.0.saturating_add(self.looked.elapsed().as_millis() as u64))),
        }
    }

    pub(super) fn reach(&mut self, now: Timestamp) {
        if now > self.now {
            // What is less than a millisecond is not lost when this is done often.
            let passed = Duration::from_millis(now.0 - self.now.0);
            let steady = self.looked.checked_add(passed).filter(|at| *at <= Instant::now());
            self.now = now;
            self.looked = steady.unwrap_or_else(Instant::now);
        }
    }

    /// Times in a command are by the clock of who asks, which is behind if it was set back.
    pub(super) fn by_our_clock(&self, now: Timestamp, mut command: Command) -> Command {
        let behind = self.now.0.saturating_sub(now.0);
        if behind > SET_BACK.as_millis() as u64
            && let Command::Put(puts) = &mut command
        {
            let later = |at: &mut Timestamp| at.0 = at.0.saturating_add(behind);
            for put in puts {
                put.due.as_mut().into_iter().chain(put.expires.as_mut()).for_each(later);
            }
        }
        command
    }

    /// What time has brought by now comes before whatever is asked now, unless it is a long list.
    pub(super) fn catch_up(&mut self, group: &mut Group) -> Result<(), StoreError> {
        while self.ticks_left > 0 && self.is_behind_time() {
            self.give(group)?;
            self.ticks_left -= usize::from(self.is_behind_time());
        }
        Ok(())
    }

    pub(super) fn is_behind_time(&self) -> bool {
        self.machine.wake_at().is_some_and(|at| at <= self.now)
    }

    /// What is ready goes to whoever takes it: told at once, unless something has to be said first.
    pub(super) fn give(&mut self, group: &mut Group) -> Result<(), StoreError> {
        if self.machine.fires_at().is_some_and(|at| at <= self.now) {
            let has_room = self.free_bytes() >= self.inner.config.reserved_bytes;
            self.disk.has_room.set(has_room);
        }
        let effects = self.machine.tick(group, self.now, &self.disk)?;
        if group.is_awaited() || !self.late.is_empty() {
            self.late.extend(effects);
            return Ok(());
        }
        self.say(effects)
    }

    pub(super) fn patience(&self) -> Duration {
        if self.next.is_awaited() || (!self.chores.is_empty() && self.inner.healthy().is_ok()) {
            return Duration::ZERO;
        }
        let until = self.machine.wake_at().map_or(u64::MAX, |at| at.0.saturating_sub(self.clock().0.max(self.now.0)));
        let sync = self.unsynced_since.map(|since| self.inner.config.sync_interval.saturating_sub(since.elapsed()));
        let forgets = if self.forgot.is_none() { FORGET_PATIENCE } else { SLEEP_MAX };
        Duration::from_millis(until).min(SLEEP_MAX).min(sync.unwrap_or(SLEEP_MAX)).min(forgets)
    }
}
