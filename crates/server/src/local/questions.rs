//! Asking clients what is kept until they have answered it.
//!
//! ```text
//!   the store has committed a question ─► every worker: the one that has its socket asks
//!   CONNECT of somebody who is back ─► what is open is read, page by page, and asked ─► then what comes
//!   answer ─► the question is over
//! ```
//!
//! Only who is back, and owes answers, has something here.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use posthaste_adapter::{Member, Packet, Room, SocketId, Target};
use posthaste_history::Budget;
use posthaste_history::store::Range;
use posthaste_socket_proto::Args;
use rustc_hash::FxHashMap;

use super::{Handle, Local, LocalNamespace};
use crate::durable::{Form, Keeper, decode_question, questions_of};
use crate::how::How;
use crate::namespace::NamespaceInner;
use crate::socket::Socket;

/// A page of questions that are asked again: then the worker's other connections have a turn.
const PAGE: Budget = Budget { max_bytes: 64 * 1024, max_events: 64 };

/// The sockets of a worker in a namespace that came back and owed answers.
#[derive(Default)]
pub(super) struct Reasked(RefCell<FxHashMap<u32, Box<Way>>>);

/// How far one of them was asked.
struct Way {
    socket: Socket,
    /// The last position that it was asked.
    after: u64,
    /// Whether there may be more that has to be read.
    more: bool,
    is_running: bool,
}

impl Reasked {
    fn open(&self, member: Member, socket: &Socket) {
        let way = Way { socket: socket.clone(), after: 0, more: true, is_running: true };
        self.0.borrow_mut().insert(member.0, Box::new(way));
    }

    /// A socket is gone.
    pub(super) fn close(&self, member: Member) {
        let way = self.0.borrow_mut().remove(&member.0);
        drop(way);
    }

    /// A question was committed at `pos`. Returns whether the socket is to be asked it now: not if it will be read, or was.
    fn hear(&self, member: Member, pos: u64) -> bool {
        let mut ways = self.0.borrow_mut();
        let Some(way) = ways.get_mut(&member.0) else { return true };
        way.more |= way.is_running;
        let is_next = !way.is_running && pos > way.after;
        if is_next {
            way.after = pos;
        }
        is_next
    }

    fn with<R>(&self, member: Member, socket: &Socket, act: impl FnOnce(&mut Way) -> R) -> Option<R> {
        let mut ways = self.0.borrow_mut();
        ways.get_mut(&member.0).filter(|way| way.socket == *socket).map(|way| act(way))
    }
}

/// Has the worker that has a socket ask it. Called by the thread that commits: nothing is sent here.
pub(crate) fn publish_question(namespace: &Arc<NamespaceInner>, to: SocketId, pos: u64, form: Form) {
    let Some(server) = namespace.server.upgrade() else { return };
    let (bytes, form) = (form.packet.frames().len(), Arc::new(form));
    for handle in server.workers.handles() {
        // The job holds the namespace: until it is done no other has its number.
        let (held, form) = (namespace.clone(), form.clone());
        // A worker that has ended has nobody to ask.
        let posted = handle.post_bytes(bytes, move |_| {
            if let Some(local) = super::of(&held.server) {
                local.ask_committed(held.number(), to, pos, &form);
            }
        });
        if posted == Ok(true) {
            namespace.behind.note();
        }
    }
}

impl Local {
    fn ask_committed(&self, number: u32, to: SocketId, pos: u64, form: &Form) {
        let Some(namespace) = self.namespace(number) else { return };
        let Some(tracking) = &namespace.tracking else { return };
        let Some(keeper) = tracking.journal().kept() else { return };
        let mut found = None;
        let target = Target { rooms: std::iter::once(Room::from(to)).collect(), ..Target::default() };
        namespace.membership.borrow_mut().select(&target, |member, _| {
            // Others may have joined a room that is called so.
            let sockets = namespace.sockets.borrow();
            let socket = sockets.get(member.0 as usize).and_then(Option::as_ref).filter(|socket| socket.id() == to);
            found = socket.map(|socket| (member, socket.clone())).or(found.take());
        });
        let Some((member, socket)) = found else { return };
        if tracking.questions.hear(member, pos) {
            self.ask_open(&socket, keeper, pos, form);
        }
    }

