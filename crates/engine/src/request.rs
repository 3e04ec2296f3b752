//! What is kept of the request that opened a connection.

use std::net::SocketAddr;
use std::time::SystemTime;

use http::{Extensions, HeaderMap};
use posthaste_engine_proto::{Query, Revision};

/// The request that opened a connection, in one allocation.
///
/// A server holds one of these per connection for as long as it lives, so it is a compact copy of the URL and the headers, read
/// when asked for, and not HTTP's own types, whose values would keep a read buffer alive.
#[derive(Debug)]
pub struct Request {
    /// The URL as it came, then one line `name:value\n` per header, names in lower case.
    head: Box<[u8]>,
    url_len: usize,
    remote_addr: Option<SocketAddr>,
    secure: bool,
    received_at: SystemTime,
    kept: Kept,
}

/// What an application's own middlewares found out about a request, as an extension of it: it stays with the connection that the
/// request opens, while other extensions go with the request.
///
/// ```
/// # use posthaste_engine::Kept;
/// #[derive(Clone)]
/// struct User(String);
///
/// fn in_a_tower_layer<B>(mut request: http::Request<B>) -> http::Request<B> {
///     Kept::keep(request.extensions_mut(), User("ada".to_owned()));
///     request
/// }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Kept(Extensions);

impl Kept {
    /// Adds `value` to what is kept of the request with these extensions; one value per type, the last wins.
    pub fn keep<T: Clone + Send + Sync + 'static>(extensions: &mut Extensions, value: T) {
        extensions.get_or_insert_default::<Self>().insert(value);
    }

    pub(crate) fn insert<T: Clone + Send + Sync + 'static>(&mut self, value: T) {
        self.0.insert(value);
    }

    /// Adds all of it to what is kept of the request with these extensions.
    pub(crate) fn join(self, extensions: &mut Extensions) {
        if !self.0.is_empty() {
            extensions.get_or_insert_default::<Self>().0.extend(self.0);
        }
    }
}

/// Whether a request came over TLS, as an extension of it: an application that terminates TLS itself adds it in a layer around the
/// engine's. Without it the scheme of the request's URI tells, which HTTP/1 requests rarely have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Secure(pub bool);

impl Request {
    /// Copies what matters of a request. `secure` says whether it came over TLS.
    #[must_use]
    pub fn new(uri: &http::Uri, headers: &HeaderMap, remote_addr: Option<SocketAddr>, secure: bool) -> Self {
        let url = uri.path_and_query().map_or("/", |url| url.as_str());
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        Self::from_head(url, headers.iter().copied(), remote_addr, secure)
    }

    /// As [`Request::new`], of a head in parts; names may be in any case.
    pub(crate) fn from_head<'a>(
        url: &str,
        headers: impl Iterator<Item = (&'a str, &'a [u8])> + Clone,
        remote_addr: Option<SocketAddr>,
        secure: bool,
    ) -> Self {
        let size = headers.clone().map(|(name, value)| name.len() + value.len() + 2).sum::<usize>();
        let mut head = Vec::with_capacity(url.len() + size);
        head.extend_from_slice(url.as_bytes());
        for (name, value) in headers {
            let start = head.len();
            head.extend_from_slice(name.as_bytes());
            head[start..].make_ascii_lowercase();
            head.push(b':');
            head.extend_from_slice(value);
            head.push(b'\n');
        }
        Self {
            head: head.into_boxed_slice(),
            url_len: url.len(),
            remote_addr,
            secure,
            received_at: SystemTime::now(),
            kept: Kept::default(),
        }
    }

    /// Adds what is kept of the request besides its head.
    pub(crate) fn with_kept(mut self, extensions: &Extensions) -> Self {
        if let Some(kept) = extensions.get::<Kept>() {
            self.kept = kept.clone();
        }
        self
    }

    /// Adds the address of the stream it came on, unless somebody who knows better (a proxy's header was read) named one.
    pub(crate) fn with_peer(mut self, peer: Option<SocketAddr>) -> Self {
        self.remote_addr = self.remote_addr.or(peer);
        self
    }

    /// The URL: path and query, as sent.
    #[must_use]
    pub fn url(&self) -> &str {
        std::str::from_utf8(&self.head[..self.url_len]).expect("invariant: it was text when it was copied")
    }

    /// The part of the URL behind `?`, percent-encoded; empty when there is none.
    #[must_use]
    pub fn query(&self) -> &str {
        self.url().split_once('?').map_or("", |(_, query)| query)
    }

    /// The headers: names in lower case, values as sent.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        // Values cannot hold a line feed: HTTP parsers refuse them.
        self.head[self.url_len..].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(|line| {
            let colon = line.iter().position(|byte| *byte == b':').expect("invariant: each line was written with one");
            let name = std::str::from_utf8(&line[..colon]).expect("invariant: header names are ASCII");
            (name, &line[colon + 1..])
        })
    }

    /// The first header of that name (any case) whose value is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers()
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .and_then(|(_, value)| std::str::from_utf8(value).ok())
    }

    /// Where the client connected from, if known: the listeners of this crate and WebSockets know it; see
    /// [`RemoteAddr`](crate::RemoteAddr) for polling inside another HTTP server.
    #[must_use]
    pub const fn remote_addr(&self) -> Option<SocketAddr> {
        self.remote_addr
    }

    /// What a middleware kept of that type; see [`Kept`].
    #[must_use]
    pub fn kept<T: Clone + Send + Sync + 'static>(&self) -> Option<&T> {
        self.kept.0.get()
    }

    /// The revision of the Engine.IO protocol that the client speaks.
    #[must_use]
    pub fn revision(&self) -> Revision {
        Query::parse(self.query()).revision
    }

    /// Whether the request came over TLS; see [`Secure`].
    #[must_use]
    pub const fn is_secure(&self) -> bool {
        self.secure
    }

    /// When it came.
    #[must_use]
    pub const fn received_at(&self) -> SystemTime {
        self.received_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn url_query_and_headers_are_kept_as_sent() {
        let mut headers = HeaderMap::new();
        headers.insert("User-Agent", HeaderValue::from_static("a: b"));
        headers.append("x-twice", HeaderValue::from_static("1"));
        headers.append("x-twice", HeaderValue::from_static("2"));
        headers.insert("x-bytes", HeaderValue::from_bytes(&[0xff]).expect("obs-text"));
        let request = Request::new(&"/socket.io/?a=%20b".parse().expect("uri"), &headers, None, false);
        assert_eq!((request.url(), request.query()), ("/socket.io/?a=%20b", "a=%20b"));
        assert_eq!(request.header("user-AGENT"), Some("a: b"));
        assert_eq!(request.header("x-bytes"), None);
        assert_eq!(request.headers().filter(|(name, _)| *name == "x-twice").count(), 2);
    }
}
