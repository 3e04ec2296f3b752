//! Two peers in one thread, under a simulated clock and a seeded bad network.
//!
//! One is a model of the official client ([`client`]), the other a small server around [`Session`], [`Outbox`] and the payload
//! functions ([`server`]), driven as the engine's workers drive them. [`world`] carries requests, answers and frames between them
//! with chance delays, and cuts what the [`story`] says. A run is a pure function of its seed: a broken law names the seed, and
//! `TWO_PEERS_SEED=<seed>` runs that one alone; `TWO_PEERS_SEEDS=<count>` runs more of them.
//!
//! [`Session`]: posthaste_engine_proto::Session
//! [`Outbox`]: posthaste_engine_proto::Outbox

mod client;
mod message;
mod network;
mod server;
mod story;
mod wire;
mod world;

use std::time::Duration;

use client::State;
use network::Rng;
use posthaste_engine_proto::{CloseReason, OutboxLimits, Transport};
use story::{Attempt, GIVEN_UP, LATENCY_MS, SETTINGS, SILENCE, Story, TICK_MS, Traffic, Trouble};
use world::{Report, World};

/// Time for what is on its way to arrive, and for a late timer.
const SLACK: Duration = Duration::from_millis(4 * LATENCY_MS + TICK_MS);

/// Runs the story of each seed and checks what came of it. Returns what came of all, so that a law can say what has to occur.
fn over_seeds(
    seeds: u64,
    story: impl Fn(u64) -> Story,
    law: impl Fn(&Story, &Report) -> Result<(), String>,
) -> Vec<(Story, Report)> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let range = match number("TWO_PEERS_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("TWO_PEERS_SEEDS").unwrap_or(seeds),
    };
    range
        .map(|seed| {
            let story = story(seed);
            let guard = NameSeed(seed);
            let outcome = World::run(&story);
            std::mem::forget(guard);
            let report = outcome.unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
            if let Err(broken) = law(&story, &report) {
                panic!("seed {seed}: {broken}\n{story:#?}\n{report:#?}");
            }
            (story, report)
        })
        .collect()
}

/// Says which seed it was when something panics.
struct NameSeed(u64);

impl Drop for NameSeed {
    fn drop(&mut self) {
        eprintln!("seed {} panicked", self.0);
    }
}

fn ensure(holds: bool, law: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(law.to_owned()) }
}

/// What every run on a network that holds ends with, when nobody closed: both are there and everything has arrived.
fn all_is_well(report: &Report) -> Result<(), String> {
    ensure(report.server_live && report.reason.is_none(), "the session stays open")?;
    ensure(report.client == State::Open, "the client stays open")?;
    ensure(report.client_received == report.server_sent, "the client received everything")?;
    ensure(report.server_received == report.client_sent, "the server received everything")?;
    ensure(report.server_waiting == 0 && report.client_unsent == 0, "nothing waits")?;
    ensure(report.server_transport == Some(report.client_transport), "both are on the same transport")?;
    let polling = report.client_transport == Transport::Polling;
    ensure(report.unanswered <= if polling { 2 } else { 0 }, "a GET and a POST are open at most")?;
    ensure(report.pings.0 > 0 && report.pings.1 <= report.pings.0, "the heart beats")
}

/// What every run ends with after the session's end: nothing is left of it on either side.
fn all_is_over(report: &Report) -> Result<(), String> {
    ensure(!report.server_live && report.server_gone.is_some(), "the server forgot the session")?;
    ensure(matches!(report.client, State::Closed(_)), "the client is closed")?;
    ensure(report.unanswered == 0, "nothing is parked any more")
}

fn upgraded(report: &Report) -> bool {
    report.upgrades == (1, 1) && report.client_transport == Transport::WebSocket
}

fn sum(runs: &[(Story, Report)], of: impl Fn(&Report) -> u64) -> u64 {
    runs.iter().map(|(_, report)| of(report)).sum()
}

