//! What leaves compressed, on WebSockets that agreed on it.
//!
//! Everything is staged as plain frames, which any transport can take. At the end of the turn, where a connection is written to, frames
//! that are long enough are exchanged for compressed ones: so no polling session ever holds one, and plain connections know nothing
//! of it. Where connections keep no context, one compressor serves all, and what it made of a run of frames is kept until the turn is
//! over: the next receiver of that run gets the same bytes.

use bytes::Bytes;
use posthaste_websocket_proto::{Deflater, FrameHeader, Opcode, PerMessageDeflate, append_deflated, whole_frame_len};
use rustc_hash::FxHashMap;

use super::AppIndex;
use super::turn::{Piece, Staged, Taken};
use crate::compression::Deflate;

/// So many compressed bytes are kept for further receivers in one turn: where everybody is sent something else, there are none.
const KEPT_BYTES: usize = 4 << 20;

/// What a worker compressed so far, and for how many; see [`Worker::deflated`](super::Worker::deflated).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Deflated {
    /// Messages that went through a compressor.
    pub compressed: u64,
    /// Their bytes before.
    pub bytes_in: u64,
    /// Their bytes after.
    pub bytes_out: u64,
    /// Compressed messages that were sent, once for each receiver.
    pub sent: u64,
}

/// What a worker needs to compress, and remembers for a turn.
#[derive(Default)]
pub(super) struct Compression {
    deflaters: FxHashMap<(u8, u8), Deflater>,
    /// What of this turn's buffer is to leave as it is: ranges, in order.
    plain_ranges: Vec<(u32, u32)>,
    /// The same of what is shared: where its bytes are.
    plain_shared: Vec<usize>,
    runs: FxHashMap<Key, Run>,
    frames: FxHashMap<Key, Option<Bytes>>,
    kept_bytes: usize,
    /// Keeps in memory what keys point to.
    sources: Vec<Bytes>,
    pub(super) stats: Deflated,
}

/// Bytes that were staged, and for whom they are compressed.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    address: usize,
    len: usize,
    app: AppIndex,
    bits: u8,
}

/// A run of frames with compressed ones among them.
#[derive(Clone)]
struct Run {
    frames: Bytes,
    compressed: u64,
}

/// A frame that is to be compressed, and the ones that are not.
enum Part<'a> {
    Plain(&'a [u8]),
    Deflate { opcode: Opcode, frame: &'a [u8], payload: &'a [u8] },
}

impl Compression {
    /// Has what was staged leave as it is.
    pub(super) fn mark_plain(&mut self, staged: &Staged) {
        match &staged.piece {
            Piece::Range { start, len } => self.plain_ranges.push((*start, start + len)),
            Piece::Shared(bytes) => self.plain_shared.push(bytes.as_ptr() as usize),
        }
    }

    /// Whether something of what a connection is sent may be compressed.
    pub(super) fn may_compress(&self, taken: &Taken, turn: &[u8]) -> bool {
        if self.plain_ranges.is_empty() && self.plain_shared.is_empty() {
            return true;
        }
        let everything = Deflate { threshold: 0, max_bytes: usize::MAX, ..Deflate::default() };
        taken.parts().any(|piece| {
            parts(piece.bytes(turn))
                .any(|frame| matches!(self.part(&everything, &piece, turn, frame), Part::Deflate { .. }))
        })
    }

    /// What a connection is sent, with everything compressed that is to be; `None` when nothing is.
    pub(super) fn deflate(
        &mut self,
        app: AppIndex,
        options: &Deflate,
        state: &mut PerMessageDeflate,
        taken: &Taken,
        turn: &[u8],
    ) -> Option<Taken> {
        let mut pieces = Vec::new();
        let mut is_changed = false;
        for piece in taken.parts() {
            match self.run(app, options, state, &piece, turn) {
                Some(run) => {
                    self.stats.sent += run.compressed;
                    pieces.push(Piece::Shared(run.frames));
                    is_changed = true;
                }
                None => pieces.push(piece),
            }
        }
        is_changed.then(|| Taken::of(pieces))
    }

