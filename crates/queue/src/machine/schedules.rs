//! What is put again and again, when it is time.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use posthaste_history::store::{StoreError, Timestamp};

use super::{Group, Machine, Source};
use crate::port::{
    Change, Dedup, DedupMode, Fired, Outcome, Put, QueueName, Refusal, Schedule, ScheduleName, Scheduled, name_is_good,
};
use crate::times::Times;

/// So many schedules of one look.
const MAX: usize = 1_000;
/// So many messages of one tick, and those of one schedule.
const STEPS: usize = 1_000;

/// All schedules, and when the next of them has something to put.
#[derive(Default)]
pub(super) struct Schedules {
    all: BTreeMap<ScheduleName, Entry>,
    /// Those that are not paused, by when there is something to do.
    wakes: BTreeSet<(Timestamp, ScheduleName)>,
    /// What they take in memory, about.
    bytes: u64,
}

struct Entry {
    scheduled: Scheduled,
    wake: Option<Timestamp>,
}

impl Schedules {
    pub(super) fn wake_at(&self) -> Option<Timestamp> {
        self.wakes.first().map(|(at, _)| *at)
    }

    pub(super) fn get(&self, name: &ScheduleName) -> Option<&Scheduled> {
        self.all.get(name).map(|entry| &entry.scheduled)
    }

    /// Those behind a name, by name.
    pub(super) fn after(&self, name: Option<&ScheduleName>) -> impl Iterator<Item = (&ScheduleName, &Scheduled)> {
        let from = name.map_or(Unbounded, Excluded);
        self.all.range::<ScheduleName, _>((from, Unbounded)).map(|(name, entry)| (name, &entry.scheduled))
    }

    /// One that has something to put by now.
    fn due(&self, now: Timestamp) -> Option<(ScheduleName, Scheduled)> {
        let (_, name) = self.wakes.first().filter(|(at, _)| *at <= now)?;
        Some((name.clone(), self.get(name)?.clone()))
    }

    pub(super) fn set(&mut self, name: &ScheduleName, scheduled: Scheduled) {
        self.remove(name);
        self.bytes += size(name, &scheduled.schedule);
        let wake = (!scheduled.is_paused).then_some(scheduled.next);
        self.wakes.extend(wake.map(|at| (at, name.clone())));
        self.all.insert(name.clone(), Entry { scheduled, wake });
    }

    pub(super) fn remove(&mut self, name: &ScheduleName) {
        let Some(entry) = self.all.remove(name) else { return };
        self.bytes -= size(name, &entry.scheduled.schedule);
        if let Some(at) = entry.wake {
            self.wakes.remove(&(at, name.clone()));
        }
    }

    pub(super) fn go_on(&mut self, name: &ScheduleName, next: Timestamp, last: Option<Fired>, count: u64) {
        let entry = self.all.get_mut(name).expect("invariant: a schedule that goes on is there");
        let scheduled = &mut entry.scheduled;
        (scheduled.next, scheduled.last, scheduled.count, scheduled.problem) = (next, last, count, None);
        self.wake(name, next);
    }

    /// There is something to do for a schedule then.
    fn wake(&mut self, name: &ScheduleName, at: Timestamp) {
        let Some(entry) = self.all.get_mut(name).filter(|entry| !entry.scheduled.is_paused) else { return };
        if let Some(before) = entry.wake.replace(at) {
            self.wakes.remove(&(before, name.clone()));
        }
        self.wakes.insert((at, name.clone()));
    }

    /// Something keeps a schedule from putting what is due. It is tried again.
    fn rest(&mut self, name: &ScheduleName, now: Timestamp, problem: &'static str) {
        if let Some(entry) = self.all.get_mut(name) {
            entry.scheduled.problem = Some(problem);
        }
        self.wake(name, Timestamp(now.0 + Schedule::RETRY_MS));
    }
}

/// What a schedule takes in memory, about.
fn size(name: &ScheduleName, schedule: &Schedule) -> u64 {
    const BESIDES: u64 = 1_024;
    name.len() as u64 + schedule.put.cost() + BESIDES
}

