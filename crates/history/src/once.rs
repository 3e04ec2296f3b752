//! What is to be done once, however often it is asked for.

use std::collections::VecDeque;
use std::hash::Hash;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

/// How much a [`Once`] remembers. Past a bound the oldest key goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnceLimits {
    /// How long an answer is remembered.
    pub window: Duration,
    /// The number of keys.
    pub max_keys: usize,
    /// The size of all keys and answers, in bytes as their owner counts them.
    pub max_bytes: usize,
}

/// Keys of what is being done and of what was done, with who waits and what was answered.
///
/// ```text
///            begin              answer                 window over, or no room
///   unknown ───────► running ──────────────► answered ─────────────────────────► unknown
///                      │ begin: waits too       │ begin: the same answer
///                      └── give up: unknown
/// ```
#[derive(Debug)]
pub struct Once<K, W, A> {
    limits: OnceLimits,
    by_key: FxHashMap<K, Entry<W, A>>,
    /// Keys in the order they were answered; those that were forgotten meanwhile are out of date.
    answered: VecDeque<(Instant, K, u64)>,
    tickets: u64,
    bytes: usize,
}

#[derive(Debug)]
enum Entry<W, A> {
    Running(Vec<W>),
    Answered { answer: A, bytes: usize, ticket: u64 },
}

/// What is to happen when something is asked for.
#[derive(Debug, PartialEq, Eq)]
pub enum Begin<A> {
    /// It is new: do it, then [`Once::answer`] or [`Once::give_up`].
    Run,
    /// It is being done: the answer goes to this one as well.
    Waits,
    /// It was done.
    Answer(A),
    /// As much is being done as may be.
    Full,
}

impl<K: Clone + Eq + Hash, W, A: Clone> Once<K, W, A> {
    /// How many may wait for one key; past it those who have waited longest do not.
    pub const MAX_WAITING: usize = 16;

    /// Nothing is known.
    #[must_use]
    pub fn new(limits: OnceLimits) -> Self {
        Self { limits, by_key: FxHashMap::default(), answered: VecDeque::new(), tickets: 0, bytes: 0 }
    }

    /// Something is asked for by `who`.
    pub fn begin(&mut self, key: &K, who: W, now: Instant) -> Begin<A> {
        self.forget_old(now);
        match self.by_key.get_mut(key) {
            Some(Entry::Answered { answer, .. }) => Begin::Answer(answer.clone()),
            Some(Entry::Running(waiting)) => {
                if waiting.len() == Self::MAX_WAITING {
                    waiting.remove(0);
                }
                waiting.push(who);
                Begin::Waits
            }
            None => {
                while self.by_key.len() >= self.limits.max_keys {
                    if !self.forget_first() {
                        return Begin::Full;
                    }
                }
                self.by_key.insert(key.clone(), Entry::Running(vec![who]));
                Begin::Run
            }
        }
    }

    /// It is done: `answer`, of so many bytes with its key, is what everybody gets who asked, or asks within the window. Returns who
    /// waits. One that is larger than all may be is not remembered.
    pub fn answer(&mut self, key: &K, answer: A, bytes: usize, now: Instant) -> Vec<W> {
        let Some(Entry::Running(waiting)) = self.by_key.get_mut(key) else { return Vec::new() };
        let waiting = std::mem::take(waiting);
        let ticket = self.tickets;
        self.tickets += 1;
        self.by_key.insert(key.clone(), Entry::Answered { answer, bytes, ticket });
        self.answered.push_back((now, key.clone(), ticket));
        self.bytes += bytes;
        while self.bytes > self.limits.max_bytes && self.forget_first() {}
        waiting
    }

    /// It ended without an answer: whoever asks next does it again. Returns who waits in vain.
    pub fn give_up(&mut self, key: &K) -> Vec<W> {
        match self.by_key.get_mut(key) {
            Some(Entry::Running(waiting)) => {
                let waiting = std::mem::take(waiting);
                self.by_key.remove(key);
                waiting
            }
            _ => Vec::new(),
        }
    }

