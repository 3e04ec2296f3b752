//! Workers that say nothing while they work: their answers to pings keep their jobs.

use std::time::{Duration, Instant};

use posthaste_testkit::{Running, serve};
use serde_json::json;

use crate::scene::{Party, open, plain, serving};

/// A worker has a job, reads, and says nothing but what answers pings, until its job ends later than it was to.
async fn its_lease_goes_on(running: &Running, lease: u64) {
    let mut worker = Party::join(running.addr).await;
    worker.ok(json!(["q:consume", "work", { "lease": lease }])).await;
    let mut other = Party::join(running.addr).await;
    other.ok(json!(["q:put", "work", 1])).await;
    let job = worker.job().await;
    let reading = tokio::spawn(async move { worker.client.text().await });
    let begin = Instant::now();
    loop {
        let found = other.ok(json!(["q:peek", "work", { "state": "leased" }])).await;
        let found = &found["messages"][0];
        assert_eq!((&found["id"], &found["deliveries"]), (&job.meta["id"], &json!(1)), "it is its job");
        if found["until"].as_u64() > job.meta["deadline"].as_u64() {
            break;
        }
        assert!(begin.elapsed() < Duration::from_secs(30), "{found}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!reading.is_finished(), "it was told nothing");
    reading.abort();
}

#[tokio::test]
async fn an_answered_ping_extends_a_lease_whenever_it_comes() {
    // The lease is young for long.
    let running = serve(plain(open()).ping(Duration::from_millis(200), Duration::from_secs(20)), |_| {});
    its_lease_goes_on(&running, 600_000).await;
}

#[tokio::test]
async fn whoever_is_silent_is_pinged_before_its_lease_is_over() {
    // In its own time the first ping comes after 25 seconds.
    its_lease_goes_on(&serving(open()), 4_000).await;
}

#[tokio::test]
async fn a_lease_that_is_shorter_than_those_before_it_is_looked_after_in_time() {
    let running = serving(open());
    let mut worker = Party::join(running.addr).await;
    worker.ok(json!(["q:consume", "long", { "lease": 3_600_000 }])).await;
    worker.ok(json!(["q:put", "long", 1])).await;
    worker.job().await;
    worker.ok(json!(["q:consume", "short", { "lease": 4_000 }])).await;
    worker.ok(json!(["q:put", "short", 1])).await;
    let job = worker.job().await;
    let reading = tokio::spawn(async move { worker.client.text().await });
    let mut other = Party::join(running.addr).await;
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(5) {
        let found = other.ok(json!(["q:peek", "short", { "state": "leased" }])).await;
        assert_eq!(found["messages"][0]["id"], job.meta["id"]);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    reading.abort();
}