impl Machine {
    /// Puts what is due. One thing that is refused keeps no other waiting.
    ///
    /// # Errors
    /// [`StoreError`] if the store could not tell what was to be known. What was put until then has been seen to.
    pub(super) fn fire(&mut self, group: &mut Group, now: Timestamp, source: &impl Source) -> Result<(), StoreError> {
        let mut steps = 0;
        while steps < STEPS
            && let Some((name, scheduled)) = self.schedules.due(now)
        {
            steps += self.fire_one(group, now, &name, scheduled, source)?;
        }
        Ok(())
    }

    /// Returns how much there was to do.
    fn fire_one(
        &mut self,
        group: &mut Group,
        now: Timestamp,
        name: &ScheduleName,
        scheduled: Scheduled,
        source: &impl Source,
    ) -> Result<usize, StoreError> {
        let Scheduled { schedule, next: first, mut last, mut count, .. } = scheduled;
        if !source.has_room() {
            self.schedules.rest(name, now, "storage_full");
            return Ok(1);
        }
        let times = match Times::new(&schedule.when) {
            Ok(times) => times,
            // It could be read when it was told; another version of this program may know less.
            Err(refusal) => {
                self.schedules.rest(name, now, refusal.code());
                return Ok(1);
            }
        };
        let (due, mut next) = times.due(first, now, schedule.missed);
        let mut problem = None;
        let steps = due.len().max(1);
        for time in due {
            let put = schedule.message(name, time, now);
            match self.put(group, now, vec![put], source) {
                Ok(Ok(outcome)) => {
                    if let Outcome::Put(receipts) = outcome {
                        count += 1;
                        last = receipts.first().map(|receipt| Fired { time, at: now, id: receipt.id });
                    }
                }
                Ok(Err(refusal)) => {
                    (problem, next) = (Some(Ok(refusal.code())), time);
                    break;
                }
                Err(error) => {
                    (problem, next) = (Some(Err(error)), time);
                    break;
                }
            }
        }
        if next != first {
            self.change(group, Change::Fired { name: name.clone(), next, last, count });
        }
        match problem {
            None => {}
            Some(Ok(code)) => self.schedules.rest(name, now, code),
            Some(Err(error)) => {
                self.schedules.rest(name, now, "unavailable");
                return Err(error);
            }
        }
        Ok(steps)
    }

    pub(super) fn schedule(
        &mut self,
        group: &mut Group,
        now: Timestamp,
        name: ScheduleName,
        mut schedule: Schedule,
        is_paused: Option<bool>,
    ) -> Result<Outcome, Refusal> {
        if !name_is_good(&name) {
            return Err(Refusal::BadName(name.to_string()));
        }
        let capabilities = &self.limits.capabilities;
        schedule.check(now.0, capabilities.max_payload)?;
        let (asked, best) = (schedule.put.durability, capabilities.durability);
        if asked > best {
            return Err(Refusal::Invalid(format!("durability {asked}: this store promises {best} at best")));
        }
        let (_, next) = Times::read(&mut schedule.when, now)?;
        let before = self.schedules.get(&name);
        if let Some(other) = before.filter(|before| before.schedule.put.queue != schedule.put.queue) {
            return Err(Refusal::OtherQueue { name, queue: other.schedule.put.queue.clone() });
        }
        if before.is_none() && !self.names.contains_key(&schedule.put.queue) && !self.limits.makes_queues {
            return Err(Refusal::UnknownQueue(schedule.put.queue));
        }
        let bytes = self.schedules.bytes + size(&name, &schedule);
        let bytes = bytes - before.map_or(0, |before| size(&name, &before.schedule));
        if before.is_none() && self.schedules.all.len() >= Schedule::MAX_COUNT || bytes > Schedule::MAX_BYTES {
            return Err(Refusal::TooMany { what: "schedules, or bytes of them", max: Schedule::MAX_COUNT });
        }
        let was_paused = before.is_some_and(|before| before.is_paused);
        let is_paused = is_paused.unwrap_or(was_paused);
        let scheduled = match before {
            None => {
                let schedule = Arc::new(schedule);
                Scheduled { schedule, is_paused, next, last: None, count: 0, problem: None }
            }
            Some(before) => {
                let goes_on = before.schedule.when == schedule.when && (!was_paused || is_paused);
                let next = if goes_on { before.next } else { next };
                Scheduled { schedule: Arc::new(schedule), is_paused, next, ..before.clone() }
            }
        };
        self.promise(group);
        if before != Some(&scheduled) {
            self.change(
                group,
                Change::Scheduled { name: name.clone(), scheduled: Box::new(Scheduled { problem: None, ..scheduled }) },
            );
        }
        self.get_schedule(&name)
    }

