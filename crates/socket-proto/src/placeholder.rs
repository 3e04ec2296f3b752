//! Finds the places in JSON text where attachments belong.
//!
//! A packet with binary values carries `{"_placeholder":true,"num":N}` where the N-th attachment goes. We accept
//! exactly that: two members in either order, plainly spelled, `num` a whole number below the number of attachments,
//! and every attachment used exactly once. The reference decoder lets further members, repeated and unused numbers
//! pass; no encoder writes them, and letting them through would hand them on to other clients.
//!
//! Source: Socket.IO protocol v5, "Sending and receiving data / binary event".

use smallvec::{SmallVec, smallvec};

use crate::json;

/// What is wrong with the placeholders of a packet with attachments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlaceholderError {
    /// An object says `"_placeholder":true` but is not `{"_placeholder":true,"num":N}` with a whole number N.
    #[error("malformed placeholder")]
    Malformed,
    /// A placeholder points behind the last attachment.
    #[error("placeholder {index} of a packet with {count} attachments")]
    OutOfRange {
        /// The number in the placeholder.
        index: usize,
        /// How many attachments the packet has.
        count: usize,
    },
    /// Two placeholders point at one attachment.
    #[error("placeholder {index} occurs twice")]
    Reused {
        /// The number in the placeholders.
        index: usize,
    },
    /// Fewer placeholders than attachments.
    #[error("{found} placeholders for {count} attachments")]
    Unused {
        /// How many placeholders the packet has.
        found: usize,
        /// How many attachments it has.
        count: usize,
    },
}

/// One placeholder in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Placeholder {
    /// Which attachment it stands for.
    pub(crate) index: usize,
    /// Where the first key starts, behind its quote: what a reader of the text can tell of its position.
    pub(crate) key_at: usize,
    /// Where the digits of the index start.
    digits_at: usize,
}

/// The placeholders of a text, in text order.
pub(crate) type Placeholders = SmallVec<[Placeholder; 4]>;

/// Accepts a text whose placeholders name each of `count` attachments exactly once.
pub(crate) fn check(text: &str, count: usize) -> Result<(), PlaceholderError> {
    let found = find(text)?;
    if let Some(outside) = found.iter().find(|placeholder| placeholder.index >= count) {
        return Err(PlaceholderError::OutOfRange { index: outside.index, count });
    }
    // Before anything is allocated by `count`, which is only a declaration: it cannot exceed what the text holds.
    if found.len() < count {
        return Err(PlaceholderError::Unused { found: found.len(), count });
    }
    let mut used: SmallVec<[bool; 16]> = smallvec![false; count];
    for Placeholder { index, .. } in found {
        if std::mem::replace(&mut used[index], true) {
            return Err(PlaceholderError::Reused { index });
        }
    }
    Ok(())
}

/// Numbers the placeholders of `text` from `start` in the order they appear. Returns the new text and, in that order,
/// the indices they had.
pub(crate) fn renumber(text: &str, placeholders: &[Placeholder], start: usize) -> (String, Vec<usize>) {
    let mut numbered = String::with_capacity(text.len() + placeholders.len());
    let mut copied = 0;
    let mut former = Vec::with_capacity(placeholders.len());
    for (number, placeholder) in (start..).zip(placeholders) {
        numbered.push_str(&text[copied..placeholder.digits_at]);
        numbered.push_str(itoa::Buffer::new().format(number));
        copied = placeholder.digits_at + digits(text, placeholder.digits_at).len();
        former.push(placeholder.index);
    }
    numbered.push_str(&text[copied..]);
    (numbered, former)
}

