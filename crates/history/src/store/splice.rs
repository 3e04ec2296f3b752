//! From what was missed over to what happens now, for one receiver: nothing twice, nothing left out, nothing out of order.

use std::collections::VecDeque;

/// Joins pages of a replay with live events of the same shard.
///
/// ```text
///   pages of the log ─► page ──┐
///                              ├─► in order, each position once
///   live events ─────► live ───┘   (held back until the pages have reached them)
/// ```
///
/// Live events that come while pages are read wait here, up to a bound. Past it they are dropped, since the log has them: then the
/// pages have to come as far as the last of them before the receiver lives on its own.
#[derive(Clone, Debug)]
pub struct Splice<T> {
    /// Everything up to here was handed out.
    through: u64,
    /// Pages have to reach this.
    goal: u64,
    held: VecDeque<(u64, T)>,
    max_held: usize,
    is_live: bool,
}

impl<T> Splice<T> {
    /// A receiver that has everything up to `after`, while the shard is at `head`. At most `max_held` live events wait.
    #[must_use]
    pub fn new(after: u64, head: u64, max_held: usize) -> Self {
        Self { through: after, goal: head, held: VecDeque::new(), max_held, is_live: after >= head }
    }

    /// A live event. Returned if it may be handed on at once.
    pub fn live(&mut self, pos: u64, event: T) -> Option<T> {
        if self.is_live {
            let is_new = pos > self.through;
            self.through = self.through.max(pos);
            return is_new.then_some(event);
        }
        if pos > self.through {
            self.held.push_back((pos, event));
            if self.held.len() > self.max_held {
                self.goal = self.goal.max(pos);
                self.held.clear();
            }
        }
        None
    }

    /// A page: what there is after the last one (of which some may be older than that), complete up to `through`. Returns what is to be handed on.
    pub fn page(&mut self, events: impl IntoIterator<Item = (u64, T)>, through: u64) -> Vec<T> {
        let mut out: Vec<T> = Vec::new();
        for (pos, event) in events {
            if pos > self.through {
                self.through = pos;
                out.push(event);
            }
        }
        self.through = self.through.max(through);
        self.is_live |= self.through >= self.goal;
        if self.is_live {
            for (pos, event) in std::mem::take(&mut self.held) {
                if pos > self.through {
                    self.through = pos;
                    out.push(event);
                }
            }
        }
        out
    }

    /// Where the next page begins; `None` once live events are handed on at once.
    #[must_use]
    pub fn wants_page_after(&self) -> Option<u64> {
        (!self.is_live).then_some(self.through)
    }

    /// Everything up to here was handed out.
    #[must_use]
    pub fn through(&self) -> u64 {
        self.through
    }

    /// How many live events wait.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Events at even positions are the receiver's. Live ones come while pages are read, in every mixture.
        #[test]
        fn nothing_comes_twice_or_late_or_never(
            had in 0..20_u64,
            before in 0..30_u64,
            steps in prop::collection::vec((any::<bool>(), 1..9_u64), 0..60),
            max_held in 0..6_usize,
        ) {
            let mut head = had + before;
            let mut splice = Splice::new(had, head, max_held);
            let mut seen = Vec::new();
            let read = |splice: &mut Splice<u64>, seen: &mut Vec<u64>, size: u64, head: u64| {
                let Some(after) = splice.wants_page_after() else { return };
                let through = head.min(after + size);
                // A page may begin earlier than it has to.
                let from = after.saturating_sub(2);
                let events = (from + 1..=through).filter(|pos| pos % 2 == 0 && *pos > had).map(|pos| (pos, pos));
                seen.extend(splice.page(events, through));
            };
            for (is_page, size) in steps {
                if is_page {
                    read(&mut splice, &mut seen, size, head);
                } else {
                    for pos in head + 1..=head + size {
                        head = pos;
                        if pos % 2 == 0 {
                            seen.extend(splice.live(pos, pos));
                        }
                    }
                }
                prop_assert!(splice.held() <= max_held);
            }
            let mut rounds = 0;
            while splice.wants_page_after().is_some() {
                read(&mut splice, &mut seen, 5, head);
                rounds += 1;
                prop_assert!(rounds < 200, "it ends");
            }
            let expected: Vec<u64> = (had + 1..=head).filter(|pos| pos % 2 == 0).collect();
            prop_assert_eq!(seen, expected);
        }
    }

    #[test]
    fn who_has_everything_is_live_at_once() {
        let mut splice = Splice::new(7, 7, 1);
        assert_eq!(
            (splice.wants_page_after(), splice.live(8, "eight"), splice.live(8, "again")),
            (None, Some("eight"), None)
        );
    }
}
