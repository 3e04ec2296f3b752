//! What HTTP clients are offered, under `/api/v1`.
//!
//! Errors are `application/problem+json` with a stable `code`. What may be read is what a client of Socket.IO may read as well: the
//! rules of rooms decide.

mod follow;
mod problem;
mod streams;

use std::sync::Arc;

use axum::Router;
use axum::routing::{any, get};
use posthaste::Namespace;
use tokio::sync::{Semaphore, watch};

use crate::api::problem::Problem;
use crate::rooms::Verbs;

/// The most streams that are followed at the same time: each is a connection, and a look at the store with every event.
const MAX_FOLLOWERS: usize = 1_000;

/// What the calls are about.
pub(crate) struct Api {
    namespace: Namespace,
    rooms: Verbs,
    followers: Arc<Semaphore>,
    closing: watch::Sender<bool>,
}

impl Api {
    pub(crate) fn new(namespace: Namespace, rooms: Verbs) -> Arc<Self> {
        let followers = Arc::new(Semaphore::new(MAX_FOLLOWERS));
        Arc::new(Self { namespace, rooms, followers, closing: watch::Sender::new(false) })
    }

    pub(crate) fn routes(self: &Arc<Self>) -> Router {
        Router::new()
            .route("/api/v1/streams/{name}", get(streams::read))
            .route("/api/{*rest}", any(async || Problem::NO_SUCH_CALL))
            .method_not_allowed_fallback(async || Problem::METHOD)
            .with_state(self.clone())
    }

    /// Ends what would go on for ever.
    pub(crate) fn close(&self) {
        self.closing.send_replace(true);
    }
}
