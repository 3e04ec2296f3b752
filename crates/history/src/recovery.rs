//! May this session be taken up again, and from where?

use std::hash::Hash;
use std::ops::ControlFlow;

use crate::log::Log;
use crate::position::Position;
use crate::store::{Range, SessionRecord, StreamName};
use crate::trail::Trail;

/// Why a session starts afresh. The client is not told: it sees a connection like its first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotRecovered {
    /// The session belongs to another log: positions mean nothing to each other.
    #[error("the log is another one")]
    OtherEpoch,
    /// The client names a position that the log has not reached: it has heard what this log lost.
    #[error("the offset is ahead of the log")]
    Ahead,
    /// Something that it missed may have been forgotten.
    #[error("a part of what was missed is not kept any more")]
    Trimmed,
    /// It missed more than may be replayed.
    #[error("more was missed than may be replayed")]
    TooMuch,
}

/// How much may be replayed to one socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Bytes of frames.
    pub max_bytes: usize,
    /// Number of events.
    pub max_events: usize,
}

impl Budget {
    /// Whatever is kept.
    pub const UNLIMITED: Self = Self { max_bytes: usize::MAX, max_events: usize::MAX };

    pub(crate) const fn check(self, spent: Self) -> ControlFlow<NotRecovered> {
        if spent.max_bytes > self.max_bytes || spent.max_events > self.max_events {
            return ControlFlow::Break(NotRecovered::TooMuch);
        }
        ControlFlow::Continue(())
    }
}

/// The position behind which a session has to be replayed.
///
/// `offered` is what the client says it heard last, if it said anything that can be read. Nothing, or a position of another log,
/// means that it heard nothing with a position since it came: then, as for a position before that, the confirmed one counts, which
/// may repeat and never skips.
///
/// # Errors
/// [`NotRecovered::OtherEpoch`] when the session is not of this log, [`NotRecovered::Ahead`] when the client knows more than the
/// log: that is loss, not being up to date.
pub fn replay_start<R: Clone + Eq + Hash>(
    log: &Log<R>,
    trail: &Trail<R>,
    offered: Option<Position>,
) -> Result<u64, NotRecovered> {
    start_of(log.head(), trail, offered)
}

/// The position behind which a stored session has to be replayed, while its shard is at `head`: [`replay_start`] without a log.
/// What is still missing is whether everything behind it is kept: [`gaps`].
///
/// # Errors
/// As [`replay_start`]; [`NotRecovered::Trimmed`] when it is no longer known where the session was.
pub fn recover(head: Position, record: &SessionRecord, offered: Option<Position>) -> Result<u64, NotRecovered> {
    let start = start_of(head, &record.trail, offered)?;
    if start < record.trail.floor() {
        return Err(NotRecovered::Trimmed);
    }
    Ok(start)
}

fn start_of<R: Eq>(head: Position, trail: &Trail<R>, offered: Option<Position>) -> Result<u64, NotRecovered> {
    if trail.start().epoch != head.epoch || trail.start().pos > head.pos {
        return Err(NotRecovered::OtherEpoch);
    }
    match offered.filter(|offered| offered.epoch == head.epoch) {
        Some(offered) if offered.pos > head.pos => Err(NotRecovered::Ahead),
        Some(offered) => Ok(offered.pos.max(trail.confirmed())),
        None => Ok(trail.confirmed()),
    }
}

/// A part of a stream that was forgotten before it was replayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The stream.
    pub stream: StreamName,
    /// Everything up to here is not missing.
    pub after: u64,
    /// Everything behind this is kept.
    pub through: u64,
}

/// What of these ranges is forgotten, by the floors of their streams ([`Page::floors`](crate::store::Page::floors)). A session
/// whose ranges have no gap is recovered; one that has is told which.
#[must_use]
pub fn gaps(ranges: &[Range], floors: &[u64]) -> Vec<Gap> {
    let forgotten = |(range, floor): (&Range, &u64)| {
        let through = range.until.min(*floor);
        (through > range.after).then(|| Gap { stream: range.stream.clone(), after: range.after, through })
    };
    ranges.iter().zip(floors).filter_map(forgotten).collect()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use bytes::Bytes;

    use super::*;
    use crate::log::{Audience, LogLimits};
    use crate::position::Epoch;

    /// A log of ten events, and a session that came after the third.
    fn scene() -> (Log<&'static str>, Trail<&'static str>) {
        let limits = LogLimits { max_bytes: 1 << 20, max_events: 100, max_age: Duration::from_secs(120) };
        let mut log = Log::new(Epoch(7), limits);
        for _ in 0..10 {
            log.append(Instant::now(), Audience::default(), Bytes::new());
        }
        (log, Trail::new(at(7, 3)))
    }

    fn at(epoch: u32, pos: u64) -> Position {
        Position { epoch: Epoch(epoch), pos }
    }

    #[test]
    fn a_replay_starts_where_the_client_says_or_where_it_surely_was() {
        let (log, mut trail) = scene();
        for (offered, expected, why) in [
            (Some(at(7, 5)), Ok(5), "its own word"),
            (Some(at(7, 10)), Ok(10), "up to date"),
            (Some(at(7, 11)), Err(NotRecovered::Ahead), "it heard what this log never had"),
            (None, Ok(3), "it heard nothing yet, or something that is no offset"),
            (Some(at(7, 1)), Ok(3), "left over from its session before"),
            (Some(at(6, 9)), Ok(3), "left over from the server before"),
        ] {
            assert_eq!(replay_start(&log, &trail, offered), expected, "{why}");
        }
        trail.confirm(6);
        assert_eq!(replay_start(&log, &trail, None), Ok(6));
        assert_eq!(replay_start(&log, &trail, Some(at(7, 5))), Ok(6));
        assert_eq!(replay_start(&log, &trail, Some(at(7, 8))), Ok(8));
    }

    #[test]
    fn a_session_of_another_log_is_not_recovered() {
        let (log, _) = scene();
        for start in [at(6, 3), at(7, 11)] {
            let trail = Trail::new(start);
            assert_eq!(replay_start(&log, &trail, Some(at(7, 5))), Err(NotRecovered::OtherEpoch));
        }
    }

    #[test]
    fn what_was_forgotten_behind_the_offset_is_named() {
        let range = |after, until| Range { stream: "room".into(), after, until };
        for (asked, floor, expected) in [
            (range(5, u64::MAX), 0, None),
            (range(5, u64::MAX), 5, None),
            (range(5, u64::MAX), 6, Some((5, 6))),
            (range(5, 8), 20, Some((5, 8))),
            (range(5, 5), 20, None),
        ] {
            let found = gaps(&[asked], &[floor]);
            let found = found.first().map(|gap| (gap.after, gap.through));
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_stored_session_is_judged_like_one_that_is_not() {
        let (log, trail) = scene();
        let stays = Vec::new();
        let record = |floor| SessionRecord {
            identity: "me".into(),
            own: "own".into(),
            trail: Trail::restore(at(7, 3), 3, floor, stays.clone()),
            expires: crate::store::Timestamp(0),
            data: Bytes::new(),
        };
        for offered in [None, Some(at(7, 5)), Some(at(7, 10)), Some(at(7, 11)), Some(at(6, 9)), Some(at(7, 1))] {
            assert_eq!(recover(log.head(), &record(0), offered), replay_start(&log, &trail, offered));
        }
        assert_eq!(recover(log.head(), &record(4), None), Err(NotRecovered::Trimmed));
        assert_eq!(recover(log.head(), &record(4), Some(at(7, 4))), Ok(4));
    }
}
