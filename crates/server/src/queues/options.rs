//! What clients say, read strictly: whoever misspells an option is told so, and nothing is changed.

use std::borrow::Cow;
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;
use posthaste_history::store::{Durability, Timestamp};
use posthaste_queue::{Backoff, Config, Dedup, DedupMode, Missed, Put, QueueName, Schedule, When};
use posthaste_socket_proto::Args;
use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;
use smallvec::SmallVec;

use super::error::Refused;
use super::payload::Payload;

/// The longest time that a message waits or lives, in milliseconds: 10 years.
const LONGEST: u64 = Put::MAX_DELAY_MS;
/// Longest lease that can be asked for, in milliseconds: a day.
pub(crate) const LONGEST_LEASE: u64 = 24 * 3_600_000;
/// The most that headers may have, in bytes.
const MAX_HEADERS: usize = 16 * 1024;

/// The members of an object that was said.
pub(crate) struct Options<'a>(SmallVec<[(Cow<'a, str>, &'a RawValue); 8]>);

impl<'a> Options<'a> {
    /// Of nothing, `null` or `{}` there are none.
    pub(crate) fn read(text: Option<&'a str>) -> Result<Self, Refused> {
        let text = text.unwrap_or("null");
        if text == "null" || text == "{}" {
            return Ok(Self(SmallVec::new()));
        }
        if !text.starts_with('{') {
            return Err(Refused::invalid("options are an object"));
        }
        let members: Members<'a> = serde_json::from_str(text).map_err(|error| Refused::invalid(error.to_string()))?;
        Ok(Self(members.0))
    }

    /// An option, taken out; one that is `null` or `undefined` is not there.
    pub(crate) fn take(&mut self, name: &str) -> Option<&'a RawValue> {
        self.take_any(name).filter(|value| value.get() != "null")
    }

    /// As [`Options::take`], also if it is `null`.
    pub(crate) fn take_any(&mut self, name: &str) -> Option<&'a RawValue> {
        let at = self.0.iter().position(|(there, _)| there == name)?;
        Some(self.0.swap_remove(at).1)
    }

    /// A whole number within bounds.
    pub(crate) fn number(&mut self, name: &str, bounds: RangeInclusive<u64>) -> Result<Option<u64>, Refused> {
        self.take(name).map(|value| number(name, value.get(), bounds)).transpose()
    }

    /// Text of at most so many bytes.
    pub(crate) fn text(&mut self, name: &str, max: usize) -> Result<Option<Arc<str>>, Refused> {
        self.take(name).map(|value| text(name, value.get(), max)).transpose()
    }

    /// Yes or no.
    pub(crate) fn flag(&mut self, name: &str) -> Result<bool, Refused> {
        match self.take(name).map(RawValue::get) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(Refused::invalid(format!("`{name}` is true or false"))),
        }
    }

    /// One of some words.
    pub(crate) fn word<T: Copy>(&mut self, name: &str, words: &[(&str, T)]) -> Result<Option<T>, Refused> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let said = serde_json::from_str::<Cow<'_, str>>(value.get()).unwrap_or_default();
        let found = words.iter().find(|(word, _)| *word == said).map(|(_, meant)| *meant);
        found.map(Some).ok_or_else(|| {
            let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            Refused::invalid(format!("`{name}` is one of {}", all.join(", ")))
        })
    }

    /// Nothing is left that nobody knows.
    pub(crate) fn end(self) -> Result<(), Refused> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => Err(Refused::invalid(format!("there is no option `{}`", shortened(name)))),
        }
    }
}

struct Members<'a>(SmallVec<[(Cow<'a, str>, &'a RawValue); 8]>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = SmallVec::new();
                while let Some((name, value)) = map.next_entry::<Name<'de>, &'de RawValue>()? {
                    if members.iter().any(|(there, _)| *there == name.0) || members.len() == 64 {
                        return Err(serde::de::Error::custom("an option is given twice, or there are too many"));
                    }
                    members.push((name.0, value));
                }
                Ok(Members(members))
            }
        }
        from.deserialize_map(Reader)
    }
}

/// A name that borrows if it can.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}

/// A whole number within bounds.
pub(crate) fn number(name: &str, text: &str, bounds: RangeInclusive<u64>) -> Result<u64, Refused> {
    let value = text.parse::<u64>().ok().filter(|value| bounds.contains(value));
    value.ok_or_else(|| {
        Refused::invalid(format!("`{name}` is a whole number from {} to {}", bounds.start(), bounds.end()))
    })
}

