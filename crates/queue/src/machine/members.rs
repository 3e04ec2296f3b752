//! Which messages a queue has.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::Machine;
use crate::port::{MessageId, State};

impl Machine {
    /// Messages of a queue in this state that are in memory, by number.
    pub(super) fn members(&self, number: u32, state: State) -> Vec<MessageId> {
        self.page(number, state, 0, usize::MAX)
    }

    /// The same, behind `after` and at most `max`. Of ready ones no more are looked at than that, besides one of each key.
    pub(super) fn page(&self, number: u32, state: State, after: MessageId, max: usize) -> Vec<MessageId> {
        let queue = self.queue(number);
        let counts = &queue.counts;
        let is_in = |id: &MessageId| {
            *id > after && self.messages.get(*id).is_some_and(|it| it.queue == number && it.stage.state() == state)
        };
        let mut ids: Vec<MessageId> = match state {
            State::Ready => self.ready_page(number, after, max),
            State::Delayed if counts.delayed > counts.far => {
                let all = self.clock.near.iter().chain(&self.clock.waiting);
                all.map(|(_, id)| *id).filter(is_in).collect()
            }
            State::Leased if counts.leased > 0 => self.leases.iter().map(|(_, lease)| lease.id).filter(is_in).collect(),
            State::Dead => {
                let dead = queue.rare.iter().flat_map(|rare| &rare.dead).map(|(_, id)| *id);
                dead.filter(|id| *id > after).collect()
            }
            State::Delayed | State::Leased => Vec::new(),
        };
        let held = self.held.iter().copied().filter(is_in);
        ids.extend(held.filter(|id| self.messages.get(*id).is_some_and(|message| message.is_held)));
        ids.sort_unstable();
        ids.truncate(max);
        ids
    }

    /// Some messages of a queue in this state that are in memory, with numbers below `before`: no more are looked at than have to be.
    pub(super) fn some(&self, number: u32, state: State, before: MessageId, max: usize, ids: &mut Vec<MessageId>) {
        let queue = self.queue(number);
        let counts = &queue.counts;
        let is_in = |id: &MessageId| {
            *id < before && self.messages.get(*id).is_some_and(|it| it.queue == number && it.stage.state() == state)
        };
        let first = ids.len();
        match state {
            State::Ready => ids.extend(self.ready_page(number, 0, max).into_iter().filter(is_in)),
            State::Delayed if counts.delayed > counts.far => {
                let all = self.clock.near.iter().chain(&self.clock.waiting);
                ids.extend(all.map(|(_, id)| *id).filter(is_in).take(max));
            }
            State::Leased if counts.leased > 0 => {
                ids.extend(self.leases.iter().map(|(_, lease)| lease.id).filter(is_in).take(max));
            }
            State::Dead => {
                let dead = queue.rare.iter().flat_map(|rare| &rare.dead).map(|(_, id)| *id);
                ids.extend(dead.filter(is_in).take(max));
            }
            State::Delayed | State::Leased => {}
        }
        let left = max - (ids.len() - first);
        let held = self.held.iter().copied().filter(is_in);
        ids.extend(held.filter(|id| self.messages.get(*id).is_some_and(|message| message.is_held)).take(left));
    }

    /// Merges what levels and keys have.
    fn ready_page(&self, number: u32, after: MessageId, max: usize) -> Vec<MessageId> {
        let queue = self.queue(number);
        let plain = queue.levels.iter().map(|level| &level.plain);
        let keyed = queue.keys.values().filter_map(|place| self.keys.get(*place)).map(|key| &key.line);
        let mut lines: Vec<_> = plain.chain(keyed).map(|line| line.after(after)).collect();
        let firsts = lines.iter_mut().enumerate().filter_map(|(at, line)| Some(Reverse((line.next()?, at))));
        let mut firsts: BinaryHeap<_> = firsts.collect();
        let mut ids = Vec::new();
        while let Some(Reverse((id, at))) = firsts.pop() {
            firsts.extend(lines[at].next().map(|next| Reverse((next, at))));
            let message = self.messages.get(id).expect("invariant: a message in a line is there");
            if message.stage.state() == State::Ready {
                ids.push(id);
            }
            if ids.len() >= max {
                break;
            }
        }
        ids
    }
}
