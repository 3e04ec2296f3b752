//! The handlers of a namespace.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use super::Namespace;
use crate::handler::{
    BoxedCheck, BoxedConnect, BoxedDisconnect, BoxedError, BoxedEvent, BoxedEventCheck, ConnectHandler,
    DisconnectHandler, ErrorHandler, EventHandler, EventMiddleware, Middleware,
};
use crate::room_events::RoomListener;
use crate::server::Server;
use crate::server_side::BoxedServerEvent;

/// The handlers of a namespace. Registering one makes a new table, so that dispatch never waits for a registration, and a child
/// begins with its parent's by a reference count.
#[derive(Clone, Default)]
pub(crate) struct Router {
    pub(crate) events: HashMap<Arc<str>, Arc<BoxedEvent>>,
    pub(crate) fallback: Option<Arc<BoxedEvent>>,
    pub(crate) middlewares: Vec<Arc<BoxedCheck>>,
    pub(crate) event_middlewares: Vec<Arc<BoxedEventCheck>>,
    pub(crate) error: Option<Arc<BoxedError>>,
    pub(crate) connect: Vec<Arc<BoxedConnect>>,
    pub(crate) disconnect: Vec<Arc<BoxedDisconnect>>,
    /// For what other servers send.
    pub(crate) server_events: HashMap<Arc<str>, Arc<BoxedServerEvent>>,
    pub(crate) room_listeners: Vec<RoomListener>,
}

impl Router {
    /// What handles an event.
    pub(crate) fn handler(&self, event: &str) -> Option<&BoxedEvent> {
        self.events.get(event).or(self.fallback.as_ref()).map(Arc::as_ref)
    }
}

impl Namespace {
    pub(crate) fn change(&self, change: impl FnOnce(&mut Router)) {
        {
            let mut router = self.0.router.write().unwrap_or_else(PoisonError::into_inner);
            change(Arc::make_mut(&mut router));
            self.0.version.fetch_add(1, Ordering::Release);
        }
        // What is registered while it is made will be registered again when it is made again.
        if self.0.is_child()
            && self.0.is_settled()
            && let Some(registry) = self.0.registry.upgrade()
        {
            registry.keep(self);
        }
    }
}

/// Where handlers are registered: a namespace, or a server for its main namespace.
macro_rules! registers {
    ($name:ty, $namespace:expr) => {
        impl $name {
            /// Handles an event of every socket in this namespace. A later registration for the same event replaces an earlier one.
            pub fn on<Args>(&self, event: &str, handler: impl EventHandler<Args>) -> &Self {
                let handler: Arc<BoxedEvent> = Arc::new(Box::new(move |cx| handler.call(cx)));
                $namespace(self).change(|router| drop(router.events.insert(event.into(), handler)));
                self
            }

            /// Handles every event that nothing else handles.
            pub fn fallback<Args>(&self, handler: impl EventHandler<Args>) -> &Self {
                let handler: Arc<BoxedEvent> = Arc::new(Box::new(move |cx| handler.call(cx)));
                $namespace(self).change(|router| router.fallback = Some(handler));
                self
            }

            /// Calls `handler` for each socket that has joined. It starts before the socket's first event.
            pub fn on_connect<Args>(&self, handler: impl ConnectHandler<Args>) -> &Self {
                let handler: Arc<BoxedConnect> = Arc::new(Box::new(move |cx| handler.call(cx)));
                $namespace(self).change(|router| router.connect.push(handler));
                self
            }

            /// Asks `check` before a socket joins: an error refuses it. Checks run one after the other, in the order of
            /// registration.
            pub fn middleware<Args>(&self, check: impl Middleware<Args>) -> &Self {
                let check: Arc<BoxedCheck> = Arc::new(Box::new(move |cx| check.call(cx)));
                $namespace(self).change(|router| router.middlewares.push(check));
                self
            }

            /// Asks `check` before an event of a client reaches its handler: an error drops the event, and the socket stays
            /// (Socket.IO's `socket.use`).
            ///
            /// Checks run one after the other, in the order of registration, for every event, known or not; answers to
            /// acknowledgements are no events. A refusal goes to the handler of [`on_error`](Self::on_error); a client that waits
            /// for an answer gets `{"error": "<the error's text>"}`. Events whose checks have to wait may be overtaken by later
            /// ones, as handlers that wait are.
            ///
            /// ```
            /// # use posthaste::{Event, Server, Socket};
            /// # #[derive(Clone)] struct Muted;
            /// # let io = Server::builder().workers(1).build()?;
            /// io.event_middleware(async |socket: Socket, Event(name): Event| match socket.get::<Muted>() {
            ///     Some(_) if name == "say" => Err("muted"),
            ///     _ => Ok(()),
            /// });
            /// # Ok::<(), posthaste::BuildError>(())
            /// ```
            pub fn event_middleware<Args>(&self, check: impl EventMiddleware<Args>) -> &Self {
                let check: Arc<BoxedEventCheck> = Arc::new(Box::new(move |cx| check.call(cx)));
                $namespace(self).change(|router| router.event_middlewares.push(check));
                self
            }

            /// Calls `handler` when an event middleware refused an event; it takes the refusal as
            /// [`EventError`](crate::EventError). A later registration replaces an earlier one.
            ///
            /// A handler that takes [`Ack`](crate::Ack) answers the client itself; otherwise a client that waits gets the error's
            /// text. Without any handler refusals are only logged (level debug).
            pub fn on_error<Args>(&self, handler: impl ErrorHandler<Args>) -> &Self {
                let handler: Arc<BoxedError> = Arc::new(Box::new(move |cx| handler.call(cx)));
                $namespace(self).change(|router| router.error = Some(handler));
                self
            }

            /// Calls `handler` for each socket that has left, with the reason. It is in no room any more.
            pub fn on_disconnect<Args>(&self, handler: impl DisconnectHandler<Args>) -> &Self {
                let handler: Arc<BoxedDisconnect> = Arc::new(Box::new(move |cx| handler.call(cx)));
                $namespace(self).change(|router| router.disconnect.push(handler));
                self
            }
        }
    };
}

registers!(Namespace, |namespace: &Namespace| namespace.clone());
registers!(Server, Server::main);
