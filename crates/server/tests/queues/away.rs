//! Leases that run out, workers that are lost, and those that come back.

use std::time::Duration;

use posthaste::Recovery;
use posthaste_testkit::{Client, Running, Transport, eventually, serve};
use serde_json::{Value, json};

use crate::scene::{Party, open, plain, serving};

async fn lost(running: &Running, party: Party) {
    let before = running.io.stats().await.sockets;
    party.client.reset();
    eventually("the server has noticed", async || running.io.stats().await.sockets < before).await;
}

#[tokio::test]
async fn a_job_of_a_worker_that_is_lost_is_free_at_once() {
    let running = serving(open());
    let mut first = Party::join(running.addr).await;
    let mut second = Party::join(running.addr).await;
    first.ok(json!(["q:consume", "work", { "lease": 3_600_000 }])).await;
    first.ok(json!(["q:put", "work", 1])).await;
    first.job().await;
    second.ok(json!(["q:consume", "work", {}])).await;
    first.client.reset();
    let job = second.job().await;
    assert_eq!((&job.meta["deliveries"], &job.meta["failures"]), (&json!(2), &json!(0)));
    // On purpose.
    second.client.send("1/queues,").await;
    let mut third = Party::join(running.addr).await;
    third.ok(json!(["q:consume", "work", {}])).await;
    assert_eq!(third.job().await.meta["deliveries"], 3);
}

#[tokio::test]
async fn what_a_worker_said_last_counts() {
    let running = serving(open());
    let mut worker = Party::join(running.addr).await;
    worker.ok(json!(["q:consume", "work", {}])).await;
    worker.ok(json!(["q:put", "work", 1])).await;
    let job = worker.job().await;
    worker.done(&job, json!([])).await;
    worker.client.send("1/queues,").await;
    let mut other = Party::join(running.addr).await;
    other.until("work", "consumers", 0).await;
    let stats = other.stats("work").await;
    assert_eq!((&stats["ready"], &stats["leased"]), (&json!(0), &json!(0)));
}

#[tokio::test]
async fn a_lease_that_runs_out_is_told_and_a_late_answer_counts_for_nothing() {
    let running = serving(open());
    let mut slow = Party::join(running.addr).await;
    let mut quick = Party::join(running.addr).await;
    slow.ok(json!(["q:consume", "work", { "lease": 200, "mode": "manual" }])).await;
    slow.ok(json!(["q:put", "work", 1])).await;
    let job = slow.job().await;
    quick.ok(json!(["q:consume", "work", { "lease": 60000 }])).await;
    let which = json!({ "queue": "work", "token": job.meta["token"] });
    slow.expect(json!(["q:revoked", job.meta["id"], "expired", which.clone()])).await;
    let again = quick.job().await;
    assert_eq!(again.meta["id"], job.meta["id"]);
    slow.done(&job, json!(["late"])).await;
    slow.expect(json!(["q:revoked", job.meta["id"], "stale", which])).await;
    assert_eq!(quick.stats("work").await["leased"], 1);
    quick.done(&again, json!([])).await;
    quick.until("work", "leased", 0).await;
}

#[tokio::test]
async fn whoever_says_something_keeps_its_jobs() {
    let running = serving(open());
    let mut party = Party::join(running.addr).await;
    party.ok(json!(["q:consume", "work", { "lease": 600 }])).await;
    party.ok(json!(["q:put", "work", 1])).await;
    let job = party.job().await;
    let begin = std::time::Instant::now();
    while begin.elapsed() < Duration::from_millis(1_800) {
        party.quiet().await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    party.done(&job, json!([])).await;
    party.until("work", "leased", 0).await;
    assert_eq!(party.stats("work").await["ready"], 0);
}

/// A server where clients are recovered.
fn recovering(grace: Duration) -> Running {
    serve(plain(open().grace(grace)).recovery(Recovery::default()), |_| {})
}

/// Joins as somebody who may come back. Returns the secret.
async fn joined(running: &Running, auth: &str) -> (Party, String) {
    let mut client = Client::open(running.addr, Transport::WebSocket).await;
    client.send(&format!("0/queues,{auth}")).await;
    let answer = client.text().await;
    let answer: Value = serde_json::from_str(answer.strip_prefix("0/queues,").unwrap()).unwrap();
    (Party::new(client), answer["pid"].as_str().unwrap().to_owned())
}

/// An offset, as a client that was sent an event has it.
async fn offset(party: &mut Party) -> String {
    party.ok(json!(["q:watch", "news"])).await;
    party.ok(json!(["q:put", "news", 1, { "keep_result": 1000 }])).await;
    party.ok(json!(["q:purge", "news", { "state": "ready" }])).await;
    let event = party.event().await;
    assert_eq!(event[1][0], "q:event", "{event}");
    event[1].as_array().unwrap().last().unwrap().as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_worker_that_comes_back_has_what_it_had() {
    let running = recovering(Duration::from_secs(600));
    let (mut worker, pid) = joined(&running, "").await;
    let offset = offset(&mut worker).await;
    let consumer = worker.ok(json!(["q:consume", "work", { "prefetch": 2 }])).await["consumer"].clone();
    worker.ok(json!(["q:put", "work", 1])).await;
    let job = worker.job().await;
    lost(&running, worker).await;
    let mut other = Party::join(running.addr).await;
    other.ok(json!(["q:put", "work", 2])).await;
    let stats = other.stats("work").await;
    assert_eq!((&stats["leased"], &stats["ready"]), (&json!(1), &json!(1)), "it is held");
    let (mut worker, same) = joined(&running, &json!({ "pid": pid, "offset": offset }).to_string()).await;
    assert_eq!(same, pid);
    // The answer to the old question, over the new connection.
    worker.done(&job, json!(["done"])).await;
    assert_eq!(worker.job().await.payload, 2, "it takes more");
    other.until("work", "leased", 1).await;
    worker.quiet().await;
    // Whoever asks whenever it is connected has it once.
    assert_eq!(worker.ok(json!(["q:consume", "work", { "prefetch": 2 }])).await["consumer"], consumer);
    assert_eq!(other.stats("work").await["consumers"], 1);
    worker.ok(json!(["q:consume", "work", { "prefetch": 2 }])).await;
    assert_eq!(other.stats("work").await["consumers"], 2);
    worker.ok(json!(["q:stop", consumer])).await;
    assert_eq!(other.stats("work").await["consumers"], 1);
}

#[tokio::test]
async fn a_worker_that_stays_away_longer_than_grace_loses_its_jobs() {
    let running = recovering(Duration::from_millis(100));
    let (mut worker, pid) = joined(&running, "").await;
    let offset = offset(&mut worker).await;
    worker.ok(json!(["q:consume", "work", { "lease": 3_600_000 }])).await;
    worker.ok(json!(["q:put", "work", 1])).await;
    let job = worker.job().await;
    lost(&running, worker).await;
    let mut other = Party::join(running.addr).await;
    let consumer = other.ok(json!(["q:consume", "work", {}])).await["consumer"].clone();
    let again = other.job().await;
    assert_eq!(again.meta["id"], job.meta["id"]);
    let (mut worker, same) = joined(&running, &json!({ "pid": pid, "offset": offset }).to_string()).await;
    assert_eq!(same, pid);
    worker.done(&job, json!([])).await;
    let event = worker.event().await;
    assert_eq!((&event[1][0], &event[1][1], &event[1][2]), (&json!("q:revoked"), &job.meta["id"], &json!("stale")));
    // It takes jobs as before.
    other.ok(json!(["q:stop", consumer])).await;
    assert_eq!(worker.job().await.meta["id"], job.meta["id"]);
}
