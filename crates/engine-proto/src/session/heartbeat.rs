//! Pings and pongs.

use std::time::Instant;

use super::{Settings, deadline_after};
use crate::query::Revision;

/// The heartbeat of one session: a ping every interval after the last pong, and the end when a pong stays away.
///
/// The first ping leaves a whole interval after the handshake. Traffic other than pongs does not count as life, save once per
/// ping: the first packet of another kind that comes while a pong is awaited restarts the wait, since a busy client's pong may
/// queue behind its data.
///
/// In revision 3 the client pings, and the end comes when it has not for an interval and a timeout; nothing else counts.
///
/// Source: Engine.IO protocol v4, "Heartbeat"; the grace is `engine.io` 6.6.10's.
#[derive(Debug)]
pub struct Heartbeat {
    at: Instant,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// A ping leaves at `at`.
    Resting,
    /// A pong must come before `at`.
    Awaiting { grace: bool },
    /// Revision 3: a ping must come before `at`.
    Listening,
}

/// What time brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beat {
    Nothing,
    Ping,
    Dead,
}

impl Heartbeat {
    pub(super) fn new(now: Instant, revision: Revision, settings: &Settings) -> Self {
        match revision {
            Revision::V4 => Self::resting(now, settings),
            Revision::V3 => Self::listening(now, settings),
        }
    }

    fn resting(now: Instant, settings: &Settings) -> Self {
        Self { at: deadline_after(now, settings.ping_interval), phase: Phase::Resting }
    }

    fn listening(now: Instant, settings: &Settings) -> Self {
        let patience = settings.ping_interval.saturating_add(settings.ping_timeout);
        Self { at: deadline_after(now, patience), phase: Phase::Listening }
    }

    pub(super) fn revision(&self) -> Revision {
        if self.phase == Phase::Listening { Revision::V3 } else { Revision::V4 }
    }

    /// A ping of a client of revision 3.
    pub(super) fn ping(&mut self, now: Instant, settings: &Settings) {
        *self = Self::listening(now, settings);
    }

    pub(super) const fn deadline(&self) -> Instant {
        self.at
    }

    /// Returns whether it was awaited.
    pub(super) fn pong(&mut self, now: Instant, settings: &Settings) -> bool {
        // A pong nobody asked for changes nothing: a flood of them neither costs timers nor puts the next ping off.
        let is_awaited = self.phase != Phase::Resting;
        if is_awaited {
            *self = Self::resting(now, settings);
        }
        is_awaited
    }

    /// A ping leaves now, before its time. Returns whether it does: not while a pong is awaited, not in revision 3.
    pub(super) fn ping_early(&mut self, now: Instant, settings: &Settings) -> bool {
        let is_resting = self.phase == Phase::Resting;
        if is_resting {
            *self = Self { at: deadline_after(now, settings.ping_timeout), phase: Phase::Awaiting { grace: true } };
        }
        is_resting
    }

    pub(super) fn heard_something(&mut self, now: Instant, settings: &Settings) {
        if self.phase == (Phase::Awaiting { grace: true }) {
            *self = Self { at: deadline_after(now, settings.ping_timeout), phase: Phase::Awaiting { grace: false } };
        }
    }

    /// The server itself did not listen: an awaited pong, or ping, gets its whole time again.
    pub(super) fn excuse(&mut self, now: Instant, settings: &Settings) {
        match self.phase {
            Phase::Resting => {}
            Phase::Awaiting { .. } => self.at = deadline_after(now, settings.ping_timeout),
            Phase::Listening => *self = Self::listening(now, settings),
        }
    }

