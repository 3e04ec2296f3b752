//! One client in one namespace.

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use posthaste_adapter::{IntoRooms, Packet, Room, Rooms, SocketId};
use posthaste_engine::{ConnectionId, Frames, Request, Revision, Transport, Worker, WorkerHandle};
use posthaste_socket_proto::{EmitArgs, EncodeError, FromArgs, encode_event};

use crate::ack::AckFuture;
use crate::durable::DurableError;
use crate::encode::{packet_frames, with_packet};
use crate::error::{AckError, SendError};
use crate::handshake::Handshake;
use crate::how::How;
use crate::local::{self, Local};
use crate::namespace::{Namespace, NamespaceInner};
use crate::recovery::refuses_offsets;
use crate::sent::Sent;
use crate::server::Server;
use crate::values::Values;

/// One client in one namespace. Cloning it is a reference count; it may be kept and used from any thread.
///
/// Its [`id`](Socket::id) is public and names a room that only it is in. After it was disconnected, sending fails with
/// [`SendError::Disconnected`] and joining does nothing. Where clients are [recovered](crate::Recovery), what is emitted to a
/// socket that lost its connection is kept, as long as its client may come back, and sent to the socket that the client is then.
#[derive(Clone)]
pub struct Socket(pub(crate) Arc<SocketInner>);

pub(crate) struct SocketInner {
    pub(crate) id: SocketId,
    pub(crate) connection: ConnectionId,
    /// Counts the sockets of its worker: tells whose handler one was, also when another socket has taken the place.
    pub(crate) serial: u32,
    pub(crate) namespace: Arc<NamespaceInner>,
    request: Arc<Request>,
    auth: Option<Box<str>>,
    phase: AtomicU8,
    recovered: bool,
    pub(crate) revision: Revision,
    /// Whether its client wants offsets, where there are any.
    pub(crate) takes_offsets: bool,
    /// What there is to find in `values` for the event path, as bits: see `listeners`.
    pub(crate) listening: AtomicU8,
    /// What the application keeps with the socket; absent until something is. Shared with the socket that this one was before its
    /// connection was lost.
    pub(crate) values: OnceLock<Arc<Values>>,
}

/// Who a socket is: among its values, like all that only some have.
#[derive(Clone)]
pub(crate) struct Identity(pub(crate) Arc<str>);

/// Where a socket is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Middlewares are asked; nothing but what they send reaches it.
    Joining = 0,
    Connected = 1,
    Gone = 2,
}

/// Gone, and somebody may come back in its place, or did.
const AWAY: u8 = 3;

impl Socket {
    pub(crate) fn new(
        id: SocketId,
        connection: ConnectionId,
        serial: u32,
        namespace: Arc<NamespaceInner>,
        request: Arc<Request>,
        revision: Revision,
        auth: Option<Box<str>>,
    ) -> Self {
        let takes_offsets = revision == Revision::V4 && !auth.as_deref().is_some_and(refuses_offsets);
        Self(Arc::new(SocketInner {
            id,
            connection,
            serial,
            namespace,
            request,
            auth,
            phase: AtomicU8::new(Phase::Joining as u8),
            recovered: false,
            revision,
            takes_offsets,
            listening: AtomicU8::new(0),
            values: OnceLock::new(),
        }))
    }

    /// The same with the id and the values that it had before its connection was lost.
    pub(crate) fn resumed(
        id: SocketId,
        connection: ConnectionId,
        serial: u32,
        namespace: Arc<NamespaceInner>,
        request: Arc<Request>,
        auth: Option<Box<str>>,
        kept: Option<Arc<Values>>,
    ) -> Self {
        let mut socket = Self::new(id, connection, serial, namespace, request, Revision::V4, auth);
        let inner = Arc::get_mut(&mut socket.0).expect("invariant: it was just made");
        inner.recovered = true;
        inner.values = kept.map_or_else(OnceLock::new, OnceLock::from);
        socket
    }

    /// What the application keeps with it, for the socket that takes its place.
    pub(crate) fn values(&self) -> Option<Arc<Values>> {
        self.0.values.get().cloned()
    }

