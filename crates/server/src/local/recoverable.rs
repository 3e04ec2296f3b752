//! Events that can be replayed: logged, and delivered in the order of the log on every worker.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use posthaste_adapter::{Broadcast, Member, Packet, Room, Target};
use posthaste_engine::{Revision, Worker, WorkerHandle};
use posthaste_history::store::{Answer, Receipt, SessionRecord};
use posthaste_history::{Audience, Pid, Trail};
use rustc_hash::FxHashSet;

use super::inbox::Inboxes;
use super::questions::Reasked;
use super::queues::NotedConsumers;
use super::stored::StoredTrail;
use super::{Local, LocalNamespace};
use crate::dialect::Dialect;
use crate::error::SendError;
use crate::how::How;
use crate::namespace::NamespaceInner;
use crate::reason::DisconnectReason;
use crate::recovery::{Away, Journal, Kept, Place, Published};
use crate::sent::Sent;
use crate::server::Inner;
use crate::socket::{Phase, Socket};

/// What a worker's half of a namespace knows besides, when clients are recovered.
pub(super) struct Tracking {
    journal: Arc<Journal>,
    /// What concerns this worker's sockets has been delivered up to here.
    applied: Cell<Place>,
    /// By member.
    tracked: RefCell<Vec<Option<Box<Tracked>>>>,
    /// Those whose clients take no offsets.
    bare: RefCell<FxHashSet<Member>>,
    pub(super) inboxes: Inboxes,
    pub(super) questions: Reasked,
}

/// One live socket.
struct Tracked {
    pid: Pid,
    trail: Trail<Room>,
    /// What outlives the process.
    stored: Option<Box<StoredTrail>>,
    /// What had been sent when the last ping was, if that was not answered yet.
    pinged: Option<Place>,
}

impl Tracking {
    /// For the half that a worker makes now.
    pub(super) fn new(journal: &Arc<Journal>, worker: &Worker) -> Self {
        let mut applied = journal.head();
        // What is posted up to the head is done then. Others may publish meanwhile; nobody here misses it, since nobody is here.
        for _ in 0..16 {
            worker.apply_mail();
            let head = journal.head();
            if std::mem::replace(&mut applied, head) == head {
                break;
            }
        }
        Self {
            journal: journal.clone(),
            applied: Cell::new(applied),
            tracked: RefCell::default(),
            bare: RefCell::default(),
            inboxes: Inboxes::default(),
            questions: Reasked::default(),
        }
    }

    pub(super) const fn applied(&self) -> Place {
        self.applied.get()
    }

    pub(super) fn journal(&self) -> &Journal {
        &self.journal
    }

    /// A socket that this process did not know, `stored` if the store does.
    pub(super) fn enter(&self, member: Member, pid: Pid, socket: &Socket, stored: Option<Box<StoredTrail>>) {
        self.journal.open(pid, socket.0.connection);
        let Place { pos, stored: at } = self.applied.get();
        let stored = stored.or_else(|| {
            let keeper = self.journal.kept()?;
            let identity = socket.identity().unwrap_or_default();
            Some(Box::new(StoredTrail::new(socket.id(), identity, socket.raw_data(), keeper, at)))
        });
        self.track(member, pid, Trail::new(self.journal.position(pos)), stored);
    }

    /// A socket that is back.
    pub(super) fn track(&self, member: Member, pid: Pid, trail: Trail<Room>, stored: Option<Box<StoredTrail>>) {
        let mut tracked = self.tracked.borrow_mut();
        let place = member.0 as usize;
        if tracked.len() <= place {
            tracked.resize_with(place + 1, || None);
        }
        tracked[place] = Some(Box::new(Tracked { pid, trail, stored, pinged: None }));
    }

    /// The client of a socket takes no offsets.
    pub(super) fn leave_bare(&self, member: Member) {
        self.bare.borrow_mut().insert(member);
    }

    pub(super) fn joined(&self, member: Member, room: &Room) {
        if let Some(Some(tracked)) = self.tracked.borrow_mut().get_mut(member.0 as usize) {
            let applied = self.applied.get();
            tracked.trail.join(room.clone(), applied.pos);
            if let Some(stored) = &mut tracked.stored {
                stored.join(room, applied.stored);
            }
        }
    }

