//! Who takes messages.

use super::{Script, draft, expect, put, say, take, taker};
use crate::contract::steps::{Draft, Say, Step, Taker};
use crate::port::Stop;

pub(super) fn consumers() -> Vec<Script> {
    let heavy = |size| Draft { size, ..draft() };
    vec![
        (
            "a consumer has no more messages than it takes",
            vec![
                put(3),
                take(2),
                expect([1, 2, 0, 0]),
                say(0, Say::Touch(None)),
                expect([1, 2, 0, 0]),
                say(1, Say::Done(false)),
                expect([0, 2, 0, 0]),
            ],
        ),
        (
            "nor more bytes, but one whatever its size",
            vec![
                Step::Put(vec![heavy(900), heavy(100), heavy(100)]),
                Step::Consume(0, Taker { bytes: 500, ..taker(0, 9) }),
                expect([2, 1, 0, 0]),
                say(0, Say::Done(false)),
                expect([0, 2, 0, 0]),
                Step::Put(vec![heavy(0)]),
                expect([1, 2, 0, 0]),
            ],
        ),
        (
            "who has no room for the first is given the next when another took that",
            vec![
                Step::Consume(0, Taker { bytes: 700, ..taker(0, 5) }),
                Step::Put(vec![heavy(300), heavy(300), heavy(0)]),
                expect([2, 1, 0, 0]),
                Step::Consume(1, taker(0, 1)),
                expect([0, 3, 0, 0]),
            ],
        ),
        (
            "or when that expired, was removed or died",
            vec![
                Step::Consume(0, Taker { bytes: 700, ..taker(0, 9) }),
                Step::Put(vec![heavy(300), Draft { ttl: Some(500), ..heavy(300) }, heavy(0), heavy(400), heavy(1)]),
                expect([4, 1, 0, 0]),
                Step::Wait(500),
                expect([2, 2, 0, 0]),
                say(1, Say::Done(false)),
                Step::Remove(1),
                expect([0, 2, 0, 0]),
            ],
        ),
        (
            "what somebody has who is gone is free at once, or stays leased",
            vec![
                put(2),
                take(2),
                Step::Stop(0, Stop::Return),
                expect([2, 0, 0, 0]),
                take(1),
                Step::Stop(0, Stop::Keep),
                expect([1, 1, 0, 0]),
                say(0, Say::Done(false)),
                expect([1, 0, 0, 0]),
            ],
        ),
        (
            "whoever is held is given nothing, and has what it has",
            vec![
                put(3),
                take(2),
                Step::Hold(0, true),
                say(0, Say::Done(false)),
                expect([1, 1, 0, 0]),
                say(0, Say::Touch(None)),
                Step::Hold(0, false),
                expect([0, 2, 0, 0]),
            ],
        ),
        (
            "a pull takes so many and is gone",
            vec![
                put(3),
                Step::Consume(0, Taker { once: Some(2), ..taker(0, 2) }),
                expect([1, 2, 0, 0]),
                say(0, Say::Done(false)),
                expect([1, 1, 0, 0]),
                say(0, Say::Done(false)),
                Step::Consume(1, Taker { once: Some(2), ..taker(0, 9) }),
                expect([0, 1, 0, 0]),
                put(2),
                expect([1, 2, 0, 0]),
            ],
        ),
        (
            "consumers take turns",
            [take(9), Step::Consume(1, taker(0, 9)), Step::Consume(2, taker(0, 9))]
                .into_iter()
                .chain((0..24).flat_map(|_| [put(1), say(0, Say::Done(false))]))
                .collect(),
        ),
    ]
}
