//! What handlers saw.

use std::sync::{Arc, Mutex, PoisonError};

use crate::patience::eventually;

/// A list that handlers append to and a test reads. Cloning shares it.
#[derive(Debug)]
pub struct Record<T>(Arc<Mutex<Vec<T>>>);

impl<T> Clone for Record<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Default for Record<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T: Clone + std::fmt::Debug> Record<T> {
    /// An empty list.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends `entry`.
    pub fn push(&self, entry: T) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
    }

    /// What was appended so far.
    #[must_use]
    pub fn all(&self) -> Vec<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until there are at least `count` entries, and returns all of them.
    ///
    /// # Panics
    /// After [`PATIENCE`](crate::PATIENCE).
    pub async fn wait_for(&self, count: usize) -> Vec<T> {
        eventually(&format!("{count} entries"), async || self.all().len() >= count).await;
        self.all()
    }
}
