//! What the journals of a server share, and whose events and sessions go when it is too much.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use posthaste_history::{Budget, OffsetKey};

use super::{Journal, Recovery};

pub(super) struct Shared {
    pub(super) settings: Recovery,
    /// How long an event may be wanted: by a client that was gone when it happened, was found to be only at the end of a heartbeat,
    /// and stayed away as long as it may.
    pub(super) max_age: Duration,
    pub(super) budget: Budget,
    pub(super) key: OffsetKey,
    /// Of all namespaces.
    pub(super) bytes: AtomicUsize,
    pub(super) parked: AtomicUsize,
    all: Mutex<Vec<Weak<Journal>>>,
}

/// Adds to a list of what may be gone by now. Those that are gone are taken out when it would have to grow: each addition then costs
/// the same, however many there are. Returns how many were looked at.
fn add<T>(all: &mut Vec<Weak<T>>, one: Weak<T>) -> usize {
    let mut seen = 0;
    if all.len() == all.capacity() {
        seen = all.len();
        all.retain(|one| one.strong_count() > 0);
        // At least as many again before the next look, also when only a few were gone.
        all.reserve(all.len().max(4));
    }
    all.push(one);
    seen
}

impl Shared {
    pub(super) fn new(settings: Recovery, max_age: Duration, budget: Budget, key: OffsetKey) -> Self {
        let (bytes, parked) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { settings, max_age, budget, key, bytes, parked, all: Mutex::default() }
    }

    pub(super) fn add(&self, journal: &Arc<Journal>) {
        add(&mut self.lock(), Arc::downgrade(journal));
    }

    pub(super) fn each(&self) -> Vec<Arc<Journal>> {
        self.lock().iter().filter_map(Weak::upgrade).collect()
    }

    /// Forgets events when there are too many bytes: the oldest of all namespaces first, or a quiet one would lose what a busy one
    /// has no room for. Nothing of the journals may be locked.
    pub(super) fn forget_events(&self) {
        let max = self.settings.max_bytes;
        if self.bytes() <= max {
            return;
        }
        // Somewhat more than has to go: looking at all namespaces is for many events at a time.
        let enough = max - max / 16;
        let journals = self.each();
        let oldest = |index: usize, at: Option<Instant>| Some(Reverse((at?, index)));
        let mut queue: BinaryHeap<_> =
            journals.iter().enumerate().filter_map(|(index, journal)| oldest(index, journal.oldest_event())).collect();
        while let Some(Reverse((_, index))) = queue.pop() {
            let next = queue.peek().map(|Reverse((at, _))| *at);
            let left = journals[index].forget_events(next, || self.bytes() > enough);
            queue.extend(oldest(index, left));
            if self.bytes() <= enough {
                return;
            }
        }
    }

    /// Forgets sessions when there are too many, or when they take too many bytes even without any event: of the namespace that has
    /// most of them, or those of all others would go for one that many clients leave. Drops what applications keep with their sockets,
    /// so nothing may be locked or borrowed.
    pub(super) fn forget_sessions(&self) {
        let Recovery { max_bytes, max_sessions, .. } = self.settings;
        if self.parked() <= max_sessions && self.bytes() <= max_bytes {
            return;
        }
        // As with events.
        let enough = max_sessions - max_sessions / 16;
        let too_many = || self.parked() > enough || self.bytes() > max_bytes;
        let journals = self.each();
        let mut queue: BinaryHeap<_> =
            journals.iter().enumerate().map(|(index, journal)| (journal.parked(), index)).collect();
        while too_many()
            && let Some((_, index)) = queue.pop()
        {
            let next = queue.peek().map_or(0, |(parked, _)| *parked);
            let left = journals[index].forget_sessions(next, too_many);
            if left > 0 {
                queue.push((left, index));
            }
        }
    }

    pub(super) fn parked(&self) -> usize {
        self.parked.load(Ordering::Relaxed)
    }

    fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<Journal>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_many_namespaces_costs_the_same_and_those_that_are_gone_leave_nothing() {
        let (mut all, mut kept, mut seen) = (Vec::new(), Vec::new(), 0);
        for _ in 0..10_000 {
            kept.push(Arc::new(()));
            seen += add(&mut all, Arc::downgrade(&kept[kept.len() - 1]));
        }
        assert!(seen <= 20_000, "{seen} looks for 10,000");
        assert_eq!(all.iter().filter_map(Weak::upgrade).count(), 10_000);
        kept.truncate(10);
        let (most, mut seen) = (all.capacity(), 0);
        for _ in 0..100_000 {
            seen += add(&mut all, Arc::downgrade(&Arc::new(())));
        }
        assert!(all.capacity() <= most && seen <= 200_000, "{} places, {seen} looks", all.capacity());
        assert_eq!(all.iter().filter_map(Weak::upgrade).count(), 10);
    }
}
