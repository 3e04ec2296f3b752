//! The I/O workers: threads that own connections.
//!
//! A worker is one thread with a single-threaded tokio runtime. Everything about its connections is a plain value in
//! [`Core`](core::Core); user code (handlers, applications) never runs while that value is borrowed, so handlers may call back
//! into the worker that is polling them.
//!
//! ```text
//!   turn:  bytes of ready streams ─► packets ─► application ─► handlers, polled in place
//!          mail from elsewhere     ─► jobs, woken handlers
//!          the wheel               ─► pings, timeouts
//!          end of the turn         ─► one write per connection that has something to say
//! ```
//!
//! The driver here ([`driver`]) gives each stream a small local task. The first connection that has something to say notifies
//! the turn task, which queues behind every task that is ready: when it runs, the turn is over.

mod connection;
mod core;
mod direct;
mod driver;
mod mailbox;
mod polling;
mod reactor;
mod tasks;
mod turn;
mod websocket;
mod wheel;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use posthaste_engine_proto::limits::slowest;
use posthaste_engine_proto::session::deadline_after;
use posthaste_engine_proto::{CloseReason, Limit, Outbox, Query, Sid, Transport};
use tokio::sync::{Notify, watch};

use crate::application::{Application, WorkerApplication};
use crate::config::EngineConfig;
use crate::gate::{Gate, Ticket};
use crate::request::Request;
pub(crate) use connection::{Cut, Reply};
use core::Core;
pub(crate) use direct::{HEAD_BYTES, HEAD_TIMEOUT, Listening};
pub(crate) use driver::Goodbye;
use mailbox::{Mail, Mailbox};
pub(crate) use polling::{GetAnswer, PostAnswer, PostRefused, SessionFacts};
pub(crate) use reactor::Reactor;
use tasks::{Handler, Polled, Tasks};
pub use turn::{Frames, Staged};

/// What a job that waits takes besides what it sends, about.
const JOB_BYTES: usize = 512;

/// A turn that takes longer than this is reported: something kept the worker from its other connections.
const STALL: Duration = Duration::from_millis(100);

/// Names a connection for as long as the process lives: the place it is in, and which of its tenants it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId {
    /// The worker that owns it.
    pub worker: u16,
    /// Its place there; unique among the worker's open connections.
    pub slot: u32,
    /// Counts the tenants of that place.
    pub generation: u32,
}

/// An application's number in each worker.
pub(crate) type AppIndex = u16;

/// A worker, on its own thread. Cheap to clone; never leaves the thread.
#[derive(Clone)]
pub struct Worker(Rc<Local>);

pub(crate) struct Local {
    mailbox: Arc<Mailbox>,
    core: RefCell<Core>,
    apps: RefCell<Vec<AppEntry>>,
    tasks: Tasks,
    /// What must not run inside another handler or application call.
    deferred: RefCell<VecDeque<Deferred>>,
    /// Set while a handler or an application call runs.
    busy: Cell<bool>,
    /// Set while what was put off is being done.
    settling: Cell<bool>,
    /// Set while mail is being applied.
    taking_mail: Cell<bool>,
    mail: RefCell<Vec<Mail>>,
    woken: RefCell<Vec<u32>>,
    /// Set once the turn task was notified.
    turn_wanted: Cell<bool>,
    /// Notified when an earlier deadline appeared.
    wheel_changed: Notify,
    /// The buffer streams are read into.
    scratch: RefCell<Vec<u8>>,
    now: Cell<Instant>,
    /// Set once the worker is to end: by then at the latest.
    stopping: Cell<Option<Instant>>,
    /// Tells the listeners' connections to end.
    stop_http: watch::Sender<bool>,
    goodbyes: driver::Goodbyes,
    /// Registers sockets with this worker's own reactor.
    registry: mio::Registry,
    /// The sockets that reactor accepts from.
    listening: RefCell<Vec<Rc<Listening>>>,
    date: direct::Date,
}

#[derive(Clone)]
pub(crate) struct AppEntry {
    pub(crate) app: Rc<dyn WorkerApplication>,
    pub(crate) config: Arc<EngineConfig>,
    pub(crate) gate: Arc<Gate>,
    /// Whether it takes no connections any more.
    closed: bool,
}

