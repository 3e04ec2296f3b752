//! A server's half on one worker: its clients, their namespaces, and what they owe.
//!
//! ```text
//!   message ─► Client.connection (socket-proto) ─► Inbound ─┬─ Connect    ─► connect: middlewares ─► accept or refuse
//!                                                           ├─ Event      ─► dispatch: handler, polled in place
//!                                                           ├─ Ack        ─► acks: whoever waits
//!                                                           └─ Disconnect ─► connect: leave
//!   broadcast ─► node: one job per worker ─► deliver: this worker's members of the target
//! ```
//!
//! No handler runs while anything here is borrowed.

mod acks;
mod behind;
mod comeback;
mod connect;
mod dialects;
mod dispatch;
mod heartbeats;
mod helper;
mod inbox;
mod leaving;
mod legacy;
mod limits;
mod middleware;
mod node;
mod outgoing;
mod pace;
mod questions;
mod queues;
mod recoverable;
mod resolve;
mod resume;
mod revive;
mod rooms;
mod stalls;
mod stored;
mod window;

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::rc::{Rc, Weak as RcWeak};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use posthaste_adapter::{Member, Membership, Room, Rooms, SocketId};
use posthaste_engine::{Application, CloseReason, ConnectionId, Request, Revision, Worker, WorkerApplication};
use posthaste_engine_proto::session::deadline_after;
use posthaste_history::{Gap, Pid};
use posthaste_socket_proto::{AckTable, Connection};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use tokio::sync::Notify;

use crate::config::ServerConfig;
use crate::error::JoinError;
use crate::namespace::{Namespace, NamespaceInner, Router};
use crate::server::Inner;
use crate::socket::{Phase, Socket};
use crate::stats::Stats;
use acks::{Asked, Waiter};
pub(crate) use behind::Behind;
use dialects::Dialects;
pub(crate) use dispatch::guarded;
pub(crate) use inbox::tell_readers;
pub(crate) use node::{LocalNode, gather};
pub(crate) use questions::publish_question;
pub(crate) use queues::{Desk, Holder, post_effects, post_news, serve_queues};
use recoverable::Tracking;
pub(crate) use recoverable::{pass_stored, publish_stored, send_recoverable};
pub(crate) use stored::StoredTrail;

/// A server's half on one worker.
pub(crate) struct Local {
    pub(crate) worker: Worker,
    server: Weak<Inner>,
    /// Absent when all clients speak the one dialect.
    dialects: Option<Dialects>,
    allows_eio3: bool,
    /// By the place of the connection.
    clients: RefCell<Vec<Option<Box<Client>>>>,
    /// By the number of the namespace; made when its first client comes.
    namespaces: RefCell<Vec<Option<Rc<LocalNamespace>>>>,
    acks: RefCell<AckTable<Asked, Waiter>>,
    /// The namespaces of sockets that were asked something before they joined: nobody else knows of these until they do.
    asked_early: RefCell<FxHashMap<ConnectionId, SmallVec<[u32; 1]>>>,
    /// Connections that have to do something in time: join a namespace, or send attachments they announced. An entry is looked
    /// at when its time has come, and may be out of date then.
    deadlines: RefCell<BinaryHeap<Reverse<(Instant, ConnectionId)>>>,
    timer_changed: Rc<Notify>,
    /// Reused by every broadcast.
    slots: RefCell<Vec<u32>>,
    /// What sockets were told before they joined, by their serial number.
    early: RefCell<FxHashMap<u32, Early>>,
    /// Sessions that are being taken up, and by whom.
    claims: RefCell<Vec<(ConnectionId, Rc<comeback::Claim>)>>,
    /// How many calls of outgoing listeners are on the stack.
    showing: Cell<usize>,
    entropy: RefCell<Entropy>,
    serials: Cell<u32>,
    max_rooms: usize,
    this: RcWeak<Self>,
}

/// What a socket was told while it was being checked: done when it is let in.
#[derive(Default)]
struct Early {
    rooms: Rooms,
    /// Who it is.
    identity: Option<Arc<str>>,
    /// What it missed and cannot be sent any more.
    gaps: Vec<Gap>,
}

struct Client {
    generation: u32,
    /// How many namespaces were made for it.
    created: u32,
    request: Arc<Request>,
    connection: Connection<Handle>,
    /// When it is looked at next, if it is in the list for that: it is there once.
    watched: Option<Instant>,
    rates: Option<Box<limits::Rates>>,
}

/// A client's place in a namespace it has joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Handle {
    namespace: u32,
    member: Member,
}

/// A namespace's handlers: the inner count is everybody's, the outer this thread's, for every event.
type Handlers = Rc<Arc<Router>>;

