//! Any value that a packet can carry, with everything kept: the order of members, members of one name, binary.

use std::fmt;

use bytes::Bytes;
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::input::Input;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Tree {
    Null,
    Bool(bool),
    Whole(i128),
    Float(f64),
    Text(String),
    Blob(Bytes),
    List(Vec<Tree>),
    Map(Vec<(String, Tree)>),
}

impl Tree {
    /// A value that the input describes, of limited size.
    pub(crate) fn read(input: &mut Input<'_>, depth: usize) -> Self {
        match input.below(if depth == 0 { 7 } else { 9 }) {
            0 => Self::Null,
            1 => Self::Bool(input.flag()),
            2 => Self::Whole(i128::from(input.number() as i64)),
            3 => Self::Whole(i128::from(input.number())),
            4 => Self::Float(Some(f64::from_bits(input.number())).filter(|float| float.is_finite()).unwrap_or(0.5)),
            5 => Self::Text(text(input)),
            6 => {
                let length = input.below(9);
                Self::Blob(Bytes::copy_from_slice(input.bytes(length)))
            }
            7 => Self::List((0..input.below(4)).map(|_| Self::read(input, depth - 1)).collect()),
            _ => Self::Map((0..input.below(4)).map(|_| (text(input), Self::read(input, depth - 1))).collect()),
        }
    }

    /// The binary values, in the order of the text.
    pub(crate) fn blobs(&self, found: &mut Vec<Bytes>) {
        match self {
            Self::Blob(blob) => found.push(blob.clone()),
            Self::List(list) => list.iter().for_each(|tree| tree.blobs(found)),
            Self::Map(members) => members.iter().for_each(|(_, tree)| tree.blobs(found)),
            _ => {}
        }
    }

    /// The objects that say they are placeholders: what they number, if they are well-formed.
    pub(crate) fn placeholders(&self, found: &mut Vec<Option<u64>>) {
        match self {
            Self::List(list) => list.iter().for_each(|tree| tree.placeholders(found)),
            Self::Map(members) => {
                members.iter().for_each(|(_, tree)| tree.placeholders(found));
                if members.iter().any(|(key, value)| key == "_placeholder" && *value == Self::Bool(true)) {
                    let number = members.iter().find_map(|(key, value)| match value {
                        Self::Whole(number) if key == "num" => u64::try_from(*number).ok(),
                        _ => None,
                    });
                    found.push(number.filter(|_| members.len() == 2));
                }
            }
            _ => {}
        }
    }
}

fn text(input: &mut Input<'_>) -> String {
    match input.below(5) {
        0 => "_placeholder".to_owned(),
        1 => "num".to_owned(),
        2 => "\\ud800\"".to_owned(),
        _ => input.text(),
    }
}

impl Serialize for Tree {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => value.serialize(serializer),
            Self::Whole(value) => value.serialize(serializer),
            Self::Float(value) => value.serialize(serializer),
            Self::Text(value) => value.serialize(serializer),
            Self::Blob(value) => serializer.serialize_bytes(value),
            Self::List(value) => value.serialize(serializer),
            Self::Map(members) => {
                let mut map = serializer.serialize_map(Some(members.len()))?;
                members.iter().try_for_each(|(key, value)| map.serialize_entry(key, value))?;
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyTree)
    }
}

struct AnyTree;

impl<'de> Visitor<'de> for AnyTree {
    type Value = Tree;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("anything")
    }

    fn visit_unit<E: Error>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Whole(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Whole(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Tree, E> {
        Ok(Tree::Float(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::Text(value.to_owned()))
    }

    fn visit_bytes<E: Error>(self, value: &[u8]) -> Result<Tree, E> {
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
        let mut map = Vec::new();
        while let Some(member) = members.next_entry()? {
            map.push(member);
        }
        Ok(Tree::Map(map))
    }
}
