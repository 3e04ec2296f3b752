//! A session under any history.

use std::time::{Duration, Instant};

use posthaste_engine_proto::session::{
    CloseDecision, Due, Overlap, PollDecision, ProbeDecision, ProbeRefused, Received, deadline_after,
};
use posthaste_engine_proto::{CloseReason, PacketType, Revision, Session, Settings, Transport};

use crate::input::Input;

/// Settings and revision, transport, then operations with their operands.
pub(crate) const HISTORIES: &[&[u8]] = &[
    // Polls, a message, a pong, and time.
    b"\x00\x00\x05\x00\x00\x10\x06\x04\x04\x01\xff\x04\x03\x01\xff\x05\x01",
    // A probe, its ping, noops, the switch.
    b"\x00\x00\x05\x00\x0a\x0b\x02\x01\x00\xc8\x06\x0b\x05\x00\x04\x04\x01\xff",
    // A close that waits for its poll.
    b"\x00\x00\x0d\x01\x04\x04\x05\x01\x05\x00",
    // A close within an upgrade.
    b"\x01\x00\x0a\x0b\x02\x01\x0d\x00\x0b\x05\x00\x00\x01",
    b"\x02\x01\x01\xff\x04\x03\x01\xff\x01\xff\x01\xff",
    b"\x00\x00\x08\x08\x09\x08",
    // Revision 3: pings of the client, an upgrade under them, and one that stays away.
    b"\x04\x00\x04\x02\x01\x64\x04\x02\x0a\x0b\x02\x01\x0b\x05\x00\x04\x02\x02\x02\x02",
    b"\x06\x01\x04\x04\x04\x02\x00\xff\x04\x03",
];

const PACKETS: [PacketType; 7] = [
    PacketType::Open,
    PacketType::Close,
    PacketType::Ping,
    PacketType::Pong,
    PacketType::Message,
    PacketType::Upgrade,
    PacketType::Noop,
];

/// What is known of a session without looking at it.
struct World {
    session: Session,
    revision: Revision,
    settings: Settings,
    now: Instant,
    transport: Transport,
    closing: bool,
    parked: bool,
    posting: bool,
    probing: bool,
    upgraded: bool,
    /// When the last ping left, and whether a pong answered it.
    pinged: Option<Instant>,
    /// The first ping or the pong before the next one.
    rested: Instant,
    /// Whether the server admitted to not having listened.
    excused: bool,
}

/// Laws: every answer is the one that the history so far asks for; time is kept, and only time that has come.
pub(crate) fn check(data: &[u8]) {
    let mut input = Input::new(data);
    let choice = input.below(8);
    let revision = if choice < 4 { Revision::V4 } else { Revision::V3 };
    let settings = match choice % 4 {
        0 | 1 => Settings::default(),
        2 => Settings { ping_interval: ms(300), ping_timeout: ms(200), upgrade_timeout: ms(1_000) },
        _ => Settings { ping_interval: Duration::MAX, ping_timeout: ms(1), upgrade_timeout: Duration::MAX },
    };
    let transport = input.pick(&[Transport::Polling, Transport::WebSocket]);
    let now = Instant::now();
    let mut world = World {
        session: Session::of(now, transport, revision, &settings),
        revision,
        settings,
        now,
        transport,
        closing: false,
        parked: false,
        posting: false,
        probing: false,
        upgraded: false,
        pinged: None,
        rested: now,
        excused: false,
    };
    for _ in 0..300 {
        if input.is_empty() || world.step(&mut input).is_err() {
            break;
        }
        world.agrees();
    }
}

/// The session is over; whoever holds it forgets it.
struct Over;

impl World {
    const fn is_third(&self) -> bool {
        matches!(self.revision, Revision::V3)
    }

    /// How long a client of revision 3 may be silent, as far as a clock goes.
    fn patience(&self) -> Duration {
        let patience = self.settings.ping_interval.saturating_add(self.settings.ping_timeout);
        deadline_after(self.now, patience).saturating_duration_since(self.now)
    }

