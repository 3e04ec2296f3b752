//! What is too old or too much is forgotten, oldest first.

use std::collections::{BTreeSet, VecDeque};

use super::{Group, Heads, Hot};
use crate::store::port::{StoreError, StreamName, Timestamp};

/// How many of the oldest messages are asked for at once.
const AHEAD: usize = 32;

/// What is known of a stored message without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its position.
    pub pos: u64,
    /// Its number.
    pub n: u64,
    /// Its cost.
    pub cost: u64,
    /// When it was committed.
    pub at: Timestamp,
}

/// What the rules ask of a store.
pub trait Source {
    /// The oldest messages of a stream after a position, at most `max`; none only if there is none.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    fn oldest(&self, stream: u64, after: u64, max: usize) -> Result<Vec<Kept>, StoreError>;

    /// Where a cursor is.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    fn cursor(&self, stream: u64, device: &str) -> Result<Option<u64>, StoreError>;

    /// Up to where every cursor of a stream is; `None` without cursors.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    fn passed(&self, stream: u64) -> Result<Option<u64>, StoreError>;
}

impl Heads {
    /// After a group was written: forgets what is too much in the streams it touched. Returns how many messages were forgotten.
    ///
    /// # Errors
    /// Those of `source`.
    pub fn settle(&mut self, group: &Group, source: &impl Source) -> Result<u64, StoreError> {
        let mut forgotten = 0;
        for name in &group.touched {
            let id = self.streams.get(name).map_or(0, |hot| hot.head.id);
            let trims = group.trims.iter().filter(|(stream, _)| *stream == id).map(|(_, through)| *through);
            forgotten += self.forget(name, trims.max().unwrap_or(0), None, source)?;
        }
        Ok(forgotten)
    }

    /// The numbers of streams, at most `max`, of which something may be too old. [Looking after](Heads::look_after) one takes it off.
    #[must_use]
    pub fn due(&self, now: Timestamp, max: usize) -> Vec<u64> {
        self.dues.range(..=(now.0, u64::MAX)).take(max).map(|(_, id)| *id).collect()
    }

    /// Forgets keys that are too old.
    pub fn forget_keys(&mut self, now: Timestamp) {
        self.window.forget(now);
    }

    /// Forgets of a stream that is in memory what is too old, or too much. Returns how many messages were forgotten.
    ///
    /// # Errors
    /// Those of `source`.
    pub fn look_after(&mut self, id: u64, now: Timestamp, source: &impl Source) -> Result<u64, StoreError> {
        let Some(name) = self.names.get(&id).cloned() else { return Ok(0) };
        let forgotten = self.forget(&name, 0, Some(now), source)?;
        if let Some(hot) = self.streams.get_mut(&name) {
            let due = hot.head.due(self.default);
            list(&mut self.dues, hot, due);
        }
        Ok(forgotten)
    }

    /// Forgets of one stream what was trimmed up to a position, and what is too much.
    ///
    /// # Errors
    /// Those of `source`.
    pub fn forget(
        &mut self,
        name: &StreamName,
        through: u64,
        now: Option<Timestamp>,
        source: &impl Source,
    ) -> Result<u64, StoreError> {
        let Some(hot) = self.streams.get_mut(name) else { return Ok(0) };
        let head = &mut hot.head;
        let retention = head.retention.unwrap_or(self.default);
        let passed = if retention.until_passed { source.passed(head.id)?.unwrap_or(0) } else { 0 };
        let through = through.max(passed);
        let (before, bytes_before) = (head.floor_n, head.bytes);
        while head.floor_n < head.n {
            let oldest_age = retention.max_age_ms;
            let is_much = head.n - head.floor_n > retention.max_messages || head.bytes > retention.max_bytes;
            if !is_much && head.floor >= through && now.is_none() {
                break;
            }
            let ahead = self.ahead.entry(head.id).or_default();
            if ahead.is_empty() {
                ahead.extend(source.oldest(head.id, head.floor, AHEAD)?);
            }
            let Some(oldest) = ahead.front() else {
                let (missing, last) = (head.floor_n + 1, head.n);
                return Err(StoreError::Damaged(format!("stream {name:?} lacks its messages {missing} to {last}")));
            };
            let is_old = now.is_some_and(|now| now.0.saturating_sub(oldest.at.0) > oldest_age);
            if !is_much && !is_old && oldest.pos > through {
                head.oldest = Some(oldest.at);
                break;
            }
            head.floor = oldest.pos;
            head.floor_n = oldest.n;
            head.bytes -= oldest.cost.min(head.bytes);
            ahead.pop_front();
            head.oldest = ahead.front().map(|next| next.at);
        }
        if self.ahead.get(&head.id).is_some_and(VecDeque::is_empty) {
            self.ahead.remove(&head.id);
        }
        let forgotten = head.floor_n - before;
        self.totals.filled -= u64::from(forgotten > 0 && head.floor_n == head.n);
        self.totals.messages -= forgotten;
        self.totals.bytes -= bytes_before - head.bytes;
        let due = head.due(self.default);
        if due < hot.listed || due == u64::MAX {
            list(&mut self.dues, hot, due);
        }
        Ok(forgotten)
    }
}

/// Lists a stream as due then.
pub(super) fn list(dues: &mut BTreeSet<(u64, u64)>, hot: &mut Hot, due: u64) {
    if hot.listed != due {
        dues.remove(&(hot.listed, hot.head.id));
        if due < u64::MAX {
            dues.insert((due, hot.head.id));
        }
        hot.listed = due;
    }
}