/// A namespace's half on one worker.
pub(crate) struct LocalNamespace {
    shared: Arc<NamespaceInner>,
    membership: RefCell<Membership>,
    /// By member.
    sockets: RefCell<Vec<Option<Socket>>>,
    router: RefCell<Handlers>,
    version: Cell<u64>,
    /// Whether somebody wants to hear of its rooms.
    watched: Cell<bool>,
    /// Only when clients are recovered.
    tracking: Option<Box<Tracking>>,
    /// Only where clients use queues.
    desk: Option<Box<Desk>>,
}

thread_local! {
    /// This thread's halves, one for each server that runs on its worker. The worker owns them: what they own ends with it, and not
    /// when the thread has begun to let go of what is local to it.
    static LOCALS: RefCell<Vec<(Weak<Inner>, RcWeak<Local>)>> = const { RefCell::new(Vec::new()) };
}

/// This thread's half of a server.
pub(crate) fn of(server: &Weak<Inner>) -> Option<Rc<Local>> {
    // A thread that ends may drop what asks this.
    let found = LOCALS.try_with(|locals| {
        let locals = locals.borrow();
        let (_, local) = locals.iter().find(|(of, _)| Weak::ptr_eq(of, server))?;
        local.upgrade()
    });
    found.ok().flatten()
}

/// This thread's half of a socket's server, if this thread's worker owns the socket.
pub(crate) fn here(socket: &Socket) -> Option<Rc<Local>> {
    of(&socket.0.namespace.server).filter(|local| local.worker.index() == socket.0.connection.worker)
}

/// A server as the engine sees it.
pub(crate) struct App(pub(crate) Weak<Inner>);

impl Application for App {
    fn attach(&self, worker: &Worker) -> Rc<dyn WorkerApplication> {
        let config = self.0.upgrade().map(|server| {
            let ServerConfig { max_pending_acks, max_rooms, .. } = server.config;
            (max_pending_acks, max_rooms, server.config.is_multilingual(), server.config.allows_eio3)
        });
        let (max_pending, max_rooms, is_multilingual, allows_eio3) = config.unwrap_or_default();
        let local = Rc::new_cyclic(|this| Local {
            worker: worker.clone(),
            server: self.0.clone(),
            dialects: is_multilingual.then(Dialects::default),
            allows_eio3,
            clients: RefCell::default(),
            namespaces: RefCell::default(),
            acks: RefCell::new(AckTable::new(max_pending)),
            asked_early: RefCell::default(),
            deadlines: RefCell::default(),
            timer_changed: Rc::default(),
            slots: RefCell::default(),
            early: RefCell::default(),
            claims: RefCell::default(),
            showing: Cell::new(0),
            entropy: RefCell::default(),
            serials: Cell::new(0),
            max_rooms,
            this: this.clone(),
        });
        LOCALS.with_borrow_mut(|locals| {
            // Servers that were dropped leave their halves behind.
            locals.retain(|(server, _)| server.strong_count() > 0);
            locals.push((self.0.clone(), Rc::downgrade(&local)));
        });
        tokio::task::spawn_local(Local::keep_time(Rc::downgrade(&local)));
        if worker.index() == 0 {
            tokio::task::spawn_local(recoverable::purge(self.0.clone()));
            let queues = self.0.upgrade().and_then(|server| server.config.queues.as_ref()?.hub.take_clock());
            if let Some(clock) = queues {
                tokio::task::spawn_local(clock.run());
            }
        }
        local
    }
}

impl WorkerApplication for Local {
    fn open(&self, id: ConnectionId, request: &Arc<Request>) {
        // Nobody is left to answer.
        let Some(server) = self.server.upgrade() else { return self.worker.close(id, CloseReason::ServerShutdown) };
        let deadline = deadline_after(self.worker.now(), server.config.connect_timeout);
        let client = Client {
            generation: id.generation,
            created: 0,
            request: request.clone(),
            connection: Connection::new(deadline),
            watched: None,
            rates: None,
        };
        let mut clients = self.clients.borrow_mut();
        let place = id.slot as usize;
        if clients.len() <= place {
            clients.resize_with(place + 1, || None);
        }
        clients[place] = Some(Box::new(client));
        drop(clients);
        if let Some(dialects) = &self.dialects {
            dialects.open(id.slot, request.revision(), server.config.parser);
        }
        self.watch(id, deadline);
        if self.revision_of(request) == Revision::V3 {
            self.join_main(id);
        }
    }

    fn text(&self, id: ConnectionId, text: &str) {
        if self.allows_eio3 && text.starts_with('0') && self.is_legacy(id) {
            return self.heard_text(id, &legacy::modern(text));
        }
        self.heard_text(id, text);
    }

