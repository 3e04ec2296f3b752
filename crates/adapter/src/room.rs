//! Labels and ids.

use std::borrow::{Borrow, Cow};
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use posthaste_engine_proto::Sid;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smallvec::SmallVec;

/// The public id of a socket: 15 random bytes, written as 20 characters. It names the socket's own room.
///
/// It says nothing about the session's secret id, and each namespace of a client has another.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SocketId(Sid);

impl SocketId {
    /// The id made of these random bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; Sid::BYTES]) -> Self {
        Self(Sid::from_bytes(bytes))
    }

    /// Reads an id from its text; `None` if it cannot be one. A namespace before it, as clients of Socket.IO 1 and 2 know themselves by
    /// (`/chat#` and the id), is passed over.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let id = match text.rsplit_once('#') {
            Some((namespace, id)) if namespace.starts_with('/') => id,
            _ => text,
        };
        Sid::parse(id).map(Self)
    }

    /// The text by which a client of Socket.IO 1 or 2 knows itself in a namespace: the id alone in the main one.
    #[must_use]
    pub fn in_namespace(self, namespace: &str) -> String {
        if namespace == "/" { self.to_string() } else { format!("{namespace}#{self}") }
    }

    /// The text, on the stack.
    #[must_use]
    pub fn to_text(self) -> posthaste_engine_proto::sid::SidText {
        self.0.to_text()
    }
}

impl fmt::Display for SocketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for SocketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SocketId({self})")
    }
}

impl Serialize for SocketId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.to_text().as_str())
    }
}

impl<'de> Deserialize<'de> for SocketId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom("not the id of a socket"))
    }
}

/// Ids of sockets anywhere are told as text.
impl PartialEq<SocketId> for &str {
    fn eq(&self, id: &SocketId) -> bool {
        SocketId::parse(self) == Some(*id)
    }
}

impl PartialEq<&str> for SocketId {
    fn eq(&self, text: &&str) -> bool {
        *text == *self
    }
}

/// A label that sockets join. Cloning it is a reference count.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Room(Arc<str>);

impl Deref for Room {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Room {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl From<&str> for Room {
    fn from(name: &str) -> Self {
        Self(name.into())
    }
}

impl From<String> for Room {
    fn from(name: String) -> Self {
        Self(name.into())
    }
}

impl From<&String> for Room {
    fn from(name: &String) -> Self {
        Self(name.as_str().into())
    }
}

impl From<&Self> for Room {
    fn from(room: &Self) -> Self {
        room.clone()
    }
}

impl Serialize for Room {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }
}

impl<'de> Deserialize<'de> for Room {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<'de, str>::deserialize(deserializer).map(|name| Self(name.into()))
    }
}

impl From<SocketId> for Room {
    fn from(id: SocketId) -> Self {
        Self(id.to_text().as_str().into())
    }
}

impl From<&SocketId> for Room {
    fn from(id: &SocketId) -> Self {
        (*id).into()
    }
}

/// A few rooms; one needs no allocation.
pub type Rooms = SmallVec<[Room; 1]>;

/// What may be given where rooms are asked for: one, or any list of them.
#[diagnostic::on_unimplemented(
    message = "`{Self}` names no rooms",
    note = "give a `&str`, `String`, `Room` or `SocketId`, or an array, slice or `Vec` of those"
)]
pub trait IntoRooms {
    /// Appends the rooms.
    fn append_to(self, rooms: &mut Rooms);
}

macro_rules! one_room {
    ($($name:ty),*) => {$(
        impl IntoRooms for $name {
            fn append_to(self, rooms: &mut Rooms) {
                rooms.push(self.into());
            }
        }
    )*};
}
one_room!(&str, String, &String, Room, &Room, SocketId, &SocketId);

impl<T: IntoRooms, const N: usize> IntoRooms for [T; N] {
    fn append_to(self, rooms: &mut Rooms) {
        self.into_iter().for_each(|room| room.append_to(rooms));
    }
}

impl<T: IntoRooms> IntoRooms for Vec<T> {
    fn append_to(self, rooms: &mut Rooms) {
        self.into_iter().for_each(|room| room.append_to(rooms));
    }
}

impl<'a, T> IntoRooms for &'a [T]
where
    &'a T: IntoRooms,
{
    fn append_to(self, rooms: &mut Rooms) {
        self.iter().for_each(|room| room.append_to(rooms));
    }
}

impl<'a, T> IntoRooms for &'a Vec<T>
where
    &'a T: IntoRooms,
{
    fn append_to(self, rooms: &mut Rooms) {
        self.as_slice().append_to(rooms);
    }
}

impl IntoRooms for &&str {
    fn append_to(self, rooms: &mut Rooms) {
        (*self).append_to(rooms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_rooms_are_text_in_json() {
        let id = SocketId::from_bytes([7; 15]);
        let text = format!("\"{id}\"");
        assert_eq!(serde_json::to_string(&id).expect("text"), text);
        assert_eq!(serde_json::from_str::<SocketId>(&text).expect("an id"), id);
        assert!(serde_json::from_str::<SocketId>("\"kitchen\"").is_err());
        assert_eq!(id.in_namespace("/"), id.to_string());
        assert_eq!(id.in_namespace("/chat"), format!("/chat#{id}"));
        assert_eq!(SocketId::parse(&id.in_namespace("/a#b")), Some(id));
        assert!(&*id.in_namespace("/chat") == id && id == &*id.to_string());
        assert_eq!(SocketId::parse(&format!("chat#{id}")), None);
        assert_eq!(serde_json::to_string(&Room::from("kit\"chen")).expect("text"), r#""kit\"chen""#);
        assert_eq!(serde_json::from_str::<Room>(r#""kit\"chen""#).expect("a room"), Room::from("kit\"chen"));
    }
}