    pub(super) fn left_room(&self, member: Member, room: &Room) {
        if let Some(Some(tracked)) = self.tracked.borrow_mut().get_mut(member.0 as usize) {
            let applied = self.applied.get();
            tracked.trail.leave(room, applied.pos);
            if let Some(stored) = &mut tracked.stored {
                stored.leave(room, applied.stored);
            }
        }
    }

    /// A ping follows everything that a socket was sent so far.
    pub(super) fn pinged(&self, member: Member) {
        if let Some(Some(tracked)) = self.tracked.borrow_mut().get_mut(member.0 as usize) {
            tracked.pinged = Some(self.applied.get());
        }
    }

    /// The last ping was answered.
    pub(super) fn ponged(&self, member: Member) {
        if let Some(Some(tracked)) = self.tracked.borrow_mut().get_mut(member.0 as usize)
            && let Some(pinged) = tracked.pinged.take()
        {
            tracked.trail.confirm(pinged.pos);
            if let Some(stored) = &mut tracked.stored {
                stored.trail.confirm(pinged.stored);
            }
        }
    }

    /// Has the store know a socket as it is now, if anything outlives the process.
    pub(super) fn note(&self, member: Member) {
        if let Some(keeper) = self.journal.kept()
            && let Some(Some(tracked)) = self.tracked.borrow().get(member.0 as usize)
            && let Some(stored) = &tracked.stored
        {
            stored.note(keeper, tracked.pid);
        }
    }

    /// Changes what the store has of a socket, and has it know.
    pub(super) fn change_stored(&self, member: Member, change: impl FnOnce(&mut StoredTrail)) {
        if let Some(Some(tracked)) = self.tracked.borrow_mut().get_mut(member.0 as usize)
            && let Some(stored) = &mut tracked.stored
        {
            change(stored);
        }
        self.note(member);
    }

    /// Changes what the store is to have of a socket: what it consumes. It is not written yet.
    pub(super) fn set_consumers(&self, member: Member, consumers: Option<Box<NotedConsumers>>) {
        if let Some(Some(tracked)) = self.tracked.borrow_mut().get_mut(member.0 as usize)
            && let Some(stored) = &mut tracked.stored
        {
            stored.consumers = consumers;
        }
    }

    /// Looks at what the store has of a socket.
    pub(super) fn with_stored<R>(&self, member: Member, look: impl FnOnce(&StoredTrail) -> R) -> Option<R> {
        let tracked = self.tracked.borrow();
        Some(look(tracked.get(member.0 as usize)?.as_ref()?.stored.as_ref()?))
    }

    /// A client says that it heard everything up to an offset, and has noted so: that is not replayed any more. Returns whether it can
    /// be true. The store is told of what is new.
    pub(super) fn confirm(&self, member: Member, offset: &str) -> bool {
        let Place { pos, stored } = self.applied.get();
        let offered = self.journal.offered_text(Some(offset));
        let Some(keeper) = self.journal.kept() else { return false };
        let heard = offered.stored.filter(|it| it.epoch == keeper.head().epoch && it.pos <= stored);
        let passing = offered.passing.filter(|it| it.epoch == self.journal.position(0).epoch && it.pos <= pos);
        if offered.stored != heard || offered.passing != passing {
            return false;
        }
        let Some(heard) = heard else { return false };
        let is_news = match self.tracked.borrow_mut().get_mut(member.0 as usize) {
            Some(Some(tracked)) => {
                if let Some(passing) = passing {
                    tracked.trail.confirm(passing.pos);
                }
                let news = tracked.stored.as_mut().filter(|stored| stored.trail.confirmed() < heard.pos);
                news.map(|stored| stored.trail.confirm(heard.pos)).is_some()
            }
            _ => false,
        };
        if is_news {
            self.note(member);
        }
        true
    }

    /// Writes what the store has of a socket; `None` if it has nothing.
    pub(super) fn write(&self, member: Member) -> Option<Answer<Vec<Receipt>>> {
        let keeper = self.journal.kept()?;
        let tracked = self.tracked.borrow();
        let tracked = tracked.get(member.0 as usize)?.as_ref()?;
        Some(keeper.write_sessions(vec![(tracked.pid, Some(tracked.stored.as_ref()?.record(keeper)))]))
    }

