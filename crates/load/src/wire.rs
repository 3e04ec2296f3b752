//! The few packets that scenarios send and hear, written from templates and compared as bytes.
//!
//! A load tool must cost less than what it measures. So a packet is a prepared text around a number, and an answer is
//! compared with the bytes that most servers write. What differs is decoded: another server may put blanks in its JSON.

use std::borrow::Cow;

use posthaste_socket_proto::{DecodeLimits, Decoder, EncodeError, Packet, encode_event};
use serde::Serialize;

/// `42/ns,` id `["event",args]`: an event that asks for an answer, the id left open.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    head: Vec<u8>,
    tail: Vec<u8>,
}

impl Request {
    /// # Errors
    /// [`EncodeError::ReservedEvent`], or arguments that are no JSON.
    pub(crate) fn new<A: Serialize>(namespace: &str, event: &str, args: &A) -> Result<Self, EncodeError> {
        let mut head = b"4".to_vec();
        encode_event(&mut head, namespace, None, event, args)?;
        // The namespace may hold a bracket, but nothing of it stands behind its comma.
        let start = head.len() - whole_args_len(&head, namespace);
        let tail = head.split_off(start);
        Ok(Self { head, tail })
    }

    /// The packet with this id.
    pub(crate) fn write(&self, out: &mut Vec<u8>, id: u64) {
        out.clear();
        out.extend_from_slice(&self.head);
        out.extend_from_slice(itoa::Buffer::new().format(id).as_bytes());
        out.extend_from_slice(&self.tail);
    }
}

fn whole_args_len(packet: &[u8], namespace: &str) -> usize {
    // "42", then "/name," of any but the main namespace.
    let prefix = if namespace == "/" { 2 } else { 2 + namespace.len() + 1 };
    packet.len() - prefix
}

/// An answer: its id, and the text of its array.
pub(crate) struct Answer<'a> {
    pub(crate) id: u64,
    pub(crate) args: &'a str,
}

/// Reads `packet` (without Engine.IO's digit) as an answer in the namespace with this prefix (`""` or `/name,`).
pub(crate) fn answer<'a>(packet: &'a str, prefix: &str) -> Option<Answer<'a>> {
    let rest = packet.strip_prefix('3')?.strip_prefix(prefix)?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let id = rest[..digits].parse().ok()?;
    Some(Answer { id, args: &rest[digits..] })
}

/// Whether the array `args` is one text, `payload`.
pub(crate) fn is_payload(args: &str, expected: &str, payload: &str) -> bool {
    args == expected || serde_json::from_str::<[String; 1]>(args).is_ok_and(|[text]| text == payload)
}

/// Digits of the number that a broadcast begins with.
pub(crate) const NUMBER_DIGITS: usize = 10;

/// A broadcast: an event whose only argument is a number of ten digits and then always the same letters.
#[derive(Clone, Debug)]
pub(crate) struct Numbered {
    /// What a receiver hears before the number.
    head: String,
    /// What follows it: letters, a quote, a bracket.
    tail: String,
    event: String,
    letters: String,
}

impl Numbered {
    /// `size` bytes of payload, at least [`NUMBER_DIGITS`].
    ///
    /// # Errors
    /// As [`Request::new`].
    pub(crate) fn new(namespace: &str, event: &str, size: usize) -> Result<Self, EncodeError> {
        let letters = letters(size.saturating_sub(NUMBER_DIGITS));
        let mut head = Vec::new();
        encode_event(&mut head, namespace, None, event, "")?;
        head.truncate(head.len() - 2);
        let head = String::from_utf8(head).expect("invariant: JSON is text");
        Ok(Self { head, tail: format!("{letters}\"]"), event: event.to_owned(), letters })
    }

    /// The payload that carries `number`.
    pub(crate) fn payload(&self, number: u64) -> String {
        format!("{number:010}{}", self.letters)
    }

    /// The number of the broadcast that `packet` is, if it is one and complete.
    pub(crate) fn read(&self, packet: &str) -> Option<u64> {
        let rest = packet.strip_prefix(self.head.as_str()).and_then(|rest| rest.strip_suffix(self.tail.as_str()));
        match rest {
            Some(digits) if digits.len() == NUMBER_DIGITS => number(digits),
            _ => self.read_slowly(packet),
        }
    }

