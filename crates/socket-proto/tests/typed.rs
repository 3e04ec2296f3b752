//! What application types see of arguments.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use posthaste_socket_proto::*;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json, value::RawValue};

fn args(array: &str) -> Args<'_> {
    Args::decode(array, Vec::new()).expect("the table holds arrays")
}

fn read<T: DeserializeOwned>(array: &str) -> Result<T, ArgsError> {
    args(array).deserialize()
}

/// Sends `value` as the arguments of an event, over the wire and back.
fn received<A: EmitArgs + ?Sized>(value: &A) -> Args<'static> {
    let mut text = Vec::new();
    let attachments = encode_event(&mut text, "/", None, "x", value).expect("the value is JSON");
    let text = String::from_utf8(text).expect("packets are text");
    let (mut decoder, limits) = (Decoder::default(), DecodeLimits { max_attachments: 1_000, ..Default::default() });
    let mut packet = decoder.text(&text, &limits).expect("what we write, we read").map(Packet::into_owned);
    for attachment in attachments {
        packet = decoder.binary(attachment, &limits).expect("what we write, we read");
    }
    match packet {
        Some(Packet::Event { args, .. }) => args,
        other => panic!("not an event: {other:?}"),
    }
}

#[test]
fn a_tuple_takes_one_argument_per_element() {
    #[derive(Deserialize, Debug, PartialEq)]
    struct Pair(u8, String);
    #[derive(Deserialize, Debug, PartialEq)]
    struct Defaults(u8, Option<u8>, #[serde(default)] u8);
    #[derive(Deserialize, Debug, PartialEq)]
    struct Wrapped(Option<u8>);

    assert_eq!(read::<(u8, String)>(r#"[1,"x"]"#).unwrap(), (1, "x".into()));
    assert_eq!(read::<(u8,)>(r#"[1,"further",{}]"#).unwrap(), (1,));
    assert_eq!(read::<Pair>(r#"[ 1 , "x" ]"#).unwrap(), Pair(1, "x".into()));
    assert_eq!(read::<[u8; 2]>("[1,2,3]").unwrap(), [1, 2]);
    assert_eq!(read::<([u8; 2],)>("[[1,2]]").unwrap(), ([1, 2],));
    assert_eq!(read::<((u8, u8), u8)>("[[1,2],3]").unwrap(), ((1, 2), 3));
    assert_eq!(read::<(u8, Option<u8>, Option<String>)>("[1]").unwrap(), (1, None, None));
    assert_eq!(read::<(u8, Option<u8>)>("[1,null]").unwrap(), (1, None));
    assert_eq!(read::<(Wrapped, Option<Option<u8>>, ())>("[]").unwrap(), (Wrapped(None), None, ()));
    assert_eq!(read::<Defaults>("[1]").unwrap(), Defaults(1, None, 0));
    assert_eq!(read::<Defaults>("[1,2,3]").unwrap(), Defaults(1, Some(2), 3));
    assert_eq!(
        read::<(Value, Vec<u8>, HashMap<String, u8>)>(r#"[{"x":[null]},[1],{"y":2}]"#).unwrap().0,
        json!({"x":[null]})
    );
    assert_eq!(
        received(&(1, "x", Some(2))).deserialize::<(u8, String, Option<u8>)>().unwrap(),
        (1, "x".into(), Some(2))
    );
}

#[test]
fn any_other_type_takes_the_first_argument() {
    #[derive(Deserialize, Debug, PartialEq)]
    struct Named {
        x: u8,
    }
    #[derive(Deserialize, Debug, PartialEq)]
    struct Newtype((u8, u8));
    #[derive(Deserialize, Debug, PartialEq)]
    enum Shape {
        Point,
        Line(u8, u8),
        Circle { radius: f64 },
        Text(String),
    }

    assert_eq!(read::<String>(r#"["x","y"]"#).unwrap(), "x");
    assert_eq!(read::<u8>("[12,3]").unwrap(), 12);
    assert_eq!(read::<f64>("[12 , 3]").unwrap(), 12.0);
    assert_eq!(read::<Vec<u8>>("[[1,2],3]").unwrap(), [1, 2]);
    assert_eq!(read::<Named>(r#"[{"x":1},2]"#).unwrap(), Named { x: 1 });
    assert_eq!(read::<Newtype>("[[1,2],3]").unwrap(), Newtype((1, 2)));
    assert_eq!(read::<Shape>(r#"["Point"]"#).unwrap(), Shape::Point);
    assert_eq!(read::<Shape>(r#"[{"Line":[1,2]}]"#).unwrap(), Shape::Line(1, 2));
    assert_eq!(read::<Shape>(r#"[{"Circle":{"radius":0.5}}]"#).unwrap(), Shape::Circle { radius: 0.5 });
    assert_eq!(read::<Shape>(r#"[{"Text":"x"}]"#).unwrap(), Shape::Text("x".into()));
    assert_eq!(read::<Value>(r#"[null,2]"#).unwrap(), json!(null));
    assert_eq!(read::<Box<RawValue>>(r#"[ [1, 2 ] ,3]"#).unwrap().get(), "[1, 2 ]");
    assert_eq!(read::<Option<String>>("[]").unwrap(), None);
    assert_eq!(read::<Option<String>>("[null]").unwrap(), None);
    assert_eq!(read::<Option<(u8, u8)>>("[[1,2]]").unwrap(), Some((1, 2)));
    assert_eq!(read::<Bytes>(r#"["text"]"#).unwrap(), "text");
    read::<()>("[]").unwrap();
    read::<()>(r#"[1,"x"]"#).unwrap();
    read::<serde::de::IgnoredAny>("[1]").unwrap();
}

#[test]
fn what_is_missing_or_does_not_fit_is_named() {
    #[derive(Deserialize, Debug)]
    struct Named {
        #[expect(dead_code, reason = "only its absence matters")]
        x: u8,
    }
    for (result, expected) in [
        (read::<String>("[]").map(drop), "missing argument 0"),
        (read::<Value>("[]").map(drop), "missing argument 0"),
        (read::<Box<RawValue>>("[]").map(drop), "missing argument 0"),
        (read::<Named>("[]").map(drop), "missing argument 0"),
        (read::<(u8, u8, u8)>("[1,2]").map(drop), "missing argument 2"),
        (read::<(u8, Option<u8>, u8)>("[1]").map(drop), "missing argument 2"),
        (read::<[u8; 2]>("[1]").map(drop), "missing argument 1"),
        (read::<(u8, Named)>("[1]").map(drop), "missing argument 1"),
        (read::<u8>(r#"["x"]"#).map(drop), "argument 0 does not fit"),
        (read::<u8>("[256]").map(drop), "argument 0 does not fit"),
        (read::<(u8, u8)>("[1,-2]").map(drop), "argument 1 does not fit"),
        (read::<(u8, Named)>("[1,{}]").map(drop), "argument 1 does not fit"),
        (read::<(f64, f64)>("[1,1e999]").map(drop), "argument 1 does not fit"),
    ] {
        assert_eq!(result.unwrap_err().to_string(), expected);
    }
    let ArgsError::Invalid { index: 1, source } = read::<(u8, Named)>("[1,{}]").unwrap_err() else { panic!("invalid") };
    assert!(source.to_string().starts_with("missing field `x`"), "{source}");
}

#[test]
fn types_may_borrow_from_the_text_and_the_attachments() {
    #[derive(Deserialize)]
    struct Borrowing<'a> {
        name: &'a str,
        #[serde(borrow)]
        rest: &'a RawValue,
        data: &'a [u8],
    }
    let array = r#"[{"name":"x","rest":{"a":[1, 2]},"data":{"_placeholder":true,"num":0}},"y"]"#;
    let attachment = Bytes::from_static(&[1, 2, 3]);
    let args = Args::decode(array, vec![attachment.clone()]).unwrap();
    let (first, second): (Borrowing<'_>, &str) = args.deserialize_borrowed().unwrap();
    assert_eq!((first.name, first.rest.get(), second), ("x", r#"{"a":[1, 2]}"#, "y"));
    assert_eq!(first.data.as_ptr(), attachment.as_ptr(), "no copy");
    assert!(args.deserialize_borrowed::<(Value, u8)>().is_err());
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(untagged)]
enum Untagged {
    Number(i64),
    Blob(Bytes),
    List(Vec<Untagged>),
    Record { inner: Box<Untagged>, size: u8 },
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "kind")]
enum Tagged {
    File { data: Bytes },
    Nothing,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
enum Plain {
    Unit,
    Newtype(Bytes),
    Tuple(u8, Option<Bytes>),
    Struct { data: Bytes, more: Vec<Plain> },
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Flat {
    name: String,
    #[serde(flatten)]
    rest: BTreeMap<String, Untagged>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Everything {
    plain: Vec<Plain>,
    untagged: Untagged,
    tagged: [Tagged; 2],
    flat: Flat,
    map: BTreeMap<u8, Bytes>,
    wrapped: Wrapper,
    option: (Option<Bytes>, Option<Bytes>),
    bits: (u64, i128, f32, char, bool, ()),
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Wrapper(Bytes);

fn everything() -> Everything {
    let mut count = 0_u8;
    let mut blob = || {
        count += 1;
        Bytes::from(vec![0xff, count])
    };
    Everything {
        plain: vec![
            Plain::Unit,
            Plain::Newtype(blob()),
            Plain::Tuple(1, Some(blob())),
            Plain::Tuple(1, None),
            Plain::Struct { data: blob(), more: vec![Plain::Newtype(blob())] },
        ],
        untagged: Untagged::List(vec![
            Untagged::Number(-7),
            Untagged::Blob(blob()),
            Untagged::Record { inner: Box::new(Untagged::Blob(blob())), size: 2 },
        ]),
        tagged: [Tagged::File { data: blob() }, Tagged::Nothing],
        flat: Flat {
            name: "n".into(),
            rest: BTreeMap::from([("a".into(), Untagged::Blob(blob())), ("b".into(), Untagged::Number(1))]),
        },
        map: BTreeMap::from([(1, blob()), (200, blob())]),
        wrapped: Wrapper(blob()),
        option: (None, Some(blob())),
        bits: (u64::MAX, i128::MIN, 0.1, 'é', true, ()),
    }
}

#[test]
fn bytes_reach_every_corner_of_a_type() {
    let sent = everything();
    let args = received(&(&sent, &sent, "last"));
    assert_eq!(args.attachments().len(), 24);
    let (first, second, last): (Everything, Everything, String) = args.deserialize().unwrap();
    assert_eq!((&first, &second, last.as_str()), (&sent, &sent, "last"));
    assert_eq!(received(&sent).deserialize::<Everything>().unwrap(), sent, "as a single argument");
    let again = received(&args);
    assert_eq!(again, args, "passing on is not reading");
}

#[test]
fn values_and_raw_values_see_placeholders() {
    let placeholder = r#"{"_placeholder":true,"num":0}"#;
    let array = format!(r#"[{{"x":[{placeholder}]}}]"#);
    let args = Args::decode(&array, vec![Bytes::from_static(b"x")]).unwrap();
    assert_eq!(args.deserialize::<Value>().unwrap(), json!({"x":[{"_placeholder":true,"num":0}]}));
    assert_eq!(args.deserialize::<Box<RawValue>>().unwrap().get(), format!(r#"{{"x":[{placeholder}]}}"#));
    let parts: HashMap<String, Vec<Box<RawValue>>> = args.deserialize().unwrap();
    assert_eq!(parts["x"][0].get(), placeholder);
    let parts: HashMap<String, Vec<Value>> = args.deserialize().unwrap();
    assert_eq!(parts["x"][0]["num"], 0);
    #[derive(Deserialize)]
    struct Placeholder {
        num: usize,
    }
    assert_eq!(args.deserialize::<HashMap<String, Vec<Placeholder>>>().unwrap()["x"][0].num, 0);
    assert_eq!(args.deserialize::<HashMap<String, Vec<Bytes>>>().unwrap()["x"], ["x"]);

    // Beside a value that keeps its placeholder, bytes are still bytes.
    let array =
        format!(r#"[{{"_placeholder":{{"_placeholder":1}},"num":{placeholder}}},{{"num":1,"_placeholder":true}}]"#);
    let args = Args::decode(&array, vec![Bytes::from_static(b"x"), Bytes::from_static(b"y")]).unwrap();
    let (value, bytes): (Value, Bytes) = args.deserialize().unwrap();
    assert_eq!(value, json!({"_placeholder":{"_placeholder":1},"num":{"_placeholder":true,"num":0}}));
    assert_eq!(bytes, "y");
    assert!(args.deserialize::<(Bytes, Bytes)>().is_err(), "an object that only looks like a placeholder");
}

#[test]
fn attachments_are_found_behind_buffers_whatever_the_order_of_members() {
    let attachments = || vec![Bytes::from_static(&[0xff]), Bytes::from_static(&[0xfe])];
    for array in [
        r#"[{"inner":{"_placeholder":true,"num":1},"size":1},{"_placeholder":true,"num":0}]"#,
        r#"[{"size":1,"inner":{"num":1,"_placeholder":true}},{ "num" : 0 , "_placeholder" : true }]"#,
        r#"[{"s\u0069ze":1,"inner":{"_placeholder":true,"num":1}},{"_placeholder":true,"num":0}]"#,
    ] {
        let args = Args::decode(array, attachments()).unwrap();
        let expected = Untagged::Record { inner: Box::new(Untagged::Blob(attachments()[1].clone())), size: 1 };
        assert_eq!(args.deserialize::<(Untagged, Bytes)>().unwrap(), (expected, attachments()[0].clone()), "{array}");
    }
}

#[test]
fn unpaired_surrogates_are_replaced_where_text_is_read_and_kept_where_it_is_passed_on() {
    let array = r#"["a\ud800b",{"\udfff":"\ud83d\ude00\uD83D"},"\\ud800"]"#;
    let args = args(array);
    let (text, map, last): (String, HashMap<String, String>, String) = args.deserialize().unwrap();
    assert_eq!((text.as_str(), map["\u{fffd}"].as_str(), last.as_str()), ("a\u{fffd}b", "😀\u{fffd}", "\\ud800"));
    assert_eq!(args.deserialize::<Value>().unwrap(), "a\u{fffd}b");
    assert_eq!(args.raw(), &array[1..array.len() - 1]);
    assert_eq!(args.deserialize::<Box<RawValue>>().unwrap().get(), r#""a\ud800b""#);
    assert!(args.deserialize_borrowed::<(&RawValue, &RawValue)>().is_ok());

    let array = r#"["\ud800",{"_placeholder":true,"num":0}]"#;
    let args = Args::decode(array, vec![Bytes::from_static(b"x")]).unwrap();
    assert_eq!(args.deserialize::<(String, Bytes)>().unwrap(), ("\u{fffd}".into(), Bytes::from_static(b"x")));
}

#[test]
fn deep_arguments_pass_through_and_refuse_to_become_values() {
    let array = format!("[{}{}]", "[".repeat(100_000), "]".repeat(100_000));
    let deep = args(&array);
    assert!(deep.deserialize::<Value>().is_err());
    assert_eq!(deep.deserialize::<Box<RawValue>>().unwrap().get().len(), 200_000);
    assert_eq!(received(&deep).raw(), deep.raw());

    let placeholder = r#"{"_placeholder":true,"num":0}"#;
    for open in [r#"{"x":"#, r#"{"num":"#, r#"{"_placeholder":"#, "["] {
        let close = if open == "[" { "]" } else { "}" };
        let array = format!("[{}{placeholder}{}]", open.repeat(100_000), close.repeat(100_000));
        let args = Args::decode(&array, vec![Bytes::new()]).unwrap();
        assert!(args.deserialize::<Value>().is_err());
        assert!(args.deserialize::<Untagged>().is_err());
        args.deserialize::<Box<RawValue>>().unwrap();
    }
}
