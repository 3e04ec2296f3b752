//! Taking queues up: the checkpoint, the groups behind it, and whether all of that is there.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::{Buf as _, BufMut as _};
use posthaste_history::store::{StoreError, Timestamp};
use posthaste_queue::{
    Change, Config as QueueConfig, Group, Limits, Machine, MessageId, QueueRecord, Record, Source as _,
};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::codec::{GroupRecord, group_key, mark_key, unseal};
use crate::config::Config;
use crate::content::Content;
use crate::error::{io, read_failed};
use crate::work::bodies::Bodies;
use crate::work::codec::{Far, Written, decode_changes, decode_record};
use crate::work::committer::Committer;
use crate::work::disk::{self, Disk};
use crate::work::handle::{CAPABILITIES, Inner};
use crate::work::{NUMBER, keys, schedules};

/// Numbers that a power cut may have taken back are passed over.
const LEAP: MessageId = 1 << 24;

/// How far what is known of queues is written down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Checkpoint {
    /// The last group that is in it.
    pub(super) group: u64,
    /// The number of the next message.
    id: MessageId,
    /// The number of the next queue.
    queue: u32,
    /// Tokens go on from here.
    tokens: u64,
    /// The time then: it does not go back.
    now: Timestamp,
    /// Messages that are there, but for those that were put for later.
    jobs: u64,
}

impl Checkpoint {
    pub(super) fn of(machine: &Machine, group: u64, now: Timestamp, jobs: u64) -> Self {
        let tokens = machine.remembered().filter_map(|it| if let Change::Tokens(it) = it { Some(it) } else { None });
        let tokens = tokens.last().unwrap_or(0);
        Self { group, id: machine.next_id(), queue: machine.next_queue(), tokens, now, jobs }
    }

    pub(super) fn encode(self) -> Vec<u8> {
        let mut value = Vec::with_capacity(40);
        [self.group, self.id, self.queue.into(), self.tokens, self.now.0, self.jobs]
            .into_iter()
            .for_each(|number| value.put_u64(number));
        value
    }

    fn decode(mut from: &[u8]) -> Option<Self> {
        let mut number = || from.try_get_u64().ok();
        let (group, id, queue) = (number()?, number()?, u32::try_from(number()?).ok()?);
        Some(Self { group, id, queue, tokens: number()?, now: Timestamp(number()?), jobs: number()? })
    }
}

/// What a checkpoint has of a queue: an object, so that it may grow.
#[derive(serde::Serialize, serde::Deserialize)]
struct QueueHead {
    name: String,
    config: Option<QueueConfig>,
    is_paused: bool,
    is_draining: bool,
    delayed: (u64, u64),
}

pub(super) fn encode_queue(record: &QueueRecord) -> Vec<u8> {
    let QueueRecord { queue: _, name, config, is_paused, is_draining, delayed } = record;
    let (name, config) = (String::from(&**name), config.as_deref().cloned());
    let head = QueueHead { name, config, is_paused: *is_paused, is_draining: *is_draining, delayed: *delayed };
    serde_json::to_vec(&head).expect("invariant: a queue's head is an object of texts and numbers")
}

fn decode_queue(queue: u32, value: &[u8]) -> Option<QueueRecord> {
    let QueueHead { name, config, is_paused, is_draining, delayed } = serde_json::from_slice(value).ok()?;
    let (name, config) = (name.into(), config.map(Arc::new));
    Some(QueueRecord { queue, name, config, is_paused, is_draining, delayed })
}

/// What is done about something that is not as it was written.
pub(super) enum Damage {
    /// It is an error, and nothing is changed.
    Refused,
    /// It is listed, and left out.
    Listed(Losses),
}

/// What is lost, a sentence each, and what is left of it on the disk.
#[derive(Default)]
pub(super) struct Losses {
    pub(super) said: Vec<String>,
    pub(super) jobs: Vec<Vec<u8>>,
    pub(super) queues: Vec<Vec<u8>>,
    /// Groups are missing: what the others behind them did to messages cannot be told.
    has_hole: bool,
}

impl Damage {
    /// Something is not as it was written.
    pub(super) fn found(&mut self, detail: String) -> Result<&mut Losses, StoreError> {
        match self {
            Self::Refused => Err(StoreError::Damaged(detail)),
            Self::Listed(losses) => {
                losses.said.push(detail);
                Ok(losses)
            }
        }
    }

    fn has_hole(&self) -> bool {
        matches!(self, Self::Listed(Losses { has_hole: true, .. }))
    }
}