    /// As [`Numbered::read`], of an event whose last argument may be an offset, behind the payload.
    pub(crate) fn read_kept<'a>(&self, packet: &'a str) -> Option<(u64, Option<Cow<'a, str>>)> {
        let quick = || {
            let (digits, rest) = packet.strip_prefix(self.head.as_str())?.split_at_checked(NUMBER_DIGITS)?;
            let rest = rest.strip_prefix(self.tail.strip_suffix(']')?)?;
            if rest == "]" {
                return Some((number(digits)?, None));
            }
            let offset = rest.strip_prefix(",\"")?.strip_suffix("\"]")?;
            (!offset.contains(['"', '\\'])).then_some(())?;
            Some((number(digits)?, Some(Cow::Borrowed(offset))))
        };
        quick().or_else(|| self.read_kept_slowly(packet))
    }

    fn read_kept_slowly<'a>(&self, packet: &str) -> Option<(u64, Option<Cow<'a, str>>)> {
        let decoded = Decoder::default().text(packet, &DecodeLimits::default()).ok()??;
        let Packet::Event { event, args, .. } = decoded else { return None };
        let (payload, offset): (String, Option<String>) = match args.iter().count() {
            1 => (args.deserialize::<(String,)>().ok()?.0, None),
            2 => args.deserialize().ok()?,
            _ => return None,
        };
        let digits = payload.strip_suffix(self.letters.as_str()).filter(|it| it.len() == NUMBER_DIGITS)?;
        if event == self.event.as_str() { Some((number(digits)?, offset.map(Cow::Owned))) } else { None }
    }

    fn read_slowly(&self, packet: &str) -> Option<u64> {
        let decoded = Decoder::default().text(packet, &DecodeLimits::default()).ok()??;
        let Packet::Event { event, args, .. } = decoded else { return None };
        let (payload,): (String,) = args.deserialize().ok()?;
        let digits = payload.strip_suffix(self.letters.as_str()).filter(|it| it.len() == NUMBER_DIGITS)?;
        if event == self.event.as_str() { number(digits) } else { None }
    }
}

fn number(digits: &str) -> Option<u64> {
    digits.bytes().try_fold(0, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + u64::from(digit - b'0')))
}

/// `count` letters, always the same.
pub(crate) fn letters(count: usize) -> String {
    ('a'..='z').cycle().take(count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_events_with_an_id() {
        for (namespace, expected) in
            [("/", r#"4217["echo","hi"]"#), ("/a[b", r#"42/a[b,17["echo","hi"]"#), ("/12", r#"42/12,17["echo","hi"]"#)]
        {
            let mut out = b"old".to_vec();
            Request::new(namespace, "echo", &"hi").unwrap().write(&mut out, 17);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
        assert!(Request::new("/", "disconnect", &"hi").is_err());
    }

    #[test]
    fn answers_are_read_in_their_namespace() {
        let read = |packet, prefix| answer(packet, prefix).map(|it| (it.id, it.args.to_owned()));
        assert_eq!(read(r#"317["x"]"#, ""), Some((17, r#"["x"]"#.into())));
        assert_eq!(read(r#"3/a,17["x"]"#, "/a,"), Some((17, r#"["x"]"#.into())));
        for (packet, prefix) in [("3[1]", ""), ("2[1]", ""), ("3/b,1[]", "/a,"), ("", "")] {
            assert_eq!(read(packet, prefix), None, "{packet}");
        }
    }

    #[test]
    fn payloads_are_recognized_however_the_json_is_written() {
        let expected = r#"["abc"]"#;
        for (args, same) in [
            (expected, true),
            (r#"[ "abc" ]"#, true),
            (r#"["\u0061bc"]"#, true),
            (r#"["abd"]"#, false),
            ("[]", false),
            (r#"["abc",1]"#, false),
            ("", false),
        ] {
            assert_eq!(is_payload(args, expected, "abc"), same, "{args}");
        }
    }

    #[test]
    fn what_is_kept_carries_an_offset_behind_its_payload() {
        let message = Numbered::new("/", "bcast", 14).unwrap();
        let read = |packet| message.read_kept(packet).map(|(number, offset)| (number, offset.map(Cow::into_owned)));
        for (packet, expected) in [
            (r#"2["bcast","0000000042abcd","~x-1"]"#, Some((42, Some("~x-1")))),
            (r#"2["bcast","0000000042abcd"]"#, Some((42, None))),
            (r#"2["bcast", "0000000043abcd", "\u007ey"]"#, Some((43, Some("~y")))),
            (r#"2["bcast","0000000042abcd","a","b"]"#, None),
            (r#"2["bcast","0000000042abc","~x"]"#, None),
            (r#"2["other","0000000042abcd","~x"]"#, None),
            (r#"2["bcast","00000"]"#, None),
            ("3", None),
        ] {
            let expected = expected.map(|(number, offset): (u64, Option<&str>)| (number, offset.map(str::to_owned)));
            assert_eq!(read(packet), expected, "{packet}");
        }
    }

    #[test]
    fn broadcasts_carry_their_number_and_their_size() {
        let message = Numbered::new("/", "bcast", 14).unwrap();
        assert_eq!(message.payload(42), "0000000042abcd");
        for (packet, number) in [
            (r#"2["bcast","0000000042abcd"]"#, Some(42)),
            (r#"2["bcast", "0000000043abcd"]"#, Some(43)),
            (r#"2["bcast","0000000042abc"]"#, None),
            (r#"2["other","0000000042abcd"]"#, None),
            (r#"2["other", "0000000042abcd"]"#, None),
            (r#"2["bcast","000000004xabcd"]"#, None),
            (r#"2["bcast","00000000042abcd"]"#, None),
            ("3", None),
        ] {
            assert_eq!(message.read(packet), number, "{packet}");
        }
    }
}
