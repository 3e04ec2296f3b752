//! Messages that wait: delayed, or at rest.

use super::{Script, allow, draft, expect, once_under, say, take, taker};
use crate::contract::steps::{Draft, Say, Step, Taker, config};
use crate::port::{Config, DedupMode};

pub(super) fn waiting() -> Vec<Script> {
    let delayed = |delay| Draft { delay: Some(delay), ..draft() };
    let lives = |ttl| Draft { ttl: Some(ttl), ..draft() };
    vec![
        (
            "nothing is ready before its time",
            vec![
                take(9),
                Step::Put(vec![delayed(500), delayed(100), delayed(0), draft()]),
                expect([0, 2, 2, 0]),
                Step::Wait(99),
                expect([0, 2, 2, 0]),
                Step::Wait(1),
                expect([0, 3, 1, 0]),
                Step::Wait(399),
                expect([0, 3, 1, 0]),
                Step::Wait(1),
                expect([0, 4, 0, 0]),
            ],
        ),
        (
            "time may jump",
            vec![
                take(2),
                Step::Put((1..6).map(|n| delayed(n * 10_000)).collect()),
                Step::Jump(35_000),
                expect([1, 2, 2, 0]),
            ],
        ),
        (
            "a message nobody needs any more expires, unless it is leased",
            vec![
                Step::Put(vec![lives(500), lives(500), draft()]),
                Step::Consume(0, Taker { once: Some(1), ..taker(0, 1) }),
                Step::Wait(499),
                expect([2, 1, 0, 0]),
                Step::Wait(1),
                expect([1, 1, 0, 0]),
                say(0, Say::Release),
                expect([1, 0, 0, 0]),
            ],
        ),
        (
            "a queue may say how long its messages live",
            vec![
                allow(Config { ttl_ms: Some(800), ..config() }),
                Step::Put(vec![draft(), lives(300), lives(900), Draft { delay: Some(850), ..draft() }]),
                Step::Wait(300),
                expect([2, 0, 1, 0]),
                Step::Wait(500),
                expect([1, 0, 0, 0]),
                Step::Wait(100),
                expect([0; 4]),
            ],
        ),
        (
            "a key stands for a message for a time",
            vec![
                once_under(1, DedupMode::Reject, None),
                once_under(1, DedupMode::Reject, None),
                once_under(2, DedupMode::Reject, Some(5_000)),
                expect([2, 0, 0, 0]),
                take(1),
                say(0, Say::Done(false)),
                Step::Wait(599),
                once_under(1, DedupMode::Reject, None),
                expect([0, 1, 0, 0]),
                Step::Wait(1),
                once_under(1, DedupMode::Reject, None),
                once_under(2, DedupMode::Reject, None),
                expect([1, 1, 0, 0]),
                Step::Put(vec![Draft { dedup: Some((3, DedupMode::Reject, None)), ..draft() }; 3]),
                expect([2, 1, 0, 0]),
                Step::Put(vec![Draft { queue: 1, dedup: Some((1, DedupMode::Reject, None)), ..draft() }]),
                Step::Expect(1, [1, 0, 0, 0]),
            ],
        ),
        (
            "the oldest of too many keys is forgotten",
            vec![
                Step::Put((0..4).map(|key| Draft { dedup: Some((key, DedupMode::Reject, None)), ..draft() }).collect()),
                once_under(3, DedupMode::Reject, None),
                expect([4, 0, 0, 0]),
                once_under(0, DedupMode::Reject, None),
                expect([5, 0, 0, 0]),
            ],
        ),
        (
            "a key may stand for a message until that has ended",
            vec![
                once_under(1, DedupMode::UntilDone, None),
                Step::Wait(50_000),
                once_under(1, DedupMode::UntilDone, None),
                expect([1, 0, 0, 0]),
                take(1),
                once_under(1, DedupMode::UntilDone, None),
                say(0, Say::Retry(None)),
                once_under(1, DedupMode::UntilDone, None),
                Step::Wait(200),
                expect([0, 1, 0, 0]),
                say(0, Say::Done(false)),
                once_under(1, DedupMode::UntilDone, None),
                expect([0, 1, 0, 0]),
            ],
        ),
        (
            "a newer message takes the place of one that waits",
            vec![
                Step::Put(vec![Draft { delay: Some(400), dedup: Some((1, DedupMode::Replace, None)), ..draft() }]),
                Step::Wait(300),
                Step::Put(vec![Draft { delay: Some(400), dedup: Some((1, DedupMode::Replace, None)), ..draft() }]),
                expect([0, 0, 1, 0]),
                Step::Wait(399),
                take(1),
                expect([0, 0, 1, 0]),
                Step::Wait(1),
                expect([0, 1, 0, 0]),
                once_under(1, DedupMode::Replace, None),
                once_under(1, DedupMode::Replace, None),
                expect([1, 1, 0, 0]),
            ],
        ),
    ]
}
