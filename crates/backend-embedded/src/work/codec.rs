//! How messages, their records and changes are written. Numbers are LEB128 where nothing else is said.

use std::sync::{Arc, LazyLock};

use bytes::{Buf as _, BufMut as _, Bytes};
use posthaste_history::store::{Durability, Timestamp};
use posthaste_queue::{Backoff, Cause, Change, Dedup, DedupMode, Place, Put, Reason, Record, Rest, StoredPut};

fn put_number(to: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        to.push(number as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}

fn number(from: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = from.try_get_u8().ok()?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

fn put_bytes(to: &mut Vec<u8>, bytes: &[u8]) {
    put_number(to, bytes.len() as u64);
    to.extend_from_slice(bytes);
}

fn bytes<'a>(from: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(number(from)?).ok()?;
    let (bytes, rest) = from.split_at_checked(length)?;
    *from = rest;
    Some(bytes)
}

fn text(from: &mut &[u8]) -> Option<Arc<str>> {
    std::str::from_utf8(bytes(from)?).ok().map(Arc::from)
}

/// One more than the number, or 0 for none.
fn put_option(to: &mut Vec<u8>, number: Option<u64>) {
    put_number(to, number.map_or(0, |number| number.saturating_add(1)));
}

fn option(from: &mut &[u8]) -> Option<Option<u64>> {
    Some(number(from)?.checked_sub(1))
}

fn time(from: &mut &[u8]) -> Option<Timestamp> {
    number(from).map(Timestamp)
}

const DURABILITIES: [Durability; 4] = [Durability::Memory, Durability::Os, Durability::Disk, Durability::Quorum];

/// What a message has besides the usual.
mod has {
    pub(super) const KEY: u8 = 1;
    pub(super) const DEDUP: u8 = 2;
    pub(super) const EXPIRES: u8 = 4;
    pub(super) const ATTEMPTS: u8 = 8;
    pub(super) const BACKOFF: u8 = 16;
    pub(super) const RESULT: u8 = 32;
    pub(super) const HEADERS: u8 = 64;
    pub(super) const DUE: u8 = 128;
}

/// A message: its number is its key. The name of its queue is not in it.
pub(super) fn encode_message(to: &mut Vec<u8>, message: &StoredPut) {
    let put = &message.put;
    to.reserve(56 + put.payload.len() + put.headers.len());
    let flags = [
        (put.key.is_some(), has::KEY),
        (put.dedup.is_some(), has::DEDUP),
        (put.expires.is_some(), has::EXPIRES),
        (put.attempts.is_some(), has::ATTEMPTS),
        (put.backoff.is_some(), has::BACKOFF),
        (put.keep_result_ms.is_some(), has::RESULT),
        (!put.headers.is_empty(), has::HEADERS),
        (put.due.is_some(), has::DUE),
    ];
    to.push(flags.iter().map(|(is_there, flag)| if *is_there { *flag } else { 0 }).sum());
    to.push(put.priority | (put.durability as u8) << 6);
    put_number(to, message.queue.into());
    put_number(to, message.at.0);
    if let Some(key) = &put.key {
        put_bytes(to, key.as_bytes());
    }
    if let Some(Dedup { key, mode, window_ms }) = &put.dedup {
        to.push(*mode as u8);
        put_bytes(to, key.as_bytes());
        put_option(to, *window_ms);
    }
    for number in [put.expires.map(|at| at.0), put.attempts.map(u64::from), put.keep_result_ms, put.due.map(|at| at.0)]
    {
        number.into_iter().for_each(|number| put_number(to, number));
    }
    if let Some(backoff) = &put.backoff {
        put_backoff(to, backoff);
    }
    if !put.headers.is_empty() {
        put_bytes(to, &put.headers);
    }
    to.extend_from_slice(&put.payload);
}

/// What [`encode_message`] wrote; `None` if that cannot be. The queue's name is left empty. Payload and headers are parts of `value`.
pub(super) fn decode_message(id: u64, value: &Bytes) -> Option<StoredPut> {
    let mut rest = &value[..];
    let from = &mut rest;
    let (flags, kinds) = (from.try_get_u8().ok()?, from.try_get_u8().ok()?);
    let queue = u32::try_from(number(from)?).ok()?;
    let at = time(from)?;
    let durability = DURABILITIES[usize::from(kinds >> 6)];
    static NO_NAME: LazyLock<Arc<str>> = LazyLock::new(|| "".into());
    let mut put = Put::new(&NO_NAME, Bytes::new(), durability);
    put.priority = kinds & 0x3f;
    if flags & has::KEY != 0 {
        put.key = Some(text(from)?);
    }
    if flags & has::DEDUP != 0 {
        let mode = match from.try_get_u8().ok()? {
            0 => DedupMode::Reject,
            1 => DedupMode::UntilDone,
            2 => DedupMode::Replace,
            _ => return None,
        };
        put.dedup = Some(Dedup { mode, key: text(from)?, window_ms: option(from)? });
    }
    if flags & has::EXPIRES != 0 {
        put.expires = Some(time(from)?);
    }
    if flags & has::ATTEMPTS != 0 {
        put.attempts = Some(u32::try_from(number(from)?).ok()?);
    }
    if flags & has::RESULT != 0 {
        put.keep_result_ms = Some(number(from)?);
    }
    if flags & has::DUE != 0 {
        put.due = Some(time(from)?);
    }
    if flags & has::BACKOFF != 0 {
        put.backoff = Some(Box::new(backoff(from)?));
    }
    if flags & has::HEADERS != 0 {
        put.headers = value.slice_ref(bytes(from)?);
    }
    put.payload = value.slice_ref(rest);
    Some(StoredPut { id, queue, at, put })
}

fn put_backoff(to: &mut Vec<u8>, backoff: &Backoff) {
    match backoff {
        Backoff::None => to.push(0),
        Backoff::Fixed { ms } => {
            to.push(1);
            put_number(to, *ms);
        }
        Backoff::Linear { step_ms, max_ms } => {
            to.push(2);
            put_number(to, *step_ms);
            put_number(to, *max_ms);
        }
        Backoff::Exponential { first_ms, max_ms, jitter } => {
            to.push(3);
            put_number(to, *first_ms);
            put_number(to, *max_ms);
            to.put_f64(*jitter);
        }
        Backoff::List(list) => {
            to.push(4);
            put_number(to, list.len() as u64);
            list.iter().for_each(|ms| put_number(to, *ms));
        }
    }
}

fn backoff(from: &mut &[u8]) -> Option<Backoff> {
    Some(match from.try_get_u8().ok()? {
        0 => Backoff::None,
        1 => Backoff::Fixed { ms: number(from)? },
        2 => Backoff::Linear { step_ms: number(from)?, max_ms: number(from)? },
        3 => {
            let (first_ms, max_ms) = (number(from)?, number(from)?);
            Backoff::Exponential { first_ms, max_ms, jitter: from.try_get_f64().ok()? }
        }
        4 => Backoff::List((0..number(from)?).map(|_| number(from)).collect::<Option<_>>()?),
        _ => return None,
    })
}

/// What happened to a message since it was put.
pub(super) fn encode_record(record: &Record) -> Vec<u8> {
    let mut to = Vec::with_capacity(48);
    let Rest { deliveries, failures, losses, redriven } = record.rest;
    for count in [deliveries, failures, losses, redriven] {
        put_number(&mut to, u64::from(count));
    }
    match record.place {
        Place::From(at) => {
            to.push(0);
            put_number(&mut to, at.0);
        }
        Place::Leased { token, consumer, since, deadline, lease_ms } => {
            to.push(1);
            [token, consumer, since.0, deadline.0, lease_ms].into_iter().for_each(|number| put_number(&mut to, number));
        }
        Place::Dead(at) => {
            to.push(2);
            put_number(&mut to, at.0);
        }
    }
    to
}

pub(super) fn decode_record(mut from: &[u8]) -> Option<Record> {
    let from = &mut from;
    let mut count = || number(from).and_then(|count| u32::try_from(count).ok());
    let (deliveries, failures, losses, redriven) = (count()?, count()?, count()?, count()?);
    let rest = Rest { deliveries, failures, losses, redriven };
    let place = match from.try_get_u8().ok()? {
        0 => Place::From(time(from)?),
        1 => Place::Leased {
            token: number(from)?,
            consumer: number(from)?,
            since: time(from)?,
            deadline: time(from)?,
            lease_ms: number(from)?,
        },
        2 => Place::Dead(time(from)?),
        _ => return None,
    };
    from.is_empty().then_some(Record { rest, place })
}

/// Why a message failed, and when.
pub(super) fn encode_reason(at: Timestamp, reason: &Reason) -> Vec<u8> {
    let mut to = Vec::with_capacity(12 + reason.text.len());
    put_number(&mut to, reason.number.into());
    put_number(&mut to, at.0);
    to.extend_from_slice(reason.text.as_bytes());
    to
}

pub(super) fn decode_reason(mut from: &[u8]) -> Option<(Timestamp, Reason)> {
    let number = u32::try_from(number(&mut from)?).ok()?;
    let at = time(&mut from)?;
    Some((at, Reason { number, text: std::str::from_utf8(from).ok()?.into() }))
}

/// What stands for a reason in a group: it is stored as one.
fn elsewhere() -> Reason {
    Reason { number: 0, text: "".into() }
}

/// A change as a group has it: of a message that was put only its number and when it is due, since the rest is stored as a message.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Written {
    /// A message that was put.
    Put { id: u64, due: Option<Timestamp>, far: Option<Far> },
    /// Something about a schedule, which is stored by its name as it is after that.
    Schedule,
    /// Anything else.
    Other(Change),
}

