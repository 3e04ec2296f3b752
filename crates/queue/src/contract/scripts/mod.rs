//! The steps that come by every rule.

mod administration;
mod consumers;
mod failures;
mod keys;
mod leases;
mod limits;
mod order;
mod restarts;
mod schedules;
mod waiting;

use posthaste_history::contract::tapes;

use super::steps::{Draft, Say, Step, Taker};
use super::{Place, Violation, history, run};
use crate::port::{Config, DedupMode};

/// Checks queues: scripts first, then thirty histories that are the same every time.
///
/// # Errors
/// The first [`Violation`].
pub fn check(place: &dyn Place) -> Result<(), Violation> {
    for (rule, script) in scripts() {
        run::steps(place, &script).map_err(|it| Violation { detail: format!("{}; in {rule:?}", it.detail), ..it })?;
    }
    tapes(HISTORIES, 60, 6).try_for_each(|tape| history(place, &tape))
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
    [
        leases::leases(),
        failures::failures(),
        waiting::waiting(),
        order::order(),
        keys::keys(),
        limits::limits(),
        consumers::consumers(),
        schedules::schedules(),
        administration::administration(),
        restarts::restarts(),
    ]
    .concat()
}
