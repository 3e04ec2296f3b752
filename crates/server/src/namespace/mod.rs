//! A path within a server, with sockets and handlers of its own.
//!
//! ```text
//!   Registry ─┬─ by name ─► Namespace ─► Router (handlers; copied on write)
//!             └─ parents ─► Matcher + Namespace ─► a child for each name that matches, born with the parent's Router
//! ```

mod adapter;
mod matcher;
mod name;
mod params;
mod registry;
mod router;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, Weak};

use posthaste_adapter::{Adapter, Room};
use rustc_hash::FxHashMap;
use smallvec::{SmallVec, smallvec};
use tokio::sync::Notify;

use self::adapter::AdapterCell;
pub use self::matcher::{IntoAllowed, NamespaceRequest};
pub(crate) use self::matcher::{Matched, Matcher};
pub use self::name::NamespaceError;
pub(crate) use self::name::checked;
pub(crate) use self::params::Values;
pub use self::params::{Params, ParamsError};
use self::registry::Number;
pub(crate) use self::registry::{Bounds, Parent, Registry};
pub(crate) use self::router::Router;
use crate::durable::{DurableError, FIRST_ID, Keeper};
use crate::local::{Behind, guarded};
use crate::once::OnceWindow;
use crate::queues::Office;
use crate::recovery::Journal;
use crate::room_events::RoomWatch;
use crate::server::{Inner, Server};

/// A path within a server (`/`, `/chat`): clients join it over the connection they have. Cloning it shares it.
///
/// One that [`Server::namespaces`] and its siblings return is a *parent*: it stands for all namespaces that clients made by asking
/// for a name it matches. What is registered on it is copied to each of these when it is made, and what is sent to it goes to the
/// sockets of all of them; nobody joins the parent itself.
#[derive(Clone)]
pub struct Namespace(pub(crate) Arc<NamespaceInner>);

pub(crate) struct NamespaceInner {
    pub(crate) name: Arc<str>,
    number: Number,
    pub(crate) server: Weak<Inner>,
    adapter: AdapterCell,
    /// What happened and who may come back, when clients are recovered.
    pub(crate) journal: Option<Arc<Journal>>,
    /// What its workers share of queues, if clients use them here. Set before the server is given out.
    pub(crate) office: OnceLock<Arc<Office>>,
    /// What clients ask for under keys, if they may.
    pub(crate) once: Option<Arc<OnceWindow>>,
    kind: Kind,
    registry: Weak<Registry>,
    router: RwLock<Arc<Router>>,
    /// Counts changes of the router, so that workers can keep a copy of it without locking.
    version: AtomicU64,
    /// Where clients outlive the process it begins anywhere: what they answer late was asked by another.
    ack_ids: AtomicU64,
    pub(crate) behind: Behind,
    pub(crate) rooms: RoomWatch,
    /// How many want to see what is sent: listeners of the namespace, and sockets with such listeners.
    pub(crate) watchers: AtomicUsize,
    /// Whether everyone who wants to hear of new namespaces has heard of this one: before that nobody joins.
    settled: AtomicBool,
    on_settled: Notify,
}

enum Kind {
    /// Opened by its name.
    Plain,
    /// Matches names: the namespaces made for them, by number. They are held by their sockets, or by the registry.
    Parent(Mutex<FxHashMap<u32, Weak<NamespaceInner>>>),
    /// Made because its name matched.
    Child { parent: Weak<NamespaceInner>, params: Values },
}

impl Namespace {
    /// The name, with its leading slash. A parent's is what it matches: the pattern, the regular expression, or `*`.
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

    /// The namespaces that were made because their names matched, in no order; empty if this is no parent.
    #[must_use]
    pub fn children(&self) -> Vec<Self> {
        match &self.0.kind {
            Kind::Parent(_) => self.each().into_vec(),
            Kind::Plain | Kind::Child { .. } => Vec::new(),
        }
    }

