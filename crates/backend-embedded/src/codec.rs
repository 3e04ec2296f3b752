//! How records are written. Numbers are big-endian; every value ends with a checksum of its key and itself.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};
use posthaste_history::store::{Group, Remembered, Retention, StreamHead, StreamName, Timestamp};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// What every group begins with, for whoever looks for groups in a file that cannot be read in order.
pub(crate) const MAGIC: &[u8; 8] = b"PHgroup1";
const CHECK: usize = 8;

fn check(key: &[u8], value: &[u8]) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(key);
    hash.update(value);
    hash.digest()
}

/// Adds the checksum.
pub(crate) fn seal(key: &[u8], mut value: Vec<u8>) -> Vec<u8> {
    let sum = check(key, &value);
    value.put_u64(sum);
    value
}

/// The same, of a key and a value that stand one behind the other.
pub(crate) fn seal_whole(key_and_value: &mut Vec<u8>) {
    let sum = xxh3_64(key_and_value);
    key_and_value.put_u64(sum);
}

/// Takes the checksum off; `None` if it is wrong.
pub(crate) fn unseal<'a>(key: &[u8], value: &'a [u8]) -> Option<&'a [u8]> {
    let (value, sum) = value.split_last_chunk::<CHECK>()?;
    (check(key, value) == u64::from_be_bytes(*sum)).then_some(value)
}

pub(crate) fn stream_key(shard: u32, stream: u64, pos: u64) -> [u8; 20] {
    let mut key = [0; 20];
    key[..4].copy_from_slice(&shard.to_be_bytes());
    key[4..12].copy_from_slice(&stream.to_be_bytes());
    key[12..].copy_from_slice(&pos.to_be_bytes());
    key
}

pub(crate) fn group_key(shard: u32, number: u64) -> [u8; 12] {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&shard.to_be_bytes());
    key[4..].copy_from_slice(&number.to_be_bytes());
    key
}

pub(crate) fn head_key(shard: u32, stream: u64) -> [u8; 13] {
    let mut key = [b'h'; 13];
    key[1..].copy_from_slice(&group_key(shard, stream));
    key
}

pub(crate) fn heads_prefix(shard: u32) -> Vec<u8> {
    [&b"h"[..], &shard.to_be_bytes()].concat()
}

/// Of the number of a stream, by its name.
pub(crate) fn name_key(shard: u32, name: &str) -> Vec<u8> {
    [&b"n"[..], &shard.to_be_bytes(), name.as_bytes()].concat()
}

pub(crate) fn checkpoint_key(shard: u32) -> Vec<u8> {
    [&b"c"[..], &shard.to_be_bytes()].concat()
}

pub(crate) fn mark_key(shard: u32) -> Vec<u8> {
    [&b"u"[..], &shard.to_be_bytes()].concat()
}

pub(crate) fn shard_key(name: &str) -> Vec<u8> {
    [b"s", name.as_bytes()].concat()
}

pub(crate) fn cursor_key(shard: u32, stream: u64, device: &str) -> Vec<u8> {
    [&group_key(shard, stream), device.as_bytes()].concat()
}

pub(crate) fn session_key(shard: u32, pid: &str) -> Vec<u8> {
    [&shard.to_be_bytes(), pid.as_bytes()].concat()
}

/// A message without its place, which is its key.
pub(crate) struct Stored {
    pub(crate) at: Timestamp,
    pub(crate) prev: u64,
    pub(crate) n: u64,
    pub(crate) payload: Bytes,
}

impl Stored {
    pub(crate) fn encode(&self, key: &[u8]) -> Vec<u8> {
        let mut value = Vec::with_capacity(32 + self.payload.len());
        value.put_u64(self.at.0);
        value.put_u64(self.prev);
        value.put_u64(self.n);
        value.put_slice(&self.payload);
        seal(key, value)
    }

    pub(crate) fn decode(key: &[u8], value: &[u8]) -> Option<Self> {
        let mut value = unseal(key, value)?;
        let at = Timestamp(value.try_get_u64().ok()?);
        let (prev, n) = (value.try_get_u64().ok()?, value.try_get_u64().ok()?);
        Some(Self { at, prev, n, payload: Bytes::copy_from_slice(value) })
    }
}

fn put_text(to: &mut Vec<u8>, text: &[u8]) {
    to.put_u32(text.len() as u32);
    to.put_slice(text);
}

fn text<'a>(from: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = from.try_get_u32().ok()? as usize;
    let (text, rest) = from.split_at_checked(length)?;
    *from = rest;
    Some(text)
}

