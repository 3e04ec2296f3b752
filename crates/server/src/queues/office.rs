//! What all workers know of a namespace whose clients use queues.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use posthaste_adapter::SocketId;
use rustc_hash::FxHashMap;

use super::hub::Hub;
use super::verbs::QueueVerb;
use crate::local::Holder;
use crate::socket::Socket;

/// Decides who may do what.
pub(crate) type Permit = Arc<dyn Fn(&Socket, QueueVerb, &str) -> bool + Send + Sync>;

/// What clients may do, and how much.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) permit: Option<Permit>,
    pub(crate) grace: Duration,
    pub(crate) max_consumers: usize,
    pub(crate) max_prefetch: u32,
}

/// The most sessions that may come back to what they have.
const MAX_PARKED: usize = 100_000;

pub(crate) struct Office {
    pub(crate) hub: Arc<Hub>,
    pub(crate) settings: Settings,
    /// The number of the namespace in the hub.
    pub(crate) number: u16,
    /// The bytes that the consumers of one socket have together at a time.
    pub(crate) max_bytes: u64,
    /// What sockets have that lost their connection and may come back.
    parked: Mutex<FxHashMap<SocketId, Box<Holder>>>,
}

impl Office {
    pub(crate) fn new(hub: Arc<Hub>, settings: Settings, number: u16, max_bytes: u64) -> Self {
        Self { hub, settings, number, max_bytes, parked: Mutex::default() }
    }

    pub(crate) fn permits(&self, socket: &Socket, verb: QueueVerb, queue: &str) -> bool {
        self.settings.permit.as_ref().is_some_and(|permit| permit(socket, verb, queue))
    }

    /// Keeps what a socket has for the one that comes back in its place. Gives it back if there are too many.
    pub(crate) fn park(&self, id: SocketId, holder: Box<Holder>) -> Result<(), Box<Holder>> {
        let mut parked = self.lock();
        if parked.len() >= MAX_PARKED {
            return Err(holder);
        }
        parked.insert(id, holder);
        Ok(())
    }

    pub(crate) fn unpark(&self, id: SocketId) -> Option<Box<Holder>> {
        self.lock().remove(&id)
    }

    /// Looks at what is kept for a socket.
    pub(crate) fn with_parked<R>(&self, id: SocketId, look: impl FnOnce(&mut Holder) -> R) -> Option<R> {
        self.lock().get_mut(&id).map(|holder| look(holder))
    }

    fn lock(&self) -> MutexGuard<'_, FxHashMap<SocketId, Box<Holder>>> {
        self.parked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
