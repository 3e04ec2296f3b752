//! May this session be taken up again, and from where?

use std::hash::Hash;
use std::ops::ControlFlow;

use crate::log::Log;
use crate::position::Position;
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
    let head = log.head();
    if trail.start().epoch != head.epoch || trail.start().pos > head.pos {
        return Err(NotRecovered::OtherEpoch);
    }
    match offered.filter(|offered| offered.epoch == head.epoch) {
        Some(offered) if offered.pos > head.pos => Err(NotRecovered::Ahead),
        Some(offered) => Ok(offered.pos.max(trail.confirmed())),
        None => Ok(trail.confirmed()),
    }
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
}
