//! Why messages failed: on the disk alone, for as long as they have not ended.

use std::sync::Arc;

use fjall::OwnedWriteBatch;
use posthaste_history::store::{StoreError, Timestamp};
use posthaste_queue::{Cause, Change, Machine, MessageId, Place, Reason};
use rustc_hash::FxHashMap;

use crate::codec::{seal, unseal};
use crate::content::Content;
use crate::error::read_failed;
use crate::work::codec::{decode_reason, encode_reason};
use crate::work::disk::{ITEM_BYTES, damaged};
use crate::work::keys;
use crate::work::load::Losses;

/// What the changes of a group come to, by key: of one key a batch may say one thing only.
#[derive(Default)]
pub(super) struct Writing(FxHashMap<Vec<u8>, Option<Vec<u8>>>);

impl Writing {
    /// Notes what a change says of reasons.
    pub(super) fn note(&mut self, change: &Change) {
        match change {
            Change::Returned { id, at, cause: Cause::Failed(reason), .. } | Change::Died { id, at, reason, .. } => {
                self.0.insert(keys::reason(*id, reason.number), Some(encode_reason(*at, reason)));
            }
            Change::Redriven { id, reasons } | Change::Ended { id, reasons, .. } => {
                let kept = (*reasons).min(Reason::MAX_KEPT as u32);
                self.0.extend((1..=kept).map(|number| (keys::reason(*id, number), None)));
            }
            _ => {}
        }
    }

    /// Writes it. Returns what that takes in the journal, about.
    pub(super) fn write(self, content: &Content, batch: &mut OwnedWriteBatch) -> u64 {
        let mut bytes = 0;
        for (key, value) in self.0 {
            bytes += ITEM_BYTES + value.as_ref().map_or(0, Vec::len) as u64;
            match value {
                Some(value) => batch.insert(&content.queues, &key[..], seal(&key, value)),
                None => batch.remove(&content.queues, &key[..]),
            }
        }
        bytes
    }
}

/// Those of a message, the newest last.
pub(super) fn read(content: &Content, id: MessageId) -> Result<Vec<(Timestamp, Arc<str>)>, StoreError> {
    let mut found = Vec::new();
    for entry in content.queues.prefix(keys::reasons(id)) {
        let (key, value) = entry.into_inner().map_err(read_failed)?;
        let reason = unseal(&key, &value).and_then(decode_reason);
        found.push(reason.ok_or_else(|| damaged("why it failed,", id))?);
    }
    found.sort_unstable_by_key(|(_, reason)| reason.number);
    Ok(found.into_iter().map(|(at, reason)| (at, reason.text)).collect())
}

/// Lets go of those that are not what was written, and of those of failures that nobody knows of any more.
pub(super) fn salvage(content: &Content, machine: &Machine, losses: &mut Losses) -> Result<(), StoreError> {
    for entry in content.queues.prefix(b"f") {
        let (key, value) = entry.into_inner().map_err(read_failed)?;
        let id = keys::first(&key).unwrap_or(0);
        let reason = unseal(&key, &value).and_then(decode_reason);
        if reason.is_none() {
            losses.said.push(format!("why message {id} failed is not what was written"));
        }
        let is_dead = |place| matches!(place, Place::Dead(_));
        let known = machine.record(id).map_or(0, |it| it.rest.failures.saturating_add(is_dead(it.place).into()));
        if reason.is_none_or(|(_, reason)| reason.number > known) {
            losses.queues.push(key.to_vec());
        }
    }
    Ok(())
}
