//! A realtime event server that speaks Socket.IO: the library.
//!
//! ```no_run
//! use posthaste::{Data, Server, Socket};
//!
//! async fn chat(io: Server, Data(text): Data<String>) -> Result<(), posthaste::SendError> {
//!     io.emit("chat message", &text).await
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let io = Server::new()?;
//! io.on_connect(async |socket: Socket| println!("{} came", socket.id()));
//! io.on("chat message", chat);
//! let listener = io.listen(([127, 0, 0, 1], 3000).into())?;
//! println!("listening on {}", listener.local_addr());
//! std::thread::park();
//! # Ok(()) }
//! ```
//!
//! - [`Server`] holds [`Namespace`]s; a client in a namespace is a [`Socket`].
//! - Handlers are async functions, registered once for all sockets of a namespace. What they take is *extracted* from what
//!   happened ([`Data`], [`Ack`], [`Auth`], [`State`], …), and their `Result` answers the client's acknowledgement.
//! - [`Operator`] says who an event goes to: `io.to("room").except("other").emit("event", &data)`.
//! - Inside an axum, hyper or tower application mount [`Server::layer`]; beside it or alone use [`Server::listen`].
//!
//! Pages to read are in [`guide`]: ten minutes for a start, the way from Node, and every way to emit.
//!
//! Handlers run on the thread of the worker that owns the socket's connection, each from its first line to its first await that
//! has to wait before the next event is handled. Heavy work belongs on `tokio::task::spawn_blocking`.

mod ack;
mod bundle;
mod config;
mod data;
mod dialect;
mod durable;
mod encode;
mod error;
mod extract;
pub mod guide;
mod handler;
mod handshake;
mod how;
mod limits;
mod listeners;
mod local;
mod namespace;
mod once;
mod operator;
mod parser;
mod queues;
mod reason;
mod recovery;
mod remote;
mod room_events;
mod sent;
mod server;
mod server_side;
mod socket;
mod stats;
mod values;

pub use ack::{Ack, AckFuture, AckStream, Acks, AcksFuture};
pub use config::{Builder, ServerConfig};
pub use durable::{
    Durable, DurableAck, DurableError, DurableOperator, DurableSocketOperator, History, HistoryPage,
    HistoryReservation, HistoryStart, Inbox, InboxMode, ReplayBudget, RoomPattern, RoomPatternError, RoomPolicy,
    Stored, StoredAt, StoredEvent, UserOperator,
};
pub use error::{AckError, BuildError, ConnectError, EventError, ExtractError, FetchError, JoinError, SendError};
pub use extract::{AckId, Auth, Data, Event, FromConnect, FromDisconnect, FromEvent, Rooms, State};
pub use handler::{
    Answer, CatchAll, ConnectHandler, DisconnectHandler, ErrorHandler, EventHandler, EventMiddleware, IntoAnswer,
    Middleware,
};
pub use handshake::Handshake;
pub use limits::Excess;
pub use listeners::CatchAllId;
pub use namespace::{IntoAllowed, Namespace, NamespaceError, NamespaceRequest, Params, ParamsError};
pub use once::{Idempotency, IdempotencyKey};
pub use operator::{Operator, SocketOperator};
pub use parser::Parser;
pub use posthaste_adapter::{
    Adapter, AdapterError, HandshakeSnapshot, IntoRooms, MemoryAdapter, Room, RoomEvent, SocketId,
};
pub use posthaste_engine::{
    AllowOrigin, ConnectionError, Cookie, CookieBuilder, CookieError, Cors, Deflate, EngineLayer, EngineRequest,
    EngineService, ErrorContext, HttpCompression, Kept, Limit, LimitMode, ListenError, Listener, MemoryWatermark,
    OriginError, Origins, OutboxLimits, Rate, Refused, RemoteAddr, RequestError, Revision, SameSite, Secure, Stop,
    Transport, TransportSet, WorkerStalls, Workers,
};
pub use posthaste_history::{Budget, store};
pub use posthaste_queue as queue;
pub use posthaste_socket_proto::{Args, ArgsError, Chain, EmitArgs, FromArgs};
pub use queues::{
    ConsumerOptions, Deliveries, Delivery, Failure, FromJob, IntoSettled, Job, JobContext, JobError, JobHandler,
    Payload, Pull, Queue, QueueError, QueuePut, QueueRoute, QueueSchedule, QueueStats, QueueVerb, QueueWorker,
    ScheduleView, Schedules, WorkQueues, WorkerControl,
};
pub use reason::DisconnectReason;
pub use recovery::Recovery;
pub use remote::RemoteSocket;
pub use sent::Sent;
pub use server::Server;
pub use server_side::{FromServerEvent, IntoServerAnswer, ServerEventContext, ServerEventHandler};
pub use socket::Socket;
pub use stats::Stats;
