//! An event that is kept, as clients are given it.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use posthaste::{Args, HistoryPage, StoredEvent};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

/// An event of a room's history.
#[derive(Debug, Serialize)]
pub(crate) struct Event {
    /// Where it is. What members hear live carries it as the beginning of its own.
    pub(crate) offset: String,
    /// Its number in the room, without holes from 1.
    pub(crate) n: u64,
    /// When it was kept, in milliseconds since 1970.
    pub(crate) at: u64,
    pub(crate) event: String,
    pub(crate) args: Values,
}

/// Some of a room's history.
#[derive(Debug, Serialize)]
pub(crate) struct Page {
    /// In order.
    pub(crate) events: Vec<Event>,
    /// Whether nothing is left behind them.
    pub(crate) complete: bool,
    /// Whether something that was asked for is forgotten, or may be.
    pub(crate) gap: bool,
    /// Where to go on.
    pub(crate) next: String,
}

/// How binary values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Binary {
    /// As attachments of a packet.
    Attached,
    /// `{"$binary": "…"}`, with the bytes as base64.
    Text,
}

/// The most attachments of one answer: official clients take a packet with more for a broken one, and disconnect.
const MAX_ATTACHMENTS: usize = 10;

/// Ends a page before what cannot be in one packet with what is before it: attachments past their number, and beside attachments what only
/// looks like the place of one, where a client would put it. The first event is always there, so whoever goes on gets everything.
pub(crate) fn fit_into_packet(page: &mut HistoryPage) {
    let (mut attachments, mut has_lookalike) = (0, false);
    let too_many = page.events.iter().position(|stored| {
        let own = stored.event.attachments().len();
        attachments += own;
        has_lookalike |= own == 0 && may_look_attached(stored.event.args().raw());
        attachments > MAX_ATTACHMENTS || (attachments > 0 && has_lookalike)
    });
    // One that is too much by itself came in one packet as well.
    let end = too_many.unwrap_or(page.events.len()).max(1);
    if end < page.events.len() {
        page.events.truncate(end);
        page.complete = false;
        page.next = page.events[end - 1].offset.clone();
    }
}

/// Whether a client could find the place of an attachment in JSON without any; of what spells characters by number nothing is known.
fn may_look_attached(text: &str) -> bool {
    text.contains("_placeholder") || text.contains("\\u")
}

impl Page {
    pub(crate) fn new(page: HistoryPage, binary: Binary) -> Self {
        let HistoryPage { events, complete, gap, next, .. } = page;
        Self { events: events.into_iter().map(|event| Event::new(event, binary)).collect(), complete, gap, next }
    }
}

impl Event {
    pub(crate) fn new(stored: StoredEvent, binary: Binary) -> Self {
        let StoredEvent { offset, n, at, event, .. } = stored;
        let args = Values::of(&event.args(), binary);
        Self { offset, n, at: at.0, event: event.name().unwrap_or_default(), args }
    }
}

/// Arguments inside of another value.
#[derive(Debug)]
pub(crate) enum Values {
    /// Without binary ones: their text, as it was sent.
    Text(Box<RawValue>),
    Read(Vec<Value>),
}

impl Values {
    fn of(args: &Args<'_>, binary: Binary) -> Self {
        if args.attachments().is_empty()
            && let Ok(text) = RawValue::from_string(format!("[{}]", args.raw()))
        {
            return Self::Text(text);
        }
        let Several(mut values) = args.deserialize().unwrap_or_else(|error| {
            tracing::warn!(%error, "the arguments of a kept event cannot be shown");
            Several(Vec::new())
        });
        if binary == Binary::Text {
            values.iter_mut().for_each(Value::spell_out);
        }
        Self::Read(values)
    }
}

impl Serialize for Values {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => text.serialize(serializer),
            Self::Read(values) => values.serialize(serializer),
        }
    }
}

/// All arguments, however many.
struct Several(Vec<Value>);

impl<'de> Deserialize<'de> for Several {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_tuple(usize::MAX, ReadValue).map(|value| match value {
            Value::List(values) => Self(values),
            other => Self(vec![other]),
        })
    }
}

/// A value of JSON, or bytes.
#[derive(Debug, PartialEq)]
pub(crate) enum Value {
    Plain(serde_json::Value),
    Bytes(Bytes),
    List(Vec<Value>),
    Map(Vec<(String, Value)>),
}

