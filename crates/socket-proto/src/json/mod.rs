//! Walks over JSON text that build no values, recurse nowhere and read every byte a fixed number of times.
//!
//! Deep nesting is the classic way to kill a JSON reader (100,000 opening brackets fit in 100 kB). Whether a text is
//! JSON at all is left to serde_json's skipping of values, which keeps its own stack on the heap; everything else in
//! this module assumes a text that passed there, and so needs to know no more than strings, brackets and commas.

mod scan;

use std::{borrow::Cow, fmt, ops::ControlFlow};

use serde::{
    Deserializer as _,
    de::{DeserializeOwned, IgnoredAny, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

/// Reads JSON text as `T`, forgiving unpaired surrogates.
///
/// JavaScript strings may hold half a surrogate pair and `JSON.stringify` writes it as `"\ud800"`, which no Rust
/// string can hold. When the plain reading fails and the text has such an escape, it is read once more with U+FFFD in
/// its place, as a browser does when it turns such a string into UTF-8.
///
/// # Errors
/// What serde_json says about a text that is not JSON or does not fit `T`.
///
/// ```
/// use posthaste_socket_proto::parse_json;
/// assert_eq!(parse_json::<String>(r#""a\ud800b""#)?, "a\u{fffd}b");
/// # Ok::<(), serde_json::Error>(())
/// ```
pub fn parse_json<T: DeserializeOwned>(text: &str) -> Result<T, serde_json::Error> {
    serde_json::from_str(text).or_else(|error| match replace_lone_surrogates(text) {
        Some(fixed) => serde_json::from_str(&fixed),
        None => Err(error),
    })
}

/// Accepts a text that is one JSON value with nothing but white space after it.
pub(crate) fn check(text: &str) -> Result<(), serde_json::Error> {
    serde_json::from_str::<IgnoredAny>(text).map(drop)
}

/// An array known to be valid JSON, cut where Socket.IO cuts it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ArrayText<'a> {
    /// Everything between the brackets.
    pub(crate) elements: &'a str,
    /// The first element, unless the array is empty.
    pub(crate) first: Option<&'a str>,
    /// What follows the first element and its comma; empty when nothing does.
    pub(crate) rest: &'a str,
}

/// Accepts a text that is one JSON array with nothing but white space after it, in one pass.
pub(crate) fn check_array(text: &str) -> Result<ArrayText<'_>, serde_json::Error> {
    match scan::array(text) {
        Some(array) => Ok(array),
        None => read_array(text),
    }
}

/// As [`check_array`], for any array.
fn read_array(text: &str) -> Result<ArrayText<'_>, serde_json::Error> {
    struct First;

    impl<'de> Visitor<'de> for First {
        type Value = Option<&'de str>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("an array")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
            let first = elements.next_element::<&RawValue>()?;
            while elements.next_element::<IgnoredAny>()?.is_some() {}
            Ok(first.map(RawValue::get))
        }
    }

    let mut json = serde_json::Deserializer::from_str(text);
    let first = json.deserialize_seq(First)?;
    json.end()?;

    let elements = text.trim_ascii();
    let elements = elements[1..elements.len() - 1].trim_ascii();
    let rest = first.map_or("", |first| {
        let after = elements[first.len()..].trim_ascii_start();
        after.strip_prefix(',').map_or("", str::trim_ascii_start)
    });
    Ok(ArrayText { elements, first, rest })
}

/// Unescapes a JSON string, quotes included in `text`; an unpaired surrogate becomes U+FFFD.
pub(crate) fn unescape(text: &str) -> Result<Cow<'_, str>, serde_json::Error> {
    match text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        Some(plain) if !plain.contains('\\') => Ok(Cow::Borrowed(plain)),
        _ => parse_json(text).map(Cow::Owned),
    }
}

/// How much white space `text` begins with.
pub(crate) fn white_space(text: &[u8]) -> usize {
    text.iter().take_while(|byte| matches!(byte, b' ' | b'\n' | b'\t' | b'\r')).count()
}

/// Index just behind the closing quote of the string whose first character is at `at`.
pub(crate) fn string_end(text: &[u8], mut at: usize) -> usize {
    loop {
        at += scan::plain(text.get(at..).unwrap_or_default());
        match text.get(at) {
            Some(b'"') => return at + 1,
            Some(b'\\') => at += 2,
            Some(_) => at += 1,
            None => return text.len(),
        }
    }
}

