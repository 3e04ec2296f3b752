//! A node as sets: what an adapter under test is given for its sockets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use posthaste_socket_proto::Args;

use crate::event::RawEvent;
use crate::port::{Adapter, Broadcast, Node, Operation, Pending, RoomEvent, ServerReply};
use crate::room::{Room, SocketId};
use crate::snapshot::{HandshakeSnapshot, SocketSnapshot};
use crate::target::{Flags, Target};

/// What a model's socket does when it is asked something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// Answers at once, with its id and two bytes.
    Answers,
    /// Never answers.
    IsSilent,
    /// Goes away.
    Leaves,
}

/// Something that a model's socket received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// The event.
    pub event: RawEvent,
    /// The id under which an answer was asked for.
    pub ack_id: Option<u64>,
    /// How it was sent.
    pub flags: Flags,
}

/// A node of sockets that are not there. It notes what is done to them.
pub struct ModelNode {
    namespace: String,
    number: u8,
    /// Who is told of rooms, if he wants.
    adapter: OnceLock<Weak<dyn Adapter>>,
    state: Mutex<State>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) sockets: BTreeMap<SocketId, ModelSocket>,
    /// Ids of sockets that were disconnected, and whether with their connections.
    pub(super) disconnected: BTreeMap<SocketId, bool>,
    pub(super) server_events: Vec<RawEvent>,
    /// Whether it answers other servers.
    pub(super) answers_servers: bool,
    questions: u64,
    /// What it was told that no node may be told.
    pub(super) wrong: Option<String>,
    waiting: Vec<Waker>,
}

pub(super) struct ModelSocket {
    pub(super) rooms: BTreeSet<Room>,
    pub(super) behaviour: Behaviour,
    pub(super) received: Vec<Received>,
}

/// Room for the questions of one node: no two nodes have an id in common.
const QUESTIONS: u64 = 1_000_000;

impl ModelNode {
    /// Node `number` of a namespace, without sockets.
    #[must_use]
    pub fn new(namespace: &str, number: u8) -> Arc<Self> {
        let state = State { answers_servers: true, ..State::default() };
        Arc::new(Self { namespace: namespace.to_owned(), number, adapter: OnceLock::new(), state: Mutex::new(state) })
    }

    /// Starts an adapter on this node.
    pub fn start(self: &Arc<Self>, adapter: &Arc<dyn Adapter>) {
        adapter.start(self.clone());
        let _ = self.adapter.set(Arc::downgrade(adapter));
    }

    /// Adds a socket.
    pub fn connect(&self, number: u8, rooms: &[&str], behaviour: Behaviour) -> SocketId {
        let mut bytes = [0; 15];
        bytes[..2].copy_from_slice(&[self.number, number]);
        let id = SocketId::from_bytes(bytes);
        let socket = ModelSocket { rooms: BTreeSet::new(), behaviour, received: Vec::new() };
        self.lock().sockets.insert(id, socket);
        self.change_rooms(|state| {
            let rooms = rooms.iter().map(|room| Room::from(*room)).chain([id.into()]);
            state.sockets.get_mut(&id).into_iter().for_each(|socket| socket.rooms.extend(rooms.clone()));
        });
        id
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ready when the state is so.
    pub(super) fn poll_until(&self, cx: &mut Context<'_>, is_so: impl FnOnce(&State) -> bool) -> Poll<()> {
        let mut state = self.lock();
        if is_so(&state) {
            return Poll::Ready(());
        }
        state.waiting.push(cx.waker().clone());
        Poll::Pending
    }

    fn notify(&self) {
        let waiting = std::mem::take(&mut self.lock().waiting);
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Changes who is where, and tells an adapter that follows rooms which came and went.
    fn change_rooms(&self, change: impl FnOnce(&mut State)) {
        let rooms = |state: &State| -> BTreeSet<Room> {
            state.sockets.values().flat_map(|socket| socket.rooms.iter().cloned()).collect()
        };
        let (before, after) = {
            let mut state = self.lock();
            let before = rooms(&state);
            change(&mut state);
            (before, rooms(&state))
        };
        let follower = self.adapter.get().and_then(Weak::upgrade).filter(|adapter| adapter.follows_rooms());
        if let Some(adapter) = follower {
            after.difference(&before).for_each(|room| adapter.room_changed(&RoomEvent::Created(room.clone())));
            before.difference(&after).for_each(|room| adapter.room_changed(&RoomEvent::Deleted(room.clone())));
        }
        self.notify();
    }
}

impl State {
    pub(super) fn meant(&self, target: &Target) -> Vec<SocketId> {
        let is_meant = |rooms: &BTreeSet<Room>| {
            let named = target.rooms.is_empty() || target.rooms.iter().any(|room| rooms.contains(room));
            named && !target.except.iter().any(|room| rooms.contains(room))
        };
        self.sockets.iter().filter(|(_, socket)| is_meant(&socket.rooms)).map(|(id, _)| *id).collect()
    }

    pub(super) fn snapshots(&self, target: &Target) -> Vec<SocketSnapshot> {
        let meant = self.meant(target);
        meant.iter().map(|id| snapshot(*id, self.sockets[id].rooms.iter().cloned().collect())).collect()
    }
}

fn snapshot(id: SocketId, rooms: Vec<Room>) -> SocketSnapshot {
    let text = id.to_string();
    SocketSnapshot {
        handshake: HandshakeSnapshot {
            headers: vec![("x-id".into(), text.clone())],
            query: vec![("EIO".into(), "4".into()), ("q".into(), "a&b".into())],
            auth: format!(r#"{{"token":"{text}"}}"#).into(),
            url: "/socket.io/?EIO=4&q=a%26b".into(),
            address: "192.0.2.7".into(),
            secure: true,
            cross_domain: true,
            issued: SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123),
        },
        rooms,
        data: r#"{"n":1,"list":["a",null]}"#.into(),
        id: id.into(),
    }
}

/// What a model's socket or server answers.
pub(super) fn answer(text: &str) -> Args<'static> {
    let event = RawEvent::encode(text, &bytes::Bytes::from_static(&[1, 2])).expect("invariant: this is JSON");
    event.all().clone()
}

impl Node for ModelNode {
    fn namespace(&self) -> &str {
        &self.namespace
    }