impl Value {
    /// Reads bytes that are written as text, `{"$binary": "…"}`. Returns how many there are; `None` if one is no base64, or if there are some beside an
    /// object that would be taken for one in a packet.
    pub(crate) fn read_spelt(&mut self) -> Option<usize> {
        let mut has_placeholder = false;
        let count = self.take_spelt(&mut has_placeholder)?;
        (count == 0 || !has_placeholder).then_some(count)
    }

    fn take_spelt(&mut self, has_placeholder: &mut bool) -> Option<usize> {
        match self {
            Self::Plain(_) => Some(0),
            Self::Bytes(_) => Some(1),
            Self::List(values) => values.iter_mut().map(|value| value.take_spelt(has_placeholder)).sum(),
            Self::Map(entries) => {
                if let [(name, Self::Plain(serde_json::Value::String(text)))] = &entries[..]
                    && name == "$binary"
                {
                    *self = Self::Bytes(BASE64_STANDARD.decode(text).ok()?.into());
                    return Some(1);
                }
                *has_placeholder |= entries.iter().any(|(name, _)| name == "_placeholder");
                entries.iter_mut().map(|(_, value)| value.take_spelt(has_placeholder)).sum()
            }
        }
    }

    /// Writes bytes as text.
    pub(crate) fn spell_out(&mut self) {
        match self {
            Self::Plain(_) => {}
            Self::Bytes(bytes) => {
                let text = serde_json::Value::from(BASE64_STANDARD.encode(bytes));
                *self = Self::Map(vec![("$binary".into(), Self::Plain(text))]);
            }
            Self::List(values) => values.iter_mut().for_each(Self::spell_out),
            Self::Map(entries) => entries.iter_mut().for_each(|(_, value)| value.spell_out()),
        }
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Plain(value) => value.serialize(serializer),
            Self::Bytes(bytes) => serializer.serialize_bytes(bytes),
            Self::List(values) => serializer.collect_seq(values),
            Self::Map(entries) => serializer.collect_map(entries.iter().map(|(key, value)| (key, value))),
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ReadValue)
    }
}

struct ReadValue;

/// What serde_json's own value is made of as well.
macro_rules! plain {
    ($($method:ident($type:ty)),*) => {$(
        fn $method<E>(self, value: $type) -> Result<Value, E> {
            Ok(Value::Plain(value.into()))
        }
    )*};
}

impl<'de> Visitor<'de> for ReadValue {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("any value")
    }

    plain!(visit_bool(bool), visit_i64(i64), visit_u64(u64), visit_f64(f64), visit_str(&str), visit_string(String));

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Plain(serde_json::Value::Null))
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Value, E> {
        Ok(Value::Bytes(Bytes::copy_from_slice(bytes)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = elements.next_element()? {
            values.push(value);
        }
        Ok(Value::List(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            values.push(entry);
        }
        Ok(Value::Map(values))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> Args<'static> {
        let text =
            r#"[1,{"a":{"_placeholder":true,"num":1},"b":[null,true,-2,1.5,"x"]},{"_placeholder":true,"num":0}]"#;
        Args::decode(text, vec![Bytes::from_static(b"\0\x01"), Bytes::from_static(b"hi")]).unwrap()
    }

    #[test]
    fn binary_values_are_attached_or_spelt_out() {
        let spelt = serde_json::to_string(&Values::of(&args(), Binary::Text)).unwrap();
        assert_eq!(spelt, r#"[1,{"a":{"$binary":"aGk="},"b":[null,true,-2,1.5,"x"]},{"$binary":"AAE="}]"#);
        // This is what serde_json makes of bytes; the encoder of packets attaches them.
        let attached = serde_json::to_string(&Values::of(&args(), Binary::Attached)).unwrap();
        assert_eq!(attached, r#"[1,{"a":[104,105],"b":[null,true,-2,1.5,"x"]},[0,1]]"#);
    }

    #[test]
    fn other_arguments_stay_as_they_were_written() {
        let args = Args::decode(r#"[1.0, {"_placeholder":true,"num":0} ,"\ud800"]"#, Vec::new()).unwrap();
        let text = serde_json::to_string(&Values::of(&args, Binary::Text)).unwrap();
        assert_eq!(text, r#"[1.0, {"_placeholder":true,"num":0} ,"\ud800"]"#);
        let none = Args::decode("[]", Vec::new()).unwrap();
        assert_eq!(serde_json::to_string(&Values::of(&none, Binary::Text)).unwrap(), "[]");
    }
}
