//! Arguments as JSON text.

use std::collections::BTreeMap;
use std::fmt::Debug;

use bytes::Bytes;
use posthaste_socket_proto::{Args, parse_json};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::tree::Tree;

/// How many attachments there are, then the text.
pub(crate) const ARRAYS: &[&[u8]] = &[
    br#" ["general", {"text":"hi","n":[1,-2.5e3,null,true]}]"#,
    b"\x01[{\"_placeholder\":true,\"num\":0}]",
    b"\x02[[{\"num\":1,\"_placeholder\":true}],{\"a\":{\"_placeholder\":true,\"num\":0}}]",
    b"\x01[{\"\\u005fplaceholder\":true,\"num\":0},{\"_placeholder\":true,\"num\":0}]",
    br#" ["\ud800","\ud83d\ude00\n\u0041"]"#,
    br#" ["\udbff\udfff\ud800\ud800\udc00\udfff","\\\\ud800"]"#,
    br#" [[[[[[[[]]]]]]],{},"",0,1e999,18446744073709551615]"#,
    br#" [{"kind":"a","bytes":"x"},"One",{"Two":[1,"y"]}]"#,
    br#" [1 , "a,\",b" ,{"x":[1,2],"y":","},[],null]"#,
];

/// Laws: what is no JSON array is refused and all else taken; the cuts between arguments are JSON's own; every type is read as
/// serde_json reads it; with attachments each has its one place.
pub(crate) fn check(data: &[u8]) {
    let Some((&count, text)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let count = usize::from(if count < 8 { count } else { 0 });
    let attachments: Vec<Bytes> = (0..count).map(|index| Bytes::from(vec![index as u8; index + 1])).collect();

    let is_array = is_json(text) && text.trim_ascii_start().starts_with('[');
    let plain = Args::decode(text, Vec::new());
    assert_eq!(plain.is_ok(), is_array, "{plain:?}");
    lone_surrogates(text);
    if let Ok(args) = &plain {
        cuts(args, text);
        // Each type by itself and as one of several arguments.
        reads_as_serde_json::<Value>(args);
        reads_as_serde_json::<Tree>(args);
        reads_as_serde_json::<String>(args);
        reads_as_serde_json::<Option<bool>>(args);
        reads_as_serde_json::<i64>(args);
        reads_as_serde_json::<u8>(args);
        reads_as_serde_json::<f64>(args);
        reads_as_serde_json::<char>(args);
        reads_as_serde_json::<Vec<Option<String>>>(args);
        reads_as_serde_json::<BTreeMap<String, Value>>(args);
        reads_as_serde_json::<Record>(args);
        reads_as_serde_json::<Tagged>(args);
        reads_as_serde_json::<Untagged>(args);
        reads_as_serde_json::<Bytes>(args);
    }
    if count > 0 {
        with_attachments(text, &attachments, is_array);
    }
}

#[derive(Debug, PartialEq, Deserialize)]
struct Record {
    text: Option<String>,
    #[serde(default)]
    n: Vec<Value>,
    bytes: Option<Bytes>,
}

#[derive(Debug, PartialEq, Deserialize)]
enum Tagged {
    One,
    Two(u8, String),
    Three { bytes: Bytes },
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Number(f64),
    Record(Record),
    Many(Vec<Untagged>),
}

/// Law: alone or at its place, an argument reads as serde_json reads its text.
fn reads_as_serde_json<T: DeserializeOwned + PartialEq + Debug>(args: &Args<'_>) {
    let Some(first) = args.iter().next() else { return };
    let expected = parse_json::<T>(first).ok();
    assert_eq!(args.deserialize::<T>().ok(), expected, "alone");
    assert_eq!(args.deserialize::<(T,)>().ok().map(|(value,)| value), expected, "at its place");
}

/// Law: the pieces are JSON by themselves, and together they are all there is.
fn cuts(args: &Args<'_>, text: &str) {
    let pieces: Vec<&str> = args.iter().collect();
    for (index, piece) in pieces.iter().enumerate() {
        assert!(is_json(piece), "{piece}");
        let rest = args.skip(index);
        assert_eq!(rest.iter().collect::<Vec<_>>(), pieces[index..]);
        assert_eq!(Args::decode(&format!("[{}]", rest.raw()), Vec::new()).ok().as_ref(), Some(&rest));
    }
    assert!(args.skip(pieces.len()).is_empty());
    assert_eq!(args.is_empty(), pieces.is_empty());
    if let Ok(Value::Array(elements)) = serde_json::from_str::<Value>(text) {
        let read: Result<Vec<Value>, _> = pieces.iter().map(|piece| serde_json::from_str(piece)).collect();
        assert_eq!(read.ok(), Some(elements));
    }
}

/// Law: what serde_json can read is read so; half a surrogate pair is read as U+FFFD.
fn lone_surrogates(text: &str) {
    let read = parse_json::<Value>(text).ok();
    assert_eq!(read, serde_json::from_str(&without_lone_surrogates(text)).ok());
    assert!(read.is_none() || is_json(text));
}

/// The text with every run of `\uXXXX` read as UTF-16 and what is left over replaced.
fn without_lone_surrogates(text: &str) -> String {
    let mut replaced = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let mut units = Vec::new();
        while let Some(unit) = rest.strip_prefix("\\u").and_then(|hex| hex.get(..4)).and_then(hexadecimal) {
            units.push(unit);
            rest = &rest[6..];
        }
        for character in char::decode_utf16(units.iter().copied()) {
            let mut units = [0; 2];
            for unit in character.unwrap_or(char::REPLACEMENT_CHARACTER).encode_utf16(&mut units) {
                replaced.push_str(&format!("\\u{unit:04x}"));
            }
        }
        if !units.is_empty() {
            continue;
        }
        // Another escape is two characters, the second of which begins no escape.
        let end = first.len_utf8();
        let second = if first == '\\' { rest[end..].chars().next().map_or(0, char::len_utf8) } else { 0 };
        replaced.push_str(&rest[..end + second]);
        rest = &rest[end + second..];
    }
    replaced
}

