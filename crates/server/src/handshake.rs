//! What a client said about itself when it connected.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use posthaste_engine::{Request, Revision};

/// The opening request of a connection, and what the client sent along when it joined the namespace.
#[derive(Clone, Copy, Debug)]
pub struct Handshake<'a> {
    pub(crate) request: &'a Arc<Request>,
    pub(crate) auth: Option<&'a str>,
}

impl<'a> Handshake<'a> {
    /// The first header of that name (any case) whose value is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'a str> {
        self.request.header(name)
    }

    /// The headers: names in lower case, values as sent.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> + use<'a> {
        self.request.headers()
    }

    /// The query parameters, decoded, in the order of the URL (`EIO` and `transport` among them).
    pub fn query(&self) -> impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)> + use<'a> {
        form_urlencoded::parse(self.request.query().as_bytes())
    }

    /// The last query parameter of that name.
    #[must_use]
    pub fn query_param(&self, name: &str) -> Option<Cow<'a, str>> {
        self.query().filter(|(found, _)| found == name).last().map(|(_, value)| value)
    }

    /// The auth object as JSON text; `{}` when the client sent none. [`Auth`](crate::Auth) reads it into a type.
    #[must_use]
    pub fn auth(&self) -> &'a str {
        self.auth.unwrap_or("{}")
    }

    /// What an engine middleware or a layer around the server kept of that type; see
    /// [`Builder::engine_middleware`](crate::Builder::engine_middleware) and [`Kept`](crate::Kept).
    #[must_use]
    pub fn kept<T: Clone + Send + Sync + 'static>(&self) -> Option<&'a T> {
        self.request.kept()
    }

    /// The revision of the Engine.IO protocol that the client speaks.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.request.revision()
    }

    /// Where the client connected from, if known.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.request.remote_addr()
    }

    /// The URL of the first request: path and query, as sent.
    #[must_use]
    pub fn url(&self) -> &'a str {
        self.request.url()
    }

    /// Whether the first request came over TLS; an application that terminates TLS says so with [`Secure`](crate::Secure).
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.request.is_secure()
    }

    /// Whether the first request named an origin, as browsers do for other sites.
    #[must_use]
    pub fn is_cross_domain(&self) -> bool {
        self.header("origin").is_some()
    }

    /// When the first request came.
    #[must_use]
    pub fn issued(&self) -> SystemTime {
        self.request.received_at()
    }
}
