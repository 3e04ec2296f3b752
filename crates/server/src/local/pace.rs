//! How fast a long replay goes.

use std::time::Duration;

use posthaste_engine::ConnectionId;
use posthaste_history::Budget;

use super::Local;

/// How long a client that does not read is left alone, at most.
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

impl Local {
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
