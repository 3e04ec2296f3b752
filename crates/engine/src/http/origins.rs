//! Which sites may talk to the server from a visitor's browser.

use std::sync::Arc;

use http::header::{HOST, ORIGIN, REFERER};
use http::{HeaderMap, HeaderName, HeaderValue, Uri};

/// Which origins are served. Requests and upgrades that name another are refused with 403, on every transport alike and before
/// anything else is looked at; what names none comes from no other site's page and passes.
///
/// Browsers name the origin of a page on each request to another site and on each WebSocket, and pages cannot forge it; they send
/// the visitor's cookies along all the same. [`Cors`](crate::Cors) does not keep a page of another site from opening a WebSocket
/// in its visitor's name: this does. Programs may claim any origin, so it does not tell who a client is.
///
/// By default every origin is served, as in Socket.IO.
///
/// ```
/// use posthaste_engine::Origins;
/// let origins = Origins::only(["https://app.example", "http://localhost:5173"])?.or_same_host();
/// assert!(Origins::only(["https://*.example"]).is_err());
/// # Ok::<(), posthaste_engine::OriginError>(())
/// ```
#[derive(Clone)]
pub struct Origins {
    only: Vec<Origin>,
    same_host: bool,
    check: Option<Check>,
}

type Check = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// What was given is no origin: `scheme://host` or `scheme://host:port`, nothing behind it, and no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is no origin: scheme://host or scheme://host:port")]
pub struct OriginError {
    given: String,
}

/// An origin in one form: lower case, the port named.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Origin {
    scheme: String,
    host: String,
    port: u16,
}

impl Origins {
    /// These, compared whole: scheme, host and port. `null`, which sandboxed pages and files have for an origin, is none of them.
    ///
    /// # Errors
    /// [`OriginError`] names the first that is none.
    pub fn only<I>(origins: I) -> Result<Self, OriginError>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let parse = |given: I::Item| {
            Origin::parse(given.as_ref()).ok_or_else(|| OriginError { given: given.as_ref().to_owned() })
        };
        let only = origins.into_iter().map(parse).collect::<Result<_, _>>()?;
        Ok(Self { only, same_host: false, check: None })
    }

    /// Those of the host and port that the request itself was sent to (its `Host` header).
    #[must_use]
    pub const fn same_host() -> Self {
        Self { only: Vec::new(), same_host: true, check: None }
    }

    /// Those that `check` says yes to; it is given the header's text as sent, `null` too.
    #[must_use]
    pub fn check(check: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        Self { only: Vec::new(), same_host: false, check: Some(Arc::new(check)) }
    }

    /// As well as those of the request's own host.
    #[must_use]
    pub fn or_same_host(mut self) -> Self {
        self.same_host = true;
        self
    }

    /// Whether a request with these headers may go on. Of several origins each must be allowed.
    pub(super) fn allow(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        headers.get_all(ORIGIN).iter().all(|origin| {
            let Ok(text) = origin.to_str() else { return false };
            if self.check.as_ref().is_some_and(|check| check(text)) {
                return true;
            }
            let Some(origin) = Origin::parse(text) else { return false };
            self.only.contains(&origin) || self.same_host && origin.is_at(uri, headers)
        })
    }
}

impl Origins {
    /// Whether a request that is answered with a script may go on. Browsers name no origin on those, so the page that has sent it
    /// must be known otherwise: any page may embed a script, and would read what is in it.
    pub(super) fn allow_script(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        if headers.contains_key(ORIGIN) {
            return self.allow(uri, headers);
        }
        let page = headers.get(REFERER).and_then(|page| page.to_str().ok()?.parse::<Uri>().ok());
        let origin = page.and_then(|page| {
            let origin = format!("{}://{}", page.scheme_str()?, page.authority()?);
            HeaderValue::from_str(&origin).ok()
        });
        let Some(origin) = origin else { return false };
        let mut named = headers.clone();
        named.insert(ORIGIN, origin);
        self.allow(uri, &named)
    }
}

impl std::fmt::Debug for Origins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Origins")
            .field("only", &self.only)
            .field("same_host", &self.same_host)
            .field("check", &self.check.is_some())
            .finish()
    }
}

