//! A deserializer around serde_json's that puts attachments where a type asks for bytes.
//!
//! serde walks the type, serde_json walks the text, and this layer stands between them at every value. It changes two
//! answers only:
//!
//! - A type that asks for bytes and meets a placeholder object receives the attachment.
//! - A type that asks for "anything" may be `Value`, which wants to see the object, or one of serde's buffers (behind
//!   untagged and internally tagged enums and flattened fields), whose contents may be asked for bytes later. The two
//!   cannot be told apart beforehand, so the attachment is offered first. `Value` refuses bytes, and then the whole
//!   reading is repeated with placeholder objects left alone ([`Attachments::withhold_from_buffers`]).
//!
//! Which object is a placeholder is known beforehand, from one walk over the text, by the position of its first key.
//! Looking ahead inside the object instead would mean keeping values of unknown depth aside.

use std::{cell::Cell, fmt};

use bytes::Bytes;
use serde::{
    Deserializer,
    de::{
        DeserializeSeed, EnumAccess, Error, IgnoredAny, MapAccess, SeqAccess, Unexpected, VariantAccess, Visitor,
        value::{BorrowedStrDeserializer, StringDeserializer},
    },
};

use crate::placeholder::{self, Placeholders};

/// The attachments of one list of arguments and the places they belong to.
pub(super) struct Attachments<'de> {
    text: &'de str,
    placeholders: Placeholders,
    attachments: &'de [Bytes],
    offered_to_buffers: bool,
    met_in_buffer: Cell<bool>,
}

impl<'de> Attachments<'de> {
    /// `text` holds one checked placeholder for each of `attachments`.
    pub(super) fn new(text: &'de str, attachments: &'de [Bytes]) -> Self {
        let placeholders = placeholder::find(text).expect("invariant: arguments with attachments were checked");
        Self { text, placeholders, attachments, offered_to_buffers: true, met_in_buffer: Cell::new(false) }
    }

    /// From now on a type that asks for "anything" sees placeholder objects. Returns whether that makes a difference.
    pub(super) fn withhold_from_buffers(&mut self) -> bool {
        self.offered_to_buffers = false;
        self.met_in_buffer.get()
    }

    /// The attachment for the object whose first key is `key`, if that object is a placeholder.
    fn behind(&self, key: &FirstKey<'de>) -> Option<&'de [u8]> {
        // serde does not tell where in the text it is. The address of a borrowed key does; the key of a placeholder
        // is always borrowed because it is never escaped.
        let FirstKey::Borrowed(key) = key else { return None };
        let key_at = (key.as_ptr() as usize).checked_sub(self.text.as_ptr() as usize)?;
        let found = self.placeholders.binary_search_by_key(&key_at, |placeholder| placeholder.key_at).ok()?;
        Some(&self.attachments[self.placeholders[found].index])
    }
}

/// Wraps a deserializer, seed, visitor or access of serde.
pub(super) struct Binary<'c, 'de, T> {
    inner: T,
    attachments: &'c Attachments<'de>,
}

impl<'c, 'de, T> Binary<'c, 'de, T> {
    pub(super) fn new(inner: T, attachments: &'c Attachments<'de>) -> Self {
        Self { inner, attachments }
    }

