//! What a run is about: who talks how much, which upgrades are tried, and what goes wrong when.

use std::time::Duration;

use posthaste_engine_proto::session::Settings;
use posthaste_engine_proto::{OutboxLimits, Transport};

use crate::network::Rng;

/// Short times, so that a run of a few seconds holds several heartbeats.
pub(crate) const SETTINGS: Settings = Settings {
    ping_interval: Duration::from_millis(2_500),
    ping_timeout: Duration::from_millis(2_000),
    upgrade_timeout: Duration::from_millis(1_000),
};

/// The most a delivery takes on a network that holds.
pub(crate) const LATENCY_MS: u64 = 40;
/// How late a server's timer may be.
pub(crate) const TICK_MS: u64 = 32;

/// Limits that no run of a few seconds reaches.
pub(crate) const ROOMY: OutboxLimits = OutboxLimits { bytes: 64 << 20, packets: 1 << 20 };

/// What the client does with one attempt to upgrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// Probe, pause polling, `5`.
    Complete,
    /// As `Complete`, while a second probe is opened beside it, which the server has to refuse.
    CompleteBesideAnother,
    /// Open the WebSocket and say nothing: the server's patience ends it.
    Silent,
    /// Open the WebSocket and close it.
    HangUp,
    /// Open the WebSocket and say something that is no probe.
    Wrong,
    /// Probe, pause polling, and then say nothing.
    SilentOncePaused,
    /// Probe, pause polling, and close the WebSocket.
    HangUpOncePaused,
    /// Probe, pause polling, and say something that is no upgrade.
    WrongOncePaused,
    /// The network loses the WebSocket somewhere on the way.
    Lost,
}

pub(crate) const GIVEN_UP: [Attempt; 7] = [
    Attempt::Silent,
    Attempt::HangUp,
    Attempt::Wrong,
    Attempt::SilentOncePaused,
    Attempt::HangUpOncePaused,
    Attempt::WrongOncePaused,
    Attempt::Lost,
];

/// How much one side says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Traffic {
    /// The mean time between two bursts; `None` for silence.
    pub(crate) gap_ms: Option<u64>,
    /// The most messages of one burst.
    pub(crate) burst: u64,
    /// One in so many messages is large.
    pub(crate) large_one_in: u64,
}

pub(crate) const SILENCE: Traffic = Traffic { gap_ms: None, burst: 1, large_one_in: 50 };

/// What goes wrong with the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// From then on nothing arrives, and nobody is told.
    SilentCut,
    /// From then on nothing arrives, and both sides find their connections broken.
    LoudCut,
    /// The next request never reaches the server; the client's connection breaks.
    RequestLost,
    /// The next POST breaks in its body.
    BodyLost,
    /// The next answer never reaches the client; its connection breaks.
    AnswerLost,
    /// The poll that is open, or the next, breaks: both sides are told. A WebSocket breaks at once.
    ConnectionLost,
}

/// Everything about a run that is chosen beforehand; the rest is its seed.
#[derive(Clone, Debug)]
pub(crate) struct Story {
    pub(crate) seed: u64,
    pub(crate) transport: Transport,
    pub(crate) attempts: Vec<Attempt>,
    /// When the first attempt begins, from the handshake.
    pub(crate) attempt_after: Duration,
    pub(crate) down: Traffic,
    pub(crate) up: Traffic,
    pub(crate) latency_ms: u64,
    /// How many bytes the network takes from the server before the client has read some.
    pub(crate) window: usize,
    pub(crate) limits: OutboxLimits,
    pub(crate) trouble: Option<(Duration, Trouble)>,
    pub(crate) server_closes: Option<Duration>,
    pub(crate) client_closes: Option<Duration>,
    /// From when until when the client reads nothing.
    pub(crate) stall: Option<(Duration, Duration)>,
    pub(crate) traffic_until: Duration,
    pub(crate) until: Duration,
}

impl Story {
    /// A run of three to seven seconds on a network that holds, with any amount of traffic, on any transport, without upgrades.
    pub(crate) fn calm(seed: u64) -> (Self, Rng) {
        let mut rng = Rng::new(seed);
        let traffic_until = rng.millis(3_000, 7_000);
        let story = Self {
            seed,
            transport: rng.pick(&[Transport::Polling, Transport::WebSocket]),
            attempts: Vec::new(),
            attempt_after: rng.millis(0, 2_600),
            down: traffic(&mut rng),
            up: traffic(&mut rng),
            latency_ms: rng.between(1, LATENCY_MS),
            window: usize::try_from(rng.between(16_000, 64_000)).expect("small"),
            limits: ROOMY,
            trouble: None,
            server_closes: None,
            client_closes: None,
            stall: None,
            traffic_until,
            until: traffic_until + Duration::from_millis(1_500),
        };
        (story, rng)
    }

    /// As [`Story::calm`], over polling, with these attempts to upgrade.
    pub(crate) fn upgrading(seed: u64, attempts: impl FnOnce(&mut Rng) -> Vec<Attempt>) -> (Self, Rng) {
        let (mut story, mut rng) = Self::calm(seed);
        story.transport = Transport::Polling;
        story.attempts = attempts(&mut rng);
        // Time for every attempt, the server's patience with the silent ones included.
        let needed = u64::try_from(story.attempts.len()).expect("few") * 2_000;
        story.traffic_until = story.traffic_until.max(story.attempt_after + Duration::from_millis(needed));
        story.until = story.traffic_until + Duration::from_millis(1_500);
        (story, rng)
    }
}

fn traffic(rng: &mut Rng) -> Traffic {
    Traffic {
        gap_ms: rng.pick(&[None, Some(8), Some(30), Some(30), Some(120), Some(700)]),
        burst: rng.pick(&[1, 1, 2, 6]),
        large_one_in: rng.pick(&[20, 40, 200]),
    }
}
