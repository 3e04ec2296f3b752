//! Who speaks which dialect: what arrives is read in it, and what leaves is written in it.
//!
//! A server whose clients all speak the usual one has no table of dialects, and everything goes between it and the engine as it is.

use std::cell::RefCell;

use bytes::Bytes;
use posthaste_adapter::Packet;
use posthaste_engine::{ConnectionId, Revision, Staged};
use posthaste_socket_proto::{DecodeError, MsgpackError, decode_msgpack};

use super::{Local, legacy};
use crate::dialect::Dialect;
use crate::how::How;
use crate::parser::Parser;

/// The dialects of this worker's connections, by place.
#[derive(Debug, Default)]
pub(super) struct Dialects(RefCell<Vec<Place>>);

#[derive(Clone, Copy, Debug)]
struct Place {
    dialect: Dialect,
    /// Whether its first message will tell the parser.
    is_open: bool,
}

impl Place {
    const USUAL: Self = Self { dialect: Dialect::Json4, is_open: false };
}

impl Dialects {
    /// A connection has opened.
    pub(super) fn open(&self, slot: u32, revision: Revision, parser: Parser) {
        let mut dialect = Dialect::json(revision);
        if parser == Parser::MessagePack {
            dialect = dialect.packed();
        }
        let mut places = self.0.borrow_mut();
        let place = slot as usize;
        if places.len() <= place {
            places.resize(place + 1, Place::USUAL);
        }
        places[place] = Place { dialect, is_open: parser == Parser::Either };
    }

    pub(super) fn of(&self, slot: u32) -> Dialect {
        self.0.borrow().get(slot as usize).unwrap_or(&Place::USUAL).dialect
    }

    /// The dialect of a message. The first one tells the parser by what it is, if that was left open.
    fn heard(&self, slot: u32, is_binary: bool) -> Dialect {
        let mut places = self.0.borrow_mut();
        let Some(place) = places.get_mut(slot as usize) else { return Dialect::Json4 };
        if std::mem::take(&mut place.is_open) && is_binary {
            place.dialect = place.dialect.packed();
        }
        place.dialect
    }

    /// Those of `slots` that speak one.
    fn speaking<'a>(&'a self, slots: &'a [u32], dialect: Dialect) -> impl Iterator<Item = u32> + 'a {
        slots.iter().copied().filter(move |slot| self.of(*slot) == dialect)
    }
}

impl Local {
    /// The parser that a connection speaks.
    pub(super) fn parser(&self, id: ConnectionId) -> Parser {
        self.dialects.as_ref().map_or(Parser::Json, |dialects| dialects.of(id.slot).parser())
    }

    /// A text message arrived.
    pub(super) fn heard_text(&self, id: ConnectionId, text: &str) {
        let dialect = self.dialects.as_ref().map_or(Dialect::Json4, |dialects| dialects.heard(id.slot, false));
        match dialect.parser() {
            Parser::MessagePack => self.message(id, |_, _, _| Err(DecodeError::Msgpack(MsgpackError::Text).into())),
            _ => self.message(id, |connection, now, limits| connection.receive_text(text, now, limits)),
        }
    }

    /// A binary message arrived.
    pub(super) fn heard_binary(&self, id: ConnectionId, data: Bytes) {
        let dialect = self.dialects.as_ref().map_or(Dialect::Json4, |dialects| dialects.heard(id.slot, true));
        match dialect.parser() {
            Parser::MessagePack => self.message(id, |connection, _, limits| {
                let packet = decode_msgpack(&data, &limits.decode)?;
                let is_legacy = dialect == Dialect::MessagePack3;
                connection.receive_packet(if is_legacy { legacy::modern_packet(packet) } else { packet }, limits)
            }),
            _ => self.message(id, |connection, _, limits| connection.receive_binary(data, limits)),
        }
    }

    /// Sends frames of packets to one connection. Returns whether it was there (and, when `volatile`, able to take them).
    pub(crate) fn send(&self, id: ConnectionId, frames: &[u8], how: How) -> bool {
        let Some(dialects) = &self.dialects else { return self.send_frames(id, frames, how) };
        let dialect = dialects.of(id.slot);
        if dialect.parser() == Parser::Json {
            return self.send_frames(id, frames, how);
        }
        // What cannot be said to it is no sign that it is gone.
        translated(dialect, frames).is_none_or(|frames| self.send_frames(id, &frames, how))
    }

    fn send_frames(&self, id: ConnectionId, frames: &[u8], how: How) -> bool {
        match how.compress {
            true => self.worker.send(id, frames, how.volatile),
            false => self.worker.send_uncompressed(id, frames, how.volatile),
        }
    }

    fn stage(&self, frames: &Bytes, how: How) -> Staged {
        let staged = self.worker.stage_shared(frames);
        if !how.compress {
            self.worker.leave_uncompressed(&staged);
        }
        staged
    }

    /// Sends a packet to the connections at `slots`.
    pub(super) fn deliver_packet(&self, packet: &Packet, slots: &[u32], how: How) {
        let Some(dialects) = &self.dialects else {
            let staged = self.stage(packet.frames(), how);
            self.worker.deliver(&staged, slots.iter().copied(), how.volatile);
            return;
        };
        for dialect in [Dialect::Json4].into_iter().chain(Dialect::OTHERS) {
            let mut its = dialects.speaking(slots, dialect).peekable();
            if its.peek().is_none() {
                continue;
            }
            let plain = || packet.form(Dialect::PLAIN, || Some(packet.frames().clone()));
            let frames = match (dialect, dialect.form()) {
                (_, None) => Some(packet.frames().clone()),
                (Dialect::Json3, _) => plain(),
                (Dialect::MessagePack3, Some(form)) => {
                    packet.form(form, || translated(dialect, &plain()?).map(Bytes::from))
                }
                (_, Some(form)) => packet.form(form, || translated(dialect, packet.frames()).map(Bytes::from)),
            };
            if let Some(frames) = frames {
                let staged = self.stage(&frames, how);
                self.worker.deliver(&staged, its, how.volatile);
            }
        }
    }
}

fn translated(dialect: Dialect, frames: &[u8]) -> Option<Vec<u8>> {
    let translated = dialect.translate(frames);
    translated.inspect_err(|error| tracing::warn!(%error, ?dialect, "a packet was left out")).ok()
}
