//! What queues have on the disk.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use bytes::Bytes;
use fjall::{OwnedWriteBatch, Slice};
use posthaste_history::store::{StoreError, Timestamp};
use posthaste_queue::{Change, Delivery, Later, MessageId, Source, StoredPut};

use crate::codec::{seal, seal_whole, unseal};
use crate::content::Content;
use crate::error::read_failed;
use crate::work::bodies::Bodies;
use crate::work::codec::{decode_message, encode_message};
use crate::work::{keys, reasons};

/// What the engine adds to a value in its journal, about.
pub(super) const ITEM_BYTES: u64 = 48;
/// Keys and results that are too old are let go in steps of so many.
const FORGET_STEP: usize = 128;

/// What is encoded is gathered in this much at most between two messages.
const SCRATCH_MAX: usize = 64 << 10;

/// The disk, and what of it is in memory.
pub(super) struct Disk {
    pub(super) content: Content,
    pub(super) bodies: RefCell<Bodies>,
    /// Where a message is encoded before the engine copies it.
    scratch: Vec<u8>,
    /// Whether there is room for what schedules put.
    pub(super) has_room: Cell<bool>,
}

pub(super) fn damaged(what: &str, id: MessageId) -> StoreError {
    StoreError::Damaged(format!("{what} of message {id} is not what was written"))
}

/// A message as it was read.
pub(super) fn message(id: MessageId, key: &[u8], value: &[u8]) -> Result<StoredPut, StoreError> {
    let found = unseal(key, value).and_then(|value| decode_message(id, &Bytes::copy_from_slice(value)));
    found.ok_or_else(|| damaged("the content", id))
}

fn pair(value: &[u8]) -> Option<(u64, &[u8])> {
    let (number, rest) = value.split_first_chunk()?;
    Some((u64::from_be_bytes(*number), rest))
}

impl Disk {
    pub(super) fn new(content: Content, bodies: Bodies) -> Self {
        Self { content, bodies: RefCell::new(bodies), scratch: Vec::new(), has_room: Cell::new(true) }
    }

    /// A message as it is stored under this key.
    fn encoded(&mut self, key: &[u8], message: &StoredPut) -> Slice {
        self.scratch.clear();
        self.scratch.shrink_to(SCRATCH_MAX);
        self.scratch.extend_from_slice(key);
        encode_message(&mut self.scratch, message);
        seal_whole(&mut self.scratch);
        Slice::from(&self.scratch[key.len()..])
    }

    /// What a change alters in what is stored by key; the body of a message that was put is taken out of it. Returns what that takes in
    /// the journal, about.
    pub(super) fn write(&mut self, batch: &mut OwnedWriteBatch, change: &mut Change) -> Result<u64, StoreError> {
        let mut bytes = ITEM_BYTES;
        if let Change::Put(message) = change {
            let (id, due) = (message.id, message.put.due);
            let Some(due) = due else {
                let key = keys::job(id);
                let value = self.encoded(&key, message);
                bytes += value.len() as u64;
                batch.insert(&self.content.jobs, key, value);
                let put = &mut message.put;
                let (payload, headers) = (std::mem::take(&mut put.payload), std::mem::take(&mut put.headers));
                self.bodies.get_mut().offer(id, payload, headers);
                return Ok(bytes);
            };
            let (key, index) = (keys::later(due, id), keys::due(id));
            let value = self.encoded(&key, message);
            bytes += value.len() as u64;
            let queues = &self.content.queues;
            batch.insert(queues, &key[..], value);
            batch.insert(queues, &index[..], seal(&index, due.0.to_be_bytes().to_vec()));
            let index = keys::due_of(message.queue, id);
            batch.insert(queues, &index[..], seal(&index, encode_later(Later::of(message))));
            bytes += ITEM_BYTES;
            if !message.may_be_far() {
                let mark = keys::kept_at_hand(id);
                batch.insert(queues, &mark[..], seal(&mark, Vec::new()));
            }
            return Ok(bytes);
        }
        let (jobs, queues) = (&self.content.jobs, &self.content.queues);
        match change {
            Change::Ended { id, queue, due, result, .. } => {
                match due {
                    None => batch.remove(jobs, keys::job(*id)),
                    Some(due) => {
                        batch.remove(queues, &keys::later(*due, *id)[..]);
                        batch.remove(queues, &keys::due(*id)[..]);
                        batch.remove(queues, &keys::due_of(*queue, *id)[..]);
                        batch.remove(queues, &keys::kept_at_hand(*id)[..]);
                    }
                }
                if let Some((result, until)) = result {
                    let (key, end) = (keys::result(*id), keys::result_end(*until, *id));
                    let value = [&until.0.to_be_bytes()[..], &queue.to_be_bytes(), result].concat();
                    batch.insert(queues, &key[..], seal(&key, value));
                    batch.insert(queues, &end[..], seal(&end, Vec::new()));
                }
                self.bodies.get_mut().remove(*id);
            }
            Change::Remembered { queue, key: name, id, until } => {
                let (key, end) = (keys::remembered(*queue, name), keys::forgotten(*until, *queue, name));
                let value = [id.to_be_bytes(), until.0.to_be_bytes()].concat();
                batch.insert(queues, &key[..], seal(&key, value));
                batch.insert(queues, &end[..], seal(&end, Vec::new()));
            }
            _ => bytes = 0,
        }
        Ok(bytes)
    }