/// Text of at most so many bytes.
pub(crate) fn text(name: &str, json: &str, max: usize) -> Result<Arc<str>, Refused> {
    let said = serde_json::from_str::<Cow<'_, str>>(json).ok().filter(|said| said.len() <= max);
    said.map(Arc::from).ok_or_else(|| Refused::invalid(format!("`{name}` is text of at most {max} bytes")))
}

/// What a put has to be by default.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Defaults {
    pub(crate) now: Timestamp,
    pub(crate) durability: Durability,
    /// Whether `timeout` is an option: of a call.
    pub(crate) is_call: bool,
}

/// Reads what is put: the text of the payload, its binary parts, and the options. Returns the timeout besides, if it is a call and has one.
pub(crate) fn read_put(
    queue: &QueueName,
    payload: Bytes,
    options: Option<&str>,
    defaults: Defaults,
) -> Result<(Put, Option<u64>), Refused> {
    let mut put = Put::new(queue, payload, defaults.durability);
    let mut options = Options::read(options)?;
    if options.0.is_empty() {
        return Ok((put, None));
    }
    read_times(&mut options, &mut put, defaults)?;
    read_rest(&mut options, &mut put)?;
    let timeout = if defaults.is_call { options.number("timeout", 0..=LONGEST_LEASE)? } else { None };
    options.end()?;
    Ok((put, timeout))
}

/// When a message is ready, and until when somebody needs it.
fn read_times(options: &mut Options<'_>, put: &mut Put, defaults: Defaults) -> Result<(), Refused> {
    let after = |milliseconds: u64| Timestamp(defaults.now.0.saturating_add(milliseconds));
    let delay = options.number("delay", 0..=LONGEST)?;
    let at = options.take("at").map(|at| time(at.get(), defaults.now)).transpose()?;
    put.due = match (delay, at) {
        (Some(_), Some(_)) => return Err(Refused::invalid("`delay` or `at`, not both")),
        (Some(0), None) => None,
        (Some(delay), None) => Some(after(delay)),
        (None, at) => at.filter(|at| *at > defaults.now),
    };
    put.expires = options.number("ttl", 1..=LONGEST)?.map(after);
    Ok(())
}

/// What else there is to say of a message.
fn read_rest(options: &mut Options<'_>, put: &mut Put) -> Result<(), Refused> {
    if let Some(priority) = options.number("priority", 0..=u64::from(Put::MAX_PRIORITY))? {
        put.priority = priority as u8;
    }
    put.key = options.text("key", Put::MAX_KEY)?.filter(|key| !key.is_empty());
    put.dedup = read_dedup(options)?;
    put.attempts = options.number("attempts", 1..=u64::from(u32::MAX))?.map(|attempts| attempts as u32);
    put.backoff = options.take("backoff").map(|backoff| read_backoff(backoff.get())).transpose()?.map(Box::new);
    put.headers = match options.take("headers") {
        None => Bytes::new(),
        Some(headers) => read_headers(headers.get())?,
    };
    put.keep_result_ms = options.number("keep_result", 0..=Config::MAX_KEEP_MS)?;
    if let Some(class) = options.word("class", CLASSES)? {
        put.durability = class;
    }
    Ok(())
}

/// Reads what is scheduled: when, and the options of a put that make sense there. Returns besides whether it is paused, if that is said.
pub(crate) fn read_schedule(
    queue: &QueueName,
    payload: Bytes,
    options: Option<&str>,
    durability: Durability,
) -> Result<(Schedule, Option<bool>), Refused> {
    const WORDS: &[(&str, Missed)] =
        &[("skip", Missed::Skip), ("once", Missed::Once), ("all", Missed::All { max: CATCH_UP })];
    let mut options = Options::read(options)?;
    let cron = options.text("cron", Schedule::MAX_EXPRESSION)?;
    let every = options.number("every", Schedule::MIN_EVERY_MS..=Schedule::MAX_EVERY_MS)?;
    let zone = options.text("zone", 64)?;
    let when = match (cron, every, zone) {
        (Some(expression), None, zone) => When::Cron { expression, zone: zone.unwrap_or_else(|| "UTC".into()) },
        (None, Some(ms), None) => When::Every { ms },
        (None, Some(_), Some(_)) => {
            return Err(Refused::invalid("`zone` says something about `cron`, which is not there"));
        }
        _ => return Err(Refused::invalid("`cron` or `every`: one of them says when")),
    };
    let mut missed = options.word("missed", WORDS)?.unwrap_or_default();
    if let Some(most) = options.number("max_missed", 1..=Schedule::MAX_CATCH_UP.into())? {
        let Missed::All { max } = &mut missed else {
            return Err(Refused::invalid("`max_missed` is for `missed` all"));
        };
        *max = most as u32;
    }
    let is_paused = match options.take("paused").map(RawValue::get) {
        None => None,
        Some("true") => Some(true),
        Some("false") => Some(false),
        Some(_) => return Err(Refused::invalid("`paused` is true or false")),
    };
    let ttl_ms = options.number("ttl", 1..=LONGEST)?;
    let mut put = Put::new(queue, payload, durability);
    read_rest(&mut options, &mut put)?;
    let headers = std::str::from_utf8(&put.headers).ok().filter(|headers| !headers.is_empty());
    if Options::read(headers).is_ok_and(|mut headers| headers.take_any("schedule").is_some()) {
        return Err(Refused::invalid("`headers` of what is scheduled have a `schedule` of their own"));
    }
    options.end()?;
    Ok((Schedule { when, missed, put, ttl_ms }, is_paused))
}

