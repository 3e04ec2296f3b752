//! Where the load goes: a URL, and the addresses behind it.

use std::net::{SocketAddr, ToSocketAddrs};

/// A server's URL, taken apart: `http` or `ws`, a host, a port (80 if the URL names none).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    host: String,
    port: u16,
}

/// A URL that no load can be sent to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// TLS is not spoken here.
    #[error("{0:?}: TLS is not supported; measure the server behind the proxy that terminates it, over http://")]
    Tls(String),
    /// Neither `http` nor `ws`.
    #[error("{0:?} is not a URL of the form http://host:port")]
    Form(String),
    /// A path, a query or a user where only a host belongs.
    #[error("{0:?} holds more than a host and a port; the path of Socket.IO is given with --path")]
    More(String),
    /// The name has no address.
    #[error("{host} has no address: {reason}")]
    Unknown {
        /// The name.
        host: String,
        /// What the resolver says.
        reason: String,
    },
}

impl Target {
    /// Reads `http://host:port` or `ws://host:port`; an IPv6 address stands in brackets.
    ///
    /// # Errors
    /// [`TargetError`], but for [`TargetError::Unknown`].
    ///
    /// ```
    /// use posthaste_load::Target;
    /// assert_eq!(Target::parse("http://localhost:3000/")?.authority(), "localhost:3000");
    /// # Ok::<(), posthaste_load::TargetError>(())
    /// ```
    pub fn parse(url: &str) -> Result<Self, TargetError> {
        let form = || TargetError::Form(url.to_owned());
        let (scheme, rest) = url.split_once("://").ok_or_else(form)?;
        match scheme.to_ascii_lowercase().as_str() {
            "http" | "ws" => {}
            "https" | "wss" => return Err(TargetError::Tls(url.to_owned())),
            _ => return Err(form()),
        }
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '?', '#', '@']) {
            return Err(TargetError::More(url.to_owned()));
        }
        if authority.chars().any(|it| it.is_whitespace() || it.is_control()) {
            return Err(form());
        }
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().map_err(|_| form())?),
            _ => (authority, 80),
        };
        let bracketed = host.starts_with('[') && host.ends_with(']');
        if host.is_empty() || port == 0 || (host.contains(':') && !bracketed) {
            return Err(form());
        }
        Ok(Self { host: host.to_owned(), port })
    }

    /// Host and port, as the `Host` header names them.
    pub fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// The first address of the host; IPv4 before IPv6, as most servers of development listen on the former alone.
    ///
    /// # Errors
    /// [`TargetError::Unknown`].
    pub fn resolve(&self) -> Result<SocketAddr, TargetError> {
        let unknown = |reason: String| TargetError::Unknown { host: self.host.clone(), reason };
        let name = self.host.trim_start_matches('[').trim_end_matches(']');
        let addrs: Vec<_> = (name, self.port).to_socket_addrs().map_err(|error| unknown(error.to_string()))?.collect();
        let first = addrs.iter().find(|addr| addr.is_ipv4()).or(addrs.first());
        first.copied().ok_or_else(|| unknown("none was found".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_a_scheme_a_host_and_a_port() {
        for (url, authority) in [
            ("http://127.0.0.1:3000", "127.0.0.1:3000"),
            ("ws://example.org", "example.org:80"),
            ("HTTP://[::1]:4000/", "[::1]:4000"),
            ("http://[::1]", "[::1]:80"),
        ] {
            assert_eq!(Target::parse(url).map(|it| it.authority()), Ok(authority.to_owned()), "{url}");
        }
        for url in ["localhost:3000", "ftp://x", "http://", "http://:80", "http://x:99999", "http://x:0", "http://a b"]
        {
            assert_eq!(Target::parse(url), Err(TargetError::Form(url.to_owned())), "{url}");
        }
        for url in ["http://x/chat", "http://u@x", "http://x?a=b"] {
            assert_eq!(Target::parse(url), Err(TargetError::More(url.to_owned())), "{url}");
        }
        assert_eq!(Target::parse("wss://x"), Err(TargetError::Tls("wss://x".into())));
    }

    #[test]
    fn addresses_of_the_loopback_need_no_resolver() {
        assert_eq!(Target::parse("http://[::1]:80").unwrap().resolve(), Ok(([0, 0, 0, 0, 0, 0, 0, 1], 80).into()));
        assert_eq!(Target::parse("http://127.0.0.1:9").unwrap().resolve(), Ok(([127, 0, 0, 1], 9).into()));
    }
}
