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
    /// Workers that have not noted yet who was in which room before they told of changes.
    unseeded: usize,
    /// Changes noted before all workers had: with some members unknown nobody can say which room is new or empty.
    early: Vec<(Change, Room, SocketId)>,
}

#[derive(Clone, Copy, Debug)]
enum Change {
    Joined,
    Left,
}

impl RoomLedger {
    /// Begins in the middle of things: so many workers note who is where ([`RoomLedger::seed`]), each before the first change that it
    /// tells of, and say when they have ([`RoomLedger::seeded`]). No event is told before all have.
    pub const fn begin(&mut self, workers: usize) {
        self.unseeded = workers;
    }

    /// Notes members that were there before anybody listened: they are counted, and no event.
    pub fn seed(&mut self, room: &Room, members: usize) {
        *self.members.entry(room.clone()).or_default() += members;
    }

    /// A worker has noted all that it had.
    pub fn seeded(&mut self) {
        self.unseeded = self.unseeded.saturating_sub(1);
        if self.unseeded == 0 {
            for (change, room, socket) in std::mem::take(&mut self.early) {
                self.note(change, room, socket);
            }
        }
    }

    /// A socket joined a room it was not in.
    pub fn joined(&mut self, room: &Room, socket: SocketId) {
        self.note(Change::Joined, room.clone(), socket);
    }

    /// A socket left a room it was in.
    pub fn left(&mut self, room: &Room, socket: SocketId) {
        self.note(Change::Left, room.clone(), socket);
    }

    fn note(&mut self, change: Change, room: Room, socket: SocketId) {
        if self.unseeded > 0 {
            return self.early.push((change, room, socket));
        }
        match change {
            Change::Joined => {
                match self.members.get_mut(&room) {
                    Some(members) => *members += 1,
                    None => {
                        self.members.insert(room.clone(), 1);
                        self.events.push_back(RoomEvent::Created(room.clone()));
                    }
                }
                self.events.push_back(RoomEvent::Joined(room, socket));
            }
            Change::Left => {
                self.events.push_back(RoomEvent::Left(room.clone(), socket));
                let Some(members) = self.members.get_mut(&room) else { return };
                *members -= 1;
                if *members == 0 {
                    self.members.remove(&room);
                    self.events.push_back(RoomEvent::Deleted(room));
                }
            }
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
    fn nothing_is_told_before_all_workers_have_noted_what_they_had() {
        let room = Room::from("x");
        let (a, b) = (SocketId::from_bytes([1; 15]), SocketId::from_bytes([2; 15]));
        let mut ledger = RoomLedger::default();
        ledger.begin(2);
        ledger.seed(&room, 1);
        ledger.seeded();
        ledger.left(&room, a);
        assert_eq!(told(&mut ledger), [], "the other worker may have members of it");
        ledger.seed(&room, 1);
        ledger.seeded();
        assert_eq!(told(&mut ledger), [RoomEvent::Left(room.clone(), a)]);
        ledger.left(&room, b);
        assert_eq!(told(&mut ledger), [RoomEvent::Left(room.clone(), b), RoomEvent::Deleted(room)]);
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
