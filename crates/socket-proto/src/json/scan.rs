//! The usual array, found to be valid JSON in one quick look.
//!
//! Every event is looked over before anything is done with it, and skipping its values one by one with the general reader was the
//! dearest part of receiving it. This looks sixteen bytes at a time where strings are plain. It need not know everything: whatever it
//! does not accept is read by the general reader, which then says what is wrong with it, or that nothing is. What it accepts, that
//! reader accepts and cuts in the same places.

use super::ArrayText;

/// How deep it follows brackets: one bit each.
const DEEPEST: u32 = 64;

/// An array with nothing but white space around it. `None` is for the general reader.
pub(super) fn array(text: &str) -> Option<ArrayText<'_>> {
    let bytes = text.as_bytes();
    if bytes.first() != Some(&b'[') {
        return None;
    }
    let start = space(bytes, 1);
    if bytes.get(start) == Some(&b']') {
        return (space(bytes, start + 1) == bytes.len()).then_some(ArrayText { elements: "", first: None, rest: "" });
    }
    let first_end = value(bytes, start)?;
    let mut at = space(bytes, first_end);
    let mut rest_start = None;
    while bytes.get(at) == Some(&b',') {
        let next = space(bytes, at + 1);
        rest_start.get_or_insert(next);
        at = space(bytes, value(bytes, next)?);
    }
    if bytes.get(at) != Some(&b']') || space(bytes, at + 1) != bytes.len() {
        return None;
    }
    let elements = text[start..at].trim_ascii_end();
    let end = start + elements.len();
    let rest = rest_start.map_or("", |rest| &text[rest..end]);
    Some(ArrayText { elements, first: Some(&text[start..first_end]), rest })
}

/// The index behind the white space at `at`.
fn space(bytes: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\n' | b'\t' | b'\r') = bytes.get(at) {
        at += 1;
    }
    at
}

/// The index behind the value at `at`.
fn value(bytes: &[u8], mut at: usize) -> Option<usize> {
    // Of each open bracket whether it is an object's, the innermost in the lowest bit.
    let (mut objects, mut depth) = (0_u64, 0);
    loop {
        // A value begins here.
        let opened = match *bytes.get(at)? {
            b'"' => {
                at = string(bytes, at + 1)?;
                false
            }
            bracket @ (b'{' | b'[') => {
                let is_object = bracket == b'{';
                at = space(bytes, at + 1);
                if bytes.get(at) == Some(if is_object { &b'}' } else { &b']' }) {
                    at += 1;
                    false
                } else {
                    depth += 1;
                    if depth > DEEPEST {
                        return None;
                    }
                    objects = objects << 1 | u64::from(is_object);
                    true
                }
            }
            b't' => {
                at = word(bytes, at, b"true")?;
                false
            }
            b'f' => {
                at = word(bytes, at, b"false")?;
                false
            }
            b'n' => {
                at = word(bytes, at, b"null")?;
                false
            }
            _ => {
                at = number(bytes, at)?;
                false
            }
        };
        if !opened {
            // It has ended, and may be the last in its bracket, and that in its own.
            loop {
                if depth == 0 {
                    return Some(at);
                }
                at = space(bytes, at);
                match (*bytes.get(at)?, objects & 1) {
                    (b',', _) => {
                        at = space(bytes, at + 1);
                        break;
                    }
                    (b'}', 1) | (b']', 0) => {
                        at += 1;
                        depth -= 1;
                        objects >>= 1;
                    }
                    _ => return None,
                }
            }
        }
        if objects & 1 == 1 {
            at = key(bytes, at)?;
        }
    }
}

/// The index of the value behind the key and the colon at `at`.
fn key(bytes: &[u8], at: usize) -> Option<usize> {
    if bytes.get(at) != Some(&b'"') {
        return None;
    }
    let colon = space(bytes, string(bytes, at + 1)?);
    (bytes.get(colon) == Some(&b':')).then(|| space(bytes, colon + 1))
}

