//! What every [`Adapter`] must do, as a suite that its tests run.
//!
//! ```text
//!   check ─► rules ─► Cluster::connect ─► the adapters under test ─► ModelNode (sets of sockets that note what they get)
//! ```
//!
//! The suite needs no runtime: what takes time comes from the [`Cluster`]. It compares with a model of a node, [`ModelNode`], and
//! names the rule that was broken. [`Mesh`] connects nodes of one process, for tests of what is above the port; with a [`Fault`] it
//! is broken on purpose, which is how the suite itself is tested.
//!
//! ```no_run
//! use std::sync::Arc;
//! use posthaste_adapter::contract::{Adapters, Cluster, check};
//! use posthaste_adapter::{MemoryAdapter, Pending};
//!
//! /// Nodes that are alone.
//! struct Alone;
//!
//! impl Cluster for Alone {
//!     fn connect(&self, namespaces: &[&str], nodes: usize) -> Pending<Adapters> {
//!         assert_eq!(nodes, 1);
//!         let adapters = namespaces.iter().map(|_| vec![Arc::new(MemoryAdapter::new()) as _]).collect();
//!         Box::pin(std::future::ready(adapters))
//!     }
//!     fn patience(&self) -> Pending<()> {
//!         Box::pin(tokio::time::sleep(std::time::Duration::from_secs(10)))
//!     }
//! }
//!
//! # async fn example() {
//! check(&Alone, 1).await.unwrap();
//! # }
//! ```

mod mesh;
mod model;
#[cfg(test)]
mod mutations;
mod rules;
mod stage;

use std::fmt;
use std::sync::Arc;

use crate::port::{Adapter, Pending};

pub use mesh::{Fault, Mesh};
pub use model::{Behaviour, ModelNode, Received};

/// Adapters of the same nodes: for each namespace one per node, in the order of the nodes.
pub type Adapters = Vec<Vec<Arc<dyn Adapter>>>;

/// Makes adapters for the suite.
pub trait Cluster: Sync {
    /// So many nodes that are connected with each other and with nobody else, not even with those of an earlier call. None of their
    /// adapters was started.
    fn connect(&self, namespaces: &[&str], nodes: usize) -> Pending<Adapters>;

    /// Ends when the adapters made so far know of each other, and of the rooms they were told of. At once by default.
    fn settle(&self) -> Pending<()> {
        Box::pin(async {})
    }

    /// How long the suite waits for something that has to come: a timer, some seconds.
    fn patience(&self) -> Pending<()>;
}

/// A rule that an adapter broke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The rule, a sentence.
    pub rule: &'static str,
    /// What was seen.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rule broken: {} ({})", self.rule, self.detail)
    }
}

impl std::error::Error for Violation {}

/// Checks adapters of nodes that are alone and, if `nodes` is more than one, of that many connected ones (three or more is best).
///
/// # Errors
/// The first [`Violation`].
pub async fn check(cluster: &dyn Cluster, nodes: usize) -> Result<(), Violation> {
    rules::check(cluster, 1).await?;
    if nodes > 1 {
        rules::check(cluster, nodes).await?;
    }
    Ok(())
}
