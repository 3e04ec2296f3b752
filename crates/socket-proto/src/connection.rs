//! One client's namespaces: what it may send, and what its packets mean.
//!
//! ```text
//!            CONNECT                 accept                  leave
//!  absent ────────────► connecting ────────► joined ─────────────────► left
//!    ▲                      │                  │                        │
//!    └──────────────────────┴──────────────────┘   CONNECT: connecting ◄┘   DISCONNECT: absent
//!              refuse            DISCONNECT
//! ```
//!
//! A packet that does not fit is a violation, and the whole connection should close. *Left* is the exception: the
//! server left, and what the client sent before it heard of that is ignored. The reference server closes the
//! connection there, which punishes clients for the speed of light.
//!
//! Source: Socket.IO protocol v5, "Connection to a namespace".

use std::{
    borrow::Cow,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use smallvec::SmallVec;

use crate::{
    args::Args,
    decode::{DecodeError, DecodeLimits},
    decoder::Decoder,
    event::EventName,
    packet::{MAIN_NAMESPACE, Packet},
};

/// How much one connection may ask of us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Limits of one packet.
    pub decode: DecodeLimits,
    /// Namespaces that a client may be in at a time, including those it waits for; default 64. Beyond that, joining
    /// is refused and the connection stays.
    pub max_namespaces: usize,
    /// Length of a namespace's name, in bytes; default 1,024. Joining a longer one is refused, the connection stays.
    pub max_namespace_bytes: usize,
    /// Time from a binary packet to its last attachment; default 30 s. A client that takes longer is violating.
    pub attachments_timeout: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            decode: DecodeLimits::default(),
            max_namespaces: 64,
            max_namespace_bytes: 1_024,
            attachments_timeout: Duration::from_secs(30),
        }
    }
}

/// What a client did that ends its connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// It sent something that is not a packet.
    #[error("message is not a packet")]
    Decode(#[from] DecodeError),
    /// It asked to join a namespace that it is in or is waiting for.
    #[error("namespace asked for twice")]
    AlreadyConnected,
    /// It sent a packet for a namespace that it has not joined.
    #[error("packet for a namespace that was not joined")]
    NotJoined,
    /// It sent a CONNECT_ERROR, which only servers send.
    #[error("connect error from a client")]
    ConnectError,
    /// It joined no namespace in time.
    #[error("no namespace joined in time")]
    ConnectTimeout,
    /// Attachments that it announced did not arrive in time.
    #[error("attachments did not arrive in time")]
    AttachmentsTimeout,
}

/// What a client wants, once its packet was found to be in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inbound<'a, S> {
    /// To join a namespace: answer with [`Connection::accept`] or [`Connection::refuse`], at any later time.
    Connect {
        /// The namespace it asks for, known to the server or not.
        namespace: Cow<'a, str>,
        /// Its credentials: a JSON object as text.
        auth: Option<Cow<'a, str>>,
    },
    /// To join a namespace, which a limit forbids: to be answered with CONNECT_ERROR and forgotten.
    ConnectRefused {
        /// The namespace it asks for.
        namespace: Cow<'a, str>,
        /// The reason to send.
        message: &'static str,
    },
    /// To tell a namespace something.
    Event {
        /// The server's handle for this client in this namespace.
        socket: S,
        /// The namespace.
        namespace: Cow<'a, str>,
        /// Present when the client waits for an answer under this id.
        id: Option<u64>,
        /// What happened; never reserved.
        event: EventName<'a>,
        /// The values sent along.
        args: Args<'a>,
    },
    /// To answer an event; whether anybody asked is for the [`AckTable`](crate::AckTable) to say.
    Ack {
        /// The server's handle for this client in this namespace.
        socket: S,
        /// The id of the event it answers.
        id: u64,
        /// The answer.
        args: Args<'a>,
    },
    /// To leave a namespace, which it has done by now.
    Disconnect {
        /// The server's handle, no longer held here.
        socket: S,
    },
}

/// The namespaces of one client, from its first message to its last.
///
/// `S` is the server's handle for the client in a joined namespace, such as an index. Handles come out in the order
/// the namespaces were asked for.
///
/// ```
/// use std::{sync::Arc, time::{Duration, Instant}};
/// use posthaste_socket_proto::{Connection, ConnectionLimits, Inbound};
///
/// let (now, limits) = (Instant::now(), ConnectionLimits::default());
/// let mut connection = Connection::new(now + Duration::from_secs(45));
/// let wish = connection.receive_text("0/chat,", now, &limits)?;
/// assert!(matches!(wish, Some(Inbound::Connect { namespace, auth: None }) if namespace == "/chat"));
///
/// connection.accept(&Arc::from("/chat"), 7_u32).expect("the client is waiting");
/// let event = connection.receive_text(r#"2/chat,["hi"]"#, now, &limits)?;
/// assert!(matches!(event, Some(Inbound::Event { socket: 7, event, .. }) if event == "hi"));
/// # Ok::<(), posthaste_socket_proto::Violation>(())
/// ```
#[derive(Debug)]
pub struct Connection<S> {
    entries: SmallVec<[Entry<S>; 1]>,
    decoder: Decoder,
    /// `None` once a namespace was joined.
    connect_deadline: Option<Instant>,
}

