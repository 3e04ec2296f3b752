//! The protocol's own lists: what is read, what is refused, what is written.

use bytes::Bytes;
use posthaste_socket_proto::*;
use serde_json::{json, value::RawValue};

/// The variant of an error, without its contents.
fn variant(error: &impl std::fmt::Debug) -> String {
    format!("{error:?}").chars().take_while(char::is_ascii_alphabetic).collect()
}

fn decode(text: &str) -> Result<Option<Packet<'_>>, DecodeError> {
    Decoder::default().text(text, &DecodeLimits::default())
}

fn connect<'a>(namespace: &'a str, auth: Option<&'a str>) -> Packet<'a> {
    Packet::Connect { namespace: namespace.into(), auth: auth.map(Into::into) }
}

fn event<'a>(namespace: &'a str, id: Option<u64>, event: &'a str, args: &'a str) -> Packet<'a> {
    let args = Args::decode(args, Vec::new()).expect("the table holds arrays");
    Packet::Event { namespace: namespace.into(), id, event: event.into(), args }
}

fn ack<'a>(namespace: &'a str, id: u64, args: &'a str) -> Packet<'a> {
    Packet::Ack { namespace: namespace.into(), id, args: Args::decode(args, Vec::new()).expect("arrays") }
}

fn blank(namespace: &str) -> Packet<'_> {
    Packet::Blank { namespace: namespace.into() }
}

