//! Packets as frames.

use std::cell::Cell;

use bytes::Bytes;
use posthaste_socket_proto::EncodeError;
use posthaste_websocket_proto::{Opcode, append_frame, server_header};

/// A buffer up to this size is kept for the next packet.
const KEEP: usize = 64 * 1024;
/// The longest header of a frame.
const HEADER_ROOM: usize = 10;

thread_local! {
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Encodes a packet as WebSocket frames into this thread's scratch buffer and hands them to `send`: its text behind the Engine.IO message
/// digit, which `write` writes, then its attachments.
///
/// Encoding runs the application's `Serialize`, which may send something itself: it then finds an empty buffer.
pub(crate) fn with_packet<R>(
    write: impl FnOnce(&mut Vec<u8>) -> Result<Vec<Bytes>, EncodeError>,
    send: impl FnOnce(&[u8]) -> R,
) -> Result<R, EncodeError> {
    // A thread that ends may drop what sends.
    let mut buffer = SCRATCH.try_with(Cell::take).unwrap_or_default();
    buffer.clear();
    // The header is written when its length is known, right before the text.
    buffer.extend_from_slice(&[0; HEADER_ROOM]);
    buffer.push(b'4');
    let sent = write(&mut buffer).map(|attachments| {
        let header = server_header(Opcode::Text, true, buffer.len() - HEADER_ROOM);
        let start = HEADER_ROOM - header.len();
        buffer[start..HEADER_ROOM].copy_from_slice(&header);
        attachments.iter().for_each(|data| append_frame(&mut buffer, Opcode::Binary, data));
        send(&buffer[start..])
    });
    if buffer.capacity() <= KEEP {
        let _ = SCRATCH.try_with(|scratch| scratch.set(buffer));
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
