//! Where the queues of a process and everybody who uses them meet.
//!
//! ```text
//!   sockets ─┐                     ┌─► grants, revocations ─► one mail per worker and batch ─► desks (local/queues)
//!            ├─► ask ─► Queues ─► hear ─► grants ─► workers in Rust
//!   Rust  ───┘                     ├─► how messages ended ─► whoever waits for a result
//!                                  └─► what happened ─► `q:event` to those who watch
//! ```
//!
//! `hear` runs on the thread that commits: it looks up, sorts and posts, and asks nothing.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, Weak};
use std::time::{Duration, Instant};

use posthaste_history::store::{Answer, StoreError, Timestamp};
use posthaste_queue::{
    Capabilities, Command, ConsumerId, Effect, End, MessageId, Outcome, QueueName, Queues, Refusal, Settle, State,
    Stop, Token, Verdict,
};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use tokio::sync::{Notify, mpsc, oneshot};

use super::error::{Failure, QueueError};
use super::payload::Payload;
use crate::local;
use crate::namespace::NamespaceInner;
use crate::queues::now;
use crate::recovery::random;

/// Whatever a store without a thread has to do happens this much late at most.
const PRECISION: Duration = Duration::from_millis(4);
/// In the number of a consumer: see [`Hub::new_pull`].
const PULL: ConsumerId = 1 << 62;
/// No longer than this is slept: the time of day may be set.
const LONGEST_NAP: Duration = Duration::from_secs(10);

/// How long a store that is behind is left alone by what settles, and how often it is asked again: then the lease runs out.
const PAUSE: Duration = Duration::from_millis(50);
const TRIES: usize = 100;
/// How soon a message whose end is not told is looked at again, and after how long at the latest.
const FIRST_LOOK: Duration = Duration::from_millis(50);
const LAST_LOOK: Duration = Duration::from_secs(1);

/// Who waits for the end of messages, each under a number.
type Waiters = FxHashMap<MessageId, Vec<(u64, oneshot::Sender<End>)>>;
/// What a store says to settlements.
type Settling = Result<Result<Outcome, Refusal>, StoreError>;
/// What one worker's sockets in one namespace are concerned by.
type Mail = ((u16, u16), Vec<Effect>);

/// The queues, and who is to hear of what.
pub(crate) struct Hub {
    queues: Arc<dyn Queues>,
    capabilities: Capabilities,
    /// Where consumers are.
    routes: RwLock<FxHashMap<ConsumerId, Route>>,
    /// Namespaces whose sockets consume, by number.
    namespaces: RwLock<Vec<Weak<NamespaceInner>>>,
    consumers: AtomicU64,
    /// Who waits for the end of which message.
    waiting: Mutex<Waiters>,
    waiters: AtomicUsize,
    waits: AtomicU64,
    /// Whether somebody has ever watched a queue.
    is_watched: AtomicBool,
    /// Something was asked since time was looked at last.
    was_asked: AtomicBool,
    news: Arc<Notify>,
    /// Whether somebody keeps the time.
    has_clock: AtomicBool,
}

/// Where a consumer is.
pub(crate) enum Route {
    /// A socket on a worker.
    Socket {
        /// The number of its namespace, see [`Hub::admit`].
        namespace: u16,
        worker: u16,
    },
    /// In Rust. Bounded by what the consumer may have at a time.
    Here(mpsc::UnboundedSender<Effect>),
}

/// Something to be told to whoever watches a queue.
#[derive(Debug)]
pub(crate) struct News {
    pub(crate) queue: QueueName,
    pub(crate) kind: &'static str,
    pub(crate) id: MessageId,
    pub(crate) value: Option<Payload>,
}

impl Hub {
    pub(crate) fn new(queues: Arc<dyn Queues>) -> Arc<Self> {
        let capabilities = queues.capabilities();
        let hub = Arc::new(Self {
            queues,
            capabilities,
            routes: RwLock::default(),
            namespaces: RwLock::default(),
            // Another process may have left consumers behind, under other numbers. JavaScript can carry it.
            consumers: AtomicU64::new(u64::from_be_bytes(random()) >> 12),
            waiting: Mutex::default(),
            waiters: AtomicUsize::new(0),
            waits: AtomicU64::new(0),
            is_watched: AtomicBool::new(false),
            was_asked: AtomicBool::new(false),
            news: Arc::default(),
            has_clock: AtomicBool::new(false),
        });
        let this = Arc::downgrade(&hub);
        hub.queues.listen(Some(Arc::new(move |effects| {
            if let Some(hub) = this.upgrade() {
                hub.hear(effects);
            }
        })));
        hub.queues.answer_within(Arc::new(posthaste_engine::together));
        hub
    }

