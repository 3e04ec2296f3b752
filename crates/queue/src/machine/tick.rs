//! What time brings.

use posthaste_history::store::{StoreError, Timestamp};

use super::clock::Alarm;
use super::message::Stage;
use super::{Group, Machine, Source};
use crate::port::{Effect, End, MessageId, Why};

/// So many things of a kind at once: what is left is done by the next tick, so that what is asked meanwhile has its turn.
pub(super) const STEPS: usize = 1_000;

impl Machine {
    /// Does what time brings, and gives out what may be given; returns what is to be said now. A long list is done in several ticks:
    /// [`Self::wake_at`] is in the past as long as there is more.
    ///
    /// # Errors
    /// [`StoreError`] if the store could not tell what was to be known. What was changed until then is in `group`.
    pub fn tick(&mut self, group: &mut Group, now: Timestamp, source: &impl Source) -> Result<Vec<Effect>, StoreError> {
        self.leases_run_out(group, now, source)?;
        self.fire(group, now, source)?;
        self.become_ready(now);
        self.load(now, STEPS, source)?;
        self.expire(group, now);
        self.alarms(group, now);
        let mut effects = Vec::new();
        self.give(group, now, &mut effects);
        Ok(effects)
    }

    /// When there is something to do for [`Self::tick`]; `None` until something is asked.
    #[must_use]
    pub fn wake_at(&self) -> Option<Timestamp> {
        if self.wants_more() {
            return Some(Timestamp(0));
        }
        let (clock, schedule) = (self.clock.next(), self.schedules.wake_at());
        clock.into_iter().chain(schedule).min()
    }

    fn leases_run_out(&mut self, group: &mut Group, now: Timestamp, source: &impl Source) -> Result<(), StoreError> {
        for _ in 0..STEPS {
            let Some((at, place)) = self.clock.due_lease(now) else { break };
            let Some(lease) = self.leases.get_mut(place).filter(|lease| lease.alarm == at) else { continue };
            let (id, token, consumer, deadline) = (lease.id, lease.token, lease.consumer, lease.deadline);
            if deadline > now {
                lease.alarm = deadline;
                self.clock.look_again(deadline, place);
                continue;
            }
            let forwards = match self.forwards_of(Some(id).into_iter().filter(|id| self.dies_of_loss(*id)), source) {
                Ok(forwards) => forwards,
                Err(error) => {
                    self.clock.look_again(at, place); // it has run out all the same
                    return Err(error);
                }
            };
            let message = self.messages.get(id).expect("invariant: a lease has its message");
            let number = message.queue;
            let queue = self.queue(number).name.clone();
            group.effects.push(Effect::Revoked { consumer, queue, id, token, why: Why::Expired });
            self.count(number, |it| it.leases_expired += 1);
            self.lose(group, now, id, "its lease ran out", &forwards);
        }
        Ok(())
    }

    /// Messages whose time has come.
    pub(super) fn become_ready(&mut self, now: Timestamp) {
        for _ in 0..STEPS {
            let first = |set: &std::collections::BTreeSet<(Timestamp, MessageId)>| set.first().copied();
            let (near, waiting) = (first(&self.clock.near), first(&self.clock.waiting));
            let next = [near, waiting].into_iter().flatten().min().filter(|(due, _)| *due <= now);
            let Some((_, id)) = next else { break };
            self.leave(id);
            let message = self.messages.get_mut(id).expect("invariant: a message that waits is there");
            message.stage = Stage::Ready;
            self.enter(id);
        }
    }

    fn expire(&mut self, group: &mut Group, now: Timestamp) {
        for _ in 0..STEPS {
            let Some((expires, id)) = self.clock.expiring.first().copied() else { break };
            if expires > now {
                break;
            }
            let message = self.messages.get(id).expect("invariant: a message that expires is there");
            group.durability = group.durability.max(message.durability());
            self.finish(group, id, End::Expired, None);
        }
    }

    fn alarms(&mut self, group: &mut Group, now: Timestamp) {
        let (mut again, mut left) = (Vec::new(), STEPS);
        while left > 0 {
            let Some(alarm) = self.clock.due_alarm(now) else { break };
            left -= 1;
            // One that has much to do leaves some of it to the others.
            let share = left.div_ceil(2);
            let (done, next) = match alarm {
                Alarm::Dead(number) => self.bury(group, now, number, share),
                Alarm::Known(number) => {
                    let rare = self.queues.get_mut(&number).and_then(|queue| queue.rare.as_mut());
                    rare.map_or((0, None), |rare| rare.known.pass(now, share))
                }
                Alarm::Queue(number) => {
                    if let Some(queue) = self.queues.get_mut(&number) {
                        queue.rare.iter_mut().for_each(|rare| rare.rests_until = Timestamp(0));
                        self.list(number);
                    }
                    (0, None)
                }
                Alarm::Key(place) => (0, self.key_alarm(now, place)),
            };
            left -= done;
            again.extend(next.map(|next| (next, alarm)));
        }
        // Those that are due already had their steps: the next tick goes on with them.
        again.into_iter().for_each(|(next, alarm)| self.clock.alarm(next, alarm));
    }

    /// Removes dead messages that are too old, at most `most`; how many they were, and when there will be more.
    fn bury(&mut self, group: &mut Group, now: Timestamp, number: u32, most: usize) -> (usize, Option<Timestamp>) {
        let mut done = 0;
        let next = loop {
            let queue = self.queues.get(&number);
            let first = queue.and_then(|it| Some((*it.rare.as_ref()?.dead.first()?, it.config.dead_ttl_ms)));
            let Some(((since, id), ttl_ms)) = first else { break None };
            let over = Timestamp(since.0 + ttl_ms);
            if over > now || done >= most {
                break Some(over);
            }
            self.finish(group, id, End::Removed, None);
            done += 1;
        };
        (done, next)
    }

    /// A key may be given again, or has been left alone for so long that nothing of it has to be remembered.
    fn key_alarm(&mut self, now: Timestamp, place: u32) -> Option<Timestamp> {
        let key = self.keys.get(place)?;
        let rate = self.queue(key.queue).config.key_rate;
        let key = self.key_mut(place);
        key.is_throttled = false;
        let full_at = key.bucket.as_ref().zip(rate).map(|(bucket, rate)| bucket.full_at(rate));
        if let Some(at) = full_at.filter(|at| *at > now && key.messages == 0) {
            return Some(at);
        }
        if key.messages == 0 {
            key.bucket = None;
        }
        self.refresh(place);
        self.forget_key(place);
        None
    }
}
