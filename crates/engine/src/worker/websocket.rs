//! WebSockets: what arrives on them, what leaves, how they end, and how one takes a polling session over.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;

use bytes::Bytes;
use posthaste_engine_proto::session::{ProbeDecision, Received};
use posthaste_engine_proto::{
    CloseReason, Limit, OpenPacket, Outbox, OutboxLimits, Packet, PacketType, PollBody, Transport, Wire,
};
use posthaste_websocket_proto as ws;
use posthaste_websocket_proto::{Decoded, Decoder, DeflateTerms, Event, Inflater, Opcode};

use super::connection::{Connection, Farewell, Probe, StreamState};
use super::{AppEntry, AppIndex, ConnectionId, Local, driver};
use crate::gate::Ticket;
use crate::request::Request;
use crate::stream::{Handover, Stream};

/// What a decoded frame asks for, once the borrow of the worker's state is over.
enum Incoming<'a> {
    Text(AppIndex, std::borrow::Cow<'a, str>),
    Binary(AppIndex, std::borrow::Cow<'a, [u8]>),
    /// A WebSocket ping, to be answered with its payload.
    Ping(&'a [u8]),
    /// The ping of a client of revision 3.
    Heartbeat,
    /// The client has answered a ping, and its application wants to know.
    Confirmed(AppIndex),
    Probe(ProbeDecision),
    Close(CloseReason, Farewell),
    Nothing,
}

impl Local {
    /// A WebSocket whose handshake opened a session, and what it agreed on.
    #[expect(clippy::too_many_arguments, reason = "what a connection begins with")]
    pub(crate) fn open_websocket(
        self: &Rc<Self>,
        app: AppIndex,
        request: Arc<Request>,
        wire: Wire,
        ticket: Option<Ticket>,
        deflate: Option<DeflateTerms>,
        stream: Handover,
        leftover: &[u8],
    ) {
        let stream = match Stream::adopt(stream) {
            Ok(stream) => stream,
            Err(error) => return tracing::debug!(%error, "an accepted stream could not be registered"),
        };
        let at = Rc::new(Cell::new(ConnectionId { worker: self.mailbox.index, slot: 0, generation: 0 }));
        // It comes by mail: what came with it is read by the task that drives the stream, once all mail is applied.
        let stream = StreamState { tail: leftover.to_vec(), ..StreamState::new(stream, deflate, Some(at.clone())) };
        let Some(id) = self.open_on(app, request, wire, ticket, (stream, None), Vec::new()) else { return };
        at.set(id);
        driver::drive(self, at);
    }

    /// Opens a session on a stream, in the vacant place that comes with it, or in any; `answer` is the end of its HTTP, which leaves at
    /// once, and the open packet with it.
    /// `None` when no more are taken; the place is given up then.
    pub(super) fn open_on(
        &self,
        app: AppIndex,
        request: Arc<Request>,
        wire: Wire,
        ticket: Option<Ticket>,
        (stream, place): (StreamState, Option<u32>),
        answer: Vec<u8>,
    ) -> Option<ConnectionId> {
        let Some((id, sid)) = self.open(app, wire, ticket, Transport::WebSocket, place) else {
            if let Some(slot) = place {
                self.core.borrow_mut().free(slot);
            }
            return None;
        };
        let config = self.app(app).config;
        let (is_answered, mut open) = (!answer.is_empty(), answer);
        let start = ws::FrameStart::begin(&mut open, Opcode::Text);
        OpenPacket {
            sid,
            upgrade: false,
            ping_interval: config.settings.ping_interval,
            ping_timeout: config.settings.ping_timeout,
            max_payload: config.max_payload,
        }
        .encode(&mut open);
        start.finish(&mut open);
        let mut stream = stream;
        // A fresh socket takes this much.
        let written = !is_answered || matches!(stream.write(&open), Ok(written) if written == open.len());
        if let Some(connection) = self.core.borrow_mut().get_mut(id) {
            connection.stream = Some(stream);
        }
        if !is_answered {
            let staged = self.stage(&open);
            self.deliver(&staged, std::iter::once(id.slot), false);
        }
        self.opened(app, id, &request);
        if !written {
            self.end(id, CloseReason::TransportError, Farewell::Gone);
        }
        Some(id)
    }

    /// A WebSocket that asks for the polling session `session`.
    pub(crate) fn open_probe(
        self: &Rc<Self>,
        session: ConnectionId,
        deflate: Option<DeflateTerms>,
        stream: Handover,
        leftover: &[u8],
    ) {
        let stream = match Stream::adopt(stream) {
            Ok(stream) => stream,
            Err(error) => return tracing::debug!(%error, "an accepted stream could not be registered"),
        };
        let at = Rc::new(Cell::new(session));
        // Read by the task that drives the stream, once that can take an answer.
        let stream = StreamState { tail: leftover.to_vec(), ..StreamState::new(stream, deflate, Some(at.clone())) };
        if let Some(id) = self.probe_on(session, stream, None) {
            at.set(id);
            driver::drive(self, at);
        }
    }

    /// Has a stream probe for a session, in the vacant place that comes with it, or in any. `None` when the session takes none; the
    /// stream is closed then, and the place given up.
    pub(super) fn probe_on(
        &self,
        session: ConnectionId,
        stream: StreamState,
        place: Option<u32>,
    ) -> Option<ConnectionId> {
        let now = self.now.get();
        let mut core = self.core.borrow_mut();
        let apps = self.apps.borrow();
        let admitted = core.get_mut(session).is_some_and(|connection| {
            connection.session.begin_upgrade(now, &apps[connection.app as usize].config.settings).is_ok()
        });
        if !admitted {
            if let Some(slot) = place {
                core.free(slot);
            }
            drop((core, apps));
            stream.end(Outbox::default(), &Farewell::Quiet);
            return None;
        }
        let id = core.place_probe(Probe { session, stream }, place);
        if let Some(polls) = core.get_mut(session).and_then(|connection| connection.polls.as_mut()) {
            polls.probe = Some(id);
        }
        drop((core, apps));
        self.rearm(session);
        Some(id)
    }

    pub(super) fn read_leftover(&self, id: ConnectionId, leftover: &[u8]) {
        if !leftover.is_empty() {
            self.input(id, &mut leftover.to_vec());
        }
    }

    /// Bytes arrived on the stream at `id`.
    pub(super) fn input(&self, id: ConnectionId, data: &mut [u8]) {
        let tail = {
            let mut core = self.core.borrow_mut();
            let Some(stream) = core.stream(id) else { return };
            if stream.tail.is_empty() {
                None
            } else {
                stream.tail.extend_from_slice(data);
                Some(std::mem::take(&mut stream.tail))
            }
        };
        match tail {
            None => {
                let (at, used) = self.frames(id, data);
                self.keep_tail(at, |tail| tail.extend_from_slice(&data[used..]), used < data.len());
            }
            Some(mut tail) => {
                let (at, used) = self.frames(id, &mut tail);
                let unfinished = used < tail.len();
                self.keep_tail(
                    at,
                    |kept| {
                        tail.drain(..used);
                        *kept = tail;
                    },
                    unfinished,
                );
            }
        }
    }

    /// Whether the stream at `id` takes what its input may ask for at once. A stream that was just registered does not, whoever
    /// waits on it hears when it does; a probe that is in a hurry must not fail of that.
    pub(super) fn takes_answers(&self, id: ConnectionId, cx: &mut Context<'_>) -> bool {
        match self.core.borrow_mut().probe(id) {
            Some(probe) if !probe.stream.tail.is_empty() => probe.stream.io.poll_write_ready(cx).is_ready(),
            _ => true,
        }
    }

    /// Goes on with what was left unread when the connection was paused.
    pub(super) fn input_tail(&self, id: ConnectionId) {
        let waits = self.core.borrow_mut().stream(id).is_some_and(|stream| !stream.tail.is_empty());
        if waits {
            self.input(id, &mut []);
        }
    }

    fn keep_tail(&self, id: ConnectionId, keep: impl FnOnce(&mut Vec<u8>), unfinished: bool) {
        if unfinished && let Some(stream) = self.core.borrow_mut().stream(id) {
            keep(&mut stream.tail);
        }
    }

    /// Reads frame after frame. Returns how much of `data` was consumed, and where the stream is now: an upgrade moves it.
    fn frames(&self, mut id: ConnectionId, data: &mut [u8]) -> (ConnectionId, usize) {
        let mut used = 0;
        loop {
            let (consumed, incoming) = match self.next_frame(id, &mut data[used..]) {
                Some(next) => next,
                None => return (id, used),
            };
            match incoming {
                Incoming::Text(app, text) => self.call_app(app, |app| app.text(id, &text[1..])),
                Incoming::Binary(app, data) => {
                    self.call_app(app, |app| app.binary(id, Bytes::from(data.into_owned())));
                }
                Incoming::Ping(payload) => self.pong(id, payload),
                Incoming::Heartbeat => self.answer_ping(id),
                Incoming::Confirmed(app) => {
                    self.rearm(id);
                    self.call_app(app, |app| app.ponged(id));
                }
                Incoming::Probe(decision) => id = self.probe_decided(id, decision),
                Incoming::Close(reason, farewell) => {
                    self.end_at(id, reason, farewell);
                    return (id, data.len());
                }
                // A pong brings the deadline forward where the timeout is longer than the interval.
                Incoming::Nothing => self.rearm(id),
            }
            used += consumed;
        }
    }

    /// Decodes the next frame and lets the session judge it. `None` when there is no whole frame, or nothing may be read now.
    fn next_frame<'a>(&self, id: ConnectionId, data: &'a mut [u8]) -> Option<(usize, Incoming<'a>)> {
        let mut core = self.core.borrow_mut();
        let apps = self.apps.borrow();
        if let Some(connection) = core.get_mut(id) {
            let entry = &apps[connection.app as usize];
            let config = &entry.config;
            let vouched = connection.vouched;
            let stream = connection.stream.as_mut()?;
            if connection.paused || data.is_empty() {
                return None;
            }
            let (consumed, event) = match decode(&mut stream.decoder, data, entry, vouched, &self.inflater) {
                Ok(next) => next?,
                Err(farewell) => return Some((0, Incoming::Close(CloseReason::TransportError, farewell))),
            };
            let now = self.now.get();
            let settings = &config.settings;
            let incoming = match event {
                Event::Text(text) => match connection.wire.decode(&text) {
                    Ok(packet) => match (connection.session.receive(now, packet.packet_type(), settings), packet) {
                        (Received::Deliver, Packet::Binary(data)) => {
                            Incoming::Binary(connection.app, data.into_owned().into())
                        }
                        (Received::Deliver, Packet::Text(..)) => Incoming::Text(connection.app, text),
                        (Received::Confirmed, _) if connection.followed => Incoming::Confirmed(connection.app),
                        (Received::Nothing | Received::Confirmed, _) => Incoming::Nothing,
                        (Received::Pong, _) => Incoming::Heartbeat,
                        (Received::Close(reason), _) => Incoming::Close(reason, Farewell::Quiet),
                    },
                    Err(_) => Incoming::Close(CloseReason::ParseError, Farewell::Quiet),
                },
                Event::Binary(frame) => match connection.wire.message(frame) {
                    Ok(data) => match connection.session.receive(now, PacketType::Message, settings) {
                        Received::Deliver => Incoming::Binary(connection.app, data),
                        Received::Nothing | Received::Pong | Received::Confirmed => Incoming::Nothing,
                        Received::Close(reason) => Incoming::Close(reason, Farewell::Quiet),
                    },
                    Err(_) => Incoming::Close(CloseReason::ParseError, Farewell::Quiet),
                },
                other => control(other),
            };
            return Some((consumed, incoming));
        }
        let probe = core.probe(id)?;
        if data.is_empty() {
            return None;
        }
        let session = probe.session;
        // The session may have ended while its probe was under way.
        let Some(connection) = core.get_mut(session) else {
            return Some((0, Incoming::Close(CloseReason::TransportClose, Farewell::Quiet)));
        };
        let (entry, vouched) = (&apps[connection.app as usize], connection.vouched);
        let probe = core.probe(id)?;
        let (consumed, event) = match decode(&mut probe.stream.decoder, data, entry, vouched, &self.inflater) {
            Ok(next) => next?,
            Err(farewell) => return Some((0, Incoming::Close(CloseReason::TransportError, farewell))),
        };
        let packet = match event {
            Event::Text(ref text) => Packet::decode(text).ok(),
            Event::Binary(_) => None,
            other => return Some((consumed, control(other))),
        };
        let connection = core.get_mut(session)?;
        let decision = match packet {
            Some(Packet::Text(kind, data)) => connection.session.receive_probe(self.now.get(), kind, data == "probe"),
            _ => {
                connection.session.probe_lost();
                ProbeDecision::Close
            }
        };
        Some((consumed, Incoming::Probe(decision)))
    }

    /// Answers a WebSocket ping.
    fn pong(&self, id: ConnectionId, payload: &[u8]) {
        let mut frame = Vec::with_capacity(payload.len() + 2);
        ws::append_frame(&mut frame, Opcode::Pong, payload);
        self.send_on(id, &frame);
    }

    /// Sends a frame on the stream at `id`, session or probe.
    fn send_on(&self, id: ConnectionId, frame: &[u8]) {
        let is_probe = self.core.borrow_mut().probe(id).is_some();
        if !is_probe {
            let staged = self.stage(frame);
            self.deliver(&staged, std::iter::once(id.slot), false);
            return;
        }
        let sent = {
            let mut core = self.core.borrow_mut();
            let Some(probe) = core.probe(id) else { return };
            // A probe says a few bytes in its life: a socket that does not take them at once is given up.
            matches!(probe.stream.write(frame), Ok(written) if written == frame.len())
        };
        if !sent {
            self.end_at(id, CloseReason::TransportError, Farewell::Gone);
        }
    }

    /// Acts on what the session decided about its probe. Returns where the probe's stream is now.
    fn probe_decided(&self, id: ConnectionId, decision: ProbeDecision) -> ConnectionId {
        match decision {
            ProbeDecision::SendPong => {
                let session = self.core.borrow_mut().probe(id).map(|probe| probe.session);
                let mut frame = Vec::new();
                ws::append_frame(&mut frame, Opcode::Text, b"3probe");
                self.send_on(id, &frame);
                if let Some(session) = session {
                    self.rearm(session);
                }
                id
            }
            ProbeDecision::Switch => self.switch(id),
            ProbeDecision::Close => {
                self.end_at(id, CloseReason::TransportClose, Farewell::Quiet);
                id
            }
        }
    }

    /// The probe takes its session over: its stream moves, and what waited for a poll leaves on it.
    fn switch(&self, probe: ConnectionId) -> ConnectionId {
        let (session, app) = {
            let mut core = self.core.borrow_mut();
            let Some(probe) = core.remove_probe(probe) else { return probe };
            let session = probe.session;
            let Some(connection) = core.get_mut(session) else { return session };
            let mut stream = probe.stream;
            if let Some(at) = &stream.at {
                at.set(session);
            }
            if let Stream::Direct(stream) = &mut stream.io {
                self.reregister(stream, session.slot);
            }
            connection.stream = Some(stream);
            let polls = connection.polls.take();
            connection.session.poll_answered();
            // A POST that is being read goes on: its packets came before the upgrade.
            if let Some(mut polls) = polls {
                if let Some(get) = polls.get.take() {
                    let mut body = PollBody::new(connection.wire, 4);
                    body.control(PacketType::Close);
                    get.send(body.into());
                }
                polls.probe = None;
                if polls.post.is_some() || polls.posting.is_some() {
                    connection.polls = Some(polls);
                }
            }
            let app = connection.app;
            core.mark_dirty(session.slot);
            (session, (!core.is_told(session)).then_some(app))
        };
        self.rearm(session);
        self.want_turn();
        if let Some(app) = app {
            self.call_app(app, |app| app.upgraded(session));
        }
        session
    }

    /// Closes the probe of a session; polling goes on.
    pub(super) fn drop_probe(&self, session: ConnectionId) {
        let probe = {
            let mut core = self.core.borrow_mut();
            let id = core.get_mut(session).and_then(|connection| connection.polls.as_mut()?.probe.take());
            id.and_then(|id| core.remove_probe(id))
        };
        if let Some(probe) = probe {
            probe.stream.end(Outbox::default(), &Farewell::Quiet);
        }
    }

    /// Ends whatever owns the stream at `id`: a connection with its session, a probe alone.
    pub(super) fn end_at(&self, id: ConnectionId, reason: CloseReason, farewell: Farewell) {
        let probe = {
            let mut core = self.core.borrow_mut();
            let probe = core.remove_probe(id);
            if let Some(connection) = probe.as_ref().and_then(|probe| core.get_mut(probe.session)) {
                connection.session.probe_lost();
                if let Some(polls) = &mut connection.polls {
                    polls.probe = None;
                }
            }
            probe
        };
        match probe {
            Some(probe) => probe.stream.end(Outbox::default(), &farewell),
            None => self.end(id, reason, farewell),
        }
    }

    /// Ends a connection: what it was sent before still leaves, its requests are answered, its application is told.
    pub(super) fn end(&self, id: ConnectionId, reason: CloseReason, farewell: Farewell) {
        self.drop_probe(id);
        self.tell_closed(id, reason);
        let mut core = self.core.borrow_mut();
        let Some((connection, taken)) = core.remove(id) else { return };
        self.free_later(id);
        let Connection { mut outbox, stream, polls, wire, .. } = *connection;
        let no_limits = OutboxLimits { bytes: usize::MAX, packets: usize::MAX };
        // The last turn's output is bounded by the turn itself.
        let _ = if wire == Wire::V4 {
            super::outgoing::keep(&mut outbox, &taken, &core.turn, &no_limits)
        } else {
            outbox.push(&wire.frames(&taken.concat(&core.turn)), 1, &no_limits)
        };
        drop(core);
        if let Some(stream) = stream {
            stream.end(outbox, &farewell);
            outbox = Outbox::default();
        }
        // Those of an upgraded session too: a POST that was still being read.
        if let Some(polls) = polls {
            super::polling::end(*polls, outbox, wire, reason);
        }
    }
}

/// The next event of a stream, if a whole frame is there.
fn decode<'a>(
    decoder: &mut Decoder,
    data: &'a mut [u8],
    entry: &AppEntry,
    vouched: bool,
    inflater: &RefCell<Option<Box<Inflater>>>,
) -> Result<Option<(usize, Event<'a>)>, Farewell> {
    let config = &entry.config;
    let limits = ws::Limits { max_message_bytes: config.payload_of(vouched), max_fragments: config.max_fragments };
    let decoded = if decoder.may_deflate() {
        decoder.decode_with(data, &limits, &mut inflater.borrow_mut())
    } else {
        decoder.decode(data, &limits)
    };
    match decoded {
        Ok(Decoded::Incomplete { .. } | Decoded::Finished) => Ok(None),
        Ok(Decoded::Frame { consumed, event }) => Ok(Some((consumed, event))),
        Err(error) => {
            tracing::debug!(%error, "a WebSocket was misused");
            match error {
                ws::ProtocolError::MessageTooLarge => entry.gate.count(Limit::Payload),
                ws::ProtocolError::TooManyFragments => entry.gate.count(Limit::Fragments),
                _ => {}
            }
            Err(Farewell::Code(error.close_code()))
        }
    }
}

/// Frames that are the WebSocket's own.
fn control(event: Event<'_>) -> Incoming<'_> {
    match event {
        Event::Ping(payload) => Incoming::Ping(payload),
        Event::Close(frame) => {
            // The peer's own code comes back, as RFC 6455 §5.5.1 has it.
            Incoming::Close(CloseReason::TransportClose, Farewell::Echo(frame.map(|frame| frame.code)))
        }
        Event::Text(_) | Event::Binary(_) | Event::Pong(_) | Event::Fragment => Incoming::Nothing,
    }
}