    pub(crate) const fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// Asks for something; the answer need not be waited for.
    pub(crate) fn ask(&self, command: Command) -> Answer<Result<Outcome, Refusal>> {
        let answer = self.queues.ask(now(), command);
        if !self.was_asked.load(Ordering::Relaxed) {
            self.was_asked.store(true, Ordering::Relaxed);
            self.news.notify_one();
        }
        answer
    }

    /// As [`Hub::ask`], with one kind of error.
    pub(crate) async fn call(&self, command: Command) -> Result<Outcome, QueueError> {
        Ok(self.ask(command).await??)
    }

    /// A number for a new consumer.
    pub(crate) fn new_consumer(&self) -> ConsumerId {
        // 2^52 at the most to begin with: it does not come to 2^53.
        self.consumers.fetch_add(1, Ordering::Relaxed)
    }

    /// A number for a consumer whose leases belong to no connection: they outlive it, and this process.
    pub(crate) fn new_pull(&self) -> ConsumerId {
        self.new_consumer() | PULL
    }

    /// A consumer is gone: what is said to it from now on reaches nobody.
    pub(crate) fn forget(&self, consumer: ConsumerId) {
        self.routes.write().unwrap_or_else(PoisonError::into_inner).remove(&consumer);
    }

    /// Says where a consumer is; before it is asked for.
    pub(crate) fn route(&self, consumer: ConsumerId, route: Route) {
        self.routes.write().unwrap_or_else(PoisonError::into_inner).insert(consumer, route);
    }

    /// A consumer takes nothing more, and what becomes of what it has is said by `stop`.
    pub(crate) fn stop(&self, consumer: ConsumerId, stop: Stop) -> Answer<Result<Outcome, Refusal>> {
        let stopped = self.ask(Command::Stop(consumer, stop));
        self.forget(consumer);
        stopped
    }

    /// A namespace whose sockets consume. Returns its number here.
    pub(crate) fn admit(&self, namespace: &Arc<NamespaceInner>) -> u16 {
        let mut namespaces = self.namespaces.write().unwrap_or_else(PoisonError::into_inner);
        namespaces.push(Arc::downgrade(namespace));
        u16::try_from(namespaces.len() - 1).expect("invariant: queues are not given to 65,536 servers of a process")
    }

    /// From now on somebody wants to hear what happens.
    pub(crate) fn watch(&self) {
        self.is_watched.store(true, Ordering::Relaxed);
    }

    /// Gives a message back that nobody here wants: it did not fail.
    pub(crate) fn give_back(&self, id: MessageId, token: Token) {
        drop(self.ask(Command::Settle(vec![Settle { id, token, verdict: Verdict::Release }])));
    }

    /// What was answered to settlements, or what is answered when they are asked for again: a store that is behind has changed nothing.
    pub(crate) async fn settle_after(&self, settles: &[Settle], mut answered: Settling) -> Settling {
        for _ in 1..TRIES {
            if !matches!(answered, Err(StoreError::Busy { .. } | StoreError::Full { .. })) {
                break;
            }
            tokio::time::sleep(PAUSE).await;
            answered = self.ask(Command::Settle(settles.to_vec())).await;
        }
        answered
    }

    /// The queue of a message that is there, or whose result is kept.
    pub(crate) async fn queue_of(&self, id: MessageId) -> Result<QueueName, QueueError> {
        match self.call(Command::Get(id)).await? {
            Outcome::Ended(queue, _) => Ok(queue),
            Outcome::Messages(found) if !found.is_empty() => Ok(found[0].queue.clone()),
            _ => Err(Refusal::UnknownMessage(id).into()),
        }
    }

