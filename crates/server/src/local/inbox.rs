//! Sending clients their inboxes.
//!
//! ```text
//!   CONNECT of somebody ─► where is the device? ─┬─► read a page behind it ─► send it ─┐
//!   the store has committed to the inbox ────────┤                                     │ until there is no more, or
//!   an answer: the window is open again ─────────┴─────────────────────────────────────┘ the window is full
//!   answers ─► Window ─► the cursor moves ─► written with others that moved meanwhile
//! ```
//!
//! Whoever waits for nothing has no task, and whoever is away has nothing here.

use std::borrow::Cow;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use posthaste_adapter::{Member, Packet};
use posthaste_engine::Revision;
use posthaste_history::store::{Message, Range, StoreError, StreamName, Write};
use posthaste_history::{Budget, Offset, Position};
use rustc_hash::FxHashMap;
use serde::Deserialize;
use serde_json::value::RawValue;
use smallvec::SmallVec;

use super::heartbeats::Pongs;
use super::window::Window;
use super::{Handle, Local, LocalNamespace};
use crate::durable::{BUSY, Form, Inbox, InboxMode, Keeper, Readers, has_inbox, inbox_of};
use crate::how::How;
use crate::namespace::NamespaceInner;
use crate::recovery::{OffsetText, text};
use crate::socket::{Phase, Socket};

/// A page of an inbox: then the worker's other connections have a turn.
const PAGE: Budget = Budget { max_bytes: 64 * 1024, max_events: 256 };
/// The device of whoever names none.
const DEFAULT_DEVICE: &str = "default";
/// Longest name of a device, in bytes.
const MAX_DEVICE: usize = 128;

/// The inboxes that a worker's sockets in a namespace are sent.
#[derive(Default)]
pub(super) struct Inboxes {
    pumps: RefCell<FxHashMap<u32, Box<Pump>>>,
    members: RefCell<FxHashMap<StreamName, SmallVec<[u32; 1]>>>,
}

/// One socket's way through its inbox.
struct Pump {
    socket: Socket,
    inbox: StreamName,
    device: Arc<str>,
    /// The last position that was sent.
    after: u64,
    /// What was sent and not answered, where answers are asked for.
    window: Option<Window>,
    /// What pongs have confirmed, where they do.
    pongs: Option<Pongs>,
    /// Whether there may be something behind `after`.
    more: bool,
    is_running: bool,
}

impl Pump {
    /// What to read next; nothing when it has to wait, and then it is not running any more.
    fn next(&mut self, keeper: &Keeper) -> Option<(Range, Budget)> {
        let free = self.window.as_ref().map_or(PAGE.max_events, Window::free);
        if self.more && free > 0 {
            // Most who come have everything. What is not known is read.
            self.more = keeper.shard().stream(&self.inbox).is_none_or(|inbox| inbox.head > self.after);
        }
        if !self.more || free == 0 {
            self.is_running = false;
            return None;
        }
        self.more = false;
        let budget = Budget { max_events: PAGE.max_events.min(free), ..PAGE };
        Some((Range::after(&self.inbox, self.after), budget))
    }

    /// There is more: takes the right to run, if something may be sent.
    fn hear(&mut self) -> Option<Socket> {
        self.more = true;
        let has_room = self.window.as_ref().is_none_or(|window| window.free() > 0);
        self.wake(has_room)
    }

    fn wake(&mut self, may_send: bool) -> Option<Socket> {
        let runs = self.more && !self.is_running && may_send;
        runs.then(|| {
            self.is_running = true;
            self.socket.clone()
        })
    }
}

impl Inboxes {
    fn open(&self, member: Member, pump: Pump) {
        self.members.borrow_mut().entry(pump.inbox.clone()).or_default().push(member.0);
        self.pumps.borrow_mut().insert(member.0, Box::new(pump));
    }

    /// A socket is gone.
    pub(super) fn close(&self, member: Member, keeper: &Keeper, worker: u16) {
        let pump = self.pumps.borrow_mut().remove(&member.0);
        let Some(pump) = pump else { return };
        keeper.readers().leave(&pump.inbox, worker);
        let mut all = self.members.borrow_mut();
        if let Some(members) = all.get_mut(&pump.inbox) {
            members.retain(|there| *there != member.0);
            if members.is_empty() {
                all.remove(&pump.inbox);
            }
        }
    }

