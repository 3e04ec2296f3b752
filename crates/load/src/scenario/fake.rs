//! A wire for tests: the clock is set by hand, and what is sent is kept.

use super::Wire;
use crate::client::Session;

#[derive(Debug, Default)]
pub(super) struct Fake {
    pub(super) now: u64,
    pub(super) sent: Vec<(usize, String)>,
    pub(super) opened: Vec<(usize, u64)>,
    pub(super) shown: Vec<(usize, Session)>,
    pub(super) cut: Vec<usize>,
    pub(super) shaking: usize,
    pub(super) random: u64,
}

impl Fake {
    /// What was sent since the last call.
    pub(super) fn take(&mut self) -> Vec<(usize, String)> {
        std::mem::take(&mut self.sent)
    }
}

impl Wire for Fake {
    fn now(&self) -> u64 {
        self.now
    }

    fn shaking(&self) -> usize {
        self.shaking
    }

    fn is_ready(&self, _id: usize) -> bool {
        true
    }

    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.random >> 16
    }

    fn send(&mut self, id: usize, packet: &[u8]) {
        self.sent.push((id, String::from_utf8(packet.to_vec()).unwrap()));
    }

    fn open(&mut self, id: usize, since: u64) {
        self.opened.push((id, since));
        self.shaking += 1;
    }

    fn open_again(&mut self, id: usize, since: u64, session: &Session) {
        self.open(id, since);
        self.shown.push((id, session.clone()));
    }

    fn cut(&mut self, id: usize) {
        self.cut.push(id);
    }
}
