//! Coming back: a client shows the secret of a session it had.
//!
//! ```text
//!   CONNECT {pid, offset} ─► claim ─┬─ nothing ─────────────────────────────────► a fresh socket
//!                                   ├─ live elsewhere ─► that connection is closed ─┐
//!                                   └─ parked ──────────────────────────────────────┴─► decide ─┬─ no ─► a fresh socket
//!                     middlewares, if asked ◄── yes ────────────────────────────────────────────┘
//!                     missed events, in pages ─► live from here ─► CONNECT with the old id
//! ```

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use posthaste_adapter::{Member, Room};
use posthaste_engine::{CloseReason, ConnectionId, Revision};
use posthaste_history::{NotRecovered, Pid, PidText};
use tokio::sync::oneshot;

use super::recoverable::Tracking;
use super::stored::StoredTrail;
use super::{Local, LocalNamespace};
use crate::durable::{Taking, Whose};
use crate::how::How;
use crate::namespace::{Namespace, NamespaceInner};
use crate::reason::DisconnectReason;
use crate::recovery::{Claimed, Kept, Place, Wish};
use crate::socket::Socket;

/// A replay above this many bytes gives the worker's other connections a turn after each such page.
const PAGE: usize = 64 * 1024;
/// How often a replay is continued with what happened meanwhile before the rest goes out in one piece.
const ROUNDS: usize = 16;

/// As whom a socket is let in.
pub(super) enum Comeback {
    New,
    /// Its session was in this process.
    Claimed(Claimed),
    /// Its session was in the store.
    Revived(Taking, Box<StoredTrail>),
}

/// A claim that its connection's end takes away.
pub(super) type Claim = RefCell<Option<Claimed>>;

