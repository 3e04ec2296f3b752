//! A client that allocates nothing while it talks: what is counted beside it is the server's.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use posthaste_socket_proto::encode_msgpack;
use posthaste_testkit::{Frame, PATIENCE, encode_frame, upgrade_request};

/// The path of the server, and the query of a WebSocket without a session.
const WEBSOCKET: &str = "/socket.io/?EIO=4&transport=websocket";
/// Answers are read in pieces of this size, on the stack.
const PIECE: usize = 1024;
/// Any key masks; a server unmasks them all alike.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// The opcode of a binary frame.
const BINARY: u8 = 2;

/// A TCP connection that blocks: one side speaks, then the other.
///
/// What it sends and expects is made ready before, so talking costs two system calls and no memory. It stands in the test's
/// own thread, without a runtime.
#[derive(Debug)]
pub struct Lockstep {
    stream: TcpStream,
    pace: Duration,
}

impl Lockstep {
    /// Connects to `addr`, and says nothing. It rests for `pace` whenever it is about to: a server that has gone to sleep
    /// meanwhile takes the same turns each time.
    ///
    /// # Panics
    /// When nobody accepts there.
    #[must_use]
    pub fn connect(addr: SocketAddr, pace: Duration) -> Self {
        std::thread::sleep(pace);
        let stream = TcpStream::connect(addr).unwrap_or_else(|error| panic!("connecting to {addr}: {error}"));
        stream.set_nodelay(true).expect("TCP_NODELAY");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time to wait");
        stream.set_write_timeout(Some(PATIENCE)).expect("a time to wait");
        Self { stream, pace }
    }

    /// Connects over a WebSocket and joins the main namespace. `handshake` is [`Lockstep::handshake`]'s.
    ///
    /// # Panics
    /// When it is refused.
    #[must_use]
    pub fn websocket(addr: SocketAddr, pace: Duration, handshake: &Handshake) -> Self {
        let mut client = Self::connect(addr, pace);
        client.send(&handshake.upgrade);
        // The head, and the frame of the open packet, whose length the head does not tell.
        client.expect_until(b"\r\n\r\n");
        client.expect_frame();
        client.send(&handshake.join);
        client.expect_frame();
        client
    }

    /// What a client says first, made ready once.
    #[must_use]
    pub fn handshake() -> Handshake {
        Handshake { upgrade: upgrade_request(WEBSOCKET).encode(), join: masked_text("0") }
    }

    /// The same of a client that offers this extension.
    #[must_use]
    pub fn offering(extension: &str) -> Handshake {
        let upgrade = upgrade_request(WEBSOCKET).header("Sec-WebSocket-Extensions", extension).encode();
        Handshake { upgrade, ..Self::handshake() }
    }

    /// The same of a client that speaks MessagePack.
    #[must_use]
    pub fn packed_handshake() -> Handshake {
        Handshake { join: masked_packed("0"), ..Self::handshake() }
    }

    /// Sends bytes.
    ///
    /// # Panics
    /// When the server is gone, or does not read.
    pub fn send(&mut self, bytes: &[u8]) {
        std::thread::sleep(self.pace);
        self.stream.write_all(bytes).unwrap_or_else(|error| panic!("sending: {error}"));
    }

    /// Expects exactly these bytes next.
    ///
    /// # Panics
    /// When others come, or none.
    pub fn expect(&mut self, bytes: &[u8]) {
        let mut found = [0; PIECE];
        for piece in bytes.chunks(PIECE) {
            let found = &mut found[..piece.len()];
            self.read(found);
            assert!(found == piece, "{} came, not {}", Escaped(found), Escaped(piece));
        }
    }

    /// Takes everything up to and including `end`.
    ///
    /// # Panics
    /// When it does not come.
    pub fn expect_until(&mut self, end: &[u8]) {
        let mut met = 0;
        while met < end.len() {
            let mut byte = [0];
            self.read(&mut byte);
            // Ends that begin as they go on, as in `aab`, are met by none of the protocols.
            met = if byte[0] == end[met] { met + 1 } else { usize::from(byte[0] == end[0]) };
        }
    }