/// Clears a flag when its scope is left, by a panic too.
struct Reset<'a>(&'a Cell<bool>);

impl Drop for Reset<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

enum Deferred {
    Closed(AppIndex, ConnectionId, CloseReason),
    /// A place may have a new tenant: everything before this in the queue knew the old one.
    Free(u32),
    Start(ConnectionId, u32, Handler),
}

thread_local! {
    static CURRENT: RefCell<Option<Worker>> = const { RefCell::new(None) };
}

/// The worker has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the worker has ended")]
pub struct WorkerGone;

/// A worker, from anywhere.
#[derive(Clone)]
pub struct WorkerHandle(Arc<Mailbox>);

impl WorkerHandle {
    /// The worker's number, from 0.
    #[must_use]
    pub fn index(&self) -> u16 {
        self.0.index
    }

    /// How many connections it owns.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.0.load.load(Ordering::Relaxed)
    }

    /// Runs `job` on the worker, behind everything posted before. Jobs run one after the other and must not block.
    ///
    /// # Errors
    /// [`WorkerGone`] when the worker has ended; the job is dropped.
    pub fn post(&self, job: impl FnOnce(&Worker) + Send + 'static) -> Result<(), WorkerGone> {
        self.0.post(Mail::Job(Box::new(job))).map_err(|_| WorkerGone)
    }

    /// As [`WorkerHandle::post`], for a job that sends `bytes`. Returns whether more waits than should: whoever can wait then
    /// waits for [`WorkerHandle::caught_up`].
    ///
    /// # Errors
    /// As [`WorkerHandle::post`].
    pub fn post_bytes(&self, bytes: usize, job: impl FnOnce(&Worker) + Send + 'static) -> Result<bool, WorkerGone> {
        // A job and its queue's entry are worth something too.
        self.0.post_bytes(Mail::Job(Box::new(job)), bytes + JOB_BYTES).map_err(|_| WorkerGone)
    }

    /// Whether more waits to be sent than should.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.0.is_behind()
    }

    /// Waits until the worker has taken what was posted to be sent, if that is more than should wait.
    ///
    /// # Cancel safety
    /// Safe.
    pub fn caught_up(&self) -> impl Future<Output = ()> + Send + use<> {
        let mailbox = self.0.clone();
        async move { mailbox.caught_up().await }
    }

    /// Runs `job` on the worker and brings back what it returns: at once when called on the worker's own thread.
    ///
    /// # Errors
    /// [`WorkerGone`] when the worker ended before it ran the job.
    ///
    /// # Cancel safety
    /// The job runs whether or not the future is awaited to its end.
    pub fn call<R: Send + 'static, J: FnOnce(&Worker) -> R + Send + 'static>(
        &self,
        job: J,
    ) -> impl Future<Output = Result<R, WorkerGone>> + Send + use<R, J> {
        let (now, later) = match Worker::current_of(self) {
            Some(worker) if worker.0.mailbox.is_closed() => {
                drop(worker);
                (Some(Err(WorkerGone)), None)
            }
            Some(worker) => {
                worker.0.start_clock();
                worker.0.apply_mail();
                let result = job(&worker);
                worker.0.settle();
                (Some(Ok(result)), None)
            }
            None => {
                let (reply, answer) = tokio::sync::oneshot::channel();
                let posted = self.post(move |worker| drop(reply.send(job(worker))));
                match posted {
                    Ok(()) => (None, Some(answer)),
                    Err(gone) => (Some(Err(gone)), None),
                }
            }
        };
        async move {
            match (now, later) {
                (Some(result), _) => result,
                (None, Some(answer)) => answer.await.map_err(|_| WorkerGone),
                (None, None) => Err(WorkerGone),
            }
        }
    }
}

impl std::fmt::Debug for WorkerHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WorkerHandle({})", self.index())
    }
}

/// A set of workers. Cloning shares it; the threads end with [`Workers::shutdown`], or when the last clone is dropped.
#[derive(Clone)]
pub struct Workers(Arc<Pool>);

struct Pool {
    handles: Vec<WorkerHandle>,
    threads: Mutex<Vec<thread::JoinHandle<()>>>,
}

