//! A worker's half of a namespace whose clients use queues: what its sockets consume, and what they have.
//!
//! ```text
//!   q:consume ─► Consumer ─► Command::Consume          Effect::Granted ─► Lease under an ack id ─► job
//!   ack       ─► Lease ─► what it says ─► Settle, with others of the turn ─► refused? q:revoked
//!   lost      ─► Hold, parked for `grace` ─► Return        back ─► Unhold
//! ```
//!
//! - [`verbs`]: what clients ask, and what they are told at once.
//! - [`put`], [`consume`], [`pull`], [`settle`], [`admin`]: what that leads to.
//! - [`jobs`]: grants on their way to sockets, and the acks that come back; [`silence`]: leases that go on meanwhile.
//! - [`away`]: sockets that are lost, and those that come back; [`noted`]: to another process.
//!
//! Nothing is borrowed while something is sent or asked.

mod admin;
mod away;
mod consume;
mod jobs;
mod noted;
mod pull;
mod put;
mod schedules;
mod settle;
mod silence;
mod verbs;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use posthaste_adapter::Member;
use posthaste_history::store::Answer;
use posthaste_queue::{Command, Consume, ConsumerId, Delivery, MessageId, Outcome, QueueName, Refusal, Settle, Token};
use rustc_hash::{FxHashMap, FxHashSet};
use tokio::sync::Notify;

pub(crate) use self::jobs::{post_effects, post_news};
pub(crate) use self::noted::NotedConsumers;
use self::noted::Noting;
use self::verbs::Reply;
pub(crate) use self::verbs::serve_queues;
use super::{Local, LocalNamespace};
use crate::queues::Office;
use crate::recovery::random;
use crate::socket::Socket;

/// Jobs are sent with ack ids from here on: half of what clients read as 32 bits. Questions of the application come from the other end.
pub(super) const FIRST_JOB: u64 = 1 << 30;
/// The names of queues that are known without being made anew.
const MAX_NAMES: usize = 1_024;
/// How many leases that are over are remembered, for late answers to them.
const MAX_OVER: usize = 1_024;
/// How many calls of a session are remembered as its own.
const MAX_CALLS: usize = 1_024;

/// What a worker knows.
pub(crate) struct Desk {
    pub(super) office: Arc<Office>,
    /// By member.
    holders: RefCell<FxHashMap<u32, Box<Holder>>>,
    /// The member whose a consumer is.
    owners: RefCell<FxHashMap<ConsumerId, u32>>,
    names: RefCell<FxHashSet<QueueName>>,
    /// What is settled with the next command, at the latest in the next turn.
    settling: RefCell<Vec<Settling>>,
}

/// What one session has: it is handed on to the socket that comes back in place of a lost one.
pub(crate) struct Holder {
    socket: Socket,
    consumers: FxHashMap<ConsumerId, Consumer>,
    leases: FxHashMap<Token, Lease>,
    /// The lease that an ack settles.
    asked: FxHashMap<u32, Token>,
    next_ack: u32,
    /// When traffic extends leases again.
    touch_at: Instant,
    /// A third of the shortest lease.
    touch_every: Duration,
    /// When it is looked at next whether its client is silent; nothing if nobody looks.
    look_at: Option<Instant>,
    /// Leases that are over and not answered; the oldest first.
    over: VecDeque<Token>,
    /// What this session called and was not told the result of.
    calls: VecDeque<MessageId>,
    /// What this session waits for: results, pulls.
    waits: usize,
    /// What is to be done at the end of grace, so that a later one does not do it.
    away: u64,
}

/// One consumer.
struct Consumer {
    /// What the client calls it: the number it had first.
    name: ConsumerId,
    /// How it was asked for.
    wish: Consume,
    /// So many of the bytes that its socket may have are its own; a pull needs none of them.
    share: u64,
    stage: Stage,
    /// How many leases it has.
    held: usize,
    /// Whether traffic extends its leases.
    is_touched: bool,
    /// It came back with its session, whose client may not know that and ask for it again.
    came_back: bool,
}

/// Where a consumer is in its life.
enum Stage {
    /// It is not known yet whether it may be: what it is given meanwhile is sent behind the answer.
    Opening(Vec<Delivery>),
    /// Its socket is sent jobs.
    Open,
    /// Nothing more is given to it; the answer is for when it has nothing any more, and that is noted.
    Draining(Option<(Reply, Noting)>),
    /// What comes is collected.
    Pulling(Vec<Delivery>, Arc<Notify>),
    /// What was pulled is its client's.
    Pulled,
    /// Stopped while it was away: asked for anew when it comes back.
    Stopped,
}

/// A message that a session has.
struct Lease {
    id: MessageId,
    queue: QueueName,
    consumer: ConsumerId,
    /// Under which its answer comes; a pulled one has none.
    ack: Option<u32>,
    /// Somebody else may have it by now.
    is_over: bool,
}

/// A settlement on its way.
struct Settling {
    settle: Settle,
    /// Who is told if the lease was over.
    from: Option<(u32, QueueName)>,
}

impl Desk {
    pub(super) fn new(office: &Arc<Office>) -> Self {
        Self {
            office: office.clone(),
            holders: RefCell::default(),
            owners: RefCell::default(),
            names: RefCell::default(),
            settling: RefCell::default(),
        }
    }