/// Finds all placeholders of a valid JSON text (a value, or a comma-separated list of them).
pub(crate) fn find(text: &str) -> Result<Placeholders, PlaceholderError> {
    let bytes = text.as_bytes();
    let mut found = Placeholders::new();
    let mut outer: Vec<Level> = Vec::new();
    let mut level = Level::Arrays(0);
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        match (byte, &mut level) {
            (b'"', level) => {
                let end = json::string_end(bytes, at);
                if let Level::Object(object) = level {
                    object.string(&text[at..end - 1], at);
                }
                at = end;
            }
            (b':', Level::Object(object)) => object.value(text, at),
            (b',', Level::Object(object)) => object.key = Key::Awaited,
            (b'{', level) => outer.push(std::mem::replace(level, Level::Object(Object::default()))),
            (b'[', Level::Arrays(depth)) => *depth += 1,
            (b'[', level) => outer.push(std::mem::replace(level, Level::Arrays(1))),
            (b']', Level::Arrays(depth)) if *depth > 1 => *depth -= 1,
            (b']', level) => *level = outer.pop().unwrap_or(Level::Arrays(0)),
            (b'}', level) => {
                if let Level::Object(object) = level {
                    found.extend(object.placeholder(text)?);
                }
                *level = outer.pop().unwrap_or(Level::Arrays(0));
            }
            _ => {}
        }
    }
    Ok(found)
}

/// What surrounds the current position. Arrays directly inside each other share one level: a megabyte of `[` must not
/// become many megabytes of stack.
enum Level {
    Arrays(usize),
    Object(Object),
}

/// The object being read, reduced to what tells a placeholder from data.
#[derive(Default)]
struct Object {
    key_at: usize,
    digits_at: Option<std::num::NonZeroUsize>,
    /// Counts to three and stays there; a placeholder has two.
    members: u8,
    marked: bool,
    key: Key,
}

#[derive(Clone, Copy, Default)]
enum Key {
    #[default]
    Awaited,
    Marker,
    EscapedMarker,
    Number,
    Other,
}

impl Object {
    fn string(&mut self, text: &str, at: usize) {
        if !matches!(self.key, Key::Awaited) {
            return; // a value
        }
        if self.members == 0 {
            self.key_at = at;
        }
        self.key = match text {
            "_placeholder" => Key::Marker,
            "num" => Key::Number,
            // A JavaScript receiver unescapes keys, so we must look through escapes too.
            _ if text.contains('\\')
                && json::parse_json::<String>(&format!("\"{text}\"")).is_ok_and(|key| key == "_placeholder") =>
            {
                Key::EscapedMarker
            }
            _ => Key::Other,
        };
    }

    /// Takes note of the value behind the colon before `at`.
    fn value(&mut self, text: &str, at: usize) {
        self.members = (self.members + 1).min(3);
        let value = text[at..].trim_ascii_start();
        match self.key {
            Key::Marker if value.starts_with("true") => self.marked = true,
            Key::EscapedMarker if value.starts_with("true") => {
                self.marked = true;
                self.members = 3; // never well-formed
            }
            Key::Number if value.starts_with(|first: char| first.is_ascii_digit()) => {
                self.digits_at = std::num::NonZeroUsize::new(text.len() - value.len());
            }
            _ => {}
        }
    }

    /// The placeholder that this object, now complete, is.
    fn placeholder(&self, text: &str) -> Result<Option<Placeholder>, PlaceholderError> {
        if !self.marked {
            return Ok(None);
        }
        let (Some(digits_at), 2) = (self.digits_at, self.members) else { return Err(PlaceholderError::Malformed) };
        let digits_at = digits_at.get();
        let digits = digits(text, digits_at);
        if text[digits_at + digits.len()..].starts_with(['.', 'e', 'E']) {
            return Err(PlaceholderError::Malformed);
        }
        // Saturating: a number beyond usize is out of range whatever the count is.
        let index = digits.parse().unwrap_or(usize::MAX);
        Ok(Some(Placeholder { index, key_at: self.key_at, digits_at }))
    }
}