impl Workers {
    /// Starts `count` workers (at least one, at most 256: a session id has a byte for its worker).
    ///
    /// # Errors
    /// When a thread or its reactor cannot be made.
    pub fn start(count: usize) -> io::Result<Self> {
        let count = count.clamp(1, 256);
        let mut handles = Vec::with_capacity(count);
        let mut threads = Vec::with_capacity(count);
        for index in 0..count {
            let mailbox = Arc::new(Mailbox::new(u16::try_from(index).expect("invariant: at most 256 workers")));
            handles.push(WorkerHandle(mailbox.clone()));
            let (started, outcome) = std::sync::mpsc::channel();
            let spawned =
                thread::Builder::new().name(format!("posthaste-{index}")).spawn(move || driver::run(mailbox, &started));
            let failed = match spawned {
                Ok(thread) => {
                    threads.push(thread);
                    // A worker that ends without a word has panicked, and says so itself.
                    outcome.recv().unwrap_or_else(|_| Err(io::Error::other("the worker ended at its start"))).err()
                }
                Err(error) => Some(error),
            };
            if let Some(error) = failed {
                // Ends those that run already.
                drop(Self(Arc::new(Pool { handles, threads: Mutex::new(threads) })));
                return Err(error);
            }
        }
        Ok(Self(Arc::new(Pool { handles, threads: Mutex::new(threads) })))
    }

    /// Starts one worker per available core.
    ///
    /// # Errors
    /// As [`Workers::start`].
    pub fn start_default() -> io::Result<Self> {
        Self::start(thread::available_parallelism().map_or(1, usize::from))
    }

    /// The workers, by number.
    #[must_use]
    pub fn handles(&self) -> &[WorkerHandle] {
        &self.0.handles
    }

    /// The worker whose thread this is, else the one with the fewest connections.
    #[must_use]
    pub fn nearest(&self) -> &WorkerHandle {
        let here = CURRENT.with_borrow(|current| {
            let current = current.as_ref()?;
            self.0.handles.iter().find(|handle| Arc::ptr_eq(&handle.0, &current.0.mailbox))
        });
        here.unwrap_or_else(|| {
            let least = self.0.handles.iter().min_by_key(|handle| handle.connections());
            least.expect("invariant: there is at least one worker")
        })
    }

    /// Gives each worker its half of `app`. Returns the application's number, the same on all.
    ///
    /// # Errors
    /// [`WorkerGone`] after a shutdown.
    pub(crate) fn attach(
        &self,
        app: Arc<dyn Application>,
        config: Arc<EngineConfig>,
        gate: Arc<Gate>,
    ) -> Result<AppIndex, WorkerGone> {
        // One registration at a time, or two applications could get different numbers on different workers.
        let _order = self.0.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let (reply, answers) = std::sync::mpsc::channel();
        for handle in &self.0.handles {
            let (app, config, gate, reply) = (app.clone(), config.clone(), gate.clone(), reply.clone());
            let job = move |worker: &Worker| {
                let half = app.attach(worker);
                let mut apps = worker.0.apps.borrow_mut();
                apps.push(AppEntry { app: half, config, gate, closed: false });
                // Nobody waits any more if another worker has ended.
                let _ = reply.send(AppIndex::try_from(apps.len() - 1).expect("invariant: fewer than 65,536 servers"));
            };
            if Worker::current_of(handle).is_some() {
                // Called on a worker: waiting for its own mail would be for ever.
                drop(handle.call(job));
            } else {
                handle.post(job)?;
            }
        }
        drop(reply);
        let mut index = None;
        for _ in &self.0.handles {
            index = Some(answers.recv().map_err(|_| WorkerGone)?);
        }
        index.ok_or(WorkerGone)
    }

    /// Ends every connection with the reason `server shutting down`, writes what waits, and ends the threads. Waits for them,
    /// at most `patience`; returns whether all had ended. Blocks: call it outside of async code.
    pub fn shutdown(&self, patience: Duration) -> bool {
        self.0.stop(patience);
        let until = deadline_after(Instant::now(), patience);
        let mut threads = self.0.threads.lock().unwrap_or_else(PoisonError::into_inner);
        // A thread cannot be joined with a deadline.
        while threads.iter().any(|thread| !thread.is_finished()) && Instant::now() < until {
            thread::sleep(Duration::from_millis(5));
        }
        threads.retain(|thread| !thread.is_finished());
        threads.is_empty()
    }

