//! Packets in MessagePack, and JSON packets on their way into it.

use bytes::Bytes;
use posthaste_socket_proto::{
    Args, DecodeLimits, MAX_MSGPACK_DEPTH, Packet, attachments_of, decode_msgpack, encode_event, encode_msgpack,
    is_reserved, parse_json,
};
use serde_json::{Number, Value};

use crate::packets::text_of;

/// Messages; those that begin with a bracket are arguments in JSON, and attachments behind 0xff.
pub(crate) const MESSAGES: &[&[u8]] = &[
    b"\x83\xa4type\x00\xa4data\xd4\x00\x00\xa3nsp\xa1/",
    b"\x83\xa4type\x00\xa4data\x81\xa5token\xa3abc\xa3nsp\xa6/admin",
    b"\x85\xa4type\x02\xa4data\x93\xa2hi\xcd\x01\x00\xc4\x03abc\xa7options\x81\xa8compress\xc3\xa2id\x05\xa3nsp\xa1/",
    b"\x83\xa4type\x02\xa4data\x94\xa1e\xcb\x3f\xf8\0\0\0\0\0\0\xd7\0\0\0\0\0\0\0\0\x05\xc7\x02\x00ab\xa3nsp\xa1/",
    b"\x83\xa4type\x02\xa4data\x92\xa1e\x83\xa1a\xd4\x00\x00\xa1b\x91\xd4\x00\x00\xff\xc0\xa3nsp\xa1/",
    b"\x84\xa4type\x03\xa4data\x91\xd6\x05abcd\xa3nsp\xa2/a\xa2id\xcf\0\0\0\x01\0\0\0\0",
    b"\x82\xa4type\x01\xa3nsp\xa1/",
    b"\x83\xa4type\x04\xa4data\xa2no\xa3nsp\xa1/",
    b"\x83\xa4type\x02\xa4data\x91\xaadisconnect\xa3nsp\xa1/",
    b"\x83\xa4type\x02\xa4data\xdd\xff\xff\xff\xff\xa3nsp\xa1/",
    b"[1,-2.50e-7,{\"a\":[null,\"\\ud800\"]},1e400, 18446744073709551615 ]",
    b"[{\"_placeholder\":true,\"num\":1},{\"num\":0,\"_placeholder\":true}]\xffabc\xff",
];

pub(crate) const WORDS: &[&[u8]] = &[
    b"\xa4type\x02",
    b"\xa4type\x03",
    b"\xa3nsp\xa1/",
    b"\xa4data\x91",
    b"\xa2id\x07",
    b"\xd4\x00\x00",
    b"\xd7\x00",
    b"\xc7\x01\x00a",
    b"\xc4\x01a",
    b"\xdd\x00\x00\x00\x01",
    b"\xdf\x00\x00\x00\x01",
    b"\xda\x00\x02ab",
    b"\xcb\x7f\xf8\0\0\0\0\0\0",
    b"\xca\x3f\x80\0\0",
    b"\x82\xac_placeholder\xc3\xa3num\x00",
    b"\xd3\xff\xff\xff\xff\xff\xff\xff\x00",
    b"\x81\xa1a",
    b"\x91\x91\x91\x91",
    b"\"\\ud83d\\ude00\"",
    b"-0",
];

const LIMITS: DecodeLimits = DecodeLimits { max_attachments: 3, max_attachment_bytes: 40 };

/// Laws: a message is taken exactly if a plain reader takes it, and means what that reads; what was taken can be written, and is read
/// as the same packet; JSON survives the way there and back.
pub(crate) fn check(data: &[u8]) {
    if data.first() == Some(&b'[') {
        return there_and_back(data);
    }
    let message = Bytes::copy_from_slice(data);
    let decoded = decode_msgpack(&message, &LIMITS);
    let model = Model::read(data);
    assert_eq!(decoded.is_ok(), model.is_some(), "{decoded:?} {model:?}");
    if let (Ok(decoded), Some(model)) = (decoded, model) {
        assert_eq!(Model::of(&decoded), model);
        rewritten(&decoded);
    }
}