    fn wrap<U>(&self, inner: U) -> Binary<'c, 'de, U> {
        Binary { inner, attachments: self.attachments }
    }
}

macro_rules! forward_deserialize {
    ($($method:ident($($argument:ident: $type:ty),*);)*) => {$(
        fn $method<V: Visitor<'de>>(self, $($argument: $type,)* visitor: V) -> Result<V::Value, D::Error> {
            let visitor = self.wrap(visitor);
            self.inner.$method($($argument,)* visitor)
        }
    )*};
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Binary<'_, 'de, D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        if !self.attachments.offered_to_buffers {
            return self.inner.deserialize_any(Binary::new(visitor, self.attachments));
        }
        self.inner.deserialize_any(Buffering(Binary::new(visitor, self.attachments)))
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_any(Blob(Binary::new(visitor, self.attachments)))
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.deserialize_bytes(visitor)
    }

    forward_deserialize! {
        deserialize_bool();
        deserialize_i8();
        deserialize_i16();
        deserialize_i32();
        deserialize_i64();
        deserialize_i128();
        deserialize_u8();
        deserialize_u16();
        deserialize_u32();
        deserialize_u64();
        deserialize_u128();
        deserialize_f32();
        deserialize_f64();
        deserialize_char();
        deserialize_str();
        deserialize_string();
        deserialize_option();
        deserialize_unit();
        deserialize_unit_struct(name: &'static str);
        deserialize_newtype_struct(name: &'static str);
        deserialize_seq();
        deserialize_tuple(length: usize);
        deserialize_tuple_struct(name: &'static str, length: usize);
        deserialize_map();
        deserialize_struct(name: &'static str, fields: &'static [&'static str]);
        deserialize_enum(name: &'static str, variants: &'static [&'static str]);
        deserialize_identifier();
        deserialize_ignored_any();
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

macro_rules! forward_scalars {
    ($($method:ident: $type:ty;)*) => {$(
        fn $method<E: Error>(self, value: $type) -> Result<V::Value, E> {
            self.inner.$method(value)
        }
    )*};
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Binary<'_, 'de, V> {
    type Value = V::Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(formatter)
    }

    forward_scalars! {
        visit_bool: bool;
        visit_i8: i8;
        visit_i16: i16;
        visit_i32: i32;
        visit_i64: i64;
        visit_i128: i128;
        visit_u8: u8;
        visit_u16: u16;
        visit_u32: u32;
        visit_u64: u64;
        visit_u128: u128;
        visit_f32: f32;
        visit_f64: f64;
        visit_char: char;
        visit_str: &str;
        visit_borrowed_str: &'de str;
        visit_string: String;
        visit_bytes: &[u8];
        visit_borrowed_bytes: &'de [u8];
        visit_byte_buf: Vec<u8>;
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_none()
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        self.inner.visit_some(Binary::new(deserializer, self.attachments))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        self.inner.visit_newtype_struct(Binary::new(deserializer, self.attachments))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, elements: A) -> Result<V::Value, A::Error> {
        self.inner.visit_seq(Binary::new(elements, self.attachments))
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<V::Value, A::Error> {
        self.inner.visit_map(Binary::new(members, self.attachments))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, variant: A) -> Result<V::Value, A::Error> {
        self.inner.visit_enum(Binary::new(variant, self.attachments))
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Binary<'_, 'de, S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        self.inner.deserialize(Binary::new(deserializer, self.attachments))
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Binary<'_, 'de, A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        let seed = self.wrap(seed);
        self.inner.next_element_seed(seed)
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Binary<'_, 'de, A> {
    type Error = A::Error;

    // Keys are strings: nothing in them can be an attachment.
    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        self.inner.next_key_seed(seed)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        let seed = self.wrap(seed);
        self.inner.next_value_seed(seed)
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

impl<'c, 'de, A: EnumAccess<'de>> EnumAccess<'de> for Binary<'c, 'de, A> {
    type Error = A::Error;
    type Variant = Binary<'c, 'de, A::Variant>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self::Variant), A::Error> {
        let (name, variant) = self.inner.variant_seed(seed)?;
        Ok((name, Binary::new(variant, self.attachments)))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Binary<'_, 'de, A> {
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        self.inner.unit_variant()
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, A::Error> {
        self.inner.newtype_variant_seed(Binary::new(seed, self.attachments))
    }

    fn tuple_variant<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, A::Error> {
        self.inner.tuple_variant(length, Binary::new(visitor, self.attachments))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        self.inner.struct_variant(fields, Binary::new(visitor, self.attachments))
    }
}

/// A visitor that asked for bytes.
struct Blob<'c, 'de, V>(Binary<'c, 'de, V>);

impl<'de, V: Visitor<'de>> Visitor<'de> for Blob<'_, 'de, V> {
    type Value = V::Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(formatter)
    }

    // Strings and lists of numbers as serde_json offers them where bytes are asked for.
    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<V::Value, E> {
        self.0.visit_borrowed_bytes(text.as_bytes())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<V::Value, E> {
        self.0.visit_bytes(text.as_bytes())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, elements: A) -> Result<V::Value, A::Error> {
        self.0.visit_seq(elements)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<V::Value, A::Error> {
        let first = members.next_key_seed(FirstKeySeed)?;
        let Some(attachment) = first.and_then(|key| self.0.attachments.behind(&key)) else {
            return Err(A::Error::invalid_type(Unexpected::Map, &self));
        };
        exhaust(members)?;
        self.0.visit_borrowed_bytes(attachment)
    }
}

/// A visitor that asked for anything and may be one of serde's buffers.
struct Buffering<'c, 'de, V>(Binary<'c, 'de, V>);

impl<'de, V: Visitor<'de>> Visitor<'de> for Buffering<'_, 'de, V> {
    type Value = V::Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(formatter)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<V::Value, E> {
        self.0.visit_bool(value)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<V::Value, E> {
        self.0.visit_i64(value)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<V::Value, E> {
        self.0.visit_u64(value)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<V::Value, E> {
        self.0.visit_f64(value)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<V::Value, E> {
        self.0.visit_str(value)
    }

    fn visit_borrowed_str<E: Error>(self, value: &'de str) -> Result<V::Value, E> {
        self.0.visit_borrowed_str(value)
    }

    fn visit_string<E: Error>(self, value: String) -> Result<V::Value, E> {
        self.0.visit_string(value)
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.0.visit_unit()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, elements: A) -> Result<V::Value, A::Error> {
        self.0.visit_seq(elements)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<V::Value, A::Error> {
        let first = members.next_key_seed(FirstKeySeed)?;
        let Some(attachment) = first.as_ref().and_then(|key| self.0.attachments.behind(key)) else {
            return self.0.visit_map(Resumed { first, members });
        };
        self.0.attachments.met_in_buffer.set(true);
        exhaust(members)?;
        self.0.visit_borrowed_bytes(attachment)
    }
}

fn exhaust<'de, A: MapAccess<'de>>(mut members: A) -> Result<(), A::Error> {
    members.next_value::<IgnoredAny>()?;
    while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
    Ok(())
}

/// The first key of an object, read before anybody knows who wants it.
enum FirstKey<'de> {
    Borrowed(&'de str),
    Escaped(String),
}

struct FirstKeySeed;

impl<'de> DeserializeSeed<'de> for FirstKeySeed {
    type Value = FirstKey<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for FirstKeySeed {
    type Value = FirstKey<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a key")
    }

    fn visit_borrowed_str<E: Error>(self, key: &'de str) -> Result<Self::Value, E> {
        Ok(FirstKey::Borrowed(key))
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Self::Value, E> {
        Ok(FirstKey::Escaped(key.to_owned()))
    }
}

/// An object whose first key was read already.
struct Resumed<'de, A> {
    first: Option<FirstKey<'de>>,
    members: A,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Resumed<'de, A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        match self.first.take() {
            None => self.members.next_key_seed(seed),
            Some(FirstKey::Borrowed(key)) => seed.deserialize(BorrowedStrDeserializer::new(key)).map(Some),
            Some(FirstKey::Escaped(key)) => seed.deserialize(StringDeserializer::new(key)).map(Some),
        }
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.members.next_value_seed(seed)
    }

    fn size_hint(&self) -> Option<usize> {
        self.members.size_hint()
    }
}
