//! What a handler may take.

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::de::DeserializeOwned;

use crate::ack::{Ack, Asked};
use crate::error::{EventError, ExtractError};
use crate::local;
use crate::namespace::{Namespace, Params};
use crate::reason::DisconnectReason;
use crate::remote::handshake_of;
use crate::server::Server;
use crate::socket::Socket;
use posthaste_adapter::{HandshakeSnapshot, Room, SocketId};
use posthaste_engine::Transport;
use posthaste_socket_proto::{Args, FromArgs, parse_json};

/// An event on its way to its handler.
#[derive(Debug)]
pub struct EventContext<'a> {
    pub(crate) socket: &'a Socket,
    pub(crate) event: &'a str,
    pub(crate) args: &'a Args<'a>,
    /// Present when the client waits for an answer, until something takes it.
    pub(crate) ack: Option<Asked>,
    pub(crate) ack_taken: bool,
    /// Present for an error handler: why a middleware refused the event.
    pub(crate) error: Option<&'a EventError>,
}

/// A socket on its way into a namespace.
#[derive(Debug)]
pub struct ConnectContext<'a> {
    pub(crate) socket: &'a Socket,
}

/// A socket that has left a namespace.
#[derive(Debug)]
pub struct DisconnectContext<'a> {
    pub(crate) socket: &'a Socket,
    pub(crate) reason: DisconnectReason,
    /// The rooms it is in: none any more once it has left.
    pub(crate) rooms: &'a [Room],
}