    /// Ends the connections of one application. Returns whether every worker did so within `patience`.
    pub(crate) fn end_app(&self, app: AppIndex, patience: Duration) -> bool {
        let (reply, answers) = std::sync::mpsc::channel();
        let mut asked = 0;
        for handle in &self.0.handles {
            let reply = reply.clone();
            let job = move |worker: &Worker| {
                worker.0.end_app(app);
                // Nobody waits any more if it took too long.
                let _ = reply.send(());
            };
            // A worker that has ended has ended its connections too.
            let posted = match Worker::current_of(handle) {
                Some(worker) => {
                    job(&worker);
                    true
                }
                None => handle.post(job).is_ok(),
            };
            asked += usize::from(posted);
        }
        let until = deadline_after(Instant::now(), patience);
        (0..asked).all(|_| answers.recv_timeout(until.saturating_duration_since(Instant::now())).is_ok())
    }
}

impl Pool {
    fn stop(&self, patience: Duration) {
        for handle in &self.handles {
            // Gone already: that is what was wanted.
            let _ = handle.post(move |worker| worker.0.stop(patience));
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.stop(driver::GOODBYE);
    }
}

impl Worker {
    /// The worker whose thread this is.
    #[must_use]
    pub fn current() -> Option<Self> {
        CURRENT.with_borrow(Clone::clone)
    }

    /// The worker of `handle`, if this is its thread.
    pub(crate) fn current_of(handle: &WorkerHandle) -> Option<Self> {
        CURRENT
            .with_borrow(|current| current.as_ref().filter(|worker| Arc::ptr_eq(&worker.0.mailbox, &handle.0)).cloned())
    }

    /// This worker, for other threads.
    #[must_use]
    pub fn handle(&self) -> WorkerHandle {
        WorkerHandle(self.0.mailbox.clone())
    }

    /// The time of this turn.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.0.now.get()
    }

    /// Applies the mail that waits, so that what is done next comes after everything posted before.
    ///
    /// A local operation calls this first. Then a task that posted from another thread and goes on here finds its own posts
    /// done, and a broadcast never overtakes the one that provoked it.
    pub fn apply_mail(&self) {
        self.0.apply_mail();
    }

    /// Whether everything posted to this worker so far has been done: a thread that keeps others from posting may then act at once,
    /// where it would otherwise have to post to the worker it is on.
    #[must_use]
    pub fn is_caught_up(&self) -> bool {
        !self.0.mailbox.has_mail() && !self.0.taking_mail.get()
    }

    /// Copies `frames` (a run of complete WebSocket frames) into this turn's buffer, for any number of receivers of this turn.
    #[must_use]
    pub fn stage(&self, frames: &[u8]) -> Staged {
        self.0.stage(frames)
    }

    /// As [`Worker::stage`], but shares the bytes when they are many.
    #[must_use]
    pub fn stage_shared(&self, frames: &Frames) -> Staged {
        self.0.stage_shared(frames)
    }

    /// Sends what was staged this turn to the connections at `slots`. `volatile` skips those that cannot take it at once.
    /// Places without a connection are skipped.
    pub fn deliver(&self, staged: &Staged, slots: impl Iterator<Item = u32>, volatile: bool) -> usize {
        self.0.deliver(staged, slots, volatile)
    }

    /// Sends `frames` to one connection; does nothing if it is gone. Returns whether it was there (and, when `volatile`, able
    /// to take it).
    pub fn send(&self, id: ConnectionId, frames: &[u8], volatile: bool) -> bool {
        self.0.owns(id) && {
            let staged = self.0.stage(frames);
            self.0.deliver(&staged, std::iter::once(id.slot), volatile) == 1
        }
    }

    /// Sends a text message to one connection; does nothing if it is gone. Returns whether it was there.
    pub fn send_text(&self, id: ConnectionId, text: &str) -> bool {
        self.send(id, Frames::text(text).bytes(), false)
    }

    /// Sends a binary message to one connection; does nothing if it is gone. Returns whether it was there.
    pub fn send_binary(&self, id: ConnectionId, data: &[u8]) -> bool {
        self.send(id, Frames::binary(data).bytes(), false)
    }