#[test]
fn text_packets_decode_as_specified() {
    for (text, expected) in [
        ("0", connect("/", None)),
        ("0{}", connect("/", Some("{}"))),
        (r#"0{"token":[1,{"x":null}]}"#, connect("/", Some(r#"{"token":[1,{"x":null}]}"#))),
        ("0/admin,", connect("/admin", None)),
        ("0/admin,{\"a\":1}", connect("/admin", Some("{\"a\":1}"))),
        ("0/ok", connect("/ok", None)),
        ("0/", connect("/", None)),
        ("0/,{}", connect("/", Some("{}"))),
        ("0/admin?token=x,{}", connect("/admin?token=x", Some("{}"))),
        ("0/admin?token=x", connect("/admin?token=x", None)),
        ("0/a/b é,", connect("/a/b é", None)),
        (r#"0{"pid":"uOWl","offset":"Q7w3h0Z"}"#, connect("/", Some(r#"{"pid":"uOWl","offset":"Q7w3h0Z"}"#))),
        ("1", Packet::Disconnect { namespace: "/".into() }),
        ("1/admin,", Packet::Disconnect { namespace: "/admin".into() }),
        ("1/admin", Packet::Disconnect { namespace: "/admin".into() }),
        (r#"2["hi"]"#, event("/", None, "hi", "[]")),
        (r#"2["hi",1]"#, event("/", None, "hi", "[1]")),
        (r#"2["plain",1,"Q7w3509.0"]"#, event("/", None, "plain", r#"[1,"Q7w3509.0"]"#)),
        (r#"2/admin,13["x"]"#, event("/admin", Some(13), "x", "[]")),
        (r#"2/admin,["session","f983"]"#, event("/admin", None, "session", r#"["f983"]"#)),
        (r#"20["x"]"#, event("/", Some(0), "x", "[]")),
        (r#"2007["x"]"#, event("/", Some(7), "x", "[]")),
        (r#"218446744073709551615["x"]"#, event("/", Some(u64::MAX), "x", "[]")),
        (r#"2[ "hi" , 1 , [2 ] ] "#, event("/", None, "hi", "[1 , [2 ]]")),
        (r#"2["a,b]",",",{"x":"]"}]"#, event("/", None, "a,b]", r#"[",",{"x":"]"}]"#)),
        (r#"2["not",{"_placeholder":true,"num":9}]"#, event("/", None, "not", r#"[{"_placeholder":true,"num":9}]"#)),
        (r#"2[""]"#, event("/", None, "", "[]")),
        (r#"2["\u0065cho"]"#, event("/", None, "echo", "[]")),
        (r#"2["\u0000\n\"é"]"#, event("/", None, "\0\n\"é", "[]")),
        (r#"2["x\ud800y\ud83d\ude00"]"#, event("/", None, "x\u{fffd}y😀", "[]")),
        ("2[1]", event("/", None, "1", "[]")),
        ("2[-1.5e3,2]", event("/", None, "-1.5e3", "[2]")),
        (r#"2["error"]"#, event("/", None, "error", "[]")),
        (r#"2["x","\ud800"]"#, event("/", None, "x", r#"["\ud800"]"#)),
        ("2", blank("/")),
        ("2/admin,", blank("/admin")),
        ("27", blank("/")),
        ("3", blank("/")),
        ("3/admin,", blank("/admin")),
        ("37", ack("/", 7, "[]")),
        ("37[]", ack("/", 7, "[]")),
        (r#"30["ok"]"#, ack("/", 0, r#"["ok"]"#)),
        (r#"3/admin,456["connect",{}]"#, ack("/admin", 456, r#"["connect",{}]"#)),
        (
            r#"4/nope,{"message":"Invalid namespace"}"#,
            Packet::ConnectError { namespace: "/nope".into(), data: Some(r#"{"message":"Invalid namespace"}"#.into()) },
        ),
        (r#"4"old""#, Packet::ConnectError { namespace: "/".into(), data: Some("\"old\"".into()) }),
        ("4", Packet::ConnectError { namespace: "/".into(), data: None }),
    ] {
        let packet = decode(text).unwrap_or_else(|error| panic!("{text}: {error:?}"));
        assert_eq!(packet.as_ref(), Some(&expected), "{text}");
        assert_eq!(packet.map(Packet::into_owned), Some(expected), "{text}");
    }
}

#[test]
fn malformed_text_is_refused() {
    for (text, expected) in [
        ("", "Empty"),
        ("7", "UnknownType"),
        ("9[\"x\"]", "UnknownType"),
        ("x", "UnknownType"),
        ("é", "UnknownType"),
        (" 2[\"x\"]", "UnknownType"),
        ("-1", "UnknownType"),
        // attachment counts
        (r#"5["x"]"#, "AttachmentCount"),
        (r#"5-["x"]"#, "AttachmentCount"),
        (r#"51["x"]"#, "AttachmentCount"),
        (r#"50-["x"]"#, "AttachmentCount"),
        (r#"5-1-["x"]"#, "AttachmentCount"),
        (r#"51.5-["x"]"#, "AttachmentCount"),
        (r#"5a-["x"]"#, "AttachmentCount"),
        (r#"5 1-["x"]"#, "AttachmentCount"),
        (r#"5/admin,1-["x"]"#, "AttachmentCount"),
        ("51", "AttachmentCount"),
        ("6", "AttachmentCount"),
        (r#"511-["x"]"#, "TooManyAttachments"),
        (r#"5999999999-["x"]"#, "TooManyAttachments"),
        (r#"599999999999999999999999-["x"]"#, "TooManyAttachments"),
        // placeholders
        (r#"51-["x"]"#, "Placeholder"),
        ("51-", "Placeholder"),
        ("61-7", "Placeholder"),
        (r#"51-["x",{"_placeholder":true,"num":1}]"#, "Placeholder"),
        (r#"51-["x",{"_placeholder":true,"num":-1}]"#, "Placeholder"),
        (r#"51-["x",{"_placeholder":true,"num":"0"}]"#, "Placeholder"),
        (r#"51-["x",{"_placeholder":true,"num":0.5}]"#, "Placeholder"),
        (r#"51-["x",{"_placeholder":true,"num":0},{"_placeholder":true,"num":0}]"#, "Placeholder"),
        (r#"52-["x",{"_placeholder":true,"num":0}]"#, "Placeholder"),
        // ids
        (r#"218446744073709551616["x"]"#, "AckId"),
        (r#"3["x"]"#, "MissingAckId"),
        (r#"61-["x",{"_placeholder":true,"num":0}]"#, "MissingAckId"),
        (r#"3/admin,["x"]"#, "MissingAckId"),
        // letters and other noise where an id or JSON should be
        ("2hello", "NotAnArray"),
        ("2abc[\"x\"]", "NotAnArray"),
        ("21x[\"x\"]", "NotAnArray"),
        ("2-1[\"x\"]", "NotAnArray"),
        ("2 [\"x\"]", "NotAnArray"),
        ("2admin,[\"x\"]", "NotAnArray"),
        ("0abc", "NotAnObject"),
        ("1abc", "DisconnectPayload"),
        ("31é", "NotAnArray"),
        // JSON
        (r#"2["x""#, "Json"),
        (r#"2["x",]"#, "Json"),
        (r#"2["x"]]"#, "Json"),
        (r#"2["x"]["y"]"#, "Json"),
        (r#"2["x"] trailing"#, "Json"),
        (r#"2["x",{"a":1,}]"#, "Json"),
        (r#"2["x",{a:1}]"#, "Json"),
        (r#"2["x",{"a" 1}]"#, "Json"),
        (r#"2["x",NaN]"#, "Json"),
        (r#"2["x",01]"#, "Json"),
        (r#"2["x",1.]"#, "Json"),
        (r#"2["x","\x"]"#, "Json"),
        (r#"2["\u12"]"#, "Json"),
        ("2[\"x\",\"a\nb\"]", "Json"),
        (r#"2["x",[1}]"#, "Json"),
        ("2[\"x\"]\0", "Json"),
        (r#"30["x""#, "Json"),
        ("2/admin[\"x\"]", ""),
        // shapes
        ("0[]", "NotAnObject"),
        ("0null", "NotAnObject"),
        ("0\"x\"", "NotAnObject"),
        ("0true", "NotAnObject"),
        ("0-1", "NotAnObject"),
        ("0{", "Json"),
        (r#"0{"token":"x"#, "Json"),
        (r#"0{"a":1}{}"#, "Json"),
        (r#"0/admin,{"a":1"#, "Json"),
        ("1{}", "DisconnectPayload"),
        ("1/admin,[]", "DisconnectPayload"),
        ("2{}", "NotAnArray"),
        ("2\"x\"", "NotAnArray"),
        ("2null", "NotAnArray"),
        ("30{}", "NotAnArray"),
        ("30\"ok\"", "NotAnArray"),
        ("30null", "NotAnArray"),
        ("2[]", "EventName"),
        ("2[null]", "EventName"),
        ("2[true]", "EventName"),
        ("2[[\"x\"]]", "EventName"),
        ("2[{\"x\":1}]", "EventName"),
        ("4[]", "NotAnObject"),
        ("4null", "NotAnObject"),
        ("4\"x", "Json"),
    ] {
        match decode(text) {
            Err(error) => assert_eq!(variant(&error), expected, "{text}"),
            // A namespace may hold nearly anything; without its comma the payload becomes part of the name.
            Ok(Some(Packet::Blank { namespace })) if expected.is_empty() => assert_eq!(namespace, r#"/admin["x"]"#),
            Ok(packet) => panic!("{text} was taken for {packet:?}"),
        }
    }
}

#[test]
fn binary_packets_are_complete_with_their_last_attachment() {
    let limits = DecodeLimits::default();
    let mut decoder = Decoder::default();
    let (one, two) = (Bytes::from_static(&[1, 2, 3]), Bytes::new());

    let text = r#"51-["hi",{"_placeholder":true,"num":0},"Q7w3509"]"#;
    assert_eq!(decoder.text(text, &limits).unwrap(), None);
    assert_eq!(decoder.pending_namespace(), Some("/"));
    let Some(Packet::Event { namespace, id: None, event, args }) = decoder.binary(one.clone(), &limits).unwrap() else {
        panic!("an event without id");
    };
    assert_eq!((&*namespace, &*event, args.raw()), ("/", "hi", r#"{"_placeholder":true,"num":0},"Q7w3509""#));
    assert_eq!(args.attachments(), std::slice::from_ref(&one));

    // Numbers say which attachment goes where; they may come in any order.
    let text = r#"62-/admin,456[{"a":[{"_placeholder":true,"num":1}]},{"num":0,"_placeholder":true}]"#;
    assert_eq!(decoder.text(text, &limits).unwrap(), None);
    assert_eq!(decoder.pending_namespace(), Some("/admin"));
    assert_eq!(decoder.binary(one.clone(), &limits).unwrap(), None);
    let Some(Packet::Ack { namespace, id: 456, args }) = decoder.binary(two.clone(), &limits).unwrap() else {
        panic!("an ack");
    };
    assert_eq!(namespace, "/admin");
    assert_eq!(args.attachments(), [one, two]);
    assert_eq!(decoder.pending_namespace(), None);
}

#[test]
fn text_and_binary_messages_out_of_turn_are_refused() {
    let limits = DecodeLimits::default();
    let mut decoder = Decoder::default();
    assert_eq!(variant(&decoder.binary(Bytes::new(), &limits).unwrap_err()), "UnexpectedBinary");

    let header = r#"51-["hi",{"_placeholder":true,"num":0}]"#;
    for text in ["2[\"x\"]", "1", "", header] {
        assert_eq!(decoder.text(header, &limits).unwrap(), None);
        assert_eq!(variant(&decoder.text(text, &limits).unwrap_err()), "UnexpectedText", "{text}");
    }
    assert_eq!(variant(&decoder.binary(Bytes::new(), &limits).unwrap_err()), "UnexpectedBinary");
}

fn written(encode: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = b"frame:".to_vec();
    encode(&mut out);
    String::from_utf8(out.split_off(6)).expect("packets are text")
}

fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).expect("the table holds JSON")
}

#[test]
fn packets_without_arguments_are_written_as_the_reference_server_does() {
    assert_eq!(written(|out| encode_connect(out, "/", "x1", None)), r#"0{"sid":"x1"}"#);
    assert_eq!(
        written(|out| encode_connect(out, "/admin", "x1", Some("p\"1"))),
        r#"0/admin,{"sid":"x1","pid":"p\"1"}"#
    );
    assert_eq!(written(|out| encode_connect_request(out, "/", None)), "0");
    assert_eq!(written(|out| encode_connect_request(out, "/admin", None)), "0/admin,");
    assert_eq!(written(|out| encode_connect_request(out, "/", Some(&raw("{\"t\":1}")))), "0{\"t\":1}");
    assert_eq!(
        written(|out| encode_connect_error(out, "/nope", "Invalid namespace", None)),
        r#"4/nope,{"message":"Invalid namespace"}"#
    );
    assert_eq!(
        written(|out| encode_connect_error(out, "/admin", "nope", Some(&raw("{\"code\":7}")))),
        r#"4/admin,{"message":"nope","data":{"code":7}}"#
    );
    assert_eq!(written(|out| encode_disconnect(out, "/")), "1");
    assert_eq!(written(|out| encode_disconnect(out, "/admin")), "1/admin,");
}

fn event_text<A: EmitArgs + ?Sized>(namespace: &str, id: Option<u64>, event: &str, args: &A) -> String {
    written(|out| {
        let attachments = encode_event(out, namespace, id, event, args).expect("the table holds JSON");
        assert!(attachments.is_empty());
    })
}

#[test]
fn events_and_acks_are_written_as_the_reference_server_does() {
    #[derive(serde::Serialize)]
    struct Unit;
    #[derive(serde::Serialize)]
    struct Pair(u8, &'static str);
    #[derive(serde::Serialize)]
    struct One((u8, u8));
    #[derive(serde::Serialize)]
    enum Shape {
        Point,
        Line(u8, u8),
        Circle { radius: f64 },
        Text(&'static str),
    }

    for (args, expected) in [
        (event_text("/", None, "hi", &1), r#"2["hi",1]"#),
        (event_text("/", None, "hi", &()), r#"2["hi"]"#),
        (event_text("/", None, "hi", &Unit), r#"2["hi"]"#),
        (event_text("/", None, "hi", &((),)), r#"2["hi",null]"#),
        (event_text("/", None, "hi", &json!(null)), r#"2["hi",null]"#),
        (event_text("/", None, "hi", &None::<u8>), r#"2["hi",null]"#),
        (event_text("/", None, "hi", &Some((1, 2))), r#"2["hi",[1,2]]"#),
        (event_text("/", None, "hi", "text"), r#"2["hi","text"]"#),
        (event_text("/", None, "hi", &"text"), r#"2["hi","text"]"#),
        (event_text("/", None, "hi", &format_args!("{}", 1)), r#"2["hi","1"]"#),
        (event_text("/", None, "hi", &(1, "two", [3])), r#"2["hi",1,"two",[3]]"#),
        (event_text("/", None, "hi", &(1, (2, (3,)))), r#"2["hi",1,[2,[3]]]"#),
        (event_text("/", None, "hi", &(Vec::<u8>::new(),)), r#"2["hi",[]]"#),
        (event_text("/", None, "hi", &[1, 2]), r#"2["hi",1,2]"#),
        (event_text("/", None, "hi", &([1, 2],)), r#"2["hi",[1,2]]"#),
        (event_text("/", None, "hi", &[0; 0]), r#"2["hi"]"#),
        (event_text("/", None, "hi", &vec![1, 2]), r#"2["hi",[1,2]]"#),
        (event_text("/", None, "hi", &[1, 2][..]), r#"2["hi",[1,2]]"#),
        (event_text("/", None, "hi", &vec![(1, 2)]), r#"2["hi",[[1,2]]]"#),
        (event_text("/", None, "hi", &Pair(1, "x")), r#"2["hi",1,"x"]"#),
        (event_text("/", None, "hi", &One((1, 2))), r#"2["hi",[1,2]]"#),
        (event_text("/", None, "hi", &Shape::Point), r#"2["hi","Point"]"#),
        (event_text("/", None, "hi", &Shape::Line(1, 2)), r#"2["hi",{"Line":[1,2]}]"#),
        (event_text("/", None, "hi", &Shape::Circle { radius: 0.5 }), r#"2["hi",{"Circle":{"radius":0.5}}]"#),
        (event_text("/", None, "hi", &Shape::Text("x")), r#"2["hi",{"Text":"x"}]"#),
        (event_text("/", None, "hi", &(f64::NAN, f64::INFINITY)), r#"2["hi",null,null]"#),
        (event_text("/", None, "hi", &raw("[1, 2 ]")), r#"2["hi",[1, 2 ]]"#),
        (event_text("/", None, "hi", &*raw("{\"x\":1}")), r#"2["hi",{"x":1}]"#),
        (event_text("/", None, "hi", &(raw("1.0e5"), raw("\"\\ud800\""))), r#"2["hi",1.0e5,"\ud800"]"#),
        (event_text("/", None, "hi", &json!({"a":[true,{"b":"é"}]})), r#"2["hi",{"a":[true,{"b":"é"}]}]"#),
        (event_text("/", None, "q\"\n\u{1f}\u{2028}", &()), "2[\"q\\\"\\n\\u001f\u{2028}\"]"),
        (event_text("/", None, "hi", &true), r#"2["hi",true]"#),
        (
            event_text("/", None, "hi", &(u64::MAX, i64::MIN, 'c')),
            r#"2["hi",18446744073709551615,-9223372036854775808,"c"]"#,
        ),
        (event_text("/admin", Some(13), "x", &()), r#"2/admin,13["x"]"#),
        (event_text("/", Some(0), "x", &"y"), r#"20["x","y"]"#),
        (event_text("/", None, "hi", &Chain((), Chain(Pair(1, "x"), Chain((), json!([2]))))), r#"2["hi",1,"x",[2]]"#),
    ] {
        assert_eq!(args, expected);
    }

    for (args, expected) in [
        (written(|out| drop(encode_ack(out, "/", 0, "ok"))), r#"30["ok"]"#),
        (written(|out| drop(encode_ack(out, "/", 7, &()))), "37[]"),
        (written(|out| drop(encode_ack(out, "/admin", 456, &(1, Unit)))), "3/admin,456[1,null]"),
        (written(|out| drop(encode_ack(out, "/", 1, &Chain((), Chain(1, 2))))), "31[1,2]"),
    ] {
        assert_eq!(args, expected);
    }
}

#[test]
fn binary_values_at_any_depth_become_attachments() {
    #[derive(serde::Serialize)]
    struct Upload {
        name: &'static str,
        parts: Vec<Bytes>,
    }

    let (one, two) = (Bytes::from_static(&[1, 2, 3]), Bytes::new());
    let mut out = b"frame:".to_vec();
    let attachments = encode_event(&mut out, "/", None, "hi", &one).unwrap();
    assert_eq!(out, br#"frame:51-["hi",{"_placeholder":true,"num":0}]"#);
    assert_eq!(attachments, std::slice::from_ref(&one));

    out.truncate(6);
    let upload = Upload { name: "x", parts: vec![one.clone(), two.clone()] };
    let attachments = encode_ack(&mut out, "/admin", 13, &(upload, two.clone())).unwrap();
    assert_eq!(
        String::from_utf8(out).unwrap(),
        concat!(
            r#"frame:63-/admin,13[{"name":"x","parts":[{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]},"#,
            r#"{"_placeholder":true,"num":2}]"#
        )
    );
    assert_eq!(attachments, [one, two.clone(), two]);

    let many = vec![Bytes::from_static(b"x"); 12];
    let mut out = Vec::new();
    assert_eq!(encode_event(&mut out, "/", Some(1), "many", &many).unwrap(), many);
    assert!(out.starts_with(br#"512-1["many",[{"_placeholder":true,"num":0},"#));
    assert!(out.ends_with(br#"{"_placeholder":true,"num":11}]]"#));
}

#[test]
fn received_arguments_are_emitted_unchanged() {
    let text = r#" 1.10, "\ud800\u0041" ,{"x":[{"_placeholder":true,"num":1}]},{"num":0,"_placeholder":true}"#;
    let attachments = vec![Bytes::from_static(b"zero"), Bytes::from_static(b"one")];
    let array = format!("[{text}]");
    let args = Args::decode(&array, attachments.clone()).unwrap();

    let mut out = Vec::new();
    assert_eq!(encode_ack(&mut out, "/", 5, &args).unwrap(), attachments);
    assert_eq!(String::from_utf8(out).unwrap(), format!("62-5[{}]", text.trim()));
    let mut out = Vec::new();
    assert_eq!(encode_event(&mut out, "/", None, "echo", &&args.clone().into_owned()).unwrap(), attachments);
    assert_eq!(String::from_utf8(out).unwrap(), format!(r#"52-["echo",{}]"#, text.trim()));

    // Behind other attachments they are numbered anew; skipping some drops what only those used.
    let mut out = Vec::new();
    let sent = encode_event(&mut out, "/", None, "echo", &Chain((Bytes::from_static(b"new"),), args.skip(3))).unwrap();
    assert_eq!(
        String::from_utf8(out).unwrap(),
        r#"52-["echo",{"_placeholder":true,"num":0},{"num":1,"_placeholder":true}]"#
    );
    assert_eq!(sent, [Bytes::from_static(b"new"), Bytes::from_static(b"zero")]);
    assert_eq!(args.skip(4), Args::default());
    assert_eq!(args.skip(0).raw().len(), args.raw().len());

    let empty = Args::default();
    assert_eq!(event_text("/", None, "hi", &empty), r#"2["hi"]"#);
    assert_eq!(event_text("/", None, "hi", &Chain(empty, 1)), r#"2["hi",1]"#);
}

#[test]
fn nothing_is_written_when_encoding_fails() {
    struct Broken;
    impl serde::Serialize for Broken {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("broken"))
        }
    }
    let odd_keys = std::collections::BTreeMap::from([(vec![1], 2)]);
    let forged = json!({"_placeholder": true, "num": 0});

    let mut out = b"frame:".to_vec();
    let bytes = Bytes::from_static(b"x");
    for (result, expected) in [
        (encode_event(&mut out, "/", None, "disconnect", &()), "ReservedEvent"),
        (encode_event(&mut out, "/", None, "hi", &Broken), "Json"),
        (encode_event(&mut out, "/admin", Some(1), "hi", &(1, &bytes, Broken)), "Json"),
        (encode_ack(&mut out, "/", 1, &odd_keys), "Json"),
        (encode_ack(&mut out, "/", 1, &(&forged, &bytes)), "Placeholder"),
        (encode_ack(&mut out, "/", 1, &(&bytes, raw(r#"{"_placeholder":true,"num":7}"#))), "Placeholder"),
    ] {
        assert_eq!(variant(&result.unwrap_err()), expected);
    }
    assert_eq!(out, b"frame:");
    assert_eq!(event_text("/", None, "hi", &forged), r#"2["hi",{"_placeholder":true,"num":0}]"#, "plain data is free");
}
