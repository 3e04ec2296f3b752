//! Nodes of one process, connected.

use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use bytes::Bytes;
use posthaste_socket_proto::Args;

use super::Adapters;
use crate::acks::AnswerSink;
use crate::event::RawEvent;
use crate::packet::Packet;
use crate::port::{Adapter, AdapterError, Broadcast, Delivery, Node, Operation, Pending, ServerReply};
use crate::room::SocketId;
use crate::snapshot::SocketSnapshot;
use crate::target::{Flags, Target};

/// Connects nodes of one process, for tests: each has a thread that does what the others send it, in order. Nothing but values
/// goes from one to another, as over a wire.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mesh {
    fault: Option<Fault>,
}

/// What is wrong with a [`Mesh`] that was broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Fault {
    DeliversHereLate,
    HearsItself,
    DeliversTwice,
    SwapsBroadcasts,
    IgnoresLocal,
    LosesExceptions,
    LosesFlags,
    LosesAttachments,
    KeepsTheAskersId,
    ExpectsNobodyElse,
    ReportsTwice,
    KeepsLossesToItself,
    AnswersTwice,
    ForgetsLeaves,
    AppliesOnlyElsewhere,
    ForgetsToClose,
    FetchesOnlyHere,
    FetchesWithoutRooms,
    TellsItself,
    TellsServersTwice,
    ServersNeverAnswer,
    CountsOnlyItself,
    StaysAfterItsEnd,
    WaitsForTheDead,
    MixesNamespaces,
}

impl Mesh {
    /// One that is broken.
    #[must_use]
    pub const fn broken(fault: Fault) -> Self {
        Self { fault: Some(fault) }
    }

    /// So many connected nodes; see [`Cluster::connect`](super::Cluster::connect).
    #[must_use]
    pub fn connect(&self, namespaces: &[&str], nodes: usize) -> Adapters {
        let mut all: Vec<Vec<Arc<MeshAdapter>>> = Vec::new();
        let mut first: Option<Arc<Links>> = None;
        for _ in namespaces {
            let mut links = Vec::new();
            let mut inboxes: Vec<Receiver<(usize, Message)>> = Vec::new();
            for _ in 0..nodes {
                let (link, inbox) = channel();
                links.push(Mutex::new(Some(link)));
                inboxes.push(inbox);
            }
            let own = Arc::new(Links(links));
            let links = match (self.fault, &first) {
                // Everything goes to the first namespace's nodes.
                (Some(Fault::MixesNamespaces), Some(first)) => first.clone(),
                _ => own.clone(),
            };
            first.get_or_insert(own);
            all.push(
                inboxes
                    .into_iter()
                    .enumerate()
                    .map(|(index, inbox)| {
                        let adapter = Arc::new(MeshAdapter {
                            fault: self.fault,
                            index,
                            links: links.clone(),
                            others: Mutex::new((0..nodes).filter(|other| *other != index).collect()),
                            node: OnceLock::new(),
                            closed: AtomicBool::new(false),
                            requests: Mutex::default(),
                            next_request: AtomicU64::new(0),
                            held: Mutex::default(),
                        });
                        let this = Arc::downgrade(&adapter);
                        thread::spawn(move || run(&this, &inbox));
                        adapter
                    })
                    .collect(),
            );
        }
        all.into_iter().map(|nodes| nodes.into_iter().map(|adapter| adapter as Arc<dyn Adapter>).collect()).collect()
    }
}

/// Where a node is told something, with the number of the node that tells it.
type Link = Sender<(usize, Message)>;

/// The nodes' inboxes, by number; gone when the node is.
struct Links(Vec<Mutex<Option<Link>>>);

struct MeshAdapter {
    fault: Option<Fault>,
    index: usize,
    links: Arc<Links>,
    /// The nodes that are there, but for this one.
    others: Mutex<BTreeSet<usize>>,
    node: OnceLock<Arc<dyn Node>>,
    closed: AtomicBool,
    requests: Mutex<HashMap<u64, Request>>,
    next_request: AtomicU64,
    /// A broadcast that waits for the next one, if those are swapped.
    held: Mutex<Option<Message>>,
}

