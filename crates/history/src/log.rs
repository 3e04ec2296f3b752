//! The events of one namespace, for a while.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use bytes::Bytes;
use smallvec::SmallVec;

use crate::position::{Epoch, Position};
use crate::recovery::{Budget, NotRecovered};
use crate::trail::Trail;

/// What an entry costs besides its bytes. An estimate.
const ENTRY_OVERHEAD: usize = 128;
/// What each room that it names costs: its place there, and in the list of the room. An estimate.
const ROOM_OVERHEAD: usize = 64;

/// How much a [`Log`] keeps. Whatever is reached first forgets the oldest event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLimits {
    /// Bytes of all events together, an estimate of the bookkeeping included.
    pub max_bytes: usize,
    /// Number of events.
    pub max_events: usize,
    /// How long an event is kept.
    pub max_age: Duration,
}

/// Whom an event was for: the sockets in any of `rooms` (without rooms: all), but not those in any of `except`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audience<R> {
    /// In any of these.
    pub rooms: SmallVec<[R; 1]>,
    /// In none of these.
    pub except: SmallVec<[R; 1]>,
}

impl<R> Default for Audience<R> {
    fn default() -> Self {
        Self { rooms: SmallVec::new(), except: SmallVec::new() }
    }
}

/// Events in the order they happened, the oldest forgotten as room is needed.
///
/// Each room's positions are listed, so that what one socket missed is found without walking over what others did. Of what is
/// forgotten the log remembers how far each room is incomplete; when those notes get too many, the older half becomes one note
/// for all rooms.
#[derive(Clone, Debug)]
pub struct Log<R> {
    epoch: Epoch,
    limits: LogLimits,
    /// The last position given out; the entries end there, without holes.
    head: u64,
    entries: VecDeque<Entry<R>>,
    bytes: usize,
    /// Those to everybody.
    everybody: Stream,
    rooms: HashMap<R, Stream>,
    /// Rooms without entries, kept for their floor.
    forgotten: usize,
    /// Any room may have lost something up to here.
    floor: u64,
}

#[derive(Clone, Debug)]
struct Entry<R> {
    at: Instant,
    audience: Audience<R>,
    frames: Bytes,
}

/// The entries of one room.
#[derive(Clone, Debug, Default)]
struct Stream {
    positions: VecDeque<u64>,
    /// Entries up to here were forgotten.
    floor: u64,
}

impl<R: Clone + Eq + Hash> Log<R> {
    /// An empty log.
    #[must_use]
    pub fn new(epoch: Epoch, limits: LogLimits) -> Self {
        Self {
            epoch,
            limits,
            head: 0,
            entries: VecDeque::new(),
            bytes: 0,
            everybody: Stream::default(),
            rooms: HashMap::new(),
            forgotten: 0,
            floor: 0,
        }
    }

    /// The epoch.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The position of the last event.
    #[must_use]
    pub const fn head(&self) -> Position {
        Position { epoch: self.epoch, pos: self.head }
    }

    /// The position that the next event will have. It is known before the event is appended, since the event carries it.
    #[must_use]
    pub const fn next(&self) -> Position {
        Position { epoch: self.epoch, pos: self.head + 1 }
    }

    /// Appends an event at [`Log::next`], and forgets what there is no more room for: this one too if it is larger than the log.
    pub fn append(&mut self, now: Instant, audience: Audience<R>, frames: Bytes) -> Position {
        self.head += 1;
        let pos = self.head;
        if audience.rooms.is_empty() {
            self.everybody.positions.push_back(pos);
        }
        for room in &audience.rooms {
            match self.rooms.get_mut(room) {
                Some(stream) => {
                    self.forgotten -= usize::from(stream.positions.is_empty());
                    // A room that is named twice hears it once.
                    if stream.positions.back() != Some(&pos) {
                        stream.positions.push_back(pos);
                    }
                }
                None => drop(self.rooms.insert(room.clone(), Stream { positions: [pos].into(), floor: 0 })),
            }
        }
        let entry = Entry { at: now, audience, frames };
        self.bytes += entry.cost();
        self.entries.push_back(entry);
        self.trim(now);
        self.head()
    }

    /// Forgets what is too old, or too much.
    pub fn trim(&mut self, now: Instant) {
        let LogLimits { max_bytes, max_events, max_age } = self.limits;
        while let Some(oldest) = self.entries.front() {
            let too_old = now.saturating_duration_since(oldest.at) > max_age;
            if !too_old && self.bytes <= max_bytes && self.entries.len() <= max_events {
                break;
            }
            self.forget_oldest();
        }
        if self.forgotten > self.limits.max_events.max(1) {
            self.merge_floors();
        }
    }

    /// When the oldest event that is kept happened.
    #[must_use]
    pub fn oldest(&self) -> Option<Instant> {
        self.entries.front().map(|entry| entry.at)
    }