fn name(from: &mut &[u8]) -> Option<Arc<str>> {
    std::str::from_utf8(text(from)?).ok().map(Arc::from)
}

fn put_retention(to: &mut Vec<u8>, retention: Retention) {
    to.put_u64(retention.max_age_ms);
    to.put_u64(retention.max_messages);
    to.put_u64(retention.max_bytes);
    to.put_u8(retention.until_passed.into());
}

fn retention(from: &mut &[u8]) -> Option<Retention> {
    Some(Retention {
        max_age_ms: from.try_get_u64().ok()?,
        max_messages: from.try_get_u64().ok()?,
        max_bytes: from.try_get_u64().ok()?,
        until_passed: from.try_get_u8().ok()? == 1,
    })
}

/// A stream's head as a checkpoint has it.
pub(crate) fn encode_head(key: &[u8], name: &str, head: &StreamHead) -> Vec<u8> {
    let mut value = Vec::with_capacity(96 + name.len());
    for number in [head.id, head.head, head.n, head.floor, head.floor_n, head.bytes] {
        value.put_u64(number);
    }
    value.put_u64(head.oldest.map_or(u64::MAX, |oldest| oldest.0));
    value.put_u8(head.retention.is_some().into());
    if let Some(retention) = head.retention {
        put_retention(&mut value, retention);
    }
    put_text(&mut value, name.as_bytes());
    seal(key, value)
}

pub(crate) fn decode_head<'a>(key: &[u8], value: &'a [u8]) -> Option<(&'a str, StreamHead)> {
    let mut value = unseal(key, value)?;
    let mut number = || value.try_get_u64().ok();
    let (id, head, n) = (number()?, number()?, number()?);
    let (floor, floor_n, bytes) = (number()?, number()?, number()?);
    let oldest = Some(number()?).filter(|oldest| *oldest != u64::MAX).map(Timestamp);
    let retention = if value.try_get_u8().ok()? == 1 { Some(retention(&mut value)?) } else { None };
    let name = std::str::from_utf8(text(&mut value)?).ok()?;
    Some((name, StreamHead { id, head, n, floor, floor_n, bytes, oldest, retention }))
}

/// How far the heads of a shard are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    /// The last group that is in them.
    pub(crate) group: u64,
    /// The last position of that group.
    pub(crate) head: u64,
    /// The first group that is kept.
    pub(crate) from: u64,
    /// Of streams that were dropped: how far they had come. The number of the next stream.
    pub(crate) dropped: (u64, u64),
}

impl Checkpoint {
    pub(crate) fn encode(self, key: &[u8]) -> Vec<u8> {
        let mut value = Vec::with_capacity(48);
        for number in [self.group, self.head, self.from, self.dropped.0, self.dropped.1] {
            value.put_u64(number);
        }
        seal(key, value)
    }

    pub(crate) fn decode(key: &[u8], value: &[u8]) -> Option<Self> {
        let mut value = unseal(key, value)?;
        let mut number = || value.try_get_u64().ok();
        let (group, head, from) = (number()?, number()?, number()?);
        // Before streams could be dropped, it ended here.
        let dropped = (number().unwrap_or(0), number().unwrap_or(0));
        Some(Self { group, head, from, dropped })
    }
}

/// What a group did to one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Touched {
    pub(crate) stream: u64,
    /// Its name, if it is new.
    pub(crate) name: Option<StreamName>,
    /// Its last position and number behind the group.
    pub(crate) head: u64,
    pub(crate) n: u64,
    /// What its messages of the group cost.
    pub(crate) cost: u64,
}

/// A group as it is stored, its messages aside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct GroupRecord {
    pub(crate) shard: u32,
    pub(crate) number: u64,
    /// Groups up to this one were synced when it was written.
    pub(crate) synced: u64,
    /// The shard's last position behind it.
    pub(crate) head: u64,
    pub(crate) streams: Vec<Touched>,
    pub(crate) retentions: Vec<(u64, Retention)>,
    pub(crate) trims: Vec<(u64, u64)>,
    pub(crate) keys: Vec<Remembered>,
    /// What changed in queues, as their codec has it.
    pub(crate) changes: Vec<u8>,
}

