//! The network between the two, and the one thread that moves everything.

mod carry;

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use posthaste_engine_proto::{CloseReason, Transport};

use crate::client::{Client, State};
use crate::network::{Agenda, Lane, Rng};
use crate::server::Server;
use crate::story::{Story, TICK_MS, Traffic, Trouble};
use crate::wire::{Answer, Frame, Method, Purpose, RequestId, StreamId};

/// What happens, and to whom.
#[derive(Clone, Debug)]
enum Event {
    // On their way through the network.
    Request(RequestId, Method),
    Body(RequestId, Vec<u8>),
    Answer(RequestId, Answer),
    Connect(StreamId, Purpose),
    Up(StreamId, Frame),
    Accepted(StreamId),
    Down(StreamId, Vec<u8>),
    Closed(StreamId),
    Room(StreamId, usize),
    // What each side finds out by itself.
    RequestFailed(RequestId),
    RequestBroken(RequestId),
    AnswerBroken(RequestId),
    BrokenAtServer(StreamId),
    BrokenAtClient(StreamId),
    ServerTick,
    ClientTick,
    // What the story has in store.
    ServerSays,
    ClientSays,
    ServerCloses,
    ClientCloses,
    Stall(bool),
    Trouble(Trouble),
}

impl Event {
    const fn is_on_the_network(&self) -> bool {
        matches!(
            self,
            Self::Request(..)
                | Self::Body(..)
                | Self::Answer(..)
                | Self::Connect(..)
                | Self::Up(..)
                | Self::Accepted(..)
                | Self::Down(..)
                | Self::Closed(..)
                | Self::Room(..)
        )
    }
}

/// How a run ended.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    pub(crate) server_live: bool,
    pub(crate) server_transport: Option<Transport>,
    /// Why the server's application was told that it is over.
    pub(crate) reason: Option<CloseReason>,
    pub(crate) server_gone: Option<Duration>,
    pub(crate) server_sent: u64,
    pub(crate) server_received: u64,
    pub(crate) server_waiting: usize,
    pub(crate) client: State,
    pub(crate) client_over: Option<Duration>,
    pub(crate) client_transport: Transport,
    pub(crate) client_sent: u64,
    pub(crate) client_received: u64,
    pub(crate) client_unsent: usize,
    pub(crate) unanswered: usize,
    pub(crate) struck: Option<Duration>,
    pub(crate) pings: (u64, u64),
    pub(crate) upgrades: (u64, u64),
    pub(crate) longest_upgrade: Duration,
    pub(crate) noops: u64,
    pub(crate) abandoned: u64,
    pub(crate) intruders_refused: u64,
    pub(crate) while_upgrading: (u64, u64),
    pub(crate) most_bytes: usize,
    pub(crate) oversize_runs: u64,
    pub(crate) early_ticks: u64,
}

pub(crate) struct World {
    story: Story,
    rng: Rng,
    now: Duration,
    agenda: Agenda<Event>,
    server: Server,
    client: Client,
    /// Of each stream: up, down.
    lanes: Vec<(Lane, Lane)>,
    /// Requests that the server has and has not answered.
    at_server: BTreeSet<RequestId>,
    /// Requests whose answer the client waits for.
    at_client: BTreeSet<RequestId>,
    posts: BTreeSet<RequestId>,
    armed: (Option<Duration>, Option<Duration>),
    cut: Option<Trouble>,
    /// A trouble that waits for the next request it can spoil.
    lurking: Option<Trouble>,
    /// The poll whose connection is gone, though the server may not know yet.
    lost: Option<RequestId>,
    /// When the story's trouble spoiled something.
    struck: Option<Duration>,
    stalled: bool,
    held: VecDeque<Event>,
    client_over: Option<Duration>,
    trace: Option<Vec<String>>,
}

impl World {
    /// Runs a story to its end. On a broken law returns what happened last before.
    pub(crate) fn run(story: &Story) -> Result<Report, String> {
        Self::new(story, false).play().map_err(|(law, _)| {
            let trace = match Self::new(story, true).play() {
                Err((again, trace)) if again == law => trace,
                other => vec![format!("not the same when played again: {other:?}")],
            };
            let from = trace.len().saturating_sub(60);
            format!("{law}\n{story:#?}\n{}", trace[from..].join("\n"))
        })
    }

