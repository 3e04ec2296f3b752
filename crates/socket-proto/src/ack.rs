//! Events that we sent and whose answers we await.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

/// Answers awaited by many sockets, each until its deadline.
///
/// `K` tells sockets apart, `T` is whoever waits. An entry goes in one of four ways ([`take`](Self::take),
/// [`expire`](Self::expire), [`remove_socket`](Self::remove_socket), dropping the table) and leaves nothing behind.
/// Everything takes time logarithmic in the number of entries, times the number of entries returned.
///
/// ```
/// use std::time::{Duration, Instant};
/// use posthaste_socket_proto::AckTable;
///
/// let now = Instant::now();
/// let mut acks = AckTable::new(100);
/// acks.insert("socket", 1, now + Duration::from_secs(5), "waiter").expect("there is room");
/// assert_eq!(acks.take("socket", 1), Some("waiter"));
/// assert_eq!(acks.take("socket", 1), None); // an event is answered once
/// ```
#[derive(Debug)]
pub struct AckTable<K, T> {
    max_pending: usize,
    waiting: BTreeMap<(K, u64), (Instant, T)>,
    /// The same entries by time. An entry is always in both: one that was answered must not linger until its deadline.
    deadlines: BTreeSet<(Instant, K, u64)>,
    /// How many entries each socket has, if any.
    pending: BTreeMap<K, usize>,
}

/// Why an answer cannot be awaited. Gives back whoever wanted to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AckRefused<T> {
    /// The socket owes as many answers as it may.
    Full(T),
    /// An answer under this id is awaited already.
    Duplicate(T),
}

impl<T> AckRefused<T> {
    /// Whoever wanted to wait.
    pub fn into_inner(self) -> T {
        match self {
            Self::Full(waiter) | Self::Duplicate(waiter) => waiter,
        }
    }
}

impl<K: Copy + Ord, T> AckTable<K, T> {
    /// A table in which every socket may owe `max_pending` answers at a time.
    pub fn new(max_pending: usize) -> Self {
        Self { max_pending, waiting: BTreeMap::new(), deadlines: BTreeSet::new(), pending: BTreeMap::new() }
    }

    /// Awaits an answer of `socket` under `id` until `deadline`.
    ///
    /// # Errors
    /// [`AckRefused`] with `waiter` in it; nothing was changed.
    pub fn insert(&mut self, socket: K, id: u64, deadline: Instant, waiter: T) -> Result<(), AckRefused<T>> {
        if self.waiting.contains_key(&(socket, id)) {
            return Err(AckRefused::Duplicate(waiter));
        }
        if self.pending.get(&socket).copied().unwrap_or(0) >= self.max_pending {
            return Err(AckRefused::Full(waiter));
        }
        self.waiting.insert((socket, id), (deadline, waiter));
        self.deadlines.insert((deadline, socket, id));
        *self.pending.entry(socket).or_default() += 1;
        Ok(())
    }

    /// Whoever waits for the answer that came; `None` when nobody does, or no longer.
    pub fn take(&mut self, socket: K, id: u64) -> Option<T> {
        let (deadline, waiter) = self.waiting.remove(&(socket, id))?;
        self.deadlines.remove(&(deadline, socket, id));
        self.settle(socket);
        Some(waiter)
    }

    /// Everybody who waits for an answer of a socket that is gone, with the ids in ascending order.
    pub fn remove_socket(&mut self, socket: K) -> Vec<(u64, T)> {
        let mut removed = Vec::new();
        while let Some((&key, _)) = self.waiting.range((socket, 0)..=(socket, u64::MAX)).next() {
            if let Some((deadline, waiter)) = self.waiting.remove(&key) {
                self.deadlines.remove(&(deadline, socket, key.1));
                removed.push((key.1, waiter));
            }
        }
        self.pending.remove(&socket);
        removed
    }

    /// Takes out everybody whose deadline is `now` or earlier, earliest first.
    ///
    /// Those not taken from the iterator stay for the next time.
    pub fn expire(&mut self, now: Instant) -> impl Iterator<Item = (K, u64, T)> {
        std::iter::from_fn(move || {
            let &(deadline, socket, id) = self.deadlines.first().filter(|(deadline, ..)| *deadline <= now)?;
            self.deadlines.remove(&(deadline, socket, id));
            let (_, waiter) = self.waiting.remove(&(socket, id))?;
            self.settle(socket);
            Some((socket, id, waiter))
        })
    }

    /// The earliest deadline: when to call [`AckTable::expire`].
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|&(deadline, ..)| deadline)
    }

    /// How many answers are awaited.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether no answer is awaited.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    fn settle(&mut self, socket: K) {
        if let Some(pending) = self.pending.get_mut(&socket) {
            *pending -= 1;
            if *pending == 0 {
                self.pending.remove(&socket);
            }
        }
    }
}

/// Ids for events that ask for an answer: 0, 1, 2 and so on.
#[derive(Debug, Default)]
pub struct AckIds {
    next: u64,
}

