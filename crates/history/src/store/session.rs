//! What is stored of a session that may come back.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::position::{Epoch, Position};
use crate::store::port::{Range, StreamName, Timestamp};
use crate::trail::{Stay, Trail};

/// A session as it is stored: who it was, where it was, what it surely has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRecord {
    /// Who it belongs to, as the application names him. Whoever takes it up has to be the same.
    pub identity: Arc<str>,
    /// The stream of its own events.
    pub own: StreamName,
    /// The rooms it was in with the positions it joined and left them at, where it began and what it has confirmed.
    pub trail: Trail<StreamName>,
    /// From then on nobody may take it up.
    pub expires: Timestamp,
    /// What the application keeps with it.
    pub data: Bytes,
}

impl SessionRecord {
    const VERSION: u8 = 1;

    /// What it is owed after the position `after`, up to `until`: a range for its own stream, and one for each stay.
    #[must_use]
    pub fn owed(&self, after: u64, until: u64) -> Vec<Range> {
        self.trail.owed(&self.own, after, until)
    }

    /// The stored form: a version, then its fields; numbers big-endian, texts with their length before them.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut to = BytesMut::with_capacity(64 + self.data.len());
        to.put_u8(Self::VERSION);
        put_text(&mut to, &self.identity);
        put_text(&mut to, &self.own);
        let start = self.trail.start();
        to.put_u32(start.epoch.0);
        to.put_u64(start.pos);
        to.put_u64(self.trail.confirmed());
        to.put_u64(self.trail.floor());
        to.put_u64(self.expires.0);
        to.put_u32(self.trail.stays().len() as u32);
        for stay in self.trail.stays() {
            put_text(&mut to, &stay.room);
            to.put_u64(stay.from);
            to.put_u64(stay.until.unwrap_or(u64::MAX));
        }
        to.put_slice(&self.data);
        to.freeze()
    }

    /// Reads the stored form; `None` if it is none.
    #[must_use]
    pub fn decode(mut from: Bytes) -> Option<Self> {
        (from.try_get_u8().ok()? == Self::VERSION).then_some(())?;
        let (identity, own) = (text(&mut from)?, text(&mut from)?);
        let start = Position { epoch: Epoch(from.try_get_u32().ok()?), pos: from.try_get_u64().ok()? };
        let (confirmed, floor) = (from.try_get_u64().ok()?, from.try_get_u64().ok()?);
        let expires = Timestamp(from.try_get_u64().ok()?);
        let count = from.try_get_u32().ok()? as usize;
        // A stay is at least 20 bytes: no more of them than bytes are there.
        let mut stays = Vec::with_capacity(count.min(from.len() / 20));
        for _ in 0..count {
            let room = text(&mut from)?;
            let (from_pos, until) = (from.try_get_u64().ok()?, from.try_get_u64().ok()?);
            stays.push(Stay { room, from: from_pos, until: (until != u64::MAX).then_some(until) });
        }
        let trail = Trail::restore(start, confirmed, floor, stays);
        Some(Self { identity, own, trail, expires, data: from })
    }
}

fn put_text(to: &mut BytesMut, text: &str) {
    to.put_u32(text.len() as u32);
    to.put_slice(text.as_bytes());
}

fn text(from: &mut Bytes) -> Option<Arc<str>> {
    let length = from.try_get_u32().ok()? as usize;
    (length <= from.len()).then_some(())?;
    let bytes = from.split_to(length);
    std::str::from_utf8(&bytes).ok().map(Arc::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_record() -> impl Strategy<Value = SessionRecord> {
        let stays = prop::collection::vec((".{0,9}", 0..99_u64, prop::option::of(99..200_u64)), 0..9);
        (".{0,9}", ".{0,9}", any::<(u32, u64, u64, u64, u64)>(), stays, any::<Vec<u8>>()).prop_map(
            |(identity, own, (epoch, pos, confirmed, floor, expires), stays, data)| {
                let stay = |(room, from, until): (String, _, _)| Stay { room: Arc::from(room), from, until };
                let start = Position { epoch: Epoch(epoch), pos };
                let trail = Trail::restore(start, confirmed, floor, stays.into_iter().map(stay).collect());
                SessionRecord {
                    identity: identity.into(),
                    own: own.into(),
                    trail,
                    expires: Timestamp(expires),
                    data: data.into(),
                }
            },
        )
    }

    proptest! {
        #[test]
        fn every_record_survives_its_stored_form(record in any_record()) {
            prop_assert_eq!(SessionRecord::decode(record.encode()), Some(record));
        }

        #[test]
        fn a_record_that_ends_early_is_none(record in any_record(), cut: prop::sample::Index) {
            let whole = record.encode();
            let fixed = whole.len() - record.data.len();
            prop_assert_eq!(SessionRecord::decode(whole.slice(..cut.index(fixed))), None);
        }

        #[test]
        fn no_bytes_make_decoding_panic(mut bytes: Vec<u8>, first in 0..3_u8) {
            bytes.insert(0, first);
            let _ = SessionRecord::decode(bytes.into());
        }
    }

    #[test]
    fn what_is_owed_is_what_happened_during_its_stays() {
        let mut trail = Trail::new(Position { epoch: Epoch(1), pos: 4 });
        trail.join(Arc::from("left"), 5);
        trail.leave(&Arc::from("left"), 9);
        trail.join(Arc::from("there"), 12);
        let record = SessionRecord {
            identity: "me".into(),
            own: "own".into(),
            trail,
            expires: Timestamp(0),
            data: Bytes::new(),
        };
        let owed = |after| -> Vec<(String, u64, u64)> {
            record.owed(after, 20).into_iter().map(|it| (it.stream.to_string(), it.after, it.until)).collect()
        };
        let all = |own, left, there| {
            vec![(String::from("own"), own, 20), (String::from("left"), left, 9), (String::from("there"), there, 20)]
        };
        assert_eq!(owed(0), all(4, 5, 12));
        assert_eq!(owed(7), all(7, 7, 12));
        assert_eq!(owed(9), [(String::from("own"), 9, 20), (String::from("there"), 12, 20)]);
        assert!(owed(20).is_empty());
    }
}