#[test]
fn on_a_network_that_holds_everything_arrives_in_order_and_the_session_stays_open() {
    let runs = over_seeds(400, |seed| Story::calm(seed).0, |_, report| all_is_well(report));
    if runs.len() > 1 {
        assert!(sum(&runs, |report| report.client_received) > 10_000);
        assert!(sum(&runs, |report| report.server_received) > 10_000);
        assert!(sum(&runs, |report| report.early_ticks) > 1_000);
    }
}

#[test]
fn an_upgrade_amid_traffic_loses_nothing() {
    let story = |seed| {
        let (mut story, mut rng) =
            Story::upgrading(seed, |rng| vec![rng.pick(&[Attempt::Complete, Attempt::CompleteBesideAnother])]);
        let busy = Traffic { gap_ms: Some(rng.pick(&[4, 15, 60])), burst: 4, large_one_in: 40 };
        if rng.chance(80) {
            story.down = busy;
        }
        if rng.chance(80) {
            story.up = busy;
        }
        story.traffic_until = story.attempt_after + rng.millis(500, 2_800);
        story.until = story.traffic_until + Duration::from_millis(3_000);
        story
    };
    let runs = over_seeds(400, story, |story, report| {
        all_is_well(report)?;
        ensure(upgraded(report), "the session is upgraded")?;
        let another = u64::from(story.attempts == [Attempt::CompleteBesideAnother]);
        ensure(report.intruders_refused == another, "a second probe is refused")
    });
    if runs.len() > 1 {
        assert!(sum(&runs, |report| report.while_upgrading.0) > 1_000, "the server spoke during upgrades");
        assert!(sum(&runs, |report| report.while_upgrading.1) > 1_000, "the client spoke during upgrades");
    }
}

#[test]
fn an_idle_session_upgrades_as_soon_as_its_poll_is_let_go() {
    let story = |seed| {
        let (mut story, _) = Story::upgrading(seed, |_| vec![Attempt::Complete]);
        (story.down, story.up) = (SILENCE, SILENCE);
        story
    };
    // The noop comes after 100 ms and a late tick; pong, noop and `5` travel one after the other.
    let most = Duration::from_millis(100 + TICK_MS + 3 * LATENCY_MS);
    let runs = over_seeds(300, story, |_, report| {
        all_is_well(report)?;
        ensure(upgraded(report), "the session is upgraded")?;
        ensure(report.noops <= 2, "a noop or two is enough")?;
        ensure(report.longest_upgrade <= most, "the upgrade does not wait for anything else")
    });
    assert!(runs.len() == 1 || sum(&runs, |report| report.noops) > 200);
}

#[test]
fn an_abandoned_probe_leaves_polling_as_it_was_and_another_may_follow() {
    let story = |seed| {
        Story::upgrading(seed, |rng| {
            let mut attempts: Vec<Attempt> = (0..rng.between(1, 3)).map(|_| rng.pick(&GIVEN_UP)).collect();
            if rng.chance(60) {
                attempts.push(Attempt::Complete);
            }
            attempts
        })
        .0
    };
    let runs = over_seeds(500, story, |story, report| {
        all_is_well(report)?;
        let completes = story.attempts.last() == Some(&Attempt::Complete);
        ensure(upgraded(report) == completes, "the attempt that completes is the one that upgrades")?;
        let given_up = story.attempts.len() as u64 - u64::from(completes);
        ensure(report.abandoned == given_up, "the others were abandoned, by one side or the other")
    });
    if runs.len() > 1 {
        for attempt in GIVEN_UP {
            let tried = runs.iter().filter(|(story, _)| story.attempts.contains(&attempt)).count();
            assert!(tried > 20, "{attempt:?} was tried {tried} times");
        }
    }
}

#[test]
fn a_slow_reader_that_goes_on_reading_gets_everything() {
    let story = |seed| {
        let (mut story, mut rng) = Story::calm(seed);
        let from = rng.millis(500, 3_000);
        // Shorter than a pong may take.
        story.stall = Some((from, from + rng.millis(100, 1_500)));
        story.until += Duration::from_millis(1_500);
        story
    };
    over_seeds(300, story, |_, report| all_is_well(report));
}

