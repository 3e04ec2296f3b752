//! Frame headers, read and written.
//!
//! ```text
//!   FIN RSV×3 opcode(4) │ MASK length(7) │ length(16 | 64)?  │ mask(32)? │ payload
//!                       │                │ if 126 │ if 127   │ if MASK   │
//! ```
//!
//! Reading serves both directions: masked frames of clients, and our own unmasked ones where someone has
//! to find the frames in bytes that are framed already. Writing is the server's, never masked, but for
//! [`append_masked_frame`], with which a client speaks.

use std::ops::Deref;

use crate::{ProtocolError, unmask};

/// Longest payload of a ping, pong or close frame (§5.5).
pub const MAX_CONTROL_PAYLOAD_BYTES: usize = 125;

/// Seven-bit length that says the length is in the next two bytes.
const LENGTH_IN_16_BITS: u8 = 126;
/// Seven-bit length that says the length is in the next eight bytes.
const LENGTH_IN_64_BITS: u8 = 127;

const FIN: u8 = 0x80;
/// RSV1: with permessage-deflate, the message is compressed (RFC 7692 §6).
pub(crate) const COMPRESSED: u8 = 0x40;
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;

/// What a frame is.
///
/// Source: RFC 6455 §11.8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Opcode {
    /// The next part of the message begun before.
    Continuation = 0,
    /// A text message or its first part.
    Text = 1,
    /// A binary message or its first part.
    Binary = 2,
    /// The sender has nothing more to say.
    Close = 8,
    /// A question for a pong with the same payload.
    Ping = 9,
    /// The answer to a ping, or an unasked sign of life.
    Pong = 10,
}

impl Opcode {
    /// Whether frames of this kind may stand between the fragments of a message, and are never fragmented.
    pub const fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }

    const fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }
}

/// The header of one frame, of either direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Whether this frame ends its message.
    pub fin: bool,
    /// What the frame is.
    pub opcode: Opcode,
    /// The key the payload is masked with; clients always send one and servers never.
    pub masked: Option<[u8; 4]>,
    /// Bytes of payload that follow the header, at most 2⁶³ − 1. Declared by the peer: allocate by what has come.
    pub payload_len: u64,
    /// Bytes of the header itself, 2 to 14.
    pub header_len: usize,
}

impl FrameHeader {
    /// Reads the header at the start of `bytes`; `None` while it is incomplete.
    ///
    /// What follows the header is not looked at. Whether a mask has to be there depends on the direction and
    /// is left to the caller.
    ///
    /// # Errors
    /// From the first byte on: [`ProtocolError::ReservedBits`], [`ProtocolError::UnknownOpcode`],
    /// [`ProtocolError::FragmentedControl`]. From the second: [`ProtocolError::LongControl`]. Of a complete
    /// header: [`ProtocolError::LengthOutOfRange`], [`ProtocolError::LengthNotMinimal`].
    ///
    /// Source: RFC 6455 §5.2.
    ///
    /// ```
    /// use posthaste_websocket_proto::{FrameHeader, Opcode, append_frame};
    ///
    /// // The frames in a buffer of ours, one after the other.
    /// let mut outbox = Vec::new();
    /// append_frame(&mut outbox, Opcode::Text, b"one");
    /// append_frame(&mut outbox, Opcode::Text, b"two");
    /// let mut rest = &outbox[..];
    /// let mut payloads = Vec::new();
    /// while let Some(header) = FrameHeader::parse(rest)? {
    ///     let (frame, next) = rest.split_at(header.frame_len() as usize);
    ///     payloads.push(&frame[header.header_len..]);
    ///     rest = next;
    /// }
    /// assert_eq!(payloads, [b"one", b"two"]);
    /// # Ok::<(), posthaste_websocket_proto::ProtocolError>(())
    /// ```
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, ProtocolError> {
        let Some(&first) = bytes.first() else { return Ok(None) };
        if first & RESERVED != 0 {
            return Err(ProtocolError::ReservedBits);
        }
        let fin = first & FIN != 0;
        let opcode = Opcode::from_bits(first & 0x0f).ok_or(ProtocolError::UnknownOpcode)?;
        if opcode.is_control() && !fin {
            return Err(ProtocolError::FragmentedControl);
        }

        let Some(&second) = bytes.get(1) else { return Ok(None) };
        let short_len = second & !MASKED;
        if opcode.is_control() && usize::from(short_len) > MAX_CONTROL_PAYLOAD_BYTES {
            return Err(ProtocolError::LongControl);
        }

        let header_len = header_len(second);
        let Some(rest) = bytes.get(2..header_len) else { return Ok(None) };
        let (payload_len, key) = match (short_len, rest) {
            (LENGTH_IN_16_BITS, [a, b, key @ ..]) => {
                let len = u16::from_be_bytes([*a, *b]);
                if len < u16::from(LENGTH_IN_16_BITS) {
                    return Err(ProtocolError::LengthNotMinimal);
                }
                (u64::from(len), key)
            }
            (LENGTH_IN_64_BITS, [a, b, c, d, e, f, g, h, key @ ..]) => {
                let len = u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]);
                if len > i64::MAX as u64 {
                    return Err(ProtocolError::LengthOutOfRange);
                }
                if len <= u64::from(u16::MAX) {
                    return Err(ProtocolError::LengthNotMinimal);
                }
                (len, key)
            }
            (len, key) => (u64::from(len), key),
        };
        // What is left of the header is the key or nothing, as `header_len` counted it.
        let masked = key.try_into().ok();
        Ok(Some(Self { fin, opcode, masked, payload_len, header_len }))
    }

    /// Bytes of header and payload together.
    pub const fn frame_len(&self) -> u64 {
        // Cannot overflow: 2⁶³ − 1 and 14.
        self.payload_len + self.header_len as u64
    }
}