/// Calls `at_comma` with the index of every comma between the elements of a valid, comma-separated list.
fn each_separator(list: &str, mut at_comma: impl FnMut(usize) -> ControlFlow<()>) {
    let bytes = list.as_bytes();
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'"' => at = string_end(bytes, at),
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            b',' if depth == 0 && at_comma(at - 1).is_break() => return,
            _ => {}
        }
    }
}

/// The first element of a valid list and the text behind its comma; `None` when the list is empty.
pub(crate) fn split_first(list: &str) -> Option<(&str, &str)> {
    if list.is_empty() {
        return None;
    }
    let mut comma = None;
    each_separator(list, |at| {
        comma = Some(at);
        ControlFlow::Break(())
    });
    Some(match comma {
        Some(comma) => (list[..comma].trim_ascii_end(), list[comma + 1..].trim_ascii_start()),
        None => (list.trim_ascii_end(), ""),
    })
}

/// The list without its first `count` elements.
pub(crate) fn skip_elements(list: &str, count: usize) -> &str {
    if count == 0 {
        return list;
    }
    let mut left = count;
    let mut rest = "";
    each_separator(list, |comma| {
        left -= 1;
        if left > 0 {
            return ControlFlow::Continue(());
        }
        rest = list[comma + 1..].trim_ascii_start();
        ControlFlow::Break(())
    });
    rest
}

/// The text with `\ufffd` in place of every escape that is half a surrogate pair; `None` when there is none.
///
/// Works on any text, valid or not: a backslash only ever occurs inside a JSON string.
pub(crate) fn replace_lone_surrogates(text: &str) -> Option<String> {
    let mut fixed = String::new();
    let mut copied = 0; // text[..copied] is in `fixed`
    let mut at = 0;
    while let Some(backslash) = text.as_bytes()[at..].iter().position(|&byte| byte == b'\\') {
        at += backslash;
        match escaped_unit(text, at) {
            Some(0xd800..=0xdbff) if matches!(escaped_unit(text, at + 6), Some(0xdc00..=0xdfff)) => at += 12,
            Some(0xd800..=0xdfff) => {
                fixed.push_str(&text[copied..at]);
                fixed.push_str("\\ufffd");
                at += 6;
                copied = at;
            }
            Some(_) => at += 6,
            None => at = (at + 2).min(text.len()),
        }
    }
    if copied == 0 {
        return None;
    }
    fixed.push_str(&text[copied..]);
    Some(fixed)
}

