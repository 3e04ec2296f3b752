//! From polling to a WebSocket, with a probe.

use std::time::{Duration, Instant};

use super::{Settings, deadline_after};
use crate::packet::PacketType;

/// While a probe is under way, a parked poll is let go this often.
const NOOP_INTERVAL: Duration = Duration::from_millis(100);

/// Where an upgrade stands. An abandoned or wrong probe leads back to `None` and leaves polling as it was.
///
/// Source: Engine.IO protocol v4, "Upgrade".
#[derive(Debug)]
pub(super) enum Upgrade {
    None,
    // Boxed: few sessions are upgrading at any moment, all of them carry this field.
    Probing(Box<Probing>),
    Done,
}

#[derive(Debug)]
pub(super) struct Probing {
    until: Instant,
    /// Set once the probe's ping was answered.
    noop_at: Option<Instant>,
}

/// A session takes one upgrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the session is upgrading, upgraded or no polling session")]
pub struct ProbeRefused;

/// What to do with a packet of the probing transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeDecision {
    /// Answer `3probe` on the probe.
    SendPong,
    /// The probe becomes the session's transport: end a parked GET, then send what waits on it.
    Switch,
    /// Close the probe; polling goes on.
    Close,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ProbeDue {
    pub(super) timed_out: bool,
    pub(super) noop: bool,
}

