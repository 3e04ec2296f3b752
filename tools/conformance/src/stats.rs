//! `/stats`, when asked for on the command line: everything the mounts hold, for whoever looks for leaks.

use axum::routing::get;
use axum::{Json, Router};
use posthaste::{Server, Stats};
use serde_json::{Value, json};

use crate::returning::Owned;

/// Adds the route. The mounts share their workers.
pub(crate) fn route(app: Router, mounts: Vec<Server>, owned: Owned) -> Router {
    app.route("/stats", get(async move || Json(count(&mounts, &owned).await)))
}

async fn count(mounts: &[Server], owned: &Owned) -> Value {
    let mut total = Stats::default();
    let mut handlers = 0;
    for mount in mounts {
        let stats = mount.stats().await;
        total += stats;
        // Each mount counts those of all.
        handlers = stats.handlers;
    }
    json!({
        "connections": total.connections,
        "sockets": total.sockets,
        "rooms": total.rooms,
        "pendingAcks": total.pending_acks,
        "handlers": handlers,
        "recoverable": total.recoverable,
        "owned": owned.count(),
    })
}
