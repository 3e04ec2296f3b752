//! Compressed messages, against the examples of RFC 7692 and against another implementation of DEFLATE.

use flate2::{Compress, Compression, FlushCompress};
use posthaste_websocket_proto::{
    Decoded, Decoder, DeflateTerms, Deflater, Event, FrameHeader, Limits, Opcode, PerMessageDeflate, ProtocolError,
    append_deflated, append_frame,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::client::{BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, TEXT, close_payload, frame};
use crate::reader::{Reader, Received};

/// RSV1.
const COMPRESSED: u8 = 0x40;
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

const NO_CONTEXT: DeflateTerms = DeflateTerms {
    server_no_context_takeover: true,
    client_no_context_takeover: true,
    server_max_window_bits: 15,
    client_max_window_bits: 15,
};
const CONTEXT: DeflateTerms =
    DeflateTerms { server_no_context_takeover: false, client_no_context_takeover: false, ..NO_CONTEXT };

fn reader(terms: DeflateTerms, limits: Limits) -> Reader {
    Reader { decoder: Decoder::with_deflate(PerMessageDeflate::server(terms)), ..Reader::with_limits(limits) }
}

fn read(terms: DeflateTerms, bytes: &[u8]) -> (Vec<Received>, Option<ProtocolError>) {
    let mut reader = reader(terms, Limits::default());
    reader.read(bytes);
    (reader.events, reader.error)
}

/// A client's compressor.
struct Client(Compress);

impl Client {
    fn new(bits: u8) -> Self {
        Self(Compress::new_with_window_bits(Compression::new(6), false, bits))
    }

    fn compress(&mut self, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(payload.len() * 2 + 128);
        self.0.compress_vec(payload, &mut out, FlushCompress::Sync).expect("room for all of it");
        assert!(out.len() < out.capacity());
        match out.strip_suffix(&TAIL) {
            Some(rest) => rest.to_vec(),
            // Nothing behind another flush.
            None => vec![0],
        }
    }
}

#[test]
fn examples_of_section_7_2_3_are_read() {
    let hello = [Received::Text("Hello".into())];
    for compressed in [
        &b"\xf2\x48\xcd\xc9\xc9\x07\x00"[..],
        // No compression; a final block; two blocks.
        b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00",
        b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00",
        b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00",
        // Final blocks, and another behind them.
        b"\x03\x00\x03\x00\xf3\x48\xcd\xc9\xc9\x07\x00\x03\x00\x00",
    ] {
        for terms in [NO_CONTEXT, CONTEXT] {
            let whole = frame(FIN | COMPRESSED | TEXT, compressed);
            assert_eq!(read(terms, &whole), (hello.to_vec(), None), "{compressed:x?}");
        }
        for cut in 0..=compressed.len() {
            let (first, second) = compressed.split_at(cut);
            let stream =
                [frame(COMPRESSED | TEXT, first), frame(FIN | PING, b"between"), frame(FIN | CONTINUATION, second)];
            let expected = [Received::Fragment, Received::Ping(b"between".into()), hello[0].clone()];
            assert_eq!(read(NO_CONTEXT, &stream.concat()), (expected.to_vec(), None), "{compressed:x?} cut at {cut}");
        }
    }
    // Sharing the window (§7.2.3.2), which is an error without one.
    let stream = [b"\xf2\x48\xcd\xc9\xc9\x07\x00".to_vec(), b"\xf2\x00\x11\x00\x00".to_vec()]
        .map(|compressed| frame(FIN | COMPRESSED | TEXT, &compressed))
        .concat();
    assert_eq!(read(CONTEXT, &stream), ([hello.clone(), hello.clone()].concat(), None));
    assert_eq!(read(NO_CONTEXT, &stream), (hello.to_vec(), Some(ProtocolError::InvalidDeflate)));
    // Nothing at all (§7.2.3.6).
    assert_eq!(read(CONTEXT, &frame(FIN | COMPRESSED | BINARY, b"\x00")), (vec![Received::Binary(Vec::new())], None));
}

#[test]
fn what_is_not_compressed_is_read_as_ever_and_uses_no_context() {
    let mut client = Client::new(15);
    let (first, second) = (client.compress(b"again and again"), client.compress(b"again and again"));
    assert!(second.len() < first.len());
    let stream = [
        frame(FIN | COMPRESSED | TEXT, &first),
        frame(FIN | TEXT, b"plain"),
        frame(TEXT, b"pl"),
        frame(FIN | CONTINUATION, b"ain"),
        frame(FIN | PONG, b""),
        frame(FIN | COMPRESSED | TEXT, &second),
        frame(FIN | CLOSE, &close_payload(1000, b"")),
    ];
    let text = |text: &str| Received::Text(text.to_owned());
    let expected = vec![
        text("again and again"),
        text("plain"),
        Received::Fragment,
        text("plain"),
        Received::Pong(Vec::new()),
        text("again and again"),
        Received::Close(Some((1000, String::new()))),
    ];
    assert_eq!(read(CONTEXT, &stream.concat()), (expected, None));
}

#[test]
fn sec_05_the_bit_stands_where_rfc_7692_allows_it_and_nowhere_else() {
    let hello = b"\xf2\x48\xcd\xc9\xc9\x07\x00";
    for first in [FIN | PING, FIN | PONG, FIN | CLOSE, FIN | CONTINUATION, CONTINUATION] {
        let stream = [frame(TEXT, b"a"), frame(first | COMPRESSED, b"")].concat();
        let error = Some(ProtocolError::ReservedBits);
        assert_eq!(read(NO_CONTEXT, &stream), (vec![Received::Fragment], error), "{first:#x}");
    }
    for reserved in [0x20, 0x10, 0x60, 0x50, 0x30, 0x70] {
        let stream = frame(FIN | reserved | TEXT, hello);
        assert_eq!(read(NO_CONTEXT, &stream), (vec![], Some(ProtocolError::ReservedBits)), "{reserved:#x}");
    }
    // A connection that agreed on nothing.
    let mut reader = Reader::of(&frame(FIN | COMPRESSED | TEXT, hello));
    assert_eq!(reader.error.take(), Some(ProtocolError::ReservedBits));
    // Refused from the first byte on.
    let mut decoder = Decoder::with_deflate(PerMessageDeflate::server(NO_CONTEXT));
    assert_eq!(decoder.decode(&mut [FIN | COMPRESSED | PING], &Limits::default()), Err(ProtocolError::ReservedBits));
    assert!(decoder.is_finished());
}

#[test]
fn sec_44_what_is_no_deflate_is_refused_with_1007() {
    for garbage in [
        &b"\x07"[..],                 // a kind of block that there is not
        b"\x00\x05\x00\x00\x00Hello", // lengths that contradict each other
        b"\xff\xff\xff\xff",
        b"\xf2\x00\x11\x00\x00",                 // a reference to what was not
        b"\xf3\x48\xcd\xc9\xc9\x07\x00\x07\x07", // garbage behind a final block
    ] {
        let (events, error) = read(NO_CONTEXT, &frame(FIN | COMPRESSED | BINARY, garbage));
        assert_eq!((events, error), (vec![], Some(ProtocolError::InvalidDeflate)), "{garbage:x?}");
    }
    assert_eq!(ProtocolError::InvalidDeflate.close_code().get(), 1007);
    // Text is judged as it comes out.
    let spoilt = Client::new(15).compress(b"spoilt \xff");
    let (_, error) = read(NO_CONTEXT, &frame(FIN | COMPRESSED | TEXT, &spoilt));
    assert_eq!(error, Some(ProtocolError::TextNotUtf8));
    let cut = Client::new(15).compress("é".as_bytes().split_last().unwrap().1);
    let (_, error) = read(NO_CONTEXT, &frame(FIN | COMPRESSED | TEXT, &cut));
    assert_eq!(error, Some(ProtocolError::TextNotUtf8));
}

/// A megabyte from a kilobyte, many times over.
#[test]
fn sec_44_a_bomb_is_refused_where_it_passes_the_bound() {
    let limits = Limits { max_message_bytes: 100_000, max_fragments: 1000 };
    let bomb = Client::new(15).compress(&vec![b'x'; 20 << 20]);
    assert!(bomb.len() < 25_000, "{}", bomb.len());
    let just = Client::new(15).compress(&vec![b'x'; 100_000]);
    let over = Client::new(15).compress(&vec![b'x'; 100_001]);
    for terms in [NO_CONTEXT, CONTEXT] {
        for bomb in [&bomb[..], &over] {
            let mut whole = reader(terms, limits);
            whole.read(&frame(FIN | COMPRESSED | TEXT, bomb));
            assert_eq!((whole.events, whole.error), (vec![], Some(ProtocolError::MessageTooLarge)));
            // In fragments, the one that passes the bound is the last to be looked at.
            let mut pieces = reader(terms, limits);
            for (index, piece) in bomb.chunks(bomb.len() / 100 + 1).enumerate() {
                let first = if index == 0 { COMPRESSED | BINARY } else { CONTINUATION };
                pieces.read(&frame(first, piece));
                assert!(pieces.decoder.buffered_bytes() <= limits.max_message_bytes + 512);
            }
            pieces.read(&frame(FIN | CONTINUATION, b""));
            assert_eq!(pieces.error, Some(ProtocolError::MessageTooLarge));
            assert_eq!(pieces.decoder.buffered_bytes(), 0);
        }
        let mut most = reader(terms, limits);
        most.read(&frame(FIN | COMPRESSED | TEXT, &just));
        assert!(matches!(&most.events[..], [Received::Text(text)] if text.len() == 100_000), "{:?}", most.error);
    }
}

#[test]
fn sec_44_a_message_of_empty_blocks_ends_at_the_bound_of_its_compressed_bytes() {
    let limits = Limits { max_message_bytes: 10_000, max_fragments: 1_000_000 };
    let empty = [0, 0, 0, 0xff, 0xff].repeat(50);
    let mut reader = reader(NO_CONTEXT, limits);
    reader.read(&frame(COMPRESSED | BINARY, &empty));
    for count in 0.. {
        reader.read(&frame(CONTINUATION, &empty));
        if reader.error.is_some() {
            assert_eq!(reader.error, Some(ProtocolError::MessageTooLarge));
            assert_eq!(count, 39, "10,000 bytes and a little");
            break;
        }
    }
    // A length that says so is refused before anything of it is there.
    let mut header = frame(FIN | COMPRESSED | TEXT, &[0; 20_000]);
    header.truncate(8);
    let mut decoder = Decoder::with_deflate(PerMessageDeflate::server(NO_CONTEXT));
    assert_eq!(decoder.decode(&mut header, &limits), Err(ProtocolError::MessageTooLarge));
}

#[test]
fn a_lent_decompressor_comes_back_and_knows_nothing() {
    let mut spare = None;
    let hello = b"\xf2\x48\xcd\xc9\xc9\x07\x00";
    let mut one = Decoder::with_deflate(PerMessageDeflate::server(NO_CONTEXT));
    let mut other = Decoder::with_deflate(PerMessageDeflate::server(NO_CONTEXT));
    let limits = Limits::default();
    let mut first = frame(COMPRESSED | TEXT, &hello[..3]);
    assert!(one.decode_with(&mut first, &limits, &mut spare).is_ok());
    assert!(spare.is_none(), "in use");
    let mut whole = frame(FIN | COMPRESSED | TEXT, hello);
    let decoded = other.decode_with(&mut whole, &limits, &mut spare);
    assert!(matches!(decoded, Ok(Decoded::Frame { event: Event::Text(text), .. }) if text == "Hello"));
    assert!(spare.is_some(), "given back");
    let mut rest = frame(FIN | CONTINUATION, &hello[3..]);
    let decoded = one.decode_with(&mut rest, &limits, &mut spare);
    assert!(matches!(decoded, Ok(Decoded::Frame { event: Event::Text(text), .. }) if text == "Hello"));
    let mut referring = frame(FIN | COMPRESSED | TEXT, b"\xf2\x00\x11\x00\x00");
    assert_eq!(other.decode_with(&mut referring, &limits, &mut spare), Err(ProtocolError::InvalidDeflate));
}

#[test]
fn what_would_grow_is_not_compressed() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    })
    .take(500)
    .collect();
    let mut out = b"before".to_vec();
    assert!(!append_deflated(&mut out, Opcode::Binary, &noise, &mut Deflater::new(2, 15)));
    assert_eq!(out, b"before");
}

