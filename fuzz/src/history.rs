//! What clients that come back show, and the sessions that they ask for.

use std::time::{Duration, Instant};

use posthaste_history::contract::{InMemory, history};
use posthaste_history::store::SessionRecord;
use posthaste_history::{Claim, Epoch, OffsetKey, Pid, Position, SessionLimits, Sessions};

use crate::input::Input;

const SECRET: [u8; 16] = *b"sixteen secrets!";

pub(crate) const TEXTS: &[&[u8]] = &[
    b"q6urq6urq6urq6urq6urqw",
    b"~AAAAAQAAAAAAAAACgICAgA",
    b"\x00\x00\x00\x01\x00\x00\x00\x02",
    b"q6urq6urq6urq6urq6urqx",
];

/// Laws: an id or a position has one text and no other; a position that is read was written with the same key.
pub(crate) fn texts(data: &[u8]) {
    let key = OffsetKey::from_bytes(SECRET);
    let text = String::from_utf8_lossy(data);
    if let Some(pid) = Pid::parse(&text) {
        assert_eq!(pid.to_text().as_str(), text);
    }
    if let Some(position) = key.read(&text) {
        assert_eq!(key.write(position).as_str(), text);
    }
    let mut input = Input::new(data);
    let position = Position { epoch: Epoch(input.number() as u32), pos: input.number() };
    let mut offset = key.write(position).as_str().to_owned();
    assert_eq!(key.read(&offset), Some(position));
    // Whatever takes the place of one character, it is another text, and nothing that was written.
    let (place, other) = (input.below(offset.len()), char::from(input.byte()));
    let former = offset.remove(place);
    offset.insert(place, other);
    if other != former
        && let Some(changed) = key.read(&offset)
    {
        assert_eq!(
            key.write(changed).as_str(),
            offset,
            "a check of 32 bits may hold by chance, and then of this text alone"
        );
    }
}

/// One session in the plain model.
#[derive(Debug)]
enum Entry {
    Live(u8),
    Parked(Parked),
    Claimed(Option<Parked>),
}

#[derive(Clone, Copy, Debug)]
struct Parked {
    session: u32,
    bytes: usize,
    expires: u64,
    /// The order of parking.
    turn: u32,
}

/// The sessions as a list, slowly.
struct Model {
    limits: SessionLimits,
    entries: Vec<(u8, Entry)>,
}

impl Model {
    fn place(&self, name: u8) -> Option<usize> {
        self.entries.iter().position(|(there, _)| *there == name)
    }

    fn remove(&mut self, name: u8) -> Option<Entry> {
        self.place(name).map(|place| self.entries.remove(place).1)
    }

    fn parked(&self) -> Vec<Parked> {
        let parked = |(_, entry): &(u8, Entry)| if let Entry::Parked(parked) = entry { Some(*parked) } else { None };
        let mut all: Vec<_> = self.entries.iter().filter_map(parked).collect();
        all.sort_unstable_by_key(|parked| parked.turn);
        all
    }

    fn bytes(&self) -> usize {
        self.parked().iter().map(|parked| parked.bytes).sum()
    }

    fn shed(&mut self) -> Option<u32> {
        let oldest = *self.parked().first()?;
        self.entries.retain(|(_, entry)| !matches!(entry, Entry::Parked(parked) if parked.turn == oldest.turn));
        Some(oldest.session)
    }

    fn make_room(&mut self) -> Vec<u32> {
        let mut dropped = Vec::new();
        while self.parked().len() > self.limits.max_sessions || self.bytes() > self.limits.max_bytes {
            dropped.extend(self.shed());
        }
        dropped
    }

    fn expire(&mut self, now: u64) -> Vec<u32> {
        let mut expired = Vec::new();
        while self.parked().first().is_some_and(|parked| parked.expires <= now) {
            expired.extend(self.shed());
        }
        expired
    }

    fn claim(&mut self, name: u8, now: u64) -> Claim<u8, u32> {
        match self.remove(name) {
            None => Claim::Nothing,
            Some(Entry::Parked(parked)) if parked.expires <= now => Claim::Expired(parked.session),
            Some(Entry::Parked(parked)) => {
                self.entries.push((name, Entry::Claimed(None)));
                Claim::Parked { session: parked.session, expires: at(parked.expires) }
            }
            Some(Entry::Live(place)) => {
                self.entries.push((name, Entry::Claimed(None)));
                Claim::Live(place)
            }
            Some(claimed @ Entry::Claimed(_)) => {
                self.entries.push((name, claimed));
                Claim::Nothing
            }
        }
    }
}

/// What was kept of a session that is replaced or closed.
fn kept(entry: Option<Entry>) -> Option<u32> {
    match entry? {
        Entry::Live(_) => None,
        Entry::Parked(parked) | Entry::Claimed(Some(parked)) => Some(parked.session),
        Entry::Claimed(None) => None,
    }
}

fn pid(name: u8) -> Pid {
    Pid::from_bytes([name; 16])
}

thread_local! {
    static START: Instant = Instant::now();
}

fn at(second: u64) -> Instant {
    START.with(|start| *start + Duration::from_secs(second))
}