    fn with<R>(&self, member: Member, act: impl FnOnce(&mut Pump) -> R) -> Option<R> {
        self.pumps.borrow_mut().get_mut(&member.0).map(|pump| act(pump))
    }

    /// A ping follows everything that a socket was sent so far.
    pub(super) fn pinged(&self, member: Member, now: Instant) {
        self.with(member, |pump| {
            let sent = pump.after;
            if let Some(pongs) = &mut pump.pongs {
                pongs.ping(sent, now);
            }
        });
    }

    /// There is more in an inbox: the sockets that are to be sent it and are not being sent anything.
    fn hear_of(&self, inbox: &StreamName) -> Vec<(Member, Socket)> {
        let members = self.members.borrow().get(inbox).cloned().unwrap_or_default();
        let mut pumps = self.pumps.borrow_mut();
        let woken = members.into_iter().filter_map(|member| {
            let pump = pumps.get_mut(&member)?;
            Some((Member(member), pump.hear()?))
        });
        woken.collect()
    }
}

/// What a client says of its inbox when it connects.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    device: Arc<str>,
    /// The last offset it has, in [`InboxMode::Offset`].
    offset: Option<String>,
}

impl Said {
    fn read(auth: &str) -> Self {
        #[derive(Default, Deserialize)]
        struct Fields<'a> {
            #[serde(borrow)]
            device: Option<&'a RawValue>,
            #[serde(borrow)]
            inbox: Option<&'a RawValue>,
        }
        let Fields { device, inbox } = serde_json::from_str(auth).unwrap_or_default();
        let device = device.and_then(text).filter(|device| (1..=MAX_DEVICE).contains(&device.len()));
        let offset = inbox.and_then(text).filter(|offset| offset.len() <= 3 * Offset::CHARS);
        Self { device: device.as_deref().unwrap_or(DEFAULT_DEVICE).into(), offset: offset.map(Cow::into_owned) }
    }
}

/// The store has committed to inboxes: has their readers read. Called by the thread that commits.
pub(crate) fn tell_readers<'a>(
    namespace: &Arc<NamespaceInner>,
    readers: &Readers,
    inboxes: impl Iterator<Item = &'a StreamName>,
) {
    let mut news: SmallVec<[(u16, Vec<StreamName>); 4]> = SmallVec::new();
    for inbox in inboxes {
        for worker in readers.workers(inbox) {
            match news.iter_mut().find(|(there, _)| *there == worker) {
                Some((_, all)) => all.push(inbox.clone()),
                None => news.push((worker, vec![inbox.clone()])),
            }
        }
    }
    if news.is_empty() {
        return;
    }
    let Some(server) = namespace.server.upgrade() else { return };
    for (worker, inboxes) in news {
        let Some(handle) = server.workers.handles().get(usize::from(worker)) else { continue };
        // The job holds the namespace: until it is done no other has its number.
        let held = namespace.clone();
        // A worker that has ended has no readers.
        let _ = handle.post(move |_| {
            if let Some(local) = super::of(&held.server) {
                local.hear_of_inboxes(held.number(), &inboxes);
            }
        });
    }
}

impl Local {
    /// A socket was let in: it is sent its inbox, if it has one.
    pub(super) fn open_inbox(&self, namespace: &LocalNamespace, member: Member, socket: &Socket, identity: &str) {
        let Some(tracking) = &namespace.tracking else { return };
        let Some(keeper) = tracking.journal().kept() else { return };
        let Some(settings) = &keeper.settings().inbox else { return };
        if !has_inbox(identity) {
            if !identity.is_empty() {
                tracing::warn!(bytes = identity.len(), "an identity is too long to have an inbox");
            }
            return;
        }
        let Some(this) = self.this.upgrade() else { return };
        let said = Said::read(socket.handshake().auth());
        let inbox = inbox_of(identity);
        keeper.readers().enter(&inbox, self.worker.index());
        let mode = match (settings.mode, socket.0.revision) {
            (InboxMode::Pong, Revision::V3) => InboxMode::Ack,
            (InboxMode::Offset, Revision::V4) if !socket.0.takes_offsets => InboxMode::Ack,
            (mode, _) => mode,
        };
        let window = (mode == InboxMode::Ack).then(|| Window::new(settings.window));
        let pongs = (mode == InboxMode::Pong).then(|| Pongs::new(Instant::now()));
        let pump = Pump {
            socket: socket.clone(),
            inbox,
            device: said.device,
            after: 0,
            window,
            pongs,
            more: true,
            is_running: true,
        };
        tracking.inboxes.open(member, pump);
        let (keeper, offset) = (keeper.clone(), said.offset);
        let (owner, place) = (socket.clone(), (namespace.shared.number(), member));
        let pumping = async move {
            if this.find_device(place, &owner, &keeper, offset).await {
                this.pump(place, &owner, &keeper).await;
            }
        };
        self.worker.start(socket.0.connection, socket.0.serial, Box::pin(pumping));
    }

