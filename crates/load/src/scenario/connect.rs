//! `connect`, and how every other scenario begins: so many handshakes, a bounded number at once or at a rate.

use std::collections::BTreeMap;

use super::{Scenario, Wire};
use crate::failure::Failure;
use crate::measure::Latencies;
use crate::schedule::Schedule;

pub(crate) struct Connect {
    wanted: usize,
    opened: usize,
    at_once: usize,
    schedule: Option<Schedule>,
    /// From when a handshake was due until the namespace was joined.
    pub(crate) latencies: Latencies,
    pub(crate) joined: usize,
    pub(crate) failed: usize,
    pub(crate) reasons: Reasons,
    going: bool,
}

/// Failures by their text, a bounded number of different ones.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reasons(pub(crate) BTreeMap<String, u64>);

impl Reasons {
    const MOST: usize = 20;

    pub(crate) fn note(&mut self, failure: &Failure) {
        let text = failure.to_string();
        if self.0.len() >= Self::MOST && !self.0.contains_key(&text) {
            *self.0.entry("other reasons".into()).or_default() += 1;
        } else {
            *self.0.entry(text).or_default() += 1;
        }
    }

    /// The most frequent one.
    pub(crate) fn first(&self) -> Option<&str> {
        self.0.iter().max_by_key(|(_, count)| **count).map(|(text, _)| text.as_str())
    }
}

impl Connect {
    pub(crate) fn new(wanted: usize, at_once: usize, schedule: Option<Schedule>) -> Self {
        Self {
            wanted,
            opened: 0,
            at_once,
            schedule,
            latencies: Latencies::new(),
            joined: 0,
            failed: 0,
            reasons: Reasons::default(),
            going: true,
        }
    }

    /// Whether every handshake has come to an end.
    pub(crate) fn is_done(&self) -> bool {
        self.joined + self.failed >= self.wanted
    }

    /// What is lost from here on was up before.
    pub(crate) fn stop(&mut self) {
        self.going = false;
    }
}

impl Scenario for Connect {
    fn ready<W: Wire>(&mut self, wire: &mut W, _id: usize, since: u64) {
        self.joined += 1;
        self.latencies.note(wire.now().saturating_sub(since));
    }

    fn packet<W: Wire>(&mut self, _wire: &mut W, _id: usize, _packet: &str) {}

    fn lost<W: Wire>(&mut self, _wire: &mut W, _id: usize, failure: &Failure) {
        self.failed += 1;
        self.reasons.note(failure);
    }

    fn tick<W: Wire>(&mut self, wire: &mut W) -> Option<u64> {
        if !self.going {
            return None;
        }
        let due = match self.schedule {
            Some(schedule) => schedule.due(wire.now()).min(self.wanted as u64) as usize,
            None => self.wanted,
        };
        while self.opened < due && wire.shaking() < self.at_once {
            let since = self.schedule.map_or(u64::MAX, |schedule| schedule.intended(self.opened as u64));
            wire.open(self.opened, since);
            self.opened += 1;
        }
        let schedule = self.schedule.filter(|_| self.opened < self.wanted && self.opened == due)?;
        Some(schedule.intended(self.opened as u64))
    }

    fn done(&self) -> u64 {
        (self.joined + self.failed) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::*;

    #[test]
    fn no_more_handshakes_are_under_way_than_allowed() {
        let (mut connect, mut wire) = (Connect::new(5, 2, None), Fake::default());
        connect.tick(&mut wire);
        assert_eq!(wire.opened.len(), 2);
        wire.shaking = 1;
        connect.ready(&mut wire, 0, 0);
        connect.tick(&mut wire);
        assert_eq!(wire.opened.len(), 3);
        wire.shaking = 0;
        connect.tick(&mut wire);
        assert_eq!(wire.opened.len(), 5);
        for id in 1..4 {
            connect.ready(&mut wire, id, 0);
        }
        assert!(!connect.is_done());
        connect.lost(&mut wire, 4, &Failure::Closed);
        assert!(connect.is_done());
        assert_eq!(connect.reasons.first(), Some("the connection was closed by the server"));
    }

    #[test]
    fn a_handshake_at_a_rate_counts_from_when_it_was_due() {
        let (mut connect, mut wire) = (Connect::new(3, 1, Some(Schedule::new(0, 1_000.0))), Fake::default());
        assert_eq!(connect.tick(&mut wire), Some(1_000_000));
        wire.now = 5_000_000; // the first took 5 ms: the others were due at 1 ms and 2 ms
        wire.shaking = 0;
        connect.ready(&mut wire, 0, 0);
        connect.tick(&mut wire);
        assert_eq!(wire.opened, [(0, 0), (1, 1_000_000)]);
        connect.ready(&mut wire, 1, 1_000_000);
        let summary = connect.latencies.summary();
        assert_eq!((summary.count, summary.max_us.round()), (2, 5_001.0));
    }

    #[test]
    fn reasons_are_bounded_in_number() {
        let mut reasons = Reasons::default();
        for index in 0..1_000 {
            reasons.note(&Failure::Connect(index.to_string()));
        }
        assert_eq!(reasons.0.len(), Reasons::MOST + 1);
        assert_eq!(reasons.0.values().sum::<u64>(), 1_000);
    }
}
