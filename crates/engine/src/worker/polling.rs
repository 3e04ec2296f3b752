//! HTTP long-polling: the GET that waits and the POST that brings.

use std::sync::Arc;

use super::connection::{Connection, Cut, Farewell, Polls, Post, Reply};
use super::turn::Taken;
use super::{AppEntry, AppIndex, ConnectionId, Local};
use crate::gate::Ticket;
use crate::request::Request;
use bytes::Bytes;
use posthaste_engine_proto::payload_v3;
use posthaste_engine_proto::session::{PollDecision, Received};
use posthaste_engine_proto::{
    CloseReason, Limit, OpenPacket, Outbox, Packet, PacketType, PayloadError, PollBody, PostBody, PostForm, Revision,
    Sid, Transport, Wire,
};

/// The answer to a GET.
#[derive(Debug)]
pub(crate) enum GetAnswer {
    /// Packets, and whether they may be compressed.
    Body(Vec<u8>, bool),
    /// The same of a client of revision 3, where one of them is binary.
    Binary(Vec<u8>, bool),
    /// Refused without a body: two polls at once.
    Overlap,
}

impl From<PollBody> for GetAnswer {
    fn from(body: PollBody) -> Self {
        let may_compress = body.is_compressible();
        match body.finish() {
            (body, false) => Self::Body(body, may_compress),
            (body, true) => Self::Binary(body, may_compress),
        }
    }
}

/// The answer to a POST.
#[derive(Debug)]
pub(crate) enum PostAnswer {
    Ok,
    Overlap,
}

/// A POST that was not taken.
#[derive(Debug)]
pub(crate) enum PostRefused {
    /// The session is gone.
    Unknown,
    /// Another POST is open; the session has ended.
    Overlap,
}

/// What a request needs to know of its session before it goes on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SessionFacts {
    pub(crate) id: ConnectionId,
    pub(crate) transport: Transport,
    pub(crate) wire: Wire,
}

impl Local {
    /// Opens a polling session. Returns its id and the body of the handshake's answer.
    ///
    /// `None` when the worker takes no connections any more.
    pub(crate) fn open_polling(
        &self,
        app: AppIndex,
        request: Arc<Request>,
        wire: Wire,
        ticket: Option<Ticket>,
    ) -> Option<(Sid, Vec<u8>)> {
        let (id, sid) = self.open(app, wire, ticket, Transport::Polling, None)?;
        let config = self.app(app).config;
        let mut body = Vec::with_capacity(128);
        OpenPacket {
            sid,
            upgrade: config.offers_upgrade(),
            ping_interval: config.settings.ping_interval,
            ping_timeout: config.settings.ping_timeout,
            max_payload: config.max_payload,
        }
        .encode(&mut body);
        if wire.revision() == Revision::V3 {
            body = payload_v3::text_packet_of(&body);
        }
        // The open packet leaves with this answer, alone; what comes now waits for the first poll.
        self.opened(app, id, &request);
        Some((sid, body))
    }

    /// Looks a session of `app` up.
    pub(crate) fn session(&self, app: AppIndex, sid: &Sid) -> Option<SessionFacts> {
        let id = self.core.borrow().by_sid(sid)?;
        self.catch_up(id);
        let core = self.core.borrow();
        let connection = core.get(id)?;
        let Connection { session, wire, .. } = connection;
        (connection.app == app).then(|| SessionFacts { id, transport: session.transport(), wire: *wire })
    }

    /// A GET arrived. Its number tells it from the GETs before and after it.
    pub(crate) fn poll(&self, id: ConnectionId, reply: Reply<GetAnswer>) -> Option<u64> {
        if self.core.borrow().has_out(id) {
            // What this turn produced so far waits as well, and nothing may be decided without it.
            self.flush();
        }
        let (decision, number) = {
            let mut core = self.core.borrow_mut();
            let connection = core.get_mut(id)?;
            let decision = connection.session.open_poll(!connection.outbox.is_empty());
            let polls = connection.polls.get_or_insert_default();
            polls.get_number += 1;
            (decision, polls.get_number)
        };
        match decision {
            PollDecision::Park => {
                let mut core = self.core.borrow_mut();
                let connection = core.get_mut(id)?;
                connection.polls.get_or_insert_default().get = Some(reply);
            }
            PollDecision::Answer => {
                let mut core = self.core.borrow_mut();
                let connection = core.get_mut(id)?;
                let mut body = PollBody::new(connection.wire, connection.outbox.bytes());
                body.drain(&mut connection.outbox);
                reply.send(body.into());
            }
            PollDecision::AnswerClose => {
                self.drop_probe(id);
                let (connection, _) = self.core.borrow_mut().remove(id)?;
                self.free_later(id);
                if let Some(cut) = connection.polls.and_then(|polls| polls.posting) {
                    cut.cut();
                }
                let mut body = PollBody::new(connection.wire, 6);
                body.control(PacketType::Noop);
                body.control(PacketType::Close);
                reply.send(body.into());
            }
            PollDecision::Overlap => {
                reply.send(GetAnswer::Overlap);
                self.end(id, CloseReason::TransportError, Farewell::Quiet);
            }
            PollDecision::Mismatch => {
                reply.send(GetAnswer::Overlap);
            }
        }
        self.settle();
        Some(number)
    }