impl Local {
    /// Takes up the session that a client asks for, if there is one. Returns whether the client is being seen to.
    pub(super) fn resume(&self, id: ConnectionId, namespace: &Namespace, auth: Option<&str>) -> bool {
        let Some(journal) = &namespace.0.journal else { return false };
        let Some(wish) = auth.and_then(Wish::read) else { return false };
        let Some(claimed) = journal.claim(wish.pid) else { return false };
        let Some(this) = self.this.upgrade() else { return false };
        let former = claimed.elsewhere();
        let claim = Rc::new(RefCell::new(Some(claimed)));
        self.claims.borrow_mut().push((id, claim.clone()));
        let (namespace, auth) = (namespace.clone(), auth.map(Box::from));
        let serial = self.next_serial();
        let resuming = async move {
            if let Some(former) = former {
                this.fence_anywhere(former, &namespace).await;
            }
            this.take_up(id, serial, &namespace, auth, &claim, &wish).await;
            // Its half here was made to know what has been delivered, which nobody may need after all.
            if let Some(local) = this.namespace(namespace.0.number()) {
                this.leave_if_empty(&local);
            }
            this.claims.borrow_mut().retain(|(_, other)| !Rc::ptr_eq(other, &claim));
        };
        self.worker.start(id, serial, Box::pin(resuming));
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

    /// Has the connection that a session is still on closed, wherever it is: never are two sockets the same.
    async fn fence_anywhere(&self, former: ConnectionId, namespace: &Namespace) {
        if former.worker == self.worker.index() {
            return self.fence(former, &namespace.0);
        }
        let Some(server) = self.server.upgrade() else { return };
        let Some(handle) = server.workers.handles().get(usize::from(former.worker)) else { return };
        let (fenced, done) = oneshot::channel();
        let (server, namespace) = (self.server.clone(), namespace.0.clone());
        let posted = handle.post(move |_| {
            let Some(local) = super::of(&server) else { return };
            local.fence(former, &namespace);
            // Behind the handlers that hear of the end. Nobody waits any more if the client has gone again.
            local.worker.start(former, local.next_serial(), Box::pin(async { _ = fenced.send(()) }));
        });
        if posted.is_ok() {
            // A worker that ends instead drops the sender, and its sockets with it.
            let _ = done.await;
        }
    }

    fn fence(&self, former: ConnectionId, namespace: &NamespaceInner) {
        let handle = self.with_client(former, |client| client.connection.leave(&namespace.name)).flatten();
        if let Some(handle) = handle {
            self.left(handle, DisconnectReason::TransportClose);
            self.worker.close(former, CloseReason::TransportClose);
        }
    }

    async fn take_up(
        self: &Rc<Self>,
        id: ConnectionId,
        serial: u32,
        namespace: &Namespace,
        auth: Option<Box<str>>,
        claim: &Claim,
        wish: &Wish,
    ) {
        let Some(journal) = &namespace.0.journal else { return };
        if !self.worker.is_caught_up() {
            // The request came with other mail, from the worker that read it: what is behind it there would come twice.
            tokio::task::yield_now().await;
        }
        // What was posted before the session was claimed is done then; what comes later is not for the socket that was.
        self.worker.apply_mail();
        let applied = self.applied(namespace);
        let offered = journal.offered(wish);
        let planned = with_kept(claim, |kept| {
            if offered.passing.is_none() && kept.stored.as_ref().is_some_and(|stored| stored.is_revived) {
                return Err(NotRecovered::OtherEpoch);
            }
            let after = journal.replay_start(kept, offered)?;
            let until = kept.until.max(applied);
            let missed = journal.missed(kept, after, until.pos)?;
            // The client said so itself.
            kept.trail.confirm(after);
            if let (Some(stored), Some(heard)) = (&mut kept.stored, offered.stored) {
                stored.trail.confirm(heard.pos.min(until.stored));
            }
            Ok::<_, NotRecovered>((kept.id, kept.values.clone(), until, missed))
        });
        let (public_id, values, mut until, mut missed) = match planned {
            Some(Ok(planned)) => planned,
            not => {
                match not {
                    Some(Err(why)) => tracing::debug!(%why, "a session was not recovered"),
                    _ => tracing::debug!("a session ended for good while its connection was being closed"),
                }
                return self.fall_back(id, namespace, auth.as_deref(), claim);
            }
        };
        let Some(request) = self.with_client(id, |client| client.request.clone()) else { return };
        let socket = Socket::resumed(public_id, id, serial, namespace.0.clone(), request, auth.clone(), values);
        let is_asked = journal.kept().is_some() || !self.skips_middlewares();
        if is_asked && !self.ask_middlewares(&self.middlewares(namespace), &socket).await {
            // The session waits on: whoever refused may think better of it.
            return drop(claim.take());
        }
        let is_same = |kept: &mut Kept| kept.stored.as_ref().is_none_or(|it| self.is_identity(&socket, &it.identity));
        if with_kept(claim, is_same) == Some(false) {
            tracing::debug!("a session was not recovered: it is somebody else's");
            self.turn_away(&socket);
            // It waits on for whoever it belongs to.
            drop(claim.take());
            return self.begin(id, namespace, auth.as_deref());
        }
        let identity = with_kept(claim, |kept| kept.stored.as_ref().map(|stored| stored.identity.clone())).flatten();
        let whose = Whose::new(identity, public_id);
        if let Some(keeper) = journal.kept()
            && let Err(error) = keeper.load_questions(public_id).await
        {
            tracing::error!(%error, "what a session was asked could not be read from the store");
            self.turn_away(&socket);
            return self.fall_back(id, namespace, auth.as_deref(), claim);
        }
        for round in 0.. {
            let bytes = missed.iter().map(Bytes::len).sum::<usize>();
            let in_pages = round < ROUNDS && bytes > PAGE;
            let is_affordable = match journal.kept() {
                Some(keeper) if round < ROUNDS => self.affords(id, keeper, &whose, bytes).await,
                _ => true,
            };
            if !is_affordable || !self.replay(id, &missed, in_pages).await {
                // Lost again. What it was sent it has not heard: the session waits on.
                self.turn_away(&socket);
                return drop(claim.take());
            }
            // Mail may have been applied since what was missed was looked up, but not if nothing was waited for.
            let reached = until.max(self.applied(namespace));
            if reached == until {
                break;
            }
            match with_kept(claim, |kept| journal.missed(kept, until.pos, reached.pos)) {
                Some(Ok(more)) => missed = more,
                Some(Err(why)) => {
                    tracing::debug!(%why, "a session was not recovered: its replay was overtaken");
                    self.turn_away(&socket);
                    discard(claim);
                    return self.begin(id, namespace, auth.as_deref());
                }
                None => return self.turn_away(&socket),
            }
            until = reached;
        }
        match claim.take() {
            Some(claimed) => self.accept(&socket, Comeback::Claimed(claimed)),
            None => self.turn_away(&socket),
        }
    }

    /// What has been delivered to this worker's sockets of a namespace, none of which may miss anything from now on.
    pub(super) fn applied(&self, namespace: &Namespace) -> Place {
        self.enter(namespace).tracking.as_deref().map(Tracking::applied).unwrap_or_default()
    }

    /// What this process has of a session is not enough: the store may have more.
    fn fall_back(&self, id: ConnectionId, namespace: &Namespace, auth: Option<&str>, claim: &Claim) {
        discard(claim);
        if !self.revive(id, namespace, auth) {
            self.begin(id, namespace, auth);
        }
    }

    /// Sends frames to a connection. Returns whether it is there.
    async fn replay(&self, id: ConnectionId, frames: &[Bytes], in_pages: bool) -> bool {
        let mut page = 0;
        for frames in frames {
            if page > PAGE && in_pages {
                page = 0;
                tokio::task::yield_now().await;
            }
            if !self.send(id, frames, How::USUAL) {
                return false;
            }
            page += frames.len();
        }
        self.with_client(id, |_| ()).is_some()
    }

    fn skips_middlewares(&self) -> bool {
        let server = self.server.upgrade();
        server.and_then(|server| Some(server.registry.journals()?.settings().skip_middlewares)).unwrap_or(false)
    }
}

/// Looks at what is kept of a claimed session. `None` when the claim was given up, or nothing can come back.
fn with_kept<R>(claim: &Claim, look: impl FnOnce(&mut Kept) -> R) -> Option<R> {
    claim.borrow_mut().as_mut().and_then(Claimed::kept).map(look)
}

fn discard(claim: &Claim) {
    if let Some(claimed) = claim.take() {
        claimed.discard();
    }
}

impl LocalNamespace {
    /// Puts a socket that is let in into its rooms: those that its middlewares had it join, and those it was in when it was lost.
    /// Returns its secret, if clients are recovered. May drop what others kept with their sockets, so nothing may be borrowed.
    pub(super) fn track(
        &self,
        member: Member,
        socket: &Socket,
        comeback: Comeback,
        rooms: &[Room],
        new_pid: impl FnOnce() -> Pid,
    ) -> Option<PidText> {
        for room in rooms {
            self.membership.borrow_mut().join(member, room);
        }
        // Clients of revision 3 know nothing of coming back.
        let tracking = self.tracking.as_ref().filter(|_| socket.0.revision == Revision::V4)?;
        let pid = match comeback {
            Comeback::New => {
                let pid = new_pid();
                tracking.enter(member, pid, socket, None);
                pid
            }
            Comeback::Revived(taking, stored) => {
                let rooms: Vec<Room> = stored.rooms().collect();
                tracking.enter(member, taking.pid, socket, Some(stored));
                for room in &rooms {
                    self.membership.borrow_mut().join(member, room);
                    tracking.joined(member, room);
                }
                taking.pid
            }
            Comeback::Claimed(claimed) => {
                let pid = claimed.pid();
                if let Some(mut kept) = claimed.reopen(socket.0.connection) {
                    kept.away.replaced();
                    for room in kept.trail.rooms() {
                        self.membership.borrow_mut().join(member, room);
                    }
                    tracking.track(member, pid, kept.trail, kept.stored);
                }
                pid
            }
        };
        for room in rooms {
            tracking.joined(member, room);
        }
        tracking.note(member);
        Some(pid.to_text())
    }
}
