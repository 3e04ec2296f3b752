//! A store that has nothing, for machines that are asked for nothing else. The example shares it.

use std::sync::Arc;

use bytes::Bytes;
use posthaste_history::store::{StoreError, Timestamp};
use posthaste_queue::{Later, MessageId, Source, StoredPut};

/// Has nothing to tell.
pub(crate) struct Nothing;

impl Source for Nothing {
    fn delayed(&self, _: (Timestamp, MessageId), _: usize) -> Result<Vec<(StoredPut, u64)>, StoreError> {
        Ok(Vec::new())
    }

    fn delayed_of(&self, _: u32, _: MessageId, _: usize) -> Result<Vec<Later>, StoreError> {
        Ok(Vec::new())
    }

    fn message(&self, _: MessageId) -> Result<Option<StoredPut>, StoreError> {
        Ok(None)
    }

    fn reasons(&self, _: MessageId) -> Result<Vec<(Timestamp, Arc<str>)>, StoreError> {
        Ok(Vec::new())
    }

    fn result(&self, _: Timestamp, _: MessageId) -> Result<Option<(u32, Bytes)>, StoreError> {
        Ok(None)
    }
}
