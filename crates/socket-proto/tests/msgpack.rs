//! Packets in MessagePack: as the official parser writes them, as nobody should write them, and there and back.

use bytes::Bytes;
use posthaste_socket_proto::*;
use proptest::prelude::*;
use serde_json::Value;

/// Written by `tests/clients/msgpack-vectors.mjs`, which says what its columns are.
const VECTORS: &str = include_str!("msgpack-vectors.txt");

fn unhex(text: &str) -> Bytes {
    let digit = |byte: u8| char::from(byte).to_digit(16).expect("hexadecimal") as u8;
    text.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

fn decode(message: &[u8]) -> Result<Packet<'static>, DecodeError> {
    decode_msgpack(&Bytes::copy_from_slice(message), &LIMITS)
}

fn encode(packet: &str, attachments: &[Bytes]) -> Vec<u8> {
    let mut out = Vec::new();
    encode_msgpack(&mut out, packet, attachments).expect("it is not too deep");
    out
}

const LIMITS: DecodeLimits = DecodeLimits { max_attachments: 10, max_attachment_bytes: 1_000_000 };

/// The packet that JSON gives.
fn from_json(text: &str, attachments: &[Bytes]) -> Packet<'static> {
    let mut decoder = Decoder::default();
    let mut packet = decoder.text(text, &LIMITS).expect(text).map(Packet::into_owned);
    for attachment in attachments {
        assert_eq!(packet, None);
        packet = decoder.binary(attachment.clone(), &LIMITS).expect("it is awaited");
    }
    packet.expect("complete")
}

/// A packet with its JSON as values: numbers may be spelled in several ways.
fn meaning(packet: &Packet<'_>) -> (u8, String, Option<u64>, String, Value, Vec<Bytes>) {
    let read = |text: &str| parse_json::<Value>(text).expect(text);
    let list = |args: &Args<'_>| args.iter().map(deep_value).collect::<Value>();
    let namespace = packet.namespace().to_owned();
    match packet {
        Packet::Connect { auth, .. } => {
            (0, namespace, None, String::new(), auth.as_deref().map(read).unwrap_or_default(), Vec::new())
        }
        Packet::Disconnect { .. } => (1, namespace, None, String::new(), Value::Null, Vec::new()),
        Packet::Event { id, event, args, .. } => {
            (2, namespace, *id, event.to_string(), list(args), args.attachments().to_vec())
        }
        Packet::Ack { id, args, .. } => {
            (3, namespace, Some(*id), String::new(), list(args), args.attachments().to_vec())
        }
        Packet::ConnectError { data, .. } => {
            (4, namespace, None, String::new(), data.as_deref().map(read).unwrap_or_default(), Vec::new())
        }
        Packet::Blank { .. } => panic!("there are none in MessagePack"),
    }
}

