//! Everything a client must not do, what it hears, and the attacks a limit is there for.

use posthaste_websocket_proto::{Decoded, Decoder, FrameHeader, Limits, MAX_CLOSE_REASON_BYTES, ProtocolError};

use crate::client::{BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, TEXT, close_payload, frame, header};
use crate::reader::{Reader, Received};

/// Checks that `bytes` end with `error`, that the client hears `code`, and that nothing follows.
#[track_caller]
fn assert_refused(bytes: &[u8], error: ProtocolError, code: u16) {
    let mut reader = Reader::of(bytes);
    assert_eq!(reader.error, Some(error), "{bytes:x?}");
    assert_eq!(error.close_code().get(), code, "{error:?}");
    let events = reader.events.len();
    reader.read(&frame(FIN | TEXT, b"later"));
    assert_eq!(reader.events.len(), events, "events after {error:?}");
    assert!(reader.decoder.is_finished());
    assert_eq!(reader.decoder.buffered_bytes(), 0);
}

#[test]
fn every_mistake_has_its_error_and_code() {
    use ProtocolError as E;
    let after = |first: Vec<u8>, then: Vec<u8>| [first, then].concat();
    let not_minimal_16 = |len: u8| vec![FIN | BINARY, 0xfe, 0, len, 1, 2, 3, 4];
    let not_minimal_64 = |len: u64| {
        let mut bytes = vec![FIN | BINARY, 0xff];
        bytes.extend(len.to_be_bytes());
        bytes.extend([1, 2, 3, 4]);
        bytes
    };
    for (bytes, error, code) in [
        (frame(FIN | 0x40 | TEXT, b"x"), E::ReservedBits, 1002),
        (frame(FIN | 0x20 | TEXT, b"x"), E::ReservedBits, 1002),
        (frame(FIN | 0x10 | TEXT, b"x"), E::ReservedBits, 1002),
        (frame(FIN | 0x40 | PING, b"x"), E::ReservedBits, 1002),
        (frame(FIN | 0x3, b""), E::UnknownOpcode, 1002),
        (frame(0x7, b""), E::UnknownOpcode, 1002),
        (frame(FIN | 0xb, b""), E::UnknownOpcode, 1002),
        (frame(FIN | 0xf, b""), E::UnknownOpcode, 1002),
        (b"\x81\x02hi".to_vec(), E::Unmasked, 1002),
        (b"\x89\x00".to_vec(), E::Unmasked, 1002),
        (frame(PING, b"x"), E::FragmentedControl, 1002),
        (frame(PONG, b"x"), E::FragmentedControl, 1002),
        (frame(CLOSE, b""), E::FragmentedControl, 1002),
        (frame(FIN | PING, &[0; 126]), E::LongControl, 1002),
        (frame(FIN | PONG, &[0; 65_536]), E::LongControl, 1002),
        (frame(FIN | CLOSE, &close_payload(1000, &[b'x'; 124])), E::LongControl, 1002),
        (not_minimal_16(0), E::LengthNotMinimal, 1002),
        (not_minimal_16(125), E::LengthNotMinimal, 1002),
        (not_minimal_64(0), E::LengthNotMinimal, 1002),
        (not_minimal_64(125), E::LengthNotMinimal, 1002),
        (not_minimal_64(65_535), E::LengthNotMinimal, 1002),
        (not_minimal_64(1 << 63), E::LengthOutOfRange, 1002),
        (frame(FIN | CONTINUATION, b"x"), E::UnexpectedContinuation, 1002),
        (frame(CONTINUATION, b""), E::UnexpectedContinuation, 1002),
        (after(frame(FIN | TEXT, b"whole"), frame(FIN | CONTINUATION, b"x")), E::UnexpectedContinuation, 1002),
        (after(frame(TEXT, b"a"), frame(FIN | TEXT, b"b")), E::UnfinishedMessage, 1002),
        (after(frame(TEXT, b"a"), frame(BINARY, b"b")), E::UnfinishedMessage, 1002),
        (after(frame(BINARY, b""), frame(FIN | BINARY, b"")), E::UnfinishedMessage, 1002),
        (header(FIN | TEXT, 1_000_001, [0; 4]), E::MessageTooLarge, 1009),
        (frame(FIN | TEXT, b"\xff"), E::TextNotUtf8, 1007),
        (frame(FIN | TEXT, b"\xe2\x82"), E::TextNotUtf8, 1007),
        (frame(FIN | TEXT, b"\xed\xa0\x80"), E::TextNotUtf8, 1007),
        (frame(FIN | CLOSE, b"\x03"), E::TruncatedCloseCode, 1002),
        (frame(FIN | CLOSE, &close_payload(1000, b"\xc3")), E::CloseReasonNotUtf8, 1007),
    ] {
        assert_refused(&bytes, error, code);
    }
}

