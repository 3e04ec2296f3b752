//! Names of events, and the few that belong to the protocol.

use std::borrow::Cow;

/// The name of an event, unescaped: `["\u0068i"]` is the event `hi`.
///
/// A number is a legal name too and keeps its JSON text (`[7,"x"]` is the event `7`). An unpaired surrogate in the
/// wire form becomes U+FFFD, because Rust text cannot hold it.
pub type EventName<'a> = Cow<'a, str>;

/// Names that only the library itself may use, in Socket.IO protocol v5.
///
/// They name what happens *to* a socket; a peer that could send them would fake a disconnect.
pub const RESERVED_EVENTS: [&str; 6] =
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

/// Whether `name` is one of [`RESERVED_EVENTS`].
///
/// ```
/// assert!(posthaste_socket_proto::is_reserved("disconnect"));
/// assert!(!posthaste_socket_proto::is_reserved("Disconnect"));
/// ```
pub fn is_reserved(name: &str) -> bool {
    reserved(name).is_some()
}

/// The reserved name equal to `name`, for an error that names it without copying what a peer sent.
pub(crate) fn reserved(name: &str) -> Option<&'static str> {
    RESERVED_EVENTS.into_iter().find(|reserved| *reserved == name)
}