    fn hear_of_inboxes(&self, number: u32, inboxes: &[StreamName]) {
        let Some(namespace) = self.namespace(number) else { return };
        let Some(tracking) = &namespace.tracking else { return };
        for inbox in inboxes {
            for (member, socket) in tracking.inboxes.hear_of(inbox) {
                self.run_pump((number, member), socket);
            }
        }
    }

    fn run_pump(&self, place: (u32, Member), socket: Socket) {
        let keeper = socket.0.namespace.journal.as_ref().and_then(|journal| journal.kept()).cloned();
        let (Some(keeper), Some(this)) = (keeper, self.this.upgrade()) else { return };
        let owner = socket.clone();
        let pumping = async move { this.pump(place, &owner, &keeper).await };
        self.worker.start(socket.0.connection, socket.0.serial, Box::pin(pumping));
    }

    /// An answer that nobody waits for may be to a message of an inbox.
    pub(super) fn answered_inbox(&self, handle: Handle, id: u64) {
        let Some(namespace) = self.namespace(handle.namespace) else { return };
        let Some(tracking) = &namespace.tracking else { return };
        let heard = tracking.inboxes.with(handle.member, |pump| {
            let window = pump.window.as_mut()?;
            let passed = window.answer(id)?;
            // Also for one place: who answers nothing further would wait for the next for ever.
            Some((passed, pump.inbox.clone(), pump.device.clone(), pump.wake(true)))
        });
        let Some((passed, inbox, device, woken)) = heard.flatten() else { return };
        self.move_cursor(tracking.journal().kept(), &inbox, &device, passed);
        if let Some(socket) = woken {
            self.run_pump((handle.namespace, handle.member), socket);
        }
    }

    /// A ping was answered.
    pub(super) fn confirm_inbox(&self, namespace: &LocalNamespace, member: Member) {
        let Some(tracking) = &namespace.tracking else { return };
        let heard = tracking.inboxes.with(member, |pump| {
            let passed = pump.pongs.as_mut()?.pong();
            Some((passed, pump.inbox.clone(), pump.device.clone(), pump.socket.clone()))
        });
        let Some((passed, inbox, device, socket)) = heard.flatten() else { return };
        if let Some(passed) = passed {
            self.move_cursor(tracking.journal().kept(), &inbox, &device, passed);
        }
        // More was sent meanwhile.
        self.want_pong((namespace.shared.number(), member), &socket);
    }

    fn move_cursor(&self, keeper: Option<&Arc<Keeper>>, inbox: &StreamName, device: &Arc<str>, passed: u64) {
        if let Some(keeper) = keeper
            && keeper.move_cursor(inbox, device, passed)
        {
            let keeper = keeper.clone();
            tokio::task::spawn_local(async move { keeper.write_moved().await });
        }
    }

    /// Pings before its time a client that was sent something which is not confirmed, as soon as it may be.
    fn want_pong(&self, place: (u32, Member), socket: &Socket) {
        let wanted = self.with_pump(place, socket, |pump| pump.pongs.as_mut()?.wait(pump.after));
        let (Some(Some(at)), Some(this)) = (wanted, self.this.upgrade()) else { return };
        let socket = socket.clone();
        tokio::task::spawn_local(async move {
            tokio::time::sleep_until(at.into()).await;
            let is_there = this.with_pump(place, &socket, |pump| {
                if let Some(pongs) = &mut pump.pongs {
                    pongs.is_waiting = false;
                }
            });
            if is_there.is_some() {
                // Where one is on its way already, its answer asks for the next.
                this.worker.ping_early(socket.0.connection);
            }
        });
    }

    /// A socket's way through its inbox; `None` when the socket is gone.
    fn with_pump<R>(
        &self,
        (namespace, member): (u32, Member),
        socket: &Socket,
        act: impl FnOnce(&mut Pump) -> R,
    ) -> Option<R> {
        let namespace = self.namespace(namespace)?;
        let inboxes = &namespace.tracking.as_ref()?.inboxes;
        inboxes.with(member, |pump| (pump.socket == *socket).then(|| act(pump))).flatten()
    }

