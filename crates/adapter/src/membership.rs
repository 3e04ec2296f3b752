//! The sockets and rooms of one namespace on one worker.

use std::collections::HashMap;

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use crate::room::{Room, SocketId};
use crate::target::Target;

/// A socket's number in its [`Membership`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Member(pub u32);

/// Who is in which room, as dense lists: a broadcast walks one list of places, a leave moves one entry.
///
/// Every socket is in the room of its own id without being listed: that room is the map from ids to members. `slot` is the place
/// of the socket's connection, which is what a broadcast is delivered to.
#[derive(Debug, Default)]
pub struct Membership {
    members: Vec<MemberEntry>,
    free_members: Vec<u32>,
    ids: FxHashMap<SocketId, Member>,
    rooms: Vec<RoomEntry>,
    free_rooms: Vec<u32>,
    /// Names come from clients in many applications, so this map has a keyed hasher; ids are random already.
    names: HashMap<Room, u32>,
    /// Marks members that one selection has seen; see [`Membership::select`].
    stamp: u32,
    len: usize,
}

#[derive(Debug)]
struct MemberEntry {
    slot: u32,
    stamp: u32,
    /// The place in the list of all members.
    id: Option<SocketId>,
    /// The rooms it is in, and its position in each.
    rooms: SmallVec<[(u32, u32); 2]>,
}

#[derive(Debug)]
struct RoomEntry {
    name: Room,
    members: Vec<Place>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    member: Member,
    slot: u32,
}

impl Membership {
    /// Adds a socket whose connection is at `slot`.
    pub fn insert(&mut self, id: SocketId, slot: u32) -> Member {
        let entry = MemberEntry { slot, stamp: 0, id: Some(id), rooms: SmallVec::new() };
        let member = match self.free_members.pop() {
            Some(number) => {
                self.members[number as usize] = entry;
                Member(number)
            }
            None => {
                self.members.push(entry);
                Member(number_of(self.members.len() - 1))
            }
        };
        self.ids.insert(id, member);
        self.len += 1;
        member
    }

    /// Removes a socket from every room and from the namespace. Returns the rooms it was in, its own left out.
    pub fn remove(&mut self, member: Member) -> Vec<Room> {
        let Some(id) = self.members.get_mut(member.0 as usize).and_then(|entry| entry.id.take()) else {
            return Vec::new();
        };
        let mut left = Vec::new();
        while let Some((room, position)) = self.members[member.0 as usize].rooms.pop() {
            left.push(self.rooms[room as usize].name.clone());
            self.take_out(room, position);
        }
        self.ids.remove(&id);
        self.free_members.push(member.0);
        self.len -= 1;
        left
    }

    /// Puts a socket into a room; false if it is in it already (its own room always is).
    pub fn join(&mut self, member: Member, room: &Room) -> bool {
        if self.entry(member).is_none_or(|entry| own_room(entry, room)) {
            return false;
        }
        let number = match self.names.get(&**room) {
            Some(number) => *number,
            None => self.add_room(room),
        };
        let position = number_of(self.rooms[number as usize].members.len());
        let entry = &mut self.members[member.0 as usize];
        if entry.rooms.iter().any(|(joined, _)| *joined == number) {
            return false;
        }
        entry.rooms.push((number, position));
        let slot = entry.slot;
        self.rooms[number as usize].members.push(Place { member, slot });
        true
    }

    /// Takes a socket out of a room; false if it was not in it. Its own room cannot be left.
    pub fn leave(&mut self, member: Member, room: &str) -> bool {
        let Some(number) = self.names.get(room).copied() else { return false };
        if self.entry(member).is_none() {
            return false;
        }
        let rooms = &mut self.members[member.0 as usize].rooms;
        let Some(index) = rooms.iter().position(|(joined, _)| *joined == number) else { return false };
        let (_, position) = rooms.remove(index);
        self.take_out(number, position);
        true
    }