#[test]
fn close_codes_not_meant_for_the_wire_are_refused() {
    for code in (0..=999).chain(1004..=1006).chain(1015..=2999).chain([5000, 9999, 65_535]) {
        let reader = Reader::of(&frame(FIN | CLOSE, &close_payload(code, b"")));
        assert_eq!(reader.error, Some(ProtocolError::ForbiddenCloseCode), "{code}");
        assert_eq!(ProtocolError::ForbiddenCloseCode.close_code().get(), 1002);
    }
    for code in (1000..=1003).chain(1007..=1014).chain([3000, 3999, 4000, 4999]) {
        let reader = Reader::of(&frame(FIN | CLOSE, &close_payload(code, b"")));
        assert_eq!(reader.events, [Received::Close(Some((code, String::new())))], "{code}");
    }
}

#[test]
fn reasons_of_errors_fit_into_a_close_frame_and_differ() {
    use ProtocolError as E;
    let errors = [
        E::ReservedBits,
        E::UnknownOpcode,
        E::Unmasked,
        E::FragmentedControl,
        E::LongControl,
        E::LengthNotMinimal,
        E::LengthOutOfRange,
        E::UnexpectedContinuation,
        E::UnfinishedMessage,
        E::MessageTooLarge,
        E::TooManyFragments,
        E::TextNotUtf8,
        E::TruncatedCloseCode,
        E::ForbiddenCloseCode,
        E::CloseReasonNotUtf8,
    ];
    for (i, error) in errors.iter().enumerate() {
        assert!((1..=MAX_CLOSE_REASON_BYTES).contains(&error.reason().len()), "{error:?}");
        assert_eq!(error.to_string(), error.reason());
        assert!(errors[..i].iter().all(|other| other.reason() != error.reason()), "{error:?}");
    }
}

#[test]
fn sec_05_bad_first_frames_are_refused_by_their_first_bytes() {
    use ProtocolError as E;
    for (bytes, error) in [
        (&[0xc1][..], E::ReservedBits),
        (&[0xa1], E::ReservedBits),
        (&[0x91], E::ReservedBits),
        (&[0xff; 64], E::ReservedBits),
        (b"GET / HTTP/1.1\r\n\r\n", E::ReservedBits),
        (&[0x83], E::UnknownOpcode),
        (&[0x8f], E::UnknownOpcode),
        (&[0x09], E::FragmentedControl),
        (&[0x88, 0xfe], E::LongControl),
        (&[0x81, 0x00], E::Unmasked),
        (&[0x81, 0x05], E::Unmasked),
        (&[0; 64], E::Unmasked),
        (&[0x80, 0x80, 0, 0, 0, 0], E::UnexpectedContinuation),
        (&[0x00, 0xfe, 0xff, 0xff, 0, 0, 0, 0], E::UnexpectedContinuation),
    ] {
        assert_refused(bytes, error, 1002);
        let mut byte_by_byte = Reader::default();
        bytes.chunks(1).for_each(|byte| byte_by_byte.read(byte));
        assert_eq!(byte_by_byte.error, Some(error), "{bytes:x?} byte by byte");
    }
}

#[test]
fn sec_17_payload_cap_by_default_is_a_million_bytes() {
    assert_eq!(Limits::default().max_message_bytes, 1_000_000);
    let mut reader = Reader::of(&header(FIN | BINARY, 1_000_000, [0; 4]));
    assert_eq!(reader.error, None);
    reader.read(&vec![0; 1_000_000]);
    assert_eq!(reader.events, [Received::Binary(vec![0; 1_000_000])]);
    reader.read(&header(FIN | BINARY, 1_000_001, [0; 4]));
    assert_eq!(reader.error, Some(ProtocolError::MessageTooLarge));
}

