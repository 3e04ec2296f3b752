//! What went wrong, as RFC 9457 has it.

use std::borrow::Cow;

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use posthaste::store::StoreError;
use posthaste::{QueueError, queue};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::rooms::{Code, Refusal};

/// An answer that is an error.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    /// A word that programs can rely on.
    code: Cow<'static, str>,
    detail: Cow<'static, str>,
    /// What else there is to say, as members beside these.
    more: Option<Map<String, Value>>,
}

impl Problem {
    pub(crate) const NO_SUCH_CALL: Self = Self::new(
        StatusCode::NOT_FOUND,
        "not_found",
        "there is no such call; `GET /api/v1/streams/{name}` and `GET /api/v1/queues` are some",
    );
    pub(crate) const METHOD: Self =
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this call is made with another method");
    pub(crate) const TOO_MANY: Self =
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "too_many", "too many streams are being followed");

    pub(crate) const TOO_MANY_WAIT: Self =
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "too_many", "too many requests are waiting");
    pub(crate) const STALE: Self =
        Self::new(StatusCode::CONFLICT, "stale_lease", "the leases of all these messages are over");
    pub(crate) const UNEXPECTED: Self =
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "the server's store gave another answer");

    const fn new(status: StatusCode, code: &'static str, detail: &'static str) -> Self {
        Self { status, code: Cow::Borrowed(code), detail: Cow::Borrowed(detail), more: None }
    }

    pub(crate) fn invalid(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid", "").detailed(detail)
    }

    pub(crate) fn forbidden(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", "").detailed(detail)
    }

    pub(crate) fn body_too_large(max: usize) -> Self {
        let detail = format!("a request has at most {max} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "").detailed(detail)
    }

    pub(crate) fn unknown_message(id: queue::MessageId) -> Self {
        queue::Refusal::UnknownMessage(id).into()
    }

    fn detailed(self, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { detail: detail.into(), ..self }
    }

    /// Says where the mistake is.
    pub(crate) fn at(self, place: impl std::fmt::Display) -> Self {
        let detail = format!("{place}: {}", self.detail).into();
        Self { detail, ..self }
    }

    /// With something else to say.
    pub(crate) fn with(mut self, name: &str, value: Value) -> Self {
        self.more.get_or_insert_default().insert(name.to_owned(), value);
        self
    }

    pub(crate) fn code(&self) -> &str {
        &self.code
    }
}

/// What a queue refuses.
impl From<queue::Refusal> for Problem {
    fn from(refusal: queue::Refusal) -> Self {
        use queue::Refusal as It;
        let status = match &refusal {
            It::UnknownQueue(_) | It::UnknownMessage(_) | It::UnknownConsumer | It::UnknownSchedule(_) => {
                StatusCode::NOT_FOUND
            }
            It::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            It::Full { .. } | It::TooMany { .. } => StatusCode::TOO_MANY_REQUESTS,
            It::Draining(_) | It::StaleLease(_) | It::OtherQueue { .. } => StatusCode::CONFLICT,
            _ => StatusCode::BAD_REQUEST,
        };
        Self::new(status, refusal.code(), "").detailed(refusal.to_string())
    }
}

/// What the store of queues cannot do.
impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Refused(why) => Self::invalid(why),
            StoreError::Full { .. } => {
                Self::new(StatusCode::INSUFFICIENT_STORAGE, "storage_full", "the server's disk is full")
            }
            StoreError::Busy { .. } => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "the server's disk is behind: try again")
            }
            // What there is to know is for whoever runs the server.
            error => {
                tracing::error!(%error, "queues: the store failed");
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "the server's store does not answer")
            }
        }
    }
}

impl From<QueueError> for Problem {
    fn from(error: QueueError) -> Self {
        match error {
            QueueError::Refused(refusal) => refusal.into(),
            QueueError::Store(error) => error.into(),
            QueueError::Payload(why) => Self::invalid(why),
            error => Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "").detailed(error.to_string()),
        }
    }
}

impl From<Refusal> for Problem {
    fn from(Refusal { code, message }: Refusal) -> Self {
        let status = match code {
            Code::Forbidden | Code::NotMember => StatusCode::FORBIDDEN,
            Code::Invalid => StatusCode::BAD_REQUEST,
            Code::NotDurable => StatusCode::NOT_FOUND,
            Code::TooMany => StatusCode::TOO_MANY_REQUESTS,
            Code::StorageFull => StatusCode::INSUFFICIENT_STORAGE,
            Code::Busy | Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, code.as_str(), "").detailed(message)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        struct Form<'a> {
            r#type: &'static str,
            title: &'a str,
            status: u16,
            code: &'a str,
            detail: &'a str,
            #[serde(flatten)]
            more: &'a Option<Map<String, Value>>,
        }
        let Self { status, code, detail, more } = self;
        let title = status.canonical_reason().unwrap_or_default();
        let form =
            Form { r#type: "about:blank", title, status: status.as_u16(), code: &code, detail: &detail, more: &more };
        let mut response = (status, axum::Json(form)).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let retry_after = match status {
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => Some("1"),
            StatusCode::INSUFFICIENT_STORAGE => Some("10"),
            _ => None,
        };
        if let Some(seconds) = retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from_static(seconds));
        }
        response
    }
}
