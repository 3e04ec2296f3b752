//! Where what belongs to queues is stored.
//!
//! ```text
//!   jobs     message                          what was put, if it is not for later
//!   queues   c                                checkpoint
//!            q queue                          name, config, switches, what it has for later
//!            s message                        its record, if it is not as it was put
//!            f message place                  why it failed: the last few times, in turns
//!            l due message                    what was put for later
//!            d message                        when that is
//!            n queue message                  the same by queue, and what it counts for
//!            m message                        it has to be in memory nevertheless
//!            k queue key                      the message that a key stands for, and until when
//!            K until queue key                the same, by time
//!            r message                        a result, until when it is kept, and its queue
//!            R until message                  the same, by time
//!            t schedule                       what it was told
//!            T schedule                       how far it is
//! ```
//!
//! Numbers are big-endian. Every value ends with a checksum of its key and itself.

use std::sync::Arc;

use posthaste_history::store::Timestamp;
use posthaste_queue::{MessageId, Reason};

pub(super) const CHECKPOINT: &[u8] = b"c";

fn with(kind: u8, numbers: &[u64]) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + 8 * numbers.len());
    key.push(kind);
    numbers.iter().for_each(|number| key.extend_from_slice(&number.to_be_bytes()));
    key
}

pub(super) fn job(id: MessageId) -> [u8; 8] {
    id.to_be_bytes()
}

pub(super) fn queue(queue: u32) -> Vec<u8> {
    with(b'q', &[queue.into()])
}

pub(super) fn record(id: MessageId) -> Vec<u8> {
    with(b's', &[id])
}

/// Of one more than are kept, the newest takes the place of the oldest.
pub(super) fn reason(id: MessageId, number: u32) -> Vec<u8> {
    with(b'f', &[id, u64::from(number.saturating_sub(1)) % Reason::MAX_KEPT as u64])
}

/// All of a message.
pub(super) fn reasons(id: MessageId) -> Vec<u8> {
    with(b'f', &[id])
}

pub(super) fn later(due: Timestamp, id: MessageId) -> Vec<u8> {
    with(b'l', &[due.0, id])
}

pub(super) fn due(id: MessageId) -> Vec<u8> {
    with(b'd', &[id])
}

pub(super) fn due_of(queue: u32, id: MessageId) -> Vec<u8> {
    with(b'n', &[queue.into(), id])
}

pub(super) fn kept_at_hand(id: MessageId) -> Vec<u8> {
    with(b'm', &[id])
}

pub(super) fn remembered(queue: u32, key: &str) -> Vec<u8> {
    [&with(b'k', &[queue.into()]), key.as_bytes()].concat()
}

pub(super) fn forgotten(until: Timestamp, queue: u32, key: &str) -> Vec<u8> {
    [&with(b'K', &[until.0, queue.into()]), key.as_bytes()].concat()
}

pub(super) fn result(id: MessageId) -> Vec<u8> {
    with(b'r', &[id])
}

pub(super) fn result_end(until: Timestamp, id: MessageId) -> Vec<u8> {
    with(b'R', &[until.0, id])
}

/// All that schedules were told.
pub(super) const SCHEDULES: &[u8] = b"t";

pub(super) fn schedule(name: &str) -> Vec<u8> {
    [SCHEDULES, name.as_bytes()].concat()
}

pub(super) fn progress(schedule: &str) -> Vec<u8> {
    [b"T", schedule.as_bytes()].concat()
}

/// Whose key it is: of what schedules were told.
pub(super) fn name_of_schedule(key: &[u8]) -> Option<Arc<str>> {
    std::str::from_utf8(key.strip_prefix(SCHEDULES)?).ok().map(Arc::from)
}

/// The number at the end of a key: of a message, most often.
pub(super) fn last(key: &[u8]) -> Option<u64> {
    key.last_chunk().map(|id| u64::from_be_bytes(*id))
}

/// The first number of a key of the keyspace `queues`.
pub(super) fn first(key: &[u8]) -> Option<u64> {
    key.get(1..)?.first_chunk().map(|id| u64::from_be_bytes(*id))
}
