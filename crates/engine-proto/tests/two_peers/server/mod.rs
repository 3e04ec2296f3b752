//! A small server: a session, its outbox and its open requests, driven as a worker drives them.
//!
//! It decides nothing about the protocol; it does what the session says and checks, after everything it does, that the two agree.

mod outgoing;
mod websocket;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use posthaste_engine_proto::payload::{append_control, split_payload};
use posthaste_engine_proto::session::{CloseDecision, Due, PollDecision, Received};
use posthaste_engine_proto::{CloseReason, OpenPacket, Outbox, Packet, PacketType, Session, Sid, Transport};
use posthaste_websocket_proto::{Opcode, append_frame};

use crate::message::{Inbox, Message, Way};
use crate::network::Rng;
use crate::story::{SETTINGS, Story};
use crate::wire::{Answer, RequestId, StreamId};

/// What the server wants done.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    Answer(RequestId, Answer),
    /// The WebSocket handshake is answered.
    Accept(StreamId),
    Write(StreamId, Vec<u8>),
    Close(StreamId),
}

pub(crate) struct Server {
    story: Story,
    start: Instant,
    rng: Rng,
    live: Option<Live>,
    /// Why the application was told that it is over.
    pub(crate) told: Option<CloseReason>,
    /// When nothing was left of it.
    pub(crate) gone: Option<Duration>,
    inbox: Inbox,
    sent: u64,
    acts: Vec<Act>,
    pub(crate) pings: u64,
    pub(crate) noops: u64,
    pub(crate) early_ticks: u64,
    pub(crate) upgrades: u64,
    pub(crate) refused_probes: u64,
    pub(crate) sent_while_upgrading: u64,
    pub(crate) most_bytes: usize,
    pub(crate) oversize_runs: u64,
    /// From the answer to the probe to the switch, the longest.
    pub(crate) longest_upgrade: Duration,
}

struct Live {
    session: Session,
    outbox: Outbox,
    /// The runs in the outbox as they were pushed, with what is left of each.
    mirror: VecDeque<usize>,
    get: Option<RequestId>,
    last_get: Option<RequestId>,
    post: Option<RequestId>,
    stream: Option<Stream>,
    probe: Option<StreamId>,
    probe_answered: Option<Duration>,
}

struct Stream {
    id: StreamId,
    /// How many bytes the network takes at the moment.
    room: usize,
}

impl Server {
    pub(crate) fn new(story: &Story, start: Instant) -> Self {
        Self {
            story: story.clone(),
            start,
            rng: Rng::new(story.seed ^ 0x5e17),
            live: None,
            told: None,
            gone: None,
            inbox: Inbox::new(story.seed, Way::Up, story.up),
            sent: 0,
            acts: Vec::new(),
            pings: 0,
            noops: 0,
            early_ticks: 0,
            upgrades: 0,
            refused_probes: 0,
            sent_while_upgrading: 0,
            most_bytes: 0,
            oversize_runs: 0,
            longest_upgrade: Duration::ZERO,
        }
    }

    pub(crate) fn acts(&mut self) -> Vec<Act> {
        std::mem::take(&mut self.acts)
    }

    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    pub(crate) fn received(&self) -> u64 {
        self.inbox.received()
    }

    pub(crate) fn is_live(&self) -> bool {
        self.live.is_some()
    }

    pub(crate) fn transport(&self) -> Option<Transport> {
        self.live.as_ref().map(|live| live.session.transport())
    }

    pub(crate) fn waiting(&self) -> usize {
        self.live.as_ref().map_or(0, |live| live.outbox.bytes())
    }