    /// Closes a connection after what waits for it was sent. The application hears of it with `reason`.
    pub fn close(&self, id: ConnectionId, reason: CloseReason) {
        self.0.start_clock();
        self.0.close(id, reason);
    }

    /// Vouches for a connection: from now on it may send messages of up to
    /// [`max_payload`](crate::EngineConfig::max_payload) bytes.
    pub fn vouch(&self, id: ConnectionId) {
        if let Some(connection) = self.0.core.borrow_mut().get_mut(id).filter(|_| id.worker == self.0.mailbox.index) {
            connection.vouched = true;
        }
    }

    /// Starts a handler of a connection: it is polled in place, up to its first await that has to wait. Called inside another
    /// handler, it starts when that one returns to the worker; called in a job, when all mail that was posted so far is applied.
    ///
    /// A handler that panics ends alone, and its application is told with `tag`. Past the bound of unfinished handlers the
    /// connection is not read any more.
    pub fn start(&self, owner: ConnectionId, tag: u32, handler: Pin<Box<dyn Future<Output = ()>>>) {
        // What a handler does comes after everything posted before, which is not done while mail is being applied.
        if self.0.busy.get() || self.0.taking_mail.get() {
            self.0.deferred.borrow_mut().push_back(Deferred::Start(owner, tag, handler));
            self.0.want_turn();
        } else {
            self.0.start(owner, tag, handler);
        }
    }

    /// This worker's number.
    #[must_use]
    pub fn index(&self) -> u16 {
        self.0.mailbox.index
    }

    /// Whether this is the worker of `handle`.
    #[must_use]
    pub fn is(&self, handle: &WorkerHandle) -> bool {
        Arc::ptr_eq(&self.0.mailbox, &handle.0)
    }

    /// The transport a connection is on; `None` when it is gone.
    #[must_use]
    pub fn transport(&self, id: ConnectionId) -> Option<Transport> {
        self.0.core.borrow().get(id).map(|connection| connection.session.transport())
    }

    /// The session id of a connection: a secret between it and its client. `None` when it is gone.
    #[must_use]
    pub fn sid(&self, id: ConnectionId) -> Option<Sid> {
        self.0.core.borrow().get(id).map(|connection| connection.sid)
    }

    /// How many connections this worker owns.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.0.mailbox.load.load(Ordering::Relaxed)
    }

    /// How many handlers have not finished.
    #[must_use]
    pub fn handlers(&self) -> usize {
        self.0.tasks.len()
    }

    /// Becomes true when the worker ends: its HTTP connections end then too.
    pub(crate) fn http_stopping(&self) -> watch::Receiver<bool> {
        self.0.stop_http.subscribe()
    }

    pub(crate) fn local(&self) -> &Rc<Local> {
        &self.0
    }
}

impl Local {
    fn new(mailbox: Arc<Mailbox>, registry: mio::Registry) -> Self {
        let now = Instant::now();
        Self {
            core: RefCell::new(Core::new(mailbox.clone(), now)),
            tasks: Tasks::new(mailbox.clone()),
            mailbox,
            apps: RefCell::default(),
            deferred: RefCell::default(),
            busy: Cell::new(false),
            settling: Cell::new(false),
            taking_mail: Cell::new(false),
            mail: RefCell::default(),
            woken: RefCell::default(),
            turn_wanted: Cell::new(false),
            wheel_changed: Notify::new(),
            scratch: RefCell::new(vec![0; driver::SCRATCH]),
            now: Cell::new(now),
            stopping: Cell::new(None),
            stop_http: watch::Sender::new(false),
            goodbyes: driver::Goodbyes::default(),
            registry,
            listening: RefCell::default(),
            date: direct::Date::default(),
        }
    }

    fn app(&self, index: AppIndex) -> AppEntry {
        self.apps.borrow()[index as usize].clone()
    }

    fn owns(&self, id: ConnectionId) -> bool {
        id.worker == self.mailbox.index && self.core.borrow().get(id).is_some()
    }

    /// Has the turn task run once everything that is ready has.
    fn want_turn(&self) {
        if !self.turn_wanted.replace(true) {
            self.mailbox.notify.notify_one();
        }
    }