fn hexadecimal(digits: &str) -> Option<u16> {
    digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then(|| u16::from_str_radix(digits, 16).ok())?
}

/// Law: taken exactly if every attachment has one place; types that know bytes get them there, others see the placeholder.
fn with_attachments(text: &str, attachments: &[Bytes], is_array: bool) {
    let args = Args::decode(text, attachments.to_vec());
    if !is_array {
        assert!(args.is_err());
        return;
    }
    let Ok(plain) = parse_json::<Tree>(text) else {
        // Too deep for a tree. Whatever the answer is, it came.
        return;
    };
    let mut places = Vec::new();
    plain.placeholders(&mut places);
    let mut sorted = places.clone();
    sorted.sort_unstable();
    let fits = sorted.into_iter().eq((0..attachments.len() as u64).map(Some));
    if text.contains('\\') {
        // A placeholder must be plainly spelled, which the tree does not tell.
        assert!(fits || args.is_err());
    } else {
        assert_eq!(args.is_ok(), fits, "{args:?}");
    }
    let Ok(args) = args else { return };

    let mut blobs = Vec::new();
    for index in 0..args.iter().count() {
        let rest = args.skip(index);
        if let Ok(tree) = rest.deserialize::<Tree>() {
            tree.blobs(&mut blobs);
        }
        let piece = rest.iter().next().unwrap_or_default();
        assert_eq!(rest.deserialize::<(Value,)>().ok().map(|(value,)| value), parse_json(piece).ok(), "{piece}");
        // Read for what could go wrong on the way.
        let _ = (rest.deserialize::<Bytes>(), rest.deserialize::<Record>(), rest.deserialize::<(Tagged, Untagged)>());
        let _ = rest.deserialize::<(Option<Bytes>, BTreeMap<String, Bytes>, Vec<Option<Bytes>>)>();
    }
    let expected: Vec<Bytes> = places.iter().flatten().map(|index| attachments[*index as usize].clone()).collect();
    assert_eq!(blobs, expected, "every type of value that takes bytes gets its own");
}

