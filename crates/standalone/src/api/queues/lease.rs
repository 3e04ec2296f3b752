//! Taking messages, and saying what became of them.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use posthaste::Pull;
use posthaste::queue::{Command, Delivery, MessageId, Outcome, Refusal, Settle, Settled, Token, Verdict};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::access::What;
use super::{Body, Desk, Options, Queue, answer, done, payload, unread};
use crate::api::Api;
use crate::api::problem::Problem;
use crate::queues::Right;

/// The most messages of one lease.
const MAX_MESSAGES: u32 = 1_000;
/// The most bytes of one lease; one message is given whatever its size.
const MAX_BYTES: u64 = 16 << 20;
/// The longest that a request waits, in milliseconds.
pub(super) const LONGEST_WAIT: u64 = 60_000;

/// What is wanted.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Wish {
    /// So many messages at most.
    max: u32,
    /// Waits so long for the first of them, in milliseconds.
    wait: u64,
    /// A lease lasts so long, in milliseconds.
    ttl: Option<u64>,
    /// Only those with this key.
    key: Option<String>,
}

impl Default for Wish {
    fn default() -> Self {
        Self { max: 1, wait: 0, ttl: None, key: None }
    }
}

/// A message that somebody has now.
#[derive(Serialize)]
struct Job {
    id: MessageId,
    queue: Arc<str>,
    token: Token,
    deliveries: u32,
    failures: u32,
    /// When the lease ends, in milliseconds since 1970.
    deadline: u64,
    /// When it was put.
    at: u64,
    priority: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    headers: Option<Box<RawValue>>,
    payload: Box<RawValue>,
}

impl From<Delivery> for Job {
    fn from(it: Delivery) -> Self {
        Self {
            id: it.id,
            queue: it.queue,
            token: it.token,
            deliveries: it.deliveries,
            failures: it.failures,
            deadline: it.deadline.0,
            at: it.at.0,
            priority: it.priority,
            key: it.key,
            headers: payload::headers(&it.headers),
            payload: payload::shown(it.payload),
        }
    }
}

#[derive(Serialize)]
struct Jobs {
    messages: Vec<Job>,
}

/// `POST /api/v1/queues/{queue}/lease`: what there is, at once; else the first that comes in time; else 204.
pub(super) async fn lease(
    State(api): State<Arc<Api>>,
    Queue(queue): Queue,
    Options(wish): Options<Wish>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let desk = &api.queues;
    desk.access(&headers, Right::Work, What::Queue(&queue))?;
    body.is_empty()?;
    let Wish { max, wait, ttl: lease_ms, key } = wish;
    if !(1..=MAX_MESSAGES).contains(&max) {
        return Err(Problem::invalid(format!("`max` is 1 to {MAX_MESSAGES}")));
    }
    let wait = check_wait(wait)?;
    let _permit = desk.waiting.try_acquire().map_err(|_| Problem::TOO_MANY_WAIT)?;
    let pull = Pull { queue, max, bytes: MAX_BYTES, lease_ms, keys: key.map(|key| vec![key.into()]) };
    // Whoever goes away while it waits has this dropped, which gives back what was taken.
    let taken = tokio::select! {
        taken = desk.queues.pull(pull, wait) => taken?,
        () = api.closed() => Vec::new(),
    };
    if taken.is_empty() {
        return Ok(done());
    }
    Ok(answer(StatusCode::OK, &Jobs { messages: taken.into_iter().map(Job::from).collect() }))
}

pub(super) fn check_wait(milliseconds: u64) -> Result<Duration, Problem> {
    if milliseconds > LONGEST_WAIT {
        return Err(Problem::invalid(format!("`wait` is 0 to {LONGEST_WAIT} milliseconds")));
    }
    Ok(Duration::from_millis(milliseconds))
}

/// What somebody says of a message.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Said<'a> {
    id: MessageId,
    token: Token,
    outcome: Word,
    /// Of what is done; how far, of progress.
    #[serde(borrow, default)]
    result: Option<&'a RawValue>,
    /// In milliseconds: again after so long; longer by so much.
    #[serde(default)]
    r#in: Option<u64>,
    #[serde(borrow, default)]
    why: Option<Cow<'a, str>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    Done,
    Retry,
    Release,
    Dead,
    Touch,
    Progress,
}

