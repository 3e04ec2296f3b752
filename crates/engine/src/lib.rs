//! Engine.IO on real transports: HTTP long-polling, WebSocket, the upgrade between them, and the I/O workers that own it all.
//!
//! ```text
//!   listener (one per worker) ─┐                         ┌─ worker 0 ─ connections · turn buffer · wheel · handlers
//!   axum / hyper application ──┴─► Engine (tower) ─ call ┼─ worker 1
//!                                  verifies, answers     └─ …
//! ```
//!
//! A connection lives on one worker from its handshake to its end: its session, what waits for it and the handlers it started
//! are plain values there. Everyone else reaches it through the worker's mailbox ([`WorkerHandle::post`]).
//!
//! What the packets carry is an [`Application`]'s: the Socket.IO server is one, an echo server another.
//!
//! The rules of the protocol are in `posthaste-engine-proto`; this crate moves bytes and keeps time.

mod application;
mod config;
mod cors;
mod http;
mod listener;
mod request;
mod stream;
mod worker;

pub use application::{Application, WorkerApplication};
pub use config::{ConfigError, EngineConfig};
pub use cors::{AllowOrigin, Cors};
pub use http::{
    ConnectionError, Cookie, CookieBuilder, CookieError, Engine, EngineBody, EngineError, EngineLayer, EngineRequest,
    EngineService, ErrorContext, Hooks, OriginError, Origins, SameSite, Stop,
};
pub use listener::{ListenError, Listener, RemoteAddr};
pub use posthaste_engine_proto::{
    CloseReason, OutboxLimits, RequestError, Revision, Settings, Sid, Transport, TransportSet,
};
pub use request::{Kept, Request, Secure};
pub use worker::{ConnectionId, Frames, Staged, Worker, WorkerGone, WorkerHandle, Workers};
