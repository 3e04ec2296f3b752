//! How sessions end, and what holds of every history.

use proptest::prelude::*;

use super::script::{NOTHING, PING, Step, ends, play};
use super::*;
use Step::{Close, CloseWaiting, Get, GetAnswered, GetWaiting, Packet, Post, PostAnswered, Tick};

#[test]
fn a_close_over_a_websocket_ends_the_stream_at_once() {
    for close in [Close, CloseWaiting] {
        let session = play(Transport::WebSocket, &[(1_000, close(CloseDecision::EndStream), 25_000)]);
        assert!(!session.is_closing(), "nothing has to be fetched any more");
    }
}

#[test]
fn a_close_answers_the_parked_poll_when_nothing_waits() {
    play(
        Transport::Polling,
        &[(0, Get(PollDecision::Park), 25_000), (1_000, Close(CloseDecision::AnswerPoll), 25_000)],
    );
}

#[test]
fn what_waits_leaves_with_a_poll_before_the_one_that_brings_the_end() {
    let end = [(1_100, Get(PollDecision::AnswerClose), 31_000)];
    for before in [
        // The parked poll takes what waits.
        &[
            (0, Get(PollDecision::Park), 25_000),
            (1_000, CloseWaiting(CloseDecision::AwaitPoll), 31_000),
            (1_000, GetAnswered, 31_000),
        ][..],
        // The next one does.
        &[(1_000, CloseWaiting(CloseDecision::AwaitPoll), 31_000), (1_050, GetWaiting(PollDecision::Answer), 31_000)],
    ] {
        let session = play(Transport::Polling, &[before, &end].concat());
        assert!(!session.has_parked_poll());
    }
}

#[test]
fn a_close_without_a_parked_poll_waits_30_seconds_for_one() {
    let closed = [
        (0, Get(PollDecision::Park), 25_000),
        (500, GetAnswered, 25_000),
        (1_000, Close(CloseDecision::AwaitPoll), 31_000),
        (30_999, Tick(NOTHING), 31_000),
    ];
    let in_time = (30_999, Get(PollDecision::AnswerClose), 31_000);
    let too_late = (31_000, Tick(ends(CloseReason::ForcedClose)), 31_000);
    for end in [in_time, too_late] {
        let session = play(Transport::Polling, &[&closed[..], &[end]].concat());
        assert!(session.is_closing());
    }
}

#[test]
fn a_closed_session_is_not_closed_twice_nor_pinged_and_receives_nothing() {
    play(
        Transport::Polling,
        &[
            (20_000, Close(CloseDecision::AwaitPoll), 50_000),
            (20_001, Close(CloseDecision::Already), 50_000),
            (20_002, Post(Ok(())), 50_000),
            (20_003, Packet(PacketType::Message, Received::Nothing), 50_000),
            (20_004, Packet(PacketType::Ping, Received::Nothing), 50_000),
            (20_005, PostAnswered, 50_000),
            (25_000, Tick(NOTHING), 50_000),
            (49_999, Tick(NOTHING), 50_000),
        ],
    );
}

#[test]
fn a_ping_under_way_does_not_end_a_session_that_waits_for_its_last_poll() {
    play(
        Transport::Polling,
        &[
            (25_000, Tick(PING), 45_000),
            (40_000, Close(CloseDecision::AwaitPoll), 70_000),
            (45_000, Tick(NOTHING), 70_000),
            (70_000, Tick(ends(CloseReason::ForcedClose)), 70_000),
        ],
    );
}

#[test]
fn a_client_that_closes_a_closing_session_ends_it_at_once() {
    play(
        Transport::Polling,
        &[
            (1_000, Close(CloseDecision::AwaitPoll), 31_000),
            (1_100, Post(Ok(())), 31_000),
            (1_100, Packet(PacketType::Close, Received::Close(CloseReason::TransportClose)), 31_000),
        ],
    );
}

/// Anything a caller may do to a session.
#[derive(Clone, Copy, Debug)]
enum Any {
    Tick,
    Packet(PacketType),
    Get(bool),
    GetAnswered,
    Post,
    PostAnswered,
    Probe,
    OnProbe(PacketType, bool),
    ProbeLost,
    Close(bool),
}

fn any_packet() -> impl Strategy<Value = PacketType> {
    (b'0'..=b'6').prop_map(|digit| PacketType::from_digit(digit).expect("a type"))
}

fn any_step() -> impl Strategy<Value = Any> {
    prop_oneof![
        4 => Just(Any::Tick),
        4 => prop_oneof![Just(PacketType::Message), Just(PacketType::Pong), any_packet()].prop_map(Any::Packet),
        2 => any::<bool>().prop_map(Any::Get),
        2 => Just(Any::GetAnswered),
        1 => Just(Any::Post),
        1 => Just(Any::PostAnswered),
        2 => Just(Any::Probe),
        3 => (prop_oneof![Just(PacketType::Ping), any_packet()], prop::bool::weighted(0.8))
            .prop_map(|(kind, probe)| Any::OnProbe(kind, probe)),
        1 => Just(Any::ProbeLost),
        1 => any::<bool>().prop_map(Any::Close),
    ]
}

proptest! {
    #[test]
    fn a_tick_before_the_deadline_does_nothing_and_one_at_the_deadline_moves_it(
        websocket: bool,
        history in proptest::collection::vec((any_step(), prop_oneof![0u64..300, 0u64..30_000]), 0..80),
    ) {
        let settings = Settings::default();
        let mut now = Instant::now();
        let transport = if websocket { Transport::WebSocket } else { Transport::Polling };
        let mut session = Session::new(now, transport, &settings);
        for (step, pause) in history {
            match step {
                Any::Tick => {}
                Any::Packet(kind) => { session.receive(now, kind, &settings); }
                Any::Get(waiting) => { session.open_poll(waiting); }
                Any::GetAnswered => session.poll_answered(),
                Any::Post => { let _ = session.open_post(); }
                Any::PostAnswered => session.post_answered(),
                Any::Probe => { let _ = session.begin_upgrade(now, &settings); }
                Any::OnProbe(kind, probe) => { session.receive_probe(now, kind, probe); }
                Any::ProbeLost => session.probe_lost(),
                Any::Close(waiting) => { session.close(now, waiting); }
            }
            let until = now + Duration::from_millis(pause);
            // What is due before `until` is done in its time, as a worker does it.
            let mut ticks = 0;
            loop {
                let deadline = session.deadline();
                let before = format!("{session:?}");
                let early = deadline.min(until) - Duration::from_nanos(1);
                if early >= now {
                    prop_assert_eq!(session.tick(early, &settings), NOTHING);
                    prop_assert_eq!(format!("{:?}", session), before, "an early tick leaves everything as it was");
                }
                if deadline > until {
                    break;
                }
                now = now.max(deadline);
                let parked = session.has_parked_poll();
                let due = session.tick(now, &settings);
                if due.close.is_some() {
                    return Ok(());
                }
                prop_assert!(session.deadline() > now, "a deadline that was met is over");
                prop_assert!(!due.noop || parked && session.transport() == Transport::Polling, "a noop needs a poll");
                prop_assert!(!due.ping || !session.is_closing(), "a closed session is not pinged");
                ticks += 1;
                prop_assert!(ticks <= 310, "at most ten times a second");
            }
            now = until;
        }
    }
}