    /// How many keys are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether no key is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// The size of what is answered.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    fn forget_old(&mut self, now: Instant) {
        while self.answered.front().is_some_and(|(at, ..)| now.saturating_duration_since(*at) >= self.limits.window) {
            self.forget_first();
        }
    }

    /// Forgets the oldest answer. Returns whether there was one.
    fn forget_first(&mut self) -> bool {
        let Some((_, key, its)) = self.answered.pop_front() else { return false };
        if let Some(Entry::Answered { bytes, ticket, .. }) = self.by_key.get(&key)
            && *ticket == its
        {
            self.bytes -= bytes;
            self.by_key.remove(&key);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: OnceLimits = OnceLimits { window: Duration::from_secs(60), max_keys: 100, max_bytes: 1_000 };

    fn once(limits: OnceLimits) -> (Once<u32, char, &'static str>, Instant) {
        (Once::new(limits), Instant::now())
    }

    #[test]
    fn what_is_repeated_is_done_once_and_answered_each_time() {
        let (mut once, now) = once(LIMITS);
        assert_eq!(once.begin(&1, 'a', now), Begin::Run);
        assert_eq!(once.begin(&1, 'b', now), Begin::Waits);
        assert_eq!(once.begin(&2, 'c', now), Begin::Run);
        assert_eq!(once.answer(&1, "done", 10, now), ['a', 'b']);
        assert_eq!(once.begin(&1, 'd', now), Begin::Answer("done"));
        assert_eq!(once.answer(&1, "again", 10, now), []);
        assert_eq!(once.begin(&1, 'd', now + Duration::from_secs(59)), Begin::Answer("done"));
        assert_eq!(once.begin(&1, 'e', now + Duration::from_secs(60)), Begin::Run);
        assert_eq!((once.len(), once.bytes()), (2, 0));
    }

    #[test]
    fn what_ended_without_an_answer_is_done_again() {
        let (mut once, now) = once(LIMITS);
        once.begin(&1, 'a', now);
        once.begin(&1, 'b', now);
        assert_eq!(once.give_up(&1), ['a', 'b']);
        assert_eq!(once.begin(&1, 'c', now), Begin::Run);
        once.answer(&1, "done", 1, now);
        assert_eq!(once.give_up(&1), [], "too late");
        assert_eq!(once.begin(&1, 'd', now), Begin::Answer("done"));
    }

    #[test]
    fn who_repeats_without_end_keeps_few_waiting() {
        let (mut once, now) = once(LIMITS);
        for _ in 0..1_000 {
            once.begin(&1, 'a', now);
        }
        assert_eq!(once.answer(&1, "done", 1, now).len(), Once::<u32, char, &str>::MAX_WAITING);
    }

    #[test]
    fn keys_and_bytes_are_bounded_and_what_runs_is_never_forgotten() {
        let (mut once, now) = once(OnceLimits { max_keys: 3, ..LIMITS });
        for key in 0..3 {
            assert_eq!(once.begin(&key, 'a', now), Begin::Run);
        }
        assert_eq!(once.begin(&3, 'a', now), Begin::Full);
        once.answer(&1, "done", 10, now);
        assert_eq!(once.begin(&3, 'a', now), Begin::Run);
        assert_eq!(once.begin(&1, 'a', now), Begin::Full, "forgotten for the third");
        once.answer(&0, "large", 2_000, now);
        assert_eq!((once.len(), once.bytes()), (2, 0));
    }

    proptest! {
        #[test]
        fn nothing_runs_twice_within_the_window_and_everything_adds_up(
            steps in prop::collection::vec((0..4_u8, 0..6_u32, 0..30_u64), 0..200),
        ) {
            let (mut once, start) = once(OnceLimits { max_keys: 100, max_bytes: 100_000, window: Duration::from_secs(60) });
            let mut now = start;
            let mut running = std::collections::HashSet::new();
            let mut answered = std::collections::HashMap::new();
            for (step, key, seconds) in steps {
                now += Duration::from_secs(seconds);
                answered.retain(|_, at| now.duration_since(*at) < Duration::from_secs(60));
                match step {
                    0 | 1 => {
                        let expected = match (running.contains(&key), answered.contains_key(&key)) {
                            (true, _) => Begin::Waits,
                            (false, true) => Begin::Answer("done"),
                            (false, false) => Begin::Run,
                        };
                        prop_assert_eq!(once.begin(&key, 'w', now), expected);
                        if !answered.contains_key(&key) {
                            running.insert(key);
                        }
                    }
                    2 => {
                        let waited = !once.answer(&key, "done", 7, now).is_empty();
                        prop_assert_eq!(waited, running.remove(&key));
                        if waited {
                            answered.insert(key, now);
                        }
                    }
                    _ => {
                        prop_assert_eq!(!once.give_up(&key).is_empty(), running.remove(&key));
                    }
                }
                prop_assert!(once.bytes() % 7 == 0 && once.bytes() / 7 + running.len() == once.len());
            }
        }
    }
}
