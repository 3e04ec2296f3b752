//! What time it is for queues.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use posthaste_history::store::Timestamp;

/// What a time of day was at most at the beginning.
static BEGINNING: AtomicU64 = AtomicU64::new(0);
static BEGUN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The time of day, which does not go back in this process: what is due is told by it, and then the time of asking, and whoever compares the
/// two must not find hours between them.
pub(crate) fn now() -> Timestamp {
    let passed = BEGUN.elapsed().as_millis() as u64;
    steady(&BEGINNING, passed, crate::durable::now().0)
}

fn steady(beginning: &AtomicU64, passed: u64, of_day: u64) -> Timestamp {
    let told = of_day.saturating_sub(passed);
    let known = beginning.load(Ordering::Relaxed);
    let latest = if told > known { beginning.fetch_max(told, Ordering::Relaxed).max(told) } else { known };
    Timestamp(latest + passed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_when_the_time_of_day_is_set_back() {
        let beginning = AtomicU64::new(0);
        let told = [(0, 1_000), (5, 1_005), (10, 5_010), (20, 20), (30, 30), (40, 9_000)];
        let heard = told.map(|(passed, of_day)| steady(&beginning, passed, of_day).0);
        assert_eq!(heard, [1_000, 1_005, 5_010, 5_020, 5_030, 9_000]);
    }
}
