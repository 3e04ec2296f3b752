//! The suite accepts what keeps its rules and nothing else.

use proptest::prelude::*;

use super::naive::{InModel, Loss};
use super::{Fault, InMemory, check, history};

#[test]
fn the_queues_in_memory_keep_the_rules() {
    if let Err(violation) = check(&InMemory(None, 65_536)) {
        panic!("{violation}");
    }
}

#[test]
fn the_model_keeps_the_rules() {
    if let Err(violation) = check(&InModel(None)) {
        panic!("{violation}");
    }
}

#[test]
fn every_loss_is_noticed() {
    use Loss::*;
    let all = [
        (LosesTheLast, "until it ends"),
        (ForgetsTokens, "no token is given twice"),
        (ForgetsLeases, "is there after a restart"),
        (ForgetsOrphans, "whoever had leases"),
        (ForgetsCounts, "a message is counted"),
        (ForgetsReasons, "a message says why it failed"),
        (ForgetsEnds, "has ended is gone"),
        (ForgetsKeys, "a key that stands for a message"),
        (ForgetsSwitches, "counted right"),
        (ShowsTooEarly, "what is given out is stored"),
        (WritesHalf, "happens or does not"),
        (TakesBackWhatNobodyWaitsFor, "dropping a future takes nothing back"),
        (ForgetsSchedules, "schedules are what they were told"),
        (FiresAgain, "what is due is put, once"),
    ];
    let judge = |(loss, rule): (Loss, &str)| match check(&InModel(Some(loss))) {
        Err(violation) if violation.rule.contains(rule) => None,
        Err(violation) => Some(format!("{loss:?} broke another rule: {violation}")),
        Ok(()) => Some(format!("{loss:?} went unnoticed")),
    };
    let misjudged: Vec<String> = all.into_iter().filter_map(judge).collect();
    assert!(misjudged.is_empty(), "{misjudged:#?}");
}

/// `POSTHASTE_HISTORIES` says how many; 48 otherwise.
fn histories() -> u32 {
    std::env::var("POSTHASTE_HISTORIES").ok().and_then(|text| text.parse().ok()).unwrap_or(48)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(histories()))]
    #[test]
    fn the_queues_in_memory_and_the_model_agree_after_any_history(tape in prop::collection::vec(any::<u8>(), 0..500)) {
        // So many delayed messages are held in memory.
        let near = [65_536, 1, 3][tape.len() % 3];
        if let Err(violation) = history(&InMemory(None, near), &tape) {
            prop_assert!(false, "{violation}");
        }
    }
}

#[test]
fn every_fault_is_noticed() {
    use Fault::*;
    let all = [
        (LosesPuts, "until it ends"),
        (StoresHalf, "has ended is gone"),
        (LeasesTwice, "one lease at a time"),
        (ReusesTokens, "no token is given twice"),
        (GivesLongTokens, "JavaScript can carry"),
        (AcceptsOldTokens, "whoever settles with another token is refused"),
        (AnswersOldTokens, "whoever settles with another token is refused"),
        (IgnoresKeys, "messages of a key are in order"),
        (GivesTwoOfAKey, "messages of a key are in order"),
        (GivesYoungOnesFirst, "higher priorities come first"),
        (ForgetsPriorities, "higher priorities come first"),
        (PrefersAKey, "take turns"),
        (PrefersConsumers, "take turns"),
        (TakesOneTooMany, "no more than it may"),
        (TakesTooManyBytes, "no more than it may"),
        (IgnoresDedup, "a key that stands for a message"),
        (ForgetsKeysEarly, "a key that stands for a message"),
        (GivesEarly, "before its time"),
        (NeverExpires, "what time brings is announced"),
        (DiesTwice, "dies once"),
        (BuriesTwice, "has ended is gone"),
        (CountsWrong, "counted right"),
        (HidesOne, "until it ends"),
        (LooksFromTheBeginning, "page by page"),
        (SpoilsPayloads, "a message is what was put"),
        (IgnoresPauses, "paused gives nothing"),
        (IgnoresDrains, "drained takes nothing"),
        (IgnoresHolds, "a consumer is given what it takes"),
        (HoldsForEver, "what is ready is given"),
        (GivesTooMany, "no more than it takes"),
        (GivesTooManyBytes, "no more than it takes"),
        (IgnoresConcurrency, "no more at a time"),
        (IgnoresRates, "no more at a time"),
        (IgnoresKeyRates, "messages of a key are in order"),
        (LeasesTooLong, "a lease lasts as long as it may"),
        (TouchesForEver, "a lease lasts as long as it may"),
        (CountsReleases, "a message is counted"),
        (NeverRests, "before its time"),
        (ForgetsResults, "hears what happened"),
        (PurgesTooMuch, "what is purged is removed"),
        (RemovesInSilence, "hears what happened"),
        (TellsProgressTwice, "nothing is said that did not happen"),
        (Oversleeps, "what time brings is announced"),
        (FiresTwice, "what is due is put, once"),
        (NeverCatchesUp, "what is due is put, once"),
        (ForgetsScheduledPriorities, "a message is what was put"),
        (IgnoresSchedulePauses, "schedules are what they were told"),
        (NeverUnschedules, "schedules are what they were told"),
    ];
    let judge = |(fault, rule): (Fault, &str)| match check(&InMemory(Some(fault), 65_536)) {
        Err(violation) if violation.rule.contains(rule) => None,
        Err(violation) => Some(format!("{fault:?} broke another rule: {violation}")),
        Ok(()) => Some(format!("{fault:?} went unnoticed")),
    };
    let misjudged: Vec<String> = all.into_iter().filter_map(judge).collect();
    assert!(misjudged.is_empty(), "{misjudged:#?}");
}