    /// The namespaces it stands for: its children if it is a parent, else itself.
    pub(crate) fn each(&self) -> SmallVec<[Self; 1]> {
        match &self.0.kind {
            Kind::Parent(children) => {
                let children = children.lock().unwrap_or_else(PoisonError::into_inner);
                children.values().filter_map(Weak::upgrade).map(Self).collect()
            }
            Kind::Plain | Kind::Child { .. } => smallvec![self.clone()],
        }
    }

    pub(crate) fn is_parent(&self) -> bool {
        matches!(self.0.kind, Kind::Parent(_))
    }
}

impl NamespaceInner {
    /// Its number in the server; each worker finds its half by it. No other namespace has it while this one is referred to, mail on
    /// its way included.
    pub(crate) fn number(&self) -> u32 {
        self.number.get()
    }

    /// What of it outlives the process.
    pub(crate) fn keeper(&self) -> Result<&Arc<Keeper>, DurableError> {
        let none = || DurableError::NoStore(self.name.to_string());
        self.journal.as_ref().ok_or_else(none)?.keeper()
    }

    /// Whether what is sent to these rooms is to be kept.
    pub(crate) fn is_durable(&self, rooms: &[Room]) -> bool {
        let keeper = self.journal.as_ref().and_then(|journal| journal.kept());
        keeper.is_some_and(|keeper| keeper.is_durable(rooms))
    }

    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Who reaches its sockets, here and elsewhere.
    ///
    /// # Panics
    /// In the function that makes this namespace's adapter.
    pub(crate) fn adapter(&self) -> &Arc<dyn Adapter> {
        self.adapter.get(&self.name)
    }

    /// Its adapter is there, and then started by `start`.
    pub(crate) fn start_adapter(&self, adapter: Arc<dyn Adapter>, start: impl FnOnce(&Arc<dyn Adapter>)) {
        self.adapter.start(adapter, start);
    }

    pub(crate) fn router(&self) -> Arc<Router> {
        self.router.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The id of the next question; all sockets of the namespace share the counter, so that one question to many has one id.
    pub(crate) fn next_ack_id(&self) -> u64 {
        // Those of durable questions are above.
        self.ack_ids.fetch_add(1, Ordering::Relaxed) % FIRST_ID
    }

    /// Whether somebody wants to see what is sent to its sockets.
    pub(crate) fn is_watched(&self) -> bool {
        self.watchers.load(Ordering::Relaxed) > 0
    }

    /// What its name gave for the parts that a parent's pattern left open.
    pub(crate) fn params(&self) -> &Values {
        const NONE: &Values = &Values::NONE;
        match &self.kind {
            Kind::Child { params, .. } => params,
            Kind::Plain | Kind::Parent(_) => NONE,
        }
    }

    /// Whether it was made because a client asked for it, and is given up when nobody is in it.
    pub(crate) fn is_child(&self) -> bool {
        matches!(self.kind, Kind::Child { .. })
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Acquire)
    }

    /// Waits until it may be joined.
    pub(crate) async fn settled(&self) {
        let mut settled = std::pin::pin!(self.on_settled.notified());
        settled.as_mut().enable();
        if !self.is_settled() {
            settled.await;
        }
    }

    fn settle(&self) {
        self.settled.store(true, Ordering::Release);
        self.on_settled.notify_waiters();
    }
}

impl Drop for NamespaceInner {
    fn drop(&mut self) {
        // It goes its way whether or not it is awaited.
        if let Some(adapter) = self.adapter.made() {
            drop(adapter.close());
        }
        // What its handlers hold may panic when it is dropped, and whoever is the last to hold a namespace must not.
        let router = std::mem::take(self.router.get_mut().unwrap_or_else(PoisonError::into_inner));
        guarded(|| drop(router));
        let Kind::Child { parent, .. } = &self.kind else { return };
        if let Some(parent) = parent.upgrade()
            && let Kind::Parent(children) = &parent.kind
        {
            children.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.number.get());
        }
        if let Some(registry) = self.registry.upgrade() {
            registry.forget(self);
        }
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Namespace").field(&self.name()).finish()
    }
}
