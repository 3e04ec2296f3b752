//! Looking after queues.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use posthaste::queue::{Command, Config, MessageId, Outcome, QueueName, Select, State as Where};
use serde::{Deserialize, Serialize};

use super::access::What;
use super::look::Word;
use super::{Body, Id, Options, Queue, answer, done, unread};
use crate::api::Api;
use crate::api::problem::Problem;
use crate::queues::Right;

/// What is said in the query where nothing is.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Nothing {}

#[derive(Serialize)]
struct Configured {
    name: Arc<str>,
    config: Box<Config>,
}

/// `PUT /api/v1/queues/{queue}`: what it allows from now on. What is left out has its default.
pub(super) async fn configure(
    State(api): State<Arc<Api>>,
    Queue(name): Queue,
    Options(Nothing {}): Options<Nothing>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    api.queues.access(&headers, Right::Manage, What::Queue(&name))?;
    let config: Box<Config> = serde_json::from_str(body.text()?).map_err(|error| unread(&error))?;
    api.queues.ask(Command::Configure(name.clone(), config.clone())).await?;
    Ok(answer(StatusCode::OK, &Configured { name, config }))
}

/// `DELETE /api/v1/queues/{queue}`: with all it has.
pub(super) async fn remove(
    State(api): State<Arc<Api>>,
    Queue(name): Queue,
    Options(Nothing {}): Options<Nothing>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    api.queues.access(&headers, Right::Manage, What::Queue(&name))?;
    api.queues.ask(Command::Delete(name)).await?;
    Ok(done())
}

/// `DELETE /api/v1/messages/{id}`: whatever its state.
pub(super) async fn remove_message(
    State(api): State<Arc<Api>>,
    Id(id): Id,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    api.queues.access(&headers, Right::Manage, What::Something)?;
    if !api.queues.may(Right::Manage, id).await? {
        return Err(Problem::unknown_message(id));
    }
    api.queues.ask(Command::Remove(id)).await?;
    Ok(done())
}

/// `POST …/pause`: nothing is given out. What is leased stays so.
pub(super) async fn pause(
    State(api): State<Arc<Api>>,
    Queue(name): Queue,
    Options(Nothing {}): Options<Nothing>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    switch(&api, &headers, &body, &name, Command::Pause(name.clone(), true)).await
}

/// `POST …/resume`: it is given out again.
pub(super) async fn resume(
    State(api): State<Arc<Api>>,
    Queue(name): Queue,
    Options(Nothing {}): Options<Nothing>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    switch(&api, &headers, &body, &name, Command::Pause(name.clone(), false)).await
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Draining {
    on: Option<bool>,
}

/// `POST …/drain`: nothing is taken in; with `?on=false` it is again.
pub(super) async fn drain(
    State(api): State<Arc<Api>>,
    Queue(name): Queue,
    Options(draining): Options<Draining>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let is_on = draining.on.unwrap_or(true);
    switch(&api, &headers, &body, &name, Command::Drain(name.clone(), is_on)).await
}

async fn switch(
    api: &Api,
    headers: &HeaderMap,
    body: &Body,
    name: &QueueName,
    command: Command,
) -> Result<Response, Problem> {
    api.queues.access(headers, Right::Manage, What::Queue(name))?;
    body.is_empty()?;
    api.queues.ask(command).await?;
    Ok(done())
}

/// Which messages are meant.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Removed {
    /// Those in one of these states, with commas between them.
    state: Option<String>,
    id: Option<MessageId>,
    max: Option<usize>,
}

#[derive(Serialize)]
struct Count {
    count: u64,
}

/// `POST …/purge?state=ready,delayed`: removes messages. It has to be said which.
pub(super) async fn purge(
    State(api): State<Arc<Api>>,
    Queue(name): Queue,
    Options(Removed { state, id, max }): Options<Removed>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    api.queues.access(&headers, Right::Manage, What::Queue(&name))?;
    body.is_empty()?;
    let states = match state {
        Some(state) => states(&state)?,
        None if id.is_some() => vec![Where::Ready, Where::Leased, Where::Delayed, Where::Dead],
        None => {
            return Err(Problem::invalid("`state` is missing: say what is to be removed, as in ?state=ready,delayed"));
        }
    };
    count(&api, Command::Purge(name, Select { states, id, max })).await
}

fn states(text: &str) -> Result<Vec<Where>, Problem> {
    let read = |word: &str| {
        let word = serde_json::from_value::<Word>(word.trim().into()).map_err(|error| unread(&error).at("`state`"))?;
        Ok(word.into())
    };
    let mut states = text.split(',').map(read).collect::<Result<Vec<Where>, Problem>>()?;
    states.sort_by_key(|state| *state as u8);
    states.dedup();
    Ok(states)
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Redriven {
    id: Option<MessageId>,
    max: Option<usize>,
}

/// `POST …/redrive`: dead messages have another chance.
pub(super) async fn redrive(
    State(api): State<Arc<Api>>,
    Queue(name): Queue,
    Options(Redriven { id, max }): Options<Redriven>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    api.queues.access(&headers, Right::Manage, What::Queue(&name))?;
    body.is_empty()?;
    count(&api, Command::Redrive(name, Select { states: vec![Where::Dead], id, max })).await
}

async fn count(api: &Api, command: Command) -> Result<Response, Problem> {
    let Outcome::Count(count) = api.queues.ask(command).await? else { return Err(Problem::UNEXPECTED) };
    Ok(answer(StatusCode::OK, &Count { count }))
}
