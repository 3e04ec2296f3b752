//! How the client tries to upgrade, and how it spoils it.

use std::time::Duration;

use posthaste_engine_proto::PacketType;

use super::{Act, Carrier, Client, Probe, State};
use crate::story::Attempt;
use crate::wire::{Frame, Purpose, StreamId};

impl Client {
    pub(super) fn next_attempt(&mut self, now: Duration, after: Duration) {
        if !self.attempts.is_empty() {
            self.attempt_at = Some(now + after);
        }
    }

    pub(super) fn begin_attempt(&mut self) {
        let Some(attempt) = self.attempts.pop_front() else { return };
        if self.state != State::Open || self.carrier != Carrier::Polling {
            return;
        }
        let stream = self.connect(Purpose::Probe);
        self.tail.clear();
        self.probe = Some(Probe { stream, attempt, pausing: false, spoil_at: None });
    }

    /// The WebSocket handshake was answered.
    pub(crate) fn stream_open(&mut self, now: Duration, stream: StreamId) {
        let Some(probe) = self.probe.as_mut().filter(|probe| probe.stream == stream) else { return };
        let attempt = probe.attempt;
        match attempt {
            Attempt::Silent => {}
            Attempt::HangUp => probe.spoil_at = Some(now + self.rng.millis(0, 200)),
            Attempt::Wrong => {
                let wrong = self.rng.pick(&["4hello", "3probe", "2", "6", "nonsense", ""]);
                self.send(stream, Frame::Text(wrong.to_owned()));
            }
            Attempt::Lost => {
                probe.spoil_at = Some(now + self.rng.millis(0, 200));
                self.send(stream, Frame::Text("2probe".to_owned()));
            }
            _ => self.send(stream, Frame::Text("2probe".to_owned())),
        }
        if attempt == Attempt::CompleteBesideAnother {
            self.intruder = Some(self.connect(Purpose::Probe));
        }
    }

    pub(super) fn probe_answered(&mut self, now: Duration, kind: PacketType, data: &str) -> Result<(), String> {
        if (kind, data) != (PacketType::Pong, "probe") {
            return Err(format!("the probe was answered {kind:?} {data}"));
        }
        let after = self.rng.millis(0, 300);
        let probe = self.probe.as_mut().expect("there is one");
        probe.pausing = true;
        if matches!(probe.attempt, Attempt::SilentOncePaused | Attempt::HangUpOncePaused | Attempt::WrongOncePaused) {
            probe.spoil_at = Some(now + after);
        }
        self.switch_if_paused();
        Ok(())
    }

    pub(super) fn switch_if_paused(&mut self) {
        let Some(probe) = &self.probe else { return };
        let completes = matches!(probe.attempt, Attempt::Complete | Attempt::CompleteBesideAnother);
        if !probe.pausing || !completes || self.get.is_some() || self.post.is_some() {
            return;
        }
        let stream = probe.stream;
        self.probe = None;
        self.upgrades += 1;
        self.send(stream, Frame::Text("5".to_owned()));
        self.carrier = Carrier::WebSocket(stream);
        self.flush();
        self.finish_closing();
    }

    /// Does what is wrong with the attempt.
    pub(super) fn spoil(&mut self, now: Duration) {
        let Some(probe) = &mut self.probe else { return };
        probe.spoil_at = None;
        let (stream, attempt) = (probe.stream, probe.attempt);
        match attempt {
            // The server's patience ends, and closes the probe.
            Attempt::Silent | Attempt::SilentOncePaused => {}
            Attempt::WrongOncePaused => {
                let wrong = self.rng.pick(&["4early", "3", "6", "1", "zzz"]);
                self.send(stream, Frame::Text(wrong.to_owned()));
            }
            Attempt::Lost => {
                self.acts.push(Act::Lose(stream));
                self.probe_failed(now);
            }
            Attempt::HangUp | Attempt::HangUpOncePaused => {
                self.send(stream, Frame::Close);
                self.probe_failed(now);
            }
            Attempt::Complete | Attempt::CompleteBesideAnother | Attempt::Wrong => {}
        }
    }

    /// The probe is gone: polling goes on, and the next attempt follows.
    pub(super) fn probe_failed(&mut self, now: Duration) {
        self.probe = None;
        self.abandoned += 1;
        let after = self.rng.millis(50, 400);
        self.next_attempt(now, after);
        self.flush();
        self.poll();
        self.finish_closing();
    }
}
