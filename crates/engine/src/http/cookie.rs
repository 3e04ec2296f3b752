//! The cookie that a polling handshake may set, checked when it is made.

use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::HeaderValue;
use posthaste_engine_proto::Sid;

/// A cookie with the session id, set by the answer to a polling handshake and by no other: for load balancers that keep a
/// client's requests on one server by it. The server itself never reads it.
///
/// Whatever is in it has been checked: no name, path, domain or value can end the cookie and begin something else. By default it
/// is `io=<sid>; Path=/; HttpOnly; SameSite=Lax`.
///
/// Source: RFC 6265 §4.1; the option `cookie` of the official server.
///
/// ```
/// use posthaste_engine::{Cookie, CookieError, SameSite};
///
/// let cookie = Cookie::builder().name("sticky").same_site(SameSite::Strict).secure(true).build()?;
/// assert!(Cookie::builder().name("io=x; Domain=evil.example; y").build().is_err());
/// # Ok::<(), CookieError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Cookie {
    name: String,
    /// What comes behind the value.
    attributes: String,
    encode: Option<Encode>,
}

#[derive(Clone)]
struct Encode(Arc<dyn Fn(&str) -> String + Send + Sync>);

impl std::fmt::Debug for Encode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Encode")
    }
}

/// On which requests from other sites a browser sends the cookie along.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum SameSite {
    /// On none.
    Strict,
    /// When a visitor follows a link.
    #[default]
    Lax,
    /// On all; the cookie must be secure.
    None,
}

/// A cookie that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CookieError {
    /// The name is empty or has characters that are not of an RFC 9110 token.
    #[error("{name:?} cannot be the name of a cookie")]
    Name {
        /// What was given.
        name: String,
    },
    /// The path does not start with `/`, or has control characters, `;` or characters outside of ASCII.
    #[error("{path:?} cannot be the path of a cookie")]
    Path {
        /// What was given.
        path: String,
    },
    /// The domain is no host name.
    #[error("{domain:?} cannot be the domain of a cookie")]
    Domain {
        /// What was given.
        domain: String,
    },
    /// Browsers refuse it: `SameSite=None`, and names that begin with `__Secure-` or `__Host-`, are for secure cookies; the latter
    /// also for the path `/` and no domain.
    #[error("browsers refuse this cookie: {why}")]
    Refused {
        /// What is missing.
        why: &'static str,
    },
}

impl Cookie {
    /// Settings for a cookie.
    pub fn builder() -> CookieBuilder {
        CookieBuilder {
            name: "io".to_owned(),
            path: Some("/".to_owned()),
            domain: None,
            max_age: None,
            expires: None,
            http_only: true,
            secure: false,
            same_site: Some(SameSite::Lax),
            encode: None,
        }
    }

    /// The value of the `Set-Cookie` header for a session.
    pub(super) fn header(&self, sid: &Sid) -> HeaderValue {
        let sid = sid.to_string();
        let value = self.encode.as_ref().map_or(sid.clone(), |Encode(encode)| encode(&sid));
        let mut text = format!("{}=", self.name);
        for byte in value.bytes() {
            if is_value_byte(byte) {
                text.push(char::from(byte));
            } else {
                // What an encoder makes of a sid is not checked anywhere else.
                let _ = write!(text, "%{byte:02X}");
            }
        }
        text.push_str(&self.attributes);
        HeaderValue::from_str(&text).expect("invariant: each part of it was checked or escaped")
    }
}

impl Default for Cookie {
    fn default() -> Self {
        Self::builder().build().expect("invariant: the defaults are a good cookie")
    }
}

/// Builds a [`Cookie`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `build`"]
pub struct CookieBuilder {
    name: String,
    path: Option<String>,
    domain: Option<String>,
    max_age: Option<Duration>,
    expires: Option<SystemTime>,
    http_only: bool,
    secure: bool,
    same_site: Option<SameSite>,
    encode: Option<Encode>,
}

