//! The log and the sessions of one namespace, behind one lock.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use posthaste_adapter::{Packet, Room, SocketId};
use posthaste_engine::ConnectionId;
use posthaste_engine_proto::session::deadline_after;
use posthaste_history::{
    Audience, Budget, Claim, Epoch, Log, LogLimits, NotRecovered, OffsetKey, Pid, Position, SessionLimits, Sessions,
    Trail, replay_start,
};

use super::attempts::Attempts;
use super::place::{Offered, OffsetText, Place};
use super::shared::Shared;
use super::{Away, Recovery, Wish};
use crate::durable::{Allowances, Durable, DurableError, Keeper};
use crate::local::StoredTrail;
use crate::namespace::NamespaceInner;
use crate::values::Values;

/// What a parked session takes besides its rooms' names, in bytes. An estimate.
const SESSION_OVERHEAD: usize = 512;
/// What each room of a parked session takes besides its name.
const STAY_OVERHEAD: usize = 64;

/// The journals of a server.
pub(crate) struct Journals {
    shared: Arc<Shared>,
    /// What outlives the process, if anything does, and the key of its offsets.
    durable: Option<(Durable, OffsetKey)>,
    /// How much of that is sent again to whom.
    allowances: Arc<Allowances>,
}

/// The log and the sessions of one namespace.
pub(crate) struct Journal {
    shared: Arc<Shared>,
    epoch: Epoch,
    /// What outlives the process, or why nothing does.
    keeper: Result<Arc<Keeper>, DurableError>,
    /// Who is about to take which session up.
    pub(super) attempts: Attempts,
    state: Mutex<State>,
}

struct State {
    log: Log<Room>,
    /// What the store has committed is in the log up to here.
    stored: u64,
    sessions: Sessions<ConnectionId, Kept>,
    /// What of the shared numbers is this namespace's.
    bytes: usize,
    parked: usize,
}

/// What is kept of a socket that lost its connection.
pub(crate) struct Kept {
    pub(crate) id: SocketId,
    pub(crate) trail: Trail<Room>,
    /// What the store has of it.
    pub(crate) stored: Option<Box<StoredTrail>>,
    /// Everything that was only for this socket is in the log up to here, and nothing behind it.
    pub(crate) until: Place,
    pub(crate) values: Option<Arc<Values>>,
    pub(crate) away: Away,
    /// A namespace that would be forgotten with its last socket stays for those who may come back.
    pub(crate) _namespace: Option<Arc<NamespaceInner>>,
}

/// An event that is in the log, on its way to the workers.
#[derive(Clone, Debug)]
pub(crate) struct Published {
    pub(crate) place: Place,
    pub(crate) packet: Packet,
}

impl Journals {
    /// `silence` is how long it takes to find out that a client is gone; `budget` what may be replayed to one socket.
    pub(crate) fn new(
        settings: Recovery,
        silence: Duration,
        budget: Budget,
        durable: Option<(Durable, OffsetKey)>,
    ) -> Self {
        let max_age = settings.max_disconnection.saturating_add(silence);
        let shared = Arc::new(Shared::new(settings, max_age, budget, OffsetKey::from_bytes(random())));
        let budget = durable.as_ref().map(|(durable, _)| durable.replay_budget).unwrap_or_default();
        Self { shared, durable, allowances: Arc::new(Allowances::new(budget)) }
    }

    pub(crate) fn settings(&self) -> &Recovery {
        &self.shared.settings
    }

    /// The journal of a new namespace, with a shard of the store if it may have one.
    pub(crate) fn add(&self, name: &str, may_be_durable: bool) -> Arc<Journal> {
        let Recovery { max_bytes, max_events, max_sessions, .. } = self.shared.settings;
        let keeper = match &self.durable {
            Some((settings, key)) if may_be_durable => {
                let keeper = Keeper::open(settings, key.clone(), self.allowances.clone(), name);
                keeper.map(Arc::new).map_err(DurableError::from)
            }
            _ => Err(DurableError::NoStore(name.to_owned())),
        };
        if let Err(error @ DurableError::Store(_)) = &keeper {
            tracing::error!(namespace = name, %error, "the store of a namespace could not be opened: nothing durable can be sent there");
        }
        let epoch = Epoch(u32::from_be_bytes(random()));
        let state = State {
            log: Log::new(epoch, LogLimits { max_bytes, max_events, max_age: self.shared.max_age }),
            stored: keeper.as_ref().map_or(0, |keeper| keeper.head().pos),
            sessions: Sessions::new(SessionLimits { max_sessions, max_bytes }),
            bytes: 0,
            parked: 0,
        };
        let (shared, attempts) = (self.shared.clone(), Attempts::default());
        let journal = Arc::new(Journal { shared, epoch, keeper, attempts, state: Mutex::new(state) });
        self.shared.add(&journal);
        journal
    }

