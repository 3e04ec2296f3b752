//! What a restart leaves as it was.

use super::{Script, allow, draft, once_under, put, say, take, taker, with_key};
use crate::contract::run;
use crate::contract::steps::{Draft, MORGUE, Say, Step, config};
use crate::port::{Config, DedupMode, State, Stop};

pub(super) fn restarts() -> Vec<Script> {
    let busy = || {
        vec![
            allow(Config { keep_results_ms: 5_000, dead_letter: Some(run::name(MORGUE)), ..config() }),
            Step::Put(vec![
                draft(),
                Draft { priority: 5, ..draft() },
                with_key(1),
                with_key(1),
                Draft { delay: Some(900), ..draft() },
            ]),
            once_under(1, DedupMode::Reject, Some(10_000)),
            once_under(2, DedupMode::UntilDone, None),
            take(4),
            say(0, Say::Done(true)),
            say(0, Say::Dead),
            say(0, Say::Retry(None)),
            say(0, Say::Touch(Some(2_000))),
            Step::Pause(1, true),
            Step::Drain(2, true),
            Step::Consume(1, taker(1, 1)),
            Step::Put(vec![Draft { queue: 1, ..draft() }; 2]),
        ]
    };
    let after = || {
        vec![
            Step::Wait(100),
            once_under(1, DedupMode::Reject, None),
            once_under(2, DedupMode::UntilDone, None),
            take(2),
            Step::TouchAll(0),
            say(0, Say::Done(true)),
            say(0, Say::Retry(None)),
            Step::Wait(6_000),
            Step::Stop(1, Stop::Return),
            Step::Wait(10_000),
        ]
    };
    let with = |restarts: Vec<Step>| busy().into_iter().chain(restarts).chain(after()).collect::<Vec<_>>();
    let several = || vec![draft(), with_key(2), draft()];
    vec![
        ("nothing is lost when queues are closed", with(vec![Step::Reopen])),
        (
            "nor when they are closed again and again",
            with(vec![Step::Reopen, Step::Reopen, Step::Wait(300), Step::Reopen]),
        ),
        ("nor when they are killed", with(vec![Step::Kill(several(), true)])),
        (
            "a put that was under way is done or not",
            with(vec![Step::Kill(several(), false), Step::Kill(several(), false)]),
        ),
        (
            "what was given out is stored",
            vec![
                take(9),
                Step::Kill(several(), false),
                take(9),
                Step::Kill(several(), true),
                Step::Stop(0, Stop::Return),
                take(9),
            ],
        ),
        (
            "what has ended has ended",
            vec![
                put(3),
                take(3),
                say(0, Say::Done(false)),
                Step::Remove(0),
                Step::Reopen,
                expect_after(),
                Step::Reopen,
                put(1),
                take(2),
            ],
        ),
    ]
}

/// Whatever survives, a restart adds nothing.
fn expect_after() -> Step {
    Step::Peek(0, State::Ready, 1)
}
