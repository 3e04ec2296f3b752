//! The headers of the opening handshake.

use posthaste_websocket_proto::{UpgradeError, accept_key, check_upgrade};

/// Upgrade, Connection, Sec-WebSocket-Version, Sec-WebSocket-Key, with 0xff between them; 0xfe alone: the header is absent.
pub(crate) const REQUESTS: &[&[u8]] = &[
    b"websocket\xffUpgrade\xff13\xffdGhlIHNhbXBsZSBub25jZQ==",
    b"h2c, WebSocket\xffkeep-alive, upgrade\xff 13 \xffAQIDBAUGBwgJCgsMDQ4PEC==",
    b"websocket\xff\xfe\xff13\xffdGhlIHNhbXBsZSBub25jZQ==",
    b"websocket\xffupgrade\xff8\xffdGhlIHNhbXBsZSBub25jZQ==",
    b"websocket\xffupgrade\xff13\xffdGhlIHNhbXBsZSBub25jZQ=",
];

/// Law: a request is taken exactly when its four headers say so, and the answer depends on the key alone.
pub(crate) fn check(data: &[u8]) {
    let mut parts = data.split(|&byte| byte == 0xff).map(|part| (part != b"\xfe").then_some(part));
    let [upgrade, connection, version, key] = [(); 4].map(|()| parts.next().flatten());
    let answer = check_upgrade(|name| match name {
        "upgrade" => upgrade,
        "connection" => connection,
        "sec-websocket-version" => version,
        "sec-websocket-key" => key,
        other => panic!("nobody has to know {other}"),
    });

    let text = |value: Option<&[u8]>| {
        // A byte a character, so that blanks are cut off bytes and not off text.
        let text: String = value.unwrap_or_default().iter().map(|&byte| char::from(byte)).collect();
        text.trim_matches([' ', '\t', '\n', '\r', '\u{c}']).to_owned()
    };
    let names = |value, token: &str| {
        text(value)
            .split(',')
            .any(|item| item.trim_matches([' ', '\t', '\n', '\r', '\u{c}']).to_ascii_lowercase() == token)
    };
    let (version, key) = (text(version), text(key));
    let digits = key.strip_suffix("==").unwrap_or_default();
    let is_digit = |digit: char| digit.is_ascii_alphanumeric() || digit == '+' || digit == '/';
    let expected = if !names(upgrade, "websocket") {
        Err(UpgradeError::NotWebSocket)
    } else if !names(connection, "upgrade") {
        Err(UpgradeError::NotUpgrade)
    } else if version != "13" {
        Err(UpgradeError::Version)
    } else if digits.chars().count() != 22 || !digits.chars().all(is_digit) {
        Err(UpgradeError::Key)
    } else {
        Ok(accept_key(&key))
    };
    assert_eq!(answer, expected);
    if let Ok(answer) = answer {
        assert_eq!(crate::base64::decode(answer.as_str()).map(|digest| digest.len()), Some(20));
    }
}
