//! Laws: what is written can be read, and nothing that is read brings the reader down.

use std::{collections::BTreeMap, fmt};

use bytes::Bytes;
use posthaste_socket_proto::*;
use proptest::prelude::*;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, SeqAccess, Visitor},
};

/// Anything a packet can carry.
#[derive(Clone, Debug, PartialEq)]
enum Tree {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    Blob(Bytes),
    List(Vec<Tree>),
    Map(BTreeMap<String, Tree>),
}

impl Serialize for Tree {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => value.serialize(serializer),
            Self::Int(value) => value.serialize(serializer),
            Self::Float(value) => value.serialize(serializer),
            Self::Text(value) => value.serialize(serializer),
            Self::Blob(value) => value.serialize(serializer),
            Self::List(value) => value.serialize(serializer),
            Self::Map(value) => value.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyTree;
        impl<'de> Visitor<'de> for AnyTree {
            type Value = Tree;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("anything")
            }
            fn visit_unit<E>(self) -> Result<Tree, E> {
                Ok(Tree::Null)
            }
            fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
                Ok(Tree::Bool(value))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
                Ok(Tree::Int(value))
            }
            fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Tree, E> {
                i64::try_from(value).map(Tree::Int).map_err(E::custom)
            }
            fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
                Ok(Tree::Float(value))
            }
            fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
                Ok(Tree::Text(value.into()))
            }
            fn visit_bytes<E>(self, value: &[u8]) -> Result<Tree, E> {
                Ok(Tree::Blob(Bytes::copy_from_slice(value)))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Tree, A::Error> {
                let mut list = Vec::new();
                while let Some(element) = elements.next_element()? {
                    list.push(element);
                }
                Ok(Tree::List(list))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Tree, A::Error> {
                let mut map = BTreeMap::new();
                while let Some((key, value)) = members.next_entry()? {
                    map.insert(key, value);
                }
                Ok(Tree::Map(map))
            }
        }
        deserializer.deserialize_any(AnyTree)
    }
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z0-9]{0,6}",
        any::<String>(),
        Just("_placeholder".to_owned()),
        Just("num".to_owned()),
        Just("\\ud800\"".to_owned()),
    ]
}

fn any_tree() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        Just(Tree::Null),
        any::<bool>().prop_map(Tree::Bool),
        any::<i64>().prop_map(Tree::Int),
        any::<f64>().prop_filter("JSON has no such number", |value| value.is_finite()).prop_map(Tree::Float),
        any_text().prop_map(Tree::Text),
        prop::collection::vec(any::<u8>(), 0..8).prop_map(|bytes| Tree::Blob(bytes.into())),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Tree::List),
            prop::collection::btree_map(any_text(), inner, 0..5).prop_map(Tree::Map),
        ]
    })
    .prop_filter("looks like a placeholder", |tree| !has_forged_placeholder(tree))
}

fn has_forged_placeholder(tree: &Tree) -> bool {
    match tree {
        Tree::List(list) => list.iter().any(has_forged_placeholder),
        Tree::Map(map) => {
            map.get("_placeholder") == Some(&Tree::Bool(true)) || map.values().any(has_forged_placeholder)
        }
        _ => false,
    }
}

fn blobs(tree: &Tree, found: &mut Vec<Bytes>) {
    match tree {
        Tree::Blob(blob) => found.push(blob.clone()),
        Tree::List(list) => list.iter().for_each(|tree| blobs(tree, found)),
        Tree::Map(map) => map.values().for_each(|tree| blobs(tree, found)),
        _ => {}
    }
}

/// Several arguments.
struct Spread(Vec<Tree>);

impl EmitArgs for Spread {
    fn emit(&self, writer: &mut ArgsWriter<'_>) -> Result<(), EncodeError> {
        self.0.iter().try_for_each(|tree| writer.spread(&(tree,)))
    }
}

fn any_namespace() -> impl Strategy<Value = String> {
    prop_oneof![Just("/".to_owned()), "/[a-zA-Z0-9_/é-]{1,12}"]
}

fn any_event() -> impl Strategy<Value = String> {
    any_text().prop_filter("reserved", |name| !is_reserved(name))
}

const LIMITS: DecodeLimits = DecodeLimits { max_attachments: 1_000, max_attachment_bytes: 1_000_000 };

