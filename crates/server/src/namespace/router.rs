//! The handlers of a namespace.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use rustc_hash::FxHashMap;

use super::Namespace;
use crate::handler::{
    BoxedCheck, BoxedConnect, BoxedDisconnect, BoxedError, BoxedEvent, BoxedEventCheck, CatchAll, ConnectHandler,
    DisconnectHandler, ErrorHandler, EventHandler, EventMiddleware, Middleware,
};
use crate::listeners::{CatchAllId, CatchAlls};
use crate::parser::Parser;
use crate::queues::EventRoute;
use crate::room_events::RoomListener;
use crate::server::Server;
use crate::server_side::BoxedServerEvent;

/// The handlers of a namespace. Registering one makes a new table, so that dispatch never waits for a registration, and a child
/// begins with its parent's by a reference count.
#[derive(Clone, Default)]
pub(crate) struct Router {
    // By names of the application's: clients add none, and so cannot make them collide.
    pub(crate) events: FxHashMap<Arc<str>, Arc<BoxedEvent>>,
    /// By the beginnings of names, the longest first.
    pub(crate) routes: Vec<EventRoute>,
    pub(crate) fallback: Option<Arc<BoxedEvent>>,
    pub(crate) middlewares: Vec<Arc<BoxedCheck>>,
    pub(crate) event_middlewares: Vec<Arc<BoxedEventCheck>>,
    pub(crate) error: Option<Arc<BoxedError>>,
    pub(crate) connect: Vec<Arc<BoxedConnect>>,
    pub(crate) disconnecting: Vec<Arc<BoxedDisconnect>>,
    pub(crate) disconnect: Vec<Arc<BoxedDisconnect>>,
    /// For what other servers send.
    pub(crate) server_events: FxHashMap<Arc<str>, Arc<BoxedServerEvent>>,
    pub(crate) room_listeners: Vec<RoomListener>,
    pub(crate) upgrade: Vec<Arc<BoxedConnect>>,
    /// See what comes.
    pub(crate) any: CatchAlls,
    /// See what goes.
    pub(crate) outgoing: CatchAlls,
    /// The one that clients must speak, if they must.
    pub(crate) parser: Option<Parser>,
}

impl Router {
    /// What handles an event.
    pub(crate) fn handler(&self, event: &str) -> Option<&Arc<BoxedEvent>> {
        let route = || self.routes.iter().find(|route| route.is_for(event)).map(|route| &route.handler);
        self.events.get(event).or_else(route).or(self.fallback.as_ref())
    }

    /// Whether an event has to pass anything before its handler.
    pub(crate) const fn looks_at_events(&self) -> bool {
        !self.event_middlewares.is_empty() || !self.any.is_empty()
    }
}

impl Namespace {
    /// Changes the handlers. What the change takes out is returned: it is the application's, and dropped when nothing is locked.
    pub(crate) fn change<R>(&self, change: impl FnOnce(&mut Router) -> R) -> R {
        let changed = {
            let mut router = self.0.router.write().unwrap_or_else(PoisonError::into_inner);
            let changed = change(Arc::make_mut(&mut router));
            self.0.version.fetch_add(1, Ordering::Release);
            changed
        };
        // What is registered while it is made will be registered again when it is made again.
        if self.0.is_child()
            && self.0.is_settled()
            && let Some(registry) = self.0.registry.upgrade()
        {
            registry.keep(self);
        }
        changed
    }
}