    /// Lets go of keys and results whose time is over: some of them. Returns whether there may be more.
    pub(super) fn forget(&self, batch: &mut OwnedWriteBatch, now: Timestamp) -> Result<bool, StoreError> {
        let queues = &self.content.queues;
        let mut count = 0;
        let ends = |kind: u8| queues.range(vec![kind]..keys_until(kind, now)).take(FORGET_STEP);
        for entry in ends(b'K') {
            let key = entry.key().map_err(read_failed)?;
            // The number of the queue takes eight bytes, as the time does.
            if let Some(rest) = key.get(9..) {
                let there = [b"k", rest].concat();
                let value = queues.get(&there).map_err(read_failed)?;
                let until = value.as_deref().and_then(|value| remembered(&there, value)).map(|(_, until)| until);
                if until.is_some_and(|until| until <= now) {
                    batch.remove(queues, &there[..]);
                }
            }
            batch.remove(queues, key);
            count += 1;
        }
        let keys = std::mem::take(&mut count);
        for entry in ends(b'R') {
            let key = entry.key().map_err(read_failed)?;
            if let Some(id) = keys::last(&key) {
                batch.remove(queues, &keys::result(id)[..]);
            }
            batch.remove(queues, key);
            count += 1;
        }
        Ok(keys.max(count) >= FORGET_STEP)
    }

    /// What somebody is given: payload and headers are added.
    pub(super) fn fill(&self, delivery: &mut Delivery) -> Result<(), StoreError> {
        let id = delivery.id;
        let there = self.bodies.borrow().get(id);
        if let Some((payload, headers)) = there {
            (delivery.payload, delivery.headers) = (payload, headers);
            return Ok(());
        }
        let mut bodies = self.bodies.borrow_mut();
        let ahead = bodies.ahead(id);
        let mut entries = self.content.jobs.range(keys::job(id)..).take(ahead);
        if let Some(first) = entries.next() {
            let (key, value) = first.into_inner().map_err(read_failed)?;
            if keys::last(&key) == Some(id) {
                let put = message(id, &key, &value)?.put;
                (delivery.payload, delivery.headers) = (put.payload.clone(), put.headers.clone());
                bodies.hold(id, put.payload, put.headers);
                let mut last = id;
                for entry in entries {
                    let (key, value) = entry.into_inner().map_err(read_failed)?;
                    let Some(id) = keys::last(&key) else { break };
                    let put = message(id, &key, &value)?.put;
                    bodies.hold(id, put.payload, put.headers);
                    last = id;
                }
                bodies.read_to(last);
                return Ok(());
            }
        }
        drop(bodies);
        let found = self.message(id)?.ok_or_else(|| damaged("what is given out", id))?;
        (delivery.payload, delivery.headers) = (found.put.payload, found.put.headers);
        Ok(())
    }
}

pub(super) fn encode_later(later: Later) -> Vec<u8> {
    [later.due.0.to_be_bytes(), later.cost.to_be_bytes()].concat()
}

fn decode_later(id: MessageId, value: &[u8]) -> Option<Later> {
    let (due, rest) = pair(value)?;
    Some(Later { id, due: Timestamp(due), cost: pair(rest)?.0 })
}

