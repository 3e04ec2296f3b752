//! Messages in several frames.

use posthaste_websocket_proto::{Limits, ProtocolError};

use crate::client::{BINARY, CONTINUATION, FIN, PING, PONG, TEXT, frame, header};
use crate::reader::{Reader, Received};

/// A message in the given fragments.
fn fragmented(opcode: u8, fragments: &[&[u8]]) -> Vec<u8> {
    let last = fragments.len() - 1;
    let frames = fragments.iter().enumerate().map(|(i, fragment)| {
        let opcode = if i == 0 { opcode } else { CONTINUATION };
        frame(opcode | if i == last { FIN } else { 0 }, fragment)
    });
    frames.flatten().collect()
}

#[test]
fn fragments_are_joined_in_order() {
    let reader = Reader::of(&fragmented(TEXT, &[b"Hel", b"l", b"o"]));
    let expected = [Received::Fragment, Received::Fragment, Received::Text("Hello".into())];
    assert_eq!(reader.events, expected);
    assert_eq!(reader.decoder.buffered_bytes(), 0);

    let reader = Reader::of(&fragmented(BINARY, &[&[0xff, 0], &[0xc3]]));
    assert_eq!(reader.delivered(), [Received::Binary(vec![0xff, 0, 0xc3])]);
}

#[test]
fn empty_fragments_are_harmless_anywhere() {
    for fragments in
        [&[&b""[..], b"ab", b"c"][..], &[b"ab", b"", b"c"], &[b"ab", b"c", b""], &[b"", b"", b"abc", b"", b""]]
    {
        for (opcode, expected) in [(TEXT, Received::Text("abc".into())), (BINARY, Received::Binary(b"abc".into()))] {
            let reader = Reader::of(&fragmented(opcode, fragments));
            assert_eq!((reader.delivered(), reader.error), (vec![expected], None));
        }
    }
    let reader = Reader::of(&fragmented(TEXT, &[b"", b"", b""]));
    assert_eq!(reader.delivered(), [Received::Text(String::new())]);
}

#[test]
fn control_frames_pass_between_fragments_at_once() {
    let bytes = [
        frame(TEXT, b"one, "),
        frame(FIN | PING, b"are you there"),
        frame(CONTINUATION, b"two, "),
        frame(FIN | PONG, b""),
        frame(FIN | PONG, b"yes"),
        frame(FIN | CONTINUATION, b"three"),
        frame(FIN | TEXT, b"next"),
    ];
    let expected = [
        Received::Fragment,
        Received::Ping(b"are you there".into()),
        Received::Fragment,
        Received::Pong(b"".into()),
        Received::Pong(b"yes".into()),
        Received::Text("one, two, three".into()),
        Received::Text("next".into()),
    ];
    let reader = Reader::of(&bytes.concat());
    assert_eq!((&reader.events[..], reader.error), (&expected[..], None));
}

#[test]
fn text_may_be_cut_within_a_code_point_at_every_byte() {
    let text = "aé€🦀\u{10ffff}z";
    let bytes = text.as_bytes();
    for first in 0..=bytes.len() {
        for second in first..=bytes.len() {
            let fragments = [&bytes[..first], &bytes[first..second], &bytes[second..]];
            let reader = Reader::of(&fragmented(TEXT, &fragments));
            let expected = vec![Received::Text(text.into())];
            assert_eq!((reader.delivered(), reader.error), (expected, None), "{first}, {second}");
        }
    }
    let single_bytes: Vec<&[u8]> = bytes.chunks(1).collect();
    let reader = Reader::of(&fragmented(TEXT, &single_bytes));
    assert_eq!(reader.delivered(), [Received::Text(text.into())]);
}