    fn agrees(&self) {
        assert_eq!(self.session.revision(), self.revision);
        let session = &self.session;
        assert_eq!(session.transport(), self.transport);
        assert_eq!(session.is_closing(), self.closing);
        assert_eq!(session.has_parked_poll(), self.parked);
        assert_eq!(session.is_upgrading(), self.probing);
    }

    fn step(&mut self, input: &mut Input<'_>) -> Result<(), Over> {
        let polling = self.transport == Transport::Polling;
        match input.below(16) {
            0 => self.pass(ms(u64::from(input.byte())))?,
            1 => self.pass(ms(u64::from(input.byte()) * 250))?,
            2 => self.pass(self.session.deadline().min(self.now + ms(100_000)).saturating_duration_since(self.now))?,
            3 => {
                // A worker that was held up looks once, and late.
                self.now += ms(u64::from(input.byte()) * 100);
                self.tick()?;
            }
            4 => {
                let packet = input.pick(&PACKETS);
                let expected = match packet {
                    PacketType::Close if polling => Received::Close(CloseReason::TransportClose),
                    _ if self.closing => Received::Nothing,
                    PacketType::Message => Received::Deliver,
                    PacketType::Ping if self.is_third() => Received::Pong,
                    PacketType::Pong if self.is_third() => Received::Close(CloseReason::TransportError),
                    PacketType::Ping => Received::Close(CloseReason::TransportError),
                    PacketType::Pong if self.pinged.is_some() => Received::Confirmed,
                    _ => Received::Nothing,
                };
                assert_eq!(self.session.receive(self.now, packet, &self.settings), expected, "{packet:?}");
                if expected == Received::Pong {
                    self.rested = self.now;
                    self.excused = false;
                }
                if packet == PacketType::Pong && !self.closing && self.pinged.take().is_some() {
                    self.rested = self.now;
                    self.excused = false;
                }
                if matches!(expected, Received::Close(_)) {
                    return Err(Over);
                }
            }
            5 => {
                let waiting = input.flag();
                let expected = match (polling, self.parked, waiting, self.closing) {
                    (false, ..) => PollDecision::Mismatch,
                    (_, true, ..) => PollDecision::Overlap,
                    (_, _, true, _) => PollDecision::Answer,
                    (.., true) => PollDecision::AnswerClose,
                    _ => PollDecision::Park,
                };
                assert_eq!(self.session.open_poll(waiting), expected);
                match expected {
                    PollDecision::Park => self.parked = true,
                    PollDecision::Overlap | PollDecision::AnswerClose => return Err(Over),
                    PollDecision::Answer | PollDecision::Mismatch => {}
                }
            }
            6 => {
                self.session.poll_answered();
                self.parked = false;
            }
            7 => {
                let expected = polling.then_some(CloseReason::TransportError);
                let end = if input.flag() {
                    self.parked = false;
                    self.session.poll_aborted()
                } else {
                    self.posting = false;
                    self.session.post_aborted()
                };
                assert_eq!(end, expected);
                return if end.is_some() { Err(Over) } else { Ok(()) };
            }
            8 => {
                assert_eq!(self.session.open_post(), if self.posting { Err(Overlap) } else { Ok(()) });
                self.posting = true;
            }
            9 => {
                self.session.post_answered();
                self.posting = false;
            }
            10 => {
                let taken = polling && !self.closing && !self.probing && !self.upgraded;
                let expected = if taken { Ok(()) } else { Err(ProbeRefused) };
                assert_eq!(self.session.begin_upgrade(self.now, &self.settings), expected);
                self.probing |= taken;
            }
            11 | 12 => {
                let (packet, probe) = (input.pick(&PACKETS), input.flag());
                let expected = match packet {
                    PacketType::Ping if self.probing && probe => ProbeDecision::SendPong,
                    PacketType::Upgrade if self.probing => ProbeDecision::Switch,
                    _ => ProbeDecision::Close,
                };
                assert_eq!(self.session.receive_probe(self.now, packet, probe), expected, "{packet:?}");
                if expected == ProbeDecision::Switch {
                    (self.transport, self.upgraded) = (Transport::WebSocket, true);
                    if self.closing {
                        assert!(self.session.deadline() <= self.now, "no poll fetches the end any more");
                    }
                }
                self.probing &= expected == ProbeDecision::SendPong;
            }
            13 => {
                let waiting = input.flag();
                let expected = match (self.closing, polling) {
                    (true, _) => CloseDecision::Already,
                    (_, false) => CloseDecision::EndStream,
                    _ if self.parked && !waiting => CloseDecision::AnswerPoll,
                    _ => CloseDecision::AwaitPoll,
                };
                assert_eq!(self.session.close(self.now, waiting), expected);
                match expected {
                    CloseDecision::AwaitPoll => self.closing = true,
                    CloseDecision::Already => {}
                    CloseDecision::EndStream | CloseDecision::AnswerPoll => return Err(Over),
                }
            }
            14 => {
                self.session.excuse(self.now, &self.settings);
                self.excused = true;
            }
            _ => {
                self.session.probe_lost();
                self.probing = false;
            }
        }
        Ok(())
    }

