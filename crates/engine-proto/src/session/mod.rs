//! One Engine.IO session: what each packet, poll, probe and tick means.
//!
//! The session decides and its caller acts: every method takes what happened and returns what to do about it, as a small value.
//! It holds no bytes; what waits for a transport is in the [`Outbox`](crate::Outbox) beside it.
//!
//! ```text
//!                      ┌────────── polling ──────────┐      ┌── probe ──┐
//!   GET  open_poll ───►│ Park · Answer · Overlap      │      │ begin     │◄── a second transport with the same sid
//!   POST open_post ───►│ Ok · Overlap                 │      │ receive   │──► SendPong · Switch · Close
//!                      └──────────────┬──────────────┘      └─────┬─────┘
//!   packet ──── receive ─────────────►│◄──── the probe takes over ┘
//!   time ────── tick ────────────────►│ ping · noop for the parked poll · close of the probe · close of the session
//!   application close ───────────────►│ end at once, or with the poll that fetches the last packets
//! ```

mod heartbeat;
mod polling;
#[cfg(test)]
mod script;
#[cfg(test)]
mod tests;
mod upgrade;

use std::time::{Duration, Instant};

use crate::close::CloseReason;
use crate::handshake::Transport;
use crate::packet::PacketType;
use crate::query::Revision;
pub use heartbeat::Heartbeat;
use polling::Polling;
pub use polling::{Overlap, PollDecision};
use upgrade::Upgrade;
pub use upgrade::{ProbeDecision, ProbeRefused};

/// How long a session that the server closes over polling waits for the poll that fetches the end.
const CLOSING_PATIENCE: Duration = Duration::from_secs(30);

/// The moment `wait` after `now`; for a wait that no clock can hold, a moment that nobody will see.
///
/// Waits come from applications, and `Duration::MAX` is how some of them say "never".
#[must_use]
pub fn deadline_after(now: Instant, wait: Duration) -> Instant {
    const NEVER: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);
    now + wait.min(NEVER)
}

/// The timing of every session of a server. Defaults are Socket.IO's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Time between two pings, from the last pong; 25 s by default.
    pub ping_interval: Duration,
    /// How long a pong may take; 20 s by default.
    pub ping_timeout: Duration,
    /// How long an upgrade may take; 10 s by default.
    pub upgrade_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ping_interval: Duration::from_secs(25),
            ping_timeout: Duration::from_secs(20),
            upgrade_timeout: Duration::from_secs(10),
        }
    }
}

/// What to do with a packet of the session's transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// Give its data to the application.
    Deliver,
    /// Nothing; it was for the session, or for nobody.
    Nothing,
    /// Answer with a pong: a client of revision 3 has sent its ping.
    Pong,
    /// Nothing; but everything that was sent before the last ping has reached the client: it has answered it.
    Confirmed,
    /// End the session.
    Close(CloseReason),
}

/// What became due. Several may be at once; act in the order of the fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// Close the probe's transport: the upgrade took too long.
    pub close_probe: bool,
    /// Answer the parked poll with a noop, so that the client can pause polling.
    pub noop: bool,
    /// Send a ping on the session's transport.
    pub ping: bool,
    /// End the session.
    pub close: Option<CloseReason>,
}

/// How a close by the server goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseDecision {
    /// Write what waits to the stream, close it, and forget the session.
    EndStream,
    /// Answer the parked poll with what waits and a close packet, and forget the session.
    AnswerPoll,
    /// Keep what waits until the polls that fetch it and then the end have come, an upgrade is completed ([`Session::tick`]
    /// is due at once then), or patience ends.
    AwaitPoll,
    /// It was closing already.
    Already,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// Closed by the server; a poll may still fetch the end until then.
    Closing {
        until: Instant,
    },
}

/// The state machine of one session.
///
/// After every call that takes `now`, [`Session::deadline`] says when [`Session::tick`] is due next.
#[derive(Debug)]
pub struct Session {
    transport: Transport,
    state: State,
    heartbeat: Heartbeat,
    polling: Polling,
    upgrade: Upgrade,
}

impl Session {
    /// A session just opened by a handshake on `transport`, of a client of revision 4.
    #[must_use]
    pub fn new(now: Instant, transport: Transport, settings: &Settings) -> Self {
        Self::of(now, transport, Revision::V4, settings)
    }

    /// As [`Session::new`], of a client of any revision.
    #[must_use]
    pub fn of(now: Instant, transport: Transport, revision: Revision, settings: &Settings) -> Self {
        Self {
            transport,
            state: State::Open,
            heartbeat: Heartbeat::new(now, revision, settings),
            polling: Polling::default(),
            upgrade: Upgrade::None,
        }
    }

    /// The revision of the protocol that its client speaks.
    #[must_use]
    #[inline]
    pub fn revision(&self) -> Revision {
        self.heartbeat.revision()
    }

    /// The transport that carries messages now.
    #[must_use]
    pub const fn transport(&self) -> Transport {
        self.transport
    }

    /// Whether the server has closed it: nothing is received any more, the end may still have to be fetched.
    #[must_use]
    pub const fn is_closing(&self) -> bool {
        matches!(self.state, State::Closing { .. })
    }

    /// Whether a GET waits for an answer.
    #[must_use]
    pub const fn has_parked_poll(&self) -> bool {
        self.polling.is_parked()
    }

    /// Whether a probe is under way.
    #[must_use]
    pub const fn is_upgrading(&self) -> bool {
        self.upgrade.is_probing()
    }

