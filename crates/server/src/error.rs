//! What can go wrong, by what the caller can do about it.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use posthaste_adapter::AdapterError;
use posthaste_socket_proto::{ArgsError, EncodeError};
use serde_json::value::RawValue;

use crate::durable::DurableError;
use crate::namespace::ParamsError;

/// Why something was not sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The value cannot be sent as Socket.IO arguments, or the event's name is reserved.
    #[error("the event could not be encoded")]
    Encode(#[from] EncodeError),
    /// The socket is disconnected.
    #[error("the socket is disconnected")]
    Disconnected,
    /// This node's sockets have it, others may not.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    /// One of the rooms is durable, and the store did not take it: nobody was sent it.
    #[error(transparent)]
    Durable(#[from] DurableError),
}

/// Why a socket was not put into rooms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The socket is disconnected.
    #[error("the socket is disconnected")]
    Disconnected,
    /// The socket would be in more rooms than it may; see [`Builder::max_rooms`](crate::Builder::max_rooms).
    #[error("a socket may be in no more than {max} rooms")]
    TooManyRooms {
        /// The bound.
        max: usize,
    },
    /// The client joins faster than it may; see [`Builder::join_rate`](crate::Builder::join_rate).
    #[error("too many joins")]
    TooFast,
}

/// Why an answer did not come.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AckError {
    /// It took too long. The official server's text.
    #[error("operation has timed out")]
    Timeout,
    /// The socket was disconnected before it answered.
    #[error("socket has been disconnected")]
    Disconnected,
    /// The socket owes as many answers as it may.
    #[error("the socket owes too many answers")]
    TooMany,
    /// The question was not sent.
    #[error("the question was not sent")]
    Send(#[from] SendError),
    /// The answer is not of the type that was asked for.
    #[error("the answer is of another type")]
    Type(#[from] ArgsError),
}

/// Why the sockets of all servers could not be fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// Some servers took too long.
    #[error("timeout reached: not every server has told its sockets")]
    Timeout,
    /// The other servers could not be asked.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
}

/// Why a client may not join a namespace; it receives the message and the data (`connect_error`).
///
/// ```
/// use posthaste::ConnectError;
/// let refusal = ConnectError::new("not authorized").with_data(&serde_json::json!({ "code": 401 }));
/// assert_eq!(refusal.to_string(), "not authorized");
/// ```
#[derive(Debug)]
pub struct ConnectError {
    message: String,
    data: Option<Box<RawValue>>,
}

impl ConnectError {
    /// A refusal with this message and no data.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), data: None }
    }

    /// Adds data for the client (`err.data`). Data that cannot be JSON is left out, with a warning in the log.
    #[must_use]
    pub fn with_data(mut self, data: &(impl serde::Serialize + ?Sized)) -> Self {
        match serde_json::value::to_raw_value(data) {
            Ok(data) => self.data = Some(data),
            Err(error) => tracing::warn!(%error, "the data of a connect error cannot be JSON"),
        }
        self
    }

    /// The message.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    pub(crate) fn data(&self) -> Option<&RawValue> {
        self.data.as_deref()
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

// Not an `Error` itself: so every error can become one, as `?` in a middleware wants.
impl<E: std::error::Error> From<E> for ConnectError {
    fn from(error: E) -> Self {
        Self::new(error.to_string())
    }
}

/// Why an event middleware refused an event: what [`on_error`](crate::Namespace::on_error) handlers take. Cloning shares it.
///
/// ```
/// use posthaste::{Event, EventError, Socket};
/// async fn report(socket: Socket, Event(name): Event, error: EventError) {
///     println!("{} may not {name}: {error}", socket.id());
/// }
/// ```
#[derive(Clone)]
pub struct EventError(Arc<dyn Refusal>);

/// What a middleware returned, by what it is and by what it says.
trait Refusal: fmt::Display + Any + Send + Sync {
    fn as_any(&self) -> &dyn Any;
}

impl<E: fmt::Display + Any + Send + Sync> Refusal for E {
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl EventError {
    pub(crate) fn new(error: impl fmt::Display + Send + Sync + 'static) -> Self {
        Self(Arc::new(error))
    }

    /// The middleware's error, if it is of that type.
    #[must_use]
    pub fn downcast_ref<E: 'static>(&self) -> Option<&E> {
        // Not the `Arc`'s own, which can be displayed as well.
        (*self.0).as_any().downcast_ref()
    }
}

impl fmt::Display for EventError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&*self.0, f)
    }
}

impl fmt::Debug for EventError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("EventError").field(&self.to_string()).finish()
    }
}

/// Why a handler could not be called: what it takes is not there, or of another type.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExtractError {
    /// The arguments are not of the type asked for.
    #[error("the arguments of the event: {0}")]
    Args(#[from] ArgsError),
    /// The connection's auth is not of the type asked for.
    #[error("the auth of the connection: {0}")]
    Auth(#[from] serde_json::Error),
    /// No state of that type was given to the builder.
    #[error("no state of type {0} was given to the server's builder")]
    State(&'static str),
    /// What the namespace's name gave for the open parts of its pattern is not of the type asked for.
    #[error("the name of the namespace: {0}")]
    Params(#[from] ParamsError),
    /// An [`EventError`] was asked for by a handler that is none for refusals.
    #[error("no middleware refused this event")]
    NotRefused,
    /// The payload of a job is not of the type asked for.
    #[error("{0}")]
    Payload(String),
    /// A worker asked for a server, and there is none, or none any more.
    #[error("there is no server")]
    NoServer,
}

/// Why a server could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// What outlives the process could not be opened.
    #[error("the store: {0}")]
    Durable(#[from] DurableError),
    /// Clients could not ask for the namespace of the queues.
    #[error("the namespace of the queues: {0}")]
    Queues(#[from] crate::NamespaceError),
    /// A rate that lets nothing through at all.
    #[error("{what} must be more than zero")]
    Zero {
        /// The setting's name.
        what: &'static str,
    },
    /// A setting cannot be.
    #[error(transparent)]
    Engine(#[from] posthaste_engine::EngineError),
    /// The workers could not be started.
    #[error("the I/O workers could not be started")]
    Workers(#[source] std::io::Error),
}