    /// Drops what has become too old.
    pub(crate) fn purge(&self, now: Instant) {
        for journal in self.shared.each() {
            journal.purge(now);
        }
    }

    /// The shards of the namespaces that have one.
    pub(crate) fn keepers(&self) -> Vec<Arc<Keeper>> {
        self.shared.each().iter().filter_map(|journal| journal.kept().cloned()).collect()
    }

    pub(crate) fn durable(&self) -> Option<&Durable> {
        self.durable.as_ref().map(|(durable, _)| durable)
    }

    /// How many absent clients may come back.
    pub(crate) fn parked(&self) -> usize {
        self.shared.parked()
    }
}

impl Drop for Journals {
    fn drop(&mut self) {
        // Sessions may keep their namespace, which keeps its journal.
        for journal in self.shared.each() {
            journal.with(|state| std::iter::from_fn(|| state.sessions.shed()).collect());
        }
    }
}

impl Journal {
    /// What outlives the process, if anything does.
    pub(crate) fn kept(&self) -> Option<&Arc<Keeper>> {
        self.keeper.as_ref().ok()
    }

    /// What outlives the process, or why nothing does.
    pub(crate) fn keeper(&self) -> Result<&Arc<Keeper>, DurableError> {
        self.keeper.as_ref().map_err(Clone::clone)
    }

    /// The text of a place, as clients carry it.
    pub(crate) fn offset(&self, place: Place) -> OffsetText {
        let stored = self.kept().map(|keeper| keeper.offset(place.stored));
        OffsetText::new(stored, self.shared.key.write(self.position(place.pos)))
    }

    /// What a client's text says, as far as it can be read.
    pub(crate) fn offered(&self, wish: &Wish) -> Offered {
        self.offered_text(wish.offset.as_deref())
    }

    /// As [`Journal::offered`], of the text alone.
    pub(crate) fn offered_text(&self, offset: Option<&str>) -> Offered {
        let mut offered = Offered::default();
        // The third would be of an inbox: it says nothing of rooms.
        for part in offset.into_iter().flat_map(OffsetText::parts).take(2) {
            if let Some(passing) = self.shared.key.read(part) {
                offered.passing = Some(passing);
            } else if let Some(keeper) = self.kept()
                && let Some(stored) = keeper.read_offset(part)
            {
                offered.stored = Some(stored);
            }
        }
        offered
    }

    pub(crate) const fn position(&self, pos: u64) -> Position {
        Position { epoch: self.epoch, pos }
    }

    /// The place of the last event.
    pub(crate) fn head(&self) -> Place {
        self.lock().head()
    }

    /// Gives an event its place and its offset, logs it and has `post` hand it to the workers: all under the lock, so that
    /// every worker receives events in the order of the log. Nothing happens if `wanted`, asked under the lock, says no.
    /// `stored` is the event's position in the store, if it is there.
    pub(crate) fn publish<R>(
        &self,
        audience: Audience<Room>,
        packet: &Packet,
        stored: Option<u64>,
        wanted: impl FnOnce() -> bool,
        post: impl FnOnce(Published) -> R,
    ) -> Option<R> {
        let posted = {
            let mut state = self.lock();
            wanted().then(|| {
                state.stored = stored.unwrap_or(state.stored);
                let place = Place { pos: state.log.next().pos, stored: state.stored };
                let packet = packet.with_last_argument(self.offset(place).as_str());
                state.log.append(Instant::now(), audience, packet.frames().clone());
                self.account(&mut state);
                post(Published { place, packet })
            })
        };
        self.shared.forget_events();
        posted
    }

