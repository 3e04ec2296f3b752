//! What all [`Queues`] must do, as a suite that their tests run.
//!
//! ```text
//!   check ─► scripts ─┐
//!   tapes of bytes ───┴─► Steps ─► Run ─► the queues under test ─► answers, effects ─┐
//!                                   └───► Model (lists, looked through from the front) ─┴─► the same, or a Violation
//! ```
//!
//! Who gets which message is partly the store's choice: each [grant](crate::Effect::Granted) is judged by whether it was allowed, and
//! when nothing more happens, nothing that somebody takes may be left. All else is compared with a model after each step, and the rule
//! that was broken is named. [`check`] runs scripts that come by every rule; [`history`] makes steps of any bytes, for property
//! tests and fuzzers. The suite needs no runtime, and time is what it says. [`Broken`] is a store with a [`Fault`], which is how
//! the suite itself is tested.

mod broken;
mod bucket;
mod compare;
mod judge;
mod model;
#[cfg(test)]
mod mutations;
#[cfg(test)]
mod naive;
mod plans;
mod restart;
mod run;
mod scripts;
mod steps;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use posthaste_history::store::Timestamp;

use crate::port::Queues;

pub use broken::{Broken, Fault, InMemory};
pub use scripts::check;
pub use steps::{Catch, Draft, Foreign, Mistake, Plan, Say, Step, Taker};

/// Where queues under test are made.
pub trait Place {
    /// Somewhere that nothing was stored yet.
    fn fresh(&self) -> Box<dyn Bed>;
}

/// Where the queues of one place lie, and are opened again.
pub trait Bed {
    /// Opens them, with whatever survived. What looks at the time by itself looks at this clock; what was asked with a time has it
    /// done that brings up to then.
    fn open(&mut self, clock: &Clock) -> Arc<dyn Queues>;

    /// Closes them. They are no longer used.
    fn close(&mut self, queues: Arc<dyn Queues>) {
        drop(queues);
    }

    /// The process of these queues is killed: what was not written by then is gone. They are no longer used.
    fn kill(&mut self, queues: Arc<dyn Queues>);
}

/// What time it is in a suite.
#[derive(Clone, Debug)]
pub struct Clock(Arc<AtomicU64>);

impl Clock {
    pub(super) fn new(now: u64) -> Self {
        Self(Arc::new(AtomicU64::new(now)))
    }

    pub(super) fn set(&self, now: u64) {
        self.0.store(now, Ordering::SeqCst);
    }

    /// It is so late.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

/// A rule that was broken.
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

fn violation(rule: &'static str, detail: String) -> Violation {
    Violation { rule, detail }
}

fn ensure(rule: &'static str, holds: bool, detail: impl FnOnce() -> String) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(violation(rule, detail())) }
}

/// Runs the steps that these bytes mean. Any bytes will do.
///
/// # Errors
/// The first [`Violation`].
pub fn history(place: &dyn Place, tape: &[u8]) -> Result<(), Violation> {
    run::steps(place, &steps::parse(tape))
}
