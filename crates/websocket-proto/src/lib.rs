//! The server side of RFC 6455 as values: bytes in, events out, frames appended to a buffer of yours. A client finds
//! its frames here too, in [`append_masked_frame`] and [`Decoder::decode_unmasked`].
//!
//! Nothing here reads a socket, a clock or a random source, and nothing here keeps a buffer of its own
//! except the parts of an unfinished fragmented message. Reading, writing, timeouts, the closing
//! handshake and the rate of pings belong to the caller.
//!
//! ```text
//!   request headers ──► check_upgrade ──► AcceptKey               the opening handshake
//!
//!   received bytes ───► Decoder::decode ──► Event                 one frame per call
//!     (unmasked where       │                 Text, Binary        borrowed, unless it came in fragments
//!      they lie)            │                 Ping, Pong, Close   borrowed
//!                           │                 Fragment            kept in the decoder, nothing to deliver
//!                           ▼
//!                     ProtocolError ──► close code and reason
//!                                                  │
//!   bytes to send ◄── append_frame, FrameStart, append_close      never masked, shortest header
//! ```
//!
//! A [`Decoder`] is 16 bytes and owns no heap memory between messages. The caller keeps what
//! [`Decoded::Incomplete`] leaves over and offers it again, at the same place of the stream, once more
//! bytes have come; until the frame is whole a call looks at its header and at nothing else.
//!
//! ```
//! use posthaste_websocket_proto::{Decoded, Decoder, Event, Limits, Opcode};
//! use posthaste_websocket_proto::{append_close, append_frame};
//!
//! // What a read of the socket gave: the masked "Hello" of RFC 6455 §5.7, then half a header.
//! let mut received = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58, 0x81];
//! let (mut decoder, limits) = (Decoder::new(), Limits::default());
//! let mut outbox = Vec::new();
//! let mut start = 0;
//! loop {
//!     match decoder.decode(&mut received[start..], &limits) {
//!         Ok(Decoded::Frame { consumed, event }) => {
//!             start += consumed;
//!             match event {
//!                 Event::Text(text) => append_frame(&mut outbox, Opcode::Text, text.as_bytes()),
//!                 Event::Ping(payload) => append_frame(&mut outbox, Opcode::Pong, payload),
//!                 Event::Close(close) => append_close(&mut outbox, close.map(|c| (c.code, c.reason))),
//!                 Event::Binary(_) | Event::Pong(_) | Event::Fragment => {}
//!             }
//!         }
//!         Ok(Decoded::Incomplete { .. } | Decoded::Finished) => break, // keep received[start..]
//!         Err(error) => {
//!             append_close(&mut outbox, Some((error.close_code(), error.reason())));
//!             break;
//!         }
//!     }
//! }
//! assert_eq!(outbox, b"\x81\x05Hello");
//! assert_eq!(received[start..], [0x81]);
//! ```
//!
//! One extension is implemented, compressed messages ([`DeflateTerms::accept`], [`PerMessageDeflate`]): a connection that agreed on it is
//! read by [`Decoder::with_deflate`], and no other extension may be accepted in the handshake answer.
//!
//! Source: RFC 6455, RFC 7692.

mod assembly;
mod close;
mod decoder;
mod deflate;
mod error;
mod frame;
mod handshake;
mod mask;
mod utf8;

pub use close::{CloseCode, CloseFrame, MAX_CLOSE_REASON_BYTES, append_close};
pub use decoder::{Decoded, Decoder, Event, Limits};
pub use deflate::{DeflateAnswer, DeflateTerms, Deflater, Inflater, PerMessageDeflate, append_deflated};
pub use error::ProtocolError;
pub use frame::{
    FrameHeader, FrameStart, MAX_CONTROL_PAYLOAD_BYTES, Opcode, ServerHeader, append_frame, append_masked_frame,
    server_header, whole_frame_len,
};
pub use handshake::{AcceptKey, SUPPORTED_VERSION, UpgradeError, accept_key, check_upgrade};
pub use mask::unmask;