#[derive(Debug)]
struct Entry<S> {
    name: Name,
    state: State<S>,
}

#[derive(Debug)]
enum State<S> {
    Connecting,
    Joined(S),
    Left,
}

/// `None` is the main namespace: most connections know no other, and need no shared name for it.
#[derive(Debug)]
struct Name(Option<Arc<str>>);

impl Name {
    fn new(name: &str) -> Self {
        Self((name != MAIN_NAMESPACE).then(|| Arc::from(name)))
    }

    fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or(MAIN_NAMESPACE)
    }
}

impl<S: Clone> Connection<S> {
    /// A client that was just connected and should join a namespace before `connect_deadline`.
    pub fn new(connect_deadline: Instant) -> Self {
        Self { entries: SmallVec::new(), decoder: Decoder::default(), connect_deadline: Some(connect_deadline) }
    }

    /// Takes a text message. `None` when there is nothing to do (yet).
    ///
    /// # Errors
    /// A [`Violation`]: the connection should close.
    pub fn receive_text<'a>(
        &mut self,
        text: &'a str,
        now: Instant,
        limits: &ConnectionLimits,
    ) -> Result<Option<Inbound<'a, S>>, Violation> {
        if let Some(packet) = self.decoder.text(text, &limits.decode)? {
            return self.receive_packet(packet, limits);
        }
        // Attachments are collected for nobody but a client that is there.
        let known = self.decoder.pending_namespace().is_some_and(|namespace| self.is_joined_or_left(namespace));
        if !known {
            self.decoder.clear();
            return Err(Violation::NotJoined);
        }
        self.decoder.set_overdue_at(now.checked_add(limits.attachments_timeout));
        Ok(None)
    }

    /// Takes a binary message. `None` when there is nothing to do (yet).
    ///
    /// # Errors
    /// A [`Violation`]: the connection should close.
    pub fn receive_binary(
        &mut self,
        data: Bytes,
        limits: &ConnectionLimits,
    ) -> Result<Option<Inbound<'static, S>>, Violation> {
        match self.decoder.binary(data, &limits.decode)? {
            Some(packet) => self.receive_packet(packet, limits),
            None => Ok(None),
        }
    }

    /// Takes a whole packet of a client whose messages are read elsewhere ([`decode_msgpack`](crate::decode_msgpack)). `None` when there
    /// is nothing to do.
    ///
    /// # Errors
    /// A [`Violation`]: the connection should close.
    pub fn receive_packet<'a>(
        &mut self,
        packet: Packet<'a>,
        limits: &ConnectionLimits,
    ) -> Result<Option<Inbound<'a, S>>, Violation> {
        let position = self.position(packet.namespace());
        Ok(match packet {
            Packet::Connect { namespace, auth } => Some(self.connect(position, namespace, auth, limits)?),
            Packet::ConnectError { .. } => return Err(Violation::ConnectError),
            Packet::Blank { .. } => self.joined(position)?.and(None),
            Packet::Event { namespace, id, event, args } => {
                self.joined(position)?.map(|socket| Inbound::Event { socket, namespace, id, event, args })
            }
            Packet::Ack { id, args, .. } => self.joined(position)?.map(|socket| Inbound::Ack { socket, id, args }),
            Packet::Disconnect { .. } => {
                let socket = self.joined(position)?;
                if let Some(position) = position {
                    self.entries.remove(position);
                }
                socket.map(|socket| Inbound::Disconnect { socket })
            }
        })
    }

    fn connect<'a>(
        &mut self,
        position: Option<usize>,
        namespace: Cow<'a, str>,
        auth: Option<Cow<'a, str>>,
        limits: &ConnectionLimits,
    ) -> Result<Inbound<'a, S>, Violation> {
        if let Some(position) = position {
            if !matches!(self.entries[position].state, State::Left) {
                return Err(Violation::AlreadyConnected);
            }
            self.entries.remove(position);
        }
        if namespace.len() > limits.max_namespace_bytes {
            // The words for a namespace that does not exist: none of ours has such a name.
            return Ok(Inbound::ConnectRefused { namespace, message: "Invalid namespace" });
        }
        if self.entries.len() >= limits.max_namespaces && !self.forget_a_left_one() {
            return Ok(Inbound::ConnectRefused { namespace, message: "Too many namespaces" });
        }
        self.entries.push(Entry { name: Name::new(&namespace), state: State::Connecting });
        Ok(Inbound::Connect { namespace, auth })
    }

    /// Makes room for a namespace by forgetting the one the server left first. Returns whether there was any.
    fn forget_a_left_one(&mut self) -> bool {
        let oldest = self.entries.iter().position(|entry| matches!(entry.state, State::Left));
        oldest.map(|position| self.entries.remove(position)).is_some()
    }

    /// The handle at `position` for a packet that only a joined client may send; `None` when the server left.
    fn joined(&self, position: Option<usize>) -> Result<Option<S>, Violation> {
        match position.map(|position| &self.entries[position].state) {
            Some(State::Joined(socket)) => Ok(Some(socket.clone())),
            Some(State::Left) => Ok(None),
            Some(State::Connecting) | None => Err(Violation::NotJoined),
        }
    }

    /// Lets the client into a namespace that it asked for. `namespace` is kept instead of a copy of the client's text.
    ///
    /// # Errors
    /// Gives `socket` back when the client is not waiting for this namespace.
    pub fn accept(&mut self, namespace: &Arc<str>, socket: S) -> Result<(), S> {
        let Some(position) = self.connecting(namespace) else { return Err(socket) };
        let entry = &mut self.entries[position];
        entry.state = State::Joined(socket);
        if let Some(name) = &mut entry.name.0 {
            *name = Arc::clone(namespace);
        }
        self.connect_deadline = None;
        Ok(())
    }

    /// Forgets that the client asked for a namespace. Returns whether it did.
    pub fn refuse(&mut self, namespace: &str) -> bool {
        let position = self.connecting(namespace);
        position.map(|position| self.entries.remove(position)).is_some()
    }

    /// Takes the client out of a namespace, on the server's wish. From now on its packets for it are ignored, until
    /// it asks to join again.
    pub fn leave(&mut self, namespace: &str) -> Option<S> {
        let position = self.position(namespace)?;
        if !matches!(self.entries[position].state, State::Joined(_)) {
            return None;
        }
        let Entry { name, state } = self.entries.remove(position);
        // Last in the row: those that were left first are forgotten first.
        self.entries.push(Entry { name, state: State::Left });
        match state {
            State::Joined(socket) => Some(socket),
            State::Connecting | State::Left => None,
        }
    }

    /// Takes the client out of every namespace, and frees everything kept for it: the connection is over.
    pub fn drain(&mut self) -> impl Iterator<Item = S> + use<S> {
        self.decoder.clear();
        self.connect_deadline = None;
        std::mem::take(&mut self.entries).into_iter().filter_map(|entry| match entry.state {
            State::Joined(socket) => Some(socket),
            State::Connecting | State::Left => None,
        })
    }

    /// The handle for a joined namespace.
    pub fn get(&self, namespace: &str) -> Option<&S> {
        match &self.entries[self.position(namespace)?].state {
            State::Joined(socket) => Some(socket),
            State::Connecting | State::Left => None,
        }
    }

    /// The joined namespaces and their handles.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &S)> {
        self.entries.iter().filter_map(|entry| match &entry.state {
            State::Joined(socket) => Some((entry.name.as_str(), socket)),
            State::Connecting | State::Left => None,
        })
    }

    /// Whether no namespace is joined.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// The client is being seen to: if it has not joined a namespace yet, it should before `connect_deadline`, if that is later.
    pub fn postpone(&mut self, connect_deadline: Instant) {
        self.connect_deadline = self.connect_deadline.map(|deadline| deadline.max(connect_deadline));
    }

    /// When [`Connection::expired`] should be asked next, if nothing else happens before.
    pub fn deadline(&self) -> Option<Instant> {
        [self.connect_deadline, self.decoder.overdue_at()].into_iter().flatten().min()
    }

    /// What the client failed to do by `now`: join its first namespace, or send the attachments it announced.
    pub fn expired(&self, now: Instant) -> Option<Violation> {
        let is_over = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now);
        if is_over(self.connect_deadline) {
            return Some(Violation::ConnectTimeout);
        }
        is_over(self.decoder.overdue_at()).then_some(Violation::AttachmentsTimeout)
    }

    // A walk rather than a map: there is nearly always one entry, and a limit on the rest.
    fn position(&self, namespace: &str) -> Option<usize> {
        self.entries.iter().position(|entry| entry.name.as_str() == namespace)
    }

    fn connecting(&self, namespace: &str) -> Option<usize> {
        self.position(namespace).filter(|&position| matches!(self.entries[position].state, State::Connecting))
    }

    fn is_joined_or_left(&self, namespace: &str) -> bool {
        self.joined(self.position(namespace)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_in_the_main_namespace_is_small_and_owns_nothing() {
        assert!(size_of::<Connection<u32>>() <= 56, "{}", size_of::<Connection<u32>>());
        assert!(size_of::<Connection<u64>>() <= 72, "{}", size_of::<Connection<u64>>());

        let (now, limits) = (Instant::now(), ConnectionLimits::default());
        let mut connection = Connection::new(now);
        connection.receive_text("0", now, &limits).unwrap();
        connection.accept(&Arc::from(MAIN_NAMESPACE), 1_u32).unwrap();
        assert!(!connection.entries.spilled());
        assert!(connection.entries[0].name.0.is_none());
    }

    #[test]
    fn names_of_joined_namespaces_are_shared() {
        let (now, limits, chat) = (Instant::now(), ConnectionLimits::default(), Arc::from("/chat"));
        let mut connection = Connection::new(now);
        connection.receive_text("0/chat", now, &limits).unwrap();
        connection.accept(&chat, ()).unwrap();
        assert_eq!(Arc::strong_count(&chat), 2);
        connection.leave("/chat");
        connection.drain().count();
        assert_eq!(Arc::strong_count(&chat), 1);
    }
}