    fn next_ack_id(&self) -> u64 {
        let mut state = self.lock();
        state.questions += 1;
        u64::from(self.number) * QUESTIONS + state.questions - 1
    }

    fn deliver(&self, broadcast: &Broadcast) {
        let received = Received {
            event: broadcast.packet.event(),
            ack_id: broadcast.packet.ack_id(),
            flags: broadcast.target.flags,
        };
        let asked = {
            let mut state = self.lock();
            if let Some((id, _)) = &broadcast.answers {
                let own = u64::from(self.number) * QUESTIONS;
                if received.ack_id != Some(*id) || !(own..own + state.questions).contains(id) {
                    state.wrong = Some(format!("asked under {id}, by a packet that says {:?}", received.ack_id));
                }
            } else if received.ack_id.is_some() {
                state.wrong = Some("a packet asks for answers that go nowhere".to_owned());
            }
            let meant = state.meant(&broadcast.target);
            let mut asked = Vec::new();
            for id in meant {
                if let Some(socket) = state.sockets.get_mut(&id) {
                    socket.received.push(received.clone());
                    asked.push((id, socket.behaviour));
                }
            }
            asked
        };
        if let Some((_, answers)) = &broadcast.answers {
            answers.expect(1);
            // Some answer before the node has counted, as sockets of other workers may.
            for (id, behaviour) in &asked {
                match behaviour {
                    Behaviour::Answers => answers.answer(Some(*id), answer(&id.to_string())),
                    Behaviour::Leaves => answers.lose(1),
                    Behaviour::IsSilent => {}
                }
            }
            answers.asked(asked.len());
        }
        self.notify();
    }

    fn apply(&self, target: &Target, operation: &Operation) {
        self.change_rooms(|state| {
            for id in state.meant(target) {
                let Some(socket) = state.sockets.get_mut(&id) else { continue };
                match operation {
                    Operation::Join(rooms) => socket.rooms.extend(rooms.iter().cloned()),
                    Operation::Leave(rooms) => socket.rooms.retain(|room| !rooms.contains(room) || *room == id.into()),
                    Operation::Disconnect { close } => {
                        state.disconnected.insert(id, *close);
                        state.sockets.remove(&id);
                    }
                }
            }
        });
    }

    fn fetch(&self, target: &Target) -> Pending<Vec<SocketSnapshot>> {
        let sockets = self.lock().snapshots(target);
        Box::pin(async move { sockets })
    }

    fn server_event(&self, event: RawEvent, reply: Option<ServerReply>) {
        let answers = {
            let mut state = self.lock();
            state.server_events.push(event);
            state.answers_servers
        };
        if let Some(reply) = reply
            && answers
        {
            reply(answer(&self.number.to_string()));
        }
        self.notify();
    }
}