    /// What the store is to know of all sockets here, so that none expires that is live.
    pub(super) fn records(&self) -> Vec<(Pid, Option<SessionRecord>)> {
        let Some(keeper) = self.journal.kept() else { return Vec::new() };
        let tracked = self.tracked.borrow();
        let stored = tracked.iter().flatten().filter_map(|it| Some((it.pid, it.stored.as_ref()?)));
        stored.map(|(pid, stored)| (pid, Some(stored.record(keeper)))).collect()
    }

    /// A socket is gone: from the moment its session is kept, nothing is logged for it alone.
    pub(super) fn left(&self, member: Member, socket: &Socket, reason: DisconnectReason) {
        self.bare.borrow_mut().remove(&member);
        let tracked = self.tracked.borrow_mut().get_mut(member.0 as usize).and_then(Option::take);
        let Some(tracked) = tracked else { return socket.set_phase(Phase::Gone) };
        let Tracked { pid, trail, stored, .. } = *tracked;
        if !reason.is_recoverable() {
            if let Some(keeper) = self.journal.kept() {
                keeper.note_session(pid, None);
            }
            return self.journal.close(pid, socket.id(), || socket.set_phase(Phase::Gone));
        }
        if let (Some(keeper), Some(stored)) = (self.journal.kept(), &stored) {
            stored.note(keeper, pid);
        }
        self.journal.park(pid, |until| {
            let away = Away::new(socket);
            let namespace = socket.0.namespace.is_child().then(|| socket.0.namespace.clone());
            Kept { id: socket.id(), trail, stored, until, values: socket.values(), away, _namespace: namespace }
        });
    }

    /// What concerns this worker's sockets has been delivered up to there.
    fn reach(&self, place: Place) {
        self.applied.set(self.applied.get().max(place));
    }
}

/// A packet with an offset, for clients that take one, and without it for those that do not.
fn with_original(packet: &Packet, original: &Packet) -> Packet {
    let packet = packet.sharing_forms();
    if let Some(form) = Dialect::Json3.form() {
        packet.form(form, || Some(original.frames().clone()));
    }
    packet
}

/// Logs a broadcast and has every worker deliver it.
pub(super) fn broadcast(namespace: &Arc<NamespaceInner>, journal: &Journal, broadcast: &Broadcast) {
    let Some(server) = namespace.server.upgrade() else { return };
    let here = super::of(&namespace.server);
    let Target { rooms, except, .. } = &broadcast.target;
    let audience = Audience { rooms: rooms.clone(), except: except.clone() };
    let posted = journal.publish(
        audience,
        &broadcast.packet,
        None,
        || true,
        |mut published| {
            if server.config.is_multilingual() {
                published.packet = with_original(&published.packet, &broadcast.packet);
            }
            let event = Arc::new((published, broadcast.target.clone()));
            let mut at_once = None;
            for handle in server.workers.handles() {
                if let Some(local) = &here
                    && local.worker.is(handle)
                    && local.worker.is_caught_up()
                {
                    at_once = Some(event.clone());
                    continue;
                }
                post_published(namespace, handle, &event);
            }
            at_once
        },
    );
    let Some(local) = here else { return };
    match posted.flatten() {
        Some(event) => local.deliver_published(namespace.number(), &event.0, &event.1),
        // Behind what waits here already.
        None => local.worker.apply_mail(),
    }
}

/// Has every worker deliver an event that the store has committed. Called by the thread that commits: nothing is delivered here.
pub(crate) fn publish_stored(namespace: &Arc<NamespaceInner>, stored: u64, target: Target, packet: &Packet) {
    let Some(server) = namespace.server.upgrade() else { return };
    let Some(journal) = &namespace.journal else { return };
    let audience = Audience { rooms: target.rooms.clone(), except: target.except.clone() };
    journal.publish(
        audience,
        packet,
        Some(stored),
        || true,
        |mut published| {
            if server.config.is_multilingual() {
                published.packet = with_original(&published.packet, packet);
            }
            let event = Arc::new((published, target));
            for handle in server.workers.handles() {
                post_published(namespace, handle, &event);
            }
        },
    );
}