impl GroupRecord {
    pub(crate) fn new(shard: u32, synced: u64, head: u64, group: &Group) -> Self {
        let mut streams: Vec<Touched> = Vec::new();
        let created = group.created.iter();
        streams.extend(created.map(|(name, id)| Touched {
            stream: *id,
            name: Some(name.clone()),
            head: 0,
            n: 0,
            cost: 0,
        }));
        let mut places: std::collections::HashMap<u64, usize> =
            streams.iter().enumerate().map(|(place, it)| (it.stream, place)).collect();
        for record in &group.records {
            let place = *places.entry(record.stream).or_insert_with(|| {
                streams.push(Touched { stream: record.stream, name: None, head: 0, n: 0, cost: 0 });
                streams.len() - 1
            });
            let touched = &mut streams[place];
            (touched.head, touched.n) = (record.message.pos, record.message.n);
            touched.cost += record.cost;
        }
        let (retentions, trims, keys) = (group.retentions.clone(), group.trims.clone(), group.keys.clone());
        Self { shard, number: group.number, synced, head, streams, retentions, trims, keys, changes: Vec::new() }
    }

    /// The streams that it says something of.
    pub(crate) fn touched(&self) -> impl Iterator<Item = u64> {
        let messages = self.streams.iter().map(|touched| touched.stream);
        messages.chain(self.retentions.iter().map(|(id, _)| *id)).chain(self.trims.iter().map(|(id, _)| *id))
    }

    /// `MAGIC`, length of everything behind it, then the fields.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(64 + self.streams.len() * 40 + self.changes.len());
        body.put_slice(MAGIC);
        body.put_u32(0);
        body.put_u32(self.shard);
        for number in [self.number, self.synced, self.head] {
            body.put_u64(number);
        }
        body.put_u32(self.streams.len() as u32);
        for touched in &self.streams {
            for number in [touched.stream, touched.head, touched.n, touched.cost] {
                body.put_u64(number);
            }
            body.put_u8(touched.name.is_some().into());
            if let Some(name) = &touched.name {
                put_text(&mut body, name.as_bytes());
            }
        }
        body.put_u32(self.retentions.len() as u32);
        for (stream, retention) in &self.retentions {
            body.put_u64(*stream);
            put_retention(&mut body, *retention);
        }
        body.put_u32(self.trims.len() as u32);
        for (stream, through) in &self.trims {
            body.put_u64(*stream);
            body.put_u64(*through);
        }
        body.put_u32(self.keys.len() as u32);
        for key in &self.keys {
            for number in [key.stream, key.at.0, key.pos, key.n] {
                body.put_u64(number);
            }
            put_text(&mut body, &key.key);
        }
        if !self.changes.is_empty() {
            put_text(&mut body, &self.changes);
        }
        let length = (body.len() - MAGIC.len() - 4 + CHECK) as u32;
        body[MAGIC.len()..][..4].copy_from_slice(&length.to_be_bytes());
        seal(&group_key(self.shard, self.number), body)
    }

    /// Reads a group from the beginning of `bytes`, which may go on.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut length = bytes.strip_prefix(MAGIC)?;
        let length = length.try_get_u32().ok()? as usize;
        let whole = bytes.get(..MAGIC.len() + 4 + length)?;
        let mut head = whole.get(MAGIC.len() + 4..)?;
        let (shard, number) = (head.try_get_u32().ok()?, head.try_get_u64().ok()?);
        let from = &mut unseal(&group_key(shard, number), whole)?.get(MAGIC.len() + 16..)?;
        let mut group = Self { shard, number, ..Self::default() };
        group.synced = from.try_get_u64().ok()?;
        group.head = from.try_get_u64().ok()?;
        for _ in 0..from.try_get_u32().ok()? {
            let (stream, head) = (from.try_get_u64().ok()?, from.try_get_u64().ok()?);
            let (n, cost) = (from.try_get_u64().ok()?, from.try_get_u64().ok()?);
            let name = if from.try_get_u8().ok()? == 1 { Some(name(from)?) } else { None };
            group.streams.push(Touched { stream, name, head, n, cost });
        }
        for _ in 0..from.try_get_u32().ok()? {
            group.retentions.push((from.try_get_u64().ok()?, retention(from)?));
        }
        for _ in 0..from.try_get_u32().ok()? {
            group.trims.push((from.try_get_u64().ok()?, from.try_get_u64().ok()?));
        }
        for _ in 0..from.try_get_u32().ok()? {
            let (stream, at) = (from.try_get_u64().ok()?, Timestamp(from.try_get_u64().ok()?));
            let (pos, n) = (from.try_get_u64().ok()?, from.try_get_u64().ok()?);
            let key = Bytes::copy_from_slice(text(from)?);
            group.keys.push(Remembered { stream, key, at, pos, n });
        }
        if !from.is_empty() {
            group.changes = text(from)?.to_vec();
        }
        from.is_empty().then_some(group)
    }
}
