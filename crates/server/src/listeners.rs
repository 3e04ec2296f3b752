//! Listeners: what sees all events, and what one socket has for itself.
//!
//! ```text
//!   event ─► on_any: namespace's, socket's ─► event_middleware: namespace's, socket's ─► once ► on of the socket ► on ► fallback
//! ```
//!
//! A socket's own listeners lie among its values, so that a socket without any is no larger for them, and `listening` tells the
//! event path whether to look there. They usually hold the socket that holds them: they are dropped when it leaves.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::handler::{BoxedEvent, BoxedEventCheck, CatchAll, EventHandler, EventMiddleware};
use crate::local::guarded;
use crate::socket::Socket;

/// A catch-all listener, to take it away again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CatchAllId(u64);

/// Catch-all listeners, in the order of registration.
#[derive(Clone, Default)]
pub(crate) struct CatchAlls(Vec<(CatchAllId, Arc<BoxedEvent>)>);

impl CatchAlls {
    pub(crate) fn add<Args>(&mut self, listener: impl CatchAll<Args>) -> CatchAllId {
        static IDS: AtomicU64 = AtomicU64::new(0);
        let id = CatchAllId(IDS.fetch_add(1, Ordering::Relaxed));
        self.0.push((id, Arc::new(Box::new(move |cx| listener.call(cx)))));
        id
    }

    /// Takes a listener out, if it is there.
    pub(crate) fn remove(&mut self, id: CatchAllId) -> Option<Arc<BoxedEvent>> {
        let place = self.0.iter().position(|(there, _)| *there == id)?;
        Some(self.0.remove(place).1)
    }

    pub(crate) fn contains(&self, id: CatchAllId) -> bool {
        self.0.iter().any(|(there, _)| *there == id)
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) const fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<BoxedEvent>> {
        self.0.iter().map(|(_, listener)| listener)
    }
}

/// A socket has something to find here.
const LISTENS: u8 = 1;
/// It left, or was refused: nothing is kept any more.
const SILENT: u8 = 2;

/// What one socket has for itself.
#[derive(Clone, Default)]
pub(crate) struct Listeners(Arc<Mutex<Table>>);

#[derive(Default)]
struct Table {
    events: HashMap<Box<str>, Handlers>,
    checks: Vec<Arc<BoxedEventCheck>>,
    any: CatchAlls,
    outgoing: CatchAlls,
}

/// What handles an event.
#[derive(Default)]
struct Handlers {
    once: Option<Arc<BoxedEvent>>,
    always: Option<Arc<BoxedEvent>>,
}

impl Listeners {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What handles this event; what is for one event is gone then.
    pub(crate) fn take(&self, event: &str) -> Option<Arc<BoxedEvent>> {
        let mut table = self.lock();
        let handlers = table.events.get_mut(event)?;
        let handler = handlers.once.take().or_else(|| handlers.always.clone());
        if handlers.always.is_none() {
            table.events.remove(event);
        }
        handler
    }

    pub(crate) fn checks(&self) -> Vec<Arc<BoxedEventCheck>> {
        self.lock().checks.clone()
    }

    pub(crate) fn any(&self) -> CatchAlls {
        self.lock().any.clone()
    }

    pub(crate) fn outgoing(&self) -> CatchAlls {
        self.lock().outgoing.clone()
    }
}

impl Socket {
    /// Handles an event of this socket, in place of what the namespace has for it. A later registration for the same event
    /// replaces an earlier one. All that a socket has for itself is dropped when it leaves its namespace, and what is registered
    /// after that is dropped at once; so a handler may hold the socket.
    ///
    /// ```
    /// # use posthaste::{Data, Server, Socket};
    /// # let io = Server::builder().workers(1).build()?;
    /// io.on("begin game", async |socket: Socket| {
    ///     socket.on("move", async |Data((x, y)): Data<(i32, i32)>| println!("moved to {x}, {y}"));
    /// });
    /// io.on("end game", async |socket: Socket| {
    ///     socket.off("move");
    /// });
    /// # Ok::<(), posthaste::BuildError>(())
    /// ```
    pub fn on<Args>(&self, event: &str, handler: impl EventHandler<Args>) -> &Self {
        let handler: Arc<BoxedEvent> = Arc::new(Box::new(move |cx| handler.call(cx)));
        self.change(|table| table.events.entry(event.into()).or_default().always.replace(handler));
        self
    }

