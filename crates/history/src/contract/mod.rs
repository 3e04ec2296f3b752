//! What every [`Store`] must do, as a suite that its tests run.
//!
//! ```text
//!   check ─► scripts ─┐
//!   tapes of bytes ───┴─► Steps ─► Run ─► the store under test, and Model (lists that forget nothing by themselves)
//! ```
//!
//! After each step the whole store is compared with a model, and the rule that was broken is named. [`check`] runs scripts that
//! come by every rule; [`history`] makes steps of any bytes, for property tests and fuzzers. The suite needs no runtime.
//! [`Broken`] is a store with a [`Fault`], which is how the suite itself is tested.

mod broken;
mod model;
#[cfg(test)]
mod mutations;
mod run;
mod scripts;
mod steps;

use std::fmt;
use std::sync::Arc;

use crate::store::{Retention, Store, WindowLimits};

pub use broken::{Broken, Fault, InMemory};
pub use scripts::{check, tapes};
pub use steps::Step;

/// Where stores under test are made.
pub trait Place {
    /// Somewhere that nothing was stored yet.
    fn fresh(&self) -> Box<dyn Bed>;
}

/// Where one store lies, and is opened again.
pub trait Bed {
    /// Opens the store, with whatever survived.
    fn open(&mut self, retention: Retention, window: WindowLimits) -> Arc<dyn Store>;

    /// The process of this store is killed: what was not written by then is gone. The store is no longer used.
    fn kill(&mut self, store: Arc<dyn Store>);
}

/// A rule that a store broke.
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

/// Runs the steps that these bytes mean. Any bytes will do.
///
/// # Errors
/// The first [`Violation`].
pub fn history(place: &dyn Place, tape: &[u8]) -> Result<(), Violation> {
    run::steps(place, &steps::parse(tape))
}
