//! Rooms of one worker, for those who want to hear of them.

use posthaste_adapter::{Member, Room, Rooms, SocketId};

use super::{Local, LocalNamespace};

impl Local {
    /// The rooms of a namespace here with the number of their members, those of the sockets' own ids left out.
    pub(crate) fn room_sizes(&self, namespace: u32) -> Vec<(Room, usize)> {
        let Some(namespace) = self.namespace(namespace) else { return Vec::new() };
        let membership = namespace.membership.borrow();
        membership.rooms().map(|(room, members)| (room.clone(), members)).collect()
    }

    /// Tells of a namespace's rooms from now on. A half that is made later does so by itself.
    pub(crate) fn watch_rooms(&self, namespace: u32) {
        let Some(namespace) = self.namespace(namespace) else { return };
        if namespace.watched.replace(true) {
            return;
        }
        let membership = namespace.membership.borrow();
        namespace.shared.seed_rooms(membership.rooms());
        let own: Vec<Room> = membership.ids().map(Room::from).collect();
        namespace.shared.seed_rooms(own.iter().map(|room| (room, 1)));
    }
}

impl LocalNamespace {
    /// Puts a socket into rooms. May call the application, so nothing may be borrowed.
    pub(super) fn join<'a>(&self, member: Member, socket: SocketId, rooms: impl Iterator<Item = &'a Room>) {
        let mut joined = Rooms::new();
        let mut changed = false;
        {
            let mut membership = self.membership.borrow_mut();
            for room in rooms {
                if membership.join(member, room) {
                    changed = true;
                    if let Some(tracking) = &self.tracking {
                        tracking.joined(member, room);
                    }
                    if self.watched.get() {
                        joined.push(room.clone());
                    }
                }
            }
        }
        self.note(member, changed);
        self.tell_joined(socket, &joined);
    }

    /// Has the store know in which rooms a socket is now.
    fn note(&self, member: Member, changed: bool) {
        if changed && let Some(tracking) = &self.tracking {
            tracking.note(member);
        }
    }

    /// Takes a socket out of rooms. May call the application, so nothing may be borrowed.
    pub(super) fn leave(&self, member: Member, socket: SocketId, rooms: &Rooms) {
        let mut left = Rooms::new();
        let mut changed = false;
        {
            let mut membership = self.membership.borrow_mut();
            for room in rooms {
                if membership.leave(member, room) {
                    changed = true;
                    if let Some(tracking) = &self.tracking {
                        tracking.left_room(member, room);
                    }
                    if self.watched.get() {
                        left.push(room.clone());
                    }
                }
            }
        }
        self.note(member, changed);
        self.tell_left(socket, &left);
    }

    /// A socket is in the namespace: tells of its own room and of those it joined on its way in. Calls the application.
    pub(super) fn tell_entered(&self, member: Member, socket: SocketId) {
        if self.watched.get() {
            let rooms = self.membership.borrow().rooms_of(member);
            self.tell_joined(socket, &rooms);
        }
    }

    /// A socket was removed: tells of its own room and the others it was in. Calls the application.
    pub(super) fn tell_gone(&self, socket: SocketId, rooms: Vec<Room>) {
        if self.watched.get() {
            let own = std::iter::once(Room::from(socket));
            self.tell_left(socket, &own.chain(rooms).collect::<Vec<_>>());
        }
    }

    fn tell_joined(&self, socket: SocketId, rooms: &[Room]) {
        if !rooms.is_empty() {
            self.shared.note_rooms(|ledger| rooms.iter().for_each(|room| ledger.joined(room, socket)));
        }
    }

    fn tell_left(&self, socket: SocketId, rooms: &[Room]) {
        if !rooms.is_empty() {
            self.shared.note_rooms(|ledger| rooms.iter().for_each(|room| ledger.left(room, socket)));
        }
    }
}