fn digits(text: &str, at: usize) -> &str {
    let digits = &text[at..];
    let end = digits.find(|character: char| !character.is_ascii_digit()).unwrap_or(digits.len());
    &digits[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sec_10_every_placeholder_is_well_formed_in_range_and_used_once() {
        use PlaceholderError::*;
        for (text, count, expected) in [
            (r#"["e",{"_placeholder":true,"num":0}]"#, 1, Ok(())),
            (r#"["e",{ "num" : 0 , "_placeholder" : true }]"#, 1, Ok(())),
            (r#"["e",{"a":[[{"_placeholder":true,"num":1}]],"b":{"_placeholder":true,"num":0}}]"#, 2, Ok(())),
            (r#"["e",{"_placeholder":false,"num":7},{"num":-1},{"_placeholder":true,"num":0}]"#, 1, Ok(())),
            (r#"["e","{\"_placeholder\":true}",{"x":"_placeholder"},{"_placeholder":true,"num":0}]"#, 1, Ok(())),
            (r#"["e",{"_placeholder":true,"num":1}]"#, 1, Err(OutOfRange { index: 1, count: 1 })),
            (
                r#"["e",{"_placeholder":true,"num":99999999999999999999}]"#,
                1,
                Err(OutOfRange { index: usize::MAX, count: 1 }),
            ),
            (r#"["e",{"_placeholder":true,"num":-1}]"#, 1, Err(Malformed)),
            (r#"["e",{"_placeholder":true,"num":"0"}]"#, 1, Err(Malformed)),
            (r#"["e",{"_placeholder":true,"num":"splice"}]"#, 1, Err(Malformed)),
            (r#"["e",{"_placeholder":true,"num":0.5}]"#, 1, Err(Malformed)),
            (r#"["e",{"_placeholder":true,"num":0e0}]"#, 1, Err(Malformed)),
            (r#"["e",{"_placeholder":true,"num":null}]"#, 1, Err(Malformed)),
            (r#"["e",{"_placeholder":true,"num":[0]}]"#, 1, Err(Malformed)),
            (r#"["e",{"_placeholder":true}]"#, 1, Err(Malformed)),
            (r#"["e",{"_placeholder":true,"num":0,"x":1}]"#, 1, Err(Malformed)),
            (r#"["e",{"_placeholder":true,"num":0,"num":0}]"#, 1, Err(Malformed)),
            (r#"["e",{"_placeholder":true,"_placeholder":true}]"#, 1, Err(Malformed)),
            (r#"["e",{"_placehold\u0065r":true,"num":0}]"#, 1, Err(Malformed)),
            (r#"["e",{"_placeholder":true,"n\u0075m":0}]"#, 1, Err(Malformed)),
            (r#"["e",{"_placeholder":true,"num":0},{"_placeholder":true,"num":0}]"#, 1, Err(Reused { index: 0 })),
            (r#"["e",{"_placeholder":true,"num":1},{"_placeholder":true,"num":1}]"#, 2, Err(Reused { index: 1 })),
            (r#"["e",{"_placeholder":true,"num":1}]"#, 2, Err(Unused { found: 1, count: 2 })),
            (r#"["e"]"#, usize::MAX, Err(Unused { found: 0, count: usize::MAX })),
        ] {
            assert!(json::check(text).is_ok(), "the table holds JSON: {text}");
            assert_eq!(check(text, count), expected, "{text}");
        }
    }

    #[test]
    fn placeholders_are_renumbered_in_text_order() {
        let text = r#"{"_placeholder":true,"num":11},5,{"num":3,"_placeholder":true}"#;
        let (numbered, former) = renumber(text, &find(text).unwrap(), 99);
        assert_eq!(numbered, r#"{"_placeholder":true,"num":99},5,{"num":100,"_placeholder":true}"#);
        assert_eq!(former, [11, 3]);
    }

    #[test]
    fn nested_arrays_cost_no_stack() {
        let deep = "[".repeat(1 << 20) + &"]".repeat(1 << 20);
        assert_eq!(find(&deep), Ok(Placeholders::new()));
        let deep = "{\"a\":[".repeat(100_000) + r#"{"_placeholder":true,"num":0}"# + &"]}".repeat(100_000);
        assert_eq!(check(&deep, 1), Ok(()));
        assert!(size_of::<Level>() <= 24);
    }
}