impl CookieBuilder {
    /// The name; `io` by default.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// The paths it is sent to; `/` by default. `None` leaves it to the browser: the path of the handshake.
    pub fn path<'a>(mut self, path: impl Into<Option<&'a str>>) -> Self {
        self.path = path.into().map(str::to_owned);
        self
    }

    /// The domain it is sent to, subdomains included; by default the host of the handshake alone.
    pub fn domain(mut self, domain: impl Into<String>) -> Self {
        self.domain = Some(domain.into());
        self
    }

    /// How long it lasts, in whole seconds; by default until the browser closes.
    pub const fn max_age(mut self, max_age: Duration) -> Self {
        self.max_age = Some(max_age);
        self
    }

    /// When it ends, for browsers that do not know `max_age`; never by default. The year 9999 is the last that can be said.
    pub const fn expires(mut self, expires: SystemTime) -> Self {
        self.expires = Some(expires);
        self
    }

    /// Whether scripts cannot read it; true by default.
    pub const fn http_only(mut self, http_only: bool) -> Self {
        self.http_only = http_only;
        self
    }

    /// Whether it is sent over TLS alone; false by default.
    pub const fn secure(mut self, secure: bool) -> Self {
        self.secure = secure;
        self
    }

    /// Which requests from other sites carry it; `Lax` by default. `None` (the option) leaves it to the browser.
    pub fn same_site(mut self, same_site: impl Into<Option<SameSite>>) -> Self {
        self.same_site = same_site.into();
        self
    }

    /// What the value is, given the session id; the id itself by default. Characters that no cookie may have come out
    /// percent-encoded.
    pub fn encode(mut self, encode: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        self.encode = Some(Encode(Arc::new(encode)));
        self
    }

    /// Checks it.
    ///
    /// # Errors
    /// [`CookieError`] names the first part that cannot be.
    pub fn build(self) -> Result<Cookie, CookieError> {
        let Self { name, path, domain, max_age, expires, http_only, secure, same_site, encode } = self;
        if name.is_empty() || !name.bytes().all(is_token_byte) {
            return Err(CookieError::Name { name });
        }
        if let Some(path) = path.as_ref().filter(|path| !is_path(path)) {
            return Err(CookieError::Path { path: path.clone() });
        }
        if let Some(domain) = domain.as_ref().filter(|domain| !is_domain(domain)) {
            return Err(CookieError::Domain { domain: domain.clone() });
        }
        let lower = name.to_ascii_lowercase();
        let refused = |why| Err(CookieError::Refused { why });
        if !secure && same_site == Some(SameSite::None) {
            return refused("SameSite=None without Secure");
        }
        if !secure && (lower.starts_with("__secure-") || lower.starts_with("__host-")) {
            return refused("a prefixed name without Secure");
        }
        if lower.starts_with("__host-") && (domain.is_some() || path.as_deref() != Some("/")) {
            return refused("__Host- with a domain, or a path other than /");
        }
        let mut attributes = String::new();
        let mut add = |attribute: &str, value: &str| {
            attributes.push_str("; ");
            attributes.push_str(attribute);
            attributes.push_str(value);
        };
        if let Some(max_age) = max_age {
            add("Max-Age=", &max_age.as_secs().to_string());
        }
        if let Some(domain) = &domain {
            add("Domain=", domain);
        }
        if let Some(path) = &path {
            add("Path=", path);
        }
        if let Some(expires) = expires {
            // 253402300799: the last second of the year 9999; a date of HTTP cannot say more.
            let last = SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799);
            add("Expires=", &httpdate::fmt_http_date(expires.clamp(SystemTime::UNIX_EPOCH, last)));
        }
        if http_only {
            add("HttpOnly", "");
        }
        if secure {
            add("Secure", "");
        }
        match same_site {
            Some(SameSite::Strict) => add("SameSite=", "Strict"),
            Some(SameSite::Lax) => add("SameSite=", "Lax"),
            Some(SameSite::None) => add("SameSite=", "None"),
            None => {}
        }
        Ok(Cookie { name, attributes, encode })
    }
}

/// RFC 9110 §5.6.2, `tchar`.
const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        )
}

/// RFC 6265 §4.1.1, `cookie-octet`.
const fn is_value_byte(byte: u8) -> bool {
    matches!(byte, 0x21 | 0x23..=0x2b | 0x2d..=0x3a | 0x3c..=0x5b | 0x5d..=0x7e)
}

/// RFC 6265 §4.1.1, `path-value`; it begins with a slash, or browsers take another path.
fn is_path(path: &str) -> bool {
    path.starts_with('/') && path.bytes().all(|byte| matches!(byte, 0x20..=0x3a | 0x3c..=0x7e))
}