/// Whether reading failed because what is there is not what was written.
fn is_damage<T>(read: &Result<T, StoreError>) -> bool {
    matches!(read, Err(StoreError::Damaged(_)))
}

/// What the groups behind the checkpoint say.
struct Behind {
    changes: Vec<Written>,
    last: u64,
    head: MessageId,
    /// When the last of them was written.
    now: Timestamp,
    /// Queues that are gone: they are left out, for others may have their names.
    deleted: FxHashSet<u32>,
}

fn groups(content: &Content, checkpoint: Checkpoint, damage: &mut Damage) -> Result<Behind, StoreError> {
    let mut behind = Behind {
        changes: Vec::new(),
        last: checkpoint.group,
        head: checkpoint.id,
        now: checkpoint.now,
        deleted: FxHashSet::default(),
    };
    let range = group_key(NUMBER, checkpoint.group + 1)..=group_key(NUMBER, u64::MAX);
    for entry in content.groups.range(range) {
        let (key, value) = entry.into_inner().map_err(read_failed)?;
        let next = behind.last + 1;
        let group = GroupRecord::decode(&value).filter(|group| group_key(NUMBER, group.number)[..] == key[..]);
        let Some(group) = group else {
            damage.found(format!("group {next} of the queues is not what was written"))?.has_hole = true;
            behind.last = next;
            continue;
        };
        if group.number != next {
            damage.found(format!("groups {next} to {} of the queues are missing", group.number - 1))?.has_hole = true;
        }
        let next = group.number;
        let Some((now, changes)) = decode_changes(&group.changes) else {
            damage.found(format!("group {next} of the queues cannot be read"))?.has_hole = true;
            behind.last = next;
            continue;
        };
        let deleted =
            |it: &Written| if let Written::Other(Change::Deleted { queue }) = it { Some(*queue) } else { None };
        behind.deleted.extend(changes.iter().filter_map(deleted));
        behind.changes.extend(changes);
        (behind.last, behind.head, behind.now) = (next, group.head.max(behind.head), now.max(behind.now));
    }
    Ok(behind)
}

/// Reads what is there and starts the thread.
pub(crate) fn start(content: &Content, config: &Config) -> Result<(Arc<Inner>, JoinHandle<()>), StoreError> {
    let inner = Arc::new(Inner::new(config.clone(), content.clone()));
    let mut committer = load(inner.clone(), &mut Damage::Refused)?;
    committer.begin()?;
    let thread = std::thread::Builder::new().name("posthaste-queues".into());
    let thread = thread.spawn(move || committer.run()).map_err(|error| io("starting the thread of queues", error))?;
    Ok((inner, thread))
}

fn limits(config: &Config) -> Limits {
    let makes_queues = config.makes_queues;
    Limits { max_queues: 100_000, max_consumers: 100_000, near: 65_536, makes_queues, capabilities: CAPABILITIES }
}

pub(super) fn load(inner: Arc<Inner>, damage: &mut Damage) -> Result<Committer, StoreError> {
    let content = inner.content.clone();
    let disk = Disk::new(content.clone(), Bodies::new(inner.config.cache_bytes as usize));
    let checkpoint = match content.queues.get(keys::CHECKPOINT).map_err(read_failed)? {
        None => Checkpoint::default(),
        Some(value) => match unseal(keys::CHECKPOINT, &value).and_then(Checkpoint::decode) {
            Some(checkpoint) => checkpoint,
            None => {
                damage.found("the checkpoint of the queues is not what was written".into())?.has_hole = true;
                Checkpoint::default()
            }
        },
    };
    let behind = groups(&content, checkpoint, damage)?;
    let mut machine = Machine::new(limits(&inner.config), seed()?);
    let mut altered = BTreeSet::new();
    for entry in content.queues.prefix(b"q") {
        let (key, value) = entry.into_inner().map_err(read_failed)?;
        let queue = keys::first(&key).and_then(|queue| u32::try_from(queue).ok());
        let record = queue.and_then(|queue| decode_queue(queue, unseal(&key, &value)?));
        let Some(record) = record else {
            let losses = damage.found("what is known of a queue is not what was written".into())?;
            losses.queues.push(key.to_vec());
            continue;
        };
        if !behind.deleted.contains(&record.queue) {
            machine.restore_queue(record);
        }
    }
    for written in &behind.changes {
        if let Written::Other(change @ Change::Created { queue, .. }) = written
            && !behind.deleted.contains(queue)
        {
            altered.insert(*queue);
            machine.replay(change, &disk)?;
        }
    }
    let (recorded, jobs) = messages(&disk, &mut machine, checkpoint, &behind, damage)?;
    let now = behind.now.max(inner.config.now());
    let moved = replay(&disk, &mut machine, &behind, &mut altered, damage)?;
    remembered(&disk, &mut machine, now, damage)?;
    schedules::load(&content, &mut machine, damage)?;
    machine.replay(&Change::Tokens(checkpoint.tokens), &disk)?;
    let next_id = behind.head + if is_cut(&inner)? { LEAP } else { 0 };
    let mut next = Group::default();
    machine.started(&mut next, next_id, checkpoint.queue);
    Ok(Committer {
        inner,
        machine,
        disk,
        now,
        looked: Instant::now(),
        ticks_left: 0,
        forgot: None,
        chores: VecDeque::new(),
        next,
        written: behind.last,
        synced: behind.last,
        unsynced_since: None,
        is_marked: false,
        last_count: 0,
        last_sync: Duration::ZERO,
        free: None,
        checkpoint,
        behind: behind.changes.len(),
        moved,
        recorded,
        altered,
        late: Vec::new(),
        put_bytes: 0,
        jobs,
    })
}

