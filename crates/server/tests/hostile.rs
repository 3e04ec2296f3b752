//! What attackers send: bounded memory, the others untouched, the process alive.
//!
//! Raw sockets on purpose: no client library would send this.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use posthaste::{Answer, Data, Server};

const PATIENCE: Duration = Duration::from_secs(20);

fn start() -> (Server, posthaste::Listener) {
    let io = Server::builder().workers(2).build().expect("a server");
    io.on("echo", async |Data(value): Data<u64>| Answer(value));
    let listener = io.listen(([127, 0, 0, 1], 0).into()).expect("a free port");
    (io, listener)
}

fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).expect("it accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.set_nodelay(true).expect("an option");
    stream
}

const UPGRADE: &str = "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\n\
                       upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";

/// A masked client frame (with a mask of zeros, which is legal).
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        len @ 0..126 => frame.push(0x80 | u8::try_from(len).expect("it is small")),
        len => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&u16::try_from(len).expect("it is below 64 kB").to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

/// Reads until `wanted` came.
fn read_until(stream: &mut TcpStream, wanted: &str) -> String {
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    while !String::from_utf8_lossy(&seen).contains(wanted) {
        let count = stream.read(&mut buffer).expect("bytes in time");
        assert!(count > 0, "ended before {wanted:?}: {:?}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&buffer[..count]);
    }
    String::from_utf8_lossy(&seen).into_owned()
}

/// A WebSocket that has joined the main namespace.
fn joined(addr: SocketAddr) -> TcpStream {
    let mut stream = connect(addr);
    stream.write_all(UPGRADE.as_bytes()).expect("written");
    read_until(&mut stream, "maxPayload");
    stream.write_all(&frame(0x81, b"40")).expect("written");
    read_until(&mut stream, "40{\"sid\"");
    stream
}

/// That the server still answers somebody else, soon.
fn answers(addr: SocketAddr) {
    let begin = Instant::now();
    let mut witness = joined(addr);
    witness.write_all(&frame(0x81, br#"420["echo",7]"#)).expect("written");
    read_until(&mut witness, "430[7]");
    assert!(begin.elapsed() < Duration::from_secs(10), "answered after {:?}", begin.elapsed());
}

/// Waits until the server holds nothing.
fn comes_to_rest(io: &Server) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let until = Instant::now() + PATIENCE;
    loop {
        let stats = runtime.block_on(io.stats());
        if stats == posthaste::Stats::default() {
            return;
        }
        assert!(Instant::now() < until, "still held: {stats:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).expect("a number") * 4096
}

/// Hangs up with a reset instead of a goodbye.
fn reset(stream: TcpStream) {
    let socket = socket2::Socket::from(stream);
    socket.set_linger(Some(Duration::ZERO)).expect("an option");
}

#[test]
fn sec_06_a_reset_at_any_byte_of_an_opening_leaves_nothing_behind() {
    let (io, listener) = start();
    let addr = listener.local_addr();
    let polling = "GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nhost: x\r\n\r\n";
    let first_frames = [UPGRADE.as_bytes(), &frame(0x81, b"40"), &frame(0x81, br#"420["echo",7]"#)].concat();
    for bytes in [polling.as_bytes(), &first_frames] {
        for count in 0..=bytes.len() {
            let mut stream = connect(addr);
            stream.write_all(&bytes[..count]).expect("written");
            reset(stream);
        }
    }
    answers(addr);
    // A polling handshake whose answer was never read is a session until its heartbeat ends it: one at most.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let until = Instant::now() + PATIENCE;
    while runtime.block_on(io.stats()).sockets > 0 {
        assert!(Instant::now() < until, "sockets are left");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(runtime.block_on(io.stats()).connections <= 1);
}

#[test]
fn sec_04_an_endless_post_is_refused_at_the_bound_and_held_no_further() {
    let (_io, listener) = start();
    let addr = listener.local_addr();
    let mut stream = connect(addr);
    stream.write_all(b"GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nhost: x\r\n\r\n").expect("written");
    let open = read_until(&mut stream, "maxPayload");
    let sid = open.split("\"sid\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a sid").to_owned();
    let before = resident_bytes();
    let mut post = connect(addr);
    let head = format!(
        "POST /socket.io/?EIO=4&transport=polling&sid={sid} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    post.write_all(head.as_bytes()).expect("written");
    let chunk = [b"10000\r\n", &[b'4'; 65_536][..], b"\r\n"].concat();
    let mut sent = 0usize;
    // Up to 64 MB, unless it hangs up first, as it should.
    while sent < 64 << 20 && post.write_all(&chunk).is_ok() {
        sent += chunk.len();
    }
    assert!(sent < 32 << 20, "{sent} bytes were taken");
    assert!(resident_bytes() < before + (48 << 20), "memory grew by more than a few times the bound");
    answers(addr);
}

#[test]
fn sec_22_a_million_tiny_fragments_end_at_a_bound() {
    let (io, listener) = start();
    let addr = listener.local_addr();
    // Empty ones never reach the bound of a message's bytes.
    for fragment in [&b"x"[..], b""] {
        let before = resident_bytes();
        let mut stream = joined(addr);
        let fragments = frame(0x00, fragment).repeat(1_000);
        let mut sent = 0;
        let mut ended = stream.write_all(&frame(0x01, b"4")).is_err();
        while !ended && sent < 1_000_000 {
            ended = stream.write_all(&fragments).is_err();
            sent += 1_000;
        }
        // The close frame says what was wrong, if it was not lost with the reset.
        assert!(ended || read_to_end(&mut stream), "a million fragments were taken");
        assert!(resident_bytes() < before + (48 << 20));
        answers(addr);
        drop(stream);
    }
    comes_to_rest(&io);
}

/// Whether the peer ended the stream.
fn read_to_end(stream: &mut TcpStream) -> bool {
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

#[test]
fn a_flood_of_tiny_packets_delays_nobody_else() {
    let (io, listener) = start();
    let addr = listener.local_addr();
    let flood = frame(0x81, br#"42["nobody"]"#).repeat(4_000);
    let flooders: Vec<_> = (0..2)
        .map(|_| {
            let flood = flood.clone();
            std::thread::spawn(move || {
                let mut stream = joined(addr);
                let until = Instant::now() + Duration::from_secs(2);
                while Instant::now() < until {
                    stream.write_all(&flood).expect("it is read");
                }
            })
        })
        .collect();
    for _ in 0..20 {
        answers(addr);
    }
    flooders.into_iter().for_each(|flooder| flooder.join().expect("the flood was read to its end"));
    comes_to_rest(&io);
}

#[test]
fn a_value_nested_a_hundred_thousand_deep_disturbs_nobody() {
    let (_io, listener) = start();
    let addr = listener.local_addr();
    let deep = format!("42[\"echo\",{}{}]", "[".repeat(100_000), "]".repeat(100_000));
    let mut stream = joined(addr);
    for piece in deep.as_bytes().chunks(60_000).enumerate().map(|(index, piece)| (index, piece.to_vec())) {
        let last = (piece.0 + 1) * 60_000 >= deep.len();
        let opcode = if piece.0 == 0 { 0x01 } else { 0x00 };
        stream.write_all(&frame(opcode | if last { 0x80 } else { 0 }, &piece.1)).expect("written");
    }
    // It is no number: the event is not handled, and the socket goes on.
    stream.write_all(&frame(0x81, br#"421["echo",8]"#)).expect("written");
    read_until(&mut stream, "431[8]");
    answers(addr);
}