/// The message that a key stands for, and until when.
pub(super) fn remembered(key: &[u8], value: &[u8]) -> Option<(MessageId, Timestamp)> {
    let (id, rest) = pair(unseal(key, value)?)?;
    Some((id, Timestamp(pair(rest)?.0)))
}

fn keys_until(kind: u8, now: Timestamp) -> Vec<u8> {
    [&[kind][..], &now.0.saturating_add(1).to_be_bytes()].concat()
}

impl Disk {
    /// Messages that were put to be ready by now, and others that have to be in memory.
    pub(super) fn at_hand(&self, now: Timestamp) -> impl Iterator<Item = Result<StoredPut, StoreError>> + '_ {
        let queues = &self.content.queues;
        let due = queues.range(vec![b'l']..keys_until(b'l', now)).map(|entry| {
            let (key, value) = entry.into_inner().map_err(read_failed)?;
            message(keys::last(&key).unwrap_or(0), &key, &value)
        });
        let marked = queues.prefix(b"m").filter_map(move |entry| {
            let found = entry.key().map_err(read_failed).map(|key| keys::last(&key).unwrap_or(0));
            let found = found.and_then(|id| self.message(id)).transpose();
            found.filter(|it| it.as_ref().map_or(true, |message| message.put.due.is_some_and(|due| due > now)))
        });
        due.chain(marked)
    }
}

impl Source for Disk {
    fn delayed(&self, after: (Timestamp, MessageId), max: usize) -> Result<Vec<(StoredPut, u64)>, StoreError> {
        let from = keys::later(after.0, after.1.saturating_add(1));
        let entries = self.content.queues.range(from..vec![b'l' + 1]).take(max);
        let read = |entry: fjall::Guard| {
            let (key, value) = entry.into_inner().map_err(read_failed)?;
            let message = message(keys::last(&key).unwrap_or(0), &key, &value)?;
            let cost = message.put.cost();
            Ok((message.without_body(), cost))
        };
        entries.map(read).collect()
    }

    fn delayed_of(&self, queue: u32, after: MessageId, max: usize) -> Result<Vec<Later>, StoreError> {
        let range = keys::due_of(queue, after.saturating_add(1))..=keys::due_of(queue, MessageId::MAX);
        let read = |entry: fjall::Guard| {
            let (key, value) = entry.into_inner().map_err(read_failed)?;
            let id = keys::last(&key).unwrap_or(0);
            unseal(&key, &value).and_then(|value| decode_later(id, value)).ok_or_else(|| damaged("the time", id))
        };
        self.content.queues.range(range).take(max).map(read).collect()
    }

    fn message(&self, id: MessageId) -> Result<Option<StoredPut>, StoreError> {
        let key = keys::job(id);
        if let Some(value) = self.content.jobs.get(key).map_err(read_failed)? {
            return message(id, &key, &value).map(Some);
        }
        let index = keys::due(id);
        let Some(value) = self.content.queues.get(&index).map_err(read_failed)? else { return Ok(None) };
        let (due, _) = unseal(&index, &value).and_then(pair).ok_or_else(|| damaged("the time", id))?;
        let key = keys::later(Timestamp(due), id);
        let Some(value) = self.content.queues.get(&key).map_err(read_failed)? else { return Ok(None) };
        message(id, &key, &value).map(Some)
    }

    fn reasons(&self, id: MessageId) -> Result<Vec<(Timestamp, Arc<str>)>, StoreError> {
        reasons::read(&self.content, id)
    }

    fn result(&self, now: Timestamp, id: MessageId) -> Result<Option<(u32, Bytes)>, StoreError> {
        let key = keys::result(id);
        let Some(value) = self.content.queues.get(&key).map_err(read_failed)? else { return Ok(None) };
        let read = unseal(&key, &value).and_then(pair).and_then(|(until, rest)| {
            let (queue, result) = rest.split_first_chunk()?;
            Some((until, u32::from_be_bytes(*queue), result))
        });
        let (until, queue, result) = read.ok_or_else(|| damaged("the result", id))?;
        Ok((until > now.0).then(|| (queue, Bytes::copy_from_slice(result))))
    }

    fn has_room(&self) -> bool {
        self.has_room.get()
    }
}
