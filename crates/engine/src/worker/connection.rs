//! What a worker holds for each connection.

use std::cell::Cell;
use std::rc::Rc;
use std::task::Waker;

use posthaste_engine_proto::{Outbox, Session, Sid};
use posthaste_websocket_proto::{CloseCode, Decoder};
use tokio::sync::oneshot;

use super::turn::Out;
use super::{AppIndex, ConnectionId, GetAnswer, PostAnswer};
use crate::gate::Ticket;
use crate::stream::Stream;

/// One Engine.IO connection.
pub(super) struct Connection {
    pub(super) app: AppIndex,
    /// Whether the application was told that it is over.
    pub(super) told: bool,
    /// Whether it is in the list of those that have something to say.
    pub(super) dirty: bool,
    /// Whether it is not read from: too many of its handlers are unfinished.
    pub(super) paused: bool,
    /// Whether the application vouches for it: it may send large messages.
    pub(super) vouched: bool,
    /// Whether the client takes no binary frames.
    pub(super) base64: bool,
    pub(super) handlers: u32,
    pub(super) sid: Sid,
    pub(super) session: Session,
    /// What this turn produced for it.
    pub(super) out: Out,
    /// What the transport has not taken yet.
    pub(super) outbox: Outbox,
    /// Absent while it is polling.
    pub(super) stream: Option<StreamState>,
    /// Absent once it is not polling.
    pub(super) polls: Option<Box<Polls>>,
    /// The tick of its valid entry in the wheel.
    pub(super) wheel_tick: Option<u64>,
    /// Where connections are limited: held for as long as this one is there.
    pub(super) _ticket: Option<Box<Ticket>>,
}

/// The stream of a WebSocket, with what is needed to go on reading it.
pub(super) struct StreamState {
    pub(super) io: Stream,
    pub(super) decoder: Decoder,
    /// The unfinished end of what was read; without allocation when there is none.
    pub(super) tail: Vec<u8>,
    /// Whether the stream has taken bytes that it has not passed on yet.
    pub(super) holds_back: bool,
    /// Wakes the task that drives the stream.
    pub(super) waker: Option<Waker>,
    /// Where that task finds the stream; an upgrade moves it.
    pub(super) at: Rc<Cell<ConnectionId>>,
}

/// The open requests of a polling session.
#[derive(Default)]
pub(super) struct Polls {
    pub(super) get: Option<oneshot::Sender<GetAnswer>>,
    /// Counts GETs, so that a late sign of an aborted one does not end the next.
    pub(super) get_number: u64,
    pub(super) post: Option<Post>,
    pub(super) post_number: u64,
    /// Dropped with the session, so that a POST still being read ends too.
    pub(super) posting: Option<oneshot::Sender<()>>,
    /// The place of the WebSocket that probes for an upgrade.
    pub(super) probe: Option<ConnectionId>,
}

/// A POST whose packets are being handed to the application.
pub(super) struct Post {
    pub(super) body: String,
    /// How much of the body was read.
    pub(super) offset: usize,
    pub(super) packets: usize,
    pub(super) reply: oneshot::Sender<PostAnswer>,
}

/// A WebSocket that asks to take a polling session over.
pub(super) struct Probe {
    pub(super) session: ConnectionId,
    pub(super) stream: StreamState,
}

/// How a WebSocket's end is announced to its peer.
#[derive(Clone, Debug)]
pub(super) enum Farewell {
    /// A close frame without a status, as the official server sends.
    Quiet,
    /// A close frame with the code of a violation, or the echo of the peer's own; without a text, as the official server sends.
    Code(CloseCode),
    /// The stream is broken or was ended by the peer without a close frame: nothing can be said.
    Gone,
}