impl Origin {
    fn parse(text: &str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        let scheme = scheme.to_ascii_lowercase();
        let (host, port) = split_authority(authority)?;
        let port = match (port, scheme.as_str()) {
            (Some(port), _) => port,
            (None, "http" | "ws") => 80,
            (None, "https" | "wss") => 443,
            // Applications in a shell (`capacitor://localhost`, extensions) have schemes of their own, without ports.
            (None, _) => 0,
        };
        is_scheme.then_some(Self { scheme, host, port })
    }

    /// Whether a request to this URI, with these headers, was sent to this origin's host and port. Whether it came over TLS is
    /// not known behind a proxy, so each scheme's own port counts as left out.
    fn is_at(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        let default = match self.scheme.as_str() {
            "http" => 80,
            "https" => 443,
            _ => return false,
        };
        let named = |name: HeaderName| headers.get(name).and_then(|host| host.to_str().ok());
        // HTTP/2 names it in the URI.
        let Some(authority) = uri.authority().map(http::uri::Authority::as_str).or_else(|| named(HOST)) else {
            return false;
        };
        split_authority(authority).is_some_and(|(host, port)| host == self.host && port.unwrap_or(default) == self.port)
    }
}

/// Host, in lower case, and port of `host`, `host:port` or `[address]:port`. `None` for anything that is not just that.
fn split_authority(authority: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let port = match port {
        None => None,
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(digits.parse().ok()?),
        Some(_) => return None,
    };
    let is_host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)),
    };
    is_host.then(|| (host.to_ascii_lowercase(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(origins: &Origins, host: &str, named: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_str(host).expect("a header value"));
        for origin in named {
            headers.append(ORIGIN, HeaderValue::from_str(origin).expect("a header value"));
        }
        origins.allow(&Uri::from_static("/socket.io/"), &headers)
    }

    #[test]
    fn sec_02_an_origin_is_compared_whole() {
        let origins = Origins::only(["https://example.com", "http://localhost:5173", "http://[::1]:80", "app://shell"]);
        let origins = origins.expect("origins");
        for good in
            ["https://example.com", "https://EXAMPLE.com:443", "http://localhost:5173", "http://[::1]", "app://shell"]
        {
            assert!(allows(&origins, "example.com", &[good]), "{good}");
        }
        for bad in [
            "https://evil-example.com",
            "https://example.com.evil",
            "https://sub.example.com",
            "https://example.com:8443",
            "https://example.com:80",
            "https://example.com.",
            "http://example.com",
            "http://localhost",
            "https://example.com/",
            "https://example.com@evil.example",
            "https://example.com#evil",
            "https://example.com:443:443",
            "https://example.com:+443",
            "https:example.com",
            "example.com",
            "//example.com",
            "null",
            "",
            "*",
            "https://",
            "https://[::1",
        ] {
            assert!(!allows(&origins, "example.com", &[bad]), "{bad}");
            assert!(!allows(&origins, "example.com", &["https://example.com", bad]), "a second origin: {bad}");
        }
        assert!(allows(&origins, "example.com", &[]), "no page of another site");
    }

    #[test]
    fn the_same_host_is_that_of_the_request() {
        let origins = Origins::same_host();
        for (host, origin, expected) in [
            ("app.example", "https://app.example", true),
            ("APP.example:443", "https://app.example", true),
            ("app.example", "http://app.example", true),
            ("app.example:8080", "http://app.example:8080", true),
            ("app.example:8080", "http://app.example", false),
            ("app.example", "https://evil.example", false),
            ("app.example", "https://app.example.evil", false),
            ("app.example", "null", false),
            ("app.example", "ftp://app.example", false),
        ] {
            assert_eq!(allows(&origins, host, &[origin]), expected, "{origin} at {host}");
        }
        let both = Origins::only(["https://a.example"]).expect("origins").or_same_host();
        assert!(
            allows(&both, "b.example", &["https://a.example"]) && allows(&both, "b.example", &["https://b.example"])
        );
    }

    #[test]
    fn a_check_of_ones_own_sees_what_was_sent() {
        let origins = Origins::check(|origin| origin == "null" || origin.ends_with(".app.example"));
        assert!(allows(&origins, "x", &["null"]) && allows(&origins, "x", &["https://a.app.example"]));
        assert!(!allows(&origins, "x", &["https://app.example.evil"]));
    }

    #[test]
    fn what_is_no_origin_cannot_be_allowed() {
        for given in ["*", "null", "https://*.example", "example.com", "https://example.com/path", "https://a b"] {
            assert_eq!(Origins::only([given]).err(), Some(OriginError { given: given.to_owned() }));
        }
    }
}
