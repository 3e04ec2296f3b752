//! Who has a message, and for how long.

use super::{Script, allow, draft, expect, put, say, take, taker};
use crate::contract::steps::{Draft, Foreign, Say, Step, Taker, config};
use crate::port::Config;

pub(super) fn leases() -> Vec<Script> {
    let done = || say(0, Say::Done(false));
    vec![
        (
            "a message is put, leased and done",
            vec![put(1), expect([1, 0, 0, 0]), take(1), expect([0, 1, 0, 0]), done(), expect([0; 4])],
        ),
        (
            "a consumer that waits is given what comes",
            vec![take(2), put(1), expect([0, 1, 0, 0]), put(3), expect([2, 2, 0, 0]), done(), done(), done(), done()],
        ),
        (
            "what is given back did not fail, and is free at once",
            vec![put(1), take(1), say(0, Say::Release), expect([0, 1, 0, 0]), say(0, Say::Release), done()],
        ),
        (
            "whoever took too long settles nothing, and another has it",
            vec![
                put(1),
                take(1),
                Step::Consume(1, taker(0, 1)),
                Step::Wait(999),
                expect([0, 1, 0, 0]),
                Step::Wait(1),
                expect([0, 1, 0, 0]),
                Step::SettleForeign(0, Foreign::Old, Say::Done(true)),
                Step::SettleForeign(0, Foreign::Old, Say::Retry(None)),
                Step::SettleForeign(0, Foreign::Old, Say::Release),
                Step::SettleForeign(0, Foreign::Old, Say::Dead),
                Step::SettleForeign(0, Foreign::Old, Say::Touch(None)),
                Step::SettleForeign(0, Foreign::Old, Say::Progress),
                Step::SettleForeign(0, Foreign::Next, Say::Done(false)),
                expect([0, 1, 0, 0]),
                done(),
                expect([0; 4]),
            ],
        ),
        (
            "a lease is over when it is over, not when somebody looks",
            vec![put(1), take(1), Step::SettleLate(0, Say::Done(false)), expect([0, 1, 0, 0])],
        ),
        (
            "a token settles its own message",
            vec![put(2), take(2), Step::SettleForeign(0, Foreign::Other, Say::Done(false)), expect([0, 2, 0, 0])],
        ),
        (
            "what is settled once is settled, also in one go",
            vec![
                put(3),
                take(3),
                Step::Settle(vec![
                    (0, Say::Done(false)),
                    (0, Say::Release),
                    (1, Say::Dead),
                    (1, Say::Done(false)),
                    (2, Say::Done(true)),
                ]),
                expect([0, 0, 0, 1]),
            ],
        ),
        (
            "a touch extends a lease, but not for ever",
            vec![
                put(1),
                take(1),
                Step::Wait(900),
                say(0, Say::Touch(None)),
                Step::Wait(900),
                Step::TouchAll(0),
                Step::Wait(900),
                say(0, Say::Progress),
                expect([0, 1, 0, 0]),
                Step::Wait(299),
                say(0, Say::Touch(Some(5_000))),
                expect([0, 1, 0, 0]),
                Step::Hold(0, true),
                Step::Wait(1),
                expect([1, 0, 0, 0]),
            ],
        ),
        (
            "a consumer may ask for a lease of another length",
            vec![
                put(2),
                Step::Consume(0, Taker { lease: Some(200), ..taker(0, 1) }),
                Step::Consume(1, Taker { lease: Some(1_000_000), ..taker(0, 1) }),
                Step::Wait(199),
                say(0, Say::Touch(None)),
                Step::Wait(199),
                expect([0, 2, 0, 0]),
                Step::Wait(2_700),
            ],
        ),
        (
            "results are kept for a time, and told",
            vec![
                Step::Put(vec![Draft { keep: Some(500), ..draft() }, draft(), Draft { keep: Some(500), ..draft() }]),
                take(3),
                Step::Settle(vec![(0, Say::Done(true)), (1, Say::Done(true)), (2, Say::Done(false))]),
                Step::Wait(499),
                Step::Wait(1),
                allow(Config { keep_results_ms: 300, ..config() }),
                put(1),
                say(0, Say::Progress),
                say(0, Say::Done(true)),
                Step::Wait(300),
            ],
        ),
    ]
}