/// Bytes of the unmasked frame at the start of `run`, whatever its first byte says; `None` where it is not whole, as at the end.
///
/// For runs of a server's own frames, compressed ones among them: what [`FrameHeader::parse`] refuses is not looked for.
#[must_use]
pub fn whole_frame_len(run: &[u8]) -> Option<usize> {
    let len = match *run {
        [_, LENGTH_IN_16_BITS, a, b, ..] => 4 + usize::from(u16::from_be_bytes([a, b])),
        [_, LENGTH_IN_64_BITS, a, b, c, d, e, f, g, h, ..] => {
            usize::try_from(u64::from_be_bytes([a, b, c, d, e, f, g, h])).ok()?.checked_add(10)?
        }
        [_, len, ..] if len < LENGTH_IN_16_BITS => 2 + usize::from(len),
        _ => return None,
    };
    (len <= run.len()).then_some(len)
}

/// Length of a header, 2 to 14 bytes, which its second byte decides.
pub(crate) const fn header_len(second: u8) -> usize {
    let length = match second & !MASKED {
        LENGTH_IN_16_BITS => 2,
        LENGTH_IN_64_BITS => 8,
        _ => 0,
    };
    let key = if second & MASKED != 0 { 4 } else { 0 };
    2 + length + key
}

/// The encoded header of an unmasked frame, 2, 4 or 10 bytes; dereferences to them.
#[derive(Clone, Copy, Debug)]
pub struct ServerHeader {
    bytes: [u8; 10],
    len: u8,
}

impl Deref for ServerHeader {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// The header of a frame with `payload_len` bytes of payload, written as short as it can be.
///
/// # Panics
/// For a ping, pong or close that is not `fin` or longer than [`MAX_CONTROL_PAYLOAD_BYTES`]: no peer would take it.
///
/// Source: RFC 6455 §5.2.
///
/// ```
/// use posthaste_websocket_proto::{Opcode, server_header};
///
/// assert_eq!(*server_header(Opcode::Text, true, 5), [0x81, 5]);
/// assert_eq!(*server_header(Opcode::Binary, false, 256), [0x02, 126, 1, 0]);
/// ```
pub fn server_header(opcode: Opcode, fin: bool, payload_len: usize) -> ServerHeader {
    assert!(
        !opcode.is_control() || (fin && payload_len <= MAX_CONTROL_PAYLOAD_BYTES),
        "invariant: control frames are whole and carry at most 125 bytes"
    );
    let mut bytes = [0; 10];
    bytes[0] = opcode as u8 | if fin { FIN } else { 0 };
    let len = if payload_len < usize::from(LENGTH_IN_16_BITS) {
        bytes[1] = payload_len as u8;
        2
    } else if let Ok(short) = u16::try_from(payload_len) {
        bytes[1] = LENGTH_IN_16_BITS;
        bytes[2..4].copy_from_slice(&short.to_be_bytes());
        4
    } else {
        bytes[1] = LENGTH_IN_64_BITS;
        bytes[2..].copy_from_slice(&(payload_len as u64).to_be_bytes());
        10
    };
    ServerHeader { bytes, len }
}

/// Appends a whole (`fin`), unmasked frame to `out`.
///
/// # Panics
/// As [`server_header`], for a control frame with a payload too long.
///
/// ```
/// use posthaste_websocket_proto::{Opcode, append_frame};
///
/// let mut outbox = Vec::new();
/// append_frame(&mut outbox, Opcode::Text, b"Hello");
/// assert_eq!(outbox, b"\x81\x05Hello");
/// ```
pub fn append_frame(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    let header = server_header(opcode, true, payload.len());
    out.reserve(header.len() + payload.len());
    out.extend_from_slice(&header);
    out.extend_from_slice(payload);
}

/// Appends a whole (`fin`) frame of a client to `out`, masked with `key`.
///
/// The key should be fresh for each frame and not to be guessed by who chose the payload (§5.3); where it comes from
/// is the caller's to decide.
///
/// # Panics
/// As [`server_header`], for a control frame with a payload too long.
///
/// Source: RFC 6455 §5.3; the example is that of §5.7.
///
/// ```
/// use posthaste_websocket_proto::{Opcode, append_masked_frame};
///
/// let mut outbox = Vec::new();
/// append_masked_frame(&mut outbox, Opcode::Text, b"Hello", [0x37, 0xfa, 0x21, 0x3d]);
/// assert_eq!(outbox, [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]);
/// ```
pub fn append_masked_frame(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8], key: [u8; 4]) {
    let mut header = server_header(opcode, true, payload.len());
    header.bytes[1] |= MASKED;
    out.reserve(header.len() + key.len() + payload.len());
    out.extend_from_slice(&header);
    out.extend_from_slice(&key);
    let start = out.len();
    out.extend_from_slice(payload);
    unmask(&mut out[start..], key);
}

