//! MessagePack, written down a second time: JSON values, and what JSON has no word for.

use serde_json::{Map, Value, json};

/// Writes a value: `{"$bin": "text"}` stands for those bytes, `{"$undefined": true}` for JavaScript's `undefined` as the official parser
/// has it. Lengths take the shortest form up to 65,535.
///
/// # Panics
/// For what is longer, and numbers that are not whole.
pub(crate) fn pack(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out, value);
    out
}

/// Reads a value, as [`pack`] writes it.
///
/// # Panics
/// When it is none, or something follows.
pub(crate) fn unpack(message: &[u8]) -> Value {
    let mut rest = message;
    let value = read(&mut rest);
    assert!(rest.is_empty(), "{} bytes behind {value}", rest.len());
    value
}

fn write(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => out.push(0xc0),
        Value::Bool(value) => out.push(if *value { 0xc3 } else { 0xc2 }),
        Value::Number(number) => match number.as_i64().expect("a whole number") {
            small @ -32..=127 => out.push(small.to_le_bytes()[0]),
            number => {
                out.push(0xd3);
                out.extend(number.to_be_bytes());
            }
        },
        Value::String(text) => {
            length(out, text.len(), (0xa0, 31), Some(0xd9), 0xda);
            out.extend(text.as_bytes());
        }
        Value::Array(list) => {
            length(out, list.len(), (0x90, 15), None, 0xdc);
            list.iter().for_each(|element| write(out, element));
        }
        Value::Object(members) => match (members.get("$bin"), members.contains_key("$undefined")) {
            (Some(bytes), _) => {
                let bytes = bytes.as_str().expect("text").as_bytes();
                length(out, bytes.len(), (0, 0), Some(0xc4), 0xc5);
                out.extend(bytes);
            }
            (None, true) => out.extend([0xd4, 0, 0]),
            (None, false) => {
                length(out, members.len(), (0x80, 15), None, 0xde);
                for (key, value) in members {
                    write(out, &Value::String(key.clone()));
                    write(out, value);
                }
            }
        },
    }
}

/// A length within its head's byte, in one byte, or in two.
fn length(out: &mut Vec<u8>, length: usize, (fixed, most): (u8, usize), short: Option<u8>, long: u8) {
    let length = u16::try_from(length).expect("nothing longer");
    let [high, low] = length.to_be_bytes();
    match short {
        _ if fixed != 0 && usize::from(length) <= most => out.push(fixed | low),
        Some(short) if high == 0 => out.extend([short, low]),
        _ => out.extend([long, high, low]),
    }
}

fn read(rest: &mut &[u8]) -> Value {
    let head = number(rest, 1);
    match head {
        0xc0 => Value::Null,
        0xc2 => json!(false),
        0xc3 => json!(true),
        0x00..=0x7f => json!(head),
        0xe0..=0xff => json!(i64::try_from(head).expect("a byte") - 256),
        0xcc..=0xcf => json!(number(rest, 1 << (head - 0xcc))),
        0xd0..=0xd3 => {
            let bytes = 1 << (head - 0xd0);
            let unused = 64 - 8 * u32::try_from(bytes).expect("eight at most");
            json!(i64::from_be_bytes((number(rest, bytes) << unused).to_be_bytes()) >> unused)
        }
        0xcb => json!(f64::from_bits(number(rest, 8))),
        0xd4 => {
            assert_eq!(number(rest, 2), 0, "undefined, or an extension that nobody sends");
            json!({ "$undefined": true })
        }
        0xa0..=0xbf => text(rest, head & 0x1f),
        0xd9..=0xdb => {
            let len = number(rest, 1 << (head - 0xd9));
            text(rest, len)
        }
        0xc4..=0xc6 => {
            let len = number(rest, 1 << (head - 0xc4));
            json!({ "$bin": text(rest, len) })
        }
        0x90..=0x9f => list(rest, head & 0xf),
        0xdc | 0xdd => {
            let len = number(rest, 2 << (head - 0xdc));
            list(rest, len)
        }
        0x80..=0x8f => map(rest, head & 0xf),
        0xde | 0xdf => {
            let len = number(rest, 2 << (head - 0xde));
            map(rest, len)
        }
        other => panic!("{other:#x} begins no value that a server sends"),
    }
}

fn take<'a>(rest: &mut &'a [u8], len: u64) -> &'a [u8] {
    let (taken, behind) = rest.split_at(usize::try_from(len).expect("it is in memory"));
    *rest = behind;
    taken
}

fn number(rest: &mut &[u8], bytes: u64) -> u64 {
    take(rest, bytes).iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn text(rest: &mut &[u8], len: u64) -> Value {
    Value::String(std::str::from_utf8(take(rest, len)).expect("text").to_owned())
}

fn list(rest: &mut &[u8], len: u64) -> Value {
    (0..len).map(|_| read(rest)).collect()
}

fn map(rest: &mut &[u8], len: u64) -> Value {
    let members = (0..len).map(|_| match read(rest) {
        Value::String(key) => (key, read(rest)),
        other => panic!("{other} is no key"),
    });
    Value::Object(members.collect::<Map<_, _>>())
}
