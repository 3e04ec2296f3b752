//! This process as an adapter sees it: one job per worker for each broadcast.

use std::borrow::Cow;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

use posthaste_adapter::{
    Adapter, AnswerSink, Broadcast, Node, Operation, Pending, RawEvent, ServerReply, SocketId, SocketSnapshot, Target,
};
use posthaste_engine::{ConnectionId, Worker};
use posthaste_engine_proto::session::deadline_after;
use posthaste_socket_proto::Args;

use super::Local;
use crate::how::How;
use crate::namespace::NamespaceInner;
use crate::remote;
use crate::server::Inner;
use crate::server_side;
use crate::socket::Socket;

/// The sockets of one namespace in this process. It is held by the namespace's adapter, and so does not hold the namespace.
pub(crate) struct LocalNode {
    name: Arc<str>,
    namespace: Weak<NamespaceInner>,
}

impl LocalNode {
    /// Gives a namespace its adapter, and makes it known to that.
    pub(crate) fn start(namespace: &Arc<NamespaceInner>, adapter: Arc<dyn Adapter>) {
        let node = Self { name: namespace.name.clone(), namespace: Arc::downgrade(namespace) };
        namespace.start_adapter(adapter, |adapter| adapter.start(Arc::new(node)));
        if namespace.adapter().follows_rooms() || !namespace.router().room_listeners.is_empty() {
            namespace.watch_rooms();
        }
    }
}

impl Node for LocalNode {
    fn namespace(&self) -> &str {
        &self.name
    }

    fn next_ack_id(&self) -> u64 {
        // Nobody can be asked when the namespace is gone.
        self.namespace.upgrade().map_or(0, |namespace| namespace.next_ack_id())
    }

    fn deliver(&self, broadcast: &Broadcast) {
        let Some(namespace) = self.namespace.upgrade() else { return };
        let Some(server) = namespace.server.upgrade() else { return };
        if server.config.is_multilingual() && !broadcast.packet.shares_forms() {
            // Whichever worker is first translates for all.
            return self.deliver(&Broadcast { packet: broadcast.packet.sharing_forms(), ..broadcast.clone() });
        }
        let Some((id, answers)) = &broadcast.answers else {
            if let Some(journal) = &namespace.journal
                && !broadcast.target.flags.volatile
            {
                return super::recoverable::broadcast(&namespace, journal, broadcast);
            }
            let bytes = broadcast.packet.frames().len();
            return everywhere(&namespace, &server, broadcast, bytes, Local::deliver, |_| {});
        };
        answers.expect(1);
        let tally: Arc<dyn AnswerSink> = Arc::new(Tally::new(server.workers.handles().len(), answers.clone()));
        let counted = Broadcast { answers: Some((*id, tally)), ..broadcast.clone() };
        let bytes = broadcast.packet.frames().len();
        everywhere(&namespace, &server, &counted, bytes, Local::deliver, |broadcast| report(broadcast, 0));
    }

    fn apply(&self, target: &Target, operation: &Operation) {
        let Some(namespace) = self.namespace.upgrade() else { return };
        let Some(server) = namespace.server.upgrade() else { return };
        everywhere(&namespace, &server, &(target.clone(), operation.clone()), 0, Local::apply, |_| {});
    }

    fn fetch(&self, target: &Target) -> Pending<Vec<SocketSnapshot>> {
        let Some(namespace) = self.namespace.upgrade() else { return Box::pin(async { Vec::new() }) };
        Box::pin(gather(&namespace, target, Local::snapshots))
    }

    fn server_event(&self, event: RawEvent, reply: Option<ServerReply>) {
        if let Some(namespace) = self.namespace.upgrade() {
            server_side::handle(&namespace, event, reply);
        }
    }
}

/// Does `act` on every worker: on this thread's own at once, behind everything posted to it before; on the others by a job.
/// `bytes` is what it sends, `absent` stands in for a worker without a half of this server.
fn everywhere<T: Clone + Send + Sync + 'static>(
    namespace: &Arc<NamespaceInner>,
    server: &Inner,
    what: &T,
    bytes: usize,
    act: fn(&Local, u32, &T),
    absent: fn(&T),
) {
    let here = super::of(&namespace.server);
    if let Some(local) = &here {
        local.worker.apply_mail();
    }
    let mut shared: Option<Arc<T>> = None;
    for handle in server.workers.handles() {
        if here.as_ref().is_some_and(|local| local.worker.is(handle)) {
            continue;
        }
        let what = shared.get_or_insert_with(|| Arc::new(what.clone()));
        // The job holds the namespace: until it is done no other has its number.
        let (posted, held) = (what.clone(), namespace.clone());
        let job = move |_: &Worker| match super::of(&held.server) {
            Some(local) => act(&local, held.number(), &posted),
            None => absent(&posted),
        };
        match handle.post_bytes(bytes, job) {
            Ok(false) => {}
            Ok(true) => namespace.behind.note(),
            Err(_) => absent(what),
        }
    }
    if let Some(local) = here {
        act(&local, namespace.number(), what);
    }
}

