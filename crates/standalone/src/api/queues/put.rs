//! `POST /api/v1/queues/{queue}/messages`: one message, an array, or one a line (NDJSON); all or none are stored.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::header::{CONTENT_TYPE, LOCATION};
use http::{HeaderMap, HeaderValue, StatusCode};
use posthaste::Payload;
use posthaste::queue::{Command, Outcome, Put, QueueName, Receipt};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::access::What;
use super::{Body, Desk, Queue, answer, payload, unread};
use crate::api::Api;
use crate::api::problem::Problem;
use crate::queues::Right;

/// Names of headers, and of the options that they are.
const HEADERS: [(&str, &str); 4] =
    [("delay", "delay"), ("priority", "priority"), ("ordering-key", "key"), (IDEMPOTENCY_KEY, "dedup")];
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// A receipt.
#[derive(Serialize)]
pub(super) struct Stored {
    id: u64,
    /// Where it is in the order of everything that was put: later ones are greater.
    pos: u64,
    /// It was there before, under the same key.
    dup: bool,
    /// What it survives.
    class: String,
}

impl From<Receipt> for Stored {
    fn from(Receipt { id, dup, durability }: Receipt) -> Self {
        Self { id, pos: id, dup, class: durability.to_string() }
    }
}

#[derive(Serialize)]
struct All {
    receipts: Vec<Stored>,
}

pub(super) async fn put(
    State(api): State<Arc<Api>>,
    Queue(queue): Queue,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let desk = &api.queues;
    desk.access(&headers, Right::Put, What::Queue(&queue))?;
    let (puts, is_one) = desk.read(&queue, &headers, &body)?;
    let Outcome::Put(receipts) = desk.ask(Command::Put(puts)).await? else { return Err(Problem::UNEXPECTED) };
    let status = if receipts.iter().all(|receipt| receipt.dup) { StatusCode::OK } else { StatusCode::CREATED };
    let Some(first) = receipts.first().copied().filter(|_| is_one) else {
        return Ok(answer(status, &All { receipts: receipts.into_iter().map(Stored::from).collect() }));
    };
    let location = [(LOCATION, format!("/api/v1/messages/{}", first.id))];
    Ok((location, answer(status, &Stored::from(first))).into_response())
}

/// Options by name.
type Members<'a> = BTreeMap<Cow<'a, str>, Cow<'a, RawValue>>;

impl Desk {
    /// What is to be put, and whether it is one that was not in a list.
    fn read(&self, queue: &QueueName, headers: &HeaderMap, body: &Body) -> Result<(Vec<Put>, bool), Problem> {
        let common = common(headers)?;
        let kind = headers.get(CONTENT_TYPE).map_or("", |kind| kind.to_str().unwrap_or_default());
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if kind.eq_ignore_ascii_case("application/octet-stream") {
            return Ok((vec![self.put(queue, Payload::binary(body.0.clone()), common)?], true));
        }
        let text = body.text()?;
        let max = self.queues.capabilities().max_batch;
        let is_lines = ["application/x-ndjson", "application/jsonl"].iter().any(|it| kind.eq_ignore_ascii_case(it));
        let items: Vec<&str> = if is_lines {
            text.lines().filter(|line| !line.trim().is_empty()).take(max + 1).collect()
        } else if text.trim_start().starts_with('[') {
            let items: Vec<&RawValue> = serde_json::from_str(text).map_err(|error| unread(&error))?;
            items.into_iter().map(RawValue::get).collect()
        } else {
            return Ok((vec![self.item(queue, text, common)?], true));
        };
        if items.is_empty() || items.len() > max {
            return Err(Problem::invalid(format!("1 to {max} messages can be put at once")));
        }
        let read = |(place, text): (usize, &&str)| {
            let mut common = common.clone();
            // Each of them has a key of its own, the same again when they come again.
            if let Some(key) = common.get_mut("dedup") {
                let name = serde_json::from_str::<Cow<'_, str>>(key.get()).unwrap_or_default();
                *key = Cow::Owned(raw(&format!("{name}#{place}")));
            }
            self.item(queue, text, common).map_err(|problem| problem.at(format_args!("message {place}")))
        };
        Ok((items.iter().enumerate().map(read).collect::<Result<_, _>>()?, false))
    }

    /// One message: `{"payload": …}` with its options beside it, or in `opts`.
    fn item<'a>(&self, queue: &QueueName, text: &'a str, common: Members<'a>) -> Result<Put, Problem> {
        let mut members: Members<'_> = serde_json::from_str::<BTreeMap<Cow<'_, str>, &RawValue>>(text)
            .map_err(|error| Problem::invalid(format!("a message is an object with a `payload`: {error}")))?
            .into_iter()
            .map(|(name, value)| (name, Cow::Borrowed(value)))
            .collect();
        let payload = members.remove("payload").ok_or_else(|| Problem::invalid("`payload` is missing"))?;
        let payload = payload::read(payload.get())?;
        if let Some(options) = members.remove("opts").filter(|options| options.get() != "null") {
            let options: BTreeMap<String, Box<RawValue>> =
                serde_json::from_str(options.get()).map_err(|error| unread(&error).at("`opts`"))?;
            let options = options.into_iter().map(|(name, value)| (Cow::Owned(name), Cow::Owned(value)));
            insert(&mut members, options, "given twice")?;
        }
        insert(&mut members, common, "given by a header as well")?;
        self.put(queue, payload, members)
    }

    fn put(&self, queue: &QueueName, payload: Payload, options: Members<'_>) -> Result<Put, Problem> {
        if options.is_empty() {
            return Ok(self.queues.read_put(queue, payload, None)?);
        }
        let options = serde_json::to_string(&options).map_err(|error| unread(&error))?;
        Ok(self.queues.read_put(queue, payload, Some(&options))?)
    }
}

fn insert<'a>(
    members: &mut Members<'a>,
    more: impl IntoIterator<Item = (Cow<'a, str>, Cow<'a, RawValue>)>,
    twice: &str,
) -> Result<(), Problem> {
    for (name, value) in more {
        if members.contains_key(&name) {
            return Err(Problem::invalid(format!("`{name}` is {twice}")));
        }
        members.insert(name, value);
    }
    Ok(())
}

/// Options that are headers.
fn common(headers: &HeaderMap) -> Result<Members<'static>, Problem> {
    let mut members = Members::new();
    for (header, option) in HEADERS {
        let mut values = headers.get_all(header).iter();
        let Some(value) = values.next() else { continue };
        if values.next().is_some() {
            return Err(Problem::invalid(format!("the header `{header}` is there twice")));
        }
        let text = header_text(value).ok_or_else(|| Problem::invalid(format!("the header `{header}` is no text")))?;
        // Browsers say with this header how urgent the answer is (RFC 9218).
        if header == "priority" && (text.starts_with("u=") || text.starts_with('i')) {
            continue;
        }
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let value = match option {
            "delay" | "priority" if is_number => RawValue::from_string(text.to_owned()).ok(),
            "delay" | "priority" => None,
            _ => Some(raw(text)),
        };
        let value = value.ok_or_else(|| Problem::invalid(format!("the header `{header}` is a whole number")))?;
        members.insert(Cow::Borrowed(option), Cow::Owned(value));
    }
    Ok(members)
}

fn header_text(value: &HeaderValue) -> Option<&str> {
    std::str::from_utf8(value.as_bytes()).ok().map(str::trim)
}

fn raw(text: &str) -> Box<RawValue> {
    to_raw_value(text).unwrap_or_else(|_| RawValue::NULL.to_owned())
}
