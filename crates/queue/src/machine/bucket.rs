//! How often something may happen: a token bucket in whole numbers.

use posthaste_history::store::Timestamp;

use crate::port::Rate;

/// What is left of a [`Rate`]. Full at the beginning, and after a restart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    /// In parts: one is [`Rate::per_ms`] of them, so that each millisecond brings [`Rate::count`].
    level: u64,
    at: Timestamp,
}

impl Bucket {
    pub(super) fn new(rate: Rate, now: Timestamp) -> Self {
        Self { level: full(rate), at: now }
    }

    /// When one may happen: `now`, or later.
    pub(super) fn next(&mut self, rate: Rate, now: Timestamp) -> Timestamp {
        let passed = now.0.saturating_sub(self.at.0);
        self.level = passed.saturating_mul(u64::from(rate.count)).saturating_add(self.level).min(full(rate));
        self.at = now; // a clock that went back begins anew from there
        let missing = rate.per_ms.saturating_sub(self.level);
        Timestamp(now.0 + missing.div_ceil(u64::from(rate.count)))
    }

    /// One happens. [`Self::next`] said that it may.
    pub(super) fn take(&mut self, rate: Rate) {
        self.level = self.level.checked_sub(rate.per_ms).expect("invariant: a bucket is asked before it is taken from");
    }

    /// When it is as good as a new one.
    pub(super) fn full_at(&self, rate: Rate) -> Timestamp {
        let missing = full(rate).saturating_sub(self.level);
        Timestamp(self.at.0 + missing.div_ceil(u64::from(rate.count)))
    }
}

fn full(rate: Rate) -> u64 {
    rate.per_ms * u64::from(rate.burst)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_at_once_and_then_so_many_in_a_time() {
        let rate = Rate { count: 3, per_ms: 1_000, burst: 2 };
        let mut bucket = Bucket::new(rate, Timestamp(0));
        let mut given = Vec::new();
        let mut now = Timestamp(0);
        for _ in 0..6 {
            now = bucket.next(rate, now);
            assert_eq!(bucket.next(rate, now), now);
            bucket.take(rate);
            given.push(now.0);
        }
        assert_eq!(given, [0, 0, 334, 667, 1_000, 1_334]);
        assert_eq!(bucket.next(rate, Timestamp(60_000)), Timestamp(60_000));
        bucket.take(rate);
        bucket.take(rate);
        assert_eq!(bucket.next(rate, Timestamp(60_000)), Timestamp(60_334));
        assert_eq!(bucket.next(rate, Timestamp(50_000)), Timestamp(50_334), "a clock that goes back stops nothing");
    }
}
