//! Rooms that clients join themselves.
//!
//! In Socket.IO joining is the server's act. A server without an application of its own offers it to clients as acknowledged
//! events, where a rule allows it:
//!
//! | event | answer |
//! | --- | --- |
//! | `room:join (room)` | `{ok: true, members: [{id, info}]}`, oneself among them |
//! | `room:leave (room)` | `{ok: true}` |
//! | `room:emit (room, event, ...args)` | `{ok: true}`; every member gets the event, the sender too |
//! | `room:presence (room)` | `{ok: true, members}` |
//!
//! A refusal is `{ok: false, code, message}`. Members hear `room:joined (room, member)` and `room:left (room, member)`. What a
//! member says of itself is the `info` of its connection's auth.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use posthaste::{Answer, Args, Auth, Data, Namespace, Socket, SocketId};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The most rooms one socket may be in.
const MAX_ROOMS: usize = 256;
/// The longest name of a room, in bytes.
const MAX_NAME_BYTES: usize = 256;
/// The longest `info`, in bytes of JSON.
const MAX_INFO_BYTES: usize = 1024;

/// Whether a room is open in `dev`.
pub(crate) fn is_demo(room: &str) -> bool {
    room == "demo" || room.starts_with("demo:")
}

/// Why something was refused, in words that programs can rely on.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Code {
    Forbidden,
    Invalid,
    NotMember,
    TooMany,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Reply {
    Ok {
        ok: True,
        #[serde(skip_serializing_if = "Option::is_none")]
        members: Option<Vec<Member>>,
    },
    Refused {
        ok: False,
        code: Code,
        message: &'static str,
    },
}

#[derive(Debug, Default)]
struct True;
#[derive(Debug, Default)]
struct False;

impl Serialize for True {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bool(true)
    }
}

impl Serialize for False {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bool(false)
    }
}

impl Reply {
    const OK: Self = Self::Ok { ok: True, members: None };

    const fn refused(code: Code, message: &'static str) -> Self {
        Self::Refused { ok: False, code, message }
    }
}

/// Someone in a room.
#[derive(Clone, Debug, Serialize)]
struct Member {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    info: Option<Arc<RawValue>>,
}

/// Who is where. One lock for all rooms: it is held for look-ups only, and joining is rare beside emitting.
#[derive(Clone, Default)]
struct Presence(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    rooms: HashMap<String, BTreeMap<SocketId, Member>>,
    sockets: HashMap<SocketId, Vec<String>>,
}

impl Presence {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_member(&self, id: SocketId, room: &str) -> bool {
        self.rooms.get(room).is_some_and(|members| members.contains_key(&id))
    }

    fn members(&self, room: &str) -> Vec<Member> {
        self.rooms.get(room).map_or_else(Vec::new, |members| members.values().cloned().collect())
    }

    fn leave(&mut self, id: SocketId, room: &str) -> Option<Member> {
        if let Some(rooms) = self.sockets.get_mut(&id) {
            rooms.retain(|joined| joined != room);
            if rooms.is_empty() {
                self.sockets.remove(&id);
            }
        }
        let members = self.rooms.get_mut(room)?;
        let member = members.remove(&id);
        if members.is_empty() {
            self.rooms.remove(room);
        }
        member
    }
}

/// What a client says of itself when it connects.
#[derive(Debug, Deserialize)]
struct Introduction {
    info: Option<Box<RawValue>>,
}

/// Offers the rooms that `is_open` allows to every client of a namespace.
pub(crate) fn open(namespace: &Namespace, is_open: fn(&str) -> bool) {
    let presence = Presence::default();

    let present = presence.clone();
    namespace.on("room:join", move |socket: Socket, Auth(who): Auth<Introduction>, Data(room): Data<String>| {
        let reply = join(&present, is_open, &socket, who, room);
        async move { Answer(reply) }
    });

    let present = presence.clone();
    namespace.on("room:leave", move |socket: Socket, Data(room): Data<String>| {
        let left = present.lock().leave(socket.id(), &room);
        if let Some(member) = left {
            socket.leave(&room);
            tell(&socket.namespace(), &room, "room:left", &member);
        }
        async { Answer(Reply::OK) }
    });

    let present = presence.clone();
    namespace.on("room:presence", move |socket: Socket, Data(room): Data<String>| {
        let state = present.lock();
        let reply = if state.is_member(socket.id(), &room) {
            Reply::Ok { ok: True, members: Some(state.members(&room)) }
        } else {
            Reply::refused(Code::NotMember, "only members may ask who is in a room")
        };
        drop(state);
        async move { Answer(reply) }
    });

    let present = presence.clone();
    namespace.on("room:emit", move |socket: Socket, Data(args): Data<Args<'static>>| {
        let reply = emit(&present, &socket, &args);
        async move { Answer(reply) }
    });

    namespace.on_disconnect(move |socket: Socket| {
        let id = socket.id();
        let left: Vec<(String, Member)> = {
            let mut state = presence.lock();
            let rooms = state.sockets.get(&id).cloned().unwrap_or_default();
            rooms.into_iter().filter_map(|room| state.leave(id, &room).map(|member| (room, member))).collect()
        };
        for (room, member) in &left {
            tell(&socket.namespace(), room, "room:left", member);
        }
        async {}
    });
}

fn join(presence: &Presence, is_open: fn(&str) -> bool, socket: &Socket, who: Introduction, room: String) -> Reply {
    if room.len() > MAX_NAME_BYTES {
        return Reply::refused(Code::Invalid, "the room's name is too long");
    }
    if !is_open(&room) {
        return Reply::refused(Code::Forbidden, "no rule lets clients join this room");
    }
    if who.info.as_ref().is_some_and(|info| info.get().len() > MAX_INFO_BYTES) {
        return Reply::refused(Code::Invalid, "the info of the connection's auth is too long");
    }
    let id = socket.id();
    let member = Member { id: id.to_string(), info: who.info.map(Arc::from) };
    let mut state = presence.lock();
    if state.is_member(id, &room) {
        return Reply::Ok { ok: True, members: Some(state.members(&room)) };
    }
    let rooms = state.sockets.entry(id).or_default();
    if rooms.len() >= MAX_ROOMS {
        return Reply::refused(Code::TooMany, "the socket is in too many rooms");
    }
    rooms.push(room.clone());
    state.rooms.entry(room.clone()).or_default().insert(id, member.clone());
    let members = state.members(&room);
    drop(state);
    tell(&socket.namespace(), &room, "room:joined", &member);
    socket.join(room);
    Reply::Ok { ok: True, members: Some(members) }
}

fn emit(presence: &Presence, socket: &Socket, args: &Args<'_>) -> Reply {
    let Ok((room, event)) = args.deserialize::<(String, String)>() else {
        return Reply::refused(Code::Invalid, "room:emit takes a room, an event and its arguments");
    };
    if !presence.lock().is_member(socket.id(), &room) {
        return Reply::refused(Code::NotMember, "only members may emit to a room");
    }
    if event.starts_with("room:") {
        return Reply::refused(Code::Forbidden, "events named room:… are the server's own");
    }
    match socket.namespace().to(room).emit(&event, &args.skip(2)).now() {
        Ok(()) => Reply::OK,
        Err(error) => {
            tracing::debug!(%error, "room:emit");
            Reply::refused(Code::Invalid, "the event cannot be sent")
        }
    }
}

fn tell(namespace: &Namespace, room: &str, event: &str, member: &Member) {
    if let Err(error) = namespace.to(room).emit(event, &(room, member)).now() {
        tracing::warn!(%error, event, "the members of a room could not be told");
    }
}