    /// The store has come so far, with something that is sent to nobody. `post` hands that to the workers, under the lock: in its order
    /// among events.
    pub(crate) fn pass(&self, stored: u64, post: impl FnOnce(Place)) {
        let mut state = self.lock();
        state.stored = stored;
        post(state.head());
    }

    /// A socket is live on a connection, under this secret.
    pub(crate) fn open(&self, pid: Pid, connection: ConnectionId) {
        self.with(|state| state.sessions.open(pid, connection).into_iter().collect());
    }

    /// A socket has lost its connection and may come back. `keep` is called under the lock, with the last position: nothing that
    /// is only for this socket may be logged behind it.
    pub(crate) fn park(&self, pid: Pid, keep: impl FnOnce(Place) -> Kept) {
        let expires = deadline_after(Instant::now(), self.shared.settings.max_disconnection);
        self.with(|state| {
            let kept = keep(state.head());
            let bytes = kept.bytes();
            state.sessions.park(pid, kept, bytes, expires)
        });
    }

    /// A socket has left for good. `end` is called under the lock.
    pub(crate) fn close(&self, pid: Pid, id: SocketId, end: impl FnOnce()) {
        self.with(|state| {
            end();
            state.log.forget_room(&Room::from(id));
            state.sessions.close(pid).into_iter().collect()
        });
    }

    /// Takes a session, so that nobody else can: one that is parked, or one whose connection has to be closed first.
    pub(crate) fn claim(self: &Arc<Self>, pid: Pid) -> Option<Claimed> {
        let mut held = None;
        self.with(|state| {
            match state.sessions.claim(&pid, Instant::now()) {
                Claim::Parked { session, expires } => held = Some(Held::Kept(session, expires)),
                Claim::Live(connection) => held = Some(Held::Elsewhere(connection)),
                Claim::Expired(session) => return vec![session],
                Claim::Nothing => {}
            }
            Vec::new()
        });
        held.map(|held| Claimed { journal: self.clone(), pid, held })
    }

    /// Where a replay to a session starts, by what its client says.
    pub(crate) fn replay_start(&self, kept: &Kept, offered: Offered) -> Result<u64, NotRecovered> {
        replay_start(&self.lock().log, &kept.trail, offered.passing)
    }

    /// What a session missed after `after`, up to `until`: frames, in order.
    pub(crate) fn missed(&self, kept: &Kept, after: u64, until: u64) -> Result<Vec<Bytes>, NotRecovered> {
        self.lock().log.missed(&kept.trail, &Room::from(kept.id), after, until, self.shared.budget)
    }

    fn purge(&self, now: Instant) {
        self.with(|state| {
            state.log.trim(now);
            state.sessions.expire(now)
        });
    }

    /// When the oldest event that is kept happened.
    pub(super) fn oldest_event(&self) -> Option<Instant> {
        self.lock().log.oldest()
    }

    /// Forgets its oldest events, as long as `too_many` says so and they are no younger than `next`. Returns when the oldest one left
    /// happened.
    pub(super) fn forget_events(&self, next: Option<Instant>, too_many: impl Fn() -> bool) -> Option<Instant> {
        let mut state = self.lock();
        while too_many() && state.log.oldest().is_some_and(|oldest| next.is_none_or(|next| oldest <= next)) {
            state.log.shed();
            self.account(&mut state);
        }
        state.log.oldest()
    }

    /// How many of its sessions are parked.
    pub(super) fn parked(&self) -> usize {
        self.lock().sessions.parked()
    }

    /// Forgets its sessions that were parked first, as long as `too_many` says so and there are no fewer than `next`. Returns how
    /// many are left.
    pub(super) fn forget_sessions(&self, next: usize, too_many: impl Fn() -> bool) -> usize {
        let mut dropped = Vec::new();
        let mut state = self.lock();
        while too_many()
            && state.sessions.parked() >= next
            && let Some(oldest) = state.sessions.shed()
        {
            state.log.forget_room(&Room::from(oldest.id));
            dropped.push(oldest);
            self.account(&mut state);
        }
        let left = state.sessions.parked();
        drop(state);
        drop(dropped);
        left
    }

