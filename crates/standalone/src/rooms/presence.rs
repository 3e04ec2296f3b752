//! Who is where.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use posthaste::SocketId;

use crate::rooms::answer::Member;

/// Who is where. One lock for all rooms: it is held for look-ups only, and joining is rare beside emitting.
#[derive(Clone, Default)]
pub(crate) struct Presence(Arc<Mutex<State>>);

#[derive(Default)]
pub(crate) struct State {
    rooms: HashMap<String, BTreeMap<SocketId, Member>>,
    sockets: HashMap<SocketId, Vec<String>>,
}

impl Presence {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    pub(crate) fn is_member(&self, id: SocketId, room: &str) -> bool {
        self.rooms.get(room).is_some_and(|members| members.contains_key(&id))
    }

    /// How many rooms a socket is in.
    pub(crate) fn rooms_of(&self, id: SocketId) -> usize {
        self.sockets.get(&id).map_or(0, Vec::len)
    }

    pub(crate) fn members(&self, room: &str) -> Vec<Member> {
        self.rooms.get(room).map_or_else(Vec::new, |members| members.values().cloned().collect())
    }

    /// Whether it was not there before.
    pub(crate) fn join(&mut self, id: SocketId, room: &str, member: Member) -> bool {
        let is_new = self.rooms.entry(room.to_owned()).or_default().insert(id, member).is_none();
        if is_new {
            self.sockets.entry(id).or_default().push(room.to_owned());
        }
        is_new
    }

    pub(crate) fn leave(&mut self, id: SocketId, room: &str) -> Option<Member> {
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

    /// Has it leave all rooms; as whom it was in which.
    pub(crate) fn leave_all(&mut self, id: SocketId) -> Vec<(String, Member)> {
        let rooms = self.sockets.remove(&id).unwrap_or_default();
        rooms.into_iter().filter_map(|room| self.leave(id, &room).map(|member| (room, member))).collect()
    }
}
