//! Looking at queues and looking after them.

use bytes::Bytes;
use posthaste_queue::{Command, Counted, Found, MessageId, Outcome, QueueName, Select, State};
use posthaste_socket_proto::Args;
use serde::Serialize;
use serde_json::value::RawValue;

use super::pull::MAX_PARTS;
use super::verbs::{Asking, Good, Reply, attempt, done};
use crate::handler::Running;
use crate::queues::{Options, Payload, QueueError, QueueStats, QueueVerb, Refused};

/// The most messages of one look.
const MAX_PEEK: u64 = 1_000;
/// The most bytes of payloads in one look: then the answer says where it goes on.
const PEEK_BYTES: usize = 512 * 1024;
const MAX_ID: u64 = 1 << 53;

const STATES: &[(&str, State)] =
    &[("ready", State::Ready), ("leased", State::Leased), ("delayed", State::Delayed), ("dead", State::Dead)];

/// Asks for something and tells what came of it.
pub(super) fn tell<T: Serialize>(
    asking: Asking<'_>,
    command: Command,
    told: impl FnOnce(Outcome) -> T + 'static,
) -> Result<Running, (Reply, Refused)> {
    let answer = asking.local.ask_queues(asking.desk(), asking.number(), command);
    let reply = asking.reply;
    Ok(Box::pin(async move {
        let outcome = match answer.await {
            Ok(Ok(outcome)) => Ok(outcome),
            Ok(Err(refusal)) => Err(QueueError::Refused(refusal)),
            Err(error) => Err(QueueError::Store(error)),
        };
        reply.answer(outcome.map(told).map_err(Refused::from));
    }))
}

/// `{"ok": true, …}` with what a queue has.
#[derive(Serialize)]
struct Stats {
    ok: bool,
    #[serde(flatten)]
    stats: QueueStats,
    counted: Counted,
}

pub(super) fn stats(asking: Asking<'_>) -> Result<Running, (Reply, Refused)> {
    let queue = attempt!(asking, asking.queue(QueueVerb::Stats));
    attempt!(asking, asking.no_more_than(1));
    tell(asking, Command::Counts(queue), |outcome| {
        let counts = if let Outcome::Counts(depth, counted) = outcome { Some((depth, counted)) } else { None };
        let (depth, counted) = counts.unwrap_or_default();
        Stats { ok: true, stats: depth.into(), counted }
    })
}

pub(super) fn pause(asking: Asking<'_>) -> Result<Running, (Reply, Refused)> {
    switch(asking, |queue| Command::Pause(queue, true))
}

pub(super) fn resume(asking: Asking<'_>) -> Result<Running, (Reply, Refused)> {
    switch(asking, |queue| Command::Pause(queue, false))
}

fn switch(asking: Asking<'_>, command: fn(QueueName) -> Command) -> Result<Running, (Reply, Refused)> {
    let queue = attempt!(asking, asking.queue(QueueVerb::Pause));
    attempt!(asking, asking.no_more_than(1));
    tell(asking, command(queue), |_| Good::yes())
}

/// `(queue)`, or `(queue, false)` to take messages in again.
pub(super) fn drain(asking: Asking<'_>) -> Result<Running, (Reply, Refused)> {
    let queue = attempt!(asking, asking.queue(QueueVerb::Drain));
    attempt!(asking, asking.no_more_than(2));
    let drains = match asking.arg(1) {
        None | Some("true") => Ok(true),
        Some("false") => Ok(false),
        Some(_) => Err(Refused::invalid("q:drain takes a queue, and true or false")),
    };
    let drains = attempt!(asking, drains);
    tell(asking, Command::Drain(queue, drains), |_| Good::yes())
}

pub(super) fn watch(asking: Asking<'_>) -> Result<Running, (Reply, Refused)> {
    watching(asking, true)
}

pub(super) fn unwatch(asking: Asking<'_>) -> Result<Running, (Reply, Refused)> {
    watching(asking, false)
}

fn watching(asking: Asking<'_>, watch: bool) -> Result<Running, (Reply, Refused)> {
    let queue = attempt!(asking, asking.queue(QueueVerb::Watch));
    attempt!(asking, asking.no_more_than(1));
    asking.office().hub.watch();
    asking.local.watch_queue(asking.socket, &queue, watch);
    asking.reply.send(&Good::yes());
    Ok(done())
}

#[derive(Serialize)]
struct Count {
    ok: bool,
    count: u64,
}

fn count(outcome: Outcome) -> Count {
    Count { ok: true, count: if let Outcome::Count(count) = outcome { count } else { 0 } }
}

pub(super) fn purge(asking: Asking<'_>) -> Result<Running, (Reply, Refused)> {
    let queue = attempt!(asking, asking.queue(QueueVerb::Purge));
    let select = attempt!(asking, selected(&asking, true));
    tell(asking, Command::Purge(queue, select), count)
}

pub(super) fn redrive(asking: Asking<'_>) -> Result<Running, (Reply, Refused)> {
    let queue = attempt!(asking, asking.queue(QueueVerb::Redrive));
    let select = attempt!(asking, selected(&asking, false));
    tell(asking, Command::Redrive(queue, select), count)
}

