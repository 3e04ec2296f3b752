//! Which rooms are durable.

use posthaste_history::store::{Durability, Retention};

/// A pattern of room names: `chat`, `chat:*`, `chat:{id}`.
///
/// `*` at its end matches any rest, the empty one too; `{name}` matches one or more characters up to the next one of the pattern, but no
/// colon: who opens `chat:{id}` has not opened `chat:7:staff`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomPattern {
    text: Box<str>,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    Open(Box<str>),
    Rest,
}

/// Why a pattern of rooms is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RoomPatternError {
    /// Nothing matches the empty pattern.
    #[error("a pattern of rooms is not empty")]
    Empty,
    /// `*` stands for the rest.
    #[error("in `{0}` something comes after `*`, which stands for the rest")]
    AfterRest(String),
    /// `{` or `}` without the other, or nothing between them.
    #[error("in `{0}` an open part is not written `{{name}}`")]
    Braces(String),
    /// Nobody could tell where the first ends.
    #[error("in `{0}` two open parts follow each other")]
    Adjacent(String),
}

impl RoomPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// [`RoomPatternError`].
    pub fn parse(text: &str) -> Result<Self, RoomPatternError> {
        let error = |make: fn(String) -> RoomPatternError| Err(make(text.to_owned()));
        let (mut parts, mut rest) = (Vec::new(), text);
        if rest.is_empty() {
            return Err(RoomPatternError::Empty);
        }
        while !rest.is_empty() {
            let next = rest.find(['{', '}', '*']).unwrap_or(rest.len());
            if next > 0 {
                parts.push(Part::Text(rest[..next].into()));
                rest = &rest[next..];
            } else if let Some(after) = rest.strip_prefix('*') {
                if !after.is_empty() {
                    return error(RoomPatternError::AfterRest);
                }
                if matches!(parts.last(), Some(Part::Open(_))) {
                    return error(RoomPatternError::Adjacent);
                }
                parts.push(Part::Rest);
                rest = after;
            } else {
                let open = rest.strip_prefix('{').and_then(|open| open.split_once('}'));
                let Some((name, after)) = open.filter(|(name, _)| !name.is_empty() && !name.contains(['{', '*']))
                else {
                    return error(RoomPatternError::Braces);
                };
                if matches!(parts.last(), Some(Part::Open(_))) {
                    return error(RoomPatternError::Adjacent);
                }
                parts.push(Part::Open(name.into()));
                rest = after;
            }
        }
        Ok(Self { text: text.into(), parts })
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What a room's name has for the open parts, by name and in order; `None` if it does not match.
    #[must_use]
    pub fn matches<'a, 'b>(&'a self, room: &'b str) -> Option<Vec<(&'a str, &'b str)>> {
        let (mut values, mut rest) = (Vec::new(), room);
        let mut parts = self.parts.iter().peekable();
        while let Some(part) = parts.next() {
            match part {
                Part::Text(text) => rest = rest.strip_prefix(&**text)?,
                Part::Rest => return Some(values),
                Part::Open(name) => {
                    let end = match parts.peek() {
                        // The first place where the pattern can go on; there is at least one character before it.
                        Some(Part::Text(text)) => {
                            let first = rest.chars().next()?.len_utf8();
                            first + rest[first..].find(&**text)?
                        }
                        _ => rest.len(),
                    };
                    (end > 0 && !rest[..end].contains(':')).then_some(())?;
                    values.push((&**name, &rest[..end]));
                    rest = &rest[end..];
                }
            }
        }
        rest.is_empty().then_some(values)
    }
}

/// How durable rooms are kept: [`Server::durable_rooms`](crate::Server::durable_rooms). A [`Retention`] alone keeps so much, as durably as
/// [`Durable::durability`](crate::Durable::durability) says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoomPolicy {
    /// How much.
    pub retention: Retention,
    /// What has to be reached before an event is sent; by default what holds for the server, and never more than that.
    pub durability: Option<Durability>,
}

impl From<Retention> for RoomPolicy {
    fn from(retention: Retention) -> Self {
        Self { retention, durability: None }
    }
}

/// A rule: rooms that match are kept so.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) pattern: RoomPattern,
    pub(crate) policy: RoomPolicy,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_what_they_say() {
        let matches = |pattern: &str, room: &str| {
            let pattern = RoomPattern::parse(pattern).unwrap();
            pattern.matches(room).map(|values| {
                values.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",")
            })
        };
        let yes = |text: &str| Some(String::from(text));
        assert_eq!(matches("demo", "demo"), yes(""));
        assert_eq!(matches("demo", "demo:"), None);
        assert_eq!(matches("demo:*", "demo:"), yes(""));
        assert_eq!(matches("demo:*", "demo:a:b"), yes(""));
        assert_eq!(matches("demo:*", "demo"), None);
        assert_eq!(matches("*", ""), yes(""));
        assert_eq!(matches("chat:{id}", "chat:7"), yes("id=7"));
        assert_eq!(matches("chat:{id}", "chat:"), None);
        assert_eq!(matches("chat:{id}", "chat:7:staff"), None);
        assert_eq!(matches("{a}:{b}", "x:y"), yes("a=x,b=y"));
        assert_eq!(matches("{a}:{b}", "x:y:z"), None);
        assert_eq!(matches("{a}:{b}", "::z"), None);
        assert_eq!(matches("order-{id}-eu", "order-1-eu"), yes("id=1"));
        assert_eq!(matches("user:{user}:*", "user:é:inbox"), yes("user=é"));
        assert_eq!(matches("user:{user}:*", "user:é"), None);
    }

    #[test]
    fn what_is_no_pattern_says_why() {
        use RoomPatternError::{Adjacent, AfterRest, Braces, Empty};
        let why = |pattern: &str| RoomPattern::parse(pattern).unwrap_err();
        assert_eq!(why(""), Empty);
        assert_eq!(why("a*b"), AfterRest("a*b".into()));
        for text in ["{", "}", "{}", "a{b", "a}b", "{a{b}}", "{*}"] {
            assert_eq!(why(text), Braces(text.into()));
        }
        for text in ["{a}{b}", "{a}*"] {
            assert_eq!(why(text), Adjacent(text.into()));
        }
    }
}