    /// The client dropped the GET of that number before it was answered.
    pub(crate) fn poll_aborted(&self, id: ConnectionId, number: u64) {
        let reason = {
            let mut core = self.core.borrow_mut();
            let Some(connection) = core.get_mut(id) else { return };
            let Some(polls) = connection.polls.as_mut().filter(|polls| polls.get_number == number) else { return };
            polls.get = None;
            connection.session.poll_aborted()
        };
        if let Some(reason) = reason {
            self.end(id, reason, Farewell::Gone);
            self.settle();
        }
    }

    /// A POST begins; `cut` is dropped when the session ends before it. Returns its number, and how
    /// many bytes it may have.
    pub(crate) fn post_begin(&self, id: ConnectionId, cut: Cut) -> Result<(u64, usize), PostRefused> {
        let begun = {
            let mut core = self.core.borrow_mut();
            let connection = core.get_mut(id).ok_or(PostRefused::Unknown)?;
            let most = self.apps.borrow()[connection.app as usize].config.payload_of(connection.vouched);
            connection.session.open_post().map(|()| {
                let polls = connection.polls.get_or_insert_default();
                polls.post_number += 1;
                polls.posting = Some(cut);
                (polls.post_number, most)
            })
        };
        begun.map_err(|_overlap| {
            self.end(id, CloseReason::TransportError, Farewell::Quiet);
            self.settle();
            PostRefused::Overlap
        })
    }

    /// The POST of that number will not come to its end. `ends` says whether its session ends with it.
    pub(crate) fn post_dropped(&self, id: ConnectionId, number: u64, ends: bool) {
        let reason = {
            let mut core = self.core.borrow_mut();
            let Some(connection) = core.get_mut(id) else { return };
            if connection.polls.as_ref().is_none_or(|polls| polls.post_number != number) {
                return;
            }
            if ends {
                connection.session.post_aborted()
            } else {
                connection.session.post_answered();
                None
            }
        };
        if let Some(reason) = reason {
            self.end(id, reason, Farewell::Gone);
            self.settle();
        }
    }

    /// The body of a POST is complete. The answer comes when all its packets were handed over.
    pub(crate) fn post(&self, id: ConnectionId, (form, body): (PostForm, Vec<u8>), reply: Reply<PostAnswer>) {
        let wire = { self.core.borrow().get(id).map(|connection| connection.wire) };
        let Some(wire) = wire else { return };
        // Checked once: the body may be gone through in many steps.
        let Some(body) = PostBody::read(wire, form, body) else {
            reply.send(PostAnswer::Ok);
            self.end(id, CloseReason::ParseError, Farewell::Quiet);
            return self.settle();
        };
        {
            let mut core = self.core.borrow_mut();
            let Some(connection) = core.get_mut(id) else { return };
            let polls = connection.polls.get_or_insert_default();
            polls.posting = None;
            polls.post = Some(Post { body, offset: 0, packets: 0, reply });
        }
        if self.taking_mail.get() {
            // Its handlers may know of what was posted behind it, and must not overtake that.
            return self.posted.borrow_mut().push(id);
        }
        self.continue_post(id);
        self.settle();
    }

