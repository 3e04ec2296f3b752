//! What runs on top of the engine.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use posthaste_engine_proto::CloseReason;

use crate::request::Request;
use crate::worker::{ConnectionId, Worker};

/// A protocol on top of Engine.IO. It has one half on each worker, so that what belongs to a connection needs no lock.
pub trait Application: Send + Sync + 'static {
    /// Makes the half that lives on `worker`; called once on each worker's own thread.
    fn attach(&self, worker: &Worker) -> Rc<dyn WorkerApplication>;
}

/// The half of an [`Application`] that lives on one worker. All calls come on the worker's thread, none while another is running.
pub trait WorkerApplication {
    /// A handshake succeeded. What is sent here comes behind the client's open packet. `request` tells who it is: its address,
    /// headers and query, the revision of the protocol, and what middlewares kept of it.
    fn open(&self, id: ConnectionId, request: &Arc<Request>);
    /// A text message arrived.
    fn text(&self, id: ConnectionId, text: &str);
    /// A binary message arrived.
    fn binary(&self, id: ConnectionId, data: Bytes);
    /// A polling connection goes on over a WebSocket: what is sent from now on leaves there. [`Worker::transport`] tells where a
    /// connection is at any time.
    fn upgraded(&self, id: ConnectionId) {
        let _ = id;
    }
    /// A ping has been queued behind everything that was sent so far, on a connection that
    /// [`Worker::follow_heartbeat`] was called for.
    fn pinged(&self, id: ConnectionId) {
        let _ = id;
    }
    /// Such a ping was answered: what was sent before it has reached the client.
    fn ponged(&self, id: ConnectionId) {
        let _ = id;
    }
    /// The connection ended; the id means nothing from now on. Called exactly once for each `open`.
    fn close(&self, id: ConnectionId, reason: CloseReason);
    /// A handler of this connection panicked; `tag` is what it was started with. The connection stays as it is.
    fn panicked(&self, id: ConnectionId, tag: u32) {
        let _ = (id, tag);
    }
    /// A handler of this connection that had waited, or had been put off, was polled for `taken`, which is too long
    /// ([`WorkerStalls`](crate::WorkerStalls)); `tag` is what it was started with. Of one that is polled as it is started,
    /// [`Worker::stalled`] tells.
    fn stalled(&self, id: ConnectionId, tag: u32, taken: Duration) {
        tracing::warn!(connection = ?id, tag, milliseconds = taken.as_millis(), "worker stalled by a handler");
    }
}