/// What a node tells another.
#[derive(Clone)]
enum Message {
    Broadcast { target: Target, array: String, attachments: Vec<Bytes>, request: Option<u64> },
    Apply { target: Target, operation: Operation },
    Fetch { target: Target, request: u64 },
    Fetched { request: u64, sockets: Vec<SocketSnapshot> },
    ServerEvent { array: String, attachments: Vec<Bytes>, request: Option<u64> },
    Asked { request: u64, count: usize },
    Answer { request: u64, from: Option<SocketId>, args: Args<'static> },
    Lost { request: u64, count: usize },
    Bye,
}

/// Something that other nodes were asked.
enum Request {
    /// The nodes that have not said yet how many they asked. Whoever gave up is not there any more.
    Answers(BTreeSet<usize>, Weak<dyn AnswerSink>),
    Sockets(Weak<Mutex<Fetching>>),
}

#[derive(Default)]
struct Fetching {
    missing: BTreeSet<usize>,
    sockets: Vec<SocketSnapshot>,
    waiting: Option<Waker>,
}

/// Does what other nodes send, until all of them and this one are gone.
fn run(this: &Weak<MeshAdapter>, inbox: &Receiver<(usize, Message)>) {
    while let Ok((from, message)) = inbox.recv() {
        let Some(adapter) = this.upgrade() else { return };
        adapter.receive(from, message);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MeshAdapter {
    fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    fn others(&self) -> BTreeSet<usize> {
        lock(&self.others).clone()
    }

    fn send(&self, to: usize, message: Message) {
        if let Some(link) = &*lock(&self.links.0[to]) {
            // A node that is gone hears nothing.
            let _ = link.send((self.index, message));
        }
    }

    fn publish(&self, message: &Message) {
        self.others().into_iter().for_each(|other| self.send(other, message.clone()));
    }

    fn node(&self) -> Option<&Arc<dyn Node>> {
        self.node.get().filter(|_| self.has(Fault::StaysAfterItsEnd) || !self.closed.load(Ordering::Acquire))
    }

    fn request(&self, request: Request) -> u64 {
        let id = self.next_request.fetch_add(1, Ordering::Relaxed);
        let mut requests = lock(&self.requests);
        requests.retain(|_, request| match request {
            Request::Answers(_, sink) => sink.strong_count() > 0,
            Request::Sockets(fetching) => fetching.strong_count() > 0,
        });
        requests.insert(id, request);
        id
    }

    /// Asks the others, and has the sink expect them.
    fn request_answers(&self, sink: &Arc<dyn AnswerSink>) -> u64 {
        let others = self.others();
        if !self.has(Fault::ExpectsNobodyElse) {
            sink.expect(others.len());
        }
        self.request(Request::Answers(others, Arc::downgrade(sink)))
    }

    fn with_answers(&self, request: u64, act: impl FnOnce(&mut BTreeSet<usize>, &dyn AnswerSink)) {
        let found = match lock(&self.requests).get_mut(&request) {
            Some(Request::Answers(nodes, sink)) => sink.upgrade().map(|sink| (std::mem::take(nodes), sink)),
            _ => None,
        };
        let Some((mut nodes, sink)) = found else { return };
        act(&mut nodes, &*sink);
        if let Some(Request::Answers(kept, _)) = lock(&self.requests).get_mut(&request) {
            *kept = nodes;
        }
    }

    fn fetched(&self, request: u64, from: usize, sockets: Vec<SocketSnapshot>) {
        let fetching = match lock(&self.requests).get(&request) {
            Some(Request::Sockets(fetching)) => fetching.upgrade(),
            _ => None,
        };
        let Some(fetching) = fetching else { return };
        let waiting = {
            let mut fetching = lock(&fetching);
            fetching.missing.remove(&from);
            fetching.sockets.extend(sockets);
            fetching.waiting.take()
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    fn receive(self: &Arc<Self>, from: usize, message: Message) {
        match message {
            Message::Asked { request, count } => self.with_answers(request, |nodes, sink| {
                if nodes.remove(&from) || self.has(Fault::ReportsTwice) {
                    sink.asked(count);
                }
            }),
            Message::Answer { request, from, args } => self.with_answers(request, |_, sink| sink.answer(from, args)),
            Message::Lost { request, count } => self.with_answers(request, |_, sink| sink.lose(count)),
            Message::Fetched { request, sockets } => self.fetched(request, from, sockets),
            Message::Bye => self.bye(from),
            message => {
                if let Some(node) = self.node() {
                    self.obey(node, from, message);
                }
            }
        }
    }

    /// Does what another node says to the sockets of this one.
    fn obey(self: &Arc<Self>, node: &Arc<dyn Node>, from: usize, message: Message) {
        match message {
            Message::Broadcast { target, array, attachments, request } => {
                let Ok(event) = RawEvent::decode(&array, attachments) else { return };
                let answers: Option<(u64, Arc<dyn AnswerSink>)> = request.map(|request| {
                    let id = if self.has(Fault::KeepsTheAskersId) { request } else { node.next_ack_id() };
                    (id, Arc::new(Forward { adapter: Arc::downgrade(self), to: from, request }) as _)
                });
                let id = answers.as_ref().map(|(id, _)| *id);
                let Ok(packet) = Packet::encode(node.namespace(), id, &event) else { return };
                let broadcast = Broadcast { target, packet, answers };
                node.deliver(&broadcast);
                if self.has(Fault::DeliversTwice) {
                    node.deliver(&broadcast);
                }
            }
            Message::Apply { target, operation } => node.apply(&target, &operation),
            Message::Fetch { target, request } => {
                let mut sockets = block_on(node.fetch(&target));
                if self.has(Fault::FetchesWithoutRooms) {
                    sockets.iter_mut().for_each(|socket| socket.rooms.clear());
                }
                self.send(from, Message::Fetched { request, sockets });
            }
            Message::ServerEvent { array, attachments, request } => {
                let Ok(event) = RawEvent::decode(&array, attachments) else { return };
                let reply = request.map(|request| {
                    self.send(from, Message::Asked { request, count: 1 });
                    // Told as lost when it is dropped unused.
                    let pending = Reply { adapter: Arc::downgrade(self), to: from, request, answered: false };
                    Box::new(move |args| pending.answer(args)) as ServerReply
                });
                node.server_event(event, reply);
            }
            _ => {}
        }
    }

    /// A node is gone: nobody waits for it.
    fn bye(&self, from: usize) {
        if self.has(Fault::WaitsForTheDead) {
            return;
        }
        lock(&self.others).remove(&from);
        let requests: Vec<u64> = lock(&self.requests).keys().copied().collect();
        for request in requests {
            self.fetched(request, from, Vec::new());
            self.with_answers(request, |nodes, sink| {
                if nodes.remove(&from) {
                    sink.asked(0);
                }
            });
        }
    }

    fn shared(&self, target: &Target) -> bool {
        !target.flags.local || self.has(Fault::IgnoresLocal)
    }

    /// The target as it is told to others.
    fn told(&self, target: &Target) -> Target {
        let mut told = target.clone();
        told.flags.local = false;
        if self.has(Fault::LosesExceptions) {
            told.except.clear();
        }
        if self.has(Fault::LosesFlags) {
            told.flags = Flags { timeout: told.flags.timeout, ..Flags::default() };
        }
        told
    }
}

/// Sends what a node's sockets answer to the node that asked.
struct Forward {
    adapter: Weak<MeshAdapter>,
    to: usize,
    request: u64,
}

impl Forward {
    fn send(&self, message: Message) {
        if let Some(adapter) = self.adapter.upgrade() {
            let times = match message {
                Message::Asked { .. } if adapter.has(Fault::ReportsTwice) => 2,
                Message::Answer { .. } if adapter.has(Fault::AnswersTwice) => 2,
                Message::Lost { .. } if adapter.has(Fault::KeepsLossesToItself) => 0,
                _ => 1,
            };
            (0..times).for_each(|_| adapter.send(self.to, message.clone()));
        }
    }
}

impl AnswerSink for Forward {
    fn expect(&self, _: usize) {}

    fn asked(&self, count: usize) {
        self.send(Message::Asked { request: self.request, count });
    }

    fn answer(&self, from: Option<SocketId>, args: Args<'static>) {
        self.send(Message::Answer { request: self.request, from, args });
    }

    fn lose(&self, count: usize) {
        self.send(Message::Lost { request: self.request, count });
    }
}

/// A server's answer on its way.
struct Reply {
    adapter: Weak<MeshAdapter>,
    to: usize,
    request: u64,
    answered: bool,
}

impl Reply {
    fn answer(mut self, args: Args<'static>) {
        self.answered = true;
        if let Some(adapter) = self.adapter.upgrade().filter(|adapter| !adapter.has(Fault::ServersNeverAnswer)) {
            adapter.send(self.to, Message::Answer { request: self.request, from: None, args });
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(adapter) = self.adapter.upgrade().filter(|_| !self.answered) {
            adapter.send(self.to, Message::Lost { request: self.request, count: 1 });
        }
    }
}

impl Adapter for MeshAdapter {
    fn start(&self, node: Arc<dyn Node>) {
        assert!(self.node.set(node).is_ok(), "an adapter is for one namespace of one server");
    }

    fn close(&self) -> Delivery {
        self.closed.store(true, Ordering::Release);
        if !self.has(Fault::StaysAfterItsEnd) {
            self.publish(&Message::Bye);
        }
        Delivery::Done
    }

    fn broadcast(&self, broadcast: Broadcast) -> Delivery {
        let Some(node) = self.node() else { return Delivery::Done };
        if self.shared(&broadcast.target) {
            let event = broadcast.packet.event();
            let request = broadcast.answers.as_ref().map(|(_, sink)| self.request_answers(sink));
            let attachments = if self.has(Fault::LosesAttachments) { Vec::new() } else { event.attachments().to_vec() };
            let told = self.told(&broadcast.target);
            let message = Message::Broadcast { target: told, array: event.to_array(), attachments, request };
            if self.has(Fault::SwapsBroadcasts) && request.is_none() {
                let mut held = lock(&self.held);
                match held.take() {
                    Some(earlier) => {
                        self.publish(&message);
                        self.publish(&earlier);
                    }
                    None => *held = Some(message.clone()),
                }
            } else {
                self.publish(&message);
            }
            if self.has(Fault::HearsItself) || self.has(Fault::DeliversHereLate) {
                self.send(self.index, message);
            }
        }
        if !self.has(Fault::DeliversHereLate) || !self.shared(&broadcast.target) {
            node.deliver(&broadcast);
        }
        Delivery::Done
    }

    fn apply(&self, target: Target, operation: Operation) -> Delivery {
        let Some(node) = self.node() else { return Delivery::Done };
        let forgotten = match operation {
            Operation::Leave(_) => self.has(Fault::ForgetsLeaves),
            _ => false,
        };
        let told = match operation {
            Operation::Disconnect { .. } if self.has(Fault::ForgetsToClose) => Operation::Disconnect { close: false },
            _ => operation.clone(),
        };
        if self.shared(&target) && !forgotten {
            self.publish(&Message::Apply { target: self.told(&target), operation: told });
        }
        if !self.has(Fault::AppliesOnlyElsewhere) {
            node.apply(&target, &operation);
        }
        Delivery::Done
    }

    fn fetch(&self, target: Target) -> Pending<Result<Vec<SocketSnapshot>, AdapterError>> {
        let Some(node) = self.node() else { return Box::pin(async { Ok(Vec::new()) }) };
        let here = node.fetch(&target);
        let fetching = Arc::new(Mutex::new(Fetching::default()));
        if self.shared(&target) && !self.has(Fault::FetchesOnlyHere) {
            lock(&fetching).missing = self.others();
            let request = self.request(Request::Sockets(Arc::downgrade(&fetching)));
            self.publish(&Message::Fetch { target: self.told(&target), request });
        }
        Box::pin(async move {
            let mut sockets = here.await;
            sockets.append(&mut Fetched(fetching).await);
            Ok(sockets)
        })
    }

    fn server_emit(&self, event: RawEvent, answers: Option<Arc<dyn AnswerSink>>) -> Delivery {
        if self.node().is_none() {
            return Delivery::Done;
        }
        let request = answers.as_ref().map(|sink| self.request_answers(sink));
        let attachments = if self.has(Fault::LosesAttachments) { Vec::new() } else { event.attachments().to_vec() };
        let message = Message::ServerEvent { array: event.to_array(), attachments, request };
        self.publish(&message);
        if self.has(Fault::TellsServersTwice) {
            self.publish(&message);
        }
        if self.has(Fault::TellsItself) {
            self.send(self.index, message);
        }
        Delivery::Done
    }

    fn node_count(&self) -> Pending<Result<usize, AdapterError>> {
        let others = if self.has(Fault::CountsOnlyItself) { 0 } else { self.others().len() };
        Box::pin(async move { Ok(1 + others) })
    }
}

impl Drop for MeshAdapter {
    fn drop(&mut self) {
        // Its thread waits for the last who could send it something.
        *lock(&self.links.0[self.index]) = None;
    }
}

/// The other nodes' sockets, when all of them have told theirs.
struct Fetched(Arc<Mutex<Fetching>>);

impl Future for Fetched {
    type Output = Vec<SocketSnapshot>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut fetching = lock(&self.0);
        if fetching.missing.is_empty() {
            return Poll::Ready(std::mem::take(&mut fetching.sockets));
        }
        fetching.waiting = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// Waits on a node's thread, which has nothing else to do.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}
