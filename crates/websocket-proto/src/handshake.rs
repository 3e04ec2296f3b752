//! The opening handshake: whether a request may become a WebSocket, and the proof of having read it.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest as _, Sha1};

/// The protocol version this crate speaks, as `Sec-WebSocket-Version` names it.
pub const SUPPORTED_VERSION: &str = "13";

/// What the key is joined with before hashing, so that no other protocol's server answers rightly by chance (§1.3).
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The value of `Sec-WebSocket-Accept`: 28 characters of base64.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct AcceptKey([u8; 28]);

impl AcceptKey {
    /// The header value.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("invariant: base64 is ASCII")
    }
}

impl fmt::Display for AcceptKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for AcceptKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AcceptKey").field(&self.as_str()).finish()
    }
}

/// Answers `key`, the value of `Sec-WebSocket-Key` without surrounding blanks.
///
/// The key is taken as it is; [`check_upgrade`] also looks whether it is one.
///
/// Source: RFC 6455 §4.2.2, step 5.
///
/// ```
/// let accept = posthaste_websocket_proto::accept_key("dGhlIHNhbXBsZSBub25jZQ==");
/// assert_eq!(accept.as_str(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
/// ```
pub fn accept_key(key: &str) -> AcceptKey {
    accept(key.as_bytes())
}

fn accept(key: &[u8]) -> AcceptKey {
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    let mut accept = [0; 28];
    let written = STANDARD.encode_slice(digest, &mut accept);
    assert_eq!(written, Ok(28), "invariant: 20 bytes are 28 characters of base64");
    AcceptKey(accept)
}

/// Why a request cannot become a WebSocket connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UpgradeError {
    /// `Upgrade` is absent or does not list `websocket`: an ordinary request, or one for another protocol.
    #[error("the Upgrade header does not name websocket")]
    NotWebSocket,
    /// `Connection` does not list `upgrade`; typically a proxy on the way that was not told to pass it on.
    #[error("the Connection header does not name upgrade")]
    NotUpgrade,
    /// `Sec-WebSocket-Version` is not [`SUPPORTED_VERSION`]; the answer should name that version in the same header.
    #[error("the WebSocket version is not 13")]
    Version,
    /// `Sec-WebSocket-Key` is absent or not 16 bytes in base64.
    #[error("the Sec-WebSocket-Key header is missing or malformed")]
    Key,
}

impl UpgradeError {
    /// The HTTP status RFC 6455 §4.2.2 and §4.4 propose: 426 for another version, 400 for the rest.
    pub const fn http_status(self) -> u16 {
        match self {
            Self::Version => 426,
            Self::NotWebSocket | Self::NotUpgrade | Self::Key => 400,
        }
    }
}

/// Checks the headers of an upgrade request and computes the answer to its key.
///
/// `header` looks a header's value up; it is asked for lower-case names and has to ignore case, as HTTP does.
/// Values of a header that came on several lines are expected joined by commas. That the request is a
/// `GET` of HTTP/1.1, its `Origin`, sub-protocols and extensions are the caller's to judge. Linear in the
/// length of the values.
///
/// # Errors
/// The first of [`UpgradeError::NotWebSocket`], [`UpgradeError::NotUpgrade`], [`UpgradeError::Version`] and
/// [`UpgradeError::Key`] that applies.
///
/// Source: RFC 6455 §4.2.1.
///
/// ```
/// let headers = [
///     ("Connection", "keep-alive, Upgrade"),
///     ("Upgrade", "websocket"),
///     ("Sec-WebSocket-Version", "13"),
///     ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
/// ];
/// let accept = posthaste_websocket_proto::check_upgrade(|name| {
///     headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_bytes())
/// })?;
/// assert_eq!(accept.to_string(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
/// # Ok::<(), posthaste_websocket_proto::UpgradeError>(())
/// ```
pub fn check_upgrade<'a>(header: impl Fn(&str) -> Option<&'a [u8]>) -> Result<AcceptKey, UpgradeError> {
    let value = |name| header(name).unwrap_or_default().trim_ascii();
    if !lists(value("upgrade"), "websocket") {
        return Err(UpgradeError::NotWebSocket);
    }
    if !lists(value("connection"), "upgrade") {
        return Err(UpgradeError::NotUpgrade);
    }
    if value("sec-websocket-version") != SUPPORTED_VERSION.as_bytes() {
        return Err(UpgradeError::Version);
    }
    let key = value("sec-websocket-key");
    if !is_key(key) {
        return Err(UpgradeError::Key);
    }
    Ok(accept(key))
}