/// What was read can be written, is read as what it was, and written the same from then on.
fn rewritten(packet: &Packet<'_>) {
    let (text, attachments) = text_of(packet).expect("it says something");
    assert_eq!(attachments_of(&text), attachments.len());
    let mut message = Vec::new();
    match encode_msgpack(&mut message, &text, &attachments) {
        Ok(()) => {}
        // Ours have their data one deeper.
        Err(error) => return assert!(matches!(packet, Packet::ConnectError { .. }), "{error}: {text}"),
    }
    let again = decode_msgpack(&message.clone().into(), &LIMITS).expect("our own packet");
    if matches!(packet, Packet::ConnectError { .. }) {
        return;
    }
    let (expected, found) = (Model::of(packet), Model::of(&again));
    assert!(values(&expected.data).is_none_or(|expected| values(&found.data) == Some(expected)));
    // Numbers may be written otherwise.
    assert_eq!(Model { data: String::new(), ..found }, Model { data: String::new(), ..expected });
    let (text, attachments) = text_of(&again).expect("it says something");
    let mut once_more = Vec::new();
    encode_msgpack(&mut once_more, &text, &attachments).expect("it was written before");
    assert_eq!(once_more, message);
}

/// Arguments in JSON with their attachments.
fn there_and_back(data: &[u8]) {
    let mut parts = data.split(|byte| *byte == 0xff);
    let Some(text) = parts.next().and_then(|text| std::str::from_utf8(text).ok()) else { return };
    let attachments: Vec<Bytes> = parts.map(Bytes::copy_from_slice).collect();
    let limits = DecodeLimits { max_attachments: attachments.len(), max_attachment_bytes: data.len() };
    let Ok(args) = Args::decode(text, attachments) else { return };
    let mut packet = Vec::new();
    let attachments = encode_event(&mut packet, "/n", Some(7), "e", &args).expect("what came can be sent");
    let packet = String::from_utf8(packet).expect("text");
    let mut message = b"before".to_vec();
    if encode_msgpack(&mut message, &packet, &attachments).is_err() {
        assert_eq!(message, b"before", "what cannot be written leaves nothing");
        let brackets = text.bytes().filter(|byte| matches!(byte, b'[' | b'{')).count();
        assert!(brackets > MAX_MSGPACK_DEPTH, "{text}");
        return;
    }
    let decoded = decode_msgpack(&message.split_off(6).into(), &limits).expect("our own packet");
    let Packet::Event { namespace, id, event, args: again } = decoded else { panic!("an event") };
    assert_eq!((&*namespace, id, &*event), ("/n", Some(7), "e"));
    let list = |args: &Args<'_>| values(&format!("[{}]", args.raw()));
    // Placeholders are numbered anew, in the order of their places.
    if attachments.is_empty()
        && let Some(values) = list(&args)
    {
        assert_eq!(list(&again), Some(values), "{text}");
    }
    let sorted = |args: &Args<'_>| {
        let mut data = args.attachments().to_vec();
        data.sort_unstable();
        data
    };
    assert_eq!(sorted(&again), sorted(&args));
}

