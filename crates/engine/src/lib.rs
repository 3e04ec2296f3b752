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
//! What the packets carry is an [`Application`]'s: the Socket.IO server is one, an echo server another:
//!
//! ```no_run
//! use std::rc::Rc;
//! use std::sync::Arc;
//!
//! use bytes::Bytes;
//! use posthaste_engine::{
//!     Application, CloseReason, ConnectionId, Engine, EngineConfig, Request, Worker, WorkerApplication, Workers,
//! };
//!
//! /// Sends every message back.
//! struct Echo;
//!
//! impl Application for Echo {
//!     fn attach(&self, worker: &Worker) -> Rc<dyn WorkerApplication> {
//!         Rc::new(EchoHalf(worker.clone()))
//!     }
//! }
//!
//! /// What of it lives on one worker. It may hold `Rc`s and cells: it never leaves its thread.
//! struct EchoHalf(Worker);
//!
//! impl WorkerApplication for EchoHalf {
//!     fn open(&self, id: ConnectionId, request: &Arc<Request>) {
//!         println!("{id:?} came from {:?} over {:?}", request.remote_addr(), self.0.transport(id));
//!     }
//!
//!     fn text(&self, id: ConnectionId, text: &str) {
//!         self.0.send_text(id, text);
//!     }
//!
//!     fn binary(&self, id: ConnectionId, data: Bytes) {
//!         self.0.send_binary(id, &data);
//!     }
//!
//!     fn close(&self, id: ConnectionId, reason: CloseReason) {
//!         println!("{id:?} left: {reason:?}");
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut config = EngineConfig::default();
//! config.path = "/engine.io".to_owned();
//! config.hooks.middleware(async |request: posthaste_engine::EngineRequest| {
//!     println!("{} {}", request.method, request.uri);
//!     Ok::<_, posthaste_engine::Stop>(request)
//! });
//! let engine = Engine::new(Arc::new(Echo), config, Workers::start_default()?)?;
//! engine.on_connection_error(|error| println!("refused: {}", error.message()));
//! let listener = engine.listen(([127, 0, 0, 1], 3000).into())?;
//! println!("listening on {}", listener.local_addr());
//! std::thread::park();
//! # Ok(()) }
//! ```
//!
//! [`EngineLayer`] puts an engine in front of an application's other routes, and [`Worker::start`] runs futures that belong to a
//! connection.
//!
//! The rules of the protocol are in `posthaste-engine-proto`; this crate moves bytes and keeps time.

mod application;
mod compression;
mod config;
mod cors;
mod gate;
mod http;
mod listener;
mod memory;
mod request;
mod stream;
mod worker;

pub use application::{Application, WorkerApplication};
pub use compression::{Deflate, HttpCompression};
pub use config::{ConfigError, EngineConfig};
pub use cors::{AllowOrigin, Cors};
pub use gate::Refused;
pub use http::{
    ConnectionError, Cookie, CookieBuilder, CookieError, Engine, EngineBody, EngineError, EngineLayer, EngineRequest,
    EngineService, ErrorContext, Hooks, OriginError, Origins, SameSite, Stop,
};
pub use listener::{ListenError, Listener, RemoteAddr};
pub use posthaste_engine_proto::{
    AdmissionLimits, CloseReason, Limit, LimitMode, MemoryWatermark, OutboxLimits, Rate, RequestError, Revision,
    Settings, Sid, Transport, TransportSet,
};
pub use request::{Kept, Request, Secure};
pub use worker::{
    ConnectionId, Deflated, Frames, Staged, Worker, WorkerGone, WorkerHandle, WorkerStalls, Workers, together,
};
