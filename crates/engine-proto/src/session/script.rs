//! Sessions played from a table: what happens when, what the session answers, and when it wants to be looked at next.

use std::time::{Duration, Instant};

use super::{CloseDecision, Due, Overlap, PollDecision, ProbeDecision, ProbeRefused, Received, Session, Settings};
use crate::close::CloseReason;
use crate::handshake::Transport;
use crate::packet::PacketType;
use crate::query::Revision;

/// What happens to a session, with the answer it is to give.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Tick(Due),
    Packet(PacketType, Received),
    Get(PollDecision),
    /// A GET while the outbox holds something.
    GetWaiting(PollDecision),
    GetAnswered,
    GetAborted(Option<CloseReason>),
    Post(Result<(), Overlap>),
    PostAnswered,
    PostAborted(Option<CloseReason>),
    Probe(Result<(), ProbeRefused>),
    /// A packet on the probe, and whether its data is `probe`.
    OnProbe(PacketType, bool, ProbeDecision),
    ProbeLost,
    Close(CloseDecision),
    /// A close by the server while the outbox holds something.
    CloseWaiting(CloseDecision),
}

pub(super) const NOTHING: Due = Due { close_probe: false, noop: false, ping: false, close: None };
pub(super) const PING: Due = Due { ping: true, ..NOTHING };
pub(super) const NOOP: Due = Due { noop: true, ..NOTHING };
pub(super) const CLOSE_PROBE: Due = Due { close_probe: true, ..NOTHING };

pub(super) const fn ends(reason: CloseReason) -> Due {
    Due { close: Some(reason), ..NOTHING }
}

/// Plays `steps` on a session with the default settings (a ping every 25 s, 20 s for a pong, 10 s for an upgrade) opened at 0 ms.
///
/// A line is a time, a step and the deadline behind it, both times in milliseconds. Before each step the session is ticked once
/// more than it asked for, which must do nothing unless its deadline has come.
pub(super) fn play(transport: Transport, steps: &[(u64, Step, u64)]) -> Session {
    play_as(Revision::V4, transport, steps)
}

/// As [`play`], of a client of any revision.
pub(super) fn play_as(revision: Revision, transport: Transport, steps: &[(u64, Step, u64)]) -> Session {
    let settings = Settings::default();
    let start = Instant::now();
    let mut session = Session::of(start, transport, revision, &settings);
    for (line, &(at, step, deadline)) in steps.iter().enumerate() {
        let now = start + Duration::from_millis(at);
        if now < session.deadline() {
            assert_eq!(session.tick(now, &settings), NOTHING, "a tick too early, line {line}");
        }
        let context = format!("line {line}: {step:?} at {at} ms");
        match step {
            Step::Tick(due) => assert_eq!(session.tick(now, &settings), due, "{context}"),
            Step::Packet(kind, answer) => assert_eq!(session.receive(now, kind, &settings), answer, "{context}"),
            Step::Get(answer) => assert_eq!(session.open_poll(false), answer, "{context}"),
            Step::GetWaiting(answer) => assert_eq!(session.open_poll(true), answer, "{context}"),
            Step::GetAnswered => session.poll_answered(),
            Step::GetAborted(answer) => assert_eq!(session.poll_aborted(), answer, "{context}"),
            Step::Post(answer) => assert_eq!(session.open_post(), answer, "{context}"),
            Step::PostAnswered => session.post_answered(),
            Step::PostAborted(answer) => assert_eq!(session.post_aborted(), answer, "{context}"),
            Step::Probe(answer) => assert_eq!(session.begin_upgrade(now, &settings), answer, "{context}"),
            Step::OnProbe(kind, probe, answer) => {
                assert_eq!(session.receive_probe(now, kind, probe), answer, "{context}");
            }
            Step::ProbeLost => session.probe_lost(),
            Step::Close(answer) => assert_eq!(session.close(now, false), answer, "{context}"),
            Step::CloseWaiting(answer) => assert_eq!(session.close(now, true), answer, "{context}"),
        }
        assert_eq!(session.deadline(), start + Duration::from_millis(deadline), "the deadline behind {context}");
    }
    session
}
