//! Which names rooms and events may have.

use posthaste::SocketId;

use crate::rooms::answer::{Code, Refusal};

/// The longest name of a room, in bytes.
pub(crate) const MAX_ROOM_BYTES: usize = 256;
/// The longest name of an event, in bytes.
const MAX_EVENT_BYTES: usize = 256;

/// Names that clients keep for themselves: `emit` throws on them, or their handlers would take them for something else.
const RESERVED: [&str; 6] =
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];
/// What the server's own events begin with.
const OWN: [&str; 2] = ["room:", "sio:"];

/// A room that a client names.
pub(crate) fn check_room(room: &str) -> Result<(), Refusal> {
    if room.is_empty() || room.len() > MAX_ROOM_BYTES {
        return Err(Refusal::new(Code::Invalid, format!("the name of a room has 1 to {MAX_ROOM_BYTES} bytes")));
    }
    // What is meant for one socket alone is sent to the room of its id.
    if SocketId::parse(room).is_some() {
        return Err(Refusal::new(Code::Forbidden, "a name that could be a socket's id is no room's"));
    }
    Ok(())
}

/// An event that a client sends to a room.
pub(crate) fn check_event(event: &str) -> Result<(), Refusal> {
    if event.is_empty() || event.len() > MAX_EVENT_BYTES {
        return Err(Refusal::new(Code::Invalid, format!("the name of an event has 1 to {MAX_EVENT_BYTES} bytes")));
    }
    if RESERVED.contains(&event) || OWN.iter().any(|own| event.starts_with(own)) {
        return Err(Refusal::new(Code::Forbidden, "this name is kept for events of Socket.IO or of the server itself"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_have_bounded_names_and_no_ids() {
        let code = |room: &str| check_room(room).err().map(|it| it.code);
        assert_eq!(code("demo"), None);
        assert_eq!(code(&"x".repeat(MAX_ROOM_BYTES)), None);
        assert_eq!(code(""), Some(Code::Invalid));
        assert_eq!(code(&"x".repeat(MAX_ROOM_BYTES + 1)), Some(Code::Invalid));
        let id = SocketId::from_bytes([7; 15]).to_string();
        assert_eq!(code(&id), Some(Code::Forbidden));
        assert_eq!(code(&format!("/chat#{id}")), Some(Code::Forbidden));
    }

    #[test]
    fn events_have_bounded_names_that_are_nobody_elses() {
        let code = |event: &str| check_event(event).err().map(|it| it.code);
        for event in ["chat", "order:new", "rooms", "sio", "Connect"] {
            assert_eq!(code(event), None, "{event}");
        }
        for event in ["connect", "disconnect", "connect_error", "newListener", "room:joined", "room:", "sio:gap"] {
            assert_eq!(code(event), Some(Code::Forbidden), "{event}");
        }
        assert_eq!(code(""), Some(Code::Invalid));
        assert_eq!(code(&"x".repeat(MAX_EVENT_BYTES + 1)), Some(Code::Invalid));
    }
}