    /// Waits for the end of a message, which is told of one that keeps its result. That another one is done is told nobody: it is looked at now
    /// and then, and at the end, unless `keeps` says that this one does keep it.
    ///
    /// # Errors
    /// [`QueueError::Pending`] when it did not end in time, [`QueueError::Refused`] when nothing is known of it, any more.
    pub(crate) async fn end_of(&self, id: MessageId, keeps: bool, patience: Duration) -> Result<End, QueueError> {
        let (number, mut ended) = {
            let (tell, ended) = oneshot::channel();
            let number = self.waits.fetch_add(1, Ordering::Relaxed);
            self.waiting().entry(id).or_default().push((number, tell));
            self.waiters.fetch_add(1, Ordering::Relaxed);
            (number, ended)
        };
        let _waiting = Waiting { hub: self, id, number };
        let until = Instant::now().checked_add(patience);
        // It may have ended before.
        if let Some(end) = self.look_for_end(id).await? {
            return Ok(end);
        }
        let mut next = FIRST_LOOK;
        loop {
            let left = until.map_or(patience, |until| until.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Err(QueueError::Pending(id));
            }
            let nap = if keeps { left } else { left.min(next) };
            match tokio::time::timeout(nap, &mut ended).await {
                Ok(Ok(end)) => return Ok(end),
                Ok(Err(_)) => return Err(QueueError::Pending(id)),
                Err(_) => next = (next * 2).min(LAST_LOOK),
            }
            match self.look_for_end(id).await {
                Ok(Some(end)) => return Ok(end),
                Ok(None) | Err(QueueError::Store(StoreError::Busy { .. })) => {}
                // How it ended may be on its way.
                Err(gone @ QueueError::Refused(Refusal::UnknownMessage(_))) => {
                    let told = tokio::time::timeout(FIRST_LOOK, &mut ended).await;
                    return told.ok().and_then(Result::ok).ok_or(gone);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// How a message ended, if it has.
    async fn look_for_end(&self, id: MessageId) -> Result<Option<End>, QueueError> {
        match self.call(Command::Get(id)).await? {
            Outcome::Ended(_, end) => Ok(Some(end)),
            // It is kept for a while, but not for whoever waits.
            Outcome::Messages(found) if found.first().is_some_and(|found| found.state == State::Dead) => {
                let why = found[0].history.last().map(|(_, why)| why.clone());
                Ok(Some(End::Dead(why.unwrap_or_default())))
            }
            Outcome::Messages(found) if found.is_empty() => Err(Refusal::UnknownMessage(id).into()),
            _ => Ok(None),
        }
    }

    /// Waits for the result of a message; `keeps` as in [`Hub::end_of`].
    pub(crate) async fn result_of(
        &self,
        id: MessageId,
        keeps: bool,
        patience: Duration,
    ) -> Result<Payload, QueueError> {
        match self.end_of(id, keeps, patience).await? {
            End::Done(result) => Ok(Payload::from_stored(result.unwrap_or_default())),
            End::Dead(why) => Err(QueueError::Failed(Failure::Dead(why.to_string()))),
            End::Expired => Err(QueueError::Failed(Failure::Expired)),
            End::Removed => Err(QueueError::Failed(Failure::Removed)),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiters> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn namespaces(&self) -> RwLockReadGuard<'_, Vec<Weak<NamespaceInner>>> {
        self.namespaces.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// What happened. Called by the thread that commits.
    fn hear(&self, effects: Vec<Effect>) {
        let mut mail: SmallVec<[Mail; 4]> = SmallVec::new();
        let mut news = Vec::new();
        let count = effects.len();
        {
            let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
            for effect in effects {
                let consumer = match &effect {
                    Effect::Granted(delivery) => delivery.consumer,
                    Effect::Revoked { consumer, .. } | Effect::Finished(consumer) => *consumer,
                    _ => {
                        self.hear_news(effect, &mut news);
                        continue;
                    }
                };
                match routes.get(&consumer) {
                    Some(Route::Socket { namespace, worker }) => {
                        let place = (*namespace, *worker);
                        match mail.iter_mut().find(|(there, _)| *there == place) {
                            Some((_, all)) => all.push(effect),
                            None => {
                                let mut all = Vec::with_capacity(count);
                                all.push(effect);
                                mail.push((place, all));
                            }
                        }
                    }
                    // Whoever drops it has stopped, and what was given to it comes back by that.
                    Some(Route::Here(worker)) => _ = worker.send(effect),
                    // It has stopped meanwhile: what it has is free, or stays leased if that was wanted.
                    None => {}
                }
            }
        }
        if mail.is_empty() && news.is_empty() {
            return;
        }
        let namespaces = self.namespaces().clone();
        for ((namespace, worker), effects) in mail {
            if let Some(namespace) = namespaces.get(usize::from(namespace)).and_then(Weak::upgrade) {
                local::post_effects(&namespace, worker, effects);
            }
        }
        if !news.is_empty() {
            let news = Arc::new(news);
            namespaces.iter().filter_map(Weak::upgrade).for_each(|namespace| local::post_news(&namespace, &news));
        }
    }

    fn hear_news(&self, effect: Effect, news: &mut Vec<News>) {
        let is_watched = self.is_watched.load(Ordering::Relaxed);
        match effect {
            Effect::Ended { queue, id, end } => {
                if self.waiters.load(Ordering::Relaxed) > 0 {
                    let waiting = self.waiting().remove(&id).unwrap_or_default();
                    self.waiters.fetch_sub(waiting.len(), Ordering::Relaxed);
                    waiting.into_iter().for_each(|(_, tell)| _ = tell.send(end.clone()));
                }
                if is_watched {
                    let (kind, value) = match end {
                        End::Done(result) => ("done", result.map(Payload::from_stored)),
                        End::Dead(why) => ("dead", Payload::new(&*why).ok()),
                        End::Expired => ("expired", None),
                        End::Removed => ("removed", None),
                    };
                    news.push(News { queue, kind, id, value });
                }
            }
            Effect::Progress { queue, id, value } if is_watched => {
                news.push(News { queue, kind: "progress", id, value: Some(Payload::from_stored(value)) });
            }
            _ => {}
        }
    }

    /// Takes the right to keep the time, which one has.
    pub(crate) fn take_clock(self: &Arc<Self>) -> Option<Clock> {
        let is_first = !self.has_clock.swap(true, Ordering::AcqRel);
        is_first.then(|| Clock { hub: Arc::downgrade(self), news: self.news.clone() })
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.queues.listen(None);
        self.news.notify_one();
    }
}

/// Somebody who waits for the end of a message, until this is dropped.
struct Waiting<'a> {
    hub: &'a Hub,
    id: MessageId,
    number: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut waiting = self.hub.waiting();
        let Some(all) = waiting.get_mut(&self.id) else { return };
        let before = all.len();
        all.retain(|(number, _)| *number != self.number);
        self.hub.waiters.fetch_sub(before - all.len(), Ordering::Relaxed);
        if all.is_empty() {
            waiting.remove(&self.id);
        }
    }
}

/// Keeps the time of queues whose store does not.
pub(crate) struct Clock {
    hub: Weak<Hub>,
    news: Arc<Notify>,
}

impl Clock {
    /// As long as somebody has the queues. Begins with what a process before this one has left behind.
    pub(crate) async fn run(self) {
        if let Some(hub) = self.hub.upgrade() {
            // Nobody can come back as one of these.
            if let Ok(Outcome::Consumers(orphans)) = hub.call(Command::Orphans).await {
                let routes = || hub.routes.read().unwrap_or_else(PoisonError::into_inner);
                let lost = orphans.into_iter().filter(|orphan| orphan & PULL == 0 && !routes().contains_key(orphan));
                lost.for_each(|orphan| drop(hub.ask(Command::Stop(orphan, Stop::Return))));
            }
        }
        loop {
            let next = {
                let Some(hub) = self.hub.upgrade() else { return };
                if hub.capabilities.keeps_time {
                    // Notified when something is asked for the first time, and when the hub is no more.
                    drop(hub);
                    self.news.notified().await;
                    continue;
                }
                hub.was_asked.store(false, Ordering::Relaxed);
                hub.queues.tick(now())
            };
            let nap = next.map(|Timestamp(at)| Duration::from_millis(at.saturating_sub(now().0)).min(LONGEST_NAP));
            let was_asked = match nap {
                None => {
                    self.news.notified().await;
                    true
                }
                Some(nap) => tokio::time::timeout(nap, self.news.notified()).await.is_ok(),
            };
            if was_asked {
                // What is next may be sooner now. Under load that is looked at so often, and not with everything that is asked.
                tokio::time::sleep(PRECISION).await;
            }
        }
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        if let Some(hub) = self.hub.upgrade() {
            hub.has_clock.store(false, Ordering::Release);
        }
    }
}
