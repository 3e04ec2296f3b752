//! Taking up a shard: its checkpoint, the groups behind it, and whether all of that is there.

use std::collections::{HashMap, HashSet, VecDeque};

use fjall::{OwnedWriteBatch, PersistMode};
use posthaste_history::Epoch;
use posthaste_history::store::{Heads, StoreError, StreamHead, StreamName};

use crate::codec::{
    Checkpoint, GroupRecord, checkpoint_key, decode_head, group_key, heads_prefix, mark_key, seal, shard_key,
    stream_key, unseal,
};
use crate::config::Config;
use crate::content::{Content, Part};
use crate::error::{io, read_failed};
use crate::shard::CAPABILITIES;

/// A shard as it was found.
pub(crate) struct Found {
    pub(crate) number: u32,
    pub(crate) heads: Heads,
    pub(crate) checkpoint: Checkpoint,
    pub(crate) dirty: HashSet<StreamName>,
    pub(crate) groups: VecDeque<(u64, u64)>,
}

fn damaged(detail: String) -> StoreError {
    StoreError::Damaged(detail)
}

/// Number and epoch of a shard; a new one gets both, and they are synced.
pub(crate) fn identify(content: &Content, name: &str, boot: &str) -> Result<(u32, Epoch), StoreError> {
    let key = shard_key(name);
    let there = content.heads.get(&key).map_err(read_failed)?;
    let (number, epoch) = match &there {
        Some(value) => {
            let fields = unseal(&key, value).and_then(|fields| <[u8; 8]>::try_from(fields).ok());
            let [n0, n1, n2, n3, e0, e1, e2, e3] =
                fields.ok_or_else(|| damaged(format!("the entry of shard {name:?} is not what was written")))?;
            (u32::from_be_bytes([n0, n1, n2, n3]), Epoch(u32::from_be_bytes([e0, e1, e2, e3])))
        }
        None => (content.heads.prefix(b"s").count() as u32 + 1, random()?),
    };
    let mark = mark_key(number);
    let marked = content.heads.get(&mark).map_err(read_failed)?;
    let is_cut = match &marked {
        Some(value) => unseal(&mark, value).is_none_or(|noted| noted != boot.as_bytes() || boot.is_empty()),
        None => false,
    };
    // The system stopped while positions were out that it may have lost: what was given to one message must not be given to another.
    let epoch = if is_cut { random()? } else { epoch };
    if there.is_none() || marked.is_some() {
        let mut batch = content.engine.batch();
        let fields = [number.to_be_bytes(), epoch.0.to_be_bytes()].concat();
        batch.insert(&content.heads, &key[..], seal(&key, fields));
        if is_cut {
            batch.remove(&content.heads, &mark[..]);
        }
        let written = content.write(|| batch.commit());
        written.and_then(|()| content.engine.persist(PersistMode::SyncAll)).map_err(read_failed)?;
    }
    Ok((number, epoch))
}

/// Gives a shard an epoch that no client knows, in this batch.
pub(crate) fn renew_epoch(
    content: &Content,
    batch: &mut OwnedWriteBatch,
    name: &str,
    number: u32,
) -> Result<(), StoreError> {
    let key = shard_key(name);
    batch.insert(&content.heads, &key[..], seal(&key, [number.to_be_bytes(), random()?.0.to_be_bytes()].concat()));
    batch.remove(&content.heads, mark_key(number));
    Ok(())
}

fn random() -> Result<Epoch, StoreError> {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).map_err(|error| io("random bytes for an epoch", error))?;
    Ok(Epoch(u32::from_be_bytes(bytes)))
}

