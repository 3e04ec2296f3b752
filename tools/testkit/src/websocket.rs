//! The client side of RFC 6455, byte by byte.

use std::io;
use std::net::SocketAddr;

use crate::http::{Http, Request, Response};
use crate::wire::Wire;

/// The key of RFC 6455 §1.3 and the answer it must get: the handshake needs no other.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// One frame, in either direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Whether it ends its message.
    pub fin: bool,
    /// The three reserved bits, as a number up to 7.
    pub reserved: u8,
    /// 0 continuation, 1 text, 2 binary, 8 close, 9 ping, 10 pong.
    pub opcode: u8,
    /// The payload, unmasked.
    pub payload: Vec<u8>,
}

impl Frame {
    /// A whole message, or a control frame.
    #[must_use]
    pub fn new(opcode: u8, payload: impl Into<Vec<u8>>) -> Self {
        Self { fin: true, reserved: 0, opcode, payload: payload.into() }
    }

    /// A text message.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self::new(1, text)
    }

    /// A close frame with a code.
    #[must_use]
    pub fn close(code: u16) -> Self {
        Self::new(8, code.to_be_bytes())
    }

    /// The same, but not the last of its message.
    #[must_use]
    pub const fn unfinished(mut self) -> Self {
        self.fin = false;
        self
    }

    /// The code of a close frame; `None` if it has none, or is no close frame.
    #[must_use]
    pub fn close_code(&self) -> Option<u16> {
        let code = self.payload.first_chunk::<2>().filter(|_| self.opcode == 8)?;
        Some(u16::from_be_bytes(*code))
    }
}

/// The bytes of a frame, masked if a mask is given, with the shortest header.
#[must_use]
pub fn encode_frame(frame: &Frame, mask: Option<[u8; 4]>) -> Vec<u8> {
    let mut bytes = vec![u8::from(frame.fin) << 7 | frame.reserved << 4 | frame.opcode];
    let masked = u8::from(mask.is_some()) << 7;
    let length = frame.payload.len();
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ ..=125), _) => bytes.push(masked | short),
        (_, Ok(medium)) => {
            bytes.push(masked | 126);
            bytes.extend(medium.to_be_bytes());
        }
        _ => {
            bytes.push(masked | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend(mask.iter().flatten());
    let mask = mask.unwrap_or_default();
    bytes.extend(frame.payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// The request that asks for a WebSocket at `target`.
#[must_use]
pub fn upgrade_request(target: &str) -> Request {
    Request::get(target)
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", KEY)
}

/// A WebSocket, as its client.
#[derive(Debug)]
pub struct WebSocket(Wire);

impl WebSocket {
    /// Connects to `addr` and asks for a WebSocket at `target`.
    ///
    /// # Panics
    /// When the handshake fails.
    pub async fn connect(addr: SocketAddr, target: &str) -> Self {
        Self::on(Wire::connect(addr).await, &upgrade_request(target)).await
    }

    /// Sends `request` on `wire` and goes on as a WebSocket.
    ///
    /// # Panics
    /// When the handshake fails.
    pub async fn on(wire: Wire, request: &Request) -> Self {
        match Self::handshake(wire, request).await {
            Ok(Ok(socket)) => socket,
            Ok(Err(refusal)) => panic!("the upgrade was refused: {refusal:?}"),
            Err(error) => panic!("the upgrade failed: {error}"),
        }
    }

    /// Sends `request` on `wire`; returns the WebSocket, or the answer that refused it.
    ///
    /// # Errors
    /// When the connection ends before the answer does.
    ///
    /// # Panics
    /// When a 101 has the wrong accept key.
    pub async fn handshake(wire: Wire, request: &Request) -> io::Result<Result<Self, Response>> {
        let mut http = Http::new(wire);
        let response = http.send(request).await?;
        if response.status != 101 {
            return Ok(Err(response));
        }
        assert_eq!(response.header("sec-websocket-accept"), Some(ACCEPT), "the accept key of RFC 6455 §1.3");
        Ok(Ok(Self(http.into_wire())))
    }

    /// A connection on which a handshake was done already: by somebody who wanted to see its answer.
    #[must_use]
    pub const fn of(wire: Wire) -> Self {
        Self(wire)
    }

    /// The connection below.
    pub const fn wire(&mut self) -> &mut Wire {
        &mut self.0
    }

    /// Sends a frame, masked.
    ///
    /// # Errors
    /// When the peer is gone, or does not read for [`PATIENCE`](crate::PATIENCE).
    pub async fn send(&mut self, frame: &Frame) -> io::Result<()> {
        self.0.write(&encode_frame(frame, Some([0x37, 0xfa, 0x21, 0x3d]))).await
    }

    /// Sends a text message in one frame.
    ///
    /// # Errors
    /// As [`WebSocket::send`].
    pub async fn send_text(&mut self, text: &str) -> io::Result<()> {
        self.send(&Frame::text(text)).await
    }

    /// The next frame, control frames included.
    ///
    /// # Errors
    /// When the connection ended, nothing comes, or the server masks.
    pub async fn frame(&mut self) -> io::Result<Frame> {
        let head = self.0.take(2).await?;
        if head[1] & 0x80 != 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a server must not mask"));
        }
        let length = match head[1] {
            126 => self.0.take(2).await?.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)),
            127 => self.0.take(8).await?.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)),
            short => usize::from(short),
        };
        let payload = self.0.take(length).await?;
        Ok(Frame { fin: head[0] & 0x80 != 0, reserved: head[0] >> 4 & 7, opcode: head[0] & 0xf, payload })
    }

    /// The next frame, which must be a whole text message.
    ///
    /// # Panics
    /// When it is something else.
    pub async fn text(&mut self) -> String {
        match self.frame().await {
            Ok(Frame { fin: true, reserved: 0, opcode: 1, payload }) => {
                String::from_utf8(payload).expect("a text frame holds text")
            }
            other => panic!("a text message was to come, not {other:?}"),
        }
    }

    /// Reads up to the end of the connection, then ends it too. Returns the close frame, if there was one.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] when the server does not close.
    pub async fn closed(&mut self) -> io::Result<Option<Frame>> {
        let mut close = None;
        loop {
            match self.frame().await {
                Ok(frame) if frame.opcode == 8 => close = Some(frame),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::TimedOut => return Err(error),
                Err(_) => {
                    // A server waits for this; one that is gone altogether does not.
                    let _ = self.0.finish().await;
                    return Ok(close);
                }
            }
        }
    }

    /// Closes with a reset; see [`Wire::reset`].
    pub fn reset(self) {
        self.0.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_rfc_6455() {
        let mask = Some([0x37, 0xfa, 0x21, 0x3d]);
        assert_eq!(encode_frame(&Frame::text("Hello"), None), b"\x81\x05Hello");
        assert_eq!(encode_frame(&Frame::text("Hello"), mask), b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58");
        assert_eq!(encode_frame(&Frame::text("Hel").unfinished(), None), b"\x01\x03Hel");
        assert_eq!(encode_frame(&Frame::new(2, [0; 256]), None)[..4], [0x82, 126, 1, 0]);
        assert_eq!(encode_frame(&Frame::new(2, vec![0; 65536]), None)[..10], [0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
        assert_eq!(Frame::close(1009).close_code(), Some(1009));
    }
}
