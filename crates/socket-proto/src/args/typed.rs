//! Reads arguments into types: what a tuple means, what a missing argument means.

use serde::{
    Deserializer,
    de::{self, Deserialize, DeserializeSeed, SeqAccess, Visitor},
    forward_to_deserialize_any,
};

use super::binary::{Attachments, Binary};
use crate::json;
use bytes::Bytes;

/// Why arguments could not be read as the type that was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArgsError {
    /// The peer sent fewer arguments than the type needs.
    #[error("missing argument {index}")]
    Missing {
        /// Position of the missing argument, from 0.
        index: usize,
    },
    /// An argument is not what the type needs at its position.
    #[error("argument {index} does not fit")]
    Invalid {
        /// Position of the argument, from 0.
        index: usize,
        /// What serde_json found, with the position inside the argument.
        source: serde_json::Error,
    },
    /// The type refused the arguments as a whole.
    #[error("{message}")]
    Refused {
        /// What the type said.
        message: String,
    },
}

impl de::Error for ArgsError {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self::Refused { message: message.to_string() }
    }
}

/// Reads a valid list of arguments as `T`.
pub(super) fn read<'de, T: Deserialize<'de>>(text: &'de str, attachments: &'de [Bytes]) -> Result<T, ArgsError> {
    if attachments.is_empty() {
        return T::deserialize(Arguments { text, attachments: None });
    }
    let mut attachments = Attachments::new(text, attachments);
    T::deserialize(Arguments { text, attachments: Some(&attachments) }).or_else(|error| {
        if !attachments.withhold_from_buffers() {
            return Err(error);
        }
        T::deserialize(Arguments { text, attachments: Some(&attachments) })
    })
}

/// The arguments as serde sees them.
struct Arguments<'c, 'de> {
    text: &'de str,
    attachments: Option<&'c Attachments<'de>>,
}

/// Hands one argument to `$method` of the cheapest deserializer that can read it.
macro_rules! read_argument {
    ($text:expr, $attachments:expr, $index:expr, |$deserializer:ident| $read:expr) => {{
        // No `end()`: the text is known to be valid, and what follows the value is the next argument.
        let mut json = serde_json::Deserializer::from_str($text);
        match $attachments {
            None => {
                let $deserializer = &mut json;
                $read
            }
            Some(attachments) => {
                let $deserializer = Binary::new(&mut json, attachments);
                $read
            }
        }
        .map_err(|source| ArgsError::Invalid { index: $index, source })
    }};
}

/// Everything that stands for the first argument alone.
macro_rules! first_argument {
    ($($method:ident($($argument:ident: $type:ty),*);)*) => {$(
        fn $method<V: Visitor<'de>>(self, $($argument: $type,)* visitor: V) -> Result<V::Value, ArgsError> {
            if self.text.is_empty() {
                return Missing { index: 0 }.$method($($argument,)* visitor).map_err(|_| ArgsError::Missing { index: 0 });
            }
            read_argument!(self.text, self.attachments, 0, |json| json.$method($($argument,)* visitor))
        }
    )*};
}

impl<'de> Deserializer<'de> for Arguments<'_, 'de> {
    type Error = ArgsError;

    first_argument! {
        deserialize_any();
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
        deserialize_bytes();
        deserialize_byte_buf();
        deserialize_option();
        deserialize_newtype_struct(name: &'static str);
        deserialize_seq();
        deserialize_map();
        deserialize_struct(name: &'static str, fields: &'static [&'static str]);
        deserialize_enum(name: &'static str, variants: &'static [&'static str]);
        deserialize_identifier();
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, ArgsError> {
        let mut elements = Elements { rest: self.text, attachments: self.attachments, index: 0, missing: None };
        let read = visitor.visit_seq(&mut elements);
        // A visitor that runs out of elements says "invalid length"; we know better which argument it was.
        read.map_err(|error| elements.missing.map_or(error, |index| ArgsError::Missing { index }))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, ArgsError> {
        self.deserialize_tuple(length, visitor)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ArgsError> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, ArgsError> {
        visitor.visit_unit()
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ArgsError> {
        visitor.visit_unit()
    }
}

/// The arguments one by one; behind the last, absent ones.
struct Elements<'c, 'de> {
    rest: &'de str,
    attachments: Option<&'c Attachments<'de>>,
    index: usize,
    /// The first absent argument that nothing but an argument could have satisfied.
    missing: Option<usize>,
}

impl<'de> SeqAccess<'de> for Elements<'_, 'de> {
    type Error = ArgsError;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, ArgsError> {
        let index = self.index;
        self.index += 1;
        let Some((argument, behind)) = json::split_first(self.rest) else {
            return Ok(match seed.deserialize(Missing { index }) {
                Ok(absent) => Some(absent),
                Err(_) => {
                    // Not an error yet: a field with a default is content with the end of the sequence.
                    self.missing.get_or_insert(index);
                    None
                }
            });
        };
        self.rest = behind;
        read_argument!(argument, self.attachments, index, |json| seed.deserialize(json)).map(Some)
    }
}

/// An argument that is not there: `None` for an option, an error for the rest.
struct Missing {
    index: usize,
}

impl<'de> Deserializer<'de> for Missing {
    type Error = ArgsError;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, ArgsError> {
        Err(ArgsError::Missing { index: self.index })
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ArgsError> {
        visitor.visit_none()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, ArgsError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ArgsError> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, ArgsError> {
        visitor.visit_unit()
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ArgsError> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        seq tuple tuple_struct map struct enum identifier
    }
}