/// Has every worker know that the store has come to a position with something that is sent to nobody: whoever is there has heard all before.
pub(crate) fn pass_stored(namespace: &Arc<NamespaceInner>, stored: u64) {
    let Some(server) = namespace.server.upgrade() else { return };
    let Some(journal) = &namespace.journal else { return };
    journal.pass(stored, |place| {
        for handle in server.workers.handles() {
            let held = namespace.clone();
            // A worker that has ended has nobody.
            let _ = handle.post(move |_| {
                let local = super::of(&held.server);
                let namespace = local.as_ref().and_then(|local| local.namespace(held.number()));
                if let Some(tracking) = namespace.as_ref().and_then(|namespace| namespace.tracking.as_ref()) {
                    tracking.reach(place);
                }
            });
        }
    });
}

/// Has a worker deliver an event, behind what was posted to it before.
fn post_published(namespace: &Arc<NamespaceInner>, handle: &WorkerHandle, event: &Arc<(Published, Target)>) {
    // The job holds the namespace: until it is done no other has its number.
    let (event, held) = (event.clone(), namespace.clone());
    // A worker that has ended has nobody to deliver to.
    let posted = handle.post_bytes(event.0.packet.frames().len(), move |_| {
        if let Some(local) = super::of(&held.server) {
            local.deliver_published(held.number(), &event.0, &event.1);
        }
    });
    if posted == Ok(true) {
        namespace.behind.note();
    }
}

/// Sends an event to one socket in a namespace whose clients are recovered.
pub(crate) fn send_recoverable(socket: &Socket, journal: &Journal, packet: &Packet, how: How) -> Sent {
    let here = super::here(socket);
    let phase = socket.phase();
    if phase == Phase::Gone {
        return Sent::ready(Err(SendError::Disconnected));
    }
    if how.volatile || phase == Phase::Joining || socket.0.revision == Revision::V3 {
        // Not to be replayed: what is sent to a socket that has not joined belongs to the attempt; clients of revision 3 do not come back.
        let Some(local) = here else {
            let packet = packet.clone();
            let there = socket.clone();
            return socket.post_bytes(packet.frames().len(), move |_| {
                if let Some(local) = super::here(&there) {
                    local.send_unlogged(&there, &packet, how);
                }
            });
        };
        local.worker.apply_mail();
        let sent = local.send_unlogged(socket, packet, how);
        return Sent::ready(if sent || how.volatile { Ok(()) } else { Err(SendError::Disconnected) });
    }
    let audience = Audience { rooms: std::iter::once(Room::from(socket.id())).collect(), ..Audience::default() };
    // Asked under the lock: what is logged is delivered, or replayed to whoever takes its session up.
    let is_there = || socket.phase() != Phase::Gone;
    let posted = journal.publish(audience, packet, None, is_there, |published| {
        if here.as_ref().is_some_and(|local| local.worker.is_caught_up()) {
            return Err(published);
        }
        let there = socket.clone();
        Ok(socket.post_bytes(published.packet.frames().len(), move |_| {
            if let Some(local) = super::here(&there) {
                local.send_published(&there, &published, how);
            }
        }))
    });
    let sent = match posted {
        None => return Sent::ready(Err(SendError::Disconnected)),
        Some(Ok(sent)) => sent,
        Some(Err(published)) => {
            if let Some(local) = &here {
                local.send_published(socket, &published, how);
            }
            return Sent::ready(Ok(()));
        }
    };
    if let Some(local) = here {
        // Behind what waits here already.
        local.worker.apply_mail();
    }
    sent
}

/// Drops what has become too old, for as long as the server lives. What is read is looked at anyway; this is for the quiet times.
pub(super) async fn purge(server: Weak<Inner>) {
    let settings = server.upgrade().and_then(|server| server.registry.journals().map(|journals| *journals.settings()));
    let Some(settings) = settings else { return };
    let mut refreshed = Instant::now();
    let interval = (settings.max_disconnection / 4).clamp(Duration::from_millis(100), Duration::from_secs(30));
    loop {
        tokio::time::sleep(interval).await;
        let Some(server) = server.upgrade() else { return };
        if let Some(journals) = server.registry.journals() {
            journals.purge(Instant::now());
            super::stored::retain(&server, journals, &mut refreshed);
        }
    }
}