/// Whether a text is one JSON value: RFC 8259, written down a second time, with a stack of its own.
pub(crate) fn is_json(text: &str) -> bool {
    let mut rest = text.trim_start_matches(BLANKS);
    // The brackets that are open.
    let mut open: Vec<u8> = Vec::new();
    loop {
        // A value starts here.
        let Some(behind) = value_start(rest, &mut open) else { return false };
        rest = behind;
        // A value has ended, unless a bracket was opened.
        loop {
            rest = rest.trim_start_matches(BLANKS);
            let Some(bracket) = open.last() else { return rest.is_empty() };
            match (rest.as_bytes().first(), bracket) {
                (Some(b','), b'[') => {
                    rest = rest[1..].trim_start_matches(BLANKS);
                    break;
                }
                (Some(b','), b'{') => match key(&rest[1..]) {
                    Some(behind) => {
                        rest = behind;
                        break;
                    }
                    None => return false,
                },
                (Some(b']'), b'[') | (Some(b'}'), b'{') => {
                    open.pop();
                    rest = &rest[1..];
                }
                // Just opened, and not empty: its first value.
                (Some(_), b'(') => {
                    open.pop();
                    open.push(b'[');
                    break;
                }
                (Some(_), b'<') => {
                    open.pop();
                    open.push(b'{');
                    match key(rest) {
                        Some(behind) => {
                            rest = behind;
                            break;
                        }
                        None => return false,
                    }
                }
                _ => return false,
            }
        }
    }
}

const BLANKS: [char; 4] = [' ', '\t', '\n', '\r'];

/// Reads a scalar, an empty array or object, or an opening bracket, which is noted as `(` or `<` until its first value.
fn value_start<'a>(text: &'a str, open: &mut Vec<u8>) -> Option<&'a str> {
    for word in ["null", "true", "false"] {
        if let Some(behind) = text.strip_prefix(word) {
            return Some(behind);
        }
    }
    match text.as_bytes().first()? {
        b'"' => string(text),
        b'[' => {
            let behind = text[1..].trim_start_matches(BLANKS);
            behind.strip_prefix(']').or_else(|| {
                open.push(b'(');
                Some(behind)
            })
        }
        b'{' => {
            let behind = text[1..].trim_start_matches(BLANKS);
            behind.strip_prefix('}').or_else(|| {
                open.push(b'<');
                Some(behind)
            })
        }
        _ => number(text),
    }
}

fn key(text: &str) -> Option<&str> {
    let behind = string(text.trim_start_matches(BLANKS))?.trim_start_matches(BLANKS).strip_prefix(':')?;
    Some(behind.trim_start_matches(BLANKS))
}

fn string(text: &str) -> Option<&str> {
    let mut rest = text.strip_prefix('"')?;
    loop {
        let mut characters = rest.chars();
        match characters.next()? {
            '"' => return Some(characters.as_str()),
            '\\' => match characters.next()? {
                '"' | '\\' | '/' | 'b' | 'f' | 'n' | 'r' | 't' => {}
                'u' => {
                    for _ in 0..4 {
                        characters.next().filter(char::is_ascii_hexdigit)?;
                    }
                }
                _ => return None,
            },
            '\0'..='\u{1f}' => return None,
            _ => {}
        }
        rest = characters.as_str();
    }
}

fn number(text: &str) -> Option<&str> {
    let text = text.strip_prefix('-').unwrap_or(text);
    let whole = digits(text)?;
    if text.starts_with('0') && text.len() - whole.len() > 1 {
        return None;
    }
    let text = match whole.strip_prefix('.') {
        Some(fraction) => digits(fraction)?,
        None => whole,
    };
    match text.strip_prefix(['e', 'E']) {
        Some(exponent) => digits(exponent.strip_prefix(['+', '-']).unwrap_or(exponent)),
        None => Some(text),
    }
}

/// What follows the digits, of which there must be one.
fn digits(text: &str) -> Option<&str> {
    let behind = text.trim_start_matches(|digit: char| digit.is_ascii_digit());
    (behind.len() < text.len()).then_some(behind)
}
