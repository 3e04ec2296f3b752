//! Where one socket was, and when.

use crate::position::Position;
use crate::store::{Range, StreamName};

/// A socket's time in a room. It hears what happens there after `from`, up to `until`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stay<R> {
    /// The room.
    pub room: R,
    /// The last position before it joined.
    pub from: u64,
    /// The last position before it left; `None` while it is there.
    pub until: Option<u64>,
}

/// The rooms of one socket with the positions it joined and left them at, and since when it is in the namespace.
///
/// Rooms it left are remembered, since what it missed there before leaving is still owed: up to [`Trail::MAX_LEFT`] of them. The
/// room of its own id is not listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trail<R> {
    start: Position,
    confirmed: u64,
    floor: u64,
    stays: Vec<Stay<R>>,
    left: usize,
}

impl<R: Eq> Trail<R> {
    /// How many rooms that were left are remembered; past it the oldest is forgotten, and with it how to replay what came before.
    pub const MAX_LEFT: usize = 64;

    /// A socket that comes into the namespace after everything up to `start`.
    #[must_use]
    pub const fn new(start: Position) -> Self {
        Self { start, confirmed: start.pos, floor: start.pos, stays: Vec::new(), left: 0 }
    }

    /// A trail as it was stored.
    #[must_use]
    pub fn restore(start: Position, confirmed: u64, floor: u64, stays: Vec<Stay<R>>) -> Self {
        let left = stays.iter().filter(|stay| stay.until.is_some()).count();
        Self { start, confirmed, floor, stays, left }
    }

    /// It came into the namespace after this position.
    #[must_use]
    pub const fn start(&self) -> Position {
        self.start
    }

    /// Everything up to here is known to have reached it: where it came in, unless [`Trail::confirm`] said more.
    #[must_use]
    pub const fn confirmed(&self) -> u64 {
        self.confirmed
    }

    /// Notes that everything up to `at` has reached it. "Was written to its connection" is no proof of that.
    pub fn confirm(&mut self, at: u64) {
        if at > self.confirmed {
            self.confirmed = at;
            self.stays.retain(|stay| stay.until.is_none_or(|until| until > at));
            self.left = self.stays.iter().filter(|stay| stay.until.is_some()).count();
        }
    }

    /// What happened before this position cannot be replayed any more: where the socket was is forgotten.
    #[must_use]
    pub const fn floor(&self) -> u64 {
        self.floor
    }

    /// It joins `room` after everything up to `at`. Does nothing if it is there.
    pub fn join(&mut self, room: R, at: u64) {
        if self.current(&room).is_none() {
            self.stays.push(Stay { room, from: at, until: None });
        }
    }

    /// It leaves `room` after everything up to `at`. Does nothing if it is not there.
    pub fn leave(&mut self, room: &R, at: u64) {
        let Some(index) = self.current(room) else { return };
        if self.stays[index].from == at {
            // Nothing happened meanwhile: as if it had never been there.
            self.stays.swap_remove(index);
            return;
        }
        self.stays[index].until = Some(at);
        self.left += 1;
        if self.left > Self::MAX_LEFT {
            self.forget_oldest();
        }
    }

    /// The stays, those that are over included.
    #[must_use]
    pub fn stays(&self) -> &[Stay<R>] {
        &self.stays
    }

    /// The rooms it is in.
    pub fn rooms(&self) -> impl Iterator<Item = &R> {
        self.stays.iter().filter(|stay| stay.until.is_none()).map(|stay| &stay.room)
    }

    /// Whether it was in `room` when the event at `pos` happened.
    #[must_use]
    pub fn was_in(&self, room: &R, pos: u64) -> bool {
        self.stays.iter().any(|stay| stay.room == *room && stay.hears(pos))
    }

    fn current(&self, room: &R) -> Option<usize> {
        self.stays.iter().position(|stay| stay.until.is_none() && stay.room == *room)
    }

    fn forget_oldest(&mut self) {
        let over = self.stays.iter().enumerate().filter_map(|(index, stay)| Some((stay.until?, index)));
        if let Some((until, index)) = over.min() {
            self.stays.swap_remove(index);
            self.floor = self.floor.max(until);
            self.left -= 1;
        }
    }
}

impl Trail<StreamName> {
    /// What is owed after the position `after`, up to `until`, to the socket whose own events are in the stream `own`: a range for that, and
    /// one for each stay.
    #[must_use]
    pub fn owed(&self, own: &StreamName, after: u64, until: u64) -> Vec<Range> {
        let own = Range { stream: own.clone(), after: after.max(self.start.pos), until };
        let stays = self.stays.iter().map(|stay| Range {
            stream: stay.room.clone(),
            after: stay.from.max(after),
            until: stay.until.unwrap_or(until).min(until),
        });
        std::iter::once(own).chain(stays).filter(|range| range.after < range.until).collect()
    }
}

impl<R> Stay<R> {
    /// Whether the event at `pos` happened during the stay.
    #[must_use]
    pub fn hears(&self, pos: u64) -> bool {
        self.from < pos && self.until.is_none_or(|until| pos <= until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::Epoch;

    fn start() -> Position {
        Position { epoch: Epoch(1), pos: 0 }
    }

    #[test]
    fn a_stay_begins_behind_the_join_and_ends_with_the_leave() {
        let mut trail = Trail::new(start());
        trail.join("room", 3);
        trail.leave(&"room", 5);
        trail.join("room", 8);
        let heard: Vec<u64> = (1..=10).filter(|pos| trail.was_in(&"room", *pos)).collect();
        assert_eq!(heard, [4, 5, 9, 10]);
        assert_eq!(trail.rooms().collect::<Vec<_>>(), [&"room"]);
    }

    #[test]
    fn joining_twice_and_leaving_what_was_not_joined_change_nothing() {
        let mut trail = Trail::new(start());
        trail.join("room", 3);
        trail.join("room", 7);
        trail.leave(&"other", 8);
        assert_eq!(trail.stays(), [Stay { room: "room", from: 3, until: None }]);
    }

    #[test]
    fn a_stay_without_events_leaves_no_trace() {
        let mut trail = Trail::new(start());
        for _ in 0..1_000 {
            trail.join("room", 3);
            trail.leave(&"room", 3);
        }
        assert!(trail.stays().is_empty());
        assert_eq!(trail.floor(), 0);
    }

    #[test]
    fn past_stays_are_bounded_and_what_is_forgotten_is_known() {
        let mut trail = Trail::new(start());
        trail.join(0, 0);
        for at in 1..=2 * Trail::<u64>::MAX_LEFT as u64 {
            trail.join(at, at);
            trail.leave(&at, at + 1);
        }
        assert_eq!(trail.stays().len(), Trail::<u64>::MAX_LEFT + 1, "the room it is in is kept");
        assert_eq!(trail.floor(), Trail::<u64>::MAX_LEFT as u64 + 1);
        assert!(trail.stays().iter().filter_map(|stay| stay.until).all(|until| until > trail.floor()));
    }

    #[test]
    fn what_was_confirmed_needs_no_past() {
        let mut trail = Trail::new(start());
        for (room, until) in [("a", 5), ("b", 6), ("c", 7)] {
            trail.join(room, 1);
            trail.leave(&room, until);
        }
        trail.join("d", 2);
        trail.confirm(6);
        trail.confirm(4);
        assert_eq!(trail.confirmed(), 6);
        assert_eq!(trail.stays().iter().map(|stay| stay.room).collect::<Vec<_>>(), ["c", "d"]);
    }
}