    /// When [`Session::tick`] has something to do.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        let own = match self.state {
            State::Open => self.heartbeat.deadline(),
            State::Closing { until } => until,
        };
        self.upgrade.deadline().map_or(own, |probe| probe.min(own))
    }

    /// A packet came on the session's transport.
    pub fn receive(&mut self, now: Instant, packet: PacketType, settings: &Settings) -> Received {
        if packet == PacketType::Close && self.transport == Transport::Polling {
            // Of a closing session too: a client that has left does not poll for the end.
            return Received::Close(CloseReason::TransportClose);
        }
        if self.is_closing() {
            return Received::Nothing;
        }
        if packet != PacketType::Pong {
            self.heartbeat.heard_something(now, settings);
        }
        match packet {
            PacketType::Message => Received::Deliver,
            PacketType::Pong if self.revision() == Revision::V4 => {
                if self.heartbeat.pong(now, settings) {
                    Received::Confirmed
                } else {
                    Received::Nothing
                }
            }
            PacketType::Ping if self.revision() == Revision::V3 => {
                self.heartbeat.ping(now, settings);
                Received::Pong
            }
            // In revision 4 only the server pings, in revision 3 only the client.
            PacketType::Ping | PacketType::Pong => Received::Close(CloseReason::TransportError),
            // On a WebSocket the close packet means nothing: clients close the WebSocket itself.
            PacketType::Close | PacketType::Open | PacketType::Upgrade | PacketType::Noop => Received::Nothing,
        }
    }

    /// The server wants to know now what has reached the client. Returns whether a ping is to be sent: not while one is on its way, not to
    /// clients of revision 3, not when it is closing.
    pub fn ping_early(&mut self, now: Instant, settings: &Settings) -> bool {
        !self.is_closing() && self.heartbeat.ping_early(now, settings)
    }

    /// The server did not read the transport until now: a pong may be among what was not read.
    pub fn excuse(&mut self, now: Instant, settings: &Settings) {
        self.heartbeat.excuse(now, settings);
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Instant, settings: &Settings) -> Due {
        let probe = self.upgrade.tick(now, self.polling.is_parked());
        let mut due = Due { close_probe: probe.timed_out, noop: probe.noop, ..Due::default() };
        if let State::Closing { until } = self.state {
            due.close = (now >= until).then_some(CloseReason::ForcedClose);
            return due;
        }
        match self.heartbeat.tick(now, settings) {
            heartbeat::Beat::Nothing => {}
            heartbeat::Beat::Ping => due.ping = true,
            heartbeat::Beat::Dead => due.close = Some(CloseReason::PingTimeout),
        }
        due
    }

    /// A GET of this session arrived; `waiting` says whether the outbox holds anything.
    pub fn open_poll(&mut self, waiting: bool) -> PollDecision {
        self.polling.open_poll(self.transport, self.is_closing(), waiting)
    }

    /// The parked GET was answered.
    pub fn poll_answered(&mut self) {
        self.polling.poll_answered();
    }

    /// The client dropped the parked GET. Messages may have been lost with it, so the session ends.
    pub fn poll_aborted(&mut self) -> Option<CloseReason> {
        self.polling.poll_answered();
        (self.transport == Transport::Polling).then_some(CloseReason::TransportError)
    }

    /// A POST of this session arrived.
    ///
    /// # Errors
    /// [`Overlap`] when the one before has not ended: both are refused and the session ends.
    pub fn open_post(&mut self) -> Result<(), Overlap> {
        self.polling.open_post()
    }

    /// The POST was answered.
    pub fn post_answered(&mut self) {
        self.polling.post_answered();
    }

    /// The POST broke off before its end. What it carried is lost, so the session ends.
    pub fn post_aborted(&mut self) -> Option<CloseReason> {
        self.polling.post_answered();
        (self.transport == Transport::Polling).then_some(CloseReason::TransportError)
    }

    /// A second transport asks to take the session over.
    ///
    /// # Errors
    /// [`ProbeRefused`] when one does already or has done, or the session is no polling session; the new transport is closed.
    pub fn begin_upgrade(&mut self, now: Instant, settings: &Settings) -> Result<(), ProbeRefused> {
        if self.transport != Transport::Polling || self.is_closing() {
            return Err(ProbeRefused);
        }
        self.upgrade.begin(now, settings)
    }

    /// A packet came on the probing transport; `probe` says whether its data is the text `probe`.
    pub fn receive_probe(&mut self, now: Instant, packet: PacketType, probe: bool) -> ProbeDecision {
        let decision = self.upgrade.receive(now, packet, probe);
        if decision == ProbeDecision::Switch {
            self.transport = Transport::WebSocket;
            if let State::Closing { until } = &mut self.state {
                // No poll comes any more; what waits leaves with the switch, and the next tick ends the session.
                *until = now;
            }
        }
        decision
    }

    /// The probing transport is gone; polling goes on.
    pub fn probe_lost(&mut self) {
        self.upgrade.lost();
    }

    /// The server closes the session; `waiting` says whether anything was sent that has not left.
    ///
    /// Over polling, what waits leaves with a poll of its own, before the close packet: clients act on a close packet before
    /// they act on messages in the same body.
    pub fn close(&mut self, now: Instant, waiting: bool) -> CloseDecision {
        if self.is_closing() {
            return CloseDecision::Already;
        }
        match self.transport {
            Transport::WebSocket => CloseDecision::EndStream,
            Transport::Polling if self.polling.is_parked() && !waiting => CloseDecision::AnswerPoll,
            Transport::Polling => {
                self.state = State::Closing { until: deadline_after(now, CLOSING_PATIENCE) };
                CloseDecision::AwaitPoll
            }
        }
    }
}
