//! The client's side of Engine.IO as a value: what the official client does, one decision at a time.
//!
//! It has one GET open at a time and one POST, answers pings, and upgrades as it is told to: probe, pause polling until both
//! requests are back, `5`. Where the official client gets stuck (its probe dies after it paused polling) this one goes on polling.

mod attempt;
mod incoming;

use std::collections::VecDeque;
use std::time::Duration;

use posthaste_engine_proto::Transport;
use posthaste_engine_proto::payload::SEPARATOR;

use crate::message::{Inbox, Message, Way};
use crate::network::Rng;
use crate::story::{Attempt, SETTINGS, Story, Traffic};
use crate::wire::{Frame, Method, Purpose, RequestId, StreamId};

/// A POST holds about this much at most; one larger message goes alone.
const MAX_PAYLOAD: usize = 30_000;

/// What the client wants done.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    Request(RequestId, Method),
    Connect(StreamId, Purpose),
    Send(StreamId, Frame),
    /// Break the WebSocket without a word.
    Lose(StreamId),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Opening,
    Open,
    /// The application closed it; what is queued still leaves.
    Closing,
    Closed(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carrier {
    Polling,
    WebSocket(StreamId),
}

#[derive(Clone, Debug)]
struct Probe {
    stream: StreamId,
    attempt: Attempt,
    /// Polling stops, or has: the server answered the probe.
    pausing: bool,
    /// When the client spoils the attempt.
    spoil_at: Option<Duration>,
}

/// A packet on its way out.
#[derive(Clone, Debug)]
enum Outgoing {
    Pong,
    Message(Message),
}

/// The client.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    story_seed: u64,
    traffic: Traffic,
    rng: Rng,
    state: State,
    carrier: Carrier,
    requests: u64,
    streams: usize,
    get: Option<RequestId>,
    post: Option<RequestId>,
    probe: Option<Probe>,
    /// A second probe that the server has to refuse.
    intruder: Option<StreamId>,
    attempts: VecDeque<Attempt>,
    attempt_at: Option<Duration>,
    attempt_after: Duration,
    queue: VecDeque<Outgoing>,
    sent: u64,
    inbox: Inbox,
    /// What came of an unfinished frame.
    tail: Vec<u8>,
    heard: Duration,
    acts: Vec<Act>,
    stalled: bool,
    pub(crate) pings: u64,
    pub(crate) upgrades: u64,
    pub(crate) abandoned: u64,
    pub(crate) intruders_refused: u64,
    pub(crate) sent_while_upgrading: u64,
}

impl Client {
    pub(crate) fn new(story: &Story) -> Self {
        let mut client = Self {
            story_seed: story.seed,
            traffic: story.up,
            rng: Rng::new(story.seed ^ 0xc11e),
            state: State::Opening,
            carrier: Carrier::Polling,
            requests: 0,
            streams: 0,
            get: None,
            post: None,
            probe: None,
            intruder: None,
            attempts: story.attempts.iter().copied().collect(),
            attempt_at: None,
            attempt_after: story.attempt_after,
            queue: VecDeque::new(),
            sent: 0,
            inbox: Inbox::new(story.seed, Way::Down, story.down),
            tail: Vec::new(),
            heard: Duration::ZERO,
            acts: Vec::new(),
            stalled: false,
            pings: 0,
            upgrades: 0,
            abandoned: 0,
            intruders_refused: 0,
            sent_while_upgrading: 0,
        };
        match story.transport {
            Transport::Polling => client.get = Some(client.request(Method::Handshake)),
            Transport::WebSocket => client.carrier = Carrier::WebSocket(client.connect(Purpose::Handshake)),
        }
        client
    }

    pub(crate) fn state(&self) -> State {
        self.state
    }

    pub(crate) fn transport(&self) -> Transport {
        match self.carrier {
            Carrier::Polling => Transport::Polling,
            Carrier::WebSocket(_) => Transport::WebSocket,
        }
    }

    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    pub(crate) fn received(&self) -> u64 {
        self.inbox.received()
    }

    pub(crate) fn unsent(&self) -> usize {
        self.queue.len()
    }

    pub(crate) fn acts(&mut self) -> Vec<Act> {
        std::mem::take(&mut self.acts)
    }

    fn is_over(&self) -> bool {
        matches!(self.state, State::Closed(_))
    }

