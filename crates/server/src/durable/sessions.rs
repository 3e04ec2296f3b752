//! What the store knows of sessions.
//!
//! ```text
//!   note ─► commit ─┬─ taken
//!                   └─ Busy ─► Untaken, the last of each session ─► commit again, until it is taken
//! ```

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use posthaste_history::Pid;
use posthaste_history::store::{Answer, Receipt, SessionRecord, StoreError, Write, at_once};

use super::keeper::{BUSY, Keeper, now};

/// A session as it is now; `None` forgets it.
type Noted = (Pid, Option<SessionRecord>);

/// How many that were not taken are written in one commit.
const AGAIN_AT_ONCE: usize = 256;

/// Sessions that the store was too far behind to take, each as it is now: there are no more of them than sessions. Whoever is in a room that
/// the store has not heard of would come back after a kill as somebody who missed nothing, and not be in it.
#[derive(Default)]
pub(super) struct Untaken(Mutex<State>);

#[derive(Default)]
struct State {
    sessions: HashMap<Pid, Option<SessionRecord>>,
    /// Whether somebody writes them when the store has caught up.
    is_seen_to: bool,
}

impl Untaken {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Keeper {
    /// Writes what is known of sessions, behind everything that was written before. What a store that is behind does not take is written
    /// again until it does, whether or not somebody waits for it.
    pub(crate) fn write_sessions(self: &Arc<Self>, records: Vec<Noted>) -> Answer<Vec<Receipt>> {
        let mut untaken = self.untaken().lock();
        let answer = self.commit_sessions(&mut untaken, records);
        if !untaken.sessions.is_empty() && !untaken.is_seen_to {
            match tokio::runtime::Handle::try_current() {
                Ok(runtime) => {
                    untaken.is_seen_to = true;
                    drop(runtime.spawn(write_untaken(Arc::downgrade(self))));
                }
                // With the next one.
                Err(error) => tracing::warn!(%error, "sessions that the store did not take wait"),
            }
        }
        answer
    }

    /// As [`Keeper::write_sessions`], for whoever does not wait. What is refused for good is in the log.
    pub(crate) fn note_session(self: &Arc<Self>, pid: Pid, record: Option<SessionRecord>) {
        let mut answer = self.write_sessions(vec![(pid, record)]);
        if let Some(Err(error)) = at_once(&mut answer)
            && !matches!(error, StoreError::Busy { .. })
        {
            tracing::warn!(%error, "a session was not stored: it may not survive the process");
        }
    }

    /// Writes these, in the place of what was not taken of the same sessions before.
    fn commit_sessions(&self, untaken: &mut State, records: Vec<Noted>) -> Answer<Vec<Receipt>> {
        let write = |(pid, record): &Noted| Write::Session { pid: *pid, record: record.clone().map(Box::new) };
        let mut answer = self.shard().commit(now(), records.iter().map(write).collect());
        // A store that is behind says so at once.
        let told = at_once(&mut answer);
        if matches!(told, Some(Err(StoreError::Busy { .. }))) {
            untaken.sessions.extend(records);
        } else {
            records.iter().for_each(|(pid, _)| drop(untaken.sessions.remove(pid)));
        }
        told.map_or(answer, |told| Box::pin(std::future::ready(told)))
    }
}

/// Writes what was not taken until it is.
async fn write_untaken(keeper: Weak<Keeper>) {
    let mut is_behind = true;
    loop {
        if is_behind {
            tokio::time::sleep(BUSY).await;
        }
        let Some(keeper) = keeper.upgrade() else { return };
        let answer = {
            let mut untaken = keeper.untaken().lock();
            let next = untaken.sessions.iter().take(AGAIN_AT_ONCE).map(|(pid, record)| (*pid, record.clone()));
            let records: Vec<Noted> = next.collect();
            if records.is_empty() {
                untaken.sessions.shrink_to_fit();
                untaken.is_seen_to = false;
                return;
            }
            keeper.commit_sessions(&mut untaken, records)
        };
        drop(keeper);
        is_behind = match answer.await {
            Err(StoreError::Busy { .. }) => true,
            Err(error) => {
                tracing::warn!(%error, "sessions were not stored: they may not survive the process");
                false
            }
            Ok(_) => false,
        };
    }
}