    /// Whether it is one that lost its connection and came back: its id, rooms and values are those from before, and what it
    /// missed was sent. See [`Recovery`](crate::Recovery).
    #[must_use]
    pub fn recovered(&self) -> bool {
        self.0.recovered
    }

    /// The public id: other clients may know it. It is random, and another one in each namespace and after each reconnection.
    #[must_use]
    pub fn id(&self) -> SocketId {
        self.0.id
    }

    /// The id by which its client knows itself: the text of [`Socket::id`], but for a client of Socket.IO 1 or 2
    /// ([`Builder::allow_eio3`](crate::Builder::allow_eio3)) in another namespace than `/`, which has the namespace's name and `#` before
    /// it. Where a room is asked for, either text names the socket's own.
    #[must_use]
    pub fn client_id(&self) -> String {
        match self.0.revision {
            Revision::V4 => self.0.id.to_string(),
            Revision::V3 => self.0.id.in_namespace(&self.0.namespace.name),
        }
    }

    /// The namespace it is in.
    #[must_use]
    pub fn namespace(&self) -> Namespace {
        Namespace(self.0.namespace.clone())
    }

    /// The server.
    ///
    /// # Panics
    /// When the server was dropped: a socket does not keep it.
    #[must_use]
    pub fn server(&self) -> Server {
        self.namespace().server()
    }

