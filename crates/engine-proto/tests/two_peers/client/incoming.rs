//! What reaches the client: answers, frames, and the ends of both.

use std::time::Duration;

use posthaste_engine_proto::payload::{SEPARATOR, split_payload};
use posthaste_engine_proto::{Packet, PacketType};
use posthaste_websocket_proto::{FrameHeader, Opcode};

use super::{Carrier, Client, Outgoing, State};
use crate::message::Message;
use crate::wire::{Answer, RequestId, StreamId};

impl Client {
    pub(crate) fn answered(&mut self, now: Duration, id: RequestId, answer: &Answer) -> Result<(), String> {
        if self.is_over() {
            return Ok(());
        }
        match answer {
            Answer::Refused => self.fail("transport error"),
            Answer::Ok if self.post == Some(id) => {
                self.post = None;
                self.request_is_back();
            }
            Answer::Body(body) if self.get == Some(id) => {
                // Applications act on a close packet before they act on messages of the same body, which are lost then.
                if body.split(|byte| *byte == SEPARATOR).any(|packet| packet == b"1") {
                    self.state = State::Closed("transport close");
                    return Ok(());
                }
                for packet in split_payload(body, usize::MAX) {
                    match packet.map_err(|error| format!("an answer that is no payload: {error:?}"))? {
                        Packet::Text(kind, data) => self.packet(now, kind, data)?,
                        Packet::Binary(data) => self.inbox.take(&Message::Binary(data.into_owned()))?,
                    }
                    if self.is_over() {
                        return Ok(());
                    }
                }
                self.get = None;
                self.request_is_back();
            }
            _ => return Err(format!("{answer:?} to {id:?} where GET is {:?}, POST {:?}", self.get, self.post)),
        }
        Ok(())
    }

    pub(crate) fn request_failed(&mut self) {
        if !self.is_over() {
            self.fail("transport error");
        }
    }

    pub(crate) fn stream_bytes(&mut self, now: Duration, stream: StreamId, bytes: &[u8]) -> Result<(), String> {
        if self.is_over() {
            return Ok(());
        }
        let is_probe = self.probe.as_ref().is_some_and(|probe| probe.stream == stream);
        if !is_probe && self.carrier != Carrier::WebSocket(stream) {
            return Ok(());
        }
        self.tail.extend_from_slice(bytes);
        let mut data = std::mem::take(&mut self.tail);
        let mut used = 0;
        while let Some(header) = FrameHeader::parse(&data[used..]).map_err(|error| format!("a bad frame: {error}"))? {
            let end = used + usize::try_from(header.frame_len()).expect("small");
            if end > data.len() {
                break;
            }
            let payload = &data[used + header.header_len..end];
            used = end;
            if header.masked.is_some() || !header.fin {
                return Err("a masked or split frame from the server".to_owned());
            }
            match header.opcode {
                Opcode::Binary => self.inbox.take(&Message::Binary(payload.to_vec()))?,
                Opcode::Text => {
                    let text = std::str::from_utf8(payload).map_err(|_| "a text frame that is no text")?;
                    let Ok(Packet::Text(kind, rest)) = Packet::decode(text) else {
                        return Err(format!("a frame that is no packet: {text}"));
                    };
                    if self.probe.as_ref().is_some_and(|probe| probe.stream == stream) {
                        self.probe_answered(now, kind, rest)?;
                    } else {
                        self.packet(now, kind, rest)?;
                    }
                }
                other => return Err(format!("an unexpected frame: {other:?}")),
            }
            if self.is_over() {
                return Ok(());
            }
        }
        data.drain(..used);
        self.tail = data;
        Ok(())
    }

    /// The WebSocket was closed by the server, or lost.
    pub(crate) fn stream_gone(&mut self, now: Duration, stream: StreamId) {
        if self.is_over() {
            return;
        }
        if self.intruder == Some(stream) {
            self.intruder = None;
            self.intruders_refused += 1;
        } else if self.probe.as_ref().is_some_and(|probe| probe.stream == stream) {
            self.probe_failed(now);
        } else if self.carrier == Carrier::WebSocket(stream) {
            self.state = State::Closed("transport close");
        }
    }

    pub(super) fn packet(&mut self, now: Duration, kind: PacketType, data: &str) -> Result<(), String> {
        match kind {
            PacketType::Open if self.state == State::Opening => {
                self.state = State::Open;
                self.heard = now;
                self.next_attempt(now, self.attempt_after);
                self.flush();
            }
            PacketType::Ping => {
                self.pings += 1;
                self.heard = now;
                self.queue.push_back(Outgoing::Pong);
                self.flush();
            }
            PacketType::Message => self.inbox.take(&Message::Text(data.to_owned()))?,
            PacketType::Noop => {}
            other => return Err(format!("an unexpected packet from the server: {other:?} {data}")),
        }
        Ok(())
    }
}
