//! Schedules: their model, and their steps.

use bytes::Bytes;
use posthaste_history::store::{Durability, Timestamp};

use super::model::{Code, Message, Model, Place};
use super::run::{Run, code, key, name};
use super::steps::{Catch, Plan};
use super::{Violation, ensure, violation};
use crate::port::{
    Command, Missed, Outcome, Put, QueueName, Receipt, Refusal, Schedule, ScheduleName, Scheduled, When,
};

/// The queue that schedules put into; nothing else is.
pub(super) const SCHEDULED: u8 = 5;

/// A schedule.
#[derive(Clone, Debug)]
pub(super) struct Planned {
    pub(super) name: ScheduleName,
    pub(super) schedule: Schedule,
    pub(super) is_paused: bool,
    pub(super) next: u64,
    /// For which time it put something last, and when.
    pub(super) last: Option<(u64, u64)>,
    pub(super) count: u64,
}

pub(super) fn plan_name(which: u8) -> ScheduleName {
    format!("plan:{which}").into()
}

/// The model knows two kinds: every so many milliseconds, and `*/n * * * * *` with an n that a minute has room for.
pub(super) fn period(when: &When) -> u64 {
    match when {
        When::Every { ms } => *ms,
        When::Cron { expression, .. } => {
            let seconds = expression.strip_prefix("*/").and_then(|it| it.split(' ').next()?.parse::<u64>().ok());
            1_000 * seconds.expect("a plan of the suite")
        }
    }
}

impl Planned {
    /// What is put for a time.
    pub(super) fn message(&self, time: u64, now: u64) -> Put {
        let mut put = self.schedule.put.clone();
        let ours = format!(r#""schedule":{{"name":"{}","time":{time}}}"#, self.name);
        put.headers = match &put.headers[..] {
            b"" => format!("{{{ours}}}").into(),
            br#"{"a":1}"# => format!(r#"{{"a":1,{ours}}}"#).into(),
            other => Bytes::copy_from_slice(other),
        };
        put.expires = self.schedule.ttl_ms.map(|ttl| Timestamp(now + ttl));
        put
    }
}

impl Model {
    /// Puts what is due. Which numbers the messages have is seen later.
    pub(super) fn fire(&mut self) {
        let now = self.now;
        for at in 0..self.schedules.len() {
            let planned = self.schedules[at].clone();
            if planned.is_paused || planned.next > now {
                continue;
            }
            let period = period(&planned.schedule.when);
            let last = now - now % period;
            let due: Vec<u64> = match planned.schedule.missed {
                Missed::Skip if now - last > Schedule::GRACE_MS => Vec::new(),
                Missed::Skip | Missed::Once => vec![last],
                Missed::All { max } => {
                    let all: Vec<u64> = (planned.next..=last).step_by(period as usize).collect();
                    all[all.len().saturating_sub(max as usize)..].to_vec()
                }
            };
            for time in &due {
                let put = planned.message(*time, now);
                self.queue(&put.queue);
                self.copies.push(Message { at: now, put, place: Place::From(now, now), ..Message::blank() });
            }
            let planned = &mut self.schedules[at];
            planned.count += due.len() as u64;
            planned.last = due.last().map(|time| (*time, now)).or(planned.last);
            planned.next = last + period;
        }
    }

    pub(super) fn plan(&mut self, name: &ScheduleName, schedule: &Schedule, is_paused: Option<bool>) {
        let period = period(&schedule.when);
        let next = (self.now / period + 1) * period;
        let Some(planned) = self.schedules.iter_mut().find(|it| it.name == *name) else {
            let (schedule, is_paused) = (schedule.clone(), is_paused.unwrap_or(false));
            let planned = Planned { name: name.clone(), schedule, is_paused, next, last: None, count: 0 };
            self.schedules.push(planned);
            self.schedules.sort_by(|a, b| a.name.cmp(&b.name));
            return;
        };
        let is_paused = is_paused.unwrap_or(planned.is_paused);
        if planned.schedule.when != schedule.when || planned.is_paused && !is_paused {
            planned.next = next;
        }
        (planned.schedule, planned.is_paused) = (schedule.clone(), is_paused);
    }

