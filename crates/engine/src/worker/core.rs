//! The connections of one worker: places, ids, and what this turn produced for them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use posthaste_engine_proto::{Outbox, Session, Sid, Transport, Wire};
use rustc_hash::FxHashMap;

use super::connection::{Answers, Connection, Polls, Probe, StreamState};
use super::deflate::Compression;
use super::direct::Http;
use super::mailbox::Mailbox;
use super::turn::{self, Out, Piece, Staged, Taken};
use super::wheel::{Entry, Wheel};
use super::{AppEntry, AppIndex, ConnectionId};
use crate::config::EngineConfig;
use crate::gate::Ticket;

/// Everything a worker owns. Never borrowed while user code runs.
pub(super) struct Core {
    mailbox: Arc<Mailbox>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    sids: FxHashMap<Sid, u32>,
    /// What this turn produced: complete frames, one behind the other.
    pub(super) turn: Vec<u8>,
    /// Counts turn buffers, so that nothing staged in one is taken from another.
    pub(super) turn_number: u64,
    /// What compresses, once something has to be.
    pub(super) compression: Option<Box<Compression>>,
    /// Bytes this turn shared instead of copying them into its buffer.
    pub(super) turn_shared: usize,
    pub(super) dirty: Vec<u32>,
    pub(super) wheel: Wheel,
    /// For the HTTP connections of this worker's own reactor.
    pub(super) answers: Answers,
    /// Sockets of that reactor that have more to be read than was read: it tells of each arrival once.
    pub(super) unread: Vec<u32>,
    entropy: Entropy,
}

/// A place, and what its tenant is to be told: a broadcast to thousands looks at nothing else of them until it writes.
struct Slot {
    generation: u32,
    /// Whether it is in the list of those that have something to say.
    dirty: bool,
    /// Whether the application was told that its connection is over.
    told: bool,
    /// What this turn produced for it.
    out: Out,
    tenant: Tenant,
}

impl Slot {
    const fn vacant() -> Self {
        Self { generation: 0, dirty: false, told: false, out: Out::new(), tenant: Tenant::None }
    }
}

enum Tenant {
    None,
    Connection(Box<Connection>),
    Probe(Box<Probe>),
    Http(Box<Http>),
}

impl Core {
    pub(super) fn new(mailbox: Arc<Mailbox>, now: Instant) -> Self {
        Self {
            mailbox,
            slots: Vec::new(),
            free: Vec::new(),
            sids: FxHashMap::default(),
            turn: Vec::new(),
            turn_number: 0,
            compression: None,
            turn_shared: 0,
            dirty: Vec::new(),
            wheel: Wheel::new(now),
            answers: Answers::default(),
            unread: Vec::new(),
            entropy: Entropy::default(),
        }
    }

    /// Gives a tenant a place: the vacant one at `at`, or any.
    fn place(&mut self, tenant: Tenant, at: Option<u32>) -> ConnectionId {
        let slot = at.or_else(|| self.free.pop()).unwrap_or_else(|| {
            self.slots.push(Slot::vacant());
            u32::try_from(self.slots.len() - 1).expect("invariant: file descriptors end before 2^32 connections")
        });
        let place = &mut self.slots[slot as usize];
        place.tenant = tenant;
        ConnectionId { worker: self.mailbox.index, slot, generation: place.generation }
    }

    fn vacate(&mut self, id: ConnectionId) -> Slot {
        let place = &mut self.slots[id.slot as usize];
        let next = Slot { generation: place.generation.wrapping_add(1), ..Slot::vacant() };
        std::mem::replace(place, next)
    }

