//! What a queue may have, and how fast it gives.

use super::{Script, allow, draft, expect, put, say, take, taker, with_key};
use crate::contract::steps::{Draft, Say, Step, config};
use crate::port::{Config, Overflow, Rate};

pub(super) fn limits() -> Vec<Script> {
    let three = |overflow| allow(Config { max_messages: 3, overflow, ..config() });
    let big = |size| Step::Put(vec![Draft { size, ..draft() }]);
    vec![
        (
            "a queue has no more messages than it may: one too many is refused",
            vec![
                three(Overflow::Reject),
                put(2),
                put(2),
                expect([2, 0, 0, 0]),
                put(1),
                put(1),
                expect([3, 0, 0, 0]),
                take(1),
                put(1),
                say(0, Say::Dead),
                put(1),
                put(1),
                expect([2, 1, 0, 1]),
                say(0, Say::Done(false)),
                put(1),
                expect([2, 1, 0, 1]),
            ],
        ),
        (
            "the oldest that waits goes for it",
            vec![
                three(Overflow::DropOldest),
                take(1),
                put(1),
                Step::Put(vec![Draft { delay: Some(900), ..draft() }]),
                put(1),
                put(1),
                expect([2, 1, 0, 0]),
                put(3),
                expect([2, 1, 0, 0]),
            ],
        ),
        (
            "or dies",
            vec![
                three(Overflow::DeadLetterOldest),
                put(3),
                put(1),
                expect([3, 0, 0, 1]),
                take(3),
                put(1),
                expect([0, 3, 0, 1]),
            ],
        ),
        (
            "a queue has no more bytes than it may",
            vec![
                allow(Config { max_bytes: 600, ..config() }),
                big(170),
                big(170),
                put(1),
                expect([2, 0, 0, 0]),
                take(1),
                say(0, Say::Done(false)),
                big(171),
                expect([0, 1, 0, 0]),
                big(170),
                expect([1, 1, 0, 0]),
            ],
        ),
        (
            "and a message that is too big for it is refused, whatever goes",
            vec![
                allow(Config { max_bytes: 600, overflow: Overflow::DropOldest, ..config() }),
                big(170),
                big(900),
                big(300),
                expect([1, 0, 0, 0]),
            ],
        ),
        (
            "a queue gives no more at a time than it may",
            vec![
                allow(Config { concurrency: Some(2), ..config() }),
                put(4),
                take(9),
                Step::Consume(1, taker(0, 9)),
                expect([2, 2, 0, 0]),
                say(0, Say::Done(false)),
                expect([1, 2, 0, 0]),
                allow(config()),
                expect([0, 3, 0, 0]),
            ],
        ),
        (
            "a queue gives no more in a time than it may",
            vec![
                allow(Config { rate: Some(Rate { count: 2, per_ms: 1_000, burst: 2 }), ..config() }),
                Step::Wait(2_000),
                put(5),
                take(9),
                expect([3, 2, 0, 0]),
                Step::Wait(480),
                expect([3, 2, 0, 0]),
                Step::Wait(40),
                expect([2, 3, 0, 0]),
            ],
        ),
        (
            "and no more of a key",
            vec![
                allow(Config {
                    key_rate: Some(Rate { count: 1, per_ms: 400, burst: 1 }),
                    key_concurrency: 9,
                    ..config()
                }),
                Step::Wait(1_000),
                Step::Put(vec![with_key(1), with_key(1), with_key(2), with_key(2), draft(), draft()]),
                take(9),
                expect([2, 4, 0, 0]),
                Step::Wait(390),
                expect([2, 4, 0, 0]),
                Step::Wait(20),
                expect([0, 6, 0, 0]),
            ],
        ),
    ]
}
