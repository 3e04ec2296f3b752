//! A socket as other nodes see it.

use std::time::SystemTime;

use crate::room::Room;

/// What a socket was when somebody asked for it: a copy that does not change with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketSnapshot {
    /// The public id, which is the name of the socket's own room. Text, for other servers may make other ids than
    /// [`SocketId`](crate::SocketId)s.
    pub id: Room,
    /// What the client said when it connected.
    pub handshake: HandshakeSnapshot,
    /// The rooms it is in, its own among them.
    pub rooms: Vec<Room>,
    /// What the application keeps with it, a JSON object.
    pub data: Box<str>,
}

/// What a client said when it connected, copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandshakeSnapshot {
    /// The headers of the opening request whose values are text: names in lower case.
    pub headers: Vec<(String, String)>,
    /// The query of the opening request, decoded.
    pub query: Vec<(String, String)>,
    /// The auth of the namespace, a JSON object.
    pub auth: Box<str>,
    /// The opening request's path and query, as sent.
    pub url: String,
    /// Where the client connected from; empty when that is not known.
    pub address: String,
    /// Whether the request came over TLS.
    pub secure: bool,
    /// Whether it named an origin.
    pub cross_domain: bool,
    /// When it came.
    pub issued: SystemTime,
}

impl Default for HandshakeSnapshot {
    fn default() -> Self {
        Self {
            headers: Vec::new(),
            query: Vec::new(),
            auth: "{}".into(),
            url: String::new(),
            address: String::new(),
            secure: false,
            cross_domain: false,
            issued: SystemTime::UNIX_EPOCH,
        }
    }
}

impl HandshakeSnapshot {
    /// The first header of that name (any case).
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The last query parameter of that name.
    #[must_use]
    pub fn query_param(&self, name: &str) -> Option<&str> {
        self.query.iter().rev().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}
