//! What has to survive, on the local disk: the [`Store`](posthaste_history::store::Store) of one process, on the key-value engine
//! fjall.
//!
//! ```text
//!   commit ─► queue ─► committer (a thread per shard): positions ─► one write ─► one sync ─► heads, follower, receipts
//!   read ────► queue ─► reader (a thread) ─► messages by stream and position
//!   floors ─► checkpoint ─► whoever tidies up drops tables below them, compaction what lies between
//! ```
//!
//! - **Group commit.** While a group is being synced the next one gathers in the queue; nothing waits for company. What asks for
//!   `disk` has its receipt after the sync; what asks for less is written at once and synced within [`Config::sync_interval`].
//! - **Nothing is lost unseen.** Every record carries a checksum of its key and value, every group a number without holes and how
//!   far the disk was known to be synced. A hole at start-up is an [error](OpenError::Damaged) that says what is missing.
//! - **Shown in this order.** To readers, to the follower, to whoever waits for the receipt.
//! - **Forgetting frees.** What retention forgets needs no tombstones: a checkpoint says up to where each stream is forgotten.
//!   Tables of which nothing is kept are dropped, the rest is written anew when enough of it is waste, and what is in tables is
//!   punched out of the journal: without being told to.
//! - **Idle streams are on the disk.** Heads are in memory while something happens to their streams. Of the others there is at most
//!   when their oldest message may be too old.
//! - **After a failed write** nobody knows what is on the disk: everything is refused until the store is opened anew. Before the
//!   disk is full, messages are refused and the rest is not.

mod ahead;
mod codec;
mod committer;
mod config;
mod content;
mod error;
mod folder;
mod journal;
mod open;
mod queue;
mod salvage;
mod shard;
mod start;
mod store;
mod tidy;
mod tools;
mod within;
mod work;

pub use config::{Clock, Config};
pub use error::OpenError;
pub use store::EmbeddedStore;
pub use tools::{DiskUse, Progress, Report, Told, backup, restore, salvage, verify};
