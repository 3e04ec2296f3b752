//! What arrives on WebSockets, and how one takes the session over.

use std::time::Duration;

use posthaste_engine_proto::session::{ProbeDecision, Received};
use posthaste_engine_proto::{CloseReason, Packet, PacketType, Transport};

use super::{Act, Server, Stream, text_frame};
use crate::message::Message;
use crate::story::SETTINGS;
use crate::wire::{Answer, Frame, Purpose, StreamId};

impl Server {
    /// A WebSocket handshake arrived.
    pub(crate) fn connect(&mut self, now: Duration, id: StreamId, purpose: Purpose) {
        self.acts.push(Act::Accept(id));
        if purpose == Purpose::Handshake {
            let (packet, mut live) = self.open(now, Transport::WebSocket);
            live.stream = Some(Stream { id, room: self.story.window });
            let mut packet_bytes = Vec::new();
            packet.encode(&mut packet_bytes);
            self.live = Some(live);
            self.push(now, &text_frame(&packet_bytes), 1);
            return self.flush();
        }
        let instant = self.start + now;
        match self.live.as_mut().map(|live| (live.session.begin_upgrade(instant, &SETTINGS), live)) {
            Some((Ok(()), live)) => live.probe = Some(id),
            _ => {
                self.refused_probes += 1;
                self.acts.push(Act::Close(id));
            }
        }
    }

    pub(crate) fn frame(&mut self, now: Duration, id: StreamId, frame: Frame) -> Result<(), String> {
        let Some(live) = &mut self.live else { return Ok(()) };
        if live.probe == Some(id) {
            self.probe_frame(now, id, &frame);
            return Ok(());
        }
        if live.stream.as_ref().is_none_or(|stream| stream.id != id) {
            return Ok(());
        }
        let (kind, message) = match frame {
            Frame::Close => {
                self.end(now, CloseReason::TransportClose);
                return Ok(());
            }
            Frame::Binary(data) => (PacketType::Message, Message::Binary(data)),
            Frame::Text(text) => match Packet::decode(&text) {
                Ok(packet) => (packet.packet_type(), Message::Text(text[1..].to_owned())),
                Err(_) => {
                    self.end(now, CloseReason::ParseError);
                    return Ok(());
                }
            },
        };
        match live.session.receive(self.start + now, kind, &SETTINGS) {
            Received::Deliver => self.inbox.take(&message)?,
            Received::Nothing | Received::Confirmed => {}
            Received::Close(reason) => self.end(now, reason),
            Received::Pong => unreachable!("the client speaks revision 4"),
        }
        Ok(())
    }

    pub(super) fn probe_frame(&mut self, now: Duration, id: StreamId, frame: &Frame) {
        let live = self.live.as_mut().expect("a probe has a session");
        let packet = match frame {
            Frame::Text(text) => Packet::decode(text).ok(),
            Frame::Binary(_) => None,
            Frame::Close => return self.probe_over(),
        };
        let decision = match packet {
            Some(Packet::Text(kind, data)) => live.session.receive_probe(self.start + now, kind, data == "probe"),
            _ => ProbeDecision::Close,
        };
        match decision {
            ProbeDecision::SendPong => {
                live.probe_answered = Some(now);
                self.acts.push(Act::Write(id, text_frame(b"3probe")));
            }
            ProbeDecision::Switch => {
                live.session.poll_answered();
                if let Some(get) = live.get.take() {
                    self.acts.push(Act::Answer(get, Answer::Body(b"1".to_vec())));
                }
                live.probe = None;
                live.stream = Some(Stream { id, room: self.story.window });
                self.upgrades += 1;
                if let Some(answered) = live.probe_answered {
                    self.longest_upgrade = self.longest_upgrade.max(now - answered);
                }
                self.flush();
            }
            ProbeDecision::Close => self.probe_over(),
        }
    }

    /// The probe has ended by itself or said something wrong.
    pub(super) fn probe_over(&mut self) {
        if let Some(live) = &mut self.live {
            live.session.probe_lost();
            self.acts.extend(live.probe.take().map(Act::Close));
        }
    }

    /// A WebSocket broke.
    pub(crate) fn stream_broken(&mut self, now: Duration, id: StreamId) {
        let Some(live) = &mut self.live else { return };
        if live.probe == Some(id) {
            self.probe_over();
        } else if live.stream.as_ref().is_some_and(|stream| stream.id == id) {
            self.end(now, CloseReason::TransportClose);
        }
    }

    /// The client took `bytes` bytes off the network.
    pub(crate) fn room(&mut self, id: StreamId, bytes: usize) {
        if let Some(stream) = self.live.as_mut().and_then(|live| live.stream.as_mut()).filter(|stream| stream.id == id)
        {
            stream.room += bytes;
        }
        self.flush();
    }
}
