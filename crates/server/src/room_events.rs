//! Which rooms there are, and what happens to them.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use posthaste_adapter::{Room, RoomEvent, RoomLedger};
use posthaste_engine::Worker;

use crate::local;
use crate::namespace::{Namespace, NamespaceInner};
use crate::server::Server;

/// Who is told of rooms.
pub(crate) type RoomListener = Arc<dyn Fn(&RoomEvent) + Send + Sync>;

/// Who wants to hear of a namespace's rooms. While nobody does, nothing is counted.
#[derive(Default)]
pub(crate) struct RoomWatch {
    on: AtomicBool,
    ledger: Mutex<RoomLedger>,
}

impl RoomWatch {
    /// Whether somebody wants to hear of rooms.
    pub(crate) fn is_on(&self) -> bool {
        self.on.load(Ordering::Acquire)
    }
}

impl Namespace {
    /// Calls `listener` whenever a room of this server is created, joined, left or deleted, from now on: a room is created before
    /// its first socket joins it and deleted after the last one has left. Each socket joins the room of its own id when it
    /// connects, and leaves it when it is gone.
    ///
    /// Events come one at a time, in the order in which they happened, on whichever worker's thread it is: a listener must not
    /// block. It may join and leave rooms itself; those events come after it has returned.
    ///
    /// ```
    /// # let io = posthaste::Server::new()?;
    /// use posthaste::RoomEvent;
    /// io.namespace("/chat").on_room_event(|event| {
    ///     if let RoomEvent::Joined(room, socket) = event {
    ///         println!("{socket} is in {room}");
    ///     }
    /// });
    /// # Ok::<(), posthaste::BuildError>(())
    /// ```
    pub fn on_room_event(&self, listener: impl Fn(&RoomEvent) + Send + Sync + 'static) -> &Self {
        self.change(|router| router.room_listeners.push(Arc::new(listener)));
        // Nobody is in a parent; its children begin with its listeners.
        if !self.is_parent() {
            self.0.watch_rooms();
        }
        self
    }

    /// The rooms of this server's sockets with the number of sockets in each, those of the sockets' own ids left out.
    pub fn rooms(&self) -> impl Future<Output = BTreeMap<Room, usize>> + Send + 'static + use<> {
        let sizes = |namespace: Self| local::gather(&namespace.0, &(), |local, number, ()| local.room_sizes(number));
        let asked: Vec<_> = self.each().into_iter().map(sizes).collect();
        async move {
            let mut rooms = BTreeMap::new();
            for sizes in asked {
                for (room, members) in sizes.await {
                    *rooms.entry(room).or_default() += members;
                }
            }
            rooms
        }
    }
}

impl Server {
    /// Calls `listener` whenever something happens to a room of the main namespace; see [`Namespace::on_room_event`].
    pub fn on_room_event(&self, listener: impl Fn(&RoomEvent) + Send + Sync + 'static) -> &Self {
        self.main().on_room_event(listener);
        self
    }

    /// The rooms of the main namespace; see [`Namespace::rooms`].
    pub fn rooms(&self) -> impl Future<Output = BTreeMap<Room, usize>> + Send + 'static + use<> {
        self.main().rooms()
    }
}

impl NamespaceInner {
    /// Has every worker tell of its rooms from now on.
    pub(crate) fn watch_rooms(self: &Arc<Self>) {
        let Some(server) = self.server.upgrade() else { return };
        {
            let mut ledger = self.ledger();
            if self.rooms.is_on() {
                return;
            }
            ledger.begin(server.workers.handles().len());
            self.rooms.on.store(true, Ordering::Release);
        }
        for handle in server.workers.handles() {
            let namespace = self.clone();
            let job = move |_: &Worker| {
                if let Some(local) = local::of(&namespace.server) {
                    local.watch_rooms(namespace.number());
                }
                namespace.note_rooms(RoomLedger::seeded);
            };
            // Posted on the worker's own thread as well: whoever makes a namespace may be in the middle of a listener's call.
            // A worker that has ended has no rooms.
            let _ = handle.post(job);
        }
    }

    /// Notes what happened to rooms and tells whoever listens, unless that is being done: then it is told there.
    ///
    /// Calls the application: nothing may be borrowed.
    pub(crate) fn note_rooms(&self, note: impl FnOnce(&mut RoomLedger)) {
        let mut next = {
            let mut ledger = self.ledger();
            note(&mut ledger);
            ledger.take()
        };
        while let Some(event) = next {
            for listener in &self.router().room_listeners {
                // A panic is in the log by the panic hook, and keeps nobody else from hearing of rooms.
                local::guarded(|| listener(&event));
            }
            if matches!(event, RoomEvent::Created(_) | RoomEvent::Deleted(_)) && self.adapter().follows_rooms() {
                self.adapter().room_changed(&event);
            }
            next = self.ledger().done();
        }
    }

    fn ledger(&self) -> std::sync::MutexGuard<'_, RoomLedger> {
        self.rooms.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes members that were there before anybody listened.
    pub(crate) fn seed_rooms<'a>(&self, rooms: impl Iterator<Item = (&'a Room, usize)>) {
        let mut ledger = self.ledger();
        rooms.for_each(|(room, members)| ledger.seed(room, members));
    }
}

impl fmt::Debug for RoomWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoomWatch").field("on", &self.is_on()).finish_non_exhaustive()
    }
}
