//! One timer for all connections of a worker.

use std::time::{Duration, Instant};

/// Time between two buckets: how late a ping or a timeout may be.
const TICK: Duration = Duration::from_millis(32);
/// Buckets; what is due later than all of them waits in the last and is put back from there.
const BUCKETS: u64 = 1024;

/// A timing wheel: connections in buckets by the time at which they are to be looked at again.
///
/// An entry is never searched for. A connection remembers the tick of its valid entry ([`Wheel::insert`] returns it); any other
/// entry of it that comes up is stale and dropped.
#[derive(Debug)]
pub(super) struct Wheel {
    start: Instant,
    /// All entries of ticks before this one were taken.
    next: u64,
    buckets: Vec<Bucket>,
    /// The entries of all buckets, and the places of entries that were taken.
    places: Vec<Place>,
    /// The first place to be used again.
    vacant: u32,
    entries: usize,
    /// No entry has an earlier tick.
    earliest: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) slot: u32,
    pub(super) generation: u32,
}

/// The entries of a tick, first in, first out.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    first: u32,
    last: u32,
}

/// An entry and the place of the one behind it. One table for all buckets: what was taken makes room for what comes, so a wheel that
/// turns allocates nothing.
#[derive(Clone, Copy, Debug)]
struct Place {
    entry: Entry,
    next: u32,
}

/// Where a chain ends.
const NONE: u32 = u32::MAX;

impl Bucket {
    const EMPTY: Self = Self { first: NONE, last: NONE };

    const fn is_empty(self) -> bool {
        self.first == NONE
    }
}

impl Wheel {
    pub(super) fn new(start: Instant) -> Self {
        let buckets = vec![Bucket::EMPTY; BUCKETS as usize];
        Self { start, next: 0, buckets, places: Vec::new(), vacant: NONE, entries: 0, earliest: 0 }
    }

    /// The first tick at or after `at`.
    fn tick_of(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.start);
        u64::try_from(since.as_millis().div_ceil(TICK.as_millis())).unwrap_or(u64::MAX)
    }

    /// Has `entry` looked at no earlier than `at` (or sooner, if `at` is beyond the wheel's reach). Returns the tick.
    pub(super) fn insert(&mut self, entry: Entry, at: Instant) -> u64 {
        let tick = self.tick_of(at).clamp(self.next, self.next + BUCKETS - 1);
        let place = self.place(entry);
        let bucket = &mut self.buckets[(tick % BUCKETS) as usize];
        if bucket.is_empty() {
            bucket.first = place;
        } else {
            self.places[bucket.last as usize].next = place;
        }
        bucket.last = place;
        self.earliest = if self.entries == 0 { tick } else { self.earliest.min(tick) };
        self.entries += 1;
        tick
    }

    /// Puts an entry where one was taken, or behind all others.
    fn place(&mut self, entry: Entry) -> u32 {
        let new = Place { entry, next: NONE };
        let place = self.vacant;
        if let Some(old) = self.places.get_mut(place as usize) {
            self.vacant = old.next;
            *old = new;
            return place;
        }
        let place = self.places.len() as u32;
        assert!(place < NONE, "invariant: a worker has fewer entries than there are places");
        self.places.push(new);
        place
    }

    /// The tick an entry for `at` would get: to see whether it would come before the one there is.
    pub(super) fn would_be(&self, at: Instant) -> u64 {
        self.tick_of(at).clamp(self.next, self.next + BUCKETS - 1)
    }

    /// Moves the entries that are due into `due`, each with its tick.
    pub(super) fn take_due(&mut self, now: Instant, due: &mut Vec<(u64, Entry)>) {
        let last =
            u64::try_from(now.saturating_duration_since(self.start).as_millis() / TICK.as_millis()).unwrap_or(u64::MAX);
        // After a long sleep each bucket is visited once.
        let until = last.saturating_add(1).min(self.next.saturating_add(BUCKETS));
        for tick in self.next..until {
            let bucket = std::mem::replace(&mut self.buckets[(tick % BUCKETS) as usize], Bucket::EMPTY);
            let mut at = bucket.first;
            while let Some(&Place { entry, next }) = self.places.get(at as usize) {
                due.push((tick, entry));
                self.entries -= 1;
                at = next;
            }
            if !bucket.is_empty() {
                // The whole chain is vacant now.
                self.places[bucket.last as usize].next = self.vacant;
                self.vacant = bucket.first;
            }
        }
        if self.entries == 0 {
            // Nothing is linked: places are given from the first one again, in the order of what comes.
            self.places.clear();
            self.vacant = NONE;
        }
        self.next = self.next.max(last.saturating_add(1));
    }

    /// When the next entry is due; `None` when there is none.
    pub(super) fn next_due(&mut self) -> Option<Instant> {
        if self.entries == 0 {
            return None;
        }
        // Looked for once, however often it is asked for.
        let first = self.earliest.max(self.next);
        let tick = (first..self.next + BUCKETS).find(|tick| !self.buckets[(tick % BUCKETS) as usize].is_empty())?;
        self.earliest = tick;
        Some(self.start + TICK * u32::try_from(tick).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_entry_comes_once_and_never_early(
            delays in proptest::collection::vec(0u64..60_000, 1..50),
            steps in proptest::collection::vec(1u64..20_000, 1..40),
        ) {
            let start = Instant::now();
            let mut wheel = Wheel::new(start);
            let mut wanted: Vec<Option<(Instant, u64)>> = delays
                .iter()
                .enumerate()
                .map(|(slot, delay)| {
                    let at = start + Duration::from_millis(*delay);
                    let tick = wheel.insert(Entry { slot: slot as u32, generation: 0 }, at);
                    Some((at, tick))
                })
                .collect();
            let mut now = start;
            for step in steps.into_iter().chain([60_000; 3]) {
                let next = wheel.next_due();
                now += Duration::from_millis(step);
                let mut due = Vec::new();
                wheel.take_due(now, &mut due);
                if let Some(next) = next {
                    prop_assert_eq!(next <= now, !due.is_empty(), "the timer fires when, and only when, something is due");
                }
                for (tick, entry) in due {
                    let (at, expected) = wanted[entry.slot as usize].take().expect("an entry comes once");
                    prop_assert_eq!(tick, expected);
                    if at > now {
                        // Beyond the wheel's reach: put back, as the worker does.
                        let tick = wheel.insert(entry, at);
                        wanted[entry.slot as usize] = Some((at, tick));
                    }
                }
                for (at, _) in wanted.iter().flatten() {
                    prop_assert!(*at + TICK > now, "nothing is later than a tick");
                }
            }
            prop_assert!(wanted.iter().all(Option::is_none));
            prop_assert_eq!(wheel.next_due(), None);
        }
    }
}
