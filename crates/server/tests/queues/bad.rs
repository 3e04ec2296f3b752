//! What bad input gets: a code, and nothing changed.

use std::sync::Arc;

use posthaste::queue::{Config, MemoryQueues};
use serde_json::{Value, json};

use crate::scene::{Party, open, serving};

#[tokio::test]
async fn bad_input_is_refused_with_a_code_and_changes_nothing() {
    let running = serving(open());
    let mut party = Party::join(running.addr).await;
    party.ok(json!(["q:consume", "other"])).await;
    let long = "x".repeat(201);
    let table: Vec<(Value, &str)> = vec![
        (json!(["q:put"]), "invalid"),
        (json!(["q:put", "work"]), "invalid"),
        (json!(["q:put", "work", 1, 2]), "invalid"),
        (json!(["q:put", "work", 1, {}, 2]), "invalid"),
        (json!(["q:put", 5, 1]), "bad_name"),
        (json!(["q:put", "", 1]), "bad_name"),
        (json!(["q:put", "two words", 1]), "bad_name"),
        (json!(["q:put", long, 1]), "bad_name"),
        (json!(["q:put", "work", 1, { "priority": 32 }]), "invalid"),
        (json!(["q:put", "work", 1, { "prio": 3 }]), "invalid"),
        (json!(["q:put", "work", 1, { "delay": -5 }]), "invalid"),
        (json!(["q:put", "work", 1, { "delay": 1e18 }]), "invalid"),
        (json!(["q:put", "work", 1, { "class": "disk" }]), "invalid"),
        (json!(["q:putMany", "work", []]), "invalid"),
        (json!(["q:putMany", "work", [1]]), "invalid"),
        (json!(["q:putMany", "work", [{ "payload": 1, "more": 2 }]]), "invalid"),
        (json!(["q:putMany", "work", { "payload": 1 }]), "invalid"),
        (json!(["q:call", "work", 1, { "timeout": -1 }]), "invalid"),
        (json!(["q:await", "x"]), "invalid"),
        (json!(["q:await", 999_999]), "unknown_message"),
        (json!(["q:consume", "work", { "prefetch": 0 }]), "invalid"),
        (json!(["q:consume", "work", { "prefetch": 10_001 }]), "invalid"),
        (json!(["q:consume", "work", { "lease": 1 }]), "invalid"),
        (json!(["q:consume", "work", { "lease": 1e12 }]), "invalid"),
        (json!(["q:consume", "work", { "keys": [] }]), "invalid"),
        (json!(["q:consume", "work", { "keys": [1] }]), "invalid"),
        (json!(["q:consume", "work", { "mode": "x" }]), "invalid"),
        (json!(["q:stop", 5]), "unknown_consumer"),
        (json!(["q:stop"]), "invalid"),
        (json!(["q:pull", "work", { "max": 1_000_000 }]), "invalid"),
        (json!(["q:pull", "work", { "wait": -1 }]), "invalid"),
        (json!(["q:settle", []]), "invalid"),
        (json!(["q:settle", [{ "id": 1, "token": 1 }]]), "invalid"),
        (json!(["q:settle", [{ "id": 1, "token": 1, "outcome": "x" }]]), "invalid"),
        (json!(["q:settle", [{ "id": 1, "token": 1, "outcome": { "do": "retry", "in": -1 } }]]), "invalid"),
        (json!(["q:touch", 1, 1]), "stale_lease"),
        (json!(["q:touch", 1]), "invalid"),
        (json!(["q:progress", 1, 1]), "stale_lease"),
        (json!(["q:peek", "work", { "state": "done" }]), "invalid"),
        (json!(["q:peek", "work", { "n": 1_000_000 }]), "invalid"),
        (json!(["q:peek", "work"]), "unknown_queue"),
        (json!(["q:stats", "work"]), "unknown_queue"),
        (json!(["q:purge", "work"]), "invalid"),
        (json!(["q:purge", "work", { "state": "all" }]), "invalid"),
        (json!(["q:purge", "work", { "state": "ready" }]), "unknown_queue"),
        (json!(["q:redrive", "work", { "state": "dead" }]), "invalid"),
        (json!(["q:drain", "work", "yes"]), "invalid"),
        (json!(["q:frobnicate"]), "unknown_verb"),
    ];
    for (event, code) in table {
        assert_eq!(party.refused(event.clone()).await, code, "{event}");
    }
    // The queue was never made.
    assert_eq!(party.refused(json!(["q:stats", "work"])).await, "unknown_queue");
    party.quiet().await;
}

#[tokio::test]
async fn a_full_queue_says_when_to_try_again() {
    let queues = open();
    let running = serving(queues.clone());
    running.io.queue("small").configure(Config { max_messages: 1, ..Config::default() }).await.unwrap();
    let mut party = Party::join(running.addr).await;
    party.ok(json!(["q:put", "small", 1])).await;
    let refused = party.ask(json!(["q:put", "small", 2])).await;
    assert_eq!(
        (&refused["code"], refused["retry_after"].as_u64().is_some()),
        (&json!("queue_full"), true),
        "{refused}"
    );
    // What is there is worked off all the same.
    party.ok(json!(["q:consume", "small"])).await;
    let job = party.job().await;
    party.done(&job, json!([])).await;
    party.until("small", "leased", 0).await;
    party.ok(json!(["q:put", "small", 3])).await;
}

#[tokio::test]
async fn queues_that_are_not_made_by_asking_are_unknown() {
    let limits = posthaste::queue::Limits { makes_queues: false, ..MemoryQueues::limits() };
    let store = Arc::new(MemoryQueues::new(limits, 7));
    let running = serving(posthaste::WorkQueues::new(store).open_to_all().max_consumers(2));
    running.io.queue("known").configure(Config::default()).await.unwrap();
    let mut party = Party::join(running.addr).await;
    party.ok(json!(["q:put", "known", 1])).await;
    for event in [json!(["q:put", "unknown", 1]), json!(["q:consume", "unknown"]), json!(["q:pull", "unknown"])] {
        assert_eq!(party.refused(event).await, "unknown_queue");
    }
    // Those that came to nothing are not counted.
    party.ok(json!(["q:pause", "known"])).await;
    party.ok(json!(["q:consume", "known"])).await;
    party.ok(json!(["q:consume", "known"])).await;
    assert_eq!(party.refused(json!(["q:consume", "known"])).await, "too_many");
}

#[tokio::test]
async fn what_is_too_large_is_refused() {
    let capabilities = posthaste::queue::Capabilities { max_payload: 100, ..MemoryQueues::limits().capabilities };
    let store = Arc::new(MemoryQueues::new(posthaste::queue::Limits { capabilities, ..MemoryQueues::limits() }, 7));
    let running = serving(posthaste::WorkQueues::new(store).open_to_all());
    let mut party = Party::join(running.addr).await;
    assert_eq!(party.refused(json!(["q:put", "work", "x".repeat(99)])).await, "too_large");
    // A result as well: the job failed.
    party.ok(json!(["q:put", "work", 1, { "attempts": 1 }])).await;
    party.ok(json!(["q:consume", "work"])).await;
    let job = party.job().await;
    party.done(&job, json!(["x".repeat(99)])).await;
    party.until("work", "dead", 1).await;
}
