//! One stream.

use crate::store::port::{Retention, StreamInfo, Timestamp};

/// One stream, as its shard knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamHead {
    /// A number that no other stream of the shard has or had.
    pub id: u64,
    /// The position of its last message.
    pub head: u64,
    /// The number of its last message.
    pub n: u64,
    /// Messages up to this position are forgotten.
    pub floor: u64,
    /// Messages up to this number are forgotten.
    pub floor_n: u64,
    /// The cost of what is kept.
    pub bytes: u64,
    /// When the oldest message that is kept was committed; `None` if that is not known without asking.
    pub oldest: Option<Timestamp>,
    /// How much is kept, if that was said.
    pub retention: Option<Retention>,
}

impl StreamHead {
    /// A stream that nothing was put in. What there may have been up to `floor` is forgotten: [`Heads::unknown`](super::Heads::unknown).
    #[must_use]
    pub const fn new(id: u64, floor: u64) -> Self {
        Self { id, head: floor, n: 0, floor, floor_n: 0, bytes: 0, oldest: None, retention: None }
    }

    /// Whether nothing is kept of it, and nothing came since this position.
    #[must_use]
    pub const fn is_idle(&self, through: u64) -> bool {
        self.n == self.floor_n && self.head <= through
    }

    /// What is [not known](super::Heads::unknown), if streams were dropped.
    #[must_use]
    pub fn once_dropped(self) -> Option<Self> {
        Some(self).filter(|head| head.floor > 0)
    }

    /// From when on something of it may have to be forgotten; [`u64::MAX`] if nothing ever has to be.
    pub(super) fn due(&self, default: Retention) -> u64 {
        let retention = self.retention.unwrap_or(default);
        let kept = self.n - self.floor_n;
        if kept == 0 {
            u64::MAX
        } else if kept > retention.max_messages || self.bytes > retention.max_bytes {
            // Kept before less was allowed.
            0
        } else if retention.max_age_ms == u64::MAX {
            u64::MAX
        } else {
            self.oldest.map_or(0, |oldest| oldest.0.saturating_add(retention.max_age_ms).saturating_add(1))
        }
    }

    /// As the port tells it.
    #[must_use]
    pub fn info(&self) -> StreamInfo {
        let Self { head, n, floor, floor_n, bytes, .. } = *self;
        StreamInfo { head, n, floor, messages: n - floor_n, bytes }
    }
}
