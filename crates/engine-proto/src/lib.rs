//! Engine.IO as values: the transport protocol under Socket.IO, without sockets, clocks or tasks.
//!
//! ```text
//!   HTTP request line ─► query ─► error (status and body) or
//!                                 ├─ handshake ─► open packet
//!                                 └─ session: what each packet, poll, probe and tick means
//!   polling body ─► payload ─► packets ─┐
//!   WebSocket frame ─► packet ──────────┴─► Session::receive ─► Deliver · Ignore · Close
//!   frames of the application ─► Outbox ─► bytes for a WebSocket, or the body of a poll
//! ```
//!
//! Everything that waits for a transport is kept in one form: complete WebSocket frames. Server frames are unmasked, so those
//! bytes are the same for every receiver, and an upgrade hands the [`Outbox`] over without touching it; a poll strips the frame
//! headers on its way out ([`payload`]).
//!
//! Clients of revision 3 (Socket.IO 1 and 2) are told the same in another form: [`Wire`] rewrites frames for them, [`payload_v3`]
//! their polls, [`jsonp`] what comes and goes by scripts and forms; their [`Session`] waits for pings instead of sending them.
//!
//! This crate leaves HTTP, connections and time to its caller: whatever depends on time takes `now`.
//!
//! Source: Engine.IO protocol v4 and v3, and the behaviour of the official server 4.8.

pub mod body;
pub mod close;
pub mod coding;
pub mod error;
pub mod handshake;
pub mod jsonp;
pub mod limits;
pub mod outbox;
pub mod packet;
pub mod payload;
pub mod payload_v3;
pub mod query;
pub mod session;
pub mod sid;
pub mod wire;

pub use body::{PollBody, PostBody, PostForm};
pub use close::CloseReason;
pub use coding::ContentCoding;
pub use error::RequestError;
pub use handshake::{OpenPacket, Transport, TransportSet};
pub use jsonp::Jsonp;
pub use limits::{AdmissionLimits, Limit, LimitMode, MemoryWatermark, Rate, TokenBucket};
pub use outbox::{Outbox, OutboxFull, OutboxLimits};
pub use packet::{Packet, PacketError, PacketType};
pub use payload::{PayloadError, split_payload};
pub use query::{Query, Revision, SidParam, TransportParam};
pub use session::{Session, Settings};
pub use sid::Sid;
pub use wire::Wire;
