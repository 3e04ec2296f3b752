//! `GET /api/v1/streams/{name}`: what a durable room was sent, in pages or as it comes.
//!
//! | asks for | gets |
//! | --- | --- |
//! | nothing, or `Accept: application/json` | a page: `{events, complete, gap, next}`, to be gone on with at `?after=` + `next` |
//! | `Accept: text/event-stream` | server-sent events without end, the offset of each as its id |
//!
//! `after` is an offset, or `now`; without it the oldest event that is kept comes first.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use http::header::{ACCEPT, CACHE_CONTROL, VARY, X_CONTENT_TYPE_OPTIONS};
use posthaste::HistoryStart;
use serde::Deserialize;

use crate::api::problem::Problem;
use crate::api::{Api, follow};
use crate::rooms::{Binary, Page, limit, offset, page, readable};

/// What an `EventSource` says when it comes back.
const LAST_EVENT_ID: &str = "last-event-id";

/// Which part of a stream is asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Part {
    after: Option<String>,
    limit: Option<usize>,
}

/// Where to begin.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Start {
    Oldest,
    After(String),
    Now,
}

impl Start {
    fn parse(text: Option<&str>) -> Result<Self, Problem> {
        match text {
            None | Some("") => Ok(Self::Oldest),
            Some("now") => Ok(Self::Now),
            Some(text) => Ok(Self::After(offset(text)?.to_owned())),
        }
    }

    pub(super) fn as_history(&self) -> HistoryStart<'_> {
        match self {
            Self::Oldest => HistoryStart::Oldest,
            Self::After(text) => HistoryStart::After(text),
            Self::Now => HistoryStart::Last(0),
        }
    }
}

pub(super) async fn read(
    State(api): State<Arc<Api>>,
    name: Result<Path<String>, PathRejection>,
    part: Result<Query<Part>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Path(name) = name.map_err(|error| Problem::invalid(error.body_text()))?;
    let Query(part) = part.map_err(|error| Problem::invalid(error.body_text()))?;
    readable(api.rooms.rule(&name)?)?;
    let headers_of_all = [(VARY, "accept"), (CACHE_CONTROL, "no-store"), (X_CONTENT_TYPE_OPTIONS, "nosniff")];
    if wants_events(&headers) {
        if part.limit.is_some() {
            return Err(Problem::invalid("a limit is for pages, events come without end"));
        }
        // What it heard last counts more than where it began.
        let last = headers.get(LAST_EVENT_ID).map(|id| id.to_str().unwrap_or("?")).filter(|id| !id.is_empty());
        let start = Start::parse(last.or(part.after.as_deref()))?;
        return Ok((headers_of_all, follow::events(&api, &name, start)?).into_response());
    }
    let start = Start::parse(part.after.as_deref())?;
    let page = page(&api.namespace, &name, start.as_history(), limit(part.limit)?).await?;
    Ok((headers_of_all, Json(Page::new(page, Binary::Text))).into_response())
}

/// Whether server-sent events are asked for, by name.
fn wants_events(headers: &HeaderMap) -> bool {
    let kinds = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(','));
    kinds.filter_map(|kind| kind.split(';').next()).any(|kind| kind.trim().eq_ignore_ascii_case("text/event-stream"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_sent_to_who_names_them() {
        let asked = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, text.parse().unwrap());
            wants_events(&headers)
        };
        assert!(
            asked("text/event-stream") && asked("Text/Event-Stream;q=0.9") && asked("text/html, text/event-stream")
        );
        assert!(!asked("*/*") && !asked("application/json") && !asked("text/*") && !wants_events(&HeaderMap::new()));
    }
}
