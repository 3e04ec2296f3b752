//! The steps that come by every rule.

use super::plans::SCHEDULED;
use super::steps::{Catch, Draft, Foreign, MORGUE, Mistake, Plan, Say, Step, Taker, config};
use super::{Place, Violation, history, run};
use crate::port::{Backoff, Config, DedupMode, OnExhausted, Overflow, Rate, State, Stop};

/// Checks queues: scripts first, then thirty histories that are the same every time.
///
/// # Errors
/// The first [`Violation`].
pub fn check(place: &dyn Place) -> Result<(), Violation> {
    for (rule, script) in scripts() {
        run::steps(place, &script).map_err(|it| Violation { detail: format!("{}; in {rule:?}", it.detail), ..it })?;
    }
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()[3]
    };
    for length in 0..HISTORIES {
        let tape: Vec<u8> = (0..60 + length * 6).map(|_| random()).collect();
        history(place, &tape)?;
    }
    Ok(())
}

const HISTORIES: usize = 30;

fn draft() -> Draft {
    Draft::default()
}

/// So many plain messages.
fn put(count: usize) -> Step {
    Step::Put(vec![draft(); count])
}

fn with_key(key: u8) -> Draft {
    Draft { key: Some(key), ..draft() }
}

fn once_under(key: u8, mode: DedupMode, window: Option<u64>) -> Step {
    Step::Put(vec![Draft { dedup: Some((key, mode, window)), ..draft() }])
}

fn taker(queue: u8, prefetch: u32) -> Taker {
    Taker { queue, prefetch, bytes: 1 << 30, lease: None, keys: None, once: None }
}

/// Consumer 0 takes from queue 0, so many at a time.
fn take(prefetch: u32) -> Step {
    Step::Consume(0, taker(0, prefetch))
}

fn say(which: u8, say: Say) -> Step {
    Step::Settle(vec![(which, say)])
}

fn allow(config: Config) -> Step {
    Step::Configure(0, Box::new(config))
}

/// Ready, leased, delayed, dead.
fn expect(found: [u64; 4]) -> Step {
    Step::Expect(0, found)
}

