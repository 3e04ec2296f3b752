//! `storm`: all connections are lost at one moment and come back; how long until the last is there?

use super::connect::Reasons;
use super::returns::Returns;
use super::{Scenario, Wire};
use crate::failure::Failure;
use crate::measure::Latencies;

pub(crate) struct Storm {
    connections: usize,
    at_once: usize,
    /// Within which time after the cut each begins to come back, at a moment of its own.
    spread_ns: u64,
    returns: Returns,
    cut_at: u64,
    /// Connections that are back.
    pub(crate) back: usize,
    /// From the first try of a connection until it is back, refusals and waits between them included.
    pub(crate) recoveries: Latencies,
    /// From a try that succeeded until it did.
    pub(crate) handshakes: Latencies,
    is_back: Vec<bool>,
    /// When each connection began its current try, and its first.
    tried_at: Vec<u64>,
    first_at: Vec<u64>,
    pub(crate) attempts: u64,
    pub(crate) refused: Reasons,
    storming: bool,
}

impl Storm {
    pub(crate) fn new(connections: usize, at_once: usize, spread_ns: u64) -> Self {
        Self {
            connections,
            at_once,
            spread_ns,
            returns: Returns::new(connections),
            cut_at: 0,
            back: 0,
            recoveries: Latencies::new(),
            handshakes: Latencies::new(),
            is_back: vec![false; connections],
            tried_at: vec![0; connections],
            first_at: vec![0; connections],
            attempts: 0,
            refused: Reasons::default(),
            storming: false,
        }
    }

    /// Cuts all connections, and lets them come back.
    pub(crate) fn cut<W: Wire>(&mut self, wire: &mut W) {
        self.storming = true;
        self.back = 0;
        self.cut_at = wire.now();
        self.returns.clear();
        self.is_back.fill(false);
        for id in 0..self.connections {
            wire.cut(id);
            self.first_at[id] = self.returns.within(wire, id, self.spread_ns);
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.back == self.connections
    }

    /// Nobody tries any more.
    pub(crate) fn stop(&mut self) {
        self.storming = false;
        self.returns.clear();
    }

    /// Time since the cut.
    pub(crate) fn elapsed<W: Wire>(&self, wire: &W) -> u64 {
        wire.now().saturating_sub(self.cut_at)
    }
}

impl Scenario for Storm {
    fn ready<W: Wire>(&mut self, wire: &mut W, id: usize, _since: u64) {
        if self.storming {
            self.back += 1;
            self.is_back[id] = true;
            self.handshakes.note(wire.now().saturating_sub(self.tried_at[id]));
            self.recoveries.note(wire.now().saturating_sub(self.first_at[id]));
        }
    }

    fn packet<W: Wire>(&mut self, _wire: &mut W, _id: usize, _packet: &str) {}

    fn lost<W: Wire>(&mut self, wire: &mut W, id: usize, failure: &Failure) {
        if !self.storming {
            return;
        }
        if std::mem::take(&mut self.is_back[id]) {
            self.back -= 1;
        }
        self.refused.note(failure);
        self.returns.again(wire, id);
    }

    fn tick<W: Wire>(&mut self, wire: &mut W) -> Option<u64> {
        loop {
            match self.returns.next(wire, self.at_once) {
                Ok((at, id)) => {
                    self.attempts += 1;
                    self.tried_at[id] = wire.now();
                    wire.open(id, at);
                }
                Err(next) => return next,
            }
        }
    }

    fn done(&self) -> u64 {
        self.attempts
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::*;

    #[test]
    fn all_are_cut_at_once_and_the_refused_try_again_later() {
        let (mut storm, mut wire) = (Storm::new(10, 10, 0), Fake { now: 1_000, ..Fake::default() });
        storm.cut(&mut wire);
        storm.tick(&mut wire);
        assert_eq!((wire.cut.len(), wire.opened.len()), (10, 10));
        for id in 0..9 {
            storm.ready(&mut wire, id, 0);
        }
        wire.shaking = 0;
        storm.lost(&mut wire, 9, &Failure::Http { status: 503, detail: String::new() });
        assert!(!storm.is_over());
        let again = storm.tick(&mut wire).unwrap() - wire.now;
        assert!((500_000_000..1_500_000_000).contains(&again), "{again}");
        assert_eq!(wire.opened.len(), 10);
        wire.now += again;
        storm.tick(&mut wire);
        storm.ready(&mut wire, 9, 0);
        assert!(storm.is_over());
        assert_eq!((storm.attempts, storm.refused.0.values().sum::<u64>()), (11, 1));
        assert!(storm.recoveries.summary().max_us * 1_000.0 >= again as f64 * 0.99);
        assert!(storm.handshakes.summary().max_us < 1.0);
    }

    #[test]
    fn a_spread_gives_each_a_moment_of_its_own_within_it() {
        let (mut storm, mut wire) = (Storm::new(200, 1_000, 1_000_000), Fake::default());
        storm.cut(&mut wire);
        storm.tick(&mut wire);
        assert!(wire.opened.len() < 20, "{}", wire.opened.len());
        wire.now = 500_000;
        storm.tick(&mut wire);
        assert!((60..140).contains(&wire.opened.len()), "{}", wire.opened.len());
        wire.now = 1_000_000;
        storm.tick(&mut wire);
        assert_eq!(wire.opened.len(), 200);
    }

    #[test]
    fn no_more_come_back_at_once_than_allowed() {
        let (mut storm, mut wire) = (Storm::new(10, 3, 0), Fake::default());
        storm.cut(&mut wire);
        storm.tick(&mut wire);
        assert_eq!(wire.opened.len(), 3);
    }
}
