//! Going on without what is lost of work queues, and saying what that is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use posthaste_history::store::StoreError;
use posthaste_queue::{Change, Later};

use crate::codec::{seal, unseal};
use crate::config::Config;
use crate::content::Content;
use crate::error::{read_failed, write_failed};
use crate::work::handle::Inner;
use crate::work::load::{Damage, Losses, load};
use crate::work::{NUMBER, disk, keys, reasons};

/// Tokens that may have been given are passed over, however many starts of the store are among what is lost.
const LEAP: u64 = 1 << 40;

/// Makes queues of what can be read of them. Returns what is missing, a sentence each.
///
/// A message that is there has not ended, whatever else is lost: it may be done once more. Numbers and tokens go on far behind those that
/// may have been given.
pub(crate) fn salvage(content: &Content, config: &Config) -> Result<Vec<String>, StoreError> {
    let mut losses = Losses::default();
    delayed(content, &mut losses)?;
    let mut batch = content.engine.batch();
    remove(content, &mut batch, &mut losses);
    content.write(|| batch.commit()).map_err(|error| write_failed(&error))?;

    let mut damage = Damage::Listed(losses);
    let inner = Arc::new(Inner::new(config.clone(), content.clone()));
    let mut committer = load(inner, &mut damage)?;
    let Damage::Listed(mut losses) = damage else { return Ok(Vec::new()) };
    nameless(content, &committer.machine.queues().iter().map(|queue| queue.queue).collect(), &mut losses)?;
    reasons::salvage(content, &committer.machine, &mut losses)?;
    let tokens =
        committer.machine.remembered().filter_map(|it| if let Change::Tokens(it) = it { Some(it) } else { None });
    let tokens = tokens.max().unwrap_or(0) + LEAP;
    committer.machine.skip_to(committer.machine.next_id() + (LEAP >> 8), tokens);

    // All of it is written down anew, so that no group is needed.
    committer.next = Default::default();
    committer.moved.extend(committer.machine.in_memory());
    committer.altered.extend(committer.machine.queues().iter().map(|queue| queue.queue));
    committer.checkpoint.group = committer.written;
    let mut batch = content.engine.batch();
    for entry in content.groups.prefix(NUMBER.to_be_bytes()) {
        batch.remove(&content.groups, entry.key().map_err(read_failed)?);
    }
    remove(content, &mut batch, &mut losses);
    content.write(|| batch.commit()).map_err(|error| write_failed(&error))?;
    committer.jobs = content.jobs.iter().count() as u64;
    committer.write_checkpoint()?;
    Ok(losses.said)
}

fn remove(content: &Content, batch: &mut fjall::OwnedWriteBatch, losses: &mut Losses) {
    losses.jobs.drain(..).for_each(|key| batch.remove(&content.jobs, key));
    losses.queues.drain(..).for_each(|key| batch.remove(&content.queues, key));
}

/// Of messages that were put for later: those that can be read are found by their numbers, and nothing else is.
fn delayed(content: &Content, losses: &mut Losses) -> Result<(), StoreError> {
    let mut batch = content.engine.batch();
    let mut there = BTreeMap::new();
    for entry in content.queues.prefix(b"l") {
        let (key, value) = entry.into_inner().map_err(read_failed)?;
        let id = keys::last(&key).unwrap_or(0);
        let Ok(message) = disk::message(id, &key, &value) else {
            losses.said.push(format!("message {id}, which was put for later, is not what was written"));
            losses.queues.push(key.to_vec());
            continue;
        };
        there.insert(id, message.queue);
        let index = keys::due_of(message.queue, id);
        batch.insert(&content.queues, &index[..], seal(&index, disk::encode_later(Later::of(&message))));
        let (index, due) = (keys::due(id), keys::first(&key).unwrap_or(0));
        batch.insert(&content.queues, &index[..], seal(&index, due.to_be_bytes().to_vec()));
    }
    for kind in [b"d", b"m"] {
        for entry in content.queues.prefix(kind) {
            let (key, value) = entry.into_inner().map_err(read_failed)?;
            let id = keys::last(&key).unwrap_or(0);
            if there.contains_key(&id) {
                continue;
            }
            if kind == b"d"
                && unseal(&key, &value).is_some()
                && !losses.queues.iter().any(|it| keys::last(it) == Some(id))
            {
                losses.said.push(format!("message {id}, which was put for later, is missing"));
            }
            losses.queues.push(key.to_vec());
        }
    }
    for entry in content.queues.prefix(b"n") {
        let key = entry.key().map_err(read_failed)?;
        let queue = keys::last(&key).and_then(|id| there.get(&id));
        if queue.is_none_or(|queue| keys::first(&key) != Some(u64::from(*queue))) {
            losses.queues.push(key.to_vec());
        }
    }
    for kind in [b"r", b"K", b"R"] {
        for entry in content.queues.prefix(kind) {
            let (key, value) = entry.into_inner().map_err(read_failed)?;
            if unseal(&key, &value).is_none() {
                losses.said.push("a result, or when something is to be forgotten, is not what was written".into());
                losses.queues.push(key.to_vec());
            }
        }
    }
    content.write(|| batch.commit()).map_err(|error| write_failed(&error))
}

/// Messages of queues that nobody knows.
fn nameless(content: &Content, known: &BTreeSet<u32>, losses: &mut Losses) -> Result<(), StoreError> {
    let mut lost = BTreeMap::<u32, u64>::new();
    for (keyspace, is_late) in [(&content.jobs, false), (&content.queues, true)] {
        for entry in keyspace.prefix(if is_late { &b"l"[..] } else { &[] }) {
            let (key, value) = entry.into_inner().map_err(read_failed)?;
            let id = keys::last(&key).unwrap_or(0);
            let Ok(message) = disk::message(id, &key, &value) else { continue };
            if known.contains(&message.queue) {
                continue;
            }
            *lost.entry(message.queue).or_default() += 1;
            if is_late {
                let indexes = [keys::due(id), keys::due_of(message.queue, id), keys::kept_at_hand(id)];
                losses.queues.push(key.to_vec());
                losses.queues.extend(indexes);
            } else {
                losses.jobs.push(key.to_vec());
            }
        }
    }
    for (queue, count) in lost {
        losses.said.push(format!("the name of queue {queue}, and with it its {count} messages"));
    }
    Ok(())
}