/// JSON as a value in which numbers are whole if they can be; `None` if serde_json does not go as deep, or has no such number.
fn values(text: &str) -> Option<Value> {
    let mut value = parse_json(text).ok()?;
    plain(&mut value);
    Some(value)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole and in range")]
fn plain(value: &mut Value) {
    match value {
        Value::Number(number) if number.is_f64() => {
            let double = number.as_f64().unwrap_or_default();
            let is_whole = double.fract() == 0.0 && !(double == 0.0 && double.is_sign_negative());
            if is_whole && (0.0..18_446_744_073_709_551_616.0).contains(&double) {
                *number = Number::from(double as u64);
            } else if is_whole && (-9_223_372_036_854_775_808.0..0.0).contains(&double) {
                *number = Number::from(double as i64);
            }
        }
        Value::Array(list) => list.iter_mut().for_each(plain),
        Value::Object(members) => members.values_mut().for_each(plain),
        _ => {}
    }
}

/// What a packet says.
#[derive(Debug, PartialEq)]
struct Model {
    kind: u64,
    namespace: String,
    id: Option<u64>,
    event: String,
    /// JSON: the arguments as a list, or what else there is.
    data: String,
    attachments: Vec<Bytes>,
}

impl Model {
    fn of(packet: &Packet<'_>) -> Self {
        let list = |args: &Args<'_>| (format!("[{}]", args.raw()), args.attachments().to_vec());
        let json = |text: &Option<std::borrow::Cow<'_, str>>| text.as_deref().unwrap_or_default().to_owned();
        let (kind, id, event, (data, attachments)) = match packet {
            Packet::Connect { auth, .. } => (0, None, String::new(), (json(auth), Vec::new())),
            Packet::Disconnect { .. } => (1, None, String::new(), Default::default()),
            Packet::Event { id, event, args, .. } => (2, *id, event.to_string(), list(args)),
            Packet::Ack { id, args, .. } => (3, Some(*id), String::new(), list(args)),
            Packet::ConnectError { data, .. } => (4, None, String::new(), (json(data), Vec::new())),
            Packet::Blank { .. } => panic!("there is none in MessagePack"),
        };
        Self { kind, namespace: packet.namespace().to_owned(), id, event, data, attachments }
    }

    /// Reads a message plainly: into a tree first.
    fn read(message: &[u8]) -> Option<Self> {
        let mut reader = Reader { message, at: 0 };
        let Head::Map(entries) = reader.head()? else { return None };
        let (mut kind, mut namespace, mut id, mut data) = (None, None, None, None);
        for _ in 0..entries {
            let Head::Text(key) = reader.head()? else { return None };
            let place = match key {
                b"type" => &mut kind,
                b"nsp" => &mut namespace,
                b"id" => &mut id,
                b"data" => &mut data,
                _ => {
                    reader.skip()?;
                    continue;
                }
            };
            if place.replace(reader.tree(0)?).is_some() {
                return None;
            }
        }
        if reader.at < message.len() {
            return None;
        }
        let kind = kind?.whole().filter(|kind| *kind < 5)?;
        let Tree::Text(namespace) = namespace? else { return None };
        let namespace = String::from_utf8(namespace).ok()?;
        if !namespace.starts_with('/') || namespace.contains(',') {
            return None;
        }
        let absent = |tree: &Tree| matches!(tree, Tree::Undefined | Tree::Nil);
        let id = match id {
            Some(id) if !absent(&id) => Some(id.whole()?),
            _ => None,
        };
        let data = data.filter(|data| !absent(data));
        let mut json = Json::default();
        let mut event = String::new();
        match (kind, data) {
            (0 | 4, None) | (1, None) => {}
            (0 | 4, Some(data @ Tree::Map(_))) => {
                json.tree(&data)?;
                if !json.attachments.is_empty() {
                    return None;
                }
            }
            (4, Some(data @ Tree::Text(_))) => json.tree(&data)?,
            (2, Some(Tree::List(list))) => {
                let (name, args) = list.split_first()?;
                let mut text = Json::default();
                text.tree(name)?;
                event = match text.text.as_bytes()[0] {
                    b'"' => parse_json(&text.text).expect("text"),
                    b'-' | b'0'..=b'9' => text.text,
                    _ => return None,
                };
                if is_reserved(&event) {
                    return None;
                }
                json.list(args)?;
            }
            (3, Some(Tree::List(list))) if id.is_some() => json.list(&list)?,
            _ => return None,
        }
        // Further on nobody could tell data from placeholders.
        Args::decode(&format!("[{}]", json.text), json.attachments.clone()).ok()?;
        let id = if matches!(kind, 2 | 3) { id } else { None };
        Some(Self { kind, namespace, id, event, data: json.text, attachments: json.attachments })
    }
}

#[derive(Debug)]
enum Tree {
    Nil,
    Undefined,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Double(f64),
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Date(i64),
    Extension(i8, Vec<u8>),
    List(Vec<Tree>),
    Map(Vec<(Tree, Tree)>),
}

impl Tree {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole and in range")]
    fn whole(&self) -> Option<u64> {
        match *self {
            Self::Unsigned(number) => Some(number),
            Self::Signed(number) => u64::try_from(number).ok(),
            Self::Double(number) if number == number.trunc() && number >= 0.0 && number < 2_f64.powi(53) => {
                Some(number as u64)
            }
            _ => None,
        }
    }
}

struct Reader<'a> {
    message: &'a [u8],
    at: usize,
}

