//! Socket.IO protocol v5 as values: messages go in, decisions and bytes come out.
//!
//! No socket, task, lock or clock is in here; what depends on time is told the time. The crate works on the messages
//! of an Engine.IO session, text such as `2["chat","hi"]` and binary, and leaves to others how those travel.
//!
//! ```text
//! text, binary ──► Decoder ──► Packet ──► Connection ──► Inbound ──► handlers
//!                                          (which namespaces           │
//!                                           has this client joined?)   │ Args::deserialize
//!                                                                      ▼
//! bytes ◄── encode_* ◄────────────────────────────────── EmitArgs ◄── values
//! ```
//!
//! - [`Connection`] is where a server starts: it owns a [`Decoder`] and knows what each packet means.
//! - [`Args`] keeps arguments as raw JSON, to be read into types or passed on untouched.
//! - [`EmitArgs`] is what can be sent, and [`AckTable`] remembers who waits for an answer.
//!
//! Everything a peer chooses has a limit ([`DecodeLimits`], [`ConnectionLimits`]), memory follows what arrived rather
//! than what was announced, and work is linear in it.
//!
//! Source: Socket.IO protocol v5.

mod ack;
mod args;
mod connection;
mod decode;
mod decoder;
mod emit;
mod encode;
mod event;
mod json;
mod msgpack;
mod packet;
mod placeholder;

pub use ack::{AckIds, AckRefused, AckTable};
pub use args::{Args, ArgsError, FromArgs};
pub use connection::{Connection, ConnectionLimits, Inbound, Violation};
pub use decode::{DecodeError, DecodeLimits};
pub use decoder::Decoder;
pub use emit::{ArgsWriter, Chain, EmitArgs};
pub use encode::{
    EncodeError, encode_ack, encode_connect, encode_connect_error, encode_connect_request, encode_disconnect,
    encode_event, encode_event_list, encode_legacy_connect, encode_legacy_connect_error,
};
pub use event::{EventName, RESERVED_EVENTS, is_reserved};
pub use json::parse_json;
pub use msgpack::{MAX_MSGPACK_DEPTH, MsgpackError, attachments_of, decode_msgpack, encode_msgpack};
pub use packet::{MAIN_NAMESPACE, Packet};
pub use placeholder::PlaceholderError;