fn word(bytes: &[u8], at: usize, word: &[u8]) -> Option<usize> {
    bytes[at..].starts_with(word).then_some(at + word.len())
}

/// The index behind the number at `at`.
fn number(bytes: &[u8], mut at: usize) -> Option<usize> {
    if bytes.get(at) == Some(&b'-') {
        at += 1;
    }
    at = match bytes.get(at) {
        Some(b'0') => at + 1,
        _ => digits(bytes, at)?,
    };
    if bytes.get(at) == Some(&b'.') {
        at = digits(bytes, at + 1)?;
    }
    if let Some(b'e' | b'E') = bytes.get(at) {
        at += 1;
        if let Some(b'+' | b'-') = bytes.get(at) {
            at += 1;
        }
        at = digits(bytes, at)?;
    }
    Some(at)
}

/// The index behind the digits at `at`, of which there is at least one.
fn digits(bytes: &[u8], at: usize) -> Option<usize> {
    let count = bytes[at.min(bytes.len())..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    (count > 0).then_some(at + count)
}

/// The index behind the closing quote of the string whose first character is at `at`.
fn string(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += plain(&bytes[at..]);
        match *bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => match *bytes.get(at + 1)? {
                b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => at += 2,
                b'u' if bytes.get(at + 2..at + 6)?.iter().all(u8::is_ascii_hexdigit) => at += 6,
                _ => return None,
            },
            // A control character.
            _ => return None,
        }
    }
}

/// How many bytes there are before one that means something in a string.
pub(super) fn plain(bytes: &[u8]) -> usize {
    const fn means_something(byte: u8) -> bool {
        byte < 0x20 || byte == b'"' || byte == b'\\'
    }
    // The compiler makes a few vector instructions of each piece.
    let (pieces, _) = bytes.as_chunks::<16>();
    let is_plain = |piece: &&[u8; 16]| !piece.iter().fold(false, |any, &byte| any | means_something(byte));
    let mut at = pieces.iter().take_while(is_plain).count() * 16;
    // What is left of a string is short, as most strings are as a whole: eight bytes at a time, to where it ends.
    while let Some(word) = bytes[at..].first_chunk() {
        match first_in_word(u64::from_le_bytes(*word)) {
            Some(found) => return at + found,
            None => at += 8,
        }
    }
    at + bytes[at..].iter().position(|&byte| means_something(byte)).unwrap_or(bytes.len() - at)
}

/// The first byte, counted from the lowest, that means something in a string.
fn first_in_word(word: u64) -> Option<usize> {
    const ONES: u64 = u64::MAX / 0xff;
    // The highest bit of each byte below `n`, for a byte below 0x80. A borrow reaches bytes above a found one only: the lowest is right.
    let below = |word: u64, n: u64| word.wrapping_sub(ONES * n) & !word;
    let is = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    let found = (below(word, 0x20) | is(b'"') | is(b'\\')) & (ONES << 7);
    (found != 0).then(|| found.trailing_zeros() as usize / 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_judged_in_every_place_beside_every_other() {
        let alone = |byte: u8| byte < 0x20 || byte == b'"' || byte == b'\\';
        for other in [b'a', 0x1f, 0x20, 0x21, 0x22, 0x23, 0x5b, 0x5c, 0x5d, 0x7f, 0x80, 0xa2, 0xdc, 0xff, 0] {
            for byte in 0..=u8::MAX {
                for len in [1, 7, 8, 9, 16, 17, 25] {
                    for place in 0..len {
                        let mut bytes = vec![b'a'; len];
                        bytes[len - 1] = other;
                        bytes[place] = byte;
                        let expected = bytes.iter().position(|&byte| alone(byte)).unwrap_or(len);
                        assert_eq!(plain(&bytes), expected, "{bytes:x?}");
                    }
                }
            }
        }
    }
}