    /// Forgets the oldest event, to make room. Returns whether there was one.
    pub fn shed(&mut self) -> bool {
        let any = !self.entries.is_empty();
        self.forget_oldest();
        any
    }

    fn forget_oldest(&mut self) {
        let pos = self.head + 1 - self.entries.len() as u64;
        let Some(entry) = self.entries.pop_front() else { return };
        self.bytes -= entry.cost();
        if entry.audience.rooms.is_empty() {
            self.everybody.forget(pos);
        }
        for room in &entry.audience.rooms {
            if let Some(stream) = self.rooms.get_mut(room) {
                // Twice for a room that is named twice; only the first time is there something to forget.
                let emptied = stream.forget(pos) && stream.positions.is_empty();
                self.forgotten += usize::from(emptied);
            }
        }
    }

    /// Turns the older half of the notes about empty rooms into one for all rooms.
    fn merge_floors(&mut self) {
        let mut floors: Vec<u64> =
            self.rooms.values().filter(|stream| stream.positions.is_empty()).map(|stream| stream.floor).collect();
        let middle = floors.len() / 2;
        let (_, middle, _) = floors.select_nth_unstable(middle);
        let merged = *middle;
        self.rooms.retain(|_, stream| !stream.positions.is_empty() || stream.floor > merged);
        self.forgotten = self.rooms.values().filter(|stream| stream.positions.is_empty()).count();
        self.floor = self.floor.max(merged);
    }

    /// Forgets that a room ever was: nobody who was in it will come back. For the rooms of sockets' own ids.
    pub fn forget_room(&mut self, room: &R) {
        if self.rooms.get(room).is_some_and(|stream| stream.positions.is_empty()) {
            self.rooms.remove(room);
            self.forgotten -= 1;
        }
    }

    /// What the socket of this trail should have heard after the position `after`, up to `until`: frames, in order.
    ///
    /// `own` is the room of its own id. An event counts if the socket was in one of its rooms, and in none of its exceptions, when it happened.
    ///
    /// # Errors
    /// [`NotRecovered::Trimmed`] when something of that may have been forgotten, [`NotRecovered::TooMuch`] when it is more than
    /// `budget`.
    pub fn missed(
        &self,
        trail: &Trail<R>,
        own: &R,
        after: u64,
        until: u64,
        budget: Budget,
    ) -> Result<Vec<Bytes>, NotRecovered> {
        let start = trail.start().pos;
        if after < trail.floor() || after < self.floor || self.everybody.floor > after {
            return Err(NotRecovered::Trimmed);
        }
        let until = until.min(self.head);
        let mut found: Vec<u64> = self.everybody.between(after.max(start), until).collect();
        let stays = trail.stays().iter().map(|stay| (&stay.room, stay.from, stay.until.unwrap_or(until).min(until)));
        for (room, from, to) in stays.chain([(own, start, until)]) {
            let Some(stream) = self.rooms.get(room) else { continue };
            let from = from.max(after);
            if from < to && stream.floor > from {
                return Err(NotRecovered::Trimmed);
            }
            found.extend(stream.between(from, to));
        }
        found.sort_unstable();
        found.dedup();
        let mut spent = Budget { max_bytes: 0, max_events: 0 };
        let first = self.head + 1 - self.entries.len() as u64;
        let mut frames = Vec::new();
        for pos in found {
            let index = usize::try_from(pos - first).expect("invariant: listed positions are of entries that are kept");
            let entry = &self.entries[index];
            if entry.audience.except.iter().any(|room| room == own || trail.was_in(room, pos)) {
                continue;
            }
            frames.push(entry.frames.clone());
            spent.max_bytes += entry.frames.len();
            spent.max_events += 1;
            if let ControlFlow::Break(refusal) = budget.check(spent) {
                return Err(refusal);
            }
        }
        Ok(frames)
    }

    /// How many events are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no event is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What they take, in bytes: an estimate.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many rooms are noted, those included that nothing is kept of.
    #[must_use]
    pub fn noted_rooms(&self) -> usize {
        self.rooms.len()
    }
}

impl Stream {
    /// The listed positions after `after`, up to `until`.
    fn between(&self, after: u64, until: u64) -> impl Iterator<Item = u64> + '_ {
        let from = self.positions.partition_point(|pos| *pos <= after);
        self.positions.range(from..).copied().take_while(move |pos| *pos <= until)
    }

    /// Forgets `pos` if it is the oldest. Returns whether it was.
    fn forget(&mut self, pos: u64) -> bool {
        let is_first = self.positions.front() == Some(&pos);
        if is_first {
            self.positions.pop_front();
            self.floor = pos;
        }
        is_first
    }
}

