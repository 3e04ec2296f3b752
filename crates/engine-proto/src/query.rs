//! The query string of a request, read into enums: nothing behind this file ever sees a raw parameter.

use std::borrow::Cow;

use crate::Sid;
use crate::handshake::Transport;
use crate::jsonp::Jsonp;

/// The protocol revision a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Revision {
    /// `EIO` is anything but `4`, or absent: Socket.IO 1 and 2 clients.
    V3,
    /// `EIO=4`: Socket.IO 3 and 4 clients.
    V4,
}

/// The `transport` parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransportParam {
    /// A transport that HTTP requests may name.
    Known(Transport),
    /// Missing, repeated or any other text (`webtransport` included: it never comes by HTTP).
    Unknown,
}

/// The `sid` parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SidParam {
    /// None, or an empty one: a handshake.
    Absent,
    /// Well formed.
    Sid(Sid),
    /// Not an id that this server could have given out.
    Invalid,
}

/// What a request says about itself in its query string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// `EIO`.
    pub revision: Revision,
    /// `transport`.
    pub transport: TransportParam,
    /// `sid`.
    pub sid: SidParam,
    /// `b64`: the client cannot take binary; bytes go out as `b` and base64 in text frames.
    pub base64: bool,
    /// `j`: the client polls by scripts and forms.
    pub jsonp: Option<Jsonp>,
}

/// How often a parameter came; more than once is never what an honest client sends.
#[derive(Default)]
enum Field<'a> {
    #[default]
    Absent,
    One(Cow<'a, str>),
    Repeated,
}

impl<'a> Field<'a> {
    fn add(&mut self, value: Cow<'a, str>) {
        *self = match self {
            Self::Absent => Self::One(value),
            Self::One(_) | Self::Repeated => Self::Repeated,
        };
    }
}

/// The parameters that matter.
#[derive(Default)]
struct Fields<'a> {
    revision: Field<'a>,
    transport: Field<'a>,
    sid: Field<'a>,
    base64: bool,
    jsonp: Option<Jsonp>,
}

impl<'a> Fields<'a> {
    fn add(&mut self, name: &str, value: Cow<'a, str>) {
        match name {
            "EIO" => self.revision.add(value),
            "transport" => self.transport.add(value),
            "sid" => self.sid.add(value),
            "b64" => self.base64 = !value.is_empty(),
            "j" => self.jsonp = Some(Jsonp::parse(&value)),
            _ => {}
        }
    }
}

impl Query {
    /// Reads the part of a URL behind `?` (percent-encoded, `&`-separated). Never fails: what cannot be understood becomes the
    /// variant that is refused later, with its own code.
    ///
    /// Source: Engine.IO protocol v4, "Handshake"; repeated parameters count as unknown.
    ///
    /// ```
    /// use posthaste_engine_proto::{Query, Revision, SidParam, Transport, TransportParam};
    /// let query = Query::parse("EIO=4&transport=polling&t=abc");
    /// assert_eq!(query.revision, Revision::V4);
    /// assert_eq!(query.transport, TransportParam::Known(Transport::Polling));
    /// assert_eq!(query.sid, SidParam::Absent);
    /// ```
    #[must_use]
    pub fn parse(query: &str) -> Self {
        let mut fields = Fields::default();
        if query.contains(['%', '+']) {
            form_urlencoded::parse(query.as_bytes()).for_each(|(name, value)| fields.add(&name, value));
        } else {
            // Nothing is encoded, which official clients never do: the same, without a look at each byte.
            for pair in query.split('&').filter(|pair| !pair.is_empty()) {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                fields.add(name, Cow::Borrowed(value));
            }
        }
        let Fields { revision, transport, sid, base64, jsonp } = fields;
        Self {
            revision: match revision {
                Field::One(value) if value == "4" => Revision::V4,
                _ => Revision::V3,
            },
            transport: match transport {
                Field::One(value) if value == "polling" => TransportParam::Known(Transport::Polling),
                Field::One(value) if value == "websocket" => TransportParam::Known(Transport::WebSocket),
                _ => TransportParam::Unknown,
            },
            sid: match sid {
                Field::Absent => SidParam::Absent,
                Field::One(value) if value.is_empty() => SidParam::Absent,
                Field::One(value) => Sid::parse(&value).map_or(SidParam::Invalid, SidParam::Sid),
                Field::Repeated => SidParam::Invalid,
            },
            base64,
            jsonp,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sec_07_odd_queries_become_variants_that_are_refused() {
        use Transport::{Polling, WebSocket};
        let known = TransportParam::Known;
        for (query, revision, transport) in [
            ("EIO=4&transport=polling", Revision::V4, known(Polling)),
            ("transport=websocket&EIO=4", Revision::V4, known(WebSocket)),
            ("EIO=4&transport=p%6Flling", Revision::V4, known(Polling)),
            ("", Revision::V3, TransportParam::Unknown),
            ("EIO=3&transport=polling", Revision::V3, known(Polling)),
            ("EIO=&transport=polling", Revision::V3, known(Polling)),
            ("EIO=44&transport=polling", Revision::V3, known(Polling)),
            ("EIO=4&EIO=4&transport=polling", Revision::V3, known(Polling)),
            ("EIO[]=4&transport=polling", Revision::V3, known(Polling)),
            ("EIO=4&transport=polling&transport=polling", Revision::V4, TransportParam::Unknown),
            ("EIO=4&transport=__proto__", Revision::V4, TransportParam::Unknown),
            ("EIO=4&transport=constructor", Revision::V4, TransportParam::Unknown),
            ("EIO=4&transport=webtransport", Revision::V4, TransportParam::Unknown),
            ("EIO=4&transport=Polling", Revision::V4, TransportParam::Unknown),
            ("EIO=4&transport=", Revision::V4, TransportParam::Unknown),
            ("EIO=4&transport", Revision::V4, TransportParam::Unknown),
            ("EIO=4&transport=%ff%fe", Revision::V4, TransportParam::Unknown),
        ] {
            let read = Query::parse(query);
            assert_eq!((read.revision, read.transport), (revision, transport), "{query}");
        }
    }

    #[test]
    fn a_sid_is_absent_well_formed_or_invalid() {
        let sid = Sid::from_bytes([9; 15]);
        for (query, expected) in [
            ("x=1".to_owned(), SidParam::Absent),
            ("sid=".to_owned(), SidParam::Absent),
            (format!("sid={sid}"), SidParam::Sid(sid)),
            (format!("sid={sid}&sid={sid}"), SidParam::Invalid),
            ("sid=abc".to_owned(), SidParam::Invalid),
            ("sid=../../etc/passwd".to_owned(), SidParam::Invalid),
        ] {
            assert_eq!(Query::parse(&query).sid, expected, "{query}");
        }
    }

    proptest! {
        #[test]
        fn no_query_makes_parsing_panic(query in ".{0,200}") {
            let _ = Query::parse(&query);
        }

        #[test]
        fn both_ways_of_reading_agree(parts in proptest::collection::vec("(EIO|transport|sid|b64|j|t)?=?(4|polling|websocket|[A-Za-z0-9_=-]{0,20})", 0..6)) {
            let query = parts.join("&");
            prop_assert_eq!(Query::parse(&query), Query::parse(&format!("{query}&other=%20")));
        }
    }
}
