//! What clients may do in which rooms: values, decided without looking at anything else.
//!
//! The first rule whose pattern matches a room's name counts. Without one a client may do nothing there.

use std::collections::BTreeSet;

use posthaste::store::{Durability, Retention};
use posthaste::{RoomPattern, RoomPolicy};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use crate::config::{ByteSize, Span};

/// Rules in the order in which they are tried.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(crate) struct Rules(Vec<Rule>);

/// What clients may do in the rooms of a pattern: one `[[room]]` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, try_from = "Written")]
pub(crate) struct Rule {
    pub(crate) pattern: RoomPattern,
    pub(crate) join: Access,
    pub(crate) emit: Access,
    pub(crate) history: Access,
    /// Whether members are told who else is there, comes and goes.
    pub(crate) presence: bool,
    /// How what is emitted is kept; `None`: not at all.
    pub(crate) durable: Option<RoomPolicy>,
    /// Events that are not kept, and not sent to members that cannot take them at once.
    pub(crate) volatile: BTreeSet<String>,
}

/// Who may do something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Access {
    #[default]
    Deny,
    Anyone,
}

impl Access {
    /// Those that ask who a client is.
    const OF_IDENTITIES: [&str; 4] = ["authenticated", "self", "token", "webhook"];

    pub(crate) fn is_allowed(self) -> bool {
        self == Self::Anyone
    }
}

impl Rules {
    /// What holds in `posthaste dev`: `demo` and `demo:…` are open to everyone, and what is said there is kept.
    pub(crate) fn dev() -> Self {
        let open = |pattern| Rule {
            pattern: RoomPattern::parse(pattern).expect("invariant: written here"),
            join: Access::Anyone,
            emit: Access::Anyone,
            history: Access::Anyone,
            presence: true,
            durable: Some(Retention { max_age_ms: u64::MAX, ..Retention::ROOM }.into()),
            volatile: BTreeSet::from(["typing".to_owned()]),
        };
        Self(vec![open("demo"), open("demo:*")])
    }

    /// The rule that decides about a room.
    pub(crate) fn of(&self, room: &str) -> Option<&Rule> {
        self.0.iter().find(|rule| rule.pattern.matches(room).is_some())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.0.iter()
    }
}

/// A rule as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(rename = "match", deserialize_with = "pattern")]
    pattern: RoomPattern,
    #[serde(default)]
    join: Access,
    #[serde(default)]
    emit: Access,
    #[serde(default)]
    history: Access,
    #[serde(default)]
    presence: bool,
    #[serde(default)]
    durable: Durable,
    #[serde(default)]
    volatile: BTreeSet<String>,
}

impl TryFrom<Written> for Rule {
    type Error = String;

    fn try_from(it: Written) -> Result<Self, String> {
        let Written { pattern, join, emit, history, presence, durable: Durable(durable), volatile } = it;
        if durable.is_none() && history.is_allowed() {
            return Err(format!("rooms {pattern:?} have no history without `durable`", pattern = pattern.as_str()));
        }
        Ok(Self { pattern, join, emit, history, presence, durable, volatile })
    }
}

fn pattern<'de, D: Deserializer<'de>>(deserializer: D) -> Result<RoomPattern, D::Error> {
    RoomPattern::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

impl<'de> Deserialize<'de> for Access {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "deny" => Ok(Self::Deny),
            "anyone" => Ok(Self::Anyone),
            other if Self::OF_IDENTITIES.contains(&other) => Err(D::Error::custom(format_args!(
                "`{other}` needs to know who a client is, and this version asks nobody: write \"deny\" or \"anyone\""
            ))),
            other => Err(D::Error::unknown_variant(other, &["deny", "anyone"])),
        }
    }
}

/// `true`, `false` or how.
#[derive(Default)]
struct Durable(Option<RoomPolicy>);

/// How much is kept of a room; what is left out is as with `durable = true`.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Kept {
    max_age: Option<Span>,
    max_messages: Option<u64>,
    max_bytes: Option<ByteSize>,
    class: Option<Class>,
}

/// What an event survives before it is sent.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Class {
    Memory,
    Os,
    Disk,
}