/// A frame whose payload is being written straight into its place, before its length is known.
///
/// [`begin`](Self::begin) leaves room for the shortest header; everything then appended to the same buffer is
/// payload, until [`finish`](Self::finish) writes the header. A payload of up to 125 bytes, the usual one,
/// stays where it was written; a longer one is moved by 2 or 8 bytes, so that frames in a buffer always touch.
///
/// Dropped instead of finished, it leaves an unfinished frame in the buffer: call
/// [`abandon`](Self::abandon) to take it back.
///
/// ```
/// use std::io::Write as _;
/// use posthaste_websocket_proto::{FrameStart, Opcode};
///
/// let mut outbox = Vec::new();
/// let frame = FrameStart::begin(&mut outbox, Opcode::Text);
/// write!(outbox, "{} + {}", 1, 2)?;
/// frame.finish(&mut outbox);
/// assert_eq!(outbox, b"\x81\x051 + 2");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "a frame that is neither finished nor abandoned corrupts the buffer"]
pub struct FrameStart {
    start: usize,
    opcode: Opcode,
}

impl FrameStart {
    /// The header of a payload below 126 bytes, which is what gets reserved.
    const RESERVED_BYTES: usize = 2;

    /// Begins a whole (`fin`) frame at the end of `out`.
    pub fn begin(out: &mut Vec<u8>, opcode: Opcode) -> Self {
        let start = out.len();
        out.extend_from_slice(&[0; Self::RESERVED_BYTES]);
        Self { start, opcode }
    }

    /// Ends the frame: what was appended to `out` since [`begin`](Self::begin) becomes its payload.
    ///
    /// # Panics
    /// If `out` is shorter now than `begin` left it, and as [`server_header`].
    pub fn finish(self, out: &mut Vec<u8>) {
        let payload_start = self.start + Self::RESERVED_BYTES;
        let payload_len = out
            .len()
            .checked_sub(payload_start)
            .expect("invariant: a buffer is not cut while a frame is written to it");
        let header = server_header(self.opcode, true, payload_len);
        let moved_by = header.len() - Self::RESERVED_BYTES;
        if moved_by > 0 {
            out.resize(out.len() + moved_by, 0);
            out.copy_within(payload_start..payload_start + payload_len, self.start + header.len());
        }
        out[self.start..self.start + header.len()].copy_from_slice(&header);
    }

