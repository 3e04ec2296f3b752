//! What comes after a failure.

use super::{Script, allow, draft, expect, put, say, take, taker};
use crate::contract::run;
use crate::contract::steps::{Draft, MORGUE, Say, Step, config};
use crate::port::{Backoff, Config, State, Stop};

pub(super) fn failures() -> Vec<Script> {
    let again = || say(0, Say::Retry(None));
    let mut scripts: Vec<Script> = [
        Backoff::None,
        Backoff::Fixed { ms: 300 },
        Backoff::Linear { step_ms: 100, max_ms: 250 },
        Backoff::Exponential { first_ms: 100, max_ms: 350, jitter: 0.0 },
        Backoff::Exponential { first_ms: 400, max_ms: 9_999, jitter: 0.5 },
        Backoff::List(vec![10, 400]),
    ]
    .into_iter()
    .map(|backoff| {
        let own = Step::Put(vec![Draft { backoff: Some(Backoff::Fixed { ms: 77 }), ..draft() }]);
        let mut steps = vec![allow(Config { attempts: 5, backoff, ..config() }), put(1), take(1)];
        steps.extend((0..4).flat_map(|_| [again(), Step::Wait(2_000)]));
        steps.extend([Step::Purge(0, vec![State::Leased, State::Ready], None), own, again(), Step::Wait(77)]);
        ("a message that failed rests as its backoff says", steps)
    })
    .collect();
    scripts.extend([
        (
            "a worker may say how long a message rests",
            vec![
                put(1),
                take(1),
                say(0, Say::Retry(Some(0))),
                expect([0, 1, 0, 0]),
                say(0, Say::Retry(Some(1_234))),
                Step::Wait(1_233),
                expect([0, 0, 1, 0]),
                Step::Wait(1),
                expect([0, 1, 0, 0]),
            ],
        ),
        (
            "a message that failed too often is dead, once, and has another chance",
            vec![
                put(1),
                take(1),
                again(),
                Step::Wait(200),
                again(),
                Step::Wait(200),
                again(),
                expect([0, 0, 0, 1]),
                Step::Wait(5_000),
                expect([0, 0, 0, 1]),
                Step::Redrive(0, None),
                expect([0, 1, 0, 0]),
                again(),
                Step::Wait(200),
                again(),
                Step::Wait(200),
                expect([0, 1, 0, 0]),
                again(),
                expect([0, 0, 0, 1]),
            ],
        ),
        (
            "a message may have its own number of chances",
            vec![Step::Put(vec![Draft { attempts: Some(1), ..draft() }]), take(1), again(), expect([0, 0, 0, 1])],
        ),
        (
            "to come back without a word is a failure only if it happens again and again",
            vec![
                allow(Config { crash_limit: 3, attempts: 2, ..config() }),
                put(1),
                take(1),
                Step::Wait(1_000),
                Step::Stop(0, Stop::Return),
                expect([1, 0, 0, 0]),
                take(1),
                Step::Wait(1_000),
                expect([0, 0, 1, 0]),
                Step::Wait(200),
                say(0, Say::Release),
                say(0, Say::Release),
                say(0, Say::Release),
                say(0, Say::Release),
                expect([0, 1, 0, 0]),
                Step::Wait(3_000),
                expect([0, 0, 0, 1]),
            ],
        ),
        (
            "a dead message is put where its queue says, once, and stays where it is",
            vec![
                allow(Config { dead_letter: Some(run::name(MORGUE)), ..config() }),
                put(2),
                take(2),
                say(0, Say::Dead),
                expect([0, 1, 0, 1]),
                Step::Expect(MORGUE, [1, 0, 0, 0]),
                Step::Consume(1, taker(MORGUE, 5)),
                say(0, Say::Dead),
                Step::Expect(MORGUE, [0, 2, 0, 0]),
                Step::Redrive(0, Some(1)),
            ],
        ),
        (
            "the dead are kept for a time, and not more than so many",
            vec![
                allow(Config { max_dead: 2, ..config() }),
                put(3),
                take(3),
                say(0, Say::Dead),
                Step::Wait(10),
                say(0, Say::Dead),
                expect([0, 1, 0, 2]),
                say(0, Say::Dead),
                expect([0, 0, 0, 2]),
                Step::Wait(8_989),
                Step::Wait(2_000),
                expect([0, 0, 0, 0]),
            ],
        ),
    ]);
    scripts
}
