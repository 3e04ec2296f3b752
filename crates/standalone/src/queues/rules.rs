//! What clients may do with which queues, and what these allow: values, decided without looking at anything else.
//!
//! The first rule whose pattern matches a queue's name counts. Without one a client may do nothing there.

use posthaste::RoomPattern;
use posthaste::queue::{Config, QueueName, name_is_good};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use crate::rooms::Access;

/// Rules in the order in which they are tried.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(transparent)]
pub(crate) struct Rules(Vec<Rule>);

/// What clients may do with the queues of a pattern: one `[[queue]]` of the configuration.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, try_from = "Written")]
pub(crate) struct Rule {
    pattern: RoomPattern,
    put: Access,
    work: Access,
    manage: Access,
    /// What the queue allows, told to it at each start; only where the pattern is the name of one.
    config: Option<Config>,
}

/// What somebody wants to do with a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Right {
    /// Put messages, and have their results.
    Put,
    /// Take messages, and say what became of them.
    Work,
    /// Everything else: look, pause, purge, configure, remove.
    Manage,
}

impl Right {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Work => "work",
            Self::Manage => "manage",
        }
    }
}

impl Rule {
    fn allows(&self, right: Right) -> bool {
        match right {
            Right::Put => self.put.is_allowed(),
            Right::Work => self.work.is_allowed(),
            Right::Manage => self.manage.is_allowed(),
        }
    }
}

impl Rules {
    /// What holds in `posthaste dev`: everything is open to everyone.
    pub(crate) fn dev() -> Self {
        let pattern = RoomPattern::parse("*").expect("invariant: written here");
        let (put, work, manage) = (Access::Anyone, Access::Anyone, Access::Anyone);
        Self(vec![Rule { pattern, put, work, manage, config: None }])
    }

    /// Whether something is allowed with a queue.
    pub(crate) fn allow(&self, right: Right, queue: &str) -> bool {
        self.0.iter().find(|rule| rule.pattern.matches(queue).is_some()).is_some_and(|rule| rule.allows(right))
    }

    /// Whether something is allowed with every queue there may be.
    pub(crate) fn allow_everywhere(&self, right: Right) -> bool {
        let last = self.0.iter().position(|rule| rule.pattern.as_str() == "*");
        last.is_some_and(|last| self.0.iter().take(last + 1).all(|rule| rule.allows(right)))
    }

    /// Whether something is allowed with any queue at all.
    pub(crate) fn allow_somewhere(&self, right: Right) -> bool {
        self.0.iter().any(|rule| rule.allows(right))
    }

    /// Queues that are told what they allow.
    pub(crate) fn configured(&self) -> impl Iterator<Item = (QueueName, &Config)> {
        self.0.iter().filter_map(|rule| Some((rule.pattern.as_str().into(), rule.config.as_ref()?)))
    }
}

/// A rule as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(rename = "match", deserialize_with = "pattern")]
    pattern: RoomPattern,
    #[serde(default)]
    put: Access,
    #[serde(default)]
    work: Access,
    #[serde(default)]
    manage: Access,
    #[serde(default)]
    config: Option<Config>,
}

impl TryFrom<Written> for Rule {
    type Error = String;

    fn try_from(it: Written) -> Result<Self, String> {
        let Written { pattern, put, work, manage, config } = it;
        let text = pattern.as_str();
        if config.is_some() && !name_is_good(text) {
            return Err(format!("`config` is for one queue, and {text:?} is no name of one"));
        }
        config.as_ref().map_or(Ok(()), Config::check).map_err(|refusal| refusal.to_string())?;
        Ok(Self { pattern, put, work, manage, config })
    }
}

fn pattern<'de, D: Deserializer<'de>>(deserializer: D) -> Result<RoomPattern, D::Error> {
    RoomPattern::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn rules(text: &str) -> Rules {
        config::Config::parse(text).unwrap().queues
    }

    fn refusal(text: &str) -> String {
        config::Config::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn the_first_rule_that_matches_counts_and_without_one_nothing_is_allowed() {
        let rules = rules(
            "[[queue]]\nmatch = 'mail:staff'\n[[queue]]\nmatch = 'mail:*'\nput = 'anyone'\n[[queue]]\nmatch = 'images'\nwork = 'anyone'\nmanage = 'anyone'",
        );
        let allowed = |queue: &str| [Right::Put, Right::Work, Right::Manage].map(|right| rules.allow(right, queue));
        assert_eq!(allowed("mail:staff"), [false; 3]);
        assert_eq!(allowed("mail:x"), [true, false, false]);
        assert_eq!(allowed("images"), [false, true, true]);
        assert_eq!(allowed("other"), [false; 3]);
        assert!(!rules.allow_everywhere(Right::Put) && rules.allow_somewhere(Right::Put));
        assert!(Rules::dev().allow_everywhere(Right::Manage) && Rules::dev().allow(Right::Work, "any:thing/at.all"));
        assert!(!Rules::default().allow_somewhere(Right::Put));
    }

    #[test]
    fn everywhere_is_what_no_rule_before_the_last_takes_away() {
        let all = "[[queue]]\nmatch = '*'\nput = 'anyone'\nwork = 'anyone'";
        let rules = rules(&format!("[[queue]]\nmatch = 'a'\nput = 'anyone'\n{all}"));
        assert!(rules.allow_everywhere(Right::Put) && !rules.allow_everywhere(Right::Work));
    }

    #[test]
    fn a_queue_is_told_what_it_allows() {
        let rules = rules(
            "[[queue]]\nmatch = 'mail'\n[queue.config]\nattempts = 3\nbackoff = { fixed = { ms = 5 } }\n[[queue]]\nmatch = 'x:*'",
        );
        let all: Vec<_> = rules.configured().collect();
        assert_eq!(all.len(), 1);
        assert_eq!((&*all[0].0, all[0].1.attempts), ("mail", 3));
        assert_eq!(all[0].1.lease_ms, Config::default().lease_ms);
        let said = refusal("[[queue]]\nmatch = 'mail'\n[queue.config]\natempts = 3");
        assert!(said.contains("line 4") && said.ends_with("did you mean `attempts`?"), "{said}");
        assert!(refusal("[[queue]]\nmatch = 'a:*'\n[queue.config]\nattempts = 3").contains("is for one queue"));
        assert!(refusal("[[queue]]\nmatch = 'a'\nput = 'authenticated'").contains("needs to know who a client is"));
    }
}
