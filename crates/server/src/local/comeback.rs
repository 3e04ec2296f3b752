//! Coming back: a client shows the secret of a session it had.
//!
//! ```text
//!   CONNECT {pid, offset} ─► attempt ─┬─ another connection is at it ─► that one is closed, its attempt is over ─┐
//!                                     └─ nobody else is ──────────────────────────────────────────────────────┬─┘
//!                                        this process knows the session: resume ◄───────────────────────────────┤
//!                                        only the store does:            revive ◄───────────────────────────────┘
//! ```
//!
//! An attempt may take long: middlewares think, replays are paced, and a client that does not hear of it comes with another one.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use posthaste_engine::{CloseReason, ConnectionId};
use posthaste_history::{Gap, NotRecovered, Pid};

use super::Local;
use super::stored::StoredTrail;
use crate::namespace::Namespace;
use crate::recovery::{Attempt, Claimed, Earlier, Wish};

/// How long an earlier attempt may take to end, once its connection is closed. Then the client starts afresh.
const OVER_WITHIN: Duration = Duration::from_secs(10);
/// How many earlier attempts are waited for, one after the other, before the client starts afresh.
const MOST_EARLIER: usize = 3;

/// As whom a socket is let in.
pub(super) enum Comeback {
    New,
    /// Its session was in this process.
    Claimed(Claimed),
    /// Its session was in the store.
    Revived(Pid, Box<StoredTrail>),
}

/// What an attempt holds, until it or its connection ends.
pub(super) struct Held {
    // Given up before the right to it is.
    pub(super) claimed: Option<Claimed>,
    pub(super) attempt: Attempt,
}

pub(super) type Claim = RefCell<Option<Held>>;

/// Why a client that comes back is not recovered.
pub(super) enum Afresh {
    /// This process knows nothing of it that helps: the store may.
    NotHere,
    /// Nothing is known of it that helps, or it is somebody else's.
    Unknown,
    /// A part of what it missed is forgotten: it is told.
    Gaps(Vec<Gap>),
    /// It has gone again, or was refused.
    Gone,
}

/// One client's attempt.
pub(super) struct Comer<'a> {
    pub(super) id: ConnectionId,
    pub(super) serial: u32,
    pub(super) namespace: &'a Namespace,
    pub(super) auth: Option<Box<str>>,
    pub(super) wish: Wish,
    pub(super) claim: &'a Claim,
}

impl Local {
    /// Takes up the session that a client asks for, if there may be one. Returns whether the client is being seen to.
    pub(super) fn come_back(&self, id: ConnectionId, namespace: &Namespace, auth: Option<&str>) -> bool {
        let (Some(journal), Some(wish)) = (&namespace.0.journal, auth.and_then(Wish::read)) else { return false };
        let earlier = match journal.attempt(wish.pid, id) {
            Ok(attempt) => return self.try_for(id, namespace, auth, wish, attempt),
            Err(earlier) => earlier,
        };
        let Some(this) = self.this.upgrade() else { return false };
        let (namespace, auth) = (namespace.clone(), auth.map(Box::<str>::from));
        let waiting = async move {
            let attempt = this.outlast(id, &namespace, wish.pid, earlier).await;
            if this.with_client(id, |_| ()).is_none() {
                return;
            }
            if !attempt.is_some_and(|attempt| this.try_for(id, &namespace, auth.as_deref(), wish, attempt)) {
                this.begin(id, &namespace, auth.as_deref());
            }
        };
        self.worker.start(id, self.next_serial(), Box::pin(waiting));
        true
    }

    /// Closes whoever is about to take a session up, and waits for its end.
    async fn outlast(
        &self,
        id: ConnectionId,
        namespace: &Namespace,
        pid: Pid,
        mut earlier: Earlier,
    ) -> Option<Attempt> {
        let journal = namespace.0.journal.as_ref()?;
        for _ in 0..MOST_EARLIER {
            for owner in earlier.owners.drain(..).filter(|owner| *owner != id) {
                self.close_anywhere(owner);
            }
            tokio::time::timeout(OVER_WITHIN, earlier.over()).await.ok()?;
            self.with_client(id, |_| ())?;
            match journal.attempt(pid, id) {
                Ok(attempt) => return Some(attempt),
                Err(next) => earlier = next,
            }
        }
        tracing::debug!("a session was not recovered: others want it, too");
        None
    }

    /// Closes a connection, whichever worker's it is.
    fn close_anywhere(&self, id: ConnectionId) {
        if id.worker == self.worker.index() {
            return self.worker.close(id, CloseReason::TransportClose);
        }
        let Some(server) = self.server.upgrade() else { return };
        if let Some(handle) = server.workers.handles().get(usize::from(id.worker)) {
            // A worker that has ended has no connections.
            _ = handle.post(move |worker| worker.close(id, CloseReason::TransportClose));
        }
    }

    /// Returns whether there may be such a session: then the client is seen to.
    fn try_for(
        &self,
        id: ConnectionId,
        namespace: &Namespace,
        auth: Option<&str>,
        wish: Wish,
        attempt: Attempt,
    ) -> bool {
        let Some(journal) = &namespace.0.journal else { return false };
        let claimed = journal.claim(wish.pid);
        if claimed.is_none() && journal.kept().is_none() {
            return false;
        }
        let Some(this) = self.this.upgrade() else { return false };
        let claim = Rc::new(RefCell::new(Some(Held { claimed, attempt })));
        self.claims.borrow_mut().push((id, claim.clone()));
        let (namespace, auth) = (namespace.clone(), auth.map(Box::<str>::from));
        let serial = self.next_serial();
        let trying = async move {
            let comer = Comer { id, serial, namespace: &namespace, auth: auth.clone(), wish, claim: &claim };
            let end = match this.resume(&comer).await {
                Err(Afresh::NotHere) => this.revive(&comer).await,
                end => end,
            };
            this.claims.borrow_mut().retain(|(_, other)| !Rc::ptr_eq(other, &claim));
            drop(claim);
            let gaps = match end {
                Ok(()) | Err(Afresh::Gone) => None,
                Err(Afresh::NotHere | Afresh::Unknown) => Some(Vec::new()),
                Err(Afresh::Gaps(gaps)) => Some(gaps),
            };
            if let Some(gaps) = gaps
                && this.with_client(id, |_| ()).is_some()
            {
                this.begin_with(id, &namespace, auth.as_deref(), gaps);
            }
            // Its half here was made to know what has been delivered, which nobody may need after all.
            if let Some(local) = this.namespace(namespace.0.number()) {
                this.leave_if_empty(&local);
            }
        };
        self.worker.start(id, serial, Box::pin(trying));
        true
    }

    /// A connection is gone: what it was about to take up waits on, however long its middlewares still think about it.
    pub(super) fn give_up_claims(&self, id: ConnectionId) {
        let mut given_up = Vec::new();
        self.claims.borrow_mut().retain(|(owner, claim)| {
            if *owner == id {
                given_up.extend(claim.take());
            }
            *owner != id
        });
        drop(given_up);
    }

    pub(super) fn not_recovered(&self, why: NotRecovered) -> Afresh {
        tracing::debug!(%why, "a session was not recovered");
        Afresh::Unknown
    }
}
