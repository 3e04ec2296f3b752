//! Writes arguments: one value, several, or raw ones that came from a peer.

use std::{cell::Cell, io};

use bytes::Bytes;
use serde::{Serialize, Serializer};
use serde_json::ser::{Compound, Formatter};

use crate::{args::Args, encode::EncodeError};

/// What can be sent as the arguments of an event or acknowledgement.
///
/// Every `T: Serialize`:
/// - A tuple, tuple struct or array is one argument per element.
/// - `()` and unit structs are no arguments. (`Value::Null` and `None` are one: `null`. So is `()` behind a further
///   reference, which serde cannot tell from them.)
/// - Anything else is one argument. An array as a single argument is `(array,)`; a `Vec` is a single argument anyway.
///
/// Whatever serializes as bytes ([`Bytes`], the types of `serde_bytes`) travels as an attachment, at any depth.
///
/// Also [`Args`], which are written as they arrived, and [`Chain`], which puts two of these in a row.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be sent as the arguments of an event",
    label = "not serializable",
    note = "derive `serde::Serialize` for it; a tuple is several arguments, `()` is none, anything else is one"
)]
pub trait EmitArgs {
    /// Writes the arguments, one after the other.
    ///
    /// # Errors
    /// [`EncodeError::Json`] when a value cannot be JSON.
    fn emit(&self, writer: &mut ArgsWriter<'_>) -> Result<(), EncodeError>;
}

impl<T: Serialize + ?Sized> EmitArgs for T {
    fn emit(&self, writer: &mut ArgsWriter<'_>) -> Result<(), EncodeError> {
        writer.spread(self)
    }
}

impl EmitArgs for Args<'_> {
    fn emit(&self, writer: &mut ArgsWriter<'_>) -> Result<(), EncodeError> {
        writer.raw(self);
        Ok(())
    }
}

impl EmitArgs for &Args<'_> {
    fn emit(&self, writer: &mut ArgsWriter<'_>) -> Result<(), EncodeError> {
        writer.raw(self);
        Ok(())
    }
}

/// The arguments of `A`, then those of `B`.
///
/// ```
/// use posthaste_socket_proto::{Args, Chain, encode_event};
/// let mut out = Vec::new();
/// let relayed = Args::decode(r#"["hi",2]"#, Vec::new())?;
/// encode_event(&mut out, "/", None, "chat", &Chain(relayed, "offset-7"))?;
/// assert_eq!(out, br#"2["chat","hi",2,"offset-7"]"#);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Chain<A, B>(pub A, pub B);

impl<A: EmitArgs, B: EmitArgs> EmitArgs for Chain<A, B> {
    fn emit(&self, writer: &mut ArgsWriter<'_>) -> Result<(), EncodeError> {
        self.0.emit(writer)?;
        self.1.emit(writer)
    }
}

/// Where [`EmitArgs`] writes: the inside of a packet's array.
#[derive(Debug)]
pub struct ArgsWriter<'a> {
    out: &'a mut Vec<u8>,
    attachments: Vec<Bytes>,
    behind_something: bool,
}

impl<'a> ArgsWriter<'a> {
    /// Appends to `out`, with a comma first when an element (the event's name) was written already.
    pub(crate) fn new(out: &'a mut Vec<u8>, behind_something: bool) -> Self {
        Self { out, attachments: Vec::new(), behind_something }
    }

    /// The attachments that the arguments written so far have placeholders for.
    pub(crate) fn into_attachments(self) -> Vec<Bytes> {
        self.attachments
    }

    /// Writes the arguments that `value` is: see [`EmitArgs`].
    ///
    /// # Errors
    /// [`EncodeError::Json`] when the value cannot be JSON.
    pub fn spread<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        self.element(|out, attachments| {
            let spread = Cell::new(false);
            let formatter = Placeholders { attachments, spread: &spread, depth: 0 };
            let mut json = serde_json::Serializer::with_formatter(out, formatter);
            // `Value::Null` serializes as `()` does, but is something: an argument. Only a type without values of
            // its own is nothing.
            let nothing = size_of_val(value) == 0;
            value.serialize(Spread { json: &mut json, spread: &spread, nothing })
        })
    }

    /// Writes arguments as they arrived, with their attachments.
    pub fn raw(&mut self, args: &Args<'_>) {
        let written = self.element(|out, attachments| {
            let (text, more) = args.numbered_from(attachments.len());
            out.extend_from_slice(text.as_bytes());
            attachments.extend(more);
            Ok(())
        });
        debug_assert!(written.is_ok(), "copying text cannot fail");
    }

    /// Writes arguments that are JSON text already, with the attachments that their placeholders number: from 0, so nothing before
    /// them may have any. For text that came out of [`Args::raw`] and is known to be whole; it is not looked at.
    pub fn text(&mut self, text: &str, more: &[Bytes]) {
        debug_assert!(more.is_empty() || self.attachments.is_empty(), "the placeholders would be numbered wrongly");
        let written = self.element(|out, attachments| {
            out.extend_from_slice(text.as_bytes());
            attachments.extend_from_slice(more);
            Ok(())
        });
        debug_assert!(written.is_ok(), "copying text cannot fail");
    }

    /// Puts a comma where one belongs: between elements, and nowhere when `write` wrote none.
    fn element(
        &mut self,
        write: impl FnOnce(&mut Vec<u8>, &mut Vec<Bytes>) -> Result<(), serde_json::Error>,
    ) -> Result<(), EncodeError> {
        let before = self.out.len();
        if self.behind_something {
            self.out.push(b',');
        }
        let start = self.out.len();
        write(self.out, &mut self.attachments)?;
        if self.out.len() == start {
            self.out.truncate(before);
        } else {
            self.behind_something = true;
        }
        Ok(())
    }
}

