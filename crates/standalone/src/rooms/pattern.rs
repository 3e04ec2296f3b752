//! Names of rooms by pattern.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _};

/// The longest pattern, in bytes.
const MAX_BYTES: usize = 512;

/// Which rooms a rule is about: `demo`, `demo:*`, `chat:{id}`.
///
/// Colons part a name. `{id}` stands for at least one character other than a colon, and a part may have one; `*`, at the end
/// alone, stands for whatever follows, colons too and also nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    text: String,
    parts: Vec<Part>,
    /// What the rest begins with, where the pattern ends in `*`.
    rest: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    /// What is before the open part and what is behind it.
    Open {
        before: String,
        behind: String,
    },
}

/// Why a pattern is none.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PatternError {
    #[error("a pattern has 1 to {MAX_BYTES} bytes")]
    Length,
    #[error("`*` stands at the end of a pattern alone")]
    Star,
    #[error(
        "an open part is written {{name}}, with letters, digits and _, and there is one between two colons at most"
    )]
    Open,
}

impl Pattern {
    pub(crate) fn parse(text: &str) -> Result<Self, PatternError> {
        if text.is_empty() || text.len() > MAX_BYTES {
            return Err(PatternError::Length);
        }
        let (named, is_open_ended) = match text.strip_suffix('*') {
            Some(named) => (named, true),
            None => (text, false),
        };
        if named.contains('*') {
            return Err(PatternError::Star);
        }
        let mut parts = named.split(':').map(Part::parse).collect::<Result<Vec<_>, _>>()?;
        let rest = match is_open_ended.then(|| parts.pop()).flatten() {
            Some(Part::Literal(rest)) => Some(rest),
            // Where `{id}` ends and `*` begins nobody could say.
            Some(Part::Open { .. }) => return Err(PatternError::Star),
            None => None,
        };
        Ok(Self { text: text.to_owned(), parts, rest })
    }

    pub(crate) fn matches(&self, room: &str) -> bool {
        let mut name = Some(room);
        for part in &self.parts {
            let Some(text) = name else { return false };
            let here = match text.split_once(':') {
                Some((here, behind)) => {
                    name = Some(behind);
                    here
                }
                None => {
                    name = None;
                    text
                }
            };
            if !part.matches(here) {
                return false;
            }
        }
        match (&self.rest, name) {
            (Some(rest), Some(text)) => text.starts_with(rest.as_str()),
            (None, None) => true,
            _ => false,
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }
}

impl Part {
    fn parse(text: &str) -> Result<Self, PatternError> {
        let Some((before, rest)) = text.split_once('{') else {
            return if text.contains('}') { Err(PatternError::Open) } else { Ok(Self::Literal(text.to_owned())) };
        };
        let (name, behind) = rest.split_once('}').ok_or(PatternError::Open)?;
        let is_name = !name.is_empty() && name.chars().all(|it| it.is_ascii_alphanumeric() || it == '_');
        if !is_name || before.contains('}') || behind.contains(['{', '}']) {
            return Err(PatternError::Open);
        }
        Ok(Self::Open { before: before.to_owned(), behind: behind.to_owned() })
    }

    fn matches(&self, text: &str) -> bool {
        match self {
            Self::Literal(literal) => text == literal,
            Self::Open { before, behind } => {
                text.len() > before.len() + behind.len()
                    && text.starts_with(before.as_str())
                    && text.ends_with(behind.as_str())
            }
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, matching, others) in [
            ("demo", &["demo"][..], &["", "demo:", "demos", "Demo", "a:demo"][..]),
            ("demo:*", &["demo:", "demo:a", "demo:a:b", "demo::"], &["demo", "demos", "xdemo:a"]),
            ("chat:{id}", &["chat:7", "chat:{id}", "chat:ä"], &["chat:", "chat", "chat:7:x", "chats:7", ":chat:7"]),
            ("user:{user}:inbox", &["user:7:inbox"], &["user::inbox", "user:7", "user:7:8:inbox", "user:7:inbox:"]),
            ("order-{id}-eu", &["order-1-eu", "order--1--eu"], &["order--eu", "order-1", "order-1:2-eu"]),
            ("{a}:{b}", &["1:2"], &["1", "1:", ":2", "1:2:3"]),
            ("*", &["", "a", "a:b"], &[]),
            ("pub*", &["pub", "public", "pub:a"], &["pu", "a:pub"]),
            ("team:{id}:*", &["team:1:", "team:1:a:b"], &["team:1", "team::a"]),
        ] {
            let pattern = Pattern::parse(pattern).unwrap();
            for name in matching {
                assert!(pattern.matches(name), "{pattern} {name}");
            }
            for name in others {
                assert!(!pattern.matches(name), "{pattern} {name}");
            }
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        use PatternError::{Length, Open, Star};
        for (text, error) in [
            ("", Length),
            ("a*b", Star),
            ("**", Star),
            ("chat:{id}*", Star),
            ("{}", Open),
            ("{a", Open),
            ("a}", Open),
            ("}a{b}", Open),
            ("{a}{b}", Open),
            ("{a b}", Open),
            ("{a:b}", Open),
        ] {
            assert_eq!(Pattern::parse(text), Err(error), "{text}");
        }
        assert_eq!(Pattern::parse(&"x".repeat(MAX_BYTES + 1)), Err(Length));
    }
}
