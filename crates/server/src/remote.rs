//! Sockets of any server, as they were when they were fetched.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use posthaste_adapter::{HandshakeSnapshot, IntoRooms, Room, SocketSnapshot};
use posthaste_socket_proto::{EmitArgs, FromArgs, parse_json};
use serde::de::DeserializeOwned;

use crate::ack::AckFuture;
use crate::namespace::Namespace;
use crate::operator::Operator;
use crate::sent::Sent;
use crate::socket::Socket;

/// A socket of this server or another one, as it was when [`Operator::fetch_sockets`] found it.
///
/// What it tells is a copy; what is done through it reaches the socket itself, wherever it is, and nobody if it is gone.
#[derive(Clone)]
pub struct RemoteSocket {
    namespace: Namespace,
    snapshot: Arc<SocketSnapshot>,
    timeout: Option<Duration>,
}

impl RemoteSocket {
    pub(crate) fn new(namespace: Namespace, snapshot: SocketSnapshot) -> Self {
        Self { namespace, snapshot: Arc::new(snapshot), timeout: None }
    }

    /// The public id ([`Socket::client_id`]): the text of a [`SocketId`](crate::SocketId), which it can be compared with.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.snapshot.id
    }

    /// What the client said when it connected.
    #[must_use]
    pub fn handshake(&self) -> &HandshakeSnapshot {
        &self.snapshot.handshake
    }

    /// The rooms it was in, that of its own id among them.
    #[must_use]
    pub fn rooms(&self) -> &[Room] {
        &self.snapshot.rooms
    }

    /// What the application kept with it ([`Socket::set_data`]).
    ///
    /// # Errors
    /// When that is not a `T`.
    pub fn data<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        parse_json(&self.snapshot.data)
    }

    /// What the application kept with it, as JSON text.
    #[must_use]
    pub fn raw_data(&self) -> &str {
        &self.snapshot.data
    }

    /// How long the answer to [`RemoteSocket::emit_with_ack`] may take.
    #[must_use]
    pub fn timeout(&self, timeout: Duration) -> Self {
        Self { timeout: Some(timeout), ..self.clone() }
    }

    /// Sends an event to it; see [`Operator::emit`].
    pub fn emit<A: EmitArgs + ?Sized>(&self, event: &str, args: &A) -> Sent {
        self.operator().emit(event, args)
    }

    /// Sends an event to it and waits for its answer; see [`Socket::emit_with_ack`].
    ///
    /// # Errors (of the future)
    /// As there. [`AckError::Disconnected`](crate::AckError::Disconnected) when every server has said that it is not there.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn emit_with_ack<T: FromArgs>(&self, event: &str, args: &(impl EmitArgs + ?Sized)) -> AckFuture<T> {
        self.operator().ask_one(event, args)
    }

    /// Has it join rooms.
    pub fn join(&self, rooms: impl IntoRooms) -> Sent {
        self.operator().sockets_join(rooms)
    }

    /// Has it leave rooms.
    pub fn leave(&self, rooms: impl IntoRooms) -> Sent {
        self.operator().sockets_leave(rooms)
    }

    /// Takes it out of its namespace; with `close` out of all, and its connection is closed.
    pub fn disconnect(&self, close: bool) -> Sent {
        self.operator().disconnect_sockets(close)
    }

    fn operator(&self) -> Operator {
        let operator = Operator::new(self.namespace.clone()).to(&self.snapshot.id);
        match self.timeout {
            Some(timeout) => operator.timeout(timeout),
            None => operator,
        }
    }
}

impl fmt::Debug for RemoteSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteSocket")
            .field("id", &self.id())
            .field("namespace", &self.namespace.name())
            .finish_non_exhaustive()
    }
}

/// What a socket of this server is now.
pub(crate) fn snapshot(socket: &Socket, rooms: Vec<Room>) -> SocketSnapshot {
    SocketSnapshot {
        id: socket.client_id().into(),
        handshake: handshake_of(socket),
        rooms,
        data: Box::from(&*socket.raw_data()),
    }
}

/// What the client of a socket said when it connected, copied.
pub(crate) fn handshake_of(socket: &Socket) -> HandshakeSnapshot {
    let handshake = socket.handshake();
    let text = |(name, value): (&str, &[u8])| Some((name.to_owned(), std::str::from_utf8(value).ok()?.to_owned()));
    HandshakeSnapshot {
        headers: handshake.headers().filter_map(text).collect(),
        query: handshake.query().map(|(name, value)| (name.into_owned(), value.into_owned())).collect(),
        auth: handshake.auth().into(),
        url: handshake.url().to_owned(),
        address: handshake.address().map(|address| address.ip().to_string()).unwrap_or_default(),
        secure: handshake.is_secure(),
        cross_domain: handshake.is_cross_domain(),
        issued: handshake.issued(),
    }
}
