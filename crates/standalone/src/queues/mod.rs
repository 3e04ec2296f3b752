//! Work queues of the server: where they are stored, what clients may do with them, and what they allow.
//!
//! Clients of Socket.IO use them in the namespace `/queues`, those of HTTP under `/api/v1/queues`; the same [rules](Rules) decide for both.

mod routes;
mod rules;

use std::sync::Arc;

use posthaste::queue::Command;
use posthaste::{QueueVerb, Socket, WorkQueues};
use posthaste_backend_embedded::EmbeddedStore;

pub(crate) use crate::queues::routes::{Route, open as open_routes};
pub(crate) use crate::queues::rules::{Right, Rules};

/// Opens the queues in a server's store, and tells those that are configured what they allow.
pub(crate) fn open(store: &EmbeddedStore, rules: Arc<Rules>) -> anyhow::Result<WorkQueues> {
    let queues = WorkQueues::new(store.queues()?);
    for (queue, config) in rules.configured() {
        let configure = Command::Configure(queue.clone(), Box::new(config.clone()));
        let told = posthaste::store::wait(queues.ask(configure));
        told?.map_err(|refusal| anyhow::anyhow!("the configuration of queue {queue:?}: {refusal}"))?;
    }
    Ok(queues.permit(move |_: &Socket, verb: QueueVerb, queue: &str| {
        let right = match verb {
            QueueVerb::Put | QueueVerb::Call | QueueVerb::Await => Right::Put,
            QueueVerb::Consume => Right::Work,
            _ => Right::Manage,
        };
        rules.allow(right, queue)
    }))
}
