//! Many clients at a time, each living one life after the other.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use posthaste_testkit::Random;
use tokio::task::JoinHandle;

use crate::lives;

/// Misfortunes of which more say nothing new.
const ENOUGH: usize = 8;

/// What all clients share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    lives: AtomicU64,
    messages: AtomicU64,
    returns: AtomicU64,
    over: AtomicBool,
    misfortunes: Mutex<Vec<String>>,
}

impl Shared {
    /// A client received something.
    pub(crate) fn count_message(&self) {
        self.messages.fetch_add(1, Ordering::Relaxed);
    }

    /// A client was recovered.
    pub(crate) fn count_return(&self) {
        self.returns.fetch_add(1, Ordering::Relaxed);
    }
}

/// The clients, until they leave.
pub(crate) struct Crowd {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

impl Crowd {
    /// Sends `clients` at a time to the server at `addr`.
    pub(crate) fn start(addr: SocketAddr, clients: usize, seed: u64) -> Self {
        let shared = Arc::<Shared>::default();
        let client = |number: usize| {
            let random = Random::seeded(seed.wrapping_mul(1_000_003).wrapping_add(number as u64));
            tokio::spawn(live_on(addr, random, shared.clone()))
        };
        let clients = (0..clients).map(client).collect();
        Self { shared, clients }
    }

    /// Lives that have ended.
    pub(crate) fn lives(&self) -> u64 {
        self.shared.lives.load(Ordering::Relaxed)
    }

    /// Messages that clients received.
    pub(crate) fn messages(&self) -> u64 {
        self.shared.messages.load(Ordering::Relaxed)
    }

    /// Clients that were recovered.
    pub(crate) fn returns(&self) -> u64 {
        self.shared.returns.load(Ordering::Relaxed)
    }

    /// Lets every client end its life and begin no other. Returns what befell them that should not have.
    pub(crate) async fn leave(self) -> Vec<String> {
        self.shared.over.store(true, Ordering::Relaxed);
        for client in self.clients {
            if let Err(error) = client.await {
                self.shared.misfortunes.lock().unwrap_or_else(PoisonError::into_inner).push(error.to_string());
            }
        }
        std::mem::take(&mut *self.shared.misfortunes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One client.
async fn live_on(addr: SocketAddr, mut random: Random, shared: Arc<Shared>) {
    // Not all at once: a server is met by a queue, not by a wall.
    tokio::time::sleep(Duration::from_millis(random.below(2_000) as u64)).await;
    while !shared.over.load(Ordering::Relaxed) {
        let life = lives::LIVES[random.below(lives::LIVES.len())];
        let one = Random::seeded(random.below(usize::MAX) as u64);
        // A task of its own, since the raw clients panic when something is not as it must be.
        let outcome = match tokio::spawn((life.live)(addr, one, shared.clone())).await {
            Ok(outcome) => outcome.map_err(|error| format!("{error:#}")),
            Err(panic) => Err(panic.to_string()),
        };
        shared.lives.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = outcome
            && !life.hurried
        {
            let mut misfortunes = shared.misfortunes.lock().unwrap_or_else(PoisonError::into_inner);
            if misfortunes.len() < ENOUGH {
                misfortunes.push(format!("a client that {}: {error}", life.what));
            }
        }
    }
}