    pub(super) fn pause_plan(&mut self, name: &ScheduleName, is_paused: bool) -> Result<(), Code> {
        let planned = self.schedules.iter().find(|it| it.name == *name).ok_or("unknown_schedule")?;
        let schedule = planned.schedule.clone();
        self.plan(name, &schedule, Some(is_paused));
        Ok(())
    }

    pub(super) fn unplan(&mut self, name: &ScheduleName) -> Result<(), Code> {
        let at = self.schedules.iter().position(|it| it.name == *name).ok_or("unknown_schedule")?;
        self.schedules.remove(at);
        Ok(())
    }

    pub(super) fn run_plan(&mut self, name: &ScheduleName, id: u64) -> Result<(), Code> {
        let planned = self.schedules.iter().find(|it| it.name == *name).ok_or("unknown_schedule")?;
        let put = planned.message(self.now, self.now);
        self.put(&[put], &[id]).map(drop)
    }
}

impl Planned {
    /// As it is seen.
    #[cfg(test)]
    pub(super) fn shown(&self) -> (ScheduleName, Scheduled) {
        let last = self.last.map(|(time, at)| crate::Fired { time: Timestamp(time), at: Timestamp(at), id: 0 });
        let (schedule, is_paused) = (self.schedule.clone().into(), self.is_paused);
        let next = Timestamp(self.next);
        (self.name.clone(), Scheduled { schedule, is_paused, next, last, count: self.count, problem: None })
    }
}

impl Run {
    fn draft_plan(&self, plan: &Plan) -> Schedule {
        let durability = Durability::Disk.min(self.queues.capabilities().durability);
        let put = Put::new(&name(SCHEDULED), Bytes::from(vec![b'p'; usize::from(plan.size)]), durability);
        let headers: &[u8] = [&b""[..], br#"{"a":1}"#, b"\x01"][usize::from(plan.size % 3)];
        let when = match plan.is_cron {
            true => When::cron(&format!("*/{} * * * * *", plan.seconds)),
            false => When::Every { ms: plan.seconds * 1_000 },
        };
        let missed = match plan.missed {
            Catch::Skip => Missed::Skip,
            Catch::Once => Missed::Once,
            Catch::All(max) => Missed::All { max },
        };
        let put = Put { priority: plan.priority, key: plan.key.map(key), headers: headers.into(), ..put };
        Schedule { when, missed, put, ttl_ms: plan.ttl }
    }

    pub(super) fn schedule(&mut self, which: u8, plan: &Plan) -> Result<(), Violation> {
        let (name, schedule) = (plan_name(which), self.draft_plan(plan));
        let (is_paused, rule) = (plan.is_paused, "what can be scheduled is scheduled");
        let command = Command::Schedule { name: name.clone(), schedule: Box::new(schedule.clone()), is_paused };
        let outcome = self.done(rule, command)?;
        self.model.plan(&name, &schedule, is_paused);
        let Outcome::Schedules(found) = outcome else { return Err(violation(rule, format!("{outcome:?}"))) };
        let planned = self.model.schedules.iter().find(|it| it.name == name);
        let same = planned.is_some_and(|it| found.len() == 1 && is_same(it, &found[0]));
        ensure(SEEN, same, || format!("{found:?} instead of {planned:?}"))
    }

    pub(super) fn unschedule(&mut self, which: u8) -> Result<(), Violation> {
        let name = plan_name(which);
        let answer = self.ask(Command::Unschedule { name: name.clone(), queue: None })?;
        let expected = self.model.unplan(&name);
        same_code("what is scheduled no longer puts nothing", &answer, expected)
    }

    pub(super) fn pause_schedule(&mut self, which: u8, is_paused: bool) -> Result<(), Violation> {
        let name = plan_name(which);
        let answer = self.ask(Command::PauseSchedule { name: name.clone(), queue: None, is_paused })?;
        let expected = self.model.pause_plan(&name, is_paused);
        same_code("a schedule can be paused", &answer, expected)
    }

    pub(super) fn run_schedule(&mut self, which: u8) -> Result<(), Violation> {
        let name = plan_name(which);
        let answer = self.ask(Command::RunSchedule { name: name.clone(), queue: None })?;
        let receipt = match &answer {
            Ok(Outcome::Put(receipts)) => receipts.first().copied(),
            _ => None,
        };
        let id = receipt.map_or(0, |Receipt { id, .. }| id);
        self.greatest = self.greatest.max(id);
        let expected = self.model.run_plan(&name, id);
        ensure("a run has a receipt", expected.is_err() || receipt.is_some(), || format!("{answer:?}"))?;
        same_code("a schedule can be run at any time", &answer, expected)
    }

    pub(super) fn schedule_with_mistake(&mut self, which: u8, mistake: u8) -> Result<(), Violation> {
        let mut name = plan_name(which);
        let mut schedule = self.draft_plan(&Plan::default());
        let cron = |expression: &str| When::cron(expression);
        let expected = match mistake % 10 {
            0 => {
                schedule.when = cron("0 0 30 2 *");
                "never_fires"
            }
            1 => {
                schedule.when = cron("every day");
                "bad_schedule"
            }
            2 => {
                schedule.when = cron("@daily").in_zone("Europe/Atlantis");
                "bad_schedule"
            }
            3 => {
                schedule.when = When::Every { ms: Schedule::MIN_EVERY_MS - 1 };
                "invalid"
            }
            4 => {
                schedule.put.payload = vec![0; Schedule::MAX_PAYLOAD + 1].into();
                "too_large"
            }
            5 => {
                schedule.put.due = Some(Timestamp(self.model.now + 1));
                "invalid"
            }
            6 => {
                schedule.missed = Missed::All { max: 0 };
                "invalid"
            }
            7 => {
                schedule.when = cron(&format!("{} * * * *", vec!["1"; Schedule::MAX_EXPRESSION].join(",")));
                "invalid"
            }
            8 => {
                name = "two words".into();
                "bad_name"
            }
            _ => {
                schedule.put.queue = super::run::name(0);
                match self.model.schedules.iter().any(|it| it.name == name) {
                    true => "other_queue",
                    false => return Ok(()),
                }
            }
        };
        let answer = self.ask(Command::Schedule { name, schedule: Box::new(schedule), is_paused: None })?;
        ensure("a mistake is refused", code(&answer) == expected, || format!("{answer:?} instead of {expected}"))
    }

    /// All schedules there are, page by page, and one that is not.
    pub(super) fn compare_schedules(&mut self) -> Result<(), Violation> {
        let (mut found, mut after): (Vec<_>, ScheduleName) = (Vec::new(), "".into());
        loop {
            let outcome = self.done(SEEN, Command::Schedules { queue: None, after, max: 2 })?;
            let Outcome::Schedules(page) = outcome else { return Err(violation(SEEN, format!("{outcome:?}"))) };
            ensure(SEEN, page.len() <= 2, || format!("{page:?}"))?;
            let Some((last, _)) = page.last() else { break };
            after = last.clone();
            found.extend(page);
            ensure(SEEN, found.len() <= self.model.schedules.len(), || format!("{found:?}"))?;
        }
        let same = found.len() == self.model.schedules.len();
        let same = same && self.model.schedules.iter().zip(&found).all(|(planned, found)| is_same(planned, found));
        ensure(SEEN, same, || format!("{found:?} instead of {:?}", self.model.schedules))?;
        let other: Option<QueueName> = Some(name(0));
        let of_other = self.done(SEEN, Command::Schedules { queue: other.clone(), after: "".into(), max: 9 })?;
        ensure(SEEN, of_other == Outcome::Schedules(Vec::new()), || format!("{of_other:?}"))?;
        let command = Command::Unschedule { name: plan_name(0), queue: other };
        let answer = self.ask(command)?;
        ensure("a schedule is one of its queue", code(&answer) == "unknown_schedule", || format!("{answer:?}"))
    }
}

const SEEN: &str = "schedules are what they were told, and say how far they are";

fn is_same(planned: &Planned, (name, found): &(ScheduleName, Scheduled)) -> bool {
    let last = found.last.map(|it| (it.time.0, it.at.0));
    (name, found.is_paused, last, found.count) == (&planned.name, planned.is_paused, planned.last, planned.count)
        && (found.is_paused || found.next.0 == planned.next)
        && found.problem.is_none()
        && *found.schedule == planned.schedule
}

fn same_code(
    rule: &'static str,
    answer: &Result<Outcome, Refusal>,
    expected: Result<(), Code>,
) -> Result<(), Violation> {
    let (found, expected) = (code(answer), expected.err().unwrap_or("done"));
    ensure(rule, found == expected, || format!("{found} instead of {expected}"))
}
