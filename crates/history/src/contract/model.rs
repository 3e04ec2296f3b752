//! A store as lists. Slow, and simple enough to be believed.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::pid::Pid;
use crate::position::Epoch;
use crate::store::{Message, Put, Retention, SessionRecord, StreamInfo, StreamName, Timestamp, WindowLimits, Write};

pub(super) struct Model {
    pub(super) epoch: Epoch,
    pub(super) head: u64,
    pub(super) streams: BTreeMap<StreamName, ModelStream>,
    pub(super) cursors: BTreeMap<(StreamName, Arc<str>), u64>,
    pub(super) sessions: Vec<(Pid, SessionRecord)>,
    /// The furthest that a stream had come that was dropped.
    dropped: u64,
    default: Retention,
    window: WindowLimits,
    /// All keys ever, in order.
    keys: Vec<(Timestamp, StreamName, Bytes, u64, u64)>,
}

#[derive(Default)]
pub(super) struct ModelStream {
    /// Where those had come that were dropped before it was there.
    begin: u64,
    /// All messages ever.
    all: Vec<Message>,
    forgotten: usize,
    retention: Option<Retention>,
}

fn cost(message: &Message) -> u64 {
    message.payload.len() as u64 + Put::OVERHEAD
}

impl ModelStream {
    pub(super) fn kept(&self) -> &[Message] {
        &self.all[self.forgotten..]
    }

    pub(super) fn floor(&self) -> u64 {
        self.forgotten.checked_sub(1).map_or(self.begin, |last| self.all[last].pos)
    }

    pub(super) fn info(&self) -> StreamInfo {
        StreamInfo {
            head: self.all.last().map_or(self.begin, |last| last.pos),
            n: self.all.len() as u64,
            floor: self.floor(),
            messages: self.kept().len() as u64,
            bytes: self.kept().iter().map(cost).sum(),
        }
    }
}

/// What a model says of a put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) pos: u64,
    pub(super) n: u64,
    pub(super) dup: bool,
}

impl Model {
    pub(super) fn new(epoch: Epoch, default: Retention, window: WindowLimits) -> Self {
        let (streams, cursors) = (BTreeMap::new(), BTreeMap::new());
        Self { epoch, head: 0, streams, cursors, sessions: Vec::new(), dropped: 0, default, window, keys: Vec::new() }
    }

    /// A commit that keeps to the rules. Returns what its messages get, and the messages that are new.
    pub(super) fn commit(&mut self, now: Timestamp, writes: &[Write]) -> (Vec<Expected>, Vec<Message>) {
        let (mut receipts, mut new) = (Vec::new(), Vec::new());
        for write in writes {
            match write {
                Write::Put(put) => receipts.push(self.put(now, put, &mut new)),
                Write::Retain { stream, retention } => self.stream(stream).retention = Some(*retention),
                Write::Trim { stream, through } => {
                    let stream = self.stream(stream);
                    stream.forgotten = stream.forgotten.max(stream.all.partition_point(|it| it.pos <= *through));
                }
                Write::Cursor { stream, device, pos } => {
                    self.stream(stream);
                    let there = self.cursors.entry((stream.clone(), device.clone())).or_insert(*pos);
                    *there = (*there).max(*pos);
                }
                Write::ForgetCursor { stream, device } => drop(self.cursors.remove(&(stream.clone(), device.clone()))),
                Write::Session { pid, record } => {
                    self.sessions.retain(|(other, _)| other != pid);
                    self.sessions.extend(record.iter().map(|record| (*pid, (**record).clone())));
                }
            }
        }
        let touched = writes.iter().flat_map(|write| match write {
            Write::Put(put) => put.streams.clone(),
            Write::Retain { stream, .. }
            | Write::Trim { stream, .. }
            | Write::Cursor { stream, .. }
            | Write::ForgetCursor { stream, .. } => vec![stream.clone()],
            Write::Session { .. } => Vec::new(),
        });
        touched.for_each(|stream| self.forget(&stream, None));
        (receipts, new)
    }