    /// Takes the frame back: `out` ends where it ended before [`begin`](Self::begin).
    pub fn abandon(self, out: &mut Vec<u8>) {
        out.truncate(self.start);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lengths at which the form of a header changes, with the header of a final binary frame.
    const LENGTHS: [(usize, &[u8]); 8] = [
        (0, &[0x82, 0]),
        (1, &[0x82, 1]),
        (125, &[0x82, 125]),
        (126, &[0x82, 126, 0, 126]),
        (127, &[0x82, 126, 0, 127]),
        (65_535, &[0x82, 126, 0xff, 0xff]),
        (65_536, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        (70_000, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0x11, 0x70]),
    ];

    #[test]
    fn lengths_are_written_in_their_shortest_form() {
        for (len, expected) in LENGTHS {
            assert_eq!(*server_header(Opcode::Binary, true, len), *expected, "{len}");
        }
    }

    #[test]
    fn every_length_form_is_read_with_and_without_mask() {
        for (len, unmasked) in LENGTHS {
            let expected = FrameHeader {
                fin: true,
                opcode: Opcode::Binary,
                masked: None,
                payload_len: len as u64,
                header_len: unmasked.len(),
            };
            assert_eq!(FrameHeader::parse(unmasked), Ok(Some(expected)), "{len}");
            assert_eq!(expected.frame_len(), (unmasked.len() + len) as u64);

            let mut masked = unmasked.to_vec();
            masked[1] |= MASKED;
            masked.extend([1, 2, 3, 4]);
            let expected = FrameHeader { masked: Some([1, 2, 3, 4]), header_len: masked.len(), ..expected };
            assert_eq!(FrameHeader::parse(&masked), Ok(Some(expected)), "{len} masked");
            for cut in 0..masked.len() {
                assert_eq!(FrameHeader::parse(&masked[..cut]), Ok(None), "{len} cut at {cut}");
            }
        }
    }

    #[test]
    fn largest_length_is_63_bits() {
        let mut bytes = vec![0x82, 127, 0x7f];
        bytes.extend([0xff; 7]);
        let header = FrameHeader::parse(&bytes).unwrap().unwrap();
        assert_eq!(header.payload_len, i64::MAX as u64);
        assert_eq!(header.frame_len(), i64::MAX as u64 + 10);
    }

    #[test]
    fn first_byte_is_read_as_specified() {
        for byte in 0..=u8::MAX {
            let (fin, bits) = (byte & 0x80 != 0, byte & 0x0f);
            let expected = match (byte & 0x70, bits) {
                (1.., _) => Err(ProtocolError::ReservedBits),
                (0, 3..=7 | 11..) => Err(ProtocolError::UnknownOpcode),
                (0, 8..=10) if !fin => Err(ProtocolError::FragmentedControl),
                (0, _) => Ok((fin, bits)),
            };
            let read =
                FrameHeader::parse(&[byte, 0]).map(|header| header.map(|header| (header.fin, header.opcode as u8)));
            assert_eq!(read, expected.map(Some), "{byte:#04x}");
            // A wrong first byte is refused without waiting for a second.
            assert_eq!(FrameHeader::parse(&[byte]), expected.map(|_| None), "{byte:#04x}");
        }
    }

    #[test]
    fn frames_written_in_place_equal_frames_appended() {
        let (mut in_place, mut appended) = (Vec::new(), Vec::new());
        for (len, _) in LENGTHS {
            let payload: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
            let frame = FrameStart::begin(&mut in_place, Opcode::Binary);
            in_place.extend_from_slice(&payload);
            frame.finish(&mut in_place);
            append_frame(&mut appended, Opcode::Binary, &payload);
            assert!(in_place == appended, "{len}");
        }
    }

    #[test]
    fn masked_frames_are_what_the_decoder_of_a_server_reads() {
        use crate::{Decoded, Decoder, Event, Limits};
        for (len, _) in LENGTHS {
            let payload: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
            let mut out = b"before".to_vec();
            append_masked_frame(&mut out, Opcode::Binary, &payload, [9, 0, 255, 3]);
            assert!(len < 9 || !out.ends_with(&payload), "{len} is masked");
            let decoded = Decoder::new().decode(&mut out[6..], &Limits::default()).unwrap();
            let Decoded::Frame { event: Event::Binary(read), .. } = decoded else { panic!("{len}: {decoded:?}") };
            assert!(read == payload, "{len}");
        }
    }

    #[test]
    fn abandoned_frame_leaves_no_trace() {
        let mut out = b"before".to_vec();
        let frame = FrameStart::begin(&mut out, Opcode::Text);
        out.extend_from_slice(b"half a pay");
        frame.abandon(&mut out);
        assert_eq!(out, b"before");
    }

    #[test]
    #[should_panic = "control frames are whole and carry at most 125 bytes"]
    fn long_ping_is_never_written() {
        append_frame(&mut Vec::new(), Opcode::Ping, &[0; 126]);
    }

    #[test]
    #[should_panic = "control frames are whole and carry at most 125 bytes"]
    fn fragmented_close_is_never_written() {
        server_header(Opcode::Close, false, 0);
    }

    #[test]
    #[should_panic = "a buffer is not cut while a frame is written to it"]
    fn cutting_the_buffer_under_a_frame_is_noticed() {
        let mut out = Vec::new();
        let frame = FrameStart::begin(&mut out, Opcode::Text);
        out.clear();
        frame.finish(&mut out);
    }
}
