//! The open parts of a pattern, as a type.

use std::fmt;

use serde::de::value::{MapDeserializer, SeqDeserializer, StrDeserializer};
use serde::de::{self, DeserializeOwned, Deserializer, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;

/// What the name of a namespace gave for the open parts of its parent's pattern, as a type.
///
/// One part is any scalar; several are a tuple in the order of the pattern, or a struct or map by their names. Of a
/// regular expression the parts are its groups, by name or by number (`"1"`); a group that took no part is left out. Names of
/// namespaces are taken as they are: nothing is percent-decoded.
///
/// ```
/// # use posthaste::{Params, Server};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let io = Server::builder().workers(1).build()?;
/// let orders = io.namespaces("/shops/{shop}/orders/{id}")?;
/// orders.on("status", async |Params((shop, id)): Params<(String, u64)>| {
///     posthaste::Answer(format!("order {id} of {shop}"))
/// });
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Params<T>(pub T);

impl<T: DeserializeOwned> Params<T> {
    pub(crate) fn read(values: &Values) -> Result<Self, ParamsError> {
        T::deserialize(values).map(Self)
    }
}

/// Why the parts of a namespace's name are not of the type asked for.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ParamsError(String);

impl de::Error for ParamsError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

/// Names and values, in order.
#[derive(Debug)]
pub(crate) struct Values(Option<Box<[(String, String)]>>);

impl Values {
    pub(crate) const NONE: Self = Self(None);

    fn iter(&self) -> impl Iterator<Item = &(String, String)> {
        self.0.iter().flatten()
    }

    fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |values| values.len())
    }

    /// The only one.
    fn one(&self) -> Result<Value<'_>, ParamsError> {
        match self.0.as_deref() {
            Some([(_, value)]) => Ok(Value(value)),
            _ => Err(ParamsError(format!("the namespace's name has {} parameters, not one", self.len()))),
        }
    }
}

impl FromIterator<(String, String)> for Values {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(values: I) -> Self {
        let values: Box<[_]> = values.into_iter().collect();
        Self((!values.is_empty()).then_some(values))
    }
}

/// Scalars are those of the only value.
macro_rules! of_the_only_one {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ParamsError> {
            self.one()?.$method(visitor)
        }
    )*};
}

