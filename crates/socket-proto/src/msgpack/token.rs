//! One value of MessagePack after the other, as they lie in the message.

use std::ops::Range;

use rmp::Marker;

use super::MsgpackError;

/// A value, or the head of one that has others inside.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token<'a> {
    Nil,
    Bool(bool),
    /// A whole number that is not negative, or not known to be.
    Unsigned(u64),
    /// A whole number below zero.
    Negative(i64),
    Double(f64),
    /// Text, which may be no UTF-8.
    Text(&'a [u8]),
    /// Where in the message binary data are.
    Binary(Range<usize>),
    /// So many values follow.
    Array(u32),
    /// So many keys and values follow.
    Map(u32),
    /// JavaScript's `undefined`: an extension of the official parser.
    Undefined,
    /// JavaScript's `Date`, in milliseconds: an extension of the official parser.
    Date(i64),
    /// Any other extension: its type and where its data are.
    Extension(i8, Range<usize>),
}

/// A place in a message.
pub(super) struct Tokens<'a> {
    message: &'a [u8],
    at: usize,
}

impl<'a> Tokens<'a> {
    pub(super) const fn new(message: &'a [u8]) -> Self {
        Self { message, at: 0 }
    }

    /// How many bytes are left.
    pub(super) const fn left(&self) -> usize {
        self.message.len() - self.at
    }

    /// Takes the next value, or its head.
    pub(super) fn next(&mut self) -> Result<Token<'a>, MsgpackError> {
        Ok(match Marker::from_u8(self.byte()?) {
            Marker::Null => Token::Nil,
            Marker::False => Token::Bool(false),
            Marker::True => Token::Bool(true),
            Marker::FixPos(number) => Token::Unsigned(number.into()),
            Marker::U8 => Token::Unsigned(self.byte()?.into()),
            Marker::U16 => Token::Unsigned(u16::from_be_bytes(self.array()?).into()),
            Marker::U32 => Token::Unsigned(u32::from_be_bytes(self.array()?).into()),
            Marker::U64 => Token::Unsigned(u64::from_be_bytes(self.array()?)),
            Marker::FixNeg(number) => Token::Negative(number.into()),
            Marker::I8 => signed(i8::from_be_bytes(self.array()?).into()),
            Marker::I16 => signed(i16::from_be_bytes(self.array()?).into()),
            Marker::I32 => signed(i32::from_be_bytes(self.array()?).into()),
            Marker::I64 => signed(i64::from_be_bytes(self.array()?)),
            Marker::F32 => Token::Double(f32::from_be_bytes(self.array()?).into()),
            Marker::F64 => Token::Double(f64::from_be_bytes(self.array()?)),
            Marker::FixStr(len) => self.text(len.into())?,
            Marker::Str8 => self.byte().map(usize::from).and_then(|len| self.text(len))?,
            Marker::Str16 => self.length16().and_then(|len| self.text(len))?,
            Marker::Str32 => self.length32().and_then(|len| self.text(len))?,
            Marker::Bin8 => self.byte().map(usize::from).and_then(|len| self.range(len)).map(Token::Binary)?,
            Marker::Bin16 => self.length16().and_then(|len| self.range(len)).map(Token::Binary)?,
            Marker::Bin32 => self.length32().and_then(|len| self.range(len)).map(Token::Binary)?,
            Marker::FixArray(len) => self.elements(len.into(), 1).map(Token::Array)?,
            Marker::Array16 => self.length16().and_then(|len| self.elements(len, 1)).map(Token::Array)?,
            Marker::Array32 => self.length32().and_then(|len| self.elements(len, 1)).map(Token::Array)?,
            Marker::FixMap(len) => self.elements(len.into(), 2).map(Token::Map)?,
            Marker::Map16 => self.length16().and_then(|len| self.elements(len, 2)).map(Token::Map)?,
            Marker::Map32 => self.length32().and_then(|len| self.elements(len, 2)).map(Token::Map)?,
            Marker::FixExt1 => match self.extension(1)? {
                Token::Extension(0, _) => Token::Undefined,
                other => other,
            },
            Marker::FixExt2 => self.extension(2)?,
            Marker::FixExt4 => self.extension(4)?,
            Marker::FixExt8 => match self.extension(8)? {
                Token::Extension(0, at) => {
                    let mut milliseconds = [0; 8];
                    milliseconds.copy_from_slice(&self.message[at]);
                    Token::Date(i64::from_be_bytes(milliseconds))
                }
                other => other,
            },
            Marker::FixExt16 => self.extension(16)?,
            Marker::Ext8 => self.byte().map(usize::from).and_then(|len| self.array_buffer(len))?,
            Marker::Ext16 => self.length16().and_then(|len| self.array_buffer(len))?,
            Marker::Ext32 => self.length32().and_then(|len| self.array_buffer(len))?,
            Marker::Reserved => return Err(MsgpackError::Reserved),
        })
    }

    /// Skips what is inside a value whose head was taken.
    pub(super) fn skip_inside(&mut self, head: &Token<'_>) -> Result<(), MsgpackError> {
        // No more than there are bytes, each time anything is added.
        let mut left = inside(head);
        while left > 0 {
            left = left - 1 + inside(&self.next()?);
        }
        Ok(())
    }

    fn byte(&mut self) -> Result<u8, MsgpackError> {
        self.array().map(|[byte]| byte)
    }

    fn array<const BYTES: usize>(&mut self) -> Result<[u8; BYTES], MsgpackError> {
        let bytes = self.message[self.at..].first_chunk().ok_or(MsgpackError::Ended)?;
        self.at += BYTES;
        Ok(*bytes)
    }

    fn length16(&mut self) -> Result<usize, MsgpackError> {
        Ok(u16::from_be_bytes(self.array()?).into())
    }

    fn length32(&mut self) -> Result<usize, MsgpackError> {
        usize::try_from(u32::from_be_bytes(self.array()?)).map_err(|_| MsgpackError::Ended)
    }

    fn range(&mut self, len: usize) -> Result<Range<usize>, MsgpackError> {
        let start = self.at;
        self.at = start.checked_add(len).filter(|end| *end <= self.message.len()).ok_or(MsgpackError::Ended)?;
        Ok(start..self.at)
    }

    fn text(&mut self, len: usize) -> Result<Token<'a>, MsgpackError> {
        Ok(Token::Text(&self.message[self.range(len)?]))
    }

    /// Accepts that `len` elements of at least `bytes` bytes each follow.
    fn elements(&self, len: usize, bytes: usize) -> Result<u32, MsgpackError> {
        if len > self.left() / bytes {
            Err(MsgpackError::Ended)
        } else {
            u32::try_from(len).map_err(|_| MsgpackError::Ended)
        }
    }

    fn extension(&mut self, len: usize) -> Result<Token<'a>, MsgpackError> {
        let [kind] = self.array()?;
        Ok(Token::Extension(i8::from_be_bytes([kind]), self.range(len)?))
    }

    /// An extension with its length before it: JavaScript's `ArrayBuffer` and its views are one of them.
    fn array_buffer(&mut self, len: usize) -> Result<Token<'a>, MsgpackError> {
        Ok(match self.extension(len)? {
            Token::Extension(0, at) => Token::Binary(at),
            other => other,
        })
    }
}

fn signed(number: i64) -> Token<'static> {
    u64::try_from(number).map_or(Token::Negative(number), Token::Unsigned)
}

/// How many values follow a head.
fn inside(head: &Token<'_>) -> u64 {
    match head {
        Token::Array(len) => u64::from(*len),
        Token::Map(len) => 2 * u64::from(*len),
        _ => 0,
    }
}
