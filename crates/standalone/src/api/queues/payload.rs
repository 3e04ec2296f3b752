//! Payloads and results in the JSON of requests and answers: as they are, with bytes as `{"$binary": "base64"}`.

use bytes::Bytes;
use posthaste::Payload;
use serde_json::value::RawValue;

use crate::api::problem::Problem;
use crate::rooms::Value;

/// Begins what is written for bytes.
const MARK: &str = "$binary";

/// What somebody sent: the text of one JSON value.
pub(super) fn read(text: &str) -> Result<Payload, Problem> {
    let invalid = |error| Problem::invalid(format!("the payload: {error}"));
    // Most have nothing binary, and stay as they were written.
    if text.contains(MARK) {
        let mut value: Value = serde_json::from_str(text).map_err(|error| invalid(error.to_string()))?;
        let count = value
            .read_spelt()
            .ok_or_else(|| invalid("`$binary` is base64, and not beside objects with a `_placeholder`".to_owned()))?;
        if count > 0 {
            return Payload::new(&value).map_err(Problem::from);
        }
    }
    Payload::json(text).map_err(Problem::from)
}

/// What is stored, to be shown. What cannot be read is `null`.
pub(super) fn shown(stored: Bytes) -> Box<RawValue> {
    let payload = Payload::from_stored(stored);
    let text = match payload.parts() {
        Some((text, parts)) if parts.is_empty() => RawValue::from_string(text.to_owned()).ok(),
        Some(_) => payload.read::<Value>().ok().and_then(|mut value| {
            value.spell_out();
            serde_json::value::to_raw_value(&value).ok()
        }),
        None => None,
    };
    text.unwrap_or_else(|| RawValue::NULL.to_owned())
}

/// What is said about a message: an object, if there is one.
pub(super) fn headers(stored: &Bytes) -> Option<Box<RawValue>> {
    if stored.is_empty() {
        return None;
    }
    serde_json::from_slice(stored).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown_again(text: &str) -> String {
        shown(read(text).unwrap().into_stored()).get().to_owned()
    }

    #[test]
    fn values_come_back_as_they_were_written() {
        for text in ["1.0", "null", r#""text""#, r#"{"b":1,"a":[18446744073709551616]}"#, r#"{"$binary":5}"#] {
            assert_eq!(shown_again(text), text);
        }
        for text in [r#"{"$binary":"AAH/"}"#, r#"[{"name":"x","data":{"$binary":""}},{"$binary":"aGk="}]"#] {
            assert_eq!(shown_again(text), text);
        }
        assert_eq!(shown(Bytes::from_static(b"\xff")).get(), "null");
        assert_eq!(shown(Bytes::new()).get(), "null");
    }

    #[test]
    fn bytes_are_what_a_client_of_socket_io_gets_as_bytes() {
        let payload = read(r#"{"data":{"$binary":"AAH/"}}"#).unwrap();
        let (text, parts) = payload.parts().unwrap();
        assert_eq!(text, r#"{"data":{"_placeholder":true,"num":0}}"#);
        assert_eq!(parts, [Bytes::from_static(b"\0\x01\xff")]);
    }

    #[test]
    fn what_is_no_base64_or_would_be_mistaken_is_refused() {
        let both = r#"[{"_placeholder":true,"num":0},{"$binary":"AAH/"}]"#;
        for text in [r#"{"$binary":"?"}"#, both, "", "1 2", "{"] {
            assert_eq!(read(text).unwrap_err().code(), "invalid", "{text}");
        }
    }
}
