//! The rules of queues, as a value: commands become changes, changes become what there is.

use posthaste_history::store::{Durability, StoreError, Timestamp};

use crate::port::{Change, Effect, MessageId, StoredPut};

/// What a machine may ask of its store while it decides.
pub trait Source {
    /// Messages that were put to be ready later, by that time and number, behind this one, at most `max`. Payloads may be left out.
    /// Those that have ended are not among them.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    fn delayed(&self, after: (Timestamp, MessageId), max: usize) -> Result<Vec<StoredPut>, StoreError>;

    /// One message that has not ended; `None` if there is none.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    fn message(&self, id: MessageId) -> Result<Option<StoredPut>, StoreError>;

    /// The result of a message that is kept, unless its time is over.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    fn result(&self, now: Timestamp, id: MessageId) -> Result<Option<bytes::Bytes>, StoreError>;
}

/// What one write to the store has to do: the changes of several commands, in order.
#[derive(Debug)]
pub struct Group {
    /// What is promised to somebody in it.
    pub durability: Durability,
    /// What changes.
    pub changes: Vec<Change>,
    /// What is said when it is durable.
    #[expect(dead_code, reason = "for the machine")]
    pub(crate) effects: Vec<Effect>,
}

impl Default for Group {
    fn default() -> Self {
        Self { durability: Durability::Memory, changes: Vec::new(), effects: Vec::new() }
    }
}
