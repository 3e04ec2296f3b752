//! Coming back to the process that one left.
//!
//! ```text
//!   claim ─┬─ live elsewhere ─► that connection is closed ─┐
//!          └─ parked ──────────────────────────────────────┴─► decide ─┬─ no ─► the store may have more
//!                     middlewares, if asked ◄── yes ───────────────────┘
//!                     missed events, in pages ─► live from here ─► CONNECT with the old id
//! ```

use std::rc::Rc;

use bytes::Bytes;
use posthaste_adapter::{Member, Room};
use posthaste_engine::{CloseReason, ConnectionId, Revision};
use posthaste_history::{NotRecovered, Pid, PidText};
use tokio::sync::oneshot;

use super::comeback::{Afresh, Claim, Comeback, Comer, Held};
use super::recoverable::Tracking;
use super::{Local, LocalNamespace};
use crate::durable::Whose;
use crate::how::How;
use crate::namespace::{Namespace, NamespaceInner};
use crate::reason::DisconnectReason;
use crate::recovery::{Claimed, Kept, Place};
use crate::socket::Socket;

/// A replay above this many bytes gives the worker's other connections a turn after each such page.
const PAGE: usize = 64 * 1024;
/// How often a replay is continued with what happened meanwhile before the rest goes out in one piece.
const ROUNDS: usize = 16;

impl Local {
    /// Takes up a session that this process knows.
    pub(super) async fn resume(self: &Rc<Self>, comer: &Comer<'_>) -> Result<(), Afresh> {
        let former = {
            let held = comer.claim.borrow();
            let Some(claimed) = held.as_ref().and_then(|held| held.claimed.as_ref()) else {
                return Err(Afresh::NotHere);
            };
            claimed.elsewhere()
        };
        if let Some(former) = former {
            self.fence_anywhere(former, comer.namespace).await;
        }
        let Comer { id, serial, namespace, claim, ref auth, ref wish } = *comer;
        let Some(journal) = &namespace.0.journal else { return Err(Afresh::NotHere) };
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
                discard(claim);
                return Err(Afresh::NotHere);
            }
        };
        let request = self.with_client(id, |client| client.request.clone()).ok_or(Afresh::Gone)?;
        let socket = Socket::resumed(public_id, id, serial, namespace.0.clone(), request, auth.clone(), values);
        let is_asked = journal.kept().is_some() || !self.skips_middlewares();
        if is_asked && !self.ask_middlewares(&self.middlewares(namespace), &socket).await {
            // The session waits on: whoever refused may think better of it.
            return Err(Afresh::Gone);
        }
        let is_same = |kept: &mut Kept| kept.stored.as_ref().is_none_or(|it| self.is_identity(&socket, &it.identity));
        if with_kept(claim, is_same) == Some(false) {
            tracing::debug!("a session was not recovered: it is somebody else's");
            self.turn_away(&socket);
            // It waits on for whoever it belongs to.
            return Err(Afresh::Unknown);
        }
        let identity = with_kept(claim, |kept| kept.stored.as_ref().map(|stored| stored.identity.clone())).flatten();
        let whose = Whose::new(identity, public_id);
        if let Some(keeper) = journal.kept()
            && let Err(error) = keeper.load_questions(public_id).await
        {
            tracing::error!(%error, "what a session was asked could not be read from the store");
            self.turn_away(&socket);
            discard(claim);
            return Err(Afresh::NotHere);
        }
        for round in 0.. {
            let bytes = missed.iter().map(Bytes::len).sum::<usize>();
            let in_pages = round < ROUNDS && bytes > PAGE;
            let is_affordable = match journal.kept() {
                Some(keeper) if round < ROUNDS => self.affords(id, keeper, &whose, bytes).await,
                _ => true,
            };
            if !is_affordable || !self.replay(&socket, &missed, in_pages).await {
                // Lost again. What it was sent it has not heard: the session waits on.
                self.turn_away(&socket);
                return Err(Afresh::Gone);
            }
            // Mail may have been applied since what was missed was looked up, but not if nothing was waited for.
            let reached = until.max(self.applied(namespace));
            if reached == until {
                break;
            }
            match with_kept(claim, |kept| journal.missed(kept, until.pos, reached.pos)) {
                Some(Ok(more)) => missed = more,
                Some(Err(why)) => {
                    // Overtaken while it was replayed.
                    self.turn_away(&socket);
                    discard(claim);
                    return Err(self.not_recovered(why));
                }
                None => {
                    self.turn_away(&socket);
                    return Err(Afresh::Gone);
                }
            }
            until = reached;
        }
        let held = claim.take();
        let Some(Held { claimed: Some(claimed), attempt }) = held else {
            self.turn_away(&socket);
            return Err(Afresh::Gone);
        };
        self.accept(&socket, Comeback::Claimed(claimed));
        drop(attempt);
        Ok(())
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

    /// What has been delivered to this worker's sockets of a namespace, none of which may miss anything from now on.
    pub(super) fn applied(&self, namespace: &Namespace) -> Place {
        self.enter(namespace).tracking.as_deref().map(Tracking::applied).unwrap_or_default()
    }

    /// Sends a socket what its client missed. Returns whether its connection is there.
    async fn replay(&self, socket: &Socket, frames: &[Bytes], in_pages: bool) -> bool {
        let mut page = 0;
        for frames in frames {
            if page > PAGE && in_pages {
                page = 0;
                tokio::task::yield_now().await;
            }
            if !self.send_with_offset(socket, frames, How::USUAL) {
                return false;
            }
            page += frames.len();
        }
        self.with_client(socket.0.connection, |_| ()).is_some()
    }

    fn skips_middlewares(&self) -> bool {
        let server = self.server.upgrade();
        server.and_then(|server| Some(server.registry.journals()?.settings().skip_middlewares)).unwrap_or(false)
    }
}

/// Looks at what is kept of a claimed session. `None` when the claim was given up, or nothing can come back.
fn with_kept<R>(claim: &Claim, look: impl FnOnce(&mut Kept) -> R) -> Option<R> {
    claim.borrow_mut().as_mut().and_then(|held| held.claimed.as_mut()).and_then(Claimed::kept).map(look)
}

fn discard(claim: &Claim) {
    let claimed = claim.borrow_mut().as_mut().and_then(|held| held.claimed.take());
    if let Some(claimed) = claimed {
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
            Comeback::Revived(pid, stored) => {
                let rooms: Vec<Room> = stored.rooms().collect();
                tracking.enter(member, pid, socket, Some(stored));
                for room in &rooms {
                    self.membership.borrow_mut().join(member, room);
                    tracking.joined(member, room);
                }
                pid
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
        if !socket.0.takes_offsets {
            tracking.leave_bare(member);
        }
        for room in rooms {
            tracking.joined(member, room);
        }
        tracking.note(member);
        Some(pid.to_text())
    }
}