    fn binary(&self, id: ConnectionId, data: Bytes) {
        self.heard_binary(id, data);
    }

    fn upgraded(&self, id: ConnectionId) {
        self.tell_upgraded(id);
    }

    fn pinged(&self, id: ConnectionId) {
        self.note_ping(id);
    }

    fn ponged(&self, id: ConnectionId) {
        self.note_pong(id);
    }

    fn close(&self, id: ConnectionId, reason: CloseReason) {
        let client = {
            let mut clients = self.clients.borrow_mut();
            clients
                .get_mut(id.slot as usize)
                .and_then(|place| place.take_if(|client| client.generation == id.generation))
        };
        let Some(mut client) = client else { return };
        self.give_up_claims(id);
        self.lose_early_answers(id);
        for handle in client.connection.drain() {
            self.left(handle, reason.into());
        }
    }

    fn panicked(&self, id: ConnectionId, tag: u32) {
        // It may have left while its handler waited: then nobody is disconnected for it.
        if let Some(socket) = self.socket_of(id, tag) {
            self.disconnect(&socket, false);
        }
    }

    fn stalled(&self, id: ConnectionId, tag: u32, taken: Duration) {
        self.report_stall(id, tag, taken);
    }
}

impl Local {
    fn with_client<R>(&self, id: ConnectionId, act: impl FnOnce(&mut Client) -> R) -> Option<R> {
        let mut clients = self.clients.borrow_mut();
        let client = clients.get_mut(id.slot as usize)?.as_deref_mut()?;
        (client.generation == id.generation).then(|| act(client))
    }

    fn namespace(&self, number: u32) -> Option<Rc<LocalNamespace>> {
        self.namespaces.borrow().get(number as usize).cloned().flatten()
    }

    /// This worker's half of a namespace, made if it is not there.
    fn enter(&self, namespace: &Namespace) -> Rc<LocalNamespace> {
        if let Some(local) = self.namespace(namespace.0.number()) {
            return local;
        }
        let made = Rc::new(LocalNamespace::new(namespace.0.clone(), &self.worker));
        let number = namespace.0.number() as usize;
        let mut namespaces = self.namespaces.borrow_mut();
        if namespaces.len() <= number {
            namespaces.resize_with(number + 1, || None);
        }
        namespaces[number].get_or_insert(made).clone()
    }

    /// Gives up this worker's half of a namespace that nobody here is in, if the server is to forget such.
    fn leave_if_empty(&self, namespace: &LocalNamespace) {
        let shared = &namespace.shared;
        let forget = || shared.is_child() && self.server.upgrade().is_some_and(|server| server.registry.cleans_up());
        if namespace.membership.borrow().is_empty() && forget() {
            let left = self.namespaces.borrow_mut().get_mut(shared.number() as usize).and_then(Option::take);
            // It may be the last to hold it.
            drop(left);
        }
    }

    fn socket(&self, handle: Handle) -> Option<Socket> {
        self.namespace(handle.namespace)?.sockets.borrow().get(handle.member.0 as usize).cloned().flatten()
    }

    /// The socket of a connection that has this serial number.
    fn socket_of(&self, id: ConnectionId, serial: u32) -> Option<Socket> {
        let handles = self.with_client(id, |client| client.connection.iter().map(|(_, handle)| *handle).collect());
        let handles: Vec<Handle> = handles.unwrap_or_default();
        handles.into_iter().filter_map(|handle| self.socket(handle)).find(|it| it.0.serial == serial)
    }

    /// The place of a socket in its namespace.
    fn handle(&self, socket: &Socket) -> Option<Handle> {
        let name = &socket.0.namespace.name;
        let handle = self.with_client(socket.0.connection, |client| client.connection.get(name).copied()).flatten()?;
        // The client may have left and joined again: that is another socket.
        (self.socket(handle)? == *socket).then_some(handle)
    }

    /// Puts a socket into rooms: all of them, or none when it would be in too many.
    pub(crate) fn join(&self, socket: &Socket, rooms: &Rooms) -> Result<(), JoinError> {
        if socket.phase() == Phase::Joining {
            // Done when it is let in; until then no broadcast may find it.
            let mut early = self.early.borrow_mut();
            let pending = &mut early.entry(socket.0.serial).or_default().rooms;
            self.admits_rooms(pending.len(), rooms.len(), || {
                rooms.iter().filter(|room| !pending.contains(room)).count()
            })?;
            for room in rooms {
                if !pending.contains(room) {
                    pending.push(room.clone());
                }
            }
            return Ok(());
        }
        let handle = self.handle(socket).ok_or(JoinError::Disconnected)?;
        let namespace = self.namespace(handle.namespace).ok_or(JoinError::Disconnected)?;
        {
            let membership = namespace.membership.borrow();
            self.admits_rooms(membership.rooms_held(handle.member), rooms.len(), || {
                rooms.iter().filter(|room| !membership.is_in(handle.member, room)).count()
            })?;
        }
        namespace.join(handle.member, socket.id(), rooms.iter());
        Ok(())
    }

