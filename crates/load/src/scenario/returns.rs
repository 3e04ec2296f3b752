//! Who comes back when: at a moment of its own, and again after a refusal, as the official clients do.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::Wire;

/// How long the official clients wait before they try again: a second, doubled with each failure up to five, and half
/// more or less by chance.
const FIRST_DELAY_NS: u64 = 1_000_000_000;
const LONGEST_DELAY_NS: u64 = 5_000_000_000;

pub(super) struct Returns {
    /// Who begins when.
    due: BinaryHeap<Reverse<(u64, usize)>>,
    tries: Vec<u32>,
}

impl Returns {
    pub(super) fn new(connections: usize) -> Self {
        Self { due: BinaryHeap::new(), tries: vec![0; connections] }
    }

    /// Nobody comes back any more.
    pub(super) fn clear(&mut self) {
        self.tries.fill(0);
        self.due.clear();
    }

    /// Connection `id` is to begin at a random moment within `spread_ns`. Returns when.
    pub(super) fn within<W: Wire>(&mut self, wire: &mut W, id: usize, spread_ns: u64) -> u64 {
        let delay = if spread_ns == 0 { 0 } else { wire.random() % spread_ns };
        let at = wire.now() + delay;
        self.due.push(Reverse((at, id)));
        at
    }

    /// Connection `id` was refused, and tries again later.
    pub(super) fn again<W: Wire>(&mut self, wire: &mut W, id: usize) {
        let delay = (FIRST_DELAY_NS << self.tries[id].min(3)).min(LONGEST_DELAY_NS);
        self.tries[id] += 1;
        let delay = delay / 2 + wire.random() % delay;
        self.due.push(Reverse((wire.now() + delay, id)));
    }

    /// Who begins now, and when that was due; if nobody does, when that is a matter of time, the time.
    pub(super) fn next<W: Wire>(&mut self, wire: &W, at_once: usize) -> Result<(u64, usize), Option<u64>> {
        let Some(&Reverse((at, id))) = self.due.peek() else { return Err(None) };
        if at > wire.now() {
            return Err(Some(at));
        }
        if wire.shaking() >= at_once {
            return Err(None);
        }
        self.due.pop();
        Ok((at, id))
    }
}
