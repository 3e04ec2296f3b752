//! Why messages failed, where the store has nothing but memory.

use std::collections::VecDeque;
use std::sync::Arc;

use posthaste_history::store::Timestamp;
use rustc_hash::FxHashMap;

use crate::port::{Cause, Change, MessageId, Reason, Verdict};

/// What the reasons of one message have together at most. The newest is as long as this at most, so it is always there.
const MAX_BYTES: usize = Verdict::MAX_WHY;

/// Reasons by message, the newest last.
#[derive(Debug, Default)]
pub(crate) struct Reasons(FxHashMap<MessageId, VecDeque<(Timestamp, Arc<str>)>>);

impl Reasons {
    /// Keeps what a change says, or lets go of it.
    pub(crate) fn keep(&mut self, change: &Change) {
        match change {
            Change::Returned { id, at, cause: Cause::Failed(reason), .. } | Change::Died { id, at, reason, .. } => {
                let kept = self.0.entry(*id).or_default();
                kept.push_back((*at, reason.text.clone()));
                let mut bytes: usize = kept.iter().map(|(_, text)| text.len()).sum();
                while kept.len() > Reason::MAX_KEPT || bytes > MAX_BYTES {
                    let Some((_, oldest)) = kept.pop_front() else { break };
                    bytes -= oldest.len();
                }
            }
            Change::Redriven { id, .. } | Change::Ended { id, .. } => drop(self.0.remove(id)),
            _ => {}
        }
    }

    pub(crate) fn of(&self, id: MessageId) -> Vec<(Timestamp, Arc<str>)> {
        self.0.get(&id).into_iter().flatten().cloned().collect()
    }
}