#[test]
fn sec_21_close_reason_is_exactly_what_was_sent() {
    for len in 0..=MAX_CLOSE_REASON_BYTES {
        let reason = "abcdefghij".repeat(13)[..len].to_owned();
        // Bytes behind the frame must not leak into the reason.
        let bytes = [frame(FIN | CLOSE, &close_payload(1000, reason.as_bytes())), vec![b'!'; 50]];
        let reader = Reader::of(&bytes.concat());
        assert_eq!(reader.events, [Received::Close(Some((1000, reason)))]);
    }
    let too_long = frame(FIN | CLOSE, &close_payload(1000, &[b'x'; 124]));
    assert_refused(&too_long, ProtocolError::LongControl, 1002);
    let cut_code_point = frame(FIN | CLOSE, &close_payload(1000, &"€".as_bytes()[..2]));
    assert_refused(&cut_code_point, ProtocolError::CloseReasonNotUtf8, 1007);
}

#[test]
fn sec_22_tiny_fragments_are_cut_off_by_their_number() {
    let limits = Limits { max_message_bytes: 1_000_000, ..Limits::default() };
    for payload in [&b"x"[..], b""] {
        let mut reader = Reader::with_limits(limits);
        reader.read(&frame(TEXT, payload));
        let mut sent = 1;
        while reader.error.is_none() {
            reader.read(&frame(CONTINUATION, payload));
            sent += 1;
        }
        assert_eq!(reader.error, Some(ProtocolError::TooManyFragments));
        assert_eq!(ProtocolError::TooManyFragments.close_code().get(), 1009);
        assert_eq!(sent, limits.max_fragments + 1);
    }
}

#[test]
fn sec_22_tiny_fragments_hold_no_more_than_the_message_limit() {
    const CAP: usize = 1_000_000;
    let limits = Limits { max_message_bytes: CAP, max_fragments: usize::MAX };
    // "é" in fragments of one byte: every second one ends within a code point.
    for (opcode, bytes) in [(BINARY, [0, 0]), (TEXT, *b"xx"), (TEXT, [0xc3, 0xa9])] {
        let mut decoder = Decoder::new();
        let mut held = 0;
        for i in 0..CAP {
            let first = if i == 0 { opcode } else { CONTINUATION };
            let mut fragment = [first, 0x81, 0, 0, 0, 0, bytes[i % 2]];
            let decoded = decoder.decode(&mut fragment, &limits);
            assert!(matches!(decoded, Ok(Decoded::Frame { consumed: 7, .. })), "{i}: {decoded:?}");
            held = held.max(decoder.buffered_bytes());
        }
        assert!((CAP..=CAP + 128).contains(&held), "held {held} bytes");
        let mut one_more = [CONTINUATION, 0x81, 0, 0, 0, 0, b'x'];
        let decoded = decoder.decode(&mut one_more, &limits);
        assert_eq!(decoded, Err(ProtocolError::MessageTooLarge));
        assert_eq!(decoder.buffered_bytes(), 0);
    }
}

#[test]
fn sec_45_64_bit_length_with_high_bit_is_refused_and_never_added_to() {
    for len in [1 << 63, (1 << 63) + 5, u64::MAX - 13, u64::MAX] {
        for opcode in [TEXT, BINARY] {
            assert_refused(&header(FIN | opcode, len, [0; 4]), ProtocolError::LengthOutOfRange, 1002);
        }
        // The same where we walk frames without a mask.
        let mut unmasked = vec![FIN | BINARY, 127];
        unmasked.extend(len.to_be_bytes());
        assert_eq!(FrameHeader::parse(&unmasked), Err(ProtocolError::LengthOutOfRange));
    }
    // Without the high bit, the length is only too large; added to what is buffered, too.
    assert_refused(&header(FIN | BINARY, i64::MAX as u64, [0; 4]), ProtocolError::MessageTooLarge, 1009);
    let begun = [frame(BINARY, &[1; 10]), header(CONTINUATION, i64::MAX as u64, [0; 4])];
    assert_refused(&begun.concat(), ProtocolError::MessageTooLarge, 1009);
}