    pub(crate) fn leave(&self, socket: &Socket, rooms: &Rooms) {
        if socket.phase() == Phase::Joining {
            if let Some(early) = self.early.borrow_mut().get_mut(&socket.0.serial) {
                early.rooms.retain(|room| !rooms.contains(room));
            }
            return;
        }
        let Some(handle) = self.handle(socket) else { return };
        let Some(namespace) = self.namespace(handle.namespace) else { return };
        namespace.leave(handle.member, socket.id(), rooms);
    }

    pub(crate) fn rooms(&self, socket: &Socket) -> Vec<Room> {
        let Some(handle) = self.handle(socket) else { return Vec::new() };
        let namespace = self.namespace(handle.namespace);
        let mut rooms =
            namespace.map_or_else(Vec::new, |namespace| namespace.membership.borrow().rooms_of(handle.member));
        if socket.0.revision == Revision::V3
            && let Some(own) = rooms.first_mut()
        {
            *own = socket.client_id().into();
        }
        rooms
    }

    /// What this worker holds; of one namespace, if one is named. Rooms come by name, for others may hold them as well.
    pub(crate) fn stats(&self, only: Option<&[u32]>) -> (Stats, Vec<(u32, Room)>) {
        let namespaces = self.namespaces.borrow();
        let counted = namespaces
            .iter()
            .flatten()
            .filter(|namespace| only.is_none_or(|only| only.contains(&namespace.shared.number())));
        let (mut sockets, mut rooms) = (0, Vec::new());
        for namespace in counted {
            let membership = namespace.membership.borrow();
            sockets += membership.len();
            rooms.extend(membership.rooms().map(|(room, _)| (namespace.shared.number(), room.clone())));
        }
        let stats = Stats {
            connections: self.clients.borrow().iter().flatten().count(),
            sockets,
            // Each socket has the room of its own id, and is on this worker alone.
            rooms: sockets,
            pending_acks: self.acks.borrow().len(),
            handlers: self.worker.handlers(),
            // Counted once, not by each worker.
            recoverable: 0,
        };
        (stats, rooms)
    }

    fn next_serial(&self) -> u32 {
        let serial = self.serials.get();
        self.serials.set(serial.wrapping_add(1));
        serial
    }

    fn new_id(&self) -> SocketId {
        SocketId::from_bytes(self.entropy.borrow_mut().take())
    }

    fn new_pid(&self) -> Pid {
        Pid::from_bytes(self.entropy.borrow_mut().take())
    }
}

impl LocalNamespace {
    fn new(shared: Arc<NamespaceInner>, worker: &Worker) -> Self {
        let tracking = shared.journal.as_ref().map(|journal| Box::new(Tracking::new(journal, worker)));
        // The version first: a handler registered in between is then found at the next look.
        let version = Cell::new(shared.version());
        let router = RefCell::new(Rc::new(shared.router()));
        let watched = Cell::new(shared.rooms.is_on());
        let desk = shared.office.get().map(|office| Box::new(Desk::new(office)));
        let (membership, sockets) = (RefCell::default(), RefCell::default());
        Self { shared, membership, sockets, router, version, watched, tracking, desk }
    }

    /// The handlers, as of now.
    fn router(&self) -> Handlers {
        let version = self.shared.version();
        if self.version.replace(version) != version {
            *self.router.borrow_mut() = Rc::new(self.shared.router());
        }
        self.router.borrow().clone()
    }
}

/// Random bytes for ids, fetched from the system many at a time.
struct Entropy {
    buffer: Vec<u8>,
    used: usize,
}

impl Default for Entropy {
    fn default() -> Self {
        Self { buffer: vec![0; 1500], used: 1500 }
    }
}

impl Entropy {
    fn take<const BYTES: usize>(&mut self) -> [u8; BYTES] {
        if self.used + BYTES > self.buffer.len() {
            getrandom::fill(&mut self.buffer).expect("invariant: the system gives random bytes, or nothing is safe");
            self.used = 0;
        }
        let mut bytes = [0; BYTES];
        bytes.copy_from_slice(&self.buffer[self.used..self.used + BYTES]);
        self.used += BYTES;
        bytes
    }
}