#[test]
fn text_is_refused_at_the_fragment_that_spoils_it() {
    for (fragments, good) in [
        (&[&b"fine"[..], b"\xff", b"never looked at"][..], 1),
        (&[b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5", b"\xf4\x90", b"\x80\x80"], 1),
        (&[b"\xe2\x82", b"", b"x", b""], 2),
        (&[b"\xed", b"\xa0", b"\x80"], 1),
        // An end within a code point, noticed only there.
        (&[b"\xe2", b"\x82", b""], 2),
        (&[b"ab\xe2\x82"], 0),
    ] {
        let reader = Reader::of(&fragmented(TEXT, fragments));
        assert_eq!(reader.error, Some(ProtocolError::TextNotUtf8), "{fragments:x?}");
        assert_eq!(reader.events, vec![Received::Fragment; good], "{fragments:x?}");
        assert!(reader.decoder.is_finished());
        assert_eq!(reader.decoder.buffered_bytes(), 0);
    }
}

#[test]
fn binary_is_never_judged_as_text() {
    let reader = Reader::of(&fragmented(BINARY, &[b"\xff\xe2", b"\xc0"]));
    assert_eq!(reader.delivered(), [Received::Binary(b"\xff\xe2\xc0".into())]);
}

#[test]
fn message_may_reach_its_limit_and_not_pass_it() {
    let limits = Limits { max_message_bytes: 10, max_fragments: 3 };
    for (fragments, error) in [
        (&[10][..], None),
        (&[11], Some(ProtocolError::MessageTooLarge)),
        (&[10, 0], None),
        (&[4, 6], None),
        (&[4, 7], Some(ProtocolError::MessageTooLarge)),
        (&[5, 5, 0], None),
        (&[5, 5, 1], Some(ProtocolError::MessageTooLarge)),
        (&[0, 0, 0], None),
        (&[0, 0, 0, 0], Some(ProtocolError::TooManyFragments)),
        (&[1, 1, 1, 1], Some(ProtocolError::TooManyFragments)),
    ] {
        for opcode in [TEXT, BINARY] {
            let payloads: Vec<&[u8]> = fragments.iter().map(|len| &b"0123456789a"[..*len]).collect();
            let mut reader = Reader::with_limits(limits);
            reader.read(&fragmented(opcode, &payloads));
            assert_eq!(reader.error, error, "{fragments:?}");
            assert_eq!(reader.delivered().len(), usize::from(error.is_none()), "{fragments:?}");
        }
    }
}

#[test]
fn control_frames_count_for_no_limit() {
    let mut reader = Reader::with_limits(Limits { max_message_bytes: 2, max_fragments: 2 });
    let mut bytes = frame(BINARY, &[1]);
    for _ in 0..100 {
        bytes.extend(frame(FIN | PING, &[0; 125]));
    }
    bytes.extend(frame(FIN | CONTINUATION, &[2]));
    reader.read(&bytes);
    assert_eq!(reader.error, None);
    assert_eq!(reader.events.last(), Some(&Received::Binary(vec![1, 2])));
}

#[test]
fn limits_start_anew_with_each_message() {
    let mut reader = Reader::with_limits(Limits { max_message_bytes: 4, max_fragments: 2 });
    for _ in 0..10 {
        reader.read(&fragmented(BINARY, &[&[1, 2], &[3, 4]]));
        reader.read(&fragmented(TEXT, &[b"abcd"]));
    }
    assert_eq!((reader.delivered().len(), reader.error), (20, None));
}

#[test]
fn too_large_message_is_refused_at_the_header_that_says_so() {
    let limits = Limits { max_message_bytes: 1000, ..Limits::default() };
    let mut reader = Reader::with_limits(limits);
    reader.read(&header(FIN | BINARY, 1001, [0; 4]));
    assert_eq!(reader.error, Some(ProtocolError::MessageTooLarge));

    let mut reader = Reader::with_limits(limits);
    reader.read(&frame(BINARY, &[0; 400]));
    reader.read(&header(CONTINUATION, 601, [0; 4]));
    assert_eq!(reader.error, Some(ProtocolError::MessageTooLarge));
    assert_eq!(reader.decoder.buffered_bytes(), 0);
}
