//! How fast a long replay goes.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use posthaste_engine::ConnectionId;
use posthaste_engine_proto::session::deadline_after;
use posthaste_history::Budget;

use super::Local;
use crate::durable::{Keeper, Reserved, Whose};

/// How long a client that does not read is left alone, at most.
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// How often a client that has to wait is looked for.
const LOOK: Duration = Duration::from_secs(1);

impl Local {
    /// Waits until so much may be sent again to somebody. Returns whether his connection is there.
    pub(super) async fn affords(&self, id: ConnectionId, keeper: &Keeper, whose: &Whose, bytes: usize) -> bool {
        self.while_seen_to(id, keeper.allowances().spend(whose, bytes)).await.is_some()
    }

    /// Waits until a page may be read and sent again to somebody; `None` if his connection is gone.
    pub(super) async fn may_read(
        &self,
        id: ConnectionId,
        keeper: &Keeper,
        whose: Whose,
        most: usize,
    ) -> Option<Reserved> {
        self.while_seen_to(id, keeper.allowances().reserve(whose, most)).await
    }

    async fn while_seen_to<T>(&self, id: ConnectionId, waiting: impl Future<Output = T>) -> Option<T> {
        let mut waiting = pin!(waiting);
        loop {
            match tokio::time::timeout(LOOK, &mut waiting).await {
                Ok(done) => return Some(done),
                Err(_) if !self.is_seen_to(id) => return None,
                Err(_) => {}
            }
        }
    }

    /// A client that asked to join is being replayed to: it need not have joined in the usual time. Returns whether it is there.
    pub(super) fn is_seen_to(&self, id: ConnectionId) -> bool {
        let Some(server) = self.server.upgrade() else { return false };
        let deadline = deadline_after(self.worker.now(), server.config.connect_timeout);
        self.with_client(id, |client| client.connection.postpone(deadline)).is_some()
    }

    /// Waits until a client has taken what it was sent but for a page, so that a long replay fits through a small outbox. Others have their
    /// turn at least once. Returns whether it is there.
    pub(super) async fn has_taken(&self, id: ConnectionId, page: Budget) -> bool {
        let mut pause = Duration::from_millis(1);
        tokio::task::yield_now().await;
        loop {
            match self.worker.queued(id) {
                None => return false,
                Some((bytes, packets)) if bytes <= page.max_bytes && packets <= page.max_events => return true,
                Some(_) => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }
}
