//! Which message comes first.

use super::{Script, draft, expect, say, take};
use crate::contract::steps::{Draft, Say, Step};
use crate::port::Stop;

pub(super) fn order() -> Vec<Script> {
    let first = |priority| Draft { priority, ..draft() };
    vec![
        (
            "higher priorities come first, and earlier messages of the same",
            vec![
                Step::Put(vec![first(0), first(7), first(31), first(7), first(0), first(1)]),
                take(1),
                say(0, Say::Done(false)),
                say(0, Say::Done(false)),
                Step::Put(vec![first(8)]),
                say(0, Say::Done(false)),
                say(0, Say::Done(false)),
                say(0, Say::Done(false)),
                say(0, Say::Done(false)),
                expect([0, 1, 0, 0]),
            ],
        ),
        (
            "what comes back has its priority and its place",
            vec![
                Step::Put(vec![first(0), first(5), first(5), first(0)]),
                take(1),
                say(0, Say::Release),
                say(0, Say::Retry(Some(100))),
                Step::Wait(100),
                say(0, Say::Done(false)),
                Step::Wait(1_000),
                say(0, Say::Done(false)),
                Step::Stop(0, Stop::Return),
                take(1),
                expect([1, 1, 0, 0]),
            ],
        ),
    ]
}
