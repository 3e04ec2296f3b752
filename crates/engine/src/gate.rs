//! The limits of one engine on all its workers: who is let in, and what was refused.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use posthaste_engine_proto::limits::{Admission, AdmissionLimits, Peer, Pressure};
use posthaste_engine_proto::{Limit, LimitMode, MemoryWatermark};

/// What one engine's workers share about its limits.
///
/// Its lock is taken for a handshake, and at the end of a connection that was counted; not at all while no limit on connections
/// is set.
#[derive(Debug)]
pub(crate) struct Gate {
    limits: AdmissionLimits,
    watermark: Option<MemoryWatermark>,
    mode: LimitMode,
    admission: Mutex<Admission>,
    /// 0, 1 or 2: memory is enough, short, very short.
    pressure: AtomicU8,
    refused: [AtomicU64; Limit::ALL.len()],
    /// Spreads [`Gate::retry_after`].
    spread: AtomicU64,
}

/// How often clients ran into each limit since the server was made; with [`LimitMode::Observe`], how often they would have.
///
/// Counts only grow. What a server holds at a moment is told elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refused([u64; Limit::ALL.len()]);

impl Refused {
    /// How often this limit was met.
    #[must_use]
    pub const fn by(&self, limit: Limit) -> u64 {
        self.0[limit.index()]
    }

    /// Every limit, with how often it was met.
    pub fn iter(&self) -> impl Iterator<Item = (Limit, u64)> + '_ {
        Limit::ALL.into_iter().map(|limit| (limit, self.by(limit)))
    }

    /// All limits together.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

/// A connection's place among those that are counted. Dropping it makes room.
#[derive(Debug)]
pub(crate) struct Ticket {
    gate: Arc<Gate>,
    peer: Option<Peer>,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.gate.admission.lock().unwrap_or_else(PoisonError::into_inner).leave(self.peer);
    }
}

impl Gate {
    pub(crate) fn new(limits: AdmissionLimits, watermark: Option<MemoryWatermark>, mode: LimitMode) -> Self {
        let mut seed = [0; 8];
        // Without it every server spreads alike: worse, and no harm.
        let _ = getrandom::fill(&mut seed);
        Self {
            limits,
            watermark,
            mode,
            admission: Mutex::default(),
            pressure: AtomicU8::new(0),
            refused: [const { AtomicU64::new(0) }; Limit::ALL.len()],
            spread: AtomicU64::new(u64::from_le_bytes(seed)),
        }
    }

    /// Lets a new connection in, if it may come; the ticket is kept for as long as it lasts. `None` when nothing is counted.
    pub(crate) fn admit(self: &Arc<Self>, now: Instant, address: Option<IpAddr>) -> Result<Option<Ticket>, Limit> {
        self.admit_unless(now, address, |limit| self.forbids(limit))
    }

    /// As [`Gate::admit`], of a connection that no limit stands against; `None` for any other, of which nothing is counted.
    pub(crate) fn admit_silently(self: &Arc<Self>, now: Instant, address: Option<IpAddr>) -> Option<Option<Ticket>> {
        self.admit_unless(now, address, |_| true).ok()
    }

    fn admit_unless(
        self: &Arc<Self>,
        now: Instant,
        address: Option<IpAddr>,
        forbids: impl FnOnce(Limit) -> bool,
    ) -> Result<Option<Ticket>, Limit> {
        let counts = self.limits.connections.is_some() || self.limits.per_ip.is_some();
        if !counts && self.limits.rate.is_none() && self.watermark.is_none() {
            return Ok(None);
        }
        // Without a limit on them, addresses are not counted.
        let peer = address.filter(|_| self.limits.per_ip.is_some()).map(Peer::from);
        let mut admission = self.admission.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(limit) = admission.check(now, peer, self.pressure(), &self.limits)
            && forbids(limit)
        {
            return Err(limit);
        }
        if !counts {
            return Ok(None);
        }
        admission.enter(peer);
        drop(admission);
        Ok(Some(Ticket { gate: self.clone(), peer }))
    }

    /// Counts that a limit was met. Returns whether what met it is refused: always, unless limits are only observed.
    pub(crate) fn forbids(&self, limit: Limit) -> bool {
        self.count(limit);
        self.mode == LimitMode::Enforce
    }

    pub(crate) fn count(&self, limit: Limit) {
        self.refused[limit.index()].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn refused(&self) -> Refused {
        Refused(std::array::from_fn(|index| self.refused[index].load(Ordering::Relaxed)))
    }

    pub(crate) const fn watermark(&self) -> Option<&MemoryWatermark> {
        self.watermark.as_ref()
    }

    pub(crate) fn set_pressure(&self, pressure: Pressure) {
        let level = match pressure {
            Pressure::None => 0,
            Pressure::Stop => 1,
            Pressure::Shed { .. } => 2,
        };
        self.pressure.store(level, Ordering::Relaxed);
    }

    fn pressure(&self) -> Pressure {
        // How much is too much matters only to whoever sheds.
        if self.pressure.load(Ordering::Relaxed) == 0 { Pressure::None } else { Pressure::Stop }
    }

    /// In how many seconds somebody who was refused may come again: 1 to 10, so that those who were refused together do not come
    /// back together.
    pub(crate) fn retry_after(&self) -> u64 {
        // splitmix64: a step of a counter, well mixed. Nobody gains anything by guessing it.
        let mut mixed = self.spread.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        1 + (mixed ^ (mixed >> 31)) % 10
    }
}

#[cfg(test)]
mod tests {
    use posthaste_engine_proto::Rate;

    use super::*;

    #[test]
    fn a_ticket_is_given_back_and_none_is_given_without_a_limit() {
        let now = Instant::now();
        let open = Arc::new(Gate::new(AdmissionLimits::default(), None, LimitMode::Enforce));
        assert!(matches!(open.admit(now, None), Ok(None)));
        assert_eq!(open.admission.lock().unwrap().open(), 0);

        let limits = AdmissionLimits { connections: Some(1), ..Default::default() };
        let gate = Arc::new(Gate::new(limits, None, LimitMode::Enforce));
        let ticket = gate.admit(now, None).unwrap();
        assert!(ticket.is_some());
        assert_eq!(gate.admit(now, None).unwrap_err(), Limit::Connections);
        drop(ticket);
        assert!(gate.admit(now, None).is_ok());
        assert_eq!(gate.refused().by(Limit::Connections), 1);
        assert_eq!(gate.refused().total(), 1);
    }

    #[test]
    fn who_is_only_observed_is_counted_and_comes_in() {
        let limits = AdmissionLimits { connections: Some(1), per_ip: None, rate: Some(Rate::per_second(1)) };
        let gate = Arc::new(Gate::new(limits, None, LimitMode::Observe));
        let now = Instant::now();
        let tickets: Vec<_> = (0..10).map(|_| gate.admit(now, None).unwrap()).collect();
        assert_eq!(gate.refused().by(Limit::Connections), 9);
        drop(tickets);
        assert_eq!(gate.admission.lock().unwrap().open(), 0);
    }

    #[test]
    fn those_refused_together_do_not_come_back_together() {
        let gate = Gate::new(AdmissionLimits::default(), None, LimitMode::Enforce);
        let mut seen = [0; 11];
        for _ in 0..10_000 {
            seen[usize::try_from(gate.retry_after()).unwrap()] += 1;
        }
        assert_eq!(seen[0], 0);
        assert!(seen[1..].iter().all(|count| (800..1_200).contains(count)), "{seen:?}");
    }
}
