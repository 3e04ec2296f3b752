//! Work queues of this server: where they are kept, and who may use them.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use posthaste::WorkQueues;
use posthaste::queue::{MemoryQueues, Queues};

/// Where queues are kept: in memory, and gone when the process ends.
fn store() -> Arc<dyn Queues> {
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // Rests after failures vary by it; nothing is to be kept from anybody.
    Arc::new(MemoryQueues::new(MemoryQueues::limits(), seed.subsec_nanos().into()))
}

/// Queues that everybody who reaches the server may use.
pub(crate) fn open_to_all() -> WorkQueues {
    WorkQueues::new(store()).open_to_all()
}