    pub(super) fn tick(&mut self, now: Instant, settings: &Settings) -> Beat {
        if now < self.at {
            return Beat::Nothing;
        }
        match self.phase {
            Phase::Resting => {
                // A timer that is a little late does not put the end off, or lateness would add up: requests right behind the
                // announced times would find a session. One that is very late must not cost the client its time to answer.
                let is_very_late = now - self.at > settings.ping_timeout / 4;
                let from = if is_very_late { now } else { self.at };
                *self =
                    Self { at: deadline_after(from, settings.ping_timeout), phase: Phase::Awaiting { grace: true } };
                Beat::Ping
            }
            Phase::Awaiting { .. } | Phase::Listening => Beat::Dead,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::script::{NOTHING, PING, Step, ends, play, play_as};
    use super::super::{Received, Session};
    use super::*;
    use crate::close::CloseReason;
    use crate::handshake::Transport;
    use crate::packet::PacketType::{Message, Noop, Open, Ping, Pong, Upgrade};
    use Step::{Packet, Tick};

    const BOTH: [Transport; 2] = [Transport::Polling, Transport::WebSocket];
    const DEAD: super::super::Due = ends(CloseReason::PingTimeout);

    #[test]
    fn the_first_ping_leaves_after_a_whole_interval() {
        for transport in BOTH {
            play(
                transport,
                &[(0, Tick(NOTHING), 25_000), (24_999, Tick(NOTHING), 25_000), (25_000, Tick(PING), 45_000)],
            );
        }
    }

    #[test]
    fn a_client_of_revision_3_pings_and_is_answered() {
        for transport in BOTH {
            play_as(
                Revision::V3,
                transport,
                &[
                    (25_000, Tick(NOTHING), 45_000),
                    (25_001, Packet(Ping, Received::Pong), 70_001),
                    (40_000, Packet(Ping, Received::Pong), 85_000),
                    (84_999, Tick(NOTHING), 85_000),
                    (85_000, Tick(DEAD), 85_000),
                ],
            );
        }
    }

    #[test]
    fn only_pings_keep_a_session_of_revision_3() {
        for transport in BOTH {
            let mut steps = vec![];
            for (index, kind) in [Message, Noop, Open, Upgrade].into_iter().enumerate() {
                let received = if kind == Message { Received::Deliver } else { Received::Nothing };
                steps.push((30_000 + index as u64, Packet(kind, received), 45_000));
            }
            steps.push((45_000, Tick(DEAD), 45_000));
            play_as(Revision::V3, transport, &steps);
        }
    }

    #[test]
    fn a_pong_of_a_client_of_revision_3_is_the_wrong_direction() {
        for transport in BOTH {
            let wrong = Packet(Pong, Received::Close(CloseReason::TransportError));
            play_as(Revision::V3, transport, &[(5, wrong, 45_000)]);
        }
    }

    #[test]
    fn the_next_ping_is_measured_from_the_last_pong() {
        for transport in BOTH {
            play(
                transport,
                &[
                    (25_000, Tick(PING), 45_000),
                    (31_000, Packet(Pong, Received::Confirmed), 56_000),
                    (55_999, Tick(NOTHING), 56_000),
                    (56_000, Tick(PING), 76_000),
                ],
            );
        }
    }

    #[test]
    fn a_late_tick_does_not_put_the_end_off_unless_it_is_very_late() {
        for (ping, end) in [(25_032, 45_000), (30_000, 45_000), (30_001, 50_001), (90_000, 110_000)] {
            play(
                Transport::WebSocket,
                &[(ping, Tick(PING), end), (end - 1, Tick(NOTHING), end), (end, Tick(DEAD), end)],
            );
        }
    }

    #[test]
    fn a_pong_that_stays_away_ends_the_session() {
        for transport in BOTH {
            play(
                transport,
                &[(25_000, Tick(PING), 45_000), (44_999, Tick(NOTHING), 45_000), (45_000, Tick(DEAD), 45_000)],
            );
        }
    }

    #[test]
    fn traffic_between_two_pings_does_not_put_the_next_one_off() {
        play(
            Transport::WebSocket,
            &[
                (10_000, Packet(Message, Received::Deliver), 25_000),
                (24_000, Packet(Message, Received::Deliver), 25_000),
                (25_000, Tick(PING), 45_000),
                // What came before the ping gives no grace after it.
                (45_000, Tick(DEAD), 45_000),
            ],
        );
    }

    #[test]
    fn the_first_packet_that_is_no_pong_restarts_the_wait_and_the_second_does_not() {
        for (first, answer) in [
            (Message, Received::Deliver),
            (Noop, Received::Nothing),
            (Open, Received::Nothing),
            (Upgrade, Received::Nothing),
        ] {
            play(
                Transport::WebSocket,
                &[
                    (25_000, Tick(PING), 45_000),
                    (40_000, Packet(first, answer), 60_000),
                    (45_000, Packet(Message, Received::Deliver), 60_000),
                    (59_999, Packet(Message, Received::Deliver), 60_000),
                    (60_000, Tick(DEAD), 60_000),
                ],
            );
        }
    }

    #[test]
    fn the_next_ping_gives_its_own_grace() {
        play(
            Transport::Polling,
            &[
                (25_000, Tick(PING), 45_000),
                (30_000, Packet(Message, Received::Deliver), 50_000),
                (31_000, Packet(Message, Received::Deliver), 50_000),
                (49_000, Packet(Pong, Received::Confirmed), 74_000),
                (60_000, Packet(Message, Received::Deliver), 74_000),
                (74_000, Tick(PING), 94_000),
                (80_000, Packet(Message, Received::Deliver), 100_000),
                (81_000, Packet(Message, Received::Deliver), 100_000),
                (100_000, Tick(DEAD), 100_000),
            ],
        );
    }

    #[test]
    fn a_pong_that_nobody_asked_for_changes_nothing() {
        play(
            Transport::WebSocket,
            &[
                (1_000, Packet(Pong, Received::Nothing), 25_000),
                (25_000, Tick(PING), 45_000),
                (26_000, Packet(Pong, Received::Confirmed), 51_000),
                (30_000, Packet(Pong, Received::Nothing), 51_000),
                (51_000, Tick(PING), 71_000),
            ],
        );
    }

    #[test]
    fn sec_26_a_pong_flood_moves_no_deadline_and_starts_no_ping() {
        let settings = Settings::default();
        let start = Instant::now();
        for transport in BOTH {
            let mut session = Session::new(start, transport, &settings);
            let before = format!("{session:?}");
            for count in 0..10_000 {
                let now = start + Duration::from_millis(2 * count);
                assert_eq!(session.receive(now, Pong, &settings), Received::Nothing);
                assert_eq!(session.tick(now, &settings), NOTHING);
            }
            assert_eq!(format!("{session:?}"), before, "nothing was counted, moved or kept");
        }
    }

    #[test]
    fn a_ping_from_the_client_ends_the_session_with_a_transport_error() {
        for transport in BOTH {
            let refused = Packet(Ping, Received::Close(CloseReason::TransportError));
            play(transport, &[(1_000, refused, 25_000)]);
            play(transport, &[(25_000, Tick(PING), 45_000), (26_000, refused, 46_000)]);
        }
    }
}