    fn apply_mail(&self) {
        // Jobs use what is below this function, so mail is never applied inside mail; the flag keeps that true.
        if !self.mailbox.has_mail() || self.taking_mail.replace(true) {
            return;
        }
        let worker = Worker::current().expect("invariant: mail is applied on the worker's own thread");
        self.start_clock();
        let mut batch = std::mem::take(&mut *self.mail.borrow_mut());
        self.mailbox.take(&mut batch);
        for mail in batch.drain(..) {
            match mail {
                // A job that panics is a defect of its sender's, and no reason to take everybody's connections down.
                Mail::Job(job) => {
                    if std::panic::catch_unwind(AssertUnwindSafe(|| job(&worker))).is_err() {
                        tracing::error!(worker = self.mailbox.index, "a job panicked");
                    }
                }
                Mail::Wake(task) => self.woken.borrow_mut().push(task),
            }
        }
        *self.mail.borrow_mut() = batch;
        self.taking_mail.set(false);
        // Jobs may have deferred something, and woken handlers wait.
        self.want_turn();
    }

    fn stage(&self, frames: &[u8]) -> Staged {
        self.flush_a_full_turn();
        self.core.borrow_mut().stage(frames)
    }

    fn flush_a_full_turn(&self) {
        let is_full = {
            let core = self.core.borrow();
            core.turn.len() > turn::FLUSH_ABOVE || core.turn_shared > turn::FLUSH_SHARED_ABOVE
        };
        if is_full {
            self.flush();
        }
    }

    fn stage_shared(&self, frames: &Frames) -> Staged {
        if frames.bytes().len() > turn::SHARE_ABOVE {
            self.flush_a_full_turn();
            let mut core = self.core.borrow_mut();
            core.turn_shared += frames.bytes().len();
            Staged { piece: turn::Piece::Shared(frames.bytes().clone()), turn: core.turn_number }
        } else {
            self.stage(frames.bytes())
        }
    }

    fn deliver(&self, staged: &Staged, slots: impl Iterator<Item = u32>, volatile: bool) -> usize {
        let delivered = self.core.borrow_mut().deliver(staged, slots, volatile);
        if delivered > 0 {
            self.want_turn();
        }
        delivered
    }

    fn start(&self, owner: ConnectionId, tag: u32, handler: Handler) {
        self.busy.set(true);
        let polled = self.tasks.start((owner, tag), handler);
        self.busy.set(false);
        match polled {
            Polled::Pending => self.core.borrow_mut().handler_pending(owner, &self.apps.borrow()),
            Polled::Done { panicked: true } => self.handler_panicked(owner, tag),
            Polled::Done { panicked: false } => {}
        }
    }

    fn handler_panicked(&self, owner: ConnectionId, tag: u32) {
        tracing::error!(connection = ?owner, "a handler panicked; its socket is disconnected");
        let app = self.core.borrow().get(owner).map(|connection| connection.app);
        if let Some(app) = app {
            self.call_app(app, |app| app.panicked(owner, tag));
        }
    }

    /// Runs woken handlers and what was put off; each may cause more.
    fn run_ready(&self) {
        loop {
            let woken = std::mem::take(&mut *self.woken.borrow_mut());
            if woken.is_empty() && self.deferred.borrow().is_empty() {
                return;
            }
            for number in woken {
                self.busy.set(true);
                let resumed = self.tasks.resume(number);
                self.busy.set(false);
                if let Some(((owner, tag), Polled::Done { panicked })) = resumed {
                    if panicked {
                        self.handler_panicked(owner, tag);
                    }
                    self.handler_finished(owner);
                }
            }
            self.settle();
        }
    }

    /// Does what was put off, unless a handler or application call is on the stack.
    fn settle(&self) {
        // What is done here may ask for the same: it joins the queue, or ten thousand ends at once would be as many calls deep.
        if self.busy.get() || self.settling.replace(true) {
            return;
        }
        let _settling = Reset(&self.settling);
        while let Some(deferred) = { self.deferred.borrow_mut().pop_front() } {
            match deferred {
                Deferred::Start(owner, tag, handler) => self.start(owner, tag, handler),
                Deferred::Closed(app, id, reason) => self.call_app(app, |app| app.close(id, reason)),
                Deferred::Free(slot) => self.core.borrow_mut().free(slot),
            }
        }
    }

