//! The adapter of a node that is alone.

use crate::port::{Adapter, Broadcast, Delivery, Node, Operation};
use crate::target::Target;

/// Reaches the sockets of this process and no others.
#[derive(Clone, Copy, Debug, Default)]
pub struct MemoryAdapter;

impl Adapter for MemoryAdapter {
    fn broadcast(&self, node: &dyn Node, broadcast: Broadcast) -> Delivery {
        node.deliver(&broadcast);
        Delivery::Done
    }

    fn apply(&self, node: &dyn Node, target: Target, operation: Operation) -> Delivery {
        node.apply(&target, &operation);
        Delivery::Done
    }
}
