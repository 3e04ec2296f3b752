//! Packets as frames.

use std::cell::Cell;

use bytes::Bytes;
use posthaste_socket_proto::EncodeError;
use posthaste_websocket_proto::{FrameStart, Opcode, append_frame};

/// A buffer up to this size is kept for the next packet.
const KEEP: usize = 64 * 1024;

thread_local! {
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Appends a packet as WebSocket frames: its text behind the Engine.IO message digit, then its attachments. `write` writes the
/// text; when it fails, `out` is as it was.
pub(crate) fn append_packet(
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<Vec<Bytes>, EncodeError>,
) -> Result<(), EncodeError> {
    let start = FrameStart::begin(out, Opcode::Text);
    out.push(b'4');
    match write(out) {
        Ok(attachments) => {
            start.finish(out);
            attachments.iter().for_each(|data| append_frame(out, Opcode::Binary, data));
            Ok(())
        }
        Err(error) => {
            start.abandon(out);
            Err(error)
        }
    }
}

/// Encodes a packet into this thread's scratch buffer and hands the frames to `send`.
///
/// Encoding runs the application's `Serialize`, which may send something itself: it then finds an empty buffer.
pub(crate) fn with_packet<R>(
    write: impl FnOnce(&mut Vec<u8>) -> Result<Vec<Bytes>, EncodeError>,
    send: impl FnOnce(&[u8]) -> R,
) -> Result<R, EncodeError> {
    let mut buffer = SCRATCH.take();
    buffer.clear();
    let sent = append_packet(&mut buffer, write).map(|()| send(&buffer));
    if buffer.capacity() <= KEEP {
        SCRATCH.set(buffer);
    }
    sent
}

/// Encodes a packet for whoever keeps its frames, or sends them from another thread.
pub(crate) fn packet_frames(
    write: impl FnOnce(&mut Vec<u8>) -> Result<Vec<Bytes>, EncodeError>,
) -> Result<Bytes, EncodeError> {
    with_packet(write, Bytes::copy_from_slice)
}

/// A packet that cannot fail to encode.
pub(crate) fn with_plain_packet<R>(write: impl FnOnce(&mut Vec<u8>), send: impl FnOnce(&[u8]) -> R) -> R {
    let sent = with_packet(
        |out| {
            write(out);
            Ok(Vec::new())
        },
        send,
    );
    sent.expect("invariant: writing text into memory does not fail")
}
