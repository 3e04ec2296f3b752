//! What clients are answered: one object, `{ok: true, …}` or `{ok: false, code, message}`.

use std::borrow::Cow;
use std::sync::Arc;

use posthaste::{Ack, Answer, IntoAnswer};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::rooms::event::Event;

/// Why something was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// No rule allows it.
    Forbidden,
    /// The arguments are not what the verb takes.
    Invalid,
    /// Only for who is in the room.
    NotMember,
    /// Past a bound on how many.
    TooMany,
    /// The room keeps nothing.
    NotDurable,
    /// What keeps things has no room for more.
    StorageFull,
    /// What keeps things is behind: try again.
    Busy,
    /// What keeps things does not work.
    Unavailable,
}

impl Code {
    /// A word that programs can rely on.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Forbidden => "forbidden",
            Self::Invalid => "invalid",
            Self::NotMember => "not_member",
            Self::TooMany => "too_many",
            Self::NotDurable => "not_durable",
            Self::StorageFull => "storage_full",
            Self::Busy => "busy",
            Self::Unavailable => "unavailable",
        }
    }

    /// Whether asking again may be answered otherwise, although nothing else is asked.
    const fn passes(self) -> bool {
        matches!(self, Self::StorageFull | Self::Busy | Self::Unavailable)
    }
}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: Code,
    pub(crate) message: Cow<'static, str>,
}

impl Refusal {
    pub(crate) fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into() }
    }
}

impl Serialize for Refusal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Form<'a> {
            ok: bool,
            code: &'static str,
            message: &'a str,
        }
        Form { ok: false, code: self.code.as_str(), message: &self.message }.serialize(serializer)
    }
}

/// What was asked for, or why not.
#[derive(Debug)]
pub(crate) struct Reply<T>(pub(crate) Result<T, Refusal>);

impl<T: Serialize> Serialize for Reply<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Form<'a, T> {
            ok: bool,
            #[serde(flatten)]
            rest: &'a T,
        }
        match &self.0 {
            Ok(rest) => Form { ok: true, rest }.serialize(serializer),
            Err(refusal) => refusal.serialize(serializer),
        }
    }
}

impl<T: Serialize> IntoAnswer for Reply<T> {
    /// What passes does not use up the key it was asked with.
    fn answer(self, ack: Option<Ack>) {
        match (ack, &self.0) {
            (Some(ack), Err(refusal)) if refusal.code.passes() => drop(ack.send_for_now(&self)),
            (ack, _) => Answer(self).answer(ack),
        }
    }
}

/// Nothing but that it was done.
#[derive(Debug, Serialize)]
pub(crate) struct Done {}

/// One is in the room.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Joined {
    /// Where a durable room is: everything behind it is sent live.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) offset: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) members: Option<Vec<Member>>,
    /// What was asked for of the room's history, in order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) history: Option<Vec<Event>>,
    /// Whether that is everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) complete: Option<bool>,
    /// Whether something that was asked for is forgotten, or may be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) gap: Option<bool>,
}

/// An event was taken.
#[derive(Debug, Serialize)]
pub(crate) struct Emitted {
    /// Where it is; for what is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) offset: Option<String>,
    /// What it survives: `memory`, `os` or `disk`.
    pub(crate) class: String,
    /// It was there before, under the same key.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) dup: bool,
}

/// Who is in a room.
#[derive(Debug, Serialize)]
pub(crate) struct Present {
    pub(crate) members: Vec<Member>,
}

/// Someone in a room.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Member {
    pub(crate) id: String,
    /// What it says of itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) info: Option<Arc<RawValue>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_have_one_shape() {
        assert_eq!(serde_json::to_string(&Reply(Ok(Done {}))).unwrap(), r#"{"ok":true}"#);
        let emitted = Emitted { offset: Some("~x".into()), class: "disk".into(), dup: false };
        assert_eq!(serde_json::to_string(&Reply(Ok(emitted))).unwrap(), r#"{"ok":true,"offset":"~x","class":"disk"}"#);
        let refused = Reply::<Done>(Err(Refusal::new(Code::NotMember, "no")));
        assert_eq!(serde_json::to_string(&refused).unwrap(), r#"{"ok":false,"code":"not_member","message":"no"}"#);
    }
}
