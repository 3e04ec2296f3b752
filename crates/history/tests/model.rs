//! The log and its trails against a model that forgets nothing: what is replayed is exactly what was missed, or nothing is.

#![allow(clippy::unwrap_used, reason = "tests: a failed expectation is the point")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use posthaste_history::{Audience, Budget, Epoch, Log, LogLimits, NotRecovered, Position, Trail, replay_start};
use proptest::prelude::*;

const SOCKETS: u8 = 3;
/// Rooms 0 to 2 are those of the sockets' own ids.
const ROOMS: u8 = 7;

#[derive(Clone, Debug)]
enum Step {
    Come(u8),
    Join(u8, u8),
    Leave(u8, u8),
    Emit { rooms: Vec<u8>, except: Vec<u8> },
    Confirm(u8),
    Wait(u8),
}

fn any_step() -> impl Strategy<Value = Step> {
    let some_rooms = |most| prop::collection::vec(0..ROOMS, 0..=most);
    prop_oneof![
        1 => (0..SOCKETS).prop_map(Step::Come),
        3 => (0..SOCKETS, SOCKETS..ROOMS).prop_map(|(socket, room)| Step::Join(socket, room)),
        2 => (0..SOCKETS, SOCKETS..ROOMS).prop_map(|(socket, room)| Step::Leave(socket, room)),
        8 => (some_rooms(3), some_rooms(1)).prop_map(|(rooms, except)| Step::Emit { rooms, except }),
        1 => (0..SOCKETS).prop_map(Step::Confirm),
        1 => (0..20_u8).prop_map(Step::Wait),
    ]
}

/// One socket, as the model sees it.
struct Known {
    trail: Trail<u8>,
    rooms: BTreeSet<u8>,
    /// The positions it heard, in order.
    heard: Vec<u64>,
    /// Every room it was ever in.
    visited: BTreeSet<u8>,
    came: u64,
}

struct World {
    log: Log<u8>,
    now: Instant,
    sockets: BTreeMap<u8, Known>,
    /// All events: the rooms they were for.
    events: Vec<Vec<u8>>,
}

impl World {
    fn new(limits: LogLimits) -> Self {
        Self { log: Log::new(Epoch(1), limits), now: Instant::now(), sockets: BTreeMap::new(), events: Vec::new() }
    }

    fn step(&mut self, step: &Step) {
        let head = self.log.head();
        match step {
            Step::Come(socket) => {
                let known = Known {
                    trail: Trail::new(head),
                    rooms: [*socket].into(),
                    heard: Vec::new(),
                    visited: [*socket].into(),
                    came: head.pos,
                };
                self.sockets.insert(*socket, known);
            }
            Step::Join(socket, room) => {
                let Some(known) = self.sockets.get_mut(socket) else { return };
                known.trail.join(*room, head.pos);
                known.rooms.insert(*room);
                known.visited.insert(*room);
            }
            Step::Leave(socket, room) => {
                let Some(known) = self.sockets.get_mut(socket) else { return };
                known.trail.leave(room, head.pos);
                known.rooms.remove(room);
            }
            Step::Emit { rooms, except } => {
                let audience =
                    Audience { rooms: rooms.iter().copied().collect(), except: except.iter().copied().collect() };
                let frames = Bytes::copy_from_slice(&(head.pos + 1).to_be_bytes());
                assert_eq!(self.log.next().pos, head.pos + 1);
                assert_eq!(self.log.append(self.now, audience, frames).pos, head.pos + 1);
                for known in self.sockets.values_mut() {
                    let meant = rooms.is_empty() || rooms.iter().any(|room| known.rooms.contains(room));
                    if meant && !except.iter().any(|room| known.rooms.contains(room)) {
                        known.heard.push(head.pos + 1);
                    }
                }
                self.events.push(rooms.clone());
            }
            Step::Confirm(socket) => {
                let Some(known) = self.sockets.get_mut(socket) else { return };
                known.trail.confirm(head.pos);
            }
            Step::Wait(seconds) => {
                self.now += Duration::from_secs(u64::from(*seconds));
                self.log.trim(self.now);
            }
        }
    }

    fn replayed(&self, socket: u8, after: u64, until: u64) -> Result<Vec<u64>, NotRecovered> {
        let known = &self.sockets[&socket];
        let frames = self.log.missed(&known.trail, &socket, after, until, Budget::UNLIMITED)?;
        Ok(frames.iter().map(|frame| u64::from_be_bytes((&**frame).try_into().unwrap())).collect())
    }

    /// Whether something was forgotten that the socket might have missed: an event to a room it was ever in.
    fn may_have_lost(&self, socket: u8, after: u64) -> bool {
        let known = &self.sockets[&socket];
        let forgotten = self.events.len() - self.log.len();
        self.events.iter().enumerate().take(forgotten).any(|(index, rooms)| {
            index as u64 + 1 > after && (rooms.is_empty() || rooms.iter().any(|room| known.visited.contains(room)))
        })
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn what_is_replayed_is_exactly_what_was_missed(
        steps in prop::collection::vec(any_step(), 1..150),
        max_events in usize::from(ROOMS)..60,
        max_bytes in 500..20_000_usize,
    ) {
        let limits = LogLimits { max_bytes, max_events, max_age: Duration::from_secs(30) };
        let mut world = World::new(limits);
        for step in &steps {
            world.step(step);
            prop_assert!(world.log.bytes() <= max_bytes && world.log.len() <= max_events);
        }
        let head = world.log.head().pos;
        for (socket, known) in &world.sockets {
            let confirmed = known.trail.confirmed();
            for offset in 0..=head {
                let position = Position { epoch: Epoch(1), pos: offset };
                let after = replay_start(&world.log, &known.trail, Some(position)).unwrap();
                prop_assert_eq!(after, offset.max(confirmed));
                prop_assert!(confirmed >= known.came);
                let expected: Vec<u64> = known.heard.iter().copied().filter(|pos| *pos > after).collect();
                match world.replayed(*socket, after, u64::MAX) {
                    Ok(replayed) => prop_assert_eq!(replayed, expected),
                    // There are fewer rooms than notes about them, so that none is merged: every refusal has a reason of this
                    // socket's own.
                    Err(why) => {
                        prop_assert_eq!(why, NotRecovered::Trimmed);
                        prop_assert!(world.may_have_lost(*socket, after), "refused without a loss");
                    }
                }
            }
        }
    }

    /// A replay in pieces is the replay in one.
    #[test]
    fn a_replay_may_be_taken_in_parts(steps in prop::collection::vec(any_step(), 1..150), cuts in prop::collection::vec(0..150_u64, 0..4)) {
        let limits = LogLimits { max_bytes: 1 << 20, max_events: 1_000, max_age: Duration::from_secs(10_000) };
        let mut world = World::new(limits);
        steps.iter().for_each(|step| world.step(step));
        let head = world.log.head().pos;
        let mut cuts: Vec<u64> = cuts.into_iter().map(|cut| cut.min(head)).chain([head]).collect();
        cuts.sort_unstable();
        for (socket, known) in &world.sockets {
            let start = known.trail.confirmed();
            let whole = world.replayed(*socket, start, u64::MAX).unwrap();
            let mut parts = Vec::new();
            let mut at = start;
            for cut in cuts.iter().copied().filter(|cut| *cut >= start) {
                parts.extend(world.replayed(*socket, at, cut).unwrap());
                at = cut;
            }
            prop_assert_eq!(parts, whole);
        }
    }
}