impl<R> Entry<R> {
    fn cost(&self) -> usize {
        let Audience { rooms, except } = &self.audience;
        self.frames.len() + ENTRY_OVERHEAD + (rooms.len() + except.len()) * ROOM_OVERHEAD
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smallvec::smallvec;

    const LIMITS: LogLimits = LogLimits { max_bytes: 1 << 20, max_events: 1_000, max_age: Duration::from_secs(120) };

    fn to(room: &'static str) -> Audience<&'static str> {
        Audience { rooms: smallvec![room], ..Audience::default() }
    }

    fn log(limits: LogLimits) -> Log<&'static str> {
        Log::new(Epoch(1), limits)
    }

    fn everything(log: &Log<&'static str>, trail: &Trail<&'static str>, after: u64) -> Result<usize, NotRecovered> {
        log.missed(trail, &"me", after, u64::MAX, Budget::UNLIMITED).map(|frames| frames.len())
    }

    #[test]
    fn the_log_is_bounded_in_bytes_count_and_age() {
        let now = Instant::now();
        let mut few = log(LogLimits { max_events: 10, ..LIMITS });
        let mut small = log(LogLimits { max_bytes: 10_000, ..LIMITS });
        let mut young = log(LIMITS);
        for second in 0..1_000 {
            let later = now + Duration::from_secs(second);
            few.append(later, to("room"), Bytes::from_static(b"x"));
            small.append(later, to("room"), Bytes::from(vec![0; 1_000]));
            young.append(later, to("room"), Bytes::from_static(b"x"));
            assert!(few.len() <= 10 && small.bytes() <= 10_000 && young.len() <= 121);
        }
        assert_eq!((few.len(), small.len(), young.len()), (10, 8, 121));
        young.trim(now + Duration::from_secs(10_000));
        assert!(young.is_empty() && young.bytes() == 0);
    }

    #[test]
    fn an_event_larger_than_the_log_is_a_known_gap() {
        let now = Instant::now();
        let mut log = log(LogLimits { max_bytes: 1_000, ..LIMITS });
        let trail = Trail::new(log.head());
        assert_eq!(log.append(now, to("me"), Bytes::from(vec![0; 5_000])).pos, 1);
        assert!(log.is_empty());
        assert_eq!(everything(&log, &trail, 0), Err(NotRecovered::Trimmed));
        assert_eq!(everything(&log, &trail, 1), Ok(0));
    }

    #[test]
    fn what_others_lost_does_not_matter() {
        let now = Instant::now();
        let mut log = log(LogLimits { max_events: 3, ..LIMITS });
        let mut trail = Trail::new(log.head());
        trail.join("quiet", 0);
        for _ in 0..100 {
            log.append(now, to("busy"), Bytes::from_static(b"x"));
        }
        assert_eq!(everything(&log, &trail, 0), Ok(0));
        trail.join("busy", 98);
        assert_eq!(everything(&log, &trail, 0), Ok(2), "joined after what was lost");
        trail.join("me too", 0);
        log.append(now, Audience::default(), Bytes::from_static(b"x"));
        assert_eq!(everything(&log, &trail, 0), Ok(3));
    }

    #[test]
    fn notes_about_empty_rooms_are_bounded_and_never_forget_a_loss() {
        let now = Instant::now();
        let mut log = Log::<String>::new(Epoch(1), LogLimits { max_events: 10, ..LIMITS });
        let mut trail = Trail::new(log.head());
        trail.join(String::from("room 3"), 0);
        for number in 0..1_000 {
            let audience = Audience { rooms: smallvec![format!("room {number}")], ..Audience::default() };
            log.append(now, audience, Bytes::from_static(b"x"));
            assert!(log.noted_rooms() <= 21, "{}", log.noted_rooms());
        }
        let own = String::from("me");
        assert_eq!(log.missed(&trail, &own, 0, u64::MAX, Budget::UNLIMITED), Err(NotRecovered::Trimmed));
    }

    #[test]
    fn a_room_that_nobody_will_ask_for_leaves_no_note() {
        let mut log = log(LogLimits { max_events: 1, ..LIMITS });
        log.append(Instant::now(), to("gone"), Bytes::new());
        log.forget_room(&"gone");
        assert_eq!(log.noted_rooms(), 1, "it still has an entry");
        log.append(Instant::now(), to("other"), Bytes::new());
        log.forget_room(&"gone");
        assert_eq!(log.noted_rooms(), 1);
    }

    #[test]
    fn more_than_the_budget_is_refused() {
        let now = Instant::now();
        let mut log = log(LIMITS);
        let trail = Trail::new(log.head());
        for _ in 0..10 {
            log.append(now, to("me"), Bytes::from_static(b"0123456789"));
        }
        let ask = |max_bytes, max_events| {
            log.missed(&trail, &"me", 0, u64::MAX, Budget { max_bytes, max_events }).map(|frames| frames.len())
        };
        assert_eq!(ask(100, 10), Ok(10));
        assert_eq!(ask(99, 10), Err(NotRecovered::TooMuch));
        assert_eq!(ask(100, 9), Err(NotRecovered::TooMuch));
    }
}
