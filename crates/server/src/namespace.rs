//! A path within a server, with sockets and handlers of its own.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, Weak};

use posthaste_adapter::Adapter;

use crate::handler::{
    BoxedCheck, BoxedConnect, BoxedDisconnect, BoxedEvent, ConnectHandler, DisconnectHandler, EventHandler, Middleware,
};
use crate::local::LocalNode;
use crate::room_events::RoomWatch;
use crate::server::{Inner, Server};
use crate::server_side::ServerEvents;

/// A path within a server (`/`, `/chat`): clients join it over the connection they have. Cloning it shares it.
#[derive(Clone)]
pub struct Namespace(pub(crate) Arc<NamespaceInner>);

pub(crate) struct NamespaceInner {
    pub(crate) name: Arc<str>,
    /// Its number in the server; each worker finds its half by it.
    pub(crate) number: u32,
    pub(crate) server: Weak<Inner>,
    pub(crate) adapter: Arc<dyn Adapter>,
    router: RwLock<Arc<Router>>,
    /// Counts changes of the router, so that workers can keep a copy of it without locking.
    version: AtomicU64,
    ack_ids: AtomicU64,
    pub(crate) server_events: ServerEvents,
    pub(crate) rooms: RoomWatch,
}

/// The handlers of a namespace. Registering one makes a new table, so that dispatch never waits for a registration.
#[derive(Clone, Default)]
pub(crate) struct Router {
    pub(crate) events: HashMap<Arc<str>, Arc<BoxedEvent>>,
    pub(crate) fallback: Option<Arc<BoxedEvent>>,
    pub(crate) middlewares: Vec<Arc<BoxedCheck>>,
    pub(crate) connect: Vec<Arc<BoxedConnect>>,
    pub(crate) disconnect: Vec<Arc<BoxedDisconnect>>,
}

impl Namespace {
    pub(crate) fn new(name: &str, number: u32, server: Weak<Inner>, adapter: Arc<dyn Adapter>) -> Self {
        let namespace = Arc::new(NamespaceInner {
            name: name.into(),
            number,
            server,
            rooms: RoomWatch::default(),
            adapter,
            router: RwLock::default(),
            version: AtomicU64::new(0),
            ack_ids: AtomicU64::new(0),
            server_events: ServerEvents::default(),
        });
        LocalNode::start(&namespace);
        Self(namespace)
    }

    /// The name, with its leading slash.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The server.
    ///
    /// # Panics
    /// When the server was dropped: a namespace does not keep it.
    #[must_use]
    pub fn server(&self) -> Server {
        Server(self.0.server.upgrade().expect("the server of this namespace was dropped"))
    }

    /// Handles an event of every socket in this namespace. A later registration for the same event replaces an earlier one.
    pub fn on<Args>(&self, event: &str, handler: impl EventHandler<Args>) -> &Self {
        let handler: Arc<BoxedEvent> = Arc::new(Box::new(move |cx| handler.call(cx)));
        self.0.change(|router| drop(router.events.insert(event.into(), handler)));
        self
    }

    /// Handles every event that nothing else handles.
    pub fn fallback<Args>(&self, handler: impl EventHandler<Args>) -> &Self {
        let handler: Arc<BoxedEvent> = Arc::new(Box::new(move |cx| handler.call(cx)));
        self.0.change(|router| router.fallback = Some(handler));
        self
    }

    /// Calls `handler` for each socket that has joined. It starts before the socket's first event.
    pub fn on_connect<Args>(&self, handler: impl ConnectHandler<Args>) -> &Self {
        let handler: Arc<BoxedConnect> = Arc::new(Box::new(move |cx| handler.call(cx)));
        self.0.change(|router| router.connect.push(handler));
        self
    }

    /// Asks `check` before a socket joins: an error refuses it. Checks run one after the other, in the order of registration.
    pub fn middleware<Args>(&self, check: impl Middleware<Args>) -> &Self {
        let check: Arc<BoxedCheck> = Arc::new(Box::new(move |cx| check.call(cx)));
        self.0.change(|router| router.middlewares.push(check));
        self
    }

    /// Calls `handler` for each socket that has left, with the reason. It is in no room any more.
    pub fn on_disconnect<Args>(&self, handler: impl DisconnectHandler<Args>) -> &Self {
        let handler: Arc<BoxedDisconnect> = Arc::new(Box::new(move |cx| handler.call(cx)));
        self.0.change(|router| router.disconnect.push(handler));
        self
    }
}

impl NamespaceInner {
    fn change(&self, change: impl FnOnce(&mut Router)) {
        let mut router = self.router.write().unwrap_or_else(PoisonError::into_inner);
        change(Arc::make_mut(&mut router));
        self.version.fetch_add(1, Ordering::Release);
    }

    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    pub(crate) fn router(&self) -> Arc<Router> {
        self.router.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The id of the next question; all sockets of the namespace share the counter, so that one question to many has one id.
    pub(crate) fn next_ack_id(&self) -> u64 {
        self.ack_ids.fetch_add(1, Ordering::Relaxed)
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Namespace").field(&self.name()).finish()
    }
}