/// Compact JSON with two differences: byte strings leave a placeholder and become attachments, and the brackets of an
/// outermost array are left out when `spread` says so.
struct Placeholders<'a> {
    attachments: &'a mut Vec<Bytes>,
    spread: &'a Cell<bool>,
    depth: usize,
}

impl Placeholders<'_> {
    fn bracket<W: ?Sized + io::Write>(&self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        if self.depth == 0 && self.spread.get() { Ok(()) } else { writer.write_all(bracket) }
    }
}

impl Formatter for Placeholders<'_> {
    fn begin_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.bracket(writer, b"[")?;
        self.depth += 1;
        Ok(())
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.depth -= 1;
        self.bracket(writer, b"]")
    }

    fn write_byte_array<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: &[u8]) -> io::Result<()> {
        writer.write_all(b"{\"_placeholder\":true,\"num\":")?;
        writer.write_all(itoa::Buffer::new().format(self.attachments.len()).as_bytes())?;
        self.attachments.push(Bytes::copy_from_slice(value));
        writer.write_all(b"}")
    }
}

/// The outermost serializer: decides what counts as several arguments and leaves the rest to serde_json.
struct Spread<'a, W, F> {
    json: &'a mut serde_json::Serializer<W, F>,
    spread: &'a Cell<bool>,
    nothing: bool,
}

macro_rules! forward_serialize {
    ($($method:ident($($argument:ident: $type:ty),*) -> $output:ty;)*) => {$(
        fn $method(self, $($argument: $type),*) -> Result<$output, serde_json::Error> {
            self.json.$method($($argument),*)
        }
    )*};
}

impl<'a, W: io::Write, F: Formatter> Serializer for Spread<'a, W, F> {
    type Ok = ();
    type Error = serde_json::Error;
    type SerializeSeq = Compound<'a, W, F>;
    type SerializeTuple = Compound<'a, W, F>;
    type SerializeTupleStruct = Compound<'a, W, F>;
    type SerializeTupleVariant = Compound<'a, W, F>;
    type SerializeMap = Compound<'a, W, F>;
    type SerializeStruct = Compound<'a, W, F>;
    type SerializeStructVariant = Compound<'a, W, F>;

    fn serialize_tuple(self, length: usize) -> Result<Self::SerializeTuple, serde_json::Error> {
        self.spread.set(true);
        self.json.serialize_tuple(length)
    }

    fn serialize_tuple_struct(
        self,
        name: &'static str,
        length: usize,
    ) -> Result<Self::SerializeTupleStruct, serde_json::Error> {
        self.spread.set(true);
        self.json.serialize_tuple_struct(name, length)
    }

    fn serialize_unit(self) -> Result<(), serde_json::Error> {
        if self.nothing { Ok(()) } else { self.json.serialize_unit() }
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), serde_json::Error> {
        Ok(())
    }

    forward_serialize! {
        serialize_bool(value: bool) -> ();
        serialize_i8(value: i8) -> ();
        serialize_i16(value: i16) -> ();
        serialize_i32(value: i32) -> ();
        serialize_i64(value: i64) -> ();
        serialize_i128(value: i128) -> ();
        serialize_u8(value: u8) -> ();
        serialize_u16(value: u16) -> ();
        serialize_u32(value: u32) -> ();
        serialize_u64(value: u64) -> ();
        serialize_u128(value: u128) -> ();
        serialize_f32(value: f32) -> ();
        serialize_f64(value: f64) -> ();
        serialize_char(value: char) -> ();
        serialize_str(value: &str) -> ();
        serialize_bytes(value: &[u8]) -> ();
        serialize_none() -> ();
        serialize_unit_variant(name: &'static str, index: u32, variant: &'static str) -> ();
        serialize_seq(length: Option<usize>) -> Self::SerializeSeq;
        serialize_tuple_variant(name: &'static str, index: u32, variant: &'static str, length: usize)
            -> Self::SerializeTupleVariant;
        serialize_map(length: Option<usize>) -> Self::SerializeMap;
        serialize_struct(name: &'static str, length: usize) -> Self::SerializeStruct;
        serialize_struct_variant(name: &'static str, index: u32, variant: &'static str, length: usize)
            -> Self::SerializeStructVariant;
    }

    fn serialize_some<T: ?Sized + Serialize>(self, value: &T) -> Result<(), serde_json::Error> {
        self.json.serialize_some(value)
    }

    fn serialize_newtype_struct<T: ?Sized + Serialize>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<(), serde_json::Error> {
        self.json.serialize_newtype_struct(name, value)
    }

    fn serialize_newtype_variant<T: ?Sized + Serialize>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), serde_json::Error> {
        self.json.serialize_newtype_variant(name, index, variant, value)
    }

    fn collect_str<T: ?Sized + std::fmt::Display>(self, value: &T) -> Result<(), serde_json::Error> {
        self.json.collect_str(value)
    }
}