    fn run(
        &mut self,
        app: AppIndex,
        options: &Deflate,
        state: &mut PerMessageDeflate,
        piece: &Piece,
        turn: &[u8],
    ) -> Option<Run> {
        let bytes = piece.bytes(turn);
        if bytes.len() <= options.threshold {
            return None;
        }
        let key = |bytes: &[u8], bits| Key { address: bytes.as_ptr() as usize, len: bytes.len(), app, bits };
        let bits = state.terms().server_max_window_bits;
        if state.terms().server_no_context_takeover
            && let Some(run) = self.runs.get(&key(bytes, bits))
        {
            return Some(run.clone());
        }
        let frames: Vec<Part<'_>> = parts(bytes).map(|frame| self.part(options, piece, turn, frame)).collect();
        if !frames.iter().any(|part| matches!(part, Part::Deflate { .. })) {
            return None;
        }
        let mut out = Vec::with_capacity(bytes.len() / 2);
        let mut compressed = 0;
        let own = state.own_deflater(options.level);
        if let Some(deflater) = own {
            for part in frames {
                match part {
                    Part::Plain(frame) => out.extend_from_slice(frame),
                    Part::Deflate { opcode, payload, .. } => {
                        compressed += 1;
                        self.stats.deflate(&mut out, opcode, payload, deflater);
                    }
                }
            }
            return Some(Run { frames: out.into(), compressed });
        }
        for part in frames {
            match part {
                Part::Plain(frame) => out.extend_from_slice(frame),
                Part::Deflate { opcode, frame, payload } => {
                    let shared = self.frame(key(frame, bits), options.level, opcode, payload);
                    compressed += u64::from(shared.is_some());
                    out.extend_from_slice(shared.as_deref().unwrap_or(frame));
                }
            }
        }
        let run = Run { frames: out.into(), compressed };
        if self.kept_bytes < KEPT_BYTES {
            self.kept_bytes += run.frames.len();
            self.runs.insert(key(bytes, bits), run.clone());
            if let Piece::Shared(source) = piece {
                self.sources.push(source.clone());
            }
        }
        Some(run)
    }

    /// A frame, compressed once a turn; `None` when that makes it no shorter.
    fn frame(&mut self, key: Key, level: u8, opcode: Opcode, payload: &[u8]) -> Option<Bytes> {
        if let Some(frame) = self.frames.get(&key) {
            return frame.clone();
        }
        let deflater = self.deflaters.entry((level, key.bits)).or_insert_with(|| Deflater::new(level, key.bits));
        let mut out = Vec::new();
        let frame = self.stats.deflate(&mut out, opcode, payload, deflater).then(|| Bytes::from(out));
        if self.kept_bytes < KEPT_BYTES {
            self.kept_bytes += frame.as_ref().map_or(0, Bytes::len);
            self.frames.insert(key, frame.clone());
        }
        frame
    }

    fn part<'a>(&self, options: &Deflate, piece: &Piece, turn: &[u8], frame: &'a [u8]) -> Part<'a> {
        let header = FrameHeader::parse(frame).ok().flatten().expect("invariant: what is staged is whole plain frames");
        let payload = &frame[header.header_len..];
        let is_long_enough = (options.threshold..=options.max_bytes).contains(&payload.len());
        match header.opcode {
            Opcode::Text | Opcode::Binary if is_long_enough && !self.is_plain(piece, turn, frame) => {
                Part::Deflate { opcode: header.opcode, frame, payload }
            }
            _ => Part::Plain(frame),
        }
    }

    /// Whether whoever sent a frame wants it to leave as it is.
    fn is_plain(&self, piece: &Piece, turn: &[u8], frame: &[u8]) -> bool {
        match piece {
            Piece::Shared(bytes) => self.plain_shared.contains(&(bytes.as_ptr() as usize)),
            Piece::Range { .. } => {
                let offset = (frame.as_ptr() as usize - turn.as_ptr() as usize) as u32;
                let behind = self.plain_ranges.partition_point(|(start, _)| *start <= offset);
                behind > 0 && offset < self.plain_ranges[behind - 1].1
            }
        }
    }

    /// Forgets what was only for this turn.
    pub(super) fn end_turn(&mut self) {
        self.plain_ranges.clear();
        self.plain_shared.clear();
        self.runs.clear();
        self.frames.clear();
        self.sources.clear();
        self.kept_bytes = 0;
    }
}

impl Deflated {
    /// Appends a compressed frame, if it is shorter than a plain one, and counts it.
    fn deflate(&mut self, out: &mut Vec<u8>, opcode: Opcode, payload: &[u8], deflater: &mut Deflater) -> bool {
        let before = out.len();
        let is_shorter = append_deflated(out, opcode, payload, deflater);
        self.compressed += 1;
        self.bytes_in += payload.len() as u64;
        self.bytes_out += if is_shorter { out.len() - before } else { payload.len() } as u64;
        is_shorter
    }
}

/// The frames of a run.
fn parts(mut run: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (frame, rest) = run.split_at(whole_frame_len(run)?);
        run = rest;
        Some(frame)
    })
}