impl Local {
    /// Delivers a logged broadcast to this worker's members of its target.
    fn deliver_published(&self, namespace: u32, published: &Published, target: &Target) {
        let Some(namespace) = self.namespace(namespace) else { return };
        if let Some(tracking) = &namespace.tracking {
            tracking.reach(published.place);
        }
        let mut slots = self.slots.take();
        let bare = namespace.select(target, &mut slots);
        if !slots.is_empty() {
            self.deliver_packet(&published.packet, &slots, How::from(&target.flags));
        }
        if !bare.is_empty() {
            self.deliver_packet(&published.packet.without_last_argument(), &bare, How::from(&target.flags));
        }
        self.slots.replace(slots);
        // Behind it, or what a listener sends would overtake what it was shown, and clients would note the wrong offset.
        if namespace.shared.is_watched() {
            self.show_broadcast(&namespace, target, &published.packet);
        }
    }

    fn send_published(&self, socket: &Socket, published: &Published, how: How) {
        if let Some(namespace) = self.namespace(socket.0.namespace.number())
            && let Some(tracking) = &namespace.tracking
        {
            tracking.reach(published.place);
        }
        if socket.phase() != Phase::Gone {
            self.send_with_offset(socket, published.packet.frames(), how);
            if socket.0.namespace.is_watched() {
                self.show_sent(socket, published.packet.frames());
            }
        }
    }

    /// Sends the frames of an event that ends with its offset; without it to a client that does not take any. Returns whether its connection is
    /// there.
    pub(super) fn send_with_offset(&self, socket: &Socket, frames: &Bytes, how: How) -> bool {
        if socket.0.takes_offsets {
            return self.send(socket.0.connection, frames, how);
        }
        let packet = Packet::from_frames(frames.clone()).without_last_argument();
        self.send(socket.0.connection, packet.frames(), how)
    }

    /// Sends what is not logged, with the offset of what the socket was sent before: it must not be taken for anything later.
    pub(super) fn send_unlogged(&self, socket: &Socket, packet: &Packet, how: How) -> bool {
        let Some(journal) = &socket.0.namespace.journal else { return false };
        let place = match socket.phase() {
            Phase::Gone => return false,
            // Before everything: whatever it was sent earlier, it was sent over another connection.
            Phase::Joining => Place::default(),
            Phase::Connected => {
                let namespace = self.namespace(socket.0.namespace.number());
                namespace.and_then(|namespace| namespace.tracking.as_deref().map(Tracking::applied)).unwrap_or_default()
            }
        };
        let packet = match socket.0.takes_offsets {
            true => packet.with_last_argument(journal.offset(place).as_str()),
            false => packet.clone(),
        };
        let sent = self.send(socket.0.connection, packet.frames(), how);
        if socket.0.namespace.is_watched() {
            self.show_sent(socket, packet.frames());
        }
        sent
    }
}

impl LocalNamespace {
    /// Puts the members of a target into `slots`, and returns those that take no offsets.
    pub(super) fn select(&self, target: &Target, slots: &mut Vec<u32>) -> Vec<u32> {
        slots.clear();
        let mut bare = Vec::new();
        let is_bare = self.tracking.as_ref().map(|tracking| tracking.bare.borrow()).filter(|bare| !bare.is_empty());
        self.membership.borrow_mut().select(target, |member, slot| match &is_bare {
            Some(all) if all.contains(&member) => bare.push(slot),
            _ => slots.push(slot),
        });
        bare
    }

    /// A volatile broadcast, with the offset of what was delivered here before; as they are when clients are not
    /// recovered.
    pub(super) fn with_current_offset<'a>(&self, packet: &'a Packet) -> Cow<'a, Packet> {
        match &self.tracking {
            None => Cow::Borrowed(packet),
            Some(tracking) => {
                let offset = tracking.journal.offset(tracking.applied());
                let with_offset = packet.with_last_argument(offset.as_str());
                // Shared if clients may need something else.
                Cow::Owned(if packet.shares_forms() { with_original(&with_offset, packet) } else { with_offset })
            }
        }
    }
}