/// A run on which something happens after a second or later, with or without upgrades of any kind before and during it.
fn eventful(seed: u64) -> (Story, Rng) {
    let (story, mut rng) = if seed.is_multiple_of(2) {
        Story::calm(seed)
    } else {
        Story::upgrading(seed, |rng| {
            let mut attempts = vec![rng.pick(&[Attempt::Complete, Attempt::CompleteBesideAnother])];
            if rng.chance(40) {
                attempts.insert(0, rng.pick(&GIVEN_UP));
            }
            attempts
        })
    };
    let mut story = story;
    if !story.attempts.is_empty() && rng.chance(70) {
        // In the middle of the upgrade, or shortly before or after.
        story.attempt_after = rng.millis(600, 1_400);
    }
    (story, rng)
}

/// When the story's event comes: around its first upgrade, or at any time.
fn moment(story: &Story, rng: &mut Rng) -> Duration {
    if story.attempts.is_empty() || rng.chance(30) {
        rng.millis(500, 4_000)
    } else {
        story.attempt_after + rng.millis(0, 500)
    }
}

#[test]
fn what_was_sent_before_a_close_by_the_server_arrives_before_the_end() {
    let story = |seed| {
        let (mut story, mut rng) = eventful(seed);
        story.server_closes = Some(moment(&story, &mut rng));
        story.until = story.until.max(Duration::from_millis(8_000));
        story
    };
    let runs = over_seeds(500, story, |story, report| {
        all_is_over(report)?;
        ensure(report.reason == Some(CloseReason::ForcedClose), "the session ended as the server wanted")?;
        // Unless a POST of its own met the forgotten session first: a client that is refused reads no further.
        if report.client != State::Closed("transport error") {
            ensure(report.client == State::Closed("transport close"), "the client was told")?;
            ensure(report.client_received == report.server_sent, "the client received everything")?;
        }
        // A client that paused polling for an upgrade it does not complete comes back when the server gives the upgrade up.
        let patience = story.server_closes.unwrap_or_default() + SETTINGS.upgrade_timeout + 3 * SLACK;
        ensure(report.server_gone.is_some_and(|gone| gone <= patience), "the end is fetched at once")
    });
    if runs.len() > 1 {
        for transport in [Transport::Polling, Transport::WebSocket] {
            let told = runs.iter().filter(|(_, report)| {
                report.client_transport == transport && report.client == State::Closed("transport close")
            });
            assert!(told.count() > 100, "{transport}");
        }
    }
}

#[test]
fn what_was_said_before_a_close_by_the_client_arrives_before_the_end() {
    let story = |seed| {
        let (mut story, mut rng) = eventful(seed);
        story.client_closes = Some(moment(&story, &mut rng));
        story.until = story.until.max(Duration::from_millis(8_000));
        story
    };
    over_seeds(400, story, |story, report| {
        all_is_over(report)?;
        ensure(report.reason == Some(CloseReason::TransportClose), "the client closed the transport")?;
        ensure(report.client == State::Closed("forced close"), "the client closed it itself")?;
        ensure(report.server_received == report.client_sent, "the server received everything")?;
        let patience = story.client_closes.unwrap_or_default() + SETTINGS.upgrade_timeout + 5 * SLACK;
        ensure(report.server_gone.is_some_and(|gone| gone <= patience), "the server hears of it at once")
    });
}

#[test]
fn a_cut_network_ends_the_session_in_time() {
    let story = |seed| {
        let (mut story, mut rng) = eventful(seed);
        let trouble = rng.pick(&[Trouble::SilentCut, Trouble::LoudCut]);
        let at = moment(&story, &mut rng);
        story.trouble = Some((at, trouble));
        story.until = at + Duration::from_millis(6_000);
        story
    };
    let runs = over_seeds(500, story, |story, report| {
        all_is_over(report)?;
        let (cut, trouble) = story.trouble.expect("it was cut");
        let latest = cut + SETTINGS.ping_interval + SETTINGS.ping_timeout + SLACK;
        ensure(report.server_gone.is_some_and(|gone| gone <= latest), "the server finds out in time")?;
        ensure(report.client_over.is_some_and(|over| over <= latest), "the client finds out in time")?;
        let reason = report.reason.expect("it is gone");
        let allowed: &[CloseReason] = match trouble {
            Trouble::SilentCut => &[CloseReason::PingTimeout],
            _ => &[CloseReason::PingTimeout, CloseReason::TransportClose, CloseReason::TransportError],
        };
        ensure(allowed.contains(&reason), &format!("{reason} is a reason of a cut"))
    });
    if runs.len() > 1 {
        for reason in [CloseReason::PingTimeout, CloseReason::TransportClose, CloseReason::TransportError] {
            assert!(runs.iter().any(|(_, report)| report.reason == Some(reason)), "{reason}");
        }
    }
}

