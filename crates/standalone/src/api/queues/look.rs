//! Looking at queues and messages: nothing changes by it.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use posthaste::queue::{Command, Config, Counted, End, Found, MessageId, Outcome, Rest, State as Where};
use posthaste::{QueueError, QueueStats};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::access::What;
use super::lease::check_wait;
use super::{Id, Options, Queue, answer, payload};
use crate::api::Api;
use crate::api::problem::Problem;
use crate::queues::Right;

/// The most queues or messages of one answer.
const MAX_PAGE: usize = 1_000;
/// The most bytes of payloads in one answer; one message is shown whatever its size.
const PAGE_BYTES: usize = 4 << 20;

/// What a queue has, and what happened there since the server was started.
#[derive(Serialize)]
struct Counts {
    #[serde(flatten)]
    stats: QueueStats,
    counted: Counted,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Names {
    after: Option<String>,
    limit: Option<usize>,
}

#[derive(Serialize)]
struct Listed {
    name: Arc<str>,
    #[serde(flatten)]
    stats: QueueStats,
}

#[derive(Serialize)]
struct Queues {
    queues: Vec<Listed>,
    /// Where to go on; `null` if nothing is left.
    next: Option<Arc<str>>,
}

pub(super) fn check_page(name: &str, size: Option<usize>, usual: usize) -> Result<usize, Problem> {
    let size = size.unwrap_or(usual);
    let is_good = (1..=MAX_PAGE).contains(&size);
    is_good.then_some(size).ok_or_else(|| Problem::invalid(format!("`{name}` is 1 to {MAX_PAGE}")))
}

/// `GET /api/v1/queues`: by name.
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Options(names): Options<Names>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    api.queues.access(&headers, Right::Manage, What::Everything)?;
    let limit = check_page("limit", names.limit, 100)?;
    let after = names.after.unwrap_or_default().into();
    let Outcome::Queues(mut queues) = api.queues.ask(Command::List { after, max: limit + 1 }).await? else {
        return Err(Problem::UNEXPECTED);
    };
    let is_last = queues.len() <= limit;
    queues.truncate(limit);
    let next = queues.last().filter(|_| !is_last).map(|(name, _)| name.clone());
    let queues = queues.into_iter().map(|(name, depth)| Listed { name, stats: depth.into() }).collect();
    Ok(answer(StatusCode::OK, &Queues { queues, next }))
}

/// What a queue allows and has.
#[derive(Serialize)]
struct Shown {
    name: Arc<str>,
    config: Box<Config>,
    stats: Counts,
}

/// `GET /api/v1/queues/{queue}`.
pub(super) async fn queue(
    State(api): State<Arc<Api>>,
    Queue(name): Queue,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    api.queues.access(&headers, Right::Manage, What::Queue(&name))?;
    let Outcome::Config(config) = api.queues.ask(Command::Config(name.clone())).await? else {
        return Err(Problem::UNEXPECTED);
    };
    let stats = stats_of(&api, name.clone()).await?;
    Ok(answer(StatusCode::OK, &Shown { name, config, stats }))
}

/// `GET /api/v1/queues/{queue}/stats`.
pub(super) async fn stats(
    State(api): State<Arc<Api>>,
    Queue(name): Queue,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    api.queues.access(&headers, Right::Manage, What::Queue(&name))?;
    Ok(answer(StatusCode::OK, &stats_of(&api, name).await?))
}

async fn stats_of(api: &Api, name: Arc<str>) -> Result<Counts, Problem> {
    let Outcome::Counts(depth, counted) = api.queues.ask(Command::Counts(name)).await? else {
        return Err(Problem::UNEXPECTED);
    };
    Ok(Counts { stats: depth.into(), counted })
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Part {
    state: Word,
    after: MessageId,
    n: Option<usize>,
}

impl Default for Part {
    fn default() -> Self {
        Self { state: Word::Ready, after: 0, n: None }
    }
}

/// Where a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Word {
    Ready,
    Leased,
    Delayed,
    Dead,
}

impl From<Word> for Where {
    fn from(word: Word) -> Self {
        match word {
            Word::Ready => Self::Ready,
            Word::Leased => Self::Leased,
            Word::Delayed => Self::Delayed,
            Word::Dead => Self::Dead,
        }
    }
}

impl From<Where> for Word {
    fn from(state: Where) -> Self {
        match state {
            Where::Ready => Self::Ready,
            Where::Leased => Self::Leased,
            Where::Delayed => Self::Delayed,
            Where::Dead => Self::Dead,
        }
    }
}