/// What an event handler may take.
#[diagnostic::on_unimplemented(
    message = "an event handler cannot take `{Self}`",
    label = "not an extractor for events",
    note = "it may take `Socket`, `Server`, `Namespace`, `Data<T>` with `T: Deserialize`, `Ack`, `Auth<T>`, `Params<T>`, `State<T>`, `Event`"
)]
pub trait FromEvent: Sized {
    /// Takes it from the event. Runs on the text as it was received: what is kept is copied.
    ///
    /// # Errors
    /// [`ExtractError`]: the handler is not called; a client that waits for an answer is told.
    fn from_event(cx: &mut EventContext<'_>) -> Result<Self, ExtractError>;
}

/// What a connect handler or a middleware may take.
#[diagnostic::on_unimplemented(
    message = "a connect handler cannot take `{Self}`",
    label = "not an extractor for connections",
    note = "it may take `Socket`, `Server`, `Namespace`, `Auth<T>` with `T: Deserialize`, `Params<T>`, `State<T>`; events come with `on`"
)]
pub trait FromConnect: Sized {
    /// Takes it from the connection.
    ///
    /// # Errors
    /// [`ExtractError`]: in a middleware the client is refused; a connect handler is not called.
    fn from_connect(cx: &mut ConnectContext<'_>) -> Result<Self, ExtractError>;
}

/// What a disconnect handler may take.
#[diagnostic::on_unimplemented(
    message = "a disconnect handler cannot take `{Self}`",
    label = "not an extractor for disconnections",
    note = "it may take `Socket`, `Server`, `Namespace`, `DisconnectReason`, `Auth<T>`, `Params<T>`, `State<T>`"
)]
pub trait FromDisconnect: Sized {
    /// Takes it from the disconnection.
    ///
    /// # Errors
    /// [`ExtractError`]: the handler is not called.
    fn from_disconnect(cx: &mut DisconnectContext<'_>) -> Result<Self, ExtractError>;
}

/// What every kind of handler may take because a socket is there.
macro_rules! from_socket {
    (impl [$($generics:tt)*] $name:ty, $take:expr) => {
        impl<$($generics)*> FromEvent for $name {
            fn from_event(cx: &mut EventContext<'_>) -> Result<Self, ExtractError> {
                ($take)(cx.socket)
            }
        }
        impl<$($generics)*> FromConnect for $name {
            fn from_connect(cx: &mut ConnectContext<'_>) -> Result<Self, ExtractError> {
                ($take)(cx.socket)
            }
        }
        impl<$($generics)*> FromDisconnect for $name {
            fn from_disconnect(cx: &mut DisconnectContext<'_>) -> Result<Self, ExtractError> {
                ($take)(cx.socket)
            }
        }
    };
}

from_socket!(impl [] Socket, |socket: &Socket| Ok(socket.clone()));
from_socket!(impl [] SocketId, |socket: &Socket| Ok(socket.id()));
from_socket!(impl [] Server, |socket: &Socket| Ok(socket.server()));
from_socket!(impl [] Namespace, |socket: &Socket| Ok(socket.namespace()));

/// The arguments of an event, as a type.
///
/// A tuple takes one argument per element; any other type takes the first argument. Binary values become
/// [`Bytes`](bytes::Bytes) anywhere in the type. Extra arguments are ignored; a missing one is `None` for an `Option` and an
/// error otherwise. An array as the only argument is `Data<Vec<T>>`. [`Args`] are the arguments unread, to be passed on as they came.
///
/// ```
/// # use posthaste::Data;
/// // socket.emit("move", 3, 4)
/// async fn on_move(Data((x, y)): Data<(i32, i32)>) {}
/// // socket.emit("say", "hello")
/// async fn on_say(Data(text): Data<String>) {}
/// ```
#[derive(Clone, Debug)]
pub struct Data<T>(pub T);

impl<T: FromArgs> FromEvent for Data<T> {
    fn from_event(cx: &mut EventContext<'_>) -> Result<Self, ExtractError> {
        Ok(Self(T::from_args(cx.args)?))
    }
}

/// The name of the event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event(pub String);

impl FromEvent for Event {
    fn from_event(cx: &mut EventContext<'_>) -> Result<Self, ExtractError> {
        Ok(Self(cx.event.to_owned()))
    }
}

impl FromEvent for Ack {
    fn from_event(cx: &mut EventContext<'_>) -> Result<Self, ExtractError> {
        cx.ack_taken = true;
        Ok(Self::new(cx.socket.clone(), cx.ack.take()))
    }
}

/// Whether the client waits for an answer, without taking the right to give it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AckId(pub Option<u64>);

impl FromEvent for AckId {
    fn from_event(cx: &mut EventContext<'_>) -> Result<Self, ExtractError> {
        Ok(Self(cx.ack.as_ref().map(Asked::id)))
    }
}

impl FromEvent for EventError {
    fn from_event(cx: &mut EventContext<'_>) -> Result<Self, ExtractError> {
        cx.error.cloned().ok_or(ExtractError::NotRefused)
    }
}

from_socket!(impl [T: DeserializeOwned] Params<T>, |socket: &Socket| {
    Ok(Self::read(socket.0.namespace.params())?)
});

/// The rooms of the socket, that of its own id first, as they are when the handler is called.
///
/// A handler of [`on_disconnecting`](Namespace::on_disconnecting) gets those that the socket is about to leave; one of
/// [`on_disconnect`](Namespace::on_disconnect) none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rooms(pub Vec<Room>);

impl Rooms {
    fn of(socket: &Socket) -> Self {
        Self(local::here(socket).map(|local| local.rooms(socket)).unwrap_or_default())
    }
}

impl FromEvent for Rooms {
    fn from_event(cx: &mut EventContext<'_>) -> Result<Self, ExtractError> {
        Ok(Self::of(cx.socket))
    }
}

impl FromConnect for Rooms {
    fn from_connect(cx: &mut ConnectContext<'_>) -> Result<Self, ExtractError> {
        Ok(Self::of(cx.socket))
    }
}

impl FromDisconnect for Rooms {
    fn from_disconnect(cx: &mut DisconnectContext<'_>) -> Result<Self, ExtractError> {
        Ok(Self(cx.rooms.to_vec()))
    }
}

impl FromDisconnect for DisconnectReason {
    fn from_disconnect(cx: &mut DisconnectContext<'_>) -> Result<Self, ExtractError> {
        Ok(cx.reason)
    }
}

/// What the client sent along when it joined the namespace (`io(url, { auth })`), as a type. Without any it is `{}`.
#[derive(Clone, Debug)]
pub struct Auth<T>(pub T);

from_socket!(impl [T: DeserializeOwned] Auth<T>, |socket: &Socket| {
    Ok(Self(parse_json(socket.handshake().auth())?))
});

/// Something given to [`Builder::state`](crate::Builder::state), cloned.
#[derive(Clone, Debug)]
pub struct State<T>(pub T);

from_socket!(impl [T: Clone + Send + Sync + 'static] State<T>, |socket: &Socket| {
    socket.server().state::<T>().map(Self).ok_or(ExtractError::State(std::any::type_name::<T>()))
});

from_socket!(impl [] Option<Transport>, |socket: &Socket| Ok(socket.transport()));

// What the client said when it connected, copied; `Socket::handshake` lends it.
from_socket!(impl [] HandshakeSnapshot, |socket: &Socket| Ok(handshake_of(socket)));

// The headers of the opening request, copied; `Handshake::header` lends one.
from_socket!(impl [] HeaderMap, |socket: &Socket| {
    let header = |(name, value): (&str, &[u8])| {
        Some((HeaderName::try_from(name).ok()?, HeaderValue::from_bytes(value).ok()?))
    };
    let mut headers = Self::new();
    for (name, value) in socket.handshake().headers().filter_map(header) {
        headers.append(name, value);
    }
    Ok(headers)
});