impl<'de> Deserializer<'de> for &'de Values {
    type Error = ParamsError;

    of_the_only_one! {
        deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128 deserialize_f32 deserialize_f64
        deserialize_char deserialize_str deserialize_string deserialize_bytes deserialize_byte_buf deserialize_identifier
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ParamsError> {
        self.deserialize_map(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ParamsError> {
        visitor.visit_map(MapDeserializer::new(self.iter().map(|(name, value)| (name.as_str(), Value(value)))))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ParamsError> {
        self.deserialize_map(visitor)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ParamsError> {
        visitor.visit_seq(SeqDeserializer::new(self.iter().map(|(_, value)| Value(value))))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, ParamsError> {
        if self.len() != len {
            return Err(ParamsError(format!("the namespace's name has {} parameters, not {len}", self.len())));
        }
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, ParamsError> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, ParamsError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ParamsError> {
        if self.len() == 0 { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ParamsError> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, ParamsError> {
        visitor.visit_unit()
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ParamsError> {
        self.one()?.deserialize_enum(name, variants, visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ParamsError> {
        visitor.visit_unit()
    }
}

/// One value: text that may be read as a number or a boolean.
#[derive(Clone, Copy)]
struct Value<'de>(&'de str);

macro_rules! parsed {
    ($($method:ident $visit:ident $type:ty;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ParamsError> {
            match self.0.parse::<$type>() {
                Ok(value) => visitor.$visit(value),
                Err(error) => Err(ParamsError(format!("{:?} is no {}: {error}", self.0, stringify!($type)))),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Value<'de> {
    type Error = ParamsError;

    parsed! {
        deserialize_bool visit_bool bool;
        deserialize_i8 visit_i8 i8;
        deserialize_i16 visit_i16 i16;
        deserialize_i32 visit_i32 i32;
        deserialize_i64 visit_i64 i64;
        deserialize_i128 visit_i128 i128;
        deserialize_u8 visit_u8 u8;
        deserialize_u16 visit_u16 u16;
        deserialize_u32 visit_u32 u32;
        deserialize_u64 visit_u64 u64;
        deserialize_u128 visit_u128 u128;
        deserialize_f32 visit_f32 f32;
        deserialize_f64 visit_f64 f64;
        deserialize_char visit_char char;
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ParamsError> {
        visitor.visit_borrowed_str(self.0)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ParamsError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, ParamsError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ParamsError> {
        visitor.visit_enum(StrDeserializer::new(self.0))
    }

    forward_to_deserialize_any! {
        str string bytes byte_buf identifier unit unit_struct seq tuple tuple_struct map struct ignored_any
    }
}

impl<'de> IntoDeserializer<'de, ParamsError> for Value<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    fn values(list: &[(&str, &str)]) -> Values {
        list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn read<T: DeserializeOwned>(list: &[(&str, &str)]) -> Result<T, String> {
        Params::read(&values(list)).map(|Params(value)| value).map_err(|error| error.to_string())
    }

    #[derive(Debug, Deserialize, PartialEq)]
    struct Order {
        id: u64,
        shop: String,
        table: Option<u8>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "lowercase")]
    enum Size {
        Small,
        Large,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    struct Id(i32);

    #[test]
    fn one_part_is_a_scalar() {
        let one = &[("id", "17")];
        assert_eq!(read::<u8>(one), Ok(17));
        assert_eq!(read::<Id>(one), Ok(Id(17)));
        assert_eq!(read::<String>(one), Ok("17".to_owned()));
        assert_eq!(read::<(f64,)>(one), Ok((17.0,)));
        assert_eq!(read::<Option<u8>>(one), Ok(Some(17)));
        assert_eq!(read::<Size>(&[("size", "large")]), Ok(Size::Large));
        assert_eq!(read::<bool>(&[("open", "true")]), Ok(true));
        assert_eq!(read::<char>(&[("letter", "ü")]), Ok('ü'));
    }

    #[test]
    fn several_parts_are_a_tuple_in_order_or_a_struct_by_name() {
        let two = &[("shop", "north"), ("id", "17")];
        assert_eq!(read::<(String, u64)>(two), Ok(("north".to_owned(), 17)));
        assert_eq!(read::<Order>(two), Ok(Order { id: 17, shop: "north".to_owned(), table: None }));
        assert_eq!(read::<Vec<String>>(two), Ok(vec!["north".to_owned(), "17".to_owned()]));
        let map = read::<BTreeMap<String, String>>(two).unwrap();
        assert_eq!(map["shop"], "north");
        assert_eq!(read::<(Size, Id)>(&[("a", "small"), ("b", "-1")]), Ok((Size::Small, Id(-1))));
        assert_eq!(read::<()>(&[]), Ok(()));
        assert_eq!(read::<Option<u8>>(&[]), Ok(None));
    }

    #[test]
    fn what_is_not_there_or_of_another_type_is_an_error_that_says_so() {
        assert_eq!(read::<u8>(&[]), Err("the namespace's name has 0 parameters, not one".to_owned()));
        assert_eq!(
            read::<u8>(&[("a", "1"), ("b", "2")]),
            Err("the namespace's name has 2 parameters, not one".to_owned())
        );
        assert_eq!(read::<(u8,)>(&[]), Err("the namespace's name has 0 parameters, not 1".to_owned()));
        assert!(read::<u8>(&[("a", "256")]).unwrap_err().starts_with(r#""256" is no u8"#));
        assert!(read::<Order>(&[("shop", "north")]).unwrap_err().contains("id"));
        assert!(read::<Size>(&[("size", "huge")]).unwrap_err().contains("huge"));
    }
}
