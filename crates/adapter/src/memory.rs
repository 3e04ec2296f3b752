//! The adapter of a node that is alone.

use std::sync::{Arc, OnceLock};

use crate::acks::AnswerSink;
use crate::event::RawEvent;
use crate::port::{Adapter, AdapterError, Broadcast, Delivery, Node, Operation, Pending};
use crate::snapshot::SocketSnapshot;
use crate::target::Target;

/// Reaches the sockets of this process and no others.
#[derive(Default)]
pub struct MemoryAdapter {
    node: OnceLock<Arc<dyn Node>>,
}

impl MemoryAdapter {
    /// One for one namespace.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Adapter for MemoryAdapter {
    fn start(&self, node: Arc<dyn Node>) {
        assert!(self.node.set(node).is_ok(), "an adapter is for one namespace of one server");
    }

    fn broadcast(&self, broadcast: Broadcast) -> Delivery {
        if let Some(node) = self.node.get() {
            node.deliver(&broadcast);
        }
        Delivery::Done
    }

    fn apply(&self, target: Target, operation: Operation) -> Delivery {
        if let Some(node) = self.node.get() {
            node.apply(&target, &operation);
        }
        Delivery::Done
    }

    fn fetch(&self, target: Target) -> Pending<Result<Vec<SocketSnapshot>, AdapterError>> {
        let sockets = self.node.get().map(|node| node.fetch(&target));
        Box::pin(async move {
            match sockets {
                Some(sockets) => Ok(sockets.await),
                None => Ok(Vec::new()),
            }
        })
    }

    // There are no others.
    fn server_emit(&self, _: RawEvent, _: Option<Arc<dyn AnswerSink>>) -> Delivery {
        Delivery::Done
    }

    fn node_count(&self) -> Pending<Result<usize, AdapterError>> {
        Box::pin(async { Ok(1) })
    }
}

impl std::fmt::Debug for MemoryAdapter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MemoryAdapter")
    }
}
