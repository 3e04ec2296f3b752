//! What HTTP clients are offered, under `/api/v1`.
//!
//! Errors are `application/problem+json` with a stable `code`. What may be read is what a client of Socket.IO may read as well: the
//! rules of rooms and of queues decide.

mod follow;
mod problem;
mod queues;
mod streams;

use std::sync::Arc;

use axum::Router;
use axum::routing::{any, get};
use posthaste::Namespace;
use tokio::sync::{Semaphore, watch};

use crate::api::problem::Problem;
pub(crate) use crate::api::queues::Desk;
use crate::rooms::Verbs;

/// The most streams that are followed at the same time: each is a connection, and a look at the store with every event.
const MAX_FOLLOWERS: usize = 1_000;

/// What the calls are about.
pub(crate) struct Api {
    namespace: Namespace,
    rooms: Verbs,
    queues: Desk,
    followers: Arc<Semaphore>,
    closing: watch::Sender<bool>,
}

impl Api {
    pub(crate) fn new(namespace: Namespace, rooms: Verbs, queues: Desk) -> Arc<Self> {
        let followers = Arc::new(Semaphore::new(MAX_FOLLOWERS));
        Arc::new(Self { namespace, rooms, queues, followers, closing: watch::Sender::new(false) })
    }

    pub(crate) fn routes(self: &Arc<Self>) -> Router {
        Router::new()
            .route("/api/v1/streams/{name}", get(streams::read))
            .merge(queues::routes())
            .route("/api/{*rest}", any(async || Problem::NO_SUCH_CALL))
            .method_not_allowed_fallback(async || Problem::METHOD)
            .with_state(self.clone())
    }

    /// Waits until that is to end which would go on for ever.
    async fn closed(&self) {
        let mut closing = self.closing.subscribe();
        // The sender is here.
        let _ = closing.wait_for(|closing| *closing).await;
    }

    /// Ends what would go on for ever.
    pub(crate) fn close(&self) {
        self.closing.send_replace(true);
    }
}
