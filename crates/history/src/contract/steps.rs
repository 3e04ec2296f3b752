//! What may happen to a store, in small numbers.

use crate::store::{Durability, Retention};

/// Something that happens. Streams, devices, sessions and keys are small numbers; sizes are bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// Messages in one commit: for each its streams, size and key.
    Put(Vec<(Vec<u8>, usize, Option<u8>)>, Durability),
    /// The same, with something behind it that has to be refused.
    PutWithMistake(Vec<u8>, Mistake),
    /// A stream is trimmed to so many positions before the end.
    Trim(u8, u64),
    /// A stream keeps so much from now on.
    Retain(u8, Retention),
    /// A device's cursor is set to so many positions before the end.
    Cursor(u8, u8, u64),
    /// A device is forgotten.
    ForgetCursor(u8, u8),
    /// A session is stored, to expire after so many milliseconds.
    Session(u8, u64),
    /// A session is forgotten.
    ForgetSession(u8),
    /// Time goes on, in milliseconds.
    Wait(u64),
    /// What is too old is forgotten.
    RetainAll,
    /// Streams are forgotten that nothing was put in since so many positions before the end.
    DropIdle(u64),
    /// Ranges are read to their end, page by page: streams with how far before the end they begin, and the size of a page.
    Read(Vec<(u8, u64)>, usize, usize),
    /// A session comes back with an offset.
    Recover(u8, Offered),
    /// The store is closed and opened again.
    Reopen,
    /// Its process is killed, and it is opened again.
    Kill,
}

/// What has to be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mistake {
    /// A message of no stream.
    NoStream,
    /// A payload that is too long.
    LongPayload,
    /// A name that is too long.
    LongName,
    /// A cursor that is ahead of the shard.
    CursorAhead,
    /// A durability that the store does not reach.
    TooDurable,
}

/// What a client shows that comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Offered {
    /// Nothing that can be read.
    Nothing,
    /// A position so far before the end.
    Before(u64),
    /// A position that was not reached.
    Ahead,
    /// One of another log.
    OtherEpoch,
}

pub(super) const STREAMS: u8 = 5;
pub(super) const DEVICES: u8 = 3;

/// The steps that bytes mean.
pub(super) fn parse(tape: &[u8]) -> Vec<Step> {
    let mut tape = tape.iter().copied();
    let mut steps = Vec::new();
    while let Some(kind) = tape.next() {
        let mut byte = || tape.next().unwrap_or(0);
        steps.push(match kind % 20 {
            0..=5 => {
                let count = 1 + byte() % 4;
                let durability = if byte() % 2 == 0 { Durability::Disk } else { Durability::Os };
                let mut put = || {
                    let which = byte();
                    let streams =
                        if which % 8 == 7 { vec![which / 8 % STREAMS, which % STREAMS] } else { vec![which % STREAMS] };
                    let (size, key) = (byte(), byte());
                    (streams, usize::from(size) * 3, (key % 3 == 0).then_some(key / 3 % 6))
                };
                Step::Put((0..count).map(|_| put()).collect(), durability)
            }
            6 => {
                use Mistake::*;
                let all = [NoStream, LongPayload, LongName, CursorAhead, TooDurable];
                Step::PutWithMistake(vec![byte() % STREAMS], all[usize::from(byte()) % all.len()])
            }
            7 => Step::Trim(byte() % STREAMS, byte().into()),
            8 => {
                let (max_messages, max_bytes) = (u64::from(byte() % 16), u64::from(byte()) * 16);
                let (age, until_passed) = (byte(), byte() % 3 == 0);
                let retention = Retention { max_age_ms: u64::from(age) * 10, max_messages, max_bytes, until_passed };
                Step::Retain(byte() % STREAMS, retention)
            }
            9 | 10 => Step::Cursor(byte() % STREAMS, byte() % DEVICES, (byte() % 16).into()),
            11 => Step::ForgetCursor(byte() % STREAMS, byte() % DEVICES),
            12 => Step::Session(byte() % 3, u64::from(byte()) * 10),
            13 if byte() % 4 == 0 => Step::ForgetSession(byte() % 3),
            13 | 14 => Step::Wait(u64::from(byte()) * 4),
            15 if byte() % 3 == 0 => Step::DropIdle((byte() % 16).into()),
            15 => Step::RetainAll,
            16 => {
                let ranges = (0..byte() % 4).map(|_| (byte() % STREAMS, u64::from(byte() % 32))).collect();
                Step::Read(ranges, usize::from(byte() % 8) + 1, usize::from(byte()) * 8)
            }
            17 | 18 => {
                let offered = match byte() % 6 {
                    0 => Offered::Nothing,
                    1 => Offered::Ahead,
                    2 => Offered::OtherEpoch,
                    _ => Offered::Before((byte() % 32).into()),
                };
                Step::Recover(byte() % 3, offered)
            }
            _ if byte() % 2 == 0 => Step::Reopen,
            _ => Step::Kill,
        });
    }
    steps
}