/// Messages that were put, less those that ended, those for later aside.
fn difference(behind: &Behind) -> i64 {
    let of_one = |written: &Written| match written {
        Written::Put { due: None, .. } => 1,
        Written::Other(Change::Ended { due: None, .. }) => -1,
        _ => 0,
    };
    behind.changes.iter().map(of_one).sum()
}

/// Every message, with its record if it has one. Returns those that have, and how many messages there are.
fn messages(
    disk: &Disk,
    machine: &mut Machine,
    checkpoint: Checkpoint,
    behind: &Behind,
    damage: &mut Damage,
) -> Result<(FxHashSet<MessageId>, u64), StoreError> {
    let content = &disk.content;
    let mut records: FxHashMap<MessageId, Record> = FxHashMap::default();
    for entry in content.queues.prefix(b"s") {
        let (key, value) = entry.into_inner().map_err(read_failed)?;
        let record = unseal(&key, &value).and_then(decode_record);
        let (Some(record), Some(id)) = (record, keys::last(&key)) else {
            let id = keys::last(&key).unwrap_or(0);
            let losses = damage.found(format!("what happened to message {id} is not what was written"))?;
            losses.queues.push(key.to_vec());
            continue;
        };
        records.insert(id, record);
    }
    let recorded = records.keys().copied().collect();
    let ended: FxHashSet<MessageId> = behind.changes.iter().filter_map(ended).collect();
    let put = behind.changes.iter().filter_map(|written| match written {
        Written::Put { id, due: None, .. } if !ended.contains(id) => Some(*id),
        _ => None,
    });
    let (mut expected, mut count) = (put.peekable(), 0);
    for entry in content.jobs.iter() {
        let (key, value) = entry.into_inner().map_err(read_failed)?;
        let id = keys::last(&key).unwrap_or(0);
        count += 1;
        let message = disk::message(id, &key, &value);
        if id >= checkpoint.id.max(1) && !damage.has_hole() {
            while let Some(missing) = expected.next_if(|next| *next < id) {
                damage.found(format!("message {missing}, which was put, is missing"))?;
            }
            if expected.next_if_eq(&id).is_none() {
                damage.found(format!("message {id} is there, but no group says that it was put"))?;
            }
        }
        if is_damage(&message) {
            damage.found(format!("message {id} of a queue is not what was written"))?.jobs.push(key.to_vec());
            count -= 1;
            continue;
        }
        let message = message?;
        let cost = message.put.cost();
        machine.restore(&message.without_body(), cost, records.remove(&id));
    }
    let has_hole = damage.has_hole();
    for missing in expected.filter(|_| !has_hole) {
        damage.found(format!("message {missing}, which was put, is missing"))?;
    }
    if Some(count) != checkpoint.jobs.checked_add_signed(difference(behind)) && !damage.has_hole() {
        let known = checkpoint.jobs.saturating_add_signed(difference(behind));
        damage.found(format!("there are {count} messages in queues, of {known} that have not ended"))?;
    }
    // Of those that were put for later: whatever was ready by then, or is somewhere else.
    for message in disk.at_hand(checkpoint.now) {
        if is_damage(&message) {
            damage.found("a message that was put for later is not what was written".into())?;
            continue;
        }
        let message = message?;
        let (id, cost) = (message.id, message.put.cost());
        machine.restore(&message.without_body(), cost, records.remove(&id));
    }
    let mut rest: Vec<_> = records.into_iter().collect();
    rest.sort_unstable_by_key(|(id, _)| *id);
    for (id, record) in rest {
        let there = disk.message(id);
        if is_damage(&there) {
            damage.found(format!("message {id}, which was put for later, is not what was written"))?;
            continue;
        }
        if let Some(message) = there? {
            let cost = message.put.cost();
            machine.restore(&message.without_body(), cost, Some(record));
        }
    }
    Ok((recorded, count))
}

