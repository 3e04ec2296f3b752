//! What is put again and again, for clients: schedules of the queue that they name.

use posthaste_queue::{Command, Outcome, ScheduleName, name_is_good};
use serde::Serialize;

use super::admin::tell;
use super::verbs::{Asking, Good, Reply, attempt};
use crate::handler::Running;
use crate::queues::{Options, QueueVerb, Refused, ScheduleView, check_parts, read_schedule, read_value, text};

/// The most schedules of one look.
const MAX_LOOK: u64 = 1_000;

#[derive(Serialize)]
struct One {
    ok: bool,
    #[serde(flatten)]
    schedule: Option<ScheduleView>,
}

#[derive(Serialize)]
struct All {
    ok: bool,
    schedules: Vec<ScheduleView>,
}

fn views(outcome: Outcome) -> Vec<ScheduleView> {
    let found = if let Outcome::Schedules(found) = outcome { found } else { Vec::new() };
    found.iter().map(|(name, scheduled)| ScheduleView::new(name, scheduled)).collect()
}

fn named(asking: &Asking<'_>) -> Result<ScheduleName, Refused> {
    let said = asking.arg(1).ok_or_else(|| Refused::invalid("the name of the schedule is missing"))?;
    let name = text("name", said, 200).ok().filter(|name| name_is_good(name));
    name.ok_or_else(|| Refused::new("bad_name", "a schedule's name has 1 to 200 of A-Z a-z 0-9 . _ - : /"))
}

/// `(queue, name, payload, options)`
pub(super) fn schedule(asking: Asking<'_>) -> Result<Running, (Reply, Refused)> {
    let command = attempt!(asking, scheduled(&asking));
    tell(asking, command, |outcome| One { ok: true, schedule: views(outcome).pop() })
}

fn scheduled(asking: &Asking<'_>) -> Result<Command, Refused> {
    let queue = asking.queue(QueueVerb::Schedule)?;
    asking.no_more_than(4)?;
    let name = named(asking)?;
    let payload = asking.args.iter().nth(2).ok_or_else(|| Refused::invalid("the payload is missing"))?;
    let (payload, parts) = read_value(asking.args, payload)?;
    check_parts(asking.args, parts)?;
    let durability = asking.office().hub.capabilities().durability;
    let (schedule, is_paused) = read_schedule(&queue, payload, asking.arg(3), durability)?;
    Ok(Command::Schedule { name, schedule: Box::new(schedule), is_paused })
}

/// `(queue, name)`
pub(super) fn unschedule(asking: Asking<'_>) -> Result<Running, (Reply, Refused)> {
    let queue = attempt!(asking, asking.queue(QueueVerb::Schedule));
    attempt!(asking, asking.no_more_than(2));
    let name = attempt!(asking, named(&asking));
    tell(asking, Command::Unschedule { name, queue: Some(queue) }, |_| Good::yes())
}

/// `(queue, {after, n})`
pub(super) fn schedules(asking: Asking<'_>) -> Result<Running, (Reply, Refused)> {
    let command = attempt!(asking, looked_at(&asking));
    tell(asking, command, |outcome| All { ok: true, schedules: views(outcome) })
}

fn looked_at(asking: &Asking<'_>) -> Result<Command, Refused> {
    let queue = asking.queue(QueueVerb::Schedule)?;
    asking.no_more_than(2)?;
    let mut options = Options::read(asking.arg(1))?;
    let after = options.text("after", 200)?.unwrap_or_default();
    let max = options.number("n", 1..=MAX_LOOK)?.unwrap_or(100) as usize;
    options.end()?;
    Ok(Command::Schedules { queue: Some(queue), after, max })
}
