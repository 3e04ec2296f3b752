//! The steps that come by every rule.

use super::steps::{Mistake, Offered, Step};
use super::{Place, Violation, history, run};
use crate::store::{Durability, Retention};

/// Checks a store: scripts first, then forty histories that are the same every time.
///
/// # Errors
/// The first [`Violation`].
pub fn check(place: &dyn Place) -> Result<(), Violation> {
    for script in scripts() {
        run::steps(place, &script)?;
    }
    tapes(HISTORIES, 40, 4).try_for_each(|tape| history(place, &tape))
}

/// Tapes of bytes, the same every time: so many, the first of `first` bytes, each of `more` bytes more than the one before.
pub fn tapes(count: usize, first: usize, more: usize) -> impl Iterator<Item = Vec<u8>> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()[3]
    };
    (0..count).map(move |place| (0..first + place * more).map(|_| random()).collect())
}

const HISTORIES: usize = 40;

fn scripts() -> Vec<Vec<Step>> {
    use Durability::{Disk, Os};
    let one = |stream, size, key| (vec![stream], size, key);
    let limits =
        |max_messages, max_bytes, until_passed| Retention { max_age_ms: 500, max_messages, max_bytes, until_passed };
    let several =
        || Step::Put(vec![one(0, 10, None), one(1, 20, None), one(0, 700, None), (vec![2, 0, 2], 9, None)], Disk);
    let restarts = |before: Vec<Step>| {
        [Step::Reopen, Step::Kill].map(|restart| {
            let after = [restart, several(), Step::Reopen, Step::Kill];
            before.iter().cloned().chain(after).collect::<Vec<_>>()
        })
    };
    let mut scripts = vec![
        vec![several(), several(), Step::Put(vec![one(3, 0, None)], Os), several()],
        vec![several(), Step::Read(vec![(0, 9), (1, 9), (2, 2)], 2, 10_000), Step::Read(vec![(0, 9), (1, 9)], 9, 100)],
        // A key: again, again in one commit, in another stream, past its time, past their number.
        vec![
            Step::Put(vec![one(0, 8, Some(1)), one(0, 9, Some(1)), one(1, 8, Some(1))], Disk),
            Step::Put(vec![one(0, 8, Some(1))], Os),
            Step::Wait(299),
            Step::Put(vec![one(0, 8, Some(1))], Disk),
            Step::Wait(1),
            Step::Put(vec![one(0, 8, Some(1))], Disk),
            Step::Put((1..7).map(|key| one(2, 8, Some(key))).collect(), Disk),
            Step::Put(vec![one(0, 8, Some(1))], Disk),
        ],
        vec![
            several(),
            Step::Trim(0, 2),
            several(),
            Step::Trim(0, 50),
            Step::Trim(1, 0),
            Step::Recover(0, Offered::Nothing),
        ],
        vec![
            several(),
            several(),
            Step::Retain(0, limits(2, 9_999, false)),
            several(),
            Step::Retain(0, limits(0, 0, false)),
            several(),
        ],
        vec![Step::Retain(0, limits(99, 900, false)), several(), several()],
        vec![
            several(),
            Step::Wait(900),
            several(),
            Step::Wait(200),
            Step::RetainAll,
            Step::Wait(2_000),
            Step::RetainAll,
        ],
        // An inbox: two devices, one behind; it is forgotten.
        vec![
            Step::Retain(0, limits(99, 9_999, true)),
            several(),
            several(),
            Step::Cursor(0, 0, 1),
            Step::Cursor(0, 1, 6),
            Step::Cursor(0, 0, 5),
            Step::ForgetCursor(0, 1),
            Step::Cursor(0, 2, 0),
            Step::ForgetCursor(1, 1),
        ],
        vec![
            several(),
            Step::Session(0, 100),
            several(),
            Step::Recover(0, Offered::Before(3)),
            Step::Recover(0, Offered::Ahead),
            Step::Recover(0, Offered::OtherEpoch),
            Step::Session(0, 200),
            Step::Wait(150),
            Step::Session(1, 10),
            Step::Wait(49),
            Step::Recover(0, Offered::Nothing),
            Step::Wait(1),
            Step::Recover(0, Offered::Nothing),
            Step::RetainAll,
        ],
        vec![
            several(),
            Step::Session(0, 1_000),
            Step::ForgetSession(0),
            Step::Session(1, 1_000),
            Step::Trim(1, 0),
            Step::Trim(0, 0),
        ],
    ];
    // Streams are dropped: those that are empty, idle for long enough and nobody's inbox; they come again, and their keys with them.
    let dropping = vec![
        several(),
        Step::Put(vec![one(3, 8, Some(1)), one(4, 8, None)], Disk),
        Step::Session(0, 10_000),
        Step::Trim(3, 0),
        Step::Trim(4, 1),
        Step::Trim(1, 0),
        Step::Cursor(1, 0, 3),
        Step::DropIdle(4),
        Step::DropIdle(1),
        Step::Recover(0, Offered::Before(0)),
        Step::Put(vec![one(3, 8, Some(1))], Disk),
        Step::Trim(3, 0),
        Step::DropIdle(0),
        Step::Recover(0, Offered::Before(1)),
        Step::Retain(3, limits(5, 9_999, false)),
        Step::ForgetCursor(1, 0),
        Step::DropIdle(0),
    ];
    scripts.push(dropping.clone());
    scripts.extend(restarts(dropping));
    use Mistake::*;
    for mistake in [NoStream, LongPayload, LongName, CursorAhead, TooDurable] {
        scripts.push(vec![several(), Step::PutWithMistake(vec![0, 4], mistake), several()]);
    }
    scripts.extend(restarts(Vec::new()));
    scripts.extend(restarts(vec![
        several(),
        Step::Retain(0, limits(5, 9_999, true)),
        Step::Cursor(0, 0, 2),
        Step::Cursor(1, 1, 0),
        Step::Session(0, 1_000),
        Step::Put(vec![one(0, 8, Some(1)), one(3, 8, Some(2))], Os),
        Step::Trim(3, 0),
        Step::Wait(900),
        Step::RetainAll,
    ]));
    scripts
}