impl Said<'_> {
    fn settle(self) -> Result<Settle, Problem> {
        let Self { id, token, outcome, result, r#in, why } = self;
        let (takes_result, takes_in, takes_why) = match outcome {
            Word::Done | Word::Progress => (true, false, false),
            Word::Retry => (false, true, true),
            Word::Release => (false, false, false),
            Word::Dead => (false, false, true),
            Word::Touch => (false, true, false),
        };
        let strays = [
            ("result", result.is_some() && !takes_result),
            ("in", r#in.is_some() && !takes_in),
            ("why", why.is_some() && !takes_why),
        ];
        if let Some((name, _)) = strays.iter().find(|(_, is_stray)| *is_stray) {
            return Err(Problem::invalid(format!("`{name}` says nothing about this outcome")));
        }
        let result = result.map(|result| payload::read(result.get())).transpose()?.map(posthaste::Payload::into_stored);
        let why = || Arc::from(why.as_deref().unwrap_or_default());
        let verdict = match outcome {
            Word::Done => Verdict::Done(result),
            Word::Retry => Verdict::Retry { after_ms: r#in, why: why() },
            Word::Release => Verdict::Release,
            Word::Dead => Verdict::Dead { why: why() },
            Word::Touch => Verdict::Touch(r#in),
            Word::Progress => {
                Verdict::Progress(result.ok_or_else(|| Problem::invalid("`result` is missing: how far it is"))?)
            }
        };
        Ok(Settle { id, token, verdict })
    }
}

/// What became of a settlement.
#[derive(Serialize)]
struct Became {
    id: MessageId,
    ok: bool,
    /// Until when the lease goes on, in milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

#[derive(Serialize)]
struct Results {
    results: Vec<Became>,
}

/// `POST /api/v1/leases/settle`: each for itself. 409 if the leases of all are over.
pub(super) async fn settle(State(api): State<Arc<Api>>, headers: HeaderMap, body: Body) -> Result<Response, Problem> {
    let desk = &api.queues;
    desk.access(&headers, Right::Work, What::Something)?;
    let settles = desk.read_settles(body.text()?)?;
    let ids: Vec<MessageId> = settles.iter().map(|settle| settle.id).collect();
    let mut allowed = Vec::with_capacity(settles.len());
    let mut is_allowed = Vec::with_capacity(settles.len());
    for settle in settles {
        let may = desk.may(Right::Work, settle.id).await?;
        is_allowed.push(may);
        if may {
            allowed.push(settle);
        }
    }
    let settled = match desk.ask(Command::Settle(allowed)).await? {
        Outcome::Settled(settled) => settled,
        _ => return Err(Problem::UNEXPECTED),
    };
    let mut settled = settled.into_iter();
    let results: Vec<Became> = ids
        .into_iter()
        .zip(is_allowed)
        .map(|(id, may)| {
            let settled = if may { settled.next() } else { None };
            result(id, settled.unwrap_or(Err(Refusal::StaleLease(id))))
        })
        .collect();
    let are_stale = results.iter().all(|it| matches!(it.code, Some("stale_lease" | "unknown_message")));
    if are_stale {
        let results = serde_json::to_value(results).unwrap_or_default();
        return Err(Problem::STALE.with("results", results));
    }
    Ok(answer(StatusCode::OK, &Results { results }))
}

fn result(id: MessageId, settled: Result<Settled, Refusal>) -> Became {
    let (deadline, refusal) = match settled {
        Ok(Settled::Ended) => (None, None),
        Ok(Settled::Until(deadline)) => (Some(deadline.0), None),
        Err(refusal) => (None, Some(refusal)),
    };
    Became {
        id,
        ok: refusal.is_none(),
        deadline,
        code: refusal.as_ref().map(Refusal::code),
        message: refusal.map(|refusal| refusal.to_string()),
    }
}

impl Desk {
    fn read_settles(&self, text: &str) -> Result<Vec<Settle>, Problem> {
        let items: Vec<&RawValue> =
            serde_json::from_str(text).map_err(|_| Problem::invalid("the body is an array of {id, token, outcome}"))?;
        let max = self.queues.capabilities().max_batch;
        if items.is_empty() || items.len() > max {
            return Err(Problem::invalid(format!("1 to {max} messages can be settled at once")));
        }
        let read = |(place, item): (usize, &RawValue)| {
            let said = serde_json::from_str::<Said<'_>>(item.get()).map_err(|error| unread(&error));
            said.and_then(Said::settle).map_err(|problem| problem.at(format_args!("settlement {place}")))
        };
        items.into_iter().enumerate().map(read).collect()
    }
}