    /// Looks where a device is in its inbox, and has the store know it if it does not. Returns whether its socket is still there.
    async fn find_device(
        &self,
        place: (u32, Member),
        socket: &Socket,
        keeper: &Arc<Keeper>,
        offset: Option<String>,
    ) -> bool {
        let Some(settings) = &keeper.settings().inbox else { return false };
        loop {
            let Some((inbox, device)) = self.with_pump(place, socket, |pump| (pump.inbox.clone(), pump.device.clone()))
            else {
                return false;
            };
            let offered = offset.as_deref().filter(|_| settings.mode == InboxMode::Offset);
            let offered = offered.and_then(|text| position(keeper, text));
            match look_up(keeper, settings, &inbox, &device, offered.map(|offered| offered.pos)).await {
                Ok(after) => return self.with_pump(place, socket, |pump| pump.after = after).is_some(),
                Err(error) if !self.may_try_again(&error, "an inbox").await => return false,
                Err(_) => {}
            }
        }
    }

    /// Sends a socket what is behind what it was sent before, until there is no more or it has to answer first.
    async fn pump(self: &Rc<Self>, place: (u32, Member), socket: &Socket, keeper: &Arc<Keeper>) {
        loop {
            let Some(Some((range, budget))) = self.with_pump(place, socket, |pump| pump.next(keeper)) else { return };
            let page = match keeper.shard().read(vec![range.clone()], budget).await {
                Ok(page) => page,
                Err(error) => {
                    let again = self.with_pump(place, socket, |pump| pump.more = true).is_some();
                    if again && self.may_try_again(&error, "an inbox").await {
                        continue;
                    }
                    return;
                }
            };
            let floor = page.floors.first().copied().unwrap_or(0);
            if floor > range.after && !self.forgotten(place, socket, keeper, &range, floor).await {
                return;
            }
            for message in page.messages {
                if !self.send_from_inbox(place, socket, keeper, message) {
                    return;
                }
            }
            let is_there = self.with_pump(place, socket, |pump| {
                pump.after = pump.after.max(floor);
                pump.more |= !page.complete;
            });
            self.want_pong(place, socket);
            if is_there.is_none() || !self.has_taken(socket.0.connection, PAGE).await {
                return;
            }
        }
    }

    /// Something behind what a socket was sent is forgotten: it is told, unless its device has it. Returns whether it is still there.
    async fn forgotten(
        &self,
        place: (u32, Member),
        socket: &Socket,
        keeper: &Arc<Keeper>,
        range: &Range,
        floor: u64,
    ) -> bool {
        let Some(device) = self.with_pump(place, socket, |pump| pump.device.clone()) else { return false };
        let is_asked_for = keeper.settings().inbox.as_ref().is_some_and(|inbox| inbox.mode == InboxMode::Offset);
        // Another connection of the device may have confirmed it.
        let cursors = keeper.shard().cursors(&range.stream).await.unwrap_or_default();
        let confirmed = cursors.into_iter().find(|(name, _)| *name == device).map_or(0, |(_, pos)| pos);
        if (is_asked_for || confirmed < floor) && socket.phase() == Phase::Connected {
            self.tell_inbox_gap(socket, range.after, floor);
        }
        self.with_pump(place, socket, |_| ()).is_some()
    }

    fn send_from_inbox(&self, place: (u32, Member), socket: &Socket, keeper: &Keeper, message: Message) -> bool {
        let shared = &socket.0.namespace;
        let Some(journal) = &shared.journal else { return false };
        let pos = message.pos;
        let form = Form::decode(message.payload);
        let sent = self.with_pump(place, socket, |pump| {
            pump.after = pos;
            let packet = form.and_then(|form| {
                let Form { compress, packet, .. } = form;
                let packet = match &mut pump.window {
                    Some(window) => {
                        let id = shared.next_ack_id();
                        let asked = Packet::encode(&shared.name, Some(id), &packet.event()).ok()?;
                        // Before it is sent: its answer may not overtake this.
                        window.send(pos, id);
                        asked
                    }
                    None => {
                        if !socket.0.takes_offsets && socket.0.revision == Revision::V4 {
                            return Some((packet, How { volatile: false, compress }));
                        }
                        let rooms = self.applied(&socket.namespace());
                        let rooms = journal.offset(rooms);
                        if pump.pongs.is_some() {
                            return Some((
                                packet.with_last_argument(rooms.as_str()),
                                How { volatile: false, compress },
                            ));
                        }
                        // The first two parts are what clients note for their rooms, the third is its place here.
                        let offset = [rooms.as_str(), keeper.offset(pos).as_str()].concat();
                        packet.with_last_argument(&offset)
                    }
                };
                Some((packet, How { volatile: false, compress }))
            });
            if packet.is_none() {
                tracing::error!(pos, "what was committed to an inbox is no event");
                if let Some(window) = &mut pump.window {
                    window.skip(pos);
                }
            }
            packet
        });
        match sent {
            None => false,
            Some(None) => true,
            Some(Some((packet, how))) => {
                let is_sent = self.send(socket.0.connection, packet.frames(), how);
                if shared.is_watched() {
                    self.show_sent(socket, packet.frames());
                }
                is_sent
            }
        }
    }