/// Which messages are meant. To remove some, it has to be said which: `state`, one or several, or an `id`.
fn selected(asking: &Asking<'_>, is_purge: bool) -> Result<Select, Refused> {
    asking.no_more_than(2)?;
    let mut options = Options::read(asking.arg(1))?;
    let id = options.number("id", 1..=MAX_ID)?;
    let max = options.number("max", 1..=u64::from(u32::MAX))?.map(|max| max as usize);
    let states = match (is_purge, options.take("state")) {
        (false, None) => vec![State::Dead],
        (false, Some(_)) => return Err(Refused::invalid("there is no option `state`: dead messages are redriven")),
        (true, Some(said)) => states(said.get())?,
        (true, None) if id.is_some() => STATES.iter().map(|(_, state)| *state).collect(),
        (true, None) => return Err(Refused::invalid("`state` is missing: say what is to be removed")),
    };
    options.end()?;
    Ok(Select { states, id, max })
}

/// One state or an array of them.
fn states(text: &str) -> Result<Vec<State>, Refused> {
    let named = |item: &str| {
        let object = format!(r#"{{"state":{item}}}"#);
        Options::read(Some(&object))?.word("state", STATES)?.ok_or_else(|| Refused::invalid("`state` is missing"))
    };
    if !text.starts_with('[') {
        return Ok(vec![named(text)?]);
    }
    let items: Vec<&RawValue> = serde_json::from_str(text).map_err(|_| Refused::invalid("`state` is text"))?;
    if items.is_empty() || items.len() > STATES.len() {
        return Err(Refused::invalid("`state` is one of ready, leased, delayed, dead, or an array of them"));
    }
    items.into_iter().map(|item| named(item.get())).collect()
}

pub(super) fn peek(asking: Asking<'_>) -> Result<Running, (Reply, Refused)> {
    let command = attempt!(asking, looked_at(&asking));
    let answer = asking.local.ask_queues(asking.desk(), asking.number(), command);
    let reply = asking.reply;
    Ok(Box::pin(async move {
        let (found, next) = match answer.await {
            Ok(Ok(Outcome::Page(found, next))) => (found, next),
            Ok(Ok(_)) => (Vec::new(), None),
            Ok(Err(refusal)) => return reply.refuse(refusal.into()),
            Err(error) => return reply.refuse(error.into()),
        };
        match shown(found, next) {
            Some(answer) => reply.send(&answer),
            None => reply.refuse(Refused::new("unavailable", "the messages cannot be shown")),
        }
    }))
}

fn looked_at(asking: &Asking<'_>) -> Result<Command, Refused> {
    let queue = asking.queue(QueueVerb::Peek)?;
    asking.no_more_than(2)?;
    let mut options = Options::read(asking.arg(1))?;
    let state = options.word("state", STATES)?.unwrap_or(State::Ready);
    let after = options.number("after", 0..=MAX_ID)?.unwrap_or(0);
    let max = options.number("n", 1..=MAX_PEEK)?.unwrap_or(20) as usize;
    options.end()?;
    Ok(Command::Peek { queue, state, after, max })
}

/// `{"ok": true, "messages": [{id, payload, state, …}], "next"?}`: as many as fit, which is at least one of them.
fn shown(found: Vec<Found>, mut next: Option<MessageId>) -> Option<Args<'static>> {
    #[derive(Serialize)]
    struct Shown<'a> {
        id: u64,
        state: &'static str,
        at: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        until: Option<u64>,
        priority: u8,
        #[serde(skip_serializing_if = "Option::is_none")]
        key: Option<&'a str>,
        deliveries: u32,
        failures: u32,
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        headers: Option<&'a RawValue>,
    }
    let (mut text, mut parts) = (String::from(r#"[{"ok":true,"messages":["#), Vec::<Bytes>::new());
    for (place, message) in found.iter().enumerate() {
        let args = Payload::from_stored(message.payload.clone()).args().unwrap_or_default();
        let bytes = text.len() + parts.iter().map(Bytes::len).sum::<usize>();
        let too_much = bytes + message.payload.len() > PEEK_BYTES || parts.len() + args.attachments().len() > MAX_PARTS;
        if place > 0 && too_much {
            next = Some(found[place - 1].id);
            break;
        }
        let (payload, more) = args.numbered_from(parts.len());
        let state = STATES.iter().find(|(_, state)| *state == message.state).map_or("", |(name, _)| name);
        let shown = Shown {
            id: message.id,
            state,
            at: message.at.0,
            until: message.until.map(|until| until.0),
            priority: message.priority,
            key: message.key.as_deref(),
            deliveries: message.rest.deliveries,
            failures: message.rest.failures,
            reason: message.history.last().map(|(_, why)| &**why),
            headers: serde_json::from_slice(&message.headers).ok(),
        };
        let mut member = serde_json::to_string(&shown).ok()?;
        member.pop();
        if place > 0 {
            text.push(',');
        }
        let payload = if payload.is_empty() { "null" } else { &*payload };
        text.push_str(&format!(r#"{member},"payload":{payload}}}"#));
        parts.extend(more);
    }
    text.push(']');
    if let Some(next) = next {
        text.push_str(&format!(r#","next":{next}"#));
    }
    text.push_str("}]");
    Some(Args::decode(&text, parts).ok()?.into_owned())
}
