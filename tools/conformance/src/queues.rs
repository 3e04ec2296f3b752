//! Mounts where everybody may use work queues for everything.

use std::sync::Arc;
use std::time::Duration;

use posthaste::queue::MemoryQueues;
use posthaste::{Recovery, Server, WorkQueues, Workers};

/// A mount with queues of its own, whose clients may be recovered.
pub(crate) fn mount(workers: &Workers, path: &str, recovers: bool) -> anyhow::Result<Server> {
    let store = MemoryQueues::new(MemoryQueues::limits(), 1);
    let queues = WorkQueues::new(Arc::new(store)).open_to_all().grace(Duration::from_secs(60));
    let mut builder = Server::builder().path(path).serve_client(false).shared_workers(workers).queues(queues);
    if recovers {
        builder = builder.recovery(Recovery::default());
    }
    Ok(builder.build()?)
}