/// The payload of the one frame in `bytes`, which has to be compressed.
fn payload_of(bytes: &[u8]) -> &[u8] {
    assert_eq!(bytes[0] & 0xf0, FIN | COMPRESSED, "final and compressed");
    let mut plain = bytes.to_vec();
    plain[0] &= !COMPRESSED;
    let header = FrameHeader::parse(&plain).ok().flatten().expect("a whole header");
    assert_eq!(header.frame_len(), bytes.len() as u64);
    &bytes[header.header_len..]
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    let words = vec(prop_oneof![Just("event"), Just("{\"id\":"), Just("17"), Just("é"), Just("\",")], 0..400);
    prop_oneof![
        3 => words.prop_map(|words| words.concat().into_bytes()),
        1 => vec(any::<u8>(), 0..300),
        1 => (any::<u8>(), 0usize..70_000).prop_map(|(byte, len)| vec![byte; len]),
    ]
}

proptest! {
    /// Another implementation reads what we write, with and without context, with every window.
    #[test]
    fn what_is_compressed_is_read_by_another(
        payloads in vec(payload(), 1..6), level in 0u8..12, bits in 9u8..=15, keeps in any::<bool>(),
    ) {
        let terms = DeflateTerms { server_no_context_takeover: !keeps, server_max_window_bits: bits, ..NO_CONTEXT };
        let mut server = PerMessageDeflate::server(terms);
        let mut shared = Deflater::new(level, bits);
        let mut stream = Vec::new();
        for payload in &payloads {
            let mut out = Vec::new();
            let deflater = server.own_deflater(level);
            prop_assert_eq!(deflater.is_some(), keeps);
            let deflater = deflater.unwrap_or(&mut shared);
            if !append_deflated(&mut out, Opcode::Binary, payload, deflater) {
                prop_assert!(!keeps && out.is_empty());
                continue;
            }
            prop_assert!(keeps || payload_of(&out).len() < payload.len());
            stream.extend_from_slice(payload_of(&out));
            stream.extend_from_slice(&TAIL);
            if !keeps {
                let ended = [&stream[..], &[3, 0]].concat();
                prop_assert_eq!(&miniz_oxide::inflate::decompress_to_vec(&ended).unwrap(), payload);
                stream.clear();
            }
        }
        if keeps {
            stream.extend_from_slice(&[3, 0]);
            prop_assert_eq!(miniz_oxide::inflate::decompress_to_vec(&stream).unwrap(), payloads.concat());
        }
    }

    /// And we read what we write, as a client.
    #[test]
    fn a_client_reads_what_a_server_writes(payloads in vec(payload(), 1..6), keeps in any::<bool>()) {
        let terms = DeflateTerms { server_no_context_takeover: !keeps, ..NO_CONTEXT };
        let (mut server, mut shared) = (PerMessageDeflate::server(terms), Deflater::new(2, 15));
        let mut client = Decoder::with_deflate(PerMessageDeflate::client(terms));
        for payload in payloads {
            let mut out = Vec::new();
            if !append_deflated(&mut out, Opcode::Binary, &payload, server.own_deflater(2).unwrap_or(&mut shared)) {
                append_frame(&mut out, Opcode::Binary, &payload);
            }
            let consumed = out.len();
            let event = Event::Binary(payload.into());
            prop_assert_eq!(client.decode_unmasked(&out, &Limits::default()), Ok(Decoded::Frame { consumed, event }));
        }
    }

    /// Compressed and plain messages, fragmented anywhere, with control frames between, cut anywhere: read as they were sent.
    #[test]
    fn messages_come_out_as_they_went_in(
        sent in vec((payload(), any::<bool>(), vec(any::<Index>(), 0..4)), 1..6),
        keeps in any::<bool>(), bits in 9u8..=15, step in 1usize..2000,
    ) {
        let terms = DeflateTerms { client_no_context_takeover: !keeps, client_max_window_bits: bits, ..NO_CONTEXT };
        let mut client = Client::new(bits);
        let (mut stream, mut expected) = (Vec::new(), Vec::new());
        for (payload, compress, cuts) in sent {
            let (bit, body) = if compress {
                if !keeps {
                    client.0.reset();
                }
                (COMPRESSED, client.compress(&payload))
            } else {
                (0, payload.clone())
            };
            let mut places: Vec<usize> = cuts.iter().map(|place| place.index(body.len() + 1)).collect();
            places.extend([0, body.len()]);
            places.sort_unstable();
            let last = places.len() - 2;
            for (index, pair) in places.windows(2).enumerate() {
                let first = if index == 0 { bit | BINARY } else { CONTINUATION };
                let fin = if index == last { FIN } else { 0 };
                stream.extend(frame(fin | first, &body[pair[0]..pair[1]]));
                if index < last {
                    stream.extend(frame(FIN | PING, b"between"));
                    expected.push(Received::Ping(b"between".into()));
                }
            }
            expected.push(Received::Binary(payload));
        }
        let mut reader = reader(terms, Limits::default());
        for piece in stream.chunks(step) {
            reader.read(piece);
        }
        prop_assert_eq!(reader.error, None);
        prop_assert_eq!(reader.delivered(), expected);
        prop_assert_eq!(reader.decoder.buffered_bytes(), 0);
    }

    /// Garbage is an event or an error and never more than the bound.
    #[test]
    fn garbage_ends_within_its_bounds(body in vec(any::<u8>(), 0..400), keeps in any::<bool>()) {
        let limits = Limits { max_message_bytes: 5000, max_fragments: 10 };
        let mut reader = reader(DeflateTerms { client_no_context_takeover: !keeps, ..NO_CONTEXT }, limits);
        reader.read(&frame(FIN | COMPRESSED | BINARY, &body));
        match (&reader.events[..], reader.error) {
            ([Received::Binary(data)], None) => prop_assert!(data.len() <= 5000),
            ([], Some(ProtocolError::InvalidDeflate | ProtocolError::MessageTooLarge)) => {}
            other => prop_assert!(false, "{other:?}"),
        }
    }
}
