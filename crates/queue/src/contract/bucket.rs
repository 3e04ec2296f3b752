//! How much of a rate is left, as far as it can be known.

use crate::port::Rate;

/// What is in it in parts of a lease, `per_ms` of which are one: at least and at most.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    least: u64,
    most: u64,
    at: u64,
}

impl Bucket {
    pub(super) fn full(rate: Option<Rate>) -> Self {
        let most = rate.map_or(0, |rate| u64::from(rate.burst) * rate.per_ms);
        Self { least: most, most, at: 0 }
    }

    /// Another rate holds from now on, or nobody remembers what there was.
    pub(super) fn unknown(rate: Option<Rate>, now: u64) -> Self {
        Self { least: 0, at: now, ..Self::full(rate) }
    }

    fn filled(self, rate: Rate, now: u64) -> Self {
        let more = now.saturating_sub(self.at).saturating_mul(u64::from(rate.count));
        let most = u64::from(rate.burst) * rate.per_ms;
        let fill = |level: u64| level.saturating_add(more).min(most);
        Self { least: fill(self.least), most: fill(self.most), at: now }
    }

    /// Whether there is certainly (`sure`) or perhaps one in it. A millisecond is how exact that is.
    pub(super) fn has(self, rate: Option<Rate>, now: u64, sure: bool) -> bool {
        let Some(rate) = rate else { return true };
        let (filled, slack) = (self.filled(rate, now), u64::from(rate.count));
        if sure {
            filled.least >= (rate.per_ms + slack).min(rate.per_ms * u64::from(rate.burst))
        } else {
            filled.most + slack >= rate.per_ms
        }
    }

    pub(super) fn take(&mut self, rate: Option<Rate>, now: u64) {
        let Some(rate) = rate else { return };
        let filled = self.filled(rate, now);
        let take = |level: u64| level.saturating_sub(rate.per_ms);
        *self = Self { least: take(filled.least), most: take(filled.most), at: now };
    }
}
