//! Compressing what is sent.

use std::fmt;

use flate2::{Compress, Compression, FlushCompress};

use crate::frame::{COMPRESSED, FrameStart, Opcode};

/// What a compressor ends a flush with, and the wire leaves out (§7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// A compressor: of one connection that keeps its context, or of all that do not.
///
/// It holds 250 to 380 kB, whatever it compresses.
pub struct Deflater {
    raw: Compress,
    keeps_context: bool,
}

impl Deflater {
    /// A compressor that forgets each message: for any number of connections. zlib's `level` is 1 to 9, the window 2 to the power of
    /// `window_bits` bytes, 9 to 15; both are brought into their range.
    #[must_use]
    pub fn new(level: u8, window_bits: u8) -> Self {
        let level = Compression::new(u32::from(level.clamp(1, 9)));
        Self { raw: Compress::new_with_window_bits(level, false, window_bits.clamp(9, 15)), keeps_context: false }
    }

    /// A compressor whose messages refer to those before them: for one connection.
    pub(crate) fn keeping(level: u8, window_bits: u8) -> Self {
        Self { keeps_context: true, ..Self::new(level, window_bits) }
    }

    /// Appends the compressed form of a message's `payload` to `out`.
    fn deflate(&mut self, payload: &[u8], out: &mut Vec<u8>) {
        if !self.keeps_context {
            self.raw.reset();
        }
        let start = out.len();
        let mut rest = payload;
        // What cannot be compressed takes a few bytes more than it has, so this is nearly always enough.
        let mut room = payload.len() + payload.len() / 8 + 64;
        loop {
            out.reserve(room);
            let before = self.raw.total_in();
            // Refused only when there is nothing left to flush.
            let flushed = self.raw.compress_vec(rest, out, FlushCompress::Sync);
            rest = &rest[usize::try_from(self.raw.total_in() - before).unwrap_or(rest.len()).min(rest.len())..];
            if flushed.is_err() || rest.is_empty() && out.len() < out.capacity() {
                break;
            }
            room = 256;
        }
        if out.len() >= start + TAIL.len() && out.ends_with(&TAIL) {
            out.truncate(out.len() - TAIL.len());
        }
        if out.len() == start {
            // A message of nothing, behind another flush (§7.2.3.6).
            out.push(0);
        }
    }
}

impl fmt::Debug for Deflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deflater").field("keeps_context", &self.keeps_context).finish_non_exhaustive()
    }
}

/// Appends a whole (`fin`) message as a compressed, unmasked frame to `out`; `opcode` is [`Opcode::Text`] or [`Opcode::Binary`].
///
/// Returns false, and leaves `out` as it was, if it would have become no shorter, and `deflater` keeps no context: then it is
/// better sent [as it is](crate::append_frame). A compressor that keeps context has it noted, so its message has to be sent.
///
/// # Panics
/// For a control frame: those are never compressed (§6.1).
///
/// Source: RFC 7692 §7.2.1; the example is that of §7.2.3.1, as another compressor writes it.
///
/// ```
/// use posthaste_websocket_proto::{Deflater, Opcode, append_deflated};
///
/// let mut outbox = Vec::new();
/// assert!(append_deflated(&mut outbox, Opcode::Text, b"HelloHelloHelloHello", &mut Deflater::new(6, 15)));
/// assert_eq!(outbox[0], 0xc1);
/// assert!(outbox.len() < 20);
/// ```
pub fn append_deflated(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8], deflater: &mut Deflater) -> bool {
    assert!(!opcode.is_control(), "invariant: control frames are never compressed");
    let start = out.len();
    let frame = FrameStart::begin(out, opcode);
    let body = out.len();
    deflater.deflate(payload, out);
    if !deflater.keeps_context && out.len() - body >= payload.len() {
        frame.abandon(out);
        return false;
    }
    frame.finish(out);
    out[start] |= COMPRESSED;
    true
}