    fn new(story: &Story, traced: bool) -> Self {
        let mut agenda = Agenda::new();
        agenda.at(Duration::ZERO, Event::ServerSays);
        agenda.at(Duration::ZERO, Event::ClientSays);
        for (at, event) in [
            (story.server_closes, Event::ServerCloses),
            (story.client_closes, Event::ClientCloses),
            (story.stall.map(|(from, _)| from), Event::Stall(true)),
            (story.stall.map(|(_, until)| until), Event::Stall(false)),
        ] {
            if let Some(at) = at {
                agenda.at(at, event);
            }
        }
        if let Some((at, trouble)) = story.trouble {
            agenda.at(at, Event::Trouble(trouble));
        }
        Self {
            rng: Rng::new(story.seed ^ 0x4e7),
            now: Duration::ZERO,
            agenda,
            server: Server::new(story, Instant::now()),
            client: Client::new(story),
            lanes: Vec::new(),
            at_server: BTreeSet::new(),
            at_client: BTreeSet::new(),
            posts: BTreeSet::new(),
            armed: (None, None),
            cut: None,
            lurking: None,
            lost: None,
            struck: None,
            stalled: false,
            held: VecDeque::new(),
            client_over: None,
            trace: traced.then(Vec::new),
            story: story.clone(),
        }
    }

    fn play(mut self) -> Result<Report, (String, Vec<String>)> {
        match self.play_to_the_end() {
            Ok(()) => Ok(self.report()),
            Err(law) => Err((law, self.trace.take().unwrap_or_default())),
        }
    }

    fn play_to_the_end(&mut self) -> Result<(), String> {
        self.settle()?;
        let mut events = 0;
        while let Some((at, event)) = self.agenda.next() {
            if at > self.story.until {
                break;
            }
            self.now = at;
            events += 1;
            if events > 1_000_000 {
                return Err("it never comes to rest".to_owned());
            }
            if let Some(trace) = &mut self.trace {
                let shown: String = format!("{event:?}").chars().take(140).collect();
                trace.push(format!("{:>9.3} ms  {shown}", at.as_secs_f64() * 1e3));
            }
            self.happen(event)?;
            self.settle()?;
        }
        Ok(())
    }

    fn happen(&mut self, event: Event) -> Result<(), String> {
        if self.cut.is_some() && event.is_on_the_network() {
            return Ok(());
        }
        let now = self.now;
        match event {
            Event::Request(id, method) => {
                self.at_server.insert(id);
                match method {
                    Method::Handshake => self.server.handshake(now, id),
                    Method::Get => self.server.get(now, id),
                    Method::Post(body) => {
                        self.server.post(now, id);
                        let at = now + self.latency();
                        if self.lurking == Some(Trouble::BodyLost) {
                            self.strike();
                            self.agenda.at(at, Event::RequestBroken(id));
                            self.fail_soon(id);
                        } else {
                            self.agenda.at(at, Event::Body(id, body));
                        }
                    }
                }
            }
            Event::Body(id, body) => self.server.body(now, id, &body)?,
            Event::Answer(id, answer) => {
                if self.at_client.remove(&id) {
                    self.client.answered(now, id, &answer)?;
                }
            }
            Event::RequestFailed(id) => {
                if self.at_client.remove(&id) {
                    self.client.request_failed();
                }
            }
            Event::RequestBroken(id) => {
                if self.at_server.remove(&id) {
                    self.server.request_broken(now, id);
                }
            }
            Event::AnswerBroken(id) => self.server.request_broken(now, id),
            Event::Connect(stream, purpose) => self.server.connect(now, stream, purpose),
            Event::Up(stream, frame) => self.server.frame(now, stream, frame)?,
            Event::Room(stream, bytes) => self.server.room(stream, bytes),
            Event::BrokenAtServer(stream) => self.server.stream_broken(now, stream),
            Event::Accepted(_) | Event::Down(..) | Event::Closed(_) | Event::BrokenAtClient(_) if self.stalled => {
                self.held.push_back(event);
            }
            Event::Accepted(stream) => self.client.stream_open(now, stream),
            Event::Down(stream, bytes) => {
                let at = now + self.latency();
                self.agenda.at(at, Event::Room(stream, bytes.len()));
                self.client.stream_bytes(now, stream, &bytes)?;
            }
            Event::Closed(stream) | Event::BrokenAtClient(stream) => self.client.stream_gone(now, stream),
            Event::ServerTick => self.server.tick(now)?,
            Event::ClientTick => self.client.tick(now),
            Event::ServerSays => {
                let (count, next) = self.burst(self.story.down);
                self.server.say(now, count);
                self.later(next, Event::ServerSays);
            }
            Event::ClientSays => {
                let (count, next) = self.burst(self.story.up);
                self.client.say(count);
                self.later(next, Event::ClientSays);
            }
            Event::ServerCloses => {
                let last = self.rng.between(0, 3);
                self.server.close(now, last);
            }
            Event::ClientCloses => self.client.close(),
            Event::Stall(stalled) => {
                self.stalled = stalled;
                self.client.stall(stalled);
                for event in std::mem::take(&mut self.held) {
                    self.happen(event)?;
                }
            }
            Event::Trouble(trouble) => self.trouble(trouble),
        }
        Ok(())
    }