    /// Whether a store that did not do what it was asked may do so later: then that is now.
    pub(super) async fn may_try_again(&self, error: &StoreError, what: &str) -> bool {
        match error {
            StoreError::Busy { .. } => tokio::time::sleep(BUSY).await,
            StoreError::Io { .. } => {
                tracing::warn!(%error, "{what} could not be read: tried again in a second");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            _ => {
                tracing::error!(%error, "{what} could not be read: its client is not sent it");
                return false;
            }
        }
        true
    }
}

/// Where a device is in its inbox: at the beginning of what is kept if it is new. It is known to the store then.
async fn look_up(
    keeper: &Arc<Keeper>,
    settings: &Inbox,
    inbox: &StreamName,
    device: &Arc<str>,
    offered: Option<u64>,
) -> Result<u64, StoreError> {
    // Behind what was noted of it, perhaps just now.
    keeper.write_cursors(inbox, Vec::new()).await?;
    let cursors = keeper.shard().cursors(inbox).await?;
    let there = cursors.iter().find(|(name, _)| name == device).map(|(_, pos)| *pos);
    let known = offered.or(there);
    let after = known.unwrap_or(0);
    let mut changes = Vec::new();
    if there.is_none() && cursors.len() >= settings.max_devices.max(1) {
        // Away for longest, most likely.
        let last = cursors.iter().min_by_key(|(_, pos)| *pos).map(|(name, _)| name.clone());
        changes.extend(last.map(|device| Write::ForgetCursor { stream: inbox.clone(), device }));
    }
    if there < Some(after) {
        changes.push(Write::Cursor { stream: inbox.clone(), device: device.clone(), pos: after });
    }
    if !changes.is_empty() {
        keeper.write_cursors(inbox, changes).await?;
    }
    if known.is_some() {
        return Ok(after);
    }
    // What was forgotten before it came is no loss to one that is new. From its first cursor on, nothing is forgotten that it has not.
    let floor = keeper.shard().stream(inbox).map_or(0, |inbox| inbox.floor);
    if floor > 0 {
        let device = device.clone();
        keeper.write_cursors(inbox, vec![Write::Cursor { stream: inbox.clone(), device, pos: floor }]).await?;
    }
    Ok(floor)
}

/// The place in its inbox that a client names, if the store has such.
fn position(keeper: &Keeper, text: &str) -> Option<Position> {
    let head = keeper.head();
    let offset = OffsetText::parts(text).last()?;
    keeper.read_offset(offset).filter(|it| it.epoch == head.epoch && it.pos <= head.pos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_says_its_device_and_what_it_has() {
        let said = |auth: &str| {
            let Said { device, offset } = Said::read(auth);
            (device.to_string(), offset)
        };
        let default = || DEFAULT_DEVICE.to_owned();
        for nothing in ["{}", "null", "[]", "7", "", r#"{"device":7,"inbox":null}"#, r#"{"device":"","inbox":{}}"#] {
            assert_eq!(said(nothing), (default(), None), "{nothing}");
        }
        assert_eq!(said(r#"{"device":"phone","token":[1]}"#), ("phone".into(), None));
        assert_eq!(said(r#"{"device":"a\"b","inbox":"x"}"#), ("a\"b".into(), Some("x".into())));
        let long = "d".repeat(MAX_DEVICE);
        assert_eq!(said(&format!(r#"{{"device":"{long}"}}"#)).0, long);
        assert_eq!(said(&format!(r#"{{"device":"{long}d","inbox":"{long}"}}"#)), (default(), None));
    }
}
