//! Work queues of the server: where they are stored, what clients may do with them, and what they allow.
//!
//! Clients of Socket.IO use them in the namespace `/queues`, those of HTTP under `/api/v1/queues`; the same [rules](Rules) decide for both.

mod routes;
mod rules;
mod schedules;

use std::sync::Arc;

use posthaste::queue::Command;
use posthaste::{QueueVerb, Socket, WorkQueues};
use posthaste_backend_embedded::EmbeddedStore;

pub(crate) use crate::queues::routes::{Route, open as open_routes};
pub(crate) use crate::queues::rules::{Right, Rules};
pub(crate) use crate::queues::schedules::Schedules;

/// Opens the queues in a server's store, and tells those that are configured what they allow, and what is put again and again.
pub(crate) fn open(store: &EmbeddedStore, rules: Arc<Rules>, schedules: &Schedules) -> anyhow::Result<WorkQueues> {
    let queues = WorkQueues::new(store.queues()?);
    for (queue, config) in rules.configured() {
        let configure = Command::Configure(queue.clone(), Box::new(config.clone()));
        let told = posthaste::store::wait(queues.ask(configure));
        told?.map_err(|refusal| anyhow::anyhow!("the configuration of queue {queue:?}: {refusal}"))?;
    }
    schedules.tell(&queues)?;
    Ok(queues.permit(move |_: &Socket, verb: QueueVerb, queue: &str| {
        let right = match verb {
            QueueVerb::Put | QueueVerb::Call | QueueVerb::Await => Right::Put,
            QueueVerb::Consume => Right::Work,
            _ => Right::Manage,
        };
        rules.allow(right, queue)
    }))
}