/// Where handlers are registered: a namespace, or a server for its main namespace.
macro_rules! registers {
    ($name:ty, $namespace:expr) => {
        impl $name {
            /// Handles an event of every socket in this namespace. A later registration for the same event replaces an earlier one.
            pub fn on<Args>(&self, event: &str, handler: impl EventHandler<Args>) -> &Self {
                let handler: Arc<BoxedEvent> = Arc::new(Box::new(move |cx| handler.call(cx)));
                $namespace(self).change(|router| router.events.insert(event.into(), handler));
                self
            }

            /// Handles every event that nothing else handles.
            pub fn fallback<Args>(&self, handler: impl EventHandler<Args>) -> &Self {
                let handler: Arc<BoxedEvent> = Arc::new(Box::new(move |cx| handler.call(cx)));
                $namespace(self).change(|router| router.fallback.replace(handler));
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
                $namespace(self).change(|router| router.error.replace(handler));
                self
            }

            /// Calls `handler` for each socket that leaves, with the reason. Its rooms are taken as [`Rooms`](crate::Rooms): an
            /// async function may run when the socket has left them, as it does when another handler or thread disconnects it.
            ///
            /// ```
            /// # use posthaste::{Rooms, Server, Socket};
            /// # let io = Server::builder().workers(1).build()?;
            /// io.on_disconnecting(async |socket: Socket, Rooms(rooms): Rooms| {
            ///     let _ = socket.to(rooms).emit("left", &socket.id()).await;
            /// });
            /// # Ok::<(), posthaste::BuildError>(())
            /// ```
            pub fn on_disconnecting<Args>(&self, handler: impl DisconnectHandler<Args>) -> &Self {
                let handler: Arc<BoxedDisconnect> = Arc::new(Box::new(move |cx| handler.call(cx)));
                $namespace(self).change(|router| router.disconnecting.push(handler));
                self
            }

            /// Calls `handler` for each socket whose client went over from polling to a WebSocket. It is called for each namespace
            /// that the client is in.
            pub fn on_upgrade<Args>(&self, handler: impl ConnectHandler<Args>) -> &Self {
                let handler: Arc<BoxedConnect> = Arc::new(Box::new(move |cx| handler.call(cx)));
                $namespace(self).change(|router| router.upgrade.push(handler));
                self
            }

            /// Shows `listener` every event that comes from a client, before event middlewares and handlers see it, handled or not;
            /// answers to acknowledgements are no events. Listeners are called in the order of registration.
            ///
            /// ```
            /// # use posthaste::{Args, Data, Event, Server, Socket};
            /// # let io = Server::builder().workers(1).build()?;
            /// let id = io.on_any(async |socket: Socket, Event(name): Event, Data(args): Data<Args<'static>>| {
            ///     println!("{} sent {name} with {}", socket.id(), args.raw());
            /// });
            /// io.off_any(id);
            /// # Ok::<(), posthaste::BuildError>(())
            /// ```
            pub fn on_any<Args>(&self, listener: impl CatchAll<Args>) -> CatchAllId {
                $namespace(self).change(|router| router.any.add(listener))
            }

            /// Shows `listener` every event that is sent to a socket of this namespace, alone or with others, once for each socket
            /// that it is for. Answers are no events. Where clients are recovered the last argument is the event's offset.
            ///
            /// What the listener itself sends is shown to it as well, so it must not send something each time: sixteen deep is no
            /// deeper shown, and an async one goes on until the client is disconnected as too slow.
            pub fn on_any_outgoing<Args>(&self, listener: impl CatchAll<Args>) -> CatchAllId {
                let namespace = $namespace(self);
                let id = namespace.change(|router| router.outgoing.add(listener));
                namespace.0.watchers.fetch_add(1, Ordering::Relaxed);
                id
            }

            /// Takes a listener away that [`on_any`](Self::on_any) or [`on_any_outgoing`](Self::on_any_outgoing) of this namespace
            /// added. Returns whether it was there.
            pub fn off_any(&self, id: CatchAllId) -> bool {
                let namespace = $namespace(self);
                let router = namespace.0.router();
                // Nothing is changed, and a namespace not kept, for a listener of another one.
                if !router.any.contains(id) && !router.outgoing.contains(id) {
                    return false;
                }
                let (incoming, outgoing) =
                    namespace.change(|router| (router.any.remove(id), router.outgoing.remove(id)));
                if outgoing.is_some() {
                    namespace.0.watchers.fetch_sub(1, Ordering::Relaxed);
                }
                incoming.is_some() || outgoing.is_some()
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
