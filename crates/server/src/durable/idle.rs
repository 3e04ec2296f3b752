//! Rooms and sessions of which nothing is kept any more are forgotten.
//!
//! A store knows positions and no times: where it is is noted in a stream of its own, now and then, with the time of that.
//!
//! ```text
//!   k:marks   at 09:00 pos 1,200 · at 19:30 pos 5,100 · …      what ended before a mark that is old enough is dropped
//! ```
//!
//! Sessions that are there when a mark is made are known to be behind it: what is dropped later is not missing to one that comes back.

use std::time::{Duration, Instant};

use bytes::Bytes;
use posthaste_engine_proto::session::deadline_after;
use posthaste_history::Budget;
use posthaste_history::store::{Put, Range, Retention, StoreError, StreamName, Timestamp, Write};

use super::Keeper;
use super::keeper::{lock, now};

/// Where it is noted.
pub(super) const MARKS: &str = "k:marks";
/// A mark is made, and streams are dropped, so many times within the time that they are idle.
const MARKS_WITHIN: u64 = 16;
/// Between two looks at the marks there is no more than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);
/// Dropping takes no longer than this.
const LONGEST: Duration = Duration::from_secs(24 * 3_600);

/// What marks say: those of a clock that was set back since say nothing.
struct Marks {
    newest: Option<Timestamp>,
    /// The last position that is old enough.
    through: Option<u64>,
}

impl Marks {
    fn read(marks: impl Iterator<Item = (Timestamp, u64)>, now: Timestamp, idle_ms: u64) -> Self {
        let mut read = Self { newest: None, through: None };
        for (at, pos) in marks.filter(|(at, _)| *at <= now) {
            read.newest = read.newest.max(Some(at));
            if now.0 - at.0 >= idle_ms {
                read.through = read.through.max(Some(pos));
            }
        }
        read
    }

    /// Whether the next one is to be made.
    fn is_due(&self, now: Timestamp, idle_ms: u64) -> bool {
        self.newest.is_none_or(|newest| now.0 - newest.0 >= idle_ms / MARKS_WITHIN)
    }
}

impl Keeper {
    /// Has the store forget the streams of which nothing is kept and that nothing came in for [`Durable::forget_after`](super::Durable), if
    /// that has not just been done, or is being done. Answers how many they were.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) async fn forget_idle(&self) -> Result<u64, StoreError> {
        // Whoever may still come back to a session is owed what its rooms have since.
        let idle = self.settings().forget_after.max(self.settings().max_away.saturating_mul(2));
        if idle == Duration::MAX {
            return Ok(0);
        }
        {
            let mut next = lock(&self.forgetting);
            if next.is_some_and(|next| Instant::now() < next) {
                return Ok(0);
            }
            // Until this one is done.
            *next = Some(deadline_after(Instant::now(), LONGEST));
        }
        let forgotten = self.look_for_idle(u64::try_from(idle.as_millis()).unwrap_or(u64::MAX)).await;
        let pause = (idle / MARKS_WITHIN as u32).min(LONGEST_PAUSE);
        *lock(&self.forgetting) = Some(deadline_after(Instant::now(), pause));
        forgotten
    }

    async fn look_for_idle(&self, idle_ms: u64) -> Result<u64, StoreError> {
        let (stream, now) = (StreamName::from(MARKS), now());
        let page = self.shard().read(vec![Range::after(&stream, 0)], Budget::UNLIMITED).await?;
        let marks = Marks::read(page.messages.iter().map(|mark| (mark.at, mark.pos)), now, idle_ms);
        if !marks.is_due(now, idle_ms) {
            return Ok(0);
        }
        let mut count = 0;
        if let Some(through) = marks.through {
            // One that comes again is told anew how much to keep.
            self.tell_anew();
            loop {
                let some = self.shard().drop_idle(through).await?;
                count += some;
                if some == 0 {
                    break;
                }
            }
        }
        // A disk that is full takes none; what could be dropped is by then.
        let max_messages = 4 * MARKS_WITHIN;
        let retention = Retention { max_age_ms: idle_ms.saturating_mul(2), max_messages, ..Retention::UNLIMITED };
        let mark = Put::new(&stream, Bytes::new(), self.settings().durability);
        self.shard().commit(now, vec![Write::Retain { stream, retention }, Write::Put(mark)]).await?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_say_where_a_store_was() {
        let marks = [(1_000, 5), (2_000, 9), (3_000, 30)].map(|(at, pos)| (Timestamp(at), pos));
        for (now, through, is_due) in [
            (900, None, true),
            (1_000, None, false),
            (1_061, None, false),
            (1_062, None, true),
            (1_999, None, true),
            (2_000, Some(5), false),
            (2_500, Some(5), true),
            (3_000, Some(9), false),
            (3_999, Some(9), true),
            (4_000, Some(30), true),
        ] {
            let read = Marks::read(marks.into_iter(), Timestamp(now), 1_000);
            assert_eq!((read.through, read.is_due(Timestamp(now), 1_000)), (through, is_due), "at {now}");
        }
        assert!(Marks::read(std::iter::empty(), Timestamp(0), 1_000).is_due(Timestamp(0), 1_000));
    }
}
