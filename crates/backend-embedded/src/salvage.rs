//! Going on without what is lost, and saying what that is.

use std::collections::{BTreeMap, HashMap};

use fjall::PersistMode;
use posthaste_history::store::{Put, StreamHead, StreamName};

use crate::codec::{
    Checkpoint, GroupRecord, Stored, checkpoint_key, decode_head, encode_head, head_key, heads_prefix, name_key, seal,
};
use crate::content::{Content, position};
use crate::error::OpenError;
use crate::open::renew_epoch;

/// One stream, as far as its messages can be read.
struct Read {
    /// Behind the last hole: the first message there, and what they cost.
    first: (u64, u64),
    last: (u64, u64),
    bytes: u64,
}

/// Makes a shard of what can be read of it. Returns what is missing, a sentence each.
///
/// Its epoch is a new one: no client may take a position that it remembers for one of this shard. Of a stream with a hole, what is
/// before the hole counts as forgotten.
pub(crate) fn shard(content: &Content, name: &str, number: u32) -> Result<Vec<String>, OpenError> {
    let failed = |error| OpenError::engine(std::path::Path::new(name), error);
    let mut losses = Vec::new();
    let mut known: BTreeMap<u64, (StreamName, StreamHead)> = BTreeMap::new();
    for entry in content.heads.prefix(heads_prefix(number)) {
        let (key, value) = entry.into_inner().map_err(failed)?;
        match decode_head(&key, &value) {
            Some((name, head)) => drop(known.insert(head.id, (name.into(), head))),
            None => losses.push(format!("shard {name:?}: the name of a stream")),
        }
    }
    let (mut last_group, mut head, mut dropped) = (0, 0, (0, 0));
    let checkpoint = content.heads.get(checkpoint_key(number)).map_err(failed)?;
    if let Some(checkpoint) = checkpoint.and_then(|value| Checkpoint::decode(&checkpoint_key(number), &value)) {
        (last_group, head, dropped) = (checkpoint.group, checkpoint.head, checkpoint.dropped);
    }
    let mut groups = Vec::new();
    for entry in content.groups.prefix(number.to_be_bytes()) {
        let (key, value) = entry.into_inner().map_err(failed)?;
        if let Some(group) = GroupRecord::decode(&value) {
            (last_group, head) = (last_group.max(group.number), head.max(group.head));
            for touched in group.streams {
                let Some(name) = touched.name else { continue };
                let id = touched.stream;
                known.entry(id).or_insert((name, StreamHead::new(id, dropped.0)));
            }
            for (id, retention) in group.retentions {
                known.entry(id).and_modify(|(_, head)| head.retention = Some(retention));
            }
        }
        groups.push(key);
    }
    // A group that is kept for its keys may name a stream that was dropped, and is there again under another number.
    let latest: HashMap<StreamName, u64> = known.iter().map(|(id, (name, _))| (name.clone(), *id)).collect();
    known.retain(|id, (name, _)| latest.get(name) == Some(id));
    let mut streams: HashMap<u64, Read> = HashMap::new();
    let mut unreadable = 0_u64;
    for entry in content.messages.prefix(number.to_be_bytes()) {
        let Ok((key, value)) = entry.into_inner() else {
            unreadable += 1;
            continue;
        };
        let id = key.get(4..12).and_then(|id| id.first_chunk()).map_or(0, |id| u64::from_be_bytes(*id));
        let pos = position(&key);
        head = head.max(pos);
        let Some(stored) = Stored::decode(&key, &value) else {
            unreadable += 1;
            continue;
        };
        let cost = stored.payload.len() as u64 + Put::OVERHEAD;
        let there = (pos, stored.n);
        let read = streams.entry(id).or_insert(Read { first: there, last: (0, stored.n - 1), bytes: 0 });
        if stored.n != read.last.1 + 1 {
            let stream = known.get(&id).map_or("", |(name, _)| &**name);
            losses.push(format!("shard {name:?}, stream {stream:?}: messages {} to {}", read.last.1 + 1, stored.n - 1));
            (read.first, read.bytes) = (there, 0);
        }
        read.last = there;
        read.bytes += cost;
    }
    if unreadable > 0 {
        losses.push(format!("shard {name:?}: {unreadable} messages are not what was written"));
    }
    let mut batch = content.engine.batch();
    for (id, (stream, found)) in &mut known {
        match streams.remove(id) {
            Some(read) => {
                if read.last.1 < found.n {
                    losses.push(format!(
                        "shard {name:?}, stream {stream:?}: messages {} to {}",
                        read.last.1 + 1,
                        found.n
                    ));
                }
                (found.head, found.n, found.bytes) = (read.last.0, read.last.1, read.bytes);
                (found.floor, found.floor_n) = (read.first.0 - 1, read.first.1 - 1);
            }
            None if found.n > found.floor_n => {
                losses.push(format!(
                    "shard {name:?}, stream {stream:?}: messages {} to {}",
                    found.floor_n + 1,
                    found.n
                ));
                (found.floor, found.floor_n, found.bytes) = (found.head, found.n, 0);
            }
            None => {}
        }
        found.oldest = None;
        let key = head_key(number, *id);
        batch.insert(&content.heads, &key[..], encode_head(&key, stream, found));
        let key = name_key(number, stream);
        batch.insert(&content.heads, &key[..], seal(&key, id.to_be_bytes().to_vec()));
    }
    for id in streams.keys() {
        losses.push(format!("shard {name:?}: the name of stream {id}, and with it its messages"));
    }
    for key in groups {
        batch.remove(&content.groups, key);
    }
    renew_epoch(content, &mut batch, name, number)
        .map_err(|error| OpenError::Damaged { path: name.into(), detail: error.to_string() })?;
    let key = checkpoint_key(number);
    let checkpoint = Checkpoint { group: last_group, head, from: last_group + 1, dropped };
    batch.insert(&content.heads, &key[..], checkpoint.encode(&key));
    let written = content.write(|| batch.commit());
    written.and_then(|()| content.engine.persist(PersistMode::SyncAll)).map_err(failed)?;
    Ok(losses)
}
