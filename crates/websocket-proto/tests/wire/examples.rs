//! Whole frames: the examples of RFC 6455 §5.7 and every form of length.

use std::borrow::Cow;

use posthaste_websocket_proto::{Decoded, Decoder, Event, Limits, Opcode, ProtocolError, append_frame, server_header};

use crate::client::{BINARY, CLOSE, FIN, PING, PONG, TEXT, close_payload, frame, header};
use crate::reader::{Reader, Received};

#[test]
fn masked_examples_of_section_5_7_decode_as_printed() {
    for (bytes, expected) in [
        (&[0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58][..], Received::Text("Hello".into())),
        (&[0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58], Received::Pong(b"Hello".into())),
    ] {
        let reader = Reader::of(bytes);
        assert_eq!((reader.events, reader.error), (vec![expected], None));
        assert!(reader.tail.is_empty());
    }
}

#[test]
fn unmasked_examples_of_section_5_7_are_what_a_server_sends() {
    let mut out = Vec::new();
    append_frame(&mut out, Opcode::Text, b"Hello");
    assert_eq!(out, [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]);

    out.clear();
    append_frame(&mut out, Opcode::Ping, b"Hello");
    assert_eq!(out, [0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]);

    let fragments =
        [&*server_header(Opcode::Text, false, 3), b"Hel", &*server_header(Opcode::Continuation, true, 2), b"lo"];
    assert_eq!(fragments.concat(), [0x01, 3, 0x48, 0x65, 0x6c, 0x80, 2, 0x6c, 0x6f]);

    assert_eq!(*server_header(Opcode::Binary, true, 256), [0x82, 0x7e, 0x01, 0x00]);
    assert_eq!(
        *server_header(Opcode::Binary, true, 65_536),
        [0x82, 0x7f, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00]
    );
}

#[test]
fn unmasked_examples_of_section_5_7_are_refused_from_a_client() {
    for bytes in [
        &[0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f][..],
        &[0x01, 0x03, 0x48, 0x65, 0x6c],
        &[0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f],
        &[0x82, 0x7e, 0x01, 0x00],
        &[0x82, 0x7f, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00],
    ] {
        assert_eq!(Reader::of(bytes).error, Some(ProtocolError::Unmasked), "{bytes:x?}");
    }
}

#[test]
fn message_of_any_length_is_borrowed_from_the_input() {
    for len in [0, 1, 124, 125, 126, 127, 128, 65_534, 65_535, 65_536, 65_537, 300_000] {
        let payload = "0123456789".repeat(len / 10 + 1)[..len].to_owned();
        for opcode in [TEXT, BINARY] {
            let whole = frame(FIN | opcode, payload.as_bytes());
            let mut input = [&whole, &b"next frame"[..]].concat();
            let place = input[whole.len() - len..].as_ptr();
            let mut decoder = Decoder::new();
            let decoded = decoder.decode(&mut input, &Limits::default()).unwrap();
            let Decoded::Frame { consumed, event } = decoded else { panic!("{decoded:?}") };
            let read = match &event {
                Event::Text(Cow::Borrowed(text)) => text.as_bytes(),
                Event::Binary(Cow::Borrowed(bytes)) => bytes,
                other => panic!("{other:?}"),
            };
            assert!(read == payload.as_bytes(), "{len} bytes of opcode {opcode}");
            assert_eq!(read.as_ptr(), place, "{len} bytes of opcode {opcode}");
            assert_eq!(consumed, whole.len());
            assert_eq!(decoder.buffered_bytes(), 0);
            assert_eq!(&input[consumed..], b"next frame");
        }
    }
}

#[test]
fn incomplete_frame_changes_neither_input_nor_decoder() {
    let whole = frame(FIN | BINARY, &[7; 300]);
    let mut decoder = Decoder::new();
    for have in 0..whole.len() {
        let mut input = whole[..have].to_vec();
        let decoded = decoder.decode(&mut input, &Limits::default()).unwrap();
        let Decoded::Incomplete { missing } = decoded else { panic!("{decoded:?} at {have}") };
        assert!((1..=whole.len() - have).contains(&missing), "{missing} at {have}");
        assert_eq!(input, whole[..have]);
        assert_eq!(decoder.buffered_bytes(), 0);
    }
}

/// Were a call linear in the tail, this would be 5 × 10¹¹ steps and never end.
#[test]
fn a_megabyte_arriving_byte_by_byte_costs_one_look_at_the_header_per_byte() {
    let mut whole = frame(FIN | BINARY, &vec![7; 1_000_000]);
    let mut decoder = Decoder::new();
    for have in 0..whole.len() {
        let decoded = decoder.decode(&mut whole[..have], &Limits::default());
        assert!(matches!(decoded, Ok(Decoded::Incomplete { .. })), "{have}");
    }
    let decoded = decoder.decode(&mut whole, &Limits::default());
    let Ok(Decoded::Frame { event: Event::Binary(bytes), .. }) = decoded else { panic!("the frame is whole") };
    assert!(*bytes == [7; 1_000_000]);
}

#[test]
fn control_frames_are_read_up_to_125_bytes() {
    for len in [0, 1, 125] {
        let payload = vec![b'x'; len];
        let bytes = [frame(FIN | PING, &payload), frame(FIN | PONG, &payload)].concat();
        let expected = [Received::Ping(payload.clone()), Received::Pong(payload)];
        assert_eq!(Reader::of(&bytes).events, expected);
    }
}

#[test]
fn close_is_read_with_and_without_its_parts() {
    for (payload, expected) in [
        (vec![], None),
        (close_payload(1000, b""), Some((1000, String::new()))),
        (close_payload(4999, "tschüß".as_bytes()), Some((4999, "tschüß".into()))),
        (close_payload(1001, &[b'x'; 123]), Some((1001, "x".repeat(123)))),
    ] {
        let reader = Reader::of(&frame(FIN | CLOSE, &payload));
        assert_eq!(reader.events, [Received::Close(expected)]);
        assert_eq!(reader.error, None);
    }
}

#[test]
fn nothing_is_read_after_a_close() {
    let close = frame(FIN | CLOSE, b"");
    let started = frame(BINARY, &[1; 1000]);
    for after in [frame(FIN | TEXT, b"more"), vec![0xff; 20], close.clone(), vec![]] {
        let mut reader = Reader::of(&[&started[..], &close].concat());
        assert!(reader.decoder.is_finished());
        assert_eq!(reader.decoder.buffered_bytes(), 0);
        reader.read(&after);
        assert_eq!(reader.events, [Received::Fragment, Received::Close(None)]);
        assert_eq!((reader.error, reader.tail), (None, after));
    }
}

#[test]
fn declared_length_alone_holds_no_memory() {
    let limits = Limits { max_message_bytes: usize::MAX, ..Limits::default() };
    let mut reader = Reader::with_limits(limits);
    reader.read(&frame(BINARY, b"begun"));
    let held = reader.decoder.buffered_bytes();
    reader.read(&header(FIN, i64::MAX as u64, [0; 4]));
    // On a 64-bit machine the length fits the limit: the frame is merely incomplete.
    #[cfg(target_pointer_width = "64")]
    assert_eq!(reader.error, None);
    assert!(reader.decoder.buffered_bytes() <= held);
}
