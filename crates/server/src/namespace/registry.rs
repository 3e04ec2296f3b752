//! All namespaces of a server: found, made, and forgotten.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};

use posthaste_adapter::MemoryAdapter;
use tokio::sync::Notify;

use super::adapter::AdapterCell;
use super::matcher::{Matched, Matcher};
use super::params::Values;
use super::router::Router;
use super::{Kind, Namespace, NamespaceInner};
use crate::config::MakeAdapter;
use crate::error::ConnectError;
use crate::local::{Behind, LocalNode};
use crate::once::{Idempotency, OnceWindow};
use crate::recovery::{Journals, random};
use crate::room_events::RoomWatch;
use crate::server::Inner;

/// What is told of new namespaces.
type Hook = Arc<dyn Fn(&Namespace) + Send + Sync>;

/// The namespaces of a server.
pub(crate) struct Registry {
    server: Weak<Inner>,
    adapter: MakeAdapter,
    bounds: Bounds,
    /// Of the namespaces, when clients are recovered.
    journals: Option<Journals>,
    idempotency: Option<Idempotency>,
    table: RwLock<Table>,
    /// In the order of registration.
    parents: RwLock<Arc<Vec<Parent>>>,
    hooks: RwLock<Vec<Hook>>,
    numbers: Arc<Numbers>,
}

/// How many namespaces clients may have made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// How many may be at a time.
    pub(crate) max_dynamic: usize,
    /// Whether those that nobody is in are forgotten.
    pub(crate) cleanup: bool,
}

#[derive(Default)]
struct Table {
    by_name: HashMap<Arc<str>, Entry>,
    main: Option<Namespace>,
    /// How many of them are children.
    children: usize,
}

enum Entry {
    /// There to stay.
    Kept(Namespace),
    /// There while a socket, a handler, mail or the application has hold of it.
    Lent(Weak<NamespaceInner>),
}

impl Entry {
    fn get(&self) -> Option<Namespace> {
        match self {
            Self::Kept(namespace) => Some(namespace.clone()),
            Self::Lent(namespace) => namespace.upgrade().map(Namespace),
        }
    }
}

/// A parent and the names it matches.
#[derive(Clone)]
pub(crate) struct Parent {
    pub(crate) matcher: Arc<Matcher>,
    pub(crate) namespace: Namespace,
}

impl Registry {
    pub(crate) fn new(
        server: Weak<Inner>,
        adapter: MakeAdapter,
        bounds: Bounds,
        journals: Option<Journals>,
        idempotency: Option<Idempotency>,
    ) -> Self {
        Self {
            server,
            adapter,
            bounds,
            journals,
            idempotency,
            table: RwLock::default(),
            parents: RwLock::default(),
            hooks: RwLock::default(),
            numbers: Arc::default(),
        }
    }

    pub(crate) fn main(&self) -> Namespace {
        self.read().main.clone().expect("invariant: the main namespace is made with the server")
    }

    pub(crate) fn find(&self, name: &str) -> Option<Namespace> {
        self.read().by_name.get(name).and_then(Entry::get)
    }

    /// The application's namespace of that name: one that is there, a child if the name matches a parent, or a plain one.
    pub(crate) fn open(self: &Arc<Self>, name: &str) -> Namespace {
        if let Some(namespace) = self.find(name) {
            return namespace;
        }
        let parents = self.parents();
        let parent = parents.iter().find_map(|parent| match parent.matcher.matches(name) {
            Matched::Yes(params) => Some((&parent.namespace, params)),
            Matched::No | Matched::Ask => None,
        });
        let (namespace, made) = {
            let mut table = self.write();
            match table.by_name.get(name).and_then(Entry::get) {
                Some(namespace) => (namespace, false),
                None => (self.insert(&mut table, name, parent), true),
            }
        };
        if made {
            self.begin(&namespace);
        }
        namespace
    }

    /// A client's namespace of that name, made if it is not there by now. Tells whether it was.
    ///
    /// # Errors
    /// The refusal, when there are as many as may be.
    pub(crate) fn child(
        self: &Arc<Self>,
        parent: &Namespace,
        name: &str,
        params: Values,
    ) -> Result<(Namespace, bool), ConnectError> {
        let namespace = {
            let mut table = self.write();
            if let Some(namespace) = table.by_name.get(name).and_then(Entry::get) {
                return Ok((namespace, false));
            }
            if table.children >= self.bounds.max_dynamic {
                return Err(ConnectError::new("The server has too many namespaces"));
            }
            self.insert(&mut table, name, Some((parent, params)))
        };
        self.begin(&namespace);
        Ok((namespace, true))
    }

