//! Everything one turn of a worker produces, in one buffer.

use bytes::Bytes;
use posthaste_websocket_proto::{FrameStart, Opcode, append_frame};

/// Runs of frames above this size are shared, not copied into the turn's buffer.
pub(super) const SHARE_ABOVE: usize = 16 * 1024;
/// A turn that produced this much flushes before it goes on.
pub(super) const FLUSH_ABOVE: usize = 256 * 1024;
/// The same for what is shared instead of copied.
pub(super) const FLUSH_SHARED_ABOVE: usize = 1024 * 1024;

/// An encoded packet on its way to any number of connections: a run of complete WebSocket frames.
///
/// Cloning it is a reference count.
#[derive(Clone, Debug)]
pub struct Frames(Bytes);

impl Frames {
    /// Takes a run of complete, unmasked WebSocket frames.
    #[must_use]
    pub fn new(frames: impl Into<Bytes>) -> Self {
        Self(frames.into())
    }

    /// A text message, as a packet of its own: for any number of connections, or for
    /// [`EngineConfig::initial_message`](crate::EngineConfig::initial_message).
    #[must_use]
    pub fn text(text: &str) -> Self {
        let mut frames = Vec::with_capacity(text.len() + 11);
        append_text(&mut frames, text);
        Self(frames.into())
    }

    /// A binary message, as a packet of its own.
    #[must_use]
    pub fn binary(data: &[u8]) -> Self {
        let mut frames = Vec::with_capacity(data.len() + 10);
        append_frame(&mut frames, Opcode::Binary, data);
        Self(frames.into())
    }

    /// The bytes.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.0
    }
}

/// Appends the frame of a text message.
pub(super) fn append_text(frames: &mut Vec<u8>, text: &str) {
    let start = FrameStart::begin(frames, Opcode::Text);
    frames.push(b'4');
    frames.extend_from_slice(text.as_bytes());
    start.finish(frames);
}

/// Frames made ready for this turn's receivers, and good for nothing after it; see [`Worker::stage`](super::Worker::stage).
#[derive(Clone, Debug)]
pub struct Staged {
    pub(super) piece: Piece,
    pub(super) turn: u64,
}

/// A part of what one connection is to be sent this turn.
#[derive(Clone, Debug)]
pub(super) enum Piece {
    /// A range of the turn's buffer.
    Range {
        start: u32,
        len: u32,
    },
    Shared(Bytes),
}

/// What one connection is to be sent this turn: usually one range, which grows as long as pieces touch.
#[derive(Debug, Default)]
pub(super) struct Out {
    start: u32,
    len: u32,
    // Boxed twice over: pieces that do not touch are rare, and every connection carries this field.
    #[expect(clippy::box_collection, reason = "one word per idle connection instead of three")]
    more: Option<Box<Vec<Piece>>>,
}

impl Out {
    pub(super) const fn new() -> Self {
        Self { start: 0, len: 0, more: None }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0 && self.more.is_none()
    }

    pub(super) fn push(&mut self, piece: &Piece) {
        if let Some(more) = &mut self.more {
            match (more.last_mut(), piece) {
                (Some(Piece::Range { start, len }), Piece::Range { start: next, len: added })
                    if *start + *len == *next =>
                {
                    *len += added;
                }
                _ => more.push(piece.clone()),
            }
            return;
        }
        match *piece {
            Piece::Range { start, len } if self.len == 0 => (self.start, self.len) = (start, len),
            Piece::Range { start, len } if self.start + self.len == start => self.len += len,
            _ => self.more = Some(Box::new(vec![piece.clone()])),
        }
    }

    /// The pieces in order; nothing is left.
    pub(super) fn take(&mut self) -> Taken {
        let Self { start, len, more } = std::mem::take(self);
        Taken { first: (start as usize, len as usize), more }
    }
}

/// What [`Out::take`] took.
pub(super) struct Taken {
    first: (usize, usize),
    // As it was in `Out`: a broadcast to thousands makes as many of these, and drops them.
    #[expect(clippy::box_collection, reason = "as it was in `Out`")]
    more: Option<Box<Vec<Piece>>>,
}

impl Taken {
    /// The one range of the turn's buffer, when that is all.
    pub(super) fn single<'a>(&self, turn: &'a [u8]) -> Option<&'a [u8]> {
        self.more.is_none().then(|| self.first(turn))
    }

    /// The pieces behind the first range.
    pub(super) fn more(&self) -> &[Piece] {
        self.more.as_deref().map_or(&[], Vec::as_slice)
    }

    /// The one shared piece, when that is all.
    pub(super) fn single_shared(&self) -> Option<&Bytes> {
        match self.more() {
            [Piece::Shared(bytes)] if self.first.1 == 0 => Some(bytes),
            _ => None,
        }
    }

    /// All pieces in order.
    pub(super) fn pieces<'a>(&'a self, turn: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        std::iter::once(self.first(turn)).chain(self.more().iter().map(|piece| piece.bytes(turn)))
    }

    /// Other pieces in the place of these.
    pub(super) fn of(pieces: Vec<Piece>) -> Self {
        Self { first: (0, 0), more: Some(Box::new(pieces)) }
    }

    /// All pieces in order, the first range among them if there is one.
    pub(super) fn parts(&self) -> impl Iterator<Item = Piece> {
        let (start, len) = self.first;
        // The first came as two numbers of 32 bits.
        let first = (len > 0).then_some(Piece::Range { start: start as u32, len: len as u32 });
        first.into_iter().chain(self.more().iter().cloned())
    }

    /// All pieces behind one another.
    pub(super) fn concat(&self, turn: &[u8]) -> Vec<u8> {
        self.pieces(turn).collect::<Vec<_>>().concat()
    }

    /// The first range, which may be empty.
    pub(super) fn first<'a>(&self, turn: &'a [u8]) -> &'a [u8] {
        &turn[self.first.0..self.first.0 + self.first.1]
    }
}

impl Piece {
    pub(super) fn bytes<'a>(&'a self, turn: &'a [u8]) -> &'a [u8] {
        match self {
            Self::Range { start, len } => &turn[*start as usize..(*start + *len) as usize],
            Self::Shared(bytes) => bytes,
        }
    }
}
