//! Keys: in order, and one at a time.

use super::{Script, allow, draft, expect, say, take, taker, with_key};
use crate::contract::steps::{Draft, Say, Step, Taker, config};
use crate::port::{Config, OnExhausted, State};

pub(super) fn keys() -> Vec<Script> {
    let done = |which| say(which, Say::Done(false));
    let two = || Step::Put(vec![with_key(1), with_key(1), with_key(2), with_key(1), with_key(2), draft()]);
    vec![
        (
            "messages of a key are worked on one at a time, in order",
            vec![
                take(9),
                two(),
                expect([3, 3, 0, 0]),
                done(0),
                done(0),
                done(0),
                done(0),
                done(0),
                done(0),
                expect([0; 4]),
            ],
        ),
        (
            "so many of a key at a time as may be",
            vec![
                allow(Config { key_concurrency: 2, ..config() }),
                take(9),
                two(),
                expect([1, 5, 0, 0]),
                done(1),
                expect([0, 5, 0, 0]),
            ],
        ),
        (
            "a key whose first message rests waits, and no other",
            vec![
                two(),
                take(1),
                say(0, Say::Retry(None)),
                expect([4, 1, 1, 0]),
                Step::Consume(1, taker(0, 9)),
                expect([3, 2, 1, 0]),
                Step::Wait(200),
                expect([3, 3, 0, 0]),
                Step::Consume(2, taker(0, 9)),
                say(0, Say::Release),
                expect([3, 3, 0, 0]),
            ],
        ),
        (
            "what is behind a dead message of its key goes on",
            vec![two(), take(9), say(0, Say::Dead), expect([2, 3, 0, 1]), Step::Redrive(0, None), expect([3, 3, 0, 0])],
        ),
        (
            "or waits for it, if the queue says so",
            vec![
                allow(Config { on_exhausted: OnExhausted::Block, ..config() }),
                two(),
                take(9),
                say(0, Say::Dead),
                expect([3, 2, 0, 1]),
                Step::Redrive(0, None),
                expect([3, 3, 0, 0]),
                say(0, Say::Dead),
                Step::Purge(0, vec![State::Dead], None),
                expect([2, 3, 0, 0]),
                say(0, Say::Dead),
                expect([2, 2, 0, 1]),
                Step::Wait(9_000),
            ],
        ),
        (
            "a key's order is that of its messages, whatever their priorities",
            vec![
                Step::Put(vec![
                    with_key(1),
                    Draft { priority: 9, ..with_key(1) },
                    Draft { priority: 3, ..with_key(2) },
                ]),
                take(1),
                done(0),
                done(0),
                done(0),
            ],
        ),
        (
            "keys take turns",
            vec![
                Step::Put((0..24).map(|_| with_key(1)).collect()),
                Step::Put(vec![with_key(2), with_key(3), draft(), with_key(2), with_key(3)]),
                take(1),
            ]
            .into_iter()
            .chain((0..29).map(|_| done(0)))
            .chain([expect([0; 4])])
            .collect(),
        ),
        (
            "a consumer may take some keys only",
            vec![
                two(),
                Step::Consume(0, Taker { keys: Some(vec![2, 5]), ..taker(0, 9) }),
                expect([5, 1, 0, 0]),
                done(0),
                expect([4, 1, 0, 0]),
                done(0),
                expect([4, 0, 0, 0]),
                Step::Put(vec![Draft { priority: 9, ..draft() }, Draft { priority: 1, ..with_key(5) }]),
                expect([5, 1, 0, 0]),
            ],
        ),
        (
            "a delayed message of a key holds up nobody",
            vec![
                Step::Put(vec![Draft { delay: Some(300), ..with_key(1) }, with_key(1), with_key(1)]),
                take(9),
                expect([1, 1, 1, 0]),
                Step::Wait(300),
                done(0),
                done(0),
            ],
        ),
    ]
}