/// Asks every worker at once, in order with what was posted before, and brings back what they say.
pub(crate) fn gather<T: Clone + Send + 'static, R: Send + 'static>(
    namespace: &Arc<NamespaceInner>,
    what: &T,
    ask: fn(&Local, u32, &T) -> Vec<R>,
) -> impl Future<Output = Vec<R>> + Send + 'static + use<T, R> {
    let server = namespace.server.upgrade();
    let workers = server.as_ref().map(|server| server.workers.handles()).unwrap_or_default();
    let asked: Vec<_> = workers
        .iter()
        .map(|handle| {
            let (what, namespace) = (what.clone(), namespace.clone());
            handle.call(move |_| super::of(&namespace.server).map(|local| ask(&local, namespace.number(), &what)))
        })
        .collect();
    async move {
        let mut all = Vec::new();
        for answer in asked {
            // A worker that has ended has nothing.
            all.extend(answer.await.ok().flatten().into_iter().flatten());
        }
        all
    }
}

/// Adds up what the workers asked: the node says it once.
struct Tally {
    answers: Arc<dyn AnswerSink>,
    workers: AtomicUsize,
    asked: AtomicUsize,
}

impl Tally {
    fn new(workers: usize, answers: Arc<dyn AnswerSink>) -> Self {
        Self { answers, workers: AtomicUsize::new(workers), asked: AtomicUsize::new(0) }
    }
}

impl AnswerSink for Tally {
    fn expect(&self, _: usize) {}

    fn asked(&self, count: usize) {
        self.asked.fetch_add(count, Ordering::AcqRel);
        if self.workers.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.answers.asked(self.asked.load(Ordering::Acquire));
        }
    }

    fn answer(&self, from: Option<SocketId>, args: Args<'static>) {
        self.answers.answer(from, args);
    }

    fn lose(&self, count: usize) {
        self.answers.lose(count);
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        // A worker that ended dropped its mail, and its sockets are gone.
        if *self.workers.get_mut() > 0 {
            self.answers.asked(*self.asked.get_mut());
        }
    }
}

/// Tells whoever counts the answers how many sockets this worker asked.
fn report(broadcast: &Broadcast, asked: usize) {
    if let Some((_, answers)) = &broadcast.answers {
        answers.asked(asked);
    }
}

impl Local {
    /// Does an operation to this worker's members of its target.
    fn apply(&self, namespace: u32, (target, operation): &(Target, Operation)) {
        for socket in &self.meant(namespace, target) {
            match operation {
                // Too many are counted; whoever asks for many sockets is not told of each.
                Operation::Join(rooms) => {
                    let _ = self.join(socket, rooms);
                }
                Operation::Leave(rooms) => self.leave(socket, rooms),
                Operation::Disconnect { close } => self.disconnect(socket, *close),
                _ => {}
            }
        }
    }

    /// This worker's members of a target.
    pub(crate) fn meant(&self, namespace: u32, target: &Target) -> Vec<Socket> {
        let Some(namespace) = self.namespace(namespace) else { return Vec::new() };
        let mut meant = Vec::new();
        let sockets = namespace.sockets.borrow();
        namespace.membership.borrow_mut().select(target, |member, _| {
            meant.extend(sockets.get(member.0 as usize).cloned().flatten());
        });
        meant
    }

    /// What this worker's members of a target are.
    fn snapshots(&self, namespace: u32, target: &Target) -> Vec<SocketSnapshot> {
        let sockets = self.meant(namespace, target);
        sockets.iter().map(|socket| remote::snapshot(socket, self.rooms(socket))).collect()
    }

    /// Delivers a broadcast to this worker's members of its target.
    fn deliver(&self, namespace: u32, broadcast: &Broadcast) {
        let Some(namespace) = self.namespace(namespace) else { return report(broadcast, 0) };
        if namespace.shared.is_watched() {
            self.show_broadcast(&namespace, &broadcast.target, &broadcast.packet);
        }
        let mut slots = self.slots.take();
        slots.clear();
        let mut bare = Vec::new();
        match &broadcast.answers {
            None => bare = namespace.select(&broadcast.target, &mut slots),
            Some((id, answers)) => {
                let mut asked = Vec::new();
                let sockets = namespace.sockets.borrow();
                namespace.membership.borrow_mut().select(&broadcast.target, |member, slot| {
                    slots.push(slot);
                    if let Some(Some(socket)) = sockets.get(member.0 as usize) {
                        asked.push(socket.0.connection);
                    }
                });
                drop(sockets);
                self.ask_all(&asked, namespace.shared.number(), *id, broadcast, answers);
            }
        }
        if !slots.is_empty() {
            let packet = match &broadcast.answers {
                None => namespace.with_current_offset(&broadcast.packet),
                // A question has no room for an offset: its last argument is the way to answer it.
                Some(_) => Cow::Borrowed(&broadcast.packet),
            };
            self.deliver_packet(&packet, &slots, How::from(&broadcast.target.flags));
        }
        if !bare.is_empty() {
            self.deliver_packet(&broadcast.packet, &bare, How::from(&broadcast.target.flags));
        }
        self.slots.replace(slots);
    }

    fn ask_all(
        &self,
        asked: &[ConnectionId],
        namespace: u32,
        id: u64,
        broadcast: &Broadcast,
        answers: &Arc<dyn AnswerSink>,
    ) {
        let deadline = deadline_after(Instant::now(), broadcast.target.flags.timeout.unwrap_or_default());
        report(broadcast, asked.len());
        for connection in asked {
            self.expect_answer_of(*connection, namespace, id, deadline, answers);
        }
    }
}
