//! The suite accepts what keeps its rules and nothing else.

use std::sync::Arc;

use proptest::prelude::*;

use super::{Bed, Fault, InMemory, Place, check, history};
use crate::store::{MemoryStore, Retention, Store, WindowLimits};

#[test]
fn the_memory_store_keeps_the_rules() {
    check(&InMemory(None)).expect("it keeps them");
}

proptest! {
    #[test]
    fn the_memory_store_and_the_model_agree_after_any_history(tape in prop::collection::vec(any::<u8>(), 0..400)) {
        if let Err(violation) = history(&InMemory(None), &tape) {
            prop_assert!(false, "{violation}");
        }
    }
}

/// A store that has the epoch it had before, and nothing else.
struct Forgetful;

impl Place for Forgetful {
    fn fresh(&self) -> Box<dyn Bed> {
        Box::new(Self)
    }
}

impl Bed for Forgetful {
    fn open(&mut self, retention: Retention, window: WindowLimits) -> Arc<dyn Store> {
        Arc::new(MemoryStore::new(7, retention, window))
    }

    fn kill(&mut self, store: Arc<dyn Store>) {
        drop(store);
    }
}

#[test]
fn a_store_that_forgets_has_to_say_so() {
    let violation = check(&Forgetful).expect_err("it is noticed");
    assert!(violation.rule.contains("the epoch is another one"), "{violation}");
}

#[test]
fn every_fault_is_noticed() {
    use Fault::*;
    let all = [
        (CommitsHalf, "a commit happens or does not"),
        (StoresKeysTwice, "a key that is remembered"),
        (GivesNumbersWithHoles, "a number without holes"),
        (PromisesTooMuch, "a receipt promises"),
        (LosesTheLastOfAPage, "a range is read whole"),
        (SwapsTwoOfAPage, "a range is read whole"),
        (ReadsFromTheBeginning, "a range is read whole"),
        (IgnoresTheBudget, "a page keeps to its budget"),
        (EndsAfterOnePage, "a range is read whole"),
        (HidesFloors, "what is forgotten is known"),
        (RaisesFloors, "what is forgotten is known"),
        (ForgetsPrev, "a range is read whole"),
        (KeepsTooMuch, "retention keeps what it should"),
        (IgnoresTrims, "retention keeps what it should"),
        (NeverForgetsOldOnes, "what is too old is forgotten"),
        (MovesCursorsBack, "a cursor is where it was furthest"),
        (LosesCursors, "a cursor is where it was furthest"),
        (NeverExpiresSessions, "a session is what was stored last"),
        (KeepsForgottenSessions, "a session is what was stored last"),
        (KeepsFirstSessions, "a session is what was stored last"),
        (TellsTwice, "a follower hears"),
        (TellsInReverse, "a follower hears"),
        (TellsNobody, "a follower hears"),
        (StaysOpen, "a store is closed"),
        (CountsWrong, "statistics are those"),
        (DropsNothing, "streams of which nothing is kept are forgotten"),
        (DropsTooMuch, "streams of which nothing is kept are forgotten"),
        (ForgetsThatItDropped, "what is forgotten is known"),
    ];
    let judge = |(fault, rule): (Fault, &str)| match check(&InMemory(Some(fault))) {
        Err(violation) if violation.rule.contains(rule) => None,
        Err(violation) => Some(format!("{fault:?} broke another rule: {violation}")),
        Ok(()) => Some(format!("{fault:?} went unnoticed")),
    };
    let misjudged: Vec<String> = all.into_iter().filter_map(judge).collect();
    assert!(misjudged.is_empty(), "{misjudged:#?}");
}