/// So many missed times are caught up on if nobody says.
const CATCH_UP: u32 = 100;

const CLASSES: &[(&str, Durability)] = &[
    ("memory", Durability::Memory),
    ("os", Durability::Os),
    ("disk", Durability::Disk),
    ("quorum", Durability::Quorum),
];

fn read_dedup(options: &mut Options<'_>) -> Result<Option<Dedup>, Refused> {
    const MODES: &[(&str, DedupMode)] =
        &[("reject", DedupMode::Reject), ("until_done", DedupMode::UntilDone), ("replace", DedupMode::Replace)];
    let key = options.text("dedup", Put::MAX_KEY)?.filter(|key| !key.is_empty());
    let mode = options.word("dedup_mode", MODES)?;
    let window_ms = options.number("dedup_window", 1..=Config::MAX_KEEP_MS)?;
    match key {
        Some(key) => Ok(Some(Dedup { key, mode: mode.unwrap_or(DedupMode::Reject), window_ms })),
        None if mode.is_some() || window_ms.is_some() => {
            Err(Refused::invalid("`dedup_mode` and `dedup_window` say something about `dedup`, which is not there"))
        }
        None => Ok(None),
    }
}

/// How long a message rests: milliseconds, a list of them, `"none"`, or an object with a `kind`.
fn read_backoff(text: &str) -> Result<Backoff, Refused> {
    const KINDS: &[(&str, u8)] = &[("none", 0), ("fixed", 1), ("linear", 2), ("exponential", 3)];
    if text == "\"none\"" {
        return Ok(Backoff::None);
    }
    if text.starts_with('[') {
        let list = serde_json::from_str::<Vec<u64>>(text).ok();
        let list = list.filter(|list| {
            (1..=Backoff::MAX_LIST).contains(&list.len()) && list.iter().all(|ms| *ms <= Backoff::MAX_MS)
        });
        return list
            .map(Backoff::List)
            .ok_or_else(|| Refused::invalid("`backoff` as a list has 1 to 100 whole numbers of milliseconds"));
    }
    if !text.starts_with('{') {
        return Ok(Backoff::Fixed { ms: number("backoff", text, 0..=Backoff::MAX_MS)? });
    }
    let mut options = Options::read(Some(text))?;
    let kind = options.word("kind", KINDS)?.ok_or_else(|| Refused::invalid("`backoff` has a `kind`"))?;
    let first = options.number("delay", 0..=Backoff::MAX_MS)?;
    let max = options.number("max", 0..=Backoff::MAX_MS)?;
    let jitter = match options.take("jitter") {
        None => None,
        Some(jitter) => {
            let jitter = jitter.get().parse::<f64>().ok().filter(|jitter| (0.0..=1.0).contains(jitter));
            Some(jitter.ok_or_else(|| Refused::invalid("`jitter` is a number from 0 to 1"))?)
        }
    };
    options.end()?;
    if jitter.is_some() && kind != 3 {
        return Err(Refused::invalid("`jitter` is for `exponential`"));
    }
    let delay = || first.ok_or_else(|| Refused::invalid("`backoff` has a `delay` in milliseconds"));
    Ok(match kind {
        0 => Backoff::None,
        1 => Backoff::Fixed { ms: delay()? },
        2 => Backoff::Linear { step_ms: delay()?, max_ms: max.unwrap_or(Backoff::MAX_MS) },
        _ => Backoff::Exponential { first_ms: delay()?, max_ms: max.unwrap_or(600_000), jitter: jitter.unwrap_or(0.2) },
    })
}

fn read_headers(text: &str) -> Result<Bytes, Refused> {
    if !text.starts_with('{') || text.len() > MAX_HEADERS {
        return Err(Refused::invalid(format!("`headers` are an object of at most {MAX_HEADERS} bytes")));
    }
    Ok(Bytes::copy_from_slice(text.as_bytes()))
}