    /// Moves what both sides want moved, arms their timers, and checks what must hold at any time.
    fn settle(&mut self) -> Result<(), String> {
        loop {
            let (from_client, from_server) = (self.client.acts(), self.server.acts());
            if from_client.is_empty() && from_server.is_empty() {
                break;
            }
            for act in from_client {
                self.carry_up(act);
            }
            for act in from_server {
                self.carry_down(act)?;
            }
        }
        if self.server.deadline() != self.armed.0 {
            self.armed.0 = self.server.deadline();
            if let Some(deadline) = self.armed.0 {
                let at = deadline.max(self.now) + self.rng.millis(0, TICK_MS);
                self.agenda.at(at, Event::ServerTick);
            }
        }
        if self.client.deadline() != self.armed.1 {
            self.armed.1 = self.client.deadline();
            if let Some(deadline) = self.armed.1 {
                self.agenda.at(deadline.max(self.now), Event::ClientTick);
            }
        }
        if self.rng.chance(3) {
            let at = self.now + self.rng.millis(0, 100);
            self.agenda.at(at, Event::ServerTick);
        }
        if self.client_over.is_none() && matches!(self.client.state(), State::Closed(_)) {
            self.client_over = Some(self.now);
        }
        self.server.check()?;
        if self.client.received() > self.server.sent() || self.server.received() > self.client.sent() {
            return Err("more was received than sent".to_owned());
        }
        Ok(())
    }

    fn latency(&mut self) -> Duration {
        self.rng.millis(0, self.story.latency_ms)
    }

    /// How much is said now, and when again.
    fn burst(&mut self, traffic: Traffic) -> (u64, Option<Duration>) {
        let Some(gap) = traffic.gap_ms else { return (0, None) };
        (self.rng.between(1, traffic.burst), Some(self.now + self.rng.millis(0, 2 * gap)))
    }

    fn later(&mut self, at: Option<Duration>, event: Event) {
        if let Some(at) = at.filter(|at| *at < self.story.traffic_until) {
            self.agenda.at(at, event);
        }
    }

    fn report(&self) -> Report {
        let (server, client) = (&self.server, &self.client);
        Report {
            server_live: server.is_live(),
            server_transport: server.transport(),
            reason: server.told,
            server_gone: server.gone,
            server_sent: server.sent(),
            server_received: server.received(),
            server_waiting: server.waiting(),
            client: client.state(),
            client_over: self.client_over,
            client_transport: client.transport(),
            client_sent: client.sent(),
            client_received: client.received(),
            client_unsent: client.unsent(),
            unanswered: self.at_server.len(),
            struck: self.struck,
            pings: (server.pings, client.pings),
            upgrades: (server.upgrades, client.upgrades),
            longest_upgrade: server.longest_upgrade,
            noops: server.noops,
            abandoned: client.abandoned,
            intruders_refused: client.intruders_refused,
            while_upgrading: (server.sent_while_upgrading, client.sent_while_upgrading),
            most_bytes: server.most_bytes,
            oversize_runs: server.oversize_runs,
            early_ticks: server.early_ticks,
        }
    }
}
