//! Messages of an application, as the frames that connections are sent.

use posthaste_engine_proto::PacketType;
use posthaste_websocket_proto::{FrameStart, Opcode, append_frame};

use crate::worker::{ConnectionId, Worker};

impl Worker {
    /// Sends a text message to one connection; does nothing if it is gone. Returns whether it was there.
    ///
    /// An application that sends the same to many encodes it once instead, as [`Frames`](crate::Frames).
    pub fn send_text(&self, id: ConnectionId, text: &str) -> bool {
        let mut frames = Vec::with_capacity(text.len() + FRAME_AND_PACKET_BYTES);
        let start = FrameStart::begin(&mut frames, Opcode::Text);
        frames.push(PacketType::Message as u8);
        frames.extend_from_slice(text.as_bytes());
        start.finish(&mut frames);
        self.send(id, &frames, false)
    }

    /// Sends a binary message to one connection; does nothing if it is gone. Returns whether it was there.
    pub fn send_binary(&self, id: ConnectionId, data: &[u8]) -> bool {
        let mut frames = Vec::with_capacity(data.len() + FRAME_AND_PACKET_BYTES);
        append_frame(&mut frames, Opcode::Binary, data);
        self.send(id, &frames, false)
    }
}

/// The longest header of a frame that is not masked, and the digit of the packet.
const FRAME_AND_PACKET_BYTES: usize = 10 + 1;