impl Upgrade {
    pub(super) const fn is_probing(&self) -> bool {
        matches!(self, Self::Probing(_))
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Probing(probing) => Some(probing.noop_at.map_or(probing.until, |noop| noop.min(probing.until))),
            Self::None | Self::Done => None,
        }
    }

    pub(super) fn begin(&mut self, now: Instant, settings: &Settings) -> Result<(), ProbeRefused> {
        match self {
            Self::None => {
                *self = Self::Probing(Box::new(Probing {
                    until: deadline_after(now, settings.upgrade_timeout),
                    noop_at: None,
                }));
                Ok(())
            }
            Self::Probing(_) | Self::Done => Err(ProbeRefused),
        }
    }

    pub(super) fn receive(&mut self, now: Instant, packet: PacketType, probe: bool) -> ProbeDecision {
        match (&mut *self, packet) {
            (Self::Probing(probing), PacketType::Ping) if probe => {
                // The open poll must return, or the client never sends `5`.
                probing.noop_at = Some(now + NOOP_INTERVAL);
                ProbeDecision::SendPong
            }
            (Self::Probing(_), PacketType::Upgrade) => {
                *self = Self::Done;
                ProbeDecision::Switch
            }
            _ => {
                self.lost();
                ProbeDecision::Close
            }
        }
    }

    pub(super) fn lost(&mut self) {
        if self.is_probing() {
            *self = Self::None;
        }
    }

    pub(super) fn tick(&mut self, now: Instant, parked: bool) -> ProbeDue {
        let Self::Probing(probing) = self else { return ProbeDue::default() };
        if now >= probing.until {
            *self = Self::None;
            return ProbeDue { timed_out: true, noop: false };
        }
        match probing.noop_at {
            Some(at) if now >= at => {
                probing.noop_at = Some(now + NOOP_INTERVAL);
                ProbeDue { timed_out: false, noop: parked }
            }
            _ => ProbeDue::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::script::{CLOSE_PROBE, NOOP, NOTHING, PING, Step, play};
    use super::super::{CloseDecision, Due, PollDecision, Received};
    use super::*;
    use crate::close::CloseReason;
    use crate::handshake::Transport;
    use crate::packet::PacketType::{Close as ClosePacket, Message, Noop, Open, Ping, Pong};
    use ProbeDecision::{SendPong, Switch};
    use Step::{Close, Get, GetAnswered, OnProbe, Packet, Post, PostAnswered, Probe, ProbeLost, Tick};

    const IDLE: u64 = 25_000;
    const PARKED: Step = Get(PollDecision::Park);
    /// What a client says on the probe, one after the other.
    const PROBE: Step = OnProbe(Ping, true, SendPong);
    const UPGRADE: Step = OnProbe(PacketType::Upgrade, false, Switch);
    const REFUSED: Step = Probe(Err(ProbeRefused));

    #[test]
    fn a_probe_is_answered_and_its_upgrade_packet_switches() {
        let session = play(
            Transport::Polling,
            &[
                (0, PARKED, IDLE),
                (1_000, Probe(Ok(())), 11_000),
                (1_010, PROBE, 1_110),
                (1_110, Tick(NOOP), 1_210),
                (1_110, GetAnswered, 1_210),
                (1_150, UPGRADE, IDLE),
                (1_160, Packet(Message, Received::Deliver), IDLE),
            ],
        );
        assert_eq!((session.transport(), session.is_upgrading()), (Transport::WebSocket, false));
    }

    #[test]
    fn a_parked_poll_is_let_go_about_every_100_ms_once_the_probe_was_answered() {
        play(
            Transport::Polling,
            &[
                (0, PARKED, IDLE),
                // The probe alone frees nothing: its ping may never come.
                (1_000, Probe(Ok(())), 11_000),
                (1_500, Tick(NOTHING), 11_000),
                (2_000, PROBE, 2_100),
                (2_099, Tick(NOTHING), 2_100),
                (2_100, Tick(NOOP), 2_200),
                (2_100, GetAnswered, 2_200),
                // Nothing is parked.
                (2_200, Tick(NOTHING), 2_300),
                (2_210, PARKED, 2_300),
                (2_330, Tick(NOOP), 2_430),
                (2_330, GetAnswered, 2_430),
                // Asked again, the probe is answered again, and the time starts anew.
                (2_400, PROBE, 2_500),
                (2_410, PARKED, 2_500),
                (2_500, Tick(NOOP), 2_600),
            ],
        );
    }

    #[test]
    fn the_upgrade_packet_alone_switches_too() {
        let session = play(Transport::Polling, &[(0, Probe(Ok(())), 10_000), (5, UPGRADE, IDLE)]);
        assert_eq!(session.transport(), Transport::WebSocket);
    }

    #[test]
    fn a_probe_that_says_anything_else_is_closed_and_polling_goes_on() {
        for (kind, probe) in [
            (Ping, false),
            (Pong, true),
            (Pong, false),
            (Message, false),
            (Message, true),
            (Open, false),
            (ClosePacket, false),
            (Noop, false),
        ] {
            let wrong = OnProbe(kind, probe, ProbeDecision::Close);
            for lines in [
                &[(0, PARKED, IDLE), (10, Probe(Ok(())), 10_010), (20, wrong, IDLE)][..],
                &[(0, PARKED, IDLE), (10, Probe(Ok(())), 10_010), (15, PROBE, 115), (20, wrong, IDLE)],
            ] {
                polling_goes_on(lines);
            }
        }
    }

    #[test]
    fn a_lost_probe_leaves_polling_usable() {
        polling_goes_on(&[(0, PARKED, IDLE), (10, Probe(Ok(())), 10_010), (20, ProbeLost, IDLE)]);
        polling_goes_on(&[(0, PARKED, IDLE), (10, Probe(Ok(())), 10_010), (15, PROBE, 115), (20, ProbeLost, IDLE)]);
    }

    #[test]
    fn an_upgrade_that_takes_too_long_is_given_up_and_leaves_polling_usable() {
        polling_goes_on(&[
            (0, PARKED, IDLE),
            (1_000, Probe(Ok(())), 11_000),
            (10_999, Tick(NOTHING), 11_000),
            (11_000, Tick(CLOSE_PROBE), IDLE),
            // What it says after that comes too late.
            (11_001, OnProbe(PacketType::Upgrade, false, ProbeDecision::Close), IDLE),
        ]);
        // The probe's own pings do not stretch it; noops end with it.
        polling_goes_on(&[
            (0, PARKED, IDLE),
            (1_000, Probe(Ok(())), 11_000),
            (10_950, PROBE, 11_000),
            (11_000, Tick(CLOSE_PROBE), IDLE),
            (11_050, Tick(NOTHING), IDLE),
        ]);
    }

    /// Plays `lines`, which leave a parked poll and no probe, then everything that polling is for, and another upgrade.
    fn polling_goes_on(lines: &[(u64, Step, u64)]) {
        let rest = [
            (12_000, Post(Ok(())), IDLE),
            (12_000, Packet(Message, Received::Deliver), IDLE),
            (12_000, PostAnswered, IDLE),
            (12_010, GetAnswered, IDLE),
            (12_020, PARKED, IDLE),
            (12_100, Probe(Ok(())), 22_100),
            (12_110, PROBE, 12_210),
            (12_210, Tick(NOOP), 12_310),
            (12_210, GetAnswered, 12_310),
            (12_220, UPGRADE, IDLE),
        ];
        let session = play(Transport::Polling, &[lines, &rest].concat());
        assert_eq!(session.transport(), Transport::WebSocket);
    }

    #[test]
    fn a_second_probe_is_refused_while_one_is_under_way_and_does_not_disturb_it() {
        let session = play(
            Transport::Polling,
            &[
                (0, Probe(Ok(())), 10_000),
                (10, REFUSED, 10_000),
                (20, PROBE, 120),
                (30, REFUSED, 120),
                (40, UPGRADE, IDLE),
            ],
        );
        assert_eq!(session.transport(), Transport::WebSocket);
    }

    #[test]
    fn an_upgraded_session_and_one_that_never_polled_take_no_probe() {
        play(Transport::Polling, &[(0, Probe(Ok(())), 10_000), (10, UPGRADE, IDLE), (20, REFUSED, IDLE)]);
        play(Transport::WebSocket, &[(0, REFUSED, IDLE)]);
    }

    #[test]
    fn a_session_that_the_server_closes_takes_no_probe() {
        play(Transport::Polling, &[(0, Close(CloseDecision::AwaitPoll), 30_000), (10, REFUSED, 30_000)]);
    }

    #[test]
    fn pings_go_on_during_an_upgrade_and_their_pongs_may_come_on_either_transport() {
        play(
            Transport::Polling,
            &[
                (24_980, Probe(Ok(())), IDLE),
                (24_990, PROBE, 25_000),
                (25_000, Tick(PING), 25_090),
                (25_010, Packet(Pong, Received::Confirmed), 25_090),
                (25_020, UPGRADE, 50_010),
            ],
        );
        play(
            Transport::Polling,
            &[
                (24_980, Probe(Ok(())), IDLE),
                (24_990, PROBE, 25_000),
                (25_000, Tick(PING), 25_090),
                (25_020, UPGRADE, 45_000),
                (25_030, Packet(Pong, Received::Confirmed), 50_030),
            ],
        );
    }

    #[test]
    fn what_is_due_at_once_is_told_at_once() {
        play(
            Transport::Polling,
            &[
                (0, PARKED, IDLE),
                (20_000, Probe(Ok(())), IDLE),
                (20_010, PROBE, 20_110),
                (25_000, Tick(Due { noop: true, ping: true, ..NOTHING }), 25_100),
                (25_000, GetAnswered, 25_100),
                (45_000, Tick(Due { close_probe: true, close: Some(CloseReason::PingTimeout), ..NOTHING }), 45_000),
            ],
        );
    }

    #[test]
    fn a_session_closed_by_the_server_while_upgrading_ends_with_its_upgrade() {
        // The client has paused polling: no poll will come to fetch the end.
        let session = play(
            Transport::Polling,
            &[
                (1_000, Probe(Ok(())), 11_000),
                (1_010, PROBE, 1_110),
                (1_050, Close(CloseDecision::AwaitPoll), 1_110),
                (1_110, Tick(NOTHING), 1_210),
                (1_200, UPGRADE, 1_200),
                (1_200, Tick(super::super::script::ends(CloseReason::ForcedClose)), 1_200),
            ],
        );
        assert_eq!(session.transport(), Transport::WebSocket);
    }

    #[test]
    fn a_probe_of_a_closing_session_is_given_up_in_its_time() {
        play(
            Transport::Polling,
            &[
                (1_000, Probe(Ok(())), 11_000),
                (1_050, Close(CloseDecision::AwaitPoll), 11_000),
                (11_000, Tick(CLOSE_PROBE), 31_050),
                (12_000, Get(PollDecision::AnswerClose), 31_050),
            ],
        );
    }
}
