//! Schedules: what is put again and again.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path, State};
use axum::response::{IntoResponse as _, Response};
use http::header::LOCATION;
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use posthaste::ScheduleView;
use posthaste::queue::{Command, Outcome, QueueName, Refusal, ScheduleName, Scheduled, name_is_good};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::access::What;
use super::look::check_page;
use super::manage::Nothing;
use super::put::Stored;
use super::{Body, Desk, Options, answer, done, payload, unread};
use crate::api::Api;
use crate::api::problem::Problem;
use crate::queues::Right;

/// The schedule that a path names.
pub(super) struct Named(ScheduleName);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let name: Result<Path<String>, PathRejection> = Path::from_request_parts(parts, state).await;
        let Path(name) = name.map_err(|error| Problem::invalid(error.body_text()))?;
        if !name_is_good(&name) {
            return Err(Refusal::BadName(name).into());
        }
        Ok(Self(name.into()))
    }
}

#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    view: ScheduleView,
    payload: Box<RawValue>,
}

impl Shown {
    fn new(name: &ScheduleName, scheduled: &Scheduled) -> Self {
        let payload = payload::shown(scheduled.schedule.put.payload.clone());
        Self { view: ScheduleView::new(name, scheduled), payload }
    }
}

fn only(outcome: Outcome) -> Result<(ScheduleName, Scheduled), Problem> {
    match outcome {
        Outcome::Schedules(mut found) if found.len() == 1 => Ok(found.remove(0)),
        _ => Err(Problem::UNEXPECTED),
    }
}

impl Desk {
    /// A schedule that somebody may look after, by the queue it puts into. For others there is none.
    async fn schedule(&self, headers: &HeaderMap, name: ScheduleName) -> Result<(ScheduleName, Scheduled), Problem> {
        self.access(headers, Right::Manage, What::Something)?;
        let found = only(self.ask(Command::GetSchedule(name.clone())).await?)?;
        match self.rules.allow(Right::Manage, &found.1.schedule.put.queue) {
            true => Ok(found),
            false => Err(Refusal::UnknownSchedule(name).into()),
        }
    }

