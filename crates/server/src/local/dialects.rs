//! What leaves, in the dialect of whom it is for.
//!
//! A server whose clients all speak the one dialect has no table of dialects, and everything goes to the engine as it is.

use std::cell::RefCell;

use posthaste_adapter::Packet;
use posthaste_engine::ConnectionId;

use super::Local;
use crate::dialect::Dialect;

/// The dialects of this worker's connections, by place.
#[derive(Debug, Default)]
pub(super) struct Dialects(RefCell<Vec<Dialect>>);

impl Dialects {
    /// The dialect of whoever is at a place now; set when a connection opens.
    pub(super) fn set(&self, slot: u32, dialect: Dialect) {
        let mut places = self.0.borrow_mut();
        let place = slot as usize;
        if places.len() <= place {
            places.resize(place + 1, Dialect::Json4);
        }
        places[place] = dialect;
    }

    pub(super) fn of(&self, slot: u32) -> Dialect {
        self.0.borrow().get(slot as usize).copied().unwrap_or(Dialect::Json4)
    }

    /// Those of `slots` that speak one.
    fn speaking<'a>(&'a self, slots: &'a [u32], dialect: Dialect) -> impl Iterator<Item = u32> + 'a {
        slots.iter().copied().filter(move |slot| self.of(*slot) == dialect)
    }
}

impl Local {
    /// Sends frames of packets to one connection. Returns whether it was there (and, when `volatile`, able to take them).
    pub(crate) fn send(&self, id: ConnectionId, frames: &[u8], volatile: bool) -> bool {
        let Some(dialects) = &self.dialects else { return self.worker.send(id, frames, volatile) };
        let dialect = dialects.of(id.slot);
        if dialect == Dialect::Json4 {
            return self.worker.send(id, frames, volatile);
        }
        dialect.translate(frames).is_some_and(|frames| self.worker.send(id, &frames, volatile))
    }

    /// Sends a packet to the connections at `slots`.
    pub(super) fn deliver_packet(&self, packet: &Packet, slots: &[u32], volatile: bool) {
        let Some(dialects) = &self.dialects else {
            let staged = self.worker.stage_shared(packet.frames());
            self.worker.deliver(&staged, slots.iter().copied(), volatile);
            return;
        };
        for dialect in [Dialect::Json4].into_iter().chain(Dialect::OTHERS) {
            let mut its = dialects.speaking(slots, dialect).peekable();
            if its.peek().is_none() {
                continue;
            }
            let translated = match dialect.form() {
                None => Some(packet.frames().clone()),
                Some(form) => packet.form(form, || dialect.translate(packet.frames())),
            };
            if let Some(frames) = translated {
                let staged = self.worker.stage_shared(&frames);
                self.worker.deliver(&staged, its, volatile);
            }
        }
    }
}
