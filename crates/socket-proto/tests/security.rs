//! Attacks seen on this protocol, one test each or several.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use posthaste_socket_proto::*;

fn decode(text: &str) -> Result<Option<Packet<'_>>, DecodeError> {
    Decoder::default().text(text, &DecodeLimits::default())
}

const HEADER: &str = r#"51-["e",{"_placeholder":true,"num":0}]"#;

#[test]
fn sec_03_reserved_event_names_never_come_from_the_wire_nor_reach_it() {
    for name in RESERVED_EVENTS {
        let escaped: String = name.bytes().map(|byte| format!("\\u{byte:04x}")).collect();
        for text in [format!(r#"2["{name}"]"#), format!(r#"21["{escaped}",1]"#), format!(r#"2/a,["{name}"]"#)] {
            let error = decode(&text).unwrap_err();
            assert!(matches!(error, DecodeError::ReservedEvent { name: found } if found == name), "{text}: {error:?}");
        }
        let text = format!(r#"51-["{name}",{{"_placeholder":true,"num":0}}]"#);
        assert!(matches!(decode(&text), Err(DecodeError::ReservedEvent { .. })), "{text}");
        let mut out = Vec::new();
        assert!(matches!(encode_event(&mut out, "/", None, name, &()), Err(EncodeError::ReservedEvent { .. })));
        assert!(decode(&format!(r#"2["{name} "]"#)).is_ok());
        assert!(decode(&format!(r#"31["{name}"]"#)).is_ok(), "an answer is not an event");
    }
    for name in ["__proto__", "constructor", "toString", "error", "\u{0}"] {
        let text = format!("2[{}]", serde_json::to_string(name).unwrap());
        assert!(matches!(decode(&text), Ok(Some(Packet::Event { event, .. })) if event == name));
    }
}

/// A megabyte or more of each shape that a reader may be slow or recursive on. Quadratic work on any of them is about
/// 10^12 steps and recursion overflows the stack, so that finishing at all is the assertion.
#[test]
fn sec_09_huge_packets_are_read_in_linear_time_and_constant_stack() {
    const SIZE: usize = 1 << 20;
    let placeholder = r#"{"_placeholder":true,"num":0}"#;
    let balanced = |open: &str, close: &str| {
        let count = SIZE / open.len();
        format!("{}{placeholder}{}", open.repeat(count), close.repeat(count))
    };
    for payload in [
        balanced("[", "]"),
        balanced(r#"{"a":"#, "}"),
        balanced(r#"[{"_placeholder":"#, "}]"),
        balanced(r#"{"num":"#, "}"),
        format!("{}{placeholder}", "1,".repeat(SIZE / 2)),
        format!("{}{placeholder}", r#"{"\u0061":1},"#.repeat(SIZE / 13)),
        format!(r#""{}",{placeholder}"#, "x".repeat(SIZE)),
        format!(r#""{}",{placeholder}"#, r"\\".repeat(SIZE / 2)),
        format!(r#""{}",{placeholder}"#, r"\ud800".repeat(SIZE / 6)),
        format!("{}{placeholder}", r#""","#.repeat(SIZE / 3)),
        format!("{}1,{placeholder}", " ".repeat(SIZE)),
    ] {
        let text = format!(r#"51-["e",{payload}]"#);
        let (mut decoder, limits) = (Decoder::default(), DecodeLimits::default());
        assert_eq!(decoder.text(&text, &limits).unwrap(), None);
        let Some(Packet::Event { args, .. }) = decoder.binary(Bytes::from_static(b"x"), &limits).unwrap() else {
            panic!("an event");
        };
        let count = args.iter().count();
        assert!(count > 0);
        let last = args.skip(count - 1);
        assert_eq!(last.attachments().len(), 1);
        assert!(args.skip(count).is_empty());
        assert_eq!(last.iter().count(), 1);
        let _ = args.deserialize::<(serde_json::Value, Option<serde_json::Value>)>();
        let _ = args.deserialize::<(Option<Bytes>, Option<Bytes>)>();
        let mut out = Vec::new();
        assert_eq!(encode_ack(&mut out, "/", 1, &Chain(Bytes::new(), &args)).unwrap().len(), 2);

        assert!(decode(&format!(r#"2["e",{payload}]"#)).is_ok());
        assert!(decode(&format!(r#"2["e",{payload}"#)).is_err(), "one bracket short");
        assert!(decode(&format!(r#"0{{"e":[{payload}]}}"#)).is_ok());
    }
    for text in [
        format!(r#"2["e",{}"#, "[".repeat(SIZE)),
        format!("2{}", "[".repeat(SIZE)),
        format!("0{}", "{\"a\":".repeat(SIZE / 5)),
        format!("5{}-[]", "9".repeat(SIZE)),
        format!("2{}[]", "9".repeat(SIZE)),
        "[".repeat(SIZE),
    ] {
        assert!(decode(&text).is_err());
    }
    let long_name = format!(r#"2["{}\ud800"]"#, "\\n".repeat(SIZE / 2));
    assert!(matches!(decode(&long_name), Ok(Some(Packet::Event { event, .. })) if event.ends_with("\n\u{fffd}")));
    assert!(
        matches!(decode(&format!("0/{}", "?".repeat(SIZE))), Ok(Some(Packet::Connect { namespace, .. })) if namespace.len() == 1 + SIZE)
    );
}

#[test]
fn sec_11_event_names_are_strings_or_numbers() {
    for name in ["{}", r#"{"toString":1}"#, "[]", r#"["x"]"#, "null", "true", "false"] {
        assert!(matches!(decode(&format!("2[{name}]")), Err(DecodeError::EventName)), "{name}");
        assert!(matches!(decode(&format!("21[{name},1]")), Err(DecodeError::EventName)), "{name}");
        let text = format!(r#"51-[{name},{{"_placeholder":true,"num":0}}]"#);
        assert!(matches!(decode(&text), Err(DecodeError::EventName)), "{name}");
    }
    let text = r#"51-[{"_placeholder":true,"num":0}]"#;
    assert!(matches!(decode(text), Err(DecodeError::EventName)), "an attachment is no name");
}

#[test]
fn sec_12_attachments_are_limited_in_number_size_and_time() {
    let packet = |count: usize| {
        let places: Vec<_> = (0..count).map(|number| format!(r#"{{"_placeholder":true,"num":{number}}}"#)).collect();
        format!(r#"5{count}-["e",{}]"#, places.join(","))
    };
    assert!(matches!(decode(&packet(10)), Ok(None)));
    assert!(matches!(decode(&packet(11)), Err(DecodeError::TooManyAttachments { max: 10 })));
    assert!(matches!(decode(r#"5999999999-["e"]"#), Err(DecodeError::TooManyAttachments { max: 10 })));

    let limits = ConnectionLimits {
        decode: DecodeLimits { max_attachments: 10, max_attachment_bytes: 5 },
        attachments_timeout: Duration::from_secs(10),
        ..ConnectionLimits::default()
    };
    let start = Instant::now();
    let mut connection = Connection::new(start + Duration::from_secs(45));
    connection.receive_text("0", start, &limits).unwrap();
    connection.accept(&Arc::from("/"), ()).unwrap();
    assert_eq!(connection.deadline(), None);

    // Within the limits, and exactly at that of bytes.
    connection.receive_text(&packet(2), start, &limits).unwrap();
    assert_eq!(connection.deadline(), Some(start + Duration::from_secs(10)));
    connection.receive_binary(Bytes::from_static(b"123"), &limits).unwrap();
    assert!(connection.receive_binary(Bytes::from_static(b"45"), &limits).unwrap().is_some());
    assert_eq!(connection.deadline(), None);

    // A client that stalls, or trickles attachments, is over the time counted from its packet.
    connection.receive_text(&packet(2), start, &limits).unwrap();
    connection.receive_binary(Bytes::new(), &limits).unwrap();
    assert!(connection.expired(start + Duration::from_millis(9_999)).is_none());
    assert!(matches!(connection.expired(start + Duration::from_secs(10)), Some(Violation::AttachmentsTimeout)));

    // One byte too many.
    let error = connection.receive_binary(Bytes::from_static(b"123456"), &limits).unwrap_err();
    assert!(matches!(error, Violation::Decode(DecodeError::AttachmentsTooLarge { max: 5 })));
    assert_eq!(connection.deadline(), None, "nothing is kept");
}

#[test]
fn sec_27_attachments_are_collected_only_for_joined_namespaces_and_freed_with_the_connection() {
    let (now, limits) = (Instant::now(), ConnectionLimits::default());
    for namespace in ["/", "/admin"] {
        let header =
            if namespace == "/" { HEADER.to_owned() } else { HEADER.replacen('-', &format!("-{namespace},"), 1) };
        let mut connection = Connection::new(now);
        let error = connection.receive_text(&header, now, &limits).unwrap_err();
        assert!(matches!(error, Violation::NotJoined), "before CONNECT");
        let error = connection.receive_binary(Bytes::new(), &limits).unwrap_err();
        assert!(matches!(error, Violation::Decode(DecodeError::UnexpectedBinary)), "the header was not kept");

        connection.receive_text(&format!("0{namespace}"), now, &limits).unwrap();
        let error = connection.receive_text(&header, now, &limits).unwrap_err();
        assert!(matches!(error, Violation::NotJoined), "before the server accepted");

        connection.accept(&Arc::from(namespace), 1).unwrap();
        assert_eq!(connection.receive_text(&header, now, &limits).unwrap(), None);
        assert_eq!(connection.drain().collect::<Vec<_>>(), [1]);
        let error = connection.receive_binary(Bytes::new(), &limits).unwrap_err();
        assert!(matches!(error, Violation::Decode(DecodeError::UnexpectedBinary)), "closing frees the partial packet");
    }
}

#[test]
fn sec_27_attachments_for_a_namespace_the_server_left_are_swallowed() {
    let (now, limits) = (Instant::now(), ConnectionLimits::default());
    let mut connection = Connection::new(now);
    connection.receive_text("0", now, &limits).unwrap();
    connection.accept(&Arc::from("/"), 1).unwrap();
    connection.receive_text(HEADER, now, &limits).unwrap();
    assert_eq!(connection.leave("/"), Some(1));
    assert_eq!(connection.receive_binary(Bytes::new(), &limits).unwrap(), None);
    assert_eq!(connection.receive_text(HEADER, now, &limits).unwrap(), None);
    assert_eq!(connection.receive_binary(Bytes::new(), &limits).unwrap(), None);
}