/// Whether the comma-separated `list` holds `token`, in any case.
fn lists(list: &[u8], token: &str) -> bool {
    list.split(|&byte| byte == b',').any(|item| item.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

/// Whether `key` is the base64 of 16 bytes.
///
/// Its last digit may carry bits beyond the 128th: the example key of §4.1 does (`…PEC==`), and a strict
/// base64 decoder would refuse it.
fn is_key(key: &[u8]) -> bool {
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    matches!(key, [digits @ .., b'=', b'='] if digits.len() == 22 && digits.iter().all(is_digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    const UPGRADE: [(&str, &[u8]); 4] = [
        ("upgrade", b"websocket"),
        ("connection", b"Upgrade"),
        ("sec-websocket-version", b"13"),
        ("sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    /// Checks [`UPGRADE`] with one header replaced or, for `None`, left out.
    fn check_with(name: &str, value: Option<&[u8]>) -> Result<AcceptKey, UpgradeError> {
        assert!(UPGRADE.iter().any(|(known, _)| *known == name), "{name}");
        check_upgrade(|asked| match asked == name {
            true => value,
            false => UPGRADE.iter().find(|(known, _)| *known == asked).map(|(_, value)| *value),
        })
    }

    #[test]
    fn example_of_section_1_3_is_answered_as_printed() {
        assert_eq!(accept_key("dGhlIHNhbXBsZSBub25jZQ==").as_str(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn answer_shows_itself_as_the_header_value() {
        let accept = accept_key("dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(accept.to_string(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(format!("{accept:?}"), r#"AcceptKey("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")"#);
    }

    #[test]
    fn headers_are_read_as_lists_without_regard_to_case() {
        for (name, value) in [
            ("upgrade", "WebSocket"),
            ("upgrade", "h2c, websocket"),
            ("connection", "upgrade"),
            ("connection", "keep-alive, Upgrade"),
            ("connection", "keep-alive ,\tUPGRADE\t,"),
            ("sec-websocket-version", " 13 "),
            ("sec-websocket-key", "\tdGhlIHNhbXBsZSBub25jZQ== "),
        ] {
            let accept = check_with(name, Some(value.as_bytes())).map(|accept| accept.to_string());
            assert_eq!(accept.as_deref(), Ok("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{name}: {value}");
        }
    }

    #[test]
    fn example_key_of_section_4_1_with_its_stray_bits_is_a_key() {
        assert!(check_with("sec-websocket-key", Some(b"AQIDBAUGBwgJCgsMDQ4PEC==")).is_ok());
    }

    #[test]
    fn headers_missing_or_wrong_are_named() {
        for (name, values, error) in [
            (
                "upgrade",
                &["", "h2c", "websockets", "web socket", "xwebsocket", "websocket/13", ";websocket"][..],
                UpgradeError::NotWebSocket,
            ),
            (
                "connection",
                &["", "keep-alive", "close", "upgraded", "up grade", "upgrade;q=1"],
                UpgradeError::NotUpgrade,
            ),
            ("sec-websocket-version", &["", "12", "14", "8", "013", "13, 8", "1 3", "thirteen"], UpgradeError::Version),
            (
                "sec-websocket-key",
                &[
                    "",
                    "==",
                    "dGhlIHNhbXBsZSBub25jZQ",
                    "dGhlIHNhbXBsZSBub25jZQ=",
                    "dGhlIHNhbXBsZSBub25jZQ===",
                    "dGhlIHNhbXBsZSBub25jZ===",
                    "dGhlIHNhbXBsZSBub25jZQ=Q",
                    "dGhlIHNhbXBsZSBub25jZWU=",
                    "dGhlIHNhbXBsZSBub25jZWVl",
                    "dGhlIHNhbXBsZSBub25jZWVlZQ==",
                    "dGhlIHNhbXBsZSBub25j-_==",
                    "dGhlIHNhbXBsZSBub25 ZQ==",
                    "dGhlIHNhbXBsZSBub25jZQ==dGhlIHNhbXBsZSBub25jZQ==",
                    "\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}==",
                ],
                UpgradeError::Key,
            ),
        ] {
            assert_eq!(check_with(name, None), Err(error), "{name} absent");
            for value in values {
                assert_eq!(check_with(name, Some(value.as_bytes())), Err(error), "{name}: {value}");
            }
        }
    }

    #[test]
    fn only_another_version_asks_to_upgrade() {
        for (error, status) in [
            (UpgradeError::NotWebSocket, 400),
            (UpgradeError::NotUpgrade, 400),
            (UpgradeError::Version, 426),
            (UpgradeError::Key, 400),
        ] {
            assert_eq!(error.http_status(), status, "{error}");
        }
    }
}
