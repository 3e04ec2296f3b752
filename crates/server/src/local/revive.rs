//! Coming back to a process that does not know one: the store does.
//!
//! ```text
//!   CONNECT {pid, offset} ─► Shard.session ─► where from? ─► middlewares, and the same identity?
//!                         ─► what the store has of its rooms since, in pages ─► live from here ─► CONNECT with the old id
//! ```
//!
//! What was not durable is gone with the process that sent it.

use std::rc::Rc;
use std::sync::Arc;

use posthaste_adapter::{Packet, RawEvent};
use posthaste_history::store::{Range, StoreError};
use posthaste_history::{Gap, NotRecovered, gaps, recover};

use super::Local;
use super::comeback::{Afresh, Comeback, Comer};
use super::stored::StoredTrail;
use crate::durable::{Keeper, NoPart, PAGE, PART_BYTES, Pages, Whose, now, room_of};
use crate::how::How;
use crate::namespace::Namespace;
use crate::recovery::Place;
use crate::socket::Socket;

/// How often a replay is continued with what happened meanwhile before the client starts afresh.
const ROUNDS: usize = 64;
/// What tells a client of what it missed for good.
const GAP: &str = "sio:gap";

impl Local {
    /// Takes up a session that only the store knows, if there is one.
    pub(super) async fn revive(self: &Rc<Self>, comer: &Comer<'_>) -> Result<(), Afresh> {
        let Comer { id, serial, namespace, ref auth, ref wish, .. } = *comer;
        let journal = namespace.0.journal.as_ref().ok_or(Afresh::Unknown)?;
        let keeper = journal.kept().ok_or(Afresh::Unknown)?;
        // Behind what was noted of it when its connection was closed, perhaps just now.
        keeper.shard().commit(now(), Vec::new()).await.map_err(unread)?;
        let record = keeper.shard().session(now(), wish.pid).await.map_err(unread)?.ok_or(Afresh::Unknown)?;
        // Whoever has gone again by now ends nothing that the next attempt may find.
        let request = self.with_client(id, |client| client.request.clone()).ok_or(Afresh::Gone)?;
        let start =
            recover(keeper.head(), &record, journal.offered(wish).stored).map_err(|why| self.not_recovered(why))?;
        let mut stored = StoredTrail::restored(record).ok_or(Afresh::Unknown)?;
        // Nothing is sent before it is known that all of it can be.
        let first = stored.owed(keeper, start, keeper.head().pos);
        let floor = |range: &Range| Ok(keeper.shard().look_up(&range.stream)?.map_or(0, |info| info.floor));
        let floors = first.iter().map(floor).collect::<Result<Vec<_>, _>>().map_err(unread)?;
        let forgotten = gaps(&first, &floors);
        if !forgotten.is_empty() {
            tracing::debug!(
                streams = forgotten.len(),
                "a session was not recovered: a part of what it missed is forgotten"
            );
            // It is over: the client is somebody new from here on.
            keeper.note_session(wish.pid, None);
            keeper.end_questions(stored.id);
            return Err(Afresh::Gaps(forgotten));
        }
        let socket = Socket::resumed(stored.id, id, serial, namespace.0.clone(), request, auth.clone(), None);
        socket.restore_data(stored.data.clone());
        if !self.ask_middlewares(&self.middlewares(namespace), &socket).await {
            return Err(Afresh::Gone);
        }
        if !self.is_identity(&socket, &stored.identity) {
            tracing::debug!("a session was not recovered: it is somebody else's");
            self.turn_away(&socket);
            return Err(Afresh::Unknown);
        }
        keeper.load_questions(stored.id).await.map_err(unread)?;
        match self.replay_stored(&socket, namespace, keeper, &mut stored, start).await {
            Ok(()) => {
                self.accept(&socket, Comeback::Revived(wish.pid, Box::new(stored)));
                Ok(())
            }
            Err(afresh) => {
                self.turn_away(&socket);
                Err(afresh)
            }
        }
    }

