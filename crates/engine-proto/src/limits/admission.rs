//! Who may open a connection.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Instant;

use super::{Limit, Pressure, Rate, TokenBucket};

/// How many connections a server takes. Without limits by default, as Socket.IO.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AdmissionLimits {
    /// Open connections, all together.
    pub connections: Option<usize>,
    /// Open connections of one address: of an IPv4 address, or of an IPv6 network of 64 bits, which is what one customer of a
    /// network has.
    pub per_ip: Option<usize>,
    /// New connections.
    pub rate: Option<Rate>,
}

/// Whom connections of one address are counted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    /// An IPv4 address.
    V4(u32),
    /// The first 64 bits of an IPv6 address.
    V6(u64),
}

impl From<IpAddr> for Peer {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.to_bits()),
            IpAddr::V6(address) => Self::V6(network(address)),
        }
    }
}

fn network(address: Ipv6Addr) -> u64 {
    (address.to_bits() >> 64) as u64
}

/// The connections of a server, as far as they are limited.
///
/// [`Admission::check`] comes before each handshake, [`Admission::enter`] when it is let in, [`Admission::leave`] when its
/// connection has ended.
#[derive(Debug, Default)]
pub struct Admission {
    open: usize,
    // Addresses are the clients' choice (of one network at least), and so this map has a keyed hasher.
    by_peer: HashMap<Peer, usize>,
    bucket: Option<TokenBucket>,
}

impl Admission {
    /// Which limit a new connection of `peer` would pass, if any. A `peer` that is not known counts for no address.
    pub fn check(
        &mut self,
        now: Instant,
        peer: Option<Peer>,
        pressure: Pressure,
        limits: &AdmissionLimits,
    ) -> Option<Limit> {
        if pressure != Pressure::None {
            return Some(Limit::Memory);
        }
        if limits.connections.is_some_and(|most| self.open >= most) {
            return Some(Limit::Connections);
        }
        let of_peer = peer.and_then(|peer| self.by_peer.get(&peer)).copied().unwrap_or(0);
        if limits.per_ip.is_some_and(|most| of_peer >= most) {
            return Some(Limit::ConnectionsPerIp);
        }
        // Last: who is refused for another reason takes no token.
        let rate = limits.rate?;
        let bucket = self.bucket.get_or_insert_with(|| TokenBucket::full(now));
        bucket.take(now, 1, rate).is_err().then_some(Limit::ConnectionRate)
    }

    /// Counts a connection of `peer`.
    pub fn enter(&mut self, peer: Option<Peer>) {
        self.open += 1;
        if let Some(peer) = peer {
            *self.by_peer.entry(peer).or_default() += 1;
        }
    }

    /// A connection of `peer` that was counted has ended.
    pub fn leave(&mut self, peer: Option<Peer>) {
        self.open = self.open.saturating_sub(1);
        let Some(peer) = peer else { return };
        if let Some(count) = self.by_peer.get_mut(&peer) {
            *count -= 1;
            if *count == 0 {
                self.by_peer.remove(&peer);
            }
        }
    }

    /// How many connections are counted.
    #[must_use]
    pub const fn open(&self) -> usize {
        self.open
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn peer(text: &str) -> Option<Peer> {
        Some(Peer::from(text.parse::<IpAddr>().unwrap()))
    }

    #[test]
    fn one_customer_of_a_network_is_one_peer() {
        assert_eq!(peer("2001:db8:1:2::1"), peer("2001:db8:1:2:ffff::9"));
        assert_ne!(peer("2001:db8:1:2::1"), peer("2001:db8:1:3::1"));
        assert_eq!(peer("::ffff:192.0.2.7"), peer("192.0.2.7"));
        assert_ne!(peer("192.0.2.7"), peer("192.0.2.8"));
    }

    #[test]
    fn each_limit_refuses_under_its_own_name_and_ends_with_its_cause() {
        let now = Instant::now();
        let mut admission = Admission::default();
        let limits =
            AdmissionLimits { connections: Some(3), per_ip: Some(2), rate: Some(Rate::per_second(1).burst(3)) };
        let (a, b) = (peer("192.0.2.1"), peer("192.0.2.2"));
        let arrives = |admission: &mut Admission, peer, now| {
            let refused = admission.check(now, peer, Pressure::None, &limits);
            if refused.is_none() {
                admission.enter(peer);
            }
            refused
        };
        assert_eq!(arrives(&mut admission, a, now), None);
        assert_eq!(arrives(&mut admission, a, now), None);
        assert_eq!(arrives(&mut admission, a, now), Some(Limit::ConnectionsPerIp));
        assert_eq!(arrives(&mut admission, b, now), None, "the refused one took no token");
        assert_eq!(arrives(&mut admission, b, now), Some(Limit::Connections));
        admission.leave(a);
        assert_eq!(arrives(&mut admission, b, now), Some(Limit::ConnectionRate));
        assert_eq!(arrives(&mut admission, b, now + Duration::from_secs(1)), None);
        for left in [a, b, b] {
            admission.leave(left);
        }
        assert_eq!(admission.open(), 0);
        assert!(admission.by_peer.is_empty(), "nothing is kept of who was there");
    }

    #[test]
    fn nobody_new_comes_in_while_memory_is_short() {
        let (now, limits) = (Instant::now(), AdmissionLimits::default());
        let mut admission = Admission::default();
        assert_eq!(admission.check(now, None, Pressure::Stop, &limits), Some(Limit::Memory));
        assert_eq!(admission.check(now, None, Pressure::Shed { excess: 1 }, &limits), Some(Limit::Memory));
        assert_eq!(admission.check(now, None, Pressure::None, &limits), None);
    }

    #[test]
    fn without_limits_everyone_comes_in() {
        let now = Instant::now();
        let mut admission = Admission::default();
        for _ in 0..10_000 {
            assert_eq!(admission.check(now, peer("::1"), Pressure::None, &AdmissionLimits::default()), None);
            admission.enter(peer("::1"));
        }
    }
}