    /// What the client said about itself when it connected.
    #[must_use]
    pub fn handshake(&self) -> Handshake<'_> {
        Handshake { request: &self.0.request, auth: self.0.auth.as_deref() }
    }

    /// Whether it is in its namespace: not while middlewares are asked, not after it left.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.phase() == Phase::Connected
    }

    /// The transport it is on, as far as this thread can tell: `None` when the connection is gone, or owned by another worker
    /// than this thread's.
    #[must_use]
    pub fn transport(&self) -> Option<Transport> {
        Worker::current().filter(|worker| self.is_on(worker)).and_then(|worker| worker.transport(self.0.connection))
    }

    /// Sends an event to this client. A tuple is several arguments, `()` none, anything else one; bytes travel as binary.
    pub fn emit<A: EmitArgs + ?Sized>(&self, event: &str, args: &A) -> Sent {
        self.send_event(How::USUAL, event, args)
    }

    /// Sends a `message` event to this client: `emit("message", args)`.
    pub fn send<A: EmitArgs + ?Sized>(&self, args: &A) -> Sent {
        self.emit("message", args)
    }

    /// Sends an event to this client and waits for its answer: of several arguments a tuple takes all, any other type the
    /// first. It may take as long as [`Socket::timeout`] says, else the server's
    /// [`ack_timeout`](crate::Builder::ack_timeout).
    ///
    /// # Errors (of the future)
    /// [`AckError`] when the answer cannot come, did not come in time, or is not a `T`.
    pub fn emit_with_ack<T: FromArgs>(&self, event: &str, args: &(impl EmitArgs + ?Sized)) -> AckFuture<T> {
        self.ask(event, args, None, How::USUAL)
    }

    /// Joins rooms. Seen by everything that this task emits afterwards.
    ///
    /// More rooms than a socket may be in ([`max_rooms`](crate::Builder::max_rooms)), or joined faster than it may
    /// ([`join_rate`](crate::Builder::join_rate)), are not joined, with a warning in the log: [`Socket::try_join`] tells.
    pub fn join(&self, rooms: impl IntoRooms) {
        self.with_rooms(rooms, |local, socket, rooms| local.join_or_warn(socket, rooms));
    }

    /// Says who it is, in a middleware: a client that comes back for this socket's session has to be the same, where sessions are
    /// [durable](crate::Builder::durable). What is said after it was let in is ignored, with a warning in the log.
    pub fn identify(&self, identity: impl Into<Arc<str>>) {
        let (identity, socket) = (identity.into(), self.clone());
        self.run_on_worker(move |local| local.identify(&socket, identity));
    }

    /// Who it is, if a middleware has [said](Socket::identify) so.
    #[must_use]
    pub fn identity(&self) -> Option<Arc<str>> {
        self.get::<Identity>().map(|identity| identity.0)
    }

    /// Waits until the store knows of everything that was done to this socket before: the rooms it joined and left, and its
    /// [data](Socket::set_data). What a client is told behind it, no crash takes back. Ready at once where nothing is durable.
    ///
    /// # Errors
    /// [`DurableError::Store`] when the store could not take it.
    pub async fn journalled(&self) -> Result<(), DurableError> {
        let socket = self.clone();
        let written = self.on_worker(move |local| local.write_session(&socket)).await.flatten();
        if let Some(written) = written {
            written.await?;
        }
        Ok(())
    }

    /// Leaves rooms. The room of its own id cannot be left.
    pub fn leave(&self, rooms: impl IntoRooms) {
        self.with_rooms(rooms, |local, socket, rooms| local.leave(socket, rooms));
    }

    /// The rooms it is in, that of its own id first; empty once it is disconnected.
    pub async fn rooms(&self) -> Vec<Room> {
        let socket = self.clone();
        let rooms = self.on_worker(move |local| local.rooms(&socket)).await;
        rooms.unwrap_or_default()
    }

    /// Takes it out of its namespace (`io server disconnect`): the client does not reconnect by itself. With `close` it is
    /// taken out of all its namespaces and its connection is closed.
    pub fn disconnect(&self, close: bool) {
        let socket = self.clone();
        self.run_on_worker(move |local| local.disconnect(&socket, close));
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.0.phase.load(Ordering::Acquire) {
            0 => Phase::Joining,
            1 => Phase::Connected,
            _ => Phase::Gone,
        }
    }

    pub(crate) fn set_phase(&self, phase: Phase) {
        self.0.phase.store(phase as u8, Ordering::Release);
    }

    /// It has lost its connection and may come back as another socket of its id: what it is sent is sent to that one.
    pub(crate) fn set_away(&self) {
        self.0.phase.store(AWAY, Ordering::Release);
    }

    pub(crate) fn is_away(&self) -> bool {
        self.0.phase.load(Ordering::Acquire) == AWAY
    }

    pub(crate) fn is_on(&self, worker: &Worker) -> bool {
        self.worker().is_some_and(|handle| worker.is(&handle))
    }

    /// The worker that owns the connection; `None` when the server was dropped.
    pub(crate) fn worker(&self) -> Option<WorkerHandle> {
        let server = self.0.namespace.server.upgrade()?;
        server.workers.handles().get(usize::from(self.0.connection.worker)).cloned()
    }

    /// Sends an event.
    pub(crate) fn send_event<A: EmitArgs + ?Sized>(&self, how: How, event: &str, args: &A) -> Sent {
        let write = |out: &mut Vec<u8>, namespace: &str| encode_event(out, namespace, None, event, args);
        match &self.0.namespace.journal {
            Some(journal) => {
                let packet = match packet_frames(|out| write(out, &self.0.namespace.name)) {
                    Ok(frames) => Packet::from_frames(frames),
                    Err(error) => return Sent::ready(Err(error.into())),
                };
                let sent = local::send_recoverable(self, journal, &packet, how);
                if sent.has_nobody() && !how.volatile && self.is_away() {
                    // A handler that began before the connection was lost.
                    return self.namespace().to(self.id()).compress(how.compress).emit(event, args);
                }
                sent
            }
            None if self.0.namespace.is_watched() => self.send_watched(how, write),
            None => self.send_packet(how, write),
        }
    }

    /// Sends a packet whose text `write` writes for a namespace.
    pub(crate) fn send_packet(
        &self,
        how: How,
        write: impl FnOnce(&mut Vec<u8>, &str) -> Result<Vec<Bytes>, EncodeError>,
    ) -> Sent {
        if self.phase() == Phase::Gone {
            return Sent::ready(Err(SendError::Disconnected));
        }
        let id = self.0.connection;
        let sent = with_packet(
            |out| write(out, &self.0.namespace.name),
            |frames| match local::here(self) {
                Some(local) => {
                    local.worker.apply_mail();
                    let sent = self.phase() != Phase::Gone && local.send(id, frames, how);
                    Sent::ready(if sent || how.volatile { Ok(()) } else { Err(SendError::Disconnected) })
                }
                None => {
                    let frames = Frames::new(Bytes::copy_from_slice(frames));
                    // It may be gone by then, and its client in the namespace again as another socket.
                    let socket = self.clone();
                    self.post_bytes(frames.bytes().len(), move |_| {
                        if socket.phase() != Phase::Gone
                            && let Some(local) = local::here(&socket)
                        {
                            local.send(id, frames.bytes(), how);
                        }
                    })
                }
            },
        );
        sent.unwrap_or_else(|error| Sent::ready(Err(error.into())))
    }

    /// Posts a job that sends `bytes` to its worker.
    pub(crate) fn post_bytes(&self, bytes: usize, job: impl FnOnce(&Worker) + Send + 'static) -> Sent {
        let Some(worker) = self.worker() else { return Sent::ready(Err(SendError::Disconnected)) };
        match worker.post_bytes(bytes, job) {
            Ok(false) => Sent::ready(Ok(())),
            Ok(true) => Sent::ready(Ok(())).after(worker.caught_up()),
            Err(_) => Sent::ready(Err(SendError::Disconnected)),
        }
    }

    /// Sends a question and notes who waits for the answer.
    pub(crate) fn ask<T>(
        &self,
        event: &str,
        args: &(impl EmitArgs + ?Sized),
        timeout: Option<Duration>,
        how: How,
    ) -> AckFuture<T> {
        let server = self.0.namespace.server.upgrade().filter(|_| self.phase() != Phase::Gone);
        let Some(server) = server else { return AckFuture::failed(AckError::Disconnected) };
        let timeout = timeout.unwrap_or(server.config.ack_timeout);
        let id = self.0.namespace.next_ack_id();
        let question = packet_frames(|out| encode_event(out, &self.0.namespace.name, Some(id), event, args));
        let question = match question {
            Ok(frames) => Frames::new(frames),
            Err(error) => return AckFuture::failed(AckError::Send(error.into())),
        };
        let (reply, answer) = tokio::sync::oneshot::channel();
        let socket = self.clone();
        self.run_on_worker(move |local| local.ask(&socket, id, &question, how, timeout, reply));
        AckFuture::waiting(answer)
    }

    fn with_rooms(&self, rooms: impl IntoRooms, job: impl FnOnce(&Local, &Self, &Rooms) + Send + 'static) {
        let mut list = Rooms::new();
        rooms.append_to(&mut list);
        if let Some(local) = local::here(self) {
            local.worker.apply_mail();
            return job(&local, self, &list);
        }
        let socket = self.clone();
        self.run_on_worker(move |local| job(local, &socket, &list));
    }

    /// Runs `job` on the socket's worker: at once when this is its thread, else behind everything posted before.
    pub(crate) fn run_on_worker(&self, job: impl FnOnce(&Local) + Send + 'static) {
        if let Some(local) = local::here(self) {
            local.worker.apply_mail();
            return job(&local);
        }
        let socket = self.clone();
        if let Some(worker) = self.worker() {
            // A worker that has ended has no socket to do it to.
            let _ = worker.post(move |_| {
                if let Some(local) = local::here(&socket) {
                    job(&local);
                }
            });
        }
    }

    pub(crate) async fn on_worker<R: Send + 'static>(
        &self,
        job: impl FnOnce(&Local) -> R + Send + 'static,
    ) -> Option<R> {
        let socket = self.clone();
        self.worker()?.call(move |_| local::here(&socket).map(|local| job(&local))).await.ok().flatten()
    }
}

impl PartialEq for Socket {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Socket {}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket")
            .field("id", &self.0.id)
            .field("namespace", &self.0.namespace.name)
            .field("phase", &self.phase())
            .finish_non_exhaustive()
    }
}