/// Of a message that need not be in memory before its time: what it counts for, so that it is not read at a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Far {
    pub(super) queue: u32,
    pub(super) cost: u64,
}

mod kind {
    pub(super) const CREATED: u8 = 0;
    pub(super) const CONFIGURED: u8 = 1;
    pub(super) const SWITCHED: u8 = 2;
    pub(super) const DELETED: u8 = 3;
    pub(super) const PUT: u8 = 4;
    pub(super) const LEASED: u8 = 5;
    pub(super) const TOUCHED: u8 = 6;
    pub(super) const RETURNED: u8 = 7;
    pub(super) const DIED: u8 = 8;
    pub(super) const REDRIVEN: u8 = 9;
    pub(super) const ENDED: u8 = 10;
    pub(super) const TOKENS: u8 = 11;
    pub(super) const REMEMBERED: u8 = 12;
    pub(super) const SCHEDULE: u8 = 13;
}

pub(super) fn encode_change(to: &mut Vec<u8>, change: &Change) {
    let mut begin = |kind: u8, numbers: &[u64]| {
        to.push(kind);
        numbers.iter().for_each(|number| put_number(to, *number));
    };
    match change {
        Change::Created { queue, name } => {
            begin(kind::CREATED, &[(*queue).into()]);
            put_bytes(to, name.as_bytes());
        }
        Change::Configured { queue, config } => {
            begin(kind::CONFIGURED, &[(*queue).into()]);
            put_bytes(to, &serde_json::to_vec(config).expect("invariant: a config is an object of numbers"));
        }
        Change::Switched { queue, is_paused, is_draining } => {
            begin(kind::SWITCHED, &[(*queue).into(), (*is_paused).into(), (*is_draining).into()]);
        }
        Change::Deleted { queue } => begin(kind::DELETED, &[(*queue).into()]),
        Change::Put(message) => {
            begin(kind::PUT, &[message.id]);
            put_option(to, message.put.due.map(|due| due.0));
            if let Some(due) = message.put.due {
                let is_far = message.may_be_far() && due > message.at;
                put_option(to, is_far.then(|| message.queue.into()));
                if is_far {
                    put_number(to, message.put.cost());
                }
            }
        }
        Change::Leased { id, token, consumer, at, deadline } => {
            begin(kind::LEASED, &[*id, *token, *consumer, at.0, deadline.0.saturating_sub(at.0)]);
        }
        Change::Touched { id, deadline } => begin(kind::TOUCHED, &[*id, deadline.0]),
        Change::Returned { id, at, due, cause } => {
            begin(kind::RETURNED, &[*id, at.0, due.0]);
            match cause {
                Cause::Failed(_) => to.push(0),
                Cause::Released => to.push(1),
                Cause::Lost => to.push(2),
            }
        }
        Change::Died { id, at, reason: _, is_failure } => begin(kind::DIED, &[*id, at.0, (*is_failure).into()]),
        Change::Redriven { id, reasons: _ } => begin(kind::REDRIVEN, &[*id]),
        Change::Ended { id, queue, cost, due, result, reasons: _ } => {
            begin(kind::ENDED, &[*id, (*queue).into(), *cost]);
            put_option(to, due.map(|due| due.0));
            put_option(to, result.as_ref().map(|(_, until)| until.0));
        }
        Change::Tokens(token) => begin(kind::TOKENS, &[*token]),
        Change::Remembered { queue, key, id, until } => {
            begin(kind::REMEMBERED, &[(*queue).into(), *id, until.0]);
            put_bytes(to, key.as_bytes());
        }
        Change::Scheduled { name, .. } | Change::Fired { name, .. } | Change::Unscheduled { name } => {
            begin(kind::SCHEDULE, &[]);
            put_bytes(to, name.as_bytes());
        }
        // `Change` may grow; what cannot be written must not be lost in silence.
        other => panic!("invariant: every change can be written, also {other:?}"),
    }
}