impl AckIds {
    /// An id that was not given out before.
    pub fn next_id(&mut self) -> u64 {
        let id = self.next;
        self.next += 1; // at a billion a second, it overflows after five hundred years
        id
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn sizes<K, T>(acks: &AckTable<K, T>) -> [usize; 3] {
        [acks.waiting.len(), acks.deadlines.len(), acks.pending.values().sum()]
    }

    #[test]
    fn sec_29_nothing_is_kept_after_answer_timeout_or_departure() {
        let start = Instant::now();
        let mut acks = AckTable::new(1_000);
        let mut ids = AckIds::default();
        for round in 0..100 {
            for socket in 0..10_u32 {
                for _ in 0..10 {
                    let deadline = start + Duration::from_secs(round + 3_600);
                    acks.insert(socket, ids.next_id(), deadline, ()).unwrap();
                }
            }
            let oldest = ids.next - 100;
            assert!((oldest..oldest + 10).all(|id| acks.take(0, id).is_some()));
            assert_eq!(acks.remove_socket(1).len(), 10);
            assert_eq!(sizes(&acks), [80; 3], "answered entries do not wait for their deadline");
            assert_eq!(acks.expire(start + Duration::from_secs(round + 3_600)).count(), 80);
            assert_eq!(sizes(&acks), [0; 3]);
            assert!(acks.pending.is_empty());
            assert_eq!(acks.next_deadline(), None);
        }
    }

    #[test]
    fn a_socket_that_owes_too_many_answers_takes_room_from_no_other() {
        let mut acks = AckTable::new(2);
        let deadline = Instant::now();
        assert_eq!(acks.insert('a', 0, deadline, "x"), Ok(()));
        assert_eq!(acks.insert('a', 0, deadline, "y"), Err(AckRefused::Duplicate("y")));
        assert_eq!(acks.insert('a', 1, deadline, "x"), Ok(()));
        assert_eq!(acks.insert('a', 2, deadline, "z"), Err(AckRefused::Full("z")));
        assert_eq!(acks.insert('b', 2, deadline, "x"), Ok(()));
        assert_eq!(acks.take('a', 0), Some("x"));
        assert_eq!(acks.insert('a', 2, deadline, "z"), Ok(()));
        assert_eq!(AckRefused::Full(7).into_inner(), 7);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert { socket: u8, id: u64, deadline: u64 },
        Take { socket: u8, id: u64 },
        Remove { socket: u8 },
        Expire { now: u64, at_most: usize },
    }

    fn any_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..4_u8, 0..8_u64, 0..50_u64).prop_map(|(socket, id, deadline)| Step::Insert { socket, id, deadline }),
            2 => (0..4_u8, 0..8_u64).prop_map(|(socket, id)| Step::Take { socket, id }),
            1 => (0..4_u8).prop_map(|socket| Step::Remove { socket }),
            1 => (0..50_u64, 0..9_usize).prop_map(|(now, at_most)| Step::Expire { now, at_most }),
        ]
    }

    proptest! {
        #[test]
        fn the_table_agrees_with_a_plain_list(steps in prop::collection::vec(any_step(), 0..200)) {
            let start = Instant::now();
            let at = |millis| start + Duration::from_millis(millis);
            let mut acks = AckTable::new(5);
            let mut model: Vec<(u64, u8, u64, usize)> = Vec::new(); // deadline, socket, id, waiter
            for (waiter, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Insert { socket, id, deadline } => {
                        let expected = if model.iter().any(|entry| (entry.1, entry.2) == (socket, id)) {
                            Err(AckRefused::Duplicate(waiter))
                        } else if model.iter().filter(|entry| entry.1 == socket).count() == 5 {
                            Err(AckRefused::Full(waiter))
                        } else {
                            model.push((deadline, socket, id, waiter));
                            Ok(())
                        };
                        prop_assert_eq!(acks.insert(socket, id, at(deadline), waiter), expected);
                    }
                    Step::Take { socket, id } => {
                        let position = model.iter().position(|entry| (entry.1, entry.2) == (socket, id));
                        prop_assert_eq!(acks.take(socket, id), position.map(|position| model.remove(position).3));
                    }
                    Step::Remove { socket } => {
                        let mut expected: Vec<_> =
                            model.extract_if(.., |entry| entry.1 == socket).map(|entry| (entry.2, entry.3)).collect();
                        expected.sort_unstable();
                        prop_assert_eq!(acks.remove_socket(socket), expected);
                    }
                    Step::Expire { now, at_most } => {
                        model.sort_unstable();
                        let due = model.iter().take_while(|entry| entry.0 <= now).count().min(at_most);
                        let expected: Vec<_> = model.drain(..due).map(|entry| (entry.1, entry.2, entry.3)).collect();
                        prop_assert_eq!(acks.expire(at(now)).take(at_most).collect::<Vec<_>>(), expected);
                    }
                }
                prop_assert_eq!(sizes(&acks), [model.len(); 3]);
                prop_assert_eq!(acks.next_deadline(), model.iter().map(|entry| at(entry.0)).min());
            }
        }
    }
}
