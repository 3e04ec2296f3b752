//! Work queues over HTTP: described in `docs/queues.md`.
//!
//! ```text
//!   request ─► access (may it?) ─► put · lease · look · manage (what is asked) ─► WorkQueues ─► answer, or problem
//! ```

mod access;
mod lease;
mod look;
mod manage;
mod payload;
mod put;
mod schedules;

use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, FromRequest, FromRequestParts, Path, Query, Request};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use http::StatusCode;
use http::header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use http::request::Parts;
use posthaste::WorkQueues;
use posthaste::queue::{Command, MessageId, Outcome, QueueName, Refusal, name_is_good};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;

use crate::api::Api;
use crate::api::problem::Problem;
use crate::config::hint;
use crate::queues::Rules;

/// Largest body of a request, in bytes.
const MAX_BODY: usize = 16 << 20;
/// The most requests that wait for messages or results at the same time.
const MAX_WAITING: usize = 10_000;

/// Where queues are asked for.
pub(crate) struct Desk {
    queues: WorkQueues,
    rules: Arc<Rules>,
    waiting: Arc<Semaphore>,
}

impl Desk {
    pub(crate) fn new(queues: WorkQueues, rules: Arc<Rules>) -> Self {
        Self { queues, rules, waiting: Arc::new(Semaphore::new(MAX_WAITING)) }
    }

    async fn ask(&self, command: Command) -> Result<Outcome, Problem> {
        Ok(self.queues.ask(command).await??)
    }
}

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/api/v1/queues", get(look::list))
        .route("/api/v1/queues/{queue}", get(look::queue).put(manage::configure).delete(manage::remove))
        .route("/api/v1/queues/{queue}/messages", post(put::put))
        .route("/api/v1/queues/{queue}/lease", post(lease::lease))
        .route("/api/v1/queues/{queue}/stats", get(look::stats))
        .route("/api/v1/queues/{queue}/peek", get(look::peek))
        .route("/api/v1/queues/{queue}/pause", post(manage::pause))
        .route("/api/v1/queues/{queue}/resume", post(manage::resume))
        .route("/api/v1/queues/{queue}/drain", post(manage::drain))
        .route("/api/v1/queues/{queue}/purge", post(manage::purge))
        .route("/api/v1/queues/{queue}/redrive", post(manage::redrive))
        .route("/api/v1/leases/settle", post(lease::settle))
        .route("/api/v1/messages/{id}", get(look::message).delete(manage::remove_message))
        .route("/api/v1/messages/{id}/result", get(look::result))
        .route("/api/v1/schedules", get(schedules::list))
        .route(
            "/api/v1/schedules/{schedule}",
            get(schedules::show).put(schedules::schedule).delete(schedules::unschedule),
        )
        .route("/api/v1/schedules/{schedule}/pause", post(schedules::pause))
        .route("/api/v1/schedules/{schedule}/resume", post(schedules::resume))
        .route("/api/v1/schedules/{schedule}/run", post(schedules::run))
        .layer(DefaultBodyLimit::max(MAX_BODY))
}

/// The queue that a path names.
struct Queue(QueueName);

impl<S: Send + Sync> FromRequestParts<S> for Queue {
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

/// The message that a path names.
struct Id(MessageId);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let id: Result<Path<MessageId>, PathRejection> = Path::from_request_parts(parts, state).await;
        let Path(id) = id.map_err(|_| Problem::invalid("a message's id is a whole number"))?;
        Ok(Self(id))
    }
}

/// What a query says, which has to be known.
struct Options<T>(T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Options<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query: Result<Query<T>, QueryRejection> = Query::from_request_parts(parts, state).await;
        match query {
            Ok(Query(options)) => Ok(Self(options)),
            Err(error) => {
                let text = error.body_text();
                let said = text.rsplit(": ").next().unwrap_or(&text);
                Err(Problem::invalid(format!("the query: {}", with_hint(said))))
            }
        }
    }
}

/// The body of a request.
struct Body(Bytes);

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let body: Result<Bytes, BytesRejection> = Bytes::from_request(request, state).await;
        body.map(Self).map_err(|error| match error.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Problem::body_too_large(MAX_BODY),
            _ => Problem::invalid(error.body_text()),
        })
    }
}

impl Body {
    fn text(&self) -> Result<&str, Problem> {
        std::str::from_utf8(&self.0).map_err(|_| Problem::invalid("the body is no UTF-8"))
    }

    /// Refuses a body that says something where nothing is read.
    fn is_empty(&self) -> Result<(), Problem> {
        let is_empty = self.0.iter().all(u8::is_ascii_whitespace);
        is_empty.then_some(()).ok_or_else(|| Problem::invalid("options are in the query here, and the body is empty"))
    }
}

/// What serde says of JSON, with what was probably meant.
fn unread(error: &serde_json::Error) -> Problem {
    Problem::invalid(with_hint(&error.to_string()))
}

fn with_hint(message: &str) -> String {
    format!("{message}{}", hint::of(message).replace('\n', "; "))
}

/// An answer of JSON, which nobody keeps.
fn answer<T: Serialize>(status: StatusCode, value: &T) -> Response {
    let headers = [(CACHE_CONTROL, "no-store"), (X_CONTENT_TYPE_OPTIONS, "nosniff")];
    (status, headers, axum::Json(value)).into_response()
}

fn done() -> Response {
    (StatusCode::NO_CONTENT, [(CACHE_CONTROL, "no-store")]).into_response()
}