    pub(crate) fn parents(&self) -> Arc<Vec<Parent>> {
        self.parents.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The parent that matches so; `text` is what it is known by, and the same text is the same parent.
    pub(crate) fn parent(self: &Arc<Self>, text: &str, matcher: Matcher) -> Namespace {
        let mut parents = self.parents.write().unwrap_or_else(PoisonError::into_inner);
        let same = |parent: &&Parent| {
            parent.namespace.name() == text
                && match (&*parent.matcher, &matcher) {
                    (Matcher::Pattern(_), Matcher::Pattern(_)) | (Matcher::Regex(_), Matcher::Regex(_)) => true,
                    // Two functions are never known to be the same.
                    _ => false,
                }
        };
        if let Some(parent) = parents.iter().find(same) {
            return parent.namespace.clone();
        }
        let namespace = self.unreachable(text);
        Arc::make_mut(&mut parents).push(Parent { matcher: Arc::new(matcher), namespace: namespace.clone() });
        namespace
    }

    /// A namespace that nobody joins: it stands for its children, if it gets any.
    pub(crate) fn unreachable(self: &Arc<Self>, name: &str) -> Namespace {
        let namespace = self.make(name.into(), Kind::Parent(Mutex::default()), Arc::default());
        // Nothing is delivered by it: each of its children has an adapter.
        LocalNode::start(&namespace.0, Arc::new(MemoryAdapter::new()));
        namespace.0.settle();
        namespace
    }

    pub(crate) fn on_new(&self, hook: impl Fn(&Namespace) + Send + Sync + 'static) {
        self.hooks.write().unwrap_or_else(PoisonError::into_inner).push(Arc::new(hook));
    }

    pub(crate) const fn journals(&self) -> Option<&Journals> {
        self.journals.as_ref()
    }

    /// The server has ended: other servers are not to wait for it.
    pub(crate) fn close(&self) {
        let all: Vec<Namespace> = self.read().by_name.values().filter_map(Entry::get).collect();
        // Each goes its way whether or not it is awaited.
        all.iter().filter_map(|namespace| namespace.0.adapter.made()).for_each(|adapter| drop(adapter.close()));
    }

    pub(crate) const fn cleans_up(&self) -> bool {
        self.bounds.cleanup
    }

    /// The application gave a child handlers of its own, which would be lost with it: it stays.
    pub(super) fn keep(&self, namespace: &Namespace) {
        let mut table = self.write();
        if let Some(entry) = table.by_name.get_mut(&namespace.0.name) {
            *entry = Entry::Kept(namespace.clone());
        }
    }

    /// A child is gone. Another of its name may have taken its place.
    pub(super) fn forget(&self, child: &NamespaceInner) {
        let mut table = self.write();
        table.children -= 1;
        let is_its = |entry: &Entry| matches!(entry, Entry::Lent(lent) if std::ptr::eq(lent.as_ptr(), child));
        if table.by_name.get(&child.name).is_some_and(is_its) {
            table.by_name.remove(&child.name);
        }
    }

    fn insert(self: &Arc<Self>, table: &mut Table, name: &str, parent: Option<(&Namespace, Values)>) -> Namespace {
        let name: Arc<str> = name.into();
        let Some((parent, params)) = parent else {
            let namespace = self.make(name.clone(), Kind::Plain, Arc::default());
            if &*name == "/" {
                table.main = Some(namespace.clone());
            }
            table.by_name.insert(name, Entry::Kept(namespace.clone()));
            return namespace;
        };
        let kind = Kind::Child { parent: Arc::downgrade(&parent.0), params };
        let namespace = self.make(name.clone(), kind, parent.0.router());
        if let Kind::Parent(children) = &parent.0.kind {
            let mut children = children.lock().unwrap_or_else(PoisonError::into_inner);
            children.insert(namespace.0.number(), Arc::downgrade(&namespace.0));
        }
        table.children += 1;
        let entry = match self.bounds.cleanup {
            true => Entry::Lent(Arc::downgrade(&namespace.0)),
            false => Entry::Kept(namespace.clone()),
        };
        table.by_name.insert(name, entry);
        namespace
    }

    fn make(self: &Arc<Self>, name: Arc<str>, kind: Kind, router: Arc<Router>) -> Namespace {
        let watchers = AtomicUsize::new(router.outgoing.len());
        let journal = match kind {
            // Nobody is in it.
            Kind::Parent(_) => None,
            Kind::Plain | Kind::Child { .. } => {
                self.journals.as_ref().map(|journals| journals.add(&name, matches!(kind, Kind::Plain)))
            }
        };
        let keeps = journal.as_ref().is_some_and(|journal| journal.kept().is_some());
        let first_id = if keeps { u64::from(u32::from_be_bytes(random())) } else { 0 };
        let namespace = Namespace(Arc::new(NamespaceInner {
            name,
            number: Number::next(&self.numbers),
            server: self.server.clone(),
            adapter: AdapterCell::new(),
            journal,
            office: OnceLock::new(),
            once: self.idempotency.map(|limits| Arc::new(OnceWindow::new(limits))),
            kind,
            registry: Arc::downgrade(self),
            router: RwLock::new(router),
            version: AtomicU64::new(0),
            ack_ids: AtomicU64::new(first_id),
            behind: Behind::default(),
            rooms: RoomWatch::default(),
            watchers,
            settled: AtomicBool::new(false),
            on_settled: Notify::new(),
        }));
        if let Some(keeper) = namespace.0.journal.as_ref().and_then(|journal| journal.kept()) {
            keeper.follow(Arc::downgrade(&namespace.0));
        }
        namespace
    }

    /// A new namespace begins: it gets its adapter, and whoever wants to hear of new ones does. All of that may ask for namespaces,
    /// so nothing is locked; whoever finds this one meanwhile and sends to it waits until its adapter has started.
    fn begin(&self, namespace: &Namespace) {
        let unmade = Unmade { registry: self, namespace };
        LocalNode::start(&namespace.0, (self.adapter)(&namespace.0.name));
        std::mem::forget(unmade);
        self.announce(namespace);
    }

    /// Takes a namespace out whose adapter could not be made.
    fn take_back(&self, namespace: &Namespace) {
        let taken = {
            let mut table = self.write();
            let is_its = |entry: &Entry| match entry {
                Entry::Kept(there) => Arc::ptr_eq(&there.0, &namespace.0),
                Entry::Lent(there) => std::ptr::eq(there.as_ptr(), &raw const *namespace.0),
            };
            let is_there = table.by_name.get(&namespace.0.name).is_some_and(is_its);
            is_there.then(|| table.by_name.remove(&namespace.0.name))
        };
        drop(taken);
        if namespace.0.adapter.made().is_none() {
            // Those who have found it already reach nobody.
            LocalNode::start(&namespace.0, Arc::new(MemoryAdapter::new()));
        }
        namespace.0.settle();
    }

    /// Tells whoever wants to know of a new namespace; then it may be joined, also when one of them panics.
    fn announce(&self, namespace: &Namespace) {
        struct Settle<'a>(&'a NamespaceInner);
        impl Drop for Settle<'_> {
            fn drop(&mut self) {
                self.0.settle();
            }
        }
        let _settle = Settle(&namespace.0);
        if &*namespace.0.name == "/" {
            return;
        }
        let hooks = self.hooks.read().unwrap_or_else(PoisonError::into_inner).clone();
        hooks.iter().for_each(|hook| hook(namespace));
    }

    // What is taken out while one of these is held is dropped behind it: a namespace's end asks for the table.
    fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a namespace back if making its adapter panics.