    /// Changes the state; `change` returns the sessions that have to go.
    fn with(&self, change: impl FnOnce(&mut State) -> Vec<Kept>) {
        let dropped = {
            let mut state = self.lock();
            let dropped = change(&mut state);
            for kept in &dropped {
                state.log.forget_room(&Room::from(kept.id));
            }
            self.account(&mut state);
            dropped
        };
        // What applications keep with their sockets is dropped outside of the lock: it may do anything.
        drop(dropped);
        self.shared.forget_events();
        self.shared.forget_sessions();
    }

    /// Brings the shared numbers up to date.
    fn account(&self, state: &mut State) {
        let Shared { bytes, parked, .. } = &*self.shared;
        let State { log, sessions, .. } = &*state;
        let (now_bytes, now_parked) = (log.bytes() + sessions.bytes(), sessions.parked());
        count(bytes, &mut state.bytes, now_bytes);
        count(parked, &mut state.parked, now_parked);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.shared.bytes.fetch_sub(state.bytes, Ordering::Relaxed);
        self.shared.parked.fetch_sub(state.parked, Ordering::Relaxed);
    }
}

/// Adds to a shared number what this namespace's part of it has grown by.
fn count(sum: &AtomicUsize, part: &mut usize, now: usize) {
    // Two's complement: adding the difference of a smaller number takes it away.
    sum.fetch_add(now.wrapping_sub(std::mem::replace(part, now)), Ordering::Relaxed);
}

impl State {
    fn head(&self) -> Place {
        Place { pos: self.log.head().pos, stored: self.stored }
    }
}

impl Kept {
    fn bytes(&self) -> usize {
        let stays = self.trail.stays().iter().map(|stay| stay.room.len() + STAY_OVERHEAD).sum::<usize>();
        SESSION_OVERHEAD + stays + self.stored.as_ref().map_or(0, |stored| stored.bytes())
    }
}

/// A session that was claimed. Dropping it gives the claim up: the session waits on, as long as it would have.
pub(crate) struct Claimed {
    journal: Arc<Journal>,
    pid: Pid,
    held: Held,
}

enum Held {
    /// Still on this connection.
    Elsewhere(ConnectionId),
    Kept(Kept, Instant),
    Nothing,
}

impl Claimed {
    pub(crate) const fn pid(&self) -> Pid {
        self.pid
    }

    /// The connection that has to be closed first.
    pub(crate) const fn elsewhere(&self) -> Option<ConnectionId> {
        match self.held {
            Held::Elsewhere(connection) => Some(connection),
            Held::Kept(..) | Held::Nothing => None,
        }
    }

    /// What is kept of the socket; `None` if its connection is not closed yet, or it cannot come back.
    pub(crate) fn kept(&mut self) -> Option<&mut Kept> {
        if let Held::Elsewhere(_) = self.held
            && let Some((kept, expires)) = self.journal.lock().sessions.take(&self.pid)
        {
            self.held = Held::Kept(kept, expires);
        }
        match &mut self.held {
            Held::Kept(kept, _) => Some(kept),
            Held::Elsewhere(_) | Held::Nothing => None,
        }
    }

    /// The session is live again, on this connection.
    pub(crate) fn reopen(mut self, connection: ConnectionId) -> Option<Kept> {
        self.journal.open(self.pid, connection);
        match std::mem::replace(&mut self.held, Held::Nothing) {
            Held::Kept(kept, _) => Some(kept),
            Held::Elsewhere(_) | Held::Nothing => None,
        }
    }

    /// The session is over: it can never be recovered.
    pub(crate) fn discard(mut self) {
        match std::mem::replace(&mut self.held, Held::Nothing) {
            Held::Kept(kept, _) => self.journal.close(self.pid, kept.id, || {}),
            // Whatever is there by now is its own.
            held @ Held::Elsewhere(_) => self.held = held,
            Held::Nothing => {}
        }
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        match std::mem::replace(&mut self.held, Held::Nothing) {
            Held::Nothing => {}
            Held::Elsewhere(connection) => {
                self.journal.with(|state| state.sessions.release(self.pid, connection));
            }
            Held::Kept(kept, expires) => {
                let bytes = kept.bytes();
                self.journal.with(|state| state.sessions.unclaim(self.pid, kept, bytes, expires));
            }
        }
    }
}

pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("invariant: the system gives random bytes, or nothing is safe");
    bytes
}
