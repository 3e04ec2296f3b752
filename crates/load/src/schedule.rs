//! When each operation of an open loop is to happen, whatever the server does.
//!
//! A user does not wait for another user's answer. If the load did, a server that stalls for a second would delay the
//! very operations that should have met the stall, and the figures would leave out what was slow ("coordinated
//! omission"). So operation `k` is due at `start + k / rate`, and its latency counts from there even when it could
//! be sent only later.

/// A fixed rate from a fixed start. Times are nanoseconds of the run's own clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    start: u64,
    /// Nanoseconds between two operations; above 0.
    interval: f64,
}

impl Schedule {
    /// `rate` operations a second from `start` on; `rate` is above 0 (as the plan has checked).
    pub(crate) fn new(start: u64, rate: f64) -> Self {
        Self { start, interval: 1e9 / rate }
    }

    /// When operation `index`, counted from 0, is to happen.
    pub(crate) fn intended(&self, index: u64) -> u64 {
        self.start + (index as f64 * self.interval) as u64
    }

    /// How many operations are due until `now`, that moment included.
    pub(crate) fn due(&self, now: u64) -> u64 {
        let Some(elapsed) = now.checked_sub(self.start) else { return 0 };
        let mut count = (elapsed as f64 / self.interval) as u64;
        // Floating point is off by one at most; `intended` decides, so that the two agree.
        while self.intended(count) <= now {
            count += 1;
        }
        while count > 0 && self.intended(count - 1) > now {
            count -= 1;
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_due_at_even_distances() {
        let schedule = Schedule::new(1_000, 1e6); // every 1,000 ns
        for (now, due) in [(0, 0), (999, 0), (1_000, 1), (1_999, 1), (2_000, 2), (11_000, 11)] {
            assert_eq!(schedule.due(now), due, "{now}");
        }
        assert_eq!(schedule.intended(10), 11_000);
    }

    #[test]
    fn what_is_due_and_what_is_intended_agree_at_odd_rates() {
        for rate in [0.3, 3.0, 7.77, 999.0, 123_456.7] {
            let schedule = Schedule::new(17, rate);
            for index in [0, 1, 2, 99, 1_000, 123_456, 99_999_999] {
                let at = schedule.intended(index);
                assert_eq!(schedule.due(at), index + 1, "{rate} {index}");
                assert_eq!(schedule.due(at - 1), index, "{rate} {index}");
            }
        }
    }
}