    /// The rooms of a socket, its own first.
    #[must_use]
    pub fn rooms_of(&self, member: Member) -> Vec<Room> {
        let Some(entry) = self.entry(member) else { return Vec::new() };
        let own = entry.id.map(Room::from);
        own.into_iter().chain(entry.rooms.iter().map(|(room, _)| self.rooms[*room as usize].name.clone())).collect()
    }

    /// How many rooms a socket is in, its own left out.
    #[must_use]
    pub fn rooms_held(&self, member: Member) -> usize {
        self.entry(member).map_or(0, |entry| entry.rooms.len())
    }

    /// Whether a socket is in a room.
    #[must_use]
    pub fn is_in(&self, member: Member, room: &Room) -> bool {
        let Some(entry) = self.entry(member) else { return false };
        let number = self.names.get(&**room);
        own_room(entry, room) || number.is_some_and(|number| entry.rooms.iter().any(|(joined, _)| joined == number))
    }

    /// The socket of that id.
    #[must_use]
    pub fn by_id(&self, id: &SocketId) -> Option<Member> {
        self.ids.get(id).copied()
    }

    /// The ids of all sockets.
    pub fn ids(&self) -> impl Iterator<Item = SocketId> {
        self.ids.keys().copied()
    }

    /// How many sockets there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no socket.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many rooms there are, those of the sockets' own ids left out.
    #[must_use]
    pub fn room_count(&self) -> usize {
        self.names.len()
    }

    /// The rooms, those of the sockets' own ids left out, with the number of their members.
    pub fn rooms(&self) -> impl Iterator<Item = (&Room, usize)> {
        self.names.iter().map(|(name, number)| (name, self.rooms[*number as usize].members.len()))
    }

    /// Visits the member and connection of every socket that `target` means, each once.
    pub fn select(&mut self, target: &Target, mut visit: impl FnMut(Member, u32)) {
        if let ([room], []) = (target.rooms.as_slice(), target.except.as_slice()) {
            // The usual broadcast: one list, nobody twice.
            if let Some(number) = self.names.get(&**room) {
                self.rooms[*number as usize].members.iter().for_each(|place| visit(place.member, place.slot));
            }
            if let Some(own) = self.by_name(room) {
                // A room may be called like a socket's id; whoever joined it so is not that socket itself.
                visit(own, self.members[own.0 as usize].slot);
            }
            return;
        }
        let stamp = self.next_stamp();
        for room in &target.except {
            let Self { members, rooms, names, .. } = self;
            if let Some(number) = names.get(&**room) {
                rooms[*number as usize].members.iter().for_each(|place| members[place.member.0 as usize].stamp = stamp);
            }
            if let Some(own) = self.by_name(room) {
                self.members[own.0 as usize].stamp = stamp;
            }
        }
        if target.rooms.is_empty() {
            for (number, entry) in self.members.iter().enumerate() {
                if entry.id.is_some() && entry.stamp != stamp {
                    visit(Member(number_of(number)), entry.slot);
                }
            }
            return;
        }
        for room in &target.rooms {
            let Self { members, rooms, names, .. } = self;
            if let Some(number) = names.get(&**room) {
                for place in &rooms[*number as usize].members {
                    let seen = std::mem::replace(&mut members[place.member.0 as usize].stamp, stamp);
                    if seen != stamp {
                        visit(place.member, place.slot);
                    }
                }
            }
            if let Some(own) = self.by_name(room) {
                let entry = &mut self.members[own.0 as usize];
                if std::mem::replace(&mut entry.stamp, stamp) != stamp {
                    visit(own, entry.slot);
                }
            }
        }
    }

    fn entry(&self, member: Member) -> Option<&MemberEntry> {
        self.members.get(member.0 as usize).filter(|entry| entry.id.is_some())
    }

    /// The socket whose own room is called so.
    fn by_name(&self, room: &Room) -> Option<Member> {
        self.by_id(&SocketId::parse(room)?)
    }