    /// Sends a client what it missed behind `start`, up to what this worker's sockets have been sent. Nothing is waited for behind that.
    async fn replay_stored(
        &self,
        socket: &Socket,
        namespace: &Namespace,
        keeper: &Arc<Keeper>,
        stored: &mut StoredTrail,
        start: u64,
    ) -> Result<(), Afresh> {
        let id = socket.0.connection;
        let journal = namespace.0.journal.as_ref().ok_or(Afresh::Unknown)?;
        let offset = |stored| journal.offset(Place { pos: 0, stored });
        let whose = Whose::new(Some(stored.identity.clone()), stored.id);
        let _replaying = keeper.pages().begin();
        let (mut through, mut sent) = (start, 0);
        stored.trail.confirm(start);
        for _ in 0..ROUNDS {
            self.worker.apply_mail();
            let goal = self.applied(namespace).stored;
            if through >= goal {
                return Ok(());
            }
            while through < goal {
                let not_read = |why| match why {
                    // Overtaken by forgetting, after a part was sent: that it is not all must not look like recovery.
                    NoPart::Forgotten => self.not_recovered(NotRecovered::Trimmed),
                    NoPart::Unread(error) => unread(error),
                };
                let news = Pages::news(&**keeper.shard(), stored.owed(keeper, through, goal)).map_err(not_read)?;
                if news.is_empty() {
                    // Whoever missed nothing waits for nothing.
                    through = goal;
                    break;
                }
                let reserved = self.may_read(id, keeper, whose.clone(), PART_BYTES).await.ok_or(Afresh::Gone)?;
                let part = keeper.pages().part(&**keeper.shard(), news, goal, offset).await.map_err(not_read)?;
                sent += part.events().len();
                if sent > keeper.settings().max_replay {
                    return Err(self.not_recovered(NotRecovered::TooMuch));
                }
                reserved.settle(part.bytes());
                if !self.is_seen_to(id) {
                    return Err(Afresh::Gone);
                }
                for event in part.events() {
                    let how = How { volatile: false, compress: event.compress };
                    if !stored.is_excepted(&event.except, event.pos)
                        && !self.send_with_offset(socket, &event.frames, how)
                    {
                        return Err(Afresh::Gone);
                    }
                }
                if part.through <= through {
                    return Err(unread(StoreError::Damaged(format!("there is nothing behind {through}, of {goal}"))));
                }
                through = part.through;
                if !self.has_taken(id, PAGE).await {
                    return Err(Afresh::Gone);
                }
            }
        }
        Err(self.not_recovered(NotRecovered::TooMuch))
    }

    /// Tells a new socket what its client missed for good.
    pub(super) fn tell_gaps(&self, socket: &Socket, gaps: &[Gap]) {
        let Some(keeper) = socket.0.namespace.journal.as_ref().and_then(|journal| journal.kept()) else { return };
        let lost: Vec<serde_json::Value> = gaps
            .iter()
            .map(|gap| {
                serde_json::json!({
                    "room": room_of(&gap.stream).map(|room| room.to_string()),
                    "after": keeper.offset(gap.after).as_str(),
                    "through": keeper.offset(gap.through).as_str(),
                })
            })
            .collect();
        self.tell_lost(socket, &lost);
    }

    /// Tells a socket that something of its inbox is forgotten that its device has not confirmed.
    pub(super) fn tell_inbox_gap(&self, socket: &Socket, after: u64, through: u64) {
        let Some(keeper) = socket.0.namespace.journal.as_ref().and_then(|journal| journal.kept()) else { return };
        let offset = |pos| keeper.offset(pos).to_string();
        self.tell_lost(
            socket,
            &[serde_json::json!({ "room": null, "inbox": true, "after": offset(after), "through": offset(through) })],
        );
    }

    fn tell_lost(&self, socket: &Socket, lost: &[serde_json::Value]) {
        let Ok(event) = RawEvent::encode(GAP, &(lost,)) else { return };
        if let Ok(packet) = Packet::encode(&socket.0.namespace.name, None, &event) {
            self.send_unlogged(socket, &packet, How::USUAL);
        }
    }

    /// A middleware says who a socket is.
    pub(crate) fn identify(&self, socket: &Socket, identity: Arc<str>) {
        if socket.phase() != crate::socket::Phase::Joining {
            tracing::warn!(socket = %socket.id(), "a socket says who it is after it was let in: that is for middlewares");
            return;
        }
        self.early.borrow_mut().entry(socket.0.serial).or_default().identity = Some(identity);
    }

    /// Whether a socket that was checked is who a session belongs to.
    pub(super) fn is_identity(&self, socket: &Socket, identity: &str) -> bool {
        let early = self.early.borrow();
        early.get(&socket.0.serial).and_then(|early| early.identity.as_deref()).unwrap_or_default() == identity
    }

    /// Has the store know what the application keeps with a socket.
    pub(crate) fn store_data(&self, socket: &Socket, data: Arc<str>) {
        let Some(handle) = self.handle(socket) else { return };
        if let Some(namespace) = self.namespace(handle.namespace)
            && let Some(tracking) = &namespace.tracking
        {
            tracking.change_stored(handle.member, |stored| stored.data = data);
        }
    }

    /// Writes what the store has of a socket; `None` if it has nothing.
    pub(crate) fn write_session(
        &self,
        socket: &Socket,
    ) -> Option<posthaste_history::store::Answer<Vec<posthaste_history::store::Receipt>>> {
        let handle = self.handle(socket)?;
        self.namespace(handle.namespace)?.tracking.as_ref()?.write(handle.member)
    }
}

fn unread(error: StoreError) -> Afresh {
    tracing::error!(%error, "a session could not be read from the store");
    Afresh::Unknown
}