    fn stream(&mut self, name: &StreamName) -> &mut ModelStream {
        let begin = self.dropped;
        self.streams.entry(name.clone()).or_insert_with(|| ModelStream { begin, ..ModelStream::default() })
    }

    /// What a stream is, also one that is not there.
    pub(super) fn info(&self, name: &StreamName) -> StreamInfo {
        let unknown = StreamInfo { head: self.dropped, floor: self.dropped, ..StreamInfo::default() };
        self.streams.get(name).map_or(unknown, ModelStream::info)
    }

    /// Drops what is empty and has come no further. Returns how many.
    pub(super) fn drop_idle(&mut self, through: u64) -> u64 {
        let Self { streams, cursors, keys, dropped, .. } = self;
        let before = streams.len();
        streams.retain(|name, stream| {
            let info = stream.info();
            let has_cursors = cursors.keys().any(|(of, _)| of == name);
            if info.messages > 0 || info.head > through || has_cursors {
                return true;
            }
            *dropped = (*dropped).max(info.head);
            keys.iter_mut().filter(|(_, of, ..)| of == name).for_each(|(_, of, ..)| *of = "".into());
            false
        });
        (before - streams.len()) as u64
    }

    fn put(&mut self, now: Timestamp, put: &Put, new: &mut Vec<Message>) -> Expected {
        let first = &put.streams[0];
        if let Some(key) = &put.key {
            let recent = &self.keys[self.keys.len().saturating_sub(self.window.max_keys)..];
            let young = |at: &Timestamp| now.0 - at.0 < self.window.max_age_ms;
            let is_it = |(at, stream, other, ..): &&(_, _, _, _, _)| young(at) && stream == first && other == key;
            if let Some((.., pos, n)) = recent.iter().rev().find(is_it) {
                return Expected { pos: *pos, n: *n, dup: true };
            }
        }
        self.head += 1;
        let pos = self.head;
        for name in &put.streams {
            let payload = put.payload.clone();
            let stream = self.stream(name);
            let (prev, n) = (stream.info().head, stream.all.len() as u64 + 1);
            if prev != pos {
                let message = Message { stream: name.clone(), pos, prev, n, at: now, payload };
                stream.all.push(message.clone());
                new.push(message);
            }
        }
        let n = self.streams[first].all.len() as u64;
        self.keys.extend(put.key.iter().map(|key| (now, first.clone(), key.clone(), pos, n)));
        Expected { pos, n, dup: false }
    }

    fn forget(&mut self, name: &StreamName, now: Option<Timestamp>) {
        let of_it = self.cursors.iter().filter(|((stream, _), _)| stream == name);
        let passed = of_it.map(|(_, pos)| *pos).min().unwrap_or(0);
        let default = self.default;
        let Some(stream) = self.streams.get_mut(name) else { return };
        let limits = stream.retention.unwrap_or(default);
        while let Some(oldest) = stream.kept().first() {
            let info = stream.info();
            let is_old = now.is_some_and(|now| now.0 - oldest.at.0 > limits.max_age_ms);
            let is_passed = limits.until_passed && oldest.pos <= passed;
            if !(is_old || is_passed || info.messages > limits.max_messages || info.bytes > limits.max_bytes) {
                break;
            }
            stream.forgotten += 1;
        }
    }

    /// Forgets what is too old. Returns how much.
    pub(super) fn retain(&mut self, now: Timestamp) -> u64 {
        let count = |model: &Self| model.streams.values().map(|stream| stream.forgotten).sum::<usize>();
        let before = count(self) + self.sessions.len();
        let names: Vec<StreamName> = self.streams.keys().cloned().collect();
        let sessions = self.sessions.len();
        names.iter().for_each(|name| self.forget(name, Some(now)));
        self.sessions.retain(|(_, record)| record.expires > now);
        (count(self) + sessions - before + sessions - self.sessions.len()) as u64
    }
}