/// A message.
#[derive(Serialize)]
struct Message {
    id: MessageId,
    queue: Arc<str>,
    state: Word,
    /// When it was put, in milliseconds since 1970.
    at: u64,
    /// When it will be ready, or its lease ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<u64>,
    priority: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<Arc<str>>,
    deliveries: u32,
    failures: u32,
    /// Why it failed or died last.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Arc<str>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    history: Vec<Failed>,
    #[serde(skip_serializing_if = "Option::is_none")]
    headers: Option<Box<RawValue>>,
    payload: Box<RawValue>,
}

#[derive(Serialize)]
struct Failed {
    at: u64,
    why: Arc<str>,
}

impl From<Found> for Message {
    fn from(it: Found) -> Self {
        let Rest { deliveries, failures, .. } = it.rest;
        Self {
            id: it.id,
            queue: it.queue,
            state: it.state.into(),
            at: it.at.0,
            until: it.until.map(|until| until.0),
            priority: it.priority,
            key: it.key,
            deliveries,
            failures,
            reason: it.history.last().map(|(_, why)| why.clone()),
            history: it.history.into_iter().map(|(at, why)| Failed { at: at.0, why }).collect(),
            headers: payload::headers(&it.headers),
            payload: payload::shown(it.payload),
        }
    }
}

#[derive(Serialize)]
struct Messages {
    messages: Vec<Message>,
    /// Where to go on; `null` if nothing is left.
    next: Option<MessageId>,
}

/// `GET /api/v1/queues/{queue}/peek`: messages of one state, by number.
pub(super) async fn peek(
    State(api): State<Arc<Api>>,
    Queue(queue): Queue,
    Options(part): Options<Part>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    api.queues.access(&headers, Right::Manage, What::Queue(&queue))?;
    let n = check_page("n", part.n, 20)?;
    let peek = Command::Peek { queue, state: part.state.into(), after: part.after, max: n };
    let Outcome::Page(found, mut next) = api.queues.ask(peek).await? else { return Err(Problem::UNEXPECTED) };
    let (mut messages, mut bytes) = (Vec::<Message>::new(), 0);
    for found in found {
        bytes += found.payload.len() + found.history.iter().map(|(_, why)| why.len()).sum::<usize>();
        if let Some(last) = messages.last().filter(|_| bytes > PAGE_BYTES) {
            next = Some(last.id);
            break;
        }
        messages.push(Message::from(found));
    }
    Ok(answer(StatusCode::OK, &Messages { messages, next }))
}

/// How a message ended.
#[derive(Serialize)]
struct Ended {
    id: MessageId,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Arc<str>>,
}

impl Ended {
    fn of(id: MessageId, end: End) -> Self {
        let (state, result, reason) = match end {
            End::Done(result) => ("done", Some(payload::shown(result.unwrap_or_default())), None),
            End::Dead(why) => ("dead", None, Some(why)),
            End::Expired => ("expired", None, None),
            End::Removed => ("removed", None, None),
        };
        Self { id, state, result, reason }
    }
}

/// `GET /api/v1/messages/{id}`: where it is, or how it ended.
pub(super) async fn message(State(api): State<Arc<Api>>, Id(id): Id, headers: HeaderMap) -> Result<Response, Problem> {
    let desk = &api.queues;
    desk.access(&headers, Right::Manage, What::Something)?;
    if !desk.may(Right::Manage, id).await? {
        return Err(Problem::unknown_message(id));
    }
    match desk.ask(Command::Get(id)).await? {
        Outcome::Messages(found) => match found.into_iter().next() {
            Some(found) => Ok(answer(StatusCode::OK, &Message::from(found))),
            None => Err(Problem::unknown_message(id)),
        },
        Outcome::Ended(_, end) => Ok(answer(StatusCode::OK, &Ended::of(id, end))),
        _ => Err(Problem::UNEXPECTED),
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Patience {
    /// So long, in milliseconds.
    wait: u64,
}

#[derive(Serialize)]
struct Pending {
    id: MessageId,
    state: &'static str,
}

/// `GET /api/v1/messages/{id}/result`: how it ended; 202 if it has not yet.
pub(super) async fn result(
    State(api): State<Arc<Api>>,
    Id(id): Id,
    Options(patience): Options<Patience>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let desk = &api.queues;
    desk.access(&headers, Right::Put, What::Something)?;
    let wait = check_wait(patience.wait)?;
    if !desk.may(Right::Put, id).await? {
        return Err(Problem::unknown_message(id));
    }
    let _permit = desk.waiting.try_acquire().map_err(|_| Problem::TOO_MANY_WAIT)?;
    let ended = tokio::select! {
        ended = desk.queues.end_of(id, wait) => ended,
        () = api.closed() => Err(QueueError::Pending(id)),
    };
    match ended {
        Ok(end) => Ok(answer(StatusCode::OK, &Ended::of(id, end))),
        Err(QueueError::Pending(id)) => Ok(answer(StatusCode::ACCEPTED, &Pending { id, state: "pending" })),
        Err(error) => Err(error.into()),
    }
}
