//! Work queues on the disk.
//!
//! ```text
//!   ask ─► queue ─► committer (a thread): Machine ─► grants at once ─► one write ─► one sync ─► what follows from it ─► answers
//! ```
//!
//! - **One thread decides**, for all queues, and has in memory which message is where. Payloads are on the disk; those that will be
//!   needed soon are in memory as well.
//! - **A message is written once**, with everything that is said about it; what happens to it is a few bytes in the record of its
//!   group, and why it failed is beside it. A checkpoint writes down where messages are that are not as they were put.
//! - **Nothing is lost unseen**, as with streams: groups have numbers without holes, records have checksums, and a start counts.

mod bodies;
mod codec;
mod committer;
mod disk;
mod handle;
mod keys;
mod load;
mod reasons;
mod salvage;
mod schedules;
mod time;
mod write;

use crate::content::Content;

pub(crate) use handle::{EmbeddedQueues, Inner};
pub(crate) use load::start;
pub(crate) use salvage::salvage;

/// The number by which groups of queues are known among those of shards.
pub(crate) const NUMBER: u32 = u32::MAX;

/// Whether a key of the keyspace `queues` is that of a message.
pub(crate) fn is_message(key: &[u8]) -> bool {
    key.first() == Some(&b'l')
}

/// Whether a key of what queues have is that of a queue.
pub(crate) fn is_queue(key: &[u8]) -> bool {
    key.len() == 9 && key.first() == Some(&b'q')
}

/// Whether there ever was a queue.
pub(crate) fn are_there(content: &Content) -> Result<bool, fjall::Error> {
    let has_groups = content.groups.prefix(NUMBER.to_be_bytes()).next().is_some();
    Ok(has_groups || !content.queues.is_empty()?)
}
