//! What the store has of a live socket's session.

use std::sync::Arc;
use std::time::Instant;

use posthaste_adapter::{Room, SocketId};
use posthaste_history::store::{Range, SessionRecord, StreamName};
use posthaste_history::{Pid, Trail};

use super::Local;
use super::queues::NotedConsumers;
use crate::durable::{Keeper, everybody, now, room_of, stream_of};
use crate::recovery::Journals;
use crate::server::Inner;

/// How many sessions are written in one commit.
const REFRESHED_AT_ONCE: usize = 256;

/// A session as it is stored whenever something of it changes: who it is, where it was.
#[derive(Clone, Debug)]
pub(crate) struct StoredTrail {
    pub(crate) id: SocketId,
    /// Who it belongs to; empty if the application does not say.
    pub(crate) identity: Arc<str>,
    /// JSON text that the application keeps with it.
    pub(crate) data: Arc<str>,
    /// What it consumes of queues.
    pub(crate) consumers: Option<Box<NotedConsumers>>,
    pub(crate) trail: Trail<StreamName>,
    /// Whether it is older than this process. What its client has heard since it came back only an offset of this process tells.
    pub(crate) is_revived: bool,
}

impl StoredTrail {
    /// A socket that came in behind everything up to `stored`.
    pub(crate) fn new(id: SocketId, identity: Arc<str>, data: Arc<str>, keeper: &Keeper, stored: u64) -> Self {
        let mut trail = Trail::new(keeper.position(stored));
        trail.join(everybody(), stored);
        Self { id, identity, data, consumers: None, trail, is_revived: false }
    }

    /// One that was stored; `None` if it is damaged.
    pub(crate) fn restored(record: SessionRecord) -> Option<Self> {
        let SessionRecord { identity, trail, data, .. } = record;
        let (id, data) = std::str::from_utf8(&data).ok()?.split_once('\n')?;
        let (id, consumers) = id.split_once('\t').map_or((id, None), |(id, consumers)| (id, Some(consumers)));
        let (id, data) = (SocketId::parse(id)?, data.into());
        let consumers = consumers.map(|text| Box::new(NotedConsumers::from_text(text.to_owned())));
        Some(Self { id, identity, data, consumers, trail, is_revived: true })
    }

    /// The stream of its own events.
    fn own(&self) -> StreamName {
        stream_of(&Room::from(self.id))
    }

    /// What it is owed behind `after`, up to `until`, as far as the store may have it.
    pub(crate) fn owed(&self, keeper: &Keeper, after: u64, until: u64) -> Vec<Range> {
        let mut ranges = self.trail.owed(&self.own(), after, until);
        ranges.retain(|range| keeper.takes(&range.stream));
        ranges
    }

    pub(crate) fn record(&self, keeper: &Keeper) -> SessionRecord {
        let data = match &self.consumers {
            None => format!("{}\n{}", self.id, self.data),
            Some(consumers) => format!("{}\t{}\n{}", self.id, consumers.as_str(), self.data),
        };
        SessionRecord {
            identity: self.identity.clone(),
            own: self.own(),
            trail: self.trail.clone(),
            expires: keeper.expires(),
            data: data.into(),
        }
    }

    /// Has the store know it as it is now.
    pub(crate) fn note(&self, keeper: &Arc<Keeper>, pid: Pid) {
        keeper.note_session(pid, Some(self.record(keeper)));
    }

    pub(crate) fn join(&mut self, room: &Room, stored: u64) {
        self.trail.join(stream_of(room), stored);
    }

    pub(crate) fn leave(&mut self, room: &Room, stored: u64) {
        self.trail.leave(&stream_of(room), stored);
    }

    /// The rooms it is in.
    pub(crate) fn rooms(&self) -> impl Iterator<Item = Room> + '_ {
        self.trail.rooms().filter_map(|stream| room_of(stream))
    }

    /// Whether an event at `pos` that was not for these rooms was not for it.
    pub(crate) fn is_excepted(&self, rooms: &[Room], pos: u64) -> bool {
        let own = Room::from(self.id);
        rooms.iter().any(|room| *room == own || self.trail.was_in(&stream_of(room), pos))
    }

    /// What it takes in memory. An estimate.
    pub(crate) fn bytes(&self) -> usize {
        let stays = self.trail.stays().iter().map(|stay| stay.room.len() + 64).sum::<usize>();
        let consumers = self.consumers.as_ref().map_or(0, |consumers| consumers.as_str().len());
        stays + consumers + self.identity.len() + self.data.len() + std::mem::size_of::<Self>()
    }
}

/// Has stores forget what is too old; and, now and then, note again who is there, so that no session expires that is live.
pub(super) fn retain(server: &Arc<Inner>, journals: &Journals, refreshed: &mut Instant) {
    let Some(settings) = journals.durable() else { return };
    for keeper in journals.keepers() {
        // Whether it could is in the store's own log; it is asked again.
        drop(keeper.shard().retain(now()));
        tokio::task::spawn_local(forget_idle(keeper));
    }
    if refreshed.elapsed() < settings.max_away / 4 {
        return;
    }
    *refreshed = Instant::now();
    for handle in server.workers.handles() {
        let server = Arc::downgrade(server);
        // A worker that has ended has nobody.
        let _ = handle.post(move |_| {
            if let Some(local) = super::of(&server) {
                local.refresh_sessions();
            }
        });
    }
}

async fn forget_idle(keeper: Arc<Keeper>) {
    match keeper.forget_idle().await {
        Ok(0) => {}
        Ok(count) => tracing::debug!(count, "streams of which nothing is kept were forgotten"),
        Err(error) => tracing::debug!(%error, "streams of which nothing is kept were not forgotten; trying again"),
    }
}

impl Local {
    fn refresh_sessions(&self) {
        for namespace in self.namespaces.borrow().iter().flatten() {
            let Some(tracking) = &namespace.tracking else { continue };
            let Some(keeper) = tracking.journal().kept() else { continue };
            for records in tracking.records().chunks(REFRESHED_AT_ONCE) {
                drop(keeper.write_sessions(records.to_vec()));
            }
        }
    }
}