    /// Gives a place to the next tenant once the application was told of the old one's end.
    fn free_later(&self, id: ConnectionId) {
        self.deferred.borrow_mut().push_back(Deferred::Free(id.slot));
        self.want_turn();
    }

    /// Calls an application. Handlers it starts are polled at once: no handler is on the stack here.
    fn call_app(&self, app: AppIndex, call: impl FnOnce(&dyn WorkerApplication)) {
        let app = self.apps.borrow()[usize::from(app)].app.clone();
        // An application may drop what its users gave it, which may panic: no reason to take everybody's connections down.
        if std::panic::catch_unwind(AssertUnwindSafe(|| call(&*app))).is_err() {
            tracing::error!(worker = self.mailbox.index, "an application panicked");
        }
        // What it started inside another handler starts before the next message is looked at.
        self.settle();
    }

    /// A handler that had waited is done: its connection may be read again.
    fn handler_finished(&self, owner: ConnectionId) {
        let resumed = self.core.borrow_mut().handler_finished(owner, &self.apps.borrow());
        if resumed {
            self.want_turn();
            self.continue_post(owner);
        }
    }

    /// Registers a session. `None` when the worker, or the application, takes none any more. What the client is sent first is the
    /// caller's, and then it calls [`Local::opened`].
    fn open(
        &self,
        app: AppIndex,
        request: &Request,
        ticket: Option<Ticket>,
        transport: Transport,
        place: Option<u32>,
    ) -> Option<(ConnectionId, Sid)> {
        if self.has_ended(app) {
            return None;
        }
        let config = self.app(app).config;
        let base64 = Query::parse(request.query()).base64;
        let (id, sid) = self.core.borrow_mut().open(place, app, transport, base64, ticket, &config, self.now.get());
        self.rearm(id);
        Some((id, sid))
    }

    /// Says what each client is told first, and tells the application of a session whose open packet is under way.
    fn opened(&self, app: AppIndex, id: ConnectionId, request: &Arc<Request>) {
        let initial = self.app(app).config.initial_message.clone();
        if let Some(initial) = initial {
            let staged = self.stage_shared(&initial);
            self.deliver(&staged, std::iter::once(id.slot), false);
        }
        self.call_app(app, |app| app.open(id, request));
    }

    /// Has the wheel look at a connection when its session asks for it.
    fn rearm(&self, id: ConnectionId) {
        if self.core.borrow_mut().rearm(id) {
            self.wheel_changed.notify_one();
        }
    }

    /// Ends a connection that the server closes: what waits is sent first.
    fn close(&self, id: ConnectionId, reason: CloseReason) {
        use posthaste_engine_proto::session::CloseDecision;
        if id.worker != self.mailbox.index {
            return;
        }
        let decision = {
            let mut core = self.core.borrow_mut();
            let Some(connection) = core.get_mut(id) else { return };
            let waiting = !connection.out.is_empty() || !connection.outbox.is_empty();
            connection.session.close(self.now.get(), waiting)
        };
        match decision {
            CloseDecision::Already => {}
            CloseDecision::EndStream | CloseDecision::AnswerPoll => self.end(id, reason, connection::Farewell::Quiet),
            CloseDecision::AwaitPoll => {
                // The application is done with it; the session lingers for the poll that fetches the end.
                let late = if reason == CloseReason::ForcedClose { CloseReason::ForcedServerClose } else { reason };
                self.tell_closed(id, late);
                self.rearm(id);
            }
        }
    }

    fn tell_closed(&self, id: ConnectionId, reason: CloseReason) {
        let app = {
            let mut core = self.core.borrow_mut();
            let Some(connection) = core.get_mut(id) else { return };
            if std::mem::replace(&mut connection.told, true) {
                return;
            }
            connection.app
        };
        self.deferred.borrow_mut().push_back(Deferred::Closed(app, id, reason));
        self.want_turn();
    }

    /// Time has passed.
    fn tick(&self, now: Instant) {
        let mut due = Vec::new();
        self.core.borrow_mut().wheel.take_due(now, &mut due);
        if due.is_empty() {
            return;
        }
        let mut pinged = Vec::new();
        for (tick, entry) in due {
            let id = ConnectionId { worker: self.mailbox.index, slot: entry.slot, generation: entry.generation };
            {
                let mut core = self.core.borrow_mut();
                let Some(connection) = core.get_mut(id) else {
                    drop(core);
                    self.http_waited(id, tick, now);
                    continue;
                };
                if connection.wheel_tick != Some(tick) {
                    continue; // an entry that was replaced by an earlier one
                }
                connection.wheel_tick = None;
            }
            if self.tick_one(id, now) {
                pinged.push(entry.slot);
            }
        }
        self.ping(&pinged);
        self.settle();
    }