    /// As [`Desk::schedule`], the queue alone: whatever is asked about it then is asked about a schedule of this queue.
    async fn queue_of(&self, headers: &HeaderMap, name: &ScheduleName) -> Result<Option<QueueName>, Problem> {
        let (_, scheduled) = self.schedule(headers, name.clone()).await?;
        Ok(Some(scheduled.schedule.put.queue.clone()))
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Listing {
    queue: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
}

#[derive(Serialize)]
struct All {
    schedules: Vec<ScheduleView>,
    /// Where to go on; `null` if nothing is left.
    next: Option<ScheduleName>,
}

/// `GET /api/v1/schedules`: by name, without payloads.
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Options(listing): Options<Listing>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let what = listing.queue.as_deref().map_or(What::Everything, What::Queue);
    api.queues.access(&headers, Right::Manage, what)?;
    let limit = check_page("limit", listing.limit, 100)?;
    let queue = listing.queue.as_deref().map(QueueName::from);
    let after = listing.after.unwrap_or_default().into();
    // The store shows no more than a page at once.
    let asked = Command::Schedules { queue: queue.clone(), after, max: limit };
    let Outcome::Schedules(found) = api.queues.ask(asked).await? else { return Err(Problem::UNEXPECTED) };
    let next = match found.last() {
        Some((last, _)) if found.len() == limit => {
            let behind = Command::Schedules { queue, after: last.clone(), max: 1 };
            let Outcome::Schedules(behind) = api.queues.ask(behind).await? else { return Err(Problem::UNEXPECTED) };
            (!behind.is_empty()).then(|| last.clone())
        }
        _ => None,
    };
    let schedules = found.iter().map(|(name, scheduled)| ScheduleView::new(name, scheduled)).collect();
    Ok(answer(StatusCode::OK, &All { schedules, next }))
}

/// `GET /api/v1/schedules/{name}`.
pub(super) async fn show(
    State(api): State<Arc<Api>>,
    Named(name): Named,
    Options(Nothing {}): Options<Nothing>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (name, scheduled) = api.queues.schedule(&headers, name).await?;
    Ok(answer(StatusCode::OK, &Shown::new(&name, &scheduled)))
}

/// `PUT /api/v1/schedules/{name}`: `{"queue", "payload", "cron" | "every", …}`. Told the same once more, it goes on as it was.
pub(super) async fn schedule(
    State(api): State<Arc<Api>>,
    Named(name): Named,
    Options(Nothing {}): Options<Nothing>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let desk = &api.queues;
    desk.access(&headers, Right::Manage, What::Something)?;
    let mut members: BTreeMap<Cow<'_, str>, &RawValue> = serde_json::from_str(body.text()?).map_err(|error| {
        Problem::invalid(format!("a schedule is an object with a `queue` and a `payload`: {error}"))
    })?;
    let queue = members.remove("queue").ok_or_else(|| Problem::invalid("`queue` is missing"))?;
    let queue: String = serde_json::from_str(queue.get()).map_err(|error| unread(&error).at("`queue`"))?;
    if !name_is_good(&queue) {
        return Err(Refusal::BadName(queue).into());
    }
    desk.access(&headers, Right::Manage, What::Queue(&queue))?;
    let payload = members.remove("payload").ok_or_else(|| Problem::invalid("`payload` is missing"))?;
    let payload = payload::read(payload.get())?;
    let options = serde_json::to_string(&members).map_err(|error| unread(&error))?;
    let (schedule, is_paused) = desk.queues.read_schedule(&queue.into(), payload, &options)?;
    let command = Command::Schedule { name, schedule: Box::new(schedule), is_paused };
    let (name, scheduled) = only(desk.ask(command).await?)?;
    Ok(answer(StatusCode::OK, &Shown::new(&name, &scheduled)))
}

/// `DELETE /api/v1/schedules/{name}`: what it has put stays.
pub(super) async fn unschedule(
    State(api): State<Arc<Api>>,
    Named(name): Named,
    Options(Nothing {}): Options<Nothing>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let queue = api.queues.queue_of(&headers, &name).await?;
    api.queues.ask(Command::Unschedule { name, queue }).await?;
    Ok(done())
}

/// `POST …/pause`: nothing is put.
pub(super) async fn pause(
    State(api): State<Arc<Api>>,
    Named(name): Named,
    Options(Nothing {}): Options<Nothing>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    switch(&api, &headers, &body, name, true).await
}

/// `POST …/resume`: it is put again, from now on.
pub(super) async fn resume(
    State(api): State<Arc<Api>>,
    Named(name): Named,
    Options(Nothing {}): Options<Nothing>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    switch(&api, &headers, &body, name, false).await
}

async fn switch(
    api: &Api,
    headers: &HeaderMap,
    body: &Body,
    name: ScheduleName,
    is_paused: bool,
) -> Result<Response, Problem> {
    let queue = api.queues.queue_of(headers, &name).await?;
    body.is_empty()?;
    api.queues.ask(Command::PauseSchedule { name, queue, is_paused }).await?;
    Ok(done())
}

/// `POST …/run`: puts it now, and besides.
pub(super) async fn run(
    State(api): State<Arc<Api>>,
    Named(name): Named,
    Options(Nothing {}): Options<Nothing>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let queue = api.queues.queue_of(&headers, &name).await?;
    body.is_empty()?;
    let Outcome::Put(receipts) = api.queues.ask(Command::RunSchedule { name, queue }).await? else {
        return Err(Problem::UNEXPECTED);
    };
    let receipt = receipts.first().copied().ok_or(Problem::UNEXPECTED)?;
    let status = if receipt.dup { StatusCode::OK } else { StatusCode::CREATED };
    let location = [(LOCATION, format!("/api/v1/messages/{}", receipt.id))];
    Ok((location, answer(status, &Stored::from(receipt))).into_response())
}
