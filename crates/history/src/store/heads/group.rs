//! What is written at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::pid::Pid;
use crate::store::port::{Durability, Message, Retention, StreamName};
use crate::store::session::SessionRecord;
use crate::store::window::Remembered;

/// A message to be written: of one stream.
#[derive(Clone, Debug)]
pub struct Record {
    /// The number of the stream.
    pub stream: u64,
    /// Its cost.
    pub cost: u64,
    /// The message.
    pub message: Message,
}

/// What one write to the disk has to do: everything of several commits.
#[derive(Clone, Debug)]
pub struct Group {
    /// Its number, without holes from 1.
    pub number: u64,
    /// What is promised to somebody in it.
    pub durability: Durability,
    /// Streams that are new.
    pub created: Vec<(StreamName, u64)>,
    /// Messages, by position.
    pub records: Vec<Record>,
    /// Keys to be remembered.
    pub keys: Vec<Remembered>,
    /// Retentions, by stream.
    pub retentions: Vec<(u64, Retention)>,
    /// Up to where streams are forgotten.
    pub trims: Vec<(u64, u64)>,
    /// Cursors by stream and device; `None` is gone.
    pub cursors: BTreeMap<(u64, Arc<str>), Option<u64>>,
    /// Sessions; `None` is gone.
    pub sessions: Vec<(Pid, Option<Box<SessionRecord>>)>,
    pub(super) touched: BTreeSet<StreamName>,
}

impl Group {
    /// Whether nothing has to be written for it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.created.is_empty()
            && self.records.is_empty()
            && self.retentions.is_empty()
            && self.trims.is_empty()
            && self.cursors.is_empty()
            && self.sessions.is_empty()
    }

    /// The streams that something happens to.
    pub fn touched(&self) -> impl Iterator<Item = &StreamName> {
        self.touched.iter()
    }
}