    /// Time passes, and what is due is done in its time.
    fn pass(&mut self, time: Duration) -> Result<(), Over> {
        let until = self.now + time;
        loop {
            let deadline = self.session.deadline();
            let early = deadline.min(until) - Duration::from_nanos(1);
            if early >= self.now {
                let before = format!("{:?}", self.session);
                assert_eq!(self.session.tick(early, &self.settings), Due::default(), "a tick too early");
                assert_eq!(format!("{:?}", self.session), before, "an early tick leaves everything as it was");
            }
            if deadline > until {
                self.now = until;
                return Ok(());
            }
            self.now = self.now.max(deadline);
            self.tick()?;
        }
    }

    fn tick(&mut self) -> Result<(), Over> {
        let due = self.session.tick(self.now, &self.settings);
        assert!(!due.close_probe || self.probing, "there is a probe to close");
        self.probing &= !due.close_probe;
        assert!(!due.noop || (self.parked && self.probing && !self.upgraded), "a noop frees a poll for an upgrade");
        if due.ping {
            assert!(!self.is_third(), "the client pings");
            assert!(!self.closing && self.pinged.is_none(), "one ping at a time, and none behind the end");
            assert!(self.now >= self.rested + self.settings.ping_interval, "a whole interval lies before a ping");
            self.pinged = Some(self.now);
        }
        match due.close {
            Some(CloseReason::PingTimeout) if self.is_third() => {
                assert!(self.now >= self.rested + self.patience() && !self.closing);
                Err(Over)
            }
            Some(CloseReason::PingTimeout) => {
                let pinged = self.pinged.expect("nobody dies of a ping that never left");
                // A ping that left up to a quarter of its timeout late does not put the end off.
                assert!(self.now >= pinged + self.settings.ping_timeout * 3 / 4 && !self.closing && !due.ping);
                Err(Over)
            }
            Some(reason) => {
                assert!(self.closing && reason == CloseReason::ForcedClose);
                Err(Over)
            }
            None => {
                assert!(self.session.deadline() > self.now, "a deadline that was met is over");
                if self.is_third() && !self.closing && !self.excused {
                    assert!(self.session.deadline() <= self.rested + self.patience());
                }
                if let (Some(pinged), false, false) = (self.pinged, self.closing, self.excused) {
                    // The whole wait and, for a client that said something else, one more.
                    assert!(self.session.deadline() <= self.now.max(pinged + 2 * self.settings.ping_timeout));
                }
                Ok(())
            }
        }
    }
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