impl<'de> Deserialize<'de> for Durable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Durable;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("true, false or { max_age, max_messages, max_bytes, class }")
            }

            fn visit_bool<E>(self, is_durable: bool) -> Result<Durable, E> {
                Ok(Durable(is_durable.then(RoomPolicy::default)))
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Durable, A::Error> {
                let kept = Kept::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                let mut retention = Retention::ROOM;
                if let Some(Span(age)) = kept.max_age {
                    retention.max_age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
                }
                retention.max_messages = kept.max_messages.unwrap_or(retention.max_messages);
                retention.max_bytes = kept.max_bytes.map_or(retention.max_bytes, |ByteSize(bytes)| bytes);
                if retention.max_age_ms == 0 || retention.max_messages == 0 || retention.max_bytes == 0 {
                    return Err(A::Error::custom("a room that keeps nothing is written `durable = false`"));
                }
                let durability = kept.class.map(|class| match class {
                    Class::Memory => Durability::Memory,
                    Class::Os => Durability::Os,
                    Class::Disk => Durability::Disk,
                });
                Ok(Durable(Some(RoomPolicy { retention, durability })))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn rules(text: &str) -> Rules {
        Config::parse(text).unwrap().rooms
    }

    fn refusal(text: &str) -> String {
        Config::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn the_first_rule_that_matches_counts_and_without_one_nothing_is_allowed() {
        let rules = rules(
            "[[room]]\nmatch = 'chat:staff'\n[[room]]\nmatch = 'chat:{id}'\njoin = 'anyone'\nemit = 'anyone'\n[[room]]\nmatch = 'chat:*'\nhistory = 'anyone'\ndurable = true",
        );
        let allowed =
            |room: &str| rules.of(room).map(|it| (it.join.is_allowed(), it.emit.is_allowed(), it.history.is_allowed()));
        assert_eq!(allowed("chat:staff"), Some((false, false, false)));
        assert_eq!(allowed("chat:7"), Some((true, true, false)));
        assert_eq!(allowed("chat:7:8"), Some((false, false, true)));
        assert_eq!(allowed("other"), None);
    }

    #[test]
    fn what_is_kept_of_a_room_has_bounds_and_those_left_out_are_the_usual_ones() {
        let durable = |text: &str| {
            rules(&format!("[[room]]\nmatch = 'a'\ndurable = {text}")).of("a").and_then(|rule| rule.durable)
        };
        assert_eq!(durable("false"), None);
        assert_eq!(durable("true"), Some(RoomPolicy::default()));
        assert_eq!(durable("{}"), Some(Retention::ROOM.into()));
        assert_eq!(
            durable("{ max_age = '7d', max_messages = 100_000, max_bytes = '64KiB' }"),
            Some(
                Retention {
                    max_age_ms: 7 * 86_400_000,
                    max_messages: 100_000,
                    max_bytes: 64 << 10,
                    until_passed: false
                }
                .into()
            )
        );
        let os = RoomPolicy { durability: Some(Durability::Os), ..RoomPolicy::default() };
        assert_eq!(durable("{ class = 'os' }"), Some(os));
        assert_eq!(durable("{ max_messages = 5 }"), Some(Retention { max_messages: 5, ..Retention::ROOM }.into()));
    }

    #[test]
    fn rules_that_cannot_be_kept_are_refused_with_the_reason() {
        for word in Access::OF_IDENTITIES {
            let said = refusal(&format!("[[room]]\nmatch = 'a'\njoin = '{word}'"));
            assert!(said.contains(&format!("`{word}` needs to know who a client is")), "{said}");
        }
        for (text, reason) in [
            ("history = 'anyone'", "have no history without `durable`"),
            ("durable = { max_messages = 0 }", "written `durable = false`"),
            ("durable = 'yes'", "expected true, false or { max_age, max_messages, max_bytes, class }"),
            ("durable = { max_age = 'week' }", "7d"),
            ("durable = { class = 'fast' }", "expected one of `memory`, `os`, `disk`"),
        ] {
            let said = refusal(&format!("[[room]]\nmatch = 'a'\n{text}"));
            assert!(said.contains(reason), "{said}");
        }
        assert!(refusal("[[room]]\njoin = 'anyone'").contains("missing field `match`"));
        assert!(refusal("[[room]]\nmatch = 'a*b'").contains("in `a*b` something comes after"));
    }

    #[test]
    fn dev_opens_the_demo_rooms_alone() {
        let rules = Rules::dev();
        for room in ["demo", "demo:", "demo:a:b"] {
            assert!(rules.of(room).is_some_and(|rule| rule.join.is_allowed() && rule.durable.is_some()), "{room}");
        }
        for room in ["", "demos", "private"] {
            assert_eq!(rules.of(room), None, "{room}");
        }
    }
}