/// Law: whatever becomes of them, in any order, sessions are what a plain list would have them be; both counts are those of the
/// content, and what is dropped is handed out once.
pub(crate) fn sessions(data: &[u8]) {
    let mut input = Input::new(data);
    let limits = SessionLimits { max_sessions: input.below(6), max_bytes: 10 * input.below(6) };
    let mut sessions = Sessions::new(limits);
    let mut model = Model { limits, entries: Vec::new() };
    // Everything that was handed in and not yet out.
    let mut inside: Vec<u32> = Vec::new();
    let mut now = 0;
    for turn in 0..300 {
        if input.is_empty() {
            break;
        }
        let (operation, name) = (input.below(9), input.byte() % 5);
        let parked = Parked { session: turn, bytes: input.below(20), expires: now + input.below(30) as u64, turn };
        let Parked { session, bytes, expires, .. } = parked;
        let mut out: Vec<u32> = Vec::new();
        match operation {
            0 => {
                let former = model.remove(name);
                model.entries.push((name, Entry::Live(turn as u8)));
                out.extend(sessions.open(pid(name), turn as u8));
                assert_eq!(out, Vec::from_iter(kept(former)));
            }
            1 => {
                out.extend(sessions.close(pid(name)));
                assert_eq!(out, Vec::from_iter(kept(model.remove(name))));
            }
            2 => {
                let mut expected = Vec::new();
                match model.place(name).map(|place| &mut model.entries[place].1) {
                    None => expected.push(session),
                    Some(Entry::Claimed(left)) => expected.extend(left.replace(parked).map(|former| former.session)),
                    Some(entry) => {
                        expected.extend(kept(Some(std::mem::replace(entry, Entry::Parked(parked)))));
                        expected.extend(model.make_room());
                    }
                }
                inside.push(session);
                out.extend(sessions.park(pid(name), session, bytes, at(expires)));
                assert_eq!(out, expected);
            }
            3 => {
                let mut expected = Vec::new();
                if let Some(place) = model.place(name)
                    && let Entry::Claimed(left) = &mut model.entries[place].1
                {
                    let left = left.take().map(|left| Parked { turn, ..left });
                    model.entries[place].1 = left.map_or(Entry::Live(turn as u8), Entry::Parked);
                    expected = model.make_room();
                }
                out.extend(sessions.release(pid(name), turn as u8));
                assert_eq!(out, expected);
            }
            4 => {
                let mut expected = Vec::new();
                match model.place(name).map(|place| &mut model.entries[place].1) {
                    Some(entry @ Entry::Claimed(_)) => {
                        expected.extend(kept(Some(std::mem::replace(entry, Entry::Parked(parked)))));
                        expected.extend(model.make_room());
                    }
                    _ => expected.push(session),
                }
                inside.push(session);
                out.extend(sessions.unclaim(pid(name), session, bytes, at(expires)));
                assert_eq!(out, expected);
            }
            5 => {
                let claim = sessions.claim(&pid(name), at(now));
                if let Claim::Parked { session, .. } | Claim::Expired(session) = claim {
                    out.push(session);
                }
                assert_eq!(claim, model.claim(name, now));
            }
            6 => {
                let expected = match model.place(name).map(|place| &mut model.entries[place].1) {
                    Some(Entry::Claimed(left)) => left.take(),
                    _ => None,
                };
                let taken = sessions.take(&pid(name));
                out.extend(taken.map(|(session, _)| session));
                assert_eq!(taken, expected.map(|left| (left.session, at(left.expires))));
            }
            7 => {
                now += input.below(20) as u64;
                out.extend(sessions.expire(at(now)));
                assert_eq!(out, model.expire(now));
            }
            _ => {
                out.extend(sessions.shed());
                assert_eq!(out, Vec::from_iter(model.shed()));
            }
        }
        for session in out {
            let place = inside.iter().position(|there| *there == session);
            let place = place.unwrap_or_else(|| panic!("{session} came out twice, or was never in"));
            inside.remove(place);
        }
        assert_eq!((sessions.parked(), sessions.bytes()), (model.parked().len(), model.bytes()));
        assert_eq!((sessions.len(), sessions.is_empty()), (model.entries.len(), model.entries.is_empty()));
        assert!(sessions.parked() <= limits.max_sessions && sessions.bytes() <= limits.max_bytes);
        let held = model.entries.iter().filter(|(_, entry)| !matches!(entry, Entry::Live(_) | Entry::Claimed(None)));
        assert_eq!(inside.len(), held.count(), "nothing is lost");
    }
}

/// Laws: whatever happens to it, the memory store is what the model of the contract says; and what is read as a stored session is
/// written the same again.
pub(crate) fn store(data: &[u8]) {
    if let Some(record) = SessionRecord::decode(data.to_vec().into()) {
        assert_eq!(SessionRecord::decode(record.encode()), Some(record));
    }
    // Each step compares all with all: a long tape says nothing that a short one cannot.
    if let Err(violation) = history(&InMemory(None), &data[..data.len().min(400)]) {
        panic!("{violation}");
    }
}
