//! What is kept in memory of a message: 40 bytes, and a box for what few have.

use std::sync::Arc;

use posthaste_history::store::{Durability, Timestamp};

use crate::port::{Backoff, Put, State};

/// No index.
pub(super) const NONE: u32 = u32::MAX;

/// A message, without its payload.
#[derive(Debug)]
pub(super) struct Message {
    /// When it was put.
    pub at: Timestamp,
    /// What few messages have.
    pub extra: Option<Box<Extra>>,
    /// The number of its queue.
    pub queue: u32,
    /// [`Put::cost`].
    pub cost: u32,
    /// Its key's place, or [`NONE`].
    pub key: u32,
    /// Its lease's place, or [`NONE`].
    pub lease: u32,
    /// How often it was given to somebody.
    pub deliveries: u32,
    pub priority: u8,
    pub durability: u8,
    pub stage: Stage,
    /// It is not durable yet: in no order, and not to be given.
    pub is_held: bool,
}

/// Where a message is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Stage {
    #[default]
    Ready,
    /// Was put to be ready later, and may be forgotten while many are ready before it.
    Delayed,
    /// The same, but stays in memory.
    Waiting,
    /// Failed, and waits in its place.
    Resting,
    Leased,
    Dead,
}

/// What few messages have.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Extra {
    /// When it was to be ready as it was put.
    pub put_due: Option<Timestamp>,
    /// When it is ready; when it died, if it is dead.
    pub since: Timestamp,
    pub expires: Option<Timestamp>,
    pub attempts: Option<u32>,
    pub backoff: Option<Box<Backoff>>,
    pub keep_result_ms: Option<u64>,
    /// Stands for this key until it has ended.
    pub until_done: Option<Arc<str>>,
    pub failures: u32,
    pub losses: u32,
    pub redriven: u32,
}

impl Default for Message {
    fn default() -> Self {
        Self {
            at: Timestamp(0),
            extra: None,
            queue: NONE,
            cost: 0,
            key: NONE,
            lease: NONE,
            deliveries: 0,
            priority: 0,
            durability: 0,
            stage: Stage::Ready,
            is_held: false,
        }
    }
}

impl Stage {
    pub(super) const fn state(self) -> State {
        match self {
            Self::Ready => State::Ready,
            Self::Delayed | Self::Waiting | Self::Resting => State::Delayed,
            Self::Leased => State::Leased,
            Self::Dead => State::Dead,
        }
    }
}

impl Message {
    pub(super) fn extra_mut(&mut self) -> &mut Extra {
        let since = self.at;
        self.extra.get_or_insert_with(|| Box::new(Extra { since, ..Extra::default() }))
    }

    pub(super) fn since(&self) -> Timestamp {
        self.extra.as_ref().map_or(self.at, |extra| extra.since)
    }

    pub(super) fn expires(&self) -> Option<Timestamp> {
        self.extra.as_ref()?.expires
    }

    pub(super) fn put_due(&self) -> Option<Timestamp> {
        self.extra.as_ref()?.put_due
    }

    pub(super) fn failures(&self) -> u32 {
        self.extra.as_ref().map_or(0, |extra| extra.failures)
    }

    pub(super) fn losses(&self) -> u32 {
        self.extra.as_ref().map_or(0, |extra| extra.losses)
    }

    /// How many reasons the store may have of it: one for each failure, and one for being given up.
    pub(super) fn reasons(&self) -> u32 {
        self.failures().saturating_add(u32::from(self.stage == Stage::Dead))
    }

    pub(super) fn durability(&self) -> Durability {
        match self.durability {
            0 => Durability::Memory,
            1 => Durability::Os,
            2 => Durability::Disk,
            _ => Durability::Quorum,
        }
    }
}

/// What a put says that a plain message does not have.
pub(super) fn extra_of(put: &Put, at: Timestamp) -> Option<Box<Extra>> {
    let until_done = put.dedup.as_ref().filter(|dedup| dedup.mode == crate::port::DedupMode::UntilDone);
    let is_plain = put.due.is_none()
        && put.expires.is_none()
        && put.attempts.is_none()
        && put.backoff.is_none()
        && put.keep_result_ms.is_none()
        && until_done.is_none();
    (!is_plain).then(|| {
        Box::new(Extra {
            put_due: put.due,
            since: put.due.map_or(at, |due| due.max(at)),
            expires: put.expires,
            attempts: put.attempts,
            backoff: put.backoff.clone(),
            keep_result_ms: put.keep_result_ms,
            until_done: until_done.map(|dedup| dedup.key.clone()),
            ..Extra::default()
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_stays_small() {
        assert!(size_of::<Message>() <= 40, "{}", size_of::<Message>());
    }
}
