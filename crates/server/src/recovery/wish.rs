//! What a client says when it wants its session back.

use std::borrow::Cow;
use std::collections::HashMap;

use posthaste_history::Pid;
use serde::Deserialize;
use serde_json::value::RawValue;

/// The session a client asks for, and where it says it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) pid: Pid,
    /// The last offset it heard, or anything else that was a string; a client that heard nothing yet has none.
    pub(crate) offset: Option<String>,
}

impl Wish {
    /// Finds a wish in the auth object that came with a CONNECT. What cannot be one of ours is none.
    ///
    /// Source: `socket.io-client` 4.8: `{ pid, offset }`, under what the application puts into `auth`.
    pub(crate) fn read(auth: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Fields<'a> {
            #[serde(borrow)]
            pid: Option<&'a RawValue>,
            #[serde(borrow)]
            offset: Option<&'a RawValue>,
        }
        // Most clients connect for the first time, and say nothing that looks like it.
        if !auth.contains("\"pid\"") {
            return None;
        }
        let fields: Fields<'_> = serde_json::from_str(auth).ok()?;
        let pid = Pid::parse(&text(fields.pid?)?)?;
        Some(Self { pid, offset: fields.offset.and_then(text).map(Cow::into_owned) })
    }
}

/// Whether a client's auth says that it has no place for offsets behind the arguments of events: `offsets` is `"off"`.
pub(crate) fn refuses_offsets(auth: &str) -> bool {
    field(auth, "offsets").and_then(text).is_some_and(|said| said == "off")
}

/// One field of auth.
pub(crate) fn field<'a>(auth: &'a str, name: &str) -> Option<&'a RawValue> {
    // Most say nothing of it.
    if !auth.contains(&format!("\"{name}\"")) {
        return None;
    }
    serde_json::from_str::<HashMap<Cow<'a, str>, &'a RawValue>>(auth).ok()?.remove(name)
}

/// What a value of auth says, if it is a text.
pub(crate) fn text(value: &RawValue) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    serde_json::from_str::<Text<'_>>(value.get()).ok().map(|text| text.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_sent_unless_they_are_refused() {
        for auth in [r#"{"offsets":"off"}"#, r#"{"token":"x","offsets":"\u006fff","pid":"p"}"#] {
            assert!(refuses_offsets(auth), "{auth}");
        }
        for auth in ["{}", r#"{"offsets":"on"}"#, r#"{"offsets":false}"#, r#"{"a":{"offsets":"off"}}"#, "\"offsets\""] {
            assert!(!refuses_offsets(auth), "{auth}");
        }
    }

    #[test]
    fn a_wish_is_a_pid_of_ours_and_any_text() {
        let pid = Pid::from_bytes([1; 16]);
        let name = pid.to_text();
        let name = name.as_str();
        for (auth, offset) in [
            (format!(r#"{{"pid":"{name}","offset":"x"}}"#), Some("x")),
            (format!(r#"{{"token":1,"offset":"a\"b","pid":"{name}"}}"#), Some("a\"b")),
            (format!(r#"{{"pid":"{name}"}}"#), None),
            (format!(r#"{{"pid":"{name}","offset":7}}"#), None),
            (format!(r#"{{"pid":"{name}","offset":null}}"#), None),
        ] {
            assert_eq!(Wish::read(&auth), Some(Wish { pid, offset: offset.map(String::from) }), "{auth}");
        }
    }

    #[test]
    fn anything_else_is_no_wish() {
        for auth in
            ["{}", "[]", r#"{"pid":null}"#, r#"{"pid":7}"#, r#"{"pid":"somebody"}"#, r#"{"pid":{"pid":1}}"#, "\"pid\""]
        {
            assert_eq!(Wish::read(auth), None, "{auth}");
        }
    }
}