    /// Takes one frame of at most 64 kB, whatever it says.
    ///
    /// # Panics
    /// When none comes, or a longer one.
    pub fn expect_frame(&mut self) {
        let mut head = [0; 2];
        self.read(&mut head);
        let mut left = match head[1] {
            length @ ..=125 => usize::from(length),
            126 => {
                let mut length = [0; 2];
                self.read(&mut length);
                usize::from(u16::from_be_bytes(length))
            }
            _ => panic!("a short frame was to come"),
        };
        let mut piece = [0; PIECE];
        while left > 0 {
            let taken = left.min(PIECE);
            self.read(&mut piece[..taken]);
            left -= taken;
        }
    }

    /// Expects the answer to an HTTP request, with this body.
    ///
    /// # Panics
    /// When another one comes, or none.
    pub fn expect_answer(&mut self, body: &[u8]) {
        self.expect(b"HTTP/1.1 200 OK\r\n");
        self.expect_until(b"\r\n\r\n");
        self.expect(body);
    }

    /// The body of the answer to an HTTP request. This one allocates.
    ///
    /// # Panics
    /// When none comes, or its length is not told.
    #[must_use]
    pub fn answer(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.read(&mut byte);
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).expect("a head is ASCII").to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length = length.and_then(|length| length.trim().parse().ok()).expect("an answer tells its length");
        let mut body = vec![0; length];
        self.read(&mut body);
        String::from_utf8(body).expect("a payload without attachments is text")
    }

    /// Closes the WebSocket and waits until the server has closed the connection.
    ///
    /// # Panics
    /// When it does not.
    pub fn close(mut self) {
        self.send(&CLOSE);
        let mut rest = [0; PIECE];
        loop {
            match self.stream.read(&mut rest) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return,
                Err(error) => panic!("the connection does not end: {error}"),
            }
        }
    }

    fn read(&mut self, bytes: &mut [u8]) {
        self.stream.read_exact(bytes).unwrap_or_else(|error| panic!("waiting for {} bytes: {error}", bytes.len()));
    }
}

/// What a client says first; see [`Lockstep::handshake`].
#[derive(Clone, Debug)]
pub struct Handshake {
    upgrade: Vec<u8>,
    join: Vec<u8>,
}

/// A close frame with code 1000, masked with zeros.
const CLOSE: [u8; 8] = [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8];

/// A Socket.IO packet in the frame that a client sends: `2["hi"]` is an event.
#[must_use]
pub fn masked_text(packet: &str) -> Vec<u8> {
    masked_frame(&format!("4{packet}"))
}

/// A Socket.IO packet in the frame that a server sends.
#[must_use]
pub fn plain_text(packet: &str) -> Vec<u8> {
    plain_frame(&format!("4{packet}"))
}

/// As [`masked_text`], in MessagePack: `packet` is still JSON, without attachments.
pub(crate) fn masked_packed(packet: &str) -> Vec<u8> {
    encode_frame(&Frame::new(BINARY, packed(packet)), Some(MASK))
}

/// As [`plain_text`], in MessagePack.
pub(crate) fn plain_packed(packet: &str) -> Vec<u8> {
    encode_frame(&Frame::new(BINARY, packed(packet)), None)
}

fn packed(packet: &str) -> Vec<u8> {
    let mut message = Vec::new();
    encode_msgpack::<&[u8]>(&mut message, packet, &[]).expect("a packet of ours");
    message
}

/// An Engine.IO packet in the frame that a client sends.
pub(crate) fn masked_frame(packet: &str) -> Vec<u8> {
    encode_frame(&Frame::text(packet), Some(MASK))
}

/// An Engine.IO packet in the frame that a server sends.
pub(crate) fn plain_frame(packet: &str) -> Vec<u8> {
    encode_frame(&Frame::text(packet), None)
}

/// Bytes for a reader.
struct Escaped<'a>(&'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}