    /// The name of a queue, shared by all who say it.
    fn name(&self, text: &str) -> QueueName {
        let mut names = self.names.borrow_mut();
        if let Some(name) = names.get(text) {
            return name.clone();
        }
        if names.len() >= MAX_NAMES {
            names.clear();
        }
        let name = QueueName::from(text);
        names.insert(name.clone());
        name
    }

    fn with<R>(&self, member: Member, act: impl FnOnce(&mut Holder) -> R) -> Option<R> {
        self.holders.borrow_mut().get_mut(&member.0).map(|holder| act(holder))
    }

    /// What a socket has; made if it has nothing yet.
    fn hold<R>(&self, member: Member, socket: &Socket, now: Instant, act: impl FnOnce(&mut Holder) -> R) -> R {
        let mut holders = self.holders.borrow_mut();
        act(holders.entry(member.0).or_insert_with(|| Box::new(Holder::new(socket, now))))
    }

    /// One of a socket's consumers.
    fn with_consumer<R>(&self, id: ConsumerId, act: impl FnOnce(&mut Consumer) -> R) -> Option<R> {
        let member = self.owners.borrow().get(&id).copied()?;
        self.holders.borrow_mut().get_mut(&member)?.consumers.get_mut(&id).map(act)
    }

    /// A consumer is no more. Returns it.
    fn forget(&self, id: ConsumerId) -> Option<Consumer> {
        let member = self.owners.borrow_mut().remove(&id)?;
        self.holders.borrow_mut().get_mut(&member)?.consumers.remove(&id)
    }
}

impl Holder {
    fn new(socket: &Socket, now: Instant) -> Self {
        Self {
            socket: socket.clone(),
            consumers: FxHashMap::default(),
            leases: FxHashMap::default(),
            asked: FxHashMap::default(),
            // What is late from another life of the client meets nobody.
            next_ack: FIRST_JOB as u32 | u32::from_be_bytes(random()) >> 2,
            touch_at: now,
            touch_every: Duration::from_secs(10),
            look_at: None,
            over: VecDeque::new(),
            calls: VecDeque::new(),
            waits: 0,
            away: 0,
        }
    }

    fn next_ack(&mut self) -> u32 {
        loop {
            let ack = self.next_ack;
            self.next_ack = if ack == i32::MAX as u32 { FIRST_JOB as u32 } else { ack + 1 };
            if !self.asked.contains_key(&ack) {
                return ack;
            }
        }
    }

    /// It has a message.
    fn lease(&mut self, delivery: &Delivery, ack: Option<u32>, now: Instant) {
        self.pace(Duration::from_millis(delivery.lease_ms), now);
        let lease =
            Lease { id: delivery.id, queue: delivery.queue.clone(), consumer: delivery.consumer, ack, is_over: false };
        if let Some(ack) = ack {
            self.asked.insert(ack, delivery.token);
        }
        self.leases.insert(delivery.token, lease);
    }

    /// It has a message no more. Returns the lease, if it had it and it is not over; and its consumer, if that has nothing any more.
    fn let_go(&mut self, token: Token) -> Option<(Lease, Option<ConsumerId>)> {
        let lease = self.leases.remove(&token)?;
        if let Some(ack) = lease.ack {
            self.asked.remove(&ack);
        }
        if lease.is_over {
            self.over.retain(|over| *over != token);
            return Some((lease, None));
        }
        let idle = self.release(lease.consumer);
        Some((lease, idle))
    }

    /// A consumer has one less. Returns it if it has nothing any more.
    fn release(&mut self, consumer: ConsumerId) -> Option<ConsumerId> {
        let there = self.consumers.get_mut(&consumer)?;
        there.held = there.held.saturating_sub(1);
        (there.held == 0).then_some(consumer)
    }

    /// A lease is over, and its client does not know: what it says of it late is not for the store.
    fn end(&mut self, token: Token) -> Option<(MessageId, Option<ConsumerId>)> {
        let lease = self.leases.get_mut(&token).filter(|lease| !lease.is_over)?;
        lease.is_over = true;
        let (id, consumer) = (lease.id, lease.consumer);
        self.over.push_back(token);
        if self.over.len() > MAX_OVER
            && let Some(oldest) = self.over.pop_front()
            && let Some(lease) = self.leases.remove(&oldest)
            && let Some(ack) = lease.ack
        {
            self.asked.remove(&ack);
        }
        Some((id, self.release(consumer)))
    }

    /// All leases are over.
    fn end_all(&mut self) {
        let tokens: Vec<Token> = self.leases.keys().copied().collect();
        tokens.into_iter().for_each(|token| _ = self.end(token));
    }

    /// The bytes that one more consumer has at a time: what it wants, and no more than half of what the others leave, so that there is something
    /// left for the next. Whatever it has, one larger message is given to it alone.
    fn share(&self, wanted: u64, max: u64) -> u64 {
        let taken = self.consumers.values().map(|consumer| consumer.share).sum();
        wanted.min(max.saturating_sub(taken) / 2).max(1)
    }

    /// Remembers a call as its own.
    fn note_call(&mut self, id: MessageId) {
        if self.calls.len() >= MAX_CALLS {
            self.calls.pop_front();
        }
        self.calls.push_back(id);
    }
}

impl LocalNamespace {
    pub(super) fn desk(&self) -> Option<&Desk> {
        self.desk.as_deref()
    }
}

impl Local {
    /// Asks for something behind what was settled before.
    fn ask_queues(&self, desk: &Desk, number: u32, command: Command) -> Answer<Result<Outcome, Refusal>> {
        self.flush_settled(desk, number);
        desk.office.hub.ask(command)
    }
}
