//! Consumers in the record of a session, for the process after this one.
//!
//! Where sessions are durable, what a client consumes is noted with who it is and where it was, before the client hears that it is so.
//! When it comes back to a process that does not know it, its consumers are asked for anew, as after a long absence: jobs it had are free
//! since the old process ended.

use std::sync::Arc;

use posthaste_adapter::Member;
use posthaste_history::store::{Answer, Receipt};
use posthaste_queue::{Consume, ConsumerId};
use serde::{Deserialize, Serialize};

use super::{Consumer, Desk, Holder, Stage};
use crate::local::{Local, LocalNamespace};
use crate::queues::QueueVerb;
use crate::socket::Socket;

/// The most that is noted of a session, in bytes: it is written whenever something of the session changes. Consumers beyond it have to be asked for.
const MAX_BYTES: usize = 16 << 10;

/// Consumers as text: JSON in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NotedConsumers(String);

/// One of them.
#[derive(Serialize, Deserialize)]
struct Noted {
    name: ConsumerId,
    queue: Arc<str>,
    prefetch: u32,
    bytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lease_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    keys: Option<Vec<Arc<str>>>,
    is_touched: bool,
}

impl NotedConsumers {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) const fn from_text(text: String) -> Self {
        Self(text)
    }

    fn of(holder: &Holder) -> Option<Box<Self>> {
        let is_noted =
            |consumer: &&Consumer| matches!(consumer.stage, Stage::Opening(_) | Stage::Open | Stage::Stopped);
        let mut all: Vec<&Consumer> = holder.consumers.values().filter(is_noted).collect();
        all.sort_unstable_by_key(|consumer| consumer.name);
        let mut text = String::from("[");
        for Consumer { name, wish, is_touched, .. } in all {
            let Consume { queue, prefetch, bytes, lease_ms, keys, .. } = wish.clone();
            let noted = Noted { name: *name, queue, prefetch, bytes, lease_ms, keys, is_touched: *is_touched };
            let noted = serde_json::to_string(&noted).unwrap_or_default();
            if text.len() + noted.len() > MAX_BYTES {
                tracing::debug!("not all consumers of a session are noted: they are too many");
                break;
            }
            text.push_str(if text.len() > 1 { "," } else { "" });
            text.push_str(&noted);
        }
        text.push(']');
        (text.len() > 2).then(|| Box::new(Self(text)))
    }

    fn read(&self) -> Vec<Noted> {
        serde_json::from_str(&self.0).unwrap_or_else(|error| {
            tracing::error!(%error, "what a session consumed could not be read");
            Vec::new()
        })
    }
}

/// A note on its way to the store. Nobody has to wait for it.
pub(super) struct Noting(Option<Answer<Vec<Receipt>>>);

impl Noting {
    /// What a client is told behind this holds, also if the process is killed then.
    pub(super) async fn settled(self) {
        let Some(answer) = self.0 else { return };
        if let Err(error) = answer.await {
            tracing::warn!(%error, "what a session consumes was not noted: after a restart it is as it was before");
        }
    }
}

impl LocalNamespace {
    /// Has the store know what a socket consumes, if there is one and sessions outlive the process.
    pub(super) fn note_consumers(&self, desk: &Desk, member: Option<Member>) -> Noting {
        let noting = member.and_then(|member| {
            let tracking = self.tracking.as_ref()?;
            tracking.with_stored(member, |_| ())?;
            let noted = desk.with(member, |holder| NotedConsumers::of(holder)).flatten();
            tracking.set_consumers(member, noted);
            tracking.write(member)
        });
        Noting(noting)
    }
}

impl Local {
    /// What a socket of another process consumed, as far as it still may.
    pub(super) fn noted_holder(
        &self,
        namespace: &LocalNamespace,
        desk: &Desk,
        member: Member,
        socket: &Socket,
    ) -> Option<Box<Holder>> {
        let noted = namespace.tracking.as_ref()?.with_stored(member, |stored| stored.consumers.clone())??;
        let settings = &desk.office.settings;
        let mut holder = Box::new(Holder::new(socket, self.worker.now()));
        for Noted { name, queue, prefetch, bytes, lease_ms, keys, is_touched } in noted.read() {
            if !desk.office.permits(socket, QueueVerb::Consume, &queue)
                || holder.consumers.len() >= settings.max_consumers
            {
                tracing::debug!(%queue, "a session that came back may not consume any more what it did");
                continue;
            }
            let prefetch = prefetch.min(settings.max_prefetch);
            let wish = Consume { consumer: name, queue, prefetch, bytes, lease_ms, keys, once: None };
            let share = holder.share(bytes, desk.office.max_bytes);
            let consumer = Consumer { name, wish, share, stage: Stage::Stopped, held: 0, is_touched, came_back: false };
            holder.consumers.insert(name, consumer);
        }
        (!holder.consumers.is_empty()).then_some(holder)
    }
}