type Script = (&'static str, Vec<Step>);

fn scripts() -> Vec<Script> {
    [leases(), failures(), waiting(), order(), keys(), limits(), consumers(), schedules(), administration(), restarts()]
        .concat()
}

fn leases() -> Vec<Script> {
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

fn failures() -> Vec<Script> {
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

fn waiting() -> Vec<Script> {
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

fn order() -> Vec<Script> {
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

fn keys() -> Vec<Script> {
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

fn limits() -> Vec<Script> {
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

fn consumers() -> Vec<Script> {
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

fn administration() -> Vec<Script> {
    use Mistake::*;
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
    for mistake in [
        BadName,
        LongPayload,
        HighPriority,
        LongKey,
        LongDedupKey,
        TooDurable,
        TooMany,
        TakesNone,
        TakesNoKeys,
        StopsNobody,
        TouchesNothing,
        RemovesNothing,
    ] {
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

fn schedules() -> Vec<Script> {
    let every = |seconds: u64| Plan { seconds, ..Plan::default() };
    let expect = |found: [u64; 4]| Step::Expect(SCHEDULED, found);
    let caught = |missed: Catch| Plan { missed, ..every(2) };
    let cron = || Plan { is_cron: true, size: 1, priority: 3, key: Some(1), ..every(3) };
    // The suite begins at a multiple of 200 s, and 2 s behind one of 3 s.
    let mut scripts = vec![
        (
            "it is time again and again",
            vec![
                Step::Schedule(0, every(2)),
                Step::Wait(1_999),
                expect([0; 4]),
                Step::Wait(1),
                expect([1, 0, 0, 0]),
                Step::Wait(4_000),
                expect([3, 0, 0, 0]),
            ],
        ),
        (
            "a cron expression says when",
            vec![Step::Schedule(0, cron()), Step::Wait(999), expect([0; 4]), Step::Wait(5_000), expect([2, 0, 0, 0])],
        ),
        (
            "whoever takes what schedules put is given it when it is time",
            vec![
                Step::Consume(0, taker(SCHEDULED, 9)),
                Step::Schedule(0, every(1)),
                Step::Schedule(1, cron()),
                Step::Wait(3_000),
                expect([0, 4, 0, 0]),
            ],
        ),
        (
            "what was missed is put once",
            vec![
                Step::Schedule(0, caught(Catch::Once)),
                Step::Jump(9_000),
                expect([1, 0, 0, 0]),
                Step::Wait(1_000),
                expect([2, 0, 0, 0]),
            ],
        ),
        (
            "or as often as it was missed",
            vec![
                Step::Schedule(0, caught(Catch::All(9))),
                Step::Jump(9_000),
                expect([4, 0, 0, 0]),
                Step::Wait(1_000),
                expect([5, 0, 0, 0]),
            ],
        ),
        (
            "but not more often than it was to be",
            vec![Step::Schedule(0, caught(Catch::All(3))), Step::Jump(9_000), expect([3, 0, 0, 0])],
        ),
        (
            "or not at all if that is long ago",
            vec![
                Step::Schedule(0, Plan { seconds: 200, ..caught(Catch::Skip) }),
                Step::Jump(262_000),
                expect([0; 4]),
                Step::Wait(200_000),
                expect([1, 0, 0, 0]),
            ],
        ),
        (
            "what is paused misses nothing",
            vec![
                Step::Schedule(0, caught(Catch::All(9))),
                Step::PauseSchedule(0, true),
                Step::Wait(9_000),
                Step::RunSchedule(0),
                expect([1, 0, 0, 0]),
                Step::PauseSchedule(0, false),
                Step::Wait(2_000),
                expect([2, 0, 0, 0]),
                Step::Schedule(0, Plan { is_paused: Some(true), ..every(2) }),
                Step::Wait(2_000),
                Step::Schedule(0, every(2)),
                Step::Wait(2_000),
                expect([2, 0, 0, 0]),
            ],
        ),
        (
            "what is told again goes on as it was",
            vec![
                Step::Schedule(0, every(4)),
                Step::Jump(5_000),
                Step::Schedule(0, every(4)),
                expect([1, 0, 0, 0]),
                Step::Schedule(0, every(3)),
                Step::Wait(3_000),
                expect([2, 0, 0, 0]),
            ],
        ),
        (
            "what is scheduled no longer puts nothing",
            vec![
                Step::Schedule(0, every(1)),
                Step::Wait(1_000),
                Step::Unschedule(0),
                Step::Wait(5_000),
                expect([1, 0, 0, 0]),
                Step::Unschedule(0),
                Step::PauseSchedule(0, true),
                Step::RunSchedule(0),
            ],
        ),
        (
            "what schedules put expires as they say",
            vec![
                Step::Schedule(0, Plan { ttl: Some(1_500), ..every(2) }),
                Step::Wait(2_000),
                expect([1, 0, 0, 0]),
                Step::Wait(1_500),
                expect([0; 4]),
            ],
        ),
        (
            "schedules go on after a restart, and put nothing again",
            vec![
                Step::Schedule(0, every(2)),
                Step::Schedule(1, cron()),
                Step::Schedule(2, Plan { is_paused: Some(true), ..every(1) }),
                Step::Wait(4_000),
                Step::Reopen,
                Step::Wait(2_000),
                Step::Kill(vec![draft()], true),
                Step::Jump(5_000),
                Step::Kill(vec![draft()], false),
                Step::Wait(100),
                Step::Unschedule(0),
                Step::Reopen,
                Step::Wait(5_000),
            ],
        ),
    ];
    let mistakes = (0..10).map(|mistake| Step::ScheduleWithMistake(0, mistake));
    let mistakes =
        [Step::Schedule(0, every(2))].into_iter().chain(mistakes).chain([Step::Wait(2_000), expect([1, 0, 0, 0])]);
    scripts.push(("what cannot be scheduled is refused", mistakes.collect()));
    scripts
}

fn restarts() -> Vec<Script> {
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