/// What a group says begins with the time at which it is written.
pub(super) fn begin_changes(now: Timestamp, capacity: usize) -> Vec<u8> {
    let mut to = Vec::with_capacity(capacity);
    put_number(&mut to, now.0);
    to
}

/// Reads when a group was written, and all its changes; `None` if that cannot be.
pub(super) fn decode_changes(mut from: &[u8]) -> Option<(Timestamp, Vec<Written>)> {
    let now = time(&mut from)?;
    let mut changes = Vec::new();
    while !from.is_empty() {
        changes.push(decode_change(&mut from)?);
    }
    Some((now, changes))
}

fn decode_change(from: &mut &[u8]) -> Option<Written> {
    let queue = |from: &mut &[u8]| number(from).and_then(|queue| u32::try_from(queue).ok());
    let change = match from.try_get_u8().ok()? {
        kind::CREATED => Change::Created { queue: queue(from)?, name: text(from)? },
        kind::CONFIGURED => {
            let queue = queue(from)?;
            Change::Configured { queue, config: Box::new(serde_json::from_slice(bytes(from)?).ok()?) }
        }
        kind::SWITCHED => {
            Change::Switched { queue: queue(from)?, is_paused: number(from)? == 1, is_draining: number(from)? == 1 }
        }
        kind::DELETED => Change::Deleted { queue: queue(from)? },
        kind::PUT => {
            let (id, due) = (number(from)?, option(from)?.map(Timestamp));
            let queue = if due.is_some() { option(from)? } else { None };
            let far = match queue {
                None => None,
                Some(queue) => Some(Far { queue: u32::try_from(queue).ok()?, cost: number(from)? }),
            };
            return Some(Written::Put { id, due, far });
        }
        kind::LEASED => {
            let (id, token, consumer) = (number(from)?, number(from)?, number(from)?);
            let at = time(from)?;
            let deadline = Timestamp(at.0.checked_add(number(from)?)?);
            Change::Leased { id, token, consumer, at, deadline }
        }
        kind::TOUCHED => Change::Touched { id: number(from)?, deadline: time(from)? },
        kind::RETURNED => {
            let (id, at, due) = (number(from)?, time(from)?, time(from)?);
            let cause = match from.try_get_u8().ok()? {
                0 => Cause::Failed(elsewhere()),
                1 => Cause::Released,
                2 => Cause::Lost,
                _ => return None,
            };
            Change::Returned { id, at, due, cause }
        }
        kind::DIED => {
            let (id, at, is_failure) = (number(from)?, time(from)?, number(from)? == 1);
            Change::Died { id, at, is_failure, reason: elsewhere() }
        }
        kind::REDRIVEN => Change::Redriven { id: number(from)?, reasons: 0 },
        kind::ENDED => {
            let (id, queue, cost) = (number(from)?, queue(from)?, number(from)?);
            let due = option(from)?.map(Timestamp);
            let until = option(from)?.map(Timestamp);
            // The result itself is stored as one.
            Change::Ended { id, queue, cost, due, result: until.map(|until| (Bytes::new(), until)), reasons: 0 }
        }
        kind::TOKENS => Change::Tokens(number(from)?),
        kind::REMEMBERED => {
            let (queue, id, until) = (queue(from)?, number(from)?, time(from)?);
            Change::Remembered { queue, id, until, key: text(from)? }
        }
        kind::SCHEDULE => return bytes(from).map(|_| Written::Schedule),
        _ => return None,
    };
    Some(Written::Other(change))
}
