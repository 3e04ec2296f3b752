//! Cross-origin answers, as the official server's `cors` option gives them.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    CONTENT_LENGTH, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use std::time::Duration;

/// Which origins a browser may connect from.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum AllowOrigin {
    /// Any, with the answer `*`.
    #[default]
    Any,
    /// This one, named in every answer.
    One(HeaderValue),
    /// Those of a list; the answer names the request's own when it is in it.
    List(Vec<HeaderValue>),
    /// Whatever the request says, named in the answer. With credentials this lets every site act in a visitor's name.
    Mirror,
}

/// What browsers on other origins are told. Without it they are told nothing, and refuse polling answers themselves.
///
/// It restrains browsers' polling only: a WebSocket handshake is not subject to it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Cors {
    /// Who may ask.
    pub origin: AllowOrigin,
    /// Whether cookies and the like may come along.
    pub credentials: bool,
    /// The methods a preflight allows; `GET,HEAD,PUT,PATCH,POST,DELETE` when empty.
    pub methods: Vec<http::Method>,
    /// The request headers a preflight allows; those it asks for when `None`.
    pub allowed_headers: Option<Vec<http::HeaderName>>,
    /// The answer headers that scripts may read.
    pub exposed_headers: Vec<http::HeaderName>,
    /// How long a preflight holds.
    pub max_age: Option<Duration>,
}

impl Cors {
    /// Allows one origin (`https://app.example`).
    ///
    /// # Errors
    /// When `origin` has characters no header may have.
    pub fn origin(origin: &str) -> Result<Self, http::header::InvalidHeaderValue> {
        Ok(Self { origin: AllowOrigin::One(HeaderValue::from_str(origin)?), ..Self::default() })
    }

    /// Allows cookies and the like.
    #[must_use]
    pub const fn with_credentials(mut self) -> Self {
        self.credentials = true;
        self
    }

    /// The headers of every answer to `request`.
    pub(crate) fn apply(&self, request: &HeaderMap, answer: &mut HeaderMap) {
        let (allowed, varies) = match &self.origin {
            AllowOrigin::Any => (Some(HeaderValue::from_static("*")), false),
            AllowOrigin::One(origin) => (Some(origin.clone()), true),
            AllowOrigin::Mirror => (request.get(ORIGIN).cloned(), true),
            AllowOrigin::List(list) => (request.get(ORIGIN).filter(|origin| list.contains(origin)).cloned(), true),
        };
        if let Some(allowed) = allowed {
            answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        }
        if varies {
            answer.append(VARY, HeaderValue::from_static("Origin"));
        }
        if self.credentials {
            answer.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        if let Some(exposed) = list(self.exposed_headers.iter().map(http::HeaderName::as_str)) {
            answer.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
        }
    }

    /// The answer to an `OPTIONS` request.
    pub(crate) fn preflight(&self, request: &HeaderMap) -> Response<()> {
        let mut answer = Response::new(());
        *answer.status_mut() = StatusCode::NO_CONTENT;
        let headers = answer.headers_mut();
        self.apply(request, headers);
        // The list of exposed headers belongs to the answers, not to the preflight; browsers ignore it there.
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        let methods = list(self.methods.iter().map(http::Method::as_str))
            .unwrap_or(HeaderValue::from_static("GET,HEAD,PUT,PATCH,POST,DELETE"));
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
        match &self.allowed_headers {
            Some(allowed) => {
                if let Some(allowed) = list(allowed.iter().map(http::HeaderName::as_str)) {
                    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed);
                }
            }
            None => {
                headers.append(VARY, HeaderValue::from_static("Access-Control-Request-Headers"));
                if let Some(asked) = request.get(ACCESS_CONTROL_REQUEST_HEADERS) {
                    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
                }
            }
        }
        if let Some(max_age) = self.max_age {
            headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from(max_age.as_secs()));
        }
        answer
    }
}

/// A comma-separated header; `None` when there is nothing to list.
fn list<'a>(items: impl Iterator<Item = &'a str>) -> Option<HeaderValue> {
    let text = items.collect::<Vec<_>>().join(",");
    (!text.is_empty()).then(|| HeaderValue::from_str(&text).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(origin: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(ORIGIN, HeaderValue::from_str(origin).expect("a header value"));
        headers
    }

    fn allowed(cors: &Cors, origin: &str) -> Option<String> {
        let mut answer = HeaderMap::new();
        cors.apply(&request(origin), &mut answer);
        answer.get(ACCESS_CONTROL_ALLOW_ORIGIN).map(|value| value.to_str().expect("text").to_owned())
    }

    #[test]
    fn origins_are_compared_whole() {
        let list = Cors {
            origin: AllowOrigin::List(vec![HeaderValue::from_static("https://example.com")]),
            ..Cors::default()
        };
        assert_eq!(allowed(&list, "https://example.com").as_deref(), Some("https://example.com"));
        for other in ["https://evil-example.com", "https://example.com.evil", "http://example.com", "null"] {
            assert_eq!(allowed(&list, other), None, "{other}");
        }
        assert_eq!(allowed(&Cors::default(), "https://a.example").as_deref(), Some("*"));
        let one = Cors::origin("https://a.example").expect("an origin");
        assert_eq!(allowed(&one, "https://b.example").as_deref(), Some("https://a.example"));
    }

    #[test]
    fn a_preflight_has_the_official_answer() {
        let mut headers = request("https://a.example");
        headers.insert(ACCESS_CONTROL_REQUEST_HEADERS, HeaderValue::from_static("x-custom"));
        let answer = Cors::origin("https://a.example").expect("an origin").with_credentials().preflight(&headers);
        assert_eq!(answer.status(), 204);
        let text = |name: http::HeaderName| answer.headers().get(name).map(|value| value.to_str().expect("text"));
        assert_eq!(text(CONTENT_LENGTH), Some("0"));
        assert_eq!(text(ACCESS_CONTROL_ALLOW_METHODS), Some("GET,HEAD,PUT,PATCH,POST,DELETE"));
        assert_eq!(text(ACCESS_CONTROL_ALLOW_CREDENTIALS), Some("true"));
        assert_eq!(text(ACCESS_CONTROL_ALLOW_HEADERS), Some("x-custom"));
    }
}
