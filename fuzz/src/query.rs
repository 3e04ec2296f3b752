//! Query strings, session ids, and the bodies of refusals.

use posthaste_engine_proto::{Jsonp, Query, RequestError, Revision, Sid, SidParam, Transport, TransportParam};

pub(crate) const QUERIES: &[&[u8]] = &[
    b"EIO=4&transport=polling&t=abc",
    b"transport=websocket&EIO=4&sid=q6urq6urq6urq6urq6ur",
    b"EIO=4&transport=p%6Flling&b64=1",
    b"EIO=4&EIO=4&transport=polling&transport=polling",
    b"EIO=3&transport=%ff%fe&sid=&b64",
    b"EIO=3&transport=polling&j=0](1234567890",
    b"sid=a&sid=b&&=&%&%4&+=+",
];

/// Laws: a query means what its decoded parameters say; an id has one text; a refusal is JSON whatever its words are.
pub(crate) fn check(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let query = Query::parse(&text);
    assert_eq!(query, model(&text));
    let ignored = format!("unknown=1&{text}&another");
    assert_eq!(Query::parse(&ignored), query, "other parameters mean nothing");

    if let Some(sid) = Sid::parse(&text) {
        assert_eq!(sid.to_string(), text, "there is one text for an id");
    }
    if let Some(bytes) = data.first_chunk::<{ Sid::BYTES }>() {
        let sid = Sid::from_bytes(*bytes);
        assert_eq!(Sid::parse(&sid.to_string()), Some(sid));
        let query = Query::parse(&format!("sid={sid}"));
        assert_eq!(query.sid, SidParam::Sid(sid), "an id needs no escapes");
    }

    let refusal = RequestError::Forbidden(text.clone().into_owned().into()).body();
    let body: serde_json::Value = serde_json::from_str(&refusal).expect("a refusal is JSON");
    assert_eq!(body, serde_json::json!({ "code": 4, "message": text }));
}

fn model(text: &str) -> Query {
    let parameters: Vec<(String, String)> = text
        .split('&')
        .filter(|parameter| !parameter.is_empty())
        .map(|parameter| parameter.split_once('=').unwrap_or((parameter, "")))
        .map(|(name, value)| (unescaped(name), unescaped(value)))
        .collect();
    let values = |wanted: &str| -> Vec<&str> {
        parameters.iter().filter(|(name, _)| name == wanted).map(|(_, value)| value.as_str()).collect()
    };
    Query {
        revision: if values("EIO") == ["4"] { Revision::V4 } else { Revision::V3 },
        transport: match values("transport")[..] {
            ["polling"] => TransportParam::Known(Transport::Polling),
            ["websocket"] => TransportParam::Known(Transport::WebSocket),
            _ => TransportParam::Unknown,
        },
        sid: match values("sid")[..] {
            [] | [""] => SidParam::Absent,
            [sid] => Sid::parse(sid).map_or(SidParam::Invalid, SidParam::Sid),
            _ => SidParam::Invalid,
        },
        base64: values("b64").last().is_some_and(|value| !value.is_empty()),
        jsonp: values("j").last().map(|value| {
            let digits: String = value.chars().filter(char::is_ascii_digit).take(9).collect();
            Jsonp::parse(if digits.is_empty() { "0" } else { &digits })
        }),
    }
}

/// `+` is a blank, `%41` a byte; what is no text becomes U+FFFD.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, behind @ ..] = rest {
        rest = behind;
        let digit = |digit: u8| char::from(digit).to_digit(16);
        match (first, behind) {
            (b'%', [high, low, behind @ ..]) if digit(*high).is_some() && digit(*low).is_some() => {
                bytes.push((digit(*high).unwrap_or(0) * 16 + digit(*low).unwrap_or(0)) as u8);
                rest = behind;
            }
            (b'+', _) => bytes.push(b' '),
            (byte, _) => bytes.push(*byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
