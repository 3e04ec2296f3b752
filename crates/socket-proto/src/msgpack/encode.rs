//! Writes one packet.

use std::fmt;

use rmp::{Marker, encode as write};
use smallvec::SmallVec;

use super::MAX_MSGPACK_DEPTH;
use crate::decode::Head;
use crate::encode::EncodeError;
use crate::json;
use crate::placeholder::{self, Placeholders};

/// Writes a packet as one message in MessagePack, as the official server does: `packet` is its text, as the other functions that encode
/// write it, and `attachments` what follows that.
///
/// Whole numbers are written as such, as short as they go, others as doubles; halves of surrogate pairs become U+FFFD.
///
/// # Errors
/// [`EncodeError::TooDeep`] for values deeper inside one another than [`MAX_MSGPACK_DEPTH`]; `out` is then as it was.
///
/// # Panics
/// When `packet` is not the text of a packet with these attachments.
///
/// ```
/// let mut out = Vec::new();
/// posthaste_socket_proto::encode_msgpack::<&[u8]>(&mut out, r#"2["hi",1]"#, &[])?;
/// assert_eq!(out, b"\x83\xa4type\x02\xa4data\x92\xa2hi\x01\xa3nsp\xa1/");
/// # Ok::<(), posthaste_socket_proto::EncodeError>(())
/// ```
pub fn encode_msgpack<A: AsRef<[u8]>>(out: &mut Vec<u8>, packet: &str, attachments: &[A]) -> Result<(), EncodeError> {
    let head = Head::split(packet, usize::MAX).expect("invariant: our own packets can be read");
    assert_eq!(head.attachments, attachments.len(), "a packet comes with the attachments it announces");
    let kind = match head.kind {
        '5' => 2,
        '6' => 3,
        digit => u64::from(digit.to_digit(10).expect("invariant: it is a digit")),
    };
    let start = out.len();
    let entries = 2 + u8::from(!head.payload.is_empty()) + u8::from(head.id.is_some());
    out.push(Marker::FixMap(entries).to_u8());
    string(out, "type");
    done(write::write_uint(out, kind));
    if !head.payload.is_empty() {
        string(out, "data");
        if let Err(error) = value(out, head.payload, attachments) {
            out.truncate(start);
            return Err(error);
        }
    }
    string(out, "nsp");
    string(out, &head.namespace);
    if let Some(id) = head.id {
        string(out, "id");
        done(write::write_uint(out, id));
    }
    Ok(())
}

/// How many attachments follow the text of a packet.
///
/// # Panics
/// When it is not the text of a packet.
#[must_use]
pub fn attachments_of(packet: &str) -> usize {
    Head::split(packet, usize::MAX).expect("invariant: our own packets can be read").attachments
}

/// Writes a value that is JSON. Without attachments nothing in it is a placeholder.
fn value<A: AsRef<[u8]>>(out: &mut Vec<u8>, text: &str, attachments: &[A]) -> Result<(), EncodeError> {
    let placeholders = match attachments {
        [] => Placeholders::new(),
        _ => placeholder::find(text).expect("invariant: a packet's placeholders were checked"),
    };
    let mut placeholders = placeholders.iter().peekable();
    let mut sizes = sizes(text)?.into_iter();
    let mut size = || sizes.next().expect("invariant: each bracket was counted");
    let bytes = text.as_bytes();
    let mut at = 0;
    // Closing brackets, commas, colons and white space mean nothing here: sizes come first in MessagePack.
    while let Some(&byte) = bytes.get(at) {
        let from = at;
        at += 1;
        match byte {
            b'"' => {
                at = json::string_end(bytes, at);
                string(out, &json::unescape(&text[from..at]).expect("invariant: it was found to be JSON"));
            }
            b'[' => done(write::write_array_len(out, size())),
            b'{' => {
                let entries = size();
                let key_at = at + json::white_space(&bytes[at..]) + 1;
                match placeholders.next_if(|placeholder| placeholder.key_at == key_at) {
                    None => done(write::write_map_len(out, entries)),
                    Some(placeholder) => {
                        let data = attachments[placeholder.index].as_ref();
                        done(write::write_bin(out, data));
                        // Two plain members: the next brace is its own.
                        at += bytes[at..].iter().position(|byte| *byte == b'}').unwrap_or_default() + 1;
                    }
                }
            }
            b't' => {
                out.push(Marker::True.to_u8());
                at += "rue".len();
            }
            b'f' => {
                out.push(Marker::False.to_u8());
                at += "alse".len();
            }
            b'n' => {
                out.push(Marker::Null.to_u8());
                at += "ull".len();
            }
            b'-' | b'0'..=b'9' => {
                let of_a_number = |byte: &&u8| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-');
                at += bytes[at..].iter().take_while(of_a_number).count();
                number(out, &text[from..at]);
            }
            _ => {}
        }
    }
    Ok(())
}

/// How many elements or members each list and object has, in the order in which they begin.
fn sizes(text: &str) -> Result<SmallVec<[u32; 16]>, EncodeError> {
    let bytes = text.as_bytes();
    let mut sizes: SmallVec<[u32; 16]> = SmallVec::new();
    let mut open: SmallVec<[usize; 16]> = SmallVec::new();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'"' => at = json::string_end(bytes, at),
            b'[' | b'{' => {
                if open.len() >= MAX_MSGPACK_DEPTH {
                    return Err(EncodeError::TooDeep { max: MAX_MSGPACK_DEPTH });
                }
                open.push(sizes.len());
                let next = bytes.get(at + json::white_space(&bytes[at..]));
                sizes.push(u32::from(!matches!(next, Some(b']' | b'}'))));
            }
            b',' => {
                if let Some(&innermost) = open.last() {
                    sizes[innermost] += 1;
                }
            }
            b']' | b'}' => drop(open.pop()),
            _ => {}
        }
    }
    Ok(sizes)
}

fn string(out: &mut Vec<u8>, text: &str) {
    done(write::write_str(out, text));
}

/// Writes a number: whole ones as such, whatever way JSON has them, as long as they go into 64 bits.
fn number(out: &mut Vec<u8>, text: &str) {
    if let Ok(whole) = text.parse::<u64>() {
        return done(write::write_uint(out, whole));
    }
    if let Ok(whole) = text.parse::<i64>()
        && whole != 0
    {
        return done(write::write_sint(out, whole));
    }
    let double: f64 = text.parse().expect("invariant: it was found to be a number");
    // 2^63 and 2^64 are doubles, the numbers before them are not.
    let is_whole = double.fract() == 0.0 && !(double == 0.0 && double.is_sign_negative());
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is whole and in range")]
    if is_whole && (0.0..18_446_744_073_709_551_616.0).contains(&double) {
        done(write::write_uint(out, double as u64));
    } else if is_whole && (-9_223_372_036_854_775_808.0..0.0).contains(&double) {
        done(write::write_sint(out, double as i64));
    } else {
        done(write::write_f64(out, double));
    }
}

/// Memory takes what is written, and what does not fit into a message was never received.
fn done<T, E: fmt::Debug>(written: Result<T, E>) {
    drop(written.expect("invariant: memory takes what is written"));
}
