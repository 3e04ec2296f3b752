//! At most one GET and one POST at a time.

use crate::handshake::Transport;

/// Which requests of a polling session are open.
#[derive(Debug, Default)]
pub(super) struct Polling {
    parked: bool,
    posting: bool,
}

/// What to do with a GET.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PollDecision {
    /// Keep it until there is something to send.
    Park,
    /// Answer it with the outbox.
    Answer,
    /// Answer it with a noop and a close packet, and forget the session.
    AnswerClose,
    /// Another GET is parked: answer that one with a close packet, refuse this one, end the session with `transport error`.
    Overlap,
    /// The session runs on another transport: refuse.
    Mismatch,
}

/// A second POST came before the first was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("overlap from client")]
pub struct Overlap;

impl Polling {
    pub(super) const fn is_parked(&self) -> bool {
        self.parked
    }

    pub(super) fn open_poll(&mut self, transport: Transport, closing: bool, waiting: bool) -> PollDecision {
        if transport != Transport::Polling {
            return PollDecision::Mismatch;
        }
        if self.parked {
            return PollDecision::Overlap;
        }
        if waiting {
            return PollDecision::Answer;
        }
        if closing {
            return PollDecision::AnswerClose;
        }
        self.parked = true;
        PollDecision::Park
    }

    pub(super) fn poll_answered(&mut self) {
        self.parked = false;
    }

    pub(super) fn open_post(&mut self) -> Result<(), Overlap> {
        if std::mem::replace(&mut self.posting, true) { Err(Overlap) } else { Ok(()) }
    }

    pub(super) fn post_answered(&mut self) {
        self.posting = false;
    }
}

#[cfg(test)]
mod tests {
    use super::super::script::{PING, Step, play};
    use super::super::{CloseDecision, ProbeDecision, Received};
    use super::*;
    use crate::close::CloseReason::{TransportClose, TransportError};
    use crate::packet::PacketType;
    use PollDecision::{Answer, AnswerClose, Mismatch, Park};
    use Step::{
        Close, Get, GetAborted, GetAnswered, GetWaiting, OnProbe, Packet, Post, PostAborted, PostAnswered, Probe, Tick,
    };

    /// The deadline of a session that only waits for its first ping.
    const IDLE: u64 = 25_000;

    #[test]
    fn a_poll_is_parked_while_nothing_waits_and_answered_when_something_does() {
        let session = play(
            Transport::Polling,
            &[
                (0, Get(Park), IDLE),
                (10, GetAnswered, IDLE),
                (20, GetWaiting(Answer), IDLE),
                (30, GetWaiting(Answer), IDLE),
                (40, Get(Park), IDLE),
            ],
        );
        assert!(session.has_parked_poll());
    }

    #[test]
    fn a_second_poll_overlaps_whatever_waits() {
        for second in [Get(PollDecision::Overlap), GetWaiting(PollDecision::Overlap)] {
            play(Transport::Polling, &[(0, Get(Park), IDLE), (10, second, IDLE)]);
        }
    }

    #[test]
    fn a_poll_of_a_websocket_session_is_a_mismatch() {
        play(Transport::WebSocket, &[(0, Get(Mismatch), IDLE), (0, GetWaiting(Mismatch), IDLE)]);
        let upgraded = play(
            Transport::Polling,
            &[
                (0, Probe(Ok(())), 10_000),
                (1, OnProbe(PacketType::Upgrade, false, ProbeDecision::Switch), IDLE),
                (2, Get(Mismatch), IDLE),
                (3, GetWaiting(Mismatch), IDLE),
            ],
        );
        assert!(!upgraded.has_parked_poll());
    }

    #[test]
    fn a_second_post_overlaps_until_the_first_is_answered() {
        play(
            Transport::Polling,
            &[
                (0, Post(Ok(())), IDLE),
                (1, PostAnswered, IDLE),
                (2, Post(Ok(())), IDLE),
                (3, Post(Err(super::Overlap)), IDLE),
            ],
        );
    }

    #[test]
    fn a_poll_and_a_post_do_not_disturb_each_other() {
        let session = play(
            Transport::Polling,
            &[
                (0, Get(Park), IDLE),
                (1, Post(Ok(())), IDLE),
                (2, GetAnswered, IDLE),
                (3, Get(Park), IDLE),
                (4, PostAnswered, IDLE),
                (5, Post(Ok(())), IDLE),
            ],
        );
        assert!(session.has_parked_poll());
    }

    #[test]
    fn a_request_that_breaks_off_ends_the_session_with_a_transport_error() {
        let session = play(Transport::Polling, &[(0, Get(Park), IDLE), (1, GetAborted(Some(TransportError)), IDLE)]);
        assert!(!session.has_parked_poll());
        play(Transport::Polling, &[(0, Post(Ok(())), IDLE), (1, PostAborted(Some(TransportError)), IDLE)]);
        // The answer was lost on its way: what it carried is gone as well.
        play(Transport::Polling, &[(0, GetWaiting(Answer), IDLE), (1, GetAborted(Some(TransportError)), IDLE)]);
    }

    #[test]
    fn a_request_that_breaks_off_after_the_upgrade_ends_nothing() {
        let session = play(
            Transport::Polling,
            &[
                (0, Get(Park), IDLE),
                (0, Post(Ok(())), IDLE),
                (1, Probe(Ok(())), 10_001),
                (2, OnProbe(PacketType::Upgrade, false, ProbeDecision::Switch), IDLE),
                (3, GetAborted(None), IDLE),
                (4, PostAborted(None), IDLE),
            ],
        );
        assert!(!session.has_parked_poll());
    }

    #[test]
    fn the_close_packet_ends_a_polling_session_and_means_nothing_on_a_websocket() {
        play(Transport::Polling, &[(5, Packet(PacketType::Close, Received::Close(TransportClose)), IDLE)]);
        play(
            Transport::WebSocket,
            &[
                (5, Packet(PacketType::Close, Received::Nothing), IDLE),
                (6, Packet(PacketType::Message, Received::Deliver), IDLE),
            ],
        );
        play(
            Transport::Polling,
            &[
                (0, Probe(Ok(())), 10_000),
                (1, OnProbe(PacketType::Upgrade, false, ProbeDecision::Switch), IDLE),
                (2, Packet(PacketType::Close, Received::Nothing), IDLE),
            ],
        );
    }

    #[test]
    fn packets_without_a_meaning_from_a_client_are_ignored() {
        for transport in [Transport::Polling, Transport::WebSocket] {
            for kind in [PacketType::Open, PacketType::Upgrade, PacketType::Noop] {
                play(transport, &[(5, Packet(kind, Received::Nothing), IDLE)]);
            }
        }
    }

    #[test]
    fn a_poll_after_a_close_by_the_server_brings_what_waits_and_the_one_after_it_the_end() {
        let closed = [(25_000, Tick(PING), 45_000), (30_000, Close(CloseDecision::AwaitPoll), 60_000)];
        let end = (31_000, Get(AnswerClose), 60_000);
        let waits = (30_500, GetWaiting(Answer), 60_000);
        for polls in [&[end][..], &[waits, end]] {
            let session = play(Transport::Polling, &[&closed[..], polls].concat());
            assert!(!session.has_parked_poll());
        }
    }
}