/// The UTF-16 unit that the escape `\uXXXX` at `at` stands for, if that is what is there.
fn escaped_unit(text: &str, at: usize) -> Option<u16> {
    let hex = text.as_bytes().get(at..at + 6)?.strip_prefix(b"\\u")?;
    hex.iter().try_fold(0, |unit, &digit| Some(unit << 4 | char::from(digit).to_digit(16)? as u16))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_are_cut_behind_their_first_element() {
        for (text, elements, first, rest) in [
            ("[]", "", None, ""),
            (" [ ] ", "", None, ""),
            ("[1]", "1", Some("1"), ""),
            ("[\"a,]\",2]", "\"a,]\",2", Some("\"a,]\""), "2"),
            ("[ {\"x\":[1,2]} , [3 ] , 4 ]\n", "{\"x\":[1,2]} , [3 ] , 4", Some("{\"x\":[1,2]}"), "[3 ] , 4"),
        ] {
            assert_eq!(check_array(text).unwrap(), ArrayText { elements, first, rest }, "{text}");
        }
        for text in ["", "[", "[1", "[1,]", "[1]]", "[1] x", "{}", "1", "\"\"", "[,]", "[1 2]", "[\"\u{1}\"]", "[01]"] {
            assert!(check_array(text).is_err(), "{text}");
        }
    }

    /// What the quick look says of a text is what the general reader says, or nothing.
    fn looks_agree(text: &str) {
        if let Some(quick) = scan::array(text) {
            assert_eq!(read_array(text).expect(text), quick, "{text}");
        }
    }

    #[test]
    fn the_usual_arrays_are_accepted_at_a_glance() {
        let deep = format!("[{}1{}]", "[".repeat(64), "]".repeat(64));
        for text in [
            r#"["chat","hello"]"#,
            r#"["chat",{"text":"a \"quote\", \u00e9\n","n":[1,-2.5e+3,0,{}],"ok":true,"no":false,"nil":null},[]]"#,
            " [ ]".trim_start(),
            "[ \"a\" , [ ] , { } , { \"k\" : 1 , \"l\" : [ 2 , 3 ] } ] \n",
            "[0,-0,10,1.5,1E9]",
            "[\"\\ud800\"]",
            "[\"e\u{301}\u{1f600} and a text longer than sixteen bytes\"]",
            &deep,
        ] {
            assert!(scan::array(text).is_some(), "{text}");
            looks_agree(text);
        }
    }

    #[test]
    fn nothing_is_accepted_at_a_glance_that_is_no_array() {
        for text in [
            "",
            "[",
            "]",
            "[]]",
            "[1",
            "[1,",
            "[1,]",
            "[,1]",
            "[1 2]",
            "[01]",
            "[-]",
            "[1.]",
            "[.5]",
            "[1e]",
            "[+1]",
            "[tru]",
            "[truefalse]",
            "[nul",
            "[\"]",
            "[\"\\\"]",
            "[\"\\x\"]",
            "[\"\\u12g4\"]",
            "[\"\\u123",
            "[\"a\tb\"]",
            "[\"\u{1f}\"]",
            "[{]",
            "[{}",
            "[{\"a\"}]",
            "[{\"a\":}]",
            "[{\"a\":1,}]",
            "[{1:2}]",
            "[{\"a\":1]",
            "[[1}]",
            "[{\"a\" 1}]",
            "[1]x",
            "{}",
            "[NaN]",
            "[\"long enough for a whole piece \u{7}, and a half\"]",
        ] {
            assert!(scan::array(text).is_none(), "{text}");
        }
    }

    #[test]
    fn both_looks_agree_on_texts_that_are_almost_arrays() {
        // Every text with one byte of a good one replaced, left out or doubled, and every beginning of it.
        let good = r#"["ev\u00e9nt", {"k":[1,-2.50e-7,"a\\"],"l":{}}, true,null , false]"#;
        for at in 0..good.len() {
            looks_agree(&good[..at]);
            looks_agree(&[&good[..at], &good[at + 1..]].concat());
            looks_agree(&[&good[..=at], &good[at..]].concat());
            for byte in 0..0x80_u8 {
                looks_agree(&[&good[..at], std::str::from_utf8(&[byte]).unwrap(), &good[at + 1..]].concat());
            }
        }
    }

    #[test]
    fn lists_are_split_at_their_own_commas_only() {
        let list = r#"1 , "a,\",b" ,{"x":[1,2],"y":","},[],null"#;
        let mut elements = Vec::new();
        let mut rest = list;
        while let Some((first, behind)) = split_first(rest) {
            elements.push(first);
            rest = behind;
        }
        assert_eq!(elements, ["1", r#""a,\",b""#, r#"{"x":[1,2],"y":","}"#, "[]", "null"]);
        for (count, rest) in [(0, list), (3, "[],null"), (4, "null"), (5, ""), (99, "")] {
            assert_eq!(skip_elements(list, count), rest, "{count}");
        }
    }

    #[test]
    fn only_unpaired_surrogates_are_replaced() {
        for (text, fixed) in [
            (r#""plain""#, None),
            (r#""\ud83d\ude00""#, None),
            (r#""\\ud800""#, None),
            (r#""\ud800""#, Some(r#""\ufffd""#)),
            (r#""\uD800\uD83D\uDE00x""#, Some(r#""\ufffd\uD83D\uDE00x""#)),
            (r#""\udc00\ud800""#, Some(r#""\ufffd\ufffd""#)),
            (r#""\\\ud800\u0041""#, Some(r#""\\\ufffd\u0041""#)),
            (r#""\ud800"#, Some(r#""\ufffd"#)),
            ("\"\\\u{e9}\\ud80", None),
            ("\\", None),
        ] {
            assert_eq!(replace_lone_surrogates(text).as_deref(), fixed, "{text}");
        }
    }
}