    /// Handles the next event of that name, in place of [`Socket::on`]. It is used up also when what it takes is not there. A later
    /// one replaces an earlier one that was not used.
    pub fn once<Args>(&self, event: &str, handler: impl EventHandler<Args>) -> &Self {
        let handler: Arc<BoxedEvent> = Arc::new(Box::new(move |cx| handler.call(cx)));
        self.change(|table| table.events.entry(event.into()).or_default().once.replace(handler));
        self
    }

    /// Takes away what [`Socket::on`] and [`Socket::once`] registered for an event; the namespace's handler is back then. Returns
    /// whether there was anything.
    pub fn off(&self, event: &str) -> bool {
        let Some(listeners) = self.listeners() else { return false };
        let removed = listeners.lock().events.remove(event);
        removed.is_some()
    }

    /// Asks `check` before an event of this socket reaches its handler, behind the middlewares of the namespace; see
    /// [`Namespace::event_middleware`](crate::Namespace::event_middleware).
    pub fn event_middleware<Args>(&self, check: impl EventMiddleware<Args>) -> &Self {
        let check: Arc<BoxedEventCheck> = Arc::new(Box::new(move |cx| check.call(cx)));
        self.change(|table| table.checks.push(check));
        self
    }

    /// Shows `listener` every event that comes from this socket, behind those of the namespace; see
    /// [`Namespace::on_any`](crate::Namespace::on_any).
    pub fn on_any<Args>(&self, listener: impl CatchAll<Args>) -> CatchAllId {
        let mut all = CatchAlls::default();
        let id = all.add(listener);
        self.change(|table| table.any.0.append(&mut all.0));
        id
    }

    /// Shows `listener` every event that is sent to this socket, alone or with others, behind those of the namespace; see
    /// [`Namespace::on_any_outgoing`](crate::Namespace::on_any_outgoing).
    pub fn on_any_outgoing<Args>(&self, listener: impl CatchAll<Args>) -> CatchAllId {
        let mut all = CatchAlls::default();
        let id = all.add(listener);
        self.change(|table| {
            if table.outgoing.is_empty() {
                self.0.namespace.watchers.fetch_add(1, Ordering::Relaxed);
            }
            table.outgoing.0.append(&mut all.0);
        });
        id
    }

    /// Takes away a listener that [`Socket::on_any`] or [`Socket::on_any_outgoing`] of this socket added. Returns whether it was
    /// there.
    pub fn off_any(&self, id: CatchAllId) -> bool {
        let Some(listeners) = self.listeners() else { return false };
        // Dropped when nothing is locked.
        let taken: Vec<_> = {
            let mut table = listeners.lock();
            let watched = !table.outgoing.is_empty();
            let table = &mut *table;
            let taken = [&mut table.any, &mut table.outgoing].into_iter().filter_map(|all| all.remove(id)).collect();
            if watched && table.outgoing.is_empty() {
                self.0.namespace.watchers.fetch_sub(1, Ordering::Relaxed);
            }
            taken
        };
        !taken.is_empty()
    }

    /// What it has for itself, if anything.
    pub(crate) fn listeners(&self) -> Option<Listeners> {
        if self.0.listening.load(Ordering::Acquire) != LISTENS {
            return None;
        }
        self.get()
    }

    /// Drops what it has for itself, and whatever is registered from now on: it leaves.
    pub(crate) fn silence(&self) {
        if self.0.listening.fetch_or(SILENT, Ordering::AcqRel) == 0 {
            // Something that is being made at this moment finds out by itself.
            return;
        }
        let Some(listeners) = self.get::<Listeners>() else { return };
        let table = std::mem::take(&mut *listeners.lock());
        if !table.outgoing.is_empty() {
            self.0.namespace.watchers.fetch_sub(1, Ordering::Relaxed);
        }
        // What an application's closures hold may panic when it is dropped.
        guarded(|| drop(table));
    }

    /// Changes what it has for itself, unless it has left. What the change takes out is dropped when nothing is locked.
    fn change<R>(&self, change: impl FnOnce(&mut Table) -> R) {
        self.0.listening.fetch_or(LISTENS, Ordering::AcqRel);
        let listeners = self.get_or_insert_with(Listeners::default);
        let mut table = listeners.lock();
        // Set before the table is emptied under its lock: either it is seen here, or this change is emptied with the rest.
        if self.0.listening.load(Ordering::Acquire) & SILENT != 0 {
            drop(table);
            return;
        }
        let replaced = change(&mut table);
        drop(table);
        drop(replaced);
    }
}