/// Reads a shard: every group since the checkpoint has to be there, and the last message of each stream they touched.
pub(crate) fn load(content: &Content, config: &Config, name: &str) -> Result<Found, StoreError> {
    let (number, epoch) = identify(content, name, &config.boot())?;
    let key = checkpoint_key(number);
    let checkpoint = match content.heads.get(&key).map_err(read_failed)? {
        None => Checkpoint { from: 1, ..Checkpoint::default() },
        Some(value) => Checkpoint::decode(&key, &value)
            .ok_or_else(|| damaged(format!("the checkpoint of shard {name:?} is not what was written")))?,
    };
    let mut heads = Heads::new(epoch, config.retention, config.window, CAPABILITIES);
    let (mut next, mut head) = (checkpoint.from, checkpoint.head);
    let (mut behind, mut groups, mut keys) = (Vec::new(), VecDeque::new(), Vec::new());
    for entry in content.groups.range(group_key(number, checkpoint.from)..=group_key(number, u64::MAX)) {
        let (key, value) = entry.into_inner().map_err(read_failed)?;
        let group = GroupRecord::decode(&value).filter(|group| group_key(number, group.number)[..] == key[..]);
        let Some(mut group) = group else {
            return Err(damaged(format!("group {next} of shard {name:?} is not what was written")));
        };
        if group.number != next {
            let missing = format!("groups {next} to {} of shard {name:?} are missing", group.number - 1);
            return Err(damaged(missing));
        }
        next += 1;
        groups.push_back((group.number, group.head));
        keys.append(&mut group.keys);
        if group.number > checkpoint.group {
            head = group.head;
            behind.push(group);
        }
    }
    let last = next - 1;
    if last < checkpoint.group {
        let missing = format!("groups {next} to {} of shard {name:?} are missing", checkpoint.group);
        // Those behind a checkpoint may have been let go, all of them.
        if !groups.is_empty() {
            return Err(damaged(missing));
        }
    }
    heads.restore(head, last.max(checkpoint.group));
    let (dropped, next_stream) = checkpoint.dropped;
    heads.restore_dropped(dropped, next_stream);
    let mut touched = behind.iter().flat_map(GroupRecord::touched).collect::<HashSet<u64>>();
    let mut streams: HashMap<u64, (StreamName, StreamHead)> = HashMap::new();
    for entry in content.heads.prefix(heads_prefix(number)) {
        let (key, value) = entry.into_inner().map_err(read_failed)?;
        let (stream, head) = decode_head(&key, &value)
            .ok_or_else(|| damaged(format!("a stream's head in shard {name:?} is not what was written")))?;
        if touched.contains(&head.id) {
            streams.insert(head.id, (stream.into(), head));
        } else {
            heads.count(&head);
        }
    }
    let mut trims = HashMap::new();
    for group in behind {
        apply(group, dropped, &mut streams, &mut trims)?;
    }
    keys.into_iter().for_each(|key| heads.remember(key));
    let source = Part { content, shard: number };
    let mut dirty = HashSet::new();
    for (id, (name, head)) in streams {
        let key = stream_key(number, head.id, head.head);
        if head.n > head.floor_n && content.messages.get(key).map_err(read_failed)?.is_none() {
            return Err(damaged(format!("the last message of stream {name:?}, at {}, is missing", head.head)));
        }
        touched.remove(&id);
        heads.count(&head);
        heads.admit(&name, head);
        heads.forget(&name, trims.get(&id).copied().unwrap_or(0), None, &source)?;
        dirty.insert(name);
    }
    if let Some(unknown) = touched.iter().next() {
        return Err(damaged(format!("stream {unknown} of shard {name:?} is unknown")));
    }
    Ok(Found { number, heads, checkpoint, dirty, groups })
}

/// What a group did to the heads. Streams that are new begin behind those that were `dropped` before.
fn apply(
    group: GroupRecord,
    dropped: u64,
    streams: &mut HashMap<u64, (StreamName, StreamHead)>,
    trims: &mut HashMap<u64, u64>,
) -> Result<(), StoreError> {
    let number = group.number;
    let unknown = |stream: u64| damaged(format!("group {number} names stream {stream}, which is unknown"));
    for touched in group.streams {
        let id = touched.stream;
        if let Some(name) = touched.name {
            streams.insert(id, (name, StreamHead::new(id, dropped)));
        }
        let (_, head) = streams.get_mut(&id).ok_or_else(|| unknown(id))?;
        if touched.n > 0 {
            (head.head, head.n) = (touched.head, touched.n);
        }
        head.bytes += touched.cost;
    }
    for (id, retention) in group.retentions {
        streams.get_mut(&id).ok_or_else(|| unknown(id))?.1.retention = Some(retention);
    }
    for (id, through) in group.trims {
        let furthest = trims.entry(id).or_insert(0);
        *furthest = through.max(*furthest);
    }
    Ok(())
}
