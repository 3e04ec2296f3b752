//! What the answers of a group are given within.

use std::sync::{Mutex, PoisonError};

use posthaste_history::store::Around;

/// What whoever follows asked for; nothing until then.
#[derive(Default)]
pub(crate) struct Within(Mutex<Option<Around>>);

impl Within {
    pub(crate) fn set(&self, around: Around) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(around);
    }

    /// Runs `act` within it.
    pub(crate) fn run<R>(&self, act: impl FnOnce() -> R) -> R {
        let around = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(around) = around else { return act() };
        let (mut act, mut result) = (Some(act), None);
        around(&mut || {
            if let Some(act) = act.take() {
                result = Some(act());
            }
        });
        result.expect("invariant: what answers is run")
    }
}