/// A time of day by RFC 3339: `"2030-01-02T03:04:05Z"`.
fn time(json: &str, now: Timestamp) -> Result<Timestamp, Refused> {
    let said = serde_json::from_str::<Cow<'_, str>>(json).ok();
    let at = said.and_then(|said| said.parse::<jiff::Timestamp>().ok());
    let at = at.map(|at| u64::try_from(at.as_millisecond()).unwrap_or(0));
    match at {
        Some(at) if at <= now.0.saturating_add(LONGEST) => Ok(Timestamp(at)),
        Some(_) => Err(Refused::invalid("`at` is more than 10 years ahead")),
        None => Err(Refused::invalid("`at` is a time by RFC 3339, such as \"2030-01-02T03:04:05Z\"")),
    }
}

/// A value of the arguments as a payload, and how many binary parts it has. `value` is a slice of the arguments' text.
pub(crate) fn read_value(args: &Args<'_>, value: &str) -> Result<(Bytes, usize), Refused> {
    if args.attachments().is_empty() {
        return Ok((Payload::from_text(value, &[]).into_stored(), 0));
    }
    let only = args.part(value);
    let count = only.attachments().len();
    let payload = Payload::of_args(&only).ok_or_else(|| Refused::invalid("a payload has at most 255 binary parts"))?;
    Ok((payload.into_stored(), count))
}