    /// Makes a session and gives it a place: the vacant one at `at`, or any.
    #[expect(clippy::too_many_arguments, reason = "what a connection begins with")]
    pub(super) fn open(
        &mut self,
        at: Option<u32>,
        app: AppIndex,
        transport: Transport,
        wire: Wire,
        ticket: Option<Ticket>,
        config: &EngineConfig,
        now: Instant,
    ) -> (ConnectionId, Sid) {
        let mut bytes = [0; Sid::BYTES];
        self.entropy.fill(&mut bytes);
        // The last byte says which worker knows the session; 112 random bits are left.
        bytes[Sid::BYTES - 1] = self.mailbox.index.to_le_bytes()[0];
        let sid = Sid::from_bytes(bytes);
        let id = self.place(
            Tenant::Connection(Box::new(Connection {
                app,
                paused: false,
                vouched: false,
                followed: false,
                wire,
                handlers: 0,
                sid,
                session: Session::of(now, transport, wire.revision(), &config.settings),
                outbox: Outbox::default(),
                stream: None,
                polls: (transport == Transport::Polling).then(Box::<Polls>::default),
                wheel_tick: None,
                _ticket: ticket.map(Box::new),
            })),
            at,
        );
        self.sids.insert(sid, id.slot);
        self.mailbox.load.fetch_add(1, Ordering::Relaxed);
        (id, sid)
    }

    /// Gives a place to the next tenant.
    pub(super) fn free(&mut self, slot: u32) {
        self.free.push(slot);
    }

    /// Takes a connection out, and what this turn produced for it; its id means nothing from now on. Its place stays empty until
    /// [`Core::free`]: not before its application was told, for whom the place still stands for the old tenant.
    pub(super) fn remove(&mut self, id: ConnectionId) -> Option<(Box<Connection>, Taken)> {
        self.get(id)?;
        let Slot { tenant: Tenant::Connection(connection), mut out, .. } = self.vacate(id) else {
            unreachable!("invariant: `get` found a connection")
        };
        self.sids.remove(&connection.sid);
        self.mailbox.load.fetch_sub(1, Ordering::Relaxed);
        Some((connection, out.take()))
    }

    /// Gives a probe a place: the vacant one at `at`, or any.
    pub(super) fn place_probe(&mut self, probe: Probe, at: Option<u32>) -> ConnectionId {
        self.place(Tenant::Probe(Box::new(probe)), at)
    }

    pub(super) fn place_http(&mut self, http: Http) -> ConnectionId {
        self.place(Tenant::Http(Box::new(http)), None)
    }

    pub(super) fn http(&mut self, id: ConnectionId) -> Option<&mut Http> {
        match self.slots.get_mut(id.slot as usize) {
            Some(Slot { generation, tenant: Tenant::Http(http), .. }) if *generation == id.generation => Some(http),
            _ => None,
        }
    }

    /// Takes an HTTP connection out. Its place is the caller's, to be used or given up with [`Core::free`].
    pub(super) fn take_http(&mut self, id: ConnectionId) -> Option<Box<Http>> {
        self.http(id)?;
        let Tenant::Http(http) = self.vacate(id).tenant else { unreachable!("invariant: `http` found one") };
        Some(http)
    }

    /// The HTTP connections.
    pub(super) fn https(&self) -> Vec<ConnectionId> {
        let worker = self.mailbox.index;
        let places = (0u32..).zip(&self.slots);
        places
            .filter(|(_, place)| matches!(place.tenant, Tenant::Http(_)))
            .map(|(slot, place)| ConnectionId { worker, slot, generation: place.generation })
            .collect()
    }

    /// Who is at a place now, and whether it is an HTTP connection.
    pub(super) fn tenant(&self, slot: u32) -> Option<(ConnectionId, bool)> {
        let place = self.slots.get(slot as usize)?;
        let id = ConnectionId { worker: self.mailbox.index, slot, generation: place.generation };
        match place.tenant {
            Tenant::None => None,
            Tenant::Connection(_) | Tenant::Probe(_) => Some((id, false)),
            Tenant::Http(_) => Some((id, true)),
        }
    }

    pub(super) fn remove_probe(&mut self, id: ConnectionId) -> Option<Box<Probe>> {
        self.probe(id)?;
        let Tenant::Probe(probe) = self.vacate(id).tenant else { unreachable!("invariant: `probe` found one") };
        // No application knows of probes.
        self.free(id.slot);
        Some(probe)
    }

    pub(super) fn get(&self, id: ConnectionId) -> Option<&Connection> {
        match self.slots.get(id.slot as usize) {
            Some(Slot { generation, tenant: Tenant::Connection(connection), .. }) if *generation == id.generation => {
                Some(connection)
            }
            _ => None,
        }
    }