/// What a value begins with.
enum Head<'a> {
    Plain(Tree),
    Text(&'a [u8]),
    List(usize),
    Map(usize),
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let taken = self.message[self.at..].get(..count)?;
        self.at += count;
        Some(taken)
    }

    /// A number of `count` bytes.
    fn number(&mut self, count: usize) -> Option<u64> {
        Some(self.take(count)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn length(&mut self, count: usize) -> Option<usize> {
        usize::try_from(self.number(count)?).ok()
    }

    #[expect(clippy::cast_possible_wrap, clippy::cast_possible_truncation, reason = "what the specification says")]
    fn head(&mut self) -> Option<Head<'a>> {
        let first = self.number(1)?;
        let small = usize::try_from(first).ok()?;
        Some(match first {
            0x00..=0x7f => Head::Plain(Tree::Unsigned(first)),
            0x80..=0x8f => Head::Map(small & 15),
            0x90..=0x9f => Head::List(small & 15),
            0xa0..=0xbf => Head::Text(self.take(small & 31)?),
            0xc0 => Head::Plain(Tree::Nil),
            0xc2 | 0xc3 => Head::Plain(Tree::Bool(first == 0xc3)),
            0xc4..=0xc6 => {
                let length = self.length(1 << (first - 0xc4))?;
                Head::Plain(Tree::Binary(self.take(length)?.to_vec()))
            }
            0xc7..=0xc9 => {
                let length = self.length(1 << (first - 0xc7))?;
                match (self.number(1)? as i8, self.take(length)?) {
                    (0, data) => Head::Plain(Tree::Binary(data.to_vec())),
                    (kind, data) => Head::Plain(Tree::Extension(kind, data.to_vec())),
                }
            }
            0xca => Head::Plain(Tree::Double(f32::from_bits(self.number(4)? as u32).into())),
            0xcb => Head::Plain(Tree::Double(f64::from_bits(self.number(8)?))),
            0xcc..=0xcf => Head::Plain(Tree::Unsigned(self.number(1 << (first - 0xcc))?)),
            0xd0..=0xd3 => {
                let bytes = 1 << (first - 0xd0);
                let unused = 64 - 8 * bytes;
                Head::Plain(Tree::Signed((self.number(bytes)? << unused) as i64 >> unused))
            }
            0xd4..=0xd8 => {
                let length = 1 << (first - 0xd4);
                match (self.number(1)? as i8, self.take(length)?) {
                    (0, [_]) => Head::Plain(Tree::Undefined),
                    (0, &[a, b, c, d, e, f, g, h]) => {
                        Head::Plain(Tree::Date(i64::from_be_bytes([a, b, c, d, e, f, g, h])))
                    }
                    (kind, data) => Head::Plain(Tree::Extension(kind, data.to_vec())),
                }
            }
            0xd9..=0xdb => {
                let length = self.length(1 << (first - 0xd9))?;
                Head::Text(self.take(length)?)
            }
            0xdc | 0xdd => Head::List(self.length(2 << (first - 0xdc))?),
            0xde | 0xdf => Head::Map(self.length(2 << (first - 0xde))?),
            0xe0..=0xff => Head::Plain(Tree::Signed(i64::try_from(first).ok()? - 256)),
            _ => return None,
        })
    }

    /// A value and all that is in it; `depth` others are around it.
    fn tree(&mut self, depth: usize) -> Option<Tree> {
        let head = self.head()?;
        if depth >= MAX_MSGPACK_DEPTH && !matches!(head, Head::Plain(_) | Head::Text(_)) {
            return None;
        }
        Some(match head {
            Head::Plain(tree) => tree,
            Head::Text(text) => Tree::Text(text.to_vec()),
            Head::List(count) => Tree::List((0..count).map(|_| self.tree(depth + 1)).collect::<Option<_>>()?),
            Head::Map(count) => {
                let member = |_| {
                    let key = self.tree(depth + 1)?;
                    Some((key, self.tree(depth + 1)?))
                };
                Tree::Map((0..count).map(member).collect::<Option<_>>()?)
            }
        })
    }

    fn skip(&mut self) -> Option<()> {
        let mut left = 1_u64;
        while left > 0 {
            left -= 1;
            match self.head()? {
                Head::List(count) => left += u64::try_from(count).ok()?,
                Head::Map(count) => left += 2 * u64::try_from(count).ok()?,
                Head::Plain(_) | Head::Text(_) => {}
            }
        }
        Some(())
    }
}