    /// When [`Client::tick`] has something to do.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        if self.is_over() {
            return None;
        }
        let patience = self.heard + SETTINGS.ping_interval + SETTINGS.ping_timeout;
        let spoil = self.probe.as_ref().and_then(|probe| probe.spoil_at);
        [self.attempt_at, spoil, Some(patience)].into_iter().flatten().min()
    }

    pub(crate) fn tick(&mut self, now: Duration) {
        if self.is_over() {
            return;
        }
        if now >= self.heard + SETTINGS.ping_interval + SETTINGS.ping_timeout {
            return self.fail("ping timeout");
        }
        if self.attempt_at.is_some_and(|at| at <= now) {
            self.attempt_at = None;
            self.begin_attempt();
        }
        if self.probe.as_ref().is_some_and(|probe| probe.spoil_at.is_some_and(|at| at <= now)) {
            self.spoil(now);
        }
    }

    /// The application says `count` things.
    pub(crate) fn say(&mut self, count: u64) {
        if !matches!(self.state, State::Opening | State::Open) {
            return;
        }
        for _ in 0..count {
            self.queue.push_back(Outgoing::Message(Message::new(self.story_seed, Way::Up, self.sent, &self.traffic)));
            self.sent += 1;
            self.sent_while_upgrading += u64::from(self.probe.is_some());
        }
        self.flush();
    }

    /// The application closes: what is queued leaves first, and an upgrade is waited for.
    pub(crate) fn close(&mut self) {
        if self.state == State::Open {
            self.state = State::Closing;
            self.finish_closing();
        }
    }

    /// Stops reading, or goes on.
    pub(crate) fn stall(&mut self, stalled: bool) {
        self.stalled = stalled;
        self.poll();
    }

    /// A GET or a POST has come to its end.
    fn request_is_back(&mut self) {
        self.switch_if_paused();
        self.flush();
        self.poll();
        self.finish_closing();
    }

    fn pauses(&self) -> bool {
        self.probe.as_ref().is_some_and(|probe| probe.pausing)
    }

    fn poll(&mut self) {
        let may = matches!(self.state, State::Open | State::Closing) && self.carrier == Carrier::Polling;
        if may && self.get.is_none() && !self.pauses() && !self.stalled {
            self.get = Some(self.request(Method::Get));
        }
    }

    fn flush(&mut self) {
        if !matches!(self.state, State::Open | State::Closing) || self.queue.is_empty() {
            return;
        }
        match self.carrier {
            Carrier::WebSocket(stream) => {
                while let Some(packet) = self.queue.pop_front() {
                    let frame = match packet {
                        Outgoing::Pong => Frame::Text("3".to_owned()),
                        Outgoing::Message(Message::Text(text)) => Frame::Text(format!("4{text}")),
                        Outgoing::Message(Message::Binary(data)) => Frame::Binary(data),
                    };
                    self.send(stream, frame);
                }
            }
            Carrier::Polling if self.post.is_none() && !self.pauses() => {
                let mut body = Vec::new();
                while let Some(packet) = self.queue.front() {
                    let packet = encode(packet);
                    if !body.is_empty() {
                        if body.len() + packet.len() > MAX_PAYLOAD {
                            break;
                        }
                        body.push(SEPARATOR);
                    }
                    body.extend_from_slice(&packet);
                    self.queue.pop_front();
                }
                self.post = Some(self.request(Method::Post(body)));
            }
            Carrier::Polling => {}
        }
    }

    fn finish_closing(&mut self) {
        if self.state != State::Closing || !self.queue.is_empty() || self.post.is_some() || self.pauses() {
            return;
        }
        self.leave();
        self.state = State::Closed("forced close");
    }

    /// Something broke. Like the official client, this one still tries to tell the server.
    fn fail(&mut self, reason: &'static str) {
        self.leave();
        self.state = State::Closed(reason);
    }

    fn leave(&mut self) {
        match self.carrier {
            Carrier::WebSocket(stream) => self.send(stream, Frame::Close),
            Carrier::Polling if self.state == State::Opening => {}
            Carrier::Polling => {
                self.request(Method::Post(b"1".to_vec()));
            }
        }
        if let Some(probe) = self.probe.take() {
            self.send(probe.stream, Frame::Close);
        }
    }

    fn request(&mut self, method: Method) -> RequestId {
        self.requests += 1;
        let id = RequestId(self.requests);
        self.acts.push(Act::Request(id, method));
        id
    }

    fn connect(&mut self, purpose: Purpose) -> StreamId {
        let stream = StreamId(self.streams);
        self.streams += 1;
        self.acts.push(Act::Connect(stream, purpose));
        stream
    }

    fn send(&mut self, stream: StreamId, frame: Frame) {
        self.acts.push(Act::Send(stream, frame));
    }
}

fn encode(packet: &Outgoing) -> Vec<u8> {
    use base64::Engine as _;
    match packet {
        Outgoing::Pong => b"3".to_vec(),
        Outgoing::Message(Message::Text(text)) => format!("4{text}").into_bytes(),
        Outgoing::Message(Message::Binary(data)) => {
            format!("b{}", base64::engine::general_purpose::STANDARD.encode(data)).into_bytes()
        }
    }
}