#[test]
fn a_request_that_breaks_ends_the_session_rather_than_leave_a_gap() {
    let story = |seed| {
        let (mut story, mut rng) = eventful(seed);
        let at = moment(&story, &mut rng);
        let trouble =
            rng.pick(&[Trouble::RequestLost, Trouble::BodyLost, Trouble::AnswerLost, Trouble::ConnectionLost]);
        story.trouble = Some((at, trouble));
        story.until = story.until.max(at) + Duration::from_millis(6_000);
        story
    };
    let runs = over_seeds(500, story, |_, report| {
        let Some(struck) = report.struck else {
            // No request was left to break: the session is on a WebSocket.
            return all_is_well(report);
        };
        all_is_over(report)?;
        let latest = struck + SETTINGS.ping_interval + SETTINGS.ping_timeout + SLACK;
        ensure(report.server_gone.is_some_and(|gone| gone <= latest), "the server finds out in time")?;
        let reason = report.reason.expect("it is gone");
        let allowed = [CloseReason::PingTimeout, CloseReason::TransportClose, CloseReason::TransportError];
        ensure(allowed.contains(&reason), &format!("{reason} is a reason of a broken request"))
    });
    if runs.len() > 1 {
        assert!(runs.iter().filter(|(_, report)| report.struck.is_some()).count() > 200);
    }
}

#[test]
fn a_reader_that_stops_is_disconnected_before_its_outbox_passes_its_bounds() {
    let limits = OutboxLimits { bytes: 12_000, packets: 60 };
    let story = |seed| {
        let (mut story, mut rng) = eventful(seed);
        story.limits = limits;
        story.window = usize::try_from(rng.between(1_000, 8_000)).expect("small");
        story.down = Traffic { gap_ms: Some(rng.between(4, 20)), burst: 4, large_one_in: rng.between(4, 40) };
        story.stall = Some((rng.millis(500, 1_500), Duration::from_secs(60)));
        story.traffic_until = Duration::from_millis(6_000);
        story.until = Duration::from_millis(8_000);
        story
    };
    over_seeds(300, story, |_, report| {
        ensure(!report.server_live && report.unanswered == 0, "the server forgot the session")?;
        ensure(report.reason == Some(CloseReason::Slow), "the reader was too slow")?;
        ensure(report.most_bytes <= limits.bytes, "the outbox kept to its bounds")
    });
}

#[test]
fn a_run_above_the_bounds_goes_alone() {
    let limits = OutboxLimits { bytes: 900, packets: 4 };
    let story = |seed| {
        let (mut story, mut rng) = Story::calm(seed);
        story.limits = limits;
        // One message at a time, with time to fetch it.
        story.down = Traffic { gap_ms: Some(400), burst: 1, large_one_in: 2 };
        story.latency_ms = rng.between(1, 10);
        story
    };
    let runs = over_seeds(300, story, |_, report| match report.reason {
        None => all_is_well(report),
        // Two came too close to each other.
        Some(reason) => {
            ensure(reason == CloseReason::Slow, "nothing but a full outbox ends it")?;
            ensure(report.unanswered == 0, "nothing is parked any more")
        }
    });
    if runs.len() > 1 {
        assert!(sum(&runs, |report| report.oversize_runs) > 300, "messages above the bounds left");
        let well = runs.iter().filter(|(_, report)| report.server_live).count();
        assert!(well > 20, "sessions outlived them: {well}");
    }
}
