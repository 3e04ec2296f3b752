//! Raw clients for the workspace's tests: they can do everything that a client may do, and everything that it must not.
//!
//! ```text
//!   Client      Socket.IO: join, emit, expect           ─┐
//!   Engine      Engine.IO: packets, pings, both transports ├─ well behaved, each wait has an end
//!                                                        ─┘
//!   Http        one request after the other, chunk by chunk, cut off anywhere
//!   WebSocket   any frame, masked or not, in any number of pieces
//!   Wire        bytes, silence, a reset
//! ```
//!
//! Nothing here shares code with what it tests: packets, frames and base64 are written down a second time, from the
//! specifications. A wait ends after [`PATIENCE`] at the latest, so that a test which hangs fails instead. What a test takes for
//! granted (a connection, a well-formed answer) panics when it is not so; what a test is about is returned.
//!
//! With the feature `server`, `serve` starts a server of the library on a free port, which closes with the test.

mod base64;
mod client;
mod engine;
mod folder;
mod http;
mod patience;
mod random;
mod record;
mod resident;
#[cfg(feature = "server")]
mod serve;
mod websocket;
mod wire;

pub use base64::{decode_base64, encode_base64};
pub use client::{Client, Message};
pub use engine::{Engine, Packet, Transport, split_payload};
pub use folder::copy_folder;
pub use http::{Http, Request, Response};
pub use patience::{PATIENCE, eventually, within};
pub use random::Random;
pub use record::Record;
pub use resident::resident_bytes;
#[cfg(feature = "server")]
pub use serve::{Running, serve};
pub use websocket::{Frame, WebSocket, encode_frame, upgrade_request};
pub use wire::Wire;
