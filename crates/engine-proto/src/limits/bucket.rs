//! How often something may happen.

use std::time::{Duration, Instant};

/// So many in a second, and so many at once after a quiet time.
///
/// ```
/// use posthaste_engine_proto::Rate;
/// let rate = Rate::per_second(100);
/// assert_eq!((rate.count(), rate.burst_size()), (100, 200));
/// assert_eq!(rate.burst(10).burst_size(), 10);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    count: u32,
    burst: u32,
}

impl Rate {
    /// `count` in a second, and twice as many at once.
    #[must_use]
    pub const fn per_second(count: u32) -> Self {
        Self { count, burst: count.saturating_mul(2) }
    }

    /// With `burst` at once after a quiet time, at least one.
    #[must_use]
    pub const fn burst(self, burst: u32) -> Self {
        Self { burst, ..self }
    }

    /// How many in a second.
    #[must_use]
    pub const fn count(self) -> u32 {
        self.count
    }

    /// How many at once.
    #[must_use]
    pub const fn burst_size(self) -> u32 {
        self.burst
    }

    /// Whether it lets nothing through at all.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.count == 0 || self.burst == 0
    }

    /// In what time `count` may happen.
    fn time_for(self, count: u32) -> Duration {
        let nanoseconds = u64::from(count) * 1_000_000_000 / u64::from(self.count.max(1));
        Duration::from_nanos(nanoseconds)
    }
}

/// A bucket of tokens that fills at a [`Rate`]: each thing that happens takes one.
///
/// It is one moment: when the bucket will be full again. (The generic cell rate algorithm, seen from the other side.)
///
/// ```
/// use std::time::{Duration, Instant};
/// use posthaste_engine_proto::{Rate, TokenBucket};
///
/// let (now, rate) = (Instant::now(), Rate::per_second(10).burst(2));
/// let mut bucket = TokenBucket::full(now);
/// assert_eq!(bucket.take(now, 2, rate), Ok(()));
/// assert_eq!(bucket.take(now, 1, rate), Err(Duration::from_millis(100)));
/// assert_eq!(bucket.take(now + Duration::from_millis(100), 1, rate), Ok(()));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenBucket {
    full_at: Instant,
}

impl TokenBucket {
    /// A full bucket.
    #[must_use]
    pub const fn full(now: Instant) -> Self {
        Self { full_at: now }
    }

    /// Takes `count` tokens.
    ///
    /// # Errors
    /// How long until there are as many; none was taken. More than the burst of `rate` never come together, whatever it says.
    pub fn take(&mut self, now: Instant, count: u32, rate: Rate) -> Result<(), Duration> {
        let full_at = self.full_at.max(now) + rate.time_for(count);
        let missing = full_at.duration_since(now).saturating_sub(rate.time_for(rate.burst));
        if missing > Duration::ZERO {
            return Err(missing);
        }
        self.full_at = full_at;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_bucket_is_one_moment() {
        assert_eq!(size_of::<TokenBucket>(), size_of::<Instant>());
    }

    #[test]
    fn what_was_refused_costs_nothing() {
        let (now, rate) = (Instant::now(), Rate::per_second(1).burst(1));
        let mut bucket = TokenBucket::full(now);
        assert_eq!(bucket.take(now, 1, rate), Ok(()));
        for _ in 0..1_000 {
            assert_eq!(bucket.take(now, 1, rate), Err(Duration::from_secs(1)));
        }
        assert_eq!(bucket.take(now + Duration::from_secs(1), 1, rate), Ok(()));
    }

    #[test]
    fn a_long_silence_saves_up_no_more_than_a_burst() {
        let (now, rate) = (Instant::now(), Rate::per_second(100).burst(5));
        let mut bucket = TokenBucket::full(now);
        let later = now + Duration::from_secs(86_400);
        assert_eq!((0..100).filter(|_| bucket.take(later, 1, rate).is_ok()).count(), 5);
    }

    proptest! {
        /// In no stretch of time is more taken than its seconds and one burst allow; and whoever waits as long as told gets in.
        #[test]
        fn no_stretch_of_time_lets_more_through_than_rate_and_burst(
            count in 1u32..1_000,
            burst in 1u32..50,
            steps in proptest::collection::vec((0u64..50_000_000, 1u32..4), 1..200),
        ) {
            let rate = Rate::per_second(count).burst(burst);
            let start = Instant::now();
            let mut now = start;
            let mut bucket = TokenBucket::full(start);
            let mut taken: Vec<(Instant, u32)> = Vec::new();
            for (pause, wanted) in steps {
                now += Duration::from_nanos(pause);
                match bucket.take(now, wanted, rate) {
                    Ok(()) => taken.push((now, wanted)),
                    Err(wait) if wanted <= burst => {
                        let mut other = bucket;
                        prop_assert_eq!(other.take(now + wait, wanted, rate), Ok(()));
                    }
                    Err(_) => {}
                }
            }
            for (index, (from, _)) in taken.iter().enumerate() {
                let mut sum = 0;
                for (until, wanted) in &taken[index..] {
                    sum += wanted;
                    let allowed = f64::from(burst) + until.duration_since(*from).as_secs_f64() * f64::from(count);
                    prop_assert!(f64::from(sum) <= allowed + 0.01, "{sum} of {allowed}");
                }
            }
        }
    }
}