    /// A schedule, if it puts into this queue.
    fn scheduled(&self, name: &ScheduleName, queue: Option<&QueueName>) -> Result<&Scheduled, Refusal> {
        let found = self.schedules.get(name).filter(|it| queue.is_none_or(|queue| it.schedule.put.queue == *queue));
        found.ok_or_else(|| Refusal::UnknownSchedule(name.clone()))
    }

    pub(super) fn unschedule(
        &mut self,
        group: &mut Group,
        name: ScheduleName,
        queue: Option<&QueueName>,
    ) -> Result<(), Refusal> {
        self.scheduled(&name, queue)?;
        self.promise(group);
        self.change(group, Change::Unscheduled { name });
        Ok(())
    }

    pub(super) fn pause_schedule(
        &mut self,
        group: &mut Group,
        now: Timestamp,
        name: &ScheduleName,
        queue: Option<&QueueName>,
        is_paused: bool,
    ) -> Result<(), Refusal> {
        let before = self.scheduled(name, queue)?;
        self.promise(group);
        if before.is_paused != is_paused {
            let next =
                if is_paused { before.next } else { Times::new(&before.schedule.when)?.next(now).unwrap_or_default() };
            let scheduled = Box::new(Scheduled { is_paused, next, problem: None, ..before.clone() });
            self.change(group, Change::Scheduled { name: name.clone(), scheduled });
        }
        Ok(())
    }

    pub(super) fn run_schedule(
        &mut self,
        group: &mut Group,
        now: Timestamp,
        name: &ScheduleName,
        queue: Option<&QueueName>,
        source: &impl Source,
    ) -> Result<Result<Outcome, Refusal>, StoreError> {
        let schedule = match self.scheduled(name, queue) {
            Ok(scheduled) => scheduled.schedule.clone(),
            Err(refusal) => return Ok(Err(refusal)),
        };
        let mut put = schedule.message(name, now, now);
        put.dedup.clone_from(&schedule.put.dedup); // It is not what is due.
        self.put(group, now, vec![put], source)
    }

    pub(super) fn list_schedules(&self, queue: Option<&QueueName>, after: &ScheduleName, max: usize) -> Outcome {
        let found = self.schedules.after(Some(after));
        let found = found.filter(|(_, it)| queue.is_none_or(|queue| it.schedule.put.queue == *queue));
        Outcome::Schedules(found.take(max.min(MAX)).map(|(name, it)| (name.clone(), it.clone())).collect())
    }

    pub(super) fn get_schedule(&self, name: &ScheduleName) -> Result<Outcome, Refusal> {
        Ok(Outcome::Schedules(vec![(name.clone(), self.scheduled(name, None)?.clone())]))
    }
}

impl Schedule {
    /// What is put for a time.
    fn message(&self, name: &ScheduleName, time: Timestamp, now: Timestamp) -> Put {
        let mut put = self.put.clone();
        put.headers = headers(&put.headers, name, time);
        put.expires = self.ttl_ms.map(|ttl| Timestamp(now.0 + ttl));
        if put.dedup.is_none() {
            let key = Self::key(name, time);
            put.dedup = Some(Dedup { key, mode: DedupMode::Reject, window_ms: None });
        }
        put
    }
}

/// Headers with the schedule and the time that a message is for, if they are an object in JSON: as workers have them.
fn headers(said: &Bytes, name: &ScheduleName, time: Timestamp) -> Bytes {
    // Nothing in a name needs to be escaped.
    let ours = format!(r#""schedule":{{"name":"{name}","time":{}}}"#, time.0);
    let said = said.trim_ascii();
    let members = match said.strip_prefix(b"{").and_then(|said| said.strip_suffix(b"}")) {
        Some(members) => members.trim_ascii(),
        None if said.is_empty() => said,
        None => return Bytes::copy_from_slice(said),
    };
    let mut all = BytesMut::with_capacity(members.len() + ours.len() + 3);
    all.put_u8(b'{');
    all.put_slice(members);
    if !members.is_empty() {
        all.put_u8(b',');
    }
    all.put_slice(ours.as_bytes());
    all.put_u8(b'}');
    all.freeze()
}
