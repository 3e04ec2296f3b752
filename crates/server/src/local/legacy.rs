//! Clients of Socket.IO 1 and 2, over revision 3 of Engine.IO: what joining is to them.
//!
//! They are in the main namespace without asking, say what they want of another in the query of its name, know themselves by the id
//! of their connection, and are refused with a bare value.
//!
//! Source: `socket.io` 4.8, `client.ts` and `namespace.ts`, where `conn.protocol` is 3.

use std::borrow::Cow;

use posthaste_adapter::SocketId;
use posthaste_engine::{ConnectionId, Request, Revision};
use posthaste_socket_proto::{Packet, encode_legacy_connect_error};
use serde_json::{Map, Value};

use super::Local;
use crate::encode::with_plain_packet;
use crate::error::ConnectError;
use crate::how::How;

impl Local {
    /// The revision of a client's request, where there may be two.
    pub(super) fn revision_of(&self, request: &Request) -> Revision {
        if self.allows_eio3 { request.revision() } else { Revision::V4 }
    }

    pub(super) fn is_legacy(&self, id: ConnectionId) -> bool {
        self.allows_eio3 && self.with_client(id, |client| client.request.revision()) == Some(Revision::V3)
    }

    /// A client has come that is in the main namespace without asking.
    pub(super) fn join_main(&self, id: ConnectionId) {
        self.message(id, |connection, now, limits| connection.receive_text("0", now, limits));
    }

    /// The id of a new socket of such a client, whose namespace is not part of it here: [`SocketId::in_namespace`] adds it.
    pub(super) fn legacy_id(&self, id: ConnectionId) -> Option<SocketId> {
        self.worker.sid(id).map(|sid| SocketId::from_bytes(*sid.as_bytes()))
    }

    pub(super) fn send_legacy_refusal(&self, id: ConnectionId, name: &str, refusal: &ConnectError) {
        with_plain_packet(
            |out| encode_legacy_connect_error(out, name, refusal.message(), refusal.data()),
            |frames| self.send(id, frames, How::USUAL),
        );
    }
}

/// What a client wants in a text message: in its wish to join a namespace the query of the name becomes its credentials.
pub(super) fn modern(text: &str) -> Cow<'_, str> {
    let Some(name) = text.strip_prefix('0') else { return Cow::Borrowed(text) };
    let (name, _) = name.split_once(',').unwrap_or((name, ""));
    credentials(name).map_or(Cow::Borrowed(text), |(name, auth)| Cow::Owned(format!("0{name},{auth}")))
}

/// The same of a packet that was not text.
pub(super) fn modern_packet(packet: Packet<'static>) -> Packet<'static> {
    let Packet::Connect { namespace, auth } = packet else { return packet };
    match credentials(&namespace) {
        Some((name, auth)) => Packet::Connect { namespace: name.to_owned().into(), auth: Some(auth.into()) },
        None => Packet::Connect { namespace, auth },
    }
}

/// A namespace without the query of its name, and what that says, in JSON; `None` where there is no query.
fn credentials(name: &str) -> Option<(&str, String)> {
    let (name, query) = name.split_once('?')?;
    let query = form_urlencoded::parse(query.as_bytes());
    let auth: Map<String, Value> =
        query.map(|(name, value)| (name.into_owned(), Value::String(value.into_owned()))).collect();
    Some((name, Value::Object(auth).to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_of_a_namespace_becomes_credentials() {
        for (text, expected) in [
            ("0/chat?token=good&x=a%20b,", r#"0/chat,{"token":"good","x":"a b"}"#),
            ("0/chat?token=good", r#"0/chat,{"token":"good"}"#),
            ("0/chat?a=1&a=2&b&=c&,", r#"0/chat,{"":"c","a":"2","b":""}"#),
            ("0/chat?a=%22%5c%2C,", r#"0/chat,{"a":"\"\\,"}"#),
            ("0/chat?,", "0/chat,{}"),
            ("0/chat,", "0/chat,"),
            ("0/chat", "0/chat"),
            ("0", "0"),
            ("0/chat,{\"a\":\"?\"}", "0/chat,{\"a\":\"?\"}"),
            ("2/chat?x=1,[\"hi\"]", "2/chat?x=1,[\"hi\"]"),
            ("", ""),
        ] {
            assert_eq!(modern(text), expected, "{text}");
        }
    }
}
