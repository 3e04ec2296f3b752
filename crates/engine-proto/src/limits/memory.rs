//! What to do when memory runs out.

use std::cmp::Reverse;

/// When memory counts as short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryWatermark {
    /// What the process may use, in bytes; by default what the system, or the control group it runs in, has.
    pub limit: Option<u64>,
    /// From how many hundredths of that on no new connections are taken; 80 by default.
    pub stop_percent: u8,
    /// From how many hundredths of that on the slowest readers are disconnected; 90 by default.
    pub shed_percent: u8,
}

impl Default for MemoryWatermark {
    fn default() -> Self {
        Self { limit: None, stop_percent: 80, shed_percent: 90 }
    }
}

/// How short memory is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pressure {
    /// There is enough.
    #[default]
    None,
    /// No new connections.
    Stop,
    /// No new connections, and the slowest readers go, until this much less waits for them.
    Shed {
        /// Bytes above the mark at which new connections are taken again.
        excess: u64,
    },
}

impl MemoryWatermark {
    /// What `used` of `limit` bytes ask for.
    #[must_use]
    pub fn pressure(&self, used: u64, limit: u64) -> Pressure {
        let mark = |percent: u8| u64::try_from(u128::from(limit) * u128::from(percent) / 100).unwrap_or(u64::MAX);
        if used >= mark(self.shed_percent) {
            Pressure::Shed { excess: used.saturating_sub(mark(self.stop_percent)).max(1) }
        } else if used >= mark(self.stop_percent) {
            Pressure::Stop
        } else {
            Pressure::None
        }
    }
}

/// Whom to disconnect so that `excess` bytes less wait: those for whom most waits, and nobody for whom nothing does.
pub fn slowest<K>(waiting: impl IntoIterator<Item = (K, usize)>, excess: u64) -> Vec<K> {
    let mut waiting: Vec<(K, usize)> = waiting.into_iter().filter(|(_, bytes)| *bytes > 0).collect();
    waiting.sort_by_key(|(_, bytes)| Reverse(*bytes));
    let mut freed = 0u64;
    let enough = waiting.iter().position(|(_, bytes)| {
        let before = freed;
        freed = freed.saturating_add(*bytes as u64);
        before >= excess
    });
    waiting.truncate(enough.unwrap_or(waiting.len()));
    waiting.into_iter().map(|(who, _)| who).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_marks_are_eighty_and_ninety_hundredths() {
        let marks = MemoryWatermark::default();
        for (used, expected) in [
            (0, Pressure::None),
            (799, Pressure::None),
            (800, Pressure::Stop),
            (899, Pressure::Stop),
            (900, Pressure::Shed { excess: 100 }),
            (1_200, Pressure::Shed { excess: 400 }),
        ] {
            assert_eq!(marks.pressure(used, 1_000), expected, "{used}");
        }
        assert_eq!(marks.pressure(u64::MAX / 2, u64::MAX), Pressure::None, "no overflow");
    }

    #[test]
    fn the_slowest_go_until_enough_is_free_and_nobody_else() {
        let waiting = [('a', 10), ('b', 500), ('c', 0), ('d', 300), ('e', 200)];
        assert_eq!(slowest(waiting, 1), ['b']);
        assert_eq!(slowest(waiting, 500), ['b']);
        assert_eq!(slowest(waiting, 501), ['b', 'd']);
        assert_eq!(slowest(waiting, u64::MAX), ['b', 'd', 'e', 'a'], "who reads fast is never among them");
        assert_eq!(slowest(waiting, 0), [] as [char; 0]);
    }
}