/// Feeds a packet and its attachments to a fresh decoder.
fn decoded(text: &str, attachments: &[Bytes]) -> Result<Option<Packet<'static>>, DecodeError> {
    let mut decoder = Decoder::default();
    let mut packet = decoder.text(text, &LIMITS)?.map(Packet::into_owned);
    for attachment in attachments {
        packet = decoder.binary(attachment.clone(), &LIMITS)?;
    }
    Ok(packet)
}

/// Reads everything there is to read in a packet.
fn read_all(packet: &Packet<'_>) {
    if let Packet::Event { args, .. } | Packet::Ack { args, .. } = packet {
        let count = args.iter().count();
        let _ = (args.deserialize::<Tree>(), args.deserialize::<serde_json::Value>());
        let _ = (args.deserialize::<(Option<String>, Option<Bytes>)>(), args.skip(1).skip(count).is_empty());
        let mut out = Vec::new();
        encode_ack(&mut out, "/", 1, args).expect("what was received can be sent");
    }
}

proptest! {
    #[test]
    fn every_event_survives_the_wire(
        namespace in any_namespace(),
        id in any::<Option<u64>>(),
        name in any_event(),
        args in prop::collection::vec(any_tree(), 0..5),
    ) {
        let mut text = Vec::new();
        let attachments = encode_event(&mut text, &namespace, id, &name, &Spread(args.clone())).unwrap();
        let text = String::from_utf8(text).unwrap();
        let mut expected = Vec::new();
        args.iter().for_each(|tree| blobs(tree, &mut expected));
        prop_assert_eq!(&attachments, &expected);

        let packet = decoded(&text, &attachments).unwrap().unwrap();
        let Packet::Event { namespace: namespace_read, id: id_read, event, args: args_read } = &packet else {
            panic!("not an event: {packet:?}");
        };
        prop_assert_eq!((&**namespace_read, *id_read, &**event), (&*namespace, id, &*name));
        prop_assert_eq!(args_read.iter().count(), args.len());
        for (index, expected) in args.iter().enumerate() {
            prop_assert_eq!(&args_read.skip(index).deserialize::<Tree>().unwrap(), expected);
        }

        // Passed on unread, it is the same packet.
        let mut again = Vec::new();
        let attachments_again = encode_event(&mut again, &namespace, id, &name, args_read).unwrap();
        prop_assert_eq!((String::from_utf8(again).unwrap(), attachments_again), (text, attachments));
    }

    #[test]
    fn every_ack_survives_the_wire(namespace in any_namespace(), id in any::<u64>(), args in (any_tree(), any_tree())) {
        let mut text = Vec::new();
        let attachments = encode_ack(&mut text, &namespace, id, &args).unwrap();
        let packet = decoded(str::from_utf8(&text).unwrap(), &attachments).unwrap().unwrap();
        let Packet::Ack { namespace: namespace_read, id: id_read, args: args_read } = packet else {
            panic!("not an ack: {packet:?}");
        };
        prop_assert_eq!((&*namespace_read, id_read), (&*namespace, id));
        prop_assert_eq!(args_read.deserialize::<(Tree, Tree)>().unwrap(), args);
    }

    #[test]
    fn connection_packets_survive_the_wire(namespace in any_namespace(), sid in any::<String>(), pid in any::<Option<String>>()) {
        let mut out = Vec::new();
        encode_connect(&mut out, &namespace, &sid, pid.as_deref());
        let Some(Packet::Connect { namespace: read, auth: Some(data) }) = decoded(str::from_utf8(&out).unwrap(), &[]).unwrap() else {
            panic!("not a connect");
        };
        let data: BTreeMap<String, String> = parse_json(&data).unwrap();
        prop_assert_eq!((&*read, &data["sid"], data.get("pid")), (&*namespace, &sid, pid.as_ref()));

        let mut out = Vec::new();
        encode_disconnect(&mut out, &namespace);
        let read = decoded(str::from_utf8(&out).unwrap(), &[]).unwrap();
        prop_assert_eq!(read, Some(Packet::Disconnect { namespace: namespace.clone().into() }));

        let mut out = Vec::new();
        encode_connect_error(&mut out, &namespace, &sid, None);
        let Some(Packet::ConnectError { data: Some(data), .. }) = decoded(str::from_utf8(&out).unwrap(), &[]).unwrap() else {
            panic!("not a connect error");
        };
        prop_assert_eq!(&parse_json::<BTreeMap<String, String>>(&data).unwrap()["message"], &sid);
    }

    #[test]
    fn no_text_brings_the_decoder_down(text in any::<String>(), packet in "[0-6]([0-9]-)?(/[a-z?]*,)?[0-9]{0,3}[\\[{]?[\\[\\]{}\",:a-z0-9\\\\ ]{0,30}[\\]}]?") {
        for text in [text, packet] {
            if let Ok(Some(packet)) = decoded(&text, &[]) {
                read_all(&packet);
            }
        }
    }

    #[test]
    fn no_mutation_of_a_packet_brings_the_decoder_down(
        args in prop::collection::vec(any_tree(), 0..4),
        mutations in prop::collection::vec((any::<prop::sample::Index>(), any::<char>(), 0..3_u8), 1..4),
    ) {
        let mut text = Vec::new();
        let attachments = encode_event(&mut text, "/admin", Some(1), "x", &Spread(args)).unwrap();
        let mut text: Vec<char> = String::from_utf8(text).unwrap().chars().collect();
        let structural = ['"', '\\', '[', ']', '{', '}', ',', ':', '0', '1', '-', 'u', 'd'];
        for (position, character, kind) in mutations {
            let position = position.index(text.len());
            let character = if character.is_ascii() { character } else { structural[position % structural.len()] };
            match kind {
                0 => text[position] = character,
                1 => text.insert(position, character),
                _ => text.truncate(position.max(1)),
            }
        }
        let text: String = text.into_iter().collect();
        if let Ok(Some(packet)) = decoded(&text, &attachments) {
            read_all(&packet);
        }
        if let Ok(args) = Args::decode(&text, attachments.clone()) {
            read_all(&Packet::Ack { namespace: "/".into(), id: 0, args });
        }
    }

    #[test]
    fn placeholder_trees_are_accepted_only_when_each_attachment_is_used_once(
        numbers in prop::collection::vec(-1..5_i64, 0..5),
        depth in 0..4_usize,
        count in 1..5_usize,
    ) {
        let places: Vec<_> = numbers
            .iter()
            .map(|number| {
                let placeholder = format!(r#"{{"_placeholder":true,"num":{number}}}"#);
                format!("{}{placeholder}{}", r#"{"x":[1,"#.repeat(depth), "]}".repeat(depth))
            })
            .collect();
        let text = [format!(r#"5{count}-["e""#)].into_iter().chain(places).collect::<Vec<_>>().join(",") + "]";
        let mut sorted = numbers.clone();
        sorted.sort_unstable();
        let expected = sorted.into_iter().eq(0..count as i64);
        prop_assert_eq!(Decoder::default().text(&text, &LIMITS).is_ok(), expected, "{}", text);
    }
}

#[test]
fn doubles_are_exact() {
    // A fixed pseudo-random walk over bit patterns (splitmix64), so that every run sees the same 2,000 doubles.
    let mut state = 1_u64;
    let mut doubles = vec![0.1, -0.0, f64::MIN_POSITIVE, f64::MAX, 5e-324, 9_007_199_254_740_993.0];
    while doubles.len() < 2_000 {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let double = f64::from_bits(bits ^ (bits >> 31));
        if double.is_finite() {
            doubles.push(double);
        }
    }
    let bits = |doubles: &[f64]| doubles.iter().map(|double| double.to_bits()).collect::<Vec<_>>();

    let mut text = Vec::new();
    let attachments = encode_event(&mut text, "/", None, "doubles", &(&doubles, Bytes::new())).unwrap();
    let text = String::from_utf8(text).unwrap();
    let Some(Packet::Event { args, .. }) = decoded(&text, &attachments).unwrap() else { panic!("an event") };
    let (binary, _): (Vec<f64>, Bytes) = args.deserialize().unwrap();
    assert_eq!(bits(&binary), bits(&doubles), "beside an attachment");

    let plain = format!("[{}]", doubles.iter().map(|double| format!("{double:e}")).collect::<Vec<_>>().join(","));
    let array = format!("[{plain}]");
    let args = Args::decode(&array, Vec::new()).unwrap();
    assert_eq!(bits(&args.deserialize::<Vec<f64>>().unwrap()), bits(&doubles), "in JavaScript's notation");
    let values: Vec<_> = args.deserialize::<serde_json::Value>().unwrap().as_array().unwrap().clone();
    let values: Vec<_> = values.iter().map(|value| value.as_f64().unwrap()).collect();
    assert_eq!(bits(&values), bits(&doubles), "as values");
}