    /// Asks a socket what it has not answered. Returns whether it is there.
    fn ask_open(&self, socket: &Socket, keeper: &Keeper, pos: u64, form: &Form) -> bool {
        if !keeper.questions().is_open(socket.id(), socket.0.connection, pos) {
            return true;
        }
        let shared = &socket.0.namespace;
        let Ok(packet) = Packet::encode(&shared.name, Some(keeper.question_id(pos)), &form.packet.event()) else {
            tracing::error!(pos, "a question could not be written again");
            return true;
        };
        let is_sent = self.send(socket.0.connection, packet.frames(), How { volatile: false, compress: form.compress });
        if shared.is_watched() {
            self.show_sent(socket, packet.frames());
        }
        is_sent
    }

    /// A socket is back, and nothing was sent to it yet. Returns whether it is to be asked again what it owes.
    pub(super) fn owes_answers(&self, namespace: &LocalNamespace, member: Member, socket: &Socket) -> bool {
        let Some(tracking) = &namespace.tracking else { return false };
        let Some(keeper) = tracking.journal().kept().filter(|_| socket.recovered()) else { return false };
        let owes = keeper.questions().opened(socket.id(), socket.0.connection);
        if owes {
            tracking.questions.open(member, socket);
        }
        owes
    }

    /// Asks a socket that is back what it owes, and then what was committed meanwhile.
    pub(super) fn ask_again(&self, namespace: &LocalNamespace, member: Member, socket: &Socket) {
        let keeper = namespace.tracking.as_ref().and_then(|tracking| tracking.journal().kept()).cloned();
        let (Some(keeper), Some(this)) = (keeper, self.this.upgrade()) else { return };
        let (owner, place) = (socket.clone(), (namespace.shared.number(), member));
        let asking = async move { this.ask_page_by_page(place, &owner, &keeper).await };
        self.worker.start(socket.0.connection, socket.0.serial, Box::pin(asking));
    }

    async fn ask_page_by_page(self: &Rc<Self>, place: (u32, Member), socket: &Socket, keeper: &Arc<Keeper>) {
        let stream = questions_of(socket.id());
        loop {
            let next = self.with_way(place, socket, |way| {
                way.is_running = std::mem::take(&mut way.more);
                way.is_running.then_some(way.after)
            });
            let Some(Some(after)) = next else { return };
            let page = match keeper.shard().read(vec![Range::after(&stream, after)], PAGE).await {
                Ok(page) => page,
                Err(error) => {
                    let is_there = self.with_way(place, socket, |way| way.more = true).is_some();
                    if is_there && self.may_try_again(&error, "what a client owes answers to").await {
                        continue;
                    }
                    return;
                }
            };
            for message in page.messages {
                if self.with_way(place, socket, |way| way.after = message.pos).is_none() {
                    return;
                }
                if let Some((_, form)) = decode_question(message.payload)
                    && !self.ask_open(socket, keeper, message.pos, &form)
                {
                    return;
                }
            }
            let is_there = self.with_way(place, socket, |way| way.more |= !page.complete).is_some();
            if !is_there || !self.has_taken(socket.0.connection, PAGE).await {
                return;
            }
        }
    }

    fn with_way<R>(
        &self,
        (namespace, member): (u32, Member),
        socket: &Socket,
        act: impl FnOnce(&mut Way) -> R,
    ) -> Option<R> {
        let namespace = self.namespace(namespace)?;
        namespace.tracking.as_ref()?.questions.with(member, socket, act)
    }

    /// An answer under the id of a durable question.
    pub(super) fn answered_question(&self, handle: Handle, id: u64, args: Args<'_>) {
        let Some(socket) = self.socket(handle) else { return };
        if let Ok(keeper) = socket.0.namespace.keeper() {
            keeper.answered(socket.id(), id, args);
        }
    }

    /// A socket has left; it may come back if `may_return`.
    pub(super) fn left_questions(&self, keeper: &Arc<Keeper>, socket: &Socket, may_return: bool) {
        if may_return {
            keeper.questions().left(socket.id(), socket.0.connection);
        } else {
            keeper.end_questions(socket.id());
        }
    }
}
