//! What concerns many messages, in steps: whoever asks for something else is not kept waiting until all of it is done.

use posthaste_history::store::{StoreError, Timestamp};

use super::{Group, Machine, Source};
use crate::port::{Change, Command, MessageId, Outcome, QueueName, Refusal, Select, State};

/// So many messages in one step.
const STEP: u64 = 1_000;
/// So many of those that are not in memory are looked at in one step.
const LOOKS: usize = 4_096;

const ALL: [State; 4] = [State::Ready, State::Delayed, State::Leased, State::Dead];

/// A command that is done in steps: [`Machine::steps`].
///
/// It concerns what was there when it began. What is asked between two steps sees what is left; when it stops in the middle, because the
/// process does, what was done of it stays so.
#[derive(Debug)]
pub struct Steps {
    kind: Kind,
    queue: QueueName,
    states: Vec<State>,
    /// Only messages with lower numbers.
    before: MessageId,
    /// Not more than so many.
    left: u64,
    done: u64,
    /// Those that are not in memory are looked at behind this one; `None` when that is over.
    far: Option<MessageId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Purge,
    Redrive,
    Delete,
}

impl Machine {
    /// The steps of a command that concerns more messages than are dealt with at once. `None`: it is to be [added](Self::add).
    #[must_use]
    pub fn steps(&self, command: &Command) -> Option<Steps> {
        let select = |states: &[State]| Select { states: states.to_vec(), id: None, max: None };
        let (kind, name, select) = match command {
            Command::Purge(name, select) => (Kind::Purge, name, select.clone()),
            Command::Redrive(name, wish) => (Kind::Redrive, name, Select { states: vec![State::Dead], ..wish.clone() }),
            Command::Delete(name) => (Kind::Delete, name, select(&ALL)),
            _ => return None,
        };
        let number = self.named(name).ok()?;
        let left = self.how_many(number, &select.states).min(select.max.map_or(u64::MAX, |max| max as u64));
        let has_far = select.states.contains(&State::Delayed) && self.queue(number).counts.far > 0;
        if select.id.is_some() || left == 0 || (left <= STEP && !has_far) {
            return None;
        }
        let far = has_far.then_some(0);
        let (queue, states) = (name.clone(), select.states);
        Some(Steps { kind, queue, states, before: self.next_id, left, done: 0, far })
    }

    /// Does the next step of a command: not more than a thousand changes, besides those that make an end. Returns the command's answer with
    /// the last.
    ///
    /// # Errors
    /// [`StoreError`] if the store could not tell what was to be known; nothing was changed by this step, and no other is to follow.
    pub fn step(
        &mut self,
        group: &mut Group,
        now: Timestamp,
        steps: &mut Steps,
        source: &impl Source,
    ) -> Result<Option<Result<Outcome, Refusal>>, StoreError> {
        let answer = |steps: &Steps| Ok(Some(Ok(Outcome::Count(steps.done))));
        let Some(number) = self.names.get(&steps.queue).copied() else {
            // Somebody else deleted it meanwhile.
            return if steps.kind == Kind::Delete { Ok(Some(Ok(Outcome::Done))) } else { answer(steps) };
        };
        match steps.kind {
            Kind::Redrive => {
                let max = steps.left.min(STEP);
                let select = Select { states: vec![State::Dead], id: None, max: Some(max as usize) };
                let count = match self.redrive(group, &steps.queue, &select) {
                    Ok(Outcome::Count(count)) => count,
                    Err(refusal) if steps.done == 0 => return Ok(Some(Err(refusal))),
                    // It is full.
                    Ok(_) | Err(_) => 0,
                };
                (steps.left, steps.done) = (steps.left - count, steps.done + count);
                if count < max || steps.left == 0 { answer(steps) } else { Ok(None) }
            }
            Kind::Purge => {
                let goes_on = self.remove_some(group, number, steps, source)? && steps.left > 0;
                if goes_on { Ok(None) } else { answer(steps) }
            }
            Kind::Delete => {
                if steps.done == 0 && !self.queue(number).is_draining {
                    // It is on its way out: nothing comes in that would have to go as well.
                    self.change(group, Change::Switched { queue: number, is_paused: true, is_draining: true });
                }
                let goes_on = self.remove_some(group, number, steps, source)?;
                if goes_on && (steps.far.is_some() || self.how_many(number, &ALL) > STEP) {
                    return Ok(None);
                }
                self.add(group, now, Command::Delete(steps.queue.clone()), source).map(Some)
            }
        }
    }

    fn how_many(&self, number: u32, states: &[State]) -> u64 {
        let counts = &self.queue(number).counts;
        let of = |state: &State| match state {
            State::Ready => counts.ready,
            State::Delayed => counts.delayed,
            State::Leased => counts.leased,
            State::Dead => counts.dead,
        };
        ALL.iter().filter(|state| states.contains(state)).map(of).sum()
    }

    /// Removes some of those that are meant: first of those in memory, then of the others. Returns whether there may be more.
    fn remove_some(
        &mut self,
        group: &mut Group,
        number: u32,
        steps: &mut Steps,
        source: &impl Source,
    ) -> Result<bool, StoreError> {
        let max = steps.left.min(STEP) as usize;
        let mut ids = Vec::new();
        for state in ALL {
            if steps.states.contains(&state) && ids.len() < max {
                self.some(number, state, steps.before, max - ids.len(), &mut ids);
            }
        }
        let mut count = ids.len() as u64;
        let mut far = Vec::new();
        let is_over = ids.is_empty() && steps.far.is_none();
        if ids.is_empty()
            && let Some(behind) = steps.far
        {
            far = source.delayed_of(number, behind, LOOKS)?;
            steps.far = far.last().filter(|_| far.len() == LOOKS).map(|later| later.id);
            far.retain(|later| later.id < steps.before && self.is_far(later.id));
            if far.len() > max {
                far.truncate(max);
                // On from there.
                steps.far = far.last().map(|later| later.id);
            }
            count = far.len() as u64;
        }
        self.promise(group);
        for id in ids {
            self.take_out(group, id);
        }
        for later in far {
            self.take_out_far(group, number, later);
        }
        (steps.left, steps.done) = (steps.left.saturating_sub(count), steps.done + count);
        Ok(!is_over)
    }
}