fn ended(written: &Written) -> Option<MessageId> {
    match written {
        Written::Other(Change::Ended { id, .. }) => Some(*id),
        _ => None,
    }
}

/// What happened since the checkpoint. What came and went since then is left out. Returns which messages were moved.
fn replay(
    disk: &Disk,
    machine: &mut Machine,
    behind: &Behind,
    altered: &mut BTreeSet<u32>,
    damage: &mut Damage,
) -> Result<FxHashSet<MessageId>, StoreError> {
    let put = |written: &Written| if let Written::Put { id, .. } = written { Some(*id) } else { None };
    let put: FxHashSet<MessageId> = behind.changes.iter().filter_map(put).collect();
    let gone: FxHashSet<MessageId> = behind.changes.iter().filter_map(ended).filter(|id| put.contains(id)).collect();
    let mut moved = FxHashSet::default();
    for written in &behind.changes {
        let change = match written {
            Written::Put { id, far: Some(Far { queue, cost }), .. } if !gone.contains(id) => {
                altered.insert(*queue);
                machine.replay_far(*id, *queue, *cost);
                continue;
            }
            Written::Put { id, due: Some(_), far: None } if !gone.contains(id) => {
                let there = disk.message(*id);
                if is_damage(&there) || matches!(there, Ok(None)) {
                    damage.found(format!("message {id}, which was put, is missing"))?;
                    continue;
                }
                let Some(there) = there? else { continue };
                altered.insert(there.queue);
                machine.replay(&Change::Put(Box::new(there)), disk)?;
                continue;
            }
            // Those that are listed by number were restored.
            Written::Put { .. } | Written::Schedule => continue,
            Written::Other(change) => change,
        };
        match change {
            Change::Created { .. } => continue,
            Change::Leased { id, .. }
            | Change::Touched { id, .. }
            | Change::Returned { id, .. }
            | Change::Died { id, .. }
            | Change::Redriven { id, .. } => {
                if gone.contains(id) || damage.has_hole() {
                    continue;
                }
                moved.insert(*id);
            }
            Change::Ended { id, queue, due, .. } => {
                if gone.contains(id) {
                    continue;
                }
                moved.remove(id);
                if due.is_some() {
                    altered.insert(*queue);
                }
                // It is not on the disk, so it was not restored. Whether it was counted among those for later nobody can tell any more: what
                // is counted too much is found when the last of them is read, what is counted too little would hide one that is there.
                if !machine.has(*id) {
                    continue;
                }
            }
            Change::Configured { queue, .. } | Change::Switched { queue, .. } | Change::Deleted { queue } => {
                altered.insert(*queue);
                if behind.deleted.contains(queue) {
                    continue;
                }
            }
            _ => {}
        }
        machine.replay(change, disk)?;
    }
    Ok(moved)
}

/// Keys that stand for messages.
fn remembered(disk: &Disk, machine: &mut Machine, now: Timestamp, damage: &mut Damage) -> Result<(), StoreError> {
    for entry in disk.content.queues.prefix(b"k") {
        let (key, value) = entry.into_inner().map_err(read_failed)?;
        let queue = keys::first(&key).and_then(|queue| u32::try_from(queue).ok());
        let name = key.get(9..).and_then(|name| std::str::from_utf8(name).ok());
        let (Some(queue), Some(name), Some((id, until))) = (queue, name, disk::remembered(&key, &value)) else {
            let losses = damage.found("a key of a queue is not what was written".into())?;
            losses.queues.push(key.to_vec());
            continue;
        };
        if until > now {
            machine.replay(&Change::Remembered { queue, key: name.into(), id, until }, disk)?;
        }
    }
    Ok(())
}

/// Whether the system stopped while something was out that it may have lost.
fn is_cut(inner: &Inner) -> Result<bool, StoreError> {
    let key = mark_key(NUMBER);
    let boot = inner.config.boot();
    let noted = inner.content.heads.get(&key).map_err(read_failed)?;
    Ok(noted.is_some_and(|value| unseal(&key, &value).is_none_or(|noted| noted != boot.as_bytes() || boot.is_empty())))
}

fn seed() -> Result<u64, StoreError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| io("random bytes for the queues", error))?;
    Ok(u64::from_ne_bytes(bytes))
}