#[derive(Default)]
struct Json {
    text: String,
    attachments: Vec<Bytes>,
    bytes: usize,
}

impl Json {
    fn list(&mut self, list: &[Tree]) -> Option<()> {
        self.text.push('[');
        for (index, element) in list.iter().enumerate() {
            if index > 0 {
                self.text.push(',');
            }
            self.tree(element)?;
        }
        self.text.push(']');
        Some(())
    }

    fn tree(&mut self, tree: &Tree) -> Option<()> {
        let json = |value: Value| value.to_string();
        match tree {
            Tree::Nil | Tree::Undefined => self.text.push_str("null"),
            Tree::Bool(value) => self.text.push_str(&json((*value).into())),
            Tree::Unsigned(number) => self.text.push_str(&number.to_string()),
            Tree::Signed(number) => self.text.push_str(&number.to_string()),
            Tree::Double(number) => self.text.push_str(&json(Value::from(*number))),
            Tree::Text(text) => self.text.push_str(&json(String::from_utf8_lossy(text).into())),
            Tree::Date(time) => self.text.push_str(&date(*time)),
            Tree::Binary(data) => self.attachment(data)?,
            Tree::Extension(kind, data) => {
                self.text.push_str(&format!("[{kind},"));
                self.attachment(data)?;
                self.text.push(']');
            }
            Tree::List(list) => self.list(list)?,
            Tree::Map(members) => {
                self.text.push('{');
                let mut behind_one = false;
                for (key, value) in members {
                    let key = match key {
                        Tree::Text(text) => String::from_utf8_lossy(text).into_owned(),
                        Tree::Nil => "null".to_owned(),
                        Tree::Bool(value) => value.to_string(),
                        Tree::Unsigned(number) => number.to_string(),
                        Tree::Signed(number) => number.to_string(),
                        _ => return None,
                    };
                    if matches!(value, Tree::Undefined) {
                        continue;
                    }
                    if std::mem::replace(&mut behind_one, true) {
                        self.text.push(',');
                    }
                    self.text.push_str(&json(key.into()));
                    self.text.push(':');
                    self.tree(value)?;
                }
                self.text.push('}');
            }
        }
        Some(())
    }

    fn attachment(&mut self, data: &[u8]) -> Option<()> {
        self.bytes += data.len();
        if self.attachments.len() == LIMITS.max_attachments || self.bytes > LIMITS.max_attachment_bytes {
            return None;
        }
        self.text.push_str(&format!("{{\"_placeholder\":true,\"num\":{}}}", self.attachments.len()));
        self.attachments.push(Bytes::copy_from_slice(data));
        Some(())
    }
}

/// A date's text, by counting years and months.
fn date(time: i64) -> String {
    const DAY: i64 = 86_400_000;
    if time.unsigned_abs() > 8_640_000_000_000_000 {
        return "null".to_owned();
    }
    let (mut days, milliseconds) = (time.div_euclid(DAY), time.rem_euclid(DAY));
    let mut year = 1970 + 400 * days.div_euclid(146_097);
    days = days.rem_euclid(146_097);
    let is_leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = |year: i64| if is_leap(year) { 366 } else { 365 };
    while days >= length(year) {
        days -= length(year);
        year += 1;
    }
    let february = if is_leap(year) { 29 } else { 28 };
    let mut month = 1;
    for days_of_month in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < days_of_month {
            break;
        }
        days -= days_of_month;
        month += 1;
    }
    let year = match year {
        0..=9999 => format!("{year:04}"),
        _ => format!("{}{:06}", if year < 0 { '-' } else { '+' }, year.abs()),
    };
    let (seconds, milliseconds) = (milliseconds / 1000, milliseconds % 1000);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("\"{year}-{month:02}-{:02}T{hours:02}:{minutes:02}:{seconds:02}.{milliseconds:03}Z\"", days + 1)
}
