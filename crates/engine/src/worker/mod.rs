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

mod ahead;
mod api;
mod connection;
mod core;
mod deflate;
mod direct;
mod driver;
mod ending;
mod files;
mod handle;
mod mailbox;
mod outgoing;
mod polling;
mod pool;
mod pulse;
mod queue;
mod reactor;
mod sync;
mod tasks;
mod timing;
mod turn;
mod websocket;
mod wheel;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use posthaste_engine_proto::{CloseReason, Sid, Transport, Wire};
use posthaste_websocket_proto::Inflater;
use tokio::sync::{Notify, watch};

use crate::application::WorkerApplication;
use crate::config::EngineConfig;
use crate::gate::{Gate, Ticket};
use crate::request::Request;
pub(crate) use connection::{Cut, Reply};
use core::Core;
pub use deflate::Deflated;
pub(crate) use direct::{HEAD_BYTES, HEAD_TIMEOUT, Listening};
pub(crate) use driver::Goodbye;
pub use handle::{WorkerGone, WorkerHandle};
pub use mailbox::together;
use mailbox::{Mail, Mailbox};
pub(crate) use polling::{GetAnswer, PostAnswer, PostRefused, SessionFacts};
pub use pool::Workers;
pub use pulse::WorkerStalls;
pub(crate) use reactor::Reactor;
use tasks::{Handler, Polled, Tasks};
pub use turn::{Frames, Staged};

/// More room for mail than this is not kept once it is taken.
const MAIL_KEPT: usize = 4096;

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
    /// POSTs that came by mail, to be gone on with once all mail is applied.
    posted: RefCell<Vec<ConnectionId>>,
    /// Set once the turn task was notified.
    turn_wanted: Cell<bool>,
    /// Notified when an earlier deadline appeared.
    wheel_changed: Notify,
    /// The buffer streams are read into.
    scratch: RefCell<Vec<u8>>,
    /// The decompressor that is lent to connections whose clients keep no context.
    inflater: RefCell<Option<Box<Inflater>>>,
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
    /// The buffer HTTP answers are written into.
    answer: RefCell<Vec<u8>>,
    due: RefCell<timing::Ticking>,
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
    Then(Box<dyn FnOnce()>),
}

fn report_stall(worker: u16, taken: Duration) {
    tracing::warn!(
        worker,
        milliseconds = taken.as_millis(),
        "worker stalled: something kept it from its other connections; heavy work belongs on spawn_blocking"
    );
}

thread_local! {
    static CURRENT: RefCell<Option<Worker>> = const { RefCell::new(None) };
}

/// What `ask` finds of this thread's worker; nothing on a thread that ends, which may drop what asks.
fn current<T>(ask: impl FnOnce(&Option<Worker>) -> Option<T>) -> Option<T> {
    CURRENT.try_with(|current| ask(&current.borrow())).ok().flatten()
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
            posted: RefCell::default(),
            turn_wanted: Cell::new(false),
            wheel_changed: Notify::new(),
            scratch: RefCell::new(vec![0; driver::SCRATCH]),
            inflater: RefCell::default(),
            now: Cell::new(now),
            stopping: Cell::new(None),
            stop_http: watch::Sender::new(false),
            goodbyes: driver::Goodbyes::default(),
            registry,
            listening: RefCell::default(),
            date: direct::Date::default(),
            answer: RefCell::default(),
            due: RefCell::default(),
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
            self.mailbox.notify().notify_one();
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
        // The room of a burst is not kept.
        if batch.capacity() <= MAIL_KEPT {
            *self.mail.borrow_mut() = batch;
        }
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

    fn stage_shared(&self, frames: &Bytes) -> Staged {
        if frames.len() > turn::SHARE_ABOVE {
            self.flush_a_full_turn();
            let mut core = self.core.borrow_mut();
            core.turn_shared += frames.len();
            Staged { piece: turn::Piece::Shared(frames.clone()), turn: core.turn_number }
        } else {
            self.stage(frames)
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

    /// A handler has been polled. If that made a stall of this turn, its application says whose it was.
    fn blame(&self, owner: ConnectionId, tag: u32) {
        let Some(taken) = self.mailbox.pulse.blame() else { return };
        let app = self.core.borrow().get(owner).map(|connection| connection.app);
        match app {
            Some(app) => self.call_app(app, |app| app.stalled(owner, tag, taken)),
            None => report_stall(self.mailbox.index, taken),
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
            let posted = std::mem::take(&mut *self.posted.borrow_mut());
            if woken.is_empty() && posted.is_empty() && self.deferred.borrow().is_empty() {
                return;
            }
            // What was put off before a POST came is done before its packets are looked at.
            self.settle();
            for id in posted {
                self.continue_post(id);
            }
            for number in woken {
                self.busy.set(true);
                let resumed = self.tasks.resume(number);
                self.busy.set(false);
                let Some(((owner, tag), polled)) = resumed else { continue };
                self.blame(owner, tag);
                if let Polled::Done { panicked } = polled {
                    if panicked {
                        self.handler_panicked(owner, tag);
                    }
                    self.handler_finished(owner);
                }
            }
            self.settle();
        }
    }

    /// Does what was put off, unless a handler or application call is on the stack, or mail is being applied: what is done here
    /// comes after everything that was posted.
    fn settle(&self) {
        // What is done here may ask for the same: it joins the queue, or ten thousand ends at once would be as many calls deep.
        if self.busy.get() || self.taking_mail.get() || self.settling.replace(true) {
            return;
        }
        let _settling = Reset(&self.settling);
        while let Some(deferred) = { self.deferred.borrow_mut().pop_front() } {
            match deferred {
                Deferred::Start(owner, tag, handler) => {
                    self.start(owner, tag, handler);
                    self.blame(owner, tag);
                }
                Deferred::Closed(app, id, reason) => self.call_app(app, |app| app.close(id, reason)),
                Deferred::Free(slot) => self.core.borrow_mut().free(slot),
                Deferred::Then(then) => then(),
            }
        }
    }

    /// Has something done behind what was put off before.
    fn put_off(&self, then: impl FnOnce() + 'static) {
        self.deferred.borrow_mut().push_back(Deferred::Then(Box::new(then)));
        self.want_turn();
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
        wire: Wire,
        ticket: Option<Ticket>,
        transport: Transport,
        place: Option<u32>,
    ) -> Option<(ConnectionId, Sid)> {
        if self.has_ended(app) {
            return None;
        }
        let config = self.app(app).config;
        let (id, sid) = self.core.borrow_mut().open(place, app, transport, wire, ticket, &config, self.now.get());
        self.rearm(id);
        Some((id, sid))
    }

    /// Says what each client is told first, and tells the application of a session whose open packet is under way.
    fn opened(&self, app: AppIndex, id: ConnectionId, request: &Arc<Request>) {
        let initial = self.app(app).config.initial_message.clone();
        if let Some(initial) = initial {
            let staged = self.stage_shared(initial.bytes());
            self.deliver(&staged, std::iter::once(id.slot), false);
        }
        self.call_app(app, |app| app.open(id, request));
    }
}
