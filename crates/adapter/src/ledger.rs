//! Which rooms a node has, all workers together.

use std::collections::HashMap;
use std::collections::VecDeque;

use crate::port::RoomEvent;
use crate::room::{Room, SocketId};

/// Counts the members of each room over all workers, and tells what that means in events: a room is created before its first
/// member joins and deleted after its last one left.
///
/// Events come in the order in which the changes were noted. They wait in a queue until somebody takes them, one at a time
/// ([`RoomLedger::take`] to [`RoomLedger::done`]): so they are told in order even if many threads note changes, and whoever is
/// told may change rooms himself.
#[derive(Debug, Default)]
pub struct RoomLedger {
    /// Names are clients' choice in many applications: a keyed hasher.
    members: HashMap<Room, usize>,
    events: VecDeque<RoomEvent>,
    telling: bool,
}

impl RoomLedger {
    /// Notes members that were there before anybody listened: they are counted, and no event.
    pub fn seed(&mut self, room: &Room, members: usize) {
        *self.members.entry(room.clone()).or_default() += members;
    }

    /// A socket joined a room it was not in.
    pub fn joined(&mut self, room: &Room, socket: SocketId) {
        match self.members.get_mut(room) {
            Some(members) => *members += 1,
            None => {
                self.members.insert(room.clone(), 1);
                self.events.push_back(RoomEvent::Created(room.clone()));
            }
        }
        self.events.push_back(RoomEvent::Joined(room.clone(), socket));
    }

    /// A socket left a room it was in.
    pub fn left(&mut self, room: &Room, socket: SocketId) {
        self.events.push_back(RoomEvent::Left(room.clone(), socket));
        let Some(members) = self.members.get_mut(room) else { return };
        *members -= 1;
        if *members == 0 {
            self.members.remove(room);
            self.events.push_back(RoomEvent::Deleted(room.clone()));
        }
    }

    /// The next event to tell, unless somebody is telling one: who gets it calls [`RoomLedger::done`] for the one after it.
    pub fn take(&mut self) -> Option<RoomEvent> {
        if self.telling {
            return None;
        }
        let next = self.events.pop_front();
        self.telling = next.is_some();
        next
    }

    /// The event that was taken is told. Gives the next one, if there is one: it is as if taken.
    pub fn done(&mut self) -> Option<RoomEvent> {
        self.telling = false;
        self.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(ledger: &mut RoomLedger) -> Vec<RoomEvent> {
        let mut events: Vec<_> = ledger.take().into_iter().collect();
        while let Some(event) = ledger.done() {
            events.push(event);
        }
        events
    }

    #[test]
    fn a_room_is_created_before_its_first_member_and_deleted_after_its_last() {
        let (a, b) = (SocketId::from_bytes([1; 15]), SocketId::from_bytes([2; 15]));
        let room = Room::from("x");
        let mut ledger = RoomLedger::default();
        ledger.joined(&room, a);
        ledger.joined(&room, b);
        ledger.left(&room, a);
        ledger.left(&room, b);
        use RoomEvent::{Created, Deleted, Joined, Left};
        let expected = [
            Created(room.clone()),
            Joined(room.clone(), a),
            Joined(room.clone(), b),
            Left(room.clone(), a),
            Left(room.clone(), b),
            Deleted(room),
        ];
        assert_eq!(told(&mut ledger), expected);
        assert!(ledger.members.is_empty());
    }

    #[test]
    fn what_was_there_before_is_counted_and_not_told() {
        let room = Room::from("x");
        let mut ledger = RoomLedger::default();
        ledger.seed(&room, 1);
        ledger.seed(&room, 1);
        let a = SocketId::from_bytes([1; 15]);
        ledger.left(&room, a);
        assert_eq!(told(&mut ledger), [RoomEvent::Left(room.clone(), a)]);
        ledger.left(&room, a);
        assert_eq!(told(&mut ledger), [RoomEvent::Left(room.clone(), a), RoomEvent::Deleted(room)]);
    }

    #[test]
    fn one_event_is_told_at_a_time() {
        let mut ledger = RoomLedger::default();
        ledger.joined(&"x".into(), SocketId::from_bytes([1; 15]));
        assert!(ledger.take().is_some());
        assert!(ledger.take().is_none(), "another thread, or a listener that joins a room");
        assert!(ledger.done().is_some());
        assert!(ledger.done().is_none());
        assert!(ledger.take().is_none());
    }
}