    /// Does now what the wheel would do a little later: whoever asks for a session finds it as its deadline left it.
    fn catch_up(&self, id: ConnectionId) {
        let now = self.now.get();
        let is_due = self.core.borrow().get(id).is_some_and(|connection| connection.session.deadline() <= now);
        if is_due {
            if self.tick_one(id, now) {
                self.ping(&[id.slot]);
            }
            self.settle();
        }
    }

    /// Time has passed for one connection. Returns whether it is to be sent a ping.
    fn tick_one(&self, id: ConnectionId, now: Instant) -> bool {
        let due = {
            let mut core = self.core.borrow_mut();
            let Some(connection) = core.get_mut(id) else { return false };
            let settings = &self.apps.borrow()[connection.app as usize].config.settings;
            if connection.paused {
                connection.session.excuse(now, settings);
            }
            connection.session.tick(now, settings)
        };
        if due.close_probe {
            self.drop_probe(id);
        }
        if due.noop {
            self.answer_with_noop(id);
        }
        if let Some(reason) = due.close {
            self.end(id, reason, connection::Farewell::Quiet);
            return false;
        }
        self.rearm(id);
        due.ping
    }

    fn ping(&self, slots: &[u32]) {
        if slots.is_empty() {
            return;
        }
        let mut ping = Vec::new();
        posthaste_websocket_proto::append_frame(&mut ping, posthaste_websocket_proto::Opcode::Text, b"2");
        let staged = self.stage(&ping);
        self.deliver(&staged, slots.iter().copied(), false);
    }

    /// Whether an application takes no connections any more.
    pub(crate) fn has_ended(&self, app: AppIndex) -> bool {
        self.stopping.get().is_some() || self.app(app).closed
    }

    /// Memory is short: ends the connections of `app` that read slowest, until `excess` bytes less wait.
    pub(crate) fn shed(&self, app: AppIndex, excess: u64) {
        // What this turn produced counts as well.
        self.flush();
        let AppEntry { gate, .. } = self.app(app);
        let slow = {
            let core = self.core.borrow();
            let waiting = core.ids().filter_map(|id| {
                let connection = core.get(id)?;
                (connection.app == app && !connection.told).then(|| (id, connection.outbox.bytes()))
            });
            slowest(waiting, excess)
        };
        for id in slow {
            if gate.forbids(Limit::Shed) {
                tracing::warn!(connection = ?id, "disconnected: memory is short, and it reads slowly");
                // What waits for it is what there is to gain, here and in the kernel: no goodbye.
                if let Some(connection) = self.core.borrow_mut().get_mut(id) {
                    connection.outbox = Outbox::default();
                }
                self.end(id, CloseReason::Slow, connection::Farewell::Gone);
            }
        }
        self.settle();
    }

    /// Ends every connection, and then the worker: when all handlers have finished, or when `patience` is over.
    fn stop(&self, patience: Duration) {
        if self.stopping.get().is_none() {
            self.stopping.set(Some(deadline_after(Instant::now(), patience)));
            self.stop_http.send_replace(true);
        }
        self.end_all(None);
        self.want_turn();
    }

    /// Ends every connection, or those of one application.
    fn end_all(&self, app: Option<AppIndex>) {
        let all: Vec<ConnectionId> = {
            let core = self.core.borrow();
            core.ids().filter(|id| app.is_none_or(|app| core.get(*id).is_some_and(|one| one.app == app))).collect()
        };
        for id in all {
            self.end(id, CloseReason::ServerShutdown, connection::Farewell::Quiet);
        }
    }

    /// Ends an application: its connections now, and those that would come later.
    fn end_app(&self, app: AppIndex) {
        if let Some(entry) = self.apps.borrow_mut().get_mut(usize::from(app)) {
            entry.closed = true;
        }
        self.end_all(Some(app));
        self.settle();
        self.want_turn();
    }
}
