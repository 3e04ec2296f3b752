//! What a client was sent of an inbox and has not answered.

use std::collections::VecDeque;

/// Messages in the order they were sent, up to so many at a time. A value: it knows neither clients nor stores.
#[derive(Clone, Debug)]
pub(super) struct Window {
    max: usize,
    sent: VecDeque<Sent>,
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    pos: u64,
    id: u64,
    is_answered: bool,
}

impl Window {
    pub(super) fn new(max: usize) -> Self {
        Self { max: max.max(1), sent: VecDeque::new() }
    }

    /// How many more may be sent.
    pub(super) fn free(&self) -> usize {
        self.max.saturating_sub(self.sent.len())
    }

    /// The message at `pos` is sent, and answered under `id`: a position behind those before, and none of their ids.
    pub(super) fn send(&mut self, pos: u64, id: u64) {
        debug_assert!(self.sent.back().is_none_or(|last| last.pos < pos));
        self.sent.push_back(Sent { pos, id, is_answered: false });
    }

    /// The message at `pos` is not sent after all, now or ever.
    pub(super) fn skip(&mut self, pos: u64) {
        let id = self.sent.back().map_or(0, |last| last.id);
        self.sent.push_back(Sent { pos, id, is_answered: true });
    }

    /// An answer has come. Returns up to where all have come now, if that is farther than before; nothing for one that was not asked
    /// for, or came before.
    pub(super) fn answer(&mut self, id: u64) -> Option<u64> {
        // Mostly the first.
        self.sent.iter_mut().find(|sent| sent.id == id && !sent.is_answered)?.is_answered = true;
        let mut passed = None;
        while let Some(first) = self.sent.front().filter(|first| first.is_answered) {
            passed = Some(first.pos);
            self.sent.pop_front();
        }
        passed
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_cursor_passes_what_is_answered_with_all_before_it() {
        let mut window = Window::new(3);
        for (pos, id) in [(10, 5), (20, 6), (30, 9)] {
            window.send(pos, id);
        }
        assert_eq!(window.free(), 0);
        assert_eq!(window.answer(6), None);
        assert_eq!(window.answer(7), None, "nobody asked");
        assert_eq!(window.answer(5), Some(20));
        assert_eq!(window.free(), 2);
        window.skip(40);
        assert_eq!(window.answer(9), Some(40));
        assert_eq!(window.answer(9), None, "it came before");
    }

    proptest! {
        /// Whatever comes back in whatever order, the cursor is before the first that is missing, and never goes back.
        #[test]
        fn the_cursor_never_passes_what_is_missing(answers in proptest::collection::vec(0..80_u64, 0..200), max in 1..64_usize) {
            let mut window = Window::new(max);
            let (mut next, mut cursor, mut heard) = (1, 0, BTreeSet::new());
            for answer in answers {
                while window.free() > 0 && next <= 60 {
                    window.send(next * 10, next);
                    next += 1;
                }
                if (1..next).contains(&answer) {
                    heard.insert(answer);
                }
                let before = cursor;
                cursor = window.answer(answer).unwrap_or(cursor);
                let missing = (1..).find(|id| !heard.contains(id)).unwrap();
                prop_assert!(cursor >= before);
                prop_assert_eq!(cursor, (missing - 1) * 10);
            }
        }
    }
}
