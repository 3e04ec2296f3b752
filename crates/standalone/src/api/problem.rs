//! What went wrong, as RFC 9457 has it.

use std::borrow::Cow;

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use serde::Serialize;

use crate::rooms::{Code, Refusal};

/// An answer that is an error.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    /// A word that programs can rely on.
    code: Cow<'static, str>,
    detail: Cow<'static, str>,
}

impl Problem {
    pub(crate) const NO_SUCH_CALL: Self =
        Self::new(StatusCode::NOT_FOUND, "not_found", "there is no such call; `GET /api/v1/streams/{name}` is one");
    pub(crate) const METHOD: Self =
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this call is made with another method");
    pub(crate) const TOO_MANY: Self =
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "too_many", "too many streams are being followed");

    const fn new(status: StatusCode, code: &'static str, detail: &'static str) -> Self {
        Self { status, code: Cow::Borrowed(code), detail: Cow::Borrowed(detail) }
    }

    pub(crate) fn invalid(detail: impl Into<Cow<'static, str>>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code: Cow::Borrowed("invalid"), detail: detail.into() }
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
        Self { status, code: Cow::Borrowed(code.as_str()), detail: message }
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
        }
        let Self { status, code, detail } = self;
        let title = status.canonical_reason().unwrap_or_default();
        let form = Form { r#type: "about:blank", title, status: status.as_u16(), code: &code, detail: &detail };
        let mut response = (status, axum::Json(form)).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