/// Refuses binary parts where there is no payload: `count` are in payloads.
pub(crate) fn check_parts(args: &Args<'_>, count: usize) -> Result<(), Refused> {
    match args.attachments().len() == count {
        true => Ok(()),
        false => Err(Refused::invalid("only payloads, results and progress may have binary parts")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(options: &str) -> Result<Put, Refused> {
        let defaults = Defaults { now: Timestamp(1_000), durability: Durability::Disk, is_call: false };
        read_put(&QueueName::from("q"), Bytes::from_static(b"1"), Some(options), defaults).map(|(put, _)| put)
    }

    #[test]
    fn options_of_a_put_are_what_they_say() {
        let plain = put("{}").unwrap();
        assert_eq!(plain, Put::new(&"q".into(), Bytes::from_static(b"1"), Durability::Disk));
        assert_eq!(put("null").unwrap(), plain);
        assert_eq!(put(r#"{"delay":500}"#).unwrap().due, Some(Timestamp(1_500)));
        assert_eq!(put(r#"{"at":"1970-01-01T00:00:02.5Z"}"#).unwrap().due, Some(Timestamp(2_500)));
        assert_eq!(put(r#"{"at":"1970-01-01T01:00:02+01:00"}"#).unwrap().due, Some(Timestamp(2_000)));
        assert_eq!(put(r#"{"at":"1969-01-01T00:00:00Z"}"#).unwrap().due, None, "now");
        assert_eq!(put(r#"{"delay":null,"priority":31,"key":"a\u0062"}"#).unwrap().key.as_deref(), Some("ab"));
        let dedup = put(r#"{"dedup":"k","dedup_mode":"replace","dedup_window":5}"#).unwrap().dedup.unwrap();
        assert_eq!((&*dedup.key, dedup.mode, dedup.window_ms), ("k", DedupMode::Replace, Some(5)));
        let all = put(r#"{"ttl":10,"attempts":3,"headers":{"a":[1]},"class":"memory","keep_result":7}"#).unwrap();
        assert_eq!(
            (all.expires, all.attempts, &all.headers[..]),
            (Some(Timestamp(1_010)), Some(3), &br#"{"a":[1]}"#[..])
        );
        assert_eq!((all.durability, all.keep_result_ms), (Durability::Memory, Some(7)));
    }

    #[test]
    fn a_schedule_says_when_and_what() {
        let read = |options: &str| {
            let read = read_schedule(&"q".into(), Bytes::from_static(b"1"), Some(options), Durability::Disk);
            read.map_err(|refused| refused.text().to_owned())
        };
        let (schedule, is_paused) = read(r#"{"cron":"@daily","zone":"Europe/Berlin","ttl":5,"key":"k"}"#).unwrap();
        assert_eq!(schedule.when, When::cron("@daily").in_zone("Europe/Berlin"));
        assert_eq!((schedule.missed, schedule.ttl_ms, is_paused), (Missed::Once, Some(5), None));
        assert_eq!((schedule.put.key.as_deref(), schedule.put.expires), (Some("k"), None));
        let (schedule, is_paused) = read(r#"{"every":60000,"missed":"all","paused":false}"#).unwrap();
        assert_eq!((schedule.when, schedule.missed), (When::Every { ms: 60_000 }, Missed::All { max: 100 }));
        assert_eq!(is_paused, Some(false));
        assert_eq!(read(r#"{"cron":"@daily"}"#).unwrap().0.when, When::cron("@daily"));
        let all = read(r#"{"every":1000,"missed":"all","max_missed":7}"#).unwrap();
        assert_eq!(all.0.missed, Missed::All { max: 7 });
        for (bad, why) in [
            ("{}", "`cron` or `every`"),
            (r#"{"cron":"@daily","every":5000}"#, "`cron` or `every`"),
            (r#"{"every":999}"#, "`every` is a whole number from 1000"),
            (r#"{"every":5000,"zone":"UTC"}"#, "`zone` says something about `cron`"),
            (r#"{"every":5000,"missed":"some"}"#, "`missed` is one of skip, once, all"),
            (r#"{"every":5000,"max_missed":3}"#, "`max_missed` is for"),
            (r#"{"every":5000,"paused":1}"#, "`paused` is true or false"),
            (r#"{"every":5000,"delay":5}"#, "no option `delay`"),
            (r#"{"every":5000,"at":"2030-01-01T00:00:00Z"}"#, "no option `at`"),
            (r#"{"every":5000,"headers":{"schedule":1}}"#, "a `schedule` of their own"),
        ] {
            let said = read(bad).unwrap_err();
            assert!(said.contains(why), "{bad}: {said}");
        }
    }

    #[test]
    fn a_backoff_is_a_time_a_list_or_a_rule() {
        let backoff = |text: &str| put(&format!(r#"{{"backoff":{text}}}"#)).map(|put| *put.backoff.unwrap());
        assert_eq!(backoff("250"), Ok(Backoff::Fixed { ms: 250 }));
        assert_eq!(backoff("\"none\""), Ok(Backoff::None));
        assert_eq!(backoff("[1,2]"), Ok(Backoff::List(vec![1, 2])));
        assert_eq!(backoff(r#"{"kind":"linear","delay":5,"max":9}"#), Ok(Backoff::Linear { step_ms: 5, max_ms: 9 }));
        let exponential = Backoff::Exponential { first_ms: 5, max_ms: 600_000, jitter: 0.5 };
        assert_eq!(backoff(r#"{"kind":"exponential","delay":5,"jitter":0.5}"#), Ok(exponential));
        for bad in
            ["[]", "[-1]", "-1", "1.5", "\"soon\"", "{}", r#"{"kind":"fixed"}"#, r#"{"kind":"fixed","delay":1,"x":1}"#]
        {
            assert_eq!(backoff(bad).unwrap_err().code(), "invalid", "{bad}");
        }
    }

    #[test]
    fn what_is_misspelled_or_out_of_bounds_is_named() {
        for (options, named) in [
            (r#"{"dely":5}"#, "`dely`"),
            (r#"{"timeout":5}"#, "`timeout`"),
            (r#"{"delay":-1}"#, "`delay`"),
            (r#"{"delay":1.5}"#, "`delay`"),
            (r#"{"delay":"1"}"#, "`delay`"),
            (r#"{"delay":1e99}"#, "`delay`"),
            (r#"{"delay":1,"at":"2030-01-01T00:00:00Z"}"#, "`at`"),
            (r#"{"at":"tomorrow"}"#, "`at`"),
            (r#"{"at":5}"#, "`at`"),
            (r#"{"at":"9999-01-01T00:00:00Z"}"#, "`at`"),
            (r#"{"priority":32}"#, "`priority`"),
            (r#"{"key":5}"#, "`key`"),
            (r#"{"dedup_mode":"reject"}"#, "`dedup`"),
            (r#"{"dedup":"k","dedup_mode":"always"}"#, "`dedup_mode`"),
            (r#"{"ttl":0}"#, "`ttl`"),
            (r#"{"attempts":0}"#, "`attempts`"),
            (r#"{"headers":[1]}"#, "`headers`"),
            (r#"{"class":"gold"}"#, "`class`"),
            (r#"{"delay":1,"delay":2}"#, "twice"),
            ("[1]", "object"),
            ("5", "object"),
        ] {
            let refused = put(options).unwrap_err();
            assert_eq!(refused.code(), "invalid", "{options}");
            let told = serde_json::to_string(&refused).unwrap();
            assert!(told.contains(named), "{options}: {told}");
        }
        let long = format!(r#"{{"key":"{}"}}"#, "x".repeat(257));
        assert!(put(&long).is_err());
        assert!(put(&format!(r#"{{"{}":1}}"#, "x".repeat(100_000))).is_err());
    }
}