    /// When the session asks to be ticked.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.live.as_ref().map(|live| live.session.deadline() - self.start)
    }

    fn open(&mut self, now: Duration, transport: Transport) -> (OpenPacket, Live) {
        let live = Live {
            session: Session::new(self.start + now, transport, &SETTINGS),
            outbox: Outbox::default(),
            mirror: VecDeque::new(),
            get: None,
            last_get: None,
            post: None,
            stream: None,
            probe: None,
            probe_answered: None,
        };
        let packet = OpenPacket {
            sid: Sid::from_bytes([7; Sid::BYTES]),
            upgrade: transport == Transport::Polling,
            ping_interval: SETTINGS.ping_interval,
            ping_timeout: SETTINGS.ping_timeout,
            max_payload: 1_000_000,
        };
        (packet, live)
    }

    pub(crate) fn handshake(&mut self, now: Duration, id: RequestId) {
        let (packet, live) = self.open(now, Transport::Polling);
        let mut body = Vec::new();
        packet.encode(&mut body);
        self.live = Some(live);
        self.acts.push(Act::Answer(id, Answer::Body(body)));
    }

    /// A GET arrived.
    pub(crate) fn get(&mut self, now: Duration, id: RequestId) {
        let Some(live) = &mut self.live else { return self.acts.push(Act::Answer(id, Answer::Refused)) };
        match live.session.open_poll(!live.outbox.is_empty()) {
            PollDecision::Park => (live.get, live.last_get) = (Some(id), Some(id)),
            PollDecision::Answer => {
                live.last_get = Some(id);
                let body = live.drain();
                self.acts.push(Act::Answer(id, Answer::Body(body)));
            }
            PollDecision::AnswerClose => {
                assert!(live.outbox.is_empty(), "what waits is fetched before the end");
                let mut body = Vec::new();
                append_control(&mut body, PacketType::Noop);
                append_control(&mut body, PacketType::Close);
                self.acts.push(Act::Answer(id, Answer::Body(body)));
                self.forget(now, CloseReason::ForcedClose);
            }
            PollDecision::Overlap => {
                self.acts.push(Act::Answer(id, Answer::Refused));
                self.end(now, CloseReason::TransportError);
            }
            PollDecision::Mismatch => self.acts.push(Act::Answer(id, Answer::Refused)),
        }
    }

    /// The head of a POST arrived.
    pub(crate) fn post(&mut self, now: Duration, id: RequestId) {
        // A POST to a session on another transport is refused before the session hears of it.
        let Some(live) = self.live.as_mut().filter(|live| live.session.transport() == Transport::Polling) else {
            return self.acts.push(Act::Answer(id, Answer::Refused));
        };
        if live.session.open_post().is_ok() {
            live.post = Some(id);
        } else {
            self.acts.push(Act::Answer(id, Answer::Refused));
            self.end(now, CloseReason::TransportError);
        }
    }

    /// The body of a POST is complete.
    pub(crate) fn body(&mut self, now: Duration, id: RequestId, body: &[u8]) -> Result<(), String> {
        let Some(live) = self.live.as_mut().filter(|live| live.post == Some(id)) else {
            // Its session ended meanwhile. If it was refused then, the answer is on its way already.
            return Ok(());
        };
        let mut failed = None;
        for packet in split_payload(body, usize::MAX) {
            let packet = packet.map_err(|error| format!("a body that is no payload: {error}"))?;
            let kind = match &packet {
                Packet::Text(kind, _) => *kind,
                Packet::Binary(_) => PacketType::Message,
            };
            match (live.session.receive(self.start + now, kind, &SETTINGS), packet) {
                (Received::Deliver, Packet::Text(_, text)) => self.inbox.take(&Message::Text(text.to_owned()))?,
                (Received::Deliver, Packet::Binary(data)) => self.inbox.take(&Message::Binary(data.into_owned()))?,
                (Received::Pong, _) => unreachable!("the client speaks revision 4"),
                (Received::Nothing | Received::Confirmed, _) => {}
                (Received::Close(reason), _) => {
                    failed = Some(reason);
                    break;
                }
            }
        }
        live.session.post_answered();
        live.post = None;
        self.acts.push(Act::Answer(id, Answer::Ok));
        if let Some(reason) = failed {
            self.end(now, reason);
        }
        Ok(())
    }

    /// The connection of a request is gone, with the answer that may have been on its way.
    pub(crate) fn request_broken(&mut self, now: Duration, id: RequestId) {
        let Some(live) = &mut self.live else { return };
        let reason = if live.last_get == Some(id) {
            live.get = None;
            live.session.poll_aborted()
        } else if live.post == Some(id) {
            live.post = None;
            live.session.post_aborted()
        } else {
            None
        };
        if let Some(reason) = reason {
            self.end(now, reason);
        }
    }

    pub(crate) fn tick(&mut self, now: Duration) -> Result<(), String> {
        let Some(live) = &mut self.live else { return Ok(()) };
        let instant = self.start + now;
        let deadline = live.session.deadline();
        let due = live.session.tick(instant, &SETTINGS);
        if instant < deadline {
            self.early_ticks += 1;
            return if due == Due::default() { Ok(()) } else { Err(format!("a tick too early did {due:?}")) };
        }
        if due.close.is_none() && live.session.deadline() <= instant {
            return Err("a deadline that was met stands still".to_owned());
        }
        if due.close_probe {
            self.acts.extend(live.probe.take().map(Act::Close));
        }
        if due.noop {
            let Some(get) = live.get.take() else { return Err("a noop without a poll".to_owned()) };
            self.noops += 1;
            live.session.poll_answered();
            let mut body = live.drain();
            append_control(&mut body, PacketType::Noop);
            self.acts.push(Act::Answer(get, Answer::Body(body)));
        }
        if let Some(reason) = due.close {
            self.end(now, reason);
            return Ok(());
        }
        if due.ping {
            self.pings += 1;
            self.push(now, &text_frame(b"2"), 1);
            self.flush();
        }
        Ok(())
    }

    /// The application says `count` things.
    pub(crate) fn say(&mut self, now: Duration, count: u64) {
        self.queue(now, count);
        self.flush();
    }

    /// The application closes the session, with up to `last` things said just before, in the same turn.
    pub(crate) fn close(&mut self, now: Duration, last: u64) {
        self.queue(now, last);
        let Some(live) = &mut self.live else { return };
        match live.session.close(self.start + now, !live.outbox.is_empty()) {
            CloseDecision::Already => {}
            CloseDecision::EndStream | CloseDecision::AnswerPoll => self.end(now, CloseReason::ForcedClose),
            CloseDecision::AwaitPoll => self.told = Some(CloseReason::ForcedClose),
        }
        self.flush();
    }

    fn forget(&mut self, now: Duration, reason: CloseReason) {
        self.told.get_or_insert(reason);
        if let Some(live) = self.live.take() {
            self.gone = Some(now);
            self.acts.extend(live.probe.map(Act::Close));
            self.acts.extend(live.post.map(|post| Act::Answer(post, Answer::Refused)));
        }
    }

    /// Ends the session: what waits still leaves, its requests are answered.
    fn end(&mut self, now: Duration, reason: CloseReason) {
        if let Some(live) = &mut self.live {
            if let Some(stream) = live.stream.take() {
                let mut rest = Vec::new();
                while !live.outbox.is_empty() {
                    rest.extend_from_slice(live.outbox.front());
                    live.outbox.advance(live.outbox.front().len());
                }
                self.acts.push(Act::Write(stream.id, rest));
                self.acts.push(Act::Close(stream.id));
            } else if let Some(get) = live.get.take() {
                let mut body = live.drain();
                let last = if reason == CloseReason::TransportClose { PacketType::Noop } else { PacketType::Close };
                append_control(&mut body, last);
                self.acts.push(Act::Answer(get, Answer::Body(body)));
            }
        }
        self.forget(now, reason);
    }
}

impl Live {
    fn drain(&mut self) -> Vec<u8> {
        self.mirror.clear();
        let mut body = Vec::new();
        self.outbox.drain_into_payload(&mut body);
        body
    }
}

fn text_frame(text: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    append_frame(&mut frame, Opcode::Text, text);
    frame
}