    /// Hands over packets of the open POST until it ends or the connection is paused.
    pub(super) fn continue_post(&self, id: ConnectionId) {
        let Some((mut post, app)) = self.core.borrow_mut().get_mut(id).and_then(|connection| {
            let post = connection.polls.as_mut()?.post.take()?;
            Some((post, connection.app))
        }) else {
            return;
        };
        let AppEntry { config, gate, .. } = self.app(app);
        let body = std::mem::replace(&mut post.body, PostBody::V4(String::new()));
        let mut packets = body.packets(post.offset, config.max_payload_packets.saturating_sub(post.packets));
        let mut failed = None;
        while packets.rest().is_some() {
            if self.core.borrow().get(id).is_some_and(|connection| connection.paused) {
                post.offset = body.len() - packets.rest().unwrap_or(0);
                post.body = body;
                let mut core = self.core.borrow_mut();
                if let Some(connection) = core.get_mut(id) {
                    connection.polls.get_or_insert_default().post = Some(post);
                }
                return;
            }
            let Some(packet) = packets.next() else { break };
            post.packets += 1;
            if matches!(packet, Err(PayloadError::TooManyPackets { .. })) {
                gate.count(Limit::PayloadPackets);
            }
            let Ok(packet) = packet else {
                failed = Some(CloseReason::ParseError);
                break;
            };
            let (received, is_followed) = {
                let mut core = self.core.borrow_mut();
                let Some(connection) = core.get_mut(id) else { break };
                let received = connection.session.receive(self.now.get(), packet.packet_type(), &config.settings);
                (received, connection.followed)
            };
            match (received, packet) {
                (Received::Deliver, Packet::Text(_, text)) => self.call_app(app, |app| app.text(id, text)),
                (Received::Deliver, Packet::Binary(data)) => {
                    self.call_app(app, |app| app.binary(id, Bytes::from(data.into_owned())));
                }
                // A pong brings the deadline forward where the timeout is longer than the interval.
                (Received::Nothing, _) => self.rearm(id),
                (Received::Confirmed, _) => {
                    self.rearm(id);
                    if is_followed {
                        self.call_app(app, |app| app.ponged(id));
                    }
                }
                (Received::Pong, _) => self.answer_ping(id),
                (Received::Close(reason), _) => {
                    failed = Some(reason);
                    break;
                }
            }
        }
        if let Some(connection) = self.core.borrow_mut().get_mut(id) {
            connection.session.post_answered();
            if connection.stream.is_some() {
                // Upgraded while this was read: polling is over.
                connection.polls = None;
            }
        }
        // The official server answers `ok` even to a body it could not read, then ends the session.
        post.reply.send(PostAnswer::Ok);
        if let Some(reason) = failed {
            self.end(id, reason, Farewell::Quiet);
        }
    }

    /// Lets a parked poll go, so that the client can pause polling.
    pub(super) fn answer_with_noop(&self, id: ConnectionId) {
        {
            let mut core = self.core.borrow_mut();
            let Some(connection) = core.get_mut(id) else { return };
            connection.answer(1, |body| body.control(PacketType::Noop));
        }
        self.want_turn();
    }
}

impl Connection {
    /// Answers the parked GET with what waits, if both are there.
    pub(super) fn answer_parked_poll(&mut self) {
        if !self.outbox.is_empty() && self.session.has_parked_poll() {
            self.answer(0, |_| {});
        }
    }

    /// Answers the parked GET with what this turn produced, if it is there and nothing waits before that. Returns whether it did.
    pub(super) fn answer_at_once(&mut self, taken: &Taken, turn: &[u8], compressible: bool) -> bool {
        let get = self.polls.as_ref().and_then(|polls| polls.get.as_ref());
        if !self.outbox.is_empty() || get.is_none_or(Reply::is_closed) {
            return false;
        }
        let room = taken.pieces(turn).map(<[u8]>::len).sum();
        self.answer(room, |body| {
            taken.pieces(turn).for_each(|frames| body.append(frames));
            if compressible {
                body.mark_compressible();
            }
        });
        true
    }

    /// Answers the parked GET with what waits and `more`, for which there is `room`.
    fn answer(&mut self, room: usize, more: impl FnOnce(&mut PollBody)) {
        let Some(get) = self.polls.as_mut().and_then(|polls| polls.get.take()) else { return };
        if get.is_closed() {
            // Nobody reads this answer: the news that the request was dropped ends the session, and nothing is taken for sent.
            return;
        }
        self.session.poll_answered();
        let mut body = PollBody::new(self.wire, self.outbox.bytes() + room);
        body.drain(&mut self.outbox);
        more(&mut body);
        get.send(body.into());
    }
}

/// Answers the requests of a polling session that has ended.
pub(super) fn end(polls: Polls, mut outbox: Outbox, wire: Wire, reason: CloseReason) {
    if let Some(get) = polls.get {
        let mut body = PollBody::new(wire, outbox.bytes() + 4);
        body.drain(&mut outbox);
        // The poll of a client that closed the session itself gets a noop; any other end is told with a close packet.
        if reason == CloseReason::TransportClose {
            body.control(PacketType::Noop);
        } else {
            body.control(PacketType::Close);
        }
        get.send(body.into());
    }
    if let Some(cut) = polls.posting {
        cut.cut();
    }
    if let Some(post) = polls.post {
        post.reply.send(if reason == CloseReason::TransportError { PostAnswer::Overlap } else { PostAnswer::Ok });
    }
}
