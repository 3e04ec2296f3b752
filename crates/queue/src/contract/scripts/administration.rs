//! Looking after queues.

use super::{Script, draft, expect, once_under, put, say, take, with_key};
use crate::contract::steps::{Draft, Mistake, Say, Step};
use crate::port::{DedupMode, State};

pub(super) fn administration() -> Vec<Script> {
    let all = || vec![State::Ready, State::Delayed, State::Leased, State::Dead];
    // One of each state.
    let mixed = || {
        let delayed = Draft { delay: Some(800), ..draft() };
        vec![
            put(2),
            take(2),
            say(0, Say::Dead),
            put(1),
            Step::Put(vec![delayed]),
            Step::Hold(0, true),
            put(1),
            expect([1, 2, 1, 1]),
        ]
    };
    let then = |after: Vec<Step>| mixed().into_iter().chain(after).collect::<Vec<_>>();
    let mut scripts = vec![
        (
            "a queue that is paused gives nothing and takes everything",
            vec![
                put(1),
                take(2),
                Step::Pause(0, true),
                put(2),
                expect([2, 1, 0, 0]),
                say(0, Say::Retry(None)),
                Step::Wait(200),
                expect([3, 0, 0, 0]),
                Step::Pause(0, false),
                expect([1, 2, 0, 0]),
            ],
        ),
        (
            "a queue that is drained takes nothing and gives everything",
            vec![
                put(2),
                Step::Drain(0, true),
                put(1),
                take(1),
                say(0, Say::Release),
                expect([1, 1, 0, 0]),
                Step::Drain(0, false),
                put(1),
                expect([2, 1, 0, 0]),
            ],
        ),
        (
            "messages of a state are removed",
            then(vec![Step::Purge(0, vec![State::Delayed], None), expect([1, 2, 0, 1])]),
        ),
        ("not more than so many", then(vec![Step::Purge(0, all(), Some(2)), Step::Hold(0, false)])),
        (
            "a lease of what is removed is over",
            then(vec![Step::Purge(0, vec![State::Leased], None), expect([1, 0, 1, 1])]),
        ),
        ("all of them are removed", then(vec![Step::Purge(0, all(), None), expect([0; 4])])),
        ("messages are removed one by one", then((0..5).map(|_| Step::Remove(0)).chain([expect([0; 4])]).collect())),
        (
            "messages are looked at",
            then(
                [State::Ready, State::Leased, State::Delayed, State::Dead].map(|state| Step::Peek(0, state, 1)).into(),
            ),
        ),
        (
            "a queue that is deleted is gone",
            then(vec![
                Step::Delete(0),
                put(1),
                expect([1, 0, 0, 0]),
                take(1),
                expect([0, 1, 0, 0]),
                Step::Delete(2),
                Step::Pause(2, true),
                Step::Drain(2, true),
                Step::Purge(2, all(), None),
                Step::Redrive(2, None),
            ]),
        ),
        (
            "a put is done though nobody waits for it",
            vec![
                Step::PutUnheard(vec![draft(), with_key(1)]),
                take(1),
                Step::PutUnheard(vec![draft()]),
                expect([2, 1, 0, 0]),
            ],
        ),
        ("what cannot be allowed is refused", (0..4).map(|which| Step::ConfigureWithMistake(0, which)).collect()),
    ];
    for mistake in Mistake::ALL {
        let once = Draft { dedup: Some((1, DedupMode::Reject, None)), ..draft() };
        let steps = vec![
            put(1),
            Step::PutWithMistake(vec![draft(), once], mistake),
            once_under(1, DedupMode::Reject, None),
            expect([2, 0, 0, 0]),
        ];
        scripts.push(("a mistake changes nothing", steps));
    }
    scripts
}