    fn add_room(&mut self, name: &Room) -> u32 {
        let entry = RoomEntry { name: name.clone(), members: Vec::new() };
        let number = match self.free_rooms.pop() {
            Some(number) => {
                self.rooms[number as usize] = entry;
                number
            }
            None => {
                self.rooms.push(entry);
                number_of(self.rooms.len() - 1)
            }
        };
        self.names.insert(name.clone(), number);
        number
    }

    /// Takes the entry at `position` out of a room; the last one moves there. An empty room is forgotten.
    fn take_out(&mut self, room: u32, position: u32) {
        let members = &mut self.rooms[room as usize].members;
        members.swap_remove(position as usize);
        if let Some(moved) = members.get(position as usize) {
            let rooms = &mut self.members[moved.member.0 as usize].rooms;
            let entry = rooms.iter_mut().find(|(joined, _)| *joined == room);
            entry.expect("invariant: a room lists only sockets that list it").1 = position;
        } else if members.is_empty() {
            let forgotten = std::mem::take(members);
            drop(forgotten);
            self.names.remove(&*self.rooms[room as usize].name);
            self.free_rooms.push(room);
        }
    }

    fn next_stamp(&mut self) -> u32 {
        self.stamp = self.stamp.wrapping_add(1);
        if self.stamp == 0 {
            // Once in 2^32 selections old marks could be mistaken for new ones.
            self.members.iter_mut().for_each(|entry| entry.stamp = 0);
            self.stamp = 1;
        }
        self.stamp
    }
}

/// Whether `room` is the room of the socket's own id.
fn own_room(entry: &MemberEntry, room: &Room) -> bool {
    entry.id.is_some_and(|id| &**room == id)
}

