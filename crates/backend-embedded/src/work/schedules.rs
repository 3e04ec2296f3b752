//! Schedules on the disk: what each was told, and apart from it how far it is, which is little and changes with every time.
//!
//! Both are written with the group that they changed in, so a start reads them and nothing else.

use bytes::Bytes;
use fjall::OwnedWriteBatch;
use posthaste_history::store::{StoreError, Timestamp};
use posthaste_queue::{Change, Fired, Machine, Missed, Schedule, ScheduleName, Scheduled, StoredPut, When};
use rustc_hash::FxHashSet;
use serde::{Deserialize, Serialize};

use crate::codec::{seal, unseal};
use crate::content::Content;
use crate::error::read_failed;
use crate::work::codec::{decode_message, encode_message};
use crate::work::keys;
use crate::work::load::Damage;

/// What a schedule was told, but for what is put: that is behind it, as a message is written.
#[derive(Serialize, Deserialize)]
struct Told {
    queue: String,
    when: When,
    missed: Missed,
    ttl_ms: Option<u64>,
}

/// How far it is: an object, so that it may grow.
#[derive(Serialize, Deserialize)]
struct Progress {
    is_paused: bool,
    next: u64,
    /// The time, when that was, and the message.
    last: Option<(u64, u64, u64)>,
    count: u64,
}

impl Progress {
    fn of(scheduled: &Scheduled) -> Self {
        let last = scheduled.last.map(|last| (last.time.0, last.at.0, last.id));
        Self { is_paused: scheduled.is_paused, next: scheduled.next.0, last, count: scheduled.count }
    }
}

fn json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("invariant: what is known of a schedule is an object of texts and numbers")
}

fn told(schedule: &Schedule) -> Vec<u8> {
    let Schedule { when, missed, put, ttl_ms } = schedule;
    let head = json(&Told { queue: String::from(&*put.queue), when: when.clone(), missed: *missed, ttl_ms: *ttl_ms });
    let mut value = [&(head.len() as u32).to_be_bytes()[..], &head].concat();
    encode_message(&mut value, &StoredPut { id: 0, queue: 0, at: Default::default(), put: put.clone() });
    value
}

fn read_told(value: &[u8]) -> Option<Schedule> {
    let (length, rest) = value.split_first_chunk()?;
    let (head, message) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    let Told { queue, when, missed, ttl_ms } = serde_json::from_slice(head).ok()?;
    let mut put = decode_message(0, &Bytes::copy_from_slice(message))?.put;
    put.queue = queue.into();
    Some(Schedule { when, missed, put, ttl_ms })
}

/// What the changes of a group come to: of one key a batch may say one thing only, so those that were made last are written first.
#[derive(Default)]
pub(super) struct Writing {
    told: FxHashSet<ScheduleName>,
    moved: FxHashSet<ScheduleName>,
}

impl Writing {
    /// Writes what a change of a schedule alters, unless a later one does. Returns what that takes in the journal, about; other changes
    /// alter nothing here.
    pub(super) fn write(
        &mut self,
        content: &Content,
        batch: &mut OwnedWriteBatch,
        machine: &Machine,
        change: &Change,
    ) -> u64 {
        let (Change::Scheduled { name, .. } | Change::Fired { name, .. } | Change::Unscheduled { name }) = change
        else {
            return 0;
        };
        let queues = &content.queues;
        let (definition, progress) = (keys::schedule(name), keys::progress(name));
        // What it is after the whole group.
        let now = machine.scheduled_as(name);
        let mut bytes = 0;
        if self.moved.insert(name.clone()) {
            match now {
                Some(now) => {
                    let value = json(&Progress::of(now));
                    bytes += value.len() as u64;
                    batch.insert(queues, &progress[..], seal(&progress, value));
                }
                None => batch.remove(queues, &progress[..]),
            }
        }
        if !matches!(change, Change::Fired { .. }) && self.told.insert(name.clone()) {
            match now {
                Some(now) => {
                    let value = told(&now.schedule);
                    bytes += value.len() as u64;
                    batch.insert(queues, &definition[..], seal(&definition, value));
                }
                None => batch.remove(queues, &definition[..]),
            }
        }
        bytes
    }
}

/// Reads all schedules.
pub(super) fn load(content: &Content, machine: &mut Machine, damage: &mut Damage) -> Result<(), StoreError> {
    for entry in content.queues.prefix(keys::SCHEDULES) {
        let (key, value) = entry.into_inner().map_err(read_failed)?;
        let name = keys::name_of_schedule(&key);
        let progress_key = name.as_deref().map(keys::progress);
        let progress = match &progress_key {
            Some(key) => content.queues.get(key).map_err(read_failed)?,
            None => None,
        };
        let scheduled = unseal(&key, &value).and_then(read_told).zip(progress_key.as_deref().zip(progress));
        let scheduled = scheduled.and_then(|(schedule, (key, value))| read_progress(schedule, key, &value));
        match name.as_ref().zip(scheduled) {
            Some((name, scheduled)) => machine.restore_schedule(name, scheduled),
            None => {
                let name = name.unwrap_or_default();
                let losses = damage.found(format!("what is known of the schedule {name:?} is not what was written"))?;
                losses.queues.extend([Some(key.to_vec()), progress_key].into_iter().flatten());
            }
        }
    }
    Ok(())
}

fn read_progress(schedule: Schedule, key: &[u8], value: &[u8]) -> Option<Scheduled> {
    let Progress { is_paused, next, last, count } = serde_json::from_slice(unseal(key, value)?).ok()?;
    let last = last.map(|(time, at, id)| Fired { time: Timestamp(time), at: Timestamp(at), id });
    Some(Scheduled { schedule: schedule.into(), is_paused, next: Timestamp(next), last, count, problem: None })
}

#[cfg(test)]
mod tests {
    use posthaste_history::store::Durability;
    use posthaste_queue::{Dedup, DedupMode, Put};

    use super::*;

    #[test]
    fn what_a_schedule_was_told_can_be_read_again() {
        let put = Put::new(&"reports".into(), Bytes::from_static(b"\0\xffx"), Durability::Disk);
        let dedup = Some(Dedup { key: "k".into(), mode: DedupMode::UntilDone, window_ms: None });
        let full = Put { priority: 9, key: Some("ann".into()), dedup, attempts: Some(3), ..put.clone() };
        let full = Put { headers: Bytes::from_static(b"{}"), keep_result_ms: Some(7), ..full };
        for (put, when, missed, ttl_ms) in [
            (put, When::Every { ms: 1_000 }, Missed::Once, None),
            (full, When::cron("@daily").in_zone("Europe/Berlin"), Missed::All { max: 7 }, Some(5)),
        ] {
            let schedule = Schedule { when, missed, put, ttl_ms };
            assert_eq!(read_told(&told(&schedule)), Some(schedule));
        }
        assert!(read_told(b"\0\0\0\xff{}").is_none() && read_told(b"").is_none());
    }
}
