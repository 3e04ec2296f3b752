//! Chance from a seed, and the order in which things happen.

use std::collections::BTreeMap;
use std::time::Duration;

/// SplitMix64: the same numbers for the same seed, on every machine.
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// A number from `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low + 1)
    }

    pub(crate) fn millis(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_micros(self.between(low * 1_000, high * 1_000))
    }

    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.next() % from.len() as u64).expect("an index")]
    }
}

/// What is to happen, by time; what was put in first happens first among equals.
pub(crate) struct Agenda<E> {
    events: BTreeMap<(Duration, u64), E>,
    count: u64,
}

impl<E> Agenda<E> {
    pub(crate) fn new() -> Self {
        Self { events: BTreeMap::new(), count: 0 }
    }

    pub(crate) fn at(&mut self, at: Duration, event: E) {
        self.count += 1;
        self.events.insert((at, self.count), event);
    }

    pub(crate) fn next(&mut self) -> Option<(Duration, E)> {
        self.events.pop_first().map(|((at, _), event)| (at, event))
    }
}

/// One direction of a stream: what is put in later never arrives earlier.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Lane(Duration);

impl Lane {
    /// When something that could arrive at `at` does.
    pub(crate) fn arrival(&mut self, at: Duration) -> Duration {
        self.0 = self.0.max(at);
        self.0
    }
}