struct Unmade<'a> {
    registry: &'a Registry,
    namespace: &'a Namespace,
}

impl Drop for Unmade<'_> {
    fn drop(&mut self) {
        self.registry.take_back(self.namespace);
    }
}

/// A namespace's number, given back when the namespace is no more: two that are there never share one.
pub(super) struct Number {
    number: u32,
    from: Arc<Numbers>,
}

#[derive(Default)]
struct Numbers(Mutex<FreeNumbers>);

#[derive(Default)]
struct FreeNumbers {
    next: u32,
    free: Vec<u32>,
}

impl Number {
    fn next(from: &Arc<Numbers>) -> Self {
        let mut numbers = from.0.lock().unwrap_or_else(PoisonError::into_inner);
        let number = numbers.free.pop().unwrap_or_else(|| {
            let number = numbers.next;
            numbers.next = number.checked_add(1).expect("invariant: fewer than 2^32 namespaces fit in memory");
            number
        });
        Self { number, from: from.clone() }
    }

    pub(super) const fn get(&self) -> u32 {
        self.number
    }
}

impl Drop for Number {
    fn drop(&mut self) {
        self.from.0.lock().unwrap_or_else(PoisonError::into_inner).free.push(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Server;

    fn child(io: &Server, name: &str) -> Namespace {
        let parent = io.namespaces("/dyn/{x}").unwrap();
        io.0.registry.child(&parent, name, Values::NONE).unwrap().0
    }

    #[test]
    fn a_number_is_another_namespaces_only_when_nothing_refers_to_the_first() {
        let io = Server::builder().workers(1).cleanup_empty_namespaces(true).build().unwrap();
        let first = child(&io, "/dyn/1");
        let (number, mail) = (first.0.number(), first.0.clone());
        drop(first);
        assert_ne!(child(&io, "/dyn/2").0.number(), number);
        // Still the same one, for the mail that names it.
        assert!(Arc::ptr_eq(&child(&io, "/dyn/1").0, &mail));
        drop(mail);
        assert!(io.find_namespace("/dyn/1").is_none());
        assert!(io.0.registry.read().by_name.len() == 1, "only the main namespace is left");
        assert_eq!(io.0.registry.read().children, 0);
        let (two, three) = (child(&io, "/dyn/2"), child(&io, "/dyn/3"));
        assert!([two.0.number(), three.0.number()].contains(&number), "numbers come back");
    }

    #[test]
    fn a_namespace_whose_end_is_late_takes_none_of_its_name_along() {
        let io = Server::builder().workers(1).cleanup_empty_namespaces(true).build().unwrap();
        let (gone, name) = (child(&io, "/dyn/1"), "/dyn/1");
        // As if its last reference were just being dropped by another thread.
        io.0.registry.write().by_name.insert(name.into(), Entry::Lent(Weak::new()));
        let next = child(&io, name);
        drop(gone);
        assert!(Arc::ptr_eq(&io.find_namespace(name).unwrap().0, &next.0));
        assert_eq!(io.0.registry.read().children, 1);
    }
}