/// Labels of RFC 1034 §3.5, with RFC 1123's digits; a dot in front is allowed and means nothing.
fn is_domain(domain: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    domain.len() <= 253 && domain.strip_prefix('.').unwrap_or(domain).split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(cookie: &Cookie) -> String {
        cookie.header(&Sid::from_bytes([7; Sid::BYTES])).to_str().expect("a cookie is text").to_owned()
    }

    #[test]
    fn cookies_are_written_as_the_official_server_writes_them() {
        let sid = Sid::from_bytes([7; Sid::BYTES]).to_string();
        assert_eq!(text(&Cookie::default()), format!("io={sid}; Path=/; HttpOnly; SameSite=Lax"));
        let all = Cookie::builder()
            .name("sticky")
            .path("/live")
            .domain("app.example")
            .max_age(Duration::from_millis(90_999))
            .expires(SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777))
            .http_only(false)
            .secure(true)
            .same_site(SameSite::None)
            .encode(|sid| format!("a \"{}\";ü", sid.len()))
            .build();
        assert_eq!(
            text(&all.expect("a good cookie")),
            "sticky=a%20%2220%22%3B%C3%BC; Max-Age=90; Domain=app.example; Path=/live; \
             Expires=Sun, 06 Nov 1994 08:49:37 GMT; Secure; SameSite=None"
        );
        let bare = Cookie::builder().path(None).same_site(None).http_only(false).build();
        assert_eq!(text(&bare.expect("a good cookie")), format!("io={sid}"));
        let far = Cookie::builder().expires(SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 50)).build();
        assert!(text(&far.expect("a good cookie")).contains("; Expires=Fri, 31 Dec 9999 23:59:59 GMT;"));
    }

    #[test]
    fn cookies_that_browsers_refuse_are_refused_here() {
        for builder in [
            Cookie::builder().same_site(SameSite::None),
            Cookie::builder().name("__Secure-io"),
            Cookie::builder().name("__host-io").secure(true).path("/live"),
            Cookie::builder().name("__Host-io").secure(true).domain("app.example"),
        ] {
            assert!(matches!(builder.clone().build(), Err(CookieError::Refused { .. })), "{builder:?}");
        }
        assert!(Cookie::builder().name("__Host-io").secure(true).build().is_ok());
    }

    #[test]
    fn sec_16_no_part_of_a_cookie_can_begin_another_part() {
        for name in [
            "",
            "io=x",
            "io; Path",
            "i o",
            "io\r\nx",
            "io,",
            "ïo",
            "\"io\"",
            "io\u{7f}",
            "a(b)",
            "a/b",
            "userName=<script>",
        ] {
            assert_eq!(Cookie::builder().name(name).build().err(), Some(CookieError::Name { name: name.to_owned() }));
        }
        for path in ["", "live", "/; Domain=evil.example", "/\r\nSet-Cookie: x=y", "/\n", "/\u{7f}", "/ü", "/\0"] {
            let path = path.to_owned();
            assert_eq!(Cookie::builder().path(path.as_str()).build().err(), Some(CookieError::Path { path }));
        }
        for domain in
            ["", ".", "a..b", "-a.b", "a-.b", "a b", "a.b; Secure", "a.b\r\n", "a/b", "ü.example", &"a".repeat(64)]
        {
            let domain = domain.to_owned();
            assert_eq!(Cookie::builder().domain(domain.clone()).build().err(), Some(CookieError::Domain { domain }));
        }
    }

    proptest! {
        #[test]
        fn sec_16_a_cookie_has_as_many_parts_as_it_was_given(name in ".{0,8}", path in ".{0,8}", domain in ".{0,8}", value in ".{0,16}") {
            let built = Cookie::builder()
                .name(name.clone())
                .path(path.as_str())
                .domain(domain)
                .encode(move |_| value.clone())
                .build();
            if let Ok(cookie) = built {
                let text = text(&cookie);
                prop_assert_eq!(text.split(';').count(), 5, "{}", text);
                prop_assert_eq!(text.split_once('=').map(|(found, _)| found), Some(name.as_str()));
                prop_assert!(text.bytes().all(|byte| (0x20..0x7f).contains(&byte)));
            }
        }
    }
}
