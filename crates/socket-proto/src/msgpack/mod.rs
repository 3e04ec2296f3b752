//! Packets as MessagePack, the wire of `socket.io-msgpack-parser`: one binary message for each, attachments within.
//!
//! ```text
//! 83 a4"type" 02 a4"data" 92 a2"hi" c4 01 ff a3"nsp" a1"/"  ◄──►  51-["hi",{"_placeholder":true,"num":0}]  +  ff
//! ```
//!
//! Everything above this module knows packets in the one form, arguments as JSON text with attachments. So MessagePack is
//! translated where it arrives ([`decode_msgpack`]) and where it leaves ([`encode_msgpack`]), without a value in between: either way
//! is a walk over bytes, with a stack of its own.
//!
//! What JSON has no word for arrives as JavaScript's `JSON.stringify` would write it: a `Date` as its text in ISO 8601; `undefined` as
//! `null` in a list, and not at all in an object; NaN and the infinities as `null`. Integers and doubles are exact either way.
//!
//! Source: `socket.io-msgpack-parser` 3.0.2 and `notepack.io` 2.2, which it encodes with; the MessagePack specification.

mod date;
mod decode;
mod encode;
mod token;
mod value;

pub use self::decode::decode_msgpack;
pub use self::encode::{attachments_of, encode_msgpack};

/// How deep lists and objects may be inside one another, the arguments' own list included. The official parser, which calls itself for
/// each level, ends its process's stack at a few thousand.
pub const MAX_MSGPACK_DEPTH: usize = 512;

/// Why a binary message is not a packet in MessagePack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MsgpackError {
    /// A value ends behind the message's end, or is announced to have more elements than the message has bytes.
    #[error("message ends within a value")]
    Ended,
    /// Something follows the packet.
    #[error("{bytes} bytes behind the packet")]
    Trailing {
        /// How much.
        bytes: usize,
    },
    /// A byte that begins no value.
    #[error("no value begins with 0xc1")]
    Reserved,
    /// Values deeper inside one another than [`MAX_MSGPACK_DEPTH`].
    #[error("values deeper than {MAX_MSGPACK_DEPTH}")]
    TooDeep,
    /// A key that is neither text nor a whole number, a truth value or nil, which JavaScript has words for.
    #[error("a key that is no text")]
    Key,
    /// The packet is not a map, or says something twice.
    #[error("packet is not a map with each of its keys once")]
    NotAPacket,
    /// `type` is missing or not a number from 0 to 4.
    #[error("packet type is not a number from 0 to 4")]
    Type,
    /// `nsp` is missing, or not a name with a slash before it and no comma in it.
    #[error("namespace is not a name that begins with a slash")]
    Namespace,
    /// A binary value in the credentials of a CONNECT, which are JSON.
    #[error("binary value in credentials")]
    BinaryCredentials,
    /// A text message, where packets are binary.
    #[error("text instead of a packet in MessagePack")]
    Text,
}