fn number_of(index: usize) -> u32 {
    u32::try_from(index).expect("invariant: file descriptors end before 2^32 sockets")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::room::{IntoRooms, Rooms};
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    fn id(number: u8) -> SocketId {
        SocketId::from_bytes([number; 15])
    }

    fn target(rooms: &[&str], except: &[&str]) -> Target {
        let collect = |names: &[&str]| {
            let mut rooms = Rooms::new();
            names.append_to(&mut rooms);
            rooms
        };
        Target { rooms: collect(rooms), except: collect(except), ..Target::default() }
    }

    fn selected(membership: &mut Membership, target: &Target) -> Vec<u32> {
        let mut slots = Vec::new();
        membership.select(target, |_, slot| slots.push(slot));
        slots.sort_unstable();
        slots
    }

    #[test]
    fn a_socket_in_overlapping_rooms_is_reached_once() {
        let mut membership = Membership::default();
        let (a, b) = (membership.insert(id(1), 10), membership.insert(id(2), 20));
        for room in ["x", "y"] {
            membership.join(a, &room.into());
        }
        membership.join(b, &"y".into());
        assert_eq!(selected(&mut membership, &target(&["x", "y"], &[])), [10, 20]);
        assert_eq!(selected(&mut membership, &target(&["x", "y"], &["x"])), [20]);
        assert_eq!(selected(&mut membership, &target(&[], &["x"])), [20]);
    }

    #[test]
    fn every_socket_is_in_the_room_of_its_own_id() {
        let mut membership = Membership::default();
        let a = membership.insert(id(1), 10);
        membership.insert(id(2), 20);
        let own = id(1).to_string();
        assert_eq!(selected(&mut membership, &target(&[&own], &[])), [10]);
        assert_eq!(selected(&mut membership, &target(&[], &[&own])), [20]);
        assert!(!membership.join(a, &own.as_str().into()));
        assert!(!membership.leave(a, &own));
        assert_eq!(membership.rooms_of(a), [Room::from(own.as_str())]);
    }

    #[test]
    fn another_socket_may_join_the_room_of_an_id() {
        let mut membership = Membership::default();
        membership.insert(id(1), 10);
        let b = membership.insert(id(2), 20);
        let own = id(1).to_string();
        membership.join(b, &own.as_str().into());
        assert_eq!(selected(&mut membership, &target(&[&own], &[])), [10, 20]);
        assert_eq!(selected(&mut membership, &target(&[&own, &own], &[])), [10, 20]);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u8),
        Remove(u8),
        Join(u8, u8),
        Leave(u8, u8),
        Select(Vec<u8>, Vec<u8>),
    }

    fn step() -> impl Strategy<Value = Step> {
        let socket = 0u8..12;
        // The last rooms are called like the ids of sockets.
        let room = 0u8..8;
        let rooms = proptest::collection::vec(0u8..8, 0..3);
        prop_oneof![
            2 => socket.clone().prop_map(Step::Insert),
            1 => socket.clone().prop_map(Step::Remove),
            4 => (socket.clone(), room.clone()).prop_map(|(socket, room)| Step::Join(socket, room)),
            2 => (socket, room).prop_map(|(socket, room)| Step::Leave(socket, room)),
            4 => (rooms.clone(), rooms).prop_map(|(rooms, except)| Step::Select(rooms, except)),
        ]
    }

    fn name(room: u8) -> String {
        if room < 5 { format!("room-{room}") } else { id(room).to_string() }
    }

    proptest! {
        #[test]
        fn membership_agrees_with_a_map_of_sets(steps in proptest::collection::vec(step(), 1..120)) {
            let mut membership = Membership::default();
            let mut model: BTreeMap<u8, (Member, BTreeSet<String>)> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Insert(socket) if !model.contains_key(&socket) => {
                        let member = membership.insert(id(socket), u32::from(socket));
                        model.insert(socket, (member, BTreeSet::from([id(socket).to_string()])));
                    }
                    Step::Insert(_) => {}
                    Step::Remove(socket) => {
                        if let Some((member, mut rooms)) = model.remove(&socket) {
                            rooms.remove(&id(socket).to_string());
                            let left: BTreeSet<_> = membership.remove(member).iter().map(ToString::to_string).collect();
                            prop_assert_eq!(left, rooms);
                            prop_assert!(membership.remove(member).is_empty());
                        }
                    }
                    Step::Join(socket, room) => {
                        if let Some((member, rooms)) = model.get_mut(&socket) {
                            prop_assert_eq!(membership.join(*member, &name(room).into()), rooms.insert(name(room)));
                        }
                    }
                    Step::Leave(socket, room) => {
                        if let Some((member, rooms)) = model.get_mut(&socket) {
                            let expected = name(room) != id(socket).to_string() && rooms.remove(&name(room));
                            prop_assert_eq!(membership.leave(*member, &name(room)), expected);
                        }
                    }
                    Step::Select(rooms, except) => {
                        let (rooms, except): (Vec<_>, Vec<_>) =
                            (rooms.into_iter().map(name).collect(), except.into_iter().map(name).collect());
                        let expected: Vec<u32> = model
                            .iter()
                            .filter(|(_, (_, joined))| rooms.is_empty() || rooms.iter().any(|room| joined.contains(room)))
                            .filter(|(_, (_, joined))| !except.iter().any(|room| joined.contains(room)))
                            .map(|(socket, _)| u32::from(*socket))
                            .collect();
                        let names = |rooms: &[String]| {
                            let mut collected = Rooms::new();
                            rooms.append_to(&mut collected);
                            collected
                        };
                        let target = Target { rooms: names(&rooms), except: names(&except), ..Target::default() };
                        prop_assert_eq!(selected(&mut membership, &target), expected);
                    }
                }
                prop_assert_eq!(membership.len(), model.len());
                let named: BTreeSet<&String> = model
                    .iter()
                    .flat_map(|(socket, (_, rooms))| rooms.iter().filter(move |room| **room != id(*socket).to_string()))
                    .collect();
                prop_assert_eq!(membership.room_count(), named.len(), "empty rooms are forgotten");
            }
        }
    }
}