/// What is deeper than serde_json reads is compared as text.
fn deep_value(text: &str) -> Value {
    parse_json(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}

#[test]
fn what_the_official_parser_writes_is_read_as_its_json_and_written_in_the_same_bytes() {
    let (mut read, mut written) = (0, 0);
    for line in VECTORS.lines() {
        let [kind, message, text, attachments] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let message = unhex(message);
        let attachments: Vec<Bytes> = match from_json_count(text) {
            0 => Vec::new(),
            _ => attachments.split(',').map(unhex).collect(),
        };
        let decoded = decode(&message).unwrap_or_else(|error| panic!("{text}: {error:?}"));
        assert_eq!(meaning(&decoded), meaning(&from_json(text, &attachments)), "{text}");
        read += 1;
        if kind == "both" {
            assert_eq!(encode(text, &attachments), message, "{text}");
            written += 1;
        }
    }
    assert!(read > 40 && written > 30, "{read} {written}");
}

fn from_json_count(text: &str) -> usize {
    attachments_of(text)
}

#[test]
fn numbers_are_exact_and_as_short_as_they_go() {
    for (text, bytes) in [
        ("0", &b"\x00"[..]),
        ("-0", b"\xcb\x80\0\0\0\0\0\0\0"),
        ("-0.0", b"\xcb\x80\0\0\0\0\0\0\0"),
        ("0.0", b"\x00"),
        ("1.0", b"\x01"),
        ("1e3", b"\xcd\x03\xe8"),
        ("-1e3", b"\xd1\xfc\x18"),
        ("18446744073709551615", b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff"),
        ("18446744073709551616", b"\xcb\x43\xf0\0\0\0\0\0\0"),
        ("1e21", b"\xcb\x44\x4b\x1a\xe4\xd6\xe2\xef\x50"),
        ("-9223372036854775808", b"\xd3\x80\0\0\0\0\0\0\0"),
        ("-9223372036854775809", b"\xd3\x80\0\0\0\0\0\0\0"),
        ("-1e19", b"\xcb\xc3\xe1\x58\xe4\x60\x91\x3d\0"),
        ("0.1", b"\xcb\x3f\xb9\x99\x99\x99\x99\x99\x9a"),
        ("1e400", b"\xcb\x7f\xf0\0\0\0\0\0\0"),
    ] {
        let message = encode(&format!(r#"2["e",{text}]"#), &[]);
        let expected = [b"\x83\xa4type\x02\xa4data\x92\xa1e", bytes, b"\xa3nsp\xa1/"].concat();
        assert_eq!(message, expected, "{text}");
    }
    for (bytes, text) in [
        (&b"\xca\x3f\x80\0\0"[..], "1.0"),
        (b"\xca\x3d\xcc\xcc\xcd", "0.10000000149011612"),
        (b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff", "18446744073709551615"),
        (b"\xd3\x80\0\0\0\0\0\0\0", "-9223372036854775808"),
        // Not as short as they could be.
        (b"\xcf\0\0\0\0\0\0\0\x07", "7"),
        (b"\xd3\0\0\0\0\0\0\0\x07", "7"),
        (b"\xd0\xff", "-1"),
        (b"\xe0", "-32"),
    ] {
        assert_eq!(argument(bytes), text);
    }
}

/// The JSON text of one argument.
fn argument(value: &[u8]) -> String {
    let message = [b"\x83\xa4type\x02\xa4data\x92\xa1e", value, b"\xa3nsp\xa1/"].concat();
    match decode(&message).unwrap_or_else(|error| panic!("{value:x?}: {error:?}")) {
        Packet::Event { args, .. } => args.raw().to_owned(),
        other => panic!("{other:?}"),
    }
}

fn refused(value: &[u8]) -> DecodeError {
    let message = [b"\x83\xa4type\x02\xa4data\x92\xa1e", value, b"\xa3nsp\xa1/"].concat();
    decode(&message).expect_err("it is refused")
}

#[test]
fn what_json_has_no_word_for_is_read_as_javascript_writes_it() {
    for (value, text) in [
        // undefined: null in a list, and no member of an object.
        (&b"\xd4\0\0"[..], "null"),
        (b"\x91\xd4\0\0", "[null]"),
        (b"\x82\xa1a\xd4\0\0\xa1b\x01", r#"{"b":1}"#),
        (b"\x82\xa1b\x01\xa1a\xd4\0\0", r#"{"b":1}"#),
        (b"\x83\xa1a\xd4\0\0\xa1b\x91\xd4\0\0\xa1c\xd4\0\0", r#"{"b":[null]}"#),
        (b"\x81\xa1a\x81\xa1b\xd4\0\0", r#"{"a":{}}"#),
        // Dates.
        (b"\xd7\0\0\0\0\0\0\0\0\x05", r#""1970-01-01T00:00:00.005Z""#),
        (b"\xd7\0\x7f\xff\xff\xff\xff\xff\xff\xff", "null"),
        // Not a number, and the endless ones.
        (b"\xcb\x7f\xf8\0\0\0\0\0\0", "null"),
        (b"\xca\xff\x80\0\0", "null"),
        // Keys that are no text.
        (b"\x84\x01\xc0\xff\xc0\xc3\xc0\xc0\xc0", r#"{"1":null,"-1":null,"true":null,"null":null}"#),
        // Text that is none.
        (b"\xa3a\xffb", "\"a\u{fffd}b\""),
        (b"\x81\xa1\xff\x01", "{\"\u{fffd}\":1}"),
        // An extension that nobody knows.
        (b"\xd6\x05abcd", r#"[5,{"_placeholder":true,"num":0}]"#),
        (b"\xd5\0ab", r#"[0,{"_placeholder":true,"num":0}]"#),
        (b"\xc7\x01\xffa", r#"[-1,{"_placeholder":true,"num":0}]"#),
        (b"\xd4\x01a", r#"[1,{"_placeholder":true,"num":0}]"#),
        (b"\xd8\x07aaaaaaaaaaaaaaaa", r#"[7,{"_placeholder":true,"num":0}]"#),
        // The same longer than it had to be.
        (b"\xdd\0\0\0\x01\xdf\0\0\0\x01\xdb\0\0\0\x01a\xda\0\x01b", r#"[{"a":"b"}]"#),
        (b"\xc6\0\0\0\x01a", r#"{"_placeholder":true,"num":0}"#),
        (b"\xc9\0\0\0\x01\0a", r#"{"_placeholder":true,"num":0}"#),
    ] {
        assert_eq!(argument(value), text);
    }
    for key in
        [&b"\xcb\x3f\xf8\0\0\0\0\0\0"[..], b"\xd4\0\0", b"\x90", b"\x80", b"\xc4\x01a", b"\xd7\0\0\0\0\0\0\0\0\0"]
    {
        let error = refused(&[b"\x81", key, b"\x01"].concat());
        assert!(matches!(error, DecodeError::Msgpack(MsgpackError::Key)), "{key:x?}: {error:?}");
    }
}

#[test]
fn half_of_a_surrogate_pair_is_replaced_when_it_is_written() {
    for (text, string) in [
        (r#""\ud800""#, "\u{fffd}"),
        (r#""a\udc00b""#, "a\u{fffd}b"),
        (r#""\ud83d\ude00""#, "😀"),
        (r#""\\ud800""#, "\\ud800"),
    ] {
        for (json, expected) in [(text.to_owned(), string.to_owned()), (format!("{{{text}:1}}"), string.to_owned())] {
            let message = encode(&format!(r#"2["e",{json}]"#), &[]);
            let found = message.windows(expected.len()).any(|window| window == expected.as_bytes());
            assert!(found, "{json}: {message:x?}");
            decode(&message).expect("our own packet");
        }
    }
}

#[test]
fn a_packet_is_a_map_that_says_what_it_is_once() {
    use MsgpackError::*;
    for (message, expected) in [
        (&b""[..], Ended),
        (b"\x90", NotAPacket),
        (b"\xc0", NotAPacket),
        (b"\x80", Namespace),
        (b"\x81\xa3nsp\xa1/", Type),
        (b"\x82\xa4type\x05\xa3nsp\xa1/", Type),
        (b"\x82\xa4type\xff\xa3nsp\xa1/", Type),
        (b"\x82\xa4type\xa10\xa3nsp\xa1/", Type),
        (b"\x82\xa4type\xcb\x3f\xe0\0\0\0\0\0\0\xa3nsp\xa1/", Type),
        (b"\x81\xa4type\0", Namespace),
        (b"\x82\xa4type\0\xa3nsp\x01", Namespace),
        (b"\x82\xa4type\0\xa3nsp\xa0", Namespace),
        (b"\x82\xa4type\0\xa3nsp\xa4chat", Namespace),
        (b"\x82\xa4type\0\xa3nsp\xa4/a,b", Namespace),
        (b"\x82\xa4type\0\xa3nsp\xa2/\xff", Namespace),
        (b"\x82\xa4type\0\xa3nsp\xa1/\0", Trailing { bytes: 1 }),
        (b"\x83\xa4type\0\xa4type\0\xa3nsp\xa1/", NotAPacket),
        (b"\x83\xa4type\0\xa3nsp\xa1/\xa3nsp\xa1/", NotAPacket),
        (b"\x84\xa4type\0\xa3nsp\xa1/\xa2id\xc0\xa2id\x01", NotAPacket),
        (b"\x84\xa4type\0\xa4data\xc0\xa4data\x80\xa3nsp\xa1/", NotAPacket),
        (b"\x83\xa4type\0\x01\x01\xa3nsp\xa1/", Key),
        (b"\x83\xa4type\0\xa1x\xc1\xa3nsp\xa1/", Reserved),
        (b"\x83\xa4type\0\xa4data\x81\xa1a\xc4\x01a\xa3nsp\xa1/", BinaryCredentials),
    ] {
        match decode(message) {
            Err(DecodeError::Msgpack(error)) => assert_eq!(error, expected, "{message:x?}"),
            other => panic!("{message:x?}: {other:?}"),
        }
    }
}

#[test]
fn the_rules_of_json_packets_hold_for_these_as_well() {
    let event = |data: &[u8]| decode(&[b"\x83\xa4type\x02\xa4data", data, b"\xa3nsp\xa1/"].concat()).unwrap_err();
    assert!(matches!(event(b"\x90"), DecodeError::EventName));
    assert!(matches!(event(b"\x91\xc0"), DecodeError::EventName));
    assert!(matches!(event(b"\x91\x90"), DecodeError::EventName));
    assert!(matches!(event(b"\x91\x81\xa1a\x01"), DecodeError::EventName));
    assert!(matches!(event(b"\x91\xc4\x01a"), DecodeError::EventName));
    assert!(matches!(event(b"\xc0"), DecodeError::NotAnArray));
    assert!(matches!(event(b"\xa2hi"), DecodeError::NotAnArray));
    assert!(matches!(event(b"\x81\xa2hi\x01"), DecodeError::NotAnArray));
    for (message, expected) in [
        (&b"\x83\xa4type\x01\xa4data\x90\xa3nsp\xa1/"[..], "DisconnectPayload"),
        (b"\x83\xa4type\0\xa4data\x90\xa3nsp\xa1/", "NotAnObject"),
        (b"\x83\xa4type\0\xa4data\xa1a\xa3nsp\xa1/", "NotAnObject"),
        (b"\x83\xa4type\0\xa4data\x07\xa3nsp\xa1/", "NotAnObject"),
        (b"\x83\xa4type\x04\xa4data\x07\xa3nsp\xa1/", "NotAnObject"),
        (b"\x83\xa4type\x03\xa4data\x90\xa3nsp\xa1/", "MissingAckId"),
        (b"\x84\xa4type\x03\xa4data\x90\xa3nsp\xa1/\xa2id\xff", "AckId"),
        (b"\x84\xa4type\x03\xa4data\x90\xa3nsp\xa1/\xa2id\xa11", "AckId"),
        (b"\x84\xa4type\x03\xa4data\x80\xa3nsp\xa1/\xa2id\x01", "NotAnArray"),
        (b"\x83\xa4type\x03\xa3nsp\xa1/\xa2id\x01", "NotAnArray"),
    ] {
        let error = format!("{:?}", decode(message).expect_err("it is refused"));
        assert!(error.starts_with(expected), "{message:x?}: {error}");
    }
    // A double may be a whole number, and what is absent may be nil.
    for message in [
        &b"\x84\xa4type\xcb\x40\x08\0\0\0\0\0\0\xa4data\x90\xa3nsp\xa1/\xa2id\xcb\x3f\xf0\0\0\0\0\0\0"[..],
        b"\x84\xa4type\0\xa4data\xc0\xa3nsp\xa1/\xa2id\xc0",
        b"\x84\xa4type\x01\xa4data\xd4\0\0\xa3nsp\xa1/\xa2id\xd4\0\0",
    ] {
        decode(message).unwrap_or_else(|error| panic!("{message:x?}: {error:?}"));
    }
}

#[test]
fn sec_03_reserved_names_are_refused_however_they_are_packed() {
    for name in RESERVED_EVENTS {
        for head in [vec![0xa0 | name.len() as u8], vec![0xd9, name.len() as u8], vec![0xda, 0, name.len() as u8]] {
            let message = [b"\x83\xa3nsp\xa1/\xa4type\x02\xa4data\x91", &head[..], name.as_bytes()].concat();
            let error = decode(&message).expect_err(name);
            assert!(matches!(error, DecodeError::ReservedEvent { name: found } if found == name), "{error:?}");
        }
    }
}

#[test]
fn sec_10_objects_that_look_like_placeholders_are_refused_beside_binary_values() {
    let forged = b"\x82\xac_placeholder\xc3\xa3num\x00";
    assert_eq!(argument(forged), r#"{"_placeholder":true,"num":0}"#, "alone it is data");
    let both = [b"\x92", &forged[..], b"\xc4\x01a"].concat();
    assert!(matches!(refused(&both), DecodeError::Placeholder(_)));
}

#[test]
fn sec_11_event_names_are_text_or_numbers() {
    for (name, expected) in [(&b"\x07"[..], "7"), (b"\xff", "-1"), (b"\xcb\x3f\xf8\0\0\0\0\0\0", "1.5"), (b"\xa0", "")]
    {
        let message = [b"\x83\xa3nsp\xa1/\xa4type\x02\xa4data\x91", name].concat();
        let packet = decode(&message).unwrap_or_else(|error| panic!("{expected}: {error:?}"));
        assert!(matches!(packet, Packet::Event { event, .. } if event == expected));
    }
    for name in [&b"\xc3"[..], b"\xcb\x7f\xf8\0\0\0\0\0\0", b"\xd4\0\0", b"\xc7\x01\0a", b"\xc7\x01\x05a"] {
        let message = [b"\x83\xa3nsp\xa1/\xa4type\x02\xa4data\x91", name].concat();
        assert!(matches!(decode(&message), Err(DecodeError::EventName)), "{name:x?}");
    }
    // A date is its text, as in JSON.
    let message = b"\x83\xa3nsp\xa1/\xa4type\x02\xa4data\x91\xd7\0\0\0\0\0\0\0\0\0";
    assert!(matches!(decode(message), Ok(Packet::Event { event, .. }) if event == "1970-01-01T00:00:00.000Z"));
}

#[test]
fn sec_12_attachments_are_counted_and_weighed() {
    let many = |count: u8| [&[0x90 | count][..], &b"\xc4\0".repeat(count.into())].concat();
    assert_eq!(argument(&many(10)).matches("_placeholder").count(), 10);
    assert!(matches!(refused(&many(11)), DecodeError::TooManyAttachments { max: 10 }));
    // An extension is one, too.
    let extensions = [&[0x9b][..], &b"\xd4\x01a".repeat(11)].concat();
    assert!(matches!(refused(&extensions), DecodeError::TooManyAttachments { .. }));
    let heavy = [&b"\xc6\0\x0f\x42\x41"[..], &vec![7; 1_000_001]].concat();
    assert!(matches!(refused(&heavy), DecodeError::AttachmentsTooLarge { max: 1_000_000 }));
}

/// Memory follows what came: a head that announces four thousand million is refused where the message ends.
#[test]
fn sec_12_lengths_above_what_is_there_are_refused_at_once() {
    for head in [
        &b"\xdd\xff\xff\xff\xff"[..],
        b"\xdf\xff\xff\xff\xff",
        b"\xdf\x80\0\0\0",
        b"\xdb\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xc9\xff\xff\xff\xff\0",
        b"\xdc\xff\xff",
        b"\xde\xff\xff",
        b"\xda\xff\xff",
        b"\xc5\xff\xff",
        b"\xc8\xff\xff\0",
        b"\xd9\xff",
        b"\xc4\xff",
        b"\xc7\xff\0",
        b"\x9f",
        b"\x8f",
        b"\xbf",
    ] {
        for place in
            [&b"\x83\xa4type\x02\xa4data"[..], b"\x83\xa4type\x02\xa4data\x92\xa1e", b"\x83\xa1x", b"\x81", b""]
        {
            let message = [place, head, b"\xc0"].concat();
            let error = decode(&message).expect_err("it is not there");
            let known = matches!(
                error,
                DecodeError::Msgpack(MsgpackError::Ended | MsgpackError::Key | MsgpackError::NotAPacket)
            );
            assert!(known, "{message:x?}: {error:?}");
        }
    }
    // A megabyte of heads, each announcing as much as could be there.
    let greedy = [&b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data"[..], &b"\xdd\0\0\x40\0".repeat(200_000)].concat();
    assert!(matches!(decode(&greedy), Err(DecodeError::Msgpack(MsgpackError::TooDeep))));
    let skipped = [&b"\x83\xa4type\x02\xa3nsp\xa1/\xa1x"[..], &b"\xdd\0\0\x40\0".repeat(200_000)].concat();
    assert!(matches!(decode(&skipped), Err(DecodeError::Msgpack(MsgpackError::Ended))));
}

/// A message of each shape that a reader may be recursive on or slow with: that it ends is the assertion.
#[test]
fn sec_09_deep_and_long_messages_are_read_in_linear_time_and_constant_stack() {
    const SIZE: usize = 1_000_000;
    let list = |value: &[u8]| [b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\x92\xa1e", value].concat();
    let limit = MAX_MSGPACK_DEPTH - 1;
    for (open, json, close) in [(&b"\x91"[..], "[", "]"), (b"\x81\xa1a", r#"{"a":"#, "}")] {
        let nested = |depth: usize| [&open.repeat(depth)[..], b"\xc0"].concat();
        // The arguments are a list themselves.
        let message = list(&nested(limit));
        let Packet::Event { args, .. } = decode(&message).expect("as deep as may be") else { panic!("an event") };
        let text = format!("{}null{}", json.repeat(limit), close.repeat(limit));
        assert_eq!(args.raw(), text);
        assert!(matches!(decode(&list(&nested(limit + 1))), Err(DecodeError::Msgpack(MsgpackError::TooDeep))));
        assert!(matches!(decode(&list(&nested(SIZE))), Err(DecodeError::Msgpack(MsgpackError::TooDeep))));
        // One that is empty is one, too.
        for empty in [0x90, 0x80] {
            decode(&list(&[&open.repeat(limit - 1)[..], &[empty]].concat())).expect("as deep as may be");
            let error = decode(&list(&[&open.repeat(limit)[..], &[empty]].concat())).expect_err("too deep");
            assert!(matches!(error, DecodeError::Msgpack(MsgpackError::TooDeep)));
        }
        // In what is skipped nothing is kept, and any depth will do.
        let skipped = [&b"\x83\xa4type\0\xa3nsp\xa1/\xa1x"[..], &nested(SIZE)].concat();
        decode(&skipped).expect("skipped");
        // The same out of JSON, where there is no such bound.
        let packet = |depth: usize| format!(r#"2["e",{}null{}]"#, json.repeat(depth), close.repeat(depth));
        assert_eq!(decode(&encode(&packet(limit), &[])).expect("read again"), decode(&message).expect("as before"));
        let mut out = b"before".to_vec();
        for depth in [limit + 1, SIZE] {
            let error = encode_msgpack::<Bytes>(&mut out, &packet(depth), &[]).expect_err("too deep");
            assert!(matches!(error, EncodeError::TooDeep { max: MAX_MSGPACK_DEPTH }));
            assert_eq!(out, b"before");
        }
    }
    // Each level with an undefined member to take back, in an object that grows.
    let undefined = [&b"\xdf\0\x01\xff\xff"[..], &b"\xa3key\xd4\0\0".repeat(0x1_ffff)].concat();
    assert_eq!(argument(&undefined), "{}");
    let wide = [&b"\xdf\0\x01\xff\xff"[..], &b"\xa3key\xc2".repeat(0x1_ffff)].concat();
    assert_eq!(argument(&wide).len(), 0x1_ffff * r#""key":false,"#.len() + 1);
    let empty = [&b"\xdd\0\x0f\0\0"[..], &b"\x90".repeat(0xf_0000)].concat();
    let text = argument(&empty);
    assert_eq!(encode(&format!(r#"2["e",{text}]"#), &[]).len(), list(&empty).len());
    // Text grows six times where all of it has to be escaped, and no more.
    let bells = [&b"\xdb\0\x0f\0\0"[..], &b"\x07".repeat(0xf_0000)].concat();
    assert_eq!(argument(&bells).len(), 0xf_0000 * 6 + 2);
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-300_i64..300).prop_map(Value::from),
        // Whole doubles are written as whole numbers.
        any::<f64>()
            .prop_filter("JSON has it, as a double", |value| value.fract() != 0.0 && value.is_finite())
            .prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[\u{0}-\u{1f}\"\\\\a]{0,40}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 64, 20, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..20).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..20)
                .prop_map(|members| members.into_iter().collect::<serde_json::Map<_, _>>().into()),
        ]
    })
}

proptest! {
    #[test]
    fn values_survive_the_way_there_and_back(value in any_value(), pretty in any::<bool>(), id in any::<Option<u64>>()) {
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.expect("JSON");
        let id_text = id.map(|id| id.to_string()).unwrap_or_default();
        let message = encode(&format!("2/chat,{id_text}[ \"e\" , {text} ]"), &[]);
        let decoded = decode(&message).expect("our own packet");
        let Packet::Event { namespace, id: again, args, .. } = decoded else { panic!("an event") };
        prop_assert_eq!((&*namespace, again), ("/chat", id));
        prop_assert_eq!(parse_json::<Value>(args.raw()).expect("JSON"), value);
        // Written once more it is the same.
        prop_assert_eq!(encode(&format!("2/chat,{id_text}[\"e\",{}]", args.raw()), &[]), message);
    }

    #[test]
    fn attachments_stay_where_they_were(
        before in any_value(),
        attachments in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..10),
        order in any::<u64>(),
    ) {
        let attachments: Vec<Bytes> = attachments.into_iter().map(Bytes::from).collect();
        let spaces = if order % 2 == 0 { "" } else { " " };
        let placed: Vec<String> = (0..attachments.len())
            .map(|index| {
                // Numbered in any order, spelled in either.
                let number = (index + order as usize % attachments.len()) % attachments.len();
                match order % 3 {
                    0 => format!(r#"{{{spaces}"_placeholder":true,{spaces}"num":{number}}}"#),
                    1 => format!(r#"{{"num":{number}{spaces},"_placeholder":{spaces}true}}"#),
                    _ => format!(r#"{{"in":[{{{spaces}"_placeholder":true,"num":{number}{spaces}}}]}}"#),
                }
            })
            .collect();
        let text = format!(r#"5{}-["e",{},{before}]"#, attachments.len(), placed.join(","));
        let message = encode(&text, &attachments);
        let decoded = decode(&message).expect("our own packet");
        // They are numbered in the order of their places then.
        let (Packet::Event { args, .. }, Packet::Event { args: json, .. }) = (&decoded, from_json(&text, &attachments)) else {
            panic!("events")
        };
        let shift = order as usize % attachments.len();
        let expected: Vec<Bytes> = (0..attachments.len()).map(|index| attachments[(index + shift) % attachments.len()].clone()).collect();
        prop_assert_eq!(args.attachments(), expected);
        prop_assert_eq!(args.iter().count(), json.iter().count());
        prop_assert_eq!(parse_json::<Value>(args.iter().last().expect("it is there")).expect("JSON"), before);
    }

    #[test]
    fn nothing_that_comes_brings_the_reader_down(message in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&message);
        let framed = [b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\x9f\xa1e", &message[..]].concat();
        if let Ok(Packet::Event { args, .. }) = decode(&framed) {
            Args::decode(&format!("[{}]", args.raw()), args.attachments().to_vec()).expect("arguments");
        }
    }
}