    pub(super) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        match self.slots.get_mut(id.slot as usize) {
            Some(Slot { generation, tenant: Tenant::Connection(connection), .. }) if *generation == id.generation => {
                Some(connection)
            }
            _ => None,
        }
    }

    pub(super) fn probe(&mut self, id: ConnectionId) -> Option<&mut Probe> {
        match self.slots.get_mut(id.slot as usize) {
            Some(Slot { generation, tenant: Tenant::Probe(probe), .. }) if *generation == id.generation => Some(probe),
            _ => None,
        }
    }

    /// The stream at a place, whoever the tenant is.
    pub(super) fn stream(&mut self, id: ConnectionId) -> Option<&mut StreamState> {
        match self.slots.get_mut(id.slot as usize) {
            Some(Slot { generation, tenant, .. }) if *generation == id.generation => match tenant {
                Tenant::Connection(connection) => connection.stream.as_mut(),
                Tenant::Probe(probe) => Some(&mut probe.stream),
                Tenant::None | Tenant::Http(_) => None,
            },
            _ => None,
        }
    }

    pub(super) fn by_sid(&self, sid: &Sid) -> Option<ConnectionId> {
        let slot = *self.sids.get(sid)?;
        Some(ConnectionId { worker: self.mailbox.index, slot, generation: self.slots[slot as usize].generation })
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = ConnectionId> {
        (0u32..).zip(&self.slots).filter_map(|(slot, place)| {
            matches!(place.tenant, Tenant::Connection(_)).then_some(ConnectionId {
                worker: self.mailbox.index,
                slot,
                generation: place.generation,
            })
        })
    }

    /// Copies `frames` into the turn's buffer.
    pub(super) fn stage(&mut self, frames: &[u8]) -> Staged {
        if frames.len() > turn::SHARE_ABOVE {
            self.turn_shared += frames.len();
            return Staged { piece: Piece::Shared(bytes::Bytes::copy_from_slice(frames)), turn: self.turn_number };
        }
        let start = u32::try_from(self.turn.len()).expect("invariant: a turn is flushed long before 4 GiB");
        self.turn.extend_from_slice(frames);
        let len = u32::try_from(frames.len()).expect("invariant: it fits the turn's buffer");
        Staged { piece: Piece::Range { start, len }, turn: self.turn_number }
    }

    /// Notes `staged` for each connection. Returns how many took it.
    ///
    /// The loop of every broadcast: kept apart from its caller, it takes 13 instructions more for each receiver.
    #[inline]
    pub(super) fn deliver(&mut self, staged: &Staged, slots: impl Iterator<Item = u32>, volatile: bool) -> usize {
        let mut delivered = 0;
        if staged.turn != self.turn_number && matches!(staged.piece, Piece::Range { .. }) {
            // Its bytes are gone with its turn.
            return 0;
        }
        for slot in slots {
            let Some(Slot { tenant: Tenant::Connection(connection), out, dirty, told: false, .. }) =
                self.slots.get_mut(slot as usize)
            else {
                continue;
            };
            if volatile && !connection.is_writable(out) {
                continue;
            }
            out.push(&staged.piece);
            if !std::mem::replace(dirty, true) {
                self.dirty.push(slot);
            }
            delivered += 1;
        }
        delivered
    }

    /// The connection at a place.
    pub(super) fn at(&mut self, slot: u32) -> Option<(ConnectionId, &mut Connection)> {
        let worker = self.mailbox.index;
        match self.slots.get_mut(slot as usize) {
            Some(Slot { generation, tenant: Tenant::Connection(connection), .. }) => {
                Some((ConnectionId { worker, slot, generation: *generation }, connection))
            }
            _ => None,
        }
    }

    /// The connection at a place and what this turn produced for it, if it has something to say.
    pub(super) fn at_dirty(&mut self, slot: u32) -> Option<(ConnectionId, &mut Connection, Taken)> {
        let worker = self.mailbox.index;
        match self.slots.get_mut(slot as usize) {
            Some(Slot { generation, tenant: Tenant::Connection(connection), out, dirty, .. }) => {
                let id = ConnectionId { worker, slot, generation: *generation };
                std::mem::take(dirty).then(|| (id, &mut **connection, out.take()))
            }
            _ => None,
        }
    }

    /// Has the connection at a place say what it has to say at the end of the turn.
    pub(super) fn mark_dirty(&mut self, slot: u32) {
        if !std::mem::replace(&mut self.slots[slot as usize].dirty, true) {
            self.dirty.push(slot);
        }
    }

    /// Whether this turn produced something for the connection at a place.
    pub(super) fn has_out(&self, id: ConnectionId) -> bool {
        self.get(id).is_some() && !self.slots[id.slot as usize].out.is_empty()
    }

    /// Notes that the application is told of a connection's end, and says which; `None` when it was told before, or the
    /// connection is gone.
    pub(super) fn tell(&mut self, id: ConnectionId) -> Option<AppIndex> {
        let app = self.get(id)?.app;
        (!std::mem::replace(&mut self.slots[id.slot as usize].told, true)).then_some(app)
    }

    /// Whether the application was told of the end of a connection that is there.
    pub(super) fn is_told(&self, id: ConnectionId) -> bool {
        self.slots[id.slot as usize].told
    }

    /// Puts a connection into the wheel if its deadline comes before its entry. Returns whether the timer may have to change.
    pub(super) fn rearm(&mut self, id: ConnectionId) -> bool {
        let Some(Slot { generation, tenant: Tenant::Connection(connection), .. }) =
            self.slots.get_mut(id.slot as usize)
        else {
            return false;
        };
        if *generation != id.generation {
            return false;
        }
        let deadline = connection.session.deadline();
        if connection.wheel_tick.is_some_and(|tick| tick <= self.wheel.would_be(deadline)) {
            return false;
        }
        let entry = Entry { slot: id.slot, generation: id.generation };
        connection.wheel_tick = Some(self.wheel.insert(entry, deadline));
        true
    }

    /// A handler of this connection waits: past the bound the connection is not read any more.
    pub(super) fn handler_pending(&mut self, id: ConnectionId, apps: &[AppEntry]) {
        let Some(connection) = self.get_mut(id) else { return };
        connection.handlers += 1;
        connection.paused = connection.handlers as usize >= apps[connection.app as usize].config.max_handlers;
    }

    /// A handler that had waited is done. Returns whether a paused connection goes on.
    pub(super) fn handler_finished(&mut self, id: ConnectionId, apps: &[AppEntry]) -> bool {
        let Some(connection) = self.get_mut(id) else { return false };
        connection.handlers = connection.handlers.saturating_sub(1);
        let paused = connection.handlers as usize >= apps[connection.app as usize].config.max_handlers;
        if std::mem::replace(&mut connection.paused, paused) == paused {
            return false;
        }
        match &connection.stream {
            Some(stream) if stream.io.is_direct() => self.unread.push(id.slot),
            Some(stream) => {
                if let Some(waker) = &stream.waker {
                    waker.wake_by_ref();
                }
            }
            None => {}
        }
        true
    }
}

impl Connection {
    /// Whether something sent now would leave at once.
    fn is_writable(&self, out: &Out) -> bool {
        self.outbox.is_empty()
            && match self.session.transport() {
                Transport::WebSocket => true,
                Transport::Polling => self.session.has_parked_poll() && out.is_empty(),
            }
    }
}

/// Random bytes, fetched from the system many at a time.
struct Entropy {
    buffer: Box<[u8; 4096]>,
    used: usize,
}

impl Default for Entropy {
    fn default() -> Self {
        Self { buffer: Box::new([0; 4096]), used: 4096 }
    }
}

impl Entropy {
    fn fill(&mut self, out: &mut [u8]) {
        if self.used + out.len() > self.buffer.len() {
            getrandom::fill(&mut self.buffer[..])
                .expect("invariant: the system gives random bytes, or nothing is safe");
            self.used = 0;
        }
        let bytes = &mut self.buffer[self.used..self.used + out.len()];
        out.copy_from_slice(bytes);
        // What was given out is a secret of its holder only.
        bytes.fill(0);
        self.used += out.len();
    }
}
